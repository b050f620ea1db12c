
/*
 * Bodies of logins, each read as JSON and as a form: all values are in the
 * buffer and none over another, and written again they are read as the same.
 */


#include <cjson/cJSON.h>

#include "fuzz.h"
#include "../ngx_http_quickblox_module/ngx_http_quickblox_login.h"


#define FIELDS  5


static void fuzz_read(const u_char *data, size_t size, ngx_uint_t json);
static void fuzz_once(ngx_str_t *body, const char *name);
static void fuzz_again(ngx_http_quickblox_login_t *login, ngx_uint_t json);
static ngx_str_t fuzz_json(ngx_http_quickblox_login_t *login);
static ngx_str_t fuzz_form(ngx_http_quickblox_login_t *login);
static ngx_str_t *fuzz_field(ngx_http_quickblox_login_t *login, ngx_uint_t i);


static const char  *fuzz_names[FIELDS] = {
    "login", "email", "password", "token", "redirect"
};


int
LLVMFuzzerTestOneInput(const u_char *data, size_t size)
{
    fuzz_read(data, size, 0);
    fuzz_read(data, size, 1);

    return 0;
}


static void
fuzz_read(const u_char *data, size_t size, ngx_uint_t json)
{
    u_char                      *buf;
    ngx_int_t                    rc;
    ngx_str_t                    body, *a, *b;
    ngx_uint_t                   i, k;
    ngx_http_quickblox_login_t   login;

    body = fuzz_copy(data, size);
    buf = fuzz_alloc(size + 1);

    rc = ngx_http_quickblox_login_parse(&body, json, buf, &login);

    fuzz_check(rc == NGX_OK || rc == NGX_ERROR);
    fuzz_check(size == 0 || ngx_memcmp(body.data, data, size) == 0);

    if (rc == NGX_OK) {

        for (i = 0; i < FIELDS; i++) {
            a = fuzz_field(&login, i);

            if (!json) {
                fuzz_once(&body, fuzz_names[i]);
            }

            if (a->data == NULL) {
                fuzz_check(a->len == 0);
                continue;
            }

            fuzz_check(fuzz_within(a, buf, size + 1));
            fuzz_check(memchr(a->data, '\0', a->len) == NULL);

            for (k = 0; k < i; k++) {
                b = fuzz_field(&login, k);

                fuzz_check(b->data == NULL || a->data + a->len <= b->data
                           || b->data + b->len <= a->data);
            }
        }

        fuzz_again(&login, json);
    }

    free(body.data);
    free(buf);
}


/* a form that is read has no name twice */

static void
fuzz_once(ngx_str_t *body, const char *name)
{
    size_t      i, len;
    ngx_uint_t  n;

    n = 0;
    len = strlen(name);

    for (i = 0; i + len < body->len; i++) {

        if ((i == 0 || body->data[i - 1] == '&') && body->data[i + len] == '='
            && ngx_memcmp(body->data + i, name, len) == 0)
        {
            n++;
        }
    }

    fuzz_check(n <= 1);
}


static void
fuzz_again(ngx_http_quickblox_login_t *login, ngx_uint_t json)
{
    u_char                      *buf;
    ngx_str_t                    body;
    ngx_uint_t                   i;
    ngx_http_quickblox_login_t   again;

    body = json ? fuzz_json(login) : fuzz_form(login);
    buf = fuzz_alloc(body.len + 1);

    if (ngx_http_quickblox_login_parse(&body, json, buf, &again) == NGX_OK) {

        for (i = 0; i < FIELDS; i++) {
            fuzz_check(fuzz_same(fuzz_field(&again, i), fuzz_field(login, i)));
            fuzz_check((fuzz_field(&again, i)->data == NULL)
                       == (fuzz_field(login, i)->data == NULL));
        }

    } else {

        /* control bytes need more room in JSON than they had */
        fuzz_check(json && body.len > 65536);
    }

    free(body.data);
    free(buf);
}


static ngx_str_t
fuzz_json(ngx_http_quickblox_login_t *login)
{
    char        *text;
    cJSON       *root;
    ngx_str_t   *field, body;
    ngx_uint_t   i;

    root = cJSON_CreateObject();

    for (i = 0; i < FIELDS; i++) {
        field = fuzz_field(login, i);

        if (field->data) {
            text = fuzz_alloc(field->len + 1);
            ngx_memcpy(text, field->data, field->len);
            text[field->len] = '\0';

            cJSON_AddStringToObject(root, fuzz_names[i], text);
            free(text);
        }
    }

    text = cJSON_PrintUnformatted(root);
    body = fuzz_copy((u_char *) text, ngx_strlen(text));

    cJSON_free(text);
    cJSON_Delete(root);

    return body;
}


static ngx_str_t
fuzz_form(ngx_http_quickblox_login_t *login)
{
    char        *p;
    size_t       k, size;
    ngx_str_t   *field, body;
    ngx_uint_t   i;

    size = 1;

    for (i = 0; i < FIELDS; i++) {
        size += sizeof("password=&") + 3 * fuzz_field(login, i)->len;
    }

    p = fuzz_alloc(size);
    body.data = (u_char *) p;

    for (i = 0; i < FIELDS; i++) {
        field = fuzz_field(login, i);

        if (field->data == NULL) {
            continue;
        }

        p += sprintf(p, "%s=", fuzz_names[i]);

        for (k = 0; k < field->len; k++) {
            p += sprintf(p, "%%%02x", field->data[k]);
        }

        *p++ = '&';
    }

    body.len = (u_char *) p - body.data;

    return body;
}


static ngx_str_t *
fuzz_field(ngx_http_quickblox_login_t *login, ngx_uint_t i)
{
    ngx_str_t  *fields[FIELDS] = {
        &login->login, &login->email, &login->password, &login->token,
        &login->redirect
    };

    return fields[i];
}
