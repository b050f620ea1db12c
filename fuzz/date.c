
/*
 * The API's dates, in both layouts: the time that is read is, written by
 * strftime(), the date that was read, and blanks around it change nothing.
 */


#include "fuzz.h"
#include "../ngx_http_quickblox_module/ngx_http_quickblox_message.h"


static void fuzz_written(ngx_str_t *value, time_t time, const char *layout);
static ngx_str_t fuzz_blanks(ngx_str_t *value);


int
LLVMFuzzerTestOneInput(const u_char *data, size_t size)
{
    time_t     date, iso;
    ngx_str_t  value, padded;

    value = fuzz_copy(data, size);
    padded = fuzz_blanks(&value);

    date = ngx_http_quickblox_parse_date(&value);
    iso = ngx_http_quickblox_parse_iso_date(&value);

    fuzz_check(date == NGX_ERROR || iso == NGX_ERROR);
    fuzz_check(ngx_http_quickblox_parse_date(&padded) == date);
    fuzz_check(ngx_http_quickblox_parse_iso_date(&padded) == iso);

    if (date != NGX_ERROR) {
        fuzz_written(&value, date, "%Y-%m-%d %H:%M:%S ");
    }

    if (iso != NGX_ERROR) {
        fuzz_written(&value, iso, "%Y-%m-%dT%H:%M:%S");
    }

    free(value.data);
    free(padded.data);

    return 0;
}


static void
fuzz_written(ngx_str_t *value, time_t time, const char *layout)
{
    char        text[64];
    size_t      i, len;
    struct tm   tm;

    fuzz_check(time >= 0);
    fuzz_check(gmtime_r(&time, &tm) != NULL);

    len = strftime(text, sizeof(text), layout, &tm);
    fuzz_check(len != 0);

    for (i = 0; value->data[i] == ' ' || value->data[i] == '\t'; i++) {
        /* void */
    }

    fuzz_check(value->len - i > len);
    fuzz_check(ngx_memcmp(value->data + i, text, len) == 0);
}


static ngx_str_t
fuzz_blanks(ngx_str_t *value)
{
    ngx_str_t  s;

    s.len = value->len + 3;
    s.data = fuzz_alloc(s.len);

    s.data[0] = '\t';
    s.data[1] = ' ';

    if (value->len) {
        ngx_memcpy(s.data + 2, value->data, value->len);
    }

    s.data[s.len - 1] = ' ';

    return s;
}
