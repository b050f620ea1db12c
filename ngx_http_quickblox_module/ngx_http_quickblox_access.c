
#include "ngx_http_quickblox_access.h"
#include "ngx_http_quickblox_credential.h"
#include "ngx_http_quickblox_header.h"
#include "ngx_http_quickblox_json.h"
#include "ngx_http_quickblox_origin.h"
#include "ngx_http_quickblox_replay.h"
#include "ngx_http_quickblox_session.h"
#include "ngx_http_quickblox_variable.h"


static void ngx_http_quickblox_access_resume(ngx_http_request_t *r);
static ngx_uint_t ngx_http_quickblox_access_preflight(ngx_http_request_t *r);
static ngx_int_t ngx_http_quickblox_access_api_key(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static ngx_int_t ngx_http_quickblox_access_decide(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static ngx_int_t ngx_http_quickblox_access_rights(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static ngx_int_t ngx_http_quickblox_access_require(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);


static ngx_str_t  ngx_http_quickblox_preflight =
    ngx_string("Access-Control-Request-Method");
static ngx_str_t  ngx_http_quickblox_origin = ngx_string("Origin");


ngx_int_t
ngx_http_quickblox_access_handler(ngx_http_request_t *r)
{
    ngx_int_t                       rc;
    ngx_http_quickblox_ctx_t       *ctx;
    ngx_http_quickblox_refusal_e    refusal;
    ngx_http_quickblox_loc_conf_t  *qlcf;

    qlcf = ngx_http_get_module_loc_conf(r, ngx_http_quickblox_module);

    if (qlcf->application == NULL || qlcf->endpoint) {
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

    ngx_http_quickblox_credential_reset(ctx, qlcf);

    ctx->resume = ngx_http_quickblox_access_resume;

    if (qlcf->preflight && ngx_http_quickblox_access_preflight(r)) {
        ctx->status = NGX_HTTP_QUICKBLOX_STATUS_OFF;
        return NGX_OK;
    }

    rc = ngx_http_quickblox_credential_get(r, ctx, &refusal);

    if (rc == NGX_ABORT) {
        return ngx_http_quickblox_refuse(r, ctx, refusal);
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    switch (ctx->credential.source) {

    case NGX_HTTP_QUICKBLOX_SOURCE_NONE:
        ctx->status = NGX_HTTP_QUICKBLOX_STATUS_OFF;
        return NGX_OK;

    case NGX_HTTP_QUICKBLOX_SOURCE_API_KEY:
        return ngx_http_quickblox_access_api_key(r, ctx);

    case NGX_HTTP_QUICKBLOX_SOURCE_COOKIE:

        /* a browser sends it with what any page asks for */

        if (!ngx_http_quickblox_origin_safe(r)
            && !ngx_http_quickblox_origin_allowed(r, qlcf))
        {
            return ngx_http_quickblox_refuse(r, ctx,
                                          NGX_HTTP_QUICKBLOX_REFUSE_FORBIDDEN);
        }
    }

    rc = ngx_http_quickblox_session_get(r, ctx, NGX_HTTP_QUICKBLOX_GET);

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


static ngx_int_t
ngx_http_quickblox_access_api_key(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_int_t                          rc;
    ngx_str_t                          value;
    ngx_http_quickblox_application_t  *app;

    app = ctx->conf->application;

    ngx_str_null(&ctx->on_behalf_of);

    if (app->on_behalf_of) {

        if (ngx_http_quickblox_value_anew(r, app->on_behalf_of, &value)
            != NGX_OK)
        {
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

    rc = ngx_http_quickblox_access_require(r, ctx);

    if (rc == NGX_OK) {
        return NGX_OK;
    }

    ctx->granted = 0;

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_quickblox_refuse(r, ctx,
                                     NGX_HTTP_QUICKBLOX_REFUSE_FORBIDDEN);
}


static ngx_int_t
ngx_http_quickblox_access_decide(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_int_t  rc;

    for ( ;; ) {

        if (ctx->result != NGX_HTTP_QUICKBLOX_RESULT_OK) {
            return ngx_http_quickblox_refuse(r, ctx,
                                             ngx_http_quickblox_refusal(ctx));
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
            || !ngx_http_quickblox_is_brought(ctx->credential.source)
            || ctx->status == NGX_HTTP_QUICKBLOX_STATUS_MISS)
        {
            return ngx_http_quickblox_refuse(r, ctx,
                                  rc == NGX_DECLINED
                                  ? NGX_HTTP_QUICKBLOX_REFUSE_NEED_USER
                                  : rc == NGX_BUSY
                                  ? NGX_HTTP_QUICKBLOX_REFUSE_EXPIRED
                                  : NGX_HTTP_QUICKBLOX_REFUSE_FORBIDDEN);
        }

        ctx->revalidated = 1;

        rc = ngx_http_quickblox_session_get(r, ctx,
                                            NGX_HTTP_QUICKBLOX_GET_AGAIN);

        if (rc == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        if (rc == NGX_ERROR) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }
}


/*
 * NGX_DECLINED: a user is needed; NGX_BUSY: another user has the token now;
 * NGX_ABORT: forbidden
 */

static ngx_int_t
ngx_http_quickblox_access_rights(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_http_quickblox_loc_conf_t  *qlcf;

    qlcf = ctx->conf;

    if (ctx->credential.source == NGX_HTTP_QUICKBLOX_SOURCE_COOKIE
        && ctx->session.user_id != ctx->credential.user_id)
    {
        return NGX_BUSY;
    }

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
    ngx_uint_t                 i;
    ngx_http_complex_value_t  *cv;

    if (ctx->conf->require == NULL) {
        return NGX_OK;
    }

    cv = ctx->conf->require->elts;

    for (i = 0; i < ctx->conf->require->nelts; i++) {

        if (ngx_http_quickblox_value_anew(r, &cv[i], &value) != NGX_OK) {
            return NGX_ERROR;
        }

        if (value.len == 0 || (value.len == 1 && value.data[0] == '0')) {
            return NGX_ABORT;
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_quickblox_precontent_handler(ngx_http_request_t *r)
{
    ngx_uint_t                      granted;
    ngx_http_quickblox_ctx_t       *ctx;
    ngx_http_quickblox_loc_conf_t  *qlcf;

    qlcf = ngx_http_get_module_loc_conf(r, ngx_http_quickblox_module);

    if (qlcf->endpoint
        || (qlcf->application == NULL
            && ngx_http_quickblox_limited(qlcf) == NULL))
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

        if (r == r->main) {
            ngx_http_quickblox_count_request(ctx);
        }
    }

    return NGX_OK;
}
