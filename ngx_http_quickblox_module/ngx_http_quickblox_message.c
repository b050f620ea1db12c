
/*
 * The messages of the QuickBlox REST API.  No nginx function is called, so
 * that unit tests and fuzzers link this file alone.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include "ngx_http_quickblox_json.h"
#include "ngx_http_quickblox_message.h"


/* all parameters of POST /session.json, the signature included */
#define NGX_HTTP_QUICKBLOX_PAIRS         8

#define ngx_http_quickblox_blank(c)      ((c) == ' ' || (c) == '\t')
#define ngx_http_quickblox_digit(c)      ((c) >= '0' && (c) <= '9')


static ngx_uint_t ngx_http_quickblox_pairs(ngx_http_quickblox_create_t *p,
    ngx_str_t *signature, ngx_keyval_t *pairs);
static u_char *ngx_http_quickblox_join(u_char *dst, ngx_keyval_t *pairs,
    ngx_uint_t n, ngx_uint_t escape);
static ngx_int_t ngx_http_quickblox_sign(ngx_http_quickblox_create_t *p,
    u_char *data, size_t len, u_char *hex, ngx_str_t *signature);
static u_char *ngx_http_quickblox_escape(u_char *dst, ngx_str_t *value);
static ngx_uint_t ngx_http_quickblox_unreserved(u_char c);

static ngx_int_t ngx_http_quickblox_session(cJSON *root, ngx_str_t *body,
    ngx_http_quickblox_answer_t *answer, const char **reason);
static ngx_int_t ngx_http_quickblox_session_token(
    ngx_http_quickblox_member_t *token, ngx_http_quickblox_answer_t *answer,
    const char **reason);
static ngx_int_t ngx_http_quickblox_session_object(cJSON *root,
    const char *name, ngx_http_quickblox_member_t *object,
    const char **reason);

static time_t ngx_http_quickblox_date(ngx_str_t *value, const char *layout,
    const char *zone, const char *other);
static ngx_int_t ngx_http_quickblox_date_days(u_char *p, uint64_t *days);
static ngx_uint_t ngx_http_quickblox_date_number(u_char *p, size_t n);
static ngx_int_t ngx_http_quickblox_digest_add(EVP_MD_CTX *ctx,
    ngx_str_t *strings, ngx_uint_t n);


size_t
ngx_http_quickblox_create_size(ngx_http_quickblox_create_t *p)
{
    size_t        len;
    ngx_str_t     signature;
    ngx_uint_t    i, n;
    ngx_keyval_t  pairs[NGX_HTTP_QUICKBLOX_PAIRS];

    /* the longest signature, and each byte of a value escaped */

    ngx_str_null(&signature);

    n = ngx_http_quickblox_pairs(p, &signature, pairs);

    len = 2 * EVP_MAX_MD_SIZE;

    for (i = 0; i < n; i++) {
        len += sizeof("&=") - 1 + pairs[i].key.len + 3 * pairs[i].value.len;
    }

    return len;
}


ngx_int_t
ngx_http_quickblox_create_body(ngx_http_quickblox_create_t *p, ngx_str_t *body)
{
    u_char        *last, hex[2 * EVP_MAX_MD_SIZE];
    ngx_int_t      rc;
    ngx_str_t      signature;
    ngx_uint_t     n;
    ngx_keyval_t   pairs[NGX_HTTP_QUICKBLOX_PAIRS];

    /*
     * The message to sign is built where the body will be.  The body is the
     * longer of the two, so nothing of the message remains behind it.
     */

    n = ngx_http_quickblox_pairs(p, NULL, pairs);
    last = ngx_http_quickblox_join(body->data, pairs, n, 0);

    rc = ngx_http_quickblox_sign(p, body->data, last - body->data, hex,
                                 &signature);
    if (rc != NGX_OK) {
        OPENSSL_cleanse(body->data, last - body->data);
        body->len = 0;
        return NGX_ERROR;
    }

    n = ngx_http_quickblox_pairs(p, &signature, pairs);
    last = ngx_http_quickblox_join(body->data, pairs, n, 1);

    body->len = last - body->data;

    OPENSSL_cleanse(hex, sizeof(hex));

    return NGX_OK;
}


size_t
ngx_http_quickblox_login_size(ngx_http_quickblox_create_t *p)
{
    return sizeof("email=&password=") - 1
           + 3 * (p->login.len + p->email.len + p->password.len);
}


void
ngx_http_quickblox_login_body(ngx_http_quickblox_create_t *p, ngx_str_t *body)
{
    u_char        *last;
    ngx_keyval_t   pairs[2];

    if (p->email.len) {
        ngx_str_set(&pairs[0].key, "email");
        pairs[0].value = p->email;

    } else {
        ngx_str_set(&pairs[0].key, "login");
        pairs[0].value = p->login;
    }

    ngx_str_set(&pairs[1].key, "password");
    pairs[1].value = p->password;

    last = ngx_http_quickblox_join(body->data, pairs, 2, 1);

    body->len = last - body->data;
}


/* the order of the names is that of strings, as the signature wants them */

static ngx_uint_t
ngx_http_quickblox_pairs(ngx_http_quickblox_create_t *p, ngx_str_t *signature,
    ngx_keyval_t *pairs)
{
    ngx_keyval_t  *kv;

    kv = pairs;

    ngx_str_set(&kv->key, "application_id");
    kv++->value = p->application_id;

    ngx_str_set(&kv->key, "auth_key");
    kv++->value = p->auth_key;

    ngx_str_set(&kv->key, "nonce");
    kv++->value = p->nonce;

    if (signature) {
        ngx_str_set(&kv->key, "signature");
        kv++->value = *signature;
    }

    ngx_str_set(&kv->key, "timestamp");
    kv++->value = p->timestamp;

    if (p->email.len) {
        ngx_str_set(&kv->key, "user[email]");
        kv++->value = p->email;
    }

    if (p->login.len) {
        ngx_str_set(&kv->key, "user[login]");
        kv++->value = p->login;
    }

    if (p->email.len || p->login.len) {
        ngx_str_set(&kv->key, "user[password]");
        kv++->value = p->password;
    }

    return kv - pairs;
}


static u_char *
ngx_http_quickblox_join(u_char *dst, ngx_keyval_t *pairs, ngx_uint_t n,
    ngx_uint_t escape)
{
    ngx_str_t   *value;
    ngx_uint_t   i;

    for (i = 0; i < n; i++) {

        if (i) {
            *dst++ = '&';
        }

        dst = ngx_cpymem(dst, pairs[i].key.data, pairs[i].key.len);
        *dst++ = '=';

        value = &pairs[i].value;

        if (escape) {
            dst = ngx_http_quickblox_escape(dst, value);

        } else if (value->len) {
            dst = ngx_cpymem(dst, value->data, value->len);
        }
    }

    return dst;
}


static ngx_int_t
ngx_http_quickblox_sign(ngx_http_quickblox_create_t *p, u_char *data,
    size_t len, u_char *hex, ngx_str_t *signature)
{
    u_char         md[EVP_MAX_MD_SIZE];
    unsigned int   i, n;
    const EVP_MD  *type;

    static u_char  digits[] = "0123456789abcdef";

    switch (p->signature) {

    case NGX_HTTP_QUICKBLOX_SHA1:
        type = EVP_sha1();
        break;

    case NGX_HTTP_QUICKBLOX_SHA256:
        type = EVP_sha256();
        break;

    default:
        return NGX_ERROR;
    }

    if (HMAC(type, p->auth_secret.data, (int) p->auth_secret.len, data, len,
             md, &n)
        == NULL)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {
        hex[2 * i] = digits[md[i] >> 4];
        hex[2 * i + 1] = digits[md[i] & 0x0f];
    }

    signature->data = hex;
    signature->len = 2 * n;

    OPENSSL_cleanse(md, sizeof(md));

    return NGX_OK;
}


static u_char *
ngx_http_quickblox_escape(u_char *dst, ngx_str_t *value)
{
    u_char         c;
    size_t         i;

    static u_char  digits[] = "0123456789ABCDEF";

    for (i = 0; i < value->len; i++) {
        c = value->data[i];

        if (ngx_http_quickblox_unreserved(c)) {
            *dst++ = c;
            continue;
        }

        *dst++ = '%';
        *dst++ = digits[c >> 4];
        *dst++ = digits[c & 0x0f];
    }

    return dst;
}


static ngx_uint_t
ngx_http_quickblox_unreserved(u_char c)
{
    if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')
        || ngx_http_quickblox_digit(c))
    {
        return 1;
    }

    return c == '-' || c == '.' || c == '_' || c == '~';
}


ngx_int_t
ngx_http_quickblox_parse_session(ngx_str_t *body,
    ngx_http_quickblox_answer_t *answer, const char **reason)
{
    cJSON      *root;
    ngx_int_t   rc;

    root = ngx_http_quickblox_json_parse(body, reason);
    if (root == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_quickblox_session(root, body, answer, reason);

    ngx_http_quickblox_json_free(root);

    return rc;
}


static ngx_int_t
ngx_http_quickblox_session(cJSON *root, ngx_str_t *body,
    ngx_http_quickblox_answer_t *answer, const char **reason)
{
    uint64_t                     application_id, user_id;
    ngx_int_t                    rc;
    ngx_http_quickblox_member_t  session, token, application, user;

    rc = ngx_http_quickblox_session_object(root, "session", &session, reason);
    if (rc != NGX_OK) {
        return rc;
    }

    if (!cJSON_IsObject(session.item)) {
        *reason = "has no \"session\" object";
        return NGX_ERROR;
    }

    ngx_http_quickblox_json_member(session.item, "token", &token);
    ngx_http_quickblox_json_member(session.item, "application_id",
                                   &application);
    ngx_http_quickblox_json_member(session.item, "user_id", &user);

    if (token.count != 1 || application.count != 1 || user.count != 1) {
        *reason = "has \"token\", \"application_id\" or \"user_id\" "
                  "twice or not at all";
        return NGX_ERROR;
    }

    if (ngx_http_quickblox_json_id(body, &session, &application,
                                   &application_id)
        != NGX_OK)
    {
        *reason = "has an invalid \"application_id\"";
        return NGX_ERROR;
    }

    if (ngx_http_quickblox_json_id(body, &session, &user, &user_id)
        != NGX_OK)
    {
        *reason = "has an invalid \"user_id\"";
        return NGX_ERROR;
    }

    rc = ngx_http_quickblox_session_token(&token, answer, reason);

    if (rc == NGX_OK) {
        answer->application_id = application_id;
        answer->user_id = user_id;
    }

    return rc;
}


static ngx_int_t
ngx_http_quickblox_session_token(ngx_http_quickblox_member_t *token,
    ngx_http_quickblox_answer_t *answer, const char **reason)
{
    ngx_str_t  value;

    if (ngx_http_quickblox_json_string(token, &value) != NGX_OK
        || !ngx_http_quickblox_token(&value))
    {
        *reason = "has an invalid \"token\"";
        return NGX_ERROR;
    }

    answer->token_len = value.len;
    ngx_memcpy(answer->token, value.data, value.len);

    return NGX_OK;
}


/* an object of the answer, or NGX_DECLINED where it has "errors" instead */

static ngx_int_t
ngx_http_quickblox_session_object(cJSON *root, const char *name,
    ngx_http_quickblox_member_t *object, const char **reason)
{
    ngx_http_quickblox_member_t  errors;

    ngx_http_quickblox_json_member(root, name, object);
    ngx_http_quickblox_json_member(root, "errors", &errors);

    if (object->count > 1 || errors.count > 1) {
        *reason = "has an object or \"errors\" twice";
        return NGX_ERROR;
    }

    if (object->count == 0 && errors.count == 1) {
        return NGX_DECLINED;
    }

    if (object->count == 0) {
        *reason = "has not the object that it should have";
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_quickblox_parse_user(ngx_str_t *body, uint64_t *user_id,
    const char **reason)
{
    cJSON                        *root;
    ngx_int_t                     rc;
    ngx_http_quickblox_member_t   user, id;

    root = ngx_http_quickblox_json_parse(body, reason);
    if (root == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_quickblox_session_object(root, "user", &user, reason);

    if (rc == NGX_OK) {

        ngx_memzero(&id, sizeof(ngx_http_quickblox_member_t));

        if (cJSON_IsObject(user.item)) {
            ngx_http_quickblox_json_member(user.item, "id", &id);
        }

        if (ngx_http_quickblox_json_id(body, &user, &id, user_id) != NGX_OK
            || *user_id == 0)
        {
            *reason = "has an invalid \"id\" of a user";
            rc = NGX_ERROR;
        }
    }

    ngx_http_quickblox_json_free(root);

    return rc;
}


ngx_int_t
ngx_http_quickblox_parse_token(ngx_str_t *body,
    ngx_http_quickblox_answer_t *answer, time_t *expires, const char **reason)
{
    cJSON                        *root;
    ngx_int_t                     rc;
    ngx_str_t                     value;
    ngx_http_quickblox_member_t   token, date;

    root = ngx_http_quickblox_json_parse(body, reason);
    if (root == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_quickblox_session_object(root, "token", &token, reason);

    if (rc == NGX_OK) {
        rc = ngx_http_quickblox_session_token(&token, answer, reason);

        ngx_http_quickblox_json_member(root, "expires_at", &date);

        *expires = ngx_http_quickblox_json_string(&date, &value) == NGX_OK
                   ? ngx_http_quickblox_parse_iso_date(&value) : NGX_ERROR;
    }

    ngx_http_quickblox_json_free(root);

    return rc;
}


ngx_uint_t
ngx_http_quickblox_has_error(ngx_str_t *body, ngx_str_t *text)
{
    cJSON                        *root, *item;
    ngx_uint_t                    found;
    const char                   *reason;
    ngx_http_quickblox_member_t   errors;

    root = ngx_http_quickblox_json_parse(body, &reason);
    if (root == NULL) {
        return 0;
    }

    found = 0;

    ngx_http_quickblox_json_member(root, "errors", &errors);

    if (errors.count == 1 && cJSON_IsObject(errors.item)) {
        ngx_http_quickblox_json_member(errors.item, "base", &errors);
    }

    if (errors.count == 1 && cJSON_IsArray(errors.item)) {

        for (item = errors.item->child; item && !found; item = item->next) {

            if (cJSON_IsString(item)) {
                found = ngx_http_quickblox_contains(
                                              (u_char *) item->valuestring,
                                              ngx_strlen(item->valuestring),
                                              text);
            }
        }
    }

    ngx_http_quickblox_json_free(root);

    return found;
}


ngx_uint_t
ngx_http_quickblox_contains(u_char *data, size_t len, ngx_str_t *text)
{
    size_t  i, n;

    for (i = 0; i + text->len <= len; i++) {

        for (n = 0; n < text->len; n++) {
            if (ngx_tolower(data[i + n]) != ngx_tolower(text->data[n])) {
                break;
            }
        }

        if (n == text->len) {
            return 1;
        }
    }

    return 0;
}


time_t
ngx_http_quickblox_parse_date(ngx_str_t *value)
{
    return ngx_http_quickblox_date(value, "0000-00-00 00:00:00 ", "UTC",
                                   "+0000");
}


time_t
ngx_http_quickblox_parse_iso_date(ngx_str_t *value)
{
    return ngx_http_quickblox_date(value, "0000-00-00T00:00:00", "Z",
                                   "+00:00");
}


/* a zero of the layout stands for any digit; one of two zones follows it */

static time_t
ngx_http_quickblox_date(ngx_str_t *value, const char *layout,
    const char *zone, const char *other)
{
    u_char      *p;
    size_t       len, n, i, rest;
    uint64_t     time;
    ngx_uint_t   hour, min, sec;

    p = value->data;
    len = value->len;

    while (len && ngx_http_quickblox_blank(p[len - 1])) {
        len--;
    }

    while (len && ngx_http_quickblox_blank(*p)) {
        p++;
        len--;
    }

    n = ngx_strlen(layout);

    if (len < n) {
        return NGX_ERROR;
    }

    rest = len - n;

    if (!(rest == ngx_strlen(zone) && ngx_strncmp(p + n, zone, rest) == 0)
        && !(rest == ngx_strlen(other)
             && ngx_strncmp(p + n, other, rest) == 0))
    {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {
        if (layout[i] == '0' ? !ngx_http_quickblox_digit(p[i])
                             : p[i] != (u_char) layout[i])
        {
            return NGX_ERROR;
        }
    }

    hour = ngx_http_quickblox_date_number(p + 11, 2);
    min = ngx_http_quickblox_date_number(p + 14, 2);
    sec = ngx_http_quickblox_date_number(p + 17, 2);

    if (hour > 23 || min > 59 || sec > 59) {
        return NGX_ERROR;
    }

    if (ngx_http_quickblox_date_days(p, &time) != NGX_OK) {
        return NGX_ERROR;
    }

    time = time * 86400 + hour * 3600 + min * 60 + sec;

#if (NGX_TIME_T_SIZE <= 4)

    if (time > 0x7fffffff) {
        return NGX_ERROR;
    }

#endif

    return (time_t) time;
}


static ngx_int_t
ngx_http_quickblox_date_days(u_char *p, uint64_t *days)
{
    ngx_uint_t         year, month, day, leap;

    static ngx_uint_t  mdays[] = {
        31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31
    };

    year = ngx_http_quickblox_date_number(p, 4);
    month = ngx_http_quickblox_date_number(p + 5, 2);
    day = ngx_http_quickblox_date_number(p + 8, 2);

    /* the second before 1970 would be NGX_ERROR */

    if (year < 1970 || month < 1 || month > 12) {
        return NGX_ERROR;
    }

    leap = (month == 2 && year % 4 == 0 && (year % 100 || year % 400 == 0));

    if (day < 1 || day > mdays[month - 1] + leap) {
        return NGX_ERROR;
    }

    /* a year that begins in March ends with the leap day */

    if (month < 3) {
        month += 12;
        year--;
    }

    /* from March 1 of the year 0, less what is before January 1, 1970 */

    *days = 365 * year + year / 4 - year / 100 + year / 400
            + (153 * (month - 3) + 2) / 5 + day - 1 - 719468;

    return NGX_OK;
}


static ngx_uint_t
ngx_http_quickblox_date_number(u_char *p, size_t n)
{
    ngx_uint_t  value;

    for (value = 0; n; n--) {
        value = value * 10 + (*p++ - '0');
    }

    return value;
}


ngx_int_t
ngx_http_quickblox_client_token(ngx_str_t *value, ngx_str_t *token)
{
    u_char      c, *p;
    size_t      len, n;

    static ngx_str_t  bearer = ngx_string("bearer");

    p = value->data;
    len = value->len;

    while (len && ngx_http_quickblox_blank(p[len - 1])) {
        len--;
    }

    /* the length of the word that names a scheme */

    for (n = 0; n < len; n++) {
        c = ngx_tolower(p[n]);

        if ((c < 'a' || c > 'z')
            && (n == 0 || (!ngx_http_quickblox_digit(c) && c != '-')))
        {
            break;
        }
    }

    if (n == bearer.len && ngx_http_quickblox_contains(p, n, &bearer)
        && (n == len || ngx_http_quickblox_blank(p[n])))
    {
        while (n < len && ngx_http_quickblox_blank(p[n])) {
            n++;
        }

        p += n;
        len -= n;

    } else if (n && n < len && ngx_http_quickblox_blank(p[n])) {
        return NGX_DECLINED;
    }

    if (len == 0) {
        return NGX_DECLINED;
    }

    token->data = p;
    token->len = len;

    return NGX_OK;
}


ngx_uint_t
ngx_http_quickblox_token(ngx_str_t *token)
{
    u_char  c;
    size_t  i;

    /* letters, digits and "._~+/=-", a bit for each */

    static uint32_t  usual[] = {
        0x00000000,
                    /* ?>=< ;:98 7654 3210  /.-, +*)( '&%$ #"!  */
        0x23ffe800, /* 0010 0011 1111 1111 1110 1000 0000 0000 */
                    /* _^]\ [ZYX WVUT SRQP  ONML KJIH GFED CBA@ */
        0x87fffffe, /* 1000 0111 1111 1111 1111 1111 1111 1110 */
                    /*  ~}| {zyx wvut srqp  onml kjih gfed cba` */
        0x47fffffe, /* 0100 0111 1111 1111 1111 1111 1111 1110 */

        0x00000000, 0x00000000, 0x00000000, 0x00000000
    };

    if (token->len < NGX_HTTP_QUICKBLOX_TOKEN_MIN
        || token->len > NGX_HTTP_QUICKBLOX_TOKEN_MAX)
    {
        return 0;
    }

    for (i = 0; i < token->len; i++) {
        c = token->data[i];

        if (!(usual[c >> 5] & (1U << (c & 0x1f)))) {
            return 0;
        }
    }

    return 1;
}


ngx_int_t
ngx_http_quickblox_digest_start(EVP_MD_CTX *start, const EVP_MD *md,
    ngx_str_t *strings, ngx_uint_t n)
{
    /* another algorithm would overrun the digest */

    if (md == NULL || EVP_MD_size(md) != NGX_HTTP_QUICKBLOX_DIGEST_LEN
        || EVP_DigestInit_ex(start, md, NULL) != 1)
    {
        return NGX_ERROR;
    }

    return ngx_http_quickblox_digest_add(start, strings, n);
}


ngx_int_t
ngx_http_quickblox_digest(EVP_MD_CTX *ctx, const EVP_MD_CTX *start,
    ngx_str_t *strings, ngx_uint_t n, u_char *digest)
{
    if (EVP_MD_CTX_copy_ex(ctx, start) != 1
        || ngx_http_quickblox_digest_add(ctx, strings, n) != NGX_OK
        || EVP_DigestFinal_ex(ctx, digest, NULL) != 1)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_digest_add(EVP_MD_CTX *ctx, ngx_str_t *strings,
    ngx_uint_t n)
{
    u_char      length[8];
    ngx_uint_t  i, k;

    for (i = 0; i < n; i++) {

        for (k = 0; k < 8; k++) {
            length[k] = (u_char) ((uint64_t) strings[i].len >> (8 * k));
        }

        if (EVP_DigestUpdate(ctx, length, sizeof(length)) != 1
            || EVP_DigestUpdate(ctx, strings[i].data, strings[i].len) != 1)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}
