
/*
 * What the unit tests share: TAP, blocks of exactly the length asked for, and
 * numbers that are random, but the same in each run.
 */


#ifndef _UNIT_H_INCLUDED_
#define _UNIT_H_INCLUDED_


#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ngx_config.h>
#include <ngx_core.h>


static ngx_uint_t  tests;
static ngx_uint_t  failures;


static ngx_inline void
ok(ngx_uint_t passed, const char *format, ...)
{
    va_list  args;

    printf("%sok %u - ", passed ? "" : "not ", (unsigned) ++tests);

    va_start(args, format);
    vprintf(format, args);
    va_end(args);

    printf("\n");

    failures += !passed;
}


static ngx_inline void *
allocated(size_t size)
{
    void  *p;

    p = malloc(size);
    if (p == NULL) {
        abort();
    }

    return p;
}


static ngx_inline ngx_str_t
copy(ngx_str_t *s)
{
    ngx_str_t  c;

    c.len = s->len;
    c.data = NULL;

    if (c.len) {
        c.data = allocated(c.len);
        ngx_memcpy(c.data, s->data, c.len);
    }

    return c;
}


static ngx_inline const char *
shown(ngx_str_t *s)
{
    size_t       i, n;

    static char  buf[128];

    for (i = 0, n = 0; i < s->len && n < 100; i++) {
        if (s->data[i] >= ' ' && s->data[i] < 0x7f && s->data[i] != '#') {
            buf[n++] = s->data[i];

        } else {
            n += snprintf(buf + n, 5, "\\x%02x", s->data[i]);
        }
    }

    buf[n] = '\0';

    return buf;
}


/* of the processor; under valgrind all takes so many times longer */

static ngx_inline double
seconds(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);

    return (ts.tv_sec + ts.tv_nsec / 1e9)
           / (getenv("QUICKBLOX_VALGRIND") ? 50 : 1);
}


/* the same numbers in each run (xorshift of Marsaglia) */

static ngx_inline uint32_t
randomly(uint32_t n)
{
    static uint32_t  x = 20180131;

    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;

    return x % n;
}


static ngx_inline ngx_str_t
repeated(const char *head, ngx_uint_t n, const char *part, const char *tail)
{
    u_char     *p;
    ngx_str_t   s;

    s.len = strlen(head) + n * strlen(part) + strlen(tail);
    s.data = allocated(s.len);

    p = ngx_cpymem(s.data, head, strlen(head));

    while (n--) {
        p = ngx_cpymem(p, part, strlen(part));
    }

    ngx_memcpy(p, tail, strlen(tail));

    return s;
}


#endif /* _UNIT_H_INCLUDED_ */
