
/*
 * Targets of redirects: what is let through stays on this host, whatever a
 * browser drops and turns (WHATWG URL standard, 4.4).
 */


#include "fuzz.h"
#include "../ngx_http_quickblox_module/ngx_http_quickblox_login.h"


static ngx_str_t fuzz_browser(const u_char *data, size_t size);


int
LLVMFuzzerTestOneInput(const u_char *data, size_t size)
{
    ngx_str_t   target, seen;
    ngx_uint_t  allowed;

    target = fuzz_copy(data, size);
    seen = fuzz_browser(data, size);

    allowed = ngx_http_quickblox_login_target(&target);

    fuzz_check(allowed <= 1);

    if (allowed) {
        fuzz_check(fuzz_same(&seen, &target));
        fuzz_check(seen.len && seen.data[0] == '/');
        fuzz_check(seen.len < 2 || seen.data[1] != '/');
    }

    free(target.data);
    free(seen.data);

    return 0;
}


/* what a browser makes of it before it looks for a host */

static ngx_str_t
fuzz_browser(const u_char *data, size_t size)
{
    u_char     *p;
    ngx_str_t   seen;

    while (size && data[0] <= ' ') {
        data++;
        size--;
    }

    while (size && data[size - 1] <= ' ') {
        size--;
    }

    seen.data = fuzz_alloc(size);
    p = seen.data;

    for ( /* void */ ; size; data++, size--) {

        if (*data == '\t' || *data == CR || *data == LF) {
            continue;
        }

        *p++ = (*data == '\\') ? '/' : *data;
    }

    seen.len = p - seen.data;

    return seen;
}
