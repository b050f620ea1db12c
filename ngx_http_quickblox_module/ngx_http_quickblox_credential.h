
#ifndef _NGX_HTTP_QUICKBLOX_CREDENTIAL_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_CREDENTIAL_H_INCLUDED_


#include "ngx_http_quickblox_module.h"
#include "ngx_http_quickblox_refusal.h"


/* makes a request's state that of one that has just come to a location */

void ngx_http_quickblox_credential_reset(ngx_http_quickblox_ctx_t *ctx,
    ngx_http_quickblox_loc_conf_t *conf);


/*
 * Finds the request's credential in the sources of its location: the first
 * that the request or the configuration has credentials for decides.  What is
 * copied of it is in r->pool.
 *
 * NGX_OK with ctx->credential, or NGX_ABORT with *refusal where the client has
 * none or a bad one, or NGX_ERROR.
 */

ngx_int_t ngx_http_quickblox_credential_get(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_e *refusal);


/*
 * Makes a token that a client may bring the request's credential: source is
 * CLIENT or COOKIE.  NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_http_quickblox_credential_set_token(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_uint_t source, ngx_str_t *token);


/*
 * Logs what OpenSSL has failed to do.  Errors left in its queue would be told
 * of another connection.
 */

void ngx_http_quickblox_credential_failed(ngx_http_request_t *r,
    ngx_http_quickblox_application_t *app, const char *what);


/* cleanses what is a copy and a secret */

void ngx_http_quickblox_credential_cleanse(
    ngx_http_quickblox_credential_t *credential);


#endif /* _NGX_HTTP_QUICKBLOX_CREDENTIAL_H_INCLUDED_ */
