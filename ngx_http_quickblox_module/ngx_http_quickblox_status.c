
#include "ngx_http_quickblox_status.h"
#include "ngx_http_quickblox_header.h"
#include "ngx_http_quickblox_refusal.h"
#include "ngx_http_quickblox_zone.h"


/* ms, any will do */
#define NGX_HTTP_QUICKBLOX_STATUS_TIMER  1000


typedef struct {
    ngx_http_request_t           *request;
    ngx_http_quickblox_format_e   format;
    ngx_http_quickblox_report_t   report;
    ngx_shm_zone_t              **zones;   /* of report.zones */
    ngx_uint_t                    zone;    /* that is counted */
    ngx_uint_t                    set;     /* and how far */
    ngx_event_t                   event;
} ngx_http_quickblox_status_t;


static void ngx_http_quickblox_status_stop(void *data);
static ngx_http_quickblox_format_e ngx_http_quickblox_status_format(
    ngx_http_request_t *r, ngx_http_quickblox_loc_conf_t *conf);
static ngx_int_t ngx_http_quickblox_status_collect(ngx_http_request_t *r,
    ngx_http_quickblox_status_t *st);
static void ngx_http_quickblox_status_zone(ngx_http_quickblox_status_t *st,
    ngx_shm_zone_t *shm_zone);
static time_t ngx_http_quickblox_status_held(
    ngx_http_quickblox_application_t *app, ngx_uint_t source, u_char *key);
static void ngx_http_quickblox_status_next(ngx_event_t *ev);
static void ngx_http_quickblox_status_count(ngx_http_quickblox_status_t *st);
static ngx_int_t ngx_http_quickblox_status_send(ngx_http_request_t *r,
    ngx_http_quickblox_status_t *st);


/* the order is that of ngx_http_quickblox_format_e */

static ngx_str_t  ngx_http_quickblox_status_types[] = {
    ngx_null_string,
    ngx_string("application/json"),
    ngx_string("text/plain; version=0.0.4; charset=utf-8"),
    ngx_string("text/html; charset=utf-8")
};


void
ngx_http_quickblox_status_begin(ngx_http_request_t *r,
    ngx_http_quickblox_ctx_t *ctx)
{
    ngx_pool_cleanup_t           *cln;
    ngx_http_quickblox_status_t  *st;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_quickblox_status_t));
    if (cln == NULL) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    st = cln->data;
    ngx_memzero(st, sizeof(ngx_http_quickblox_status_t));

    cln->handler = ngx_http_quickblox_status_stop;

    st->request = r;
    st->format = ngx_http_quickblox_status_format(r, ctx->conf);

    st->event.handler = ngx_http_quickblox_status_next;
    st->event.data = st;
    st->event.log = r->connection->log;

    if (ngx_http_quickblox_status_collect(r, st) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    ngx_http_quickblox_status_count(st);
}


/* no turn is to come: all is counted, or the request has ended */

static void
ngx_http_quickblox_status_stop(void *data)
{
    ngx_http_quickblox_status_t *st = data;

    if (st->event.posted) {
        ngx_delete_posted_event(&st->event);
    }

    if (st->event.timer_set) {
        ngx_del_timer(&st->event);
    }
}


static ngx_http_quickblox_format_e
ngx_http_quickblox_status_format(ngx_http_request_t *r,
    ngx_http_quickblox_loc_conf_t *conf)
{
    ngx_uint_t                    i;
    ngx_list_part_t              *part;
    ngx_table_elt_t              *h;
    ngx_http_quickblox_accept_t   accept;

    static ngx_str_t  name = ngx_string("Accept");

    if (conf->format != NGX_HTTP_QUICKBLOX_FORMAT_ANY) {
        return conf->format;
    }

    ngx_memzero(&accept, sizeof(ngx_http_quickblox_accept_t));

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (ngx_http_quickblox_header_is(&h[i].key, &name)) {
                ngx_http_quickblox_report_accept(&accept, &h[i].value);
            }
        }
    }

    return ngx_http_quickblox_report_preferred(&accept);
}


/* all but what has to be counted */

static ngx_int_t
ngx_http_quickblox_status_collect(ngx_http_request_t *r,
    ngx_http_quickblox_status_t *st)
{
    ngx_uint_t                          i, n;
    ngx_http_quickblox_report_t        *report;
    ngx_http_quickblox_main_conf_t     *qmcf;
    ngx_http_quickblox_report_app_t    *app;
    ngx_http_quickblox_application_t  **apps;

    qmcf = ngx_http_get_module_main_conf(r, ngx_http_quickblox_module);

    apps = qmcf->applications.elts;
    n = qmcf->applications.nelts;

    report = &st->report;

    report->version = NGX_HTTP_QUICKBLOX_MODULE_VERSION;
    report->nginx = NGINX_VERSION;
    report->now = ngx_time();

    report->apps = ngx_pcalloc(r->pool,
                               n * sizeof(ngx_http_quickblox_report_app_t));
    report->zones = ngx_pcalloc(r->pool,
                                n * sizeof(ngx_http_quickblox_report_zone_t));
    st->zones = ngx_palloc(r->pool, n * sizeof(ngx_shm_zone_t *));

    if (report->apps == NULL || report->zones == NULL || st->zones == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {
        app = &report->apps[report->napps++];

        app->name = apps[i]->name;
        app->zone = apps[i]->shm_zone->shm.name;
        app->counters = apps[i]->counters;
        app->backoff = ngx_http_quickblox_zone_backoff(apps[i]);

        app->user = ngx_http_quickblox_status_held(apps[i],
                                             NGX_HTTP_QUICKBLOX_SOURCE_USER,
                                             apps[i]->held[0]);
        app->application = ngx_http_quickblox_status_held(apps[i],
                                       NGX_HTTP_QUICKBLOX_SOURCE_APPLICATION,
                                       apps[i]->held[1]);

        ngx_http_quickblox_status_zone(st, apps[i]->shm_zone);
    }

    return NGX_OK;
}


/* several applications may have one zone */

static void
ngx_http_quickblox_status_zone(ngx_http_quickblox_status_t *st,
    ngx_shm_zone_t *shm_zone)
{
    ngx_uint_t                    i;
    ngx_http_quickblox_report_t  *report;

    report = &st->report;

    for (i = 0; i < report->nzones; i++) {
        if (st->zones[i] == shm_zone) {
            return;
        }
    }

    st->zones[i] = shm_zone;

    report->zones[i].name = shm_zone->shm.name;
    report->zones[i].size = shm_zone->shm.size;

    report->nzones++;
}


/* when the session held expires, 0 where there is none */

static time_t
ngx_http_quickblox_status_held(ngx_http_quickblox_application_t *app,
    ngx_uint_t source, u_char *key)
{
    time_t                            expires;
    ngx_http_quickblox_zone_e         rc;
    ngx_http_quickblox_found_t        found;
    ngx_http_quickblox_credential_t   credential;

    ngx_memzero(&credential, sizeof(ngx_http_quickblox_credential_t));

    credential.source = source;
    ngx_memcpy(credential.key, key, NGX_HTTP_QUICKBLOX_DIGEST_LEN);

    rc = ngx_http_quickblox_zone_get(app, &credential,
                                     NGX_HTTP_QUICKBLOX_ZONE_NO_CREATE
                                     |NGX_HTTP_QUICKBLOX_ZONE_KNOWN, &found);

    expires = (rc == NGX_HTTP_QUICKBLOX_ZONE_HIT) ? found.session.expires : 0;

    ngx_http_quickblox_zone_cleanse(&found);

    return expires;
}


static void
ngx_http_quickblox_status_next(ngx_event_t *ev)
{
    ngx_connection_t             *c;
    ngx_http_request_t           *r;
    ngx_http_quickblox_status_t  *st;

    st = ev->data;
    r = st->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    ngx_http_quickblox_status_count(st);

    ngx_http_run_posted_requests(c);
}


/*
 * A piece of a zone in each turn of the event loop, which others wait for.
 * The timer is for a worker that ends: it waits for nothing else.
 */

static void
ngx_http_quickblox_status_count(ngx_http_quickblox_status_t *st)
{
    ngx_int_t                     rc;
    ngx_http_quickblox_report_t  *report;

    report = &st->report;

    while (st->zone < report->nzones) {

        rc = ngx_http_quickblox_zone_count(st->zones[st->zone], &st->set,
                                           &report->zones[st->zone]);

        if (rc == NGX_AGAIN) {

            if (!st->event.timer_set) {
                ngx_add_timer(&st->event, NGX_HTTP_QUICKBLOX_STATUS_TIMER);
            }

            ngx_post_event(&st->event, &ngx_posted_next_events);
            return;
        }

        st->zone++;
        st->set = 0;
    }

    ngx_http_quickblox_status_stop(st);

    rc = ngx_http_quickblox_status_send(st->request, st);

    ngx_http_finalize_request(st->request, rc);
}


static ngx_int_t
ngx_http_quickblox_status_send(ngx_http_request_t *r,
    ngx_http_quickblox_status_t *st)
{
    u_char                    *p;
    ngx_http_complex_value_t   cv;

    static ngx_str_t  no_store = ngx_string("no-store");
    static ngx_str_t  accept = ngx_string("Accept");

    p = ngx_pnalloc(r->pool,
                    ngx_http_quickblox_report_size(&st->report, st->format));

    if (p == NULL
        || ngx_http_quickblox_add_header(r, "Cache-Control", &no_store) == NULL
        || ngx_http_quickblox_add_header(r, "Vary", &accept) == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));

    cv.value.data = p;
    cv.value.len = ngx_http_quickblox_report_write(p, &st->report, st->format)
                   - p;

    return ngx_http_send_response(r, NGX_HTTP_OK,
                                  &ngx_http_quickblox_status_types[st->format],
                                  &cv);
}
