
#ifndef _NGX_HTTP_QUICKBLOX_MODULE_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_MODULE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_quickblox_compat.h"
#include "ngx_http_quickblox_cookie.h"
#include "ngx_http_quickblox_message.h"
#include "ngx_http_quickblox_report.h"
#include "ngx_http_quickblox_table.h"


#define NGX_HTTP_QUICKBLOX_MODULE_VERSION      "0.1.0"


/*
 * The words of this module, used everywhere in code, docs and logs:
 *
 *   application  a QuickBlox application with its credentials
 *   session      an application or user session of it
 *   token        what stands for a session in a request
 *   source       where a request's session comes from
 *   zone         the shared memory of one or several applications
 *   rejection    a token known to be no session
 *   replay       running a request again with a new session
 *   expired response  an upstream's answer that says the session is gone
 */


#define NGX_HTTP_QUICKBLOX_SOURCE_CLIENT       0
#define NGX_HTTP_QUICKBLOX_SOURCE_BASIC        1
#define NGX_HTTP_QUICKBLOX_SOURCE_COOKIE       2
#define NGX_HTTP_QUICKBLOX_SOURCE_USER         3
#define NGX_HTTP_QUICKBLOX_SOURCE_USER_TOKEN   4
#define NGX_HTTP_QUICKBLOX_SOURCE_APPLICATION  5
#define NGX_HTTP_QUICKBLOX_SOURCE_API_KEY      6
#define NGX_HTTP_QUICKBLOX_SOURCE_NONE         7
#define NGX_HTTP_QUICKBLOX_SOURCES             8

/* sources whose token the client brings, and which is validated */
#define ngx_http_quickblox_is_brought(source)                                \
    ((source) == NGX_HTTP_QUICKBLOX_SOURCE_CLIENT                            \
     || (source) == NGX_HTTP_QUICKBLOX_SOURCE_COOKIE)

/* sources whose sessions are held for many users, each under its own key */
#define ngx_http_quickblox_is_people(source)                                 \
    ((source) == NGX_HTTP_QUICKBLOX_SOURCE_BASIC                             \
     || (source) == NGX_HTTP_QUICKBLOX_SOURCE_USER_TOKEN)

/*
 * whether a QB-Token-ExpirationDate is believed: it is in the future, and an
 * hour beyond the lifetime at most, as the API's clock may be another; no
 * date, NGX_ERROR, is not
 */
#define ngx_http_quickblox_is_expiry(app, date)                              \
    ((date) > ngx_time()                                                     \
     && (date) <= ngx_time() + (app)->session_lifetime + 3600)

#define NGX_HTTP_QUICKBLOX_READ                0
#define NGX_HTTP_QUICKBLOX_WRITE               1

#define NGX_HTTP_QUICKBLOX_FORGET_OFF          0
#define NGX_HTTP_QUICKBLOX_FORGET_ON           1
#define NGX_HTTP_QUICKBLOX_FORGET_AUTO         2

/* content handlers, and their parameters */
#define NGX_HTTP_QUICKBLOX_LOGIN               1
#define NGX_HTTP_QUICKBLOX_LOGOUT              2
#define NGX_HTTP_QUICKBLOX_CHECK               3
#define NGX_HTTP_QUICKBLOX_STATUS              4

/* those that a GET asks; the others are posted to */
#define ngx_http_quickblox_is_get(endpoint)                                  \
    ((endpoint) == NGX_HTTP_QUICKBLOX_CHECK                                  \
     || (endpoint) == NGX_HTTP_QUICKBLOX_STATUS)

/* of their bodies, as the documentation says */
#define NGX_HTTP_QUICKBLOX_BODY_MAX            16384

/*
 * r->buffered has four bits; nginx and its modules use 0x01, 0x02, 0x04 of
 * them (the image filter's 0x08 is on the connection's field)
 */
#define NGX_HTTP_QUICKBLOX_BUFFERED            0x08


/* values of $quickblox_status */

typedef enum {
    NGX_HTTP_QUICKBLOX_STATUS_NONE = 0,
    NGX_HTTP_QUICKBLOX_STATUS_HIT,
    NGX_HTTP_QUICKBLOX_STATUS_MISS,
    NGX_HTTP_QUICKBLOX_STATUS_WAIT,
    NGX_HTTP_QUICKBLOX_STATUS_REFRESH,
    NGX_HTTP_QUICKBLOX_STATUS_STALE,
    NGX_HTTP_QUICKBLOX_STATUS_REJECTED,
    NGX_HTTP_QUICKBLOX_STATUS_ERROR,
    NGX_HTTP_QUICKBLOX_STATUS_OFF
} ngx_http_quickblox_status_e;


/* what is asked of the API: about a session, for a new one, ... */

typedef enum {
    NGX_HTTP_QUICKBLOX_ASK_NOTHING = 0,
    NGX_HTTP_QUICKBLOX_ASK_VALIDATE,
    NGX_HTTP_QUICKBLOX_ASK_CREATE,
    NGX_HTTP_QUICKBLOX_ASK_UPGRADE,       /* with a login */
    NGX_HTTP_QUICKBLOX_ASK_DOWNGRADE,
    NGX_HTTP_QUICKBLOX_ASK_DESTROY
} ngx_http_quickblox_ask_e;


typedef struct ngx_http_quickblox_zone_s         ngx_http_quickblox_zone_t;
typedef struct ngx_http_quickblox_share_s        ngx_http_quickblox_share_t;
typedef struct ngx_http_quickblox_ctx_s          ngx_http_quickblox_ctx_t;
typedef struct ngx_http_quickblox_flight_s       ngx_http_quickblox_flight_t;
typedef struct ngx_http_quickblox_endpoint_s     ngx_http_quickblox_endpoint_t;
typedef struct ngx_http_quickblox_application_s
    ngx_http_quickblox_application_t;


struct ngx_http_quickblox_application_s {
    ngx_str_t                          name;
    u_char                            *used_file; /* of the first use */
    ngx_uint_t                         used_line;
    u_char                            *file;      /* of the block, for   */
    ngx_uint_t                         line;      /* errors found later  */

    /* where the API is */

    ngx_http_upstream_conf_t           upstream;
    ngx_http_upstream_srv_conf_t       peers;     /* ours, wraps "group" */
    ngx_http_upstream_srv_conf_t      *group;
    ngx_url_t                          url;
    ngx_str_t                          api;       /* as configured */
    ngx_str_t                          path;      /* before "/session.json" */
    ngx_str_t                          host;      /* SNI, verified name */
    ngx_str_t                          host_header;
    ngx_resolver_t                    *resolver;
    ngx_msec_t                         resolver_timeout;
    ngx_pool_t                        *addrs_pool;
    ngx_resolver_addr_t               *addrs;     /* last good, per worker */
    ngx_uint_t                         naddrs;
    time_t                             addrs_valid;

    /* the credentials */

    ngx_str_t                          id;
    uint64_t                           id_number;
    ngx_str_t                          auth_key;
    ngx_str_t                          auth_secret;
    ngx_str_t                          login;
    ngx_str_t                          email;
    ngx_str_t                          password;
    ngx_str_t                          api_key;
    ngx_str_t                          authorization;  /* "ApiKey ..." */
    ngx_http_complex_value_t          *on_behalf_of;
    ngx_uint_t                         signature;

    /* keys of the sessions held, and what those of others begin with */

    EVP_MD_CTX                        *client;
    EVP_MD_CTX                        *people;
    u_char                             held[2][NGX_HTTP_QUICKBLOX_DIGEST_LEN];

    /* the cookie of a browser's session */

    ngx_http_quickblox_cookie_t        cookie;
    ngx_str_t                          cookie_attributes;
    ngx_uint_t                         cookie_flags;
    time_t                             cookie_lifetime;

    time_t                             session_lifetime;
    time_t                             basic_valid;
    time_t                             refresh_before;
    time_t                             cache_valid;
    time_t                             cache_invalid;
    time_t                             cache_stale;
    ngx_msec_t                         timeout;
    ngx_msec_t                         lock_timeout;

    ngx_flag_t                         ssl_verify;
    ngx_uint_t                         ssl_verify_depth;
    ngx_uint_t                         ssl_protocols;
    ngx_str_t                          ssl_ciphers;
    ngx_str_t                          ssl_trusted_certificate;

    ngx_shm_zone_t                    *shm_zone;
    ngx_http_quickblox_share_t        *share;     /* in the zone, its own */
    ngx_http_quickblox_counters_t     *counters;  /* of it */
    u_char                             share_id[NGX_HTTP_QUICKBLOX_DIGEST_LEN];

    unsigned                           ssl:1;
    unsigned                           has_api:1;
    unsigned                           same_site_none:1;
};


/* adds one to a counter of an application, such as "expired" */

#define ngx_http_quickblox_count(app, counter)                               \
    (void) ngx_atomic_fetch_add(&(app)->counters->counter, 1)


typedef struct {
    ngx_array_t                        applications;
                             /* of ngx_http_quickblox_application_t * */
    EVP_MD                            *md;
    EVP_MD_CTX                        *md_ctx;
    EVP_MD_CTX                        *md_start;  /* of nothing yet */
    EVP_CIPHER                        *cipher;
    EVP_MAC                           *mac;
    ngx_queue_t                        flights[256];
                             /* of this worker, by the key's first byte */
} ngx_http_quickblox_main_conf_t;


typedef struct {
    ngx_http_complex_value_t           value;
    ngx_str_t                          header;    /* of "$http_name" */
} ngx_http_quickblox_token_t;


typedef struct {
    ngx_str_t                          name;
    u_char                            *lowcase;
    ngx_uint_t                         hash;
} ngx_http_quickblox_header_t;


typedef struct ngx_http_quickblox_loc_conf_s  ngx_http_quickblox_loc_conf_t;

struct ngx_http_quickblox_loc_conf_s {
    ngx_http_quickblox_application_t  *application;  /* NULL: off */
    ngx_array_t                       *sources;      /* of ngx_uint_t */
    ngx_array_t                       *tokens;
                                      /* of ngx_http_quickblox_token_t */
    ngx_array_t                       *require;
                                      /* of ngx_http_complex_value_t */
    ngx_uint_t                         require_any;
    ngx_uint_t                         access;
    ngx_http_quickblox_header_t        header;       /* len 0: off */
    ngx_uint_t                         preflight;
    ngx_uint_t                         forget;
    ngx_http_complex_value_t          *user;
    ngx_array_t                       *origins;      /* of ngx_str_t */
    ngx_str_t                          on_expired;   /* len 0: off */
    ngx_uint_t                         endpoint;     /* a content handler */
    size_t                             body_max;     /* that it reads */
    ngx_http_quickblox_format_e        format;       /* of the status */
    ngx_flag_t                         replay;
    ngx_array_t                       *expired;      /* of ngx_uint_t */
    ngx_str_t                          expired_text;
    size_t                             expired_buffer;

    u_char                            *file;         /* of "quickblox" */
    ngx_uint_t                         line;

    /* the limit_except of this location that is protected */
    ngx_http_quickblox_loc_conf_t     *limited;

    /* of an "if", the location that it is in */
    ngx_http_quickblox_loc_conf_t     *location;

    unsigned                           limit_except:1;  /* is one */
    unsigned                           sources_set:1;
    unsigned                           basic:1;         /* is a source */

    /* parameters of the content handler */

    unsigned                           token:1;
    unsigned                           fresh:1;         /* "application" */
    unsigned                           destroy:1;
};


/* the limit_except that the request is outside of, or NULL */

#define ngx_http_quickblox_limited(conf)                                     \
    ((conf)->location ? (conf)->location->limited : (conf)->limited)


/* where a request's session comes from, and the key that it has in the zone */

typedef struct {
    ngx_uint_t                         source;
    ngx_str_t                          token;     /* the client's */
    ngx_str_t                          login;     /* or the email */
    ngx_str_t                          email;
    ngx_str_t                          password;
    uint64_t                           user_id;   /* of user_token, cookie */
    u_char                             key[NGX_HTTP_QUICKBLOX_DIGEST_LEN];
} ngx_http_quickblox_credential_t;


/*
 * A session as a request knows it: a copy, as the zone goes on changing.
 * The token of a session held is in the request's pool.
 */

typedef struct {
    ngx_str_t                          token;
    uint64_t                           user_id;
    time_t                             expires;
    uint32_t                           generation;
    uint32_t                           checked;   /* monotonic seconds */
    unsigned                           proved:1;
} ngx_http_quickblox_session_t;


/*
 * What ends a look-up.  OK has a session; REJECTED, FOREIGN, UNKNOWN (401
 * without the text of an expiry, not remembered) and REFUSED (of a login) do
 * not; FAILED is nobody's fault on the client's side, and "retry_after" says
 * when to try again.
 */

typedef enum {
    NGX_HTTP_QUICKBLOX_RESULT_OK = 0,
    NGX_HTTP_QUICKBLOX_RESULT_REJECTED,
    NGX_HTTP_QUICKBLOX_RESULT_FOREIGN,
    NGX_HTTP_QUICKBLOX_RESULT_UNKNOWN,
    NGX_HTTP_QUICKBLOX_RESULT_REFUSED,
    NGX_HTTP_QUICKBLOX_RESULT_FAILED
} ngx_http_quickblox_result_e;


/*
 * One for each main request, found again by its cleanup after an internal
 * redirect has cleared the modules' contexts, and from subrequests.
 */

struct ngx_http_quickblox_ctx_s {
    ngx_http_request_t                *request;
    ngx_http_quickblox_loc_conf_t     *conf;      /* decided here */

    ngx_http_quickblox_credential_t    credential;
    ngx_http_quickblox_session_t       session;
    ngx_http_quickblox_status_e        status;
    ngx_http_quickblox_result_e        result;
    time_t                             retry_after;
    const char                        *error;     /* for $quickblox_error */
    ngx_str_t                          on_behalf_of;

    /* of the end of a wait, or of a response that is replayed or mapped */
    ngx_event_t                        event;

    /* waiting for a flight */

    ngx_queue_t                        queue;
    ngx_http_quickblox_flight_t       *flight;
    ngx_http_event_handler_pt          resume;

    /* the client's own header list, while ours is in its place */

    ngx_list_t                         headers;
    ngx_table_elt_t                   *authorization;
    ngx_http_quickblox_cookies_t       cookies;

    ngx_http_quickblox_endpoint_t     *endpoint;  /* of a content handler */

    /* an expired response that is examined and replayed or mapped */

    u_char                            *body;
    size_t                             body_len;

#if (NGX_PCRE)
    /* of the location's regular expressions, as the first attempt had them */

    ngx_uint_t                         ncaptures;
    int                               *captures;
    u_char                            *captures_data;
#endif

    unsigned                           granted:1;   /* a session, or none */
    unsigned                           left:1;      /* another location now */
    unsigned                           resumed:1;   /* a flight has ended */
    unsigned                           applied:1;   /* list is ours */
    unsigned                           saved:1;     /* "headers" is set */
    unsigned                           revalidated:1;
    unsigned                           replayed:1;
    unsigned                           examining:1;
    unsigned                           examined:1;
    unsigned                           single:1;    /* asks for itself */
    unsigned                           listener:1;  /* tells of an expiry */
    unsigned                           counted:1;   /* in the status */
};


/*
 * The state of the main request that r belongs to; with create 1, r is the
 * main request and the state is made where there is none yet.  NULL when
 * there is none, or memory is short.
 */

ngx_http_quickblox_ctx_t *ngx_http_quickblox_get_ctx(ngx_http_request_t *r,
    ngx_uint_t create);


/*
 * Counts what has become of a request, the first time that it is known: when
 * it is refused, else before its response is sent, else at its end.
 */

void ngx_http_quickblox_count_request(ngx_http_quickblox_ctx_t *ctx);


/* the name of a source, as "quickblox_session" and the logs have it */

ngx_str_t *ngx_http_quickblox_source_name(ngx_uint_t source);


/*
 * The level of a message that may be repeated: "level" once a minute for a
 * worker, with the time of the next in *told, which is 0 at first, else info.
 */

ngx_uint_t ngx_http_quickblox_log_level(ngx_uint_t level, time_t *told);


/*
 * The handler of a directive with one of several words, as
 * ngx_conf_set_enum_slot() is, whose message says which.
 */

char *ngx_http_quickblox_enum_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


extern ngx_module_t  ngx_http_quickblox_module;


#endif /* _NGX_HTTP_QUICKBLOX_MODULE_H_INCLUDED_ */
