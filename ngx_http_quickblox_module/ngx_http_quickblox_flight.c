
#include "ngx_http_quickblox_flight.h"
#include "ngx_http_quickblox_ask.h"
#include "ngx_http_quickblox_json.h"
#include "ngx_http_quickblox_listener.h"


/* what the API answers to a wrong signature, clock or nonce, or a login */
#define NGX_HTTP_QUICKBLOX_UNPROCESSABLE  422


static ngx_queue_t *ngx_http_quickblox_flights(ngx_http_request_t *r,
    ngx_http_quickblox_credential_t *credential);
static ngx_int_t ngx_http_quickblox_flight_copy(
    ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_credential_t *credential);
static ngx_int_t ngx_http_quickblox_flight_string(
    ngx_http_quickblox_flight_t *flight, ngx_str_t *dst, ngx_str_t *src);
static ngx_int_t ngx_http_quickblox_flight_claimed(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_found_t *found);
static void ngx_http_quickblox_flight_destroy(ngx_pool_t *pool,
    ngx_http_quickblox_flight_t *flight);
static void ngx_http_quickblox_flight_free(
    ngx_http_quickblox_flight_t *flight);
static void ngx_http_quickblox_flight_poll(ngx_event_t *ev);
static ngx_uint_t ngx_http_quickblox_flight_waits(
    ngx_http_quickblox_flight_t *flight);
static void ngx_http_quickblox_flight_turn(ngx_event_t *ev);
static void ngx_http_quickblox_flight_leave(
    ngx_http_quickblox_flight_t *flight);
static void ngx_http_quickblox_flight_called(
    ngx_http_quickblox_call_t *call);
static void ngx_http_quickblox_flight_answered(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_call_t *call);
static void ngx_http_quickblox_flight_validated(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_call_t *call);
static void ngx_http_quickblox_flight_dead(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_call_t *call);
static ngx_uint_t ngx_http_quickblox_flight_reject(
    ngx_http_quickblox_flight_t *flight, ngx_uint_t foreign);
static void ngx_http_quickblox_flight_anew(
    ngx_http_quickblox_flight_t *flight);
static void ngx_http_quickblox_flight_tell(
    ngx_http_quickblox_flight_t *flight);
static void ngx_http_quickblox_flight_created(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_call_t *call);
static void ngx_http_quickblox_flight_refused(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_call_t *call);
static void ngx_http_quickblox_flight_store(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_call_t *call,
    ngx_http_quickblox_answer_t *answer, ngx_uint_t created);
static void ngx_http_quickblox_flight_refused_people(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_call_t *call);
static ngx_uint_t ngx_http_quickblox_flight_is_wrong(
    ngx_http_quickblox_call_t *call);
static ngx_uint_t ngx_http_quickblox_flight_is_nobody(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_call_t *call);
static void ngx_http_quickblox_flight_wrong(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_call_t *call);
static void ngx_http_quickblox_flight_upgraded(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_call_t *call);
static void ngx_http_quickblox_flight_ended(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_call_t *call);
static ngx_int_t ngx_http_quickblox_flight_parse(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_call_t *call,
    ngx_http_quickblox_answer_t *answer);
static void ngx_http_quickblox_flight_reason(ngx_http_quickblox_call_t *call,
    const char *reason);
static ngx_uint_t ngx_http_quickblox_flight_kind(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_answer_t *answer);
static void ngx_http_quickblox_flight_failed(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_call_t *call,
    ngx_uint_t backoff, const char *reason);
static void ngx_http_quickblox_flight_log(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_call_t *call, const char *reason);
static void ngx_http_quickblox_flight_answers(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_call_t *call,
    ngx_uint_t outcome);
static void ngx_http_quickblox_flight_finish(
    ngx_http_quickblox_flight_t *flight, ngx_http_quickblox_result_e result,
    ngx_http_quickblox_session_t *session, time_t retry_after,
    const char *error);
static void ngx_http_quickblox_flight_forget(void *data);


static ngx_str_t  ngx_http_quickblox_expired =
    ngx_string("session does not exist");
static ngx_str_t  ngx_http_quickblox_bad_timestamp =
    ngx_string("Bad timestamp");
static ngx_str_t  ngx_http_quickblox_bad_signature =
    ngx_string("Unexpected signature");


static ngx_queue_t *
ngx_http_quickblox_flights(ngx_http_request_t *r,
    ngx_http_quickblox_credential_t *credential)
{
    ngx_http_quickblox_main_conf_t  *qmcf;

    qmcf = ngx_http_get_module_main_conf(r, ngx_http_quickblox_module);

    return &qmcf->flights[credential->key[0]];
}


/*
 * The flight of this worker that holds the lease, or one that polls.  One
 * that has lost its lease, as its session was dropped, is no longer joined.
 */

ngx_http_quickblox_flight_t *
ngx_http_quickblox_flight_find(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, uint32_t lease)
{
    ngx_queue_t                  *q, *flights;
    ngx_http_quickblox_flight_t  *flight;

    flights = ngx_http_quickblox_flights(r, &ctx->credential);

    for (q = ngx_queue_head(flights);
         q != ngx_queue_sentinel(flights);
         q = ngx_queue_next(q))
    {
        flight = ngx_queue_data(q, ngx_http_quickblox_flight_t, queue);

        if (CRYPTO_memcmp(flight->credential.key, ctx->credential.key,
                          NGX_HTTP_QUICKBLOX_DIGEST_LEN)
            == 0
            && !flight->single
            && (flight->polling || flight->lease == lease))
        {
            return flight;
        }
    }

    return NULL;
}


/* found is NULL for one that polls */

ngx_http_quickblox_flight_t *
ngx_http_quickblox_flight_create(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_found_t *found)
{
    ngx_pool_t                   *pool;
    ngx_http_core_loc_conf_t     *clcf;
    ngx_http_quickblox_flight_t  *flight;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    pool = ngx_create_pool(1024, clcf->error_log);
    if (pool == NULL) {
        return NULL;
    }

    flight = ngx_pcalloc(pool, sizeof(ngx_http_quickblox_flight_t));
    if (flight == NULL) {
        goto failed;
    }

    flight->pool = pool;
    flight->log = clcf->error_log;
    flight->application = ctx->conf->application;
    flight->credential = ctx->credential;

    flight->conf_ctx.main_conf = r->main_conf;
    flight->conf_ctx.srv_conf = r->srv_conf;
    flight->conf_ctx.loc_conf = r->loc_conf;

    flight->poll.handler = ngx_http_quickblox_flight_poll;
    flight->poll.data = flight;
    flight->poll.log = clcf->error_log;

    flight->turn.handler = ngx_http_quickblox_flight_turn;
    flight->turn.data = flight;
    flight->turn.log = clcf->error_log;

    if (ngx_http_quickblox_flight_copy(flight, &ctx->credential) != NGX_OK) {
        goto failed;
    }

    if (found == NULL) {
        flight->polling = 1;

    } else if (ngx_http_quickblox_flight_claimed(flight, found) != NGX_OK) {
        goto failed;
    }

    ngx_queue_init(&flight->waiters);
    ngx_queue_insert_head(ngx_http_quickblox_flights(r, &ctx->credential),
                          &flight->queue);

    return flight;

failed:

    ngx_http_quickblox_flight_destroy(pool, flight);

    return NULL;
}


/* the request may go away before the flight ends */

static ngx_int_t
ngx_http_quickblox_flight_copy(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_credential_t *credential)
{
    ngx_http_quickblox_credential_t  *copy;

    flight->credential = *credential;
    copy = &flight->credential;

    ngx_str_null(&copy->token);
    ngx_str_null(&copy->login);
    ngx_str_null(&copy->email);
    ngx_str_null(&copy->password);

    if (ngx_http_quickblox_flight_string(flight, &copy->token,
                                         &credential->token)
        != NGX_OK
        || ngx_http_quickblox_flight_string(flight, &copy->login,
                                            &credential->login)
           != NGX_OK
        || ngx_http_quickblox_flight_string(flight, &copy->email,
                                            &credential->email)
           != NGX_OK
        || ngx_http_quickblox_flight_string(flight, &copy->password,
                                            &credential->password)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    flight->token = copy->token;

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_flight_string(ngx_http_quickblox_flight_t *flight,
    ngx_str_t *dst, ngx_str_t *src)
{
    if (src->len == 0) {
        return NGX_OK;
    }

    dst->data = ngx_pstrdup(flight->pool, src);
    if (dst->data == NULL) {
        return NGX_ERROR;
    }

    dst->len = src->len;

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_flight_claimed(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_found_t *found)
{
    flight->polling = 0;
    flight->ask = found->ask;
    flight->lease = found->lease;
    flight->user_id = found->session.user_id;
    flight->expires = found->session.expires;
    flight->generation = found->session.generation;

    if (found->ask != NGX_HTTP_QUICKBLOX_ASK_VALIDATE
        || ngx_http_quickblox_is_brought(flight->credential.source))
    {
        return NGX_OK;
    }

    /* there is one already if it was claimed before it waited for its turn */

    if (flight->token.len) {
        ngx_explicit_memzero(flight->token.data, flight->token.len);
        ngx_str_null(&flight->token);
    }

    return ngx_http_quickblox_flight_string(flight, &flight->token,
                                            &found->session.token);
}


static void
ngx_http_quickblox_flight_free(ngx_http_quickblox_flight_t *flight)
{
    ngx_queue_remove(&flight->queue);

    if (flight->turn.posted) {
        ngx_delete_posted_event(&flight->turn);
    }

    ngx_http_quickblox_flight_destroy(flight->pool, flight);
}


static void
ngx_http_quickblox_flight_destroy(ngx_pool_t *pool,
    ngx_http_quickblox_flight_t *flight)
{
    ngx_uint_t   i;
    ngx_str_t   *secret[4];

    if (flight) {
        secret[0] = &flight->token;
        secret[1] = &flight->credential.login;
        secret[2] = &flight->credential.email;
        secret[3] = &flight->credential.password;

        for (i = 0; i < 4; i++) {
            if (secret[i]->len) {
                ngx_explicit_memzero(secret[i]->data, secret[i]->len);
            }
        }
    }

    ngx_destroy_pool(pool);
}


/* another worker asks: its result, its failure or its death ends the wait */

static void
ngx_http_quickblox_flight_poll(ngx_event_t *ev)
{
    ngx_http_quickblox_zone_e     rc;
    ngx_http_quickblox_found_t    found;
    ngx_http_quickblox_flight_t  *flight;

    flight = ev->data;

    if (ngx_queue_empty(&flight->waiters)) {
        ngx_http_quickblox_flight_free(flight);
        return;
    }

    rc = ngx_http_quickblox_zone_get(flight->application, &flight->credential,
                                     flight->flags, &found);

    switch (rc) {

    case NGX_HTTP_QUICKBLOX_ZONE_WAIT:
        flight->turned = 0;
        ngx_add_timer(&flight->poll, NGX_HTTP_QUICKBLOX_POLL);
        break;

    case NGX_HTTP_QUICKBLOX_ZONE_CLAIMED:

        if (ngx_http_quickblox_flight_claimed(flight, &found) != NGX_OK) {
            ngx_http_quickblox_flight_failed(flight, NULL, 0, "out of memory");
            break;
        }

        ngx_http_quickblox_flight_start(flight);
        break;

    case NGX_HTTP_QUICKBLOX_ZONE_HIT:
    case NGX_HTTP_QUICKBLOX_ZONE_STALE:
        ngx_http_quickblox_flight_finish(flight, NGX_HTTP_QUICKBLOX_RESULT_OK,
                                         &found.session, 0, NULL);
        break;

    case NGX_HTTP_QUICKBLOX_ZONE_REJECTED:
        ngx_http_quickblox_flight_finish(flight,
                       ngx_http_quickblox_rejected(flight->credential.source),
                       NULL, 0, NULL);
        break;

    case NGX_HTTP_QUICKBLOX_ZONE_FOREIGN:
        ngx_http_quickblox_flight_finish(flight,
                                         NGX_HTTP_QUICKBLOX_RESULT_FOREIGN,
                                         NULL, 0, NULL);
        break;

    case NGX_HTTP_QUICKBLOX_ZONE_NONE:
        ngx_http_quickblox_flight_finish(flight,
                                         NGX_HTTP_QUICKBLOX_RESULT_REJECTED,
                                         NULL, 0, NULL);
        break;

    default: /* NGX_HTTP_QUICKBLOX_ZONE_BACKOFF */
        ngx_http_quickblox_flight_finish(flight,
                                         NGX_HTTP_QUICKBLOX_RESULT_FAILED,
                                         NULL, found.retry_after,
                                         "the API has failed");
    }

    ngx_http_quickblox_zone_cleanse(&found);
}


void
ngx_http_quickblox_flight_start(ngx_http_quickblox_flight_t *flight)
{
    ngx_http_quickblox_call_t  *call;

    if (flight->deadline == 0) {

        if (!flight->turned && ngx_http_quickblox_flight_waits(flight)) {
            return;
        }

        flight->deadline = ngx_current_msec + flight->application->timeout;
    }

    call = ngx_http_quickblox_api_create(&flight->conf_ctx, flight->log,
                                         flight->application);
    if (call == NULL) {
        ngx_http_quickblox_flight_failed(flight, NULL, 0, "out of memory");
        return;
    }

    if (ngx_http_quickblox_ask(call, flight->ask, &flight->credential,
                               &flight->token)
        != NGX_OK)
    {
        /* errors left in OpenSSL's queue would be told of a connection */
        ERR_clear_error();

        ngx_http_quickblox_api_free(call);
        ngx_http_quickblox_flight_failed(flight, NULL, 0,
                                         "the call could not be made");
        return;
    }

    call->handler = ngx_http_quickblox_flight_called;
    call->data = flight;
    call->timeout = flight->deadline - ngx_current_msec;

    ngx_http_quickblox_api_start(call);
}


/*
 * Clients ask as often as they like: their calls wait while too many are under
 * way.  The gateway's own sessions are few, and a renewal can be left to the
 * next request.
 */

static ngx_uint_t
ngx_http_quickblox_flight_waits(ngx_http_quickblox_flight_t *flight)
{
    ngx_queue_t               *q;
    ngx_http_quickblox_ctx_t  *ctx;

    if (flight->credential.source == NGX_HTTP_QUICKBLOX_SOURCE_USER
        || flight->credential.source == NGX_HTTP_QUICKBLOX_SOURCE_APPLICATION
        || !ngx_http_quickblox_api_busy())
    {
        return 0;
    }

    if (ngx_queue_empty(&flight->waiters)) {
        ngx_http_quickblox_flight_leave(flight);
        ngx_http_quickblox_flight_free(flight);
        return 1;
    }

    for (q = ngx_queue_head(&flight->waiters);
         q != ngx_queue_sentinel(&flight->waiters);
         q = ngx_queue_next(q))
    {
        ctx = ngx_queue_data(q, ngx_http_quickblox_ctx_t, queue);

        if (!ctx->event.timer_set) {
            ngx_add_timer(&ctx->event, flight->application->lock_timeout);
        }
    }

    ngx_http_quickblox_api_wait(&flight->turn, flight->application);

    return 1;
}


static void
ngx_http_quickblox_flight_turn(ngx_event_t *ev)
{
    time_t                             retry_after;
    ngx_http_quickblox_flight_t       *flight;
    ngx_http_quickblox_application_t  *app;

    flight = ev->data;
    app = flight->application;

    flight->turned = 1;

    /* a logout is one, even when nobody waits for it any more */

    if (ngx_queue_empty(&flight->waiters)
        && !ngx_http_quickblox_flight_closes(flight->ask))
    {
        ngx_http_quickblox_flight_leave(flight);
        ngx_http_quickblox_flight_free(flight);
        return;
    }

    if (!flight->single) {

        /* the lease is old, and another worker may have asked by now */

        ngx_http_quickblox_flight_leave(flight);

        flight->flags |= NGX_HTTP_QUICKBLOX_ZONE_NO_RENEW;
        flight->polling = 1;

        ngx_http_quickblox_flight_poll(&flight->poll);
        return;
    }

    retry_after = ngx_http_quickblox_zone_backoff(app);

    if (retry_after == 0) {
        ngx_http_quickblox_flight_start(flight);
        return;
    }

    ngx_http_quickblox_flight_leave(flight);
    ngx_http_quickblox_flight_finish(flight, NGX_HTTP_QUICKBLOX_RESULT_FAILED,
                                     NULL, retry_after, "the API has failed");
}


/* without a call: what was claimed is free, what was to end has ended here */

static void
ngx_http_quickblox_flight_leave(ngx_http_quickblox_flight_t *flight)
{
    if (!flight->single) {
        ngx_http_quickblox_zone_release(flight->application,
                                        &flight->credential, flight->lease);

    } else if (ngx_http_quickblox_flight_closes(flight->ask)) {
        ngx_http_quickblox_flight_closed(flight->application,
                                         &flight->credential, 0);
    }
}


/* the flight may end with the call, the application does not */

static void
ngx_http_quickblox_flight_called(ngx_http_quickblox_call_t *call)
{
    ngx_msec_t                         msec;
    ngx_uint_t                         bucket;
    ngx_http_quickblox_ask_e           ask;
    ngx_http_quickblox_flight_t       *flight;
    ngx_http_quickblox_application_t  *app;

    flight = call->data;
    app = flight->application;
    ask = flight->ask;

    call->outcome = NGX_HTTP_QUICKBLOX_CALL_FAILED;

    ngx_http_quickblox_flight_answered(flight, call);

    msec = ngx_current_msec - call->started;
    bucket = ngx_http_quickblox_report_bucket(msec);

    ngx_http_quickblox_count(app, calls[ask][call->outcome]);
    ngx_http_quickblox_count(app, seconds[bucket]);

    (void) ngx_atomic_fetch_add(&app->counters->msec, msec);
}


static void
ngx_http_quickblox_flight_answered(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_call_t *call)
{
    if (call->status == 0) {

        /*
         * a connection that broke is worth a second try, on a fresh one and
         * with a fresh nonce, in what is left of the time
         */

        if (call->broken && !flight->retried
            && (ngx_msec_int_t) (flight->deadline - ngx_current_msec) > 0)
        {
            flight->retried = 1;
            ngx_http_quickblox_flight_start(flight);
            return;
        }

        ngx_http_quickblox_flight_failed(flight, call, 1, NULL);
        return;
    }

    if (call->status >= NGX_HTTP_INTERNAL_SERVER_ERROR
        || call->status == NGX_HTTP_TOO_MANY_REQUESTS)
    {
        ngx_http_quickblox_flight_failed(flight, call, 1, NULL);
        return;
    }

    switch (flight->ask) {

    case NGX_HTTP_QUICKBLOX_ASK_VALIDATE:
        ngx_http_quickblox_flight_validated(flight, call);
        break;

    case NGX_HTTP_QUICKBLOX_ASK_UPGRADE:
        ngx_http_quickblox_flight_upgraded(flight, call);
        break;

    case NGX_HTTP_QUICKBLOX_ASK_DOWNGRADE:
    case NGX_HTTP_QUICKBLOX_ASK_DESTROY:
        ngx_http_quickblox_flight_ended(flight, call);
        break;

    default: /* NGX_HTTP_QUICKBLOX_ASK_CREATE */
        ngx_http_quickblox_flight_created(flight, call);
    }
}


static void
ngx_http_quickblox_flight_validated(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_call_t *call)
{
    ngx_http_quickblox_answer_t  answer;

    if (call->status == NGX_HTTP_UNAUTHORIZED) {
        ngx_http_quickblox_flight_dead(flight, call);
        return;
    }

    if (call->status != NGX_HTTP_OK) {
        ngx_http_quickblox_flight_failed(flight, call, 0,
                                         call->status == NGX_HTTP_NOT_FOUND
                                         ? "is \"api_host\" right?" : NULL);
        return;
    }

    if (ngx_http_quickblox_flight_parse(flight, call, &answer) != NGX_OK) {
        ngx_http_quickblox_flight_failed(flight, call, 0, NULL);
        return;
    }

    if (answer.token_len != flight->token.len
        || CRYPTO_memcmp(answer.token, flight->token.data, answer.token_len)
           != 0)
    {
        ngx_http_quickblox_flight_failed(flight, call, 0,
                                         "another token in the answer");

    } else if (answer.application_id == flight->application->id_number
               && ngx_http_quickblox_flight_kind(flight, &answer))
    {
        ngx_http_quickblox_flight_store(flight, call, &answer, 0);

    } else if (ngx_http_quickblox_is_brought(flight->credential.source)) {

        ngx_http_quickblox_flight_answers(flight, call,
                                          NGX_HTTP_QUICKBLOX_CALL_REFUSED);

        (void) ngx_http_quickblox_flight_reject(flight, 1);

        ngx_http_quickblox_flight_finish(flight,
                                         NGX_HTTP_QUICKBLOX_RESULT_FOREIGN,
                                         NULL, 0, NULL);
    } else {

        /* one held has become another's, somebody's login or logout did it */

        call->outcome = NGX_HTTP_QUICKBLOX_CALL_REFUSED;

        ngx_http_quickblox_flight_anew(flight);
    }

    ngx_explicit_memzero(&answer, sizeof(ngx_http_quickblox_answer_t));
}


/* 401; only the text of an expiry says for certain that there is no session */

static void
ngx_http_quickblox_flight_dead(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_call_t *call)
{
    ngx_http_quickblox_flight_answers(flight, call,
                                      NGX_HTTP_QUICKBLOX_CALL_REFUSED);

    if (!ngx_http_quickblox_is_brought(flight->credential.source)) {

        switch (ngx_http_quickblox_zone_ended(flight->application,
                                              &flight->credential,
                                              flight->lease))
        {
        case NGX_DECLINED:

            /* it is made anew already */

            flight->flags |= NGX_HTTP_QUICKBLOX_ZONE_NO_RENEW;
            flight->polling = 1;
            flight->retried = 0;
            flight->deadline = 0;

            ngx_http_quickblox_flight_poll(&flight->poll);
            return;

        case NGX_OK:
            ngx_http_quickblox_flight_tell(flight);
        }

        ngx_http_quickblox_flight_anew(flight);
        return;
    }

    if (ngx_http_quickblox_has_error(&call->answer,
                                     &ngx_http_quickblox_expired))
    {
        if (ngx_http_quickblox_flight_reject(flight, 0)) {
            ngx_http_quickblox_flight_tell(flight);
        }

        ngx_http_quickblox_flight_finish(flight,
                                         NGX_HTTP_QUICKBLOX_RESULT_REJECTED,
                                         NULL, 0, NULL);
        return;
    }

    ngx_http_quickblox_zone_release(flight->application, &flight->credential,
                                    flight->lease);

    ngx_http_quickblox_flight_finish(flight,
                                     NGX_HTTP_QUICKBLOX_RESULT_UNKNOWN,
                                     NULL, 0, NULL);
}


static ngx_uint_t
ngx_http_quickblox_flight_reject(ngx_http_quickblox_flight_t *flight,
    ngx_uint_t foreign)
{
    return ngx_http_quickblox_zone_reject(flight->application,
                                          &flight->credential, flight->lease,
                                          foreign,
                                          flight->application->cache_invalid);
}


/* a session held is gone; who only asks for it does not log in */

static void
ngx_http_quickblox_flight_anew(ngx_http_quickblox_flight_t *flight)
{
    if (!(flight->flags & NGX_HTTP_QUICKBLOX_ZONE_NO_CREATE)) {
        flight->ask = NGX_HTTP_QUICKBLOX_ASK_CREATE;
        ngx_http_quickblox_flight_start(flight);
        return;
    }

    (void) ngx_http_quickblox_zone_drop(flight->application,
                                        &flight->credential,
                                        flight->generation);

    ngx_http_quickblox_zone_release(flight->application, &flight->credential,
                                    flight->lease);

    ngx_http_quickblox_flight_finish(flight,
                                     NGX_HTTP_QUICKBLOX_RESULT_REJECTED,
                                     NULL, 0, NULL);
}


/* a session that was known has ended */

static void
ngx_http_quickblox_flight_tell(ngx_http_quickblox_flight_t *flight)
{
    ngx_http_quickblox_session_t  session;

    ngx_memzero(&session, sizeof(ngx_http_quickblox_session_t));

    session.user_id = flight->user_id;
    session.expires = flight->expires;

    ngx_http_quickblox_count(flight->application, expired);

    ngx_http_quickblox_listener_tell(&flight->conf_ctx, flight->log,
                                     flight->credential.source, &session);
}


static void
ngx_http_quickblox_flight_created(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_call_t *call)
{
    ngx_int_t                    rc;
    ngx_uint_t                   own;
    ngx_http_quickblox_answer_t  answer;

    /* what is answered to one of many users backs off nobody */

    own = !ngx_http_quickblox_is_people(flight->credential.source);

    if (call->status != NGX_HTTP_CREATED && call->status != NGX_HTTP_OK
        && (own || call->status >= NGX_HTTP_SPECIAL_RESPONSE))
    {
        ngx_http_quickblox_flight_refused(flight, call);
        return;
    }

    rc = ngx_http_quickblox_flight_parse(flight, call, &answer);

    if (rc == NGX_DECLINED
        && flight->credential.source == NGX_HTTP_QUICKBLOX_SOURCE_BASIC)
    {
        ngx_http_quickblox_flight_wrong(flight, call);
        return;
    }

    if (rc != NGX_OK) {
        ngx_http_quickblox_flight_failed(flight, call, own, NULL);
        return;
    }

    if (answer.application_id != flight->application->id_number) {
        ngx_http_quickblox_flight_failed(flight, call, own,
                                         "a session of another application");

    } else if (!ngx_http_quickblox_flight_kind(flight, &answer)) {
        ngx_http_quickblox_flight_failed(flight, call, own,
                                         "a session of another kind");

    } else {
        ngx_http_quickblox_flight_store(flight, call, &answer, 1);
    }

    ngx_explicit_memzero(&answer, sizeof(ngx_http_quickblox_answer_t));
}


static void
ngx_http_quickblox_flight_refused(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_call_t *call)
{
    const char  *reason;

    reason = NULL;

    if (ngx_http_quickblox_flight_is_wrong(call)) {
        call->outcome = NGX_HTTP_QUICKBLOX_CALL_REFUSED;
    }

    if (call->status == NGX_HTTP_QUICKBLOX_UNPROCESSABLE
        && ngx_http_quickblox_has_error(&call->answer,
                                        &ngx_http_quickblox_bad_timestamp))
    {
        reason = "bad timestamp, is this machine's clock right?";

        if (!flight->clock_set && call->date != NGX_ERROR) {
            flight->clock_set = 1;

            ngx_http_quickblox_zone_set_clock(flight->application,
                                              call->date - ngx_time());
            ngx_http_quickblox_flight_start(flight);
            return;
        }

    } else if (call->status == NGX_HTTP_QUICKBLOX_UNPROCESSABLE
               && ngx_http_quickblox_has_error(&call->answer,
                                           &ngx_http_quickblox_bad_signature))
    {
        reason = "unexpected signature, is \"auth_secret\" right?";

    } else if (ngx_http_quickblox_is_people(flight->credential.source)) {
        ngx_http_quickblox_flight_refused_people(flight, call);
        return;

    } else if (call->status == NGX_HTTP_UNAUTHORIZED) {
        reason = "the application's login or password is refused";

    } else if (call->status == NGX_HTTP_NOT_FOUND) {
        reason = "is \"api_host\" right?";
    }

    ngx_http_quickblox_flight_failed(flight, call, 1, reason);
}


/* whose fault is it? */

static void
ngx_http_quickblox_flight_refused_people(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_call_t *call)
{
    if (flight->credential.source == NGX_HTTP_QUICKBLOX_SOURCE_BASIC) {

        if (ngx_http_quickblox_flight_is_wrong(call)) {
            ngx_http_quickblox_flight_wrong(flight, call);

        } else {
            ngx_http_quickblox_flight_failed(flight, call, 0,
                                         call->status == NGX_HTTP_NOT_FOUND
                                         ? "is \"api_host\" right?" : NULL);
        }

        return;
    }

    if (call->status == NGX_HTTP_UNAUTHORIZED) {
        ngx_http_quickblox_flight_failed(flight, call, 1,
                                  "the application's \"api_key\" is refused");

    } else if (ngx_http_quickblox_flight_is_nobody(flight, call)) {
        ngx_http_quickblox_flight_wrong(flight, call);

    } else {
        ngx_http_quickblox_flight_failed(flight, call, 0,
                                         call->status == NGX_HTTP_NOT_FOUND
                                         ? "is \"api_host\" right?" : NULL);
    }
}


static ngx_uint_t
ngx_http_quickblox_flight_is_wrong(ngx_http_quickblox_call_t *call)
{
    return call->status == NGX_HTTP_UNAUTHORIZED
           || call->status == NGX_HTTP_FORBIDDEN
           || call->status == NGX_HTTP_QUICKBLOX_UNPROCESSABLE;
}


/* a 404 that is no answer of the API is one of a host that is not its */

static ngx_uint_t
ngx_http_quickblox_flight_is_nobody(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_call_t *call)
{
    ngx_int_t                    rc;
    ngx_http_quickblox_answer_t  answer;

    if (call->status != NGX_HTTP_NOT_FOUND) {
        return call->status == NGX_HTTP_QUICKBLOX_UNPROCESSABLE;
    }

    rc = ngx_http_quickblox_flight_parse(flight, call, &answer);

    if (rc == NGX_OK) {
        ngx_explicit_memzero(&answer, sizeof(ngx_http_quickblox_answer_t));
    }

    return rc != NGX_ERROR;
}


/* a wrong login or password, or no such user */

static void
ngx_http_quickblox_flight_wrong(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_call_t *call)
{
    ngx_http_quickblox_flight_answers(flight, call,
                                      NGX_HTTP_QUICKBLOX_CALL_REFUSED);

    if (!flight->single) {
        (void) ngx_http_quickblox_flight_reject(flight, 0);
    }

    ngx_http_quickblox_flight_finish(flight,
                                     NGX_HTTP_QUICKBLOX_RESULT_REFUSED,
                                     NULL, 0, NULL);
}


/* the token has become a user's, and is the same */

static void
ngx_http_quickblox_flight_upgraded(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_call_t *call)
{
    ngx_int_t                    rc;
    const char                  *reason;
    ngx_http_quickblox_answer_t  answer;

    if (call->status == NGX_HTTP_UNAUTHORIZED
        && ngx_http_quickblox_has_error(&call->answer,
                                        &ngx_http_quickblox_expired))
    {
        ngx_http_quickblox_flight_answers(flight, call,
                                          NGX_HTTP_QUICKBLOX_CALL_REFUSED);
        ngx_http_quickblox_flight_finish(flight,
                                         NGX_HTTP_QUICKBLOX_RESULT_REJECTED,
                                         NULL, 0, NULL);
        return;
    }

    if (ngx_http_quickblox_flight_is_wrong(call)) {
        ngx_http_quickblox_flight_wrong(flight, call);
        return;
    }

    if (call->status < NGX_HTTP_OK || call->status > NGX_HTTP_ACCEPTED) {
        ngx_http_quickblox_flight_failed(flight, call, 0, NULL);
        return;
    }

    rc = ngx_http_quickblox_parse_user(&call->answer, &answer.user_id,
                                       &reason);

    if (rc == NGX_DECLINED) {
        ngx_http_quickblox_flight_wrong(flight, call);
        return;
    }

    if (rc == NGX_ERROR) {
        ngx_http_quickblox_flight_reason(call, reason);
        ngx_http_quickblox_flight_failed(flight, call, 0, NULL);
        return;
    }

    answer.application_id = flight->application->id_number;
    answer.token_len = flight->token.len;
    ngx_memcpy(answer.token, flight->token.data, flight->token.len);

    ngx_http_quickblox_flight_store(flight, call, &answer, 0);

    ngx_explicit_memzero(&answer, sizeof(ngx_http_quickblox_answer_t));
}


/* what has ended before has ended, too */

static void
ngx_http_quickblox_flight_ended(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_call_t *call)
{
    if (call->status >= NGX_HTTP_SPECIAL_RESPONSE
        && !ngx_http_quickblox_flight_is_wrong(call))
    {
        ngx_http_quickblox_flight_failed(flight, call, 0, NULL);
        return;
    }

    ngx_http_quickblox_flight_closed(flight->application, &flight->credential,
                                     call->status < NGX_HTTP_SPECIAL_RESPONSE
                                     || call->status == NGX_HTTP_UNAUTHORIZED);

    ngx_http_quickblox_flight_answers(flight, call,
                                      call->status < NGX_HTTP_SPECIAL_RESPONSE
                                      ? NGX_HTTP_QUICKBLOX_CALL_OK
                                      : NGX_HTTP_QUICKBLOX_CALL_REFUSED);
    ngx_http_quickblox_flight_finish(flight, NGX_HTTP_QUICKBLOX_RESULT_OK,
                                     NULL, 0, NULL);
}


/*
 * NGX_OK; NGX_DECLINED for "errors" and no session; NGX_ERROR; what is wrong
 * with an answer becomes the call's reason
 */

static ngx_int_t
ngx_http_quickblox_flight_parse(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_call_t *call, ngx_http_quickblox_answer_t *answer)
{
    time_t       expires;
    ngx_int_t    rc;
    const char  *reason;

    if (flight->credential.source == NGX_HTTP_QUICKBLOX_SOURCE_USER_TOKEN
        && flight->ask == NGX_HTTP_QUICKBLOX_ASK_CREATE)
    {
        rc = ngx_http_quickblox_parse_token(&call->answer, answer, &expires,
                                            &reason);
        if (rc == NGX_OK) {

            /* the API key's application, and the user that was asked for */

            answer->application_id = flight->application->id_number;
            answer->user_id = flight->credential.user_id;

            if (call->expires == NGX_ERROR) {
                call->expires = expires;
            }
        }

    } else {
        rc = ngx_http_quickblox_parse_session(&call->answer, answer, &reason);
    }

    if (rc == NGX_OK) {
        return NGX_OK;
    }

    if (rc == NGX_ERROR && reason == ngx_http_quickblox_json_no_memory) {
        call->local = 1;
    }

    ngx_http_quickblox_flight_reason(call, rc == NGX_DECLINED
                                           ? "has errors and no session"
                                           : reason);
    return rc;
}


static void
ngx_http_quickblox_flight_reason(ngx_http_quickblox_call_t *call,
    const char *reason)
{
    call->reason.data = call->reason_text;
    call->reason.len = ngx_snprintf(call->reason_text,
                                    sizeof(call->reason_text),
                                    "the answer %s", reason)
                       - call->reason_text;
}


/* users have user sessions, the application has none, and they stay so */

static ngx_uint_t
ngx_http_quickblox_flight_kind(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_answer_t *answer)
{
    if (ngx_http_quickblox_is_brought(flight->credential.source)) {
        return 1;
    }

    if (flight->ask == NGX_HTTP_QUICKBLOX_ASK_VALIDATE) {
        return answer->user_id == flight->user_id;
    }

    return (flight->credential.source
            == NGX_HTTP_QUICKBLOX_SOURCE_APPLICATION)
           == (answer->user_id == 0);
}


static void
ngx_http_quickblox_flight_store(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_call_t *call, ngx_http_quickblox_answer_t *answer,
    ngx_uint_t created)
{
    ngx_http_quickblox_session_t       session;
    ngx_http_quickblox_application_t  *app;

    app = flight->application;

    ngx_http_quickblox_flight_answers(flight, call,
                                      NGX_HTTP_QUICKBLOX_CALL_OK);

    if (flight->renews) {
        ngx_http_quickblox_count(app, renewed);
    }

    ngx_memzero(&session, sizeof(ngx_http_quickblox_session_t));

    session.token.len = answer->token_len;
    session.token.data = answer->token;
    session.user_id = answer->user_id;
    session.expires = ngx_http_quickblox_is_expiry(app, call->expires)
                      ? call->expires : ngx_time() + app->session_lifetime;

    if (!flight->single) {
        ngx_http_quickblox_zone_store(app, &flight->credential, flight->lease,
                                      &session, created);
    }

    ngx_http_quickblox_flight_finish(flight, NGX_HTTP_QUICKBLOX_RESULT_OK,
                                     &session, 0, NULL);
}


/*
 * backoff is 0 for what may be one client's affair.  call is NULL when none
 * was made.
 */

static void
ngx_http_quickblox_flight_failed(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_call_t *call, ngx_uint_t backoff, const char *reason)
{
    time_t                             retry_after;
    ngx_http_quickblox_log_e           log;
    ngx_http_quickblox_application_t  *app;

    app = flight->application;

    ngx_http_quickblox_flight_leave(flight);

    /* what is short here is no fault of the API */

    if (backoff && !call->local) {
        log = ngx_http_quickblox_zone_failed(app, call->started,
                                  call->status == NGX_HTTP_TOO_MANY_REQUESTS
                                  ? call->retry_after : 0);
    } else {
        log = ngx_http_quickblox_zone_odd(app);
    }

    if (log != NGX_HTTP_QUICKBLOX_LOG_NOTHING) {
        ngx_http_quickblox_flight_log(flight, call, reason);
    }

    retry_after = ngx_http_quickblox_zone_backoff(app);

    ngx_http_quickblox_flight_finish(flight, NGX_HTTP_QUICKBLOX_RESULT_FAILED,
                                     NULL, retry_after,
                                     call && call->status
                                     ? "the API has refused the call"
                                     : "the API has not answered");
}


static void
ngx_http_quickblox_flight_log(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_call_t *call, const char *reason)
{
    time_t      backoff;
    ngx_str_t   text, *source;

    source = ngx_http_quickblox_source_name(flight->credential.source);
    backoff = ngx_http_quickblox_zone_backoff(flight->application);

    if (call == NULL) {
        ngx_log_error(NGX_LOG_ERR, flight->log, 0,
                      "quickblox application \"%V\": no API call made, %s, "
                      "source: %V, requests that need it get 503, "
                      "next call in %T s", &flight->application->name, reason,
                      source, backoff);
        return;
    }

    if (reason) {
        text.data = (u_char *) reason;
        text.len = ngx_strlen(reason);

    } else if (call->reason.len) {
        text = call->reason;

    } else {
        ngx_str_set(&text, "unexpected status");
    }

    ngx_log_error(NGX_LOG_ERR, flight->log, 0,
                  "quickblox application \"%V\": API call \"%V %V\" failed, "
                  "status %ui: %V, source: %V, host: \"%V\", "
                  "requests that need it get 503, next call in %T s",
                  &flight->application->name, &call->method_name, &call->path,
                  call->status, &text, source,
                  &flight->application->host_header, backoff);
}


/* the API is well, whether it likes what it was asked or not */

static void
ngx_http_quickblox_flight_answers(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_call_t *call, ngx_uint_t outcome)
{
    call->outcome = outcome;

    if (ngx_http_quickblox_zone_succeeded(flight->application)
        == NGX_HTTP_QUICKBLOX_LOG_END)
    {
        ngx_log_error(NGX_LOG_ERR, flight->log, 0,
                      "quickblox application \"%V\": the API answers again, "
                      "source: %V, requests are served",
                      &flight->application->name,
                      ngx_http_quickblox_source_name(
                                                 flight->credential.source));
    }
}


/* the waiting requests go on from events of their own */

static void
ngx_http_quickblox_flight_finish(ngx_http_quickblox_flight_t *flight,
    ngx_http_quickblox_result_e result, ngx_http_quickblox_session_t *session,
    time_t retry_after, const char *error)
{
    ngx_queue_t               *q;
    ngx_http_quickblox_ctx_t  *ctx;

    while (!ngx_queue_empty(&flight->waiters)) {

        q = ngx_queue_head(&flight->waiters);

        /* clang-tidy takes the next head for the one that was removed */
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
        ngx_queue_remove(q);

        ctx = ngx_queue_data(q, ngx_http_quickblox_ctx_t, queue);

        ctx->flight = NULL;
        ctx->result = result;
        ctx->retry_after = ngx_max(retry_after, 1);
        ctx->error = error;

        if (session
            && ngx_http_quickblox_flight_share(ctx->request, ctx, session)
               != NGX_OK)
        {
            ctx->result = NGX_HTTP_QUICKBLOX_RESULT_FAILED;
            ctx->error = "out of memory";
        }

        if (ctx->event.timer_set) {
            ngx_del_timer(&ctx->event);
        }

        ngx_post_event(&ctx->event, &ngx_posted_events);
    }

    ngx_http_quickblox_flight_free(flight);
}


ngx_int_t
ngx_http_quickblox_flight_share(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_session_t *session)
{
    ngx_str_t           *token;
    ngx_pool_cleanup_t  *cln;

    token = &ctx->credential.token;

    if (!ngx_http_quickblox_is_brought(ctx->credential.source)) {

        /* a replay has another one, while subrequests may have the first */

        cln = ngx_pool_cleanup_add(r->pool,
                                   sizeof(ngx_str_t) + session->token.len);
        if (cln == NULL) {
            return NGX_ERROR;
        }

        token = cln->data;
        token->len = session->token.len;
        token->data = (u_char *) token + sizeof(ngx_str_t);
        ngx_memcpy(token->data, session->token.data, token->len);

        cln->handler = ngx_http_quickblox_flight_forget;
    }

    ctx->session = *session;
    ctx->session.token = *token;

    return NGX_OK;
}


static void
ngx_http_quickblox_flight_forget(void *data)
{
    ngx_str_t *token = data;

    ngx_explicit_memzero(token->data, token->len);
}


/*
 * The API has been asked to end a session that a client brought.  Look-ups in
 * the meantime may have recorded it again, and if the API has not heard of the
 * end, the cookie must not come alive again with it: it is remembered as dead
 * for as long as the session lasts without use.
 */

void
ngx_http_quickblox_flight_closed(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, ngx_uint_t told)
{
    if (!ngx_http_quickblox_is_brought(credential->source)) {
        return;
    }

    (void) ngx_http_quickblox_zone_drop(app, credential, 0);

    if (!told && credential->source == NGX_HTTP_QUICKBLOX_SOURCE_COOKIE) {
        (void) ngx_http_quickblox_zone_reject(app, credential, 0, 0,
                                              app->session_lifetime);
    }
}
