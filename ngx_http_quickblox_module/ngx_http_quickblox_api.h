
#ifndef _NGX_HTTP_QUICKBLOX_API_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_API_H_INCLUDED_


#include "ngx_http_quickblox_home.h"
#include "ngx_http_quickblox_module.h"


/*
 * One call of the REST API, in a home of its own: it goes on for those who
 * wait when the client that began it goes away.
 */

typedef struct ngx_http_quickblox_call_s  ngx_http_quickblox_call_t;

typedef void (*ngx_http_quickblox_call_pt)(ngx_http_quickblox_call_t *call);


struct ngx_http_quickblox_call_s {

    /* set by the caller, all of it from call->pool or longer-lived */

    ngx_uint_t                         method;    /* NGX_HTTP_GET, ... */
    ngx_str_t                          method_name;
    ngx_str_t                          path;      /* "/session.json" */
    ngx_str_t                          token;     /* QB-Token, may be empty */
    ngx_uint_t                         api_key;   /* 1: with the API key */
    ngx_str_t                          body;      /* a form, may be empty */
    ngx_msec_t                         timeout;   /* of the whole call */
    ngx_http_quickblox_call_pt         handler;
    void                              *data;

    /*
     * the answer; status 0 is none, "reason" says why, "broken" that the
     * connection was lost in the midst of it, and "local" that the API was
     * not even asked, as a descriptor, a connection or memory was short here
     */

    ngx_uint_t                         status;
    ngx_str_t                          answer;
    time_t                             date;      /* NGX_ERROR: none */
    time_t                             expires;   /* NGX_ERROR: none */
    time_t                             retry_after;
    ngx_str_t                          reason;
    u_char                             reason_text[256];

    /* NGX_HTTP_QUICKBLOX_CALL_OK, ...: what the handler makes of it */

    ngx_uint_t                         outcome;

    /* the rest is the call's own */

    ngx_pool_t                        *pool;
    ngx_http_quickblox_application_t  *application;
    ngx_msec_t                         started;

    ngx_log_t                         *error_log;
    ngx_http_conf_ctx_t                conf_ctx;
    ngx_http_quickblox_home_t          home;
    ngx_resolver_ctx_t                *resolver_ctx;
    ngx_event_get_peer_pt              get_peer;
    ngx_event_free_peer_pt             free_peer;

    ngx_event_t                        timer;
    ngx_event_t                        done;

    ngx_http_status_t                  status_line;
    ngx_http_chunked_t                 chunked;
    off_t                              content_length;
    size_t                             size;      /* room in "answer" */

    unsigned                           has_chunked:1;
    unsigned                           has_expires:1;
    unsigned                           close:1;
    unsigned                           complete:1;
    unsigned                           timedout:1;
    unsigned                           broken:1;
    unsigned                           local:1;
};


/* sets what API calls have of nginx's upstream; at configuration time */

void ngx_http_quickblox_api_init(ngx_http_quickblox_application_t *app);


/* sets how many calls a worker has under way at most */

ngx_int_t ngx_http_quickblox_api_init_process(ngx_cycle_t *cycle);


/* whether there are as many, or others wait for the end of one */

ngx_uint_t ngx_http_quickblox_api_busy(void);


/*
 * Calls ev->handler, later and from a clean stack, when a call has ended and
 * those who asked before have had their turn.  The handler may make a call or
 * leave it.  The event's owner takes it back by ngx_delete_posted_event().
 */

void ngx_http_quickblox_api_wait(ngx_event_t *ev,
    ngx_http_quickblox_application_t *app);


/*
 * Makes a call, with a pool of its own, that runs under a location's
 * configuration and logs to "log"; both outlive it.  NULL when memory is
 * short.
 */

ngx_http_quickblox_call_t *ngx_http_quickblox_api_create(
    ngx_http_conf_ctx_t *conf_ctx, ngx_log_t *log,
    ngx_http_quickblox_application_t *app);


/*
 * Starts a call that has been filled in.  call->handler runs once, later,
 * from a clean stack, within call->timeout milliseconds; when it returns
 * the call is freed, its bodies and token cleansed.
 */

void ngx_http_quickblox_api_start(ngx_http_quickblox_call_t *call);


/* frees a call that has not been started */

void ngx_http_quickblox_api_free(ngx_http_quickblox_call_t *call);


#endif /* _NGX_HTTP_QUICKBLOX_API_H_INCLUDED_ */
