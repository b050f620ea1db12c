
#include "ngx_http_quickblox_zone.h"


/* applications of a configuration: one for so many bytes of its zone */
#define NGX_HTTP_QUICKBLOX_APP_SIZE      32768
#define NGX_HTTP_QUICKBLOX_APPS_MIN      2
#define NGX_HTTP_QUICKBLOX_APPS_MAX      128

/* of a zone's pages, one in so many at least is for the sessions held */
#define NGX_HTTP_QUICKBLOX_HELD_PART     8

/*
 * Records of sessions held for each application: two sessions, which live on
 * after a reload that changes the credentials, and a quarter more, as a set
 * can be full when the table is not.
 */
#define NGX_HTTP_QUICKBLOX_HELD_RECORDS  5

#define NGX_HTTP_QUICKBLOX_BACKOFF_MAX   60
#define NGX_HTTP_QUICKBLOX_RETRY_MAX     3600

/* new sessions in the place of dropped ones: so many at once, then one a s */
#define NGX_HTTP_QUICKBLOX_DROPS         16

/* s after which an answer that did not move the expiry is asked for again */
#define NGX_HTTP_QUICKBLOX_RENEW_AGAIN   30
#define NGX_HTTP_QUICKBLOX_RENEWALS      2

/* sets that are counted while others wait for the zone */
#define NGX_HTTP_QUICKBLOX_COUNT         64


/* of a session held, in parallel to its record */

typedef struct {
    uint32_t                       created;     /* monotonic seconds */
    uint32_t                       renew;       /* not before */
    uint32_t                       drops;       /* of late */
    uint32_t                       dropped;     /* monotonic seconds */
    uint32_t                       strikes;     /* never accepted, in a row */
    uint32_t                       len;
    u_char                         token[NGX_HTTP_QUICKBLOX_TOKEN_MAX];
    u_char                         spare[40];
} ngx_http_quickblox_held_t;


/*
 * The place of an application, with its state.  "id" is the digest of its
 * name, or zeroes: nobody's.
 */

struct ngx_http_quickblox_share_s {
    u_char                         id[NGX_HTTP_QUICKBLOX_DIGEST_LEN];
    ngx_msec_t                     backoff_until;
    ngx_msec_t                     failed;
    ngx_msec_t                     logged;
    ngx_uint_t                     backoff;     /* seconds, 0: API is well */
    int64_t                        clock;
    ngx_http_quickblox_counters_t  counters;
};


/*
 *   | slab pool | head, shares | held sets | held tokens | client sets |
 *
 * The pointers hold in all processes: a zone that is kept over a reload stays
 * where it is.
 */

typedef struct {
    ngx_uint_t                     layout;
    ngx_http_quickblox_table_t     clients;
    ngx_http_quickblox_table_t     held;
    ngx_http_quickblox_held_t     *tokens;
    ngx_uint_t                     evicted;     /* sessions */
    ngx_uint_t                     nshares;
    ngx_http_quickblox_share_t     shares[1];
} ngx_http_quickblox_zone_head_t;


struct ngx_http_quickblox_zone_s {
    ngx_slab_pool_t                 *shpool;
    ngx_http_quickblox_zone_head_t  *head;
    ngx_array_t                      applications;
                           /* of ngx_http_quickblox_application_t * */
};


static ngx_int_t ngx_http_quickblox_zone_init(ngx_shm_zone_t *shm_zone,
    void *data);
static ngx_int_t ngx_http_quickblox_zone_layout(ngx_shm_zone_t *shm_zone);
static ngx_int_t ngx_http_quickblox_zone_attach(ngx_shm_zone_t *shm_zone,
    ngx_http_quickblox_zone_t *ozone);
static ngx_http_quickblox_share_t *ngx_http_quickblox_zone_share(
    ngx_http_quickblox_zone_t *zone, ngx_http_quickblox_application_t *app);
static ngx_http_quickblox_share_t *ngx_http_quickblox_zone_free_share(
    ngx_http_quickblox_zone_t *zone, ngx_http_quickblox_zone_t *ozone);
static ngx_uint_t ngx_http_quickblox_zone_used(
    ngx_http_quickblox_zone_t *zone, ngx_http_quickblox_share_t *share);
static void ngx_http_quickblox_zone_now(ngx_http_quickblox_now_t *now);
static ngx_http_quickblox_zone_e ngx_http_quickblox_zone_get_client(
    ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, ngx_uint_t flags,
    ngx_http_quickblox_found_t *found, ngx_http_quickblox_now_t *now);
static ngx_http_quickblox_zone_e ngx_http_quickblox_zone_get_held(
    ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, ngx_uint_t flags,
    ngx_http_quickblox_found_t *found, ngx_http_quickblox_now_t *now);
static void ngx_http_quickblox_zone_claim(
    ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential,
    ngx_http_quickblox_record_t *record, ngx_http_quickblox_found_t *found,
    ngx_http_quickblox_now_t *now);
static ngx_http_quickblox_zone_e ngx_http_quickblox_zone_get_people(
    ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, ngx_uint_t flags,
    ngx_http_quickblox_found_t *found, ngx_http_quickblox_now_t *now);
static void ngx_http_quickblox_zone_held_init(
    ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_record_t *record, ngx_http_quickblox_now_t *now);
static void ngx_http_quickblox_zone_renew(
    ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential,
    ngx_http_quickblox_record_t *record, ngx_http_quickblox_held_t *held,
    ngx_http_quickblox_found_t *found, ngx_http_quickblox_now_t *now);
static ngx_http_quickblox_record_t *ngx_http_quickblox_zone_claimed(
    ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t lease);
static ngx_http_quickblox_record_t *ngx_http_quickblox_zone_place(
    ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t lease,
    ngx_http_quickblox_now_t *now);
static void ngx_http_quickblox_zone_store_held(
    ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_record_t *record,
    ngx_http_quickblox_session_t *session, ngx_uint_t created,
    ngx_http_quickblox_now_t *now);
static void ngx_http_quickblox_zone_remove(
    ngx_http_quickblox_table_t *table,
    ngx_http_quickblox_credential_t *credential);
static time_t ngx_http_quickblox_zone_retry_after(
    ngx_http_quickblox_application_t *app);
static uint32_t ngx_http_quickblox_zone_lease(
    ngx_http_quickblox_application_t *app, ngx_http_quickblox_now_t *now);
static void ngx_http_quickblox_zone_copy(ngx_http_quickblox_found_t *found,
    ngx_http_quickblox_record_t *record);
static ngx_http_quickblox_record_t *ngx_http_quickblox_zone_record(
    ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t generation);


#define ngx_http_quickblox_zone_of(app)                                      \
    ((ngx_http_quickblox_zone_t *) (app)->shm_zone->data)

#define ngx_http_quickblox_zone_lock(app)                                    \
    ngx_shmtx_lock(&ngx_http_quickblox_zone_of(app)->shpool->mutex)

#define ngx_http_quickblox_zone_unlock(app)                                  \
    ngx_shmtx_unlock(&ngx_http_quickblox_zone_of(app)->shpool->mutex)

#define ngx_http_quickblox_zone_table(app, credential)                       \
    (ngx_http_quickblox_is_brought((credential)->source)                     \
     ? &ngx_http_quickblox_zone_of(app)->head->clients                       \
     : &ngx_http_quickblox_zone_of(app)->head->held)


ngx_shm_zone_t *
ngx_http_quickblox_zone_add(ngx_conf_t *cf, ngx_str_t *name, size_t size,
    ngx_http_quickblox_application_t *app)
{
    ngx_shm_zone_t                     *shm_zone;
    ngx_http_quickblox_zone_t          *zone;
    ngx_http_quickblox_application_t  **apps;

    if (EVP_Digest(app->name.data, app->name.len, app->share_id, NULL,
                   EVP_sha256(), NULL)
        == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "EVP_Digest() failed");
        return NULL;
    }

    shm_zone = ngx_shared_memory_add(cf, name, size,
                                     &ngx_http_quickblox_module);
    if (shm_zone == NULL) {
        return NULL;
    }

    zone = shm_zone->data;

    if (zone == NULL) {
        zone = ngx_pcalloc(cf->pool, sizeof(ngx_http_quickblox_zone_t));
        if (zone == NULL) {
            return NULL;
        }

        if (ngx_array_init(&zone->applications, cf->pool, 2,
                           sizeof(ngx_http_quickblox_application_t *))
            != NGX_OK)
        {
            return NULL;
        }

        shm_zone->init = ngx_http_quickblox_zone_init;
        shm_zone->data = zone;
    }

    apps = ngx_array_push(&zone->applications);
    if (apps == NULL) {
        return NULL;
    }

    *apps = app;

    return shm_zone;
}


/*
 * A zone that is adopted is in use by old workers, and the reload may fail
 * yet: it is only read, but for places that neither of them uses.
 */

static ngx_int_t
ngx_http_quickblox_zone_init(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_http_quickblox_zone_t  *ozone = data;

    ngx_http_quickblox_zone_t  *zone;

    zone = shm_zone->data;
    zone->shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (ozone) {
        zone->head = ozone->head;

    } else if (shm_zone->shm.exists) {
        zone->head = zone->shpool->data;

    } else if (ngx_http_quickblox_zone_layout(shm_zone) != NGX_OK) {
        return NGX_ERROR;
    }

    if (zone->head->layout != NGX_HTTP_QUICKBLOX_LAYOUT) {
        ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                      "quickblox zone \"%V\" has layout %ui, this module "
                      "needs %d, give the zone another name",
                      &shm_zone->shm.name, zone->head->layout,
                      NGX_HTTP_QUICKBLOX_LAYOUT);
        return NGX_ERROR;
    }

    return ngx_http_quickblox_zone_attach(shm_zone, ozone);
}


static ngx_int_t
ngx_http_quickblox_zone_layout(ngx_shm_zone_t *shm_zone)
{
    size_t                           size, pages;
    ngx_uint_t                       napps, nsets;
    ngx_slab_pool_t                 *shpool;
    ngx_http_quickblox_zone_t       *zone;
    ngx_http_quickblox_zone_head_t  *head;

    zone = shm_zone->data;
    shpool = zone->shpool;

    /* memory that cannot be had is our own mistake below, and told there */
    shpool->log_nomem = 0;

    napps = ngx_min(shm_zone->shm.size / NGX_HTTP_QUICKBLOX_APP_SIZE,
                    NGX_HTTP_QUICKBLOX_APPS_MAX);
    napps = ngx_max(napps, NGX_HTTP_QUICKBLOX_APPS_MIN);

    size = sizeof(ngx_http_quickblox_zone_head_t)
           + (2 * napps - 1) * sizeof(ngx_http_quickblox_share_t);

    head = ngx_slab_calloc(shpool, size);
    if (head == NULL) {
        goto failed;
    }

    pages = shpool->pfree / NGX_HTTP_QUICKBLOX_HELD_PART;
    size = sizeof(ngx_http_quickblox_set_t)
           + NGX_HTTP_QUICKBLOX_WAYS * sizeof(ngx_http_quickblox_held_t);

    nsets = (napps * NGX_HTTP_QUICKBLOX_HELD_RECORDS
             + NGX_HTTP_QUICKBLOX_WAYS - 1) / NGX_HTTP_QUICKBLOX_WAYS;

    head->held.nsets = ngx_max(pages * ngx_pagesize / size, nsets);
    head->held.sets = ngx_slab_calloc(shpool, head->held.nsets * size);
    if (head->held.sets == NULL) {
        goto failed;
    }

    head->tokens = (ngx_http_quickblox_held_t *)
                   (head->held.sets + head->held.nsets);

    size = shpool->pfree * ngx_pagesize;

    head->clients.nsets = size / sizeof(ngx_http_quickblox_set_t);
    if (head->clients.nsets == 0) {
        goto failed;
    }

    head->clients.sets = ngx_slab_calloc(shpool, size);
    if (head->clients.sets == NULL) {
        goto failed;
    }

    head->nshares = 2 * napps;
    head->layout = NGX_HTTP_QUICKBLOX_LAYOUT;

    shpool->data = head;
    zone->head = head;

    return NGX_OK;

failed:

    ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                  "quickblox zone \"%V\" of %uz bytes is too small",
                  &shm_zone->shm.name, shm_zone->shm.size);
    return NGX_ERROR;
}


/*
 * An application finds its place by its name.  There are places for twice as
 * many as a configuration may have: the one that runs and the next may have
 * no name in common.  What has a place and is of neither, it is gone or came
 * with a reload that was refused, gives it up when it is needed; the workers
 * of a yet older configuration write to it at most what their last calls say.
 */

static ngx_int_t
ngx_http_quickblox_zone_attach(ngx_shm_zone_t *shm_zone,
    ngx_http_quickblox_zone_t *ozone)
{
    ngx_uint_t                          i, max;
    ngx_http_quickblox_zone_t          *zone;
    ngx_http_quickblox_application_t  **apps;

    zone = shm_zone->data;
    apps = zone->applications.elts;
    max = zone->head->nshares / 2;

    if (zone->applications.nelts > max) {
        ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                      "quickblox zone \"%V\" of %uz bytes has no place for "
                      "application \"%V\" in %s:%ui, it holds %ui: make it "
                      "larger or write another \"zone\"",
                      &shm_zone->shm.name, shm_zone->shm.size,
                      &apps[max]->name, apps[max]->file, apps[max]->line,
                      max);
        return NGX_ERROR;
    }

    ngx_shmtx_lock(&zone->shpool->mutex);

    /* first those that have a place, so that nobody else takes it */

    for (i = 0; i < zone->applications.nelts; i++) {
        apps[i]->share = ngx_http_quickblox_zone_share(zone, apps[i]);
    }

    for (i = 0; i < zone->applications.nelts; i++) {

        if (apps[i]->share == NULL) {
            apps[i]->share = ngx_http_quickblox_zone_free_share(zone, ozone);

            ngx_memzero(apps[i]->share, sizeof(ngx_http_quickblox_share_t));
            ngx_memcpy(apps[i]->share->id, apps[i]->share_id,
                       NGX_HTTP_QUICKBLOX_DIGEST_LEN);
        }

        apps[i]->counters = &apps[i]->share->counters;
    }

    ngx_shmtx_unlock(&zone->shpool->mutex);

    return NGX_OK;
}


static ngx_http_quickblox_share_t *
ngx_http_quickblox_zone_share(ngx_http_quickblox_zone_t *zone,
    ngx_http_quickblox_application_t *app)
{
    ngx_uint_t                   i;
    ngx_http_quickblox_share_t  *share;

    share = zone->head->shares;

    for (i = 0; i < zone->head->nshares; i++) {

        if (ngx_memcmp(share[i].id, app->share_id,
                       NGX_HTTP_QUICKBLOX_DIGEST_LEN)
            == 0)
        {
            return &share[i];
        }
    }

    return NULL;
}


/*
 * Never NULL, see above.  A place that was never taken is preferred: who has
 * gone may come back, and then knows of its back-off and the API's clock.
 */

static ngx_http_quickblox_share_t *
ngx_http_quickblox_zone_free_share(ngx_http_quickblox_zone_t *zone,
    ngx_http_quickblox_zone_t *ozone)
{
    ngx_uint_t                   i;
    ngx_http_quickblox_share_t  *share, *gone;

    static u_char  nobody[NGX_HTTP_QUICKBLOX_DIGEST_LEN];

    gone = NULL;
    share = zone->head->shares;

    for (i = 0; i < zone->head->nshares; i++) {

        if (ngx_memcmp(share[i].id, nobody, NGX_HTTP_QUICKBLOX_DIGEST_LEN)
            == 0)
        {
            return &share[i];
        }

        if (!ngx_http_quickblox_zone_used(zone, &share[i])
            && (ozone == NULL
                || !ngx_http_quickblox_zone_used(ozone, &share[i])))
        {
            gone = &share[i];
        }
    }

    return gone;
}


static ngx_uint_t
ngx_http_quickblox_zone_used(ngx_http_quickblox_zone_t *zone,
    ngx_http_quickblox_share_t *share)
{
    ngx_uint_t                          i;
    ngx_http_quickblox_application_t  **apps;

    apps = zone->applications.elts;

    for (i = 0; i < zone->applications.nelts; i++) {

        if (apps[i]->share == share) {
            return 1;
        }
    }

    return 0;
}


static void
ngx_http_quickblox_zone_now(ngx_http_quickblox_now_t *now)
{
    now->unix_sec = (uint32_t) ngx_time();
    now->sec = (uint32_t) (ngx_current_msec / 1000);
    now->msec = (uint32_t) ngx_current_msec;
}


ngx_http_quickblox_zone_e
ngx_http_quickblox_zone_get(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, ngx_uint_t flags,
    ngx_http_quickblox_found_t *found)
{
    ngx_http_quickblox_now_t   now;
    ngx_http_quickblox_zone_e  rc;

    ngx_memzero(&found->session, sizeof(ngx_http_quickblox_session_t));

    found->ask = NGX_HTTP_QUICKBLOX_ASK_NOTHING;
    found->lease = 0;
    found->retry_after = 0;

    ngx_http_quickblox_zone_now(&now);

    ngx_http_quickblox_zone_lock(app);

    if (ngx_http_quickblox_is_brought(credential->source)) {
        found->session.token = credential->token;
        rc = ngx_http_quickblox_zone_get_client(app, credential, flags, found,
                                                &now);
    } else {
        rc = ngx_http_quickblox_zone_get_held(app, credential, flags, found,
                                              &now);
    }

    ngx_http_quickblox_zone_unlock(app);

    return rc;
}


void
ngx_http_quickblox_zone_cleanse(ngx_http_quickblox_found_t *found)
{
    if (found->session.token.data == found->token) {
        ngx_explicit_memzero(found->token, found->session.token.len);
    }
}


static ngx_http_quickblox_zone_e
ngx_http_quickblox_zone_get_client(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, ngx_uint_t flags,
    ngx_http_quickblox_found_t *found, ngx_http_quickblox_now_t *now)
{
    ngx_http_quickblox_record_t  *record;

    record = ngx_http_quickblox_table_find(
                              &ngx_http_quickblox_zone_of(app)->head->clients,
                              credential->key);

    if (record && record->state == NGX_HTTP_QUICKBLOX_VALID
        && now->unix_sec < record->expires && now->sec < record->valid
        && !(record->flags & NGX_HTTP_QUICKBLOX_SUSPECT)
        && !((flags & NGX_HTTP_QUICKBLOX_ZONE_FORCE)
             && ((flags & NGX_HTTP_QUICKBLOX_ZONE_ANEW)
                 || now->sec - record->checked
                    >= (uint32_t) app->cache_invalid)))
    {
        ngx_http_quickblox_zone_copy(found, record);
        return NGX_HTTP_QUICKBLOX_ZONE_HIT;
    }

    if (record && record->state == NGX_HTTP_QUICKBLOX_REJECTED
        && now->sec < record->valid)
    {
        return (record->flags & NGX_HTTP_QUICKBLOX_FOREIGN)
               ? NGX_HTTP_QUICKBLOX_ZONE_FOREIGN
               : NGX_HTTP_QUICKBLOX_ZONE_REJECTED;
    }

    if (record && ngx_http_quickblox_table_leased(record, now)) {
        found->lease = record->lease;
        return NGX_HTTP_QUICKBLOX_ZONE_WAIT;
    }

    found->retry_after = ngx_http_quickblox_zone_retry_after(app);

    if (found->retry_after) {

        if (record && record->state == NGX_HTTP_QUICKBLOX_VALID
            && !(flags & NGX_HTTP_QUICKBLOX_ZONE_FORCE)
            && now->unix_sec < record->expires
            && now->sec < record->valid + (uint32_t) app->cache_stale
            && !(record->flags & NGX_HTTP_QUICKBLOX_SUSPECT))
        {
            ngx_http_quickblox_zone_copy(found, record);
            return NGX_HTTP_QUICKBLOX_ZONE_STALE;
        }

        return NGX_HTTP_QUICKBLOX_ZONE_BACKOFF;
    }

    if (record && record->state == NGX_HTTP_QUICKBLOX_VALID) {
        ngx_http_quickblox_zone_copy(found, record);
    }

    found->ask = NGX_HTTP_QUICKBLOX_ASK_VALIDATE;

    ngx_http_quickblox_zone_claim(app, credential, record, found, now);

    return NGX_HTTP_QUICKBLOX_ZONE_CLAIMED;
}


/* what is not known to be a session yet has a record among the clients' */

static void
ngx_http_quickblox_zone_claim(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential,
    ngx_http_quickblox_record_t *record, ngx_http_quickblox_found_t *found,
    ngx_http_quickblox_now_t *now)
{
    ngx_uint_t                   evicted;
    ngx_http_quickblox_table_t  *table;

    table = &ngx_http_quickblox_zone_of(app)->head->clients;

    if (record && record->state == NGX_HTTP_QUICKBLOX_REJECTED) {
        ngx_http_quickblox_table_remove(table, record);
        record = NULL;
    }

    if (record == NULL) {
        record = ngx_http_quickblox_table_insert(table, credential->key, 0,
                                                 now, &evicted);
    }

    if (record) {
        found->lease = ngx_http_quickblox_zone_lease(app, now);
        record->lease = found->lease;
    }
}


/* the first session of one of many users: no place is kept for a wrong one */

static ngx_http_quickblox_zone_e
ngx_http_quickblox_zone_get_people(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, ngx_uint_t flags,
    ngx_http_quickblox_found_t *found, ngx_http_quickblox_now_t *now)
{
    ngx_http_quickblox_record_t  *record;

    record = ngx_http_quickblox_table_find(
                              &ngx_http_quickblox_zone_of(app)->head->clients,
                              credential->key);

    if (record && record->state == NGX_HTTP_QUICKBLOX_REJECTED
        && now->sec < record->valid)
    {
        return NGX_HTTP_QUICKBLOX_ZONE_REJECTED;
    }

    if (flags & NGX_HTTP_QUICKBLOX_ZONE_NO_CREATE) {
        return NGX_HTTP_QUICKBLOX_ZONE_NONE;
    }

    if (record && ngx_http_quickblox_table_leased(record, now)) {
        found->lease = record->lease;
        return NGX_HTTP_QUICKBLOX_ZONE_WAIT;
    }

    found->retry_after = ngx_http_quickblox_zone_retry_after(app);

    if (found->retry_after) {
        return NGX_HTTP_QUICKBLOX_ZONE_BACKOFF;
    }

    found->ask = NGX_HTTP_QUICKBLOX_ASK_CREATE;

    ngx_http_quickblox_zone_claim(app, credential, record, found, now);

    return NGX_HTTP_QUICKBLOX_ZONE_CLAIMED;
}


static ngx_http_quickblox_zone_e
ngx_http_quickblox_zone_get_held(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, ngx_uint_t flags,
    ngx_http_quickblox_found_t *found, ngx_http_quickblox_now_t *now)
{
    ngx_uint_t                       evicted, valid, proved, forced;
    ngx_http_quickblox_held_t       *held;
    ngx_http_quickblox_record_t     *record;
    ngx_http_quickblox_zone_head_t  *head;

    head = ngx_http_quickblox_zone_of(app)->head;
    record = ngx_http_quickblox_table_find(&head->held, credential->key);

    if (record == NULL && ngx_http_quickblox_is_people(credential->source)) {
        return ngx_http_quickblox_zone_get_people(app, credential, flags,
                                                  found, now);
    }

    held = NULL;
    valid = 0;
    proved = 0;

    if (record) {
        held = &head->tokens[ngx_http_quickblox_table_index(&head->held,
                                                            record)];
        valid = record->state == NGX_HTTP_QUICKBLOX_VALID
                && now->unix_sec < record->expires;

        /* a password has to be proved from time to time */

        proved = credential->source != NGX_HTTP_QUICKBLOX_SOURCE_BASIC
                 || now->sec - held->created < (uint32_t) app->basic_valid;
    }

    if (valid) {
        ngx_memcpy(found->token, held->token, held->len);
        found->session.token.data = found->token;
        found->session.token.len = held->len;

        ngx_http_quickblox_zone_copy(found, record);

        if (flags & NGX_HTTP_QUICKBLOX_ZONE_KNOWN) {
            return NGX_HTTP_QUICKBLOX_ZONE_HIT;
        }

        forced = (flags & NGX_HTTP_QUICKBLOX_ZONE_FORCE)
                 && now->sec - record->checked >= (uint32_t) app->cache_invalid
                 && ngx_http_quickblox_zone_retry_after(app) == 0;

        if (proved && !forced
            && !(record->flags & NGX_HTTP_QUICKBLOX_SUSPECT))
        {
            /* a renewal may end in a login */

            if (!(flags & (NGX_HTTP_QUICKBLOX_ZONE_NO_RENEW
                           |NGX_HTTP_QUICKBLOX_ZONE_NO_CREATE)))
            {
                ngx_http_quickblox_zone_renew(app, credential, record, held,
                                              found, now);
            }

            return NGX_HTTP_QUICKBLOX_ZONE_HIT;
        }
    }

    if (!valid && (flags & NGX_HTTP_QUICKBLOX_ZONE_NO_CREATE)) {
        return NGX_HTTP_QUICKBLOX_ZONE_NONE;
    }

    if (record && ngx_http_quickblox_table_leased(record, now)) {
        found->lease = record->lease;
        return NGX_HTTP_QUICKBLOX_ZONE_WAIT;
    }

    found->retry_after = ngx_http_quickblox_zone_retry_after(app);

    if (found->retry_after) {

        if (valid && !(record->flags & NGX_HTTP_QUICKBLOX_SUSPECT)
            && now->sec - held->created < (uint32_t) (app->basic_valid
                                                      + app->cache_stale))
        {
            return NGX_HTTP_QUICKBLOX_ZONE_STALE;
        }

        return NGX_HTTP_QUICKBLOX_ZONE_BACKOFF;
    }

    if (!proved && (flags & NGX_HTTP_QUICKBLOX_ZONE_NO_CREATE)) {
        return NGX_HTTP_QUICKBLOX_ZONE_NONE;
    }

    found->ask = (valid && proved) ? NGX_HTTP_QUICKBLOX_ASK_VALIDATE
                                   : NGX_HTTP_QUICKBLOX_ASK_CREATE;

    if (record == NULL) {
        record = ngx_http_quickblox_table_insert(&head->held, credential->key,
                                                 1, now, &evicted);
        head->evicted += evicted;

        if (record) {
            ngx_http_quickblox_zone_held_init(app, record, now);
            record->flags = NGX_HTTP_QUICKBLOX_PINNED;
        }
    }

    if (record) {
        found->lease = ngx_http_quickblox_zone_lease(app, now);
        record->lease = found->lease;
    }

    return NGX_HTTP_QUICKBLOX_ZONE_CLAIMED;
}


static void
ngx_http_quickblox_zone_held_init(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_record_t *record, ngx_http_quickblox_now_t *now)
{
    ngx_http_quickblox_held_t       *held;
    ngx_http_quickblox_zone_head_t  *head;

    head = ngx_http_quickblox_zone_of(app)->head;
    held = &head->tokens[ngx_http_quickblox_table_index(&head->held, record)];

    ngx_memzero(held, sizeof(ngx_http_quickblox_held_t));

    /* a number that no request under an earlier record has seen */
    record->generation = now->msec;
}


/*
 * The date of GET /session.json may show the expiry before the call slid it:
 * an answer that did not move is asked for once more, then a new session is
 * made before the old one ends.
 */

static void
ngx_http_quickblox_zone_renew(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential,
    ngx_http_quickblox_record_t *record, ngx_http_quickblox_held_t *held,
    ngx_http_quickblox_found_t *found, ngx_http_quickblox_now_t *now)
{
    time_t  again;

    if ((time_t) (record->expires - now->unix_sec) >= app->refresh_before
        || now->sec < held->renew
        || ngx_http_quickblox_table_leased(record, now)
        || ngx_http_quickblox_zone_retry_after(app))
    {
        return;
    }

    if (record->renewals < NGX_HTTP_QUICKBLOX_RENEWALS
        && credential->source != NGX_HTTP_QUICKBLOX_SOURCE_BASIC)
    {
        /* sooner where the time is short: all of them fit into it */

        again = ngx_min(app->refresh_before / 4,
                        NGX_HTTP_QUICKBLOX_RENEW_AGAIN);

        record->renewals++;
        held->renew = now->sec + (uint32_t) ngx_max(again, 1);
        found->ask = NGX_HTTP_QUICKBLOX_ASK_VALIDATE;

    } else {
        found->ask = NGX_HTTP_QUICKBLOX_ASK_CREATE;
    }

    found->lease = ngx_http_quickblox_zone_lease(app, now);
    record->lease = found->lease;
}


void
ngx_http_quickblox_zone_store(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t lease,
    ngx_http_quickblox_session_t *session, ngx_uint_t created)
{
    ngx_http_quickblox_now_t      now;
    ngx_http_quickblox_record_t  *record;

    ngx_http_quickblox_zone_now(&now);

    session->checked = now.sec;

    ngx_http_quickblox_zone_lock(app);

    record = ngx_http_quickblox_zone_place(app, credential, lease, &now);

    if (record == NULL) {
        goto done;
    }

    if (!ngx_http_quickblox_is_brought(credential->source)) {
        ngx_http_quickblox_zone_store_held(app, record, session, created,
                                           &now);
        goto done;
    }

    /*
     * not trusted while its fields are of two answers: "expires" goes last, as
     * soon after a start "valid" 0 is not older than cache_stale
     */

    record->expires = 0;
    ngx_memory_barrier();

    record->user_id = session->user_id;
    record->valid = now.sec + (uint32_t) app->cache_valid;
    record->checked = now.sec;
    record->lease = 0;
    record->generation++;
    record->flags &= ~NGX_HTTP_QUICKBLOX_SUSPECT;
    record->state = NGX_HTTP_QUICKBLOX_VALID;

    session->generation = record->generation;

    ngx_memory_barrier();
    record->expires = (uint32_t) session->expires;

done:

    ngx_http_quickblox_zone_unlock(app);
}


/* the record that was claimed under a lease, in either table */

static ngx_http_quickblox_record_t *
ngx_http_quickblox_zone_claimed(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t lease)
{
    ngx_http_quickblox_record_t  *record;

    record = ngx_http_quickblox_table_find(
                               ngx_http_quickblox_zone_table(app, credential),
                               credential->key);

    if (record == NULL && ngx_http_quickblox_is_people(credential->source)) {
        record = ngx_http_quickblox_table_find(
                              &ngx_http_quickblox_zone_of(app)->head->clients,
                              credential->key);
    }

    return record && record->lease == lease ? record : NULL;
}


/* NULL: it was forgotten, is another's by now, or there is no room */

static ngx_http_quickblox_record_t *
ngx_http_quickblox_zone_place(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t lease,
    ngx_http_quickblox_now_t *now)
{
    ngx_uint_t                       evicted;
    ngx_http_quickblox_table_t      *table;
    ngx_http_quickblox_record_t     *record;
    ngx_http_quickblox_zone_head_t  *head;

    head = ngx_http_quickblox_zone_of(app)->head;
    table = ngx_http_quickblox_zone_table(app, credential);

    if (lease) {
        record = ngx_http_quickblox_zone_claimed(app, credential, lease);

        if (record == NULL || ngx_http_quickblox_table_find(table,
                                                            credential->key))
        {
            return record;
        }

        ngx_http_quickblox_table_remove(&head->clients, record);

    } else if (ngx_http_quickblox_table_find(table, credential->key)) {
        return NULL;
    }

    record = ngx_http_quickblox_table_insert(table, credential->key, 1, now,
                                             &evicted);
    head->evicted += evicted;

    if (record && table == &head->held) {
        ngx_http_quickblox_zone_held_init(app, record, now);
    }

    return record;
}


static void
ngx_http_quickblox_zone_store_held(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_record_t *record,
    ngx_http_quickblox_session_t *session, ngx_uint_t created,
    ngx_http_quickblox_now_t *now)
{
    ngx_http_quickblox_held_t       *held;
    ngx_http_quickblox_zone_head_t  *head;

    head = ngx_http_quickblox_zone_of(app)->head;
    held = &head->tokens[ngx_http_quickblox_table_index(&head->held, record)];

    if (created) {

        /* a worker that dies here leaves a session that has ended */

        record->expires = 0;
        ngx_memory_barrier();

        ngx_memcpy(held->token, session->token.data, session->token.len);
        held->len = session->token.len;
        held->created = now->sec;
        held->renew = 0;

        record->generation++;
        record->renewals = 0;
        record->flags &= NGX_HTTP_QUICKBLOX_PINNED;

    } else if (session->expires - now->unix_sec >= app->refresh_before) {
        held->renew = 0;
        record->renewals = 0;
    }

    record->user_id = session->user_id;
    record->checked = now->sec;
    record->lease = 0;
    record->flags &= ~(NGX_HTTP_QUICKBLOX_SUSPECT|NGX_HTTP_QUICKBLOX_TOLD);
    record->state = NGX_HTTP_QUICKBLOX_VALID;

    session->generation = record->generation;
    session->proved = (record->flags & NGX_HTTP_QUICKBLOX_PROVED) != 0;

    ngx_memory_barrier();
    record->expires = (uint32_t) session->expires;
}


ngx_uint_t
ngx_http_quickblox_zone_reject(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t lease,
    ngx_uint_t foreign, time_t valid)
{
    ngx_uint_t                       evicted, ended;
    ngx_http_quickblox_now_t         now;
    ngx_http_quickblox_record_t     *record;
    ngx_http_quickblox_zone_head_t  *head;

    ended = 0;
    head = ngx_http_quickblox_zone_of(app)->head;

    ngx_http_quickblox_zone_now(&now);

    ngx_http_quickblox_zone_lock(app);

    if (lease) {
        record = ngx_http_quickblox_zone_claimed(app, credential, lease);
        if (record == NULL) {
            goto done;
        }

        /* a session that was known, whenever it was to end */

        ended = record->state == NGX_HTTP_QUICKBLOX_VALID;

        /* a new one counts against the share of what is no session */

        ngx_http_quickblox_zone_remove(&head->clients, credential);

        if (!ngx_http_quickblox_is_brought(credential->source)) {
            ngx_http_quickblox_zone_remove(&head->held, credential);
        }
    }

    if (valid == 0
        || ngx_http_quickblox_table_find(&head->clients, credential->key))
    {
        goto done;
    }

    record = ngx_http_quickblox_table_insert(&head->clients, credential->key,
                                             0, &now, &evicted);
    if (record) {
        record->valid = now.sec + (uint32_t) valid;
        record->flags = foreign ? NGX_HTTP_QUICKBLOX_FOREIGN : 0;

        /* until then it is PENDING and nobody asks */

        ngx_memory_barrier();
        record->state = NGX_HTTP_QUICKBLOX_REJECTED;
    }

done:

    ngx_http_quickblox_zone_unlock(app);

    return ended;
}


static void
ngx_http_quickblox_zone_remove(ngx_http_quickblox_table_t *table,
    ngx_http_quickblox_credential_t *credential)
{
    ngx_http_quickblox_record_t  *record;

    record = ngx_http_quickblox_table_find(table, credential->key);
    if (record) {
        ngx_http_quickblox_table_remove(table, record);
    }
}


ngx_int_t
ngx_http_quickblox_zone_ended(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t lease)
{
    ngx_int_t                     rc;
    ngx_http_quickblox_record_t  *record;

    rc = NGX_DECLINED;

    ngx_http_quickblox_zone_lock(app);

    /* one that was dropped has lost its lease */

    record = ngx_http_quickblox_zone_claimed(app, credential, lease);

    if (record) {
        rc = (record->flags & NGX_HTTP_QUICKBLOX_TOLD) ? NGX_DONE : NGX_OK;
        record->flags |= NGX_HTTP_QUICKBLOX_TOLD;
    }

    ngx_http_quickblox_zone_unlock(app);

    return rc;
}


void
ngx_http_quickblox_zone_release(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t lease)
{
    ngx_http_quickblox_record_t  *record;

    if (lease == 0) {
        return;
    }

    ngx_http_quickblox_zone_lock(app);

    record = ngx_http_quickblox_zone_claimed(app, credential, lease);

    if (record) {
        record->lease = 0;

        /* one held is never PENDING, and knows when the last were made */

        if (record->state == NGX_HTTP_QUICKBLOX_PENDING) {
            ngx_http_quickblox_table_remove(
                              &ngx_http_quickblox_zone_of(app)->head->clients,
                              record);
        }
    }

    ngx_http_quickblox_zone_unlock(app);
}


ngx_int_t
ngx_http_quickblox_zone_drop(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t generation)
{
    uint32_t                         age, wait;
    ngx_int_t                        rc;
    ngx_http_quickblox_now_t         now;
    ngx_http_quickblox_held_t       *held;
    ngx_http_quickblox_record_t     *record;
    ngx_http_quickblox_zone_head_t  *head;

    rc = NGX_DONE;
    head = ngx_http_quickblox_zone_of(app)->head;

    ngx_http_quickblox_zone_now(&now);

    ngx_http_quickblox_zone_lock(app);

    if (ngx_http_quickblox_is_brought(credential->source)) {

        /*
         * whatever is under way knows less than the one who drops; a look-up
         * in flight finds its claim gone and records nothing
         */

        record = ngx_http_quickblox_table_find(&head->clients,
                                               credential->key);
        if (record) {

            if (record->state == NGX_HTTP_QUICKBLOX_VALID) {
                rc = NGX_OK;
            }

            ngx_http_quickblox_table_remove(&head->clients, record);
        }

        goto done;
    }

    record = ngx_http_quickblox_zone_record(app, credential, generation);

    if (record == NULL || record->expires == 0) {
        goto done;
    }

    held = &head->tokens[ngx_http_quickblox_table_index(&head->held, record)];

    age = now.sec - held->dropped;
    held->drops = held->drops > age ? held->drops - age : 0;
    held->dropped = now.sec;

    if (record->flags & NGX_HTTP_QUICKBLOX_PROVED) {
        wait = held->drops < NGX_HTTP_QUICKBLOX_DROPS ? 0 : 1;
        held->strikes = 0;

    } else if (held->strikes) {
        wait = ngx_min(1U << ngx_min(held->strikes - 1, 6),
                       NGX_HTTP_QUICKBLOX_BACKOFF_MAX);
    } else {
        wait = 0;
    }

    if (now.sec - held->created < wait) {
        rc = NGX_DECLINED;
        goto done;
    }

    if (!(record->flags & NGX_HTTP_QUICKBLOX_PROVED)) {
        held->strikes++;
    }

    held->drops++;

    rc = (record->flags & NGX_HTTP_QUICKBLOX_TOLD) ? NGX_DONE : NGX_OK;

    record->expires = 0;

    /* a look-up may still say that it lives, but not once it is made anew */

    if (rc == NGX_OK) {
        record->lease = 0;
    }

done:

    ngx_http_quickblox_zone_unlock(app);

    return rc;
}


void
ngx_http_quickblox_zone_suspect(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t generation)
{
    ngx_http_quickblox_record_t  *record;

    ngx_http_quickblox_zone_lock(app);

    record = ngx_http_quickblox_zone_record(app, credential, generation);
    if (record) {
        record->flags |= NGX_HTTP_QUICKBLOX_SUSPECT;
    }

    ngx_http_quickblox_zone_unlock(app);
}


void
ngx_http_quickblox_zone_prove(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t generation)
{
    ngx_http_quickblox_record_t  *record;

    ngx_http_quickblox_zone_lock(app);

    record = ngx_http_quickblox_zone_record(app, credential, generation);
    if (record) {
        record->flags |= NGX_HTTP_QUICKBLOX_PROVED;
    }

    ngx_http_quickblox_zone_unlock(app);
}


void
ngx_http_quickblox_zone_slide(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t generation,
    time_t expires)
{
    ngx_http_quickblox_record_t  *record;

    ngx_http_quickblox_zone_lock(app);

    record = ngx_http_quickblox_zone_record(app, credential, generation);

    /* one that was dropped stays so: an answer may be older than its end */

    if (record && record->state == NGX_HTTP_QUICKBLOX_VALID
        && record->expires)
    {
        record->expires = (uint32_t) expires;
    }

    ngx_http_quickblox_zone_unlock(app);
}


ngx_http_quickblox_log_e
ngx_http_quickblox_zone_failed(ngx_http_quickblox_application_t *app,
    ngx_msec_t started, time_t retry_after)
{
    ngx_http_quickblox_log_e     rc;
    ngx_http_quickblox_share_t  *share;

    share = app->share;

    ngx_http_quickblox_zone_lock(app);

    if (share->backoff == 0) {
        share->backoff = 1;
        rc = NGX_HTTP_QUICKBLOX_LOG_START;

    } else {

        /* calls that failed together are one failure */

        if ((ngx_msec_int_t) (started - share->failed) > 0) {
            share->backoff = ngx_min(share->backoff * 2,
                                     NGX_HTTP_QUICKBLOX_BACKOFF_MAX);
        }

        rc = ngx_current_msec - share->logged >= 60000
             ? NGX_HTTP_QUICKBLOX_LOG_AGAIN : NGX_HTTP_QUICKBLOX_LOG_NOTHING;
    }

    if (rc != NGX_HTTP_QUICKBLOX_LOG_NOTHING) {
        share->logged = ngx_current_msec;
    }

    share->failed = ngx_current_msec;

    retry_after = ngx_min(retry_after, NGX_HTTP_QUICKBLOX_RETRY_MAX);
    retry_after = ngx_max(retry_after, (time_t) share->backoff);

    share->backoff_until = ngx_current_msec + retry_after * 1000;

    ngx_http_quickblox_zone_unlock(app);

    return rc;
}


ngx_http_quickblox_log_e
ngx_http_quickblox_zone_succeeded(ngx_http_quickblox_application_t *app)
{
    ngx_http_quickblox_log_e     rc;
    ngx_http_quickblox_share_t  *share;

    rc = NGX_HTTP_QUICKBLOX_LOG_NOTHING;
    share = app->share;

    share->counters.succeeded = ngx_time();

    ngx_http_quickblox_zone_lock(app);

    if (share->backoff) {
        share->backoff = 0;
        share->backoff_until = ngx_current_msec;
        rc = NGX_HTTP_QUICKBLOX_LOG_END;
    }

    ngx_http_quickblox_zone_unlock(app);

    return rc;
}


ngx_http_quickblox_log_e
ngx_http_quickblox_zone_odd(ngx_http_quickblox_application_t *app)
{
    ngx_http_quickblox_log_e     rc;
    ngx_http_quickblox_share_t  *share;

    rc = NGX_HTTP_QUICKBLOX_LOG_NOTHING;
    share = app->share;

    ngx_http_quickblox_zone_lock(app);

    if (share->logged == 0 || ngx_current_msec - share->logged >= 60000) {
        share->logged = ngx_current_msec;
        rc = NGX_HTTP_QUICKBLOX_LOG_AGAIN;
    }

    ngx_http_quickblox_zone_unlock(app);

    return rc;
}


time_t
ngx_http_quickblox_zone_backoff(ngx_http_quickblox_application_t *app)
{
    time_t  retry_after;

    ngx_http_quickblox_zone_lock(app);

    retry_after = ngx_http_quickblox_zone_retry_after(app);

    ngx_http_quickblox_zone_unlock(app);

    return retry_after;
}


ngx_int_t
ngx_http_quickblox_zone_count(ngx_shm_zone_t *shm_zone, ngx_uint_t *set,
    ngx_http_quickblox_report_zone_t *report)
{
    size_t                           size;
    ngx_int_t                        rc;
    ngx_uint_t                       i;
    ngx_http_quickblox_now_t         now;
    ngx_http_quickblox_zone_t       *zone;
    ngx_http_quickblox_count_t       count;
    ngx_http_quickblox_zone_head_t  *head;

    zone = shm_zone->data;
    head = zone->head;

    /* of a session held, the record and the token */

    size = sizeof(ngx_http_quickblox_set_t) / NGX_HTTP_QUICKBLOX_WAYS
           + sizeof(ngx_http_quickblox_held_t);

    if (*set == 0) {
        report->capacity = head->clients.nsets * NGX_HTTP_QUICKBLOX_WAYS;
        report->held_free = head->held.nsets * NGX_HTTP_QUICKBLOX_WAYS * size;
    }

    ngx_memzero(&count, sizeof(ngx_http_quickblox_count_t));
    ngx_http_quickblox_zone_now(&now);

    ngx_shmtx_lock(&zone->shpool->mutex);

    if (*set < head->held.nsets) {
        (void) ngx_http_quickblox_table_count(&head->held, set,
                                              NGX_HTTP_QUICKBLOX_COUNT, &now,
                                              &count);
        report->held_free -= count.valid * size;
        rc = NGX_AGAIN;

    } else {
        i = *set - head->held.nsets;
        rc = ngx_http_quickblox_table_count(&head->clients, &i,
                                            NGX_HTTP_QUICKBLOX_COUNT, &now,
                                            &count);
        *set = i + head->held.nsets;
    }

    report->sessions += count.valid;
    report->rejections += count.rejected;
    report->evicted = head->evicted;

    ngx_shmtx_unlock(&zone->shpool->mutex);

    return rc;
}


time_t
ngx_http_quickblox_zone_clock(ngx_http_quickblox_application_t *app)
{
    time_t  offset;

    ngx_http_quickblox_zone_lock(app);

    offset = (time_t) app->share->clock;

    ngx_http_quickblox_zone_unlock(app);

    return offset;
}


void
ngx_http_quickblox_zone_set_clock(ngx_http_quickblox_application_t *app,
    time_t offset)
{
    ngx_http_quickblox_zone_lock(app);

    app->share->clock = offset;

    ngx_http_quickblox_zone_unlock(app);
}


static time_t
ngx_http_quickblox_zone_retry_after(ngx_http_quickblox_application_t *app)
{
    ngx_msec_int_t  rest;

    if (app->share->backoff == 0) {
        return 0;
    }

    rest = (ngx_msec_int_t) (app->share->backoff_until - ngx_current_msec);

    return rest > 0 ? (rest + 999) / 1000 : 0;
}


static uint32_t
ngx_http_quickblox_zone_lease(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_now_t *now)
{
    uint32_t  lease;

    lease = now->msec + (uint32_t) app->timeout;

    /* 0 means that nobody asks */

    return lease ? lease : 1;
}


static void
ngx_http_quickblox_zone_copy(ngx_http_quickblox_found_t *found,
    ngx_http_quickblox_record_t *record)
{
    found->session.user_id = record->user_id;
    found->session.expires = record->expires;
    found->session.generation = record->generation;
    found->session.checked = record->checked;
    found->session.proved = (record->flags & NGX_HTTP_QUICKBLOX_PROVED) != 0;
}


/* a record that is still of the generation which the caller knows */

static ngx_http_quickblox_record_t *
ngx_http_quickblox_zone_record(ngx_http_quickblox_application_t *app,
    ngx_http_quickblox_credential_t *credential, uint32_t generation)
{
    ngx_http_quickblox_record_t  *record;

    record = ngx_http_quickblox_table_find(
                 ngx_http_quickblox_zone_table(app, credential),
                 credential->key);

    if (record == NULL || record->generation != generation) {
        return NULL;
    }

    return record;
}
