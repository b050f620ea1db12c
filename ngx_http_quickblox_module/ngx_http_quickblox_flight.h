
#ifndef _NGX_HTTP_QUICKBLOX_FLIGHT_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_FLIGHT_H_INCLUDED_


#include "ngx_http_quickblox_module.h"
#include "ngx_http_quickblox_zone.h"


/* ms between two looks at what another worker asks, as proxy_cache_lock */
#define NGX_HTTP_QUICKBLOX_POLL  25


/*
 * A look-up under way, in this worker or, if it polls, in another one.  It
 * has the requests that wait for it, or none when it renews a session in the
 * background or they all have gone away.  One that is single looks nothing up
 * and leaves nothing in the zone.
 */

struct ngx_http_quickblox_flight_s {
    ngx_queue_t                        queue;
    ngx_queue_t                        waiters;
    ngx_pool_t                        *pool;
    ngx_http_quickblox_application_t  *application;
    ngx_http_quickblox_credential_t    credential;
    ngx_str_t                          token;     /* to be asked about */
    uint64_t                           user_id;   /* of it, if known */
    time_t                             expires;
    uint32_t                           generation;
    ngx_http_quickblox_ask_e           ask;
    uint32_t                           lease;
    ngx_msec_t                         deadline;
    ngx_event_t                        poll;
    ngx_event_t                        turn;
    ngx_log_t                         *log;
    ngx_http_conf_ctx_t                conf_ctx;

    ngx_uint_t                         flags;     /* of the look-up; without
                                                     NO_CREATE if one waits
                                                     who needs a session */

    unsigned                           single:1;  /* of one request alone */
    unsigned                           polling:1;
    unsigned                           turned:1;  /* has waited */
    unsigned                           retried:1;
    unsigned                           renews:1;  /* in the background */
    unsigned                           clock_set:1;
};


/* calls at the end of which there is no session of a user any more */

#define ngx_http_quickblox_flight_closes(ask)                                \
    ((ask) == NGX_HTTP_QUICKBLOX_ASK_DOWNGRADE                               \
     || (ask) == NGX_HTTP_QUICKBLOX_ASK_DESTROY)


/* what a rejection says: a token is none, or a login is wrong */

#define ngx_http_quickblox_rejected(source)                                  \
    (ngx_http_quickblox_is_people(source)                                    \
     ? NGX_HTTP_QUICKBLOX_RESULT_REFUSED : NGX_HTTP_QUICKBLOX_RESULT_REJECTED)


/*
 * The flight of this worker that a request may wait for: the one that holds
 * the lease, or one that polls.  NULL when there is none.
 */

ngx_http_quickblox_flight_t *ngx_http_quickblox_flight_find(
    ngx_http_request_t *r, ngx_http_quickblox_ctx_t *ctx, uint32_t lease);


/*
 * Makes the flight of what has been claimed, or with found NULL one that
 * polls, with a pool of its own: the credential is copied, as the request may
 * go away before.  It frees itself at its end.  NULL when memory is short.
 */

ngx_http_quickblox_flight_t *ngx_http_quickblox_flight_create(
    ngx_http_request_t *r, ngx_http_quickblox_ctx_t *ctx,
    ngx_http_quickblox_found_t *found);


/*
 * Asks the API, or waits for its turn to do so where too many calls are under
 * way: those who wait for it then wait for lock_timeout at most.  They are
 * told in events of their own, never from within.
 */

void ngx_http_quickblox_flight_start(ngx_http_quickblox_flight_t *flight);


/*
 * Gives a request its copy of a session; the token of one held is copied to
 * r->pool, and cleansed at its end.  NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_http_quickblox_flight_share(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_session_t *session);


/*
 * The API has been asked to end a session that a client brought, and "told" is
 * 1 if it has heard of it.
 */

void ngx_http_quickblox_flight_closed(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, ngx_uint_t told);


#endif /* _NGX_HTTP_QUICKBLOX_FLIGHT_H_INCLUDED_ */
