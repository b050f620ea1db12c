
#include "ngx_http_quickblox_origin.h"
#include "ngx_http_quickblox_header.h"


static ngx_str_t *ngx_http_quickblox_origin_header(ngx_http_request_t *r,
    ngx_str_t *name, ngx_uint_t *n);
static ngx_uint_t ngx_http_quickblox_origin_listed(ngx_http_request_t *r,
    ngx_http_quickblox_loc_conf_t *conf, ngx_str_t *origin);
static ngx_uint_t ngx_http_quickblox_origin_self(ngx_http_request_t *r,
    ngx_str_t *origin);
static void ngx_http_quickblox_origin_port(ngx_str_t *host, ngx_uint_t ssl);
static ngx_uint_t ngx_http_quickblox_origin_same(ngx_str_t *a, ngx_str_t *b);


static ngx_str_t  ngx_http_quickblox_origin_name = ngx_string("Origin");
static ngx_str_t  ngx_http_quickblox_site_name = ngx_string("Sec-Fetch-Site");
static ngx_str_t  ngx_http_quickblox_mode_name = ngx_string("Sec-Fetch-Mode");
static ngx_str_t  ngx_http_quickblox_with_name =
    ngx_string("X-Requested-With");

static ngx_str_t  ngx_http_quickblox_self = ngx_string("self");
static ngx_str_t  ngx_http_quickblox_same_origin = ngx_string("same-origin");
static ngx_str_t  ngx_http_quickblox_none = ngx_string("none");
static ngx_str_t  ngx_http_quickblox_navigate = ngx_string("navigate");


ngx_uint_t
ngx_http_quickblox_origin_safe(ngx_http_request_t *r)
{
    return (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_OPTIONS))
           && r->headers_in.upgrade == NULL;
}


ngx_uint_t
ngx_http_quickblox_origin_allowed(ngx_http_request_t *r,
    ngx_http_quickblox_loc_conf_t *conf)
{
    ngx_str_t   *value;
    ngx_uint_t   n;

    value = ngx_http_quickblox_origin_header(
                                       r, &ngx_http_quickblox_origin_name, &n);

    if (value) {
        return n == 1 && ngx_http_quickblox_origin_listed(r, conf, value);
    }

    value = ngx_http_quickblox_origin_header(r, &ngx_http_quickblox_site_name,
                                             &n);

    return value == NULL
           || (n == 1
               && (ngx_http_quickblox_origin_same(value,
                                              &ngx_http_quickblox_same_origin)
                   || ngx_http_quickblox_origin_same(value,
                                                  &ngx_http_quickblox_none)));
}


ngx_uint_t
ngx_http_quickblox_origin_script(ngx_http_request_t *r)
{
    ngx_str_t   *mode;
    ngx_uint_t   n;

    if (ngx_http_quickblox_origin_header(r, &ngx_http_quickblox_origin_name,
                                         &n)
        || ngx_http_quickblox_origin_header(r, &ngx_http_quickblox_with_name,
                                            &n))
    {
        return 1;
    }

    mode = ngx_http_quickblox_origin_header(r, &ngx_http_quickblox_mode_name,
                                            &n);

    return mode && !ngx_http_quickblox_origin_same(mode,
                                                 &ngx_http_quickblox_navigate);
}


/* the first header of a name, and how many there are */

static ngx_str_t *
ngx_http_quickblox_origin_header(ngx_http_request_t *r, ngx_str_t *name,
    ngx_uint_t *n)
{
    ngx_str_t        *value;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    value = NULL;
    *n = 0;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (!ngx_http_quickblox_header_is(&h[i].key, name)) {
                continue;
            }

            if ((*n)++ == 0) {
                value = &h[i].value;
            }
        }
    }

    return value;
}


static ngx_uint_t
ngx_http_quickblox_origin_listed(ngx_http_request_t *r,
    ngx_http_quickblox_loc_conf_t *conf, ngx_str_t *origin)
{
    ngx_str_t   *allowed;
    ngx_uint_t   i;

    if (conf->origins == NULL) {
        return ngx_http_quickblox_origin_self(r, origin);
    }

    allowed = conf->origins->elts;

    for (i = 0; i < conf->origins->nelts; i++) {

        if (ngx_http_quickblox_origin_same(&allowed[i],
                                           &ngx_http_quickblox_self)
            ? ngx_http_quickblox_origin_self(r, origin)
            : ngx_http_quickblox_origin_same(&allowed[i], origin))
        {
            return 1;
        }
    }

    return 0;
}


/* an origin leaves out the port that is its scheme's own; Host may not */

static ngx_uint_t
ngx_http_quickblox_origin_self(ngx_http_request_t *r, ngx_str_t *origin)
{
    ngx_str_t   scheme, host, self;
    ngx_uint_t  ssl;

    ssl = 0;
    ngx_str_set(&scheme, "http://");

#if (NGX_HTTP_SSL)

    if (r->connection->ssl) {
        ssl = 1;
        ngx_str_set(&scheme, "https://");
    }

#endif

    if (origin->len <= scheme.len
        || ngx_strncasecmp(origin->data, scheme.data, scheme.len) != 0)
    {
        return 0;
    }

    if (r->headers_in.host) {
        self = r->headers_in.host->value;

    } else if (r->host_start) {

        /* HTTP/3 has no Host made of ":authority", "server" has no port */

        self.data = r->host_start;
        self.len = r->host_end - r->host_start;

    } else {
        self = r->headers_in.server;
    }

    host.data = origin->data + scheme.len;
    host.len = origin->len - scheme.len;

    ngx_http_quickblox_origin_port(&host, ssl);
    ngx_http_quickblox_origin_port(&self, ssl);

    return self.len && ngx_http_quickblox_origin_same(&host, &self);
}


static void
ngx_http_quickblox_origin_port(ngx_str_t *host, ngx_uint_t ssl)
{
    ngx_str_t  port;

    if (ssl) {
        ngx_str_set(&port, ":443");

    } else {
        ngx_str_set(&port, ":80");
    }

    if (host->len > port.len
        && ngx_strncmp(host->data + host->len - port.len, port.data, port.len)
           == 0)
    {
        host->len -= port.len;
    }
}


static ngx_uint_t
ngx_http_quickblox_origin_same(ngx_str_t *a, ngx_str_t *b)
{
    return a->len == b->len
           && ngx_strncasecmp(a->data, b->data, a->len) == 0;
}


char *
ngx_http_quickblox_origins(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_quickblox_loc_conf_t *qlcf = conf;

    u_char      *p, *last;
    ngx_str_t   *value, *origin, host;
    ngx_uint_t   i;

    if (qlcf->origins != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    qlcf->origins = ngx_array_create(cf->pool, cf->args->nelts - 1,
                                     sizeof(ngx_str_t));
    if (qlcf->origins == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {

        p = value[i].data;
        last = p + value[i].len;

        if (value[i].len > 8
            && ngx_strncasecmp(p, (u_char *) "https://", 8) == 0)
        {
            p += 8;

        } else if (value[i].len > 7
                   && ngx_strncasecmp(p, (u_char *) "http://", 7) == 0)
        {
            p += 7;

        } else if (!ngx_http_quickblox_origin_same(&value[i],
                                                   &ngx_http_quickblox_self))
        {
            goto invalid;
        }

        host.data = p;
        host.len = last - p;

        /* a browser sends a scheme, a host and a port, and nothing else */

        for ( /* void */ ; p < last; p++) {
            if (*p <= ' ' || *p >= 0x7f
                || ngx_strchr("/?#@$*\\\"'<>", *p) != NULL)
            {
                goto invalid;
            }
        }

        origin = ngx_array_push(qlcf->origins);
        if (origin == NULL) {
            return NGX_CONF_ERROR;
        }

        /* but no port that is its scheme's own */

        ngx_http_quickblox_origin_port(&host, host.data - value[i].data == 8);

        origin->data = value[i].data;
        origin->len = host.data + host.len - value[i].data;
    }

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid origin \"%V\" in \"%V\", write \"self\" or "
                       "a scheme, a host and a port, such as "
                       "\"https://app.example.com\"", &value[i], &cmd->name);
    return NGX_CONF_ERROR;
}
