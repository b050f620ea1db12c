
#include "ngx_http_quickblox_application.h"
#include "ngx_http_quickblox_api.h"
#include "ngx_http_quickblox_json.h"
#include "ngx_http_quickblox_zone.h"


#define NGX_HTTP_QUICKBLOX_SECRET_MAX  4096


typedef struct {
    ngx_command_t            command;
    const char              *example;
} ngx_http_quickblox_directive_t;


static char *ngx_http_quickblox_application_directive(ngx_conf_t *cf,
    ngx_command_t *dummy, void *conf);
static char *ngx_http_quickblox_application_unset(ngx_conf_t *cf,
    ngx_http_quickblox_main_conf_t *qmcf, ngx_str_t *name,
    ngx_http_quickblox_application_t **app);
static char *ngx_http_quickblox_application_complete(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app);
static char *ngx_http_quickblox_application_times(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app);
static char *ngx_http_quickblox_application_api(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static ngx_int_t ngx_http_quickblox_application_set_api(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app, ngx_str_t *url);
static char *ngx_http_quickblox_application_id(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_quickblox_application_secret(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static ngx_int_t ngx_http_quickblox_application_getenv(ngx_conf_t *cf,
    ngx_command_t *cmd, ngx_str_t *name, ngx_str_t *value);
static char *ngx_http_quickblox_application_zone(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static ngx_int_t ngx_http_quickblox_application_cipher(ngx_conf_t *cf,
    ngx_http_quickblox_main_conf_t *qmcf,
    ngx_http_quickblox_application_t *app);
static void ngx_http_quickblox_application_cipher_cleanup(void *data);
static ngx_int_t ngx_http_quickblox_application_peers(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app);
static ngx_int_t ngx_http_quickblox_application_resolver(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app, ngx_http_core_loc_conf_t *clcf);
static void ngx_http_quickblox_application_resolver_cleanup(void *data);
static ngx_http_upstream_srv_conf_t *ngx_http_quickblox_application_group(
    ngx_conf_t *cf, ngx_http_quickblox_application_t *app);
static ngx_int_t ngx_http_quickblox_application_implicit(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app);
static ngx_int_t ngx_http_quickblox_application_ssl(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app);
static ngx_int_t ngx_http_quickblox_application_keys(ngx_conf_t *cf,
    ngx_http_quickblox_main_conf_t *qmcf,
    ngx_http_quickblox_application_t *app);
static EVP_MD_CTX *ngx_http_quickblox_application_start(ngx_conf_t *cf,
    ngx_http_quickblox_main_conf_t *qmcf, ngx_str_t *parts, ngx_uint_t n);
static void ngx_http_quickblox_application_start_cleanup(void *data);


static ngx_str_t  ngx_http_quickblox_default_api =
    ngx_string("https://api.quickblox.com");


static ngx_conf_enum_t  ngx_http_quickblox_signatures[] = {
    { ngx_string("sha1"), NGX_HTTP_QUICKBLOX_SHA1 },
    { ngx_string("sha256"), NGX_HTTP_QUICKBLOX_SHA256 },
    { ngx_null_string, 0 }
};


static ngx_conf_bitmask_t  ngx_http_quickblox_ssl_protocols[] = {
    { ngx_string("TLSv1"), NGX_SSL_TLSv1 },
    { ngx_string("TLSv1.1"), NGX_SSL_TLSv1_1 },
    { ngx_string("TLSv1.2"), NGX_SSL_TLSv1_2 },
    { ngx_string("TLSv1.3"), NGX_SSL_TLSv1_3 },
    { ngx_null_string, 0 }
};


/*
 * "type" holds the numbers of arguments only, as the block has no contexts;
 * an example is for what nginx's own handlers refuse
 */

static ngx_http_quickblox_directive_t  ngx_http_quickblox_directives[] = {

    { { ngx_string("api"),
        NGX_CONF_TAKE1,
        ngx_http_quickblox_application_api,
        0,
        0,
        NULL }, NULL },

    { { ngx_string("api_host"),
        NGX_CONF_TAKE1,
        ngx_conf_set_str_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, host),
        NULL }, NULL },

    { { ngx_string("application_id"),
        NGX_CONF_TAKE1,
        ngx_http_quickblox_application_id,
        0,
        0,
        NULL }, NULL },

    { { ngx_string("auth_key"),
        NGX_CONF_TAKE1,
        ngx_http_quickblox_application_secret,
        0,
        offsetof(ngx_http_quickblox_application_t, auth_key),
        NULL }, NULL },

    { { ngx_string("auth_secret"),
        NGX_CONF_TAKE1,
        ngx_http_quickblox_application_secret,
        0,
        offsetof(ngx_http_quickblox_application_t, auth_secret),
        NULL }, NULL },

    { { ngx_string("signature"),
        NGX_CONF_TAKE1,
        ngx_http_quickblox_enum_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, signature),
        &ngx_http_quickblox_signatures }, NULL },

    { { ngx_string("login"),
        NGX_CONF_TAKE1,
        ngx_http_quickblox_application_secret,
        0,
        offsetof(ngx_http_quickblox_application_t, login),
        NULL }, NULL },

    { { ngx_string("email"),
        NGX_CONF_TAKE1,
        ngx_http_quickblox_application_secret,
        0,
        offsetof(ngx_http_quickblox_application_t, email),
        NULL }, NULL },

    { { ngx_string("password"),
        NGX_CONF_TAKE1,
        ngx_http_quickblox_application_secret,
        0,
        offsetof(ngx_http_quickblox_application_t, password),
        NULL }, NULL },

    { { ngx_string("api_key"),
        NGX_CONF_TAKE1,
        ngx_http_quickblox_application_secret,
        0,
        offsetof(ngx_http_quickblox_application_t, api_key),
        NULL }, NULL },

    { { ngx_string("on_behalf_of"),
        NGX_CONF_TAKE1,
        ngx_http_set_complex_value_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, on_behalf_of),
        NULL }, NULL },

    { { ngx_string("zone"),
        NGX_CONF_TAKE12,
        ngx_http_quickblox_application_zone,
        0,
        0,
        NULL }, NULL },

    { { ngx_string("cookie_key"),
        NGX_CONF_1MORE,
        ngx_http_quickblox_application_cookie_key,
        0,
        0,
        NULL }, NULL },

    { { ngx_string("cookie"),
        NGX_CONF_1MORE,
        ngx_http_quickblox_application_cookie,
        0,
        0,
        NULL }, NULL },

    { { ngx_string("cookie_lifetime"),
        NGX_CONF_TAKE1,
        ngx_conf_set_sec_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, cookie_lifetime),
        NULL }, "12h" },

    { { ngx_string("session_lifetime"),
        NGX_CONF_TAKE1,
        ngx_conf_set_sec_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, session_lifetime),
        NULL }, "2h" },

    { { ngx_string("basic_valid"),
        NGX_CONF_TAKE1,
        ngx_conf_set_sec_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, basic_valid),
        NULL }, "10m" },

    { { ngx_string("refresh_before"),
        NGX_CONF_TAKE1,
        ngx_conf_set_sec_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, refresh_before),
        NULL }, "5m" },

    { { ngx_string("cache_valid"),
        NGX_CONF_TAKE1,
        ngx_conf_set_sec_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, cache_valid),
        NULL }, "60s" },

    { { ngx_string("cache_invalid"),
        NGX_CONF_TAKE1,
        ngx_conf_set_sec_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, cache_invalid),
        NULL }, "5s" },

    { { ngx_string("cache_stale"),
        NGX_CONF_TAKE1,
        ngx_conf_set_sec_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, cache_stale),
        NULL }, "1h" },

    { { ngx_string("connect_timeout"),
        NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, upstream.connect_timeout),
        NULL }, "1s" },

    { { ngx_string("timeout"),
        NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, timeout),
        NULL }, "5s" },

    { { ngx_string("lock_timeout"),
        NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, lock_timeout),
        NULL }, "5s" },

    { { ngx_string("ssl_verify"),
        NGX_CONF_TAKE1,
        ngx_conf_set_flag_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, ssl_verify),
        NULL }, "on" },

    { { ngx_string("ssl_trusted_certificate"),
        NGX_CONF_TAKE1,
        ngx_conf_set_str_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, ssl_trusted_certificate),
        NULL }, NULL },

    { { ngx_string("ssl_verify_depth"),
        NGX_CONF_TAKE1,
        ngx_conf_set_num_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, ssl_verify_depth),
        NULL }, "2" },

    { { ngx_string("ssl_protocols"),
        NGX_CONF_1MORE,
        ngx_conf_set_bitmask_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, ssl_protocols),
        &ngx_http_quickblox_ssl_protocols }, "TLSv1.2 TLSv1.3" },

    { { ngx_string("ssl_ciphers"),
        NGX_CONF_TAKE1,
        ngx_conf_set_str_slot,
        0,
        offsetof(ngx_http_quickblox_application_t, ssl_ciphers),
        NULL }, NULL },

    { ngx_null_command, NULL }
};


char *
ngx_http_quickblox_application_block(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_quickblox_main_conf_t *qmcf = conf;

    char                              *rv;
    ngx_str_t                         *value;
    ngx_conf_t                         save;
    ngx_http_quickblox_application_t  *app;

    value = cf->args->elts;

    rv = ngx_http_quickblox_application_unset(cf, qmcf, &value[1], &app);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    save = *cf;

    cf->handler = ngx_http_quickblox_application_directive;
    cf->handler_conf = (void *) app;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    return ngx_http_quickblox_application_complete(cf, app);
}


static char *
ngx_http_quickblox_application_unset(ngx_conf_t *cf,
    ngx_http_quickblox_main_conf_t *qmcf, ngx_str_t *name,
    ngx_http_quickblox_application_t **application)
{
    u_char                             ch;
    ngx_uint_t                         i;
    ngx_http_quickblox_application_t  *app;

    /* it is the realm of a challenge, and "off" has a meaning */

    for (i = 0; i < name->len; i++) {
        ch = name->data[i];

        if (ch <= 0x20 || ch >= 0x7f || ch == '"' || ch == '\\') {
            break;
        }
    }

    if (i == 0 || i < name->len || ngx_strcmp(name->data, "off") == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid quickblox application name \"%V\", write "
                           "a word other than \"off\", such as \"chat\"",
                           name);
        return NGX_CONF_ERROR;
    }

    app = ngx_http_quickblox_application_get(cf, qmcf, name);
    if (app == NULL) {
        return NGX_CONF_ERROR;
    }

    if (app->file) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate quickblox application \"%V\", "
                           "the first is in %s:%ui",
                           name, app->file, app->line);
        return NGX_CONF_ERROR;
    }

    /* get() has set by ngx_pcalloc() what has no value for "unset" */

    app->file = cf->conf_file->file.name.data;
    app->line = cf->conf_file->line;
    app->on_behalf_of = NULL;
    app->signature = NGX_CONF_UNSET_UINT;
    app->cookie_lifetime = NGX_CONF_UNSET;
    app->session_lifetime = NGX_CONF_UNSET;
    app->basic_valid = NGX_CONF_UNSET;
    app->refresh_before = NGX_CONF_UNSET;
    app->cache_valid = NGX_CONF_UNSET;
    app->cache_invalid = NGX_CONF_UNSET;
    app->cache_stale = NGX_CONF_UNSET;
    app->upstream.connect_timeout = NGX_CONF_UNSET_MSEC;
    app->timeout = NGX_CONF_UNSET_MSEC;
    app->lock_timeout = NGX_CONF_UNSET_MSEC;
    app->ssl_verify = NGX_CONF_UNSET;
    app->ssl_verify_depth = NGX_CONF_UNSET_UINT;

    *application = app;

    return NGX_CONF_OK;
}


ngx_http_quickblox_application_t *
ngx_http_quickblox_application_get(ngx_conf_t *cf,
    ngx_http_quickblox_main_conf_t *qmcf, ngx_str_t *name)
{
    ngx_uint_t                          i;
    ngx_http_quickblox_application_t   *app, **apps;

    apps = qmcf->applications.elts;

    for (i = 0; i < qmcf->applications.nelts; i++) {
        if (apps[i]->name.len == name->len
            && ngx_strncmp(apps[i]->name.data, name->data, name->len) == 0)
        {
            return apps[i];
        }
    }

    apps = ngx_array_push(&qmcf->applications);
    if (apps == NULL) {
        return NULL;
    }

    app = ngx_pcalloc(cf->pool, sizeof(ngx_http_quickblox_application_t));
    if (app == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     app->file = NULL;
     *     app->* = { 0, NULL }, and nothing of the upstream
     */

    app->name = *name;

    *apps = app;

    return app;
}


static char *
ngx_http_quickblox_application_directive(ngx_conf_t *cf, ngx_command_t *dummy,
    void *conf)
{
    ngx_http_quickblox_application_t *app = conf;

    char                            *rv;
    ngx_str_t                       *value;
    ngx_uint_t                       nargs;
    ngx_command_t                   *cmd;
    ngx_http_quickblox_directive_t  *directive;

    static ngx_uint_t  args[] = {
        NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE2
    };

    value = cf->args->elts;
    nargs = cf->args->nelts - 1;

    for (directive = ngx_http_quickblox_directives;
         directive->command.name.len;
         directive++)
    {
        cmd = &directive->command;

        if (cmd->name.len != value[0].len
            || ngx_strcmp(cmd->name.data, value[0].data) != 0)
        {
            continue;
        }

        if ((cmd->type & NGX_CONF_1MORE)
            ? nargs == 0
            : nargs >= sizeof(args) / sizeof(args[0])
              || !(cmd->type & args[nargs]))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid number of arguments "
                               "in \"%V\" directive", &cmd->name);
            return NGX_CONF_ERROR;
        }

        rv = cmd->set(cf, cmd, app);

        if (rv == NGX_CONF_OK
            || (rv == NGX_CONF_ERROR && directive->example == NULL))
        {
            return rv;
        }

        if (directive->example == NULL
            || (rv != NGX_CONF_ERROR && ngx_strncmp(rv, "is ", 3) == 0))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" directive %s", &cmd->name, rv);
            return NGX_CONF_ERROR;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value in \"%V\", write for example "
                           "\"%V %s;\"", &cmd->name, &cmd->name,
                           directive->example);
        return NGX_CONF_ERROR;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "unknown directive \"%V\" in quickblox application "
                       "\"%V\"", &value[0], &app->name);
    return NGX_CONF_ERROR;
}


static char *
ngx_http_quickblox_application_complete(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app)
{
    if (app->id.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "quickblox application \"%V\" has no "
                           "\"application_id\", write "
                           "\"application_id number;\"", &app->name);
        return NGX_CONF_ERROR;
    }

    if (app->shm_zone == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "quickblox application \"%V\" has no \"zone\", "
                           "write \"zone quickblox 10m;\"", &app->name);
        return NGX_CONF_ERROR;
    }

    if (app->login.len && app->email.len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "quickblox application \"%V\" has both \"login\" "
                           "and \"email\", write one of them", &app->name);
        return NGX_CONF_ERROR;
    }

    if ((app->login.len || app->email.len) && app->password.data == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "quickblox application \"%V\" has \"%s\" without "
                           "\"password\"", &app->name,
                           app->login.len ? "login" : "email");
        return NGX_CONF_ERROR;
    }

    if (app->on_behalf_of && app->api_key.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "quickblox application \"%V\" has "
                           "\"on_behalf_of\" without \"api_key\"", &app->name);
        return NGX_CONF_ERROR;
    }

    if (!app->has_api
        && ngx_http_quickblox_application_set_api(cf, app,
                                             &ngx_http_quickblox_default_api)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    ngx_conf_init_uint_value(app->signature, NGX_HTTP_QUICKBLOX_SHA1);
    ngx_conf_init_value(app->ssl_verify, 1);
    ngx_conf_init_uint_value(app->ssl_verify_depth, 1);

    if (app->ssl_protocols == 0) {
        app->ssl_protocols = NGX_CONF_BITMASK_SET
                             |NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3;
    }

    if (app->ssl_ciphers.len == 0) {
        ngx_str_set(&app->ssl_ciphers, "DEFAULT");
    }

    if (app->cookie.name.len == 0) {
        ngx_str_set(&app->cookie.name, "__Host-quickblox");
    }

    if (app->cookie_attributes.len == 0) {
        ngx_str_set(&app->cookie_attributes,
                    "; Secure; HttpOnly; SameSite=Lax; Path=/");
    }

    app->cookie.application_id = app->id_number;

    return ngx_http_quickblox_application_times(cf, app);
}


static char *
ngx_http_quickblox_application_times(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app)
{
    char  *zero;

    ngx_conf_init_value(app->session_lifetime, 7200);
    ngx_conf_init_value(app->basic_valid, 600);
    ngx_conf_init_value(app->cookie_lifetime, 0);
    ngx_conf_init_value(app->cache_valid, 60);
    ngx_conf_init_value(app->cache_invalid, 5);
    ngx_conf_init_value(app->cache_stale, 0);
    ngx_conf_init_msec_value(app->upstream.connect_timeout, 1000);
    ngx_conf_init_msec_value(app->timeout, 5000);
    ngx_conf_init_msec_value(app->lock_timeout, 5000);
    ngx_conf_init_value(app->refresh_before, 300);

    zero = app->session_lifetime == 0 ? "session_lifetime"
           : app->cache_valid == 0 ? "cache_valid"
           : app->basic_valid == 0 ? "basic_valid"
           : app->refresh_before == 0 ? "refresh_before"
           : app->upstream.connect_timeout == 0 ? "connect_timeout"
           : app->timeout == 0 ? "timeout"
           : app->lock_timeout == 0 ? "lock_timeout"
           : NULL;

    if (zero) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%s\" of quickblox application \"%V\" is 0, "
                           "write a time such as \"5s\"", zero, &app->name);
        return NGX_CONF_ERROR;
    }

    if (app->refresh_before >= app->session_lifetime) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"refresh_before\" of quickblox application "
                           "\"%V\" is %Ts, it must be below "
                           "\"session_lifetime\", %Ts", &app->name,
                           app->refresh_before, app->session_lifetime);
        return NGX_CONF_ERROR;
    }

    /* leases are at most ten minutes, see the table */

    if (app->timeout > 600000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"timeout\" of quickblox application \"%V\" is "
                           "%Mms, write at most \"10m\"", &app->name,
                           app->timeout);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_quickblox_application_api(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_quickblox_application_t *app = conf;

    ngx_str_t  *value;

    if (app->has_api) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_http_quickblox_application_set_api(cf, app, &value[1]) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_quickblox_application_set_api(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app, ngx_str_t *url)
{
    size_t       skip;
    ngx_url_t   *u;
    const char  *err;

    if (ngx_strlchr(url->data, url->data + url->len, '@')) {

        /* what is before it may be a password */

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"api\": no user is allowed in it, write "
                           "\"api https://host[:port][/path];\"");
        return NGX_ERROR;
    }

    err = NULL;
    u = &app->url;

    if (url->len > 7
        && ngx_strncasecmp(url->data, (u_char *) "http://", 7) == 0)
    {
        skip = 7;
        u->default_port = 80;

    } else if (url->len > 8
               && ngx_strncasecmp(url->data, (u_char *) "https://", 8) == 0)
    {
        skip = 8;
        u->default_port = 443;
        app->ssl = 1;

    } else {
        err = "no \"http://\" or \"https://\" and host";
        goto invalid;
    }

    if (ngx_strlchr(url->data, url->data + url->len, '$')) {
        err = "variables are not supported";
        goto invalid;
    }

    if (ngx_strlchr(url->data, url->data + url->len, '?')
        || ngx_strlchr(url->data, url->data + url->len, '#'))
    {
        err = "only a host, a port and a path are allowed";
        goto invalid;
    }

    u->url.len = url->len - skip;
    u->url.data = url->data + skip;
    u->uri_part = 1;
    u->no_resolve = 1;

    if (ngx_parse_url(cf->pool, u) != NGX_OK) {
        err = u->err ? u->err : "out of memory";
        goto invalid;
    }

    app->api = *url;
    app->has_api = 1;
    app->path = u->uri;

    while (app->path.len && app->path.data[app->path.len - 1] == '/') {
        app->path.len--;
    }

    return NGX_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid \"api\" \"%V\": %s, write "
                       "\"api https://host[:port][/path];\"", url, err);
    return NGX_ERROR;
}


static char *
ngx_http_quickblox_application_id(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_quickblox_application_t *app = conf;

    ngx_str_t  *value;

    if (app->id.len) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_http_quickblox_parse_id(&value[1], &app->id_number) != NGX_OK
        || app->id_number == 0 || value[1].data[0] == '0')
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid application_id \"%V\", write the "
                           "number that the QuickBlox dashboard shows",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    app->id = value[1];

    return NGX_CONF_OK;
}


/* a value, or where it is: "file:PATH", "env:NAME"; no message quotes it */

static char *
ngx_http_quickblox_application_secret(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    char *p = conf;

    ngx_int_t   rc;
    ngx_str_t  *field, *value, name;

    field = (ngx_str_t *) (p + cmd->offset);

    if (field->data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len >= 5 && ngx_strncmp(value[1].data, "file:", 5) == 0) {
        name.len = value[1].len - 5;
        name.data = value[1].data + 5;
        rc = ngx_http_quickblox_application_read(cf, &cmd->name, &name, field);

    } else if (value[1].len >= 4 && ngx_strncmp(value[1].data, "env:", 4) == 0)
    {
        name.len = value[1].len - 4;
        name.data = value[1].data + 4;
        rc = ngx_http_quickblox_application_getenv(cf, cmd, &name, field);

    } else {
        *field = value[1];
        rc = NGX_OK;
    }

    if (rc != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (field->len && (field->data[field->len - 1] == LF)) {
        field->len--;

        if (field->len && field->data[field->len - 1] == CR) {
            field->len--;
        }
    }

    if (field->len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the value of \"%V\" is empty", &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (ngx_strlchr(field->data, field->data + field->len, LF)
        || ngx_strlchr(field->data, field->data + field->len, CR)
        || ngx_strlchr(field->data, field->data + field->len, '\0'))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the value of \"%V\" has more than one line",
                           &cmd->name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_quickblox_application_read(ngx_conf_t *cf, ngx_str_t *directive,
    ngx_str_t *name, ngx_str_t *value)
{
    ssize_t          n;
    ngx_fd_t         fd;
    ngx_int_t        rc;
    ngx_file_info_t  fi;

    rc = NGX_ERROR;

    if (name->len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no file is named in \"%V\", write "
                           "\"%V file:PATH;\"", directive, directive);
        return NGX_ERROR;
    }

    if (ngx_conf_full_name(cf->cycle, name, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    fd = ngx_open_file(name->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"%V\": " ngx_open_file_n " \"%V\" failed",
                           directive, name);
        return NGX_ERROR;
    }

    if (ngx_fd_info(fd, &fi) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"%V\": " ngx_fd_info_n " \"%V\" failed",
                           directive, name);
        goto done;
    }

    if (!ngx_is_file(&fi)
        || ngx_file_size(&fi) > NGX_HTTP_QUICKBLOX_SECRET_MAX)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\": \"%V\" is not a file of at most %d bytes",
                           directive, name, NGX_HTTP_QUICKBLOX_SECRET_MAX);
        goto done;
    }

    if (ngx_file_access(&fi) & S_IROTH) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"%V\": secret file \"%V\" can be read by "
                           "everybody, \"chmod o-r\" it", directive, name);
    }

    value->data = ngx_pnalloc(cf->pool, ngx_file_size(&fi) + 1);
    if (value->data == NULL) {
        goto done;
    }

    n = ngx_read_fd(fd, value->data, ngx_file_size(&fi));

    if (n != ngx_file_size(&fi)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, n == -1 ? ngx_errno : 0,
                           "\"%V\": " ngx_read_fd_n " \"%V\" failed",
                           directive, name);
        goto done;
    }

    value->len = n;
    rc = NGX_OK;

done:

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           "\"%V\": " ngx_close_file_n " \"%V\" failed",
                           directive, name);
    }

    return rc;
}


static ngx_int_t
ngx_http_quickblox_application_getenv(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_str_t *name, ngx_str_t *value)
{
    char             *p;
    ngx_str_t        *env;
    ngx_core_conf_t  *ccf;

    if (name->len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no environment variable is named in \"%V\", write "
                           "\"%V env:NAME;\"", &cmd->name, &cmd->name);
        return NGX_ERROR;
    }

    /* an argument of a directive ends with a zero byte */

    p = getenv((char *) name->data);

    /*
     * "nginx -s" reads it all to find the process id, and has the environment
     * of whoever types it: any value will do
     */

    if (p == NULL && ngx_process == NGX_PROCESS_SIGNALLER) {
        p = "-";
    }

    if (p == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\": environment variable \"%V\" is not set",
                           &cmd->name, name);
        return NGX_ERROR;
    }

    value->len = ngx_strlen(p);
    value->data = ngx_pnalloc(cf->pool, value->len + 1);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(value->data, p, value->len);

    /*
     * nginx drops the variables that no "env" names when it runs as a single
     * process and when it starts a new binary; the next reading needs this
     */

    ccf = (ngx_core_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                           ngx_core_module);

    env = ngx_array_push(&ccf->env);
    if (env == NULL) {
        return NGX_ERROR;
    }

    *env = *name;

    return NGX_OK;
}


static char *
ngx_http_quickblox_application_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_quickblox_application_t *app = conf;

    ssize_t     size;
    ngx_str_t  *value;

    if (app->shm_zone) {
        return "is duplicate";
    }

    value = cf->args->elts;
    size = 0;

    if (value[1].len == 0) {
        return "has an empty name";
    }

    if (cf->args->nelts == 3) {
        size = ngx_parse_size(&value[2]);

        if (size == NGX_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid zone size \"%V\", write for example "
                               "\"zone quickblox 10m;\"", &value[2]);
            return NGX_CONF_ERROR;
        }

        if (size < (ssize_t) (8 * ngx_pagesize)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "zone \"%V\" is too small, it needs at least "
                               "%uzk", &value[1], 8 * ngx_pagesize / 1024);
            return NGX_CONF_ERROR;
        }
    }

    app->shm_zone = ngx_http_quickblox_zone_add(cf, &value[1], size, app);
    if (app->shm_zone == NULL) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_quickblox_application_init(ngx_conf_t *cf,
    ngx_http_quickblox_main_conf_t *qmcf,
    ngx_http_quickblox_application_t *app)
{
    if (app->shm_zone->shm.size == 0) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "zone \"%V\" of quickblox application \"%V\" has no "
                      "size, write \"zone %V 10m;\" in %s:%ui",
                      &app->shm_zone->shm.name, &app->name,
                      &app->shm_zone->shm.name, app->file, app->line);
        return NGX_ERROR;
    }

    if (app->api_key.len) {
        app->authorization.len = sizeof("ApiKey ") - 1 + app->api_key.len;
        app->authorization.data = ngx_pnalloc(cf->pool,
                                              app->authorization.len);
        if (app->authorization.data == NULL) {
            return NGX_ERROR;
        }

        ngx_sprintf(app->authorization.data, "ApiKey %V", &app->api_key);
    }

    if (ngx_http_quickblox_application_peers(cf, app) != NGX_OK
        || ngx_http_quickblox_application_ssl(cf, app) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_quickblox_api_init(app);

    if (app->cookie.nkeys
        && ngx_http_quickblox_application_cipher(cf, qmcf, app) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_quickblox_application_keys(cf, qmcf, app);
}


/* of its own for each application, so that it keeps the key */

static ngx_int_t
ngx_http_quickblox_application_cipher(ngx_conf_t *cf,
    ngx_http_quickblox_main_conf_t *qmcf,
    ngx_http_quickblox_application_t *app)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    app->cookie.cipher = qmcf->cipher;
    app->cookie.ctx = EVP_CIPHER_CTX_new();

    if (app->cookie.ctx == NULL) {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "EVP_CIPHER_CTX_new() failed");
        return NGX_ERROR;
    }

    cln->handler = ngx_http_quickblox_application_cipher_cleanup;
    cln->data = app->cookie.ctx;

    return NGX_OK;
}


static void
ngx_http_quickblox_application_cipher_cleanup(void *data)
{
    EVP_CIPHER_CTX_free(data);
}


static ngx_int_t
ngx_http_quickblox_application_peers(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app)
{
    u_char                    *p;
    ngx_url_t                 *u;
    ngx_uint_t                 named;
    ngx_http_core_loc_conf_t  *clcf;

    u = &app->url;
    named = app->host.len != 0;

    if (!named) {
        app->host = u->host;
    }

    app->group = ngx_http_quickblox_application_group(cf, app);

    if (app->group && !named && app->ssl) {
        ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                      "\"api\" of quickblox application \"%V\" names "
                      "upstream \"%V\", which is also the host that its "
                      "certificate is verified for; write "
                      "\"api_host api.quickblox.com;\" in %s:%ui",
                      &app->name, &u->host, app->file, app->line);
    }

    /* the Host header has the port where it is not the scheme's own */

    app->host_header = app->host;

    if (!u->no_port && u->port != u->default_port && u->family != AF_UNIX) {
        p = ngx_pnalloc(cf->pool, app->host.len + sizeof(":65535") - 1);
        if (p == NULL) {
            return NGX_ERROR;
        }

        app->host_header.data = p;
        app->host_header.len = ngx_sprintf(p, "%V:%d", &app->host,
                                           (int) u->port)
                               - p;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (app->group == NULL && u->naddrs == 0
        && clcf->resolver && clcf->resolver->connections.nelts)
    {
        return ngx_http_quickblox_application_resolver(cf, app, clcf);
    }

    if (app->group == NULL) {
        return ngx_http_quickblox_application_implicit(cf, app);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_application_resolver(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app, ngx_http_core_loc_conf_t *clcf)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_quickblox_application_resolver_cleanup;
    cln->data = app;

    app->resolver = clcf->resolver;
    app->resolver_timeout = clcf->resolver_timeout;

    return NGX_OK;
}


/* the addresses that a worker has found have a pool of their own */

static void
ngx_http_quickblox_application_resolver_cleanup(void *data)
{
    ngx_http_quickblox_application_t *app = data;

    if (app->addrs_pool) {
        ngx_destroy_pool(app->addrs_pool);
    }
}


static ngx_http_upstream_srv_conf_t *
ngx_http_quickblox_application_group(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app)
{
    ngx_uint_t                       i;
    ngx_http_upstream_srv_conf_t   **uscfp;
    ngx_http_upstream_main_conf_t   *umcf;

    if (!app->url.no_port) {
        return NULL;
    }

    umcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_upstream_module);

    uscfp = umcf->upstreams.elts;

    for (i = 0; i < umcf->upstreams.nelts; i++) {

        if ((uscfp[i]->flags & NGX_HTTP_UPSTREAM_CREATE)
            && uscfp[i]->host.len == app->url.host.len
            && ngx_strncasecmp(uscfp[i]->host.data, app->url.host.data,
                               app->url.host.len)
               == 0)
        {
            return uscfp[i];
        }
    }

    return NULL;
}


/* a host that is resolved once, at start, as nginx does for "proxy_pass" */

static ngx_int_t
ngx_http_quickblox_application_implicit(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app)
{
    ngx_url_t                     *u;
    ngx_http_upstream_server_t    *server;
    ngx_http_upstream_rr_peer_t   *peer;
    ngx_http_upstream_rr_peers_t  *peers;
    ngx_http_upstream_srv_conf_t  *uscf;

    uscf = ngx_pcalloc(cf->pool, sizeof(ngx_http_upstream_srv_conf_t));
    if (uscf == NULL) {
        return NGX_ERROR;
    }

    u = &app->url;

    uscf->host = u->host;
    uscf->port = u->port;
    uscf->file_name = app->file;
    uscf->line = app->line;

    if (u->naddrs) {
        uscf->servers = ngx_array_create(cf->pool, 1,
                                         sizeof(ngx_http_upstream_server_t));
        if (uscf->servers == NULL) {
            return NGX_ERROR;
        }

        server = ngx_array_push(uscf->servers);
        if (server == NULL) {
            return NGX_ERROR;
        }

        ngx_memzero(server, sizeof(ngx_http_upstream_server_t));

        server->addrs = u->addrs;
        server->naddrs = u->naddrs;
        server->weight = 1;
    }

    if (ngx_http_upstream_init_round_robin(cf, uscf) != NGX_OK) {
        return NGX_ERROR;
    }

    /* the back-off decides when to try again: no address is given up */

    peers = uscf->peer.data;

    for (peer = peers->peer; peer; peer = peer->next) {
        peer->max_fails = 0;
    }

    app->group = uscf;

    return NGX_OK;
}


static ngx_int_t
ngx_http_quickblox_application_ssl(ngx_conf_t *cf,
    ngx_http_quickblox_application_t *app)
{
    ngx_ssl_t           *ssl;
    ngx_pool_cleanup_t  *cln;

    if (!app->ssl) {
        return NGX_OK;
    }

    /* the SSL_CTX points back to it: zeroed, and as long-lived */

    ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    if (ssl == NULL) {
        return NGX_ERROR;
    }

    ssl->log = cf->log;

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    if (ngx_ssl_create(ssl, app->ssl_protocols, NULL) != NGX_OK) {
        return NGX_ERROR;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = ssl;

#ifdef SSL_OP_CLEANSE_PLAINTEXT

    /* OpenSSL decrypts answers, and so tokens, in a buffer of its own */

    SSL_CTX_set_options(ssl->ctx, SSL_OP_CLEANSE_PLAINTEXT);

#endif

    if (ngx_ssl_ciphers(cf, ssl, &app->ssl_ciphers, 0) != NGX_OK) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "invalid \"ssl_ciphers\" of quickblox application "
                      "\"%V\" in %s:%ui, write what \"openssl ciphers\" "
                      "takes", &app->name, app->file, app->line);
        return NGX_ERROR;
    }

    if (app->ssl_trusted_certificate.len) {

        if (ngx_ssl_trusted_certificate(cf, ssl, &app->ssl_trusted_certificate,
                                        app->ssl_verify_depth)
            != NGX_OK)
        {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "invalid \"ssl_trusted_certificate\" of quickblox "
                          "application \"%V\" in %s:%ui, write a file of "
                          "certificates in the PEM format",
                          &app->name, app->file, app->line);
            return NGX_ERROR;
        }

    } else if (SSL_CTX_set_default_verify_paths(ssl->ctx) == 0) {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "SSL_CTX_set_default_verify_paths() failed");
        return NGX_ERROR;

    } else {
        SSL_CTX_set_verify_depth(ssl->ctx, app->ssl_verify_depth);
    }

    if (ngx_ssl_client_session_cache(cf, ssl, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    app->upstream.ssl = ssl;

    /*
     * a named group keeps TLS sessions of others, too, with the result of
     * their verification, or of none
     */

    app->upstream.ssl_session_reuse = app->group
                                      && app->group->srv_conf == NULL;
    app->upstream.ssl_server_name = 1;
    app->upstream.ssl_verify = app->ssl_verify;

    return NGX_OK;
}


/*
 * A session held is its application's under these very credentials: with
 * another secret, user or API its key is another one.  The user's source has
 * "held[0]", the application's "held[1]".
 */

static ngx_int_t
ngx_http_quickblox_application_keys(ngx_conf_t *cf,
    ngx_http_quickblox_main_conf_t *qmcf,
    ngx_http_quickblox_application_t *app)
{
    ngx_str_t  parts[8];

    parts[0] = app->api;
    parts[1] = app->id;

    ngx_str_set(&parts[2], "client");

    app->client = ngx_http_quickblox_application_start(cf, qmcf, parts, 3);
    if (app->client == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&parts[2], "application");

    parts[3] = app->auth_key;
    parts[4] = app->auth_secret;

    if (ngx_http_quickblox_digest(qmcf->md_ctx, qmcf->md_start, parts, 5,
                                  app->held[1])
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_str_set(&parts[2], "people");

    parts[5] = app->api_key;

    app->people = ngx_http_quickblox_application_start(cf, qmcf, parts, 6);
    if (app->people == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&parts[2], "user");

    parts[5] = app->login;
    parts[6] = app->email;
    parts[7] = app->password;

    return ngx_http_quickblox_digest(qmcf->md_ctx, qmcf->md_start, parts, 8,
                                     app->held[0]);
}


/*
 * What many keys begin with: its digest, with zeroes and their length a block
 * of SHA-256, so that only the rest is hashed for each request.
 */

static EVP_MD_CTX *
ngx_http_quickblox_application_start(ngx_conf_t *cf,
    ngx_http_quickblox_main_conf_t *qmcf, ngx_str_t *parts, ngx_uint_t n)
{
    u_char               block[64 - 8];
    ngx_str_t            first;
    EVP_MD_CTX          *start;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    start = EVP_MD_CTX_new();

    cln->handler = ngx_http_quickblox_application_start_cleanup;
    cln->data = start;

    ngx_memzero(block, sizeof(block));

    first.len = sizeof(block);
    first.data = block;

    if (start == NULL
        || ngx_http_quickblox_digest(qmcf->md_ctx, qmcf->md_start, parts, n,
                                     block)
           != NGX_OK
        || ngx_http_quickblox_digest_start(start, qmcf->md, &first, 1)
           != NGX_OK)
    {
        return NULL;
    }

    return start;
}


static void
ngx_http_quickblox_application_start_cleanup(void *data)
{
    EVP_MD_CTX_free(data);
}
