
/*
 * What differs between nginx 1.22 and newer versions, each difference named
 * once; no other file tests a version.
 */


#ifndef _NGX_HTTP_QUICKBLOX_COMPAT_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_COMPAT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* 1.23.0: headers of one name are linked */

#if (nginx_version >= 1023000)

typedef ngx_table_elt_t  *ngx_http_quickblox_cookies_t;

#define ngx_http_quickblox_cookies(r)         (r)->headers_in.cookie

#define ngx_http_quickblox_unlink_header(h)   (h)->next = NULL

/* fastcgi, scgi and uwsgi keep the links they made of the request's list */
#define ngx_http_quickblox_unlink_headers(r)                                 \
    (r)->headers_in.multi = 0;                                               \
    (r)->headers_in.multi_linked = 0

#else

typedef ngx_array_t  ngx_http_quickblox_cookies_t;

#define ngx_http_quickblox_cookies(r)         (r)->headers_in.cookies

#define ngx_http_quickblox_unlink_header(h)
#define ngx_http_quickblox_unlink_headers(r)

#endif


/*
 * A request's own Cookie headers: makes them none, NGX_OK or NGX_ERROR, and
 * adds one, in order.
 */

#if (nginx_version >= 1023000)

static ngx_inline ngx_int_t
ngx_http_quickblox_cookies_init(ngx_http_request_t *r)
{
    r->headers_in.cookie = NULL;

    return NGX_OK;
}

static ngx_inline ngx_int_t
ngx_http_quickblox_cookies_add(ngx_http_request_t *r, ngx_table_elt_t *h)
{
    ngx_table_elt_t  **last;

    for (last = &r->headers_in.cookie; *last; last = &(*last)->next) {
        /* void */
    }

    h->next = NULL;
    *last = h;

    return NGX_OK;
}

#else

static ngx_inline ngx_int_t
ngx_http_quickblox_cookies_init(ngx_http_request_t *r)
{
    return ngx_array_init(&r->headers_in.cookies, r->pool, 1,
                          sizeof(ngx_table_elt_t *));
}

static ngx_inline ngx_int_t
ngx_http_quickblox_cookies_add(ngx_http_request_t *r, ngx_table_elt_t *h)
{
    ngx_table_elt_t  **p;

    p = ngx_array_push(&r->headers_in.cookies);
    if (p == NULL) {
        return NGX_ERROR;
    }

    *p = h;

    return NGX_OK;
}

#endif


/* 1.23.0: a look-up may have to join values */

#if (nginx_version >= 1023000)

#define ngx_http_quickblox_unknown_header(r, v, var, part, prefix)           \
    ngx_http_variable_unknown_header(r, v, var, part, prefix)

#else

#define ngx_http_quickblox_unknown_header(r, v, var, part, prefix)           \
    ngx_http_variable_unknown_header(v, var, part, prefix)

#endif


/* 1.27.2: ngx_http_parse_chunked() can keep trailers */

#if (nginx_version >= 1027002)

#define ngx_http_quickblox_parse_chunked(r, b, ctx)                          \
    ngx_http_parse_chunked(r, b, ctx, 0)

#else

#define ngx_http_quickblox_parse_chunked(r, b, ctx)                          \
    ngx_http_parse_chunked(r, b, ctx)

#endif


#endif /* _NGX_HTTP_QUICKBLOX_COMPAT_H_INCLUDED_ */
