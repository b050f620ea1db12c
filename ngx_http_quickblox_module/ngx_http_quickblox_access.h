
#ifndef _NGX_HTTP_QUICKBLOX_ACCESS_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_ACCESS_H_INCLUDED_


#include "ngx_http_quickblox_module.h"


/*
 * The handler of the access phase decides: it finds the request's credential
 * and its session, and grants or refuses.
 */

ngx_int_t ngx_http_quickblox_access_handler(ngx_http_request_t *r);


/*
 * The handler of the precontent phase applies the decision to the request's
 * headers; it runs also where another module has granted under "satisfy any",
 * and for subrequests, which no access phase sees.
 */

ngx_int_t ngx_http_quickblox_precontent_handler(ngx_http_request_t *r);


/*
 * The handler of both rewrite phases gives a request that has come to another
 * location, and a subrequest, the header list that the client sent.
 */

ngx_int_t ngx_http_quickblox_rewrite_handler(ngx_http_request_t *r);


/*
 * The handler of the log phase: a log of $http_... is of what the client
 * sent, never of what was injected.
 */

ngx_int_t ngx_http_quickblox_log_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_QUICKBLOX_ACCESS_H_INCLUDED_ */
