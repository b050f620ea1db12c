
#include "ngx_http_quickblox_home.h"


static void ngx_http_quickblox_home_empty_handler(ngx_event_t *ev);
static void ngx_http_quickblox_home_write_handler(ngx_event_t *ev);
static u_char *ngx_http_quickblox_home_log_error(ngx_log_t *log, u_char *buf,
    size_t len);


/* the address of nobody, for $remote_addr and its like */

static struct sockaddr  ngx_http_quickblox_home_sockaddr = {
    .sa_family = AF_UNIX
};


ngx_http_request_t *
ngx_http_quickblox_home_create(ngx_http_quickblox_home_t *home,
    ngx_pool_t *pool, ngx_http_conf_ctx_t *conf_ctx)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    home->conf_ctx = *conf_ctx;

    c = &home->connection;

    c->fd = (ngx_socket_t) -1;
    c->data = &home->http_connection;
    c->read = &home->read;
    c->write = &home->write;
    c->log = &home->log;
    c->pool = pool;
    c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);
    c->tcp_nodelay = NGX_TCP_NODELAY_DISABLED;
    c->tcp_nopush = NGX_TCP_NOPUSH_DISABLED;

    c->sockaddr = &ngx_http_quickblox_home_sockaddr;
    c->socklen = sizeof(ngx_http_quickblox_home_sockaddr);
    c->local_sockaddr = c->sockaddr;
    c->local_socklen = c->socklen;
    ngx_str_set(&c->addr_text, "unix:");

    home->read.data = c;
    home->read.log = c->log;
    home->read.handler = ngx_http_quickblox_home_empty_handler;

    /* as if registered with the kernel, and for writing always ready */

    home->write = home->read;
    home->write.handler = ngx_http_quickblox_home_write_handler;
    home->read.active = 1;
    home->write.write = 1;
    home->write.ready = 1;
    home->write.active = (ngx_event_flags & NGX_USE_CLEAR_EVENT) ? 1 : 0;

    home->http_connection.conf_ctx = &home->conf_ctx;

    home->log_ctx.connection = c;
    home->log.connection = c->number;
    home->log.data = &home->log_ctx;
    home->log.handler = ngx_http_quickblox_home_log_error;

    r = ngx_http_create_request(c);
    if (r == NULL) {
        return NULL;
    }

    home->request = r;
    c->data = r;

#if (NGX_STAT_STUB)
    (void) ngx_atomic_fetch_add(ngx_stat_reading, -1);
    (void) ngx_atomic_fetch_add(ngx_stat_requests, -1);
    r->stat_reading = 0;
#endif

    /*
     * a subrequest that cannot be ended for want of memory terminates the
     * request, and would close a connection that nginx does not know of and
     * free the pool, which is ours
     */

    r->blocked = 1;

    r->logged = 1;
    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    /* what is not read from a client is an empty list all the same */

    if (ngx_list_init(&r->headers_in.headers, r->pool, 1,
                      sizeof(ngx_table_elt_t))
        != NGX_OK)
    {
        return NULL;
    }

    return r;
}


void
ngx_http_quickblox_home_free(ngx_http_quickblox_home_t *home)
{
    ngx_http_request_t  *r;

    r = home->request;

    if (r) {
        home->request = NULL;

        /* an upstream under way is finalized by the request's cleanup */

        ngx_http_free_request(r, 0);
    }

    if (home->write.timer_set) {
        ngx_del_timer(&home->write);
    }
}


static void
ngx_http_quickblox_home_empty_handler(ngx_event_t *ev)
{
    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, ev->log, 0,
                   "quickblox home empty handler");
}


/* a timer, such as the one of "limit_req" */

static void
ngx_http_quickblox_home_write_handler(ngx_event_t *ev)
{
    ngx_http_request_t         *r;
    ngx_http_quickblox_home_t  *home;

    home = ngx_queue_data(ev, ngx_http_quickblox_home_t, write);

    r = home->subrequest ? home->subrequest : home->request;

    if (ev->delayed && ev->timedout) {
        ev->delayed = 0;
        ev->timedout = 0;
    }

    r->write_event_handler(r);

    ngx_http_run_posted_requests(&home->connection);
}


static u_char *
ngx_http_quickblox_home_log_error(ngx_log_t *log, u_char *buf, size_t len)
{
    if (log->action) {
        return ngx_snprintf(buf, len, " while %s", log->action);
    }

    return buf;
}
