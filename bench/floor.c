
/*
 * A module that does nothing but push one request header, where the gateway
 * does it: what an nginx module can cost at least.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


static ngx_int_t ngx_http_floor_init(ngx_conf_t *cf);
static void *ngx_http_floor_create_conf(ngx_conf_t *cf);
static char *ngx_http_floor_merge_conf(ngx_conf_t *cf, void *parent,
    void *child);


typedef struct {
    ngx_flag_t  enable;
} ngx_http_floor_conf_t;


static ngx_command_t  ngx_http_floor_commands[] = {

    { ngx_string("floor"),
      NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_floor_conf_t, enable),
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_floor_module_ctx = {
    NULL,                          /* preconfiguration */
    ngx_http_floor_init,           /* postconfiguration */
    NULL,                          /* create main configuration */
    NULL,                          /* init main configuration */
    NULL,                          /* create server configuration */
    NULL,                          /* merge server configuration */
    ngx_http_floor_create_conf,    /* create location configuration */
    ngx_http_floor_merge_conf      /* merge location configuration */
};


ngx_module_t  ngx_http_floor_module = {
    NGX_MODULE_V1,
    &ngx_http_floor_module_ctx,    /* module context */
    ngx_http_floor_commands,       /* module directives */
    NGX_HTTP_MODULE,               /* module type */
    NULL,                          /* init master */
    NULL,                          /* init module */
    NULL,                          /* init process */
    NULL,                          /* init thread */
    NULL,                          /* exit thread */
    NULL,                          /* exit process */
    NULL,                          /* exit master */
    NGX_MODULE_V1_PADDING
};


/* what configure writes for a dynamic module */

ngx_module_t  *ngx_modules[] = { &ngx_http_floor_module, NULL };
char          *ngx_module_names[] = { "ngx_http_floor_module", NULL };
char          *ngx_module_order[] = { NULL };


static ngx_int_t
ngx_http_floor_handler(ngx_http_request_t *r)
{
    ngx_table_elt_t        *h;
    ngx_http_floor_conf_t  *fcf;

    fcf = ngx_http_get_module_loc_conf(r, ngx_http_floor_module);

    if (!fcf->enable) {
        return NGX_DECLINED;
    }

    h = ngx_list_push(&r->headers_in.headers);
    if (h == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    h->hash = 1;
    h->lowcase_key = (u_char *) "qb-token";
    ngx_str_set(&h->key, "QB-Token");
    ngx_str_set(&h->value, "0123456789012345678901234567890123456789");
#if (nginx_version >= 1023000)
    h->next = NULL;
#endif

    return NGX_DECLINED;
}


static void *
ngx_http_floor_create_conf(ngx_conf_t *cf)
{
    ngx_http_floor_conf_t  *conf;

    conf = ngx_palloc(cf->pool, sizeof(ngx_http_floor_conf_t));
    if (conf) {
        conf->enable = NGX_CONF_UNSET;
    }

    return conf;
}


static char *
ngx_http_floor_merge_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_floor_conf_t  *prev = parent;
    ngx_http_floor_conf_t  *conf = child;

    ngx_conf_merge_value(conf->enable, prev->enable, 0);

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_floor_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_floor_handler;

    return NGX_OK;
}
