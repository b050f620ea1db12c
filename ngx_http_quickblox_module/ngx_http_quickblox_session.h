
#ifndef _NGX_HTTP_QUICKBLOX_SESSION_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_SESSION_H_INCLUDED_


#include "ngx_http_quickblox_module.h"


/* how to find a session */

typedef enum {
    NGX_HTTP_QUICKBLOX_GET = 0,
    NGX_HTTP_QUICKBLOX_GET_AGAIN,  /* ask, though it is still trusted */
    NGX_HTTP_QUICKBLOX_GET_ANEW,   /* and though it was just asked about */
    NGX_HTTP_QUICKBLOX_GET_HELD,   /* make none: RESULT_REJECTED instead */
    NGX_HTTP_QUICKBLOX_GET_KNOWN   /* nor ask, though it may have ended */
} ngx_http_quickblox_get_e;


/*
 * Finds the session of ctx->credential: in the zone, or by asking the API,
 * one call for all requests and workers that need it.
 *
 * NGX_OK     ctx->result, ctx->status and, of a session, ctx->session are
 *            set; with RESULT_FAILED ctx->retry_after and ctx->error, too
 * NGX_AGAIN  the request waits, watching for its client to go away; later
 *            ctx->resume(r) is called, once, with the same fields set
 * NGX_ERROR  memory is short
 */

ngx_int_t ngx_http_quickblox_session_get(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_get_e how);


/*
 * Asks the API for this request alone: nothing is looked up and nothing
 * recorded, but for the end of a client's session that is to be downgraded or
 * destroyed, whether the API does so or not.  The credential says what with:
 * login or email and password of SOURCE_BASIC, nothing of SOURCE_APPLICATION,
 * and the token that is to be upgraded, downgraded or destroyed.  Returns as
 * ngx_http_quickblox_session_get() does; RESULT_REFUSED is a wrong login.
 */

ngx_int_t ngx_http_quickblox_session_ask(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_ask_e ask);


/*
 * Records ctx->session, which the API has just told of, as that of
 * ctx->credential, whose token the client will bring.
 */

void ngx_http_quickblox_session_learn(ngx_http_quickblox_ctx_t *ctx);


/*
 * Ends a request's waiting, if it does wait, and takes back its event, whoever
 * has posted it; for its cleanup.
 */

void ngx_http_quickblox_session_cancel(ngx_http_quickblox_ctx_t *ctx);


/*
 * An upstream has answered that the session of the request is gone: it is
 * dropped if it is still this one, and the listener of the location is told,
 * once.  NGX_OK, or NGX_DONE if it was dropped before, or NGX_DECLINED when a
 * session held must not be made anew yet, as the last ones were not accepted
 * either.
 */

ngx_int_t ngx_http_quickblox_session_expired(ngx_http_quickblox_ctx_t *ctx);


/*
 * The request's session ends by its own wish: it is dropped, whichever it is,
 * in all workers.
 */

void ngx_http_quickblox_session_end(ngx_http_quickblox_ctx_t *ctx);


/* the request's session may be gone: it is validated before its next use */

void ngx_http_quickblox_session_suspect(ngx_http_quickblox_ctx_t *ctx);


/* an upstream has accepted the session of the request */

void ngx_http_quickblox_session_accepted(ngx_http_quickblox_ctx_t *ctx);


/*
 * What is known of the request's session is no longer so (its user has logged
 * in or out): a validation is dropped in all workers, a session held becomes
 * suspect.
 */

void ngx_http_quickblox_session_forget(ngx_http_quickblox_ctx_t *ctx);


/*
 * Takes a new expiry from a QB-Token-ExpirationDate, if it is one to be
 * believed: in the future and no further off than session_lifetime and an
 * hour.
 */

void ngx_http_quickblox_session_slide(ngx_http_quickblox_ctx_t *ctx,
    ngx_str_t *date);


#endif /* _NGX_HTTP_QUICKBLOX_SESSION_H_INCLUDED_ */
