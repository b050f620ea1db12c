
/*
 * The messages of the QuickBlox REST API: pure functions that know nothing
 * of requests, pools and connections.  The protocol facts are those of the
 * QuickBlox pages "authentication", "create-session" and "errors".
 */


#ifndef _NGX_HTTP_QUICKBLOX_MESSAGE_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_MESSAGE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include <openssl/evp.h>


/* SHA-256 */
#define NGX_HTTP_QUICKBLOX_DIGEST_LEN    32

/* a token is opaque; these are the shapes that are let through at all */
#define NGX_HTTP_QUICKBLOX_TOKEN_MIN     8
#define NGX_HTTP_QUICKBLOX_TOKEN_MAX     1024

/* values of the "signature" directive */
#define NGX_HTTP_QUICKBLOX_SHA1          1
#define NGX_HTTP_QUICKBLOX_SHA256        2


/*
 * The parameters of POST /session.json.  An empty login and email make an
 * application session; at most one of the two is set.  The nonce is 31
 * random bits, as it is a JSON number to QuickBlox, and the timestamp is
 * Unix seconds, both in decimal.
 */

typedef struct {
    ngx_str_t                application_id;
    ngx_str_t                auth_key;
    ngx_str_t                auth_secret;
    ngx_str_t                login;
    ngx_str_t                email;
    ngx_str_t                password;
    ngx_str_t                nonce;
    ngx_str_t                timestamp;
    ngx_uint_t               signature;
} ngx_http_quickblox_create_t;


/* what an API answer says of a session; user_id 0 is an application session */

typedef struct {
    uint64_t                 application_id;
    uint64_t                 user_id;
    size_t                   token_len;
    u_char                   token[NGX_HTTP_QUICKBLOX_TOKEN_MAX];
} ngx_http_quickblox_answer_t;


/*
 * Returns the number of bytes that ngx_http_quickblox_create_body() needs
 * at most for these parameters.
 */

size_t ngx_http_quickblox_create_size(ngx_http_quickblox_create_t *p);


/*
 * Writes the signed form body of POST /session.json to body->data, which has
 * room for ngx_http_quickblox_create_size() bytes, and sets body->len.
 *
 * The signature is the lower-case hexadecimal HMAC, keyed by auth_secret, of
 * all "name=value" pairs, raw, sorted as strings and joined with "&"; users'
 * parameters are spelled "user[login]" (page "create-session").
 *
 * NGX_OK or NGX_ERROR (OpenSSL failed); on error the buffer is cleansed.
 */

ngx_int_t ngx_http_quickblox_create_body(ngx_http_quickblox_create_t *p,
    ngx_str_t *body);


/*
 * The form body of POST /login.json: the login or email, and the password, of
 * a user; nothing else is looked at.  _size() is what _body() needs at most.
 */

size_t ngx_http_quickblox_login_size(ngx_http_quickblox_create_t *p);
void ngx_http_quickblox_login_body(ngx_http_quickblox_create_t *p,
    ngx_str_t *body);


/*
 * Reads a session object, {"session":{...}}, of an answer to POST or GET
 * /session.json.  The body is not modified and may hold any bytes.
 *
 * The token is copied to the answer's own buffer, which the caller cleanses.
 *
 * NGX_OK; NGX_DECLINED when the body is an object with "errors" and without
 * "session" (a refusal, whatever its status); NGX_ERROR when it is anything
 * else: no JSON object to ngx_http_quickblox_json_parse(); a key that matters
 * ("session", "token", "application_id", "user_id") twice or missing; a token
 * of another shape than ngx_http_quickblox_token(); an id that is none to
 * ngx_http_quickblox_json_id().  With NGX_ERROR *reason is a constant text
 * for the log.
 */

ngx_int_t ngx_http_quickblox_parse_session(ngx_str_t *body,
    ngx_http_quickblox_answer_t *answer, const char **reason);


/*
 * Reads the answer to POST /login.json, {"user":{"id":5,...}}, as
 * ngx_http_quickblox_parse_session() does its own: NGX_OK with *user_id set
 * and not 0, NGX_DECLINED for a refusal, NGX_ERROR with *reason.
 */

ngx_int_t ngx_http_quickblox_parse_user(ngx_str_t *body, uint64_t *user_id,
    const char **reason);


/*
 * Reads the answer to POST /users/{id}/tokens, {"token":"...",
 * "expires_at":"2023-09-01T14:55:56Z"}, likewise.  Of the answer only the
 * token is set; *expires is Unix seconds, or NGX_ERROR where there is no date
 * that can be read.
 */

ngx_int_t ngx_http_quickblox_parse_token(ngx_str_t *body,
    ngx_http_quickblox_answer_t *answer, time_t *expires,
    const char **reason);


/*
 * Tells whether an error body of the API has this text among its errors:
 * {"errors":["..."]} or {"errors":{"base":["..."]}} (page "errors").  The
 * text is compared as the official SDK does: contained, case ignored.  The
 * same bounds hold as for ngx_http_quickblox_parse_session().
 *
 * 1 or 0; an unreadable body has no text.
 */

ngx_uint_t ngx_http_quickblox_has_error(ngx_str_t *body, ngx_str_t *text);


/*
 * Looks for text in len bytes at data, case ignored for ASCII letters.
 * 1 when found or text is empty, else 0.  Bytes may be any, NUL included.
 */

ngx_uint_t ngx_http_quickblox_contains(u_char *data, size_t len,
    ngx_str_t *text);


/*
 * Parses QB-Token-ExpirationDate in its two documented forms, both UTC:
 * "2018-01-31 12:20:03 UTC" and "2018-03-13 12:13:23 +0000".  Blanks around
 * are allowed, nothing else.
 *
 * Unix seconds or NGX_ERROR.
 */

time_t ngx_http_quickblox_parse_date(ngx_str_t *value);


/*
 * Parses the dates of JSON objects, "2023-09-01T14:55:56Z" and
 * "2023-09-01T14:55:56+00:00", likewise.
 */

time_t ngx_http_quickblox_parse_iso_date(ngx_str_t *value);


/*
 * Takes the token out of a client's value: a leading "Bearer" (any case) and
 * the blanks after it are dropped, trailing blanks too; the token points
 * into the value.
 *
 * NGX_OK with a non-empty token, which may still be impossible; NGX_DECLINED
 * when there is none: empty, or credentials of another scheme (a word of
 * letters, digits and "-" that begins with a letter, then a blank).
 */

ngx_int_t ngx_http_quickblox_client_token(ngx_str_t *value, ngx_str_t *token);


/*
 * Tells whether a token can be one: TOKEN_MIN .. TOKEN_MAX bytes of
 * [A-Za-z0-9._~+/=-].  1 or 0.
 */

ngx_uint_t ngx_http_quickblox_token(ngx_str_t *token);


/*
 * SHA-256 over strings, each preceded by its length as 8 bytes (little
 * endian), so that no two lists of strings have one input.
 *
 * _digest_start() begins with the strings that many lists have in common, or
 * with none; md is EVP_sha256() or a fetched equivalent.  _digest() goes on
 * from there with n more, as often as one likes: ctx is scratch of the
 * caller's, digest has DIGEST_LEN bytes.
 *
 * NGX_OK or NGX_ERROR (OpenSSL failed).
 */

ngx_int_t ngx_http_quickblox_digest_start(EVP_MD_CTX *start,
    const EVP_MD *md, ngx_str_t *strings, ngx_uint_t n);
ngx_int_t ngx_http_quickblox_digest(EVP_MD_CTX *ctx, const EVP_MD_CTX *start,
    ngx_str_t *strings, ngx_uint_t n, u_char *digest);


#endif /* _NGX_HTTP_QUICKBLOX_MESSAGE_H_INCLUDED_ */
