
/*
 * Files with keys of cookies, plain, in hex or in base64: one that is read is,
 * written in each of these ways, read as the same.
 */


#include "../ngx_http_quickblox_module/ngx_http_quickblox_application_cookie.c"

#include "fuzz.h"


#define KEY  NGX_HTTP_QUICKBLOX_COOKIE_KEY


static ngx_int_t fuzz_key(const u_char *data, size_t size, u_char *key);
static void fuzz_again(u_char *key);


int
LLVMFuzzerTestOneInput(const u_char *data, size_t size)
{
    u_char  key[KEY];

    if (fuzz_key(data, size, key) == NGX_OK) {
        fuzz_again(key);
    }

    return 0;
}


static ngx_int_t
fuzz_key(const u_char *data, size_t size, u_char *key)
{
    u_char     *dst;
    ngx_int_t   rc;
    ngx_str_t   text;

    text = fuzz_copy(data, size);

    dst = fuzz_alloc(KEY);
    ngx_memzero(dst, KEY);

    rc = ngx_http_quickblox_application_decode_key(&text, dst);

    fuzz_check(rc == NGX_OK || rc == NGX_ERROR);
    fuzz_check(size == 0 || ngx_memcmp(text.data, data, size) == 0);

    ngx_memcpy(key, dst, KEY);

    free(text.data);
    free(dst);

    return rc;
}


static void
fuzz_again(u_char *key)
{
    u_char      again[KEY], text[2 * KEY + 2];
    size_t      i;
    ngx_str_t   src, dst;

    src.data = key;
    src.len = KEY;

    /* a key that is text is taken for one of fewer bytes */

    if (!ngx_http_quickblox_application_is_text(&src)) {
        fuzz_check(fuzz_key(key, KEY, again) == NGX_OK);
        fuzz_check(ngx_memcmp(again, key, KEY) == 0);
    }

    for (i = 0; i < KEY; i++) {
        (void) sprintf((char *) text + 2 * i, "%02X", key[i]);
    }

    text[2 * KEY] = LF;

    fuzz_check(fuzz_key(text, 2 * KEY + 1, again) == NGX_OK);
    fuzz_check(ngx_memcmp(again, key, KEY) == 0);

    dst.data = text;
    ngx_encode_base64(&dst, &src);

    fuzz_check(fuzz_key(text, dst.len, again) == NGX_OK);
    fuzz_check(ngx_memcmp(again, key, KEY) == 0);

    ngx_encode_base64url(&dst, &src);

    fuzz_check(fuzz_key(text, dst.len, again) == NGX_OK);
    fuzz_check(ngx_memcmp(again, key, KEY) == 0);
}
