
#include "ngx_http_quickblox_credential.h"
#include "ngx_http_quickblox_header.h"
#include "ngx_http_quickblox_json.h"
#include "ngx_http_quickblox_login.h"
#include "ngx_http_quickblox_variable.h"


/* of cookies with one name, so many are looked at */
#define NGX_HTTP_QUICKBLOX_COOKIES  4


typedef ngx_int_t (*ngx_http_quickblox_credential_read_pt)(ngx_str_t *value,
    ngx_str_t *found);


static ngx_int_t ngx_http_quickblox_credential_client(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_e *refusal);
static ngx_int_t ngx_http_quickblox_credential_token(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_e *refusal);
static ngx_int_t ngx_http_quickblox_credential_header(ngx_http_request_t *r,
    ngx_str_t *header, ngx_http_quickblox_credential_read_pt read,
    ngx_str_t *value);
static ngx_int_t ngx_http_quickblox_credential_basic(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_e *refusal);
static ngx_int_t ngx_http_quickblox_credential_basic_value(ngx_str_t *value,
    ngx_str_t *found);
static ngx_int_t ngx_http_quickblox_credential_cookie(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_e *refusal);
static ngx_int_t ngx_http_quickblox_credential_open(ngx_http_request_t *r,
    ngx_http_quickblox_cookie_t *cookie,
    ngx_http_quickblox_sealed_t *sealed);
static ngx_int_t ngx_http_quickblox_credential_open_header(
    ngx_http_quickblox_cookie_t *cookie, ngx_str_t *header, ngx_uint_t *n,
    ngx_uint_t *opened, ngx_http_quickblox_sealed_t *sealed);
static ngx_int_t ngx_http_quickblox_credential_user(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_e *refusal);
static ngx_int_t ngx_http_quickblox_credential_key(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, EVP_MD_CTX *start, ngx_str_t *parts,
    ngx_uint_t n);


static ngx_str_t  ngx_http_quickblox_qb_token = ngx_string("QB-Token");
static ngx_str_t  ngx_http_quickblox_authorization =
    ngx_string("Authorization");
static ngx_str_t  ngx_http_quickblox_cookie_header = ngx_string("Cookie");


void
ngx_http_quickblox_credential_reset(ngx_http_quickblox_ctx_t *ctx,
    ngx_http_quickblox_loc_conf_t *conf)
{
    ngx_http_quickblox_credential_cleanse(&ctx->credential);

    ngx_memzero(&ctx->credential, sizeof(ngx_http_quickblox_credential_t));
    ngx_memzero(&ctx->session, sizeof(ngx_http_quickblox_session_t));

    ctx->conf = conf;
    ctx->status = NGX_HTTP_QUICKBLOX_STATUS_NONE;
    ctx->error = NULL;
    ctx->granted = 0;
    ctx->left = 0;
    ctx->resumed = 0;
    ctx->revalidated = 0;

    ctx->credential.source = NGX_HTTP_QUICKBLOX_SOURCE_NONE;
}


void
ngx_http_quickblox_credential_cleanse(
    ngx_http_quickblox_credential_t *credential)
{
    /* a client's token is where the client or the configuration put it */

    if (credential->token.len
        && credential->source == NGX_HTTP_QUICKBLOX_SOURCE_COOKIE)
    {
        ngx_explicit_memzero(credential->token.data, credential->token.len);
    }

    if (credential->login.len) {
        ngx_explicit_memzero(credential->login.data, credential->login.len);
    }

    if (credential->email.len) {
        ngx_explicit_memzero(credential->email.data, credential->email.len);
    }

    if (credential->password.len) {
        ngx_explicit_memzero(credential->password.data,
                             credential->password.len);
    }
}


ngx_int_t
ngx_http_quickblox_credential_get(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_e *refusal)
{
    ngx_int_t                          rc;
    ngx_uint_t                         i, *source;
    ngx_http_quickblox_credential_t   *credential;
    ngx_http_quickblox_application_t  *app;

    app = ctx->conf->application;
    credential = &ctx->credential;
    source = ctx->conf->sources->elts;

    for (i = 0; i < ctx->conf->sources->nelts; i++) {

        credential->source = source[i];

        switch (source[i]) {

        case NGX_HTTP_QUICKBLOX_SOURCE_CLIENT:
            rc = ngx_http_quickblox_credential_client(r, ctx, refusal);
            break;

        case NGX_HTTP_QUICKBLOX_SOURCE_BASIC:
            rc = ngx_http_quickblox_credential_basic(r, ctx, refusal);
            break;

        case NGX_HTTP_QUICKBLOX_SOURCE_COOKIE:
            rc = ngx_http_quickblox_credential_cookie(r, ctx, refusal);
            break;

        case NGX_HTTP_QUICKBLOX_SOURCE_USER_TOKEN:
            rc = ngx_http_quickblox_credential_user(r, ctx, refusal);
            break;

        case NGX_HTTP_QUICKBLOX_SOURCE_USER:
            ngx_memcpy(credential->key, app->held[0], sizeof(app->held[0]));
            return NGX_OK;

        case NGX_HTTP_QUICKBLOX_SOURCE_APPLICATION:
            ngx_memcpy(credential->key, app->held[1], sizeof(app->held[1]));
            return NGX_OK;

        default: /* API_KEY, NONE */
            return NGX_OK;
        }

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    *refusal = NGX_HTTP_QUICKBLOX_REFUSE_NO_TOKEN;

    return NGX_ABORT;
}


/* the finders return NGX_DECLINED where the client sent nothing of the kind */

static ngx_int_t
ngx_http_quickblox_credential_client(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_e *refusal)
{
    ngx_int_t  rc;

    rc = ngx_http_quickblox_credential_token(r, ctx, refusal);

    if (rc != NGX_OK) {
        return rc;
    }

    if (!ngx_http_quickblox_token(&ctx->credential.token)) {
        *refusal = NGX_HTTP_QUICKBLOX_REFUSE_EXPIRED;
        return NGX_ABORT;
    }

    return ngx_http_quickblox_credential_set_token(r, ctx,
                                             NGX_HTTP_QUICKBLOX_SOURCE_CLIENT,
                                             &ctx->credential.token);
}


ngx_int_t
ngx_http_quickblox_credential_set_token(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_uint_t source, ngx_str_t *token)
{
    ctx->credential.source = source;
    ctx->credential.token = *token;

    return ngx_http_quickblox_credential_key(r, ctx,
                                             ctx->conf->application->client,
                                             token, 1);
}


static ngx_int_t
ngx_http_quickblox_credential_key(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, EVP_MD_CTX *start, ngx_str_t *parts,
    ngx_uint_t n)
{
    ngx_http_quickblox_main_conf_t  *qmcf;

    qmcf = ngx_http_get_module_main_conf(r, ngx_http_quickblox_module);

    if (ngx_http_quickblox_digest(qmcf->md_ctx, start, parts, n,
                                  ctx->credential.key)
        == NGX_OK)
    {
        return NGX_OK;
    }

    ngx_http_quickblox_credential_failed(r, ctx->conf->application,
                                         "no digest could be made");

    return NGX_ERROR;
}


void
ngx_http_quickblox_credential_failed(ngx_http_request_t *r,
    ngx_http_quickblox_application_t *app, const char *what)
{
    ngx_uint_t     level;
    static time_t  told;

    level = ngx_http_quickblox_log_level(NGX_LOG_CRIT, &told);

    ngx_ssl_error(level, r->connection->log, 0,
                  "quickblox application \"%V\": %s, the request gets 500",
                  &app->name, what);
}


static ngx_int_t
ngx_http_quickblox_credential_token(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_e *refusal)
{
    ngx_int_t                    rc;
    ngx_str_t                    value, *token, ignored;
    ngx_uint_t                   i;
    ngx_http_quickblox_token_t  *places;

    token = &ctx->credential.token;
    places = ctx->conf->tokens->elts;

    rc = NGX_DECLINED;

    for (i = 0; i < ctx->conf->tokens->nelts && rc == NGX_DECLINED; i++) {

        if (places[i].header.len) {
            rc = ngx_http_quickblox_credential_header(r, &places[i].header,
                                              ngx_http_quickblox_client_token,
                                              token);
            continue;
        }

        if (ngx_http_complex_value(r, &places[i].value, &value) != NGX_OK) {
            return NGX_ERROR;
        }

        rc = ngx_http_quickblox_client_token(&value, token);
    }

    if (rc == NGX_DECLINED) {
        ngx_str_null(token);
        return NGX_DECLINED;
    }

    /* two QB-Tokens are ambiguous wherever the token is */

    if (rc == NGX_ABORT
        || (!ngx_http_quickblox_header_is(&places[i - 1].header,
                                          &ngx_http_quickblox_qb_token)
            && ngx_http_quickblox_credential_header(r,
                                              &ngx_http_quickblox_qb_token,
                                              ngx_http_quickblox_client_token,
                                              &ignored)
               == NGX_ABORT))
    {
        *refusal = NGX_HTTP_QUICKBLOX_REFUSE_AMBIGUOUS;
        return NGX_ABORT;
    }

    return NGX_OK;
}


/*
 * What the headers of a name have, in any spelling, as "read" reads a value.
 * $http_name has the first of several or all of them joined, as nginx's
 * version has it, so the list is looked through.  NGX_OK; NGX_DECLINED where
 * there is none; NGX_ABORT where there are two different ones.
 */

static ngx_int_t
ngx_http_quickblox_credential_header(ngx_http_request_t *r, ngx_str_t *header,
    ngx_http_quickblox_credential_read_pt read, ngx_str_t *value)
{
    ngx_int_t         rc;
    ngx_str_t         found;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    rc = NGX_DECLINED;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (!ngx_http_quickblox_header_is(&h[i].key, header)
                || read(&h[i].value, &found) != NGX_OK)
            {
                continue;
            }

            if (rc == NGX_DECLINED) {
                *value = found;
                rc = NGX_OK;

            } else if (found.len != value->len
                       || ngx_memcmp(found.data, value->data, found.len) != 0)
            {
                return NGX_ABORT;
            }
        }
    }

    return rc;
}


/* the login and password of "Authorization: Basic" */

static ngx_int_t
ngx_http_quickblox_credential_basic(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_e *refusal)
{
    u_char                           *buf;
    ngx_int_t                         rc;
    ngx_str_t                         value, parts[3];
    ngx_http_quickblox_login_t        login;
    ngx_http_quickblox_credential_t  *credential;

    rc = ngx_http_quickblox_credential_header(r,
                                    &ngx_http_quickblox_authorization,
                                    ngx_http_quickblox_credential_basic_value,
                                    &value);

    if (rc == NGX_DECLINED) {
        return NGX_DECLINED;
    }

    if (rc == NGX_ABORT) {
        *refusal = NGX_HTTP_QUICKBLOX_REFUSE_AMBIGUOUS;
        return NGX_ABORT;
    }

    buf = ngx_pnalloc(r->pool, value.len + 1);
    if (buf == NULL) {
        return NGX_ERROR;
    }

    if (ngx_http_quickblox_login_basic(&value, buf, &login) != NGX_OK) {
        *refusal = NGX_HTTP_QUICKBLOX_REFUSE_UNAUTHORIZED;
        return NGX_ABORT;
    }

    credential = &ctx->credential;

    credential->login = login.login;
    credential->password = login.password;

    ngx_str_set(&parts[0], "basic");
    parts[1] = credential->login;
    parts[2] = credential->password;

    return ngx_http_quickblox_credential_key(r, ctx,
                                             ctx->conf->application->people,
                                             parts, 3);
}


/* as ngx_http_quickblox_client_token() does it for tokens */

static ngx_int_t
ngx_http_quickblox_credential_basic_value(ngx_str_t *value, ngx_str_t *found)
{
    if (!ngx_http_quickblox_header_is_basic(value)) {
        return NGX_DECLINED;
    }

    found->data = value->data + sizeof("Basic") - 1;
    found->len = value->len - (sizeof("Basic") - 1);

    while (found->len && *found->data == ' ') {
        found->data++;
        found->len--;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_credential_cookie(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_e *refusal)
{
    time_t                             now;
    ngx_int_t                          rc;
    ngx_str_t                          token;
    ngx_http_quickblox_sealed_t        sealed;
    ngx_http_quickblox_application_t  *app;

    app = ctx->conf->application;

    rc = ngx_http_quickblox_credential_open(r, &app->cookie, &sealed);

    if (rc == NGX_ERROR) {
        ngx_http_quickblox_credential_failed(r, app,
                                             "no cookie could be opened");
    }

    if (rc == NGX_DECLINED || rc == NGX_ERROR) {
        return rc;
    }

    now = ngx_time();

    if (rc == NGX_OK && app->cookie_lifetime
        && sealed.created + (uint64_t) app->cookie_lifetime < (uint64_t) now)
    {
        rc = NGX_ABORT;
    }

    if (rc == NGX_ABORT) {
        *refusal = NGX_HTTP_QUICKBLOX_REFUSE_EXPIRED;

    } else {
        ctx->credential.user_id = sealed.user_id;

        token.len = sealed.token_len;
        token.data = ngx_pnalloc(r->pool, token.len);

        if (token.data) {
            ngx_memcpy(token.data, sealed.token, token.len);
            rc = ngx_http_quickblox_credential_set_token(r, ctx,
                                             NGX_HTTP_QUICKBLOX_SOURCE_COOKIE,
                                             &token);
        } else {
            rc = NGX_ERROR;
        }
    }

    ngx_explicit_memzero(&sealed, sizeof(ngx_http_quickblox_sealed_t));

    return rc;
}


/*
 * Opens the cookies of a name.  A browser keeps one of a name that begins with
 * "__Host-": others are somebody's attempt.  Of another name there may be old
 * ones, of another path or domain; one that opens is enough, but all that do
 * must agree.  NGX_ABORT when there is no cookie that counts.
 */

static ngx_int_t
ngx_http_quickblox_credential_open(ngx_http_request_t *r,
    ngx_http_quickblox_cookie_t *cookie, ngx_http_quickblox_sealed_t *sealed)
{
    ngx_int_t         rc;
    ngx_uint_t        i, n, opened;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    n = 0;
    opened = 0;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (!ngx_http_quickblox_header_is(&h[i].key,
                                          &ngx_http_quickblox_cookie_header))
            {
                continue;
            }

            rc = ngx_http_quickblox_credential_open_header(cookie, &h[i].value,
                                                           &n, &opened,
                                                           sealed);
            if (rc != NGX_OK) {
                return rc;
            }
        }
    }

    if (n == 0) {
        return NGX_DECLINED;
    }

    if (n > 1 && cookie->name.len >= 7
        && ngx_strncasecmp(cookie->name.data, (u_char *) "__Host-", 7) == 0)
    {
        return NGX_ABORT;
    }

    return opened ? NGX_OK : NGX_ABORT;
}


/* NGX_OK, also where none opens; NGX_ABORT where two are of two sessions */

static ngx_int_t
ngx_http_quickblox_credential_open_header(ngx_http_quickblox_cookie_t *cookie,
    ngx_str_t *header, ngx_uint_t *n, ngx_uint_t *opened,
    ngx_http_quickblox_sealed_t *sealed)
{
    size_t                        pos;
    ngx_int_t                     rc;
    ngx_str_t                     value;
    ngx_http_quickblox_sealed_t   other, *to;

    pos = 0;

    while (*n < NGX_HTTP_QUICKBLOX_COOKIES
           && ngx_http_quickblox_cookie_find(header, &cookie->name, &pos,
                                             &value)
              == NGX_OK)
    {
        (*n)++;

        to = *opened ? &other : sealed;

        rc = ngx_http_quickblox_cookie_open(cookie, &value, to);

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (rc == NGX_DECLINED) {
            continue;
        }

        if (to == sealed) {
            *opened = 1;
            continue;
        }

        rc = (other.user_id == sealed->user_id
              && other.token_len == sealed->token_len
              && CRYPTO_memcmp(other.token, sealed->token, other.token_len)
                 == 0)
             ? NGX_OK : NGX_ABORT;

        ngx_explicit_memzero(&other, sizeof(ngx_http_quickblox_sealed_t));

        if (rc == NGX_ABORT) {
            return NGX_ABORT;
        }
    }

    return NGX_OK;
}


/* the user that another access module vouches for */

static ngx_int_t
ngx_http_quickblox_credential_user(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_e *refusal)
{
    u_char                            number[NGX_INT64_LEN];
    ngx_str_t                         value, parts[2];
    ngx_http_quickblox_credential_t  *credential;

    if (ngx_http_quickblox_value_anew(r, ctx->conf->user, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    if (value.len == 0) {
        return NGX_DECLINED;
    }

    credential = &ctx->credential;

    if (ngx_http_quickblox_parse_id(&value, &credential->user_id) != NGX_OK
        || credential->user_id == 0)
    {
        *refusal = NGX_HTTP_QUICKBLOX_REFUSE_FORBIDDEN;
        return NGX_ABORT;
    }

    ngx_str_set(&parts[0], "user_token");
    parts[1].data = number;
    parts[1].len = ngx_sprintf(number, "%uL", credential->user_id) - number;

    return ngx_http_quickblox_credential_key(r, ctx,
                                             ctx->conf->application->people,
                                             parts, 2);
}
