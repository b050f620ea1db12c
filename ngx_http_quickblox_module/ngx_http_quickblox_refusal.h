
#ifndef _NGX_HTTP_QUICKBLOX_REFUSAL_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_REFUSAL_H_INCLUDED_


#include "ngx_http_quickblox_module.h"


/* why a client is refused; each has its status and text */

typedef enum {
    NGX_HTTP_QUICKBLOX_REFUSE_AMBIGUOUS = 0,
    NGX_HTTP_QUICKBLOX_REFUSE_NO_TOKEN,
    NGX_HTTP_QUICKBLOX_REFUSE_EXPIRED,
    NGX_HTTP_QUICKBLOX_REFUSE_UNAUTHORIZED,
    NGX_HTTP_QUICKBLOX_REFUSE_FOREIGN,
    NGX_HTTP_QUICKBLOX_REFUSE_NEED_USER,
    NGX_HTTP_QUICKBLOX_REFUSE_FORBIDDEN,
    NGX_HTTP_QUICKBLOX_REFUSE_UNAVAILABLE,
    NGX_HTTP_QUICKBLOX_REFUSE_MALFORMED,
    NGX_HTTP_QUICKBLOX_REFUSE_METHOD,
    NGX_HTTP_QUICKBLOX_REFUSE_TOO_LARGE,
    NGX_HTTP_QUICKBLOX_REFUSE_MEDIA_TYPE
} ngx_http_quickblox_refusal_e;


/*
 * Refuses a request in QuickBlox's own shape, so that its SDKs understand it,
 * or leaves it to nginx where the location has an "error_page" for the status
 * or other access modules may yet grant.  ctx->retry_after is told with 503.
 *
 * NGX_DONE when the request has been answered and finalized, else a status
 * to return from an access handler or to finalize the request with.
 */

ngx_int_t ngx_http_quickblox_refuse(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_e refusal);


/* why a look-up with a result other than RESULT_OK refuses the client */

ngx_http_quickblox_refusal_e ngx_http_quickblox_refusal(
    ngx_http_quickblox_ctx_t *ctx);


/*
 * Adds a header to the response.  The name is a constant string, the value is
 * in r->pool or longer-lived.  NULL when memory is short.
 */

ngx_table_elt_t *ngx_http_quickblox_add_header(ngx_http_request_t *r,
    const char *name, ngx_str_t *value);


/*
 * Adds a Set-Cookie that sets the application's cookie to a value, or clears
 * it where value is NULL.  NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_http_quickblox_set_cookie(ngx_http_request_t *r,
    ngx_http_quickblox_application_t *app, ngx_str_t *value);


#endif /* _NGX_HTTP_QUICKBLOX_REFUSAL_H_INCLUDED_ */
