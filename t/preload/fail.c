
/*
 * A library to be preloaded into nginx, which makes the n-th allocation of a
 * kind fail, or the n-th call of OpenSSL by the module, or the first that the
 * module comes to on a path on which none has failed yet.  A file that the
 * test writes to, and nginx has mapped, says which one and in which process.
 */


#define _GNU_SOURCE  /* NOLINT: the system's name */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <execinfo.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "hook.h"


#define FAIL_MEMORY  0x01    /* what nginx allocates, mostly for pools */
#define FAIL_MODULE  0x02    /* what the module asks nginx for */
#define FAIL_SLAB    0x04
#define FAIL_CJSON   0x08
#define FAIL_OPENSSL 0x10    /* what libcrypto and libssl allocate */
#define FAIL_CRYPTO  0x20    /* RAND_*, EVP_*, HMAC() */

#define FAIL_ANY     0xffffffff

#define FAIL_OBJECT  "ngx_http_quickblox_module"

#define FAIL_PATHS   4096
#define FAIL_DEPTH   64


typedef struct {
    uint32_t     pid;        /* or 0: nothing fails, or FAIL_ANY */
    uint32_t     kinds;
    uint32_t     at;         /* which one fails, the first is 1, or FAIL_ANY:
                                one on a path that is new */
    uint32_t     onwards;    /* as all do after it */
    uint32_t     count;
    uint32_t     failed;
    uint32_t     npaths;
    uint32_t     paths[FAIL_PATHS];
} fail_control_t;


static volatile fail_control_t  fail_idle;
static volatile fail_control_t *fail_control = &fail_idle;

static uintptr_t                fail_module;
static size_t                   fail_module_size;


static int
fail_find(struct dl_phdr_info *info, size_t size, void *data)
{
    size_t             i;
    const ElfW(Phdr)  *phdr;

    for (i = 0; i < info->dlpi_phnum; i++) {

        phdr = &info->dlpi_phdr[i];

        if (phdr->p_type == PT_LOAD && strstr(info->dlpi_name, FAIL_OBJECT)) {
            fail_module = info->dlpi_addr;
            fail_module_size = phdr->p_vaddr + phdr->p_memsz;
        }
    }

    return 0;
}


/* by which calls the module has come here since nginx has called it */

static uint32_t
fail_path(void)
{
    int        i, n;
    void      *frames[FAIL_DEPTH];
    uint32_t   hash;
    uintptr_t  offset;

    if (fail_module_size == 0) {
        dl_iterate_phdr(fail_find, NULL);
    }

    hash = 0;
    n = backtrace(frames, FAIL_DEPTH);

    for (i = 0; i < n; i++) {
        offset = (uintptr_t) frames[i] - fail_module;

        if (offset < fail_module_size) {
            hash = (hash ^ (uint32_t) offset) * 0x9e3779b1;

        } else if (hash) {
            break;
        }
    }

    return hash;
}


static int
fail_path_is_new(void)
{
    uint32_t  i, path;

    if (fail_control->failed || fail_control->npaths == FAIL_PATHS) {
        return 0;
    }

    path = fail_path();

    for (i = 0; i < fail_control->npaths; i++) {
        if (fail_control->paths[i] == path) {
            return 0;
        }
    }

    fail_control->paths[fail_control->npaths++] = path;

    return 1;
}


static int
fail(uint32_t kind)
{
    if (!(fail_control->kinds & kind)
        || (fail_control->pid != (uint32_t) getpid()
            && fail_control->pid != FAIL_ANY))
    {
        return 0;
    }

    fail_control->count++;

    if (fail_control->at == FAIL_ANY) {
        if (!fail_path_is_new()) {
            return 0;
        }

    } else if (fail_control->count != fail_control->at
               && (!fail_control->onwards
                   || fail_control->count < fail_control->at))
    {
        return 0;
    }

    fail_control->failed++;
    errno = ENOMEM;

    return 1;
}


/* an allocation, or another function, that is told from others by its kind */

#define FAIL(kind, type, name, result, parameters, arguments)                 \
                                                                              \
static type (*real_##kind##_##name) parameters;    /* NOLINT: has its () */  \
                                                                              \
static type                                                                   \
fail_##kind##_##name parameters                                               \
{                                                                             \
    return fail(FAIL_##kind) ? (result) : real_##kind##_##name arguments;     \
}


FAIL(MEMORY, void *, malloc, NULL, (size_t size), (size))
FAIL(MEMORY, int, posix_memalign, ENOMEM,
     (void **p, size_t alignment, size_t size), (p, alignment, size))

FAIL(CJSON, void *, malloc, NULL, (size_t size), (size))
FAIL(CJSON, void *, realloc, NULL, (void *p, size_t size), (p, size))

FAIL(OPENSSL, void *, malloc, NULL, (size_t size), (size))
FAIL(OPENSSL, void *, realloc, NULL, (void *p, size_t size), (p, size))

FAIL(SLAB, void *, ngx_slab_calloc, NULL, (ngx_slab_pool_t *pool, size_t size),
     (pool, size))

FAIL(MODULE, void *, ngx_palloc, NULL, (ngx_pool_t *pool, size_t size),
     (pool, size))
FAIL(MODULE, void *, ngx_pcalloc, NULL, (ngx_pool_t *pool, size_t size),
     (pool, size))
FAIL(MODULE, void *, ngx_pnalloc, NULL, (ngx_pool_t *pool, size_t size),
     (pool, size))
FAIL(MODULE, u_char *, ngx_pstrdup, NULL, (ngx_pool_t *pool, ngx_str_t *src),
     (pool, src))
FAIL(MODULE, ngx_buf_t *, ngx_create_temp_buf, NULL,
     (ngx_pool_t *pool, size_t size), (pool, size))
FAIL(MODULE, ngx_chain_t *, ngx_alloc_chain_link, NULL, (ngx_pool_t *pool),
     (pool))
FAIL(MODULE, void *, ngx_list_push, NULL, (ngx_list_t *list), (list))
FAIL(MODULE, ngx_pool_cleanup_t *, ngx_pool_cleanup_add, NULL,
     (ngx_pool_t *pool, size_t size), (pool, size))
FAIL(MODULE, ngx_array_t *, ngx_array_create, NULL,
     (ngx_pool_t *pool, ngx_uint_t n, size_t size), (pool, n, size))
FAIL(MODULE, ngx_int_t, ngx_conf_full_name, NGX_ERROR,
     (ngx_cycle_t *cycle, ngx_str_t *name, ngx_uint_t prefix),
     (cycle, name, prefix))
FAIL(MODULE, ngx_int_t, ngx_ssl_create, NGX_ERROR,
     (ngx_ssl_t *ssl, ngx_uint_t protocols, void *data),
     (ssl, protocols, data))
FAIL(MODULE, ngx_http_variable_t *, ngx_http_add_variable, NULL,
     (ngx_conf_t *cf, ngx_str_t *name, ngx_uint_t flags), (cf, name, flags))
FAIL(MODULE, ngx_int_t, ngx_http_compile_complex_value, NGX_ERROR,
     (ngx_http_compile_complex_value_t *ccv), (ccv))
FAIL(MODULE, ngx_http_cleanup_t *, ngx_http_cleanup_add, NULL,
     (ngx_http_request_t *r, size_t size), (r, size))
FAIL(MODULE, ngx_int_t, ngx_http_discard_request_body,
     NGX_HTTP_INTERNAL_SERVER_ERROR, (ngx_http_request_t *r), (r))
FAIL(MODULE, ngx_int_t, ngx_http_read_client_request_body,
     NGX_HTTP_INTERNAL_SERVER_ERROR,
     (ngx_http_request_t *r, ngx_http_client_body_handler_pt handler),
     (r, handler))
FAIL(MODULE, ngx_int_t, ngx_http_send_response, NGX_HTTP_INTERNAL_SERVER_ERROR,
     (ngx_http_request_t *r, ngx_uint_t status, ngx_str_t *type,
      ngx_http_complex_value_t *cv), (r, status, type, cv))
FAIL(MODULE, ngx_http_request_t *, ngx_http_create_request, NULL,
     (ngx_connection_t *c), (c))
FAIL(MODULE, ngx_int_t, ngx_http_complex_value, NGX_ERROR,
     (ngx_http_request_t *r, ngx_http_complex_value_t *cv, ngx_str_t *value),
     (r, cv, value))
FAIL(MODULE, ngx_int_t, ngx_http_subrequest, NGX_ERROR,
     (ngx_http_request_t *r, ngx_str_t *uri, ngx_str_t *args,
      ngx_http_request_t **psr, ngx_http_post_subrequest_t *ps,
      ngx_uint_t flags), (r, uri, args, psr, ps, flags))
FAIL(MODULE, ngx_int_t, ngx_http_upstream_create, NGX_ERROR,
     (ngx_http_request_t *r), (r))
FAIL(MODULE, ngx_int_t, ngx_http_upstream_create_round_robin_peer, NGX_ERROR,
     (ngx_http_request_t *r, ngx_http_upstream_resolved_t *ur), (r, ur))

FAIL(CRYPTO, int, RAND_bytes, 0, (unsigned char *buf, int len), (buf, len))
FAIL(CRYPTO, int, EVP_Digest, 0,
     (const void *data, size_t count, unsigned char *md, unsigned int *size,
      const EVP_MD *type, ENGINE *impl), (data, count, md, size, type, impl))
FAIL(CRYPTO, int, EVP_DigestInit_ex, 0,
     (EVP_MD_CTX *ctx, const EVP_MD *type, ENGINE *impl), (ctx, type, impl))
FAIL(CRYPTO, int, EVP_DigestUpdate, 0,
     (EVP_MD_CTX *ctx, const void *data, size_t count), (ctx, data, count))
FAIL(CRYPTO, int, EVP_DigestFinal_ex, 0,
     (EVP_MD_CTX *ctx, unsigned char *md, unsigned int *size),
     (ctx, md, size))
FAIL(CRYPTO, EVP_MD_CTX *, EVP_MD_CTX_new, NULL, (void), ())
FAIL(CRYPTO, EVP_MD *, EVP_MD_fetch, NULL,
     (OSSL_LIB_CTX *ctx, const char *algorithm, const char *properties),
     (ctx, algorithm, properties))
FAIL(CRYPTO, EVP_CIPHER *, EVP_CIPHER_fetch, NULL,
     (OSSL_LIB_CTX *ctx, const char *algorithm, const char *properties),
     (ctx, algorithm, properties))
FAIL(CRYPTO, EVP_MAC *, EVP_MAC_fetch, NULL,
     (OSSL_LIB_CTX *ctx, const char *algorithm, const char *properties),
     (ctx, algorithm, properties))
FAIL(CRYPTO, EVP_CIPHER_CTX *, EVP_CIPHER_CTX_new, NULL, (void), ())
FAIL(CRYPTO, int, EVP_CipherInit_ex, 0,
     (EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, ENGINE *impl,
      const unsigned char *key, const unsigned char *iv, int enc),
     (ctx, cipher, impl, key, iv, enc))
FAIL(CRYPTO, int, EVP_CipherUpdate, 0,
     (EVP_CIPHER_CTX *ctx, unsigned char *out, int *outl,
      const unsigned char *in, int inl), (ctx, out, outl, in, inl))
FAIL(CRYPTO, int, EVP_CipherFinal_ex, 0,
     (EVP_CIPHER_CTX *ctx, unsigned char *out, int *outl), (ctx, out, outl))
FAIL(CRYPTO, int, EVP_CIPHER_CTX_ctrl, 0,
     (EVP_CIPHER_CTX *ctx, int type, int arg, void *ptr),
     (ctx, type, arg, ptr))
FAIL(CRYPTO, unsigned char *, HMAC, NULL,
     (const EVP_MD *md, const void *key, int key_len,
      const unsigned char *data, size_t data_len, unsigned char *out,
      unsigned int *out_len),
     (md, key, key_len, data, data_len, out, out_len))


/* where there is room, nothing is allocated, which the module counts on */

static void *(*real_MODULE_ngx_array_push)(ngx_array_t *a);

static void *
fail_MODULE_ngx_array_push(ngx_array_t *a)
{
    if (a->nelts == a->nalloc && fail(FAIL_MODULE)) {
        return NULL;
    }

    return real_MODULE_ngx_array_push(a);
}


/*
 * The smallest pool there is, so that nearly all that the module allocates
 * from its own is an allocation of nginx, as "request_pool_size" does for
 * those of requests.
 */

static ngx_pool_t *(*real_MODULE_ngx_create_pool)(size_t size, ngx_log_t *log);

static ngx_pool_t *
fail_MODULE_ngx_create_pool(size_t size, ngx_log_t *log)
{
    return fail(FAIL_MODULE) ? NULL
                             : real_MODULE_ngx_create_pool(NGX_MIN_POOL_SIZE,
                                                           log);
}


#define FAIL_HOOK(object, kind, name)                                         \
    { object, #name, (void *) fail_##kind##_##name,                           \
      (void **) &real_##kind##_##name }

#define FAIL_OF_MODULE(kind, name)  FAIL_HOOK(FAIL_OBJECT, kind, name)


hook_t  hooks[] = {
    FAIL_HOOK("", MEMORY, malloc),
    FAIL_HOOK("", MEMORY, posix_memalign),
    FAIL_HOOK("libcjson", CJSON, malloc),
    FAIL_HOOK("libcjson", CJSON, realloc),
    FAIL_HOOK("libcrypto", OPENSSL, malloc),
    FAIL_HOOK("libcrypto", OPENSSL, realloc),
    FAIL_OF_MODULE(SLAB, ngx_slab_calloc),
    FAIL_OF_MODULE(MODULE, ngx_create_pool),
    FAIL_OF_MODULE(MODULE, ngx_palloc),
    FAIL_OF_MODULE(MODULE, ngx_pcalloc),
    FAIL_OF_MODULE(MODULE, ngx_pnalloc),
    FAIL_OF_MODULE(MODULE, ngx_pstrdup),
    FAIL_OF_MODULE(MODULE, ngx_create_temp_buf),
    FAIL_OF_MODULE(MODULE, ngx_alloc_chain_link),
    FAIL_OF_MODULE(MODULE, ngx_array_create),
    FAIL_OF_MODULE(MODULE, ngx_array_push),
    FAIL_OF_MODULE(MODULE, ngx_list_push),
    FAIL_OF_MODULE(MODULE, ngx_pool_cleanup_add),
    FAIL_OF_MODULE(MODULE, ngx_conf_full_name),
    FAIL_OF_MODULE(MODULE, ngx_ssl_create),
    FAIL_OF_MODULE(MODULE, ngx_http_add_variable),
    FAIL_OF_MODULE(MODULE, ngx_http_compile_complex_value),
    FAIL_OF_MODULE(MODULE, ngx_http_cleanup_add),
    FAIL_OF_MODULE(MODULE, ngx_http_discard_request_body),
    FAIL_OF_MODULE(MODULE, ngx_http_read_client_request_body),
    FAIL_OF_MODULE(MODULE, ngx_http_send_response),
    FAIL_OF_MODULE(MODULE, ngx_http_create_request),
    FAIL_OF_MODULE(MODULE, ngx_http_complex_value),
    FAIL_OF_MODULE(MODULE, ngx_http_subrequest),
    FAIL_OF_MODULE(MODULE, ngx_http_upstream_create),
    FAIL_OF_MODULE(MODULE, ngx_http_upstream_create_round_robin_peer),
    FAIL_OF_MODULE(CRYPTO, RAND_bytes),
    FAIL_OF_MODULE(CRYPTO, EVP_Digest),
    FAIL_OF_MODULE(CRYPTO, EVP_DigestInit_ex),
    FAIL_OF_MODULE(CRYPTO, EVP_DigestUpdate),
    FAIL_OF_MODULE(CRYPTO, EVP_DigestFinal_ex),
    FAIL_OF_MODULE(CRYPTO, EVP_MD_CTX_new),
    FAIL_OF_MODULE(CRYPTO, EVP_MD_fetch),
    FAIL_OF_MODULE(CRYPTO, EVP_CIPHER_fetch),
    FAIL_OF_MODULE(CRYPTO, EVP_MAC_fetch),
    FAIL_OF_MODULE(CRYPTO, EVP_CIPHER_CTX_new),
    FAIL_OF_MODULE(CRYPTO, EVP_CipherInit_ex),
    FAIL_OF_MODULE(CRYPTO, EVP_CipherUpdate),
    FAIL_OF_MODULE(CRYPTO, EVP_CipherFinal_ex),
    FAIL_OF_MODULE(CRYPTO, EVP_CIPHER_CTX_ctrl),
    FAIL_OF_MODULE(CRYPTO, HMAC),
    { NULL, NULL, NULL, NULL }
};


__attribute__((constructor))
static void
fail_init(void)
{
    void  *p;

    p = hook_start("QUICKBLOX_FAIL", sizeof(fail_control_t));

    if (p) {
        fail_control = p;
    }
}
