
/*
 * Unit tests of ngx_http_quickblox_message.c.
 *
 * Every input is copied to a heap block of exactly its length, so that the
 * address sanitizer sees a byte read beyond it, and cJSON allocates through
 * hooks that count the blocks and look for the token in what is freed.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cjson/cJSON.h>

#include "../../ngx_http_quickblox_module/ngx_http_quickblox_json.h"
#include "../../ngx_http_quickblox_module/ngx_http_quickblox_message.h"

#include "unit.h"


#define PLAN          476

#define COUNT(a)      (sizeof(a) / sizeof((a)[0]))

#define SECRET        "jyqGNhbGxkvBTgd"
#define KEY           "wJHd4cQSxpQGWx5"
#define HEX           "9c8e0d2cfa7b4c1f9d3e5a6b7c8d9e0f1a2b3c4d"
#define JWT           "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9."               \
                      "eyJhY2Nlc3NfdHlwZSI6InVzZXIiLCJpYXQiOjF9.a-_~+/="

#define TOKEN         "\"token\":\"" HEX "\""
#define APP           "\"application_id\":92"
#define USER          "\"user_id\":7"
#define SESSION(s)    ngx_string("{\"session\":{" s "}}")
#define APP_ID(id)    SESSION("\"application_id\":" id "," USER "," TOKEN)
#define USER_ID(id)   SESSION(APP ",\"user_id\":" id "," TOKEN)
#define TOKEN_IS(t)   SESSION(APP "," USER ",\"token\":" t)

#define USER_IS(s)    ngx_string("{\"user\":" s "}")
#define ISO           "2023-09-01T14:55:56Z"

#define A10           "[[[[[[[[[["
#define Z10           "]]]]]]]]]]"


typedef struct {
    const char   *name;
    ngx_int_t     rc;
    uint64_t      application_id;
    uint64_t      user_id;
    ngx_str_t     body;
} test_session_t;


typedef struct {
    const char   *name;
    ngx_uint_t    found;
    ngx_str_t     body;
} test_error_t;


typedef struct {
    const char   *name;
    ngx_int_t     rc;
    uint64_t      user_id;
    ngx_str_t     body;
} test_user_t;


typedef struct {
    const char   *name;
    ngx_int_t     rc;
    int64_t       expires;
    ngx_str_t     body;
} test_user_token_t;


typedef struct {
    ngx_str_t     value;
    ngx_int_t     rc;
    ngx_str_t     token;
} test_client_t;


typedef struct {
    ngx_str_t     value;
    int64_t       time;
} test_date_t;


static void drop(ngx_str_t *s);
static ngx_int_t session(ngx_str_t *body, ngx_http_quickblox_answer_t *answer,
    const char **reason);


static ngx_uint_t  blocks;      /* of cJSON, not yet freed */
static ngx_uint_t  leaked;      /* freed with a token inside */
static ngx_int_t   left = -1;   /* allocations that succeed, -1 is all */


static void
drop(ngx_str_t *s)
{
    free(s->data);
}


static void *
hook_malloc(size_t size)
{
    size_t  *p;

    if (left == 0) {
        return NULL;
    }

    if (left > 0) {
        left--;
    }

    p = malloc(2 * sizeof(size_t) + size);
    if (p == NULL) {
        abort();
    }

    p[0] = size;
    blocks++;

    /* what was in this memory before is not cJSON's */

    ngx_memset(p + 2, 0xaa, size);

    return p + 2;
}


static void
hook_free(void *data)
{
    u_char  *s;
    size_t  *p, i;

    if (data == NULL) {
        return;
    }

    s = data;
    p = (size_t *) data - 2;

    for (i = 0; i + 8 <= p[0]; i++) {
        if (memcmp(s + i, HEX, 8) == 0) {
            leaked++;
        }
    }

    blocks--;
    free(p);
}


/*
 * parse_session() with what holds for every body: it is not modified, no
 * block of cJSON's remains and none is freed with a token, an error has a
 * reason, and an answer is written by success only.
 */

static ngx_int_t
session(ngx_str_t *body, ngx_http_quickblox_answer_t *answer,
    const char **reason)
{
    ngx_str_t                     input;
    ngx_int_t                     rc;
    ngx_uint_t                    bad;

    static ngx_http_quickblox_answer_t  untouched;

    ngx_memset(&untouched, 0x5a, sizeof(untouched));
    ngx_memset(answer, 0x5a, sizeof(*answer));
    *reason = NULL;

    blocks = 0;
    leaked = 0;

    input = copy(body);

    rc = ngx_http_quickblox_parse_session(&input, answer, reason);

    bad = (blocks || leaked);
    bad |= (input.len && memcmp(input.data, body->data, input.len) != 0);
    bad |= (rc == NGX_ERROR && (*reason == NULL || **reason == '\0'));
    bad |= (rc != NGX_OK
            && memcmp(answer, &untouched, sizeof(untouched)) != 0);
    bad |= (rc != NGX_OK && rc != NGX_DECLINED && rc != NGX_ERROR);

    drop(&input);

    return bad ? -1000 : rc;
}


static ngx_uint_t
created(ngx_http_quickblox_create_t *p, const char *expected, size_t len)
{
    size_t      size;
    ngx_str_t   body;
    ngx_uint_t  same;

    size = ngx_http_quickblox_create_size(p);

    body.data = malloc(size);
    if (body.data == NULL) {
        abort();
    }

    ngx_memset(body.data, 0xaa, size);
    body.len = 12345;

    same = ngx_http_quickblox_create_body(p, &body) == NGX_OK
           && body.len == len && body.len <= size
           && memcmp(body.data, expected, len) == 0;

    if (!same) {
        printf("# got %s\n", shown(&body));
    }

    free(body.data);

    return same;
}


static void
test_create(void)
{
    size_t                        size, i;
    ngx_str_t                     body;
    ngx_http_quickblox_create_t   p;

    static const char             application[] =
        "application_id=92&auth_key=" KEY "&nonce=1934&signature="
        "9f72e623f0345c2f1b09e4c00eb6323f867fb899&timestamp=1795535646";
    static const char             application256[] =
        "application_id=92&auth_key=" KEY "&nonce=1934&signature="
        "4b1a95424ddafc7dfd3997e99aa5b3676100a57ddae09039202e2152de428e0f"
        "&timestamp=1795535646";
    static const char             nosecret[] =
        "application_id=92&auth_key=" KEY "&nonce=1934&signature="
        "7520b5e471df604209342f9c79d70b111b640e63&timestamp=1795535646";
    static const char             user[] =
        "application_id=92&auth_key=" KEY "&nonce=1472&signature="
        "11aadf7f7d392c64fc2cb41f0ebafd85f3f7e4d9&timestamp=1795535646"
        "&user[login]=bob%2Bx&user[password]=p%26ss%20w%C3%B6rd";
    static const char             user256[] =
        "application_id=92&auth_key=" KEY "&nonce=1472&signature="
        "96d52127bb4fddcc2d1aeb7dea0e46f591735bf25b31f32ca53d976c0f90f37c"
        "&timestamp=1795535646"
        "&user[login]=bob%2Bx&user[password]=p%26ss%20w%C3%B6rd";
    static const char             email[] =
        "application_id=92&auth_key=" KEY "&nonce=1472&signature="
        "7c3bdb2b8540b61bb412adbfb41d2ab46e80c830&timestamp=1795535646"
        "&user[email]=bob%40example.com&user[password]=p%26ss%20w%C3%B6rd";
    static const char             empty[] =
        "application_id=92&auth_key=" KEY "&nonce=1472&signature="
        "397122b77319d38eab0ebfac0648477112aaf5a7&timestamp=1795535646"
        "&user[login]=bob&user[password]=";

    ngx_memzero(&p, sizeof(p));
    ngx_str_set(&p.application_id, "92");
    ngx_str_set(&p.auth_key, KEY);
    ngx_str_set(&p.auth_secret, SECRET);
    ngx_str_set(&p.nonce, "1934");
    ngx_str_set(&p.timestamp, "1795535646");
    p.signature = NGX_HTTP_QUICKBLOX_SHA1;

    ok(created(&p, application, sizeof(application) - 1),
       "create: application session, sha1");

    p.signature = NGX_HTTP_QUICKBLOX_SHA256;

    ok(created(&p, application256, sizeof(application256) - 1),
       "create: application session, sha256");

    p.signature = NGX_HTTP_QUICKBLOX_SHA1;
    ngx_str_set(&p.password, "left over");

    ok(created(&p, application, sizeof(application) - 1),
       "create: a password without a user is not sent");

    ngx_str_null(&p.password);
    ngx_str_null(&p.auth_secret);

    ok(created(&p, nosecret, sizeof(nosecret) - 1),
       "create: an empty secret is a key, too");

    ngx_str_set(&p.auth_secret, SECRET);
    ngx_str_set(&p.nonce, "1472");
    ngx_str_set(&p.login, "bob+x");
    ngx_str_set(&p.password, "p&ss w\xc3\xb6rd");

    ok(created(&p, user, sizeof(user) - 1),
       "create: login, signed raw and sent escaped");

    p.signature = NGX_HTTP_QUICKBLOX_SHA256;

    ok(created(&p, user256, sizeof(user256) - 1), "create: login, sha256");

    p.signature = NGX_HTTP_QUICKBLOX_SHA1;
    ngx_str_null(&p.login);
    ngx_str_set(&p.email, "bob@example.com");

    ok(created(&p, email, sizeof(email) - 1), "create: email");

    ngx_str_null(&p.email);
    ngx_str_set(&p.login, "bob");
    ngx_str_null(&p.password);

    ok(created(&p, empty, sizeof(empty) - 1),
       "create: an empty password is signed and sent");

    /* an unknown algorithm fails as OpenSSL would */

    p.signature = 0;
    ngx_str_set(&p.password, "correct horse");

    size = ngx_http_quickblox_create_size(&p);

    body.data = calloc(1, size);
    if (body.data == NULL) {
        abort();
    }

    ok(ngx_http_quickblox_create_body(&p, &body) == NGX_ERROR,
       "create: error without an algorithm");

    for (i = 0; i < size && body.data[i] == '\0'; i++) { /* void */ }

    ok(i == size && body.len == 0, "create: buffer cleansed on error");

    free(body.data);
}


/* each of the 256 bytes, in a value and in the whole body that it makes */

static void
test_create_bytes(void)
{
    u_char                        all[256], md[EVP_MAX_MD_SIZE];
    char                          raw[1024], body[2048], *p;
    unsigned int                  i, k, n, len;
    ngx_uint_t                    good;
    ngx_http_quickblox_create_t   c;

    ngx_memzero(&c, sizeof(c));
    ngx_str_set(&c.application_id, "92");
    ngx_str_set(&c.auth_key, "k");
    ngx_str_set(&c.auth_secret, SECRET);
    ngx_str_set(&c.nonce, "1");
    ngx_str_set(&c.timestamp, "2");
    ngx_str_set(&c.login, "bob");
    c.signature = NGX_HTTP_QUICKBLOX_SHA1;
    c.password.data = all;

    for (i = 0; i < 256; i++) {
        all[i] = (u_char) i;
    }

    for (k = 0, good = 0; k <= 256; k++) {

        /* the k-th byte alone, and all of them last */

        c.password.len = (k < 256) ? 1 : 256;
        c.password.data = (k < 256) ? &all[k] : all;

        p = raw + sprintf(raw, "application_id=92&auth_key=k&nonce=1"
                          "&timestamp=2&user[login]=bob&user[password]=");
        ngx_memcpy(p, c.password.data, c.password.len);
        len = p - raw + c.password.len;

        if (HMAC(EVP_sha1(), SECRET, sizeof(SECRET) - 1, (u_char *) raw, len,
                 md, &n)
            == NULL)
        {
            abort();
        }

        p = body + sprintf(body, "application_id=92&auth_key=k&nonce=1"
                           "&signature=");

        for (i = 0; i < n; i++) {
            p += sprintf(p, "%02x", md[i]);
        }

        p += sprintf(p, "&timestamp=2&user[login]=bob&user[password]=");

        for (i = 0; i < c.password.len; i++) {
            if (c.password.data[i] < 0x80
                && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrst"
                          "uvwxyz0123456789-._~", c.password.data[i])
                && c.password.data[i])
            {
                *p++ = c.password.data[i];

            } else {
                p += sprintf(p, "%%%02X", c.password.data[i]);
            }
        }

        good += created(&c, body, p - body);
    }

    ok(good == 257, "create: values of any bytes");
}


static ngx_uint_t
logged_in(ngx_http_quickblox_create_t *p, const char *expected, size_t len)
{
    size_t      size;
    ngx_str_t   body;
    ngx_uint_t  same;

    size = ngx_http_quickblox_login_size(p);

    body.data = malloc(size);
    if (body.data == NULL) {
        abort();
    }

    ngx_memset(body.data, 0xaa, size);
    body.len = 12345;

    ngx_http_quickblox_login_body(p, &body);

    same = body.len == len && body.len <= size
           && memcmp(body.data, expected, len) == 0;

    if (!same) {
        printf("# got %s\n", shown(&body));
    }

    free(body.data);

    return same;
}


static void
test_login(void)
{
    char                         *p, expected[1024];
    u_char                        all[256];
    ngx_uint_t                    i;
    ngx_http_quickblox_create_t   c;

    static const char             login[] =
        "login=bob%2Bx&password=p%26ss%20w%C3%B6rd";
    static const char             email[] =
        "email=bob%40example.com&password=p%26ss%20w%C3%B6rd";
    static const char             empty[] = "login=bob&password=";
    static const char             nobody[] = "login=&password=";

    ngx_memzero(&c, sizeof(c));
    ngx_str_set(&c.login, "bob+x");
    ngx_str_set(&c.password, "p&ss w\xc3\xb6rd");

    ok(logged_in(&c, login, sizeof(login) - 1), "login: a login, escaped");

    ngx_str_set(&c.application_id, "92");
    ngx_str_set(&c.auth_key, KEY);
    ngx_str_set(&c.auth_secret, SECRET);
    ngx_str_set(&c.nonce, "1472");
    ngx_str_set(&c.timestamp, "1795535646");

    ok(logged_in(&c, login, sizeof(login) - 1),
       "login: nothing of the application is sent");

    ngx_str_null(&c.login);
    ngx_str_set(&c.email, "bob@example.com");

    ok(logged_in(&c, email, sizeof(email) - 1), "login: an email");

    ngx_str_null(&c.email);
    ngx_str_set(&c.login, "bob");
    ngx_str_null(&c.password);

    ok(logged_in(&c, empty, sizeof(empty) - 1), "login: an empty password");

    ngx_str_null(&c.login);

    ok(logged_in(&c, nobody, sizeof(nobody) - 1), "login: nobody");

    /* all bytes: the longest body there is room for, less the unreserved */

    p = expected + sprintf(expected, "login=");

    for (i = 0; i < 256; i++) {
        all[i] = (u_char) i;

        p += sprintf(p, i && i < 0x80
                        && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop"
                                  "qrstuvwxyz0123456789-._~", (int) i)
                        ? "%c" : "%%%02X", (int) i);
    }

    p += sprintf(p, "&password=%%FF%%FF");

    c.login.data = all;
    c.login.len = 256;
    ngx_str_set(&c.password, "\xff\xff");

    ok(logged_in(&c, expected, p - expected), "login: any bytes");

    ngx_str_set(&c.email, "&&&");
    ngx_str_null(&c.login);

    ok(logged_in(&c, "email=%26%26%26&password=%FF%FF", 31),
       "login: all bytes escaped fit");
}


static test_session_t  sessions[] = {

    /* what the API answers */

    { "a user session", NGX_OK, 92, 7,
      SESSION("\"_id\":\"1151827623\",\"id\":1151827623," APP "," USER
              "," TOKEN ",\"nonce\":7334,\"ts\":1567349756,"
              "\"created_at\":\"2019-09-01T14:55:56Z\","
              "\"updated_at\":\"2019-09-01T14:55:56+00:00\"") },
    { "an application session", NGX_OK, 92, 0, USER_ID("0") },
    { "a foreign application", NGX_OK, 76730, 7, APP_ID("76730") },
    { "any white space", NGX_OK, 92, 7,
      ngx_string(" \t\r\n{ \"session\" : {\n" APP " , " USER "\t,\r\n"
                 TOKEN " } } \r\n\t ") },
    { "unknown members of any type", NGX_OK, 92, 7,
      ngx_string("{\"x\":[1,-2.5e+3,{\"y\":[]},{}],\"z\":null,\"session\":{"
                 "\"a\":true,\"b\":false,\"c\":null,\"d\":[[],{}],"
                 "\"e\":1e999,\"f\":-0.0E-0,\"g\":\"\\ud83d\\ude00\\/\\\"\\b"
                 "\\f\\n\\r\\t\\\\\"," APP "," USER "," TOKEN "},\"w\":1}") },
    { "an empty name", NGX_OK, 92, 7,
      SESSION("\"\":\"\"," APP "," USER "," TOKEN) },
    { "errors beside a session", NGX_OK, 92, 7,
      ngx_string("{\"errors\":[],\"session\":{" APP "," USER "," TOKEN
                 "}}") },
    { "security names elsewhere", NGX_OK, 92, 7,
      ngx_string("{\"token\":1,\"user_id\":2,\"session\":{" APP "," USER ","
                 TOKEN ",\"x\":{\"token\":\"y\",\"session\":1}},"
                 "\"token\":3}") },
    { "escaped names", NGX_OK, 92, 7,
      ngx_string("{\"\\u0073ession\":{\"application\\u005fid\":92,"
                 "\"user_i\\u0064\":7,\"t\\u006fken\":\"" HEX "\"}}") },
    { "an escaped token", NGX_OK, 92, 7,
      TOKEN_IS("\"9\\u0063" "8e0d2cfa7b4c1f9d3e5a6b7c8d9e0f1a2b3c4d\"") },

    /* ids */

    { "id as a string", NGX_OK, 92, 7, APP_ID("\"92\"") },
    { "user id as a string", NGX_OK, 92, 4711, USER_ID("\"4711\"") },
    { "id 0 as a string", NGX_OK, 92, 0, USER_ID("\"0\"") },
    { "id 92.0", NGX_OK, 92, 7, APP_ID("92.0") },
    { "id 92.000", NGX_OK, 92, 7, APP_ID("92.000") },
    { "id 9.2e1", NGX_OK, 92, 7, APP_ID("9.2e1") },
    { "id 0.92E+2", NGX_OK, 92, 7, APP_ID("0.92E+2") },
    { "id 9200e-2", NGX_OK, 92, 7, APP_ID("9200e-2") },
    { "id 100", NGX_OK, 100, 7, APP_ID("100") },
    { "id 1e2", NGX_OK, 100, 7, APP_ID("1e2") },
    { "id 10.5e1", NGX_OK, 105, 7, APP_ID("10.5e1") },
    { "id 0e999", NGX_OK, 0, 7, APP_ID("0e999") },
    { "id -0", NGX_OK, 0, 7, APP_ID("-0") },
    { "id 2^32", NGX_OK, 4294967296, 7, APP_ID("4294967296") },
    { "id 2^53", NGX_OK, 9007199254740992, 7, APP_ID("9007199254740992") },
    { "id 2^53 as a fraction", NGX_OK, 9007199254740992, 7,
      APP_ID("9.007199254740992e+15") },
    { "id 2^53 as a string", NGX_OK, 92, 9007199254740992,
      USER_ID("\"9007199254740992\"") },
    { "id 2^53 - 1", NGX_OK, 9007199254740991, 7,
      APP_ID("9007199254740991") },

    { "id 2^53 + 1", NGX_ERROR, 0, 0, APP_ID("9007199254740993") },
    { "id 2^53 + 1 as a string", NGX_ERROR, 0, 0,
      APP_ID("\"9007199254740993\"") },
    { "id 2^53 + 8", NGX_ERROR, 0, 0, APP_ID("9007199254741000") },
    { "id 10^16", NGX_ERROR, 0, 0, APP_ID("1e16") },
    { "id 2^64", NGX_ERROR, 0, 0, APP_ID("18446744073709551616") },
    { "id 2^64 + 92", NGX_ERROR, 0, 0, APP_ID("18446744073709551708") },
    { "id of 60 digits", NGX_ERROR, 0, 0,
      APP_ID("920000000000000000000000000000000000000000000000000000000001") },
    { "id 92.9", NGX_ERROR, 0, 0, APP_ID("92.9") },
    { "id 92.00000000000000000001", NGX_ERROR, 0, 0,
      APP_ID("92.00000000000000000001") },
    { "id 925e-1", NGX_ERROR, 0, 0, APP_ID("925e-1") },
    { "id 1e-1", NGX_ERROR, 0, 0, APP_ID("1e-1") },
    { "id 1e999", NGX_ERROR, 0, 0, APP_ID("1e999") },
    { "id 1e99999999999999999999", NGX_ERROR, 0, 0,
      APP_ID("1e99999999999999999999") },
    { "id 1e-99999999999999999999", NGX_ERROR, 0, 0,
      APP_ID("1e-99999999999999999999") },
    { "id 1e18446744073709551616", NGX_ERROR, 0, 0,
      APP_ID("1e18446744073709551616") },
    { "id -1", NGX_ERROR, 0, 0, APP_ID("-1") },
    { "user id -1", NGX_ERROR, 0, 0, USER_ID("-1") },
    { "user id 0.5", NGX_ERROR, 0, 0, USER_ID("0.5") },
    { "user id 1e999", NGX_ERROR, 0, 0, USER_ID("1e999") },
    { "id \"-1\"", NGX_ERROR, 0, 0, APP_ID("\"-1\"") },
    { "id \"92.0\"", NGX_ERROR, 0, 0, APP_ID("\"92.0\"") },
    { "id \" 92\"", NGX_ERROR, 0, 0, APP_ID("\" 92\"") },
    { "id \"92 \"", NGX_ERROR, 0, 0, APP_ID("\"92 \"") },
    { "id \"0x5c\"", NGX_ERROR, 0, 0, APP_ID("\"0x5c\"") },
    { "id of an empty string", NGX_ERROR, 0, 0, APP_ID("\"\"") },
    { "id null", NGX_ERROR, 0, 0, APP_ID("null") },
    { "id true", NGX_ERROR, 0, 0, APP_ID("true") },
    { "id false", NGX_ERROR, 0, 0, USER_ID("false") },
    { "id in an array", NGX_ERROR, 0, 0, APP_ID("[92]") },
    { "id in an object", NGX_ERROR, 0, 0, APP_ID("{\"92\":92}") },
    { "user id null", NGX_ERROR, 0, 0, USER_ID("null") },

    /* tokens */

    { "token with a blank", NGX_ERROR, 0, 0, TOKEN_IS("\"12345678 9\"") },
    { "token with CR LF", NGX_ERROR, 0, 0,
      TOKEN_IS("\"12345678\\r\\nX: y\"") },
    { "token with 8-bit bytes", NGX_ERROR, 0, 0,
      TOKEN_IS("\"12345678\xc3\xb6\"") },
    { "token with \\u0000", NGX_ERROR, 0, 0,
      TOKEN_IS("\"" HEX "\\u0000\"") },
    { "token with \\u0000 and more", NGX_ERROR, 0, 0,
      TOKEN_IS("\"" HEX "\\u0000x\"") },
    { "token of 7 bytes", NGX_ERROR, 0, 0, TOKEN_IS("\"1234567\"") },
    { "empty token", NGX_ERROR, 0, 0, TOKEN_IS("\"\"") },
    { "token null", NGX_ERROR, 0, 0, TOKEN_IS("null") },
    { "token of a number", NGX_ERROR, 0, 0, TOKEN_IS("1234567890") },
    { "token in an array", NGX_ERROR, 0, 0, TOKEN_IS("[\"" HEX "\"]") },

    /* members missing, twice, or of another spelling */

    { "no token", NGX_ERROR, 0, 0, SESSION(APP "," USER) },
    { "no application_id", NGX_ERROR, 0, 0, SESSION(USER "," TOKEN) },
    { "no user_id", NGX_ERROR, 0, 0, SESSION(APP "," TOKEN) },
    { "empty session", NGX_ERROR, 0, 0, SESSION("") },
    { "token twice", NGX_ERROR, 0, 0,
      SESSION(TOKEN "," APP "," USER "," TOKEN) },
    { "application_id twice", NGX_ERROR, 0, 0,
      SESSION(APP "," TOKEN "," USER ",\"application_id\":93") },
    { "user_id twice", NGX_ERROR, 0, 0,
      SESSION("\"user_id\":0," APP "," TOKEN "," USER) },
    { "token twice, one escaped", NGX_ERROR, 0, 0,
      SESSION(TOKEN "," APP "," USER ",\"t\\u006fken\":\"" HEX "\"") },
    { "application_id twice, one escaped", NGX_ERROR, 0, 0,
      SESSION("\"\\u0061pplication_id\":1," APP "," USER "," TOKEN) },
    { "user_id twice, one escaped", NGX_ERROR, 0, 0,
      SESSION(APP "," USER "," TOKEN ",\"user\\u005Fid\":0") },
    { "session twice", NGX_ERROR, 0, 0,
      ngx_string("{\"session\":{" APP "," USER "," TOKEN "},"
                 "\"session\":{" APP "," USER "," TOKEN "}}") },
    { "session twice, one escaped", NGX_ERROR, 0, 0,
      ngx_string("{\"sess\\u0069on\":null,"
                 "\"session\":{" APP "," USER "," TOKEN "}}") },
    { "errors twice", NGX_ERROR, 0, 0,
      ngx_string("{\"errors\":[\"a\"],\"errors\":[\"b\"]}") },
    { "errors twice beside a session", NGX_ERROR, 0, 0,
      ngx_string("{\"errors\":1,\"session\":{" APP "," USER "," TOKEN "},"
                 "\"\\u0065rrors\":2}") },
    { "Token", NGX_ERROR, 0, 0,
      SESSION(APP "," USER ",\"Token\":\"" HEX "\"") },
    { "Application_Id", NGX_ERROR, 0, 0,
      SESSION("\"Application_Id\":92," USER "," TOKEN) },
    { "USER_ID", NGX_ERROR, 0, 0, SESSION(APP ",\"USER_ID\":7," TOKEN) },
    { "Session", NGX_ERROR, 0, 0,
      ngx_string("{\"Session\":{" APP "," USER "," TOKEN "}}") },
    { "TOKEN and token", NGX_OK, 92, 7,
      SESSION("\"TOKEN\":1," APP "," USER "," TOKEN) },
    { "name cut by \\u0000", NGX_ERROR, 0, 0,
      SESSION(APP "," USER ",\"token\\u0000x\":\"" HEX "\"") },
    { "a longer name", NGX_ERROR, 0, 0,
      SESSION(APP "," USER ",\"tokens\":\"" HEX "\"") },

    /* refusals */

    { "errors in an array", NGX_DECLINED, 0, 0,
      ngx_string("{\"errors\":[\"Unauthorized\"]}") },
    { "errors in an object", NGX_DECLINED, 0, 0,
      ngx_string("{\"errors\":{\"base\":[\"Bad timestamp\"]}}") },
    { "errors of an identity provider", NGX_DECLINED, 0, 0,
      ngx_string("{\"errors\":\"no\",\"code\":1," TOKEN "}") },
    { "Errors", NGX_ERROR, 0, 0, ngx_string("{\"Errors\":[\"x\"]}") },
    { "errors with a session of null", NGX_ERROR, 0, 0,
      ngx_string("{\"session\":null,\"errors\":[\"x\"]}") },
    { "neither errors nor a session", NGX_ERROR, 0, 0,
      ngx_string("{\"code\":null,\"message\":\"Possible subdomains: x\"}") },
    { "the error of status 500", NGX_ERROR, 0, 0,
      ngx_string("{\"status\":\"500\",\"error\":\"Internal\"}") },

    /* another shape */

    { "session in an array", NGX_ERROR, 0, 0,
      ngx_string("{\"session\":[{" APP "," USER "," TOKEN "}]}") },
    { "session of a string", NGX_ERROR, 0, 0,
      ngx_string("{\"session\":\"" HEX "\"}") },
    { "session at the top", NGX_ERROR, 0, 0,
      ngx_string("{" APP "," USER "," TOKEN "}") },
    { "array at the top", NGX_ERROR, 0, 0,
      ngx_string("[{\"session\":{" APP "," USER "," TOKEN "}}]") },
    { "string at the top", NGX_ERROR, 0, 0, ngx_string("\"session\"") },
    { "number at the top", NGX_ERROR, 0, 0, ngx_string("1") },
    { "null at the top", NGX_ERROR, 0, 0, ngx_string("null") },
    { "empty object", NGX_ERROR, 0, 0, ngx_string("{}") },
    { "empty body", NGX_ERROR, 0, 0, ngx_string("") },
    { "one blank", NGX_ERROR, 0, 0, ngx_string(" ") },
    { "HTML", NGX_ERROR, 0, 0,
      ngx_string("<html><body>maintenance</body></html>") },

    /* what is no JSON, though cJSON reads some of it */

    { "byte order mark", NGX_ERROR, 0, 0,
      ngx_string("\xef\xbb\xbf{\"session\":{" APP "," USER "," TOKEN "}}") },
    { "byte order mark of UTF-16", NGX_ERROR, 0, 0,
      ngx_string("\xff\xfe{\"session\":{" APP "," USER "," TOKEN "}}") },
    { "NUL at the end", NGX_ERROR, 0, 0,
      ngx_string("{\"session\":{" APP "," USER "," TOKEN "}}\0") },
    { "NUL at the beginning", NGX_ERROR, 0, 0,
      ngx_string("\0{\"session\":{" APP "," USER "," TOKEN "}}") },
    { "NUL in the token", NGX_ERROR, 0, 0, TOKEN_IS("\"" HEX "\0\"") },
    { "a second object", NGX_ERROR, 0, 0,
      ngx_string("{\"session\":{" APP "," USER "," TOKEN "}}{}") },
    { "a bracket too many", NGX_ERROR, 0, 0,
      ngx_string("{\"session\":{" APP "," USER "," TOKEN "}}}") },
    { "text after the object", NGX_ERROR, 0, 0,
      ngx_string("{\"session\":{" APP "," USER "," TOKEN "}}\nx") },
    { "errors and text after them", NGX_ERROR, 0, 0,
      ngx_string("{\"errors\":[]}x") },
    { "control byte in a string", NGX_ERROR, 0, 0,
      SESSION("\"a\":\"\n\"," APP "," USER "," TOKEN) },
    { "control byte for a blank", NGX_ERROR, 0, 0,
      SESSION("\v" APP "," USER "," TOKEN) },
    { "control byte at the end", NGX_ERROR, 0, 0,
      ngx_string("{\"session\":{" APP "," USER "," TOKEN "}}\f") },
    { "unknown escape", NGX_ERROR, 0, 0,
      SESSION("\"a\":\"\\x\"," APP "," USER "," TOKEN) },
    { "escape of a wrong digit", NGX_ERROR, 0, 0,
      SESSION("\"a\":\"\\u12g4\"," APP "," USER "," TOKEN) },
    { "a short escape", NGX_ERROR, 0, 0,
      SESSION("\"a\":\"\\u12\"," APP "," USER "," TOKEN) },
    { "lone surrogate behind the token", NGX_ERROR, 0, 0,
      SESSION(APP "," USER "," TOKEN ",\"x\":\"\\udc00\"") },
    { "a pair of surrogates behind the token", NGX_OK, 92, 7,
      SESSION(APP "," USER "," TOKEN ",\"x\":\"\\uDBFF\\uDFFF\"") },
    { "a number of 64 bytes behind the token", NGX_ERROR, 0, 0,
      SESSION(APP "," USER "," TOKEN ",\"x\":1000000000000000000000000000"
              "000000000000000000000000000000000000") },
    { "lone surrogate", NGX_ERROR, 0, 0,
      SESSION("\"a\":\"\\ud83d\"," APP "," USER "," TOKEN) },
    { "\\u0000 in another member", NGX_ERROR, 0, 0,
      SESSION("\"a\":\"\\u0000\"," APP "," USER "," TOKEN) },
    { "leading zero", NGX_ERROR, 0, 0, APP_ID("092") },
    { "leading plus", NGX_ERROR, 0, 0, APP_ID("+92") },
    { "leading point", NGX_ERROR, 0, 0, APP_ID(".92") },
    { "trailing point", NGX_ERROR, 0, 0, APP_ID("92.") },
    { "empty exponent", NGX_ERROR, 0, 0, APP_ID("92e") },
    { "exponent of a sign", NGX_ERROR, 0, 0, APP_ID("92e+") },
    { "two points", NGX_ERROR, 0, 0, APP_ID("92.0.0") },
    { "two exponents", NGX_ERROR, 0, 0, APP_ID("92e0e0") },
    { "two signs", NGX_ERROR, 0, 0, APP_ID("--92") },
    { "a sign alone", NGX_ERROR, 0, 0, APP_ID("-") },
    { "hexadecimal", NGX_ERROR, 0, 0, APP_ID("0x5c") },
    { "NaN", NGX_ERROR, 0, 0, APP_ID("NaN") },
    { "Infinity", NGX_ERROR, 0, 0, APP_ID("Infinity") },
    { "True", NGX_ERROR, 0, 0,
      SESSION("\"a\":True," APP "," USER "," TOKEN) },
    { "nul", NGX_ERROR, 0, 0,
      SESSION("\"a\":nul," APP "," USER "," TOKEN) },
    { "truex", NGX_ERROR, 0, 0,
      SESSION("\"a\":truex," APP "," USER "," TOKEN) },
    { "trailing comma", NGX_ERROR, 0, 0,
      SESSION(APP "," USER "," TOKEN ",") },
    { "leading comma", NGX_ERROR, 0, 0,
      SESSION("," APP "," USER "," TOKEN) },
    { "no comma", NGX_ERROR, 0, 0, SESSION(APP " " USER "," TOKEN) },
    { "no colon", NGX_ERROR, 0, 0,
      SESSION("\"a\" 1," APP "," USER "," TOKEN) },
    { "no value", NGX_ERROR, 0, 0,
      SESSION("\"a\":," APP "," USER "," TOKEN) },
    { "name without quotes", NGX_ERROR, 0, 0,
      SESSION("a:1," APP "," USER "," TOKEN) },
    { "number for a name", NGX_ERROR, 0, 0,
      SESSION("1:1," APP "," USER "," TOKEN) },
    { "single quotes", NGX_ERROR, 0, 0, APP_ID("'92'") },
    { "comment", NGX_ERROR, 0, 0,
      ngx_string("{/**/\"session\":{" APP "," USER "," TOKEN "}}") },
    { "trailing comma in an array", NGX_ERROR, 0, 0,
      SESSION("\"a\":[1,]," APP "," USER "," TOKEN) },
    { "name in an array", NGX_ERROR, 0, 0,
      SESSION("\"a\":[\"b\":1]," APP "," USER "," TOKEN) },
    { "brackets crossed", NGX_ERROR, 0, 0,
      SESSION("\"a\":[{]}," APP "," USER "," TOKEN) },
    { "object closed as an array", NGX_ERROR, 0, 0,
      ngx_string("{\"session\":{" APP "," USER "," TOKEN "]}") },
    { "string not closed", NGX_ERROR, 0, 0,
      ngx_string("{\"session\":{" APP "," USER ",\"token\":\"" HEX) },
    { "escape not finished", NGX_ERROR, 0, 0,
      ngx_string("{\"session\":{" APP "," USER ",\"token\":\"" HEX "\\") },

    /* depth */

    { "16 levels", NGX_OK, 92, 7,
      SESSION("\"a\":" A10 "[[[{" "}]]]" Z10 "," APP "," USER "," TOKEN) },
    { "16 levels, one of them twice", NGX_OK, 92, 7,
      SESSION("\"a\":" A10 "[[[{" "},{}]]]" Z10 "," APP "," USER ","
              TOKEN) },
    { "17 levels", NGX_ERROR, 0, 0,
      SESSION("\"a\":" A10 "[[[[[" "]]]]]" Z10 "," APP "," USER ","
              TOKEN) },
    { "17 levels, of objects", NGX_ERROR, 0, 0,
      SESSION("\"a\":" A10 "[[[[{" "}]]]]" Z10 "," APP "," USER ","
              TOKEN) },
    { "brackets in a string", NGX_OK, 92, 7,
      SESSION("\"a\":\"" A10 A10 "\\\"" A10 "\"," APP "," USER "," TOKEN) },
    { "brackets after an escaped backslash", NGX_ERROR, 0, 0,
      SESSION("\"a\":\"\\\\\"" A10 A10 ":" APP "," USER "," TOKEN) }
};


static void
test_session(void)
{
    ngx_int_t                     rc;
    ngx_uint_t                    i;
    test_session_t                    *s;
    const char                   *reason;
    ngx_http_quickblox_answer_t   answer;

    for (i = 0; i < COUNT(sessions); i++) {
        s = &sessions[i];

        rc = session(&s->body, &answer, &reason);

        ok(rc == s->rc
           && (rc != NGX_OK
               || (answer.application_id == s->application_id
                   && answer.user_id == s->user_id
                   && answer.token_len == sizeof(HEX) - 1
                   && memcmp(answer.token, HEX, sizeof(HEX) - 1) == 0)),
           "session: %s", s->name);

        if (rc != s->rc) {
            printf("# rc %d, %s\n", (int) rc, reason ? reason : "no reason");
        }
    }
}


static void
test_session_sizes(void)
{
    size_t                        len;
    ngx_str_t                     body;
    ngx_int_t                     rc;
    const char                   *reason;
    ngx_http_quickblox_answer_t   answer;

    static const char             head[] = "{\"session\":{" APP "," USER ","
                                           TOKEN ",\"x\":\"";
    static const char             token[] = "{\"session\":{" APP "," USER
                                            ",\"token\":\"";

    len = sizeof(head) - 1 + sizeof("\"}}") - 1;

    body = repeated(head, 65535 - len, "x", "\"}}");
    ok(body.len == 65535 && session(&body, &answer, &reason) == NGX_OK,
       "session: 65535 bytes");
    drop(&body);

    body = repeated(head, 65536 - len, "x", "\"}}");
    ok(body.len == 65536 && session(&body, &answer, &reason) == NGX_OK,
       "session: 65536 bytes");
    drop(&body);

    body = repeated(head, 65537 - len, "x", "\"}}");
    ok(body.len == 65537 && session(&body, &answer, &reason) == NGX_ERROR,
       "session: 65537 bytes");
    drop(&body);

    body = repeated(head, 0, "", "\"}}");
    body.data = realloc(body.data, 65537);
    if (body.data == NULL) {
        abort();
    }

    ngx_memset(body.data + body.len, ' ', 65537 - body.len);
    body.len = 65537;
    ok(session(&body, &answer, &reason) == NGX_ERROR,
       "session: 65537 bytes, blanks at the end");
    drop(&body);

    body = repeated("{\"session\":", 60000, "[", "");
    ok(session(&body, &answer, &reason) == NGX_ERROR,
       "session: 60000 levels");
    drop(&body);

    body = repeated("", 10000, "{\"a\":", "");
    ok(session(&body, &answer, &reason) == NGX_ERROR,
       "session: 10000 levels of objects");
    drop(&body);

    body = repeated("{\"session\":{" APP "," USER "," TOKEN, 5000,
                    ",\"k\":{}", "}}");
    ok(session(&body, &answer, &reason) == NGX_OK,
       "session: 5000 members, one name");
    drop(&body);

    body = repeated("{\"session\":{" APP "," USER ",\"token\":\"" HEX "\"",
                    5000, ",\"user_id\":7", "}}");
    ok(session(&body, &answer, &reason) == NGX_ERROR,
       "session: user_id 5001 times");
    drop(&body);

    /* cJSON either refuses 64 bytes and more or reads them, by version */

    body = repeated("{\"session\":{" APP "," USER "," TOKEN ",\"n\":", 60000,
                    "9", "}}");
    rc = session(&body, &answer, &reason);
    ok(rc == NGX_OK || rc == NGX_ERROR, "session: number of 60000 digits");
    drop(&body);

    body = repeated("{\"session\":{" USER "," TOKEN ",\"application_id\":92",
                    60000, "0", "e-59999}}");
    ok(session(&body, &answer, &reason) == NGX_ERROR
       || answer.application_id == 920,
       "session: id of 60002 digits, an integer");
    drop(&body);

    body = repeated("{\"session\":{" USER "," TOKEN ",\"application_id\":92.",
                    60000, "0", "1}}");
    ok(session(&body, &answer, &reason) == NGX_ERROR,
       "session: id of 60003 digits, a fraction");
    drop(&body);

    body = repeated(token, 8, "x", "\"}}");
    ok(session(&body, &answer, &reason) == NGX_OK && answer.token_len == 8,
       "session: token of 8 bytes");
    drop(&body);

    body = repeated(token, 1024, "x", "\"}}");
    ok(session(&body, &answer, &reason) == NGX_OK
       && answer.token_len == 1024 && answer.token[0] == 'x'
       && answer.token[1023] == 'x',
       "session: token of 1024 bytes");
    drop(&body);

    body = repeated(token, 1025, "x", "\"}}");
    ok(session(&body, &answer, &reason) == NGX_ERROR,
       "session: token of 1025 bytes");
    drop(&body);

    body = repeated(token, 1, JWT, "\"}}");
    ok(session(&body, &answer, &reason) == NGX_OK
       && answer.token_len == sizeof(JWT) - 1
       && memcmp(answer.token, JWT, sizeof(JWT) - 1) == 0,
       "session: token of the JWT kind");
    drop(&body);
}


static void
test_session_damaged(void)
{
    u_char                        c;
    ngx_int_t                     rc;
    ngx_str_t                     body;
    ngx_uint_t                    i, k, good, bad;
    const char                   *reason;
    ngx_http_quickblox_answer_t   answer;

    static ngx_str_t              whole = SESSION(APP "," USER "," TOKEN
                                          ",\"a\":[{\"\\u00e9\":1.5e-3}]");

    /* no part of a body is one */

    body = whole;

    for (body.len = 0, bad = 0; body.len < whole.len; body.len++) {
        bad += (session(&body, &answer, &reason) != NGX_ERROR);
    }

    ok(bad == 0, "session: cut at any byte");

    /* any byte in any place: nothing but the three results comes out */

    body = copy(&whole);

    for (i = 0, bad = 0, good = 0; i < body.len; i++) {
        c = body.data[i];

        for (k = 0; k < 256; k++) {
            body.data[i] = (u_char) k;
            rc = session(&body, &answer, &reason);

            good += (rc == NGX_OK);
            bad += (rc == -1000 || rc == NGX_DECLINED
                    || (k < ' ' && k != '\t' && k != '\r' && k != '\n'
                        && rc != NGX_ERROR));
        }

        body.data[i] = c;
    }

    ok(bad == 0 && good > body.len, "session: any byte in any place");

    drop(&body);

    /* cJSON without memory: an error, and nothing remains allocated */

    for (i = 0, bad = 0; i < 1000; i++) {
        body = copy(&whole);
        blocks = 0;
        reason = NULL;
        left = i;

        rc = ngx_http_quickblox_parse_session(&body, &answer, &reason);

        left = -1;
        bad += (blocks != 0);
        drop(&body);

        if (rc == NGX_OK) {
            break;
        }

        bad += (rc != NGX_ERROR || reason == NULL);
    }

    ok(bad == 0 && i > 10 && i < 1000, "session: no memory");
}


static test_error_t  errors[] = {
    { "in an array", 1,
      ngx_string("{\"errors\":[\"Required session does not exist\"]}") },
    { "in an object", 1,
      ngx_string("{\"errors\":{\"base\":[\"Required session does not exist\""
                 "]}}") },
    { "alone", 1, ngx_string("{\"errors\":[\"session does not exist\"]}") },
    { "in capitals", 1,
      ngx_string("{\"errors\":[\"SESSION Does Not EXIST!\"]}") },
    { "in the second text", 1,
      ngx_string("{\"errors\":[\"x\",\"the session does not exist\"]}") },
    { "behind other types", 1,
      ngx_string("{\"errors\":{\"base\":[null,1,[],{},"
                 "\"session does not exist\"]}}") },
    { "escaped", 1,
      ngx_string("{\"\\u0065rrors\":{\"b\\u0061se\":[\"session\\u0020does "
                 "not exis\\u0074\"]}}") },
    { "beside other members", 1,
      ngx_string(" {\"code\":null,\"errors\":{\"x\":[],\"base\":"
                 "[\"session does not exist\"]},\"y\":{}} ") },
    { "another error", 0, ngx_string("{\"errors\":[\"Unauthorized\"]}") },
    { "need user", 0,
      ngx_string("{\"errors\":{\"base\":[\"Forbidden. Need user.\"]}}") },
    { "cut short", 0, ngx_string("{\"errors\":[\"session does not exis\"]}") },
    { "in two texts", 0,
      ngx_string("{\"errors\":[\"session does \",\"not exist\"]}") },
    { "no text", 0, ngx_string("{\"errors\":[]}") },
    { "an empty text", 0, ngx_string("{\"errors\":[\"\"]}") },
    { "as a string", 0,
      ngx_string("{\"errors\":\"session does not exist\"}") },
    { "as base of a string", 0,
      ngx_string("{\"errors\":{\"base\":\"session does not exist\"}}") },
    { "of a field", 0,
      ngx_string("{\"errors\":{\"login\":[\"session does not exist\"]}}") },
    { "below another array", 0,
      ngx_string("{\"errors\":[[\"session does not exist\"]]}") },
    { "as a name", 0,
      ngx_string("{\"errors\":{\"session does not exist\":[]}}") },
    { "outside errors", 0,
      ngx_string("{\"error\":\"session does not exist\"}") },
    { "in Errors", 0,
      ngx_string("{\"Errors\":[\"session does not exist\"]}") },
    { "in Base", 0,
      ngx_string("{\"errors\":{\"Base\":[\"session does not exist\"]}}") },
    { "in base without errors", 0,
      ngx_string("{\"base\":[\"session does not exist\"]}") },
    { "in errors twice", 0,
      ngx_string("{\"errors\":[\"session does not exist\"],\"errors\":[]}") },
    { "in errors twice, the last an object", 0,
      ngx_string("{\"errors\":[],\"errors\":{\"base\":"
                 "[\"session does not exist\"]}}") },
    { "in base twice", 0,
      ngx_string("{\"errors\":{\"base\":[],\"base\":"
                 "[\"session does not exist\"]}}") },
    { "with a byte order mark", 0,
      ngx_string("\xef\xbb\xbf{\"errors\":[\"session does not exist\"]}") },
    { "with NUL", 0,
      ngx_string("{\"errors\":[\"session does not exist\"]}\0") },
    { "with bytes behind", 0,
      ngx_string("{\"errors\":[\"session does not exist\"]}]") },
    { "without an end", 0,
      ngx_string("{\"errors\":[\"session does not exist\"]") },
    { "of 17 levels", 0,
      ngx_string("{\"errors\":[\"session does not exist\"],\"a\":"
                 A10 "[[[[[[" "]]]]]]" Z10 "}") },
    { "in no object", 0, ngx_string("[\"session does not exist\"]") },
    { "in HTML", 0, ngx_string("<p>session does not exist</p>") },
    { "in nothing", 0, ngx_string("") }
};


static void
test_has_error(void)
{
    ngx_str_t    body;
    ngx_uint_t   i, found;

    static ngx_str_t  text = ngx_string("session Does not exist");
    static ngx_str_t  none = ngx_null_string;
    static ngx_str_t  token = ngx_string("{\"session\":{" TOKEN "},"
                                         "\"errors\":[\"" HEX "\"]}");

    for (i = 0; i < COUNT(errors); i++) {
        body = copy(&errors[i].body);
        blocks = 0;

        found = ngx_http_quickblox_has_error(&body, &text);

        ok(found == errors[i].found && blocks == 0, "has_error: %s",
           errors[i].name);

        drop(&body);
    }

    body = repeated("{\"errors\":[\"session does not exist", 65600, " ",
                    "\"]}");
    ok(ngx_http_quickblox_has_error(&body, &text) == 0,
       "has_error: over 65536 bytes");
    drop(&body);

    leaked = 0;
    ok(ngx_http_quickblox_has_error(&token, &none) == 1 && leaked == 0,
       "has_error: empty text");
}


static void
test_contains(void)
{
    ngx_str_t    data, text;
    ngx_uint_t   i, k, good;
    u_char       a, b;

    static struct {
        ngx_str_t    data;
        ngx_str_t    text;
        ngx_uint_t   found;
    } pairs[] = {
        { ngx_string("abcdef"), ngx_string("abc"), 1 },
        { ngx_string("abcdef"), ngx_string("DEF"), 1 },
        { ngx_string("aBcDeF"), ngx_string("CdE"), 1 },
        { ngx_string("abcdef"), ngx_string("abcdef"), 1 },
        { ngx_string("abcdef"), ngx_string("abcdefg"), 0 },
        { ngx_string("abcdef"), ngx_string("abd"), 0 },
        { ngx_string("aaab"), ngx_string("aab"), 1 },
        { ngx_string("abcdef"), ngx_string(""), 1 },
        { ngx_string(""), ngx_string(""), 1 },
        { ngx_string(""), ngx_string("a"), 0 },
        { ngx_string("x\0yZ"), ngx_string("\0Yz"), 1 },
        { ngx_string("x\0y"), ngx_string("x\0z"), 0 },
        { ngx_string("\xc3\xa4"), ngx_string("\xc3\x84"), 0 },
        { ngx_string("[\\]^_`"), ngx_string("{|}~"), 0 }
    };

    for (i = 0; i < COUNT(pairs); i++) {
        data = copy(&pairs[i].data);
        text = copy(&pairs[i].text);

        ok(ngx_http_quickblox_contains(data.data, data.len, &text)
           == pairs[i].found,
           "contains: pair %u", (unsigned) i);

        drop(&data);
        drop(&text);
    }

    text.data = &b;
    text.len = 1;

    for (i = 0, good = 0; i < 256; i++) {
        for (k = 0; k < 256; k++) {
            a = (u_char) i;
            b = (u_char) k;

            good += (ngx_http_quickblox_contains(&a, 1, &text)
                     == (a == b || ((a ^ b) == 0x20
                                    && ((a | 0x20) >= 'a')
                                    && ((a | 0x20) <= 'z'))));
        }
    }

    ok(good == 65536, "contains: the case of letters only");
}


static test_date_t  dates[] = {
    { ngx_string("2018-01-31 12:20:03 UTC"), 1517401203 },
    { ngx_string("2018-03-13 12:13:23 +0000"), 1520943203 },
    { ngx_string("  2018-01-31 12:20:03 UTC"), 1517401203 },
    { ngx_string("2018-03-13 12:13:23 +0000 \t "), 1520943203 },
    { ngx_string("1970-01-01 00:00:00 UTC"), 0 },
    { ngx_string("2000-02-29 00:00:00 UTC"), 951782400 },
    { ngx_string("2024-02-29 23:59:59 +0000"), 1709251199 },
    { ngx_string("2024-03-01 00:00:00 UTC"), 1709251200 },
    { ngx_string("2023-03-01 00:00:00 UTC"), 1677628800 },
    { ngx_string("2026-12-31 00:00:00 UTC"), 1798675200 },
    { ngx_string("2038-01-19 03:14:08 UTC"), 2147483648 },
    { ngx_string("2100-03-01 00:00:00 UTC"), 4107542400 },
    { ngx_string("9999-12-31 23:59:59 UTC"), 253402300799 },

    { ngx_string(""), -1 },
    { ngx_string("  "), -1 },
    { ngx_string("UTC"), -1 },
    { ngx_string("2018-01-31 12:20:03"), -1 },
    { ngx_string("2018-01-31 12:20:03 "), -1 },
    { ngx_string("2018-01-31 12:20:03 UT"), -1 },
    { ngx_string("2018-01-31 12:20:03 UTC+"), -1 },
    { ngx_string("2018-01-31 12:20:03 UTC, x"), -1 },
    { ngx_string("2018-01-31 12:20:03 UTC\0"), -1 },
    { ngx_string("2018-01-31 12:20:03 UTC\r"), -1 },
    { ngx_string("x2018-01-31 12:20:03 UTC"), -1 },
    { ngx_string("2018-01-31 12:20:03 utc"), -1 },
    { ngx_string("2018-01-31 12:20:03 GMT"), -1 },
    { ngx_string("2018-01-31 12:20:03 +0100"), -1 },
    { ngx_string("2018-01-31 12:20:03 -0000"), -1 },
    { ngx_string("2018-01-31 12:20:03 +00:00"), -1 },
    { ngx_string("2018-01-31 12:20:03 0000"), -1 },
    { ngx_string("2018-01-31 12:20:03 Z"), -1 },
    { ngx_string("2018-01-31 12:20:03  UTC"), -1 },
    { ngx_string("2018-01-31 12:20:03UTC"), -1 },
    { ngx_string("2018-01-31\t12:20:03 UTC"), -1 },
    { ngx_string("2018-01-31T12:20:03 UTC"), -1 },
    { ngx_string("2018-01-31T12:20:03Z"), -1 },
    { ngx_string("2018/01/31 12:20:03 UTC"), -1 },
    { ngx_string("2018-01-31 12.20.03 UTC"), -1 },
    { ngx_string("2018-1-31 12:20:03 UTC"), -1 },
    { ngx_string("2018-01-31 12:20: 3 UTC"), -1 },
    { ngx_string("2018-01-31 12:20:-3 UTC"), -1 },
    { ngx_string("+018-01-31 12:20:03 UTC"), -1 },
    { ngx_string("2o18-01-31 12:20:03 UTC"), -1 },
    { ngx_string("2018-01-31 12:20:0/ UTC"), -1 },
    { ngx_string("2018-01-31 12:20:0: UTC"), -1 },
    { ngx_string("Wed, 31 Jan 2018 12:20:03 GMT"), -1 },
    { ngx_string("1517401203"), -1 },
    { ngx_string("12018-01-31 12:20:03 UTC"), -1 },

    { ngx_string("1969-12-31 23:59:59 UTC"), -1 },
    { ngx_string("1969-12-31 23:59:58 UTC"), -1 },
    { ngx_string("0000-01-01 00:00:00 UTC"), -1 },
    { ngx_string("2018-00-31 12:20:03 UTC"), -1 },
    { ngx_string("2018-13-31 12:20:03 UTC"), -1 },
    { ngx_string("2018-01-00 12:20:03 UTC"), -1 },
    { ngx_string("2018-01-32 12:20:03 UTC"), -1 },
    { ngx_string("2018-04-31 12:20:03 UTC"), -1 },
    { ngx_string("2018-02-29 12:20:03 UTC"), -1 },
    { ngx_string("2024-02-30 12:20:03 UTC"), -1 },
    { ngx_string("2100-02-29 12:20:03 UTC"), -1 },
    { ngx_string("2018-01-31 24:00:00 UTC"), -1 },
    { ngx_string("2018-01-31 12:60:03 UTC"), -1 },
    { ngx_string("2018-01-31 12:20:60 UTC"), -1 },
    { ngx_string("2018-01-31 12:20:99 +0000"), -1 }
};


static void
test_date(void)
{
    char        buf[64];
    time_t      t;
    ngx_str_t   value;
    struct tm   tm;
    ngx_uint_t  i, bad;

    for (i = 0; i < COUNT(dates); i++) {
        value = copy(&dates[i].value);

        ok(ngx_http_quickblox_parse_date(&value) == (time_t) dates[i].time,
           "date: \"%s\"", shown(&dates[i].value));

        drop(&value);
    }

    /* every day of 500 years, in a zone that is not UTC */

    setenv("TZ", "America/New_York", 1);
    tzset();

    for (t = 4711, bad = 0; t < (time_t) 86400 * 366 * 500; t += 86400) {
        (void) gmtime_r(&t, &tm);

        value.len = strftime(buf, sizeof(buf), "%Y-%m-%d %H:%M:%S UTC", &tm);
        value.data = (u_char *) buf;

        bad += (ngx_http_quickblox_parse_date(&value) != t);
    }

    ok(bad == 0, "date: each day of 500 years");
}


static test_date_t  iso_dates[] = {
    { ngx_string("2023-09-01T14:55:56Z"), 1693580156 },
    { ngx_string("2023-09-01T14:55:56+00:00"), 1693580156 },
    { ngx_string(" \t2023-09-01T14:55:56Z \t"), 1693580156 },
    { ngx_string(" 2023-09-01T14:55:56+00:00 "), 1693580156 },
    { ngx_string("1970-01-01T00:00:00Z"), 0 },
    { ngx_string("2024-02-29T23:59:59Z"), 1709251199 },
    { ngx_string("9999-12-31T23:59:59+00:00"), 253402300799 },

    { ngx_string(""), -1 },
    { ngx_string("Z"), -1 },
    { ngx_string("2023-09-01T14:55:56"), -1 },
    { ngx_string("2023-09-01T14:55:5Z"), -1 },
    { ngx_string("2023-09-01T14:55:56ZZ"), -1 },
    { ngx_string("2023-09-01T14:55:56z"), -1 },
    { ngx_string("2023-09-01t14:55:56Z"), -1 },
    { ngx_string("2023-09-01 14:55:56Z"), -1 },
    { ngx_string("2023-09-01T14:55:56 Z"), -1 },
    { ngx_string("2023-09-01T14:55:56 UTC"), -1 },
    { ngx_string("2023-09-01T14:55:56UTC"), -1 },
    { ngx_string("2023-09-01T14:55:56+0000"), -1 },
    { ngx_string("2023-09-01T14:55:56-00:00"), -1 },
    { ngx_string("2023-09-01T14:55:56+01:00"), -1 },
    { ngx_string("2023-09-01T14:55:56+00:0"), -1 },
    { ngx_string("2023-09-01T14:55:56.000Z"), -1 },
    { ngx_string("2023-09-01T14:55:56Z\0"), -1 },
    { ngx_string("2023-09-01T24:00:00Z"), -1 },
    { ngx_string("2023-02-29T00:00:00Z"), -1 },
    { ngx_string("2018-01-31 12:20:03 UTC"), -1 },
    { ngx_string("20230901T145556Z"), -1 }
};


static void
test_iso_date(void)
{
    ngx_str_t   value;
    ngx_uint_t  i;

    for (i = 0; i < COUNT(iso_dates); i++) {
        value = copy(&iso_dates[i].value);

        ok(ngx_http_quickblox_parse_iso_date(&value)
           == (time_t) iso_dates[i].time,
           "iso date: \"%s\"", shown(&iso_dates[i].value));

        drop(&value);
    }
}


static test_user_t  users[] = {
    { "a user", NGX_OK, 5,
      USER_IS("{\"id\":5,\"login\":\"bob\",\"blob_id\":null}") },
    { "an id as a string", NGX_OK, 5, USER_IS("{\"id\":\"5\"}") },
    { "5.0", NGX_OK, 5, USER_IS("{\"id\":5.0}") },
    { "2^53", NGX_OK, 9007199254740992, USER_IS("{\"id\":9007199254740992}") },
    { "other ids, before and behind", NGX_OK, 5,
      ngx_string("{\"id\":1,\"x\":{\"id\":2},\"user\":{\"y\":{\"id\":3},"
                 "\"_id\":4,\"id\":5,\"z\":[6]},\"w\":{\"z\":7,\"id\":8}}") },
    { "errors beside a user", NGX_OK, 5,
      ngx_string("{\"errors\":[\"x\"],\"user\":{\"id\":5}}") },
    { "escaped names", NGX_OK, 5,
      ngx_string("{\"\\u0075ser\":{\"i\\u0064\":5}}") },

    { "errors", NGX_DECLINED, 0, ngx_string("{\"errors\":[\"x\"]}") },
    { "errors of another form", NGX_DECLINED, 0,
      ngx_string("{\"code\":null,\"errors\":{\"base\":[\"x\"]}}") },

    { "2^53 + 1", NGX_ERROR, 0, USER_IS("{\"id\":9007199254740993}") },
    { "id 0", NGX_ERROR, 0, USER_IS("{\"id\":0}") },
    { "id 0 as a string", NGX_ERROR, 0, USER_IS("{\"id\":\"0\"}") },
    { "id -5", NGX_ERROR, 0, USER_IS("{\"id\":-5}") },
    { "id 5.5", NGX_ERROR, 0, USER_IS("{\"id\":5.5}") },
    { "id null", NGX_ERROR, 0, USER_IS("{\"id\":null}") },
    { "id true", NGX_ERROR, 0, USER_IS("{\"id\":true}") },
    { "an id in an array", NGX_ERROR, 0, USER_IS("{\"id\":[5]}") },
    { "an empty id", NGX_ERROR, 0, USER_IS("{\"id\":\"\"}") },
    { "no id", NGX_ERROR, 0, USER_IS("{\"login\":\"bob\"}") },
    { "an id by another case", NGX_ERROR, 0, USER_IS("{\"ID\":5}") },
    { "two ids", NGX_ERROR, 0, USER_IS("{\"id\":5,\"id\":5}") },
    { "two ids, one escaped", NGX_ERROR, 0,
      USER_IS("{\"id\":5,\"i\\u0064\":5}") },
    { "an id outside", NGX_ERROR, 0,
      ngx_string("{\"id\":5,\"user\":{}}") },
    { "an empty user", NGX_ERROR, 0, USER_IS("{}") },
    { "a user that is an array", NGX_ERROR, 0, USER_IS("[{\"id\":5}]") },
    { "a user that is a number", NGX_ERROR, 0, USER_IS("5") },
    { "a user that is a string", NGX_ERROR, 0, USER_IS("\"5\"") },
    { "a user that is null", NGX_ERROR, 0, USER_IS("null") },
    { "two users", NGX_ERROR, 0,
      ngx_string("{\"user\":{\"id\":5},\"user\":{\"id\":5}}") },
    { "errors twice", NGX_ERROR, 0,
      ngx_string("{\"errors\":[],\"errors\":[]}") },
    { "errors twice beside a user", NGX_ERROR, 0,
      ngx_string("{\"errors\":[],\"user\":{\"id\":5},\"errors\":[]}") },
    { "nothing", NGX_ERROR, 0, ngx_string("{}") },
    { "another object", NGX_ERROR, 0,
      ngx_string("{\"session\":{\"id\":5}}") },
    { "an empty body", NGX_ERROR, 0, ngx_string("") },
    { "no JSON", NGX_ERROR, 0, ngx_string("<html>") },
    { "a part", NGX_ERROR, 0, ngx_string("{\"user\":{\"id\":5}") },
    { "NUL", NGX_ERROR, 0, ngx_string("{\"user\":{\"id\":\"5\0\"}}") }
};


static void
test_user(void)
{
    uint64_t      user_id;
    ngx_int_t     rc;
    ngx_str_t     body;
    ngx_uint_t    i, bad;
    test_user_t  *u;
    const char   *reason;

    for (i = 0; i < COUNT(users); i++) {
        u = &users[i];

        body = copy(&u->body);
        user_id = 4711;
        reason = NULL;
        blocks = 0;

        rc = ngx_http_quickblox_parse_user(&body, &user_id, &reason);

        ok(rc == u->rc && blocks == 0
           && (rc != NGX_OK || user_id == u->user_id)
           && (rc != NGX_ERROR || (reason && *reason))
           && (body.len == 0 || memcmp(body.data, u->body.data, body.len)
                                == 0),
           "user: %s", u->name);

        drop(&body);
    }

    for (i = 0, bad = 0; i < 100; i++) {
        body = copy(&users[0].body);
        blocks = 0;
        left = i;

        rc = ngx_http_quickblox_parse_user(&body, &user_id, &reason);

        left = -1;
        drop(&body);

        if (rc == NGX_OK) {
            break;
        }

        bad += (rc != NGX_ERROR || blocks != 0);
    }

    ok(i > 5 && i < 100 && bad == 0, "user: without memory");
}


static test_user_token_t  user_tokens[] = {
    { "with a date", NGX_OK, 1693580156,
      ngx_string("{" TOKEN ",\"expires_at\":\"" ISO "\"}") },
    { "with a date before it", NGX_OK, 1693580156,
      ngx_string("{\"expires_at\":\"2023-09-01T14:55:56+00:00\"," TOKEN
                 "}") },
    { "without a date", NGX_OK, -1, ngx_string("{" TOKEN "}") },
    { "with a date that is null", NGX_OK, -1,
      ngx_string("{" TOKEN ",\"expires_at\":null}") },
    { "with a date that is a number", NGX_OK, -1,
      ngx_string("{" TOKEN ",\"expires_at\":1693580156}") },
    { "with a date of the header's form", NGX_OK, -1,
      ngx_string("{" TOKEN ",\"expires_at\":\"2018-01-31 12:20:03 UTC\"}") },
    { "with an empty date", NGX_OK, -1,
      ngx_string("{" TOKEN ",\"expires_at\":\"\"}") },
    { "with two dates", NGX_OK, -1,
      ngx_string("{\"expires_at\":\"" ISO "\"," TOKEN ",\"expires_at\":\""
                 ISO "\"}") },
    { "with errors", NGX_OK, -1, ngx_string("{\"errors\":[]," TOKEN "}") },
    { "among unknown members", NGX_OK, -1,
      ngx_string("{\"x\":{\"token\":1}," TOKEN ",\"user_id\":\"y\","
                 "\"session\":{}}") },

    { "errors", NGX_DECLINED, 0, ngx_string("{\"errors\":[\"x\"]}") },

    { "twice", NGX_ERROR, 0, ngx_string("{" TOKEN "," TOKEN "}") },
    { "twice, one escaped", NGX_ERROR, 0,
      ngx_string("{" TOKEN ",\"t\\u006fken\":\"" HEX "\"}") },
    { "that is no string", NGX_ERROR, 0, ngx_string("{\"token\":12345678}") },
    { "that is null", NGX_ERROR, 0, ngx_string("{\"token\":null}") },
    { "that is an object", NGX_ERROR, 0, ngx_string("{\"token\":{}}") },
    { "that is empty", NGX_ERROR, 0, ngx_string("{\"token\":\"\"}") },
    { "that is too short", NGX_ERROR, 0,
      ngx_string("{\"token\":\"1234567\"}") },
    { "T23, of other bytes", NGX_ERROR, 0,
      ngx_string("{\"token\":\"12345678\\r\\n\"}") },
    { "T23, with a blank", NGX_ERROR, 0,
      ngx_string("{\"token\":\"1234 5678\"}") },
    { "of another place", NGX_ERROR, 0,
      ngx_string("{\"session\":{" TOKEN "}}") },
    { "of none", NGX_ERROR, 0,
      ngx_string("{\"expires_at\":\"" ISO "\"}") },
    { "of no JSON", NGX_ERROR, 0, ngx_string(TOKEN) },
    { "of no body", NGX_ERROR, 0, ngx_string("") },
    { "before a lone surrogate", NGX_ERROR, 0,
      ngx_string("{" TOKEN ",\"expires_at\":\"\\ud800\"}") }
};


static void
test_user_token(void)
{
    time_t                              expires;
    ngx_int_t                           rc;
    ngx_str_t                           body;
    ngx_uint_t                          i, bad;
    const char                         *reason;
    test_user_token_t                  *u;
    ngx_http_quickblox_answer_t         answer;

    static ngx_http_quickblox_answer_t  untouched;

    ngx_memset(&untouched, 0x5a, sizeof(untouched));

    for (i = 0; i < COUNT(user_tokens); i++) {
        u = &user_tokens[i];

        body = copy(&u->body);
        answer = untouched;
        expires = 4711;
        reason = NULL;
        blocks = 0;
        leaked = 0;

        rc = ngx_http_quickblox_parse_token(&body, &answer, &expires,
                                            &reason);

        bad = (blocks || leaked);
        bad |= (body.len && memcmp(body.data, u->body.data, body.len) != 0);
        bad |= (rc == NGX_ERROR && (reason == NULL || *reason == '\0'));

        if (rc == NGX_OK) {
            bad |= (answer.token_len != sizeof(HEX) - 1
                    || memcmp(answer.token, HEX, sizeof(HEX) - 1) != 0
                    || answer.application_id != untouched.application_id
                    || answer.user_id != untouched.user_id
                    || expires != (time_t) u->expires);

        } else {
            bad |= (memcmp(&answer, &untouched, sizeof(untouched)) != 0);
        }

        ok(rc == u->rc && bad == 0, "user token: %s", u->name);

        drop(&body);
    }

    for (i = 0, bad = 0; i < 100; i++) {
        body = copy(&user_tokens[0].body);
        blocks = 0;
        left = i;

        rc = ngx_http_quickblox_parse_token(&body, &answer, &expires,
                                            &reason);

        left = -1;
        drop(&body);

        if (rc == NGX_OK) {
            break;
        }

        bad += (rc != NGX_ERROR || blocks != 0);
    }

    ok(i > 5 && i < 100 && bad == 0, "user token: without memory");
}


static test_client_t  clients[] = {
    { ngx_string(HEX), NGX_OK, ngx_string(HEX) },
    { ngx_string(JWT), NGX_OK, ngx_string(JWT) },
    { ngx_string(HEX " \t "), NGX_OK, ngx_string(HEX) },
    { ngx_string("Bearer " HEX), NGX_OK, ngx_string(HEX) },
    { ngx_string("bearer " HEX), NGX_OK, ngx_string(HEX) },
    { ngx_string("BEARER " HEX), NGX_OK, ngx_string(HEX) },
    { ngx_string("bEaReR   " HEX "  "), NGX_OK, ngx_string(HEX) },
    { ngx_string("Bearer\t \t" HEX "\t"), NGX_OK, ngx_string(HEX) },
    { ngx_string("Bearer" HEX), NGX_OK, ngx_string("Bearer" HEX) },
    { ngx_string("BearerX " HEX), NGX_DECLINED, ngx_null_string },
    { ngx_string("Bearers"), NGX_OK, ngx_string("Bearers") },
    { ngx_string("Beare " HEX), NGX_DECLINED, ngx_null_string },
    { ngx_string("Bearer:" HEX), NGX_OK, ngx_string("Bearer:" HEX) },
    { ngx_string("Bearer"), NGX_DECLINED, ngx_null_string },
    { ngx_string("bearer   "), NGX_DECLINED, ngx_null_string },
    { ngx_string("Bearer Bearer " HEX), NGX_OK, ngx_string("Bearer " HEX) },
    { ngx_string("Bearer a b"), NGX_OK, ngx_string("a b") },
    { ngx_string(""), NGX_DECLINED, ngx_null_string },
    { ngx_string(" "), NGX_DECLINED, ngx_null_string },
    { ngx_string(" \t \t"), NGX_DECLINED, ngx_null_string },
    { ngx_string("Basic Ym9iOnBhc3M="), NGX_DECLINED, ngx_null_string },
    { ngx_string("basic\tYm9iOnBhc3M="), NGX_DECLINED, ngx_null_string },
    { ngx_string("ApiKey abcdefgh"), NGX_DECLINED, ngx_null_string },
    { ngx_string("Digest username=\"bob\""), NGX_DECLINED, ngx_null_string },
    { ngx_string("AWS4-HMAC-SHA256 x=y"), NGX_DECLINED, ngx_null_string },
    { ngx_string("x y"), NGX_DECLINED, ngx_null_string },
    { ngx_string("Basic"), NGX_OK, ngx_string("Basic") },
    { ngx_string("Basic-Token "), NGX_OK, ngx_string("Basic-Token") },
    { ngx_string("4Basic abcdefgh"), NGX_OK, ngx_string("4Basic abcdefgh") },
    { ngx_string("-asic abcdefgh"), NGX_OK, ngx_string("-asic abcdefgh") },
    { ngx_string("ba_sic abcdefgh"), NGX_OK, ngx_string("ba_sic abcdefgh") },
    { ngx_string("a\0b c"), NGX_OK, ngx_string("a\0b c") },
    { ngx_string(" " HEX), NGX_OK, ngx_string(" " HEX) }
};


static void
test_client_token(void)
{
    ngx_int_t    rc;
    ngx_str_t    value, token;
    test_client_t    *c;
    ngx_uint_t   i;

    for (i = 0; i < COUNT(clients); i++) {
        c = &clients[i];

        value = copy(&c->value);
        ngx_str_null(&token);

        rc = ngx_http_quickblox_client_token(&value, &token);

        ok(rc == c->rc
           && (rc != NGX_OK
               || (token.len == c->token.len
                   && memcmp(token.data, c->token.data, token.len) == 0
                   && token.data >= value.data
                   && token.data + token.len <= value.data + value.len)),
           "client token: \"%s\"", shown(&c->value));

        drop(&value);
    }
}


static void
test_token(void)
{
    u_char       buf[1025];
    ngx_str_t    token;
    ngx_uint_t   i, k, good;

    static char  allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                             "abcdefghijklmnopqrstuvwxyz0123456789._~+/=-";

    token.data = buf;
    ngx_memset(buf, 'x', sizeof(buf));

    for (i = 0, good = 0; i <= 1025; i++) {
        token.len = i;
        good += (ngx_http_quickblox_token(&token) == (i >= 8 && i <= 1024));
    }

    ok(good == 1026, "token: 8 to 1024 bytes");

    ngx_str_null(&token);
    ok(ngx_http_quickblox_token(&token) == 0, "token: null");

    token.data = buf;
    token.len = 8;

    for (i = 0, good = 0; i < 256; i++) {
        for (k = 0; k < 8; k++) {
            buf[k] = (u_char) i;
            good += (ngx_http_quickblox_token(&token)
                     == (memchr(allowed, (int) i, sizeof(allowed) - 1)
                         != NULL));
            buf[k] = 'x';
        }
    }

    ok(good == 8 * 256, "token: each byte in each place");

    ngx_str_set(&token, JWT);
    ok(ngx_http_quickblox_token(&token) == 1, "token: JWT");
}


static void
test_id(void)
{
    uint64_t     id;
    ngx_int_t    rc;
    ngx_str_t    value;
    ngx_uint_t   i;

    static struct {
        ngx_str_t   value;
        int64_t     id;
    } ids[] = {
        { ngx_string("0"), 0 },
        { ngx_string("92"), 92 },
        { ngx_string("0092"), 92 },
        { ngx_string("4294967296"), 4294967296 },
        { ngx_string("9007199254740991"), 9007199254740991 },
        { ngx_string("9007199254740992"), 9007199254740992 },
        { ngx_string("9007199254740993"), -1 },
        { ngx_string("9999999999999999"), -1 },
        { ngx_string("0000000000000092"), 92 },
        { ngx_string("00000000000000092"), -1 },
        { ngx_string("18446744073709551708"), -1 },
        { ngx_string(""), -1 },
        { ngx_string("-1"), -1 },
        { ngx_string("+1"), -1 },
        { ngx_string(" 1"), -1 },
        { ngx_string("1 "), -1 },
        { ngx_string("1\0"), -1 },
        { ngx_string("92.0"), -1 },
        { ngx_string("1e2"), -1 },
        { ngx_string("0x5c"), -1 },
        { ngx_string("9/"), -1 },
        { ngx_string("9:"), -1 }
    };

    for (i = 0; i < COUNT(ids); i++) {
        value = copy(&ids[i].value);
        id = 4711;

        rc = ngx_http_quickblox_parse_id(&value, &id);

        ok(ids[i].id < 0 ? (rc == NGX_ERROR && id == 4711)
                         : (rc == NGX_OK && id == (uint64_t) ids[i].id),
           "id: \"%s\"", shown(&ids[i].value));

        drop(&value);
    }
}


static ngx_uint_t
digested(EVP_MD_CTX *ctx, EVP_MD_CTX *start, ngx_str_t *strings, ngx_uint_t n,
    const char *expected)
{
    char         hex[2 * NGX_HTTP_QUICKBLOX_DIGEST_LEN + 1];
    u_char       digest[NGX_HTTP_QUICKBLOX_DIGEST_LEN];
    ngx_uint_t   i;

    if (ngx_http_quickblox_digest(ctx, start, strings, n, digest) != NGX_OK) {
        return 0;
    }

    for (i = 0; i < NGX_HTTP_QUICKBLOX_DIGEST_LEN; i++) {
        (void) sprintf(hex + 2 * i, "%02x", digest[i]);
    }

    return strcmp(hex, expected) == 0;
}


static void
test_digest(void)
{
    u_char        lists[5][NGX_HTTP_QUICKBLOX_DIGEST_LEN];
    u_char        out[NGX_HTTP_QUICKBLOX_DIGEST_LEN], x[300];
    EVP_MD       *md;
    ngx_str_t     s[3];
    ngx_uint_t    i, k, same;
    EVP_MD_CTX   *ctx, *start;

    static ngx_str_t  parts[5][3] = {
        { ngx_string("ab"), ngx_string("c"), ngx_null_string },
        { ngx_string("a"), ngx_string("bc"), ngx_null_string },
        { ngx_string("abc"), ngx_null_string, ngx_null_string },
        { ngx_null_string, ngx_string("abc"), ngx_null_string },
        { ngx_string("c"), ngx_string("ab"), ngx_null_string }
    };

    ctx = EVP_MD_CTX_new();
    start = EVP_MD_CTX_new();
    md = EVP_MD_fetch(NULL, "SHA256", NULL);

    if (ctx == NULL || start == NULL || md == NULL
        || ngx_http_quickblox_digest_start(start, EVP_sha256(), NULL, 0)
           != NGX_OK)
    {
        abort();
    }

    ngx_str_set(&s[0], "92");
    ngx_str_set(&s[1], "token");

    ok(digested(ctx, start, s, 2, "c943b51131b35c051a5b28e2c844b069"
                "e014620956392ce9f3bcea0851a68c29"),
       "digest: two strings");

    ok(ngx_http_quickblox_digest_start(start, md, s, 1) == NGX_OK
       && digested(ctx, start, s + 1, 1, "c943b51131b35c051a5b28e2c844b069"
                   "e014620956392ce9f3bcea0851a68c29")
       && digested(ctx, start, s + 1, 1, "c943b51131b35c051a5b28e2c844b069"
                   "e014620956392ce9f3bcea0851a68c29"),
       "digest: the first by a fetched algorithm, the second twice");

    ok(ngx_http_quickblox_digest_start(start, md, s, 2) == NGX_OK
       && digested(ctx, start, NULL, 0, "c943b51131b35c051a5b28e2c844b069"
                   "e014620956392ce9f3bcea0851a68c29"),
       "digest: nothing behind two strings");

    if (ngx_http_quickblox_digest_start(start, md, NULL, 0) != NGX_OK) {
        abort();
    }

    ngx_memset(x, 'x', sizeof(x));
    s[0].data = x;
    s[0].len = sizeof(x);

    ok(digested(ctx, start, s, 1, "ef14726c73a1a906e4313238a29409fa"
                "0ab4894ee18096dfdd808b811b864276"),
       "digest: a length of two bytes");

    ngx_str_null(&s[0]);

    ok(digested(ctx, start, s, 1, "af5570f5a1810b7af78caf4bc70a660f"
                "0df51e42baf91d4de5b2328de0e83dfc"),
       "digest: an empty string");

    ok(digested(ctx, start, NULL, 0, "e3b0c44298fc1c149afbf4c8996fb924"
                "27ae41e4649b934ca495991b7852b855"),
       "digest: no string");

    for (i = 0, same = 0; i < 5; i++) {
        same += (ngx_http_quickblox_digest(ctx, start, parts[i], 3,
                                           lists[i])
                 != NGX_OK);

        for (k = 0; k < i; k++) {
            same += (memcmp(lists[i], lists[k], sizeof(lists[i])) == 0);
        }
    }

    ok(same == 0, "digest: lists of the same bytes differ");

    ngx_str_set(&s[0], "abc");
    ok(ngx_http_quickblox_digest(ctx, start, s, 1, out) == NGX_OK
       && memcmp(out, lists[2], sizeof(out)) != 0,
       "digest: an empty string behind counts");

    ok(ngx_http_quickblox_digest_start(start, EVP_sha512(), s, 1) == NGX_ERROR
       && ngx_http_quickblox_digest_start(start, NULL, s, 1) == NGX_ERROR,
       "digest: another algorithm or none");

    EVP_MD_free(md);
    EVP_MD_CTX_free(start);
    EVP_MD_CTX_free(ctx);
}


int
main(void)
{
    cJSON_Hooks  hooks;

    hooks.malloc_fn = hook_malloc;
    hooks.free_fn = hook_free;
    cJSON_InitHooks(&hooks);

    printf("1..%d\n", PLAN);

    test_create();
    test_create_bytes();
    test_login();
    test_session();
    test_session_sizes();
    test_session_damaged();
    test_has_error();
    test_contains();
    test_date();
    test_iso_date();
    test_user();
    test_user_token();
    test_client_token();
    test_token();
    test_id();
    test_digest();

    if (tests != PLAN) {
        printf("# planned %d tests, ran %u\n", PLAN, (unsigned) tests);
        return 1;
    }

    return failures ? 1 : 0;
}
