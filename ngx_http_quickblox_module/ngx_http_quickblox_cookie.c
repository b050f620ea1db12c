
/*
 * Cookies that hold a session.  No nginx function is called, so that unit
 * tests and fuzzers link this file alone.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "ngx_http_quickblox_cookie.h"


#define NGX_HTTP_QUICKBLOX_VERSION   1

#define NGX_HTTP_QUICKBLOX_NONCE     12
#define NGX_HTTP_QUICKBLOX_TAG       16
#define NGX_HTTP_QUICKBLOX_IDS       24

/* what is before and behind the encrypted part, and the longest of all */
#define NGX_HTTP_QUICKBLOX_HEAD      (1 + NGX_HTTP_QUICKBLOX_NONCE)
#define NGX_HTTP_QUICKBLOX_SEAL_MAX                                          \
    (NGX_HTTP_QUICKBLOX_HEAD + NGX_HTTP_QUICKBLOX_IDS                        \
     + NGX_HTTP_QUICKBLOX_TOKEN_MAX + NGX_HTTP_QUICKBLOX_TAG)
#define NGX_HTTP_QUICKBLOX_SEAL_MIN                                          \
    (NGX_HTTP_QUICKBLOX_HEAD + NGX_HTTP_QUICKBLOX_IDS                        \
     + NGX_HTTP_QUICKBLOX_TOKEN_MIN + NGX_HTTP_QUICKBLOX_TAG)


#define ngx_http_quickblox_blank(c)      ((c) == ' ' || (c) == '\t')


static ngx_int_t ngx_http_quickblox_cookie_start(
    ngx_http_quickblox_cookie_t *cookie, u_char *key, u_char *seal,
    ngx_uint_t encrypt);
static ngx_int_t ngx_http_quickblox_cookie_encrypt(
    ngx_http_quickblox_cookie_t *cookie, u_char *plain, int len,
    u_char *seal);
static ngx_int_t ngx_http_quickblox_cookie_decrypt(
    ngx_http_quickblox_cookie_t *cookie, u_char *key, u_char *seal, int len,
    u_char *plain);
static ngx_int_t ngx_http_quickblox_cookie_read(
    ngx_http_quickblox_cookie_t *cookie, u_char *plain, size_t len,
    ngx_http_quickblox_sealed_t *sealed);
static size_t ngx_http_quickblox_cookie_encode(u_char *seal, size_t len,
    u_char *text);
static ngx_uint_t ngx_http_quickblox_cookie_bits(u_char c);
static ngx_inline ngx_uint_t ngx_http_quickblox_cookie_group(u_char *p,
    u_char *out);
static size_t ngx_http_quickblox_cookie_decode(ngx_str_t *value, u_char *seal);
static u_char *ngx_http_quickblox_cookie_put(u_char *p, uint64_t n);
static uint64_t ngx_http_quickblox_cookie_get(u_char *p);
static size_t ngx_http_quickblox_cookie_pair(ngx_str_t *header, size_t pos,
    ngx_str_t *name, ngx_str_t *value);


ngx_int_t
ngx_http_quickblox_cookie_seal(ngx_http_quickblox_cookie_t *cookie,
    ngx_http_quickblox_sealed_t *sealed, ngx_str_t *value)
{
    u_char     *p;
    u_char      plain[NGX_HTTP_QUICKBLOX_IDS + NGX_HTTP_QUICKBLOX_TOKEN_MAX];
    u_char      seal[NGX_HTTP_QUICKBLOX_SEAL_MAX];
    size_t      len;
    ngx_int_t   rc;

    value->len = 0;

    seal[0] = NGX_HTTP_QUICKBLOX_VERSION;

    if (RAND_bytes(seal + 1, NGX_HTTP_QUICKBLOX_NONCE) != 1) {
        return NGX_ERROR;
    }

    p = ngx_http_quickblox_cookie_put(plain, cookie->application_id);
    p = ngx_http_quickblox_cookie_put(p, sealed->user_id);
    p = ngx_http_quickblox_cookie_put(p, sealed->created);
    p = ngx_cpymem(p, sealed->token, sealed->token_len);

    len = p - plain;

    rc = ngx_http_quickblox_cookie_encrypt(cookie, plain, (int) len, seal);

    OPENSSL_cleanse(plain, len);

    if (rc == NGX_OK) {
        value->len = ngx_http_quickblox_cookie_encode(seal,
                       NGX_HTTP_QUICKBLOX_HEAD + len + NGX_HTTP_QUICKBLOX_TAG,
                       value->data);
    }

    return rc;
}


ngx_int_t
ngx_http_quickblox_cookie_open(ngx_http_quickblox_cookie_t *cookie,
    ngx_str_t *value, ngx_http_quickblox_sealed_t *sealed)
{
    u_char     *key;
    u_char      plain[NGX_HTTP_QUICKBLOX_IDS + NGX_HTTP_QUICKBLOX_TOKEN_MAX];
    u_char      seal[NGX_HTTP_QUICKBLOX_COOKIE_MAX];
    size_t      len;
    ngx_int_t   rc;
    ngx_uint_t  i;

    len = ngx_http_quickblox_cookie_decode(value, seal);

    if (len < NGX_HTTP_QUICKBLOX_SEAL_MIN || len > NGX_HTTP_QUICKBLOX_SEAL_MAX
        || seal[0] != NGX_HTTP_QUICKBLOX_VERSION)
    {
        return NGX_DECLINED;
    }

    len -= NGX_HTTP_QUICKBLOX_HEAD + NGX_HTTP_QUICKBLOX_TAG;
    rc = NGX_DECLINED;

    key = cookie->keys;

    for (i = 0; i < cookie->nkeys && rc == NGX_DECLINED; i++) {
        rc = ngx_http_quickblox_cookie_decrypt(cookie, key, seal, (int) len,
                                               plain);
        key += NGX_HTTP_QUICKBLOX_COOKIE_KEY;
    }

    if (rc == NGX_OK) {
        rc = ngx_http_quickblox_cookie_read(cookie, plain, len, sealed);
    }

    OPENSSL_cleanse(plain, len);

    return rc;
}


/* the key, the nonce and what is authenticated only */

static ngx_int_t
ngx_http_quickblox_cookie_start(ngx_http_quickblox_cookie_t *cookie,
    u_char *key, u_char *seal, ngx_uint_t encrypt)
{
    int                len;
    u_char            *p, *new_key, head[1 + 8 + 8];
    const EVP_CIPHER  *cipher;

    /*
     * a cipher that is set again would be allocated again, and a key that is
     * there already, as nearly always, need not be scheduled again
     */

    cipher = EVP_CIPHER_CTX_get0_cipher(cookie->ctx) ? NULL : cookie->cipher;
    new_key = (cookie->keyed == key) ? NULL : key;

    cookie->keyed = NULL;

    if (EVP_CipherInit_ex(cookie->ctx, cipher, NULL, new_key, seal + 1,
                          (int) encrypt)
        != 1)
    {
        return NGX_ERROR;
    }

    cookie->keyed = key;

    /* the name comes last: no two lists of these have one input */

    head[0] = seal[0];
    p = ngx_http_quickblox_cookie_put(head + 1, cookie->application_id);
    (void) ngx_http_quickblox_cookie_put(p, cookie->name.len);

    if (EVP_CipherUpdate(cookie->ctx, NULL, &len, head, sizeof(head)) != 1
        || EVP_CipherUpdate(cookie->ctx, NULL, &len, cookie->name.data,
                            (int) cookie->name.len)
           != 1)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_cookie_encrypt(ngx_http_quickblox_cookie_t *cookie,
    u_char *plain, int len, u_char *seal)
{
    int      n, rest;
    u_char  *p;

    p = seal + NGX_HTTP_QUICKBLOX_HEAD;

    if (ngx_http_quickblox_cookie_start(cookie, cookie->keys, seal, 1)
        != NGX_OK
        || EVP_CipherUpdate(cookie->ctx, p, &n, plain, len) != 1
        || EVP_CipherFinal_ex(cookie->ctx, p + n, &rest) != 1
        || n + rest != len
        || EVP_CIPHER_CTX_ctrl(cookie->ctx, EVP_CTRL_AEAD_GET_TAG,
                               NGX_HTTP_QUICKBLOX_TAG, p + len)
           != 1)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* nothing of what is decrypted is looked at before the tag is right */

static ngx_int_t
ngx_http_quickblox_cookie_decrypt(ngx_http_quickblox_cookie_t *cookie,
    u_char *key, u_char *seal, int len, u_char *plain)
{
    int      n, rest;
    u_char  *p;

    p = seal + NGX_HTTP_QUICKBLOX_HEAD;

    if (ngx_http_quickblox_cookie_start(cookie, key, seal, 0) != NGX_OK
        || EVP_CipherUpdate(cookie->ctx, plain, &n, p, len) != 1
        || EVP_CIPHER_CTX_ctrl(cookie->ctx, EVP_CTRL_AEAD_SET_TAG,
                               NGX_HTTP_QUICKBLOX_TAG, p + len)
           != 1)
    {
        return NGX_ERROR;
    }

    if (EVP_CipherFinal_ex(cookie->ctx, plain + n, &rest) != 1) {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_cookie_read(ngx_http_quickblox_cookie_t *cookie,
    u_char *plain, size_t len, ngx_http_quickblox_sealed_t *sealed)
{
    ngx_str_t  token;

    token.data = plain + NGX_HTTP_QUICKBLOX_IDS;
    token.len = len - NGX_HTTP_QUICKBLOX_IDS;

    if (ngx_http_quickblox_cookie_get(plain) != cookie->application_id
        || !ngx_http_quickblox_token(&token))
    {
        return NGX_DECLINED;
    }

    sealed->user_id = ngx_http_quickblox_cookie_get(plain + 8);
    sealed->created = ngx_http_quickblox_cookie_get(plain + 16);
    sealed->token_len = token.len;
    ngx_memcpy(sealed->token, token.data, token.len);

    return NGX_OK;
}


static size_t
ngx_http_quickblox_cookie_encode(u_char *seal, size_t len, u_char *text)
{
    u_char  *p;
    size_t   n;

    n = EVP_EncodeBlock(text, seal, (int) len);

    while (n && text[n - 1] == '=') {
        n--;
    }

    for (p = text; p < text + n; p++) {
        *p = (*p == '+') ? '-' : (*p == '/') ? '_' : *p;
    }

    return n;
}


/* the six bits that a character stands for, or 64 and more */

static ngx_uint_t
ngx_http_quickblox_cookie_bits(u_char c)
{
    static u_char  bits[] = {
        64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
        64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
        64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 62, 64, 64,
        52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 64, 64, 64, 64, 64, 64,
        64,  0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14,
        15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 64, 64, 64, 64, 63,
        64, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
        41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 64, 64, 64, 64, 64
    };

    return bits[c & 0x7f] | (c & 0x80);
}


/* four characters are three bytes; 1, or 0 where one of them is none */

static ngx_inline ngx_uint_t
ngx_http_quickblox_cookie_group(u_char *p, u_char *out)
{
    ngx_uint_t  a, b, c, d;

    a = ngx_http_quickblox_cookie_bits(p[0]);
    b = ngx_http_quickblox_cookie_bits(p[1]);
    c = ngx_http_quickblox_cookie_bits(p[2]);
    d = ngx_http_quickblox_cookie_bits(p[3]);

    out[0] = (u_char) (a << 2 | b >> 4);
    out[1] = (u_char) (b << 4 | c >> 2);
    out[2] = (u_char) (c << 6 | d);

    return (a | b | c | d) < 64;
}


/*
 * Returns the number of bytes or 0.  What would not be encoded so is no seal:
 * other characters, a single one at the end, or bits that are left over and
 * not zero.
 */

static size_t
ngx_http_quickblox_cookie_decode(ngx_str_t *value, u_char *seal)
{
    u_char  *p, *out, rest[4];
    size_t   n;

    if (value->len >= NGX_HTTP_QUICKBLOX_COOKIE_MAX || value->len % 4 == 1) {
        return 0;
    }

    p = value->data;
    out = seal;

    for (n = value->len; n >= 4; n -= 4) {

        if (!ngx_http_quickblox_cookie_group(p, out)) {
            return 0;
        }

        p += 4;
        out += 3;
    }

    if (n == 0) {
        return out - seal;
    }

    /* "A" is zero bits, so what is left over is in the next byte */

    ngx_memset(rest, 'A', sizeof(rest));
    ngx_memcpy(rest, p, n);

    if (!ngx_http_quickblox_cookie_group(rest, out) || out[n - 1] != 0) {
        return 0;
    }

    return out + n - 1 - seal;
}


static u_char *
ngx_http_quickblox_cookie_put(u_char *p, uint64_t n)
{
    ngx_uint_t  i;

    for (i = 0; i < 8; i++) {
        *p++ = (u_char) (n >> (8 * i));
    }

    return p;
}


static uint64_t
ngx_http_quickblox_cookie_get(u_char *p)
{
    uint64_t    n;
    ngx_uint_t  i;

    n = 0;

    for (i = 0; i < 8; i++) {
        n |= (uint64_t) p[i] << (8 * i);
    }

    return n;
}


ngx_int_t
ngx_http_quickblox_cookie_find(ngx_str_t *header, ngx_str_t *name, size_t *pos,
    ngx_str_t *value)
{
    ngx_str_t  found;

    while (*pos < header->len) {

        *pos = ngx_http_quickblox_cookie_pair(header, *pos, &found, value);

        if (found.len == name->len
            && ngx_memcmp(found.data, name->data, name->len) == 0)
        {
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


size_t
ngx_http_quickblox_cookie_remove(ngx_str_t *header, ngx_str_t *name,
    u_char *dst)
{
    u_char     *p;
    size_t      pos, next, from, end;
    ngx_str_t   found, value;

    p = dst;

    for (pos = 0; pos < header->len; pos = next) {

        next = ngx_http_quickblox_cookie_pair(header, pos, &found, &value);

        if (found.len == name->len
            && ngx_memcmp(found.data, name->data, name->len) == 0)
        {
            continue;
        }

        from = pos;
        end = (header->data[next - 1] == ';') ? next - 1 : next;

        if (p == dst) {
            from = found.data - header->data;

        } else {
            *p++ = ';';
        }

        p = ngx_cpymem(p, header->data + from, end - from);
    }

    return p - dst;
}


/*
 * The pair that begins at pos; returns where the next one does.  One without
 * "=" is a value without a name (RFC 6265bis, 5.7).
 */

static size_t
ngx_http_quickblox_cookie_pair(ngx_str_t *header, size_t pos, ngx_str_t *name,
    ngx_str_t *value)
{
    u_char  *p, *last, *end, *equal;

    p = header->data + pos;
    last = header->data + header->len;

    /* memchr() looks at many bytes at a time, and a cookie may be long */

    end = memchr(p, ';', last - p);

    if (end) {
        pos = end + 1 - header->data;

    } else {
        end = last;
        pos = header->len;
    }

    while (p < end && ngx_http_quickblox_blank(*p)) {
        p++;
    }

    while (p < end && ngx_http_quickblox_blank(end[-1])) {
        end--;
    }

    equal = memchr(p, '=', end - p);

    name->data = p;
    name->len = equal ? equal - p : 0;

    while (name->len && ngx_http_quickblox_blank(p[name->len - 1])) {
        name->len--;
    }

    value->data = equal ? equal + 1 : p;

    while (value->data < end && ngx_http_quickblox_blank(*value->data)) {
        value->data++;
    }

    value->len = end - value->data;

    return pos;
}
