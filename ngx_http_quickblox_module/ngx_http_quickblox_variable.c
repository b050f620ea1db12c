
#include "ngx_http_quickblox_variable.h"


static ngx_int_t ngx_http_quickblox_add_uncached_variable(ngx_conf_t *cf,
    ngx_str_t *prefix, ngx_str_t *name, ngx_http_get_variable_pt handler);
static ngx_int_t ngx_http_quickblox_header_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_quickblox_token_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_quickblox_user_id_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_quickblox_application_id_variable(
    ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_quickblox_type_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_quickblox_source_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_quickblox_expires_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_quickblox_status_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_quickblox_replayed_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_quickblox_error_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_http_quickblox_ctx_t *ngx_http_quickblox_variable_session(
    ngx_http_request_t *r, ngx_http_variable_value_t *v);
static void ngx_http_quickblox_variable_set(ngx_http_variable_value_t *v,
    u_char *data, size_t len);
static ngx_int_t ngx_http_quickblox_variable_number(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uint64_t number);
static void ngx_http_quickblox_variable_flush(ngx_http_request_t *r,
    ngx_uint_t index);


static ngx_http_variable_t  ngx_http_quickblox_variables[] = {

    { ngx_string("quickblox_token"), NULL,
      ngx_http_quickblox_token_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("quickblox_user_id"), NULL,
      ngx_http_quickblox_user_id_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("quickblox_application_id"), NULL,
      ngx_http_quickblox_application_id_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("quickblox_session_type"), NULL,
      ngx_http_quickblox_type_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("quickblox_session_source"), NULL,
      ngx_http_quickblox_source_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("quickblox_expires"), NULL,
      ngx_http_quickblox_expires_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("quickblox_status"), NULL,
      ngx_http_quickblox_status_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("quickblox_replayed"), NULL,
      ngx_http_quickblox_replayed_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("quickblox_error"), NULL,
      ngx_http_quickblox_error_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


/* the order is that of ngx_http_quickblox_status_e */

static ngx_str_t  ngx_http_quickblox_statuses[] = {
    ngx_null_string,
    ngx_string("HIT"),
    ngx_string("MISS"),
    ngx_string("WAIT"),
    ngx_string("REFRESH"),
    ngx_string("STALE"),
    ngx_string("REJECTED"),
    ngx_string("ERROR"),
    ngx_string("OFF")
};


ngx_int_t
ngx_http_quickblox_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_quickblox_variables; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_quickblox_add_header_variable(ngx_conf_t *cf, ngx_str_t *name)
{
    static ngx_str_t  prefix = ngx_string("http_");

    return ngx_http_quickblox_add_uncached_variable(cf, &prefix, name,
                                          ngx_http_quickblox_header_variable);
}


ngx_int_t
ngx_http_quickblox_add_cookie_variable(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_uint_t                  i;
    ngx_http_variable_t        *v;
    ngx_http_core_main_conf_t  *cmcf;

    static ngx_str_t  prefix = ngx_string("cookie_");

    /* nginx's own handler: how it parses differs with its version */

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    v = cmcf->prefix_variables.elts;

    for (i = 0; i < cmcf->prefix_variables.nelts; i++) {
        if (v[i].name.len == prefix.len
            && ngx_strncmp(v[i].name.data, prefix.data, prefix.len) == 0)
        {
            return ngx_http_quickblox_add_uncached_variable(cf, &prefix, name,
                                                            v[i].get_handler);
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_add_uncached_variable(ngx_conf_t *cf, ngx_str_t *prefix,
    ngx_str_t *name, ngx_http_get_variable_pt handler)
{
    u_char                     *p, ch;
    ngx_str_t                   var;
    ngx_uint_t                  i;
    ngx_hash_key_t             *key;
    ngx_http_variable_t        *v;
    ngx_http_core_main_conf_t  *cmcf;

    var.len = prefix->len + name->len;
    var.data = ngx_pnalloc(cf->pool, var.len);
    if (var.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(var.data, prefix->data, prefix->len);

    for (i = 0; i < name->len; i++) {
        ch = ngx_tolower(name->data[i]);
        *p++ = (ch == '-') ? '_' : ch;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    key = cmcf->variables_keys->keys.elts;

    for (i = 0; i < cmcf->variables_keys->keys.nelts; i++) {
        if (key[i].key.len == var.len
            && ngx_strncmp(key[i].key.data, var.data, var.len) == 0)
        {
            /*
             * added before, or one of nginx's own such as $http_cookie, which
             * may be evaluated before the list changes
             */

            v = key[i].value;
            v->flags |= NGX_HTTP_VAR_NOCACHEABLE;

            return NGX_OK;
        }
    }

    v = ngx_http_add_variable(cf, &var, NGX_HTTP_VAR_NOCACHEABLE
                                        |NGX_HTTP_VAR_CHANGEABLE);
    if (v == NULL) {
        return NGX_ERROR;
    }

    v->get_handler = handler;
    v->data = (uintptr_t) &v->name;

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_header_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    return ngx_http_quickblox_unknown_header(r, v, (ngx_str_t *) data,
                                             &r->headers_in.headers.part,
                                             sizeof("http_") - 1);
}


/* no other application's location sees the token */

static ngx_int_t
ngx_http_quickblox_token_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_quickblox_ctx_t       *ctx;
    ngx_http_quickblox_loc_conf_t  *qlcf;

    ctx = ngx_http_quickblox_variable_session(r, v);

    if (ctx == NULL) {
        return NGX_OK;
    }

    qlcf = ngx_http_get_module_loc_conf(r, ngx_http_quickblox_module);

    if (qlcf->application != ctx->conf->application || ctx->listener) {
        v->not_found = 1;
        return NGX_OK;
    }

    ngx_http_quickblox_variable_set(v, ctx->session.token.data,
                                    ctx->session.token.len);
    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_user_id_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_quickblox_variable_session(r, v);

    if (ctx == NULL) {
        return NGX_OK;
    }

    if (ctx->session.user_id == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    return ngx_http_quickblox_variable_number(r, v, ctx->session.user_id);
}


static ngx_int_t
ngx_http_quickblox_application_id_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                 *id;
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_quickblox_variable_session(r, v);

    if (ctx) {
        id = &ctx->conf->application->id;
        ngx_http_quickblox_variable_set(v, id->data, id->len);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_type_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_quickblox_variable_session(r, v);

    if (ctx == NULL) {
        return NGX_OK;
    }

    if (ctx->credential.source == NGX_HTTP_QUICKBLOX_SOURCE_API_KEY) {
        v->not_found = 1;

    } else if (ctx->session.user_id) {
        ngx_http_quickblox_variable_set(v, (u_char *) "user", 4);

    } else {
        ngx_http_quickblox_variable_set(v, (u_char *) "application", 11);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_source_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                 *name;
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_quickblox_variable_session(r, v);

    if (ctx) {
        name = ngx_http_quickblox_source_name(ctx->credential.source);
        ngx_http_quickblox_variable_set(v, name->data, name->len);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_expires_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_quickblox_variable_session(r, v);

    if (ctx == NULL) {
        return NGX_OK;
    }

    if (ctx->session.expires == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    return ngx_http_quickblox_variable_number(r, v,
                                              (uint64_t) ctx->session.expires);
}


static ngx_int_t
ngx_http_quickblox_status_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                 *status;
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_quickblox_get_ctx(r, 0);

    if (ctx == NULL || ctx->status == NGX_HTTP_QUICKBLOX_STATUS_NONE) {
        v->not_found = 1;
        return NGX_OK;
    }

    status = &ngx_http_quickblox_statuses[ctx->status];
    ngx_http_quickblox_variable_set(v, status->data, status->len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_replayed_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_quickblox_get_ctx(r, 0);

    if (ctx && ctx->replayed) {
        ngx_http_quickblox_variable_set(v, (u_char *) "1", 1);

    } else {
        v->not_found = 1;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_error_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_quickblox_get_ctx(r, 0);

    if (ctx && ctx->error) {
        ngx_http_quickblox_variable_set(v, (u_char *) ctx->error,
                                        ngx_strlen(ctx->error));
    } else {
        v->not_found = 1;
    }

    return NGX_OK;
}


/* the request's state if it runs under a session, else an empty value */

static ngx_http_quickblox_ctx_t *
ngx_http_quickblox_variable_session(ngx_http_request_t *r,
    ngx_http_variable_value_t *v)
{
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_quickblox_get_ctx(r, 0);

    if (ctx == NULL || !(ctx->granted || ctx->listener)) {
        v->not_found = 1;
        return NULL;
    }

    return ctx;
}


static void
ngx_http_quickblox_variable_set(ngx_http_variable_value_t *v, u_char *data,
    size_t len)
{
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->data = data;
    v->len = len;
}


static ngx_int_t
ngx_http_quickblox_variable_number(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uint64_t number)
{
    u_char  *p;

    p = ngx_pnalloc(r->pool, NGX_INT64_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_http_quickblox_variable_set(v, p, ngx_sprintf(p, "%uL", number) - p);

    return NGX_OK;
}


ngx_int_t
ngx_http_quickblox_value_anew(ngx_http_request_t *r,
    ngx_http_complex_value_t *cv, ngx_str_t *value)
{
    ngx_uint_t  *index;

    for (index = cv->flushes;
         index && *index != (ngx_uint_t) -1;
         index++)
    {
        ngx_http_quickblox_variable_flush(r, *index);
    }

    return ngx_http_complex_value(r, cv, value);
}


/*
 * A "map" keeps what it said before, and so does one that it is made of: all
 * variables of its kind are evaluated anew.  What "set" has stored (its data
 * is an index) and "auth_request_set" (which finds nothing by itself) is
 * nowhere else and stays.
 */

static void
ngx_http_quickblox_variable_flush(ngx_http_request_t *r, ngx_uint_t index)
{
    ngx_uint_t                  i;
    ngx_http_variable_t        *v;
    ngx_http_variable_value_t   value;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);
    v = cmcf->variables.elts;

    if (v[index].data < cmcf->variables.nelts) {
        return;
    }

    ngx_memzero(&value, sizeof(ngx_http_variable_value_t));

    if (v[index].get_handler(r, &value, v[index].data) != NGX_OK
        || value.not_found)
    {
        return;
    }

    for (i = 0; i < cmcf->variables.nelts; i++) {
        if (v[i].get_handler == v[index].get_handler) {
            r->variables[i].valid = 0;
            r->variables[i].not_found = 0;
        }
    }
}
