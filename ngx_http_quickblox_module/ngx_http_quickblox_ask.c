
#include "ngx_http_quickblox_ask.h"
#include "ngx_http_quickblox_zone.h"

#include <openssl/rand.h>


static ngx_int_t ngx_http_quickblox_ask_token(ngx_http_quickblox_call_t *call,
    ngx_str_t *token);
static ngx_int_t ngx_http_quickblox_ask_create(ngx_http_quickblox_call_t *call,
    ngx_http_quickblox_credential_t *credential);
static ngx_int_t ngx_http_quickblox_ask_user_token(
    ngx_http_quickblox_call_t *call,
    ngx_http_quickblox_credential_t *credential);
static ngx_int_t ngx_http_quickblox_ask_upgrade(
    ngx_http_quickblox_call_t *call,
    ngx_http_quickblox_credential_t *credential);


ngx_int_t
ngx_http_quickblox_ask(ngx_http_quickblox_call_t *call,
    ngx_http_quickblox_ask_e ask, ngx_http_quickblox_credential_t *credential,
    ngx_str_t *token)
{
    ngx_str_set(&call->path, "/session.json");

    switch (ask) {

    case NGX_HTTP_QUICKBLOX_ASK_VALIDATE:
        call->method = NGX_HTTP_GET;
        ngx_str_set(&call->method_name, "GET");
        break;

    case NGX_HTTP_QUICKBLOX_ASK_DOWNGRADE:
        ngx_str_set(&call->path, "/login.json");

        /* fall through */

    case NGX_HTTP_QUICKBLOX_ASK_DESTROY:
        call->method = NGX_HTTP_DELETE;
        ngx_str_set(&call->method_name, "DELETE");
        break;

    default: /* CREATE, UPGRADE */
        call->method = NGX_HTTP_POST;
        ngx_str_set(&call->method_name, "POST");
    }

    if (ask == NGX_HTTP_QUICKBLOX_ASK_CREATE) {
        return credential->source == NGX_HTTP_QUICKBLOX_SOURCE_USER_TOKEN
               ? ngx_http_quickblox_ask_user_token(call, credential)
               : ngx_http_quickblox_ask_create(call, credential);
    }

    if (ask == NGX_HTTP_QUICKBLOX_ASK_UPGRADE
        && ngx_http_quickblox_ask_upgrade(call, credential) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_quickblox_ask_token(call, token);
}


static ngx_int_t
ngx_http_quickblox_ask_token(ngx_http_quickblox_call_t *call, ngx_str_t *token)
{
    call->token.data = ngx_pstrdup(call->pool, token);
    if (call->token.data == NULL) {
        return NGX_ERROR;
    }

    call->token.len = token->len;

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_ask_create(ngx_http_quickblox_call_t *call,
    ngx_http_quickblox_credential_t *credential)
{
    time_t                             now;
    uint32_t                           nonce;
    u_char                             number[NGX_INT32_LEN];
    u_char                             stamp[NGX_TIME_T_LEN];
    ngx_http_quickblox_create_t        p;
    ngx_http_quickblox_application_t  *app;

    app = call->application;

    if (RAND_bytes((u_char *) &nonce, sizeof(nonce)) != 1) {
        return NGX_ERROR;
    }

    now = ngx_time() + ngx_http_quickblox_zone_clock(app);

    ngx_memzero(&p, sizeof(ngx_http_quickblox_create_t));

    p.application_id = app->id;
    p.auth_key = app->auth_key;
    p.auth_secret = app->auth_secret;
    p.signature = app->signature;

    p.nonce.data = number;
    p.nonce.len = ngx_sprintf(number, "%uD", nonce & 0x7fffffff) - number;

    p.timestamp.data = stamp;
    p.timestamp.len = ngx_sprintf(stamp, "%T", now) - stamp;

    switch (credential->source) {

    case NGX_HTTP_QUICKBLOX_SOURCE_USER:
        p.login = app->login;
        p.email = app->email;
        p.password = app->password;
        break;

    case NGX_HTTP_QUICKBLOX_SOURCE_BASIC:
        p.login = credential->login;
        p.email = credential->email;
        p.password = credential->password;
    }

    call->body.data = ngx_pnalloc(call->pool,
                                  ngx_http_quickblox_create_size(&p));
    if (call->body.data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_quickblox_create_body(&p, &call->body);
}


static ngx_int_t
ngx_http_quickblox_ask_user_token(ngx_http_quickblox_call_t *call,
    ngx_http_quickblox_credential_t *credential)
{
    u_char  *p;

    p = ngx_pnalloc(call->pool, sizeof("/users//tokens") - 1 + NGX_INT64_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    call->path.data = p;
    call->path.len = ngx_sprintf(p, "/users/%uL/tokens", credential->user_id)
                     - p;
    call->api_key = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_ask_upgrade(ngx_http_quickblox_call_t *call,
    ngx_http_quickblox_credential_t *credential)
{
    ngx_http_quickblox_create_t  p;

    ngx_memzero(&p, sizeof(ngx_http_quickblox_create_t));

    p.login = credential->login;
    p.email = credential->email;
    p.password = credential->password;

    ngx_str_set(&call->path, "/login.json");

    call->body.data = ngx_pnalloc(call->pool,
                                  ngx_http_quickblox_login_size(&p));
    if (call->body.data == NULL) {
        return NGX_ERROR;
    }

    ngx_http_quickblox_login_body(&p, &call->body);

    return NGX_OK;
}
