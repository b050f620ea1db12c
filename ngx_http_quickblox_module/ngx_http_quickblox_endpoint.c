
#include "ngx_http_quickblox_endpoint.h"
#include "ngx_http_quickblox_credential.h"
#include "ngx_http_quickblox_login.h"
#include "ngx_http_quickblox_origin.h"
#include "ngx_http_quickblox_session.h"
#include "ngx_http_quickblox_status.h"


struct ngx_http_quickblox_endpoint_s {
    ngx_http_quickblox_login_t   login;
    ngx_str_t                    answer;    /* which may have the token */
    ngx_str_t                    body;      /* the room for it */
    size_t                       received;
    u_char                      *values;
    ngx_uint_t                   json;      /* else it is a form */
};


static ngx_http_quickblox_endpoint_t *ngx_http_quickblox_endpoint_create(
    ngx_http_request_t *r);
static void ngx_http_quickblox_endpoint_cleanup(void *data);
static void ngx_http_quickblox_endpoint_begin(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static void ngx_http_quickblox_endpoint_refuse(ngx_http_request_t *r,
    ngx_http_quickblox_refusal_e refusal);

static ngx_int_t ngx_http_quickblox_endpoint_type(ngx_http_request_t *r,
    ngx_uint_t *json);
static void ngx_http_quickblox_endpoint_read(ngx_http_request_t *r);
static void ngx_http_quickblox_endpoint_read_handler(ngx_http_request_t *r);
static void ngx_http_quickblox_endpoint_read_body(ngx_http_request_t *r);
static void ngx_http_quickblox_endpoint_read_failed(ngx_http_request_t *r,
    ngx_int_t rc);
static ngx_int_t ngx_http_quickblox_endpoint_drop_body(ngx_http_request_t *r);
static void ngx_http_quickblox_endpoint_forget_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_quickblox_endpoint_append(ngx_http_request_t *r,
    ngx_http_quickblox_endpoint_t *ep);
static void ngx_http_quickblox_endpoint_parse(ngx_http_request_t *r);

static void ngx_http_quickblox_endpoint_login(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static void ngx_http_quickblox_endpoint_adopt(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static void ngx_http_quickblox_endpoint_adopted(ngx_http_request_t *r);
static void ngx_http_quickblox_endpoint_logged_in(ngx_http_request_t *r);
static void ngx_http_quickblox_endpoint_set_cookie(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);

static void ngx_http_quickblox_endpoint_logout(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static void ngx_http_quickblox_endpoint_end(ngx_http_request_t *r);
static void ngx_http_quickblox_endpoint_logged_out(ngx_http_request_t *r);

static void ngx_http_quickblox_endpoint_check(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static void ngx_http_quickblox_endpoint_checked(ngx_http_request_t *r);

static void ngx_http_quickblox_endpoint_get(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_get_e how,
    ngx_http_event_handler_pt resume);
static void ngx_http_quickblox_endpoint_ask(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_ask_e ask,
    ngx_http_event_handler_pt resume);
static void ngx_http_quickblox_endpoint_wait(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_int_t rc);
static void ngx_http_quickblox_endpoint_session(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static void ngx_http_quickblox_endpoint_send(ngx_http_request_t *r,
    ngx_str_t *body);
static void ngx_http_quickblox_endpoint_failed(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);


static ngx_str_t  ngx_http_quickblox_json_type =
    ngx_string("application/json");
static ngx_str_t  ngx_http_quickblox_form_type =
    ngx_string("application/x-www-form-urlencoded");
static ngx_str_t  ngx_http_quickblox_root = ngx_string("/");


/*
 * Everything ends with ngx_http_finalize_request(), now or later, for which
 * the request is counted once more.
 */

ngx_int_t
ngx_http_quickblox_endpoint_handler(ngx_http_request_t *r)
{
    ngx_http_quickblox_ctx_t       *ctx;
    ngx_http_quickblox_loc_conf_t  *qlcf;

    if (r != r->main) {
        return NGX_HTTP_NOT_FOUND;
    }

    ctx = ngx_http_quickblox_get_ctx(r, 1);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    qlcf = ngx_http_get_module_loc_conf(r, ngx_http_quickblox_module);

    ngx_http_quickblox_credential_reset(ctx, qlcf);

    ctx->endpoint = ngx_http_quickblox_endpoint_create(r);
    if (ctx->endpoint == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->main->count++;

    ngx_http_quickblox_endpoint_begin(r, ctx);

    return NGX_DONE;
}


static ngx_http_quickblox_endpoint_t *
ngx_http_quickblox_endpoint_create(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t             *cln;
    ngx_http_quickblox_endpoint_t  *ep;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_quickblox_endpoint_t));
    if (cln == NULL) {
        return NULL;
    }

    ep = cln->data;
    ngx_memzero(ep, sizeof(ngx_http_quickblox_endpoint_t));

    cln->handler = ngx_http_quickblox_endpoint_cleanup;

    return ep;
}


static void
ngx_http_quickblox_endpoint_cleanup(void *data)
{
    ngx_http_quickblox_endpoint_t *ep = data;

    if (ep->body.data) {
        ngx_explicit_memzero(ep->body.data, ep->body.len);
    }

    if (ep->values) {
        ngx_explicit_memzero(ep->values, ep->body.len);
    }

    if (ep->answer.len) {
        ngx_explicit_memzero(ep->answer.data, ep->answer.len);
    }
}


static void
ngx_http_quickblox_endpoint_begin(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_int_t                       rc;
    ngx_uint_t                      get;
    ngx_http_quickblox_loc_conf_t  *qlcf;

    qlcf = ctx->conf;
    get = ngx_http_quickblox_is_get(qlcf->endpoint);

    if (r->method != (get ? NGX_HTTP_GET : NGX_HTTP_POST)) {
        ngx_http_quickblox_endpoint_refuse(r,
                                           NGX_HTTP_QUICKBLOX_REFUSE_METHOD);
        return;
    }

    if (!ngx_http_quickblox_origin_allowed(r, qlcf)) {
        ngx_http_quickblox_endpoint_refuse(r,
                                          NGX_HTTP_QUICKBLOX_REFUSE_FORBIDDEN);
        return;
    }

    if (get) {
        rc = ngx_http_discard_request_body(r);

        if (rc != NGX_OK) {
            ngx_http_finalize_request(r, rc);
            return;
        }

        if (qlcf->endpoint == NGX_HTTP_QUICKBLOX_STATUS) {
            ngx_http_quickblox_status_begin(r, ctx);

        } else {
            ngx_http_quickblox_endpoint_check(r, ctx);
        }

        return;
    }

    if (ngx_http_quickblox_endpoint_type(r, &ctx->endpoint->json) != NGX_OK) {
        ngx_http_quickblox_endpoint_refuse(r,
                                         NGX_HTTP_QUICKBLOX_REFUSE_MEDIA_TYPE);
        return;
    }

    ngx_http_quickblox_endpoint_read(r);
}


static void
ngx_http_quickblox_endpoint_refuse(ngx_http_request_t *r,
    ngx_http_quickblox_refusal_e refusal)
{
    ngx_int_t                  rc;
    ngx_http_quickblox_ctx_t  *ctx;

    if (ngx_http_quickblox_endpoint_drop_body(r) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_quickblox_module);

    rc = ngx_http_quickblox_refuse(r, ctx, refusal);

    if (rc != NGX_DONE) {
        ngx_http_finalize_request(r, rc);
    }
}


/* what has no body needs no type */

static ngx_int_t
ngx_http_quickblox_endpoint_type(ngx_http_request_t *r, ngx_uint_t *json)
{
    size_t            len;
    u_char           *p;
    ngx_uint_t        i;
    ngx_table_elt_t  *h;
    ngx_str_t        *types[2];

    h = r->headers_in.content_type;

    if (h == NULL) {
        return (r->headers_in.content_length_n <= 0
                && !r->headers_in.chunked)
               ? NGX_OK : NGX_DECLINED;
    }

    p = h->value.data;

    for (len = 0; len < h->value.len; len++) {
        if (p[len] == ';' || p[len] == ' ' || p[len] == '\t') {
            break;
        }
    }

    types[0] = &ngx_http_quickblox_form_type;
    types[1] = &ngx_http_quickblox_json_type;

    for (i = 0; i < 2; i++) {
        if (len == types[i]->len
            && ngx_strncasecmp(p, types[i]->data, len) == 0)
        {
            *json = i;
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


/*
 * A body with a password is not read by nginx's usual means, which may write
 * it to a file.
 */

static void
ngx_http_quickblox_endpoint_read(ngx_http_request_t *r)
{
    ngx_int_t                       rc;
    ngx_http_quickblox_ctx_t       *ctx;
    ngx_http_quickblox_endpoint_t  *ep;

    ctx = ngx_http_get_module_ctx(r, ngx_http_quickblox_module);
    ep = ctx->endpoint;

    if (r->headers_in.content_length_n > (off_t) ctx->conf->body_max) {
        ngx_http_quickblox_endpoint_refuse(r,
                                          NGX_HTTP_QUICKBLOX_REFUSE_TOO_LARGE);
        return;
    }

    ep->body.len = r->headers_in.chunked
                   ? ctx->conf->body_max
                   : (size_t) ngx_max(r->headers_in.content_length_n, 0);

    ep->body.data = ngx_pcalloc(r->pool, ep->body.len + 1);
    if (ep->body.data == NULL) {
        ep->body.len = 0;
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    r->request_body_no_buffering = 1;

    rc = ngx_http_read_client_request_body(r,
                                       ngx_http_quickblox_endpoint_read_body);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        ngx_http_quickblox_endpoint_read_failed(r, rc);
        return;
    }

    /* the reading has counted the request, too */

    r->main->count--;
}


static void
ngx_http_quickblox_endpoint_read_handler(ngx_http_request_t *r)
{
    if (r->connection->read->timedout) {
        r->connection->timedout = 1;
        ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    ngx_http_quickblox_endpoint_read_body(r);
}


static void
ngx_http_quickblox_endpoint_read_body(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_quickblox_module);

    for ( ;; ) {

        if (ngx_http_quickblox_endpoint_append(r, ctx->endpoint) != NGX_OK) {
            ngx_http_quickblox_endpoint_refuse(r,
                                          NGX_HTTP_QUICKBLOX_REFUSE_TOO_LARGE);
            return;
        }

        if (!r->reading_body) {
            break;
        }

        rc = ngx_http_read_unbuffered_request_body(r);

        if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
            ngx_http_quickblox_endpoint_read_failed(r, rc);
            return;
        }

        if (rc == NGX_AGAIN && r->request_body->bufs == NULL) {
            r->read_event_handler = ngx_http_quickblox_endpoint_read_handler;
            return;
        }
    }

    r->read_event_handler = ngx_http_block_reading;

    ngx_http_quickblox_endpoint_forget_body(r);
    ngx_http_quickblox_endpoint_parse(r);
}


/* chunks that are none, or a client that went away */

static void
ngx_http_quickblox_endpoint_read_failed(ngx_http_request_t *r, ngx_int_t rc)
{
    if (rc != NGX_HTTP_BAD_REQUEST || r->connection->error) {
        ngx_http_finalize_request(r, rc);
        return;
    }

    /* nobody knows where the next request would begin */

    r->keepalive = 0;
    r->lingering_close = 1;

    ngx_http_quickblox_endpoint_refuse(r, NGX_HTTP_QUICKBLOX_REFUSE_MALFORMED);
}


/*
 * The body of what is refused may have a password, which an error page's
 * upstream is not to get.  If HTTP/1 has yet to bring some of it, then it is
 * left unread, and the connection ends: the length that is forgotten here is
 * what nginx would count to know the next request.
 */

static ngx_int_t
ngx_http_quickblox_endpoint_drop_body(ngx_http_request_t *r)
{
    off_t  size, length;

    length = r->headers_in.content_length_n;

    if (r->discard_body || (length <= 0 && !r->headers_in.chunked)) {
        return NGX_OK;
    }

    ngx_http_quickblox_endpoint_forget_body(r);

    if (r->request_body) {
        return NGX_OK;
    }

    if (r->http_version == NGX_HTTP_VERSION_20) {
        return ngx_http_discard_request_body(r);
    }

    size = r->header_in->last - r->header_in->pos;

    /* what HTTP/3 has brought are frames of this request alone */

    if (length > 0 && size >= length
        && r->http_version < NGX_HTTP_VERSION_20)
    {
        size = length;

    } else {
        r->keepalive = 0;
        r->lingering_close = 1;
    }

    ngx_explicit_memzero(r->header_in->pos, size);
    r->header_in->pos += size;

    r->request_body = ngx_pcalloc(r->pool, sizeof(ngx_http_request_body_t));

    return r->request_body ? NGX_OK : NGX_ERROR;
}


/* an error page's upstream must not be told of a body that it never gets */

static void
ngx_http_quickblox_endpoint_forget_body(ngx_http_request_t *r)
{
    r->headers_in.content_length = NULL;
    r->headers_in.content_length_n = -1;
    r->headers_in.chunked = 0;
}


/* what is copied remains nowhere else */

static ngx_int_t
ngx_http_quickblox_endpoint_append(ngx_http_request_t *r,
    ngx_http_quickblox_endpoint_t *ep)
{
    size_t        size;
    ngx_buf_t    *b;
    ngx_int_t     rc;
    ngx_chain_t  *cl;

    rc = NGX_OK;

    if (r->request_body == NULL) {
        return NGX_OK;
    }

    for (cl = r->request_body->bufs; cl; cl = cl->next) {

        b = cl->buf;
        size = ngx_buf_in_memory(b) ? (size_t) (b->last - b->pos) : 0;

        if (size == 0) {
            continue;
        }

        if (size > ep->body.len - ep->received) {
            rc = NGX_ERROR;

        } else {
            ngx_memcpy(ep->body.data + ep->received, b->pos, size);
            ep->received += size;
        }

        ngx_explicit_memzero(b->pos, size);
        b->pos = b->last;
    }

    r->request_body->bufs = NULL;

    return rc;
}


static void
ngx_http_quickblox_endpoint_parse(ngx_http_request_t *r)
{
    ngx_int_t                       rc;
    ngx_str_t                       body;
    ngx_http_quickblox_ctx_t       *ctx;
    ngx_http_quickblox_endpoint_t  *ep;

    ctx = ngx_http_get_module_ctx(r, ngx_http_quickblox_module);
    ep = ctx->endpoint;

    body.len = ep->received;
    body.data = ep->body.data;

    ep->values = ngx_pnalloc(r->pool, ep->body.len + 1);
    if (ep->values == NULL) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    rc = ngx_http_quickblox_login_parse(&body, ep->json, ep->values,
                                        &ep->login);

    ngx_explicit_memzero(body.data, body.len);

    if (rc == NGX_ABORT) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    if (rc != NGX_OK) {
        ngx_http_quickblox_endpoint_refuse(r,
                                          NGX_HTTP_QUICKBLOX_REFUSE_MALFORMED);
        return;
    }

    if (ctx->conf->endpoint == NGX_HTTP_QUICKBLOX_LOGIN) {
        ngx_http_quickblox_endpoint_login(r, ctx);

    } else {
        ngx_http_quickblox_endpoint_logout(r, ctx);
    }
}


/*
 * A login makes a session of its own, whatever cookie or token the request
 * has: nobody is given a session that somebody else has chosen.
 */

static void
ngx_http_quickblox_endpoint_login(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_uint_t                        named;
    ngx_http_quickblox_login_t       *login;
    ngx_http_quickblox_credential_t  *credential;

    login = &ctx->endpoint->login;
    credential = &ctx->credential;

    named = login->login.data || login->email.data;

    if ((login->login.data && login->email.data)
        || named != (login->password.data != NULL)
        || (!named && login->token.data == NULL && !ctx->conf->fresh))
    {
        ngx_http_quickblox_endpoint_refuse(r,
                                          NGX_HTTP_QUICKBLOX_REFUSE_MALFORMED);
        return;
    }

    if (named && (login->login.len + login->email.len == 0
                  || login->password.len == 0))
    {
        ngx_http_quickblox_endpoint_refuse(r,
                                       NGX_HTTP_QUICKBLOX_REFUSE_UNAUTHORIZED);
        return;
    }

    credential->login = login->login;
    credential->email = login->email;
    credential->password = login->password;

    if (login->token.data) {
        ngx_http_quickblox_endpoint_adopt(r, ctx);
        return;
    }

    credential->source = named ? NGX_HTTP_QUICKBLOX_SOURCE_BASIC
                               : NGX_HTTP_QUICKBLOX_SOURCE_APPLICATION;

    ngx_http_quickblox_endpoint_ask(r, ctx, NGX_HTTP_QUICKBLOX_ASK_CREATE,
                                    ngx_http_quickblox_endpoint_logged_in);
}


/* a session made elsewhere: it is a user's, or becomes one by a login */

static void
ngx_http_quickblox_endpoint_adopt(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_str_t  *token;

    token = &ctx->endpoint->login.token;

    if (!ngx_http_quickblox_token(token)) {
        ngx_http_quickblox_endpoint_refuse(r,
                                           NGX_HTTP_QUICKBLOX_REFUSE_EXPIRED);
        return;
    }

    if (ngx_http_quickblox_credential_set_token(r, ctx,
                                            NGX_HTTP_QUICKBLOX_SOURCE_CLIENT,
                                            token)
        != NGX_OK)
    {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    /* somebody may have logged in on it, or out, a moment ago */

    ngx_http_quickblox_endpoint_get(r, ctx, NGX_HTTP_QUICKBLOX_GET_ANEW,
                                    ngx_http_quickblox_endpoint_adopted);
}


static void
ngx_http_quickblox_endpoint_adopted(ngx_http_request_t *r)
{
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_quickblox_module);

    if (ctx->result != NGX_HTTP_QUICKBLOX_RESULT_OK) {
        ngx_http_quickblox_endpoint_refuse(r, ngx_http_quickblox_refusal(ctx));
        return;
    }

    if (ctx->credential.password.len) {
        ngx_http_quickblox_endpoint_ask(r, ctx, NGX_HTTP_QUICKBLOX_ASK_UPGRADE,
                                        ngx_http_quickblox_endpoint_logged_in);
        return;
    }

    if (ctx->session.user_id == 0) {
        ngx_http_quickblox_endpoint_refuse(r,
                                          NGX_HTTP_QUICKBLOX_REFUSE_NEED_USER);
        return;
    }

    ngx_http_quickblox_endpoint_logged_in(r);
}


static void
ngx_http_quickblox_endpoint_logged_in(ngx_http_request_t *r)
{
    ngx_uint_t                 source;
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_quickblox_module);

    if (ctx->result != NGX_HTTP_QUICKBLOX_RESULT_OK) {
        ngx_http_quickblox_endpoint_refuse(r, ngx_http_quickblox_refusal(ctx));
        return;
    }

    /* what the API has just said need not be asked by the next request */

    source = ctx->conf->token ? NGX_HTTP_QUICKBLOX_SOURCE_CLIENT
                              : NGX_HTTP_QUICKBLOX_SOURCE_COOKIE;

    if (ngx_http_quickblox_credential_set_token(r, ctx, source,
                                                &ctx->session.token)
        != NGX_OK)
    {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    ngx_http_quickblox_session_learn(ctx);

    ctx->granted = 1;

    if (!ctx->conf->token) {
        ngx_http_quickblox_endpoint_set_cookie(r, ctx);
        return;
    }

    ngx_http_quickblox_endpoint_session(r, ctx);
}


static void
ngx_http_quickblox_endpoint_set_cookie(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    u_char                             buf[NGX_HTTP_QUICKBLOX_COOKIE_MAX];
    ngx_int_t                          rc;
    ngx_str_t                          value;
    ngx_http_quickblox_sealed_t        sealed;
    ngx_http_quickblox_application_t  *app;

    app = ctx->conf->application;

    sealed.user_id = ctx->session.user_id;
    sealed.created = (uint64_t) ngx_time();
    sealed.token_len = ctx->session.token.len;
    ngx_memcpy(sealed.token, ctx->session.token.data, sealed.token_len);

    value.data = buf;

    rc = ngx_http_quickblox_cookie_seal(&app->cookie, &sealed, &value);

    ngx_explicit_memzero(&sealed, sizeof(ngx_http_quickblox_sealed_t));

    if (rc != NGX_OK) {
        ngx_http_quickblox_credential_failed(r, app,
                                             "no cookie could be sealed");
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    rc = ngx_http_quickblox_set_cookie(r, app, &value);

    ngx_explicit_memzero(buf, value.len);

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    if (ctx->endpoint->login.redirect.data && !ctx->endpoint->json) {
        ngx_http_quickblox_endpoint_send(r, NULL);
        return;
    }

    ngx_http_quickblox_endpoint_session(r, ctx);
}


/* whatever the API says: for this client the session has ended */

static void
ngx_http_quickblox_endpoint_logout(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_int_t                      rc;
    ngx_http_quickblox_refusal_e   refusal;

    rc = ngx_http_quickblox_credential_get(r, ctx, &refusal);

    if (rc == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    if (rc == NGX_OK && ngx_http_quickblox_is_brought(ctx->credential.source))
    {
        ctx->session.token = ctx->credential.token;
        ctx->session.user_id = ctx->credential.user_id;
        ctx->result = NGX_HTTP_QUICKBLOX_RESULT_OK;
        ngx_http_quickblox_endpoint_end(r);
        return;
    }

    if (rc == NGX_OK && ngx_http_quickblox_is_people(ctx->credential.source)) {
        ngx_http_quickblox_endpoint_get(r, ctx, NGX_HTTP_QUICKBLOX_GET_KNOWN,
                                        ngx_http_quickblox_endpoint_end);
        return;
    }

    /* no session, or one that is not the client's to end */

    ngx_http_quickblox_endpoint_logged_out(r);
}


static void
ngx_http_quickblox_endpoint_end(ngx_http_request_t *r)
{
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_quickblox_module);

    if (ctx->result != NGX_HTTP_QUICKBLOX_RESULT_OK) {
        ngx_http_quickblox_endpoint_logged_out(r);
        return;
    }

    if (!ngx_http_quickblox_is_brought(ctx->credential.source)) {
        ctx->credential.token = ctx->session.token;
    }

    ngx_http_quickblox_session_end(ctx);

    ngx_http_quickblox_endpoint_ask(r, ctx,
                                    ctx->conf->destroy
                                    ? NGX_HTTP_QUICKBLOX_ASK_DESTROY
                                    : NGX_HTTP_QUICKBLOX_ASK_DOWNGRADE,
                                    ngx_http_quickblox_endpoint_logged_out);
}


static void
ngx_http_quickblox_endpoint_logged_out(ngx_http_request_t *r)
{
    ngx_http_quickblox_ctx_t          *ctx;
    ngx_http_quickblox_application_t  *app;

    static ngx_str_t  empty = ngx_string("{}");

    ctx = ngx_http_get_module_ctx(r, ngx_http_quickblox_module);
    app = ctx->conf->application;

    if (app->cookie.nkeys
        && ngx_http_quickblox_set_cookie(r, app, NULL) != NGX_OK)
    {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    if (ctx->endpoint->login.redirect.data && !ctx->endpoint->json) {
        ngx_http_quickblox_endpoint_send(r, NULL);
        return;
    }

    ngx_http_quickblox_endpoint_send(r, &empty);
}


static void
ngx_http_quickblox_endpoint_check(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_int_t                      rc;
    ngx_http_quickblox_get_e       how;
    ngx_http_quickblox_refusal_e   refusal;

    rc = ngx_http_quickblox_credential_get(r, ctx, &refusal);

    if (rc == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    if (rc == NGX_ABORT) {
        ngx_http_quickblox_endpoint_refuse(r, refusal);
        return;
    }

    switch (ctx->credential.source) {

    case NGX_HTTP_QUICKBLOX_SOURCE_API_KEY:
    case NGX_HTTP_QUICKBLOX_SOURCE_NONE:
        ngx_http_quickblox_endpoint_refuse(r,
                                           NGX_HTTP_QUICKBLOX_REFUSE_NO_TOKEN);
        return;

    case NGX_HTTP_QUICKBLOX_SOURCE_USER_TOKEN:

        /*
         * who was handed the token may have ended the session with it, and
         * comes for another one
         */

        how = ctx->conf->token ? NGX_HTTP_QUICKBLOX_GET_AGAIN
                               : NGX_HTTP_QUICKBLOX_GET;
        break;

    case NGX_HTTP_QUICKBLOX_SOURCE_CLIENT:
    case NGX_HTTP_QUICKBLOX_SOURCE_COOKIE:
        how = NGX_HTTP_QUICKBLOX_GET;
        break;

    default: /* BASIC, USER, APPLICATION: who asks does not log in */
        how = NGX_HTTP_QUICKBLOX_GET_HELD;
    }

    ngx_http_quickblox_endpoint_get(r, ctx, how,
                                    ngx_http_quickblox_endpoint_checked);
}


static void
ngx_http_quickblox_endpoint_checked(ngx_http_request_t *r)
{
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_quickblox_module);

    if (ctx->result != NGX_HTTP_QUICKBLOX_RESULT_OK) {
        ngx_http_quickblox_endpoint_refuse(r, ngx_http_quickblox_refusal(ctx));
        return;
    }

    if (ctx->credential.source == NGX_HTTP_QUICKBLOX_SOURCE_COOKIE
        && ctx->session.user_id != ctx->credential.user_id)
    {
        /* no refusal is decided from what was cached */

        if (!ctx->revalidated && ctx->status != NGX_HTTP_QUICKBLOX_STATUS_MISS)
        {
            ctx->revalidated = 1;
            ngx_http_quickblox_endpoint_get(r, ctx,
                                          NGX_HTTP_QUICKBLOX_GET_AGAIN,
                                          ngx_http_quickblox_endpoint_checked);
            return;
        }

        ngx_http_quickblox_endpoint_refuse(r,
                                           NGX_HTTP_QUICKBLOX_REFUSE_EXPIRED);
        return;
    }

    ctx->granted = 1;

    ngx_http_quickblox_endpoint_session(r, ctx);
}


static void
ngx_http_quickblox_endpoint_get(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_get_e how,
    ngx_http_event_handler_pt resume)
{
    ctx->resume = resume;

    ngx_http_quickblox_endpoint_wait(r, ctx,
                               ngx_http_quickblox_session_get(r, ctx, how));
}


static void
ngx_http_quickblox_endpoint_ask(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_ask_e ask,
    ngx_http_event_handler_pt resume)
{
    ctx->resume = resume;

    ngx_http_quickblox_endpoint_wait(r, ctx,
                               ngx_http_quickblox_session_ask(r, ctx, ask));
}


static void
ngx_http_quickblox_endpoint_wait(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_int_t rc)
{
    if (rc == NGX_AGAIN) {
        return;
    }

    if (rc == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    ctx->resume(r);
}


static void
ngx_http_quickblox_endpoint_session(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    u_char                        *p;
    size_t                         len;
    ngx_str_t                      body;
    ngx_http_quickblox_session_t  *session;

    session = &ctx->session;

    len = sizeof("{\"session\":{\"application_id\":,\"user_id\":,\"type\":"
                 "\"application\",\"expires_at\":,\"token\":\"\"}}") - 1
          + ctx->conf->application->id.len + NGX_INT64_LEN + NGX_TIME_T_LEN
          + (ctx->conf->token ? session->token.len : 0);

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        ngx_http_quickblox_endpoint_failed(r, ctx);
        return;
    }

    body.data = p;

    p = ngx_sprintf(p, "{\"session\":{\"application_id\":%V,\"user_id\":%uL,"
                    "\"type\":\"%s\",\"expires_at\":%T",
                    &ctx->conf->application->id, session->user_id,
                    session->user_id ? "user" : "application",
                    session->expires);

    if (ctx->conf->token) {

        /* no byte of a token has to be escaped */

        p = ngx_sprintf(p, ",\"token\":\"%V\"", &session->token);
    }

    *p++ = '}';
    *p++ = '}';

    body.len = p - body.data;

    ctx->endpoint->answer = body;

    ngx_http_quickblox_endpoint_send(r, &body);
}


/* without a body a redirect, which names no host, whatever is before us */

static void
ngx_http_quickblox_endpoint_send(ngx_http_request_t *r, ngx_str_t *body)
{
    ngx_int_t                  rc;
    ngx_str_t                  location;
    ngx_http_complex_value_t   cv;
    ngx_http_quickblox_ctx_t  *ctx;

    static ngx_str_t  no_store = ngx_string("no-store");
    static ngx_str_t  no_referrer = ngx_string("no-referrer");

    ctx = ngx_http_get_module_ctx(r, ngx_http_quickblox_module);

    if (ngx_http_quickblox_add_header(r, "Cache-Control", &no_store) == NULL
        || ngx_http_quickblox_add_header(r, "Referrer-Policy", &no_referrer)
           == NULL)
    {
        ngx_http_quickblox_endpoint_failed(r, ctx);
        return;
    }

    if (body) {
        ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));
        cv.value = *body;

        rc = ngx_http_send_response(r, NGX_HTTP_OK,
                                    &ngx_http_quickblox_json_type, &cv);

        if (rc == NGX_HTTP_INTERNAL_SERVER_ERROR) {
            ngx_http_quickblox_endpoint_failed(r, ctx);
            return;
        }

        ngx_http_finalize_request(r, rc);
        return;
    }

    location = ctx->endpoint->login.redirect;

    if (!ngx_http_quickblox_login_target(&location)) {
        location = ngx_http_quickblox_root;
    }

    if (ngx_http_quickblox_add_header(r, "Location", &location) == NULL) {
        ngx_http_quickblox_endpoint_failed(r, ctx);
        return;
    }

    r->headers_out.status = NGX_HTTP_SEE_OTHER;
    r->headers_out.content_length_n = 0;
    r->header_only = 1;

    rc = ngx_http_send_header(r);

    ngx_http_finalize_request(r, rc);
}


/*
 * The header is not sent yet: who is told that a login has failed gets no
 * cookie of it, and a logout's clears one all the same.
 */

static void
ngx_http_quickblox_endpoint_failed(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    if (ctx->conf->endpoint == NGX_HTTP_QUICKBLOX_LOGIN) {
        ngx_http_clean_header(r);
    }

    ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
}
