
/*
 * A home for what runs without a client: a request of its own on a connection
 * that is none, which nothing is ever read from or written to.  Subrequests
 * of it need nothing of the client's request that began them, delay no other
 * request of that client's connection, and go on when the client goes away.
 */


#ifndef _NGX_HTTP_QUICKBLOX_HOME_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_HOME_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


typedef struct {
    ngx_http_request_t          *request;
    ngx_http_request_t          *subrequest;  /* whose timers are of "write" */
    ngx_log_t                    log;
    ngx_http_log_ctx_t           log_ctx;
    ngx_http_conf_ctx_t          conf_ctx;
    ngx_http_connection_t        http_connection;
    ngx_connection_t             connection;
    ngx_event_t                  read;
    ngx_event_t                  write;
} ngx_http_quickblox_home_t;


/*
 * Makes the request of a zeroed home, with a pool of its own, under a
 * location's configuration, which is copied.  It is not logged and not counted
 * by stub_status.  "pool" is the connection's and outlives the request; the
 * log is the location's until the caller changes home->log.
 *
 * The request is blocked, so nothing but ngx_http_quickblox_home_free() frees
 * it: when nginx terminates it, its cleanups run, and no more.
 *
 * NULL when memory is short.
 */

ngx_http_request_t *ngx_http_quickblox_home_create(
    ngx_http_quickblox_home_t *home, ngx_pool_t *pool,
    ngx_http_conf_ctx_t *conf_ctx);


/*
 * Frees the request, if it was made, with the subrequests that are still
 * under way; never from within one of them.  home->request is NULL when its
 * cleanups run.
 */

void ngx_http_quickblox_home_free(ngx_http_quickblox_home_t *home);


#endif /* _NGX_HTTP_QUICKBLOX_HOME_H_INCLUDED_ */
