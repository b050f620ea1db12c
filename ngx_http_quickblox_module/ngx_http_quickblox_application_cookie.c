
#include "ngx_http_quickblox_application.h"
#include "ngx_http_quickblox_variable.h"


static ngx_int_t ngx_http_quickblox_application_decode_key(ngx_str_t *text,
    u_char *key);
static ngx_uint_t ngx_http_quickblox_application_is_text(ngx_str_t *value);
static const char *ngx_http_quickblox_application_attributes(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app);
static const char *ngx_http_quickblox_application_attribute(
    ngx_http_quickblox_application_t *app, ngx_str_t *attribute);
static const char *ngx_http_quickblox_application_cookie_prefix(
    ngx_http_quickblox_application_t *app);


/* what a browser is told of the cookie; several may be in one argument */

#define NGX_HTTP_QUICKBLOX_SECURE    0x01
#define NGX_HTTP_QUICKBLOX_DOMAIN    0x02
#define NGX_HTTP_QUICKBLOX_PATH      0x04
#define NGX_HTTP_QUICKBLOX_ROOT      0x08
#define NGX_HTTP_QUICKBLOX_SAMESITE  0x10


char *
ngx_http_quickblox_application_cookie_key(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_quickblox_application_t *app = conf;

    u_char                       *key;
    ngx_int_t                     rc;
    ngx_str_t                    *value, name, text;
    ngx_uint_t                    i, n, weak;
    ngx_http_quickblox_cookie_t  *cookie;

    cookie = &app->cookie;

    if (cookie->keys) {
        return "is duplicate";
    }

    value = cf->args->elts;

    cookie->nkeys = cf->args->nelts - 1;
    cookie->keys = ngx_pcalloc(cf->pool,
                               cookie->nkeys * NGX_HTTP_QUICKBLOX_COOKIE_KEY);
    if (cookie->keys == NULL) {
        return NGX_CONF_ERROR;
    }

    key = cookie->keys;

    for (i = 1; i < cf->args->nelts; i++) {

        name = value[i];

        if (name.len >= 5 && ngx_strncmp(name.data, "file:", 5) == 0) {
            name.data += 5;
            name.len -= 5;
        }

        if (ngx_http_quickblox_application_read(cf, &cmd->name, &name, &text)
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }

        rc = ngx_http_quickblox_application_decode_key(&text, key);

        weak = text.len <= NGX_HTTP_QUICKBLOX_COOKIE_KEY + 1
               && ngx_http_quickblox_application_is_text(&text);

        ngx_explicit_memzero(text.data, text.len);

        if (rc != NGX_OK) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\": \"%V\" is no key of %d bytes, plain, "
                               "in hex or in base64, write one with "
                               "\"openssl rand -hex 32\"", &cmd->name, &name,
                               NGX_HTTP_QUICKBLOX_COOKIE_KEY);
            return NGX_CONF_ERROR;
        }

        if (weak) {
            ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                               "\"%V\": \"%V\" is a text, which is a weak "
                               "key, write one with \"openssl rand -hex 32\"",
                               &cmd->name, &name);
        }

        for (n = 0; n < i - 1; n++) {
            if (CRYPTO_memcmp(cookie->keys + n * NGX_HTTP_QUICKBLOX_COOKIE_KEY,
                              key, NGX_HTTP_QUICKBLOX_COOKIE_KEY)
                == 0)
            {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "\"%V\": \"%V\" has the same key as the "
                                   "file before it, remove one", &cmd->name,
                                   &name);
                return NGX_CONF_ERROR;
            }
        }

        key += NGX_HTTP_QUICKBLOX_COOKIE_KEY;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_quickblox_application_decode_key(ngx_str_t *text, u_char *key)
{
    u_char      buf[ngx_base64_decoded_length(64) + 3];
    ngx_int_t   n, rc;
    ngx_str_t   src, dst;
    ngx_uint_t  i;

    src = *text;

    /* as with other secrets, the newline of a text is not meant */

    if (src.len && src.data[src.len - 1] == LF
        && (src.len == NGX_HTTP_QUICKBLOX_COOKIE_KEY + 1
            || ngx_http_quickblox_application_is_text(text)))
    {
        src.len--;
    }

    if (src.len == NGX_HTTP_QUICKBLOX_COOKIE_KEY) {
        ngx_memcpy(key, src.data, src.len);
        return NGX_OK;
    }

    while (src.len && (src.data[src.len - 1] == LF
                       || src.data[src.len - 1] == CR
                       || src.data[src.len - 1] == ' '))
    {
        src.len--;
    }

    if (src.len == 2 * NGX_HTTP_QUICKBLOX_COOKIE_KEY) {

        for (i = 0; i < NGX_HTTP_QUICKBLOX_COOKIE_KEY; i++) {
            n = ngx_hextoi(src.data + 2 * i, 2);

            if (n == NGX_ERROR) {
                return NGX_ERROR;
            }

            key[i] = (u_char) n;
        }

        return NGX_OK;
    }

    /* 43 digits and, perhaps, padding */

    if (src.len < 43 || src.len > 44) {
        return NGX_ERROR;
    }

    dst.data = buf;

    rc = ngx_decode_base64(&dst, &src);

    if (rc != NGX_OK) {
        rc = ngx_decode_base64url(&dst, &src);
    }

    if (rc == NGX_OK && dst.len == NGX_HTTP_QUICKBLOX_COOKIE_KEY) {
        ngx_memcpy(key, buf, NGX_HTTP_QUICKBLOX_COOKIE_KEY);

    } else {
        rc = NGX_ERROR;
    }

    ngx_explicit_memzero(buf, sizeof(buf));

    return rc;
}


static ngx_uint_t
ngx_http_quickblox_application_is_text(ngx_str_t *value)
{
    size_t  i;

    for (i = 0; i < value->len; i++) {
        if (value->data[i] < 0x20 || value->data[i] >= 0x7f) {
            return value->data[i] == LF && i == value->len - 1;
        }
    }

    return 1;
}


char *
ngx_http_quickblox_application_cookie(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_quickblox_application_t *app = conf;

    size_t       i;
    u_char       c;
    ngx_str_t   *value;
    const char  *error;

    if (app->cookie.name.len) {
        return "is duplicate";
    }

    value = cf->args->elts;

    /* a token of RFC 6265 */

    for (i = 0; i < value[1].len; i++) {
        c = value[1].data[i];

        if (c <= 0x20 || c >= 0x7f
            || ngx_strchr("()<>@,;:\\\"/[]?={}", c) != NULL)
        {
            break;
        }
    }

    if (i == 0 || i < value[1].len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid cookie name \"%V\", write for example "
                           "\"cookie __Host-session;\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    app->cookie.name = value[1];

    if (ngx_http_quickblox_add_cookie_variable(cf, &value[1]) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    error = ngx_http_quickblox_application_attributes(cf, app);

    if (error) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid attributes of \"cookie %V\": %s, write "
                           "for example \"cookie %V Secure HttpOnly "
                           "SameSite=Lax Path=/;\"", &value[1], error,
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* NULL or what is wrong */

static const char *
ngx_http_quickblox_application_attributes(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app)
{
    size_t       len;
    u_char      *p, *end, *last;
    ngx_str_t   *value, attribute;
    ngx_uint_t   i;
    const char  *error;

    value = cf->args->elts;
    len = 0;

    for (i = 2; i < cf->args->nelts; i++) {
        len += 2 * value[i].len + 2;
    }

    if (len == 0) {
        app->cookie_flags = NGX_HTTP_QUICKBLOX_SECURE
                            |NGX_HTTP_QUICKBLOX_PATH|NGX_HTTP_QUICKBLOX_ROOT;
        return ngx_http_quickblox_application_cookie_prefix(app);
    }

    app->cookie_attributes.data = ngx_pnalloc(cf->pool, len);
    if (app->cookie_attributes.data == NULL) {
        return "out of memory";
    }

    for (i = 2; i < cf->args->nelts; i++) {

        last = value[i].data + value[i].len;

        for (p = value[i].data; p < last; p = end + 1) {

            while (p < last && *p == ' ') {
                p++;
            }

            for (end = p; end < last && *end != ';'; end++) { /* void */ }

            attribute.data = p;
            attribute.len = end - p;

            while (attribute.len && p[attribute.len - 1] == ' ') {
                attribute.len--;
            }

            if (attribute.len == 0) {
                continue;
            }

            error = ngx_http_quickblox_application_attribute(app, &attribute);
            if (error) {
                return error;
            }
        }
    }

    if (app->same_site_none
        && !(app->cookie_flags & NGX_HTTP_QUICKBLOX_SECURE))
    {
        return "\"SameSite=None\" needs \"Secure\"";
    }

    return ngx_http_quickblox_application_cookie_prefix(app);
}


#define ngx_http_quickblox_attribute_is(attribute, text)                     \
    ((attribute)->len == sizeof(text) - 1                                    \
     && ngx_strncasecmp((attribute)->data, (u_char *) (text),                \
                        sizeof(text) - 1)                                    \
        == 0)

#define ngx_http_quickblox_attribute_begins(attribute, text)                 \
    ((attribute)->len > sizeof(text) - 1                                     \
     && ngx_strncasecmp((attribute)->data, (u_char *) (text),                \
                        sizeof(text) - 1)                                    \
        == 0)


static const char *
ngx_http_quickblox_application_attribute(ngx_http_quickblox_application_t *app,
    ngx_str_t *attribute)
{
    size_t       i;
    u_char      *p;
    ngx_uint_t   flag;

    for (i = 0; i < attribute->len; i++) {
        if (attribute->data[i] < 0x20 || attribute->data[i] >= 0x7f) {
            return "a control or 8-bit byte";
        }
    }

    if (ngx_http_quickblox_attribute_is(attribute, "Secure")) {
        flag = NGX_HTTP_QUICKBLOX_SECURE;

    } else if (ngx_http_quickblox_attribute_is(attribute, "HttpOnly")
               || ngx_http_quickblox_attribute_is(attribute, "Partitioned"))
    {
        flag = 0;

    } else if (ngx_http_quickblox_attribute_is(attribute, "SameSite=Lax")
               || ngx_http_quickblox_attribute_is(attribute,
                                                  "SameSite=Strict"))
    {
        flag = NGX_HTTP_QUICKBLOX_SAMESITE;

    } else if (ngx_http_quickblox_attribute_is(attribute, "SameSite=None")) {
        flag = NGX_HTTP_QUICKBLOX_SAMESITE;
        app->same_site_none = 1;

    } else if (ngx_http_quickblox_attribute_is(attribute, "Path=/")) {
        flag = NGX_HTTP_QUICKBLOX_PATH|NGX_HTTP_QUICKBLOX_ROOT;

    } else if (ngx_http_quickblox_attribute_begins(attribute, "Path=/")) {
        flag = NGX_HTTP_QUICKBLOX_PATH;

    } else if (ngx_http_quickblox_attribute_begins(attribute, "Domain=")) {
        flag = NGX_HTTP_QUICKBLOX_DOMAIN;

    } else {
        return "only \"Secure\", \"HttpOnly\", \"SameSite=\", \"Path=/\", "
               "\"Domain=\" and \"Partitioned\" are known";
    }

    if (app->cookie_flags & flag) {
        return "an attribute twice";
    }

    app->cookie_flags |= flag;

    p = app->cookie_attributes.data + app->cookie_attributes.len;

    app->cookie_attributes.len += ngx_sprintf(p, "; %V", attribute) - p;

    return NULL;
}


/* else no browser takes it (RFC 6265bis, 4.1.3) */

static const char *
ngx_http_quickblox_application_cookie_prefix(
    ngx_http_quickblox_application_t *app)
{
    ngx_str_t   *name;
    ngx_uint_t   flags;

    name = &app->cookie.name;
    flags = app->cookie_flags;

    if (ngx_http_quickblox_attribute_begins(name, "__Secure-")
        && !(flags & NGX_HTTP_QUICKBLOX_SECURE))
    {
        return "a name that begins with \"__Secure-\" needs \"Secure\"";
    }

    if (ngx_http_quickblox_attribute_begins(name, "__Host-")
        && (!(flags & NGX_HTTP_QUICKBLOX_SECURE)
            || !(flags & NGX_HTTP_QUICKBLOX_ROOT)
            || (flags & NGX_HTTP_QUICKBLOX_DOMAIN)))
    {
        return "a name that begins with \"__Host-\" needs \"Secure\" and "
               "\"Path=/\", and no \"Domain\"";
    }

    return NULL;
}
