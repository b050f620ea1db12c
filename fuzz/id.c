
/*
 * Ids: the input is the text of one, alone and as a JSON number, against an
 * exact reading of its decimal digits.
 */


#include "fuzz.h"
#include "../ngx_http_quickblox_module/ngx_http_quickblox_json.h"


#define ID_MAX  9007199254740992ULL

#define HEAD    "{\"a\":[1,2],\"b\":{\"x\":3,\"id\":"
#define TAIL    ",\"y\":4}}"


static ngx_int_t fuzz_number(ngx_str_t *text, uint64_t *id);
static ngx_int_t fuzz_digits(char *digits, size_t len, uint64_t *id);
static ngx_int_t fuzz_exact(ngx_str_t *text, uint64_t *id);


int
LLVMFuzzerTestOneInput(const u_char *data, size_t size)
{
    uint64_t   id, exact;
    ngx_int_t  rc;
    ngx_str_t  value;

    value = fuzz_copy(data, size);

    id = 0;
    exact = 0;

    rc = ngx_http_quickblox_parse_id(&value, &id);

    fuzz_check(rc == fuzz_digits((char *) data, size, &exact));
    fuzz_check(id == exact);

    id = 0;
    exact = 0;

    rc = fuzz_number(&value, &id);

    if (rc != NGX_DECLINED) {
        fuzz_check(rc == fuzz_exact(&value, &exact));
        fuzz_check(id == exact);
    }

    free(value.data);

    return 0;
}


/* NGX_DECLINED where the text is no JSON number */

static ngx_int_t
fuzz_number(ngx_str_t *text, uint64_t *id)
{
    u_char                       *p;
    cJSON                        *root;
    ngx_int_t                     rc;
    ngx_str_t                     body;
    const char                   *reason;
    ngx_http_quickblox_member_t   parent, member;

    body.len = sizeof(HEAD TAIL) - 1 + text->len;
    body.data = fuzz_alloc(body.len);

    p = ngx_cpymem(body.data, HEAD, sizeof(HEAD) - 1);

    if (text->len) {
        p = ngx_cpymem(p, text->data, text->len);
    }

    ngx_memcpy(p, TAIL, sizeof(TAIL) - 1);

    rc = NGX_DECLINED;
    root = ngx_http_quickblox_json_parse(&body, &reason);

    if (root) {
        ngx_http_quickblox_json_member(root, "b", &parent);

        if (parent.count == 1 && cJSON_IsObject(parent.item)) {
            ngx_http_quickblox_json_member(parent.item, "id", &member);

            /* what brings a name of its own is no number */

            if (cJSON_GetArraySize(parent.item) == 3 && member.count == 1
                && cJSON_IsNumber(member.item))
            {
                rc = ngx_http_quickblox_json_id(&body, &parent, &member, id);
            }
        }

        ngx_http_quickblox_json_free(root);
    }

    free(body.data);

    return rc;
}


static ngx_int_t
fuzz_digits(char *digits, size_t len, uint64_t *id)
{
    char      text[17];
    size_t    i;
    uint64_t  n;

    if (len == 0 || len > 16) {
        return NGX_ERROR;
    }

    for (i = 0; i < len; i++) {
        if (digits[i] < '0' || digits[i] > '9') {
            return NGX_ERROR;
        }
    }

    ngx_memcpy(text, digits, len);
    text[len] = '\0';

    n = strtoull(text, NULL, 10);

    if (n > ID_MAX) {
        return NGX_ERROR;
    }

    *id = n;

    return NGX_OK;
}


/* all digits in a row, without the outer zeros, and where the point is */

static ngx_int_t
fuzz_exact(ngx_str_t *text, uint64_t *id)
{
    char        *p, *last, digits[96], copy[96];
    long         power;
    size_t       n;
    ngx_uint_t   minus, point;

    /* the number may have white space around it */

    p = (char *) text->data;
    last = p + text->len;

    while (*p != '-' && (*p < '0' || *p > '9')) {
        p++;
    }

    minus = (*p == '-');
    p += minus;

    n = 0;
    power = 0;
    point = 0;

    for ( /* void */ ; p < last && strchr("0123456789.", *p); p++) {

        if (*p == '.') {
            point = 1;
            continue;
        }

        power -= point;

        if (n || *p != '0') {
            digits[n++] = *p;
        }
    }

    if (p < last && (*p == 'e' || *p == 'E')) {
        p++;
        ngx_memzero(copy, sizeof(copy));
        ngx_memcpy(copy, p, ngx_min((size_t) (last - p), sizeof(copy) - 1));
        power += ngx_min(ngx_max(strtol(copy, NULL, 10), -1000000), 1000000);
    }

    if (n == 0) {
        *id = 0;
        return NGX_OK;
    }

    for ( /* void */ ; digits[n - 1] == '0'; n--) {
        power++;
    }

    if (minus || power < 0 || power > 16) {
        return NGX_ERROR;
    }

    for ( /* void */ ; power; power--) {
        digits[n++] = '0';
    }

    return fuzz_digits(digits, n, id);
}
