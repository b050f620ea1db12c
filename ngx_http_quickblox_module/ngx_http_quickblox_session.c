
#include "ngx_http_quickblox_session.h"
#include "ngx_http_quickblox_flight.h"
#include "ngx_http_quickblox_listener.h"


static void ngx_http_quickblox_session_found(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_found_t *found,
    ngx_http_quickblox_zone_e rc);
static ngx_int_t ngx_http_quickblox_session_wait(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_flight_t *flight);
static void ngx_http_quickblox_session_wake(ngx_event_t *ev);
static void ngx_http_quickblox_session_stale(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static void ngx_http_quickblox_session_tell(ngx_http_quickblox_ctx_t *ctx);


/* the order is that of ngx_http_quickblox_get_e */

static ngx_uint_t  ngx_http_quickblox_session_flags[] = {
    0,
    NGX_HTTP_QUICKBLOX_ZONE_FORCE,
    NGX_HTTP_QUICKBLOX_ZONE_FORCE|NGX_HTTP_QUICKBLOX_ZONE_ANEW,
    NGX_HTTP_QUICKBLOX_ZONE_NO_CREATE,
    NGX_HTTP_QUICKBLOX_ZONE_NO_CREATE|NGX_HTTP_QUICKBLOX_ZONE_KNOWN
};


ngx_int_t
ngx_http_quickblox_session_get(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_get_e how)
{
    ngx_int_t                      rc;
    ngx_uint_t                     flags;
    ngx_http_quickblox_zone_e      zone;
    ngx_http_quickblox_found_t     found;
    ngx_http_quickblox_flight_t   *flight;

    flags = ngx_http_quickblox_session_flags[how];

    zone = ngx_http_quickblox_zone_get(ctx->conf->application,
                                       &ctx->credential, flags, &found);

    ctx->single = 0;

    rc = NGX_OK;

    switch (zone) {

    case NGX_HTTP_QUICKBLOX_ZONE_WAIT:

        ctx->status = NGX_HTTP_QUICKBLOX_STATUS_WAIT;

        flight = ngx_http_quickblox_flight_find(r, ctx, found.lease);

        if (flight == NULL) {
            flight = ngx_http_quickblox_flight_create(r, ctx, NULL);

            if (flight) {
                flight->flags = flags | NGX_HTTP_QUICKBLOX_ZONE_NO_RENEW;
                ngx_add_timer(&flight->poll, NGX_HTTP_QUICKBLOX_POLL);
            }

        } else if (!(flags & NGX_HTTP_QUICKBLOX_ZONE_NO_CREATE)) {
            flight->flags &= ~NGX_HTTP_QUICKBLOX_ZONE_NO_CREATE;
        }

        rc = ngx_http_quickblox_session_wait(r, ctx, flight);
        break;

    case NGX_HTTP_QUICKBLOX_ZONE_CLAIMED:

        ctx->status = NGX_HTTP_QUICKBLOX_STATUS_MISS;

        flight = ngx_http_quickblox_flight_create(r, ctx, &found);

        if (flight == NULL) {
            ngx_http_quickblox_zone_release(ctx->conf->application,
                                            &ctx->credential, found.lease);
            rc = NGX_ERROR;
            break;
        }

        flight->flags = flags;

        rc = ngx_http_quickblox_session_wait(r, ctx, flight);

        /* its end is never reported from within */

        ngx_http_quickblox_flight_start(flight);
        break;

    default:

        ngx_http_quickblox_session_found(r, ctx, &found, zone);

        if (zone == NGX_HTTP_QUICKBLOX_ZONE_HIT
            || zone == NGX_HTTP_QUICKBLOX_ZONE_STALE)
        {
            rc = ngx_http_quickblox_flight_share(r, ctx, &found.session);
        }
    }

    ngx_http_quickblox_zone_cleanse(&found);

    return rc;
}


ngx_int_t
ngx_http_quickblox_session_ask(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_ask_e ask)
{
    ngx_int_t                     rc;
    ngx_http_quickblox_found_t    found;
    ngx_http_quickblox_flight_t  *flight;

    ngx_memzero(&found, sizeof(ngx_http_quickblox_found_t));

    found.ask = ask;
    found.retry_after = ngx_http_quickblox_zone_backoff(
                                                      ctx->conf->application);

    if (found.retry_after) {

        if (ngx_http_quickblox_flight_closes(ask)) {
            ngx_http_quickblox_flight_closed(ctx->conf->application,
                                             &ctx->credential, 0);
        }

        ngx_http_quickblox_session_found(r, ctx, &found,
                                         NGX_HTTP_QUICKBLOX_ZONE_BACKOFF);
        return NGX_OK;
    }

    ctx->single = 1;
    ctx->status = NGX_HTTP_QUICKBLOX_STATUS_MISS;

    flight = ngx_http_quickblox_flight_create(r, ctx, &found);

    if (flight == NULL) {
        return NGX_ERROR;
    }

    flight->single = 1;

    rc = ngx_http_quickblox_session_wait(r, ctx, flight);

    ngx_http_quickblox_flight_start(flight);

    return rc;
}


void
ngx_http_quickblox_session_learn(ngx_http_quickblox_ctx_t *ctx)
{
    ngx_http_quickblox_application_t  *app;

    app = ctx->conf->application;

    (void) ngx_http_quickblox_zone_drop(app, &ctx->credential, 0);

    ngx_http_quickblox_zone_store(app, &ctx->credential, 0, &ctx->session, 0);
}


static void
ngx_http_quickblox_session_found(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_found_t *found,
    ngx_http_quickblox_zone_e rc)
{
    ngx_http_quickblox_flight_t  *flight;

    switch (rc) {

    case NGX_HTTP_QUICKBLOX_ZONE_HIT:

        ctx->result = NGX_HTTP_QUICKBLOX_RESULT_OK;
        ctx->status = NGX_HTTP_QUICKBLOX_STATUS_HIT;

        if (found->ask == NGX_HTTP_QUICKBLOX_ASK_NOTHING) {
            return;
        }

        /* nobody waits for a renewal, nor fails with it */

        ctx->status = NGX_HTTP_QUICKBLOX_STATUS_REFRESH;

        flight = ngx_http_quickblox_flight_create(r, ctx, found);

        if (flight) {
            flight->renews = 1;
            ngx_http_quickblox_flight_start(flight);
            return;
        }

        ngx_http_quickblox_zone_release(ctx->conf->application,
                                        &ctx->credential, found->lease);
        return;

    case NGX_HTTP_QUICKBLOX_ZONE_STALE:

        ctx->result = NGX_HTTP_QUICKBLOX_RESULT_OK;
        ctx->status = NGX_HTTP_QUICKBLOX_STATUS_STALE;
        return;

    case NGX_HTTP_QUICKBLOX_ZONE_REJECTED:

        ctx->result = ngx_http_quickblox_rejected(ctx->credential.source);
        ctx->status = NGX_HTTP_QUICKBLOX_STATUS_REJECTED;
        return;

    case NGX_HTTP_QUICKBLOX_ZONE_NONE:

        ctx->result = NGX_HTTP_QUICKBLOX_RESULT_REJECTED;
        ctx->status = NGX_HTTP_QUICKBLOX_STATUS_REJECTED;
        return;

    case NGX_HTTP_QUICKBLOX_ZONE_FOREIGN:

        ctx->result = NGX_HTTP_QUICKBLOX_RESULT_FOREIGN;
        ctx->status = NGX_HTTP_QUICKBLOX_STATUS_REJECTED;
        return;

    default: /* NGX_HTTP_QUICKBLOX_ZONE_BACKOFF */

        ctx->result = NGX_HTTP_QUICKBLOX_RESULT_FAILED;
        ctx->status = NGX_HTTP_QUICKBLOX_STATUS_ERROR;
        ctx->retry_after = found->retry_after;
        ctx->error = "the API has failed and is not called for a while";
        return;
    }
}


static ngx_int_t
ngx_http_quickblox_session_wait(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_flight_t *flight)
{
    if (flight == NULL) {
        return NGX_ERROR;
    }

    ctx->flight = flight;

    ctx->event.handler = ngx_http_quickblox_session_wake;
    ctx->event.data = ctx;
    ctx->event.log = r->connection->log;
    ctx->event.timedout = 0;

    if (ctx->status == NGX_HTTP_QUICKBLOX_STATUS_WAIT) {
        ngx_add_timer(&ctx->event, ctx->conf->application->lock_timeout);
    }

    ngx_queue_insert_tail(&flight->waiters, &ctx->queue);

    /* a client that goes away meanwhile ends its request at once */

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    if (ngx_handle_read_event(r->connection->read, 0) != NGX_OK) {
        ngx_http_quickblox_session_cancel(ctx);
        return NGX_ERROR;
    }

    return NGX_AGAIN;
}


void
ngx_http_quickblox_session_cancel(ngx_http_quickblox_ctx_t *ctx)
{
    if (ctx->flight) {
        ngx_queue_remove(&ctx->queue);
        ctx->flight = NULL;
    }

    if (ctx->event.timer_set) {
        ngx_del_timer(&ctx->event);
    }

    if (ctx->event.posted) {
        ngx_delete_posted_event(&ctx->event);
    }
}


/* the flight has ended, or the request has waited long enough */

static void
ngx_http_quickblox_session_wake(ngx_event_t *ev)
{
    ngx_connection_t          *c;
    ngx_http_request_t        *r;
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ev->data;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (ctx->flight) {
        ngx_http_quickblox_session_cancel(ctx);

        ctx->result = NGX_HTTP_QUICKBLOX_RESULT_FAILED;
        ctx->retry_after = 1;
        ctx->error = "the session is still being looked up";
    }

    if (ctx->result == NGX_HTTP_QUICKBLOX_RESULT_FAILED) {
        ctx->status = NGX_HTTP_QUICKBLOX_STATUS_ERROR;
        ngx_http_quickblox_session_stale(r, ctx);

    } else if (ctx->result != NGX_HTTP_QUICKBLOX_RESULT_OK) {
        ctx->status = NGX_HTTP_QUICKBLOX_STATUS_REJECTED;
    }

    r->read_event_handler = ngx_http_block_reading;

    ctx->resume(r);

    ngx_http_run_posted_requests(c);
}


/* while the API cannot be reached, an old validation may do */

static void
ngx_http_quickblox_session_stale(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_http_quickblox_zone_e          rc;
    ngx_http_quickblox_found_t         found;
    ngx_http_quickblox_application_t  *app;

    app = ctx->conf->application;

    if (app->cache_stale == 0 || ctx->single
        || !(ngx_http_quickblox_is_brought(ctx->credential.source)
             || ctx->credential.source == NGX_HTTP_QUICKBLOX_SOURCE_BASIC)
        || ngx_http_quickblox_zone_backoff(app) == 0)
    {
        return;
    }

    rc = ngx_http_quickblox_zone_get(app, &ctx->credential,
                                     NGX_HTTP_QUICKBLOX_ZONE_NO_RENEW, &found);

    if (rc == NGX_HTTP_QUICKBLOX_ZONE_CLAIMED) {
        ngx_http_quickblox_zone_release(app, &ctx->credential, found.lease);
    }

    if (rc == NGX_HTTP_QUICKBLOX_ZONE_STALE) {
        ngx_http_quickblox_session_found(r, ctx, &found, rc);
        (void) ngx_http_quickblox_flight_share(r, ctx, &found.session);
    }

    ngx_http_quickblox_zone_cleanse(&found);
}


ngx_int_t
ngx_http_quickblox_session_expired(ngx_http_quickblox_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_quickblox_zone_drop(ctx->conf->application,
                                      &ctx->credential,
                                      ctx->session.generation);

    /* one of the requests that find it out tells */

    if (rc == NGX_OK) {
        ngx_http_quickblox_session_tell(ctx);
    }

    return rc;
}


static void
ngx_http_quickblox_session_tell(ngx_http_quickblox_ctx_t *ctx)
{
    ngx_http_request_t        *r;
    ngx_http_conf_ctx_t        conf_ctx;
    ngx_http_core_loc_conf_t  *clcf;

    r = ctx->request;

    ngx_http_quickblox_count(ctx->conf->application, expired);

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    conf_ctx.main_conf = r->main_conf;
    conf_ctx.srv_conf = r->srv_conf;
    conf_ctx.loc_conf = r->loc_conf;

    ngx_http_quickblox_listener_tell(&conf_ctx, clcf->error_log,
                                     ctx->credential.source, &ctx->session);
}


void
ngx_http_quickblox_session_end(ngx_http_quickblox_ctx_t *ctx)
{
    if (ngx_http_quickblox_zone_drop(ctx->conf->application, &ctx->credential,
                                     ctx->session.generation)
        == NGX_DECLINED)
    {
        ngx_http_quickblox_session_suspect(ctx);
    }
}


void
ngx_http_quickblox_session_suspect(ngx_http_quickblox_ctx_t *ctx)
{
    ngx_http_quickblox_zone_suspect(ctx->conf->application, &ctx->credential,
                                    ctx->session.generation);
}


void
ngx_http_quickblox_session_accepted(ngx_http_quickblox_ctx_t *ctx)
{
    if (ctx->session.proved
        || ngx_http_quickblox_is_brought(ctx->credential.source))
    {
        return;
    }

    ctx->session.proved = 1;

    ngx_http_quickblox_zone_prove(ctx->conf->application, &ctx->credential,
                                  ctx->session.generation);
}


void
ngx_http_quickblox_session_forget(ngx_http_quickblox_ctx_t *ctx)
{
    if (ngx_http_quickblox_is_brought(ctx->credential.source)) {
        ngx_http_quickblox_session_end(ctx);

    } else {
        ngx_http_quickblox_session_suspect(ctx);
    }
}


void
ngx_http_quickblox_session_slide(ngx_http_quickblox_ctx_t *ctx,
    ngx_str_t *date)
{
    time_t                             expires;
    ngx_http_quickblox_application_t  *app;

    app = ctx->conf->application;

    expires = ngx_http_quickblox_parse_date(date);

    if (expires == ctx->session.expires
        || !ngx_http_quickblox_is_expiry(app, expires))
    {
        return;
    }

    ctx->session.expires = expires;

    ngx_http_quickblox_zone_slide(app, &ctx->credential,
                                  ctx->session.generation, expires);
}
