
/*
 * What a client sends to log in.  No nginx function is called, so that unit
 * tests and fuzzers link this file with the one for JSON alone.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "ngx_http_quickblox_json.h"
#include "ngx_http_quickblox_login.h"


#define ngx_http_quickblox_base64(c)                                         \
    (((c) >= 'A' && (c) <= 'Z') || ((c) >= 'a' && (c) <= 'z')                \
     || ((c) >= '0' && (c) <= '9') || (c) == '+' || (c) == '/')


typedef struct {
    const char   *name;
    size_t        offset;
} ngx_http_quickblox_field_t;


static ngx_int_t ngx_http_quickblox_login_json(ngx_str_t *body, u_char *buf,
    ngx_http_quickblox_login_t *login);
static ngx_int_t ngx_http_quickblox_login_form(ngx_str_t *body, u_char *buf,
    ngx_http_quickblox_login_t *login);
static u_char *ngx_http_quickblox_login_unescape(u_char *dst, u_char *p,
    u_char *last);
static ngx_int_t ngx_http_quickblox_login_hex(u_char c);
static ngx_str_t *ngx_http_quickblox_login_field(
    ngx_http_quickblox_login_t *login, ngx_str_t *name);


static ngx_http_quickblox_field_t  ngx_http_quickblox_login_fields[] = {
    { "login", offsetof(ngx_http_quickblox_login_t, login) },
    { "email", offsetof(ngx_http_quickblox_login_t, email) },
    { "password", offsetof(ngx_http_quickblox_login_t, password) },
    { "token", offsetof(ngx_http_quickblox_login_t, token) },
    { "redirect", offsetof(ngx_http_quickblox_login_t, redirect) },
    { NULL, 0 }
};


ngx_int_t
ngx_http_quickblox_login_parse(ngx_str_t *body, ngx_uint_t json, u_char *buf,
    ngx_http_quickblox_login_t *login)
{
    ngx_memzero(login, sizeof(ngx_http_quickblox_login_t));

    if (body->len == 0) {
        return NGX_OK;
    }

    return json ? ngx_http_quickblox_login_json(body, buf, login)
                : ngx_http_quickblox_login_form(body, buf, login);
}


static ngx_int_t
ngx_http_quickblox_login_json(ngx_str_t *body, u_char *buf,
    ngx_http_quickblox_login_t *login)
{
    char                         *p;
    cJSON                        *root;
    ngx_int_t                     rc;
    ngx_str_t                     value, *field;
    const char                   *reason;
    ngx_http_quickblox_field_t   *f;
    ngx_http_quickblox_member_t   member;

    root = ngx_http_quickblox_json_parse(body, &reason);
    if (root == NULL) {
        return reason == ngx_http_quickblox_json_no_memory ? NGX_ABORT
                                                           : NGX_ERROR;
    }

    rc = NGX_OK;
    p = (char *) login;

    for (f = ngx_http_quickblox_login_fields; f->name; f++) {

        ngx_http_quickblox_json_member(root, f->name, &member);

        if (member.count == 0) {
            continue;
        }

        if (ngx_http_quickblox_json_string(&member, &value) != NGX_OK) {
            rc = NGX_ERROR;
            break;
        }

        /* a decoded string is never longer than what it was made of */

        field = (ngx_str_t *) (p + f->offset);

        field->data = buf;
        field->len = value.len;

        buf = ngx_cpymem(buf, value.data, value.len);
    }

    ngx_http_quickblox_json_free(root);

    return rc;
}


/* application/x-www-form-urlencoded (WHATWG URL standard, 5.1) */

static ngx_int_t
ngx_http_quickblox_login_form(ngx_str_t *body, u_char *buf,
    ngx_http_quickblox_login_t *login)
{
    u_char     *p, *last, *end, *equal, *dst;
    ngx_str_t   name, *field;

    p = body->data;
    last = p + body->len;

    for ( /* void */ ; p < last; p = end + 1) {

        for (end = p; end < last && *end != '&'; end++) { /* void */ }
        for (equal = p; equal < end && *equal != '='; equal++) { /* void */ }

        /* the name is decoded where the value will be */

        dst = ngx_http_quickblox_login_unescape(buf, p, equal);
        if (dst == NULL) {
            return NGX_ERROR;
        }

        name.data = buf;
        name.len = dst - buf;

        field = ngx_http_quickblox_login_field(login, &name);

        if (field && field->data) {
            return NGX_ERROR;
        }

        dst = ngx_http_quickblox_login_unescape(buf,
                                                equal < end ? equal + 1 : end,
                                                end);
        if (dst == NULL) {
            return NGX_ERROR;
        }

        if (field) {
            field->data = buf;
            field->len = dst - buf;
            buf = dst;
        }
    }

    return NGX_OK;
}


/* returns where the decoded bytes end, or NULL */

static u_char *
ngx_http_quickblox_login_unescape(u_char *dst, u_char *p, u_char *last)
{
    u_char     c;
    ngx_int_t  high, low;

    while (p < last) {
        c = *p++;

        if (c == '+') {
            c = ' ';

        } else if (c == '%') {

            if (last - p < 2) {
                return NULL;
            }

            high = ngx_http_quickblox_login_hex(p[0]);
            low = ngx_http_quickblox_login_hex(p[1]);

            if (high == NGX_ERROR || low == NGX_ERROR) {
                return NULL;
            }

            c = (u_char) (high << 4 | low);
            p += 2;
        }

        if (c == '\0') {
            return NULL;
        }

        *dst++ = c;
    }

    return dst;
}


static ngx_int_t
ngx_http_quickblox_login_hex(u_char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c = ngx_tolower(c);

    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }

    return NGX_ERROR;
}


static ngx_str_t *
ngx_http_quickblox_login_field(ngx_http_quickblox_login_t *login,
    ngx_str_t *name)
{
    char                        *p;
    ngx_http_quickblox_field_t  *f;

    p = (char *) login;

    for (f = ngx_http_quickblox_login_fields; f->name; f++) {

        if (ngx_strlen(f->name) == name->len
            && ngx_strncmp(f->name, name->data, name->len) == 0)
        {
            return (ngx_str_t *) (p + f->offset);
        }
    }

    return NULL;
}


ngx_int_t
ngx_http_quickblox_login_basic(ngx_str_t *value, u_char *buf,
    ngx_http_quickblox_login_t *login)
{
    int      n;
    size_t   len, i;
    u_char  *colon, tail[4], last[3];

    ngx_memzero(login, sizeof(ngx_http_quickblox_login_t));

    len = value->len;

    while (len && value->data[len - 1] == '=' && value->len - len < 2) {
        len--;
    }

    for (i = 0; i < len; i++) {

        /* EVP_DecodeBlock() passes over blanks */

        if (!ngx_http_quickblox_base64(value->data[i])) {
            return NGX_ERROR;
        }
    }

    /* padding is missing or all there */

    if (len % 4 == 1 || (len < value->len && value->len % 4)) {
        return NGX_ERROR;
    }

    /* whole blocks first, then what is left of one, padded */

    n = EVP_DecodeBlock(buf, value->data, len / 4 * 4);
    if (n < 0) {
        return NGX_ERROR;
    }

    if (len % 4) {
        ngx_memset(tail, '=', sizeof(tail));
        ngx_memcpy(tail, value->data + len / 4 * 4, len % 4);

        if (EVP_DecodeBlock(last, tail, sizeof(tail)) != sizeof(last)) {
            return NGX_ERROR;
        }

        ngx_memcpy(buf + n, last, len % 4 - 1);
        n += len % 4 - 1;

        OPENSSL_cleanse(tail, sizeof(tail));
        OPENSSL_cleanse(last, sizeof(last));
    }

    colon = memchr(buf, ':', n);

    if (colon == NULL || colon == buf || colon == buf + n - 1) {
        return NGX_ERROR;
    }

    for (i = 0; i < (size_t) n; i++) {
        if (buf[i] < 0x20 || buf[i] == 0x7f) {
            return NGX_ERROR;
        }
    }

    login->login.data = buf;
    login->login.len = colon - buf;

    login->password.data = colon + 1;
    login->password.len = buf + n - colon - 1;

    return NGX_OK;
}


ngx_uint_t
ngx_http_quickblox_login_target(ngx_str_t *target)
{
    u_char  c;
    size_t  i;

    if (target->len == 0 || target->data[0] != '/'
        || (target->len > 1 && target->data[1] == '/'))
    {
        return 0;
    }

    for (i = 1; i < target->len; i++) {
        c = target->data[i];

        if (c <= 0x20 || c >= 0x7f || c == '\\') {
            return 0;
        }
    }

    return 1;
}
