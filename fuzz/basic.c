
/*
 * Credentials of Basic, against a decoder of bits: what is read is, encoded
 * again, read as the same, with padding and without.
 */


#include <openssl/evp.h>

#include "fuzz.h"
#include "../ngx_http_quickblox_module/ngx_http_quickblox_login.h"


#define fuzz_colon(p, len)  ((u_char *) memchr(p, ':', len))


static size_t fuzz_decode(ngx_str_t *value, u_char *dst);
static ngx_int_t fuzz_expected(u_char *plain, size_t len);
static void fuzz_again(ngx_http_quickblox_login_t *login);


static char  fuzz_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                             "abcdefghijklmnopqrstuvwxyz0123456789+/";


int
LLVMFuzzerTestOneInput(const u_char *data, size_t size)
{
    u_char                      *buf, *plain;
    size_t                       len;
    ngx_int_t                    rc;
    ngx_str_t                    value;
    ngx_http_quickblox_login_t   login;

    value = fuzz_copy(data, size);
    buf = fuzz_alloc(size);
    plain = fuzz_alloc(size);

    rc = ngx_http_quickblox_login_basic(&value, buf, &login);

    fuzz_check(size == 0 || ngx_memcmp(value.data, data, size) == 0);

    len = fuzz_decode(&value, plain);

    fuzz_check(rc == fuzz_expected(plain, len));

    if (rc == NGX_OK) {
        fuzz_check(ngx_memcmp(plain, buf, len) == 0);

        fuzz_check(login.login.data == buf);
        fuzz_check(login.login.len == (size_t) (fuzz_colon(buf, len) - buf));
        fuzz_check(login.password.data == buf + login.login.len + 1);
        fuzz_check(login.password.len == len - login.login.len - 1);
        fuzz_check(login.email.len == 0 && login.token.len == 0);

        fuzz_again(&login);
    }

    free(value.data);
    free(buf);
    free(plain);

    return 0;
}


/* base64 by its bits, with all of its padding or none; 0 is no base64 */

static size_t
fuzz_decode(ngx_str_t *value, u_char *dst)
{
    char        *digit;
    size_t       i, n, len;
    uint32_t     bits;
    ngx_uint_t   count;

    for (len = 0; len < value->len && value->data[len] != '='; len++) {
        /* void */
    }

    if (len % 4 == 1
        || (len < value->len && value->len != (len + 3) / 4 * 4)
        || (value->len == len + 2 && value->data[len + 1] != '='))
    {
        return 0;
    }

    n = 0;
    bits = 0;
    count = 0;

    for (i = 0; i < len; i++) {
        digit = strchr(fuzz_digits, value->data[i]);

        if (value->data[i] == '\0' || digit == NULL) {
            return 0;
        }

        bits = bits << 6 | (uint32_t) (digit - fuzz_digits);
        count += 6;

        if (count >= 8) {
            count -= 8;
            dst[n++] = (u_char) (bits >> count);
        }
    }

    return n;
}


static ngx_int_t
fuzz_expected(u_char *plain, size_t len)
{
    size_t   i;
    u_char  *colon;

    for (i = 0; i < len; i++) {
        if (plain[i] < 0x20 || plain[i] == 0x7f) {
            return NGX_ERROR;
        }
    }

    colon = fuzz_colon(plain, len);

    if (colon == NULL || colon == plain || colon == plain + len - 1) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
fuzz_again(ngx_http_quickblox_login_t *login)
{
    u_char                      *buf, *text;
    size_t                       len, size;
    ngx_str_t                    value;
    ngx_http_quickblox_login_t   again;

    /* all of it is in one piece, as has been checked */

    size = login->login.len + 1 + login->password.len;

    text = fuzz_alloc((size + 2) / 3 * 4 + 1);
    len = EVP_EncodeBlock(text, login->login.data, (int) size);

    do {
        value = fuzz_copy(text, len);
        buf = fuzz_alloc(len);

        fuzz_check(ngx_http_quickblox_login_basic(&value, buf, &again)
                   == NGX_OK || (text[len - 1] == '=' && len % 4));

        if (again.login.len) {
            fuzz_check(fuzz_same(&again.login, &login->login));
            fuzz_check(fuzz_same(&again.password, &login->password));
        }

        free(value.data);
        free(buf);

    } while (text[--len] == '=');

    free(text);
}
