
#ifndef _NGX_HTTP_QUICKBLOX_VARIABLE_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_VARIABLE_H_INCLUDED_


#include "ngx_http_quickblox_module.h"


/* adds the $quickblox_... variables; NGX_OK or NGX_ERROR */

ngx_int_t ngx_http_quickblox_add_variables(ngx_conf_t *cf);


#endif /* _NGX_HTTP_QUICKBLOX_VARIABLE_H_INCLUDED_ */
