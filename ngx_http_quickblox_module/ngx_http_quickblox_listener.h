
#ifndef _NGX_HTTP_QUICKBLOX_LISTENER_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_LISTENER_H_INCLUDED_


#include "ngx_http_quickblox_module.h"


/*
 * Tells the application that a session has expired, where the location has
 * "quickblox_on_expired": by a subrequest in a home of its own, in which
 * $quickblox_user_id, $quickblox_session_source, $quickblox_session_type,
 * $quickblox_application_id and $quickblox_expires are those of the session,
 * and its token is not known.  Nobody waits for it, and how it ends does not
 * matter.
 */

void ngx_http_quickblox_listener_tell(ngx_http_conf_ctx_t *conf_ctx,
    ngx_log_t *log, ngx_uint_t source, ngx_http_quickblox_session_t *session);


#endif /* _NGX_HTTP_QUICKBLOX_LISTENER_H_INCLUDED_ */
