
#ifndef _NGX_HTTP_QUICKBLOX_APPLICATION_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_APPLICATION_H_INCLUDED_


#include "ngx_http_quickblox_module.h"


/*
 * The handler of "quickblox_application name { ... }": reads the block and
 * checks at its closing brace that it is complete.  conf is the module's
 * main configuration.  NGX_CONF_OK or NGX_CONF_ERROR (logged).
 */

char *ngx_http_quickblox_application_block(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


/*
 * Finds an application by name, or makes a place for one whose block comes
 * later in the configuration; ngx_http_quickblox_application_init() refuses
 * those that never came.  The result lives in cf->pool; NULL when memory is
 * short.
 */

ngx_http_quickblox_application_t *ngx_http_quickblox_application_get(
    ngx_conf_t *cf, ngx_http_quickblox_main_conf_t *qmcf, ngx_str_t *name);


/*
 * Runs when the whole configuration has been read: resolves the API's host
 * or finds its upstream group, makes the TLS context and the keys of the
 * sessions.  NGX_OK or NGX_ERROR (logged at emerg).
 */

ngx_int_t ngx_http_quickblox_application_init(ngx_conf_t *cf,
    ngx_http_quickblox_main_conf_t *qmcf,
    ngx_http_quickblox_application_t *app);


/*
 * Reads the secret file of a directive, of at most 4096 bytes, into cf->pool.
 * NGX_OK or NGX_ERROR (logged); no message quotes its content.
 */

ngx_int_t ngx_http_quickblox_application_read(ngx_conf_t *cf,
    ngx_str_t *directive, ngx_str_t *name, ngx_str_t *value);


/* the handlers of "cookie_key" and "cookie" */

char *ngx_http_quickblox_application_cookie_key(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
char *ngx_http_quickblox_application_cookie(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);


#endif /* _NGX_HTTP_QUICKBLOX_APPLICATION_H_INCLUDED_ */
