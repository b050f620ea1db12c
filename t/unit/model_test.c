
/*
 * The zone against a model of it: several processes call all that changes a
 * session, in nginx's own shared memory and under nginx's own lock, and are
 * killed in between and in the middle of a call.  Prints TAP.
 *
 * Threats: T14, tokens whose keys collide.
 *
 * The model knows of each key what the zone has of it, and of each call what
 * it may change: this key's record, and one that gives way to it, which has
 * to be the one that goes first.  It is looked at in each critical section,
 * at its start and its end.  After a kill, what was called has happened or
 * has not, or its key is not known any more; nothing else has changed.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <sys/mman.h>

#if (NGX_LINUX)
#include <sys/prctl.h>
#include <sys/ptrace.h>
#endif

#include "unit.h"

#define ngx_shmtx_lock    model_lock
#define ngx_shmtx_unlock  model_unlock

static void model_lock(ngx_shmtx_t *mutex);
static void model_unlock(ngx_shmtx_t *mutex);

/* NOLINTNEXTLINE(bugprone-suspicious-include): its lock is this one's */
#include "../../ngx_http_quickblox_module/ngx_http_quickblox_zone.c"

#undef ngx_shmtx_lock
#undef ngx_shmtx_unlock


#define WAYS            NGX_HTTP_QUICKBLOX_WAYS
#define SHARE           NGX_HTTP_QUICKBLOX_SHARE

#define PENDING         NGX_HTTP_QUICKBLOX_PENDING
#define VALID           NGX_HTTP_QUICKBLOX_VALID
#define REJECTED        NGX_HTTP_QUICKBLOX_REJECTED

#define USED            NGX_HTTP_QUICKBLOX_USED
#define PINNED          NGX_HTTP_QUICKBLOX_PINNED
#define SUSPECT         NGX_HTTP_QUICKBLOX_SUSPECT
#define FOREIGN         NGX_HTTP_QUICKBLOX_FOREIGN
#define PROVED          NGX_HTTP_QUICKBLOX_PROVED
#define TOLD            NGX_HTTP_QUICKBLOX_TOLD

#define HIT             NGX_HTTP_QUICKBLOX_ZONE_HIT
#define STALE           NGX_HTTP_QUICKBLOX_ZONE_STALE
#define WAIT            NGX_HTTP_QUICKBLOX_ZONE_WAIT
#define CLAIMED         NGX_HTTP_QUICKBLOX_ZONE_CLAIMED
#define BACKOFF         NGX_HTTP_QUICKBLOX_ZONE_BACKOFF
#define NOTHING         NGX_HTTP_QUICKBLOX_ZONE_NONE

#define FORCE           NGX_HTTP_QUICKBLOX_ZONE_FORCE
#define NO_RENEW        NGX_HTTP_QUICKBLOX_ZONE_NO_RENEW
#define NO_CREATE       NGX_HTTP_QUICKBLOX_ZONE_NO_CREATE
#define KNOWN           NGX_HTTP_QUICKBLOX_ZONE_KNOWN
#define ANEW            NGX_HTTP_QUICKBLOX_ZONE_ANEW

#define ZONE_SIZE       (128 * 1024)
#define SETS            128         /* of a table, at most */

#define PROCESSES       4
#define OPERATIONS      (long_run ? 20000000 : 400000)
#define KILLS           (long_run ? 1500 : 100)

#define CLAIMS          8           /* of a process, at once */

/* keys: of these kinds, and some that differ in their last bits only */

#define COLLIDING       400
#define CLIENTS         2000
#define FIXED           48
#define PEOPLE          72
#define KEYS            (CLIENTS + FIXED + PEOPLE)

#define TOKEN           80

#define UPTIME          100         /* seconds, at the start */
#define WRAP            0xffffffff


typedef ngx_http_quickblox_record_t  record_t;
typedef ngx_http_quickblox_set_t     set_t;
typedef ngx_http_quickblox_now_t     now_t;


typedef enum {
    GET = 0,
    STORE,
    REJECT,
    RELEASE,
    DROP,
    SUSPECTED,
    PROVE,
    SLIDE,
    ENDED,
    MINT,
    FAILED,
    SUCCEEDED
} what_e;


/* what a new record may replace: the lower, the sooner */

typedef enum {
    RANK_EMPTY = 0,
    RANK_LAPSED,
    RANK_ENDED,
    RANK_REJECTED,
    RANK_SESSION,
    RANK_PINNED,
    RANK_NEVER
} rank_e;


/* of a key in one of the tables; index -1: no record */

typedef struct {
    ngx_int_t                       index;
    record_t                        record;
} entry_t;


typedef struct {
    u_char                          digest[32];
    uint32_t                        serial;     /* how many had its place */
    uint32_t                        token;      /* number of the one held */
    uint32_t                        created;
    entry_t                         entries[2]; /* clients, held */
} keep_t;


typedef struct {
    what_e                          what;
    ngx_uint_t                      key;
    uint32_t                        serial;
    ngx_uint_t                      flags;
    uint32_t                        lease;
    uint32_t                        generation;
    uint32_t                        number;     /* of the answer */
    uint64_t                        user_id;
    time_t                          expires;
    time_t                          valid;
    ngx_uint_t                      foreign;
    ngx_uint_t                      created;
    ngx_msec_t                      started;
    now_t                           now;
    ngx_msec_t                      msec;
} call_t;


typedef struct {
    ngx_uint_t                      seconds;
    ngx_msec_t                      until;
    ngx_msec_t                      failed;
} backoff_t;


/* what a call is to leave behind, and to return */

typedef struct {
    ngx_uint_t                      touches[2];
    ngx_uint_t                      removes[2];
    ngx_uint_t                      inserts[2];
    ngx_uint_t                      evict;
    ngx_uint_t                      exists[2];
    record_t                        records[2];
    uint32_t                        token;
    uint32_t                        created;
    ngx_uint_t                      renews;
    backoff_t                       backoff;

    ngx_uint_t                      rc;
    ngx_uint_t                      ask;
    uint32_t                        lease;
} want_t;


/* what there was when the lock was taken: "begun" says that it is whole */

typedef struct {
    ngx_atomic_t                    begun;
    ngx_atomic_t                    judging;
    call_t                          call;
    keep_t                          before;
    backoff_t                       backoff;
    ngx_uint_t                      numbers[4]; /* sets, two of each table */
    set_t                           sets[4];
    ngx_int_t                       owners[4][WAYS];
} journal_t;


typedef struct {
    ngx_atomic_t                    operations;
    ngx_atomic_t                    answers;
    ngx_atomic_t                    minted;
    ngx_atomic_t                    msec;
    ngx_atomic_t                    wall;
    ngx_atomic_t                    doomed;     /* pid: stops in the lock */
    ngx_atomic_t                    failed;

    ngx_uint_t                      seen[8];    /* results of look-ups */
    ngx_uint_t                      ranks[RANK_NEVER];
    ngx_uint_t                      refused;

    backoff_t                       backoff;
    journal_t                       journal;
    ngx_int_t                       owners[2][SETS * WAYS];
    keep_t                          keys[KEYS];
    char                            error[512];
} model_t;


typedef struct {
    ngx_uint_t                      key;
    uint32_t                        serial;
    uint32_t                        lease;
    ngx_uint_t                      created;
    uint64_t                        user_id;
} claim_t;


static void model_start(void);
static ngx_uint_t model_source(ngx_uint_t key);
static void model_digest(u_char *digest, ngx_uint_t key, uint32_t serial);
static ngx_str_t model_token(u_char *text, ngx_uint_t key, uint32_t number);

static void model_process(uint64_t seed);
static void model_clock(void);
static void model_step(void);
static void model_get(ngx_uint_t key);
static void model_finish(claim_t *claim);
static void model_change(ngx_uint_t key, ngx_uint_t random);
static void model_mint(ngx_uint_t key);
static void model_returned(ngx_int_t rc);

static void model_begin(void);
static void model_stop(void);
static void model_judge(ngx_uint_t killed);
static void model_judge_backoff(ngx_uint_t killed);
static void model_judge_table(ngx_uint_t t, ngx_uint_t killed);
static ngx_int_t model_judge_others(ngx_uint_t t, ngx_int_t index);
static void model_judge_place(ngx_uint_t t, ngx_int_t index);
static void model_judge_record(ngx_uint_t t, ngx_int_t index,
    ngx_uint_t killed);
static void model_judge_token(ngx_int_t index, ngx_uint_t killed);
static ngx_uint_t model_survives(ngx_uint_t t, record_t *record);
static ngx_uint_t model_mixed(record_t *record);

static void model_expect(void);
static ngx_uint_t model_waits(void);
static void model_expect_client(record_t *record);
static void model_expect_people(record_t *record);
static void model_expect_held(record_t *record);
static void model_expect_claim(record_t *record);
static void model_expect_store(void);
static void model_expect_reject(void);
static record_t *model_expect_claimed(ngx_uint_t *t);
static void model_expect_change(void);
static void model_expect_backoff(void);
static void model_expect_new(ngx_uint_t t, ngx_uint_t evict,
    uint32_t generation);
static void model_expect_gone(ngx_uint_t t);

static ngx_uint_t model_leased(record_t *record);
static ngx_uint_t model_live(record_t *record);
static rank_e model_rank(ngx_uint_t t, ngx_uint_t n, ngx_uint_t i);
static rank_e model_first(ngx_uint_t t, ngx_uint_t n);
static ngx_uint_t model_same(record_t *a, record_t *b);
static ngx_uint_t model_set(ngx_uint_t t, u_char *part);
static ngx_int_t model_seek(ngx_uint_t t, u_char *digest);
static void model_sweep(void);
static void model_error(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

static void test_model(void);
static void test_kill(ngx_uint_t n);
static void test_kill_stepwise(pid_t pid);
static pid_t test_fork(void);
static uint64_t model_random(uint64_t n);


static ngx_uint_t                             long_run;
static uint64_t                               state = 1;

static model_t                               *m;
static want_t                                 want;
static call_t                                 call;

static pid_t                                  pids[PROCESSES];
static ngx_uint_t                             claimed;
static claim_t                                claims[CLAIMS];

static ngx_uint_t                             held_kills;
static ngx_uint_t                             called_kills;
static ngx_uint_t                             half_kills;

static ngx_log_t                              nowhere;
static ngx_cycle_t                            cycle;
static ngx_time_t                             wall;
static ngx_shm_zone_t                         shm_zone;
static ngx_http_quickblox_zone_t              zone;
static ngx_http_quickblox_share_t            *share;
static ngx_http_quickblox_table_t            *tables[2];
static ngx_http_quickblox_application_t       app;
static ngx_http_quickblox_application_t      *apps[2] = { &app };
static ngx_http_quickblox_credential_t        credential;


int
main(void)
{
    long_run = (getenv("QUICKBLOX_LONG") != NULL);

    model_start();
    test_model();

    printf("1..%u\n", (unsigned) tests);

    return failures ? 1 : 0;
}


static void
model_start(void)
{
    ngx_uint_t        i;
    ngx_slab_pool_t  *shpool;

    ngx_cycle = &cycle;
    cycle.log = &nowhere;

    ngx_pid = ngx_getpid();
    ngx_ncpu = 2;
    ngx_pagesize = getpagesize();
    ngx_cached_time = &wall;

    for (i = ngx_pagesize; i >>= 1; ngx_pagesize_shift++) { /* void */ }

    ngx_slab_sizes_init();

    shm_zone.shm.size = ZONE_SIZE;
    shm_zone.shm.log = &nowhere;
    shm_zone.data = &zone;

    shm_zone.shm.addr = mmap(NULL, ZONE_SIZE, PROT_READ|PROT_WRITE,
                             MAP_ANON|MAP_SHARED, -1, 0);
    m = mmap(NULL, sizeof(model_t), PROT_READ|PROT_WRITE, MAP_ANON|MAP_SHARED,
             -1, 0);

    if (shm_zone.shm.addr == MAP_FAILED || m == MAP_FAILED) {
        abort();
    }

    /* as ngx_init_zone_pool() does it */

    shpool = (ngx_slab_pool_t *) shm_zone.shm.addr;
    shpool->end = shm_zone.shm.addr + ZONE_SIZE;
    shpool->min_shift = 3;
    shpool->addr = shm_zone.shm.addr;

    if (ngx_shmtx_create(&shpool->mutex, &shpool->lock, NULL) != NGX_OK) {
        abort();
    }

    ngx_slab_init(shpool);

    app.shm_zone = &shm_zone;
    app.timeout = 2000;
    app.cache_valid = 10;
    app.cache_invalid = 2;
    app.cache_stale = 600;
    app.basic_valid = 3;
    app.refresh_before = 6;

    zone.applications.elts = apps;
    zone.applications.nelts = 1;

    if (ngx_http_quickblox_zone_init(&shm_zone, NULL) != NGX_OK) {
        abort();
    }

    share = app.share;
    tables[0] = &zone.head->clients;
    tables[1] = &zone.head->held;

    if (tables[0]->nsets > SETS) {
        abort();
    }

    m->msec = UPTIME * 1000;
    m->wall = 1700000000;

    for (i = 0; i < SETS * WAYS; i++) {
        m->owners[0][i] = -1;
        m->owners[1][i] = -1;
    }

    for (i = 0; i < KEYS; i++) {
        m->keys[i].entries[0].index = -1;
        m->keys[i].entries[1].index = -1;
        model_digest(m->keys[i].digest, i, 0);
    }

    m->minted = KEYS;
}


static ngx_uint_t
model_source(ngx_uint_t key)
{
    if (key < CLIENTS) {
        return (key % 3) ? NGX_HTTP_QUICKBLOX_SOURCE_CLIENT
                         : NGX_HTTP_QUICKBLOX_SOURCE_COOKIE;
    }

    if (key < CLIENTS + FIXED) {
        return (key % 2) ? NGX_HTTP_QUICKBLOX_SOURCE_APPLICATION
                         : NGX_HTTP_QUICKBLOX_SOURCE_USER;
    }

    return (key % 2) ? NGX_HTTP_QUICKBLOX_SOURCE_BASIC
                     : NGX_HTTP_QUICKBLOX_SOURCE_USER_TOKEN;
}


/* what collides has the same two sets and the same tag */

static void
model_digest(u_char *digest, ngx_uint_t key, uint32_t serial)
{
    uint64_t    saved;
    ngx_uint_t  i, collides;

    collides = key < COLLIDING || (key >= CLIENTS && key % 4 == 0);

    saved = state;
    state = collides ? 42 : (uint64_t) serial << 32 | key;

    for (i = 0; i < 32; i++) {
        digest[i] = model_random(256);
    }

    /* neighbours differ in few bits, successors in the last byte mostly */

    for (i = 0; i < 4; i++) {
        digest[24 + i] ^= (key >> 8 * i) & 0xff;
        digest[31 - i] ^= (serial >> 8 * i) & 0xff;
    }

    state = saved;
}


static ngx_str_t
model_token(u_char *text, ngx_uint_t key, uint32_t number)
{
    u_char     *p;
    ngx_str_t   token;

    token.data = text;
    token.len = 40 + number % (TOKEN - 40);

    p = ngx_sprintf(text, "%ui-%uD-", key, number);
    ngx_memset(p, 'a' + number % 26, text + token.len - p);

    return token;
}


static uint64_t
model_random(uint64_t n)
{
    uint64_t  z;

    /* splitmix of Steele, Lea and Flood */

    state += 0x9e3779b97f4a7c15;

    z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z ^= z >> 31;

    return z % n;
}


/* the calls of a process */

static void
model_process(uint64_t seed)
{
    pid_t  parent;

    parent = ngx_pid;

    state = seed;
    claimed = 0;
    ngx_pid = ngx_getpid();

#if (NGX_LINUX)

    /* should the parent die, nobody unlocks what this may wait for */

    (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif

    while (!m->failed && getppid() == parent) {
        model_clock();
        model_step();

        (void) ngx_atomic_fetch_add(&m->operations, 1);
    }

    _exit(0);
}


/* a process reads the clocks before it locks, so it may be behind others */

static void
model_clock(void)
{
    uint64_t  random;

    random = model_random(1 << 20);

    if (random % 16 == 0) {
        (void) ngx_atomic_fetch_add(&m->msec, 1 + model_random(32));
    }

    if (random < 60) {
        (void) ngx_atomic_fetch_add(&m->msec, model_random(90000));
    }

    if (random > (1 << 20) - 300) {
        (void) ngx_atomic_fetch_add(&m->wall, model_random(61) - 30);
    }

    ngx_current_msec = m->msec;
    wall.sec = m->wall + ngx_current_msec / 1000;

    ngx_memzero(&call, sizeof(call_t));

    ngx_http_quickblox_zone_now(&call.now);
    call.msec = ngx_current_msec;
}


static void
model_step(void)
{
    ngx_uint_t  random, key, n;

    /* a third of all are for a few keys */

    key = model_random(3) ? model_random(KEYS) : 7 * model_random(KEYS / 7);

    if (model_random(8) == 0) {
        key = CLIENTS + model_random(FIXED + PEOPLE);
    }

    random = model_random(100);

    if (random < 45) {
        model_get(key);

    } else if (random < 80 && claimed) {
        n = model_random(claimed);
        model_finish(&claims[n]);
        claims[n] = claims[--claimed];

    } else {
        model_change(key, random % 20);
    }
}


static void
model_get(ngx_uint_t key)
{
    u_char                         text[TOKEN];
    ngx_str_t                      token;
    record_t                      *record;
    ngx_http_quickblox_found_t     found;
    ngx_http_quickblox_zone_e      rc;

    static ngx_uint_t  flags[] = {
        0, 0, 0, 0, FORCE, FORCE|ANEW, NO_RENEW, NO_CREATE, KNOWN,
        FORCE|NO_CREATE
    };

    call.what = GET;
    call.key = key;
    call.flags = flags[model_random(sizeof(flags) / sizeof(flags[0]))];

    credential.source = model_source(key);

    rc = ngx_http_quickblox_zone_get(&app, &credential, call.flags, &found);

    model_returned(rc);

    m->seen[rc]++;

    if (found.ask != want.ask || found.lease != want.lease) {
        model_error("key %u asks %u under %u, not %u under %u",
                    (unsigned) key, found.ask, found.lease,
                    (unsigned) want.ask, want.lease);
    }

    if ((rc == BACKOFF || rc == STALE) != (found.retry_after > 0)) {
        model_error("a wait of %d s", (int) found.retry_after);
    }

    record = &want.records[key >= CLIENTS];

    if (rc == HIT || rc == STALE) {

        if (found.session.user_id != record->user_id
            || found.session.expires != (time_t) record->expires
            || found.session.generation != record->generation
            || found.session.checked != record->checked
            || found.session.proved != !!(record->flags & PROVED))
        {
            model_error("key %u has another session", (unsigned) key);
        }

        token = model_token(text, key, want.token);

        if (key >= CLIENTS
            && (found.session.token.len != token.len
                || memcmp(found.session.token.data, token.data, token.len)
                   != 0))
        {
            model_error("key %u has another token", (unsigned) key);
        }
    }

    if (found.ask == NGX_HTTP_QUICKBLOX_ASK_NOTHING) {
        return;
    }

    claimed -= (claimed == CLAIMS);

    claims[claimed].key = key;
    claims[claimed].serial = call.serial;
    claims[claimed].lease = found.lease;
    claims[claimed].created = found.ask == NGX_HTTP_QUICKBLOX_ASK_CREATE;
    claims[claimed].user_id = found.session.user_id;
    claimed++;
}


/*
 * The API has answered.  A session that was validated is the user's still, a
 * client's token may have become another's by a login.
 */

static void
model_finish(claim_t *claim)
{
    u_char                        text[TOKEN];
    ngx_uint_t                    random;
    ngx_http_quickblox_session_t  session;

    call.key = claim->key;
    call.serial = claim->serial;
    call.lease = claim->lease;
    credential.source = model_source(call.key);

    random = model_random(10);

    if (random < 2 && !(call.key >= CLIENTS && call.key < CLIENTS + FIXED)) {
        call.what = REJECT;
        call.valid = model_random(6);
        call.foreign = call.key < CLIENTS ? model_random(2) : 0;

        model_returned(ngx_http_quickblox_zone_reject(&app, &credential,
                                   call.lease, call.foreign, call.valid));
        return;
    }

    if (random == 3 && call.lease) {
        call.what = ENDED;
        model_returned(ngx_http_quickblox_zone_ended(&app, &credential,
                                                     call.lease));
        model_clock();

        call.key = claim->key;
        call.serial = claim->serial;
        call.lease = claim->lease;
    }

    if (random < 4) {
        call.what = RELEASE;
        ngx_http_quickblox_zone_release(&app, &credential, call.lease);
        return;
    }

    call.what = STORE;
    call.created = claim->created;
    call.number = ngx_atomic_fetch_add(&m->answers, 1) + 1;
    call.user_id = (uint64_t) call.key << 32 | call.number;

    if (call.key >= CLIENTS && !call.created) {
        call.user_id = claim->user_id;
    }

    /* without a lease it may be the first one, which is made, not validated */

    if (call.lease == 0 && call.key >= CLIENTS) {
        call.created = 1;
    }

    call.expires = call.now.unix_sec + model_random(model_random(2) ? 40 : 8);

    session.user_id = call.user_id;
    session.expires = call.expires;
    session.token = model_token(text, call.key, call.number);

    ngx_http_quickblox_zone_store(&app, &credential, call.lease, &session,
                                  call.created);
}


static void
model_change(ngx_uint_t key, ngx_uint_t random)
{
    claim_t  claim;

    call.key = key;
    call.generation = m->keys[key].entries[key >= CLIENTS].record.generation;
    call.generation -= (model_random(8) == 0);
    call.expires = call.now.unix_sec + model_random(40);
    credential.source = model_source(key);

    switch (random) {

    case 0:
    case 1:
    case 2:
    case 3:
        call.what = DROP;
        model_returned(ngx_http_quickblox_zone_drop(&app, &credential,
                                                    call.generation));
        model_clock();
        model_mint(key);
        break;

    case 4:
    case 5:
        call.what = SUSPECTED;
        ngx_http_quickblox_zone_suspect(&app, &credential, call.generation);
        break;

    case 6:
    case 7:
        call.what = PROVE;
        ngx_http_quickblox_zone_prove(&app, &credential, call.generation);
        break;

    case 8:
    case 9:
    case 10:
        call.what = SLIDE;
        ngx_http_quickblox_zone_slide(&app, &credential, call.generation,
                                      call.expires);
        break;

    case 11:
    case 12:
    case 13:

        /* a login's session, or a rejection: nobody has looked it up */

        ngx_memzero(&claim, sizeof(claim_t));
        claim.key = key;
        claim.created = (key >= CLIENTS);
        model_finish(&claim);
        break;

    case 14:
        if (model_random(8)) {
            break;
        }

        call.what = FAILED;
        call.started = call.msec - model_random(2000);
        call.valid = model_random(4);
        model_returned(ngx_http_quickblox_zone_failed(&app, call.started,
                                                      call.valid)
                       == NGX_HTTP_QUICKBLOX_LOG_START);
        break;

    case 15:
    case 16:
        call.what = SUCCEEDED;
        model_returned(ngx_http_quickblox_zone_succeeded(&app)
                       == NGX_HTTP_QUICKBLOX_LOG_END);
        break;

    default:
        model_mint(key);
    }
}


/* another key has the place in the model of one that is not known any more */

static void
model_mint(ngx_uint_t key)
{
    call.what = MINT;
    call.key = key;

    model_lock(&zone.shpool->mutex);
    model_unlock(&zone.shpool->mutex);
}


static void
model_returned(ngx_int_t rc)
{
    if (rc != (ngx_int_t) want.rc) {
        model_error("call %u of key %u returned %d, not %d", call.what,
                    (unsigned) call.key, (int) rc, (int) want.rc);
    }
}


/* at the start and the end of each critical section */

static void
model_lock(ngx_shmtx_t *mutex)
{
    ngx_shmtx_lock(mutex);

    if (m->msec) {
        model_begin();
        model_stop();
    }
}


static void
model_unlock(ngx_shmtx_t *mutex)
{
    if (m->msec) {
        m->journal.judging = 1;
        model_judge(0);
    }

    ngx_shmtx_unlock(mutex);
}


static void
model_begin(void)
{
    u_char      digest[32];
    keep_t     *keep;
    ngx_uint_t  i, n;
    journal_t  *j;

    j = &m->journal;
    keep = &m->keys[call.key];

    j->before = *keep;

    if (call.lease && call.serial != keep->serial) {

        /* a claim of one that was forgotten, and is no more */

        j->before.entries[0].index = -1;
        j->before.entries[1].index = -1;
        j->before.serial = call.serial;
        model_digest(j->before.digest, call.key, call.serial);
    }

    call.serial = j->before.serial;
    ngx_memcpy(credential.key, j->before.digest, 32);

    for (n = 0; n < 4; n++) {
        j->numbers[n] = model_set(n / 2, j->before.digest + 16 * (n % 2));
        j->sets[n] = tables[n / 2]->sets[j->numbers[n]];

        for (i = 0; i < WAYS; i++) {
            j->owners[n][i] = m->owners[n / 2][j->numbers[n] * WAYS + i];
        }
    }

    /* what was forgotten is not found, be its successor like it or not */

    if (call.serial && model_random(4) == 0) {
        model_digest(digest, call.key, call.serial - 1);

        if (ngx_http_quickblox_table_find(tables[0], digest)
            || ngx_http_quickblox_table_find(tables[1], digest))
        {
            model_error("key %u was forgotten and is found",
                        (unsigned) call.key);
        }
    }

    j->call = call;
    j->backoff = m->backoff;
    j->judging = 0;

    ngx_memory_barrier();
    j->begun = 1;
    ngx_memory_barrier();
}


/*
 * In a call that is to write more than a second chance, and rather in the
 * longest one, which writes a token where there was one that was trusted.
 */

static void
model_stop(void)
{
    ngx_uint_t  longest;

    if (m->doomed != (ngx_atomic_uint_t) ngx_pid) {
        return;
    }

    model_expect();

    longest = call.what == STORE && call.created && want.touches[1]
              && !want.inserts[1]
              && m->journal.before.entries[1].record.expires;

    if ((!want.touches[0] && !want.touches[1])
        || (!longest && model_random(64)))
    {
        return;
    }

#if (NGX_LINUX)
    (void) ptrace(PTRACE_TRACEME, 0, NULL, NULL);
#endif

    (void) raise(SIGSTOP);
}


/*
 * Compares, and makes the model be as the zone is.  Who is killed while it
 * does is followed by the parent, which begins anew.
 */

static void
model_judge(ngx_uint_t killed)
{
    keep_t     *keep;
    journal_t  *j;

    j = &m->journal;
    keep = &m->keys[j->call.key];

    model_expect();

    model_judge_table(0, killed);
    model_judge_table(1, killed);
    model_judge_backoff(killed);

    if (j->call.what == MINT && j->before.entries[0].index == -1
        && j->before.entries[1].index == -1 && !killed)
    {
        keep->serial = j->before.serial + 1;
        model_digest(keep->digest, j->call.key, keep->serial);
        m->minted++;
    }

    ngx_memory_barrier();
    j->begun = 0;
    ngx_memory_barrier();
}


static void
model_judge_backoff(ngx_uint_t killed)
{
    backoff_t  now, *before;

    now.seconds = share->backoff;
    now.until = share->backoff_until;
    now.failed = share->failed;

    before = &m->journal.backoff;

    if ((now.seconds != want.backoff.seconds
         && !(killed && now.seconds == before->seconds))
        || (now.until != want.backoff.until
            && !(killed && now.until == before->until))
        || (now.failed != want.backoff.failed
            && !(killed && now.failed == before->failed)))
    {
        model_error("the back-off is %u s", (unsigned) now.seconds);
    }

    m->backoff = now;
}


static void
model_judge_table(ngx_uint_t t, ngx_uint_t killed)
{
    keep_t      *keep;
    entry_t     *before;
    ngx_int_t    index, victim;
    journal_t   *j;
    ngx_uint_t   n;

    j = &m->journal;
    before = &j->before.entries[t];

    index = model_seek(t, j->before.digest);
    victim = model_judge_others(t, index);

    if (victim != -1 && !want.inserts[t]) {
        model_error("call %u has removed another's record", j->call.what);
    }

    if (want.inserts[t] && (victim != -1 || index != -1)
        && (index != before->index || want.removes[t]))
    {
        if (victim != -1 && index != -1 && victim != index) {
            model_error("a record has gone for nothing");
        }

        model_judge_place(t, victim != -1 ? victim : index);
    }

    if (want.inserts[t] && index == -1 && !killed) {

        m->refused++;

        if (model_first(t, 0) != RANK_NEVER || model_first(t, 1) != RANK_NEVER)
        {
            model_error("refused though a record could give way");
        }

        want.exists[t] = 0;

        if (j->call.what == GET) {
            want.lease = 0;
        }
    }

    model_judge_record(t, index, killed);

    if (t == 1 && index != -1) {
        model_judge_token(index, killed);
    }

    /* the same again, should this be killed on its way */

    if (victim != -1) {
        n = 2 * t;
        n += (j->numbers[n] != (ngx_uint_t) victim / WAYS);

        m->keys[j->owners[n][victim % WAYS]].entries[t].index = -1;
        m->owners[t][victim] = -1;
    }

    keep = &m->keys[j->call.key];

    if (keep->serial != j->before.serial) {
        return;
    }

    if (before->index != -1) {
        m->owners[t][before->index] = -1;
    }

    keep->entries[t].index = index;

    if (index != -1) {
        m->owners[t][index] = j->call.key;
        keep->entries[t].record = tables[t]->sets[index / WAYS]
                                            .records[index % WAYS];
    }
}


/* all others of the two sets are what they were, but one that may be gone */

static ngx_int_t
model_judge_others(ngx_uint_t t, ngx_int_t index)
{
    set_t       *set, *old;
    ngx_int_t    victim, at;
    ngx_uint_t   n, i;
    journal_t   *j;

    j = &m->journal;
    victim = -1;

    for (n = 2 * t; n < 2 * t + 2; n++) {
        set = &tables[t]->sets[j->numbers[n]];
        old = &j->sets[n];

        for (i = 0; i < WAYS; i++) {
            at = j->numbers[n] * WAYS + i;

            if (at == j->before.entries[t].index) {
                continue;
            }

            if (old->tags[i] == 0) {

                if (set->tags[i] && at != index) {
                    model_error("a record that nobody has made");
                }

                continue;
            }

            if (set->tags[i] == old->tags[i] && at != index
                && model_same(&set->records[i], &old->records[i]))
            {
                continue;
            }

            if (set->tags[i] && at != index) {
                model_error("another's record has changed");
            }

            if (victim != -1 && victim != at) {
                model_error("two records have gone");
            }

            victim = at;
        }
    }

    return victim;
}


static void
model_judge_place(ngx_uint_t t, ngx_int_t index)
{
    set_t       *set;
    rank_e       rank, other;
    ngx_uint_t   n, i;

    n = (m->journal.numbers[2 * t] != (ngx_uint_t) index / WAYS);
    set = &m->journal.sets[2 * t + n];

    rank = model_rank(t, n, index % WAYS);
    other = model_first(t, !n);

    for (i = 0; i < WAYS && rank == RANK_REJECTED; i++) {

        if (model_rank(t, n, i) == RANK_REJECTED
            && set->records[i].valid < set->records[index % WAYS].valid)
        {
            model_error("a rejection has gone before one that lapses first");
        }
    }

    if (rank == RANK_NEVER || rank != model_first(t, n)
        || (rank >= RANK_SESSION && rank > other))
    {
        model_error("a record of rank %u has gone before one of %u or %u",
                    rank, model_first(t, n), other);
        return;
    }

    m->ranks[rank]++;
}


static void
model_judge_record(ngx_uint_t t, ngx_int_t index, ngx_uint_t killed)
{
    entry_t    *before;
    record_t   *record, *wanted;
    journal_t  *j;

    j = &m->journal;
    before = &j->before.entries[t];
    wanted = &want.records[t];
    record = (index == -1) ? NULL
             : &tables[t]->sets[index / WAYS].records[index % WAYS];

    if (before->index != -1 && index != -1 && index != before->index
        && !want.removes[t])
    {
        model_error("a record has moved");
    }

    if (want.renews && t && record && record->lease != before->record.lease) {

        /* it may be renewed, but need not */

        want.lease = record->lease;
        want.ask = record->renewals == before->record.renewals
                   ? NGX_HTTP_QUICKBLOX_ASK_CREATE
                   : NGX_HTTP_QUICKBLOX_ASK_VALIDATE;

        wanted->lease = j->call.now.msec + (uint32_t) app.timeout;
        wanted->renewals += (record->renewals != before->record.renewals);
    }

    if (j->call.what == DROP && t && record && want.touches[1]
        && model_same(record, &before->record))
    {
        want.rc = NGX_DECLINED;
        return;
    }

    if (!want.exists[t] && record == NULL) {
        return;
    }

    if (want.exists[t] && record && model_same(record, wanted)) {
        return;
    }

    if (killed && before->index == index
        && (record == NULL || model_same(record, &before->record)))
    {
        return;
    }

    if (killed && want.touches[t]
        && (record ? model_survives(t, record) || (t && model_mixed(record))
                   : before->index == -1 || want.removes[t]))
    {
        half_kills++;
        return;
    }

    model_error("call %u of key %u (record %s, then %s) has left %s: state "
                "%u, user %lx, flags %x, expires %u, valid %u, lease %u",
                j->call.what, (unsigned) j->call.key,
                before->index == -1 ? "none" : "one",
                want.exists[t] ? "one" : "none",
                record ? "another" : "none", record ? record->state : 0,
                record ? (unsigned long) record->user_id : 0,
                record ? record->flags : 0, record ? record->expires : 0,
                record ? record->valid : 0, record ? record->lease : 0);
}


/* what a call that was killed has left: a record that nobody trusts */

static ngx_uint_t
model_survives(ngx_uint_t t, record_t *record)
{
    switch (record->state) {

    case VALID:
        return record->expires == 0;

    case REJECTED:
        return record->valid == 0;

    default: /* PENDING */
        return record->lease == 0
               || record->lease == m->journal.before.entries[t].record.lease
               || record->lease == want.records[t].lease;
    }
}


/* or the same session, some of whose fields are the new ones */

static ngx_uint_t
model_mixed(record_t *record)
{
    record_t   *before, *after;
    journal_t  *j;

    j = &m->journal;
    before = &j->before.entries[1].record;
    after = &want.records[1];

    if (j->before.entries[1].index == -1 || before->state != VALID
        || !(j->call.what == GET
             || (j->call.what == STORE && !j->call.created)))
    {
        return 0;
    }

    return record->state == VALID
           && record->user_id == before->user_id
           && record->generation == before->generation
           && (record->expires == before->expires
               || record->expires == after->expires)
           && (record->checked == before->checked
               || record->checked == after->checked)
           && (record->lease == before->lease
               || record->lease == after->lease);
}


/* a session's token is its own and whole, if it is trusted */

static void
model_judge_token(ngx_int_t index, ngx_uint_t killed)
{
    u_char                      text[TOKEN];
    keep_t                     *keep;
    record_t                   *record;
    journal_t                  *j;
    ngx_str_t                   token;
    ngx_http_quickblox_held_t  *held;

    j = &m->journal;
    keep = &m->keys[j->call.key];
    held = &zone.head->tokens[index];
    record = &tables[1]->sets[index / WAYS].records[index % WAYS];

    if (keep->serial != j->before.serial) {
        return;
    }

    token = model_token(text, j->call.key, want.token);

    if (killed && (held->len != token.len
                   || memcmp(held->token, token.data, token.len) != 0))
    {
        want.token = j->before.token;
        token = model_token(text, j->call.key, want.token);
    }

    if (record->expires
        && (held->len != token.len
            || memcmp(held->token, token.data, token.len) != 0))
    {
        model_error("key %u has not its token", (unsigned) j->call.key);
    }

    if (held->created != want.created
        && !(killed && (held->created == j->before.created
                        || record->expires == 0)))
    {
        model_error("key %u was not made then", (unsigned) j->call.key);
    }

    keep->token = want.token;
    keep->created = held->created;
}


/* what zone.h promises of each call */

static void
model_expect(void)
{
    ngx_uint_t   t, key;
    record_t    *records[2];
    journal_t   *j;

    j = &m->journal;
    key = j->call.key;

    ngx_memzero(&want, sizeof(want_t));

    for (t = 0; t < 2; t++) {
        want.exists[t] = (j->before.entries[t].index != -1);
        want.records[t] = j->before.entries[t].record;
        records[t] = want.exists[t] ? &want.records[t] : NULL;
    }

    want.token = j->before.token;
    want.created = j->before.created;
    want.backoff = j->backoff;

    switch (j->call.what) {

    case GET:
        if (key < CLIENTS) {
            model_expect_client(records[0]);

        } else if (records[1] == NULL && key >= CLIENTS + FIXED) {
            model_expect_people(records[0]);

        } else {
            model_expect_held(records[1]);
        }

        break;

    case STORE:
        model_expect_store();
        break;

    case REJECT:
        model_expect_reject();
        break;

    case MINT:
        break;

    case FAILED:
    case SUCCEEDED:
        model_expect_backoff();
        break;

    default:
        model_expect_change();
    }
}


static ngx_uint_t
model_waits(void)
{
    backoff_t  *b;

    b = &m->journal.backoff;

    return b->seconds
           && (ngx_msec_int_t) (b->until - m->journal.call.msec) > 0;
}


static void
model_expect_client(record_t *record)
{
    now_t       *now;
    ngx_uint_t   flags, session, alive, soon;

    now = &m->journal.call.now;
    flags = m->journal.call.flags;

    session = record && record->state == VALID;
    alive = session && record->expires > now->unix_sec
            && !(record->flags & SUSPECT);

    /* an answer that is so young is good enough to insist on */

    soon = session && !(flags & ANEW)
           && now->sec - record->checked < app.cache_invalid;

    if (alive && record->valid > now->sec && (!(flags & FORCE) || soon)) {
        want.rc = HIT;
        return;
    }

    if (record && record->state == REJECTED && record->valid > now->sec) {
        want.rc = (record->flags & FOREIGN)
                  ? NGX_HTTP_QUICKBLOX_ZONE_FOREIGN
                  : NGX_HTTP_QUICKBLOX_ZONE_REJECTED;
        return;
    }

    if (record && model_leased(record)) {
        want.rc = WAIT;
        want.lease = record->lease;
        return;
    }

    if (model_waits()) {
        want.rc = (alive && !(flags & FORCE)
                   && record->valid + app.cache_stale > now->sec)
                  ? STALE : BACKOFF;
        return;
    }

    want.ask = NGX_HTTP_QUICKBLOX_ASK_VALIDATE;
    model_expect_claim(record);
}


static void
model_expect_people(record_t *record)
{
    if (record && record->state == REJECTED
        && record->valid > m->journal.call.now.sec)
    {
        want.rc = NGX_HTTP_QUICKBLOX_ZONE_REJECTED;
        return;
    }

    if (m->journal.call.flags & NO_CREATE) {
        want.rc = NOTHING;
        return;
    }

    if (record && model_leased(record)) {
        want.rc = WAIT;
        want.lease = record->lease;
        return;
    }

    if (model_waits()) {
        want.rc = BACKOFF;
        return;
    }

    want.ask = NGX_HTTP_QUICKBLOX_ASK_CREATE;
    model_expect_claim(record);
}


static void
model_expect_held(record_t *record)
{
    now_t       *now;
    ngx_uint_t   flags, alive, proved, forced;

    now = &m->journal.call.now;
    flags = m->journal.call.flags;

    alive = record && record->expires > now->unix_sec;
    proved = record
             && (now->sec - want.created < app.basic_valid
                 || model_source(m->journal.call.key)
                    != NGX_HTTP_QUICKBLOX_SOURCE_BASIC);
    forced = record && (flags & FORCE) && !model_waits()
             && now->sec - record->checked >= app.cache_invalid;

    if (alive && ((flags & KNOWN)
                  || (proved && !forced && !(record->flags & SUSPECT))))
    {
        want.rc = HIT;
        want.touches[1] = 1;
        want.renews = !(flags & (NO_RENEW|NO_CREATE|KNOWN))
                      && record->expires - now->unix_sec < app.refresh_before
                      && !model_leased(record) && !model_waits();
        return;
    }

    if (!alive && (flags & NO_CREATE)) {
        want.rc = NOTHING;
        return;
    }

    if (record && model_leased(record)) {
        want.rc = WAIT;
        want.lease = record->lease;
        return;
    }

    if (model_waits()) {
        want.rc = (alive && !(record->flags & SUSPECT)
                   && now->sec - want.created
                      < app.basic_valid + app.cache_stale)
                  ? STALE : BACKOFF;
        return;
    }

    if (!proved && (flags & NO_CREATE)) {
        want.rc = NOTHING;
        return;
    }

    want.rc = CLAIMED;
    want.ask = (alive && proved) ? NGX_HTTP_QUICKBLOX_ASK_VALIDATE
                                 : NGX_HTTP_QUICKBLOX_ASK_CREATE;
    want.touches[1] = 1;

    if (record == NULL) {
        model_expect_new(1, 1, now->msec);
        want.records[1].flags = PINNED;
    }

    want.lease = now->msec + (uint32_t) app.timeout;
    want.lease += (want.lease == 0);
    want.records[1].lease = want.lease;
}


static void
model_expect_claim(record_t *record)
{
    now_t  *now;

    now = &m->journal.call.now;

    want.rc = CLAIMED;
    want.touches[0] = 1;

    if (record && record->state == REJECTED) {
        model_expect_gone(0);
        record = NULL;
    }

    if (record == NULL) {
        model_expect_new(0, 0, 0);
    }

    want.lease = now->msec + (uint32_t) app.timeout;
    want.lease += (want.lease == 0);
    want.records[0].lease = want.lease;
}


static void
model_expect_store(void)
{
    call_t      *c;
    record_t    *record;
    ngx_uint_t   t, held;

    c = &m->journal.call;
    held = (c->key >= CLIENTS);

    if (c->lease) {

        if (model_expect_claimed(&t) == NULL) {
            return;
        }

        if (t != held) {
            model_expect_gone(t);
            model_expect_new(held, 1, c->now.msec);
        }

    } else if (want.exists[held]) {
        return;

    } else {
        model_expect_new(held, 1, held ? c->now.msec : 0);
    }

    record = &want.records[held];
    want.touches[held] = 1;

    if (!held) {
        record->valid = c->now.sec + app.cache_valid;
        record->generation++;

    } else if (c->created) {
        want.token = c->number;
        want.created = c->now.sec;
        record->generation++;
        record->renewals = 0;
        record->flags &= PINNED;

    } else if (c->expires - c->now.unix_sec >= app.refresh_before) {
        record->renewals = 0;
    }

    record->state = VALID;
    record->user_id = c->user_id;
    record->expires = c->expires;
    record->checked = c->now.sec;
    record->lease = 0;
    record->flags &= held ? ~(SUSPECT|TOLD) : ~SUSPECT;
}


static void
model_expect_reject(void)
{
    call_t      *c;
    record_t    *record;
    ngx_uint_t   t;

    c = &m->journal.call;

    if (c->lease) {
        record = model_expect_claimed(&t);

        if (record == NULL) {
            return;
        }

        want.rc = (record->state == VALID);

        model_expect_gone(0);

        if (c->key >= CLIENTS) {
            model_expect_gone(1);
        }
    }

    if (c->valid == 0 || want.exists[0]) {
        return;
    }

    model_expect_new(0, 0, 0);

    want.records[0].state = REJECTED;
    want.records[0].valid = c->now.sec + c->valid;
    want.records[0].flags = c->foreign ? FOREIGN : 0;
}


static record_t *
model_expect_claimed(ngx_uint_t *t)
{
    ngx_uint_t  key;

    key = m->journal.call.key;
    *t = (key >= CLIENTS);

    if (!want.exists[*t] && key >= CLIENTS + FIXED) {
        *t = 0;
    }

    return (want.exists[*t]
            && want.records[*t].lease == m->journal.call.lease)
           ? &want.records[*t] : NULL;
}


static void
model_expect_change(void)
{
    call_t      *c;
    record_t    *record;
    ngx_uint_t   t;

    c = &m->journal.call;
    t = (c->key >= CLIENTS);
    want.rc = (c->what == DROP) ? NGX_DONE
              : (c->what == ENDED) ? NGX_DECLINED : NGX_OK;

    if (c->what == RELEASE || c->what == ENDED) {
        record = model_expect_claimed(&t);

    } else if (c->what == DROP && t == 0) {
        record = want.exists[t] ? &want.records[t] : NULL;

    } else {
        record = (want.exists[t]
                  && want.records[t].generation == c->generation)
                 ? &want.records[t] : NULL;
    }

    if (record == NULL) {
        return;
    }

    want.touches[t] = 1;

    switch (c->what) {

    case RELEASE:
        record->lease = 0;

        if (record->state == PENDING) {
            model_expect_gone(t);
        }

        break;

    case ENDED:
        want.rc = (record->flags & TOLD) ? NGX_DONE : NGX_OK;
        record->flags |= TOLD;
        break;

    case DROP:
        if (t == 0) {
            want.rc = (record->state == VALID) ? NGX_OK : NGX_DONE;
            model_expect_gone(t);

        } else if (record->expires == 0) {
            want.touches[t] = 0;

        } else {
            want.rc = (record->flags & TOLD) ? NGX_DONE : NGX_OK;
            record->expires = 0;
            record->lease = (want.rc == NGX_OK) ? 0 : record->lease;
        }

        break;

    case SUSPECTED:
        record->flags |= SUSPECT;
        break;

    case PROVE:
        record->flags |= PROVED;
        break;

    default: /* SLIDE */
        if (record->state == VALID && record->expires) {
            record->expires = c->expires;
        }
    }
}


static void
model_expect_backoff(void)
{
    call_t     *c;
    backoff_t  *b;

    c = &m->journal.call;
    b = &want.backoff;

    want.rc = (c->what == FAILED) ? b->seconds == 0 : b->seconds != 0;

    if (c->what == SUCCEEDED) {

        if (b->seconds) {
            b->seconds = 0;
            b->until = c->msec;
        }

        return;
    }

    if (b->seconds == 0) {
        b->seconds = 1;

    } else if ((ngx_msec_int_t) (c->started - b->failed) > 0) {
        b->seconds = ngx_min(b->seconds * 2, 60);
    }

    b->failed = c->msec;
    b->until = c->msec + 1000 * ngx_max(b->seconds, (ngx_uint_t) c->valid);
}


static void
model_expect_new(ngx_uint_t t, ngx_uint_t evict, uint32_t generation)
{
    record_t  *record;

    want.touches[t] = 1;
    want.inserts[t] = 1;
    want.evict = evict;
    want.exists[t] = 1;

    record = &want.records[t];

    ngx_memzero(record, sizeof(record_t));
    ngx_memcpy(record->digest, m->journal.before.digest, 32);
    record->state = evict ? VALID : PENDING;
    record->generation = generation;

    if (t) {
        want.token = 0;
        want.created = 0;
    }
}


static void
model_expect_gone(ngx_uint_t t)
{
    want.removes[t] = want.exists[t];
    want.touches[t] |= want.exists[t];
    want.exists[t] = 0;
}


static ngx_uint_t
model_leased(record_t *record)
{
    return record->lease
           && record->lease - m->journal.call.now.msec - 1 < 600000;
}


static ngx_uint_t
model_live(record_t *record)
{
    now_t  *now;

    now = &m->journal.call.now;

    switch (record->state) {

    case VALID:
        return record->expires > now->unix_sec || model_leased(record);

    case REJECTED:
        return record->valid > now->sec;

    default:
        return model_leased(record);
    }
}


/* of a record before the call, and how soon it may give way to a new one */

static rank_e
model_rank(ngx_uint_t t, ngx_uint_t n, ngx_uint_t i)
{
    set_t       *set;
    record_t    *record;
    journal_t   *j;
    ngx_uint_t   k, others, own;

    j = &m->journal;
    n += 2 * t;
    set = &j->sets[n];
    record = &set->records[i];
    others = 0;

    own = WAYS;

    if (want.removes[t]
        && (ngx_uint_t) j->before.entries[t].index / WAYS == j->numbers[n])
    {
        own = j->before.entries[t].index % WAYS;
    }

    for (k = 0; k < WAYS; k++) {
        others += (set->tags[k] && k != own
                   && set->records[k].state != VALID);
    }

    /* what is no session has a share of the set */

    if (!want.evict && others >= SHARE
        && (set->tags[i] == 0 || i == own || record->state == VALID))
    {
        return RANK_NEVER;
    }

    if (set->tags[i] == 0 || i == own) {
        return RANK_EMPTY;
    }

    if (!model_live(record)) {
        return record->state == VALID ? RANK_ENDED : RANK_LAPSED;
    }

    if (record->state == REJECTED) {
        return RANK_REJECTED;
    }

    if (!want.evict || record->state != VALID) {
        return RANK_NEVER;
    }

    if (record->flags & PINNED) {
        return (record->flags & USED) || model_leased(record) ? RANK_NEVER
                                                              : RANK_PINNED;
    }

    return RANK_SESSION;
}


static rank_e
model_first(ngx_uint_t t, ngx_uint_t n)
{
    rank_e      rank, first;
    ngx_uint_t  i;

    first = RANK_NEVER;

    for (i = 0; i < WAYS; i++) {
        rank = model_rank(t, n, i);
        first = ngx_min(first, rank);
    }

    return first;
}


/* but for the second chance, which looking up gives and others take */

static ngx_uint_t
model_same(record_t *a, record_t *b)
{
    record_t  x, y;

    x = *a;
    y = *b;

    x.flags &= ~USED;
    y.flags &= ~USED;

    return memcmp(&x, &y, sizeof(record_t)) == 0;
}


static ngx_uint_t
model_set(ngx_uint_t t, u_char *part)
{
    uint64_t  k;

    ngx_memcpy(&k, part, sizeof(uint64_t));

    return ((unsigned __int128) k * tables[t]->nsets) >> 64;
}


/* where a digest stands, in the sets that it may stand in */

static ngx_int_t
model_seek(ngx_uint_t t, u_char *digest)
{
    set_t       *set;
    ngx_int_t    index;
    ngx_uint_t   n, i, number;

    index = -1;

    for (n = 0; n < 2; n++) {
        number = model_set(t, digest + 16 * n);
        set = &tables[t]->sets[number];

        for (i = 0; i < WAYS; i++) {

            if (set->tags[i] == 0
                || memcmp(set->records[i].digest, digest, 32) != 0)
            {
                continue;
            }

            if (index != -1 && index != (ngx_int_t) (number * WAYS + i)) {
                model_error("a digest stands twice");
            }

            index = number * WAYS + i;
        }
    }

    return index;
}


/* all of both tables, under the lock */

static void
model_sweep(void)
{
    set_t       *set;
    entry_t     *entry;
    ngx_int_t    owner;
    ngx_uint_t   t, i, present;

    for (t = 0; t < 2; t++) {

        if (ngx_http_quickblox_table_check(tables[t]) != NGX_OK) {
            model_error("an invariant does not hold");
        }

        present = 0;

        for (i = 0; i < tables[t]->nsets * WAYS; i++) {
            set = &tables[t]->sets[i / WAYS];
            owner = m->owners[t][i];

            if ((set->tags[i % WAYS] != 0) != (owner != -1)) {
                model_error("table %u is not as in the model at %u",
                            (unsigned) t, (unsigned) i);
                return;
            }

            if (owner == -1) {
                continue;
            }

            present++;
            entry = &m->keys[owner].entries[t];

            if (entry->index != (ngx_int_t) i
                || memcmp(entry->record.digest, m->keys[owner].digest, 32) != 0
                || !model_same(&entry->record, &set->records[i % WAYS]))
            {
                model_error("the record of key %d is not as in the model",
                            (int) owner);
                return;
            }
        }

        for (i = 0; i < KEYS; i++) {
            present -= (m->keys[i].entries[t].index != -1);
        }

        if (present) {
            model_error("the model has records that table %u has not",
                        (unsigned) t);
        }
    }
}


/* the first one is told */

static void
model_error(const char *format, ...)
{
    va_list  args;

    if (!ngx_atomic_cmp_set(&m->failed, 0, 1)) {
        return;
    }

    va_start(args, format);
    (void) vsnprintf(m->error, sizeof(m->error), format, args);
    va_end(args);
}


static void
test_model(void)
{
    ngx_uint_t    i, kills, idle, seen;
    ngx_atomic_t  done;

    for (i = 0; i < PROCESSES; i++) {
        pids[i] = test_fork();
    }

    for (kills = 0, idle = 0; kills < KILLS && !m->failed; /* void */) {

        done = m->operations;
        usleep(model_random(500));

        idle = (done == m->operations) ? idle + 1 : 0;

        if (idle == 100000) {
            model_error("nobody gets the lock any more");
        }

        if (done < OPERATIONS / KILLS * kills) {
            continue;
        }

        test_kill(kills++ % PROCESSES);

        if (kills == KILLS / 2) {
            m->msec = WRAP - 30000;
        }
    }

    while (m->operations < OPERATIONS && !m->failed) {
        usleep(1000);
    }

    m->doomed = 0;

    for (i = 0; i < PROCESSES; i++) {
        kill(pids[i], SIGKILL);
        (void) waitpid(pids[i], NULL, 0);
    }

    if (m->failed) {
        printf("# %s\n", m->error);
    }

    printf("# %u calls of %u processes, %u kills: %u in the lock, %u in the "
           "middle of a call, %u left it half done\n",
           (unsigned) m->operations, (unsigned) PROCESSES, (unsigned) kills,
           (unsigned) held_kills, (unsigned) called_kills,
           (unsigned) half_kills);
    printf("# %u keys, %u answers; what gave way: %u lapsed, %u ended, %u "
           "rejected, %u sessions, %u pinned; %u refused\n",
           (unsigned) m->minted, (unsigned) m->answers,
           (unsigned) m->ranks[RANK_LAPSED], (unsigned) m->ranks[RANK_ENDED],
           (unsigned) m->ranks[RANK_REJECTED],
           (unsigned) m->ranks[RANK_SESSION],
           (unsigned) m->ranks[RANK_PINNED], (unsigned) m->refused);

    ok(!m->failed, "T14: each call does what the model says, nothing else");

    ok(kills == KILLS && called_kills >= kills / 5 && half_kills,
       "processes were killed, also in the middle of a call");

    for (i = HIT, seen = 0; i <= NOTHING; i++) {
        printf("# look-up %u: %u\n", (unsigned) i, (unsigned) m->seen[i]);
        seen += (m->seen[i] >= 20);
    }

    ok(seen == 8, "look-ups found all that may be found");

    for (i = 0, seen = 0; i < RANK_NEVER; i++) {
        seen += (m->ranks[i] >= 20);
    }

    ok(seen == RANK_NEVER && m->refused >= 100, "the zone was full");
}


static pid_t
test_fork(void)
{
    pid_t     pid;
    uint64_t  seed;

    seed = model_random((uint64_t) 1 << 62);

    (void) fflush(stdout);

    pid = fork();

    if (pid == -1) {
        abort();
    }

    if (pid == 0) {
        model_process(seed);
    }

    return pid;
}


/* as nginx's master does it, but that the model has to catch up, too */

static void
test_kill(ngx_uint_t n)
{
    int           status;
    ngx_shmtx_t  *mutex;

    mutex = &zone.shpool->mutex;

    if (model_random(4)) {
        test_kill_stepwise(pids[n]);
    }

    kill(pids[n], SIGKILL);

    if (waitpid(pids[n], &status, 0) == -1 || !WIFSIGNALED(status)
        || WTERMSIG(status) != SIGKILL)
    {
        model_error("a process has ended by itself");
        return;
    }

    if (*mutex->lock == (ngx_atomic_uint_t) pids[n]) {
        held_kills++;

        if (m->journal.begun) {
            called_kills += !m->journal.judging;
            model_judge(!m->journal.judging);
        }

        (void) ngx_shmtx_force_unlock(mutex, pids[n]);
    }

    ngx_shmtx_lock(mutex);
    model_sweep();
    ngx_shmtx_unlock(mutex);

    pids[n] = test_fork();
}


/*
 * A process stops when it has the lock, and goes on until it has written a few
 * times to the tables or has done its call.
 */

static void
test_kill_stepwise(pid_t pid)
{
    int         status;
    size_t      size;
    u_char     *sets;
    ngx_uint_t  writes;

    static u_char  last[ZONE_SIZE];

    m->doomed = pid;

    if (waitpid(pid, &status, WUNTRACED) == -1 || !WIFSTOPPED(status)) {
        model_error("a process has not stopped");
        return;
    }

    m->doomed = 0;

#if (NGX_LINUX)

    sets = (u_char *) tables[1]->sets;
    size = shm_zone.shm.addr + ZONE_SIZE - sets;

    ngx_memcpy(last, sets, size);

    writes = model_random(10);

    while (writes && !m->journal.judging) {

        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == -1
            || waitpid(pid, &status, 0) == -1 || !WIFSTOPPED(status))
        {
            return;
        }

        if (memcmp(last, sets, size) != 0) {
            ngx_memcpy(last, sets, size);
            writes--;
        }
    }

#endif
}
