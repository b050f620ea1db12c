
/*
 * What a client sends to log in: pure functions that know nothing of
 * requests, pools and connections.
 */


#ifndef _NGX_HTTP_QUICKBLOX_LOGIN_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_LOGIN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* the strings are in the caller's buffer; one that was not sent has no data */

typedef struct {
    ngx_str_t                login;
    ngx_str_t                email;
    ngx_str_t                password;
    ngx_str_t                token;
    ngx_str_t                redirect;
} ngx_http_quickblox_login_t;


/*
 * Reads the body of a login, a JSON object or a form as "json" says.  The
 * values are copied to buf, which has room for body->len + 1 bytes and which
 * the caller cleanses; names that are not known are skipped.  An empty body
 * is an object without members.
 *
 * NGX_OK; NGX_ERROR when it is malformed: no JSON object to
 * ngx_http_quickblox_json_parse(), a value that is no string, a form with a
 * broken escape or an escaped NUL, a name that is known twice; NGX_ABORT when
 * there is no memory to tell.
 */

ngx_int_t ngx_http_quickblox_login_parse(ngx_str_t *body, ngx_uint_t json,
    u_char *buf, ngx_http_quickblox_login_t *login);


/*
 * Reads the credentials of "Authorization: Basic ..." (RFC 7617): value is
 * what follows the scheme and its blanks.  Login and password are copied to
 * buf, which has room for value->len bytes and which the caller cleanses.
 *
 * NGX_OK; NGX_ERROR when they are no base64 (padding may be missing), have no
 * colon, an empty login or password, or control bytes, which RFC 7617
 * forbids.
 */

ngx_int_t ngx_http_quickblox_login_basic(ngx_str_t *value, u_char *buf,
    ngx_http_quickblox_login_t *login);


/*
 * Tells whether a client may be sent to a target: a path of this host, that
 * is one "/" and no second one or "\" after it, and nowhere "\", a control
 * byte, a blank or a byte above 0x7e, as a browser may drop or turn those
 * (WHATWG URL standard, 4.4).  1 or 0.
 */

ngx_uint_t ngx_http_quickblox_login_target(ngx_str_t *target);


#endif /* _NGX_HTTP_QUICKBLOX_LOGIN_H_INCLUDED_ */
