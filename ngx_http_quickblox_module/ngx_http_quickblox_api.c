
#include "ngx_http_quickblox_api.h"
#include "ngx_http_quickblox_json.h"


#define NGX_HTTP_QUICKBLOX_BUFFER_SIZE    16384

/* s that the last good addresses are used for when the resolver has failed */
#define NGX_HTTP_QUICKBLOX_RESOLVE_AGAIN  1

/*
 * Calls of a worker at once: more than a plan of 160 requests a second has
 * answered in "timeout", and few enough for the worker to look at each of
 * their connections before "connect_timeout"
 */
#define NGX_HTTP_QUICKBLOX_CALLS_MAX      1000


static void ngx_http_quickblox_api_resolved(ngx_resolver_ctx_t *ctx);
static ngx_int_t ngx_http_quickblox_api_resolve(
    ngx_http_quickblox_call_t *call);
static void ngx_http_quickblox_api_keep_addrs(
    ngx_http_quickblox_application_t *app, ngx_resolver_ctx_t *ctx);
static void ngx_http_quickblox_api_run(ngx_http_quickblox_call_t *call);
static void ngx_http_quickblox_api_begin(ngx_http_request_t *r);
static ngx_int_t ngx_http_quickblox_api_upstream(ngx_http_request_t *r,
    ngx_http_quickblox_call_t *call);
static ngx_int_t ngx_http_quickblox_api_end(ngx_http_request_t *r, void *data,
    ngx_int_t rc);
static void ngx_http_quickblox_api_turn(ngx_event_t *ev);
static void ngx_http_quickblox_api_timeout(ngx_event_t *ev);
static void ngx_http_quickblox_api_done(ngx_event_t *ev);
static void ngx_http_quickblox_api_log_writer(ngx_log_t *log,
    ngx_uint_t level, u_char *buf, size_t len);
static void ngx_http_quickblox_api_reason(ngx_http_quickblox_call_t *call,
    const char *reason);

static ngx_int_t ngx_http_quickblox_api_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
static ngx_int_t ngx_http_quickblox_api_get_peer(ngx_peer_connection_t *pc,
    void *data);
static void ngx_http_quickblox_api_free_peer(ngx_peer_connection_t *pc,
    void *data, ngx_uint_t state);
static ngx_http_upstream_t *ngx_http_quickblox_api_peer(
    ngx_peer_connection_t *pc);

static ngx_int_t ngx_http_quickblox_api_create_request(ngx_http_request_t *r);
static ngx_int_t ngx_http_quickblox_api_reinit_request(ngx_http_request_t *r);
static ngx_int_t ngx_http_quickblox_api_process_status_line(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_quickblox_api_process_header(ngx_http_request_t *r);
static ngx_int_t ngx_http_quickblox_api_header(ngx_http_request_t *r,
    ngx_http_quickblox_call_t *call);
static ngx_int_t ngx_http_quickblox_api_content_length(
    ngx_http_quickblox_call_t *call, ngx_str_t *value);
static void ngx_http_quickblox_api_retry_after(
    ngx_http_quickblox_call_t *call, ngx_str_t *value);
static ngx_int_t ngx_http_quickblox_api_headers_done(ngx_http_request_t *r,
    ngx_http_quickblox_call_t *call);
static void ngx_http_quickblox_api_abort_request(ngx_http_request_t *r);
static void ngx_http_quickblox_api_finalize_request(ngx_http_request_t *r,
    ngx_int_t rc);
static ngx_int_t ngx_http_quickblox_api_filter_init(void *data);
static ngx_int_t ngx_http_quickblox_api_filter(void *data, ssize_t bytes);
static ngx_int_t ngx_http_quickblox_api_chunked(ngx_http_request_t *r,
    ngx_http_quickblox_call_t *call, u_char *data, size_t len);
static ngx_int_t ngx_http_quickblox_api_append(
    ngx_http_quickblox_call_t *call, u_char *data, size_t len);


#define ngx_http_quickblox_api_call(r)                                       \
    ((ngx_http_quickblox_call_t *) (r)->post_subrequest->data)


static ngx_uint_t  ngx_http_quickblox_api_calls;
static ngx_uint_t  ngx_http_quickblox_api_max;

/* events of those whose turn it is when a call has ended */
static ngx_queue_t  ngx_http_quickblox_api_waiting;
static ngx_event_t  ngx_http_quickblox_api_next;

static ngx_str_t  ngx_http_quickblox_api_uri = ngx_string("/");


void
ngx_http_quickblox_api_init(ngx_http_quickblox_application_t *app)
{
    ngx_http_upstream_conf_t  *ucf;

    ucf = &app->upstream;

    /*
     * set by ngx_pcalloc(), and right as zero: no cache, no store, no
     * buffering, no headers or body of the client's, no limit
     */

    ucf->send_timeout = app->timeout;
    ucf->read_timeout = app->timeout;
    ucf->next_upstream_timeout = app->timeout;
    ucf->next_upstream = NGX_HTTP_UPSTREAM_FT_ERROR
                         |NGX_HTTP_UPSTREAM_FT_TIMEOUT;
    ucf->buffer_size = NGX_HTTP_QUICKBLOX_BUFFER_SIZE;
    ucf->ignore_client_abort = 1;

    ngx_str_set(&ucf->module, "quickblox");

    if (app->group) {
        app->peers = *app->group;
    }

    /* its host is the name that is verified */

    app->peers.host = app->host;
    app->peers.peer.init = ngx_http_quickblox_api_init_peer;

    ucf->upstream = &app->peers;
}


/*
 * A call has one connection and who waits for it another: with a quarter of
 * all there are, calls and their clients leave half of them to those whose
 * session is known.
 */

ngx_int_t
ngx_http_quickblox_api_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t     n;
    struct rlimit  rlmt;

    n = cycle->connection_n;

    if (getrlimit(RLIMIT_NOFILE, &rlmt) == -1) {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, ngx_errno,
                      "quickblox: getrlimit(RLIMIT_NOFILE) failed, only "
                      "\"worker_connections\" limits API calls");

    } else if (rlmt.rlim_cur < n) {
        n = (ngx_uint_t) rlmt.rlim_cur;
    }

    n = ngx_min(n / 4, NGX_HTTP_QUICKBLOX_CALLS_MAX);

    ngx_http_quickblox_api_max = ngx_max(n, 1);

    ngx_queue_init(&ngx_http_quickblox_api_waiting);

    ngx_http_quickblox_api_next.handler = ngx_http_quickblox_api_turn;
    ngx_http_quickblox_api_next.log = cycle->log;

    return NGX_OK;
}


ngx_uint_t
ngx_http_quickblox_api_busy(void)
{
    return ngx_http_quickblox_api_calls >= ngx_http_quickblox_api_max
           || !ngx_queue_empty(&ngx_http_quickblox_api_waiting);
}


void
ngx_http_quickblox_api_wait(ngx_event_t *ev,
    ngx_http_quickblox_application_t *app)
{
    ngx_uint_t     level;
    static time_t  told;

    ngx_post_event(ev, &ngx_http_quickblox_api_waiting);

    level = ngx_http_quickblox_log_level(NGX_LOG_WARN, &told);

    ngx_log_error(level, ev->log, 0,
                  "quickblox application \"%V\": %ui API calls are under way, "
                  "others wait, and get 503 after %Mms", &app->name,
                  ngx_http_quickblox_api_calls, app->lock_timeout);
}


/* one whose turn has come may make no call: then it is the next one's */

static void
ngx_http_quickblox_api_turn(ngx_event_t *ev)
{
    ngx_queue_t  *q;

    while (ngx_http_quickblox_api_calls < ngx_http_quickblox_api_max
           && !ngx_queue_empty(&ngx_http_quickblox_api_waiting))
    {
        q = ngx_queue_head(&ngx_http_quickblox_api_waiting);
        ev = ngx_queue_data(q, ngx_event_t, queue);

        ngx_delete_posted_event(ev);

        ev->handler(ev);
    }
}


ngx_http_quickblox_call_t *
ngx_http_quickblox_api_create(ngx_http_conf_ctx_t *conf_ctx, ngx_log_t *log,
    ngx_http_quickblox_application_t *app)
{
    ngx_pool_t                 *pool;
    ngx_http_quickblox_call_t  *call;

    pool = ngx_create_pool(4096, log);
    if (pool == NULL) {
        return NULL;
    }

    call = ngx_pcalloc(pool, sizeof(ngx_http_quickblox_call_t));
    if (call == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    call->pool = pool;
    call->application = app;
    call->error_log = log;
    call->conf_ctx = *conf_ctx;

    ngx_http_quickblox_api_calls++;

    return call;
}


void
ngx_http_quickblox_api_start(ngx_http_quickblox_call_t *call)
{
    call->started = ngx_current_msec;
    call->date = NGX_ERROR;
    call->expires = NGX_ERROR;
    call->content_length = -1;

    call->timer.handler = ngx_http_quickblox_api_timeout;
    call->timer.data = call;
    call->timer.log = call->error_log;

    call->done.handler = ngx_http_quickblox_api_done;
    call->done.data = call;
    call->done.log = call->error_log;

    ngx_add_timer(&call->timer, call->timeout);

    if (call->application->resolver == NULL
        || (call->application->addrs
            && ngx_time() < call->application->addrs_valid))
    {
        ngx_http_quickblox_api_run(call);
        return;
    }

    if (ngx_http_quickblox_api_resolve(call) != NGX_OK) {
        ngx_http_quickblox_api_reason(call, "the resolver failed");
        ngx_post_event(&call->done, &ngx_posted_events);
    }
}


void
ngx_http_quickblox_api_free(ngx_http_quickblox_call_t *call)
{
    if (call->token.len) {
        ngx_explicit_memzero(call->token.data, call->token.len);
    }

    if (call->body.len) {
        ngx_explicit_memzero(call->body.data, call->body.len);
    }

    if (call->size) {
        ngx_explicit_memzero(call->answer.data, call->size);
    }

    ngx_http_quickblox_api_calls--;

    if (!ngx_queue_empty(&ngx_http_quickblox_api_waiting)) {
        ngx_post_event(&ngx_http_quickblox_api_next, &ngx_posted_events);
    }

    ngx_destroy_pool(call->pool);
}


static ngx_int_t
ngx_http_quickblox_api_resolve(ngx_http_quickblox_call_t *call)
{
    ngx_resolver_ctx_t                *ctx;
    ngx_http_quickblox_application_t  *app;

    app = call->application;

    ctx = ngx_resolve_start(app->resolver, NULL);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        return NGX_ERROR;
    }

    ctx->name = app->url.host;
    ctx->handler = ngx_http_quickblox_api_resolved;
    ctx->data = call;

    /* a resolver that is silent must leave time for the last good address */

    ctx->timeout = ngx_min(app->resolver_timeout, app->timeout / 2);

    call->resolver_ctx = ctx;

    if (ngx_resolve_name(ctx) != NGX_OK) {
        call->resolver_ctx = NULL;
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_quickblox_api_resolved(ngx_resolver_ctx_t *ctx)
{
    ngx_http_quickblox_call_t *call = ctx->data;

    const char                        *error;
    ngx_http_quickblox_application_t  *app;

    app = call->application;
    error = NULL;

    if (ctx->state) {
        error = ngx_resolver_strerror(ctx->state);
        app->addrs_valid = ngx_time() + NGX_HTTP_QUICKBLOX_RESOLVE_AGAIN;

    } else {
        ngx_http_quickblox_api_keep_addrs(app, ctx);
    }

    call->resolver_ctx = NULL;
    ngx_resolve_name_done(ctx);

    if (app->addrs == NULL) {
        call->reason.data = call->reason_text;
        call->reason.len = ngx_snprintf(call->reason_text,
                                        sizeof(call->reason_text),
                                        "%V could not be resolved (%s)",
                                        &app->url.host,
                                        error ? error : "out of memory")
                           - call->reason_text;

        ngx_post_event(&call->done, &ngx_posted_events);
        return;
    }

    ngx_http_quickblox_api_run(call);
}


/* the last good addresses stay where the new ones cannot be kept */

static void
ngx_http_quickblox_api_keep_addrs(ngx_http_quickblox_application_t *app,
    ngx_resolver_ctx_t *ctx)
{
    ngx_uint_t            i;
    ngx_pool_t           *pool;
    ngx_resolver_addr_t  *addrs;

    pool = ngx_create_pool(1024, ngx_cycle->log);
    if (pool == NULL) {
        return;
    }

    addrs = ngx_pcalloc(pool, ctx->naddrs * sizeof(ngx_resolver_addr_t));
    if (addrs == NULL) {
        goto failed;
    }

    for (i = 0; i < ctx->naddrs; i++) {
        addrs[i].sockaddr = ngx_palloc(pool, ctx->addrs[i].socklen);
        if (addrs[i].sockaddr == NULL) {
            goto failed;
        }

        ngx_memcpy(addrs[i].sockaddr, ctx->addrs[i].sockaddr,
                   ctx->addrs[i].socklen);
        addrs[i].socklen = ctx->addrs[i].socklen;
    }

    if (app->addrs_pool) {
        ngx_destroy_pool(app->addrs_pool);
    }

    app->addrs_pool = pool;
    app->addrs = addrs;
    app->naddrs = ctx->naddrs;
    app->addrs_valid = ctx->valid;

    return;

failed:

    ngx_destroy_pool(pool);
}


static void
ngx_http_quickblox_api_run(ngx_http_quickblox_call_t *call)
{
    ngx_http_request_t          *r, *sr;
    ngx_http_post_subrequest_t  *ps;

    r = ngx_http_quickblox_home_create(&call->home, call->pool,
                                       &call->conf_ctx);
    if (r == NULL) {
        goto failed;
    }

    call->home.log.next = NULL;
    call->home.log.writer = ngx_http_quickblox_api_log_writer;
    call->home.log.wdata = call;

    ps = ngx_palloc(r->pool, sizeof(ngx_http_post_subrequest_t));
    if (ps == NULL) {
        goto failed;
    }

    ps->handler = ngx_http_quickblox_api_end;
    ps->data = call;

    if (ngx_http_subrequest(r, &ngx_http_quickblox_api_uri, NULL, &sr, ps,
                            NGX_HTTP_SUBREQUEST_IN_MEMORY
                            |NGX_HTTP_SUBREQUEST_WAITED)
        != NGX_OK)
    {
        goto failed;
    }

    /* no phase of the site's configuration touches it */

    sr->loc_conf = r->loc_conf;
    sr->method = call->method;
    sr->method_name = call->method_name;
    sr->write_event_handler = ngx_http_quickblox_api_begin;

    ngx_http_run_posted_requests(&call->home.connection);

    return;

failed:

    call->local = 1;
    ngx_http_quickblox_api_reason(call, "out of memory");
    ngx_post_event(&call->done, &ngx_posted_events);
}


static void
ngx_http_quickblox_api_begin(ngx_http_request_t *r)
{
    ngx_int_t                   rc;
    ngx_http_quickblox_call_t  *call;

    call = ngx_http_quickblox_api_call(r);

    r->write_event_handler = ngx_http_request_empty_handler;

    rc = ngx_http_quickblox_api_upstream(r, call);

    if (rc == NGX_OK) {
        r->main->count++;
        ngx_http_upstream_init(r);
        rc = NGX_DONE;

    } else {
        call->local = 1;
    }

    ngx_http_finalize_request(r, rc);
}


static ngx_int_t
ngx_http_quickblox_api_upstream(ngx_http_request_t *r,
    ngx_http_quickblox_call_t *call)
{
    ngx_http_upstream_t               *u;
    ngx_http_quickblox_application_t  *app;

    if (ngx_http_upstream_create(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    u = r->upstream;
    app = call->application;

    if (app->ssl) {
        u->ssl = 1;
        ngx_str_set(&u->schema, "https://");

    } else {
        ngx_str_set(&u->schema, "http://");
    }

    u->output.tag = (ngx_buf_tag_t) &ngx_http_quickblox_module;
    u->conf = &app->upstream;

    u->create_request = ngx_http_quickblox_api_create_request;
    u->reinit_request = ngx_http_quickblox_api_reinit_request;
    u->process_header = ngx_http_quickblox_api_process_status_line;
    u->abort_request = ngx_http_quickblox_api_abort_request;
    u->finalize_request = ngx_http_quickblox_api_finalize_request;

    u->input_filter_init = ngx_http_quickblox_api_filter_init;
    u->input_filter = ngx_http_quickblox_api_filter;
    u->input_filter_ctx = r;

    return NGX_OK;
}


/* the subrequest has ended; the rest is done when nothing runs on its stack */

static ngx_int_t
ngx_http_quickblox_api_end(ngx_http_request_t *r, void *data, ngx_int_t rc)
{
    ngx_http_quickblox_call_t *call = data;

    /* not of the API, and perhaps from before there was an upstream to end */

    if (rc == NGX_HTTP_INTERNAL_SERVER_ERROR) {
        call->local = 1;
        ngx_http_quickblox_api_reason(call, "no descriptor, connection or "
                                            "memory is left");
    }

    if (!call->complete) {
        call->status = 0;
        ngx_http_quickblox_api_reason(call, "no complete answer");
    }

    if (!call->done.posted) {
        ngx_post_event(&call->done, &ngx_posted_events);
    }

    return NGX_OK;
}


static void
ngx_http_quickblox_api_timeout(ngx_event_t *ev)
{
    ngx_http_quickblox_call_t  *call;

    call = ev->data;

    if (!call->done.posted) {
        call->status = 0;
        call->timedout = 1;
        call->reason.len = 0;
        ngx_http_quickblox_api_reason(call, "timed out");
        ngx_post_event(&call->done, &ngx_posted_events);
    }
}


static void
ngx_http_quickblox_api_done(ngx_event_t *ev)
{
    ngx_http_quickblox_call_t  *call;

    call = ev->data;

    if (call->timer.timer_set) {
        ngx_del_timer(&call->timer);
    }

    if (call->resolver_ctx) {
        ngx_resolve_name_done(call->resolver_ctx);
        call->resolver_ctx = NULL;
    }

    ngx_http_quickblox_home_free(&call->home);

    call->handler(call);

    ngx_http_quickblox_api_free(call);
}


/*
 * What nginx's upstream says of a failing API is kept as the reason, since an
 * outage is logged when it begins and ends and once a minute, not each call.
 */

static void
ngx_http_quickblox_api_log_writer(ngx_log_t *log, ngx_uint_t level,
    u_char *buf, size_t len)
{
    u_char                     *p, *last;
    static time_t               told;
    ngx_http_quickblox_call_t  *call;

    call = log->wdata;
    last = buf + len;

    while (last > buf && (last[-1] == LF || last[-1] == CR)) {
        last--;
    }

    /* date time [level] pid#tid: *number text */

    p = ngx_strlchr(buf, last, '#');
    p = p ? ngx_strlchr(p, last, ' ') : NULL;
    p = p ? p + 1 : buf;

    if (p < last && *p == '*') {
        p = ngx_strlchr(p, last, ' ');
        p = p ? p + 1 : last;
    }

    if (level < NGX_LOG_CRIT) {
        level = ngx_http_quickblox_log_level(level, &told);
    }

    if (level < NGX_LOG_CRIT || level > NGX_LOG_WARN) {
        ngx_log_error(level, call->error_log, 0, "quickblox \"%V\": %*s",
                      &call->application->name, (size_t) (last - p), p);
        return;
    }

    if (call->reason.len == 0) {
        len = ngx_min((size_t) (last - p), sizeof(call->reason_text));
        ngx_memcpy(call->reason_text, p, len);
        call->reason.data = call->reason_text;
        call->reason.len = len;
    }
}


/* keeps the first reason */

static void
ngx_http_quickblox_api_reason(ngx_http_quickblox_call_t *call,
    const char *reason)
{
    if (call->reason.len == 0) {
        call->reason.data = (u_char *) reason;
        call->reason.len = ngx_strlen(reason);
    }
}


static ngx_int_t
ngx_http_quickblox_api_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_http_upstream_t               *u;
    ngx_http_quickblox_call_t         *call;
    ngx_http_upstream_resolved_t       resolved;
    ngx_http_quickblox_application_t  *app;

    call = ngx_http_quickblox_api_call(r);
    app = call->application;
    u = r->upstream;

    if (app->group) {
        if (app->group->peer.init(r, app->group) != NGX_OK) {
            return NGX_ERROR;
        }

    } else {
        ngx_memzero(&resolved, sizeof(ngx_http_upstream_resolved_t));

        resolved.host = app->url.host;
        resolved.port = app->url.port;
        resolved.addrs = app->addrs;
        resolved.naddrs = app->naddrs;

        if (ngx_http_upstream_create_round_robin_peer(r, &resolved)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    call->get_peer = u->peer.get;
    u->peer.get = ngx_http_quickblox_api_get_peer;

    call->free_peer = u->peer.free;
    u->peer.free = ngx_http_quickblox_api_free_peer;

    return NGX_OK;
}


/*
 * "keepalive" in an upstream group picks a connection by address alone.  One
 * that a "proxy_pass" made without TLS, or with TLS and without our
 * verification, must not carry a call: a new one is made instead.
 */

static ngx_int_t
ngx_http_quickblox_api_get_peer(ngx_peer_connection_t *pc, void *data)
{
    ngx_int_t                   rc;
    ngx_connection_t           *c;
    ngx_http_upstream_t        *u;
    ngx_http_request_t         *r;
    ngx_http_quickblox_call_t  *call;

    u = ngx_http_quickblox_api_peer(pc);
    r = u->input_filter_ctx;

    call = ngx_http_quickblox_api_call(r);

    rc = call->get_peer(pc, data);

    c = pc->connection;

    if (rc != NGX_DONE || c == NULL) {
        return rc;
    }

    if (c->ssl ? u->conf->ssl
                 && SSL_get_SSL_CTX(c->ssl->connection) == u->conf->ssl->ctx
               : u->conf->ssl == NULL)
    {
        return NGX_DONE;
    }

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, pc->log, 0,
                   "quickblox api: not ours, close keepalive connection %d",
                   c->fd);

    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
        (void) ngx_ssl_shutdown(c);
    }

    ngx_destroy_pool(c->pool);
    ngx_close_connection(c);

    pc->connection = NULL;
    pc->cached = 0;

    return NGX_OK;
}


/* what is sent over TLS has been gathered in a buffer of the connection's */

static void
ngx_http_quickblox_api_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    ngx_buf_t                  *b;
    ngx_connection_t           *c;
    ngx_http_request_t         *r;
    ngx_http_quickblox_call_t  *call;

    r = ngx_http_quickblox_api_peer(pc)->input_filter_ctx;
    call = ngx_http_quickblox_api_call(r);

    c = pc->connection;
    b = (c && c->ssl) ? c->ssl->buf : NULL;

    if (b && b->start) {
        ngx_explicit_memzero(b->start, b->end - b->start);
    }

    call->free_peer(pc, data, state);
}


static ngx_http_upstream_t *
ngx_http_quickblox_api_peer(ngx_peer_connection_t *pc)
{
    return (ngx_http_upstream_t *)
               ((u_char *) pc - offsetof(ngx_http_upstream_t, peer));
}


static ngx_int_t
ngx_http_quickblox_api_create_request(ngx_http_request_t *r)
{
    size_t                             len;
    ngx_buf_t                         *b;
    ngx_chain_t                       *cl;
    ngx_http_quickblox_call_t         *call;
    ngx_http_quickblox_application_t  *app;

    call = ngx_http_quickblox_api_call(r);
    app = call->application;

    len = call->method_name.len + 1 + app->path.len + call->path.len
          + sizeof(" HTTP/1.1" CRLF "Host: " CRLF) - 1 + app->host_header.len
          + sizeof("Accept: application/json" CRLF
                   "Accept-Encoding: identity" CRLF
                   "Connection: close" CRLF
                   "QB-Token: " CRLF
                   "Authorization: " CRLF
                   "Content-Type: application/x-www-form-urlencoded" CRLF
                   "Content-Length: " CRLF CRLF) - 1
          + call->token.len + app->authorization.len + NGX_SIZE_T_LEN
          + call->body.len;

    b = ngx_create_temp_buf(r->pool, len);
    if (b == NULL) {
        return NGX_ERROR;
    }

    cl = ngx_alloc_chain_link(r->pool);
    if (cl == NULL) {
        return NGX_ERROR;
    }

    b->last = ngx_sprintf(b->last, "%V %V%V HTTP/1.1" CRLF "Host: %V" CRLF
                          "Accept: application/json" CRLF
                          "Accept-Encoding: identity" CRLF,
                          &call->method_name, &app->path, &call->path,
                          &app->host_header);

    /* only an upstream group keeps connections */

    if (app->group == NULL || app->group->srv_conf == NULL) {
        b->last = ngx_sprintf(b->last, "Connection: close" CRLF);
    }

    if (call->token.len) {
        b->last = ngx_sprintf(b->last, "QB-Token: %V" CRLF, &call->token);
    }

    if (call->api_key) {
        b->last = ngx_sprintf(b->last, "Authorization: %V" CRLF,
                              &app->authorization);
    }

    if (call->body.len) {
        b->last = ngx_sprintf(b->last,
                     "Content-Type: application/x-www-form-urlencoded" CRLF
                     "Content-Length: %uz" CRLF, call->body.len);

    } else if (call->method == NGX_HTTP_POST) {
        b->last = ngx_sprintf(b->last, "Content-Length: 0" CRLF);
    }

    *b->last++ = CR;
    *b->last++ = LF;

    if (call->body.len) {
        b->last = ngx_cpymem(b->last, call->body.data, call->body.len);
    }

    b->flush = 1;

    cl->buf = b;
    cl->next = NULL;

    r->upstream->request_bufs = cl;

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_api_reinit_request(ngx_http_request_t *r)
{
    ngx_http_quickblox_call_t  *call;

    call = ngx_http_quickblox_api_call(r);

    ngx_memzero(&call->status_line, sizeof(ngx_http_status_t));
    ngx_memzero(&call->chunked, sizeof(ngx_http_chunked_t));

    call->status = 0;
    call->answer.len = 0;
    call->date = NGX_ERROR;
    call->expires = NGX_ERROR;
    call->retry_after = 0;
    call->content_length = -1;
    call->has_chunked = 0;
    call->has_expires = 0;
    call->close = 0;
    call->complete = 0;
    call->reason.len = 0;

    r->upstream->process_header = ngx_http_quickblox_api_process_status_line;
    r->state = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_api_process_status_line(ngx_http_request_t *r)
{
    ngx_int_t                   rc;
    ngx_connection_t           *c;
    ngx_http_upstream_t        *u;
    ngx_http_quickblox_call_t  *call;

    call = ngx_http_quickblox_api_call(r);
    u = r->upstream;
    c = u->peer.connection;

    /* bytes that came before the handshake are nobody's answer */

    if (u->ssl && (c->ssl == NULL || !c->ssl->handshaked)) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "upstream sent data before the TLS handshake");
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    rc = ngx_http_parse_status_line(r, &u->buffer, &call->status_line);

    if (rc == NGX_AGAIN) {
        return rc;
    }

    if (rc == NGX_ERROR) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "upstream sent no valid HTTP/1 status line");
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    if (u->state && u->state->status == 0) {
        u->state->status = call->status_line.code;
    }

    u->headers_in.status_n = call->status_line.code;
    call->close = call->status_line.http_version < NGX_HTTP_VERSION_11;

    u->process_header = ngx_http_quickblox_api_process_header;

    return ngx_http_quickblox_api_process_header(r);
}


static ngx_int_t
ngx_http_quickblox_api_process_header(ngx_http_request_t *r)
{
    ngx_int_t                   rc;
    ngx_http_upstream_t        *u;
    ngx_http_quickblox_call_t  *call;

    call = ngx_http_quickblox_api_call(r);
    u = r->upstream;

    for ( ;; ) {

        rc = ngx_http_parse_header_line(r, &u->buffer, 1);

        if (rc == NGX_OK) {

            if (ngx_http_quickblox_api_header(r, call) != NGX_OK) {
                return NGX_HTTP_UPSTREAM_INVALID_HEADER;
            }

            continue;
        }

        if (rc == NGX_HTTP_PARSE_HEADER_DONE) {
            return ngx_http_quickblox_api_headers_done(r, call);
        }

        if (rc == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "upstream sent invalid header");

        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }
}


#define ngx_http_quickblox_api_is(name, text)                                \
    ((name)->len == sizeof(text) - 1                                         \
     && ngx_strncasecmp((name)->data, (u_char *) (text), sizeof(text) - 1)   \
        == 0)


static ngx_int_t
ngx_http_quickblox_api_header(ngx_http_request_t *r,
    ngx_http_quickblox_call_t *call)
{
    ngx_str_t  name, value;

    name.len = r->header_name_end - r->header_name_start;
    name.data = r->header_name_start;

    value.len = r->header_end - r->header_start;
    value.data = r->header_start;

    if (ngx_http_quickblox_api_is(&name, "Content-Length")) {
        return ngx_http_quickblox_api_content_length(call, &value);
    }

    if (ngx_http_quickblox_api_is(&name, "Transfer-Encoding")) {

        if (call->has_chunked || !ngx_http_quickblox_api_is(&value, "chunked"))
        {
            ngx_http_quickblox_api_reason(call, "unknown transfer encoding");
            return NGX_ERROR;
        }

        call->has_chunked = 1;

    } else if (ngx_http_quickblox_api_is(&name, "Content-Encoding")) {

        if (!ngx_http_quickblox_api_is(&value, "identity")) {
            ngx_http_quickblox_api_reason(call, "encoded answer");
            return NGX_ERROR;
        }

    } else if (ngx_http_quickblox_api_is(&name, "Content-Type")) {

        if (value.len >= 9
            && ngx_strncasecmp(value.data, (u_char *) "text/html", 9) == 0
            && call->status_line.code < NGX_HTTP_SPECIAL_RESPONSE)
        {
            ngx_http_quickblox_api_reason(call, "a page instead of an answer");
            return NGX_ERROR;
        }

    } else if (ngx_http_quickblox_api_is(&name, "Connection")) {

        if (ngx_strlcasestrn(value.data, value.data + value.len,
                             (u_char *) "close", 5 - 1))
        {
            call->close = 1;
        }

    } else if (ngx_http_quickblox_api_is(&name, "Date")) {
        call->date = ngx_parse_http_time(value.data, value.len);

    } else if (ngx_http_quickblox_api_is(&name, "Retry-After")) {
        ngx_http_quickblox_api_retry_after(call, &value);

    } else if (ngx_http_quickblox_api_is(&name, "QB-Token-ExpirationDate")) {

        /* of two dates neither is believed */

        call->expires = call->has_expires
                        ? NGX_ERROR : ngx_http_quickblox_parse_date(&value);
        call->has_expires = 1;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_api_content_length(ngx_http_quickblox_call_t *call,
    ngx_str_t *value)
{
    off_t  n;

    n = ngx_atoof(value->data, value->len);

    if (n == NGX_ERROR
        || (call->content_length != -1 && call->content_length != n))
    {
        ngx_http_quickblox_api_reason(call, "invalid content length");
        return NGX_ERROR;
    }

    if (n > NGX_HTTP_QUICKBLOX_JSON_MAX) {
        ngx_http_quickblox_api_reason(call, "the answer is too large");
        return NGX_ERROR;
    }

    call->content_length = n;

    return NGX_OK;
}


static void
ngx_http_quickblox_api_retry_after(ngx_http_quickblox_call_t *call,
    ngx_str_t *value)
{
    time_t  n;

    n = ngx_atotm(value->data, value->len);

    if (n == NGX_ERROR) {
        n = ngx_parse_http_time(value->data, value->len);

        if (n != NGX_ERROR) {
            n -= ngx_time();
        }
    }

    call->retry_after = n > 0 ? n : 0;
}


static ngx_int_t
ngx_http_quickblox_api_headers_done(ngx_http_request_t *r,
    ngx_http_quickblox_call_t *call)
{
    ngx_uint_t            status;
    ngx_http_upstream_t  *u;

    u = r->upstream;
    status = call->status_line.code;

    if (status < 200 && status != NGX_HTTP_SWITCHING_PROTOCOLS) {

        /* an interim answer; their number is bounded by the buffer */

        ngx_memzero(&call->status_line, sizeof(ngx_http_status_t));

        call->content_length = -1;
        call->has_chunked = 0;

        u->process_header = ngx_http_quickblox_api_process_status_line;

        return ngx_http_quickblox_api_process_status_line(r);
    }

    if (status < 200 || status > 599) {
        ngx_http_quickblox_api_reason(call, "unexpected status");
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    if (call->has_chunked && call->content_length != -1) {
        ngx_http_quickblox_api_reason(call, "both a content length and a "
                                            "transfer encoding");
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    if (status == NGX_HTTP_NO_CONTENT || status == NGX_HTTP_NOT_MODIFIED) {
        call->content_length = 0;
        call->has_chunked = 0;
    }

    call->status = status;

    return NGX_OK;
}


static void
ngx_http_quickblox_api_abort_request(ngx_http_request_t *r)
{
    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "abort quickblox api request");
}


static void
ngx_http_quickblox_api_finalize_request(ngx_http_request_t *r, ngx_int_t rc)
{
    ngx_http_upstream_t        *u;
    ngx_http_quickblox_call_t  *call;

    u = r->upstream;
    call = ngx_http_quickblox_api_call(r);

    /* what was sent and has no answer may be asked once more */

    call->complete = (rc == NGX_OK && call->status);
    call->broken = u->request_sent && !call->complete && !call->timedout
                   && rc != NGX_HTTP_GATEWAY_TIME_OUT;

    if (u->request_bufs && u->request_bufs->buf) {
        ngx_explicit_memzero(u->request_bufs->buf->start,
                             u->request_bufs->buf->end
                             - u->request_bufs->buf->start);
    }

    if (u->buffer.start) {
        ngx_explicit_memzero(u->buffer.start,
                             u->buffer.end - u->buffer.start);
    }
}


static ngx_int_t
ngx_http_quickblox_api_filter_init(void *data)
{
    ngx_http_request_t *r = data;

    ngx_http_upstream_t        *u;
    ngx_http_quickblox_call_t  *call;

    u = r->upstream;
    call = ngx_http_quickblox_api_call(r);

    if (call->has_chunked) {

        /* not -1: the end of the connection is not the end of the answer */
        u->length = 1;

    } else {
        u->length = call->content_length;
    }

    u->keepalive = (u->length == 0 && !call->close);

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_api_filter(void *data, ssize_t bytes)
{
    ngx_http_request_t *r = data;

    u_char                     *p;
    ngx_http_upstream_t        *u;
    ngx_http_quickblox_call_t  *call;

    u = r->upstream;
    call = ngx_http_quickblox_api_call(r);

    p = u->buffer.last;

    if (call->has_chunked) {
        return ngx_http_quickblox_api_chunked(r, call, p, bytes);
    }

    if (u->length != -1) {

        if (bytes > u->length) {
            u->keepalive = 0;
            ngx_http_quickblox_api_reason(call, "more than the answer came");
            return NGX_ERROR;
        }

        u->length -= bytes;
        u->keepalive = (u->length == 0 && !call->close);
    }

    return ngx_http_quickblox_api_append(call, p, bytes);
}


static ngx_int_t
ngx_http_quickblox_api_chunked(ngx_http_request_t *r,
    ngx_http_quickblox_call_t *call, u_char *data, size_t len)
{
    size_t      n;
    ngx_int_t   rc;
    ngx_buf_t   buf;

    ngx_memzero(&buf, sizeof(ngx_buf_t));

    buf.pos = data;
    buf.last = data + len;

    for ( ;; ) {

        rc = ngx_http_quickblox_parse_chunked(r, &buf, &call->chunked);

        if (rc == NGX_OK) {

            n = ngx_min((off_t) (buf.last - buf.pos), call->chunked.size);

            if (ngx_http_quickblox_api_append(call, buf.pos, n) != NGX_OK) {
                return NGX_ERROR;
            }

            buf.pos += n;
            call->chunked.size -= n;

            continue;
        }

        if (rc == NGX_DONE) {
            r->upstream->length = 0;
            r->upstream->keepalive = (buf.pos == buf.last && !call->close);
            return NGX_OK;
        }

        if (rc == NGX_AGAIN) {
            return NGX_OK;
        }

        ngx_http_quickblox_api_reason(call, "invalid chunked answer");

        return NGX_ERROR;
    }
}


static ngx_int_t
ngx_http_quickblox_api_append(ngx_http_quickblox_call_t *call, u_char *data,
    size_t len)
{
    size_t   size;
    u_char  *p;

    if (len > NGX_HTTP_QUICKBLOX_JSON_MAX - call->answer.len) {
        ngx_http_quickblox_api_reason(call, "the answer is too large");
        return NGX_ERROR;
    }

    if (call->answer.len + len > call->size) {

        size = ngx_max(call->answer.len + len,
                       ngx_max(call->size * 2, 2048));

        p = ngx_pnalloc(call->pool, size);
        if (p == NULL) {
            call->local = 1;
            ngx_http_quickblox_api_reason(call, "out of memory");
            return NGX_ERROR;
        }

        if (call->size) {
            ngx_memcpy(p, call->answer.data, call->answer.len);
            ngx_explicit_memzero(call->answer.data, call->size);
        }

        call->answer.data = p;
        call->size = size;
    }

    if (len) {
        ngx_memcpy(call->answer.data + call->answer.len, data, len);
        call->answer.len += len;
    }

    return NGX_OK;
}
