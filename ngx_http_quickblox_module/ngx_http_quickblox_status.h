
#ifndef _NGX_HTTP_QUICKBLOX_STATUS_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_STATUS_H_INCLUDED_


#include "ngx_http_quickblox_module.h"


/*
 * Answers with the numbers of all applications and zones, in the format of
 * the location or the one that the client prefers.  A large zone is counted
 * in pieces, between other events: the request is finalized later, and may go
 * away at any moment.
 */

void ngx_http_quickblox_status_begin(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx);


#endif /* _NGX_HTTP_QUICKBLOX_STATUS_H_INCLUDED_ */
