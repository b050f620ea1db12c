
/*
 * The numbers of "quickblox_status": see ngx_http_quickblox_report.h.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_quickblox_report.h"


/* room for what stands once, for a zone and for an application */

#define NGX_HTTP_QUICKBLOX_JSON_HEAD   256
#define NGX_HTTP_QUICKBLOX_JSON_ZONE   256
#define NGX_HTTP_QUICKBLOX_JSON_APP    4096

#define NGX_HTTP_QUICKBLOX_PROM_HEAD   4096
#define NGX_HTTP_QUICKBLOX_PROM_LINE   128
#define NGX_HTTP_QUICKBLOX_PROM_ZONE   6        /* lines */
#define NGX_HTTP_QUICKBLOX_PROM_APP    96


/* a metric with a sample for each application or zone, or with several */

typedef struct {
    const char  *name;
    const char  *type;
    const char  *help;
    size_t       offset;     /* of its number */
} ngx_http_quickblox_report_metric_t;


typedef struct {
    const char  *name;
    const char  *type;
    const char  *help;
    u_char    *(*write)(u_char *p, ngx_http_quickblox_report_app_t *app);
} ngx_http_quickblox_report_group_t;


static u_char *ngx_http_quickblox_report_json(u_char *p,
    ngx_http_quickblox_report_t *report);
static u_char *ngx_http_quickblox_report_json_app(u_char *p,
    ngx_http_quickblox_report_app_t *app);
static u_char *ngx_http_quickblox_report_json_calls(u_char *p,
    ngx_http_quickblox_counters_t *counters);
static u_char *ngx_http_quickblox_report_json_held(u_char *p,
    ngx_http_quickblox_report_app_t *app);
static u_char *ngx_http_quickblox_report_string(u_char *p, ngx_str_t *s);

static u_char *ngx_http_quickblox_report_prometheus(u_char *p,
    ngx_http_quickblox_report_t *report);
static u_char *ngx_http_quickblox_report_metric(u_char *p,
    ngx_http_quickblox_report_metric_t *metric, const char *label,
    ngx_str_t *value, void *numbers);
static u_char *ngx_http_quickblox_report_requests(u_char *p,
    ngx_http_quickblox_report_app_t *app);
static u_char *ngx_http_quickblox_report_calls(u_char *p,
    ngx_http_quickblox_report_app_t *app);
static u_char *ngx_http_quickblox_report_seconds(u_char *p,
    ngx_http_quickblox_report_app_t *app);
static u_char *ngx_http_quickblox_report_replays(u_char *p,
    ngx_http_quickblox_report_app_t *app);
static u_char *ngx_http_quickblox_report_backoff(u_char *p,
    ngx_http_quickblox_report_app_t *app);
static u_char *ngx_http_quickblox_report_expires(u_char *p,
    ngx_http_quickblox_report_app_t *app);
static u_char *ngx_http_quickblox_report_sample(u_char *p, const char *name,
    const char *label, ngx_str_t *value);
static u_char *ngx_http_quickblox_report_head(u_char *p, const char *name,
    const char *type, const char *help);

static ngx_uint_t ngx_http_quickblox_report_range(u_char *p, u_char *last,
    const char *type);
static ngx_uint_t ngx_http_quickblox_report_q(u_char *p, u_char *last);


/* the order is that of NGX_HTTP_QUICKBLOX_SOURCE_CLIENT, ... */

static const char  *ngx_http_quickblox_report_sources[] = {
    "client", "basic", "cookie", "user", "user_token", "application",
    "api_key"
};


/* the order is that of ngx_http_quickblox_status_e */

static const char  *ngx_http_quickblox_report_results[] = {
    NULL, "hit", "miss", "wait", "refresh", "stale", "rejected", "error"
};


/* the order is that of ngx_http_quickblox_ask_e, ... */

static const char  *ngx_http_quickblox_report_names[] = {
    NULL, "validate", "create", "login", "logout", "destroy"
};


/* ... of NGX_HTTP_QUICKBLOX_CALL_OK, ... */

static const char  *ngx_http_quickblox_report_outcomes[] = {
    "ok", "refused", "failed"
};


/* ... and of NGX_HTTP_QUICKBLOX_REPLAY_REPLAYED, ... */

static const char  *ngx_http_quickblox_report_replay[] = {
    "replayed", "mapped", "failed"
};


static ngx_msec_t  ngx_http_quickblox_report_limits[] = {
    5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000
};

static const char  *ngx_http_quickblox_report_le[] = {
    "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5",
    "+Inf"
};


/*
 * What is before and behind the numbers in ngx_http_quickblox_status.html,
 * made of it when nginx is configured.
 */

static const char  *ngx_http_quickblox_report_page[] = {
#include "ngx_http_quickblox_status_page.h"
};


static ngx_http_quickblox_report_group_t  ngx_http_quickblox_report_groups[] =
{
    { "requests_total", "counter",
      "Requests by where their session came from and what was found.",
      ngx_http_quickblox_report_requests },

    { "api_calls_total", "counter", "Calls of the API.",
      ngx_http_quickblox_report_calls },

    { "api_duration_seconds", "histogram",
      "How long the calls of the API took.",
      ngx_http_quickblox_report_seconds },

    { "replays_total", "counter",
      "Expired responses that were replayed, mapped to 401, or neither.",
      ngx_http_quickblox_report_replays },

    { "session_expires_timestamp_seconds", "gauge",
      "When a session that the gateway holds expires.",
      ngx_http_quickblox_report_expires },

    { "backoff_seconds", "gauge", "For how long the API is not called yet.",
      ngx_http_quickblox_report_backoff }
};


static ngx_http_quickblox_report_metric_t
    ngx_http_quickblox_report_counters[] =
{
    { "expired_total", "counter", "Sessions that were found to have expired.",
      offsetof(ngx_http_quickblox_counters_t, expired) },

    { "renewed_total", "counter", "Sessions renewed in the background.",
      offsetof(ngx_http_quickblox_counters_t, renewed) },

    { "last_success_timestamp_seconds", "gauge",
      "When the API last answered well, 0 if never.",
      offsetof(ngx_http_quickblox_counters_t, succeeded) }
};


static ngx_http_quickblox_report_metric_t  ngx_http_quickblox_report_zones[] =
{
    { "zone_sessions", "gauge", "Sessions known in a zone.",
      offsetof(ngx_http_quickblox_report_zone_t, sessions) },

    { "zone_rejections", "gauge", "Rejections remembered in a zone.",
      offsetof(ngx_http_quickblox_report_zone_t, rejections) },

    { "zone_capacity", "gauge", "Records that a zone has room for.",
      offsetof(ngx_http_quickblox_report_zone_t, capacity) },

    { "zone_evicted_total", "counter",
      "Live sessions that gave way to others in a full zone.",
      offsetof(ngx_http_quickblox_report_zone_t, evicted) },

    { "zone_bytes", "gauge", "Size of a zone.",
      offsetof(ngx_http_quickblox_report_zone_t, size) },

    { "zone_held_free_bytes", "gauge",
      "Memory of a zone that is free for sessions held.",
      offsetof(ngx_http_quickblox_report_zone_t, held_free) }
};


ngx_uint_t
ngx_http_quickblox_report_bucket(ngx_msec_t msec)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_QUICKBLOX_REPORT_BUCKETS - 1; i++) {
        if (msec <= ngx_http_quickblox_report_limits[i]) {
            break;
        }
    }

    return i;
}


size_t
ngx_http_quickblox_report_size(ngx_http_quickblox_report_t *report,
    ngx_http_quickblox_format_e format)
{
    size_t      json, prometheus;
    ngx_uint_t  i;

    json = NGX_HTTP_QUICKBLOX_JSON_HEAD;
    prometheus = NGX_HTTP_QUICKBLOX_PROM_HEAD;

    /* a byte is six in JSON at most and two in a label */

    for (i = 0; i < report->nzones; i++) {
        json += NGX_HTTP_QUICKBLOX_JSON_ZONE + 6 * report->zones[i].name.len;

        prometheus += NGX_HTTP_QUICKBLOX_PROM_ZONE
                      * (NGX_HTTP_QUICKBLOX_PROM_LINE
                         + 2 * report->zones[i].name.len);
    }

    for (i = 0; i < report->napps; i++) {
        json += NGX_HTTP_QUICKBLOX_JSON_APP
                + 6 * (report->apps[i].name.len + report->apps[i].zone.len);

        prometheus += NGX_HTTP_QUICKBLOX_PROM_APP
                      * (NGX_HTTP_QUICKBLOX_PROM_LINE
                         + 2 * report->apps[i].name.len);
    }

    switch (format) {

    case NGX_HTTP_QUICKBLOX_FORMAT_PROMETHEUS:
        return prometheus;

    case NGX_HTTP_QUICKBLOX_FORMAT_HTML:
        return json + ngx_strlen(ngx_http_quickblox_report_page[0])
               + ngx_strlen(ngx_http_quickblox_report_page[1]);

    default: /* NGX_HTTP_QUICKBLOX_FORMAT_JSON */
        return json;
    }
}


u_char *
ngx_http_quickblox_report_write(u_char *p, ngx_http_quickblox_report_t *report,
    ngx_http_quickblox_format_e format)
{
    const char  **page;

    switch (format) {

    case NGX_HTTP_QUICKBLOX_FORMAT_PROMETHEUS:
        return ngx_http_quickblox_report_prometheus(p, report);

    case NGX_HTTP_QUICKBLOX_FORMAT_HTML:

        page = ngx_http_quickblox_report_page;

        p = ngx_cpymem(p, page[0], ngx_strlen(page[0]));
        p = ngx_http_quickblox_report_json(p, report);

        return ngx_cpymem(p, page[1], ngx_strlen(page[1]));

    default: /* NGX_HTTP_QUICKBLOX_FORMAT_JSON */
        return ngx_http_quickblox_report_json(p, report);
    }
}


static u_char *
ngx_http_quickblox_report_json(u_char *p, ngx_http_quickblox_report_t *report)
{
    ngx_uint_t                         i;
    ngx_http_quickblox_report_zone_t  *zone;

    p = ngx_sprintf(p, "{\"version\":\"%s\",\"nginx\":\"%s\",\"now\":%T,"
                    "\"zones\":{", report->version, report->nginx,
                    report->now);

    for (i = 0; i < report->nzones; i++) {
        zone = &report->zones[i];

        if (i) {
            *p++ = ',';
        }

        p = ngx_http_quickblox_report_string(p, &zone->name);
        p = ngx_sprintf(p, ":{\"size\":%uz,\"sessions\":%ui,"
                        "\"rejections\":%ui,\"capacity\":%ui,"
                        "\"evicted\":%ui,\"held_free\":%uz}", zone->size,
                        zone->sessions, zone->rejections, zone->capacity,
                        zone->evicted, zone->held_free);
    }

    p = ngx_sprintf(p, "},\"applications\":{");

    for (i = 0; i < report->napps; i++) {

        if (i) {
            *p++ = ',';
        }

        p = ngx_http_quickblox_report_json_app(p, &report->apps[i]);
    }

    *p++ = '}';
    *p++ = '}';

    return p;
}


static u_char *
ngx_http_quickblox_report_json_app(u_char *p,
    ngx_http_quickblox_report_app_t *app)
{
    ngx_uint_t                      i, j;
    ngx_http_quickblox_counters_t  *counters;

    counters = app->counters;

    p = ngx_http_quickblox_report_string(p, &app->name);
    p = ngx_sprintf(p, ":{\"zone\":");
    p = ngx_http_quickblox_report_string(p, &app->zone);
    p = ngx_sprintf(p, ",\"requests\":{");

    for (i = 0; i < NGX_HTTP_QUICKBLOX_REPORT_SOURCES; i++) {
        p = ngx_sprintf(p, "%s\"%s\":", i ? "," : "",
                        ngx_http_quickblox_report_sources[i]);

        for (j = 1; j < NGX_HTTP_QUICKBLOX_REPORT_RESULTS; j++) {
            p = ngx_sprintf(p, "%c\"%s\":%uA", j == 1 ? '{' : ',',
                            ngx_http_quickblox_report_results[j],
                            counters->requests[i][j]);
        }

        *p++ = '}';
    }

    *p++ = '}';

    p = ngx_http_quickblox_report_json_calls(p, counters);
    p = ngx_sprintf(p, ",\"replays\":{");

    for (i = 0; i < NGX_HTTP_QUICKBLOX_REPLAY_OUTCOMES; i++) {
        p = ngx_sprintf(p, "%s\"%s\":%uA", i ? "," : "",
                        ngx_http_quickblox_report_replay[i],
                        counters->replays[i]);
    }

    p = ngx_sprintf(p, "},\"expired\":%uA,\"renewed\":%uA,\"backoff\":%T,"
                    "\"last_success\":%uA", counters->expired,
                    counters->renewed, app->backoff, counters->succeeded);

    return ngx_http_quickblox_report_json_held(p, app);
}


static u_char *
ngx_http_quickblox_report_json_calls(u_char *p,
    ngx_http_quickblox_counters_t *counters)
{
    ngx_uint_t         i, j;
    ngx_atomic_uint_t  n;

    p = ngx_sprintf(p, ",\"api\":");

    for (i = 1; i < NGX_HTTP_QUICKBLOX_REPORT_CALLS; i++) {
        p = ngx_sprintf(p, "%c\"%s\":", i == 1 ? '{' : ',',
                        ngx_http_quickblox_report_names[i]);

        for (j = 0; j < NGX_HTTP_QUICKBLOX_CALL_OUTCOMES; j++) {
            p = ngx_sprintf(p, "%c\"%s\":%uA", j == 0 ? '{' : ',',
                            ngx_http_quickblox_report_outcomes[j],
                            counters->calls[i][j]);
        }

        *p++ = '}';
    }

    p = ngx_sprintf(p, "},\"api_seconds\":{\"le\":");

    for (i = 0; i < NGX_HTTP_QUICKBLOX_REPORT_BUCKETS - 1; i++) {
        p = ngx_sprintf(p, "%c%s", i == 0 ? '[' : ',',
                        ngx_http_quickblox_report_le[i]);
    }

    p = ngx_sprintf(p, "],\"count\":");
    n = 0;

    for (i = 0; i < NGX_HTTP_QUICKBLOX_REPORT_BUCKETS - 1; i++) {
        n += counters->seconds[i];
        p = ngx_sprintf(p, "%c%uA", i == 0 ? '[' : ',', n);
    }

    n += counters->seconds[i];

    return ngx_sprintf(p, "],\"sum\":%uA.%03uA,\"total\":%uA}",
                       counters->msec / 1000, counters->msec % 1000, n);
}


static u_char *
ngx_http_quickblox_report_json_held(u_char *p,
    ngx_http_quickblox_report_app_t *app)
{
    p = ngx_sprintf(p, ",\"held\":{");

    if (app->user) {
        p = ngx_sprintf(p, "\"user\":{\"expires\":%T}", app->user);
    }

    if (app->application) {
        p = ngx_sprintf(p, "%s\"application\":{\"expires\":%T}",
                        app->user ? "," : "", app->application);
    }

    return ngx_sprintf(p, "}}");
}


/* also fit for a script element of a page, which "<" might end */

static u_char *
ngx_http_quickblox_report_string(u_char *p, ngx_str_t *s)
{
    u_char      c;
    ngx_uint_t  i;

    *p++ = '"';

    for (i = 0; i < s->len; i++) {
        c = s->data[i];

        if (c < ' ' || c == '"' || c == '\\' || c == '<') {
            p = ngx_sprintf(p, "\\u%04xd", (u_int) c);

        } else {
            *p++ = c;
        }
    }

    *p++ = '"';

    return p;
}


static u_char *
ngx_http_quickblox_report_prometheus(u_char *p,
    ngx_http_quickblox_report_t *report)
{
    ngx_uint_t                           i, j, n;
    ngx_http_quickblox_report_app_t     *app;
    ngx_http_quickblox_report_zone_t    *zone;
    ngx_http_quickblox_report_group_t   *group;
    ngx_http_quickblox_report_metric_t  *metric;

    app = report->apps;
    zone = report->zones;

    p = ngx_http_quickblox_report_head(p, "build_info", "gauge",
                                       "The versions, always 1.");
    p = ngx_sprintf(p, "quickblox_build_info{version=\"%s\",nginx=\"%s\"} 1\n",
                    report->version, report->nginx);

    group = ngx_http_quickblox_report_groups;
    n = sizeof(ngx_http_quickblox_report_groups)
        / sizeof(ngx_http_quickblox_report_group_t);

    for (i = 0; i < n; i++) {
        p = ngx_http_quickblox_report_head(p, group[i].name, group[i].type,
                                           group[i].help);

        for (j = 0; j < report->napps; j++) {
            p = group[i].write(p, &app[j]);
        }
    }

    metric = ngx_http_quickblox_report_counters;
    n = sizeof(ngx_http_quickblox_report_counters)
        / sizeof(ngx_http_quickblox_report_metric_t);

    for (i = 0; i < n; i++) {
        p = ngx_http_quickblox_report_head(p, metric[i].name, metric[i].type,
                                           metric[i].help);

        for (j = 0; j < report->napps; j++) {
            p = ngx_http_quickblox_report_metric(p, &metric[i], "application",
                                                 &app[j].name,
                                                 app[j].counters);
        }
    }

    metric = ngx_http_quickblox_report_zones;
    n = sizeof(ngx_http_quickblox_report_zones)
        / sizeof(ngx_http_quickblox_report_metric_t);

    for (i = 0; i < n; i++) {
        p = ngx_http_quickblox_report_head(p, metric[i].name, metric[i].type,
                                           metric[i].help);

        for (j = 0; j < report->nzones; j++) {
            p = ngx_http_quickblox_report_metric(p, &metric[i], "zone",
                                                 &zone[j].name, &zone[j]);
        }
    }

    return p;
}


/* a number of a zone is as wide as a counter */

static u_char *
ngx_http_quickblox_report_metric(u_char *p,
    ngx_http_quickblox_report_metric_t *metric, const char *label,
    ngx_str_t *value, void *numbers)
{
    p = ngx_http_quickblox_report_sample(p, metric->name, label, value);

    return ngx_sprintf(p, "} %uA\n",
                       *(ngx_atomic_t *) ((u_char *) numbers
                                          + metric->offset));
}


static u_char *
ngx_http_quickblox_report_requests(u_char *p,
    ngx_http_quickblox_report_app_t *app)
{
    ngx_uint_t  i, j;

    for (i = 0; i < NGX_HTTP_QUICKBLOX_REPORT_SOURCES; i++) {
        for (j = 1; j < NGX_HTTP_QUICKBLOX_REPORT_RESULTS; j++) {
            p = ngx_http_quickblox_report_sample(p, "requests_total",
                                                 "application", &app->name);
            p = ngx_sprintf(p, ",source=\"%s\",result=\"%s\"} %uA\n",
                            ngx_http_quickblox_report_sources[i],
                            ngx_http_quickblox_report_results[j],
                            app->counters->requests[i][j]);
        }
    }

    return p;
}


static u_char *
ngx_http_quickblox_report_calls(u_char *p,
    ngx_http_quickblox_report_app_t *app)
{
    ngx_uint_t  i, j;

    for (i = 1; i < NGX_HTTP_QUICKBLOX_REPORT_CALLS; i++) {
        for (j = 0; j < NGX_HTTP_QUICKBLOX_CALL_OUTCOMES; j++) {
            p = ngx_http_quickblox_report_sample(p, "api_calls_total",
                                                 "application", &app->name);
            p = ngx_sprintf(p, ",call=\"%s\",outcome=\"%s\"} %uA\n",
                            ngx_http_quickblox_report_names[i],
                            ngx_http_quickblox_report_outcomes[j],
                            app->counters->calls[i][j]);
        }
    }

    return p;
}


static u_char *
ngx_http_quickblox_report_seconds(u_char *p,
    ngx_http_quickblox_report_app_t *app)
{
    ngx_uint_t         i;
    ngx_atomic_uint_t  n;

    n = 0;

    for (i = 0; i < NGX_HTTP_QUICKBLOX_REPORT_BUCKETS; i++) {
        n += app->counters->seconds[i];

        p = ngx_http_quickblox_report_sample(p, "api_duration_seconds_bucket",
                                             "application", &app->name);
        p = ngx_sprintf(p, ",le=\"%s\"} %uA\n",
                        ngx_http_quickblox_report_le[i], n);
    }

    p = ngx_http_quickblox_report_sample(p, "api_duration_seconds_sum",
                                         "application", &app->name);
    p = ngx_sprintf(p, "} %uA.%03uA\n", app->counters->msec / 1000,
                    app->counters->msec % 1000);

    p = ngx_http_quickblox_report_sample(p, "api_duration_seconds_count",
                                         "application", &app->name);

    return ngx_sprintf(p, "} %uA\n", n);
}


static u_char *
ngx_http_quickblox_report_replays(u_char *p,
    ngx_http_quickblox_report_app_t *app)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_QUICKBLOX_REPLAY_OUTCOMES; i++) {
        p = ngx_http_quickblox_report_sample(p, "replays_total", "application",
                                             &app->name);
        p = ngx_sprintf(p, ",outcome=\"%s\"} %uA\n",
                        ngx_http_quickblox_report_replay[i],
                        app->counters->replays[i]);
    }

    return p;
}


static u_char *
ngx_http_quickblox_report_backoff(u_char *p,
    ngx_http_quickblox_report_app_t *app)
{
    p = ngx_http_quickblox_report_sample(p, "backoff_seconds", "application",
                                         &app->name);

    return ngx_sprintf(p, "} %T\n", app->backoff);
}


static u_char *
ngx_http_quickblox_report_expires(u_char *p,
    ngx_http_quickblox_report_app_t *app)
{
    if (app->user) {
        p = ngx_http_quickblox_report_sample(p,
                                         "session_expires_timestamp_seconds",
                                         "application", &app->name);
        p = ngx_sprintf(p, ",type=\"user\"} %T\n", app->user);
    }

    if (app->application) {
        p = ngx_http_quickblox_report_sample(p,
                                         "session_expires_timestamp_seconds",
                                         "application", &app->name);
        p = ngx_sprintf(p, ",type=\"application\"} %T\n", app->application);
    }

    return p;
}


/* all but the end, as more labels may follow */

static u_char *
ngx_http_quickblox_report_sample(u_char *p, const char *name,
    const char *label, ngx_str_t *value)
{
    u_char      c;
    ngx_uint_t  i;

    p = ngx_sprintf(p, "quickblox_%s{%s=\"", name, label);

    for (i = 0; i < value->len; i++) {
        c = value->data[i];

        if (c == '"' || c == '\\' || c == LF) {
            *p++ = '\\';
            c = (c == LF) ? 'n' : c;
        }

        *p++ = c;
    }

    *p++ = '"';

    return p;
}


static u_char *
ngx_http_quickblox_report_head(u_char *p, const char *name, const char *type,
    const char *help)
{
    return ngx_sprintf(p, "# HELP quickblox_%s %s\n# TYPE quickblox_%s %s\n",
                       name, help, name, type);
}


void
ngx_http_quickblox_report_accept(ngx_http_quickblox_accept_t *accept,
    ngx_str_t *value)
{
    u_char      *p, *last, *end;
    ngx_uint_t   i, q, level;

    static const char  *types[] = {
        NULL, "application/json", "text/plain", "text/html"
    };

    last = value->data + value->len;

    for (p = value->data; p < last; p = end + 1) {

        end = ngx_strlchr(p, last, ',');
        end = end ? end : last;

        q = ngx_http_quickblox_report_q(p, end);

        for (i = NGX_HTTP_QUICKBLOX_FORMAT_JSON;
             i <= NGX_HTTP_QUICKBLOX_FORMAT_HTML;
             i++)
        {
            level = ngx_http_quickblox_report_range(p, end, types[i]);

            if (level == 0 || level < accept->level[i]) {
                continue;
            }

            if (level > accept->level[i] || q > accept->q[i]) {
                accept->level[i] = level;
                accept->q[i] = q;
            }
        }
    }
}


/* how much of a type a media range names: 3, "text/" 2, any 1, another 0 */

static ngx_uint_t
ngx_http_quickblox_report_range(u_char *p, u_char *last, const char *type)
{
    size_t  len, major;

    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    for (len = 0; p + len < last; len++) {
        if (p[len] == ';' || p[len] == ' ' || p[len] == '\t') {
            break;
        }
    }

    if (len == 3 && ngx_strncmp(p, "*/*", 3) == 0) {
        return 1;
    }

    major = ngx_strchr(type, '/') + 1 - type;

    if (len == major + 1 && p[major] == '*'
        && ngx_strncasecmp(p, (u_char *) type, major) == 0)
    {
        return 2;
    }

    return (len == ngx_strlen(type)
            && ngx_strncasecmp(p, (u_char *) type, len) == 0)
           ? 3 : 0;
}


/* thousandths; a weight that is none counts as none given */

static ngx_uint_t
ngx_http_quickblox_report_q(u_char *p, u_char *last)
{
    ngx_uint_t  q, unit;

    for ( ;; ) {
        p = ngx_strlchr(p, last, ';');
        if (p == NULL) {
            return 1000;
        }

        do {
            p++;
        } while (p < last && (*p == ' ' || *p == '\t'));

        if (last - p > 2 && (p[0] | 0x20) == 'q' && p[1] == '=') {
            break;
        }
    }

    p += 2;

    if (*p != '0') {
        return 1000;
    }

    p++;
    q = 0;

    if (p < last && *p == '.') {
        p++;

        for (unit = 100; unit && p < last && *p >= '0' && *p <= '9';
             unit /= 10)
        {
            q += unit * (*p++ - '0');
        }
    }

    return q;
}


ngx_http_quickblox_format_e
ngx_http_quickblox_report_preferred(ngx_http_quickblox_accept_t *accept)
{
    ngx_uint_t  i, best;

    best = NGX_HTTP_QUICKBLOX_FORMAT_JSON;

    for (i = best + 1; i <= NGX_HTTP_QUICKBLOX_FORMAT_HTML; i++) {
        if (accept->q[i] > accept->q[best]) {
            best = i;
        }
    }

    return best;
}
