
#ifndef _NGX_HTTP_QUICKBLOX_HEADER_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_HEADER_H_INCLUDED_


#include "ngx_http_quickblox_module.h"


/* compares a header's name, "-" being "_" and case ignored; 1 or 0 */

ngx_uint_t ngx_http_quickblox_header_is(ngx_str_t *key, ngx_str_t *name);


/* tells whether an Authorization is "Basic ..."; 1 or 0 */

ngx_uint_t ngx_http_quickblox_header_is_basic(ngx_str_t *value);


/*
 * Removes from the request's header list every copy of what a client must not
 * say for itself under this location's configuration, and adds what the
 * session or the API key gives, if the request has been granted one.  The
 * client's own list is kept in ctx for ngx_http_quickblox_header_restore().
 *
 * A subrequest gets a list of its own.  NGX_OK or NGX_ERROR (memory).
 */

ngx_int_t ngx_http_quickblox_header_apply(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_loc_conf_t *conf,
    ngx_uint_t granted);


/* gives the request back the list that the client sent */

void ngx_http_quickblox_header_restore(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);


/*
 * Cleanses, at the end of the request, the passwords that the client sent in
 * Authorization, and the one that nginx has decoded for $remote_user.
 */

void ngx_http_quickblox_header_cleanse(ngx_http_request_t *r);


#endif /* _NGX_HTTP_QUICKBLOX_HEADER_H_INCLUDED_ */
