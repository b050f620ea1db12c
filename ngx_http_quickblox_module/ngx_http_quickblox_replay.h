
#ifndef _NGX_HTTP_QUICKBLOX_REPLAY_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_REPLAY_H_INCLUDED_


#include "ngx_http_quickblox_module.h"


/* puts the header and body filter into nginx's chains */

ngx_int_t ngx_http_quickblox_replay_init(ngx_conf_t *cf);


/*
 * A request leaves its location, or its response has another status than the
 * upstream's.  If nginx has intercepted an expired response thereby, which no
 * filter has seen, the session is suspect.
 */

void ngx_http_quickblox_replay_unseen(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);


#endif /* _NGX_HTTP_QUICKBLOX_REPLAY_H_INCLUDED_ */
