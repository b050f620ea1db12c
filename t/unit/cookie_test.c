
/*
 * Unit tests of ngx_http_quickblox_cookie.c, by the rows of the list of
 * threats: T27, nonces; T28, cookies that are not as they were; T29, headers
 * that are made to cost time; T58, two cookies of a name.
 *
 * Every input and output is a heap block of exactly its length, so that the
 * address sanitizer sees a byte beyond it.  Seals are also made by code that
 * is the test's own: it seals what the module never would.
 */


/* RAND_set_rand_method() is how a random generator fails on demand */
#define OPENSSL_SUPPRESS_DEPRECATED


#include <ngx_config.h>
#include <ngx_core.h>

#include <stdarg.h>
#include <stdio.h>

#include <sys/mman.h>
#include <ucontext.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>

#include "../../ngx_http_quickblox_module/ngx_http_quickblox_cookie.h"

#include "unit.h"


#define PLAN          242

#define COUNT(a)      (sizeof(a) / sizeof((a)[0]))

#define KEY           NGX_HTTP_QUICKBLOX_COOKIE_KEY
#define MAX           NGX_HTTP_QUICKBLOX_COOKIE_MAX

#define NAME          "__Host-quickblox"
#define HEX           "9c8e0d2cfa7b4c1f9d3e5a6b7c8d9e0f1a2b3c4d"

#define BASE64URL     "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  \
                      "0123456789-_"

#define NONCE         12
#define HEAD          (1 + NONCE)
#define IDS           24
#define TAG           16

/* the bytes and the text of a seal of n bytes of token */
#define SEAL(n)       (HEAD + IDS + (n) + TAG)
#define TEXT(n)       ((SEAL(n) * 4 + 2) / 3)

#define NONCES        100000
#define CHILDREN      8

/* of each child: 10^7 of all with QUICKBLOX_LONG=1 */
#define CHILD_NONCES  (getenv("QUICKBLOX_LONG") ? 1250000 : 1000)

#define RANDOM        100000

/* the sanitizers' frames are large */
#define STACK         (1024 * 1024)


typedef ngx_http_quickblox_cookie_t  cookie_t;
typedef ngx_http_quickblox_sealed_t  sealed_t;


/* what the test seals itself */

typedef struct {
    u_char           version;
    uint64_t         bound;             /* the application authenticated */
    uint64_t         application;       /* the application encrypted */
    size_t           len;               /* of all that is encrypted */
    ngx_str_t        token;
} test_seal_t;


typedef struct {
    ngx_str_t        header;
    ngx_str_t        name;
    const char      *values;            /* each in brackets */
    const char      *rest;              /* the header without them */
} test_header_t;


static void start(cookie_t *cookie, const char *keys);
static void stop(cookie_t *cookie);
static void session(sealed_t *sealed, size_t len);
static ngx_uint_t same(sealed_t *a, sealed_t *b);
static ngx_str_t seal(cookie_t *cookie, sealed_t *sealed);
static ngx_int_t opened(cookie_t *cookie, ngx_str_t *value, sealed_t *sealed);
static ngx_uint_t refused(cookie_t *cookie, ngx_str_t *value);
static size_t decode(ngx_str_t *value, u_char *dst);
static ngx_str_t encode(u_char *src, size_t len);
static ngx_str_t seal_apart(cookie_t *cookie, test_seal_t *s);
static ngx_str_t found(ngx_str_t *header, ngx_str_t *name);
static ngx_str_t removed(ngx_str_t *header, ngx_str_t *name);


static ngx_uint_t  allocations;     /* of OpenSSL */
static ngx_int_t   left = -1;       /* those that succeed, -1 is all */

static int         rand_result;     /* of the generator that is no one */

static ucontext_t  stack_test;      /* the test, and what has its own stack */
static ucontext_t  stack_other;
static cookie_t    stack_cookie;
static sealed_t    stack_sealed;
static ngx_str_t   stack_value;
static ngx_int_t   stack_rc;


static void *
hook_malloc(size_t size, const char *file, int line)
{
    if (left == 0) {
        return NULL;
    }

    if (left > 0) {
        left--;
    }

    allocations++;

    return malloc(size);
}


static void *
hook_realloc(void *p, size_t size, const char *file, int line)
{
    if (left == 0) {
        return NULL;
    }

    allocations++;

    return realloc(p, size);
}


static void
hook_free(void *p, const char *file, int line)
{
    free(p);
}


/* bytes 0, 1, 2 ... when the result is 1 */

static int
hook_rand(unsigned char *buf, int n)
{
    int  i;

    for (i = 0; i < n; i++) {
        buf[i] = (u_char) i;
    }

    return rand_result;
}


static RAND_METHOD  hook_method = {
    NULL,
    hook_rand,
    NULL,
    NULL,
    hook_rand,
    NULL
};


/* a letter of keys stands for the key that is made of it */

static void
start(cookie_t *cookie, const char *keys)
{
    size_t     i, n;
    ngx_str_t  name;

    cookie->cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    cookie->keyed = NULL;
    cookie->ctx = EVP_CIPHER_CTX_new();

    if (cookie->cipher == NULL || cookie->ctx == NULL) {
        abort();
    }

    n = strlen(keys);

    cookie->keys = allocated(n * KEY);
    cookie->nkeys = n;

    for (i = 0; i < n * KEY; i++) {
        cookie->keys[i] = (u_char) (keys[i / KEY] - 'A' + 8 * (i % KEY));
    }

    ngx_str_set(&name, NAME);
    cookie->name = copy(&name);
    cookie->application_id = 92;
}


static void
stop(cookie_t *cookie)
{
    EVP_CIPHER_CTX_free(cookie->ctx);
    EVP_CIPHER_free(cookie->cipher);
    free(cookie->name.data);
    free(cookie->keys);
}


static void
session(sealed_t *sealed, size_t len)
{
    size_t  i;

    ngx_memset(sealed, 0xa5, sizeof(sealed_t));

    sealed->user_id = 7;
    sealed->created = 1795535646;
    sealed->token_len = len;

    for (i = 0; i < len; i++) {
        sealed->token[i] = HEX[i % (sizeof(HEX) - 1)];
    }
}


static ngx_uint_t
same(sealed_t *a, sealed_t *b)
{
    return a->user_id == b->user_id && a->created == b->created
           && a->token_len == b->token_len
           && memcmp(a->token, b->token, a->token_len) == 0;
}


/* the value in a block of its length, no data when there is none */

static ngx_str_t
seal(cookie_t *cookie, sealed_t *sealed)
{
    ngx_str_t  room, value;

    room.data = allocated(MAX);
    room.len = 4711;

    ngx_memset(room.data, 0xa5, MAX);
    ngx_str_null(&value);

    if (ngx_http_quickblox_cookie_seal(cookie, sealed, &room) == NGX_OK) {
        value = copy(&room);
    }

    free(room.data);

    return value;
}


/*
 * cookie_open() with what holds for every value: it is not modified, only
 * success writes a session, and a refusal leaves no error in OpenSSL's queue,
 * where nginx would find it and log an alert.
 */

static ngx_int_t
opened(cookie_t *cookie, ngx_str_t *value, sealed_t *sealed)
{
    ngx_int_t        rc;
    ngx_str_t        input;
    ngx_uint_t       bad;

    static sealed_t  untouched;

    ngx_memset(&untouched, 0x5a, sizeof(sealed_t));
    ngx_memset(sealed, 0x5a, sizeof(sealed_t));
    ERR_clear_error();

    input = copy(value);

    rc = ngx_http_quickblox_cookie_open(cookie, &input, sealed);

    bad = (input.len != value->len);
    bad |= (input.len && memcmp(input.data, value->data, input.len) != 0);
    bad |= (rc != NGX_OK && memcmp(sealed, &untouched, sizeof(sealed_t)) != 0);
    bad |= (rc != NGX_ERROR && ERR_peek_error());
    bad |= (rc != NGX_OK && rc != NGX_DECLINED && rc != NGX_ERROR);

    free(input.data);

    return bad ? -1000 : rc;
}


static ngx_uint_t
refused(cookie_t *cookie, ngx_str_t *value)
{
    sealed_t  sealed;

    return opened(cookie, value, &sealed) == NGX_DECLINED;
}


/* base64url, bit by bit and nothing like OpenSSL's */

static size_t
decode(ngx_str_t *value, u_char *dst)
{
    size_t        i, n;
    uint32_t      bits, acc;

    static char   digits[] = BASE64URL;

    for (i = 0, n = 0, bits = 0, acc = 0; i < value->len; i++) {
        acc = acc << 6 | (uint32_t) (strchr(digits, value->data[i]) - digits);
        bits += 6;

        if (bits >= 8) {
            bits -= 8;
            dst[n++] = (u_char) (acc >> bits);
        }
    }

    return n;
}


static ngx_str_t
encode(u_char *src, size_t len)
{
    size_t        i;
    uint32_t      bits, acc;
    ngx_str_t     value;

    static char   digits[] = BASE64URL;

    value.data = allocated((len * 4 + 2) / 3 + 1);
    value.len = 0;

    for (i = 0, bits = 0, acc = 0; i < len; i++) {
        acc = acc << 8 | src[i];

        for (bits += 8; bits >= 6; /* void */) {
            bits -= 6;
            value.data[value.len++] = digits[acc >> bits & 63];
        }
    }

    if (bits) {
        value.data[value.len++] = digits[acc << (6 - bits) & 63];
    }

    return value;
}


/* a right seal of whatever it is told, by the cookie's first key and name */

static ngx_str_t
seal_apart(cookie_t *cookie, test_seal_t *s)
{
    int              n, i;
    u_char           out[SEAL(2048)], plain[IDS + 2048], head[17];
    EVP_CIPHER_CTX  *ctx;

    ngx_memzero(plain, sizeof(plain));
    ngx_memzero(head, sizeof(head));

    head[0] = s->version;
    head[9] = (u_char) cookie->name.len;
    plain[8] = 7;

    for (i = 0; i < 8; i++) {
        head[1 + i] = (u_char) (s->bound >> 8 * i);
        plain[i] = (u_char) (s->application >> 8 * i);
        plain[16 + i] = (u_char) ((uint64_t) 1795535646 >> 8 * i);
    }

    ngx_memcpy(plain + IDS, s->token.data, s->token.len);

    out[0] = s->version;

    for (i = 0; i < NONCE; i++) {
        out[1 + i] = (u_char) i;
    }

    ctx = EVP_CIPHER_CTX_new();

    if (ctx == NULL
        || EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, cookie->keys,
                              out + 1)
           != 1
        || EVP_EncryptUpdate(ctx, NULL, &n, head, sizeof(head)) != 1
        || EVP_EncryptUpdate(ctx, NULL, &n, cookie->name.data,
                             (int) cookie->name.len)
           != 1
        || EVP_EncryptUpdate(ctx, out + HEAD, &n, plain, (int) s->len) != 1
        || EVP_EncryptFinal_ex(ctx, out + HEAD + s->len, &n) != 1
        || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG,
                               out + HEAD + s->len)
           != 1)
    {
        abort();
    }

    EVP_CIPHER_CTX_free(ctx);

    return encode(out, HEAD + s->len + TAG);
}


/* what a seal is for years: those of older versions of the module */

static void
test_known(void)
{
    cookie_t     cookie;
    sealed_t     in, out;
    ngx_str_t    value, apart;
    test_seal_t  s;

    /* by Python's cryptography */

    static ngx_str_t  known = ngx_string(
        "AQABAgMEBQYHCAkKC39enebZwhdCKesL8JTguNqi2eBRaIoG"
        "lBLczQzgrf4ciiOQ6CnSWRxaKtqYB9kCADJBFJICmROuxahL"
        "foNq_a2DZesffJ75XCoSBAsVslVA");

    start(&cookie, "A");
    session(&in, sizeof(HEX) - 1);

    rand_result = 1;
    RAND_set_rand_method(&hook_method);

    value = seal(&cookie, &in);

    RAND_set_rand_method(NULL);

    ok(value.len == known.len && memcmp(value.data, known.data, known.len)
       == 0, "known: a seal, byte for byte");

    ok(opened(&cookie, &known, &out) == NGX_OK && same(&in, &out),
       "known: it opens");

    s.version = 1;
    s.bound = 92;
    s.application = 92;
    s.len = IDS + sizeof(HEX) - 1;
    ngx_str_set(&s.token, HEX);

    apart = seal_apart(&cookie, &s);

    ok(apart.len == known.len && memcmp(apart.data, known.data, known.len)
       == 0, "known: the test's own seal is the same");

    free(apart.data);
    free(value.data);
    stop(&cookie);
}


static void
test_lengths(void)
{
    size_t        i, k;
    cookie_t      cookie;
    sealed_t      in, out;
    ngx_str_t     value;
    ngx_uint_t    good, bad;

    static char      digits[] = BASE64URL;
    static size_t    lens[] = { 8, 40, 200, 1024 };
    static uint64_t  numbers[] = {
        0, 1, 255, 256, 4294967296, 9007199254740992ULL,
        0x0102030405060708ULL, 0xffffffffffffffffULL
    };

    start(&cookie, "A");

    for (i = 0; i < COUNT(lens); i++) {
        session(&in, lens[i]);
        value = seal(&cookie, &in);

        ok(value.len == TEXT(lens[i])
           && opened(&cookie, &value, &out) == NGX_OK && same(&in, &out),
           "lengths: a token of %u bytes in %u", (unsigned) lens[i],
           (unsigned) value.len);

        free(value.data);
    }

    ok(TEXT(1024) + 1 == MAX, "lengths: the longest value and a zero byte");

    for (i = 8, good = 0, bad = 0; i <= 1024; i++) {
        session(&in, i);
        value = seal(&cookie, &in);

        good += (value.len == TEXT(i)
                 && opened(&cookie, &value, &out) == NGX_OK
                 && same(&in, &out));

        for (k = 0; k < value.len; k++) {
            bad += (memchr(digits, value.data[k], sizeof(digits) - 1)
                    == NULL);
        }

        free(value.data);
    }

    ok(good == 1017, "lengths: each length of a token");
    ok(bad == 0, "lengths: values are of letters, digits, \"-\" and \"_\"");

    for (i = 0, good = 0; i < COUNT(numbers); i++) {
        for (k = 0; k < COUNT(numbers); k++) {
            session(&in, 40);
            in.user_id = numbers[i];
            in.created = numbers[k];
            cookie.application_id = numbers[(i + k) % COUNT(numbers)];

            value = seal(&cookie, &in);
            good += (opened(&cookie, &value, &out) == NGX_OK
                     && same(&in, &out));
            free(value.data);
        }
    }

    ok(good == COUNT(numbers) * COUNT(numbers), "lengths: numbers of 64 bits");

    stop(&cookie);
}


static void
test_tampered(void)
{
    u_char      bytes[SEAL(1024) + 1], c;
    size_t      len, i, k;
    cookie_t    cookie;
    sealed_t    in, out;
    ngx_str_t   value, v;
    ngx_uint_t  n, bad;

    start(&cookie, "AB");

    /* of each length that leaves other bits unused */

    for (n = 40; n < 43; n++) {
        session(&in, n);
        value = seal(&cookie, &in);

        for (i = 0, bad = 0; i < value.len; i++) {
            for (k = 0; k < 8; k++) {
                value.data[i] ^= (u_char) (1 << k);
                bad += !refused(&cookie, &value);
                value.data[i] ^= (u_char) (1 << k);
            }
        }

        ok(bad == 0, "T28: every bit of the text flipped is refused, %u",
           (unsigned) n);

        len = decode(&value, bytes);

        for (i = 0, bad = (len != SEAL(n)); i < len; i++) {
            for (k = 0; k < 8; k++) {
                bytes[i] ^= (u_char) (1 << k);

                v = encode(bytes, len);
                bad += !refused(&cookie, &v);
                free(v.data);

                bytes[i] ^= (u_char) (1 << k);
            }
        }

        ok(bad == 0, "T28: every bit of the bytes flipped is refused, %u",
           (unsigned) n);

        v = value;

        for (v.len = 0, bad = 0; v.len < value.len; v.len++) {
            bad += !refused(&cookie, &v);
        }

        for (i = 1; i <= value.len; i++) {
            v.data = value.data + i;
            v.len = value.len - i;
            bad += !refused(&cookie, &v);
        }

        ok(bad == 0, "T28: every part of the text is refused, %u",
           (unsigned) n);

        for (i = 0, bad = 0; i < len; i++) {
            v = encode(bytes, i);
            bad += !refused(&cookie, &v);
            free(v.data);

            v = encode(bytes + len - i, i);
            bad += !refused(&cookie, &v);
            free(v.data);
        }

        ok(bad == 0, "T28: every part of the bytes is refused, %u",
           (unsigned) n);

        for (i = 0, bad = 0; i < 256; i++) {
            bytes[len] = (u_char) i;

            v = encode(bytes, len + 1);
            bad += !refused(&cookie, &v);
            v.data[v.len - 1] = (u_char) i;
            bad += !refused(&cookie, &v);
            free(v.data);
        }

        ok(bad == 0, "T28: a byte more is refused, %u", (unsigned) n);

        /* nothing of it was the context's doing */

        ok(opened(&cookie, &value, &out) == NGX_OK && same(&in, &out),
           "T28: and as it was it opens, %u", (unsigned) n);

        free(value.data);
    }

    session(&in, 40);
    value = seal(&cookie, &in);

    for (i = 0, bad = 0; i < value.len; i++) {
        c = value.data[i];

        for (k = 0; k < 256; k++) {
            value.data[i] = (u_char) k;
            bad += (refused(&cookie, &value) != (k != c));
        }

        value.data[i] = c;
    }

    ok(bad == 0, "T28: any byte in any place is refused");

    free(value.data);

    session(&in, 1024);
    value = seal(&cookie, &in);

    for (i = 0, bad = 0; i < value.len; i++) {
        value.data[i] ^= 1;
        bad += !refused(&cookie, &value);
        value.data[i] ^= 1;
    }

    ok(bad == 0, "T28: a bit of each byte of the longest is refused");

    free(value.data);
    stop(&cookie);
}


static void
test_swapped(void)
{
    size_t       i;
    cookie_t     cookie, other;
    sealed_t     in, out;
    ngx_str_t    value, zero, name;
    ngx_uint_t   bad;
    test_seal_t  s;

    static ngx_str_t  names[] = {
        ngx_string("__Host-quickblo"),
        ngx_string("__Host-quickbloxx"),
        ngx_string("__Host-Quickblox"),
        ngx_string("__host-quickblox"),
        ngx_string("_Host-quickblox"),
        ngx_string(" __Host-quickblox"),
        ngx_string("__Host-quickblox\0"),
        ngx_string("q")
    };

    static uint64_t   applications[] = {
        0, 91, 93, 92 + 256, 92ULL << 8, 92 + (1ULL << 32), 92 + (1ULL << 63)
    };

    start(&cookie, "A");
    session(&in, 40);
    value = seal(&cookie, &in);

    for (i = 0; i < COUNT(names); i++) {
        start(&other, "A");
        free(other.name.data);
        other.name = copy(&names[i]);

        ok(refused(&other, &value), "T28: another name is refused, \"%s\"",
           shown(&names[i]));

        stop(&other);
    }

    for (i = 0; i < COUNT(applications); i++) {
        start(&other, "A");
        other.application_id = applications[i];

        ok(refused(&other, &value),
           "T28: another application is refused, %llu",
           (unsigned long long) applications[i]);

        stop(&other);
    }

    start(&other, "B");
    ok(refused(&other, &value), "T28: another key is refused");
    stop(&other);

    start(&other, "A");

    for (i = 0, bad = 0; i < KEY * 8; i++) {
        other.keys[i / 8] ^= (u_char) (1 << i % 8);
        other.keyed = NULL;
        bad += !refused(&other, &value);
        other.keys[i / 8] ^= (u_char) (1 << i % 8);
    }

    other.keyed = NULL;

    ok(bad == 0, "T28: every bit of the key flipped is refused");
    ok(opened(&other, &value, &out) == NGX_OK && same(&in, &out),
       "T28: the same name, application and key open");

    /* the name's length is authenticated: no byte passes to or from it */

    ngx_str_set(&name, "__Host-quickblox");
    free(other.name.data);
    other.name = copy(&name);
    other.application_id = 92;
    ok(opened(&other, &value, &out) == NGX_OK, "T28: a name is its bytes");

    stop(&other);
    free(value.data);

    /* sealed by the key, and yet no seal of this version */

    ngx_str_set(&s.token, HEX);
    s.bound = 92;
    s.application = 92;
    s.len = IDS + s.token.len;

    for (i = 0, bad = 0; i < 256; i++) {
        s.version = (u_char) i;
        value = seal_apart(&cookie, &s);
        bad += (refused(&cookie, &value) != (i != 1));
        free(value.data);
    }

    ok(bad == 0, "T28: other versions are refused, right tag or not");

    s.version = 1;
    s.application = 93;
    value = seal_apart(&cookie, &s);
    ok(refused(&cookie, &value), "T28: another application inside is refused");
    free(value.data);

    s.application = 92;
    s.bound = 93;
    value = seal_apart(&cookie, &s);
    ok(refused(&cookie, &value), "T28: or another one outside");
    free(value.data);

    s.bound = 92;
    ngx_str_set(&s.token, HEX);

    for (i = 0, bad = 0; i <= IDS + sizeof(HEX) - 1; i++) {
        s.len = i;
        value = seal_apart(&cookie, &s);
        bad += (refused(&cookie, &value) != (i < IDS + 8));
        free(value.data);
    }

    ok(bad == 0, "T28: a right seal of less than a token is refused");

    zero.data = allocated(2048);
    zero.len = 2048;
    ngx_memset(zero.data, 'x', zero.len);
    s.token = zero;

    for (i = 1020, bad = 0; i <= 1100; i++) {
        s.len = IDS + i;
        value = seal_apart(&cookie, &s);
        bad += (refused(&cookie, &value) != (i > 1024));
        free(value.data);
    }

    s.len = IDS + 2048;
    value = seal_apart(&cookie, &s);
    bad += !refused(&cookie, &value);
    free(value.data);

    ok(bad == 0, "T28: or of more");

    s.token.len = 8;
    s.len = IDS + 8;

    for (i = 0, bad = 0; i < 256; i++) {
        zero.data[i % 8] = (u_char) i;
        value = seal_apart(&cookie, &s);
        bad += (refused(&cookie, &value)
                == ngx_http_quickblox_token(&s.token));
        free(value.data);
        zero.data[i % 8] = 'x';
    }

    ok(bad == 0, "T23: or of a token of other bytes");

    free(zero.data);
    stop(&cookie);
}


static void
test_rotation(void)
{
    size_t        i;
    cookie_t      cookie, other;
    sealed_t      in, out;
    ngx_str_t     value;

    static struct {
        const char  *keys;
        ngx_int_t    rc;
    } rings[] = {
        { "A", NGX_OK },
        { "AB", NGX_OK },
        { "BA", NGX_OK },
        { "CBA", NGX_OK },
        { "CAB", NGX_OK },
        { "CDEFGHIA", NGX_OK },
        { "AAAA", NGX_OK },
        { "B", NGX_DECLINED },
        { "BC", NGX_DECLINED },
        { "", NGX_DECLINED }
    };

    start(&cookie, "AB");
    session(&in, 40);
    value = seal(&cookie, &in);

    for (i = 0; i < COUNT(rings); i++) {
        start(&other, rings[i].keys);

        ok(opened(&other, &value, &out) == rings[i].rc
           && (rings[i].rc != NGX_OK || same(&in, &out)),
           "T28: A's seal by the keys \"%s\" is %s", rings[i].keys,
           rings[i].rc == NGX_OK ? "opened" : "refused");

        stop(&other);
    }

    /* keys are as many as they are said to be */

    start(&other, "BCA");
    other.nkeys = 2;

    ok(refused(&other, &value), "T28: a key behind the others opens nothing");

    stop(&other);
    free(value.data);

    /* the order of a reload: B opens everywhere before B seals anywhere */

    start(&other, "BA");
    value = seal(&other, &in);

    ok(opened(&cookie, &value, &out) == NGX_OK && same(&in, &out),
       "T28: B's seal is opened by \"AB\", too");

    stop(&other);
    free(value.data);
    stop(&cookie);
}


static void
test_base64(void)
{
    u_char       c, *p;
    size_t       i, k, n;
    cookie_t     cookie;
    sealed_t     in, out;
    ngx_str_t    value, v;
    ngx_uint_t   bad, dash, line;

    static char  digits[] = BASE64URL;
    static char  others[] = " \t\r\n\v\f\0=+/.,%\"~\x80\xc0\xff";

    start(&cookie, "A");

    /* 2 and 3 bytes over leave 2 and 4 bits unused, which must be zero */

    for (n = 40; n < 43; n++) {
        session(&in, n);
        value = seal(&cookie, &in);

        c = value.data[value.len - 1];
        i = strchr(digits, c) - digits;

        for (k = 0, bad = 0; k < 64; k++) {
            value.data[value.len - 1] = digits[k];
            bad += (refused(&cookie, &value) != (k != i));
        }

        value.data[value.len - 1] = c;

        ok(bad == 0, "base64: unused bits are zero, %u over",
           (unsigned) (SEAL(n) % 3));

        /* room for what is put in */

        v.data = allocated(value.len + 4);

        for (k = 1, bad = 0; k <= 4; k++) {
            for (p = (u_char *) others; p < (u_char *) others
                                            + sizeof(others); p++)
            {
                v.len = value.len + k;

                for (i = 0; i <= value.len; i++) {
                    ngx_memcpy(v.data, value.data, i);
                    ngx_memset(v.data + i, *p, k);
                    ngx_memcpy(v.data + i + k, value.data + i, value.len - i);

                    bad += !refused(&cookie, &v);

                    if (i == 2) {
                        /* the ends are what OpenSSL is lenient at */
                        i = value.len - 3;
                    }
                }
            }
        }

        ok(bad == 0, "base64: one to four bytes of others put in, %u over",
           (unsigned) (SEAL(n) % 3));

        for (p = (u_char *) others, bad = 0;
             p < (u_char *) others + sizeof(others);
             p++)
        {
            for (i = 0; i < value.len; i++) {
                ngx_memcpy(v.data, value.data, value.len);
                v.len = value.len;
                v.data[i] = *p;

                bad += !refused(&cookie, &v);
            }
        }

        ok(bad == 0, "base64: a byte of others in a place, %u over",
           (unsigned) (SEAL(n) % 3));

        free(v.data);
        free(value.data);
    }

    /* the other alphabet, of a value that differs in both */

    session(&in, 40);

    do {
        value = seal(&cookie, &in);

        dash = memchr(value.data, '-', value.len) != NULL;
        line = memchr(value.data, '_', value.len) != NULL;

        if (!dash || !line) {
            free(value.data);
        }

    } while (!dash || !line);

    bad = (opened(&cookie, &value, &out) != NGX_OK);

    for (i = 0; i < value.len; i++) {
        c = value.data[i];

        if (c == '-' || c == '_') {
            value.data[i] = (c == '-') ? '+' : '/';
            bad += !refused(&cookie, &value);
            value.data[i] = c;
        }
    }

    ok(bad == 0, "base64: \"+\" and \"/\" are not \"-\" and \"_\"");

    for (i = 0; i < value.len; i++) {
        c = value.data[i];
        value.data[i] = (c == '-') ? '+' : (c == '_') ? '/' : c;
    }

    ok(refused(&cookie, &value), "base64: nor are all of them");

    free(value.data);

    /* values that nobody has sealed, of any length */

    v.data = allocated(65536);

    for (k = 0, bad = 0; k < sizeof(others); k++) {
        ngx_memset(v.data, k ? others[k - 1] : 'A', 65536);

        for (v.len = 0; v.len < 1500; v.len++) {
            bad += !refused(&cookie, &v);
        }

        v.len = 65536;
        bad += !refused(&cookie, &v);
    }

    ok(bad == 0, "T29: values of one byte over and over, up to 64 KiB");

    /* the version is right, and the rest is not */

    ngx_memset(v.data, 'A', 65536);
    v.data[1] = 'Q';

    for (v.len = 0, bad = 0; v.len < 1500; v.len++) {
        bad += !refused(&cookie, &v);
    }

    ok(bad == 0, "T29: a right version and zeros, up to 1500 bytes");

    free(v.data);
    stop(&cookie);
}


static int
compare(const void *a, const void *b)
{
    return memcmp(a, b, NONCE);
}


static ngx_uint_t
repeats(u_char *nonces, size_t n)
{
    size_t      i;
    ngx_uint_t  twice;

    qsort(nonces, n, NONCE, compare);

    for (i = 1, twice = 0; i < n; i++) {
        twice += (compare(nonces + (i - 1) * NONCE, nonces + i * NONCE) == 0);
    }

    return twice;
}


static ngx_uint_t
nonces(cookie_t *cookie, u_char *dst, size_t n)
{
    u_char      bytes[SEAL(8)];
    size_t      i;
    sealed_t    in;
    ngx_str_t   value;
    ngx_uint_t  good;

    session(&in, 8);

    for (i = 0, good = 0; i < n; i++) {
        value = seal(cookie, &in);

        if (value.len == TEXT(8)) {
            good++;
            (void) decode(&value, bytes);
            ngx_memcpy(dst + i * NONCE, bytes + 1, NONCE);
        }

        free(value.data);
    }

    return good;
}


static void
test_nonces(void)
{
    int         status;
    pid_t       pid;
    u_char     *seen;
    size_t      n;
    cookie_t    cookie;
    ngx_uint_t  i, whole;

    start(&cookie, "A");

    seen = allocated(NONCES * NONCE);

    ok(nonces(&cookie, seen, NONCES) == NONCES
       && repeats(seen, NONCES) == 0,
       "T27: %u seals, no nonce twice", (unsigned) NONCES);

    free(seen);

    /* workers are forks of one process, and of its generator */

    n = CHILD_NONCES;

    seen = mmap(NULL, CHILDREN * n * NONCE, PROT_READ|PROT_WRITE,
                MAP_ANON|MAP_SHARED, -1, 0);
    if (seen == MAP_FAILED) {
        abort();
    }

    (void) fflush(stdout);

    for (i = 0; i < CHILDREN; i++) {
        pid = fork();

        if (pid == -1) {
            abort();
        }

        if (pid == 0) {
            _exit(nonces(&cookie, seen + i * n * NONCE, n) != n);
        }
    }

    for (whole = 0; wait(&status) > 0; /* void */) {
        whole += (status == 0);
    }

    ok(whole == CHILDREN && repeats(seen, CHILDREN * n) == 0,
       "T27: %u seals of %u processes, no nonce twice",
       (unsigned) (CHILDREN * n), (unsigned) CHILDREN);

    munmap(seen, CHILDREN * n * NONCE);
    stop(&cookie);
}


static void
test_context(void)
{
    size_t      i;
    cookie_t    cookie;
    sealed_t    in, out;
    ngx_str_t   value, damaged;
    ngx_uint_t  bad, n;

    start(&cookie, "BA");

    for (i = 0, bad = 0, n = 0; i < 2000; i++) {
        session(&in, 8 + i % 100);

        value = seal(&cookie, &in);
        damaged = copy(&value);
        damaged.data[i % damaged.len] ^= 1;

        if (i == 1000) {
            n = allocations;
        }

        /* in each order, and the same one twice */

        bad += (i % 2 && !refused(&cookie, &damaged));
        bad += (opened(&cookie, &value, &out) != NGX_OK || !same(&in, &out));
        bad += (i % 3 && !refused(&cookie, &damaged));
        bad += (i % 5 && !refused(&cookie, &damaged));
        bad += (opened(&cookie, &value, &out) != NGX_OK || !same(&in, &out));

        free(damaged.data);
        free(value.data);
    }

    ok(bad == 0, "context: it serves seals, opens and refusals in turn");
    ok(allocations == n, "context: nothing more is allocated for it, %u",
       (unsigned) (allocations - n));

    stop(&cookie);
}


/* seal() with what holds for every failure: not a byte is written */

static ngx_uint_t
fails(cookie_t *cookie)
{
    size_t      i;
    sealed_t    in;
    ngx_int_t   rc;
    ngx_str_t   value;

    session(&in, 40);

    value.data = allocated(MAX);
    value.len = 4711;
    ngx_memset(value.data, 0xa5, MAX);

    rc = ngx_http_quickblox_cookie_seal(cookie, &in, &value);

    for (i = 0; i < MAX && value.data[i] == 0xa5; i++) { /* void */ }

    free(value.data);
    ERR_clear_error();

    return rc == NGX_ERROR && i == MAX && value.len == 0;
}


static void
test_failures(void)
{
    cookie_t     cookie;
    sealed_t     in, out;
    ngx_int_t    i, n, rc;
    ngx_str_t    value;
    ngx_uint_t   bad;
    EVP_CIPHER  *cipher;

    start(&cookie, "A");
    session(&in, 40);
    value = seal(&cookie, &in);

    RAND_set_rand_method(&hook_method);

    rand_result = 0;
    ok(fails(&cookie), "T27: no value when the generator fails");

    rand_result = -1;
    ok(fails(&cookie), "T27: or does not support it");

    RAND_set_rand_method(NULL);

    ok(opened(&cookie, &value, &out) == NGX_OK && same(&in, &out),
       "T27: what was sealed before still opens");

    cipher = cookie.cipher;
    EVP_CIPHER_CTX_free(cookie.ctx);
    cookie.ctx = EVP_CIPHER_CTX_new();
    cookie.keyed = NULL;
    cookie.cipher = NULL;

    ok(fails(&cookie), "failures: no value without a cipher");
    ok(opened(&cookie, &value, &out) == NGX_ERROR,
       "failures: and none opens");

    cookie.cipher = cipher;

    ok(opened(&cookie, &value, &out) == NGX_OK,
       "failures: with one it does, the context the same");

    /* OpenSSL without memory, at each of its allocations */

    for (i = 0, n = 0, bad = 0; i < 100; i++) {
        EVP_CIPHER_CTX_free(cookie.ctx);
        cookie.ctx = EVP_CIPHER_CTX_new();
        cookie.keyed = NULL;

        left = i;
        rc = opened(&cookie, &value, &out);
        left = -1;

        if (rc == NGX_OK) {
            bad += !same(&in, &out);
            n = i;
            break;
        }

        bad += (rc != NGX_ERROR);
        bad += (opened(&cookie, &value, &out) != NGX_OK);
    }

    ok(bad == 0 && n > 0, "failures: without memory none opens, then it does");

    for (i = 0, bad = 0; i < n; i++) {
        EVP_CIPHER_CTX_free(cookie.ctx);
        cookie.ctx = EVP_CIPHER_CTX_new();
        cookie.keyed = NULL;

        RAND_set_rand_method(&hook_method);
        rand_result = 1;
        left = i;
        bad += !fails(&cookie);
        left = -1;
        RAND_set_rand_method(NULL);
    }

    ok(bad == 0, "failures: without memory there is no value");

    ERR_clear_error();
    free(value.data);
    stop(&cookie);
}


static void
stack_seal(void)
{
    stack_rc = ngx_http_quickblox_cookie_seal(&stack_cookie, &stack_sealed,
                                              &stack_value);
}


static void
stack_open(void)
{
    stack_rc = ngx_http_quickblox_cookie_open(&stack_cookie, &stack_value,
                                              &stack_sealed);
}


/* calls a function on a stack of its own, and looks for a token there */

static ngx_uint_t
remains(void (*function)(void), u_char *stack)
{
    size_t      i;
    ngx_uint_t  n;

    /* to valgrind, what lies on a stack that was left is no memory */

    if (getenv("QUICKBLOX_VALGRIND")) {
        function();
        return 0;
    }

    ngx_memset(stack, 0, STACK);

    if (getcontext(&stack_other) == -1) {
        abort();
    }

    stack_other.uc_stack.ss_sp = stack;
    stack_other.uc_stack.ss_size = STACK;
    stack_other.uc_link = &stack_test;

    makecontext(&stack_other, function, 0);

    if (swapcontext(&stack_test, &stack_other) == -1) {
        abort();
    }

    for (i = 0, n = 0; i + 16 <= STACK; i++) {
        n += (memcmp(stack + i, &HEX[8], 16) == 0);
    }

    return n;
}


static void
test_cleansed(void)
{
    u_char      *stack, last;
    ngx_uint_t   n;

    start(&stack_cookie, "BA");
    session(&stack_sealed, 40);

    stack = allocated(STACK);
    stack_value.data = allocated(MAX);

    n = remains(stack_seal, stack);
    ok(stack_rc == NGX_OK && n == 0, "cleansed: no token left by a seal");

    last = stack_value.data[stack_value.len - 1];

    n = remains(stack_open, stack);
    ok(stack_rc == NGX_OK && n == 0, "cleansed: nor by an opened one");

    /* which has been decrypted before it is refused */

    stack_value.data[stack_value.len - 1] = last == 'A' ? 'B' : 'A';

    n = remains(stack_open, stack);
    ok(stack_rc == NGX_DECLINED && n == 0, "cleansed: nor by a refused one");

    free(stack_value.data);
    free(stack);
    stop(&stack_cookie);
}


/* all values of a name, each in brackets, the pointers looked at */

static ngx_str_t
found(ngx_str_t *header, ngx_str_t *name)
{
    u_char      *p;
    size_t       pos, before;
    ngx_str_t    value, all;

    all.data = allocated(3 * header->len + 3);
    p = all.data;
    pos = 0;

    for ( ;; ) {
        before = pos;

        if (ngx_http_quickblox_cookie_find(header, name, &pos, &value)
            != NGX_OK)
        {
            break;
        }

        if (pos <= before || pos > header->len
            || value.data < header->data + before
            || value.data + value.len > header->data + pos)
        {
            *p++ = '!';
            break;
        }

        *p++ = '[';
        p = ngx_cpymem(p, value.data, value.len);
        *p++ = ']';
    }

    if (pos != header->len) {
        *p++ = '?';
    }

    all.len = p - all.data;

    return all;
}


static ngx_str_t
removed(ngx_str_t *header, ngx_str_t *name)
{
    ngx_str_t  rest;

    rest.data = allocated(header->len ? header->len : 1);
    rest.len = ngx_http_quickblox_cookie_remove(header, name, rest.data);

    return rest;
}


#define Q  ngx_string("q")

static test_header_t  headers[] = {
    { ngx_string(""), Q, "", "" },
    { ngx_string("q=1"), Q, "[1]", "" },
    { ngx_string("q=1;"), Q, "[1]", "" },
    { ngx_string("q=1; "), Q, "[1]", "" },
    { ngx_string(";q=1"), Q, "[1]", "" },
    { ngx_string(" ; q=1 ; "), Q, "[1]", "" },
    { ngx_string(";;;q=1;;;"), Q, "[1]", "" },
    { ngx_string("a=1"), Q, "", "a=1" },
    { ngx_string("a=1; b=2;c=3"), Q, "", "a=1; b=2;c=3" },

    /* the others stay as they are */

    { ngx_string("q=1; a=2; b=3"), Q, "[1]", "a=2; b=3" },
    { ngx_string("a=2; q=1; b=3"), Q, "[1]", "a=2; b=3" },
    { ngx_string("a=2; b=3; q=1"), Q, "[1]", "a=2; b=3" },
    { ngx_string("a=2;q=1;b=3"), Q, "[1]", "a=2;b=3" },
    { ngx_string("a = 2 ;q=1;\tb\t=\t3\t"), Q, "[1]", "a = 2 ;\tb\t=\t3\t" },
    { ngx_string("a=\"x y\"; q=1; b=,{}[]\\"), Q, "[1]",
      "a=\"x y\"; b=,{}[]\\" },
    { ngx_string("a=\x80\xff; q=1; \xc3\xb6=3"), Q, "[1]",
      "a=\x80\xff; \xc3\xb6=3" },
    { ngx_string("a; q=1; =b; ="), Q, "[1]", "a; =b; =" },
    { ngx_string("a=1;; q=1;;b=2"), Q, "[1]", "a=1;;;b=2" },
    { ngx_string("q=1;;a=1"), Q, "[1]", "a=1" },
    { ngx_string("a=q=1; q=2"), Q, "[2]", "a=q=1" },
    { ngx_string("a=\"; q=1; b=\""), Q, "[1]", "a=\"; b=\"" },
    { ngx_string("a=1, q=2"), Q, "", "a=1, q=2" },

    /* case, blanks, and what only looks like the name */

    { ngx_string("Q=1; q=2"), Q, "[2]", "Q=1" },
    { ngx_string("q=1"), ngx_string("Q"), "", "q=1" },
    { ngx_string(" q =1"), Q, "[1]", "" },
    { ngx_string("\t q \t=\t 1 2 \t"), Q, "[1 2]", "" },
    { ngx_string("q = 1 ; a"), Q, "[1]", "a" },
    { ngx_string("q= "), Q, "[]", "" },
    { ngx_string("q=\v1\r"), Q, "[\v1\r]", "" },
    { ngx_string("\vq=1"), Q, "", "\vq=1" },
    { ngx_string("qq=1; q=2; qqq=3"), Q, "[2]", "qq=1; qqq=3" },
    { ngx_string("qq=1"), Q, "", "qq=1" },
    { ngx_string("q=1"), ngx_string("qq"), "", "q=1" },
    { ngx_string("q q=1"), Q, "", "q q=1" },
    { ngx_string("q-1=1; $q=1; \"q\"=1"), Q, "", "q-1=1; $q=1; \"q\"=1" },
    { ngx_string("%71=1"), Q, "", "%71=1" },
    { ngx_string("q"), Q, "", "q" },
    { ngx_string("q;"), Q, "", "q" },
    { ngx_string(" q "), Q, "", "q " },
    { ngx_string("=q"), Q, "", "=q" },
    { ngx_string("=q=1"), Q, "", "=q=1" },
    { ngx_string("q=="), Q, "[=]", "" },
    { ngx_string("q= =1="), Q, "[=1=]", "" },
    { ngx_string("q=\"1\""), Q, "[\"1\"]", "" },
    { ngx_string(NAME "=1; __Host-quickblo=2; __Host-quickbloxx=3"),
      ngx_string(NAME), "[1]", "__Host-quickblo=2; __Host-quickbloxx=3" },
    { ngx_string("__Secure-quickblox=1; _" NAME "=2; " NAME "=3"),
      ngx_string(NAME), "[3]", "__Secure-quickblox=1; _" NAME "=2" },

    /* nothing but what stands between cookies */

    { ngx_string(";"), Q, "", "" },
    { ngx_string(" "), Q, "", "" },
    { ngx_string("; ; ;\t;"), Q, "", "" },
    { ngx_string("="), Q, "", "=" },
    { ngx_string(" =; = "), Q, "", "=; = " }
};


/* a name more than once */

static test_header_t  doubles[] = {
    { ngx_string("q=1; q=2"), Q, "[1][2]", "" },
    { ngx_string("q=2; a=3; q=1"), Q, "[2][1]", "a=3" },
    { ngx_string("q=1; q=1; q=1; q=1; q=1; b"), Q, "[1][1][1][1][1]", "b" },
    { ngx_string("q=; q=1; q"), Q, "[][1]", "q" },
    { ngx_string("a=1; q=1; b=2; q=2; c=3"), Q, "[1][2]",
      "a=1; b=2; c=3" }
};


static void
test_headers(const char *row, test_header_t *h, size_t n)
{
    ngx_str_t  header, name, all, rest;

    for ( /* void */ ; n; n--, h++) {

        header = copy(&h->header);
        name = copy(&h->name);

        all = found(&header, &name);
        ok(all.len == strlen(h->values)
           && memcmp(all.data, h->values, all.len) == 0,
           "%sfind: \"%s\"", row, shown(&h->header));

        rest = removed(&header, &name);
        ok(rest.len == strlen(h->rest)
           && memcmp(rest.data, h->rest, rest.len) == 0
           && memcmp(header.data ? header.data : (u_char *) "",
                     h->header.data, header.len)
              == 0,
           "%sremove: \"%s\"", row, shown(&h->header));

        free(rest.data);
        free(all.data);
        free(name.data);
        free(header.data);
    }
}


/* two cookies of a name, as an old Path or Domain leaves one behind */

static void
test_two(void)
{
    u_char      *p;
    size_t       i, pos;
    cookie_t     cookie, old;
    sealed_t     in, out;
    ngx_int_t    rc;
    ngx_str_t    good, stale, header, value, *first, *second;
    ngx_uint_t   opens, others;

    static struct {
        ngx_uint_t   first;         /* 1: it is the one that opens */
        ngx_uint_t   second;
    } cases[] = {
        { 1, 0 }, { 0, 1 }, { 1, 1 }, { 0, 0 }
    };

    start(&cookie, "A");
    start(&old, "B");
    session(&in, 40);

    good = seal(&cookie, &in);
    stale = seal(&old, &in);

    for (i = 0; i < COUNT(cases); i++) {
        first = cases[i].first ? &good : &stale;
        second = cases[i].second ? &good : &stale;

        header.len = 2 * sizeof(NAME) + sizeof("; a=b; ") - 1 + first->len
                     + second->len;
        header.data = allocated(header.len);

        p = ngx_cpymem(header.data, NAME "=", sizeof(NAME));
        p = ngx_cpymem(p, first->data, first->len);
        p = ngx_cpymem(p, "; a=b; " NAME "=", sizeof("; a=b; " NAME));
        ngx_memcpy(p, second->data, second->len);

        opens = 0;
        others = 0;
        pos = 0;

        while (ngx_http_quickblox_cookie_find(&header, &cookie.name, &pos,
                                              &value)
               == NGX_OK)
        {
            rc = opened(&cookie, &value, &out);

            opens += (rc == NGX_OK && same(&in, &out));
            others += (rc == NGX_DECLINED);
        }

        ok(opens == cases[i].first + cases[i].second && others == 2 - opens,
           "T58, of two cookies %u opens, case %u", (unsigned) opens,
           (unsigned) i);

        free(header.data);
    }

    free(stale.data);
    free(good.data);
    stop(&old);
    stop(&cookie);
}


/* 64 KiB of a part over and over, then another */

static ngx_str_t
flood(const char *part, const char *tail)
{
    u_char     *p, *last;
    ngx_str_t   s;

    s.len = 65536;
    s.data = allocated(s.len);

    p = s.data;
    last = p + s.len - strlen(tail);

    while (p < last) {
        p = ngx_cpymem(p, part, ngx_min(strlen(part), (size_t) (last - p)));
    }

    ngx_memcpy(p, tail, strlen(tail));

    return s;
}


static void
test_floods(void)
{
    double      spent;
    size_t      i;
    cookie_t    cookie;
    sealed_t    sealed;
    ngx_str_t   header, name, all, rest, value;

    static struct {
        const char  *part;
        const char  *tail;
        size_t       found;         /* bytes, brackets included */
        size_t       rest;
    } floods[] = {
        { "a=12; ", ";q=1", 3, 65532 },
        { "q=12; ", ";q=1", 4 * 10922 + 3, 0 },
        { "q=12; ", ";a=1", 4 * 10922, 3 },
        { "a;", ";q=1", 3, 65532 },
        { ";", ";q=1", 3, 0 },
        { "=", ";q=1", 3, 65532 },
        { " ", ";q=1", 3, 0 },
        { "\t", "q=1;", 3, 0 },
        { "q=", ";q=1", 65532 - 2 + 2 + 3, 0 },
        { "q ", ";q=1", 3, 65532 },
        { "q", ";q=1", 3, 65532 },
        { "a= ", " ;q=1", 3, 65532 }
    };

    for (i = 0; i < COUNT(floods); i++) {
        header = flood(floods[i].part, floods[i].tail);
        ngx_str_set(&name, "q");

        spent = seconds();
        all = found(&header, &name);
        spent = seconds() - spent;

        ok(all.len == floods[i].found && spent < 0.05,
           "T29: find in 64 KiB of \"%s\" within 50 ms", floods[i].part);

        if (all.len != floods[i].found || spent >= 0.05) {
            printf("# %u bytes in %.3f s\n", (unsigned) all.len, spent);
        }

        spent = seconds();
        rest = removed(&header, &name);
        spent = seconds() - spent;

        ok(rest.len == floods[i].rest && spent < 0.05,
           "T29: remove likewise");

        if (rest.len != floods[i].rest || spent >= 0.05) {
            printf("# %u bytes in %.3f s\n", (unsigned) rest.len, spent);
        }

        free(rest.data);
        free(all.data);
        free(header.data);
    }

    /* a value as long as the header costs no more than its length is read */

    start(&cookie, "AB");
    value = flood("A", "");

    spent = seconds();

    for (i = 0; i < 1000; i++) {
        (void) ngx_http_quickblox_cookie_open(&cookie, &value, &sealed);
    }

    ok(seconds() - spent < 0.05, "T29: 1000 values of 64 KiB within 50 ms");

    free(value.data);
    stop(&cookie);
}


/* the same by another way: the header is cut at each ";", and glued again */

static void
model(ngx_str_t *header, ngx_str_t *name, ngx_str_t *all, ngx_str_t *rest)
{
    char    *text, *part, *next, *equal, *end;
    size_t   len;

    all->data = allocated(3 * header->len + 3);
    all->len = 0;
    rest->data = allocated(header->len + 1);
    rest->len = 0;

    text = allocated(header->len + 1);
    text[header->len] = '\0';

    if (header->len) {
        ngx_memcpy(text, header->data, header->len);
    }

    for (part = text; part && *part; part = next) {
        next = strchr(part, ';');
        len = next ? (size_t) (next - part) : strlen(part);

        if (next) {
            *next++ = '\0';
        }

        equal = strchr(part, '=');
        end = equal ? equal : part + len;

        /* the name, its blanks left out */

        while (end > part && strchr(" \t", end[-1])) {
            end--;
        }

        while (*part == ' ' || *part == '\t') {
            part++;
            len--;
        }

        end = ngx_max(end, part);

        if (equal && (size_t) (end - part) == name->len
            && memcmp(part, name->data, name->len) == 0)
        {
            all->data[all->len++] = '[';

            equal += 1 + strspn(equal + 1, " \t");
            end = part + len;

            while (end > equal && strchr(" \t", end[-1])) {
                end--;
            }

            ngx_memcpy(all->data + all->len, equal, end - equal);
            all->len += end - equal;

            all->data[all->len++] = ']';
            continue;
        }

        /* with the blanks before it, which belong to the copy */

        if (rest->len) {
            rest->data[rest->len++] = ';';

            while (part > text && (part[-1] == ' ' || part[-1] == '\t')) {
                part--;
                len++;
            }

        } else if (strspn(part, " \t") == len) {
            continue;
        }

        ngx_memcpy(rest->data + rest->len, part, len);
        rest->len += len;
    }

    free(text);
}


static void
test_random(void)
{
    u_char      room[200];
    size_t      i, k, n;
    cookie_t    cookie;
    sealed_t    in, out;
    ngx_str_t   header, h, name, all, rest, all2, rest2, none, value, v;
    ngx_uint_t  bad, worse, hits;

    static char  bytes[] = "qqqqqqb=======;;;;;;;;      \t\tQ1\"\xff";

    for (i = 0, bad = 0, worse = 0, hits = 0; i < RANDOM; i++) {
        h.data = room;
        h.len = randomly(i % 10 ? 24 : sizeof(room));

        for (k = 0; k < h.len; k++) {
            room[k] = bytes[randomly(sizeof(bytes) - 1)];
        }

        name.data = (u_char *) "qqb";
        name.len = 1 + randomly(3);

        header = copy(&h);

        all = found(&header, &name);
        rest = removed(&header, &name);
        model(&header, &name, &all2, &rest2);

        bad += (all.len != all2.len
                || memcmp(all.data, all2.data, all.len) != 0
                || rest.len != rest2.len
                || memcmp(rest.data, rest2.data, rest.len) != 0);

        if (bad == 1) {
            printf("# %s\n", shown(&header));
            printf("# is %s\n", shown(&all));
            printf("# and %s\n", shown(&rest));
            printf("# not %s\n", shown(&all2));
            printf("# and %s\n", shown(&rest2));
            bad++;
        }

        /* nothing is left to be found */

        h = copy(&rest);
        none = found(&h, &name);
        worse += (none.len != 0);
        hits += (all.len != 0);

        free(none.data);
        free(h.data);
        free(rest2.data);
        free(all2.data);
        free(rest.data);
        free(all.data);
        free(header.data);
    }

    ok(bad == 0, "random: headers are read as the model does");
    ok(worse == 0, "random: what is removed is not found again");
    ok(hits > RANDOM / 20, "random: %u headers had the name", (unsigned) hits);

    start(&cookie, "AB");
    session(&in, 40);
    value = seal(&cookie, &in);

    v.data = allocated(2 * value.len);

    for (i = 0, bad = 0; i < RANDOM; i++) {

        /* a seal with some bytes changed, cut, or another's head or tail */

        ngx_memcpy(v.data, value.data, value.len);
        v.len = value.len;

        for (k = randomly(4); k; k--) {
            v.data[randomly(v.len)] = (u_char) BASE64URL[randomly(64)];
        }

        switch (randomly(4)) {

        case 0:
            v.len = randomly(v.len);
            break;

        case 1:
            n = randomly(v.len);
            ngx_memcpy(v.data + v.len, value.data, n);
            v.len += n;
            break;

        case 2:
            n = randomly(v.len);
            ngx_memmove(v.data, v.data + n, v.len - n);
            ngx_memcpy(v.data + v.len - n, value.data, n);
            break;

        default:
            v.data[randomly(v.len)] = (u_char) randomly(256);
        }

        bad += (refused(&cookie, &v)
                == (v.len == value.len
                    && memcmp(v.data, value.data, v.len) == 0));
    }

    ok(bad == 0, "T28: %u values made of a seal are refused",
       (unsigned) RANDOM);

    ok(opened(&cookie, &value, &out) == NGX_OK && same(&in, &out),
       "T28: but the seal itself is not");

    free(v.data);
    free(value.data);
    stop(&cookie);
}


int
main(void)
{
    if (CRYPTO_set_mem_functions(hook_malloc, hook_realloc, hook_free) != 1) {
        abort();
    }

    printf("1..%d\n", PLAN);

    test_known();
    test_lengths();
    test_tampered();
    test_swapped();
    test_rotation();
    test_base64();
    test_nonces();
    test_context();
    test_failures();
    test_cleansed();
    test_headers("", headers, COUNT(headers));
    test_headers("T58, ", doubles, COUNT(doubles));
    test_two();
    test_floods();
    test_random();

    if (tests != PLAN) {
        printf("# planned %d tests, ran %u\n", PLAN, (unsigned) tests);
        return 1;
    }

    return failures ? 1 : 0;
}
