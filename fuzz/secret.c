
/*
 * Secrets of one line, such as a file has: what is taken is the line without
 * its end, and nothing that has a second one.
 */


#include "../ngx_http_quickblox_module/ngx_http_quickblox_application.c"

#include "fuzz.h"


static ngx_str_t fuzz_expected(const u_char *data, size_t size);


int
LLVMFuzzerTestOneInput(const u_char *data, size_t size)
{
    char                              *rc;
    ngx_log_t                          log;
    ngx_str_t                          value[2], expected;
    ngx_conf_t                         cf;
    ngx_array_t                        args;
    ngx_command_t                      cmd;
    ngx_http_quickblox_application_t   app;

    value[1] = fuzz_copy(data, size);

    /* these name the secret's place, whose bytes are read as any others */

    if ((size >= 5 && ngx_memcmp(data, "file:", 5) == 0)
        || (size >= 4 && ngx_memcmp(data, "env:", 4) == 0))
    {
        free(value[1].data);
        return 0;
    }

    ngx_memzero(&log, sizeof(ngx_log_t));
    ngx_memzero(&cf, sizeof(ngx_conf_t));
    ngx_memzero(&cmd, sizeof(ngx_command_t));
    ngx_memzero(&app, sizeof(ngx_http_quickblox_application_t));

    ngx_str_set(&value[0], "auth_secret");

    args.elts = value;
    args.nelts = 2;

    cf.args = &args;
    cf.log = &log;

    cmd.name = value[0];
    cmd.offset = offsetof(ngx_http_quickblox_application_t, auth_secret);

    rc = ngx_http_quickblox_application_secret(&cf, &cmd, &app);

    expected = fuzz_expected(data, size);

    if (expected.len) {
        fuzz_check(rc == NGX_CONF_OK);
        fuzz_check(fuzz_same(&app.auth_secret, &expected));

    } else {
        fuzz_check(rc == NGX_CONF_ERROR);
    }

    free(value[1].data);

    return 0;
}


/* empty where there is none */

static ngx_str_t
fuzz_expected(const u_char *data, size_t size)
{
    size_t     i;
    ngx_str_t  s;

    s.data = (u_char *) data;
    s.len = size;

    if (size > 1 && data[size - 2] == CR && data[size - 1] == LF) {
        s.len -= 2;

    } else if (size && data[size - 1] == LF) {
        s.len--;
    }

    for (i = 0; i < s.len; i++) {
        if (data[i] == CR || data[i] == LF || data[i] == '\0') {
            s.len = 0;
        }
    }

    return s;
}
