
/*
 * Answers of the API, head and body, through nginx's parsers: however the
 * bytes come, they are read as the same answer, the bounds hold, and where
 * more comes than the answer, its connection is not kept.
 *
 * An input is a byte for the size of the pieces, and the response.
 */


#include "../ngx_http_quickblox_module/ngx_http_quickblox_api.c"

#include "fuzz.h"


/* of small allocations only: others are heap blocks of their length */
#define POOL_SIZE  (sizeof(ngx_pool_t) + 64)


typedef struct {
    ngx_int_t                   rc;
    size_t                      taken;
    ngx_log_t                   log;
    ngx_connection_t            c;
    ngx_http_request_t          r;
    ngx_http_upstream_t         u;
    ngx_http_quickblox_call_t   call;
    ngx_http_post_subrequest_t  ps;
} fuzz_run_t;


static fuzz_run_t *fuzz_run(const u_char *data, size_t size, size_t piece);
static void fuzz_feed(fuzz_run_t *run, const u_char *data, size_t size,
    size_t piece);
static ngx_int_t fuzz_body(fuzz_run_t *run, const u_char *data, size_t len);
static void fuzz_seen(fuzz_run_t *run);
static void fuzz_judge(fuzz_run_t *run);
static void fuzz_compare(fuzz_run_t *a, fuzz_run_t *b);
static void fuzz_free(fuzz_run_t *run);


/* nginx's parsers are not instrumented, but libFuzzer sees their states */

__attribute__((used, section("__libfuzzer_extra_counters")))
static u_char  fuzz_states[512];


int
LLVMFuzzerTestOneInput(const u_char *data, size_t size)
{
    size_t       piece;
    fuzz_run_t  *bytes, *whole, *split;

    if (size == 0) {
        return 0;
    }

    if (ngx_cached_time == NULL) {
        ngx_time_init();
    }

    piece = data[0] ? data[0] : 1;
    data++;
    size--;

    /* one by one, they end where the answer does */

    bytes = fuzz_run(data, size, 1);
    whole = fuzz_run(data, bytes->taken, size + 1);
    split = fuzz_run(data, bytes->taken, piece);

    fuzz_judge(bytes);
    fuzz_compare(bytes, whole);
    fuzz_compare(bytes, split);

    fuzz_free(whole);
    fuzz_free(split);

    if (bytes->rc == NGX_OK && bytes->taken < size) {
        whole = fuzz_run(data, size, size);

        fuzz_check(!whole->u.keepalive);
        fuzz_check(whole->rc == NGX_ERROR
                   || fuzz_same(&whole->call.answer, &bytes->call.answer));

        fuzz_free(whole);
    }

    fuzz_free(bytes);

    return 0;
}


static fuzz_run_t *
fuzz_run(const u_char *data, size_t size, size_t piece)
{
    fuzz_run_t           *run;
    ngx_http_request_t   *r;
    ngx_http_upstream_t  *u;

    run = fuzz_alloc(sizeof(fuzz_run_t));
    ngx_memzero(run, sizeof(fuzz_run_t));

    run->c.log = &run->log;

    r = &run->r;
    u = &run->u;

    r->connection = &run->c;
    r->upstream = u;
    r->post_subrequest = &run->ps;

    run->ps.data = &run->call;
    run->call.pool = ngx_create_pool(POOL_SIZE, &run->log);
    fuzz_check(run->call.pool != NULL);

    u->peer.connection = &run->c;
    u->input_filter_ctx = r;

    u->buffer.start = fuzz_alloc(NGX_HTTP_QUICKBLOX_BUFFER_SIZE);
    u->buffer.end = u->buffer.start + NGX_HTTP_QUICKBLOX_BUFFER_SIZE;
    u->buffer.pos = u->buffer.start;
    u->buffer.last = u->buffer.start;

    fuzz_check(ngx_http_quickblox_api_reinit_request(r) == NGX_OK);

    fuzz_feed(run, data, size, piece);

    return run;
}


/* as ngx_http_upstream_process_header() and what follows it do */

static void
fuzz_feed(fuzz_run_t *run, const u_char *data, size_t size, size_t piece)
{
    size_t      n;
    ngx_buf_t  *b;

    b = &run->u.buffer;
    run->rc = NGX_AGAIN;

    while (run->taken < size && run->rc == NGX_AGAIN) {

        n = ngx_min(ngx_min(piece, size - run->taken),
                    (size_t) (b->end - b->last));

        b->last = ngx_cpymem(b->last, data + run->taken, n);
        run->taken += n;

        run->rc = run->u.process_header(&run->r);
        fuzz_seen(run);

        if (run->rc == NGX_AGAIN && b->last == b->end) {
            run->rc = NGX_HTTP_UPSTREAM_INVALID_HEADER;
        }
    }

    if (run->rc != NGX_OK) {
        return;
    }

    fuzz_check(ngx_http_quickblox_api_filter_init(&run->r) == NGX_OK);

    n = b->last - b->pos;

    if (n) {
        run->rc = fuzz_body(run, b->pos, n);
    }

    while (run->taken < size && run->rc == NGX_OK && run->u.length != 0) {
        n = ngx_min(piece, size - run->taken);
        run->rc = fuzz_body(run, data + run->taken, n);
        run->taken += n;
    }
}


/* in a block of its length, so that a byte beyond it is seen */

static ngx_int_t
fuzz_body(fuzz_run_t *run, const u_char *data, size_t len)
{
    ngx_int_t   rc;
    ngx_buf_t   buffer;
    ngx_str_t   piece;

    piece = fuzz_copy(data, len);
    buffer = run->u.buffer;

    run->u.buffer.last = piece.data;

    rc = ngx_http_quickblox_api_filter(&run->r, len);

    run->u.buffer = buffer;
    free(piece.data);

    fuzz_seen(run);

    return rc;
}


static void
fuzz_seen(fuzz_run_t *run)
{
    if (run->call.status == 0) {
        fuzz_states[run->r.state & 0x7f] = 1;
        fuzz_states[0x80 | (run->call.status_line.code & 0x7f)] = 1;

    } else {
        fuzz_states[0x100 | (run->call.chunked.state & 0x7f)] = 1;
        fuzz_states[0x180 | (run->u.length & 0x7f)] = 1;
    }
}


static void
fuzz_judge(fuzz_run_t *run)
{
    ngx_http_quickblox_call_t  *call;

    call = &run->call;

    fuzz_check(run->rc == NGX_OK || run->rc == NGX_AGAIN
               || run->rc == NGX_ERROR
               || run->rc == NGX_HTTP_UPSTREAM_INVALID_HEADER);

    fuzz_check(call->answer.len <= NGX_HTTP_QUICKBLOX_JSON_MAX);
    fuzz_check(call->answer.len <= call->size);
    fuzz_check(call->retry_after >= 0);
    fuzz_check(call->expires >= NGX_ERROR);
    fuzz_check(call->content_length >= -1);
    fuzz_check(call->content_length <= NGX_HTTP_QUICKBLOX_JSON_MAX);

    if (run->rc != NGX_OK) {
        fuzz_check(call->status == 0 || call->reason.len);
        return;
    }

    fuzz_check((call->status >= 200 && call->status <= 599)
               || call->status == NGX_HTTP_SWITCHING_PROTOCOLS);
    fuzz_check(!(call->has_chunked && call->content_length != -1));
    fuzz_check(call->content_length == -1
               || (off_t) call->answer.len <= call->content_length);

    /* a connection is kept only after the whole of an answer */

    fuzz_check(!run->u.keepalive || run->u.length == 0);
    fuzz_check(!run->u.keepalive || !call->close);
}


static void
fuzz_compare(fuzz_run_t *a, fuzz_run_t *b)
{
    fuzz_check(a->rc == b->rc);
    fuzz_check(a->u.headers_in.status_n == b->u.headers_in.status_n);
    fuzz_check(a->call.status == b->call.status);
    fuzz_check(a->call.date == b->call.date);
    fuzz_check(a->call.expires == b->call.expires);
    fuzz_check(a->call.retry_after == b->call.retry_after);
    fuzz_check(a->call.close == b->call.close);
    fuzz_check(fuzz_same(&a->call.reason, &b->call.reason));

    if (a->rc == NGX_OK) {
        fuzz_check(a->u.length == b->u.length);
        fuzz_check(a->u.keepalive == b->u.keepalive);
        fuzz_check(fuzz_same(&a->call.answer, &b->call.answer));
    }
}


static void
fuzz_free(fuzz_run_t *run)
{
    ngx_destroy_pool(run->call.pool);

    free(run->u.buffer.start);
    free(run);
}
