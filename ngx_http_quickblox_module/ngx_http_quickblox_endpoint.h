
#ifndef _NGX_HTTP_QUICKBLOX_ENDPOINT_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_ENDPOINT_H_INCLUDED_


#include "ngx_http_quickblox_module.h"


/*
 * The content handler of "quickblox_login", "quickblox_logout",
 * "quickblox_check" and "quickblox_status", which the location's configuration
 * tells apart.
 */

ngx_int_t ngx_http_quickblox_endpoint_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_QUICKBLOX_ENDPOINT_H_INCLUDED_ */
