
#include "ngx_http_quickblox_replay.h"
#include "ngx_http_quickblox_header.h"
#include "ngx_http_quickblox_refusal.h"
#include "ngx_http_quickblox_session.h"


static ngx_int_t ngx_http_quickblox_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_quickblox_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_int_t ngx_http_quickblox_replay_send(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static ngx_uint_t ngx_http_quickblox_replay_concerns(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static ngx_int_t ngx_http_quickblox_replay_candidate(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static void ngx_http_quickblox_replay_subrequest(ngx_http_request_t *r);
static ngx_uint_t ngx_http_quickblox_replay_status(
    ngx_http_quickblox_loc_conf_t *qlcf, ngx_uint_t status);
static void ngx_http_quickblox_replay_accepted(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static void ngx_http_quickblox_replay_slide(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static ngx_uint_t ngx_http_quickblox_replay_forgets(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static ngx_uint_t ngx_http_quickblox_replay_examinable(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static ngx_int_t ngx_http_quickblox_replay_examine(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_chain_t *in);
static ngx_int_t ngx_http_quickblox_replay_pass(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_uint_t last, ngx_chain_t *in);
static void ngx_http_quickblox_replay_swallow(ngx_chain_t *in);
static void ngx_http_quickblox_replay_post(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static void ngx_http_quickblox_replay_handler(ngx_event_t *ev);
static void ngx_http_quickblox_replay_clean(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static void ngx_http_quickblox_replay_again(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);
static void ngx_http_quickblox_replay_resume(ngx_http_request_t *r);
static void ngx_http_quickblox_replay_refuse(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_e refusal);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


/* a response from a cache says nothing of the session */

#if (NGX_HTTP_CACHE)
#define ngx_http_quickblox_cached(r)  (r)->cached
#else
#define ngx_http_quickblox_cached(r)  0
#endif


#define ngx_http_quickblox_is_client(ctx)                                    \
    ngx_http_quickblox_is_brought((ctx)->credential.source)


ngx_int_t
ngx_http_quickblox_replay_init(ngx_conf_t *cf)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_quickblox_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_quickblox_body_filter;

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_header_filter(ngx_http_request_t *r)
{
    ngx_http_quickblox_ctx_t  *ctx;

    if (r != r->main) {

        if (r->upstream) {
            ngx_http_quickblox_replay_subrequest(r);
        }

        return ngx_http_next_header_filter(r);
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_quickblox_module);

    if (ctx == NULL) {
        return ngx_http_next_header_filter(r);
    }

    if (r->upstream && ngx_http_quickblox_replay_concerns(r, ctx)) {
        return ngx_http_quickblox_replay_candidate(r, ctx);
    }

    return ngx_http_quickblox_replay_send(r, ctx);
}


static ngx_int_t
ngx_http_quickblox_replay_send(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_http_quickblox_count_request(ctx);

    return ngx_http_next_header_filter(r);
}


/* what an upstream's response says of the session; 1 if it is a candidate */

static ngx_uint_t
ngx_http_quickblox_replay_concerns(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_http_quickblox_loc_conf_t  *qlcf;

    qlcf = ngx_http_get_module_loc_conf(r, ngx_http_quickblox_module);

    /* where a redirect has left the location it is no business of its */

    if (!ctx->granted || ctx->conf != qlcf || ngx_http_quickblox_cached(r)
        || ctx->credential.source == NGX_HTTP_QUICKBLOX_SOURCE_API_KEY)
    {
        return 0;
    }

    if (r->err_status) {

        /* the status is the one of an "error_page" */

        ngx_http_quickblox_replay_unseen(r, ctx);
        return 0;
    }

    if (!ngx_http_quickblox_replay_status(qlcf, r->headers_out.status)) {
        ngx_http_quickblox_replay_accepted(r, ctx);
        return 0;
    }

    return 1;
}


/* a response with a status of "quickblox_expired" */

static ngx_int_t
ngx_http_quickblox_replay_candidate(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ctx->examined = 1;

    /* it is of one session, and no answer for others: it enters no cache */
    r->upstream->cacheable = 0;

    if (!ngx_http_quickblox_replay_examinable(r, ctx)) {
        ngx_http_quickblox_session_suspect(ctx);
        return ngx_http_quickblox_replay_send(r, ctx);
    }

    if (ctx->replayed) {

        /* the new session is not accepted either: once is enough */
        return ngx_http_quickblox_replay_send(r, ctx);
    }

    if (ctx->conf->expired_text.len == 0
        && ngx_http_quickblox_session_expired(ctx) == NGX_DECLINED)
    {
        return ngx_http_quickblox_replay_send(r, ctx);
    }

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "quickblox examine response %ui", r->headers_out.status);

    ctx->examining = 1;
    ctx->body_len = 0;

    r->filter_need_in_memory = 1;

    /* else nginx closes a body's temporary file when this filter returns */
    r->preserve_body = 1;

    return NGX_OK;
}


/*
 * A subrequest is not replayed, such as a cache's background update, but what
 * it is answered must not be kept, and makes its parent's session suspect.
 */

static void
ngx_http_quickblox_replay_subrequest(ngx_http_request_t *r)
{
    ngx_http_quickblox_ctx_t       *ctx;
    ngx_http_quickblox_loc_conf_t  *qlcf;

    qlcf = ngx_http_get_module_loc_conf(r, ngx_http_quickblox_module);

    if (qlcf->application == NULL || ngx_http_quickblox_cached(r)
        || !ngx_http_quickblox_replay_status(qlcf, r->headers_out.status))
    {
        return;
    }

    ctx = ngx_http_quickblox_get_ctx(r, 0);

    if (ctx == NULL || !ctx->granted
        || ctx->conf->application != qlcf->application
        || ctx->credential.source == NGX_HTTP_QUICKBLOX_SOURCE_API_KEY)
    {
        return;
    }

    r->upstream->cacheable = 0;

    ngx_http_quickblox_session_suspect(ctx);
}


static ngx_uint_t
ngx_http_quickblox_replay_status(ngx_http_quickblox_loc_conf_t *qlcf,
    ngx_uint_t status)
{
    ngx_uint_t  i, *expired;

    expired = qlcf->expired->elts;

    for (i = 0; i < qlcf->expired->nelts; i++) {
        if (expired[i] == status) {
            return 1;
        }
    }

    return 0;
}


static void
ngx_http_quickblox_replay_accepted(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_uint_t  status;

    status = r->headers_out.status;

    if (status < NGX_HTTP_BAD_REQUEST) {
        ngx_http_quickblox_session_accepted(ctx);
    }

    if (status < NGX_HTTP_OK || status >= NGX_HTTP_SPECIAL_RESPONSE) {
        return;
    }

    ngx_http_quickblox_replay_slide(r, ctx);

    if (ngx_http_quickblox_replay_forgets(r, ctx)) {
        ngx_http_quickblox_session_forget(ctx);
    }
}


static void
ngx_http_quickblox_replay_slide(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *date;

    static ngx_str_t  name = ngx_string("QB-Token-ExpirationDate");

    date = NULL;

    for (part = &r->upstream->headers_in.headers.part; part; part = part->next)
    {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != name.len
                || ngx_strncasecmp(h[i].key.data, name.data, name.len) != 0)
            {
                continue;
            }

            if (date) {

                /* of two dates neither is believed */
                return;
            }

            date = &h[i];
        }
    }

    if (date) {
        ngx_http_quickblox_session_slide(ctx, &date->value);
    }
}


/* whether a 2xx answer here says that the token's user has changed */

static ngx_uint_t
ngx_http_quickblox_replay_forgets(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    u_char     *p, *last;
    ngx_str_t   segment;

    if (ctx->conf->forget != NGX_HTTP_QUICKBLOX_FORGET_AUTO) {
        return ctx->conf->forget == NGX_HTTP_QUICKBLOX_FORGET_ON;
    }

    if (!(r->method & (NGX_HTTP_POST|NGX_HTTP_DELETE))) {
        return 0;
    }

    last = r->uri.data + r->uri.len;

    for (p = last; p > r->uri.data && p[-1] != '/'; p--) { /* void */ }

    segment.data = p;
    segment.len = last - p;

    if (segment.len > 5
        && ngx_strncmp(last - 5, ".json", 5) == 0)
    {
        segment.len -= 5;

    } else if (segment.len > 4 && ngx_strncmp(last - 4, ".xml", 4) == 0) {
        segment.len -= 4;
    }

    return (segment.len == 5 && ngx_strncmp(segment.data, "login", 5) == 0)
           || (segment.len == 7
               && ngx_strncmp(segment.data, "session", 7) == 0);
}


/*
 * The status alone may decide.  Else the body does, if there is one and it is
 * not encoded; and to replay, the request's body must have been kept.
 */

static ngx_uint_t
ngx_http_quickblox_replay_examinable(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_table_elt_t  *encoding;

    if (!ngx_http_quickblox_is_client(ctx)
        && (!ctx->conf->replay || r->request_body_no_buffering))
    {
        return 0;
    }

    if (ctx->conf->expired_text.len == 0) {
        return 1;
    }

    encoding = r->headers_out.content_encoding;

    return !r->header_only && r->method != NGX_HTTP_HEAD
           && (encoding == NULL || encoding->value.len == 0
               || (encoding->value.len == 8
                   && ngx_strncasecmp(encoding->value.data,
                                      (u_char *) "identity", 8)
                      == 0));
}


static ngx_int_t
ngx_http_quickblox_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_http_quickblox_ctx_t  *ctx;

    if (r != r->main) {
        return ngx_http_next_body_filter(r, in);
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_quickblox_module);

    if (ctx == NULL) {
        return ngx_http_next_body_filter(r, in);
    }

    if (r->buffered & NGX_HTTP_QUICKBLOX_BUFFERED) {
        ngx_http_quickblox_replay_swallow(in);
        return NGX_OK;
    }

    if (ctx->examining) {
        return ngx_http_quickblox_replay_examine(r, ctx, in);
    }

    return ngx_http_next_body_filter(r, in);
}


static ngx_int_t
ngx_http_quickblox_replay_examine(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_chain_t *in)
{
    size_t                          size;
    ngx_buf_t                      *b;
    ngx_uint_t                      last, keep;
    ngx_chain_t                    *cl;
    ngx_http_quickblox_loc_conf_t  *qlcf;

    qlcf = ctx->conf;
    keep = qlcf->expired_text.len != 0;
    last = 0;

    if (keep && ctx->body == NULL) {
        ctx->body = ngx_pnalloc(r->pool, qlcf->expired_buffer);
        if (ctx->body == NULL) {
            return NGX_ERROR;
        }
    }

    for (cl = in; cl; cl = cl->next) {

        b = cl->buf;
        size = ngx_buf_in_memory(b) ? (size_t) (b->last - b->pos) : 0;

        if (keep && size) {

            if (size > qlcf->expired_buffer - ctx->body_len) {
                return ngx_http_quickblox_replay_pass(r, ctx, 0, cl);
            }

            ngx_memcpy(ctx->body + ctx->body_len, b->pos, size);
            ctx->body_len += size;
        }

        b->pos = b->last;
        b->file_pos = b->file_last;

        if (b->last_buf) {
            last = 1;
        }
    }

    if (!last && r->upstream->peer.connection == NULL) {

        /* it was cut off: no more comes, and what came is not withheld */

        ngx_http_quickblox_session_suspect(ctx);
        return ngx_http_quickblox_replay_pass(r, ctx, 0, in);
    }

    if (!last) {
        return NGX_OK;
    }

    /* it stays, too, where the gateway's new sessions are not accepted */

    if (keep
        && (!ngx_http_quickblox_contains(ctx->body, ctx->body_len,
                                         &qlcf->expired_text)
            || ngx_http_quickblox_session_expired(ctx) == NGX_DECLINED))
    {
        return ngx_http_quickblox_replay_pass(r, ctx, 1, NULL);
    }

    ngx_http_quickblox_replay_post(r, ctx);

    return NGX_OK;
}


/* no expired response: the header, what was kept, then the rest unchanged */

static ngx_int_t
ngx_http_quickblox_replay_pass(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_uint_t last, ngx_chain_t *in)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t   out;

    ctx->examining = 0;

    rc = ngx_http_quickblox_replay_send(r, ctx);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    if (ctx->body_len == 0 && !last) {
        return ngx_http_next_body_filter(r, in);
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = ctx->body;
    b->last = ctx->body + ctx->body_len;
    b->memory = ctx->body_len ? 1 : 0;
    b->last_buf = last;
    b->last_in_chain = last;

    out.buf = b;
    out.next = in;

    return ngx_http_next_body_filter(r, &out);
}


static void
ngx_http_quickblox_replay_swallow(ngx_chain_t *in)
{
    ngx_chain_t  *cl;

    for (cl = in; cl; cl = cl->next) {
        cl->buf->pos = cl->buf->last;
        cl->buf->file_pos = cl->buf->file_last;
    }
}


/*
 * The upstream is still on the stack: the bit keeps its end from ending the
 * request, and an event goes on when it is gone.
 */

static void
ngx_http_quickblox_replay_post(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ctx->examining = 0;

    r->buffered |= NGX_HTTP_QUICKBLOX_BUFFERED;

    ctx->event.handler = ngx_http_quickblox_replay_handler;
    ctx->event.data = ctx;
    ctx->event.log = r->connection->log;

    ngx_post_event(&ctx->event, &ngx_posted_events);
}


static void
ngx_http_quickblox_replay_handler(ngx_event_t *ev)
{
    ngx_connection_t          *c;
    ngx_http_request_t        *r;
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ev->data;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    ngx_http_quickblox_replay_clean(r, ctx);

    if (ngx_http_quickblox_is_client(ctx)) {
        ngx_http_quickblox_count(ctx->conf->application,
                                 replays[NGX_HTTP_QUICKBLOX_REPLAY_MAPPED]);
        ctx->granted = 0;
        ngx_http_quickblox_replay_refuse(r, ctx,
                                         NGX_HTTP_QUICKBLOX_REFUSE_EXPIRED);
    } else {
        ngx_http_quickblox_replay_again(r, ctx);
    }

    ngx_http_run_posted_requests(c);
}


/* as if no response had come, but for what the upstream's variables tell */

static void
ngx_http_quickblox_replay_clean(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    r->buffered &= ~NGX_HTTP_QUICKBLOX_BUFFERED;

    if (r->connection->write->timer_set) {
        ngx_del_timer(r->connection->write);
    }

    ngx_http_clean_header(r);

    ngx_memzero(r->ctx, sizeof(void *) * ngx_http_max_module);
    ngx_http_set_ctx(r, ctx, ngx_http_quickblox_module);

#if (NGX_HTTP_CACHE)
    r->cache = NULL;
    r->cached = 0;
#endif

    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_request_empty_handler;
}


static void
ngx_http_quickblox_replay_again(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_int_t  rc;

    ctx->replayed = 1;
    ctx->resume = ngx_http_quickblox_replay_resume;

    rc = ngx_http_quickblox_session_get(r, ctx, NGX_HTTP_QUICKBLOX_GET);

    if (rc == NGX_AGAIN) {
        return;
    }

    if (rc == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    ngx_http_quickblox_replay_resume(r);
}


/*
 * From the content phase: "rewrite", "set", "mirror" and "auth_request" have
 * had their say, once.
 */

static void
ngx_http_quickblox_replay_resume(ngx_http_request_t *r)
{
    ngx_uint_t                  i;
    ngx_http_phase_handler_t   *ph;
    ngx_http_quickblox_ctx_t   *ctx;
    ngx_http_core_main_conf_t  *cmcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_quickblox_module);

    if (ctx->result != NGX_HTTP_QUICKBLOX_RESULT_OK) {
        ngx_http_quickblox_count(ctx->conf->application,
                                 replays[NGX_HTTP_QUICKBLOX_REPLAY_FAILED]);
        ctx->granted = 0;
        ngx_http_quickblox_replay_refuse(r, ctx,
                                         ngx_http_quickblox_refusal(ctx));
        return;
    }

    ngx_http_quickblox_header_restore(r, ctx);

    if (ngx_http_quickblox_header_apply(r, ctx, ctx->conf, 1) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    ngx_http_quickblox_count(ctx->conf->application,
                             replays[NGX_HTTP_QUICKBLOX_REPLAY_REPLAYED]);

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);
    ph = cmcf->phase_engine.handlers;

    for (i = 0; ph[i].checker != ngx_http_core_content_phase; i++) {
        /* void */
    }

#if (NGX_PCRE)
    r->ncaptures = ctx->ncaptures;
    r->captures = ctx->captures;
    r->captures_data = ctx->captures_data;
    r->realloc_captures = 1;
#endif

    r->phase_handler = i;
    r->write_event_handler = ngx_http_core_run_phases;

    ngx_http_core_run_phases(r);
}


static void
ngx_http_quickblox_replay_refuse(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_refusal_e refusal)
{
    ngx_int_t  rc;

    rc = ngx_http_quickblox_refuse(r, ctx, refusal);

    if (rc != NGX_DONE) {
        ngx_http_finalize_request(r, rc);
    }
}


void
ngx_http_quickblox_replay_unseen(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    if (ctx->granted && !ctx->examined && r->upstream
        && ctx->credential.source != NGX_HTTP_QUICKBLOX_SOURCE_API_KEY
        && ngx_http_quickblox_replay_status(ctx->conf,
                                            r->upstream->headers_in.status_n))
    {
        ctx->examined = 1;
        ngx_http_quickblox_session_suspect(ctx);
    }
}
