
/*
 * A library to be preloaded into nginx, which kills a worker inside the
 * critical section of a zone of the module, just after the n-th change that
 * is made to the zone's memory.  A file that the test writes to, and nginx
 * has mapped, says which change.
 *
 * From the lock on the processor traps after each instruction, and what the
 * zone holds is compared to what it held before.
 */


#define _GNU_SOURCE  /* NOLINT: the system's name */


#include <ngx_config.h>
#include <ngx_core.h>

#if (__x86_64__)
#include <x86intrin.h>
#endif

#include "hook.h"


#define KILL_ZONE  (256 * 1024)
#define KILL_TRAP  0x100

typedef struct {
    uint32_t            at;      /* which change, the first is 1; 0: none */
    uint32_t            count;
    uint32_t            killed;  /* its process */
} kill_control_t;


static volatile kill_control_t   kill_idle;
static volatile kill_control_t  *kill_control = &kill_idle;

/* of the zone whose lock is held; workers have one thread */

static u_char                   *kill_start;
static size_t                    kill_size;
static u_char                    kill_copy[KILL_ZONE];


static void
kill_look(int signo)
{
    if (kill_size == 0 || memcmp(kill_copy, kill_start, kill_size) == 0) {
        return;
    }

    memcpy(kill_copy, kill_start, kill_size);

    if (kill_control->at && ++kill_control->count == kill_control->at) {
        kill_control->at = 0;
        kill_control->killed = getpid();
        kill(getpid(), SIGKILL);
    }
}


/* without a trap the changes of a section are seen as one, at its end */

static ngx_inline void
kill_trap(uint64_t on)
{
#if (__x86_64__)
    __writeeflags((__readeflags() & ~(uint64_t) KILL_TRAP) | on);
#endif
}


static void (*real_ngx_shmtx_lock)(ngx_shmtx_t *mtx);
static void (*real_ngx_shmtx_unlock)(ngx_shmtx_t *mtx);


static void
kill_ngx_shmtx_lock(ngx_shmtx_t *mtx)
{
    ngx_slab_pool_t  *pool;

    real_ngx_shmtx_lock(mtx);

    if (kill_control->at == 0) {
        return;
    }

    pool = (ngx_slab_pool_t *) ((u_char *) mtx
                                - offsetof(ngx_slab_pool_t, mutex));

    kill_start = pool->start;
    kill_size = ngx_min(pool->end - pool->start, KILL_ZONE);

    memcpy(kill_copy, kill_start, kill_size);

    kill_trap(KILL_TRAP);
}


static void
kill_ngx_shmtx_unlock(ngx_shmtx_t *mtx)
{
    kill_trap(0);

    kill_look(0);
    kill_size = 0;

    real_ngx_shmtx_unlock(mtx);
}


#define KILL_HOOK(name)                                                       \
    { "ngx_http_quickblox_module", #name, (void *) kill_##name,               \
      (void **) &real_##name }

hook_t  hooks[] = {
    KILL_HOOK(ngx_shmtx_lock),
    KILL_HOOK(ngx_shmtx_unlock),
    { NULL, NULL, NULL, NULL }
};


__attribute__((constructor))
static void
kill_init(void)
{
    void  *p;

    p = hook_start("QUICKBLOX_KILL", sizeof(kill_control_t));

    if (p == NULL) {
        return;
    }

    kill_control = p;

#if (__x86_64__)
    if (signal(SIGTRAP, kill_look) == SIG_ERR) {
        abort();
    }
#endif
}
