
/*
 * JSON of others: what the scan lets through is to cJSON a complete object,
 * too, and stays the same when it is printed and read again; ids are exact.
 */


#include <cjson/cJSON.h>

#include "fuzz.h"
#include "../ngx_http_quickblox_module/ngx_http_quickblox_json.h"


#define ID_MAX  9007199254740992ULL


static void fuzz_escapes(ngx_str_t *body);
static void fuzz_members(ngx_str_t *body, cJSON *root);
static void fuzz_id(ngx_str_t *body, ngx_http_quickblox_member_t *parent,
    ngx_http_quickblox_member_t *member);
static void fuzz_printed(cJSON *root);
static void fuzz_cut(ngx_str_t *body);


int
LLVMFuzzerTestOneInput(const u_char *data, size_t size)
{
    cJSON       *root;
    ngx_str_t    body;
    const char  *reason;

    body = fuzz_copy(data, size);

    reason = NULL;
    root = ngx_http_quickblox_json_parse(&body, &reason);

    fuzz_check(size == 0 || ngx_memcmp(body.data, data, size) == 0);
    fuzz_check((root == NULL) == (reason != NULL));

    if (root) {
        fuzz_check(cJSON_IsObject(root));
        fuzz_check(memchr(data, '\0', size) == NULL);

        fuzz_escapes(&body);
        fuzz_members(&body, root);
        fuzz_printed(root);
        fuzz_cut(&body);

        ngx_http_quickblox_json_free(root);
    }

    free(body.data);

    return 0;
}


/* NUL is in no string, escaped or not */

static void
fuzz_escapes(ngx_str_t *body)
{
    size_t  i;

    for (i = 0; i < body->len; i++) {

        if (body->data[i] != '\\') {
            continue;
        }

        i++;

        fuzz_check(i < body->len);
        fuzz_check(body->len - i < 5
                   || ngx_memcmp(body->data + i, "u0000", 5) != 0);
    }
}


static void
fuzz_members(ngx_str_t *body, cJSON *root)
{
    cJSON                        *outer, *inner;
    ngx_http_quickblox_member_t   parent, member;

    for (outer = root->child; outer; outer = outer->next) {

        ngx_http_quickblox_json_member(root, outer->string, &parent);
        fuzz_check(parent.count >= 1);

        if (parent.count != 1 || !cJSON_IsObject(outer)) {
            continue;
        }

        fuzz_check(parent.item == outer);

        for (inner = outer->child; inner; inner = inner->next) {
            ngx_http_quickblox_json_member(outer, inner->string, &member);
            fuzz_check(member.count >= 1);
            fuzz_id(body, &parent, &member);
        }
    }
}


static void
fuzz_id(ngx_str_t *body, ngx_http_quickblox_member_t *parent,
    ngx_http_quickblox_member_t *member)
{
    uint64_t   id;
    ngx_str_t  value;

    id = 0;

    if (ngx_http_quickblox_json_string(member, &value) == NGX_OK) {
        fuzz_check(member->count == 1 && cJSON_IsString(member->item));
        fuzz_check(memchr(value.data, '\0', value.len) == NULL);
    }

    if (ngx_http_quickblox_json_id(body, parent, member, &id) != NGX_OK) {
        return;
    }

    fuzz_check(member->count == 1 && id <= ID_MAX);

    if (cJSON_IsNumber(member->item)) {
        fuzz_check((double) id == member->item->valuedouble);

    } else {
        fuzz_check(cJSON_IsString(member->item));
        fuzz_check(strtoull(member->item->valuestring, NULL, 10) == id);
    }
}


/* numbers may be printed as others, but only once */

static void
fuzz_printed(cJSON *root)
{
    char        *first, *second;
    cJSON       *again;
    ngx_str_t    text;
    const char  *reason;

    first = cJSON_PrintUnformatted(root);
    fuzz_check(first != NULL);

    text.data = (u_char *) first;
    text.len = ngx_strlen(first);

    again = ngx_http_quickblox_json_parse(&text, &reason);

    if (again == NULL) {
        fuzz_check(text.len > NGX_HTTP_QUICKBLOX_JSON_MAX);
        cJSON_free(first);
        return;
    }

    second = cJSON_PrintUnformatted(again);
    fuzz_check(second != NULL && ngx_strcmp(first, second) == 0);

    cJSON_free(first);
    cJSON_free(second);

    ngx_http_quickblox_json_free(again);
}


/* neither less than an object nor more than white space after it is one */

static void
fuzz_cut(ngx_str_t *body)
{
    cJSON       *root;
    u_char      *p;
    ngx_str_t    text;
    const char  *reason;

    for (p = body->data + body->len - 1; *p != '}'; p--) { /* void */ }

    text.data = body->data;
    text.len = p - body->data;

    fuzz_check(ngx_http_quickblox_json_parse(&text, &reason) == NULL);

    text.data = fuzz_alloc(body->len + 1);
    text.len = body->len + 1;

    ngx_memcpy(text.data, body->data, body->len);
    text.data[body->len] = ',';

    fuzz_check(ngx_http_quickblox_json_parse(&text, &reason) == NULL);

    text.data[body->len] = LF;

    root = ngx_http_quickblox_json_parse(&text, &reason);
    fuzz_check(root != NULL || text.len > NGX_HTTP_QUICKBLOX_JSON_MAX);

    if (root) {
        ngx_http_quickblox_json_free(root);
    }

    free(text.data);
}
