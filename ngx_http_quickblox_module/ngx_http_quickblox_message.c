
/*
 * The messages of the QuickBlox REST API.  No nginx function is called, so
 * that unit tests and fuzzers link this file alone.
 *
 * cJSON reads more than JSON: it skips a byte order mark and takes control
 * bytes for white space, any number of strtod(), bytes after the value and
 * strings that NUL cuts short.  So a strict scan without recursion goes
 * first, and cJSON sees a complete object of bounded depth or nothing.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include <cjson/cJSON.h>

#include "ngx_http_quickblox_message.h"


/* 2^53, up to which a double holds every integer */
#define NGX_HTTP_QUICKBLOX_ID_MAX        9007199254740992ULL
#define NGX_HTTP_QUICKBLOX_ID_DIGITS     16

/* all parameters of POST /session.json, the signature included */
#define NGX_HTTP_QUICKBLOX_PAIRS         8

#define ngx_http_quickblox_blank(c)      ((c) == ' ' || (c) == '\t')
#define ngx_http_quickblox_digit(c)      ((c) >= '0' && (c) <= '9')


/* a member of a JSON object: the last one of its name, and how many */

typedef struct {
    cJSON        *item;
    ngx_uint_t    index;
    ngx_uint_t    count;
} ngx_http_quickblox_member_t;


/*
 * The text of the number that is member index[1] of member index[0] of the
 * body.  An id is judged by it, as cJSON has rounded the value already:
 * 2^53 + 1 would be 2^53, and 92.00000000000000001 would be 92.
 */

typedef struct {
    ngx_uint_t    index[2];
    ngx_str_t     text;
} ngx_http_quickblox_number_t;


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
static ngx_int_t ngx_http_quickblox_json_id(ngx_str_t *body,
    ngx_http_quickblox_member_t *session, ngx_http_quickblox_member_t *member,
    uint64_t *id);
static ngx_int_t ngx_http_quickblox_json_integer(ngx_str_t *text,
    uint64_t *id);
static ngx_int_t ngx_http_quickblox_json_exponent(u_char *p, u_char *last);
static void ngx_http_quickblox_json_member(cJSON *object, const char *name,
    ngx_http_quickblox_member_t *member);
static cJSON *ngx_http_quickblox_json_parse(ngx_str_t *body,
    const char **reason);
static void ngx_http_quickblox_json_cleanse(cJSON *item);

static const char *ngx_http_quickblox_scan(ngx_str_t *body,
    ngx_http_quickblox_number_t *number);
static u_char *ngx_http_quickblox_scan_string(u_char *p, u_char *last);
static u_char *ngx_http_quickblox_scan_escape(u_char *p, u_char *last);
static u_char *ngx_http_quickblox_scan_scalar(u_char *p, u_char *last);
static u_char *ngx_http_quickblox_scan_number(u_char *p, u_char *last);
static u_char *ngx_http_quickblox_scan_digits(u_char *p, u_char *last);

static ngx_int_t ngx_http_quickblox_date_days(u_char *p, uint64_t *days);
static ngx_uint_t ngx_http_quickblox_date_number(u_char *p, size_t n);


/* as a date looks before its zone; a zero stands for any digit */

static u_char  ngx_http_quickblox_date_layout[] = "0000-00-00 00:00:00 ";


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

    ngx_http_quickblox_json_cleanse(root);
    cJSON_Delete(root);

    return rc;
}


static ngx_int_t
ngx_http_quickblox_session(cJSON *root, ngx_str_t *body,
    ngx_http_quickblox_answer_t *answer, const char **reason)
{
    uint64_t                     application_id, user_id;
    ngx_str_t                    value;
    ngx_http_quickblox_member_t  session, errors, token, application, user;

    ngx_http_quickblox_json_member(root, "session", &session);
    ngx_http_quickblox_json_member(root, "errors", &errors);

    if (session.count > 1 || errors.count > 1) {
        *reason = "has \"session\" or \"errors\" twice";
        return NGX_ERROR;
    }

    if (session.count == 0 && errors.count == 1) {
        return NGX_DECLINED;
    }

    if (session.count == 0 || !cJSON_IsObject(session.item)) {
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

    ngx_str_null(&value);

    if (cJSON_IsString(token.item)) {
        value.data = (u_char *) token.item->valuestring;
        value.len = ngx_strlen(value.data);
    }

    if (!ngx_http_quickblox_token(&value)) {
        *reason = "has an invalid \"token\"";
        return NGX_ERROR;
    }

    answer->application_id = application_id;
    answer->user_id = user_id;
    answer->token_len = value.len;
    ngx_memcpy(answer->token, value.data, value.len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_json_id(ngx_str_t *body,
    ngx_http_quickblox_member_t *session, ngx_http_quickblox_member_t *member,
    uint64_t *id)
{
    ngx_str_t                    value;
    ngx_http_quickblox_number_t  number;

    if (cJSON_IsString(member->item)) {
        value.data = (u_char *) member->item->valuestring;
        value.len = ngx_strlen(value.data);

        return ngx_http_quickblox_parse_id(&value, id);
    }

    if (!cJSON_IsNumber(member->item)) {
        return NGX_ERROR;
    }

    number.index[0] = session->index;
    number.index[1] = member->index;
    ngx_str_null(&number.text);

    (void) ngx_http_quickblox_scan(body, &number);

    if (number.text.len == 0) {
        return NGX_ERROR;
    }

    return ngx_http_quickblox_json_integer(&number.text, id);
}


/*
 * The exact value of a JSON number: the digits between the outermost zeros,
 * and a power of ten.  As those digits do not end with a zero, the number is
 * an integer if and only if the power is not negative.
 */

static ngx_int_t
ngx_http_quickblox_json_integer(ngx_str_t *text, uint64_t *id)
{
    u_char      *p, *last;
    uint64_t     n;
    ngx_int_t    zeros, power, fraction;
    ngx_uint_t   minus;

    p = text->data;
    last = p + text->len;

    minus = (*p == '-');
    p += minus;

    n = 0;
    zeros = 0;
    power = 0;
    fraction = 0;

    for ( /* void */ ; p < last && *p != 'e' && *p != 'E'; p++) {

        if (*p == '.') {
            fraction = 1;
            continue;
        }

        power -= fraction;
        zeros++;

        if (*p == '0') {
            continue;
        }

        for ( /* void */ ; zeros; zeros--) {
            n *= 10;

            if (n > NGX_HTTP_QUICKBLOX_ID_MAX) {
                return NGX_ERROR;
            }
        }

        n += *p - '0';
    }

    power += zeros + ngx_http_quickblox_json_exponent(p, last);

    if (n == 0) {
        *id = 0;
        return NGX_OK;
    }

    if (minus || power < 0) {
        return NGX_ERROR;
    }

    for ( /* void */ ; power && n <= NGX_HTTP_QUICKBLOX_ID_MAX; power--) {
        n *= 10;
    }

    if (n > NGX_HTTP_QUICKBLOX_ID_MAX) {
        return NGX_ERROR;
    }

    *id = n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_json_exponent(u_char *p, u_char *last)
{
    ngx_int_t   exponent;
    ngx_uint_t  minus;

    if (p == last) {
        return 0;
    }

    minus = (*++p == '-');

    if (*p == '-' || *p == '+') {
        p++;
    }

    /* no answer has digits enough to make up for what is cut off here */

    exponent = 0;

    while (p < last && exponent <= NGX_HTTP_QUICKBLOX_ANSWER_MAX) {
        exponent = exponent * 10 + (*p++ - '0');
    }

    return minus ? -exponent : exponent;
}


/* names are compared as cJSON has decoded them, so no escape hides one */

static void
ngx_http_quickblox_json_member(cJSON *object, const char *name,
    ngx_http_quickblox_member_t *member)
{
    cJSON       *item;
    ngx_uint_t   i;

    ngx_memzero(member, sizeof(ngx_http_quickblox_member_t));

    for (item = object->child, i = 0; item; item = item->next, i++) {

        if (ngx_strcmp(item->string, name) == 0) {
            member->item = item;
            member->index = i;
            member->count++;
        }
    }
}


static cJSON *
ngx_http_quickblox_json_parse(ngx_str_t *body, const char **reason)
{
    cJSON  *root;

    *reason = ngx_http_quickblox_scan(body, NULL);

    if (*reason) {
        return NULL;
    }

    root = cJSON_ParseWithLength((char *) body->data, body->len);

    if (root == NULL) {
        /* a lone surrogate, a number beyond cJSON's buffer, no memory */
        *reason = "cannot be parsed";
    }

    return root;
}


/* the scan has bounded the depth, and so the recursion */

static void
ngx_http_quickblox_json_cleanse(cJSON *item)
{
    for ( /* void */ ; item; item = item->next) {

        if (item->valuestring) {
            OPENSSL_cleanse(item->valuestring, ngx_strlen(item->valuestring));
        }

        ngx_http_quickblox_json_cleanse(item->child);
    }
}


/*
 * Scans a JSON object by the letter of RFC 8259, but refuses NUL even when
 * it is escaped, as it would cut a name or a token of cJSON's short.
 * Returns NULL or what is wrong.
 */

static const char *
ngx_http_quickblox_scan(ngx_str_t *body, ngx_http_quickblox_number_t *number)
{
    u_char      *p, *last, *start;
    u_char       close[NGX_HTTP_QUICKBLOX_ANSWER_DEPTH + 1];
    ngx_uint_t   depth, index[NGX_HTTP_QUICKBLOX_ANSWER_DEPTH + 1];
    enum {
        sw_start = 0,
        sw_value,
        sw_first,
        sw_name,
        sw_colon,
        sw_next,
        sw_end
    } state;

    if (body->len > NGX_HTTP_QUICKBLOX_ANSWER_MAX) {
        return "is too large";
    }

    if (body->len == 0) {
        return "is empty";
    }

    if (memchr(body->data, '\0', body->len)) {
        return "contains NUL";
    }

    if (body->len >= 3 && ngx_strncmp(body->data, "\xEF\xBB\xBF", 3) == 0) {
        return "begins with a byte order mark";
    }

    p = body->data;
    last = p + body->len;
    depth = 0;
    state = sw_start;

    while (p < last) {

        if (*p == ' ' || *p == '\t' || *p == CR || *p == LF) {
            p++;
            continue;
        }

        switch (state) {

        case sw_start:
            if (*p != '{') {
                return "is not a JSON object";
            }

            state = sw_value;
            break;

        case sw_value:
            start = p;

            if (*p == '{' || *p == '[') {
                if (depth == NGX_HTTP_QUICKBLOX_ANSWER_DEPTH) {
                    return "is nested too deeply";
                }

                depth++;
                index[depth] = 0;
                close[depth] = (*p++ == '{') ? '}' : ']';
                state = sw_first;
                break;
            }

            p = (*p == '"') ? ngx_http_quickblox_scan_string(p, last)
                            : ngx_http_quickblox_scan_scalar(p, last);
            if (p == NULL) {
                return "has a malformed value";
            }

            if (number && depth == 2 && index[1] == number->index[0]
                && index[2] == number->index[1])
            {
                number->text.data = start;
                number->text.len = p - start;
            }

            state = sw_next;
            break;

        case sw_first:
            if (*p == close[depth]) {
                state = sw_next;
                break;
            }

            state = (close[depth] == '}') ? sw_name : sw_value;
            break;

        case sw_name:
            p = ngx_http_quickblox_scan_string(p, last);
            if (p == NULL) {
                return "has a malformed name";
            }

            state = sw_colon;
            break;

        case sw_colon:
            if (*p++ != ':') {
                return "has a name without a value";
            }

            state = sw_value;
            break;

        case sw_next:
            if (*p == close[depth]) {
                p++;
                depth--;
                state = depth ? sw_next : sw_end;
                break;
            }

            if (*p++ != ',') {
                return "has no comma between two values";
            }

            index[depth]++;
            state = (close[depth] == '}') ? sw_name : sw_value;
            break;

        case sw_end:
            return "has bytes after the object";
        }
    }

    return (state == sw_end) ? NULL : "is incomplete";
}


/* the scanners of a token return the byte after it or NULL */

static u_char *
ngx_http_quickblox_scan_string(u_char *p, u_char *last)
{
    if (*p++ != '"') {
        return NULL;
    }

    while (p < last) {

        if (*p == '"') {
            return p + 1;
        }

        if (*p < ' ') {
            return NULL;
        }

        if (*p++ != '\\') {
            continue;
        }

        p = ngx_http_quickblox_scan_escape(p, last);
        if (p == NULL) {
            return NULL;
        }
    }

    return NULL;
}


static u_char *
ngx_http_quickblox_scan_escape(u_char *p, u_char *last)
{
    u_char      c;
    ngx_uint_t  i, n;

    if (p == last || ngx_strchr("\"\\/bfnrtu", *p) == NULL) {
        return NULL;
    }

    if (*p++ != 'u') {
        return p;
    }

    if (last - p < 4) {
        return NULL;
    }

    n = 0;

    for (i = 0; i < 4; i++) {
        c = ngx_tolower(p[i]);

        if (!ngx_http_quickblox_digit(c) && (c < 'a' || c > 'f')) {
            return NULL;
        }

        n |= (c != '0');
    }

    return n ? p + 4 : NULL;
}


static u_char *
ngx_http_quickblox_scan_scalar(u_char *p, u_char *last)
{
    ngx_uint_t        i;

    static ngx_str_t  literals[] = {
        ngx_string("true"),
        ngx_string("false"),
        ngx_string("null")
    };

    for (i = 0; i < sizeof(literals) / sizeof(ngx_str_t); i++) {

        if ((size_t) (last - p) >= literals[i].len
            && ngx_strncmp(p, literals[i].data, literals[i].len) == 0)
        {
            return p + literals[i].len;
        }
    }

    return ngx_http_quickblox_scan_number(p, last);
}


static u_char *
ngx_http_quickblox_scan_number(u_char *p, u_char *last)
{
    if (*p == '-') {
        p++;
    }

    /* nothing but a point or an exponent follows a leading zero */

    if (p < last && *p == '0') {
        p++;

    } else {
        p = ngx_http_quickblox_scan_digits(p, last);
    }

    if (p && p < last && *p == '.') {
        p = ngx_http_quickblox_scan_digits(p + 1, last);
    }

    if (p && p < last && (*p == 'e' || *p == 'E')) {
        p++;

        if (p < last && (*p == '+' || *p == '-')) {
            p++;
        }

        p = ngx_http_quickblox_scan_digits(p, last);
    }

    return p;
}


static u_char *
ngx_http_quickblox_scan_digits(u_char *p, u_char *last)
{
    u_char  *start;

    start = p;

    while (p < last && ngx_http_quickblox_digit(*p)) {
        p++;
    }

    return (p == start) ? NULL : p;
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

    ngx_http_quickblox_json_cleanse(root);
    cJSON_Delete(root);

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
    u_char      *p, *layout;
    size_t       len, n, i;
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

    layout = ngx_http_quickblox_date_layout;
    n = sizeof(ngx_http_quickblox_date_layout) - 1;

    if (!(len == n + 3 && ngx_strncmp(p + n, "UTC", 3) == 0)
        && !(len == n + 5 && ngx_strncmp(p + n, "+0000", 5) == 0))
    {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {
        if (layout[i] == '0' ? !ngx_http_quickblox_digit(p[i])
                             : p[i] != layout[i])
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

    if (token->len < NGX_HTTP_QUICKBLOX_TOKEN_MIN
        || token->len > NGX_HTTP_QUICKBLOX_TOKEN_MAX)
    {
        return 0;
    }

    for (i = 0; i < token->len; i++) {
        c = token->data[i];

        if (!ngx_http_quickblox_unreserved(c)
            && c != '+' && c != '/' && c != '=')
        {
            return 0;
        }
    }

    return 1;
}


ngx_int_t
ngx_http_quickblox_parse_id(ngx_str_t *value, uint64_t *id)
{
    size_t    i;
    uint64_t  n;

    if (value->len == 0 || value->len > NGX_HTTP_QUICKBLOX_ID_DIGITS) {
        return NGX_ERROR;
    }

    n = 0;

    for (i = 0; i < value->len; i++) {

        if (!ngx_http_quickblox_digit(value->data[i])) {
            return NGX_ERROR;
        }

        n = n * 10 + (value->data[i] - '0');
    }

    if (n > NGX_HTTP_QUICKBLOX_ID_MAX) {
        return NGX_ERROR;
    }

    *id = n;

    return NGX_OK;
}


ngx_int_t
ngx_http_quickblox_digest(EVP_MD_CTX *ctx, const EVP_MD *md,
    ngx_str_t *strings, ngx_uint_t n, u_char *digest)
{
    u_char      length[8];
    ngx_uint_t  i, k;

    /* another algorithm would overrun the digest */

    if (md == NULL || EVP_MD_size(md) != NGX_HTTP_QUICKBLOX_DIGEST_LEN
        || EVP_DigestInit_ex(ctx, md, NULL) != 1)
    {
        return NGX_ERROR;
    }

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

    if (EVP_DigestFinal_ex(ctx, digest, NULL) != 1) {
        return NGX_ERROR;
    }

    return NGX_OK;
}
