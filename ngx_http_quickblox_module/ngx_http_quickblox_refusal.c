
#include "ngx_http_quickblox_refusal.h"
#include "ngx_http_quickblox_origin.h"


typedef struct {
    ngx_uint_t                         status;
    ngx_uint_t                         grpc_status;
    ngx_str_t                          text;
    ngx_str_t                          body;
} ngx_http_quickblox_refusal_t;


static ngx_uint_t ngx_http_quickblox_refusal_is_nginx(ngx_http_request_t *r,
    ngx_uint_t status, ngx_uint_t endpoint);
static ngx_int_t ngx_http_quickblox_refusal_headers(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_t *refusal);
static ngx_int_t ngx_http_quickblox_refusal_challenge(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static ngx_uint_t ngx_http_quickblox_refusal_is_grpc(ngx_http_request_t *r);
static ngx_int_t ngx_http_quickblox_refusal_grpc(ngx_http_request_t *r,
    ngx_http_quickblox_refusal_t *refusal);
static void ngx_http_quickblox_refusal_log(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_t *refusal);


#define ngx_http_quickblox_base(text)                                        \
    ngx_string(text), ngx_string("{\"errors\":{\"base\":[\"" text "\"]}}")

#define ngx_http_quickblox_array(text)                                       \
    ngx_string(text), ngx_string("{\"errors\":[\"" text "\"]}")


/* the order is that of ngx_http_quickblox_refusal_e */

static ngx_http_quickblox_refusal_t  ngx_http_quickblox_refusals[] = {
    { NGX_HTTP_BAD_REQUEST, 3,
      ngx_http_quickblox_base("Two different tokens in one request") },
    { NGX_HTTP_UNAUTHORIZED, 16,
      ngx_http_quickblox_array("Token is required") },
    { NGX_HTTP_UNAUTHORIZED, 16,
      ngx_http_quickblox_base("Required session does not exist") },
    { NGX_HTTP_UNAUTHORIZED, 16,
      ngx_http_quickblox_array("Unauthorized") },
    { NGX_HTTP_FORBIDDEN, 7,
      ngx_http_quickblox_base("Session belongs to another application") },
    { NGX_HTTP_FORBIDDEN, 7,
      ngx_http_quickblox_base("Forbidden. Need user.") },
    { NGX_HTTP_FORBIDDEN, 7,
      ngx_http_quickblox_base("Forbidden") },
    { NGX_HTTP_SERVICE_UNAVAILABLE, 14,
      ngx_http_quickblox_base("Service is temporarily unavailable") },
    { NGX_HTTP_BAD_REQUEST, 3,
      ngx_http_quickblox_base("Malformed request body") },
    { NGX_HTTP_NOT_ALLOWED, 12,
      ngx_http_quickblox_base("Method not allowed") },
    { NGX_HTTP_REQUEST_ENTITY_TOO_LARGE, 8,
      ngx_http_quickblox_base("Request body is too large") },
    { NGX_HTTP_UNSUPPORTED_MEDIA_TYPE, 3,
      ngx_http_quickblox_base("Unsupported content type") }
};


static ngx_str_t  ngx_http_quickblox_json = ngx_string("application/json");
static ngx_str_t  ngx_http_quickblox_no_store = ngx_string("no-store");
static ngx_str_t  ngx_http_quickblox_get_method = ngx_string("GET");
static ngx_str_t  ngx_http_quickblox_post_method = ngx_string("POST");


ngx_int_t
ngx_http_quickblox_refuse(ngx_http_request_t *r, ngx_http_quickblox_ctx_t *ctx,
    ngx_http_quickblox_refusal_e reason)
{
    ngx_int_t                      rc;
    ngx_uint_t                     nginx;
    ngx_http_complex_value_t       cv;
    ngx_http_quickblox_refusal_t  *refusal;

    refusal = &ngx_http_quickblox_refusals[reason];

    ctx->error = (const char *) refusal->text.data;

    if (ctx->status != NGX_HTTP_QUICKBLOX_STATUS_ERROR) {
        ctx->status = NGX_HTTP_QUICKBLOX_STATUS_REJECTED;
    }

    ngx_http_quickblox_count_request(ctx);
    ngx_http_quickblox_refusal_log(r, ctx, refusal);

    if (ngx_http_quickblox_refusal_headers(r, ctx, refusal) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    nginx = ngx_http_quickblox_refusal_is_nginx(r, refusal->status,
                                                ctx->conf->endpoint);

    /* what a content handler answers is not kept, also as an error page */

    if ((!nginx || ctx->conf->endpoint)
        && ngx_http_quickblox_add_header(r, "Cache-Control",
                                         &ngx_http_quickblox_no_store)
           == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (nginx) {
        return refusal->status;
    }

    /* what the request would have had to say was not asked for */
    r->expect_tested = 1;

    if (ngx_http_quickblox_refusal_is_grpc(r)) {
        rc = ngx_http_quickblox_refusal_grpc(r, refusal);

    } else {
        ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));
        cv.value = refusal->body;

        rc = ngx_http_send_response(r, refusal->status,
                                    &ngx_http_quickblox_json, &cv);
    }

    ngx_http_finalize_request(r, rc);

    return NGX_DONE;
}


ngx_http_quickblox_refusal_e
ngx_http_quickblox_refusal(ngx_http_quickblox_ctx_t *ctx)
{
    switch (ctx->result) {

    case NGX_HTTP_QUICKBLOX_RESULT_FOREIGN:
        return NGX_HTTP_QUICKBLOX_REFUSE_FOREIGN;

    case NGX_HTTP_QUICKBLOX_RESULT_FAILED:
        return NGX_HTTP_QUICKBLOX_REFUSE_UNAVAILABLE;

    case NGX_HTTP_QUICKBLOX_RESULT_REFUSED:

        /* there is no such user, or no such login */

        return ctx->credential.source == NGX_HTTP_QUICKBLOX_SOURCE_USER_TOKEN
               ? NGX_HTTP_QUICKBLOX_REFUSE_FORBIDDEN
               : NGX_HTTP_QUICKBLOX_REFUSE_UNAUTHORIZED;

    default: /* REJECTED, UNKNOWN */
        return NGX_HTTP_QUICKBLOX_REFUSE_EXPIRED;
    }
}


/* the conditions are those of ngx_http_special_response_handler() */

static ngx_uint_t
ngx_http_quickblox_refusal_is_nginx(ngx_http_request_t *r, ngx_uint_t status,
    ngx_uint_t endpoint)
{
    ngx_uint_t                 i;
    ngx_http_err_page_t       *page;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (clcf->satisfy == NGX_HTTP_SATISFY_ANY && !endpoint
        && (status == NGX_HTTP_UNAUTHORIZED || status == NGX_HTTP_FORBIDDEN))
    {
        return 1;
    }

    if (r->error_page || clcf->error_pages == NULL || r->uri_changes == 0) {
        return 0;
    }

    page = clcf->error_pages->elts;

    for (i = 0; i < clcf->error_pages->nelts; i++) {
        if (page[i].status == (ngx_int_t) status) {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_quickblox_refusal_headers(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_t *refusal)
{
    u_char           *p;
    ngx_str_t         value;
    ngx_table_elt_t  *h;

    if (refusal->status == NGX_HTTP_SERVICE_UNAVAILABLE) {

        p = ngx_pnalloc(r->pool, NGX_TIME_T_LEN);
        if (p == NULL) {
            return NGX_ERROR;
        }

        value.data = p;
        value.len = ngx_sprintf(p, "%T", ngx_max(ctx->retry_after, 1)) - p;

        h = ngx_http_quickblox_add_header(r, "Retry-After", &value);
        return h ? NGX_OK : NGX_ERROR;
    }

    if (refusal->status == NGX_HTTP_NOT_ALLOWED) {
        value = ngx_http_quickblox_is_get(ctx->conf->endpoint)
                ? ngx_http_quickblox_get_method
                : ngx_http_quickblox_post_method;

        h = ngx_http_quickblox_add_header(r, "Allow", &value);
        return h ? NGX_OK : NGX_ERROR;
    }

    if (refusal->status != NGX_HTTP_UNAUTHORIZED) {
        return NGX_OK;
    }

    /* a cookie that is no good is good for nothing */

    if (ctx->credential.source == NGX_HTTP_QUICKBLOX_SOURCE_COOKIE
        && refusal
           != &ngx_http_quickblox_refusals[NGX_HTTP_QUICKBLOX_REFUSE_NO_TOKEN]
        && ngx_http_quickblox_set_cookie(r, ctx->conf->application, NULL)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_quickblox_refusal_challenge(r, ctx);
}


static ngx_int_t
ngx_http_quickblox_refusal_challenge(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    u_char           *p;
    ngx_str_t         value, *name;
    ngx_table_elt_t  *h;

    name = &ctx->conf->application->name;

    p = ngx_pnalloc(r->pool, sizeof("QuickBlox realm=\"\", charset=\"UTF-8\"")
                             - 1 + name->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value.data = p;

    /* who has a login in a body is not asked for one in a header */

    if (ctx->conf->basic && ctx->conf->endpoint != NGX_HTTP_QUICKBLOX_LOGIN
        && !ngx_http_quickblox_origin_script(r))
    {
        p = ngx_sprintf(p, "Basic realm=\"%V\", charset=\"UTF-8\"", name);

    } else {
        p = ngx_sprintf(p, "QuickBlox realm=\"%V\"", name);
    }

    value.len = p - value.data;

    h = ngx_http_quickblox_add_header(r, "WWW-Authenticate", &value);
    if (h == NULL) {
        return NGX_ERROR;
    }

    /* nginx clears it where another access module grants */
    r->headers_out.www_authenticate = h;

    return NGX_OK;
}


ngx_table_elt_t *
ngx_http_quickblox_add_header(ngx_http_request_t *r, const char *name,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NULL;
    }

    h->hash = 1;
    h->key.len = ngx_strlen(name);
    h->key.data = (u_char *) name;
    h->value = *value;
    h->lowcase_key = NULL;

    ngx_http_quickblox_unlink_header(h);

    return h;
}


ngx_int_t
ngx_http_quickblox_set_cookie(ngx_http_request_t *r,
    ngx_http_quickblox_application_t *app, ngx_str_t *value)
{
    u_char            *p;
    ngx_str_t          header;

    static ngx_str_t   clear =
        ngx_string("; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT");

    p = ngx_pnalloc(r->pool, app->cookie.name.len + 1
                             + (value ? value->len : clear.len)
                             + app->cookie_attributes.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    header.data = p;
    header.len = ngx_sprintf(p, "%V=%V%V", &app->cookie.name,
                             value ? value : &clear, &app->cookie_attributes)
                 - p;

    return ngx_http_quickblox_add_header(r, "Set-Cookie", &header)
           ? NGX_OK : NGX_ERROR;
}


static ngx_uint_t
ngx_http_quickblox_refusal_is_grpc(ngx_http_request_t *r)
{
    ngx_table_elt_t  *h;

    h = r->headers_in.content_type;

    return h && h->value.len >= 16
           && ngx_strncasecmp(h->value.data, (u_char *) "application/grpc", 16)
              == 0;
}


/* trailers only: the status is in the one header block, and that is all */

static ngx_int_t
ngx_http_quickblox_refusal_grpc(ngx_http_request_t *r,
    ngx_http_quickblox_refusal_t *refusal)
{
    u_char     *p;
    ngx_int_t   rc;
    ngx_str_t   value;

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    p = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    value.data = p;
    value.len = ngx_sprintf(p, "%ui", refusal->grpc_status) - p;

    if (ngx_http_quickblox_add_header(r, "grpc-status", &value) == NULL
        || ngx_http_quickblox_add_header(r, "grpc-message", &refusal->text)
           == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->headers_out.status = NGX_HTTP_OK;
    r->header_only = 1;

    if (r->http_version < NGX_HTTP_VERSION_20) {

        /* else the response would be chunked, and have no last chunk */
        r->headers_out.content_length_n = 0;
    }

    ngx_str_set(&r->headers_out.content_type, "application/grpc");
    r->headers_out.content_type_len = r->headers_out.content_type.len;

    return ngx_http_send_header(r);
}


static void
ngx_http_quickblox_refusal_log(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_t *refusal)
{
    u_char      digest[NGX_HTTP_QUICKBLOX_DIGEST_LEN], hex[8];
    ngx_str_t  *source, *token;

    if (!(r->connection->log->log_level >= NGX_LOG_INFO)) {
        return;
    }

    source = ngx_http_quickblox_source_name(ctx->credential.source);
    token = &ctx->credential.token;

    if (token->len == 0
        || EVP_Digest(token->data, token->len, digest, NULL, EVP_sha256(),
                      NULL)
           == 0)
    {
        ERR_clear_error();

        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "quickblox refused: %V, application: \"%V\", "
                      "source: %V", &refusal->text,
                      &ctx->conf->application->name, source);
        return;
    }

    ngx_hex_dump(hex, digest, sizeof(hex) / 2);

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "quickblox refused: %V, application: \"%V\", source: %V, "
                  "token: %*s", &refusal->text, &ctx->conf->application->name,
                  source, sizeof(hex), hex);
}
