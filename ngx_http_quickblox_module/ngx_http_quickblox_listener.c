
#include "ngx_http_quickblox_listener.h"
#include "ngx_http_quickblox_home.h"


/* how often a listener under way looks whether the worker is to end, ms */
#define NGX_HTTP_QUICKBLOX_LISTENER_WATCH  1000


typedef struct {
    ngx_pool_t                 *pool;
    ngx_event_t                 event;
    ngx_event_t                 watch;
    ngx_http_quickblox_home_t   home;
    unsigned                    exiting:1;
} ngx_http_quickblox_listener_t;


static ngx_int_t ngx_http_quickblox_listener_run(
    ngx_http_quickblox_listener_t *listener,
    ngx_http_quickblox_loc_conf_t *qlcf);
static void ngx_http_quickblox_listener_start(ngx_event_t *ev);
static ngx_int_t ngx_http_quickblox_listener_end(ngx_http_request_t *r,
    void *data, ngx_int_t rc);
static void ngx_http_quickblox_listener_terminated(void *data);
static void ngx_http_quickblox_listener_watch(ngx_event_t *ev);
static void ngx_http_quickblox_listener_free(ngx_event_t *ev);


void
ngx_http_quickblox_listener_tell(ngx_http_conf_ctx_t *conf_ctx, ngx_log_t *log,
    ngx_uint_t source, ngx_http_quickblox_session_t *session)
{
    ngx_pool_t                     *pool;
    ngx_http_request_t             *r;
    ngx_http_quickblox_ctx_t       *ctx;
    ngx_http_quickblox_loc_conf_t  *qlcf;
    ngx_http_quickblox_listener_t  *listener;

    qlcf = conf_ctx->loc_conf[ngx_http_quickblox_module.ctx_index];

    if (qlcf->on_expired.len == 0) {
        return;
    }

    pool = ngx_create_pool(4096, log);
    if (pool == NULL) {
        return;
    }

    listener = ngx_pcalloc(pool, sizeof(ngx_http_quickblox_listener_t));
    if (listener == NULL) {
        ngx_destroy_pool(pool);
        return;
    }

    listener->pool = pool;
    listener->event.data = listener;
    listener->event.log = log;
    listener->event.handler = ngx_http_quickblox_listener_free;

    listener->watch = listener->event;
    listener->watch.handler = ngx_http_quickblox_listener_watch;
    listener->watch.cancelable = 1;

    r = ngx_http_quickblox_home_create(&listener->home, pool, conf_ctx);

    ctx = r ? ngx_http_quickblox_get_ctx(r, 1) : NULL;

    if (ctx) {
        ctx->conf = qlcf;
        ctx->credential.source = source;
        ctx->session = *session;
        ngx_str_null(&ctx->session.token);
        ctx->listener = 1;

        listener->event.handler = ngx_http_quickblox_listener_start;
    }

    /* from a clean stack, and not before what is under way now */

    ngx_post_event(&listener->event, &ngx_posted_events);
}


static void
ngx_http_quickblox_listener_start(ngx_event_t *ev)
{
    ngx_http_quickblox_loc_conf_t  *qlcf;
    ngx_http_quickblox_listener_t  *listener;

    listener = ev->data;

    ev->handler = ngx_http_quickblox_listener_free;

    qlcf = ngx_http_get_module_loc_conf(listener->home.request,
                                        ngx_http_quickblox_module);

    if (ngx_http_quickblox_listener_run(listener, qlcf) != NGX_OK) {
        ngx_http_quickblox_listener_free(ev);
        return;
    }

    ngx_add_timer(&listener->watch, NGX_HTTP_QUICKBLOX_LISTENER_WATCH);

    ngx_http_run_posted_requests(&listener->home.connection);
}


static ngx_int_t
ngx_http_quickblox_listener_run(ngx_http_quickblox_listener_t *listener,
    ngx_http_quickblox_loc_conf_t *qlcf)
{
    ngx_str_t                    uri, args;
    ngx_uint_t                   flags;
    ngx_http_cleanup_t          *cln;
    ngx_http_request_t          *r, *sr;
    ngx_http_post_subrequest_t  *ps;

    r = listener->home.request;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_quickblox_listener_terminated;
    cln->data = listener;

    uri = qlcf->on_expired;
    flags = 0;
    ngx_str_null(&args);

    if (ngx_http_parse_unsafe_uri(r, &uri, &args, &flags) != NGX_OK) {
        return NGX_ERROR;
    }

    ps = ngx_palloc(r->pool, sizeof(ngx_http_post_subrequest_t));
    if (ps == NULL) {
        return NGX_ERROR;
    }

    ps->handler = ngx_http_quickblox_listener_end;
    ps->data = listener;

    if (ngx_http_subrequest(r, &uri, &args, &sr, ps,
                            NGX_HTTP_SUBREQUEST_BACKGROUND)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    sr->header_only = 1;

    listener->home.subrequest = sr;

    return NGX_OK;
}


/* with NGX_OK it ends here, whatever came: there is no client to answer */

static ngx_int_t
ngx_http_quickblox_listener_end(ngx_http_request_t *r, void *data,
    ngx_int_t rc)
{
    ngx_http_quickblox_listener_t *listener = data;

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "quickblox listener: %i, status %ui", rc,
                   r->headers_out.status);

    if (!listener->event.posted) {
        ngx_post_event(&listener->event, &ngx_posted_events);
    }

    return NGX_OK;
}


/* the subrequest will not end, as one of its own could not */

static void
ngx_http_quickblox_listener_terminated(void *data)
{
    ngx_http_quickblox_listener_t *listener = data;

    if (listener->home.request && !listener->event.posted) {
        ngx_post_event(&listener->event, &ngx_posted_events);
    }
}


/*
 * "worker_shutdown_timeout" closes the connections that nginx knows of, of
 * which the home's is none
 */

static void
ngx_http_quickblox_listener_watch(ngx_event_t *ev)
{
    ngx_core_conf_t                *ccf;
    ngx_http_quickblox_listener_t  *listener;

    listener = ev->data;

    ccf = (ngx_core_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                           ngx_core_module);

    /* a thread that reads a cache's file is waited for */

    if (!ngx_exiting || ccf->shutdown_timeout == 0
        || listener->home.request->blocked > 1)
    {
        ngx_add_timer(ev, NGX_HTTP_QUICKBLOX_LISTENER_WATCH);
        return;
    }

    if (!listener->exiting) {
        listener->exiting = 1;
        ngx_add_timer(ev, ccf->shutdown_timeout);
        return;
    }

    ngx_http_quickblox_listener_free(ev);
}


static void
ngx_http_quickblox_listener_free(ngx_event_t *ev)
{
    ngx_http_quickblox_listener_t  *listener;

    listener = ev->data;

    if (listener->watch.timer_set) {
        ngx_del_timer(&listener->watch);
    }

    if (listener->event.posted) {
        ngx_delete_posted_event(&listener->event);
    }

    ngx_http_quickblox_home_free(&listener->home);
    ngx_destroy_pool(listener->pool);
}
