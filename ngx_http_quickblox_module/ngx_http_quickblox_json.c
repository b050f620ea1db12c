
/*
 * JSON of others.  No nginx function is called, so that unit tests and
 * fuzzers link this file alone.
 *
 * cJSON reads more than JSON: it skips a byte order mark and takes control
 * bytes for white space, any number of strtod(), bytes after the value and
 * strings that NUL cuts short.  So a strict scan without recursion goes
 * first, and cJSON sees a complete object of bounded depth or nothing.  It
 * refuses whatever cJSON would, too: cJSON frees what it has read of a body
 * when it fails, and cleanses no secret.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include <openssl/crypto.h>

#include "ngx_http_quickblox_json.h"


/* 2^53, up to which a double holds every integer */
#define NGX_HTTP_QUICKBLOX_ID_MAX        9007199254740992ULL
#define NGX_HTTP_QUICKBLOX_ID_DIGITS     16

/* the longest number that fits cJSON's buffer */
#define NGX_HTTP_QUICKBLOX_NUMBER_MAX    63

#define ngx_http_quickblox_digit(c)      ((c) >= '0' && (c) <= '9')


/*
 * The text of the number that is member index[1] of member index[0] of the
 * body.  An id is judged by it, as cJSON has rounded the value already:
 * 2^53 + 1 would be 2^53, and 92.00000000000000001 would be 92.
 */

typedef struct {
    ngx_uint_t    index[2];
    ngx_str_t     text;
} ngx_http_quickblox_number_t;


static void ngx_http_quickblox_json_cleanse(cJSON *item);
static ngx_int_t ngx_http_quickblox_json_integer(ngx_str_t *text,
    uint64_t *id);
static ngx_int_t ngx_http_quickblox_json_exponent(u_char *p, u_char *last);
static const char *ngx_http_quickblox_scan(ngx_str_t *body,
    ngx_http_quickblox_number_t *number);
static u_char *ngx_http_quickblox_scan_string(u_char *p, u_char *last);
static u_char *ngx_http_quickblox_scan_escape(u_char *p, u_char *last);
static ngx_uint_t ngx_http_quickblox_scan_hex(u_char *p, u_char *last);
static u_char *ngx_http_quickblox_scan_scalar(u_char *p, u_char *last);
static u_char *ngx_http_quickblox_scan_number(u_char *p, u_char *last);
static u_char *ngx_http_quickblox_scan_digits(u_char *p, u_char *last);


const char  ngx_http_quickblox_json_no_memory[] = "cannot be parsed";


cJSON *
ngx_http_quickblox_json_parse(ngx_str_t *body, const char **reason)
{
    cJSON  *root;

    *reason = ngx_http_quickblox_scan(body, NULL);

    if (*reason) {
        return NULL;
    }

    root = cJSON_ParseWithLength((char *) body->data, body->len);

    if (root == NULL) {
        /* what cJSON would refuse, the scan has refused */
        *reason = ngx_http_quickblox_json_no_memory;
    }

    return root;
}


void
ngx_http_quickblox_json_free(cJSON *root)
{
    ngx_http_quickblox_json_cleanse(root);
    cJSON_Delete(root);
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


/* names are compared as cJSON has decoded them, so no escape hides one */

void
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


ngx_int_t
ngx_http_quickblox_json_string(ngx_http_quickblox_member_t *member,
    ngx_str_t *value)
{
    if (member->count != 1 || !cJSON_IsString(member->item)) {
        return NGX_ERROR;
    }

    value->data = (u_char *) member->item->valuestring;
    value->len = ngx_strlen(value->data);

    return NGX_OK;
}


ngx_int_t
ngx_http_quickblox_json_id(ngx_str_t *body,
    ngx_http_quickblox_member_t *parent, ngx_http_quickblox_member_t *member,
    uint64_t *id)
{
    ngx_str_t                    value;
    ngx_http_quickblox_number_t  number;

    if (ngx_http_quickblox_json_string(member, &value) == NGX_OK) {
        return ngx_http_quickblox_parse_id(&value, id);
    }

    if (member->count != 1 || !cJSON_IsNumber(member->item)) {
        return NGX_ERROR;
    }

    number.index[0] = parent->index;
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

    /* no body has digits enough to make up for what is cut off here */

    exponent = 0;

    while (p < last && exponent <= NGX_HTTP_QUICKBLOX_JSON_MAX) {
        exponent = exponent * 10 + (*p++ - '0');
    }

    return minus ? -exponent : exponent;
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
    u_char       close[NGX_HTTP_QUICKBLOX_JSON_DEPTH + 1];
    ngx_uint_t   depth, index[NGX_HTTP_QUICKBLOX_JSON_DEPTH + 1];
    enum {
        sw_start = 0,
        sw_value,
        sw_first,
        sw_name,
        sw_colon,
        sw_next,
        sw_end
    } state;

    if (body->len > NGX_HTTP_QUICKBLOX_JSON_MAX) {
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
                if (depth == NGX_HTTP_QUICKBLOX_JSON_DEPTH) {
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
    ngx_uint_t  n;

    if (p == last || ngx_strchr("\"\\/bfnrtu", *p) == NULL) {
        return NULL;
    }

    if (*p++ != 'u') {
        return p;
    }

    n = ngx_http_quickblox_scan_hex(p, last);

    if (n == 0 || (n >= 0xdc00 && n <= 0xdfff)) {
        return NULL;
    }

    p += 4;

    if (n < 0xd800 || n > 0xdbff) {
        return p;
    }

    /* one half of a surrogate pair, the other has to follow */

    if (last - p < 2 || p[0] != '\\' || p[1] != 'u') {
        return NULL;
    }

    p += 2;
    n = ngx_http_quickblox_scan_hex(p, last);

    return (n >= 0xdc00 && n <= 0xdfff) ? p + 4 : NULL;
}


/* the value of four digits, or 0, which is refused as well */

static ngx_uint_t
ngx_http_quickblox_scan_hex(u_char *p, u_char *last)
{
    u_char      c;
    ngx_uint_t  i, n;

    if (last - p < 4) {
        return 0;
    }

    n = 0;

    for (i = 0; i < 4; i++) {
        c = ngx_tolower(p[i]);

        if (ngx_http_quickblox_digit(c)) {
            n = n << 4 | (c - '0');

        } else if (c >= 'a' && c <= 'f') {
            n = n << 4 | (c - 'a' + 10);

        } else {
            return 0;
        }
    }

    return n;
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
    u_char  *start;

    start = p;

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

    return (p && p - start <= NGX_HTTP_QUICKBLOX_NUMBER_MAX) ? p : NULL;
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
