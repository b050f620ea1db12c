
/*
 * A library to be preloaded into nginx, which keeps count of what malloc() has
 * given and free() has not had back: to the byte, where the system tells of
 * pages.  A test reads it from outside, with what it needs to know to find the
 * rest, see t/lib/Gateway/Worker.pm.  Under a sanitizer, whose malloc() comes
 * first, the count stays at nothing.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include <malloc.h>


typedef struct {
    size_t   bytes;
    void    *cycle;          /* where the pointer to it is */
    size_t   connections;    /* offset of those that are free, in a cycle */
    size_t   pages;          /* and in a zone */
} heap_t;


/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl*): these are glibc's */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *p);

/* NOLINTEND(bugprone-reserved-identifier,cert-dcl*) */


heap_t  heap = {
    0,
    (void *) &ngx_cycle,
    offsetof(ngx_cycle_t, free_connection_n),
    offsetof(ngx_slab_pool_t, pfree)
};


static void *
heap_add(void *p)
{
    heap.bytes += malloc_usable_size(p);

    return p;
}


void *
malloc(size_t size)
{
    return heap_add(__libc_malloc(size));
}


void *
calloc(size_t n, size_t size)
{
    return heap_add(__libc_calloc(n, size));
}


void *
realloc(void *p, size_t size)
{
    size_t   old;
    void    *new;

    old = malloc_usable_size(p);

    new = __libc_realloc(p, size);

    if (new || size == 0) {
        heap.bytes -= old;
    }

    return heap_add(new);
}


void *
memalign(size_t alignment, size_t size)
{
    return heap_add(__libc_memalign(alignment, size));
}


void *
aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}


int
posix_memalign(void **p, size_t alignment, size_t size)
{
    *p = memalign(alignment, size);

    return *p ? 0 : ENOMEM;
}


void
free(void *p)
{
    heap.bytes -= malloc_usable_size(p);

    __libc_free(p);
}
