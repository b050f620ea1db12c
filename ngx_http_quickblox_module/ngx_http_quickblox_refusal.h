
#ifndef _NGX_HTTP_QUICKBLOX_REFUSAL_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_REFUSAL_H_INCLUDED_


#include "ngx_http_quickblox_module.h"


/* why a client is refused; each has its status and text */

typedef enum {
    NGX_HTTP_QUICKBLOX_REFUSE_AMBIGUOUS = 0,
    NGX_HTTP_QUICKBLOX_REFUSE_NO_TOKEN,
    NGX_HTTP_QUICKBLOX_REFUSE_EXPIRED,
    NGX_HTTP_QUICKBLOX_REFUSE_FOREIGN,
    NGX_HTTP_QUICKBLOX_REFUSE_NEED_USER,
    NGX_HTTP_QUICKBLOX_REFUSE_FORBIDDEN,
    NGX_HTTP_QUICKBLOX_REFUSE_UNAVAILABLE
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


#endif /* _NGX_HTTP_QUICKBLOX_REFUSAL_H_INCLUDED_ */
