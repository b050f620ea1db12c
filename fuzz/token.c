
/*
 * Clients' tokens: one that is possible is the same with and without the name
 * of its scheme, and has no byte that a header has no place for.
 */


#include "fuzz.h"
#include "../ngx_http_quickblox_module/ngx_http_quickblox_message.h"


#define BEARER    "BeaRer \t"

#define ALPHABET  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"                               \
                  "abcdefghijklmnopqrstuvwxyz"                               \
                  "0123456789._~+/=-"


static void fuzz_again(ngx_str_t *token);


int
LLVMFuzzerTestOneInput(const u_char *data, size_t size)
{
    u_char     c;
    ngx_int_t  rc;
    ngx_str_t  value, token;

    value = fuzz_copy(data, size);
    ngx_str_null(&token);

    rc = ngx_http_quickblox_client_token(&value, &token);

    fuzz_check(rc == NGX_OK || (rc == NGX_DECLINED && token.len == 0));

    if (rc == NGX_OK) {
        fuzz_check(token.len != 0);
        fuzz_check(fuzz_within(&token, value.data, value.len));

        c = token.data[token.len - 1];
        fuzz_check(c != ' ' && c != '\t');

        if (ngx_http_quickblox_token(&token)) {
            fuzz_again(&token);
        }
    }

    if (ngx_http_quickblox_token(&value)) {
        fuzz_check(rc == NGX_OK && fuzz_same(&token, &value));

    }

    free(value.data);

    return 0;
}


static void
fuzz_again(ngx_str_t *token)
{
    size_t     i;
    ngx_str_t  value, again;

    fuzz_check(token->len >= NGX_HTTP_QUICKBLOX_TOKEN_MIN);
    fuzz_check(token->len <= NGX_HTTP_QUICKBLOX_TOKEN_MAX);

    for (i = 0; i < token->len; i++) {
        fuzz_check(token->data[i] && strchr(ALPHABET, token->data[i]));
    }

    fuzz_check(ngx_http_quickblox_client_token(token, &again) == NGX_OK);
    fuzz_check(fuzz_same(&again, token));

    value.len = sizeof(BEARER) - 1 + token->len;
    value.data = fuzz_alloc(value.len);

    ngx_memcpy(value.data, BEARER, sizeof(BEARER) - 1);
    ngx_memcpy(value.data + sizeof(BEARER) - 1, token->data, token->len);

    fuzz_check(ngx_http_quickblox_client_token(&value, &again) == NGX_OK);
    fuzz_check(fuzz_same(&again, token));

    free(value.data);
}
