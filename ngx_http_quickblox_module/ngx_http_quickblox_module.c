
#include "ngx_http_quickblox_module.h"
#include "ngx_http_quickblox_access.h"
#include "ngx_http_quickblox_api.h"
#include "ngx_http_quickblox_application.h"
#include "ngx_http_quickblox_credential.h"
#include "ngx_http_quickblox_endpoint.h"
#include "ngx_http_quickblox_header.h"
#include "ngx_http_quickblox_origin.h"
#include "ngx_http_quickblox_replay.h"
#include "ngx_http_quickblox_session.h"
#include "ngx_http_quickblox_variable.h"


/* s between two lines of one worker that tell of what goes on */
#define NGX_HTTP_QUICKBLOX_TELL_AGAIN  60


static void ngx_http_quickblox_cleanup(void *data);

static void *ngx_http_quickblox_create_main_conf(ngx_conf_t *cf);
static char *ngx_http_quickblox_init_main_conf(ngx_conf_t *cf, void *conf);
static void ngx_http_quickblox_digest_cleanup(void *data);
static void *ngx_http_quickblox_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_quickblox_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static char *ngx_http_quickblox_merge_defaults(ngx_conf_t *cf,
    ngx_http_quickblox_loc_conf_t *conf, ngx_http_quickblox_loc_conf_t *prev);
static char *ngx_http_quickblox_check_endpoint(ngx_conf_t *cf,
    ngx_http_quickblox_loc_conf_t *conf);
static char *ngx_http_quickblox_check(ngx_conf_t *cf,
    ngx_http_quickblox_loc_conf_t *conf);
static ngx_int_t ngx_http_quickblox_add_token(ngx_conf_t *cf,
    ngx_array_t *tokens, ngx_str_t *value);
static ngx_int_t ngx_http_quickblox_set_header(ngx_conf_t *cf,
    ngx_http_quickblox_header_t *header, ngx_str_t *name);

static char *ngx_http_quickblox(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_quickblox_session(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_quickblox_on_expired(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_quickblox_login(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_quickblox_logout(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_quickblox_check_handler(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_quickblox_status(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_quickblox_set_endpoint(ngx_conf_t *cf,
    ngx_http_quickblox_loc_conf_t *qlcf, ngx_uint_t endpoint);
static char *ngx_http_quickblox_second_handler(ngx_conf_t *cf,
    ngx_http_quickblox_loc_conf_t *qlcf);
static void ngx_http_quickblox_set_line(ngx_conf_t *cf,
    ngx_http_quickblox_loc_conf_t *qlcf);
static char *ngx_http_quickblox_tokens(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_quickblox_require(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_quickblox_header(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_quickblox_expired(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_quickblox_size_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

static ngx_int_t ngx_http_quickblox_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_quickblox_postconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_quickblox_add_handlers(ngx_conf_t *cf);
static ngx_int_t ngx_http_quickblox_add_first(ngx_http_core_main_conf_t *cmcf,
    ngx_uint_t phase, ngx_http_handler_pt handler);


/* the order is that of NGX_HTTP_QUICKBLOX_SOURCE_... */

static ngx_str_t  ngx_http_quickblox_source_names[] = {
    ngx_string("client"),
    ngx_string("basic"),
    ngx_string("cookie"),
    ngx_string("user"),
    ngx_string("user_token"),
    ngx_string("application"),
    ngx_string("api_key"),
    ngx_string("none")
};


/* the order is that of NGX_HTTP_QUICKBLOX_LOGIN, ... */

static const char  *ngx_http_quickblox_endpoint_names[] = {
    "",
    "quickblox_login",
    "quickblox_logout",
    "quickblox_check",
    "quickblox_status"
};


/* headers that are removed or added whatever "quickblox_header" says */

static ngx_str_t  ngx_http_quickblox_changed_headers[] = {
    ngx_string("QB-Token"),
    ngx_string("On-Behalf-Of"),
    ngx_string("Authorization"),
    ngx_string("Cookie"),
    ngx_null_string
};


/* headers that frame or route a message */

static ngx_str_t  ngx_http_quickblox_reserved_headers[] = {
    ngx_string("Host"),
    ngx_string("Connection"),
    ngx_string("Content-Length"),
    ngx_string("Transfer-Encoding"),
    ngx_string("Upgrade"),
    ngx_string("Keep-Alive"),
    ngx_string("Proxy-Connection"),
    ngx_string("TE"),
    ngx_string("Trailer"),
    ngx_string("Expect"),
    ngx_string("HTTP2-Settings"),
    ngx_string("Cookie"),
    ngx_null_string
};


static ngx_conf_enum_t  ngx_http_quickblox_accesses[] = {
    { ngx_string("read"), NGX_HTTP_QUICKBLOX_READ },
    { ngx_string("write"), NGX_HTTP_QUICKBLOX_WRITE },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_quickblox_preflights[] = {
    { ngx_string("pass"), 1 },
    { ngx_string("off"), 0 },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_quickblox_forgets[] = {
    { ngx_string("auto"), NGX_HTTP_QUICKBLOX_FORGET_AUTO },
    { ngx_string("on"), NGX_HTTP_QUICKBLOX_FORGET_ON },
    { ngx_string("off"), NGX_HTTP_QUICKBLOX_FORGET_OFF },
    { ngx_null_string, 0 }
};


#define NGX_HTTP_QUICKBLOX_ANY_CONF                                          \
    (NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LMT_CONF)


static ngx_command_t  ngx_http_quickblox_commands[] = {

    { ngx_string("quickblox_application"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_BLOCK|NGX_CONF_TAKE1,
      ngx_http_quickblox_application_block,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("quickblox"),
      NGX_HTTP_QUICKBLOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_quickblox,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("quickblox_session"),
      NGX_HTTP_QUICKBLOX_ANY_CONF|NGX_CONF_1MORE,
      ngx_http_quickblox_session,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("quickblox_token"),
      NGX_HTTP_QUICKBLOX_ANY_CONF|NGX_CONF_1MORE,
      ngx_http_quickblox_tokens,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("quickblox_require"),
      NGX_HTTP_QUICKBLOX_ANY_CONF|NGX_CONF_1MORE,
      ngx_http_quickblox_require,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("quickblox_application_access"),
      NGX_HTTP_QUICKBLOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_quickblox_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_quickblox_loc_conf_t, access),
      &ngx_http_quickblox_accesses },

    { ngx_string("quickblox_header"),
      NGX_HTTP_QUICKBLOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_quickblox_header,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("quickblox_preflight"),
      NGX_HTTP_QUICKBLOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_quickblox_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_quickblox_loc_conf_t, preflight),
      &ngx_http_quickblox_preflights },

    { ngx_string("quickblox_forget"),
      NGX_HTTP_QUICKBLOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_quickblox_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_quickblox_loc_conf_t, forget),
      &ngx_http_quickblox_forgets },

    { ngx_string("quickblox_user"),
      NGX_HTTP_QUICKBLOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_set_complex_value_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_quickblox_loc_conf_t, user),
      NULL },

    { ngx_string("quickblox_origin"),
      NGX_HTTP_QUICKBLOX_ANY_CONF|NGX_CONF_1MORE,
      ngx_http_quickblox_origins,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("quickblox_on_expired"),
      NGX_HTTP_QUICKBLOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_quickblox_on_expired,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("quickblox_login"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE12,
      ngx_http_quickblox_login,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("quickblox_logout"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_quickblox_logout,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("quickblox_check"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_quickblox_check_handler,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("quickblox_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_quickblox_status,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("quickblox_replay"),
      NGX_HTTP_QUICKBLOX_ANY_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_quickblox_loc_conf_t, replay),
      NULL },

    { ngx_string("quickblox_expired"),
      NGX_HTTP_QUICKBLOX_ANY_CONF|NGX_CONF_1MORE,
      ngx_http_quickblox_expired,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("quickblox_expired_buffer"),
      NGX_HTTP_QUICKBLOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_quickblox_size_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_quickblox_loc_conf_t, expired_buffer),
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_quickblox_module_ctx = {
    ngx_http_quickblox_preconfiguration,   /* preconfiguration */
    ngx_http_quickblox_postconfiguration,  /* postconfiguration */

    ngx_http_quickblox_create_main_conf,   /* create main configuration */
    ngx_http_quickblox_init_main_conf,     /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_quickblox_create_loc_conf,    /* create location configuration */
    ngx_http_quickblox_merge_loc_conf      /* merge location configuration */
};


ngx_module_t  ngx_http_quickblox_module = {
    NGX_MODULE_V1,
    &ngx_http_quickblox_module_ctx,        /* module context */
    ngx_http_quickblox_commands,           /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_quickblox_api_init_process,   /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


ngx_str_t *
ngx_http_quickblox_source_name(ngx_uint_t source)
{
    return &ngx_http_quickblox_source_names[source];
}


ngx_uint_t
ngx_http_quickblox_log_level(ngx_uint_t level, time_t *told)
{
    if (ngx_time() < *told) {
        return NGX_LOG_INFO;
    }

    *told = ngx_time() + NGX_HTTP_QUICKBLOX_TELL_AGAIN;

    return level;
}


void
ngx_http_quickblox_count_request(ngx_http_quickblox_ctx_t *ctx)
{
    ngx_uint_t  endpoint;

    if (ctx->counted
        || ctx->status == NGX_HTTP_QUICKBLOX_STATUS_NONE
        || ctx->status == NGX_HTTP_QUICKBLOX_STATUS_OFF)
    {
        return;
    }

    ctx->counted = 1;
    endpoint = ctx->conf->endpoint;

    /*
     * what comes of a login or logout is counted with the API's calls, and
     * what was refused before it was looked at has no source
     */

    if ((endpoint == 0 || endpoint == NGX_HTTP_QUICKBLOX_CHECK)
        && ctx->credential.source < NGX_HTTP_QUICKBLOX_REPORT_SOURCES)
    {
        ngx_http_quickblox_count(ctx->conf->application,
                             requests[ctx->credential.source][ctx->status]);
    }
}


ngx_http_quickblox_ctx_t *
ngx_http_quickblox_get_ctx(ngx_http_request_t *r, ngx_uint_t create)
{
    ngx_pool_cleanup_t        *cln;
    ngx_http_quickblox_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_quickblox_module);

    if (ctx) {
        return ctx;
    }

    if (r->internal || r->filter_finalize || r != r->main) {

        /*
         * if module context was reset, or this is a subrequest, the original
         * state can still be found in the cleanup handler of the main request
         */

        for (cln = r->pool->cleanup; cln; cln = cln->next) {
            if (cln->handler == ngx_http_quickblox_cleanup) {
                ctx = cln->data;
                ngx_http_set_ctx(r, ctx, ngx_http_quickblox_module);
                return ctx;
            }
        }
    }

    if (!create) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_quickblox_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_quickblox_ctx_t));

    ctx->request = r;
    ctx->credential.source = NGX_HTTP_QUICKBLOX_SOURCE_NONE;

    cln->handler = ngx_http_quickblox_cleanup;

    ngx_http_set_ctx(r, ctx, ngx_http_quickblox_module);

    return ctx;
}


/* the request may go away at any moment */

static void
ngx_http_quickblox_cleanup(void *data)
{
    ngx_http_quickblox_ctx_t *ctx = data;

    ngx_http_quickblox_session_cancel(ctx);

    ngx_http_quickblox_credential_cleanse(&ctx->credential);

    if (ctx->conf && ctx->conf->basic) {
        ngx_http_quickblox_header_restore(ctx->request, ctx);
        ngx_http_quickblox_header_cleanse(ctx->request);
    }
}


static void *
ngx_http_quickblox_create_main_conf(ngx_conf_t *cf)
{
    ngx_uint_t                       i;
    ngx_pool_cleanup_t              *cln;
    ngx_http_quickblox_main_conf_t  *qmcf;

    qmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_quickblox_main_conf_t));
    if (qmcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&qmcf->applications, cf->pool, 2,
                       sizeof(ngx_http_quickblox_application_t *))
        != NGX_OK)
    {
        return NULL;
    }

    for (i = 0; i < 256; i++) {
        ngx_queue_init(&qmcf->flights[i]);
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_http_quickblox_digest_cleanup;
    cln->data = qmcf;

    /* fetched once: EVP_sha256() would be looked up for each digest */

    qmcf->md = EVP_MD_fetch(NULL, "SHA256", NULL);
    qmcf->md_ctx = EVP_MD_CTX_new();
    qmcf->md_start = EVP_MD_CTX_new();
    qmcf->cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);

    /*
     * for HMAC(), which looks it up: a worker that is short of memory when it
     * does so first would have none for as long as it lives
     */

    qmcf->mac = EVP_MAC_fetch(NULL, "HMAC", NULL);

    if (qmcf->md_ctx == NULL || qmcf->md_start == NULL || qmcf->cipher == NULL
        || qmcf->mac == NULL
        || ngx_http_quickblox_digest_start(qmcf->md_start, qmcf->md, NULL, 0)
           != NGX_OK)
    {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "EVP_MD_fetch(), EVP_CIPHER_fetch() or "
                      "EVP_MAC_fetch() failed");
        return NULL;
    }

    return qmcf;
}


static void
ngx_http_quickblox_digest_cleanup(void *data)
{
    ngx_http_quickblox_main_conf_t *qmcf = data;

    EVP_MD_CTX_free(qmcf->md_ctx);
    EVP_MD_CTX_free(qmcf->md_start);
    EVP_MD_free(qmcf->md);
    EVP_CIPHER_free(qmcf->cipher);
    EVP_MAC_free(qmcf->mac);
}


/* runs when all of http { } has been read, before locations are merged */

static char *
ngx_http_quickblox_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_quickblox_main_conf_t *qmcf = conf;

    ngx_uint_t                          i;
    ngx_http_quickblox_application_t  **apps;

    apps = qmcf->applications.elts;

    for (i = 0; i < qmcf->applications.nelts; i++) {

        if (apps[i]->shm_zone == NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "unknown quickblox application \"%V\" in %s:%ui, "
                          "write \"quickblox_application %V { ... }\" "
                          "in \"http\"", &apps[i]->name, apps[i]->used_file,
                          apps[i]->used_line, &apps[i]->name);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static void *
ngx_http_quickblox_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_quickblox_loc_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_quickblox_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->header = { { 0, NULL }, NULL, 0 };
     *     conf->expired_text = { 0, NULL };
     *     conf->on_expired = { 0, NULL };
     *     conf->user = NULL;
     *     conf->endpoint = 0;
     *     conf->body_max = 0;
     *     conf->sources_set = 0;
     *     conf->file = NULL;
     *     conf->limit_except = 0;
     *     conf->limited = NULL;
     *     conf->location = NULL;
     */

    conf->application = NGX_CONF_UNSET_PTR;
    conf->sources = NGX_CONF_UNSET_PTR;
    conf->tokens = NGX_CONF_UNSET_PTR;
    conf->require = NGX_CONF_UNSET_PTR;
    conf->require_any = NGX_CONF_UNSET_UINT;
    conf->access = NGX_CONF_UNSET_UINT;
    conf->preflight = NGX_CONF_UNSET_UINT;
    conf->forget = NGX_CONF_UNSET_UINT;
    conf->origins = NGX_CONF_UNSET_PTR;
    conf->replay = NGX_CONF_UNSET;
    conf->expired = NGX_CONF_UNSET_PTR;
    conf->expired_buffer = NGX_CONF_UNSET_SIZE;

    return conf;
}


static char *
ngx_http_quickblox_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_quickblox_loc_conf_t *prev = parent;
    ngx_http_quickblox_loc_conf_t *conf = child;

    ngx_http_core_loc_conf_t  *clcf;

    if (conf->file == NULL) {
        conf->file = prev->file;
        conf->line = prev->line;
    }

    ngx_conf_merge_ptr_value(conf->application, prev->application, NULL);
    ngx_conf_merge_ptr_value(conf->require, prev->require, NULL);
    ngx_conf_merge_uint_value(conf->require_any, prev->require_any, 0);
    ngx_conf_merge_uint_value(conf->access, prev->access,
                              NGX_HTTP_QUICKBLOX_READ);
    ngx_conf_merge_uint_value(conf->preflight, prev->preflight, 0);
    ngx_conf_merge_uint_value(conf->forget, prev->forget,
                              NGX_HTTP_QUICKBLOX_FORGET_AUTO);
    ngx_conf_merge_value(conf->replay, prev->replay, 1);
    ngx_conf_merge_size_value(conf->expired_buffer, prev->expired_buffer,
                              8192);

    ngx_conf_merge_ptr_value(conf->origins, prev->origins, NULL);
    ngx_conf_merge_str_value(conf->on_expired, prev->on_expired, "");

    if (conf->user == NULL) {
        conf->user = prev->user;
    }

    if (conf->header.lowcase == NULL) {
        conf->header = prev->header;
    }

    if (conf->expired == NGX_CONF_UNSET_PTR) {
        conf->expired = prev->expired;
        conf->expired_text = prev->expired_text;
    }

    conf->sources_set |= prev->sources_set;

    ngx_conf_merge_ptr_value(conf->sources, prev->sources, NGX_CONF_UNSET_PTR);
    ngx_conf_merge_ptr_value(conf->tokens, prev->tokens, NGX_CONF_UNSET_PTR);

    /*
     * the methods that limit_except leaves to the location are unprotected,
     * but a client must not say there what the module says elsewhere
     */

    if (conf->limit_except && conf->application && prev->application == NULL) {
        prev->limited = conf;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->noname && !conf->limit_except) {
        conf->location = prev;
    }

    /* limit_except has no handler of its own, and "if" must have none */

    if (clcf->noname && prev->endpoint) {
        conf->endpoint = prev->endpoint;
        conf->token = prev->token;
        conf->fresh = prev->fresh;
        conf->destroy = prev->destroy;
        conf->format = prev->format;

        if (clcf->handler == NULL) {
            clcf->handler = ngx_http_quickblox_endpoint_handler;
        }
    }

    /* nginx would refuse what is too large before the handler is asked */

    if (conf->endpoint) {
        conf->body_max = NGX_HTTP_QUICKBLOX_BODY_MAX;

        if (clcf->client_max_body_size) {
            conf->body_max = ngx_min(clcf->client_max_body_size,
                                     NGX_HTTP_QUICKBLOX_BODY_MAX);
        }

        clcf->client_max_body_size = 0;
    }

    return ngx_http_quickblox_merge_defaults(cf, conf, prev);
}


/*
 * Defaults that take memory are made once, in the configuration of "http",
 * which all others inherit them from.
 */

static char *
ngx_http_quickblox_merge_defaults(ngx_conf_t *cf,
    ngx_http_quickblox_loc_conf_t *conf, ngx_http_quickblox_loc_conf_t *prev)
{
    ngx_str_t   token, header;
    ngx_uint_t  *value;

    if (conf->sources == NGX_CONF_UNSET_PTR) {
        conf->sources = ngx_array_create(cf->pool, 1, sizeof(ngx_uint_t));
        if (conf->sources == NULL) {
            return NGX_CONF_ERROR;
        }

        value = ngx_array_push(conf->sources);
        *value = NGX_HTTP_QUICKBLOX_SOURCE_CLIENT;

        prev->sources = conf->sources;
    }

    if (conf->tokens == NGX_CONF_UNSET_PTR) {
        conf->tokens = ngx_array_create(cf->pool, 1,
                                        sizeof(ngx_http_quickblox_token_t));
        if (conf->tokens == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_str_set(&token, "$http_qb_token");

        if (ngx_http_quickblox_add_token(cf, conf->tokens, &token) != NGX_OK) {
            return NGX_CONF_ERROR;
        }

        prev->tokens = conf->tokens;
    }

    if (conf->expired == NGX_CONF_UNSET_PTR) {
        conf->expired = ngx_array_create(cf->pool, 1, sizeof(ngx_uint_t));
        if (conf->expired == NULL) {
            return NGX_CONF_ERROR;
        }

        value = ngx_array_push(conf->expired);
        *value = NGX_HTTP_UNAUTHORIZED;

        ngx_str_set(&conf->expired_text, "Required session does not exist");

        prev->expired = conf->expired;
        prev->expired_text = conf->expired_text;
    }

    if (conf->header.lowcase == NULL) {

        ngx_str_set(&header, "QB-Token");

        if (ngx_http_quickblox_set_header(cf, &conf->header, &header)
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }

        prev->header = conf->header;
    }

    if (ngx_http_quickblox_check_endpoint(cf, conf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    return ngx_http_quickblox_check(cf, conf);
}


/* what a content handler needs of its location and its application */

static char *
ngx_http_quickblox_check_endpoint(ngx_conf_t *cf,
    ngx_http_quickblox_loc_conf_t *conf)
{
    const char                        *missing;
    ngx_uint_t                         i, *source;
    ngx_http_core_loc_conf_t          *clcf;
    ngx_http_quickblox_application_t  *app;

    if (conf->endpoint == 0) {
        return NGX_CONF_OK;
    }

    app = conf->application;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler != ngx_http_quickblox_endpoint_handler) {
        return ngx_http_quickblox_second_handler(cf, conf);
    }

    if (app == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"%s\" in %s:%ui has no application, write "
                      "\"quickblox name;\" beside it",
                      ngx_http_quickblox_endpoint_names[conf->endpoint],
                      conf->file, conf->line);
        return NGX_CONF_ERROR;
    }

    if (conf->endpoint == NGX_HTTP_QUICKBLOX_LOGIN) {

        missing = app->auth_key.len == 0 ? "\"auth_key\""
                  : app->auth_secret.len == 0 ? "\"auth_secret\""
                  : app->cookie.nkeys == 0 && !conf->token ? "\"cookie_key\""
                  : NULL;

        if (missing) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"quickblox_login\" in %s:%ui needs %s, write it "
                          "in quickblox application \"%V\" in %s:%ui%s",
                          conf->file, conf->line, missing, &app->name,
                          app->file, app->line,
                          missing[1] == 'c' ? ", or \"quickblox_login token;\""
                                            : "");
            return NGX_CONF_ERROR;
        }
    }

    /* a page that has the cookie asks without a "quickblox_session", too */

    if (!conf->sources_set && app->cookie.nkeys) {

        conf->sources = ngx_array_create(cf->pool, 2, sizeof(ngx_uint_t));
        if (conf->sources == NULL) {
            return NGX_CONF_ERROR;
        }

        source = ngx_array_push_n(conf->sources, 2);
        source[0] = NGX_HTTP_QUICKBLOX_SOURCE_CLIENT;
        source[1] = NGX_HTTP_QUICKBLOX_SOURCE_COOKIE;
    }

    if (conf->endpoint != NGX_HTTP_QUICKBLOX_CHECK || !conf->token) {
        return NGX_CONF_OK;
    }

    source = conf->sources->elts;

    for (i = 0; i < conf->sources->nelts; i++) {

        if (!ngx_http_quickblox_is_brought(source[i])
            && !ngx_http_quickblox_is_people(source[i]))
        {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"quickblox_check token\" in %s:%ui would hand out "
                          "the token of source \"%V\", which is not the "
                          "user's own: write other sources, or no \"token\"",
                          conf->file, conf->line,
                          ngx_http_quickblox_source_name(source[i]));
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


/* what a source needs of its application */

static char *
ngx_http_quickblox_check(ngx_conf_t *cf, ngx_http_quickblox_loc_conf_t *conf)
{
    const char                        *missing;
    ngx_uint_t                         i, *source;
    ngx_http_quickblox_application_t  *app;

    app = conf->application;

    if (app == NULL) {
        return NGX_CONF_OK;
    }

    source = conf->sources->elts;

    for (i = 0; i < conf->sources->nelts; i++) {

        if (source[i] == NGX_HTTP_QUICKBLOX_SOURCE_BASIC) {
            conf->basic = 1;
        }

        if (app->same_site_none && conf->origins == NULL
            && (conf->endpoint
                || source[i] == NGX_HTTP_QUICKBLOX_SOURCE_COOKIE))
        {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "the cookie of quickblox application \"%V\" in "
                          "%s:%ui has \"SameSite=None\": write which pages "
                          "may use it, \"quickblox_origin self;\" or "
                          "origins, for %s:%ui", &app->name, app->file,
                          app->line, conf->file, conf->line);
            return NGX_CONF_ERROR;
        }

        missing = NULL;

        switch (source[i]) {

        case NGX_HTTP_QUICKBLOX_SOURCE_COOKIE:

            if (app->cookie.nkeys == 0) {
                missing = "\"cookie_key\"";
            }

            break;

        case NGX_HTTP_QUICKBLOX_SOURCE_USER:

            if (app->login.len == 0 && app->email.len == 0) {
                missing = "\"login\" or \"email\"";
                break;
            }

            /* fall through */

        case NGX_HTTP_QUICKBLOX_SOURCE_BASIC:
        case NGX_HTTP_QUICKBLOX_SOURCE_APPLICATION:

            if (app->auth_key.len == 0) {
                missing = "\"auth_key\"";

            } else if (app->auth_secret.len == 0) {
                missing = "\"auth_secret\"";
            }

            break;

        case NGX_HTTP_QUICKBLOX_SOURCE_USER_TOKEN:

            if (conf->user == NULL) {
                ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                              "source \"user_token\" of "
                              "\"quickblox_session\" in %s:%ui needs "
                              "\"quickblox_user\", write \"quickblox_user "
                              "$variable;\"", conf->file, conf->line);
                return NGX_CONF_ERROR;
            }

            /* fall through */

        case NGX_HTTP_QUICKBLOX_SOURCE_API_KEY:

            if (app->api_key.len == 0) {
                missing = "\"api_key\"";
            }

            break;
        }

        if (missing) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "source \"%V\" of \"quickblox_session\" in %s:%ui "
                          "needs %s, write it in quickblox application "
                          "\"%V\" in %s:%ui",
                          ngx_http_quickblox_source_name(source[i]),
                          conf->file, conf->line, missing, &app->name,
                          app->file, app->line);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_quickblox(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_quickblox_loc_conf_t *qlcf = conf;

    ngx_str_t                         *value, *name;
    ngx_http_quickblox_main_conf_t    *qmcf;
    ngx_http_quickblox_application_t  *app;

    if (qlcf->application != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    ngx_http_quickblox_set_line(cf, qlcf);

    qlcf->limit_except = (cf->cmd_type & NGX_HTTP_LMT_CONF) ? 1 : 0;

    if (value[1].len == 3 && ngx_strncmp(value[1].data, "off", 3) == 0) {
        qlcf->application = NULL;
        return NGX_CONF_OK;
    }

    qmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_quickblox_module);

    app = ngx_http_quickblox_application_get(cf, qmcf, &value[1]);
    if (app == NULL) {
        return NGX_CONF_ERROR;
    }

    if (app->used_file == NULL) {
        app->used_file = qlcf->file;
        app->used_line = qlcf->line;
    }

    qlcf->application = app;

    for (name = ngx_http_quickblox_changed_headers; name->len; name++) {
        if (ngx_http_quickblox_add_header_variable(cf, name) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_quickblox_session(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_quickblox_loc_conf_t *qlcf = conf;

    ngx_str_t   *value, *name;
    ngx_uint_t   i, k, n, *source;

    if (qlcf->sources != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    ngx_http_quickblox_set_line(cf, qlcf);

    qlcf->sources_set = 1;

    value = cf->args->elts;
    name = ngx_http_quickblox_source_names;

    qlcf->sources = ngx_array_create(cf->pool, cf->args->nelts - 1,
                                     sizeof(ngx_uint_t));
    if (qlcf->sources == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {

        for (n = 0; n < NGX_HTTP_QUICKBLOX_SOURCES; n++) {
            if (value[i].len == name[n].len
                && ngx_strncmp(value[i].data, name[n].data, name[n].len) == 0)
            {
                break;
            }
        }

        if (n == NGX_HTTP_QUICKBLOX_SOURCES) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid source \"%V\" in \"%V\", write "
                               "\"client\", \"basic\", \"cookie\", \"user\", "
                               "\"user_token\", \"application\", \"api_key\" "
                               "or \"none\"",
                               &value[i], &cmd->name);
            return NGX_CONF_ERROR;
        }

        source = qlcf->sources->elts;

        if (i > 1 && !ngx_http_quickblox_is_brought(source[i - 2])
            && !ngx_http_quickblox_is_people(source[i - 2]))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "source \"%V\" in \"%V\" is never reached "
                               "after \"%V\", which always has credentials: "
                               "change the order or remove it", &value[i],
                               &cmd->name, &value[i - 1]);
            return NGX_CONF_ERROR;
        }

        for (k = 0; k < i - 1; k++) {

            if (source[k] == n) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "duplicate source \"%V\" in \"%V\"",
                                   &value[i], &cmd->name);
                return NGX_CONF_ERROR;
            }
        }

        source = ngx_array_push(qlcf->sources);
        if (source == NULL) {
            return NGX_CONF_ERROR;
        }

        *source = n;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_quickblox_on_expired(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_quickblox_loc_conf_t *qlcf = conf;

    ngx_str_t  *value;

    if (qlcf->on_expired.data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        qlcf->on_expired.data = (u_char *) "";
        return NGX_CONF_OK;
    }

    if (value[1].data[0] != '/') {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid URI \"%V\" in \"%V\", write one that "
                           "begins with \"/\", or \"off\"",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    qlcf->on_expired = value[1];

    return NGX_CONF_OK;
}


static char *
ngx_http_quickblox_login(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_quickblox_loc_conf_t *qlcf = conf;

    ngx_str_t  *value;

    value = cf->args->elts;

    if (cf->args->nelts > 1) {

        if (ngx_strcmp(value[1].data, "application") == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"application\" in \"%V\" needs \"token\", "
                               "write \"%V token application;\"", &cmd->name,
                               &cmd->name);
            return NGX_CONF_ERROR;
        }

        if (ngx_strcmp(value[1].data, "token") != 0
            || (cf->args->nelts > 2
                && ngx_strcmp(value[2].data, "application") != 0))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" in \"%V\", write "
                               "\"token\" or \"token application\"",
                               &value[cf->args->nelts - 1], &cmd->name);
            return NGX_CONF_ERROR;
        }
    }

    qlcf->token = cf->args->nelts > 1;
    qlcf->fresh = cf->args->nelts > 2;

    return ngx_http_quickblox_set_endpoint(cf, qlcf,
                                           NGX_HTTP_QUICKBLOX_LOGIN);
}


static char *
ngx_http_quickblox_logout(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_quickblox_loc_conf_t *qlcf = conf;

    ngx_str_t  *value;

    value = cf->args->elts;

    if (cf->args->nelts > 1 && ngx_strcmp(value[1].data, "destroy") != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\" in \"%V\", write "
                           "\"destroy\" or none", &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    qlcf->destroy = cf->args->nelts > 1;

    return ngx_http_quickblox_set_endpoint(cf, qlcf,
                                           NGX_HTTP_QUICKBLOX_LOGOUT);
}


static char *
ngx_http_quickblox_check_handler(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_quickblox_loc_conf_t *qlcf = conf;

    ngx_str_t  *value;

    value = cf->args->elts;

    if (cf->args->nelts > 1 && ngx_strcmp(value[1].data, "token") != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\" in \"%V\", write "
                           "\"token\" or none", &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    qlcf->token = cf->args->nelts > 1;

    return ngx_http_quickblox_set_endpoint(cf, qlcf,
                                           NGX_HTTP_QUICKBLOX_CHECK);
}


static char *
ngx_http_quickblox_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_quickblox_loc_conf_t *qlcf = conf;

    ngx_str_t                    *value;
    ngx_http_quickblox_format_e   format;

    value = cf->args->elts;

    format = cf->args->nelts == 1 ? NGX_HTTP_QUICKBLOX_FORMAT_ANY
             : ngx_strcmp(value[1].data, "html") == 0
               ? NGX_HTTP_QUICKBLOX_FORMAT_HTML
             : ngx_strcmp(value[1].data, "json") == 0
               ? NGX_HTTP_QUICKBLOX_FORMAT_JSON
             : NGX_HTTP_QUICKBLOX_FORMAT_PROMETHEUS;

    if (format == NGX_HTTP_QUICKBLOX_FORMAT_PROMETHEUS
        && ngx_strcmp(value[1].data, "prometheus") != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\" in \"%V\", write "
                           "\"html\", \"json\", \"prometheus\" or none",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    qlcf->format = format;

    return ngx_http_quickblox_set_endpoint(cf, qlcf,
                                           NGX_HTTP_QUICKBLOX_STATUS);
}


static char *
ngx_http_quickblox_set_endpoint(ngx_conf_t *cf,
    ngx_http_quickblox_loc_conf_t *qlcf, ngx_uint_t endpoint)
{
    ngx_http_core_loc_conf_t  *clcf;

    if (qlcf->endpoint == endpoint) {
        return "is duplicate";
    }

    if (qlcf->endpoint) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%s\" is in a location that has \"%s\" "
                           "already, write a location for each",
                           ngx_http_quickblox_endpoint_names[endpoint],
                           ngx_http_quickblox_endpoint_names[qlcf->endpoint]);
        return NGX_CONF_ERROR;
    }

    qlcf->endpoint = endpoint;

    qlcf->file = cf->conf_file->file.name.data;
    qlcf->line = cf->conf_file->line;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler) {
        return ngx_http_quickblox_second_handler(cf, qlcf);
    }

    clcf->handler = ngx_http_quickblox_endpoint_handler;

    return NGX_CONF_OK;
}


/* one of the two would never run, and which is for nobody to guess */

static char *
ngx_http_quickblox_second_handler(ngx_conf_t *cf,
    ngx_http_quickblox_loc_conf_t *qlcf)
{
    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "\"%s\" in %s:%ui is in one location with another "
                  "content handler, such as \"proxy_pass\", write a "
                  "location for each",
                  ngx_http_quickblox_endpoint_names[qlcf->endpoint],
                  qlcf->file, qlcf->line);

    return NGX_CONF_ERROR;
}


/* for errors found later: a content handler's line, where there is one */

static void
ngx_http_quickblox_set_line(ngx_conf_t *cf,
    ngx_http_quickblox_loc_conf_t *qlcf)
{
    if (qlcf->endpoint == 0) {
        qlcf->file = cf->conf_file->file.name.data;
        qlcf->line = cf->conf_file->line;
    }
}


static char *
ngx_http_quickblox_tokens(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_quickblox_loc_conf_t *qlcf = conf;

    ngx_str_t   *value;
    ngx_uint_t   i;

    if (qlcf->tokens != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    qlcf->tokens = ngx_array_create(cf->pool, cf->args->nelts - 1,
                                    sizeof(ngx_http_quickblox_token_t));
    if (qlcf->tokens == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_http_quickblox_add_token(cf, qlcf->tokens, &value[i])
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_quickblox_add_token(ngx_conf_t *cf, ngx_array_t *tokens,
    ngx_str_t *value)
{
    ngx_http_quickblox_token_t        *token;
    ngx_http_compile_complex_value_t   ccv;

    token = ngx_array_push(tokens);
    if (token == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(token, sizeof(ngx_http_quickblox_token_t));
    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = value;
    ccv.complex_value = &token->value;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_ERROR;
    }

    /* a header of the client's, of which there may be several */

    if (value->len > 6 && ngx_strncmp(value->data, "$http_", 6) == 0) {
        token->header.len = value->len - 6;
        token->header.data = value->data + 6;
    }

    return NGX_OK;
}


static char *
ngx_http_quickblox_require(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_quickblox_loc_conf_t *qlcf = conf;

    ngx_str_t                         *value;
    ngx_uint_t                         i;
    ngx_http_complex_value_t          *cv;
    ngx_http_compile_complex_value_t   ccv;

    if (qlcf->require != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "any") == 0) {
        qlcf->require_any = 1;

    } else if (ngx_strcmp(value[1].data, "user") == 0) {
        qlcf->require_any = 0;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"%V\", write \"user\" "
                           "or \"any\", then variables",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    qlcf->require = NULL;

    if (cf->args->nelts == 2) {
        return NGX_CONF_OK;
    }

    qlcf->require = ngx_array_create(cf->pool, cf->args->nelts - 2,
                                     sizeof(ngx_http_complex_value_t));
    if (qlcf->require == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 2; i < cf->args->nelts; i++) {

        if (value[i].data[0] != '$') {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" in \"%V\" is not a variable",
                               &value[i], &cmd->name);
            return NGX_CONF_ERROR;
        }

        cv = ngx_array_push(qlcf->require);
        if (cv == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

        ccv.cf = cf;
        ccv.value = &value[i];
        ccv.complex_value = cv;

        if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_quickblox_header(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_quickblox_loc_conf_t *qlcf = conf;

    u_char      ch;
    ngx_str_t  *value, *name;
    ngx_uint_t  i;

    if (qlcf->header.lowcase) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len == 3 && ngx_strncmp(value[1].data, "off", 3) == 0) {
        qlcf->header.lowcase = (u_char *) "";
        return NGX_CONF_OK;
    }

    for (i = 0; i < value[1].len; i++) {
        ch = ngx_tolower(value[1].data[i]);

        if ((ch < 'a' || ch > 'z') && (ch < '0' || ch > '9') && ch != '-'
            && ch != '_')
        {
            break;
        }
    }

    if (i == 0 || i < value[1].len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid header name \"%V\" in \"%V\", write "
                           "letters, digits, \"-\" and \"_\"",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    for (name = ngx_http_quickblox_reserved_headers; name->len; name++) {

        if (ngx_http_quickblox_header_is(&value[1], name)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "header \"%V\" frames or routes a message, "
                               "choose another for \"%V\"",
                               &value[1], &cmd->name);
            return NGX_CONF_ERROR;
        }
    }

    if (ngx_http_quickblox_set_header(cf, &qlcf->header, &value[1]) != NGX_OK
        || ngx_http_quickblox_add_header_variable(cf, &value[1]) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_quickblox_set_header(ngx_conf_t *cf,
    ngx_http_quickblox_header_t *header, ngx_str_t *name)
{
    header->name = *name;

    header->lowcase = ngx_pnalloc(cf->pool, name->len);
    if (header->lowcase == NULL) {
        return NGX_ERROR;
    }

    header->hash = ngx_hash_strlow(header->lowcase, name->data, name->len);

    return NGX_OK;
}


static char *
ngx_http_quickblox_expired(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_quickblox_loc_conf_t *qlcf = conf;

    ngx_int_t    n;
    ngx_str_t   *value;
    ngx_uint_t   i, *status;

    if (qlcf->expired != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    qlcf->expired = ngx_array_create(cf->pool, cf->args->nelts - 1,
                                     sizeof(ngx_uint_t));
    if (qlcf->expired == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {

        n = ngx_atoi(value[i].data, value[i].len);

        if (n == NGX_ERROR && i > 1 && i == cf->args->nelts - 1) {

            if (value[i].len == 0) {
                return "has an empty text";
            }

            qlcf->expired_text = value[i];
            break;
        }

        if (n < 400 || n > 599) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid status \"%V\" in \"%V\", write "
                               "400 to 599, and last a text",
                               &value[i], &cmd->name);
            return NGX_CONF_ERROR;
        }

        status = ngx_array_push(qlcf->expired);
        if (status == NULL) {
            return NGX_CONF_ERROR;
        }

        *status = n;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_quickblox_size_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char *p = conf;

    size_t     *size;
    ngx_str_t  *value;

    size = (size_t *) (p + cmd->offset);

    if (*size != NGX_CONF_UNSET_SIZE) {
        return "is duplicate";
    }

    value = cf->args->elts;

    *size = ngx_parse_size(&value[1]);

    if (*size == (size_t) NGX_ERROR || *size == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid size \"%V\" in \"%V\", write for "
                           "example \"%V 8k;\"", &value[1], &cmd->name,
                           &cmd->name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_quickblox_enum_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char *p = conf;

    u_char            words[128], *last;
    ngx_str_t        *value;
    ngx_uint_t       *field, i;
    ngx_conf_enum_t  *e;

    field = (ngx_uint_t *) (p + cmd->offset);

    if (*field != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;
    e = cmd->post;
    last = words;

    for (i = 0; e[i].name.len; i++) {

        if (e[i].name.len == value[1].len
            && ngx_strcasecmp(e[i].name.data, value[1].data) == 0)
        {
            *field = e[i].value;
            return NGX_CONF_OK;
        }

        last = ngx_slprintf(last, words + sizeof(words), "%s\"%V\"",
                            i ? " or " : "", &e[i].name);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid value \"%V\" in \"%V\", write %*s",
                       &value[1], &cmd->name, (size_t) (last - words), words);

    return NGX_CONF_ERROR;
}


static ngx_int_t
ngx_http_quickblox_preconfiguration(ngx_conf_t *cf)
{
    return ngx_http_quickblox_add_variables(cf);
}


static ngx_int_t
ngx_http_quickblox_postconfiguration(ngx_conf_t *cf)
{
    ngx_uint_t                          i;
    ngx_http_quickblox_main_conf_t     *qmcf;
    ngx_http_quickblox_application_t  **apps;

    qmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_quickblox_module);

    if (qmcf->applications.nelts == 0) {

        /* loaded and not used: nothing is in nginx's way */
        return NGX_OK;
    }

    apps = qmcf->applications.elts;

    for (i = 0; i < qmcf->applications.nelts; i++) {
        if (ngx_http_quickblox_application_init(cf, qmcf, apps[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (ngx_http_quickblox_add_handlers(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_quickblox_replay_init(cf);
}


static ngx_int_t
ngx_http_quickblox_add_handlers(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_SERVER_REWRITE_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_quickblox_rewrite_handler;

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_REWRITE_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_quickblox_rewrite_handler;

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_quickblox_precontent_handler;

    /*
     * The handlers of the access phase run from the last one to the first:
     * those that cost nothing ("deny", "auth_basic") go before one that may
     * ask the API, and what they know is there for its variables.  In the log
     * phase the first one runs first, before the log is written.
     */

    if (ngx_http_quickblox_add_first(cmcf, NGX_HTTP_ACCESS_PHASE,
                                     ngx_http_quickblox_access_handler)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_quickblox_add_first(cmcf, NGX_HTTP_LOG_PHASE,
                                        ngx_http_quickblox_log_handler);
}


static ngx_int_t
ngx_http_quickblox_add_first(ngx_http_core_main_conf_t *cmcf, ngx_uint_t phase,
    ngx_http_handler_pt handler)
{
    ngx_array_t          *handlers;
    ngx_http_handler_pt  *h;

    handlers = &cmcf->phases[phase].handlers;

    if (ngx_array_push(handlers) == NULL) {
        return NGX_ERROR;
    }

    h = handlers->elts;

    ngx_memmove(h + 1, h, (handlers->nelts - 1) * sizeof(ngx_http_handler_pt));

    *h = handler;

    return NGX_OK;
}
