
/*
 * What the fuzz targets share.  A target is one file, which reads any bytes
 * and aborts where the code breaks a promise of its header; libFuzzer calls
 * it, or fuzz/main.c with the files of its corpus.
 */


#ifndef _FUZZ_H_INCLUDED_
#define _FUZZ_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define fuzz_check(e)                                                        \
    do {                                                                     \
        if (!(e)) {                                                          \
            (void) fprintf(stderr, "%s:%d: not so: %s\n", __FILE__,          \
                           __LINE__, #e);                                    \
            abort();                                                         \
        }                                                                    \
    } while (0)


int LLVMFuzzerTestOneInput(const u_char *data, size_t size);


static ngx_inline void *
fuzz_alloc(size_t size)
{
    void  *p;

    p = malloc(size ? size : 1);

    if (p == NULL) {
        abort();
    }

    return p;
}


/*
 * A heap block of exactly its length, so that the address sanitizer sees a
 * byte beyond it; an empty string has no data, as nginx has it.
 */

static ngx_inline ngx_str_t
fuzz_copy(const u_char *data, size_t len)
{
    ngx_str_t  s;

    ngx_str_null(&s);

    if (len) {
        s.data = fuzz_alloc(len);
        s.len = len;
        ngx_memcpy(s.data, data, len);
    }

    return s;
}


/* takes a line, without its end, off an input; all of it where it has none */

static ngx_inline ngx_str_t
fuzz_line(const u_char **data, size_t *size)
{
    size_t         len;
    ngx_str_t      line;
    const u_char  *p;

    p = *size ? memchr(*data, LF, *size) : NULL;
    len = p ? (size_t) (p - *data) : *size;

    line = fuzz_copy(*data, len);

    len += (p != NULL);
    *data += len;
    *size -= len;

    return line;
}


static ngx_inline ngx_uint_t
fuzz_same(ngx_str_t *a, ngx_str_t *b)
{
    return a->len == b->len
           && (a->len == 0 || ngx_memcmp(a->data, b->data, a->len) == 0);
}


/* whether a string lies within len bytes at p */

static ngx_inline ngx_uint_t
fuzz_within(ngx_str_t *s, u_char *p, size_t len)
{
    return s->data >= p && s->data <= p + len
           && s->len <= (size_t) (p + len - s->data);
}


#endif /* _FUZZ_H_INCLUDED_ */
