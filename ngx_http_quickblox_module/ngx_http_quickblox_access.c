
#include "ngx_http_quickblox_access.h"
#include "ngx_http_quickblox_header.h"
#include "ngx_http_quickblox_json.h"
#include "ngx_http_quickblox_refusal.h"
#include "ngx_http_quickblox_replay.h"
#include "ngx_http_quickblox_session.h"


static void ngx_http_quickblox_access_resume(ngx_http_request_t *r);
static ngx_uint_t ngx_http_quickblox_access_preflight(ngx_http_request_t *r);
static ngx_int_t ngx_http_quickblox_access_credential(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static ngx_int_t ngx_http_quickblox_access_client(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static ngx_int_t ngx_http_quickblox_access_token(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static ngx_int_t ngx_http_quickblox_access_header(ngx_http_request_t *r,
    ngx_str_t *header, ngx_str_t *token);
static ngx_int_t ngx_http_quickblox_access_api_key(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static ngx_int_t ngx_http_quickblox_access_decide(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static ngx_int_t ngx_http_quickblox_access_rights(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static ngx_int_t ngx_http_quickblox_access_require(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static void ngx_http_quickblox_access_flush(ngx_http_request_t *r,
    ngx_uint_t index);


static ngx_str_t  ngx_http_quickblox_qb_token = ngx_string("QB-Token");
static ngx_str_t  ngx_http_quickblox_preflight =
    ngx_string("Access-Control-Request-Method");
static ngx_str_t  ngx_http_quickblox_origin = ngx_string("Origin");


ngx_int_t
ngx_http_quickblox_access_handler(ngx_http_request_t *r)
{
    ngx_int_t                       rc;
    ngx_http_quickblox_ctx_t       *ctx;
    ngx_http_quickblox_loc_conf_t  *qlcf;

    qlcf = ngx_http_get_module_loc_conf(r, ngx_http_quickblox_module);

    if (qlcf->application == NULL) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_quickblox_get_ctx(r, 1);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->flight) {
        return NGX_AGAIN;
    }

    if (ctx->resumed && ctx->conf == qlcf) {
        ctx->resumed = 0;
        return ngx_http_quickblox_access_decide(r, ctx);
    }

    ngx_memzero(&ctx->credential, sizeof(ngx_http_quickblox_credential_t));
    ngx_memzero(&ctx->session, sizeof(ngx_http_quickblox_session_t));

    ctx->conf = qlcf;
    ctx->status = NGX_HTTP_QUICKBLOX_STATUS_NONE;
    ctx->error = NULL;
    ctx->resume = ngx_http_quickblox_access_resume;
    ctx->granted = 0;
    ctx->left = 0;
    ctx->resumed = 0;
    ctx->revalidated = 0;

    ctx->credential.source = NGX_HTTP_QUICKBLOX_SOURCE_NONE;

    if (qlcf->preflight && ngx_http_quickblox_access_preflight(r)) {
        ctx->status = NGX_HTTP_QUICKBLOX_STATUS_OFF;
        return NGX_OK;
    }

    rc = ngx_http_quickblox_access_credential(r, ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    switch (ctx->credential.source) {

    case NGX_HTTP_QUICKBLOX_SOURCE_NONE:
        ctx->status = NGX_HTTP_QUICKBLOX_STATUS_OFF;
        return NGX_OK;

    case NGX_HTTP_QUICKBLOX_SOURCE_API_KEY:
        return ngx_http_quickblox_access_api_key(r, ctx);
    }

    rc = ngx_http_quickblox_session_get(r, ctx, 0);

    if (rc == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_quickblox_access_decide(r, ctx);
}


static void
ngx_http_quickblox_access_resume(ngx_http_request_t *r)
{
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_quickblox_module);

    ctx->resumed = 1;

    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
}


/* a preflight is an OPTIONS with both headers (Fetch standard, 4.8) */

static ngx_uint_t
ngx_http_quickblox_access_preflight(ngx_http_request_t *r)
{
    ngx_uint_t        i, origin, method;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    if (r->method != NGX_HTTP_OPTIONS) {
        return 0;
    }

    origin = 0;
    method = 0;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            origin |= ngx_http_quickblox_header_is(&h[i].key,
                                               &ngx_http_quickblox_origin);
            method |= ngx_http_quickblox_header_is(&h[i].key,
                                               &ngx_http_quickblox_preflight);
        }
    }

    return origin && method;
}


/*
 * The first source that the request or the configuration has credentials for
 * decides.  NGX_OK, or what the access handler returns.
 */

static ngx_int_t
ngx_http_quickblox_access_credential(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
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

            rc = ngx_http_quickblox_access_client(r, ctx);

            if (rc == NGX_DECLINED) {
                continue;
            }

            return rc;

        case NGX_HTTP_QUICKBLOX_SOURCE_USER:
            ngx_memcpy(credential->key, app->held[0], sizeof(app->held[0]));
            return NGX_OK;

        case NGX_HTTP_QUICKBLOX_SOURCE_APPLICATION:
            ngx_memcpy(credential->key, app->held[1], sizeof(app->held[1]));
            return NGX_OK;

        default: /* API_KEY, NONE */
            return NGX_OK;
        }
    }

    return ngx_http_quickblox_refuse(r, ctx,
                                     NGX_HTTP_QUICKBLOX_REFUSE_NO_TOKEN);
}


/* NGX_DECLINED when the client sent no token at all */

static ngx_int_t
ngx_http_quickblox_access_client(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_int_t                        rc;
    ngx_str_t                        parts[2];
    ngx_http_quickblox_main_conf_t  *qmcf;

    rc = ngx_http_quickblox_access_token(r, ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    if (!ngx_http_quickblox_token(&ctx->credential.token)) {
        return ngx_http_quickblox_refuse(r, ctx,
                                         NGX_HTTP_QUICKBLOX_REFUSE_EXPIRED);
    }

    qmcf = ngx_http_get_module_main_conf(r, ngx_http_quickblox_module);

    parts[0].len = NGX_HTTP_QUICKBLOX_DIGEST_LEN;
    parts[0].data = ctx->conf->application->client;
    parts[1] = ctx->credential.token;

    if (ngx_http_quickblox_digest(qmcf->md_ctx, qmcf->md, parts, 2,
                                  ctx->credential.key)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_access_token(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
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
            rc = ngx_http_quickblox_access_header(r, &places[i].header, token);
            continue;
        }

        if (ngx_http_complex_value(r, &places[i].value, &value) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        rc = ngx_http_quickblox_client_token(&value, token);
    }

    if (rc == NGX_DECLINED) {
        ngx_str_null(token);
        return NGX_DECLINED;
    }

    if (rc == NGX_ABORT
        || ngx_http_quickblox_access_header(r, &ngx_http_quickblox_qb_token,
                                            &ignored)
           == NGX_ABORT)
    {
        return ngx_http_quickblox_refuse(r, ctx,
                                         NGX_HTTP_QUICKBLOX_REFUSE_AMBIGUOUS);
    }

    return NGX_OK;
}


/*
 * The token in the headers of a name, in any spelling.  $http_name has the
 * first of several or all of them joined, as nginx's version has it, so the
 * list is looked through.  NGX_OK; NGX_DECLINED where there is none; NGX_ABORT
 * where there are two different ones.
 */

static ngx_int_t
ngx_http_quickblox_access_header(ngx_http_request_t *r, ngx_str_t *header,
    ngx_str_t *token)
{
    ngx_int_t         rc;
    ngx_str_t         value;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    rc = NGX_DECLINED;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (!ngx_http_quickblox_header_is(&h[i].key, header)
                || ngx_http_quickblox_client_token(&h[i].value, &value)
                   != NGX_OK)
            {
                continue;
            }

            if (rc == NGX_DECLINED) {
                *token = value;
                rc = NGX_OK;

            } else if (value.len != token->len
                       || ngx_memcmp(value.data, token->data, token->len) != 0)
            {
                return NGX_ABORT;
            }
        }
    }

    return rc;
}


static ngx_int_t
ngx_http_quickblox_access_api_key(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_str_t                          value;
    ngx_http_quickblox_application_t  *app;

    app = ctx->conf->application;

    ngx_str_null(&ctx->on_behalf_of);

    if (app->on_behalf_of) {

        if (ngx_http_complex_value(r, app->on_behalf_of, &value) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        /* never with the key's own rights where a user was meant */

        if (ngx_http_quickblox_parse_id(&value, &ctx->session.user_id)
            != NGX_OK
            || ctx->session.user_id == 0)
        {
            return ngx_http_quickblox_refuse(r, ctx,
                                          NGX_HTTP_QUICKBLOX_REFUSE_FORBIDDEN);
        }

        ctx->on_behalf_of = value;
    }

    ctx->status = NGX_HTTP_QUICKBLOX_STATUS_HIT;
    ctx->result = NGX_HTTP_QUICKBLOX_RESULT_OK;
    ctx->granted = 1;

    if (ngx_http_quickblox_access_require(r, ctx) != NGX_OK) {
        ctx->granted = 0;
        return ngx_http_quickblox_refuse(r, ctx,
                                         NGX_HTTP_QUICKBLOX_REFUSE_FORBIDDEN);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_access_decide(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_int_t  rc;

    for ( ;; ) {

        switch (ctx->result) {

        case NGX_HTTP_QUICKBLOX_RESULT_OK:
            break;

        case NGX_HTTP_QUICKBLOX_RESULT_FOREIGN:
            return ngx_http_quickblox_refuse(r, ctx,
                                          NGX_HTTP_QUICKBLOX_REFUSE_FOREIGN);

        case NGX_HTTP_QUICKBLOX_RESULT_FAILED:
            return ngx_http_quickblox_refuse(r, ctx,
                                       NGX_HTTP_QUICKBLOX_REFUSE_UNAVAILABLE);

        default: /* REJECTED, UNKNOWN */
            return ngx_http_quickblox_refuse(r, ctx,
                                          NGX_HTTP_QUICKBLOX_REFUSE_EXPIRED);
        }

        /* known to the variables that "quickblox_require" evaluates */
        ctx->granted = 1;

        rc = ngx_http_quickblox_access_rights(r, ctx);

        if (rc == NGX_OK) {
            return NGX_OK;
        }

        ctx->granted = 0;

        if (rc == NGX_ERROR) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        /*
         * the token may have become another user's, or a user's at all, since
         * it was validated: a refusal is not decided from what was cached
         */

        if (ctx->revalidated
            || ctx->credential.source != NGX_HTTP_QUICKBLOX_SOURCE_CLIENT
            || ctx->status == NGX_HTTP_QUICKBLOX_STATUS_MISS)
        {
            return ngx_http_quickblox_refuse(r, ctx,
                                  rc == NGX_DECLINED
                                  ? NGX_HTTP_QUICKBLOX_REFUSE_NEED_USER
                                  : NGX_HTTP_QUICKBLOX_REFUSE_FORBIDDEN);
        }

        ctx->revalidated = 1;

        rc = ngx_http_quickblox_session_get(r, ctx, 1);

        if (rc == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        if (rc == NGX_ERROR) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }
}


/* NGX_DECLINED: a user is needed; NGX_ABORT: forbidden */

static ngx_int_t
ngx_http_quickblox_access_rights(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_http_quickblox_loc_conf_t  *qlcf;

    qlcf = ctx->conf;

    if (ctx->session.user_id == 0) {

        if (ctx->credential.source == NGX_HTTP_QUICKBLOX_SOURCE_CLIENT
            && !qlcf->require_any)
        {
            return NGX_DECLINED;
        }

        if (qlcf->access == NGX_HTTP_QUICKBLOX_READ
            && !(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_OPTIONS)))
        {
            return NGX_DECLINED;
        }
    }

    return ngx_http_quickblox_access_require(r, ctx);
}


static ngx_int_t
ngx_http_quickblox_access_require(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_str_t                  value;
    ngx_uint_t                 i, *index;
    ngx_http_complex_value_t  *cv;

    if (ctx->conf->require == NULL) {
        return NGX_OK;
    }

    cv = ctx->conf->require->elts;

    for (i = 0; i < ctx->conf->require->nelts; i++) {

        for (index = cv[i].flushes;
             index && *index != (ngx_uint_t) -1;
             index++)
        {
            ngx_http_quickblox_access_flush(r, *index);
        }

        if (ngx_http_complex_value(r, &cv[i], &value) != NGX_OK) {
            return NGX_ERROR;
        }

        if (value.len == 0 || (value.len == 1 && value.data[0] == '0')) {
            return NGX_ABORT;
        }
    }

    return NGX_OK;
}


/*
 * A "map" keeps what it said of the session before this one, and so does one
 * that it is made of: all variables of its kind are evaluated anew.  What
 * "set" has stored (its data is an index) and "auth_request_set" (which finds
 * nothing by itself) is nowhere else and stays.
 */

static void
ngx_http_quickblox_access_flush(ngx_http_request_t *r, ngx_uint_t index)
{
    ngx_uint_t                  i;
    ngx_http_variable_t        *v;
    ngx_http_variable_value_t   value;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);
    v = cmcf->variables.elts;

    if (v[index].data < cmcf->variables.nelts) {
        return;
    }

    ngx_memzero(&value, sizeof(ngx_http_variable_value_t));

    if (v[index].get_handler(r, &value, v[index].data) != NGX_OK
        || value.not_found)
    {
        return;
    }

    for (i = 0; i < cmcf->variables.nelts; i++) {
        if (v[i].get_handler == v[index].get_handler) {
            r->variables[i].valid = 0;
            r->variables[i].not_found = 0;
        }
    }
}


ngx_int_t
ngx_http_quickblox_precontent_handler(ngx_http_request_t *r)
{
    ngx_uint_t                      granted;
    ngx_http_quickblox_ctx_t       *ctx;
    ngx_http_quickblox_loc_conf_t  *qlcf;

    qlcf = ngx_http_get_module_loc_conf(r, ngx_http_quickblox_module);

    if (qlcf->application == NULL
        && ngx_http_quickblox_limited(qlcf) == NULL)
    {
        return NGX_DECLINED;
    }

    ctx = ngx_http_quickblox_get_ctx(r, 0);

    if (ctx == NULL) {
        ctx = ngx_http_quickblox_get_ctx(r->main, 1);
        if (ctx == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (r == r->main) {

        if (ctx->left) {

            /* another module has granted here, what was before is no matter */

            ctx->granted = 0;
            ctx->status = NGX_HTTP_QUICKBLOX_STATUS_NONE;
            ctx->error = NULL;
        }

        granted = ctx->granted && ctx->conf == qlcf;

    } else {

        /* a subrequest runs under its parent's session */

        granted = ctx->granted
                  && ctx->conf->application == qlcf->application;
    }

    if (ngx_http_quickblox_header_apply(r, ctx, qlcf, granted) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

#if (NGX_PCRE)

    if (granted && r == r->main) {

        /* a response may be matched, too: "proxy_redirect" with a regex */

        ctx->ncaptures = r->ncaptures;
        ctx->captures = r->captures;
        ctx->captures_data = r->captures_data;
        r->realloc_captures = 1;
    }

#endif

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_quickblox_rewrite_handler(ngx_http_request_t *r)
{
    ngx_http_quickblox_ctx_t  *ctx;

    if (!r->internal && r == r->main) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_quickblox_get_ctx(r, 0);

    if (ctx) {
        if (r == r->main) {
            ngx_http_quickblox_replay_unseen(r, ctx);
            ctx->left = 1;
        }

        ngx_http_quickblox_header_restore(r, ctx);
    }

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_quickblox_log_handler(ngx_http_request_t *r)
{
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_quickblox_get_ctx(r, 0);

    if (ctx) {
        ngx_http_quickblox_header_restore(r, ctx);
    }

    return NGX_OK;
}
