
/*
 * Cookies that hold a session, sealed: pure functions that know nothing of
 * requests, pools and connections.
 *
 *   | version 1 | nonce 12 | application 8, user 8, time 8, token | tag 16 |
 *                          |<---------- encrypted ------------->|
 *
 * in base64url without padding (RFC 4648, 5), numbers little endian.  The
 * cipher is AES-256-GCM with a random nonce of 96 bits for each seal (NIST
 * SP 800-38D, 8.2.2: at most 2^32 seals with one key).  Version, application
 * and the cookie's name are authenticated with it, so that a seal is good for
 * nothing else.
 */


#ifndef _NGX_HTTP_QUICKBLOX_COOKIE_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_COOKIE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include <openssl/evp.h>

#include "ngx_http_quickblox_message.h"


#define NGX_HTTP_QUICKBLOX_COOKIE_KEY    32

/* the longest value, of the longest token, and a zero byte */
#define NGX_HTTP_QUICKBLOX_COOKIE_MAX    1437


/*
 * keys are "nkeys" times COOKIE_KEY bytes, which do not change once they were
 * used: the first seals, all open
 */

typedef struct {
    EVP_CIPHER              *cipher;      /* AES-256-GCM */
    EVP_CIPHER_CTX          *ctx;         /* of this cookie alone */
    u_char                  *keyed;       /* the key that ctx has, or NULL */
    u_char                  *keys;
    ngx_uint_t               nkeys;
    ngx_str_t                name;
    uint64_t                 application_id;
} ngx_http_quickblox_cookie_t;


/* what is sealed; "created" is the time of login, Unix seconds */

typedef struct {
    uint64_t                 user_id;
    uint64_t                 created;
    size_t                   token_len;
    u_char                   token[NGX_HTTP_QUICKBLOX_TOKEN_MAX];
} ngx_http_quickblox_sealed_t;


/*
 * Seals a session, writing the cookie's value to value->data, which has room
 * for COOKIE_MAX bytes.
 *
 * NGX_OK or NGX_ERROR: OpenSSL or its random generator failed, and there is
 * no value.
 */

ngx_int_t ngx_http_quickblox_cookie_seal(ngx_http_quickblox_cookie_t *cookie,
    ngx_http_quickblox_sealed_t *sealed, ngx_str_t *value);


/*
 * Opens a cookie's value, any bytes.  The caller cleanses *sealed.
 *
 * NGX_OK; NGX_DECLINED when no key opens it: it was sealed by others, for
 * another cookie or application, or is not as it was; NGX_ERROR when OpenSSL
 * failed.
 */

ngx_int_t ngx_http_quickblox_cookie_open(ngx_http_quickblox_cookie_t *cookie,
    ngx_str_t *value, ngx_http_quickblox_sealed_t *sealed);


/*
 * Finds the next cookie of a name in the value of a Cookie header, from *pos,
 * 0 at first, on; *pos moves on behind it.  Names are compared by case, blanks
 * around names and values are not theirs, and what has no "=" has no name
 * (RFC 6265bis, 5.7).  value points into the header.
 *
 * NGX_OK or NGX_DECLINED.
 */

ngx_int_t ngx_http_quickblox_cookie_find(ngx_str_t *header, ngx_str_t *name,
    size_t *pos, ngx_str_t *value);


/*
 * Copies the value of a Cookie header to dst, which has room for header->len
 * bytes, without the cookies of a name; the others stay as they are.
 *
 * Returns the number of bytes copied, 0 when no cookie remains.
 */

size_t ngx_http_quickblox_cookie_remove(ngx_str_t *header, ngx_str_t *name,
    u_char *dst);


#endif /* _NGX_HTTP_QUICKBLOX_COOKIE_H_INCLUDED_ */
