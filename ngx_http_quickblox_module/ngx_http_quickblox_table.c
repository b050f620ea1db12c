
/*
 * The table of sessions: see ngx_http_quickblox_table.h for its layout.
 *
 * A digest is used in parts, each for one purpose only:
 *
 *    bytes 0 .. 7     the first candidate set
 *    bytes 8 .. 11    the tag
 *    byte 12          where the clock hand starts
 *    bytes 16 .. 23   the second candidate set
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_quickblox_table.h"


/* milliseconds; what seems to last longer ended before the clock wrapped */
#define NGX_HTTP_QUICKBLOX_LEASE_MAX  600000


#if (__GNUC__)
#define ngx_http_quickblox_prefetch(p)  __builtin_prefetch(p)
#else
#define ngx_http_quickblox_prefetch(p)
#endif


/* what a set can offer to a new record */

typedef struct {
    ngx_http_quickblox_record_t  *record;   /* NULL if only by evicting */
    ngx_uint_t                    free;
} ngx_http_quickblox_room_t;


static uint32_t ngx_http_quickblox_table_tag(u_char *digest);
static ngx_http_quickblox_set_t *ngx_http_quickblox_table_set(
    ngx_http_quickblox_table_t *table, u_char *part);
static ngx_uint_t ngx_http_quickblox_table_candidates(
    ngx_http_quickblox_table_t *table, u_char *digest,
    ngx_http_quickblox_set_t **sets);
static ngx_uint_t ngx_http_quickblox_table_equal(u_char *a, u_char *b);
static ngx_http_quickblox_record_t *ngx_http_quickblox_table_lookup(
    ngx_http_quickblox_table_t *table, u_char *digest);

static ngx_uint_t ngx_http_quickblox_table_live(
    ngx_http_quickblox_record_t *record, ngx_http_quickblox_now_t *now);
static void ngx_http_quickblox_table_survey(ngx_http_quickblox_set_t *set,
    ngx_uint_t evict, ngx_http_quickblox_now_t *now,
    ngx_http_quickblox_room_t *room);
static ngx_http_quickblox_record_t *ngx_http_quickblox_table_evict(
    ngx_http_quickblox_set_t *set, u_char *digest);
static ngx_http_quickblox_record_t *ngx_http_quickblox_table_unpin(
    ngx_http_quickblox_set_t **sets, ngx_uint_t n,
    ngx_http_quickblox_now_t *now);
static void ngx_http_quickblox_table_write(ngx_http_quickblox_table_t *table,
    ngx_http_quickblox_record_t *record, u_char *digest, ngx_uint_t state);


ngx_http_quickblox_record_t *
ngx_http_quickblox_table_find(ngx_http_quickblox_table_t *table,
    u_char *digest)
{
    ngx_http_quickblox_record_t  *record;

    record = ngx_http_quickblox_table_lookup(table, digest);

    /* most are used already: the cache line then stays shared */

    if (record && !(record->flags & NGX_HTTP_QUICKBLOX_USED)) {
        record->flags |= NGX_HTTP_QUICKBLOX_USED;
    }

    return record;
}


ngx_http_quickblox_record_t *
ngx_http_quickblox_table_insert(ngx_http_quickblox_table_t *table,
    u_char *digest, ngx_uint_t evict, ngx_http_quickblox_now_t *now,
    ngx_uint_t *evicted)
{
    ngx_uint_t                    i, n, first;
    ngx_http_quickblox_set_t     *sets[2];
    ngx_http_quickblox_room_t     rooms[2];
    ngx_http_quickblox_record_t  *record, *unpinned;

    *evicted = 0;

    n = ngx_http_quickblox_table_candidates(table, digest, sets);

    for (i = 0; i < n; i++) {
        ngx_http_quickblox_table_survey(sets[i], evict, now, &rooms[i]);
    }

    first = (n == 2 && rooms[1].free > rooms[0].free);

    /* the other set is asked where the first one's share is all PENDING */

    record = NULL;

    for (i = 0; i < n && record == NULL; i++) {
        record = rooms[i ^ first].record;
    }

    if (evict) {

        /* always, as this also tells the idle ones from those in use */

        unpinned = ngx_http_quickblox_table_unpin(sets, n, now);

        if (record == NULL) {

            for (i = 0; i < n && record == NULL; i++) {
                record = ngx_http_quickblox_table_evict(sets[i], digest);
            }

            record = record ? record : unpinned;
            *evicted = (record != NULL);
        }
    }

    if (record == NULL) {
        return NULL;
    }

    ngx_http_quickblox_table_write(table, record, digest,
                                   evict ? NGX_HTTP_QUICKBLOX_VALID
                                         : NGX_HTTP_QUICKBLOX_PENDING);

    return record;
}


void
ngx_http_quickblox_table_remove(ngx_http_quickblox_table_t *table,
    ngx_http_quickblox_record_t *record)
{
    ngx_uint_t  i;

    i = ngx_http_quickblox_table_index(table, record);

    table->sets[i / NGX_HTTP_QUICKBLOX_WAYS]
               .tags[i % NGX_HTTP_QUICKBLOX_WAYS] = 0;

    /* whatever the caller writes to the record next, it is free by then */

    ngx_memory_barrier();
}


ngx_uint_t
ngx_http_quickblox_table_index(ngx_http_quickblox_table_t *table,
    ngx_http_quickblox_record_t *record)
{
    size_t  offset, set;

    offset = (u_char *) record - (u_char *) table->sets;
    set = offset / sizeof(ngx_http_quickblox_set_t);

    return set * NGX_HTTP_QUICKBLOX_WAYS
           + (record - table->sets[set].records);
}


ngx_uint_t
ngx_http_quickblox_table_leased(ngx_http_quickblox_record_t *record,
    ngx_http_quickblox_now_t *now)
{
    uint32_t  rest;

    /* zero is no lease: shortly before the clock wraps it would look so */

    if (record->lease == 0) {
        return 0;
    }

    rest = record->lease - now->msec;

    return rest != 0 && rest <= NGX_HTTP_QUICKBLOX_LEASE_MAX;
}


ngx_int_t
ngx_http_quickblox_table_count(ngx_http_quickblox_table_t *table,
    ngx_uint_t *set, ngx_uint_t step, ngx_http_quickblox_now_t *now,
    ngx_http_quickblox_count_t *count)
{
    ngx_uint_t                    i;
    ngx_http_quickblox_set_t     *s;
    ngx_http_quickblox_record_t  *record;

    for ( /* void */ ; *set < table->nsets && step; (*set)++, step--) {
        s = &table->sets[*set];

        for (i = 0; i < NGX_HTTP_QUICKBLOX_WAYS; i++) {
            record = &s->records[i];

            if (s->tags[i] == 0
                || !ngx_http_quickblox_table_live(record, now))
            {
                continue;
            }

            switch (record->state) {

            case NGX_HTTP_QUICKBLOX_VALID:
                count->valid++;
                break;

            case NGX_HTTP_QUICKBLOX_REJECTED:
                count->rejected++;
                break;

            default: /* NGX_HTTP_QUICKBLOX_PENDING */
                count->pending++;
            }
        }
    }

    return (*set < table->nsets) ? NGX_AGAIN : NGX_OK;
}


ngx_int_t
ngx_http_quickblox_table_check(ngx_http_quickblox_table_t *table)
{
    ngx_uint_t                    i, n, others;
    ngx_http_quickblox_set_t     *set;
    ngx_http_quickblox_record_t  *record;

    for (n = 0; n < table->nsets; n++) {
        set = &table->sets[n];
        others = 0;

        for (i = 0; i < NGX_HTTP_QUICKBLOX_WAYS; i++) {

            if (set->tags[i] == 0) {
                continue;
            }

            record = &set->records[i];

            switch (record->state) {

            case NGX_HTTP_QUICKBLOX_VALID:
                break;

            case NGX_HTTP_QUICKBLOX_PENDING:
            case NGX_HTTP_QUICKBLOX_REJECTED:
                others++;
                break;

            default:
                return NGX_ERROR;
            }

            /*
             * With another's tag or in a foreign set it is not found at
             * all, and of two with the same digest only the first one is.
             */

            if (ngx_http_quickblox_table_lookup(table, record->digest)
                != record)
            {
                return NGX_ERROR;
            }
        }

        if (others > NGX_HTTP_QUICKBLOX_SHARE) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static uint32_t
ngx_http_quickblox_table_tag(u_char *digest)
{
    uint32_t  tag;

    ngx_memcpy(&tag, digest + 8, sizeof(uint32_t));

    return tag | 1;
}


static ngx_http_quickblox_set_t *
ngx_http_quickblox_table_set(ngx_http_quickblox_table_t *table, u_char *part)
{
    uint64_t  k, high, low;

    /*
     * (k * nsets) >> 64 in halves, as not every platform has a type of
     * 128 bits; nsets is below 2^32, so the sum does not overflow.
     */

    ngx_memcpy(&k, part, sizeof(uint64_t));

    high = (k >> 32) * table->nsets;
    low = (k & 0xffffffff) * table->nsets;

    return &table->sets[(high + (low >> 32)) >> 32];
}


static ngx_uint_t
ngx_http_quickblox_table_candidates(ngx_http_quickblox_table_t *table,
    u_char *digest, ngx_http_quickblox_set_t **sets)
{
    sets[0] = ngx_http_quickblox_table_set(table, digest);
    sets[1] = ngx_http_quickblox_table_set(table, digest + 16);

    if (sets[0] == sets[1]) {
        return 1;
    }

    /* it arrives while the first set is looked through */

    ngx_http_quickblox_prefetch(sets[1]->tags);

    return 2;
}


/* all 32 bytes in constant time; CRYPTO_memcmp() would go by single ones */

static ngx_uint_t
ngx_http_quickblox_table_equal(u_char *a, u_char *b)
{
    uint64_t    x, y, differ;
    ngx_uint_t  i;

    differ = 0;

    for (i = 0; i < 32; i += sizeof(uint64_t)) {
        ngx_memcpy(&x, a + i, sizeof(uint64_t));
        ngx_memcpy(&y, b + i, sizeof(uint64_t));

        differ |= x ^ y;
    }

    return differ == 0;
}


static ngx_http_quickblox_record_t *
ngx_http_quickblox_table_lookup(ngx_http_quickblox_table_t *table,
    u_char *digest)
{
    uint32_t                      tag;
    ngx_uint_t                    i, j, n;
    ngx_http_quickblox_set_t     *sets[2];
    ngx_http_quickblox_record_t  *record;

    tag = ngx_http_quickblox_table_tag(digest);
    n = ngx_http_quickblox_table_candidates(table, digest, sets);

    for (i = 0; i < n; i++) {
        for (j = 0; j < NGX_HTTP_QUICKBLOX_WAYS; j++) {

            if (sets[i]->tags[j] != tag) {
                continue;
            }

            record = &sets[i]->records[j];

            if (ngx_http_quickblox_table_equal(record->digest, digest)) {
                return record;
            }
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_http_quickblox_table_live(ngx_http_quickblox_record_t *record,
    ngx_http_quickblox_now_t *now)
{
    switch (record->state) {

    case NGX_HTTP_QUICKBLOX_VALID:

        /* one that has ended may be about to be renewed */

        return now->unix_sec < record->expires
               || ngx_http_quickblox_table_leased(record, now);

    case NGX_HTTP_QUICKBLOX_REJECTED:
        return now->sec < record->valid;

    case NGX_HTTP_QUICKBLOX_PENDING:
        return ngx_http_quickblox_table_leased(record, now);

    default:
        return 0;
    }
}


/*
 * A record that is no session may only be added below the share: at the share
 * it takes the place of such a one.  As lapsed ones count, and a session is
 * VALID from the start, the share holds whatever the time, and whoever is
 * killed.
 */

static void
ngx_http_quickblox_table_survey(ngx_http_quickblox_set_t *set,
    ngx_uint_t evict, ngx_http_quickblox_now_t *now,
    ngx_http_quickblox_room_t *room)
{
    ngx_uint_t                    i, session, others;
    ngx_http_quickblox_record_t  *record, *empty, *ended, *spent, *rejected;

    room->free = 0;

    others = 0;
    empty = NULL;
    ended = NULL;
    spent = NULL;
    rejected = NULL;

    for (i = 0; i < NGX_HTTP_QUICKBLOX_WAYS; i++) {
        record = &set->records[i];

        if (set->tags[i] == 0) {
            room->free++;
            empty = record;
            continue;
        }

        session = (record->state == NGX_HTTP_QUICKBLOX_VALID);
        others += !session;

        if (!ngx_http_quickblox_table_live(record, now)) {
            room->free++;

            if (session) {
                ended = record;

            } else {
                spent = record;
            }

            continue;
        }

        if (record->state != NGX_HTTP_QUICKBLOX_REJECTED
            || (record->flags & NGX_HTTP_QUICKBLOX_PINNED))
        {
            continue;
        }

        if (rejected == NULL || record->valid < rejected->valid) {
            rejected = record;
        }
    }

    if (!evict && others >= NGX_HTTP_QUICKBLOX_SHARE) {
        room->record = spent ? spent : rejected;
        return;
    }

    /* what has lapsed may still be asked for, so it stays while it can */

    room->record = empty ? empty : spent ? spent : ended ? ended : rejected;
}


static ngx_http_quickblox_record_t *
ngx_http_quickblox_table_evict(ngx_http_quickblox_set_t *set, u_char *digest)
{
    ngx_uint_t                    i;
    ngx_http_quickblox_record_t  *record;

    /*
     * The set is full of live records.  The second round finds what the first
     * one has taken its second chance from.
     */

    for (i = 0; i < 2 * NGX_HTTP_QUICKBLOX_WAYS; i++) {
        record = &set->records[(digest[12] + i) % NGX_HTTP_QUICKBLOX_WAYS];

        if (record->state != NGX_HTTP_QUICKBLOX_VALID
            || (record->flags & NGX_HTTP_QUICKBLOX_PINNED))
        {
            continue;
        }

        if (record->flags & NGX_HTTP_QUICKBLOX_USED) {
            record->flags &= ~NGX_HTTP_QUICKBLOX_USED;
            continue;
        }

        return record;
    }

    return NULL;
}


/*
 * Finds the pinned session that goes first where one has to, for which the
 * sets are full, and takes the second chance from all.  Those in use have it
 * again by the next insertion.  Were it taken only where one has to go, all
 * would have it then, used just now or ten reloads ago.
 */

static ngx_http_quickblox_record_t *
ngx_http_quickblox_table_unpin(ngx_http_quickblox_set_t **sets, ngx_uint_t n,
    ngx_http_quickblox_now_t *now)
{
    ngx_uint_t                    i, used;
    ngx_http_quickblox_record_t  *record, *oldest;

    oldest = NULL;

    for (i = 0; i < n * NGX_HTTP_QUICKBLOX_WAYS; i++) {
        record = &sets[i / NGX_HTTP_QUICKBLOX_WAYS]
                      ->records[i % NGX_HTTP_QUICKBLOX_WAYS];

        if (record->state != NGX_HTTP_QUICKBLOX_VALID
            || !(record->flags & NGX_HTTP_QUICKBLOX_PINNED))
        {
            continue;
        }

        used = record->flags & NGX_HTTP_QUICKBLOX_USED;
        record->flags &= ~NGX_HTTP_QUICKBLOX_USED;

        if (used || ngx_http_quickblox_table_leased(record, now)) {
            continue;
        }

        if (oldest == NULL || record->checked < oldest->checked) {
            oldest = record;
        }
    }

    return oldest;
}


static void
ngx_http_quickblox_table_write(ngx_http_quickblox_table_t *table,
    ngx_http_quickblox_record_t *record, u_char *digest, ngx_uint_t state)
{
    ngx_uint_t  i;

    /* killed from here on, the record is free ... */

    ngx_http_quickblox_table_remove(table, record);

    ngx_memzero(record, sizeof(ngx_http_quickblox_record_t));
    ngx_memcpy(record->digest, digest, 32);
    record->state = state;

    ngx_memory_barrier();

    /* ... until here, where it is whole */

    i = ngx_http_quickblox_table_index(table, record);

    table->sets[i / NGX_HTTP_QUICKBLOX_WAYS]
               .tags[i % NGX_HTTP_QUICKBLOX_WAYS]
        = ngx_http_quickblox_table_tag(digest);
}
