
#include "ngx_http_quickblox_header.h"


/* what is added at most: Authorization and On-Behalf-Of */
#define NGX_HTTP_QUICKBLOX_ADDED  2


static ngx_uint_t ngx_http_quickblox_header_removed(ngx_table_elt_t *h,
    ngx_http_quickblox_loc_conf_t *conf, ngx_uint_t api_key);
static ngx_uint_t ngx_http_quickblox_header_scheme(ngx_str_t *value,
    ngx_str_t *scheme);
static ngx_str_t *ngx_http_quickblox_header_cookie(
    ngx_http_quickblox_loc_conf_t *conf);
static ngx_uint_t ngx_http_quickblox_header_has_cookie(ngx_table_elt_t *h,
    ngx_http_quickblox_loc_conf_t *conf);
static ngx_uint_t ngx_http_quickblox_header_scan(ngx_list_t *list,
    ngx_http_quickblox_loc_conf_t *conf, ngx_uint_t api_key,
    ngx_uint_t *removed);
static ngx_uint_t ngx_http_quickblox_header_added(
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_loc_conf_t *conf,
    ngx_uint_t api_key, ngx_table_elt_t *added);
static void ngx_http_quickblox_header_set(ngx_table_elt_t *h, ngx_str_t *key,
    u_char *lowcase, ngx_uint_t hash, ngx_str_t *value);
static ngx_int_t ngx_http_quickblox_header_rebuild(ngx_http_request_t *r,
    ngx_http_quickblox_loc_conf_t *conf, ngx_uint_t api_key, ngx_uint_t n);
static ngx_int_t ngx_http_quickblox_header_keep(ngx_http_request_t *r,
    ngx_http_quickblox_loc_conf_t *conf, ngx_uint_t api_key,
    ngx_table_elt_t *h, ngx_table_elt_t *copy);


static ngx_str_t  ngx_http_quickblox_qb_token = ngx_string("QB-Token");
static ngx_str_t  ngx_http_quickblox_on_behalf_of =
    ngx_string("On-Behalf-Of");
static ngx_str_t  ngx_http_quickblox_authorization =
    ngx_string("Authorization");
static ngx_str_t  ngx_http_quickblox_cookie_header = ngx_string("Cookie");
static ngx_str_t  ngx_http_quickblox_api_key = ngx_string("ApiKey");
static ngx_str_t  ngx_http_quickblox_basic = ngx_string("Basic");


ngx_uint_t
ngx_http_quickblox_header_is(ngx_str_t *key, ngx_str_t *name)
{
    u_char  a, b;
    size_t  i;

    if (key->len != name->len) {
        return 0;
    }

    for (i = 0; i < key->len; i++) {
        a = key->data[i];
        b = name->data[i];

        if (a == b) {
            continue;
        }

        a = ngx_tolower(a);
        b = ngx_tolower(b);

        if (a != b && !((a == '_' || a == '-') && (b == '_' || b == '-'))) {
            return 0;
        }
    }

    return 1;
}


ngx_int_t
ngx_http_quickblox_header_apply(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx, ngx_http_quickblox_loc_conf_t *conf,
    ngx_uint_t granted)
{
    ngx_uint_t        n, nadded, removed, api_key;
    ngx_list_t       *list;
    ngx_table_elt_t  *h, added[NGX_HTTP_QUICKBLOX_ADDED];

    list = &r->headers_in.headers;

    api_key = granted
              && ctx->credential.source == NGX_HTTP_QUICKBLOX_SOURCE_API_KEY;

    n = ngx_http_quickblox_header_scan(list, conf, api_key, &removed);

    nadded = granted ? ngx_http_quickblox_header_added(ctx, conf, api_key,
                                                       added)
                     : 0;

    if (removed == 0 && nadded == 0) {
        return NGX_OK;
    }

    if (r == r->main ? !ctx->applied : !ctx->saved) {
        ctx->headers = r->main->headers_in.headers;
        ctx->authorization = r->main->headers_in.authorization;
        ctx->cookies = ngx_http_quickblox_cookies(r->main);
        ctx->saved = 1;
    }

    if (r == r->main) {
        ctx->applied = 1;
    }

    /*
     * The list's first part is in the request itself, so that in a list of
     * one part a place at the end shows in no list that was copied before.
     * All others are made anew: their parts are shared with subrequests.
     */

    if (removed || r != r->main || list->part.next
        || list->part.nelts + nadded > list->nalloc)
    {
        if (ngx_http_quickblox_header_rebuild(r, conf, api_key, n + nadded)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    h = (ngx_table_elt_t *) list->part.elts + list->part.nelts;

    ngx_memcpy(h, added, nadded * sizeof(ngx_table_elt_t));

    list->part.nelts += nadded;

    ngx_http_quickblox_unlink_headers(r);

    return NGX_OK;
}


void
ngx_http_quickblox_header_restore(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    if (r == r->main ? !ctx->applied : !ctx->saved) {
        return;
    }

    r->headers_in.headers = ctx->headers;
    r->headers_in.authorization = ctx->authorization;
    ngx_http_quickblox_cookies(r) = ctx->cookies;

    ngx_http_quickblox_unlink_headers(r);

    if (r == r->main) {
        ctx->applied = 0;
    }
}


void
ngx_http_quickblox_header_cleanse(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    if (r->headers_in.passwd.len) {
        ngx_explicit_memzero(r->headers_in.passwd.data,
                             r->headers_in.passwd.len);
    }

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (ngx_http_quickblox_header_is(&h[i].key,
                                             &ngx_http_quickblox_authorization)
                && ngx_http_quickblox_header_is_basic(&h[i].value))
            {
                ngx_explicit_memzero(h[i].value.data, h[i].value.len);
            }
        }
    }
}


/* all headers, and how many of them are removed or changed */

static ngx_uint_t
ngx_http_quickblox_header_scan(ngx_list_t *list,
    ngx_http_quickblox_loc_conf_t *conf, ngx_uint_t api_key,
    ngx_uint_t *removed)
{
    ngx_uint_t        i, n;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    n = 0;
    *removed = 0;

    for (part = &list->part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (ngx_http_quickblox_header_removed(&h[i], conf, api_key)) {
                (*removed)++;
            }
        }

        n += part->nelts;
    }

    return n;
}


static ngx_uint_t
ngx_http_quickblox_header_removed(ngx_table_elt_t *h,
    ngx_http_quickblox_loc_conf_t *conf, ngx_uint_t api_key)
{
    ngx_http_quickblox_loc_conf_t  *limited;

    limited = ngx_http_quickblox_limited(conf);

    if (ngx_http_quickblox_header_is(&h->key, &ngx_http_quickblox_qb_token)
        || ngx_http_quickblox_header_is(&h->key,
                                        &ngx_http_quickblox_on_behalf_of)
        || ngx_http_quickblox_header_is(&h->key, &conf->header.name)
        || (limited
            && ngx_http_quickblox_header_is(&h->key, &limited->header.name)))
    {
        return 1;
    }

    if (!ngx_http_quickblox_header_is(&h->key,
                                      &ngx_http_quickblox_authorization))
    {
        return ngx_http_quickblox_header_has_cookie(h, conf);
    }

    return api_key
           || ngx_http_quickblox_header_scheme(&h->value,
                                               &ngx_http_quickblox_api_key)
           || ((conf->basic || (limited && limited->basic))
               && ngx_http_quickblox_header_is_basic(&h->value));
}


ngx_uint_t
ngx_http_quickblox_header_is_basic(ngx_str_t *value)
{
    return ngx_http_quickblox_header_scheme(value, &ngx_http_quickblox_basic);
}


static ngx_uint_t
ngx_http_quickblox_header_scheme(ngx_str_t *value, ngx_str_t *scheme)
{
    return value->len >= scheme->len
           && ngx_strncasecmp(value->data, scheme->data, scheme->len) == 0
           && (value->len == scheme->len || value->data[scheme->len] == ' '
               || value->data[scheme->len] == '\t');
}


/* the name of the cookie that no upstream sees, or NULL */

static ngx_str_t *
ngx_http_quickblox_header_cookie(ngx_http_quickblox_loc_conf_t *conf)
{
    ngx_http_quickblox_loc_conf_t  *limited;

    if (conf->application) {
        return &conf->application->cookie.name;
    }

    limited = ngx_http_quickblox_limited(conf);

    return limited ? &limited->application->cookie.name : NULL;
}


static ngx_uint_t
ngx_http_quickblox_header_has_cookie(ngx_table_elt_t *h,
    ngx_http_quickblox_loc_conf_t *conf)
{
    size_t      pos;
    ngx_str_t   value, *name;

    if (!ngx_http_quickblox_header_is(&h->key,
                                      &ngx_http_quickblox_cookie_header))
    {
        return 0;
    }

    pos = 0;
    name = ngx_http_quickblox_header_cookie(conf);

    return name && ngx_http_quickblox_cookie_find(&h->value, name, &pos,
                                                  &value)
                   == NGX_OK;
}


static ngx_uint_t
ngx_http_quickblox_header_added(ngx_http_quickblox_ctx_t *ctx,
    ngx_http_quickblox_loc_conf_t *conf, ngx_uint_t api_key,
    ngx_table_elt_t *added)
{
    if (!api_key) {

        if (conf->header.name.len == 0) {
            return 0;
        }

        ngx_http_quickblox_header_set(added, &conf->header.name,
                                      conf->header.lowcase, conf->header.hash,
                                      &ctx->session.token);
        return 1;
    }

    ngx_http_quickblox_header_set(added, &ngx_http_quickblox_authorization,
                                  (u_char *) "authorization", 0,
                                  &conf->application->authorization);

    if (ctx->on_behalf_of.len == 0) {
        return 1;
    }

    ngx_http_quickblox_header_set(added + 1, &ngx_http_quickblox_on_behalf_of,
                                  (u_char *) "on-behalf-of", 0,
                                  &ctx->on_behalf_of);
    return 2;
}


/* hash 0: to be computed, as is done for a name that no directive gives */

static void
ngx_http_quickblox_header_set(ngx_table_elt_t *h, ngx_str_t *key,
    u_char *lowcase, ngx_uint_t hash, ngx_str_t *value)
{
    h->hash = hash ? hash : ngx_hash_key(lowcase, key->len);
    h->key = *key;
    h->value = *value;
    h->lowcase_key = lowcase;

    ngx_http_quickblox_unlink_header(h);
}


static ngx_int_t
ngx_http_quickblox_header_rebuild(ngx_http_request_t *r,
    ngx_http_quickblox_loc_conf_t *conf, ngx_uint_t api_key, ngx_uint_t n)
{
    ngx_int_t         rc;
    ngx_list_t        list;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *elts;

    if (ngx_list_init(&list, r->pool, n ? n : 1, sizeof(ngx_table_elt_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    part = &r->headers_in.headers.part;
    elts = list.part.elts;

    if (ngx_http_quickblox_cookies_init(r) != NGX_OK) {
        return NGX_ERROR;
    }

    for ( /* void */ ; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            elts[list.part.nelts] = h[i];
            ngx_http_quickblox_unlink_header(&elts[list.part.nelts]);

            rc = ngx_http_quickblox_header_keep(r, conf, api_key, &h[i],
                                                &elts[list.part.nelts]);

            if (rc == NGX_ERROR) {
                return NGX_ERROR;
            }

            if (rc == NGX_OK) {
                list.part.nelts++;
            }
        }
    }

    r->headers_in.headers = list;
    r->headers_in.headers.last = &r->headers_in.headers.part;

    return NGX_OK;
}


/* a header's copy, which may lose a cookie; NGX_DECLINED: it is removed */

static ngx_int_t
ngx_http_quickblox_header_keep(ngx_http_request_t *r,
    ngx_http_quickblox_loc_conf_t *conf, ngx_uint_t api_key,
    ngx_table_elt_t *h, ngx_table_elt_t *copy)
{
    u_char  *p;

    if (!ngx_http_quickblox_header_is(&h->key,
                                      &ngx_http_quickblox_cookie_header))
    {
        if (!ngx_http_quickblox_header_removed(h, conf, api_key)) {
            return NGX_OK;
        }

        if (r->headers_in.authorization == h) {
            r->headers_in.authorization = NULL;
        }

        return NGX_DECLINED;
    }

    if (ngx_http_quickblox_header_has_cookie(h, conf)) {

        p = ngx_pnalloc(r->pool, h->value.len + 1);
        if (p == NULL) {
            return NGX_ERROR;
        }

        copy->value.data = p;
        copy->value.len = ngx_http_quickblox_cookie_remove(&h->value,
                                       ngx_http_quickblox_header_cookie(conf),
                                       p);
        p[copy->value.len] = '\0';

        if (copy->value.len == 0) {
            return NGX_DECLINED;
        }
    }

    return ngx_http_quickblox_cookies_add(r, copy);
}
