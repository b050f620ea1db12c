
/*
 * Sends an exact number of requests over kept connections, as many at once as
 * there are connections, and tells how they were answered:
 *
 *    send port path connections requests first [header]
 *
 * "%" in the header is the number of the request, in 40 digits, counted from
 * "first".  All connections are made before anything is sent.  Prints the
 * number of answers of each status, then the median, the 99th percentile and
 * the maximum of the times from sending to the last byte, and the time of all,
 * in microseconds.
 */


#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>


#define TIMEOUT  60000

typedef struct {
    int       fd;
    size_t    len;
    uint64_t  sent;
    char      in[2048];
} connection_t;


static const char  *path, *header = "";
static int          ep;
static long         total, first, started, answered;
static long         statuses[600];
static uint32_t    *times;


static void
fail(const char *what)
{
    perror(what);
    exit(1);
}


static uint64_t
now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}


static void
connect_to(connection_t *c, int port)
{
    int                 on = 1;
    struct sockaddr_in  sin;
    struct epoll_event  ee;

    memset(&sin, 0, sizeof(sin));
    sin.sin_family = AF_INET;
    sin.sin_port = htons((uint16_t) port);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    c->fd = socket(AF_INET, SOCK_STREAM, 0);

    if (c->fd == -1
        || connect(c->fd, (struct sockaddr *) &sin, sizeof(sin)) == -1
        || setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1
        || fcntl(c->fd, F_SETFL, O_NONBLOCK) == -1)
    {
        fail("connect");
    }

    ee.events = EPOLLIN;
    ee.data.ptr = c;

    if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ee) == -1) {
        fail("epoll_ctl");
    }
}


static void
send_next(connection_t *c)
{
    int          n;
    char         out[8192];
    const char  *mark;

    if (started == total) {
        return;
    }

    n = snprintf(out, sizeof(out), "GET %s HTTP/1.1\r\nHost: localhost\r\n",
                 path);

    mark = strchr(header, '%');

    if (mark) {
        n += snprintf(out + n, sizeof(out) - n, "%.*s%040ld%s\r\n",
                      (int) (mark - header), header, first + started,
                      mark + 1);

    } else if (*header) {
        n += snprintf(out + n, sizeof(out) - n, "%s\r\n", header);
    }

    n += snprintf(out + n, sizeof(out) - n, "\r\n");

    started++;

    c->len = 0;
    c->sent = now();

    if (write(c->fd, out, n) != n) {
        fail("write");
    }
}


/* 1 when the answer is complete */

static int
complete(connection_t *c)
{
    int    status;
    char  *body, *length;

    c->in[c->len] = '\0';

    body = strstr(c->in, "\r\n\r\n");
    if (body == NULL) {
        return 0;
    }

    body += 4;
    status = atoi(c->in + 9);
    length = strcasestr(c->in, "\r\nContent-Length:");

    if (length == NULL && status != 204) {
        fprintf(stderr, "no length: %s\n", c->in);
        exit(1);
    }

    if (length && c->in + c->len < body + atol(length + 17)) {
        return 0;
    }

    statuses[status > 0 && status < 600 ? status : 0]++;

    return 1;
}


static void
receive(connection_t *c)
{
    ssize_t  n;

    n = read(c->fd, c->in + c->len, sizeof(c->in) - 1 - c->len);

    if (n == -1 && errno == EAGAIN) {
        return;
    }

    if (n > 0) {
        c->len += n;

        if (!complete(c)) {
            return;
        }

        times[answered++] = (uint32_t) (now() - c->sent);
        send_next(c);
        return;
    }

    /* closed without an answer, which counts as status 0 */

    statuses[0]++;
    times[answered++] = (uint32_t) (now() - c->sent);

    close(c->fd);
}


static int
compare(const void *one, const void *two)
{
    uint32_t  a = *(const uint32_t *) one, b = *(const uint32_t *) two;

    return a < b ? -1 : a > b;
}


int
main(int argc, char **argv)
{
    int                  i, n, port, connections;
    uint64_t             start;
    connection_t        *c;
    struct rlimit        limit;
    struct epoll_event   events[512];

    if (argc < 6) {
        fprintf(stderr, "usage: send port path connections requests first "
                "[header]\n");
        return 2;
    }

    port = atoi(argv[1]);
    path = argv[2];
    connections = atoi(argv[3]);
    total = atol(argv[4]);
    first = atol(argv[5]);
    header = argc > 6 ? argv[6] : "";

    limit.rlim_cur = limit.rlim_max = connections + 64;
    (void) setrlimit(RLIMIT_NOFILE, &limit);

    ep = epoll_create1(0);
    c = calloc(connections, sizeof(connection_t));
    times = calloc(total, sizeof(uint32_t));

    if (ep == -1 || c == NULL || times == NULL) {
        fail("start");
    }

    for (i = 0; i < connections; i++) {
        connect_to(&c[i], port);
    }

    start = now();

    for (i = 0; i < connections; i++) {
        send_next(&c[i]);
    }

    while (answered < total) {

        n = epoll_wait(ep, events, 512, TIMEOUT);
        if (n <= 0) {
            fprintf(stderr, "%ld of %ld answered\n", answered, total);
            return 1;
        }

        for (i = 0; i < n; i++) {
            receive(events[i].data.ptr);
        }
    }

    start = now() - start;

    qsort(times, total, sizeof(uint32_t), compare);

    for (i = 0; i < 600; i++) {
        if (statuses[i]) {
            printf("%03d=%ld ", i, statuses[i]);
        }
    }

    printf("median=%u p99=%u max=%u all=%lu\n", times[total / 2],
           times[total * 99 / 100], times[total - 1], (unsigned long) start);

    return 0;
}
