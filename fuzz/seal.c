
/*
 * Sealed cookies.  An input that begins with "s" is sealed, user, time and
 * token: it is opened as it was, and not once a byte of it, the name or the
 * application is another.  Any other input is opened as it came.
 */


#include "fuzz.h"
#include "../ngx_http_quickblox_module/ngx_http_quickblox_cookie.h"


#define KEY  NGX_HTTP_QUICKBLOX_COOKIE_KEY


static void fuzz_init(void);
static void fuzz_seal(const u_char *data, size_t size);
static void fuzz_open(ngx_str_t *value);
static ngx_int_t fuzz_opened(ngx_str_t *value,
    ngx_http_quickblox_sealed_t *sealed);
static void fuzz_changed(ngx_str_t *value);


static u_char                       fuzz_keys[2 * KEY];
static ngx_http_quickblox_cookie_t  fuzz_cookie;


int
LLVMFuzzerTestOneInput(const u_char *data, size_t size)
{
    ngx_str_t  value;

    fuzz_init();

    if (size > 17 && data[0] == 's') {
        fuzz_seal(data + 1, size - 1);
        return 0;
    }

    value = fuzz_copy(data, size);

    fuzz_open(&value);

    fuzz_check(size == 0 || ngx_memcmp(value.data, data, size) == 0);

    free(value.data);

    return 0;
}


static void
fuzz_init(void)
{
    size_t  i;

    fuzz_cookie.application_id = 92;
    ngx_str_set(&fuzz_cookie.name, "session");

    if (fuzz_cookie.ctx) {
        return;
    }

    for (i = 0; i < sizeof(fuzz_keys); i++) {
        fuzz_keys[i] = (u_char) i;
    }

    fuzz_cookie.cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    fuzz_cookie.ctx = EVP_CIPHER_CTX_new();
    fuzz_cookie.keyed = NULL;
    fuzz_cookie.keys = fuzz_keys;
    fuzz_cookie.nkeys = 2;

    fuzz_check(fuzz_cookie.cipher && fuzz_cookie.ctx);
}


static void
fuzz_seal(const u_char *data, size_t size)
{
    u_char                        text[NGX_HTTP_QUICKBLOX_COOKIE_MAX];
    ngx_int_t                     rc;
    ngx_str_t                     value, token;
    ngx_http_quickblox_sealed_t  *sealed, *opened;

    sealed = fuzz_alloc(sizeof(ngx_http_quickblox_sealed_t));

    ngx_memcpy(&sealed->user_id, data, 8);
    ngx_memcpy(&sealed->created, data + 8, 8);

    sealed->token_len = ngx_min(size - 16, NGX_HTTP_QUICKBLOX_TOKEN_MAX);
    ngx_memcpy(sealed->token, data + 16, sealed->token_len);

    token.data = sealed->token;
    token.len = sealed->token_len;

    value.data = text;

    fuzz_check(ngx_http_quickblox_cookie_seal(&fuzz_cookie, sealed, &value)
               == NGX_OK);

    /* the second key opens as well */

    fuzz_cookie.keys = fuzz_keys + (data[0] & 1) * KEY;
    fuzz_cookie.nkeys = 1;

    opened = fuzz_alloc(sizeof(ngx_http_quickblox_sealed_t));
    rc = fuzz_opened(&value, opened);

    fuzz_check(!(data[0] & 1) || rc == NGX_DECLINED);

    fuzz_cookie.keys = fuzz_keys;
    fuzz_cookie.nkeys = 2;

    rc = fuzz_opened(&value, opened);

    if (ngx_http_quickblox_token(&token)) {
        fuzz_check(rc == NGX_OK);
        fuzz_check(opened->user_id == sealed->user_id);
        fuzz_check(opened->created == sealed->created);
        fuzz_check(opened->token_len == sealed->token_len);
        fuzz_check(ngx_memcmp(opened->token, sealed->token, token.len) == 0);

        fuzz_changed(&value);

    } else {
        fuzz_check(rc == NGX_DECLINED);
    }

    free(sealed);
    free(opened);
}


static void
fuzz_open(ngx_str_t *value)
{
    size_t                        i;
    ngx_int_t                     rc;
    ngx_str_t                     token;
    ngx_http_quickblox_sealed_t  *opened;

    opened = fuzz_alloc(sizeof(ngx_http_quickblox_sealed_t));

    rc = fuzz_opened(value, opened);

    fuzz_check(rc == NGX_OK || rc == NGX_DECLINED);

    if (rc == NGX_OK) {
        token.data = opened->token;
        token.len = opened->token_len;

        fuzz_check(ngx_http_quickblox_token(&token));
        fuzz_check(value->len < NGX_HTTP_QUICKBLOX_COOKIE_MAX);

        for (i = 0; i < value->len; i++) {
            fuzz_check(strchr("+/=", value->data[i]) == NULL);
        }

        fuzz_changed(value);
    }

    free(opened);
}


static ngx_int_t
fuzz_opened(ngx_str_t *value, ngx_http_quickblox_sealed_t *sealed)
{
    ngx_int_t  rc;
    ngx_str_t  copy;

    copy = fuzz_copy(value->data, value->len);
    rc = ngx_http_quickblox_cookie_open(&fuzz_cookie, &copy, sealed);

    free(copy.data);

    return rc;
}


/* some bytes of it, the last one always, whose low bits may mean nothing */

static void
fuzz_changed(ngx_str_t *value)
{
    size_t                        i;
    ngx_str_t                     copy;
    ngx_http_quickblox_sealed_t  *opened;

    opened = fuzz_alloc(sizeof(ngx_http_quickblox_sealed_t));
    copy = fuzz_copy(value->data, value->len);

    for (i = copy.len; i-- > 0; i -= ngx_min(i, copy.len / 8)) {
        copy.data[i]++;
        fuzz_check(fuzz_opened(&copy, opened) == NGX_DECLINED);
        copy.data[i]--;
    }

    copy.len--;
    fuzz_check(fuzz_opened(&copy, opened) == NGX_DECLINED);
    copy.len++;

    fuzz_cookie.application_id++;
    fuzz_check(fuzz_opened(&copy, opened) == NGX_DECLINED);
    fuzz_cookie.application_id--;

    fuzz_cookie.name.len--;
    fuzz_check(fuzz_opened(&copy, opened) == NGX_DECLINED);
    fuzz_cookie.name.len++;

    fuzz_check(fuzz_opened(&copy, opened) == NGX_OK);

    free(copy.data);
    free(opened);
}
