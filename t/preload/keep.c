
/*
 * A library to be preloaded into nginx, in which nothing that is freed is used
 * again: all that ever was in the heap can be found there, unless it has been
 * cleansed.
 */


#define _GNU_SOURCE  /* NOLINT: the system's name */


#include <ngx_config.h>
#include <ngx_core.h>

#include <malloc.h>


void
free(void *p)
{
}


void *
realloc(void *p, size_t size)
{
    void    *new;
    size_t   old;

    new = malloc(size);

    if (new && p) {
        old = malloc_usable_size(p);
        ngx_memcpy(new, p, ngx_min(old, size));
    }

    return new;
}
