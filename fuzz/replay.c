
/*
 * The matcher of expired responses, through nginx's buffers: wherever a body
 * is split, it is held back when it has the text, and else passes as it was.
 *
 * An input is a byte for the size of the buffers, one for how many of them
 * come at once, one for "quickblox_expired_buffer", a line with the text, and
 * the body.
 */


#include "../ngx_http_quickblox_module/ngx_http_quickblox_session.h"


/* the session is no matter here */

#define ngx_http_quickblox_session_expired(ctx)  NGX_OK
#define ngx_http_quickblox_session_suspect(ctx)

#include "../ngx_http_quickblox_module/ngx_http_quickblox_replay.c"

#include "fuzz.h"


/* of small allocations only: others are heap blocks of their length */
#define POOL_SIZE  (sizeof(ngx_pool_t) + 64)


static ngx_int_t fuzz_header_filter(ngx_http_request_t *r);
static ngx_int_t fuzz_body_filter(ngx_http_request_t *r, ngx_chain_t *in);
static void fuzz_send(ngx_http_request_t *r, ngx_http_quickblox_ctx_t *ctx,
    ngx_str_t *body, size_t piece, ngx_uint_t many);
static size_t fuzz_chain(ngx_chain_t *chain, ngx_buf_t *bufs, ngx_str_t *body,
    size_t piece, ngx_uint_t many);


static u_char      *fuzz_passed;
static size_t       fuzz_passed_len;
static ngx_uint_t   fuzz_headers;
static ngx_uint_t   fuzz_last;


int
LLVMFuzzerTestOneInput(const u_char *data, size_t size)
{
    size_t                          piece;
    ngx_log_t                       log;
    ngx_str_t                       body;
    ngx_uint_t                      many, expired;
    ngx_connection_t                c;
    ngx_http_request_t              r;
    ngx_http_upstream_t             u;
    ngx_http_quickblox_ctx_t        ctx;
    ngx_http_quickblox_loc_conf_t   conf;

    if (size < 4) {
        return 0;
    }

    ngx_memzero(&log, sizeof(ngx_log_t));
    ngx_memzero(&c, sizeof(ngx_connection_t));
    ngx_memzero(&r, sizeof(ngx_http_request_t));
    ngx_memzero(&u, sizeof(ngx_http_upstream_t));
    ngx_memzero(&ctx, sizeof(ngx_http_quickblox_ctx_t));
    ngx_memzero(&conf, sizeof(ngx_http_quickblox_loc_conf_t));

    piece = data[0] ? data[0] : size;
    many = data[1] % 8 + 1;
    conf.expired_buffer = data[2] * 4 + 1;

    data += 3;
    size -= 3;

    conf.expired_text = fuzz_line(&data, &size);

    /* a buffer has memory, even without bytes */

    body.data = fuzz_alloc(size);
    body.len = size;
    ngx_memcpy(body.data, data, size);

    ngx_queue_init(&ngx_posted_events);

    ngx_http_next_header_filter = fuzz_header_filter;
    ngx_http_next_body_filter = fuzz_body_filter;

    fuzz_passed = fuzz_alloc(size);
    fuzz_passed_len = 0;
    fuzz_headers = 0;
    fuzz_last = 0;

    c.log = &log;
    u.peer.connection = &c;

    r.connection = &c;
    r.upstream = &u;
    r.pool = ngx_create_pool(POOL_SIZE, &log);
    fuzz_check(r.pool != NULL);

    ctx.conf = &conf;
    ctx.request = &r;
    ctx.examining = 1;

    fuzz_send(&r, &ctx, &body, piece, many);

    /* with a text, what is larger than the buffer has not got it */

    expired = conf.expired_text.len == 0
              || (size <= conf.expired_buffer
                  && ngx_http_quickblox_contains(body.data, size,
                                                 &conf.expired_text));

    fuzz_check(!ctx.examining);
    fuzz_check(expired == ctx.event.posted);
    fuzz_check(expired == (r.buffered != 0));
    fuzz_check(expired == !fuzz_headers);
    fuzz_check(expired == !fuzz_last);
    fuzz_check(fuzz_passed_len == (expired ? 0 : size));
    fuzz_check(fuzz_passed_len == 0
               || ngx_memcmp(fuzz_passed, body.data, size) == 0);

    ngx_http_quickblox_session_cancel(&ctx);
    fuzz_check(ngx_queue_empty(&ngx_posted_events));

    ngx_destroy_pool(r.pool);

    free(conf.expired_text.data);
    free(body.data);
    free(fuzz_passed);

    return 0;
}


static void
fuzz_send(ngx_http_request_t *r, ngx_http_quickblox_ctx_t *ctx,
    ngx_str_t *body, size_t piece, ngx_uint_t many)
{
    size_t        n;
    ngx_buf_t     bufs[8];
    ngx_str_t     rest;
    ngx_chain_t   chain[8];

    rest = *body;

    /* an empty body has a last buffer, too */

    do {
        n = fuzz_chain(chain, bufs, &rest, piece, many);

        if (ctx->examining) {
            fuzz_check(ngx_http_quickblox_replay_examine(r, ctx, chain)
                       == NGX_OK);
        } else {
            fuzz_check(fuzz_body_filter(r, chain) == NGX_OK);
        }

        rest.data += n;
        rest.len -= n;

    } while (rest.len);
}


static size_t
fuzz_chain(ngx_chain_t *chain, ngx_buf_t *bufs, ngx_str_t *body, size_t piece,
    ngx_uint_t many)
{
    size_t      n, size;
    ngx_uint_t  i;

    n = 0;

    for (i = 0; i < many; i++) {

        if (i && n == body->len) {
            break;
        }

        size = ngx_min(piece, body->len - n);

        ngx_memzero(&bufs[i], sizeof(ngx_buf_t));

        bufs[i].pos = body->data + n;
        bufs[i].last = bufs[i].pos + size;
        bufs[i].memory = (size != 0);

        n += size;

        bufs[i].last_buf = (n == body->len);

        chain[i].buf = &bufs[i];
        chain[i].next = NULL;

        if (i) {
            chain[i - 1].next = &chain[i];
        }
    }

    return n;
}


static ngx_int_t
fuzz_header_filter(ngx_http_request_t *r)
{
    fuzz_check(fuzz_headers++ == 0);

    return NGX_OK;
}


static ngx_int_t
fuzz_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    size_t  n;

    fuzz_check(fuzz_headers == 1);

    for ( /* void */ ; in; in = in->next) {
        n = in->buf->last - in->buf->pos;

        if (n) {
            ngx_memcpy(fuzz_passed + fuzz_passed_len, in->buf->pos, n);
            fuzz_passed_len += n;
        }

        in->buf->pos = in->buf->last;

        fuzz_check(!fuzz_last);
        fuzz_last = in->buf->last_buf;
    }

    return NGX_OK;
}
