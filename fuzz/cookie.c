
/*
 * Cookie headers, after a line with the name: what is found is what a plain
 * split has, and removing it leaves the others, in order, as they were.
 */


#include "fuzz.h"
#include "../ngx_http_quickblox_module/ngx_http_quickblox_cookie.h"


static void fuzz_found(ngx_str_t *header, ngx_str_t *name);
static void fuzz_removed(ngx_str_t *header, ngx_str_t *name);
static ngx_uint_t fuzz_next(ngx_str_t *header, size_t *pos, ngx_str_t *pair);
static ngx_uint_t fuzz_named(ngx_str_t *pair, ngx_str_t *name,
    ngx_str_t *value);
static void fuzz_trim(ngx_str_t *s);


int
LLVMFuzzerTestOneInput(const u_char *data, size_t size)
{
    size_t     i;
    ngx_str_t  name, header;

    name = fuzz_line(&data, &size);

    /* as "cookie" takes one */

    for (i = 0; i < name.len; i++) {
        if (name.data[i] <= 0x20 || name.data[i] >= 0x7f
            || strchr("()<>@,;:\\\"/[]?={}", name.data[i]))
        {
            break;
        }
    }

    if (name.len && i == name.len) {
        header = fuzz_copy(data, size);

        fuzz_found(&header, &name);
        fuzz_removed(&header, &name);

        fuzz_check(size == 0 || ngx_memcmp(header.data, data, size) == 0);

        free(header.data);
    }

    free(name.data);

    return 0;
}


static void
fuzz_found(ngx_str_t *header, ngx_str_t *name)
{
    size_t     at, pos, before;
    ngx_str_t  pair, expected, value;

    at = 0;
    pos = 0;

    while (fuzz_next(header, &at, &pair)) {

        if (!fuzz_named(&pair, name, &expected)) {
            continue;
        }

        before = pos;

        fuzz_check(ngx_http_quickblox_cookie_find(header, name, &pos, &value)
                   == NGX_OK);
        fuzz_check(pos > before && pos <= header->len);
        fuzz_check(value.data == expected.data && value.len == expected.len);
    }

    fuzz_check(ngx_http_quickblox_cookie_find(header, name, &pos, &value)
               == NGX_DECLINED);
    fuzz_check(pos == header->len);
}


static void
fuzz_removed(ngx_str_t *header, ngx_str_t *name)
{
    u_char      *dst;
    size_t       at, left;
    ngx_str_t    rest, pair, other, value;
    ngx_uint_t   n;

    /* a block of its length again, as the rest is read, too */

    dst = fuzz_alloc(header->len);
    left = ngx_http_quickblox_cookie_remove(header, name, dst);
    fuzz_check(left <= header->len);

    rest = fuzz_copy(dst, left);
    free(dst);

    n = 0;
    at = 0;
    left = 0;

    while (fuzz_next(header, &at, &pair)) {

        if (fuzz_named(&pair, name, &value)) {
            continue;
        }

        fuzz_check(fuzz_next(&rest, &left, &other));
        fuzz_check(fuzz_same(&pair, &other));
        n++;
    }

    fuzz_check(!fuzz_next(&rest, &left, &other));
    fuzz_check(n != 0 || rest.len == 0 || rest.data[0] == ';');

    left = 0;

    fuzz_check(ngx_http_quickblox_cookie_find(&rest, name, &left, &value)
               == NGX_DECLINED);

    free(rest.data);
}


/* the next of the parts between ";" that are not empty, without its blanks */

static ngx_uint_t
fuzz_next(ngx_str_t *header, size_t *pos, ngx_str_t *pair)
{
    u_char  *end;

    while (*pos < header->len) {

        pair->data = header->data + *pos;
        end = memchr(pair->data, ';', header->len - *pos);
        pair->len = end ? (size_t) (end - pair->data) : header->len - *pos;

        *pos += pair->len + (end != NULL);

        fuzz_trim(pair);

        if (pair->len) {
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
fuzz_named(ngx_str_t *pair, ngx_str_t *name, ngx_str_t *value)
{
    u_char     *equal;
    ngx_str_t   found;

    equal = memchr(pair->data, '=', pair->len);

    if (equal == NULL) {
        return 0;
    }

    found.data = pair->data;
    found.len = equal - pair->data;

    value->data = equal + 1;
    value->len = pair->len - found.len - 1;

    fuzz_trim(&found);
    fuzz_trim(value);

    return fuzz_same(&found, name);
}


static void
fuzz_trim(ngx_str_t *s)
{
    while (s->len && (s->data[0] == ' ' || s->data[0] == '\t')) {
        s->data++;
        s->len--;
    }

    while (s->len
           && (s->data[s->len - 1] == ' ' || s->data[s->len - 1] == '\t'))
    {
        s->len--;
    }
}
