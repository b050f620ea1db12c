
/*
 * Walks a copy of a zone's memory and says what is wrong with it, whatever
 * moment it was taken at; then what is in it, for the test to compare:
 *
 *     zone_walk FILE TIMEOUT CACHE_VALID
 *
 *     wrong ...                  an invariant does not hold
 *     lock PID                   who has the lock, or 0
 *     pages N                    that are in use
 *     asked N                    leases that last
 *     client DIGEST USER         what a client's token is taken for now
 *     held DIGEST USER TOKEN     a session that would be handed out now
 */


/* NOLINTNEXTLINE(bugprone-suspicious-include): its structures are wanted */
#include "../../ngx_http_quickblox_module/ngx_http_quickblox_zone.c"

#include <stdio.h>


/* s; the most that the date of an answer is believed with the default 2h */
#define WALK_LIFETIME  (3 * 3600)


typedef struct {
    u_char                          *start;
    size_t                           size;
    ngx_slab_pool_t                 *pool;
    ngx_http_quickblox_zone_head_t  *head;
    ngx_http_quickblox_table_t       clients;
    ngx_http_quickblox_table_t       held;
    ngx_http_quickblox_held_t       *tokens;
    ngx_http_quickblox_now_t         now;
    uint32_t                         timeout;
    uint32_t                         cache_valid;
    ngx_uint_t                       asked;
} walk_t;


static ngx_int_t walk_read(walk_t *walk, const char *name);
static void walk_now(walk_t *walk);
static ngx_int_t walk_layout(walk_t *walk);
static void *walk_pointer(walk_t *walk, void *p, size_t size);
static void walk_pages(walk_t *walk);
static size_t walk_npages(size_t size);
static void walk_shares(walk_t *walk);
static void walk_clients(walk_t *walk);
static void walk_held(walk_t *walk);
static ngx_http_quickblox_record_t *walk_record(walk_t *walk,
    ngx_http_quickblox_table_t *table, ngx_uint_t i);
static void walk_tell(const char *what, ngx_http_quickblox_record_t *record);


#define walk_check(e)                                                        \
    do {                                                                     \
        if (!(e)) {                                                          \
            printf("wrong line %d: not so: %s\n", __LINE__, #e);             \
        }                                                                    \
    } while (0)


int
main(int argc, char **argv)
{
    walk_t  walk;

    if (argc != 4) {
        (void) fputs("usage: zone_walk FILE TIMEOUT CACHE_VALID\n", stderr);
        return 2;
    }

    ngx_memzero(&walk, sizeof(walk_t));
    ngx_pagesize = getpagesize();

    walk.timeout = strtol(argv[2], NULL, 10);
    walk.cache_valid = strtol(argv[3], NULL, 10);

    if (walk_read(&walk, argv[1]) != NGX_OK) {
        perror(argv[1]);
        return 1;
    }

    walk_now(&walk);

    if (walk_layout(&walk) != NGX_OK) {
        printf("wrong: the layout\n");
        return 0;
    }

    walk_pages(&walk);
    walk_shares(&walk);
    walk_clients(&walk);
    walk_held(&walk);

    printf("lock %lu\n", (unsigned long) walk.pool->lock.lock);
    printf("asked %lu\n", (unsigned long) walk.asked);

    return 0;
}


static ngx_int_t
walk_read(walk_t *walk, const char *name)
{
    FILE        *file;
    ngx_uint_t   whole;

    file = fopen(name, "rb");

    if (file == NULL) {
        return NGX_ERROR;
    }

    whole = 0;

    if (fseek(file, 0, SEEK_END) == 0) {
        walk->size = ftell(file);
        rewind(file);

        whole = posix_memalign((void **) &walk->start, 4096, walk->size) == 0
                && fread(walk->start, 1, walk->size, file) == walk->size;
    }

    return fclose(file) == 0 && whole ? NGX_OK : NGX_ERROR;
}


/* the clocks of the workers are behind, by as long as they were busy */

static void
walk_now(walk_t *walk)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    walk->now.unix_sec = (uint32_t) time(NULL);
    walk->now.sec = (uint32_t) ts.tv_sec;
    walk->now.msec = (uint32_t) ((uint64_t) ts.tv_sec * 1000
                                 + ts.tv_nsec / 1000000);
}


static ngx_int_t
walk_layout(walk_t *walk)
{
    size_t                           pages, size;
    ngx_http_quickblox_zone_head_t  *head;

    walk->pool = (ngx_slab_pool_t *) walk->start;

    if (walk->size < sizeof(ngx_slab_pool_t)
        || walk->pool->end != (u_char *) walk->pool->addr + walk->size)
    {
        return NGX_ERROR;
    }

    head = walk_pointer(walk, walk->pool->data,
                        sizeof(ngx_http_quickblox_zone_head_t));

    if (head == NULL || head->layout != NGX_HTTP_QUICKBLOX_LAYOUT
        || head->nshares == 0 || head->nshares > walk->size
        || head->clients.nsets == 0 || head->clients.nsets > walk->size
        || head->held.nsets == 0 || head->held.nsets > walk->size)
    {
        return NGX_ERROR;
    }

    walk->head = head;
    walk->clients = head->clients;
    walk->held = head->held;

    size = head->nshares * sizeof(ngx_http_quickblox_share_t);
    walk->clients.sets = walk_pointer(walk, head->clients.sets,
                      head->clients.nsets * sizeof(ngx_http_quickblox_set_t));
    walk->held.sets = walk_pointer(walk, head->held.sets,
                         head->held.nsets * sizeof(ngx_http_quickblox_set_t));
    walk->tokens = walk_pointer(walk, head->tokens,
                                head->held.nsets * NGX_HTTP_QUICKBLOX_WAYS
                                * sizeof(ngx_http_quickblox_held_t));

    if (walk_pointer(walk, walk->pool->data, size) == NULL
        || walk->clients.sets == NULL || walk->held.sets == NULL
        || (u_char *) walk->tokens
           != (u_char *) (walk->held.sets + walk->held.nsets))
    {
        return NGX_ERROR;
    }

    /* one for the head, as it is smaller; the others are of the sets */

    pages = 1 + walk_npages(head->clients.nsets
                            * sizeof(ngx_http_quickblox_set_t))
            + walk_npages(head->held.nsets
                          * (sizeof(ngx_http_quickblox_set_t)
                             + NGX_HTTP_QUICKBLOX_WAYS
                               * sizeof(ngx_http_quickblox_held_t)));

    walk_check(walk->pool->pfree + pages
               == (size_t) (walk->pool->last - walk->pool->pages));

    printf("pages %lu\n", (unsigned long) pages);

    return NGX_OK;
}


/* where the copy has what lies at p in the zone */

static void *
walk_pointer(walk_t *walk, void *p, size_t size)
{
    if ((u_char *) p < walk->pool->start || (u_char *) p > walk->pool->end
        || size > (size_t) (walk->pool->end - (u_char *) p))
    {
        return NULL;
    }

    return walk->start + ((u_char *) p - (u_char *) walk->pool->addr);
}


static size_t
walk_npages(size_t size)
{
    return (size + ngx_pagesize - 1) / ngx_pagesize;
}


/* the list of free pages has all that are free */

static void
walk_pages(walk_t *walk)
{
    size_t            free;
    ngx_slab_page_t  *page, *end;

    free = 0;
    page = walk->pool->free.next;
    end = &((ngx_slab_pool_t *) walk->pool->addr)->free;

    while (page != end) {

        if (page < walk->pool->pages || page >= walk->pool->last
            || free > walk->pool->pfree)
        {
            printf("wrong: the list of free pages\n");
            return;
        }

        page = (ngx_slab_page_t *)
                   (walk->start + ((u_char *) page
                                   - (u_char *) walk->pool->addr));
        free += page->slab;
        page = page->next;
    }

    walk_check(free == walk->pool->pfree);
}


static void
walk_shares(walk_t *walk)
{
    ngx_uint_t                   i, j;
    ngx_http_quickblox_share_t  *share;

    static u_char  nobody[NGX_HTTP_QUICKBLOX_DIGEST_LEN];

    share = walk->head->shares;

    for (i = 0; i < walk->head->nshares; i++) {

        walk_check(share[i].backoff <= NGX_HTTP_QUICKBLOX_BACKOFF_MAX);

        if (ngx_memcmp(share[i].id, nobody, sizeof(nobody)) == 0) {
            continue;
        }

        for (j = 0; j < i; j++) {
            walk_check(ngx_memcmp(share[i].id, share[j].id, sizeof(nobody)));
        }
    }
}


static void
walk_clients(walk_t *walk)
{
    ngx_uint_t                    i;
    ngx_http_quickblox_record_t  *record;

    walk_check(ngx_http_quickblox_table_check(&walk->clients) == NGX_OK);

    for (i = 0; i < walk->clients.nsets * NGX_HTTP_QUICKBLOX_WAYS; i++) {

        record = walk_record(walk, &walk->clients, i);

        if (record == NULL) {
            continue;
        }

        /* no session is known twice, or known and refused */

        walk_check(ngx_http_quickblox_table_find(&walk->held, record->digest)
                   == NULL);

        if (record->state == NGX_HTTP_QUICKBLOX_REJECTED) {
            walk_check(record->user_id == 0 && record->expires == 0);
            continue;
        }

        /* a trust is at most as long as if it was given just now */

        walk_check(record->valid <= walk->now.sec + walk->cache_valid);

        if (record->state == NGX_HTTP_QUICKBLOX_VALID
            && walk->now.unix_sec < record->expires
            && walk->now.sec < record->valid)
        {
            walk_check(record->checked <= walk->now.sec);
            walk_tell("client", record);
            printf("\n");
        }
    }
}


static void
walk_held(walk_t *walk)
{
    size_t                        n;
    ngx_uint_t                    i;
    ngx_http_quickblox_held_t    *held;
    ngx_http_quickblox_record_t  *record;

    walk_check(ngx_http_quickblox_table_check(&walk->held) == NGX_OK);

    for (i = 0; i < walk->held.nsets * NGX_HTTP_QUICKBLOX_WAYS; i++) {

        record = walk_record(walk, &walk->held, i);

        if (record == NULL) {
            continue;
        }

        walk_check(record->state == NGX_HTTP_QUICKBLOX_VALID);

        if (walk->now.unix_sec >= record->expires) {
            continue;
        }

        held = &walk->tokens[i];

        walk_check(record->generation != 0);
        walk_check(held->created <= walk->now.sec);
        walk_check(held->len > 0 && held->len <= sizeof(held->token));

        walk_tell("held", record);
        printf(" ");

        for (n = 0; n < held->len && n < sizeof(held->token); n++) {
            printf(held->token[n] > ' ' && held->token[n] < 0x7f ? "%c"
                   : "\\x%02x", held->token[n]);
        }

        printf("\n");
    }
}


/* one that is in use, NULL if the i-th is not */

static ngx_http_quickblox_record_t *
walk_record(walk_t *walk, ngx_http_quickblox_table_t *table, ngx_uint_t i)
{
    ngx_http_quickblox_set_t     *set;
    ngx_http_quickblox_record_t  *record;

    set = &table->sets[i / NGX_HTTP_QUICKBLOX_WAYS];
    record = &set->records[i % NGX_HTTP_QUICKBLOX_WAYS];

    if (set->tags[i % NGX_HTTP_QUICKBLOX_WAYS] == 0) {
        return NULL;
    }

    walk_check(ngx_http_quickblox_table_index(table, record) == i);
    walk_check(record->flags < 2 * NGX_HTTP_QUICKBLOX_TOLD);
    walk_check(record->renewals <= NGX_HTTP_QUICKBLOX_RENEWALS);
    walk_check(record->spare == 0);
    walk_check(record->expires <= walk->now.unix_sec + WALK_LIFETIME);

    if (ngx_http_quickblox_table_leased(record, &walk->now)) {
        walk->asked++;
        walk_check(record->lease - walk->now.msec <= walk->timeout);
    }

    return record;
}


static void
walk_tell(const char *what, ngx_http_quickblox_record_t *record)
{
    ngx_uint_t  i;

    printf("%s ", what);

    for (i = 0; i < sizeof(record->digest); i++) {
        printf("%02x", record->digest[i]);
    }

    printf(" %lu", (unsigned long) record->user_id);
}
