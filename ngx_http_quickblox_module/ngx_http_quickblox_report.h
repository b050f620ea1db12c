
/*
 * The numbers of "quickblox_status" as JSON, in Prometheus' text format and
 * as a page, and which of them a client prefers.  Pure functions: they know
 * nothing of requests, and of nginx only its strings.
 */


#ifndef _NGX_HTTP_QUICKBLOX_REPORT_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_REPORT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* outcomes of an API call */
#define NGX_HTTP_QUICKBLOX_CALL_OK          0
#define NGX_HTTP_QUICKBLOX_CALL_REFUSED     1
#define NGX_HTTP_QUICKBLOX_CALL_FAILED      2
#define NGX_HTTP_QUICKBLOX_CALL_OUTCOMES    3

/* what became of an expired response that could be acted on */
#define NGX_HTTP_QUICKBLOX_REPLAY_REPLAYED  0
#define NGX_HTTP_QUICKBLOX_REPLAY_MAPPED    1
#define NGX_HTTP_QUICKBLOX_REPLAY_FAILED    2
#define NGX_HTTP_QUICKBLOX_REPLAY_OUTCOMES  3

#define NGX_HTTP_QUICKBLOX_REPORT_SOURCES   7    /* but "none" */
#define NGX_HTTP_QUICKBLOX_REPORT_RESULTS   8    /* $quickblox_status, HIT: 1
                                                    to ERROR: 7 */
#define NGX_HTTP_QUICKBLOX_REPORT_CALLS     6    /* ngx_http_quickblox_ask_e,
                                                    VALIDATE: 1 and so on */
#define NGX_HTTP_QUICKBLOX_REPORT_BUCKETS   11   /* the last: all above */


/*
 * Of an application, since its zone was made.  They are in the zone, and each
 * is added to by itself, so they need not be of one moment.
 */

typedef struct {
    ngx_atomic_t  requests[NGX_HTTP_QUICKBLOX_REPORT_SOURCES]
                          [NGX_HTTP_QUICKBLOX_REPORT_RESULTS];
    ngx_atomic_t  calls[NGX_HTTP_QUICKBLOX_REPORT_CALLS]
                       [NGX_HTTP_QUICKBLOX_CALL_OUTCOMES];
    ngx_atomic_t  seconds[NGX_HTTP_QUICKBLOX_REPORT_BUCKETS];
    ngx_atomic_t  msec;                        /* of all calls */
    ngx_atomic_t  replays[NGX_HTTP_QUICKBLOX_REPLAY_OUTCOMES];
    ngx_atomic_t  expired;
    ngx_atomic_t  renewed;
    ngx_atomic_t  succeeded;                   /* Unix seconds, 0: never */
} ngx_http_quickblox_counters_t;


typedef struct {
    ngx_str_t                       name;
    size_t                          size;      /* bytes */
    ngx_uint_t                      sessions;
    ngx_uint_t                      rejections;
    ngx_uint_t                      capacity;  /* records */
    ngx_uint_t                      evicted;
    size_t                          held_free; /* bytes */
} ngx_http_quickblox_report_zone_t;


typedef struct {
    ngx_str_t                       name;
    ngx_str_t                       zone;
    ngx_http_quickblox_counters_t  *counters;
    time_t                          backoff;   /* s to go */
    time_t                          user;      /* expiry of the session held */
    time_t                          application;             /* 0: none */
} ngx_http_quickblox_report_app_t;


typedef struct {
    const char                        *version;
    const char                        *nginx;
    time_t                             now;
    ngx_uint_t                         nzones;
    ngx_http_quickblox_report_zone_t  *zones;
    ngx_uint_t                         napps;
    ngx_http_quickblox_report_app_t   *apps;
} ngx_http_quickblox_report_t;


typedef enum {
    NGX_HTTP_QUICKBLOX_FORMAT_ANY = 0,         /* what the client prefers */
    NGX_HTTP_QUICKBLOX_FORMAT_JSON,
    NGX_HTTP_QUICKBLOX_FORMAT_PROMETHEUS,
    NGX_HTTP_QUICKBLOX_FORMAT_HTML
} ngx_http_quickblox_format_e;


/* the bucket of a call that took so many milliseconds, to be counted */

ngx_uint_t ngx_http_quickblox_report_bucket(ngx_msec_t msec);


/*
 * How many bytes a report may take in a format (not ANY): an upper bound.
 */

size_t ngx_http_quickblox_report_size(ngx_http_quickblox_report_t *report,
    ngx_http_quickblox_format_e format);


/*
 * Writes the report to p, where there is room for its size, and returns the
 * end of it.
 */

u_char *ngx_http_quickblox_report_write(u_char *p,
    ngx_http_quickblox_report_t *report, ngx_http_quickblox_format_e format);


/*
 * What a client accepts: for each format the thousandths that the most
 * specific media range gave it.  Zeroed before the first use.
 */

typedef struct {
    ngx_uint_t                      q[NGX_HTTP_QUICKBLOX_FORMAT_HTML + 1];
    ngx_uint_t                      level[NGX_HTTP_QUICKBLOX_FORMAT_HTML + 1];
} ngx_http_quickblox_accept_t;


/* adds the value of an Accept header (RFC 9110, 12.5.1) */

void ngx_http_quickblox_report_accept(ngx_http_quickblox_accept_t *accept,
    ngx_str_t *value);


/*
 * The format that the client prefers; of several JSON, then Prometheus, and
 * JSON where it has said nothing that we have.
 */

ngx_http_quickblox_format_e ngx_http_quickblox_report_preferred(
    ngx_http_quickblox_accept_t *accept);


#endif /* _NGX_HTTP_QUICKBLOX_REPORT_H_INCLUDED_ */
