
/*
 * JSON objects of others, the API's answers and what clients post: pure
 * functions that know nothing of requests, pools and connections.
 */


#ifndef _NGX_HTTP_QUICKBLOX_JSON_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_JSON_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include <cjson/cJSON.h>


/* bounds of a body, checked before it is parsed */
#define NGX_HTTP_QUICKBLOX_JSON_MAX      65536
#define NGX_HTTP_QUICKBLOX_JSON_DEPTH    16


/* a member of a JSON object: the last one of its name, and how many */

typedef struct {
    cJSON                   *item;
    ngx_uint_t               index;
    ngx_uint_t               count;
} ngx_http_quickblox_member_t;


/*
 * Parses a body that must be a complete JSON object by the letter of RFC 8259,
 * with nothing after it but white space, of at most JSON_MAX bytes and
 * JSON_DEPTH levels, without NUL (escaped ones included), lone surrogates,
 * numbers of more than 63 bytes, and byte order mark.  The body is not
 * modified and may hold any bytes.
 *
 * Returns the object, which the caller frees with
 * ngx_http_quickblox_json_free(), or NULL with *reason, a constant text for
 * the log: json_no_memory where nothing is wrong with the body.
 */

cJSON *ngx_http_quickblox_json_parse(ngx_str_t *body, const char **reason);

extern const char  ngx_http_quickblox_json_no_memory[];


/* frees an object whose strings may be secrets: they are cleansed */

void ngx_http_quickblox_json_free(cJSON *root);


/*
 * Finds the members of a name in an object; member->count is 0 where there is
 * none.  Names are compared as they are when decoded, and by case.
 */

void ngx_http_quickblox_json_member(cJSON *object, const char *name,
    ngx_http_quickblox_member_t *member);


/*
 * The value of a member that is there once and is a string; it belongs to the
 * object.  NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_http_quickblox_json_string(ngx_http_quickblox_member_t *member,
    ngx_str_t *value);


/*
 * The value of a member, of the body's member "parent", that is there once
 * and is an integer within 0 .. 2^53 (92.0 is one) or a string of decimal
 * digits.  NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_http_quickblox_json_id(ngx_str_t *body,
    ngx_http_quickblox_member_t *parent, ngx_http_quickblox_member_t *member,
    uint64_t *id);


/*
 * Parses a decimal id: 1 to 16 digits, value within 0 .. 2^53.
 * NGX_OK with *id set, or NGX_ERROR.
 */

ngx_int_t ngx_http_quickblox_parse_id(ngx_str_t *value, uint64_t *id);


#endif /* _NGX_HTTP_QUICKBLOX_JSON_H_INCLUDED_ */
