
#ifndef _NGX_HTTP_QUICKBLOX_VARIABLE_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_VARIABLE_H_INCLUDED_


#include "ngx_http_quickblox_module.h"


/* adds the $quickblox_... variables; NGX_OK or NGX_ERROR */

ngx_int_t ngx_http_quickblox_add_variables(ngx_conf_t *cf);


/*
 * nginx keeps the value of an $http_... or $cookie_... variable for the rest
 * of the request and its subrequests.  That of a header or a cookie which the
 * module adds or removes must be looked up anew, else a location that is not
 * protected could see an injected token, or an upstream a sealed cookie.  name
 * is the header's or the cookie's.  NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_http_quickblox_add_header_variable(ngx_conf_t *cf,
    ngx_str_t *name);
ngx_int_t ngx_http_quickblox_add_cookie_variable(ngx_conf_t *cf,
    ngx_str_t *name);


/*
 * Evaluates what depends on the session, or on whom another access module has
 * vouched for, at this point of the request: a "map" that was asked before is
 * asked again.  NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_http_quickblox_value_anew(ngx_http_request_t *r,
    ngx_http_complex_value_t *cv, ngx_str_t *value);


#endif /* _NGX_HTTP_QUICKBLOX_VARIABLE_H_INCLUDED_ */
