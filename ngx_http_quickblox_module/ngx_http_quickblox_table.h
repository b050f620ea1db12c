
/*
 * A set-associative table of sessions, as processor caches have one: pure
 * functions over a piece of memory, which may be shared.  The caller locks.
 *
 * A set is 16 tags of four bytes in one cache line, then 16 records of one
 * cache line each.  A digest has two candidate sets.  There are no pointers:
 * a record is written before its tag and a tag is cleared before its record
 * is reused, so a process that is killed at any instruction leaves nothing
 * to repair.
 *
 *    set n:   | tag 0 .. tag 15 | record 0 | record 1 | ... | record 15 |
 *               64 bytes          64 bytes   64 bytes         64 bytes
 *
 * The life of a record:
 *
 *    (free) --insert, evict 0--> PENDING ------> VALID      remove
 *       |                           |              ^         from
 *       |                           +--> REJECTED  |         each
 *       +-----insert, evict 1----------------------+
 *
 * PENDING   somebody asks the API, until "lease"
 * VALID     a session, trusted until "valid", alive until "expires"; with a
 *           lease while somebody asks for it, the first time or anew
 * REJECTED  no session, remembered until "valid"
 *
 * "Until" means before, for all clocks.  A record that has become VALID never
 * becomes PENDING or REJECTED again, so that the share of those holds: it is
 * removed and inserted anew, or ended with "expires" 0.  A caller writes the
 * fields, then a barrier, then what makes them trusted.
 */


#ifndef _NGX_HTTP_QUICKBLOX_TABLE_H_INCLUDED_
#define _NGX_HTTP_QUICKBLOX_TABLE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HTTP_QUICKBLOX_WAYS      16

/* of a set's records, so many at most are PENDING or REJECTED */
#define NGX_HTTP_QUICKBLOX_SHARE     4


typedef enum {
    NGX_HTTP_QUICKBLOX_PENDING = 1,
    NGX_HTTP_QUICKBLOX_VALID,
    NGX_HTTP_QUICKBLOX_REJECTED
} ngx_http_quickblox_state_e;


/* flags of a record */

#define NGX_HTTP_QUICKBLOX_USED      0x01  /* second chance, set by find */
#define NGX_HTTP_QUICKBLOX_PINNED    0x02  /* evicted last */
#define NGX_HTTP_QUICKBLOX_SUSPECT   0x04  /* to be validated before use */
#define NGX_HTTP_QUICKBLOX_FOREIGN   0x08  /* REJECTED: other application's */
#define NGX_HTTP_QUICKBLOX_PROVED    0x10  /* an upstream accepted it */
#define NGX_HTTP_QUICKBLOX_TOLD      0x20  /* its end, to the listener */


/*
 * One cache line.  "valid" and "checked" are seconds of the monotonic clock
 * (a wall clock that jumps prolongs no trust), "lease" is its milliseconds,
 * which wrap, and "expires" is Unix seconds, as QuickBlox tells it.
 */

typedef struct {
    u_char                       digest[32];
    uint64_t                     user_id;
    uint32_t                     expires;
    uint32_t                     valid;
    uint32_t                     checked;
    uint32_t                     lease;
    uint32_t                     generation;
    uint8_t                      state;
    uint8_t                      flags;
    uint8_t                      renewals;
    uint8_t                      spare;
} ngx_http_quickblox_record_t;


typedef struct {
    uint32_t                     tags[NGX_HTTP_QUICKBLOX_WAYS];
    ngx_http_quickblox_record_t  records[NGX_HTTP_QUICKBLOX_WAYS];
} ngx_http_quickblox_set_t;


/* nsets is 1 .. 2^32 - 1, sets are aligned to a cache line */

typedef struct {
    ngx_http_quickblox_set_t    *sets;
    ngx_uint_t                   nsets;
} ngx_http_quickblox_table_t;


/* the two clocks, as the caller reads them once */

typedef struct {
    uint32_t                     unix_sec;
    uint32_t                     sec;        /* monotonic */
    uint32_t                     msec;       /* monotonic, wraps */
} ngx_http_quickblox_now_t;


typedef struct {
    ngx_uint_t                   valid;
    ngx_uint_t                   rejected;
    ngx_uint_t                   pending;
} ngx_http_quickblox_count_t;


/*
 * Finds the record of a 32-byte digest, live or not, comparing all of it in
 * constant time, and gives it its second chance.  NULL when there is none.
 */

ngx_http_quickblox_record_t *ngx_http_quickblox_table_find(
    ngx_http_quickblox_table_t *table, u_char *digest);


/*
 * Makes a record for a digest that has none: all fields zero but digest and
 * state.  The set of the two that has more free records takes it, or the
 * other one if it cannot.  Free means: no record, a lapsed REJECTED or PENDING
 * one, or a VALID one past "expires" and without a lease.
 *
 * With evict 0 (a request that is not yet known to have a session) the record
 * is PENDING.  In each set SHARE records, lapsed ones included, are PENDING or
 * REJECTED at most: at the share one of them gives way, a lapsed one or the
 * REJECTED one that lapses first, or the set takes no more.  Below it a
 * REJECTED one gives way where nothing is free.  No live session does.
 *
 * With evict 1 (a session, or the gateway's own login) the record is VALID,
 * and still free: the caller gives it an "expires" or a lease.  The share is
 * no concern of it.  What gives way is a free record, else the REJECTED one
 * that lapses first, else the first VALID one without its second chance and
 * not PINNED (clock hand from a part of the digest).  A live PENDING one never
 * does: somebody waits for it.
 *
 * Where neither set has any of these, a PINNED VALID one gives way that has
 * no lease and was not found since the last insertion with evict 1 looked at
 * its set; of several the one with the smallest "checked".  So what is in use
 * survives sessions that nobody asks for any more (another login after a
 * reload), however often there are new ones.
 *
 * Returns the record or NULL when none can be had; *evicted is set to 1 if
 * a live session gave way, else to 0.
 */

ngx_http_quickblox_record_t *ngx_http_quickblox_table_insert(
    ngx_http_quickblox_table_t *table, u_char *digest, ngx_uint_t evict,
    ngx_http_quickblox_now_t *now, ngx_uint_t *evicted);


/* removes a record that find or insert returned */

void ngx_http_quickblox_table_remove(ngx_http_quickblox_table_t *table,
    ngx_http_quickblox_record_t *record);


/*
 * The index of a record, 0 .. nsets * WAYS - 1, for data that lies in
 * parallel to the table.
 */

ngx_uint_t ngx_http_quickblox_table_index(ngx_http_quickblox_table_t *table,
    ngx_http_quickblox_record_t *record);


/*
 * 1 while a lease lasts.  A lease of 0 is none; they are at most ten minutes,
 * so one that seems longer ended before the clock wrapped.
 */

ngx_uint_t ngx_http_quickblox_table_leased(ngx_http_quickblox_record_t *record,
    ngx_http_quickblox_now_t *now);


/*
 * Counts the live records of "step" sets from *set on and advances *set, so
 * that a large table is counted in pieces.  NGX_AGAIN while sets remain,
 * NGX_OK at the end.  Adds to *count.
 */

ngx_int_t ngx_http_quickblox_table_count(ngx_http_quickblox_table_t *table,
    ngx_uint_t *set, ngx_uint_t step, ngx_http_quickblox_now_t *now,
    ngx_http_quickblox_count_t *count);


/*
 * Checks the invariants: a tag is its record's, a record is in one of its
 * two sets, no digest stands twice, states are known, the share holds.
 * NGX_OK or NGX_ERROR.  For tests and debug builds.
 */

ngx_int_t ngx_http_quickblox_table_check(ngx_http_quickblox_table_t *table);


#endif /* _NGX_HTTP_QUICKBLOX_TABLE_H_INCLUDED_ */
