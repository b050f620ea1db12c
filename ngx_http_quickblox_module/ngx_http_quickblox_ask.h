
#ifndef _NGX_HTTP_QUICKBLOX_ASK_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_ASK_H_INCLUDED_


#include "ngx_http_quickblox_api.h"


/*
 * Fills in what a call asks of the API (page "authentication"):
 *
 *   VALIDATE   GET /session.json of the token
 *   CREATE     POST /session.json, signed, of the application's own user, of
 *              nobody (SOURCE_APPLICATION) or of the credential's login; or
 *              POST /users/{id}/tokens with the API key (SOURCE_USER_TOKEN)
 *   UPGRADE    POST /login.json of the token, with the credential's login
 *   DOWNGRADE  DELETE /login.json of the token
 *   DESTROY    DELETE /session.json of the token
 *
 * All is copied to call->pool.  NGX_OK, or NGX_ERROR when memory is short or
 * OpenSSL failed.
 */

ngx_int_t ngx_http_quickblox_ask(ngx_http_quickblox_call_t *call,
    ngx_http_quickblox_ask_e ask, ngx_http_quickblox_credential_t *credential,
    ngx_str_t *token);


#endif /* _NGX_HTTP_QUICKBLOX_ASK_H_INCLUDED_ */
