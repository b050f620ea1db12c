
#ifndef _NGX_HTTP_QUICKBLOX_ORIGIN_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_ORIGIN_H_INCLUDED_


#include "ngx_http_quickblox_module.h"


/*
 * Tells whether a request does nothing: GET, HEAD or OPTIONS, and no upgrade,
 * which a page of any origin may ask for, too.  1 or 0.
 */

ngx_uint_t ngx_http_quickblox_origin_safe(ngx_http_request_t *r);


/*
 * Tells whether a request comes from a page that "quickblox_origin" names, or
 * from no page: by its Origin (RFC 6454, 7), or without one its Sec-Fetch-Site
 * (Fetch Metadata, 2.3).  1 or 0.
 */

ngx_uint_t ngx_http_quickblox_origin_allowed(ngx_http_request_t *r,
    ngx_http_quickblox_loc_conf_t *conf);


/*
 * Tells whether a page's script made a request, as far as that can be seen: no
 * browser should open its password window over it.  1 or 0.
 */

ngx_uint_t ngx_http_quickblox_origin_script(ngx_http_request_t *r);


/* the handler of "quickblox_origin" */

char *ngx_http_quickblox_origins(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


#endif /* _NGX_HTTP_QUICKBLOX_ORIGIN_H_INCLUDED_ */
