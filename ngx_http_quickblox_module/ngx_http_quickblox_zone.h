
/*
 * The memory that all workers share: validations of clients' tokens and the
 * sessions that the gateway holds, each in a table of its own, and the state
 * of each application.  Nothing outside knows that it is shared memory; each
 * function locks for itself, and none logs while it does.
 */


#ifndef _NGX_HTTP_QUICKBLOX_ZONE_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_ZONE_H_INCLUDED_


#include "ngx_http_quickblox_module.h"


/* to be raised whenever the bytes of the zone mean something else */
#define NGX_HTTP_QUICKBLOX_LAYOUT       2


/* what a look-up finds */

typedef enum {
    NGX_HTTP_QUICKBLOX_ZONE_HIT = 0,
    NGX_HTTP_QUICKBLOX_ZONE_STALE,
    NGX_HTTP_QUICKBLOX_ZONE_REJECTED,
    NGX_HTTP_QUICKBLOX_ZONE_FOREIGN,
    NGX_HTTP_QUICKBLOX_ZONE_WAIT,
    NGX_HTTP_QUICKBLOX_ZONE_CLAIMED,
    NGX_HTTP_QUICKBLOX_ZONE_BACKOFF,
    NGX_HTTP_QUICKBLOX_ZONE_NONE
} ngx_http_quickblox_zone_e;


typedef struct {
    ngx_http_quickblox_session_t       session;
    ngx_http_quickblox_ask_e           ask;
    uint32_t                           lease;    /* 0: not recorded */
    time_t                             retry_after;
    u_char                             token[NGX_HTTP_QUICKBLOX_TOKEN_MAX];
} ngx_http_quickblox_found_t;


/* what a failure of the API, or its end, is worth in the error log */

typedef enum {
    NGX_HTTP_QUICKBLOX_LOG_NOTHING = 0,
    NGX_HTTP_QUICKBLOX_LOG_START,
    NGX_HTTP_QUICKBLOX_LOG_AGAIN,
    NGX_HTTP_QUICKBLOX_LOG_END
} ngx_http_quickblox_log_e;


/*
 * Adds the shared memory zone of an application, once for each name; size is
 * 0 where another application gives it.  NULL on error (logged).
 */

ngx_shm_zone_t *ngx_http_quickblox_zone_add(ngx_conf_t *cf, ngx_str_t *name,
    size_t size, ngx_http_quickblox_application_t *app);


/* how to look up */

/*
 * ask though the session is trusted, unless checked within cache_invalid; one
 * held is trusted all the same while the API must not be called
 */
#define NGX_HTTP_QUICKBLOX_ZONE_FORCE     1

/* leave the renewal of a session held to somebody else */
#define NGX_HTTP_QUICKBLOX_ZONE_NO_RENEW  2

/* make no session where none is held: NONE, and no claim */
#define NGX_HTTP_QUICKBLOX_ZONE_NO_CREATE 4

/* trust a session held, though it may have ended */
#define NGX_HTTP_QUICKBLOX_ZONE_KNOWN     8

/* with FORCE: also within cache_invalid */
#define NGX_HTTP_QUICKBLOX_ZONE_ANEW     16


/*
 * Looks a session up and, where the API has to be asked, claims it for the
 * caller in the same critical section, so that one asks at a time.
 *
 * HIT, STALE          found->session; its token points to found->token, or
 *                     to the client's.  With HIT, found->ask is set when the
 *                     caller has to renew the session in the background.
 * REJECTED, FOREIGN   a rejection that is remembered
 * WAIT                another asks, under found->lease
 * CLAIMED             the caller asks what found->ask says and then calls
 *                     _store(), _reject() or _release() with found->lease;
 *                     of ASK_VALIDATE, found->session has the token
 * BACKOFF             the API must not be called for found->retry_after
 *                     seconds (at least 1)
 * NONE                there is no session held, with NO_CREATE, or only a
 *                     login would tell
 *
 * The caller cleanses *found with ngx_http_quickblox_zone_cleanse().
 */

ngx_http_quickblox_zone_e ngx_http_quickblox_zone_get(
    ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, ngx_uint_t flags,
    ngx_http_quickblox_found_t *found);


/* cleanses the token that a look-up found, where it is a copy */

void ngx_http_quickblox_zone_cleanse(ngx_http_quickblox_found_t *found);


/*
 * Records what the API said of a session: of a client's that it is valid, of
 * one held its token, too (session->token), where it was "created" and not
 * validated.  Sets session->generation, ->checked and ->proved.  A session
 * that was dropped in the meantime, or claimed by another, is not recorded.
 */

void ngx_http_quickblox_zone_store(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t lease,
    ngx_http_quickblox_session_t *session, ngx_uint_t created);


/*
 * Remembers for so many seconds that a client's token is none of ours, or that
 * its login is wrong; lease 0 is for what has not been looked up.  Returns 1
 * when a session ends with it that was known, else 0.
 */

ngx_uint_t ngx_http_quickblox_zone_reject(
    ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t lease,
    ngx_uint_t foreign, time_t valid);


/*
 * A session held has ended, as is found under a lease, but stays until there
 * is a new one.  NGX_OK when nobody has found it out before, NGX_DONE when
 * somebody has, NGX_DECLINED when it was dropped or claimed by another.
 */

ngx_int_t ngx_http_quickblox_zone_ended(
    ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t lease);


/* gives a claim back without a result; what was known before stays */

void ngx_http_quickblox_zone_release(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t lease);


/*
 * Forgets a session: a client's validation at once, one held only if it is
 * still this generation's and a new one may be made already (who is handed
 * sessions that no upstream accepts must not make the gateway log in all the
 * time).
 *
 * NGX_OK when it is gone now, NGX_DONE when that was known before,
 * NGX_DECLINED when a session held stays.
 */

ngx_int_t ngx_http_quickblox_zone_drop(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t generation);


/* has a session validated before its next use */

void ngx_http_quickblox_zone_suspect(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t generation);


/* an upstream has accepted a session held */

void ngx_http_quickblox_zone_prove(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t generation);


/* an upstream's answer tells a session's new expiry, in Unix seconds */

void ngx_http_quickblox_zone_slide(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t generation,
    time_t expires);


/*
 * An API call that began at "started" (ngx_current_msec) has failed: nobody
 * calls for 1 s, doubling to 60 s with each further failure, or for
 * retry_after seconds if that is more than 0.
 */

ngx_http_quickblox_log_e ngx_http_quickblox_zone_failed(
    ngx_http_quickblox_application_t *app, ngx_msec_t started,
    time_t retry_after);


/* an API call has succeeded */

ngx_http_quickblox_log_e ngx_http_quickblox_zone_succeeded(
    ngx_http_quickblox_application_t *app);


/*
 * Says whether a failure that backs nobody off is worth a log line: once a
 * minute and application.
 */

ngx_http_quickblox_log_e ngx_http_quickblox_zone_odd(
    ngx_http_quickblox_application_t *app);


/* seconds that nobody may call for, 0 when everybody may */

time_t ngx_http_quickblox_zone_backoff(ngx_http_quickblox_application_t *app);


/*
 * Counts a zone's sessions and rejections in pieces: *set is 0 at first, and
 * report's numbers are, too.  NGX_AGAIN while there is more to count, NGX_OK
 * at the end, when the other numbers of the zone are set as well.
 */

ngx_int_t ngx_http_quickblox_zone_count(ngx_shm_zone_t *shm_zone,
    ngx_uint_t *set, ngx_http_quickblox_report_zone_t *report);


/* seconds to add to this machine's clock to have the API's */

time_t ngx_http_quickblox_zone_clock(ngx_http_quickblox_application_t *app);
void ngx_http_quickblox_zone_set_clock(ngx_http_quickblox_application_t *app,
    time_t offset);


#endif /* _NGX_HTTP_QUICKBLOX_ZONE_H_INCLUDED_ */
