
/*
 * Unit tests of ngx_http_quickblox_login.c, by the rows of the list of
 * threats: T23, bytes that have no place in a login; T33, redirects to other
 * hosts; T36, JSON that is made to do harm.
 *
 * Every input and output is a heap block of exactly its length, so that the
 * address sanitizer sees a byte beyond it, and cJSON allocates through hooks
 * that count the blocks and look for the password in what is freed.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include <stdarg.h>
#include <stdio.h>

#include <cjson/cJSON.h>

#include "../../ngx_http_quickblox_module/ngx_http_quickblox_json.h"
#include "../../ngx_http_quickblox_module/ngx_http_quickblox_login.h"

#include "unit.h"


#define PLAN          227

#define COUNT(a)      (sizeof(a) / sizeof((a)[0]))

#define FORM          0
#define JSON          1

#define SECRET        "correct-horse"

#define A10           "[[[[[[[[[["
#define Z10           "]]]]]]]]]]"

#define RANDOM        50000


typedef ngx_http_quickblox_login_t  login_t;


/* what is expected: all fields that were sent, or "error" */

typedef struct {
    const char   *name;
    ngx_str_t     body;
    const char   *fields;
} test_body_t;


/* credentials before they are encoded, and both of them, or "error" */

typedef struct {
    ngx_str_t     plain;
    const char   *fields;
} test_basic_t;


static const char *fields(login_t *login, u_char *buf, size_t size);
static const char *parsed(ngx_str_t *body, ngx_uint_t json);
static const char *basic(ngx_str_t *value);
static ngx_str_t encode(u_char *src, size_t len, ngx_uint_t pad);
static ngx_uint_t target(ngx_str_t *s);


static ngx_uint_t   blocks;      /* of cJSON, not yet freed */
static ngx_uint_t   leaked;      /* freed with a password inside */
static ngx_int_t    left = -1;   /* allocations that succeed, -1 is all */

static const char  *names[] = {
    "login", "email", "password", "token", "redirect"
};


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

    p = allocated(2 * sizeof(size_t) + size);

    p[0] = size;
    blocks++;

    /* what was in this memory before is not cJSON's */

    ngx_memset(p + 2, 0xaa, size);

    return p + 2;
}


static void
hook_free(void *data)
{
    size_t  *p, i;
    u_char  *s;

    if (data == NULL) {
        return;
    }

    s = data;
    p = (size_t *) data - 2;

    for (i = 0; i + sizeof(SECRET) - 1 <= p[0]; i++) {
        if (memcmp(s + i, SECRET, sizeof(SECRET) - 1) == 0) {
            leaked++;
        }
    }

    blocks--;
    free(p);
}


/* "[login=bob][password=x]", or "bad" where a value is not in the buffer */

static const char *
fields(login_t *login, u_char *buf, size_t size)
{
    char        *p;
    u_char      *last;
    size_t       i, total;
    ngx_str_t   *all[5];

    static char  text[2 * 65536 + 256];

    all[0] = &login->login;
    all[1] = &login->email;
    all[2] = &login->password;
    all[3] = &login->token;
    all[4] = &login->redirect;

    p = text;
    last = buf + size;
    total = 0;

    for (i = 0; i < 5; i++) {

        if (all[i]->data == NULL) {
            if (all[i]->len) {
                return "bad";
            }

            continue;
        }

        total += all[i]->len;

        if (all[i]->data < buf || all[i]->data > last
            || (size_t) (last - all[i]->data) < all[i]->len || total > size)
        {
            return "bad";
        }

        p += sprintf(p, "[%s=", names[i]);
        p = (char *) ngx_cpymem(p, all[i]->data, all[i]->len);
        *p++ = ']';
    }

    *p = '\0';

    return text;
}


/*
 * login_parse() with what holds for every body: it is not modified, and no
 * block of cJSON's remains or is freed with a password in it.
 */

static const char *
parsed(ngx_str_t *body, ngx_uint_t json)
{
    u_char      *buf;
    login_t      login;
    ngx_int_t    rc;
    ngx_str_t    input;
    ngx_uint_t   bad;
    const char  *text;

    input = copy(body);
    buf = allocated(input.len + 1);

    ngx_memset(buf, 0xa5, input.len + 1);
    ngx_memset(&login, 0x5a, sizeof(login_t));

    blocks = 0;
    leaked = 0;

    rc = ngx_http_quickblox_login_parse(&input, json, buf, &login);

    bad = (blocks || leaked);
    bad |= (input.len && memcmp(input.data, body->data, input.len) != 0);
    bad |= (rc != NGX_OK && rc != NGX_ERROR && rc != NGX_ABORT);

    text = (rc == NGX_OK) ? fields(&login, buf, input.len + 1)
           : (rc == NGX_ABORT) ? "no memory" : "error";

    free(buf);
    free(input.data);

    return bad ? "bad" : text;
}


static const char *
basic(ngx_str_t *value)
{
    u_char      *buf;
    login_t      login;
    ngx_int_t    rc;
    ngx_str_t    input;
    ngx_uint_t   bad;
    const char  *text;

    input = copy(value);
    buf = allocated(input.len);

    ngx_memset(buf, 0xa5, input.len);
    ngx_memset(&login, 0x5a, sizeof(login_t));

    rc = ngx_http_quickblox_login_basic(&input, buf, &login);

    bad = (input.len && memcmp(input.data, value->data, input.len) != 0);
    bad |= (rc != NGX_OK && rc != NGX_ERROR);

    text = (rc == NGX_OK) ? fields(&login, buf, input.len) : "error";

    free(buf);
    free(input.data);

    return bad ? "bad" : text;
}


static ngx_str_t
encode(u_char *src, size_t len, ngx_uint_t pad)
{
    size_t        i;
    uint32_t      bits, acc;
    ngx_str_t     value;

    static char   digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                             "abcdefghijklmnopqrstuvwxyz0123456789+/";

    value.data = allocated((len + 2) / 3 * 4 + 1);
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

    while (pad && value.len % 4) {
        value.data[value.len++] = '=';
    }

    return value;
}


static ngx_uint_t
target(ngx_str_t *s)
{
    ngx_str_t   input;
    ngx_uint_t  rc;

    input = copy(s);
    rc = ngx_http_quickblox_login_target(&input);
    free(input.data);

    return rc;
}


static test_body_t  objects[] = {
    { "no body", ngx_string(""), "" },
    { "no member", ngx_string("{}"), "" },
    { "white space around", ngx_string(" \t\r\n{ \n}\r\n "), "" },
    { "a login", ngx_string("{\"login\":\"bob\",\"password\":\"" SECRET "\"}"),
      "[login=bob][password=" SECRET "]" },
    { "an email",
      ngx_string("{\"email\":\"b@c.de\",\"password\":\"" SECRET "\"}"),
      "[email=b@c.de][password=" SECRET "]" },
    { "all fields",
      ngx_string("{\"login\":\"a\",\"email\":\"b\",\"password\":\"c\","
                 "\"token\":\"d\",\"redirect\":\"/e\"}"),
      "[login=a][email=b][password=c][token=d][redirect=/e]" },
    { "all fields, backwards",
      ngx_string("{\"redirect\":\"/e\",\"token\":\"d\",\"password\":\"c\","
                 "\"email\":\"b\",\"login\":\"a\"}"),
      "[login=a][email=b][password=c][token=d][redirect=/e]" },
    { "empty values",
      ngx_string("{\"login\":\"\",\"email\":\"\",\"password\":\"\","
                 "\"token\":\"\",\"redirect\":\"\"}"),
      "[login=][email=][password=][token=][redirect=]" },
    { "empty values among others",
      ngx_string("{\"login\":\"a\",\"email\":\"\",\"password\":\"c\"}"),
      "[login=a][email=][password=c]" },

    /* names */

    { "unknown names of any type",
      ngx_string("{\"x\":1,\"y\":null,\"z\":[{\"login\":2}],\"login\":\"a\","
                 "\"w\":{\"password\":{}},\"\":true,\"x\":-1.5e3}"),
      "[login=a]" },
    { "names by case",
      ngx_string("{\"Login\":\"a\",\"PASSWORD\":1,\"login\":\"b\"}"),
      "[login=b]" },
    { "names that are longer or shorter",
      ngx_string("{\"logi\":\"a\",\"logins\":\"b\",\" login\":\"c\","
                 "\"user[login]\":\"d\"}"), "" },
    { "escaped names", ngx_string("{\"\\u006cogin\":\"a\"}"), "[login=a]" },
    { "a nested login", ngx_string("{\"user\":{\"login\":\"a\"}}"), "" },

    /* T36 */

    { "T36, twice", ngx_string("{\"login\":\"a\",\"login\":\"a\"}"),
      "error" },
    { "T36, twice, one escaped",
      ngx_string("{\"login\":\"a\",\"l\\u006fgin\":\"b\"}"), "error" },
    { "T36, twice, one empty",
      ngx_string("{\"password\":\"\",\"password\":\"" SECRET "\"}"),
      "error" },
    { "T36, twice, one no string",
      ngx_string("{\"token\":null,\"token\":\"" SECRET "\"}"), "error" },
    { "T36, twice, the last field",
      ngx_string("{\"redirect\":\"/a\",\"login\":\"a\",\"redirect\":\"/\"}"),
      "error" },
    { "T36, a number", ngx_string("{\"login\":1}"), "error" },
    { "T36, null", ngx_string("{\"email\":null}"), "error" },
    { "T36, true", ngx_string("{\"password\":true}"), "error" },
    { "T36, false", ngx_string("{\"redirect\":false}"), "error" },
    { "T36, an array", ngx_string("{\"token\":[\"a\"]}"), "error" },
    { "T36, an object", ngx_string("{\"login\":{}}"), "error" },
    { "T36, no string after a password",
      ngx_string("{\"password\":\"" SECRET "\",\"token\":1}"), "error" },
    { "T36, NUL", ngx_string("{\"login\":\"a\0b\"}"), "error" },
    { "T36, NUL behind", ngx_string("{\"login\":\"a\"}\0"), "error" },
    { "T36, NUL escaped", ngx_string("{\"login\":\"a\\u0000b\"}"), "error" },
    { "T36, NUL escaped in a name", ngx_string("{\"login\\u0000\":\"a\"}"),
      "error" },
    { "T36, a control byte", ngx_string("{\"login\":\"a\nb\"}"), "error" },
    { "T36, a surrogate alone",
      ngx_string("{\"password\":\"" SECRET "\",\"login\":\"\\ud83d\"}"),
      "error" },
    { "T36, a low surrogate alone",
      ngx_string("{\"password\":\"" SECRET "\",\"login\":\"\\ude00\"}"),
      "error" },
    { "T36, the first low surrogate alone",
      ngx_string("{\"password\":\"" SECRET "\",\"login\":\"\\udc00\"}"),
      "error" },
    { "T36, a surrogate before what is none",
      ngx_string("{\"password\":\"" SECRET "\",\"x\":\"\\ud83d\\ue000\"}"),
      "error" },
    { "T36, a surrogate, nothing more",
      ngx_string("{\"password\":\"" SECRET "\",\"x\":\"\\ud83d"), "error" },
    { "T36, a surrogate and a backslash",
      ngx_string("{\"password\":\"" SECRET "\",\"x\":\"\\ud83d\\"),
      "error" },
    { "T36, surrogates in the wrong order",
      ngx_string("{\"password\":\"" SECRET "\",\"x\":\"\\ude00\\ud83d\"}"),
      "error" },
    { "T36, two high surrogates",
      ngx_string("{\"password\":\"" SECRET "\",\"x\":\"\\ud83d\\ud83d\"}"),
      "error" },
    { "T36, a surrogate before another escape",
      ngx_string("{\"password\":\"" SECRET "\",\"x\":\"\\ud83d\\nde00\"}"),
      "error" },
    { "T36, a surrogate before text",
      ngx_string("{\"password\":\"" SECRET "\",\"x\":\"\\ud83dxude00\"}"),
      "error" },
    { "T36, a surrogate in a name",
      ngx_string("{\"password\":\"" SECRET "\",\"\\udfff\":1}"), "error" },
    { "T36, a surrogate at the end",
      ngx_string("{\"password\":\"" SECRET "\",\"x\":\"\\ud83d\\u"),
      "error" },
    { "T36, the bounds of surrogates",
      ngx_string("{\"login\":\"\\ud7ff\\ue000\\ud800\\udc00\\udbff\\udfff\"}"),
      "[login=\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf]" },
    { "T36, a number of 63 bytes",
      ngx_string("{\"password\":\"" SECRET "\",\"x\":-"
                 "10000000000000000000000000000000000000000000000000000000000"
                 "000}"),
      "[password=" SECRET "]" },
    { "T36, a number of 64 bytes",
      ngx_string("{\"password\":\"" SECRET "\",\"x\":-"
                 "10000000000000000000000000000000000000000000000000000000000"
                 "0000}"),
      "error" },
    { "T36, a byte order mark", ngx_string("\xef\xbb\xbf{}"), "error" },
    { "T36, bytes after the object", ngx_string("{} x"), "error" },
    { "T36, two objects", ngx_string("{\"login\":\"a\"}{}"), "error" },
    { "T36, an array of it", ngx_string("[{\"login\":\"a\"}]"), "error" },
    { "T36, a string", ngx_string("\"login\""), "error" },
    { "T36, a form", ngx_string("login=a"), "error" },
    { "T36, blanks only", ngx_string("  "), "error" },
    { "T36, cut", ngx_string("{\"password\":\"" SECRET "\""), "error" },
    { "T36, a comma more", ngx_string("{\"login\":\"a\",}"), "error" },
    { "T36, single quotes", ngx_string("{'login':'a'}"), "error" },
    { "T36, a comment", ngx_string("{/**/\"login\":\"a\"}"), "error" },
    { "T36, a broken escape", ngx_string("{\"login\":\"\\x61\"}"), "error" },
    { "T36, 16 levels", ngx_string("{\"login\":\"a\",\"x\":" A10 "[[[[["
                                   "]]]]]" Z10 "}"), "[login=a]" },
    { "T36, 17 levels", ngx_string("{\"login\":\"a\",\"x\":" A10 "[[[[[["
                                   "]]]]]]" Z10 "}"), "error" },

    /* values */

    { "escapes",
      ngx_string("{\"password\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0001\"}"),
      "[password=\"\\/\b\f\n\r\t\001]" },
    { "escapes are no form's",
      ngx_string("{\"password\":\"a+b%20c%zz&d=e\"}"),
      "[password=a+b%20c%zz&d=e]" },
    { "UTF-8", ngx_string("{\"login\":\"\xc3\xb6\xe2\x82\xac\xf0\x9f\x98\x80"
                          "\"}"),
      "[login=\xc3\xb6\xe2\x82\xac\xf0\x9f\x98\x80]" },
    { "UTF-8, escaped",
      ngx_string("{\"login\":\"\\u00f6\\u20AC\\ud83d\\uDE00\"}"),
      "[login=\xc3\xb6\xe2\x82\xac\xf0\x9f\x98\x80]" },
    { "bytes that are no UTF-8", ngx_string("{\"login\":\"\xff\xc3\"}"),
      "[login=\xff\xc3]" },
    { "T33, slashes escaped",
      ngx_string("{\"redirect\":\"\\/\\u002fevil.com\"}"),
      "[redirect=//evil.com]" }
};


static test_body_t  forms[] = {
    { "no body", ngx_string(""), "" },
    { "a login", ngx_string("login=bob&password=" SECRET),
      "[login=bob][password=" SECRET "]" },
    { "all fields",
      ngx_string("login=a&email=b&password=c&token=d&redirect=/e"),
      "[login=a][email=b][password=c][token=d][redirect=/e]" },
    { "all fields, backwards",
      ngx_string("redirect=%2fe&token=d&password=c&email=b&login=a"),
      "[login=a][email=b][password=c][token=d][redirect=/e]" },
    { "empty values", ngx_string("login=&email=&password=&token&redirect="),
      "[login=][email=][password=][token=][redirect=]" },
    { "an empty value alone", ngx_string("login="), "[login=]" },
    { "a name alone", ngx_string("password"), "[password=]" },
    { "empty values among others", ngx_string("login=a&email&password=c"),
      "[login=a][email=][password=c]" },

    /* pairs */

    { "empty pairs", ngx_string("&&login=a&&password=b&"),
      "[login=a][password=b]" },
    { "nothing but empty pairs", ngx_string("&&&&"), "" },
    { "one empty pair", ngx_string("&"), "" },
    { "empty names", ngx_string("=a&=&login=b&="), "[login=b]" },
    { "unknown names", ngx_string("x=1&login=a&yy=2&password=b&csrf"),
      "[login=a][password=b]" },
    { "unknown names twice", ngx_string("x=1&x=2&login=a&x"), "[login=a]" },
    { "unknown names longer than the rest",
      ngx_string("login=a&a-name-that-is-unknown=&email=b"),
      "[login=a][email=b]" },
    { "names by case", ngx_string("Login=a&PASSWORD=b&login=c"),
      "[login=c]" },
    { "names that are longer or shorter",
      ngx_string("logi=a&logins=b&+login=c&login+=d&user[login]=e"), "" },
    { "escaped names", ngx_string("%6cogin=a&pass%77ord=b&%74%6F%6b%65%6E=c"),
      "[login=a][password=b][token=c]" },
    { "an escaped \"=\" or \"&\" parts nothing",
      ngx_string("login%3da&x=%26email=b&password=%3D%26"),
      "[password==&]" },
    { "more than one \"=\"", ngx_string("password==a=b=&login=c"),
      "[login=c][password==a=b=]" },
    { "no other separator", ngx_string("login=a;password=b"),
      "[login=a;password=b]" },

    { "twice", ngx_string("login=a&login=a"), "error" },
    { "twice, one escaped", ngx_string("login=a&log%69n=b"), "error" },
    { "twice, both empty", ngx_string("token=&token="), "error" },
    { "twice, the first a name alone", ngx_string("token&token=a"),
      "error" },
    { "twice, the second a name alone", ngx_string("redirect=/&x&redirect"),
      "error" },

    /* values */

    { "\"+\" and blanks", ngx_string("password=+a+%20b %2b+"),
      "[password= a  b + ]" },
    { "hex digits of both cases",
      ngx_string("password=%3a%3A%3f%3F%c3%B6%Af%fA%09%90"),
      "[password=::\?\?\xc3\xb6\xaf\xfa\t\x90]" },
    { "UTF-8", ngx_string("login=\xc3\xb6%e2%82%ac\xf0\x9f\x98\x80"),
      "[login=\xc3\xb6\xe2\x82\xac\xf0\x9f\x98\x80]" },
    { "escapes are not decoded twice", ngx_string("password=%2541%252541"),
      "[password=%41%2541]" },
    { "escapes are no JSON's", ngx_string("password=\\u0041\\n\""),
      "[password=\\u0041\\n\"]" },
    { "control bytes", ngx_string("password=\r\n%0d%0a\x7f"),
      "[password=\r\n\r\n\x7f]" },
    { "JSON", ngx_string("{\"login\":\"a\"}"), "" },
    { "a byte order mark", ngx_string("\xef\xbb\xbflogin=a"), "" },

    { "NUL", ngx_string("login=a\0b"), "error" },
    { "NUL escaped", ngx_string("login=a%00b"), "error" },
    { "NUL in a name", ngx_string("login\0=a"), "error" },
    { "NUL escaped in a name", ngx_string("login%00=a"), "error" },
    { "NUL of another's value", ngx_string("x=%00&login=a"), "error" },
    { "NUL of another's name", ngx_string("%00&login=a"), "error" },
    { "a percent sign", ngx_string("login=%"), "error" },
    { "nothing but a percent sign", ngx_string("%"), "error" },
    { "a percent sign for a name", ngx_string("login=a&%"), "error" },
    { "a percent sign, a digit", ngx_string("login=%4"), "error" },
    { "a percent sign, no digits", ngx_string("login=%zz"), "error" },
    { "a percent sign, one of two digits", ngx_string("login=%4g"),
      "error" },
    { "a percent sign, the other of two", ngx_string("login=%g4"), "error" },
    { "a percent sign before \"&\"", ngx_string("login=%4&1=a"), "error" },
    { "a percent sign before \"=\"", ngx_string("%4=1"), "error" },
    { "a percent sign, a sign", ngx_string("login=%+1%-1"), "error" },
    { "a percent sign, a blank", ngx_string("login=% 1"), "error" },
    { "a percent sign, \"@\"", ngx_string("login=%@1"), "error" },
    { "a percent sign, \"/\"", ngx_string("login=%/1"), "error" },
    { "a percent sign, \":\"", ngx_string("login=%:1"), "error" },
    { "a percent sign, \"`\"", ngx_string("login=%`1"), "error" },
    { "a percent sign of IIS", ngx_string("login=%u0041"), "error" },
    { "a broken escape of another's", ngx_string("login=a&x=%4"), "error" },
    { "a broken escape of another's name", ngx_string("login=a&%&b=c"),
      "error" }
};


static void
test_bodies(const char *topic, test_body_t *b, size_t n, ngx_uint_t json)
{
    size_t       i;
    const char  *text;

    for (i = 0; i < n; i++) {
        text = parsed(&b[i].body, json);

        ok(strcmp(text, b[i].fields) == 0, "%s: %s", topic, b[i].name);

        if (strcmp(text, b[i].fields) != 0) {
            printf("# got %.100s\n", text);
        }
    }
}


static void
test_damaged(void)
{
    u_char       c;
    size_t       i, k;
    ngx_str_t    body;
    ngx_uint_t   bad;
    const char  *text;

    static ngx_str_t  object = ngx_string(
        "{\"login\":\"b\\u00f6b\",\"password\":\"" SECRET "\",\"x\":[1.5]}");
    static ngx_str_t  form = ngx_string(
        "login=b%c3%b6b&password=" SECRET "&x=1.5");

    body = object;

    for (body.len = 1, bad = 0; body.len < object.len; body.len++) {
        bad += (strcmp(parsed(&body, JSON), "error") != 0);
    }

    ok(bad == 0, "T36, json: cut at any byte");

    body = copy(&object);

    for (i = 0, bad = 0; i < body.len; i++) {
        c = body.data[i];

        for (k = 0; k < 256; k++) {
            body.data[i] = (u_char) k;
            text = parsed(&body, JSON);

            bad += (strcmp(text, "bad") == 0);
            bad += (k < ' ' && !strchr("\t\r\n", k)
                    && strcmp(text, "error") != 0);
        }

        body.data[i] = c;
    }

    free(body.data);

    ok(bad == 0, "T36, json: any byte in any place");

    /* "%" cannot be cut off from its digits */

    body = form;

    for (body.len = 0, bad = 0; body.len < form.len; body.len++) {
        text = parsed(&body, FORM);
        bad += (strcmp(text, "bad") == 0);
        bad += ((strcmp(text, "error") == 0)
                != ((body.len && body.data[body.len - 1] == '%')
                    || (body.len > 1 && body.data[body.len - 2] == '%')));
    }

    ok(bad == 0, "form: cut at any byte");

    body = copy(&form);

    for (i = 0, bad = 0; i < body.len; i++) {
        c = body.data[i];

        for (k = 0; k < 256; k++) {
            body.data[i] = (u_char) k;
            text = parsed(&body, FORM);

            bad += (strcmp(text, "bad") == 0);
            bad += (k == 0 && strcmp(text, "error") != 0);
        }

        body.data[i] = c;
    }

    free(body.data);

    ok(bad == 0, "form: any byte in any place");

    /* cJSON without memory, which frees what it has as it is */

    for (i = 0, bad = 0; i < 1000; i++) {
        left = i;
        text = parsed(&object, JSON);
        left = -1;

        if (strcmp(text, "[login=b\xc3\xb6" "b][password=" SECRET "]") == 0) {
            break;
        }

        bad += (blocks != 0
                || (strcmp(text, "no memory") != 0 && leaked == 0));
    }

    ok(i > 10 && i < 1000 && bad == 0, "json: without memory it says so");
}


static void
test_sizes(void)
{
    double       spent;
    size_t       i, len;
    ngx_str_t    body;
    ngx_uint_t   good;
    const char  *text;

    static struct {
        const char  *name;
        ngx_uint_t   json;
        const char  *head;
        const char  *part;
        ngx_uint_t   n;
        const char  *tail;
        const char  *text;
    } bodies[] = {
        { "T36: 60000 levels", JSON, "{\"x\":", "[", 60000, "", "error" },
        { "T36: 10000 objects", JSON, "", "{\"x\":", 10000, "", "error" },
        { "T36: 6500 members", JSON, "{\"login\":\"a\"", ",\"x\":\"y\"", 6500,
          "}", "[login=a]" },
        { "T36: 5400 of one name", JSON, "{\"token\":\"a\"",
          ",\"login\":\"\"", 5400, "}", "error" },
        { "T36: 10000 escapes", JSON, "{\"x\":\"", "\\u20ac", 10000,
          "\",\"login\":\"a\"}", "[login=a]" },
        { "T29: 64 KiB of \"&\"", FORM, "", "&", 65536, "login=a",
          "[login=a]" },
        { "T29: 64 KiB of \"=\"", FORM, "", "=", 65536, "&login=a",
          "[login=a]" },
        { "T29: 20000 names", FORM, "login=a", "&x=", 20000, "", "[login=a]" },
        { "T29: 20000 escapes", FORM, "x=", "%61", 20000, "&login=a",
          "[login=a]" },
        { "T29: a name of 64 KiB", FORM, "", "login", 13000, "=b&login=a",
          "[login=a]" }
    };

    for (i = 0; i < COUNT(bodies); i++) {
        body = repeated(bodies[i].head, bodies[i].n, bodies[i].part,
                        bodies[i].tail);

        spent = seconds();
        text = parsed(&body, bodies[i].json);
        spent = seconds() - spent;

        ok(strcmp(text, bodies[i].text) == 0 && spent < 0.05,
           "%s, within 50 ms", bodies[i].name);

        if (spent >= 0.05) {
            printf("# %.3f s\n", spent);
        }

        free(body.data);
    }

    len = sizeof("{\"password\":\"\"}") - 1;

    for (i = 65535, good = 0; i <= 65537; i++) {
        body = repeated("{\"password\":\"", i - len, "x", "\"}");
        text = parsed(&body, JSON);
        good += (i > 65536) ? strcmp(text, "error") == 0
                            : strlen(text) == i - len + sizeof("[password=]")
                                              - 1;
        free(body.data);
    }

    ok(good == 3, "T36: 64 KiB and no more");

    /* each value at the end of the room there is */

    for (i = 0, good = 0; i < COUNT(names); i++) {
        body = repeated(names[i], 1, "=", "");
        good += (strlen(parsed(&body, FORM)) == strlen(names[i]) + 3);
        free(body.data);

        body = repeated(names[i], 1, "", "");
        good += (strlen(parsed(&body, FORM)) == strlen(names[i]) + 3);
        free(body.data);
    }

    ok(good == 2 * COUNT(names), "form: empty values at the end of the body");
}


static test_basic_t  basics[] = {
    { ngx_string("bob:" SECRET), "[login=bob][password=" SECRET "]" },
    { ngx_string("bob@example.com:p"), "[login=bob@example.com][password=p]" },
    { ngx_string("a:b"), "[login=a][password=b]" },
    { ngx_string("a:bc"), "[login=a][password=bc]" },
    { ngx_string("a:bcd"), "[login=a][password=bcd]" },
    { ngx_string("a:bcde"), "[login=a][password=bcde]" },
    { ngx_string("a::"), "[login=a][password=:]" },
    { ngx_string("a:b:c::d:"), "[login=a][password=b:c::d:]" },
    { ngx_string(" a : b "), "[login= a ][password= b ]" },
    { ngx_string("\xc3\xb6:\xe2\x82\xac\xf0\x9f\x98\x80"),
      "[login=\xc3\xb6][password=\xe2\x82\xac\xf0\x9f\x98\x80]" },
    { ngx_string("\xff\x80\xc2\x85:\xfe"),
      "[login=\xff\x80\xc2\x85][password=\xfe]" },
    { ngx_string("a:~~~?\?\?>>>"), "[login=a][password=~~~\?\?\?>>>]" },
    { ngx_string("a%3ab:+"), "[login=a%3ab][password=+]" },

    { ngx_string(""), "error" },
    { ngx_string("a"), "error" },
    { ngx_string("bob" SECRET), "error" },
    { ngx_string(":"), "error" },
    { ngx_string("::"), "error" },
    { ngx_string("a:"), "error" },
    { ngx_string("abc:"), "error" },
    { ngx_string(":b"), "error" },
    { ngx_string(":b:c"), "error" },
    { ngx_string("a:b\0"), "error" },
    { ngx_string("a\0:b"), "error" },
    { ngx_string("a\r\nX: y:b"), "error" },
    { ngx_string("a:b\n"), "error" },
    { ngx_string("\ta:b"), "error" },
    { ngx_string("a:b\x7f"), "error" },
    { ngx_string("a\x1f:b"), "error" }
};


static test_basic_t  values[] = {

    /* unused bits are no one's business; padding is all or nothing */

    { ngx_string("YTpi"), "[login=a][password=b]" },
    { ngx_string("YTpiYw=="), "[login=a][password=bc]" },
    { ngx_string("YTpiYw"), "[login=a][password=bc]" },
    { ngx_string("YTpiYx"), "[login=a][password=bc]" },
    { ngx_string("YTpiY2Q="), "[login=a][password=bcd]" },
    { ngx_string("YTpiY2Q"), "[login=a][password=bcd]" },
    { ngx_string("YTo+Pz8="), "[login=a][password=>\?\?]" },
    { ngx_string("YTo/Pz8+"), "[login=a][password=\?\?\?>]" },

    { ngx_string("YTpi="), "error" },
    { ngx_string("YTpi=="), "error" },
    { ngx_string("YTpi==="), "error" },
    { ngx_string("YTpi===="), "error" },
    { ngx_string("YTpiYw="), "error" },
    { ngx_string("YTpiYw==="), "error" },
    { ngx_string("YTpiYw======"), "error" },
    { ngx_string("YTpiY2Q=="), "error" },
    { ngx_string("YTpiY"), "error" },
    { ngx_string("YTpiY==="), "error" },
    { ngx_string("YTpiY=="), "error" },
    { ngx_string("YTpiY="), "error" },
    { ngx_string("YTpiYw==YTpi"), "error" },
    { ngx_string("YTp=iYw="), "error" },
    { ngx_string("="), "error" },
    { ngx_string("=="), "error" },
    { ngx_string("===="), "error" },
    { ngx_string("Y"), "error" },
    { ngx_string("YT"), "error" },
    { ngx_string(" YTpi"), "error" },
    { ngx_string("    YTpi"), "error" },
    { ngx_string("YTpi "), "error" },
    { ngx_string("YTpi    "), "error" },
    { ngx_string("YTpi\n"), "error" },
    { ngx_string("YTpi\r\n\r\n"), "error" },
    { ngx_string("YTpi\0"), "error" },
    { ngx_string("YTpi----"), "error" },
    { ngx_string("YTpi\nYTpi"), "error" },
    { ngx_string("YT i"), "error" },
    { ngx_string("YTo-Pz8="), "error" },
    { ngx_string("YTo_Pz8="), "error" },
    { ngx_string("YTp\xe9"), "error" },
    { ngx_string("a:b"), "error" },
    { ngx_string("a:bcd"), "error" },
    { ngx_string("Basic YTpi"), "error" },
    { ngx_string("YTpi, YTpi"), "error" }
};


static void
test_basic(void)
{
    u_char        plain[64];
    size_t        i, k, n;
    ngx_str_t     value, bare;
    ngx_uint_t    bad;
    const char   *text;
    test_basic_t *b;

    for (i = 0; i < COUNT(basics); i++) {
        b = &basics[i];

        value = encode(b->plain.data, b->plain.len, 1);
        bare = encode(b->plain.data, b->plain.len, 0);

        ok(strcmp(basic(&value), b->fields) == 0
           && strcmp(basic(&bare), b->fields) == 0,
           "basic: %s", shown(&b->plain));

        free(bare.data);
        free(value.data);
    }

    for (i = 0; i < COUNT(values); i++) {
        b = &values[i];

        ok(strcmp(basic(&b->plain), b->fields) == 0, "basic, encoded: %s",
           shown(&b->plain));
    }

    /* each byte in each place of credentials of each length */

    for (n = 3, bad = 0; n < 12; n++) {
        for (i = 0; i < n; i++) {
            for (k = 0; k < 256; k++) {
                ngx_memset(plain, 'x', n);
                plain[n / 2] = ':';
                plain[i] = (u_char) k;

                value = encode(plain, n, k % 2);
                text = basic(&value);
                free(value.data);

                bad += (strcmp(text, "bad") == 0);
                bad += ((k < 0x20 || k == 0x7f || (i == n / 2 && k != ':')
                         || (i == 0 && k == ':'))
                        != (strcmp(text, "error") == 0));
            }
        }
    }

    ok(bad == 0, "T23, basic: any byte in any place");

    /* and any byte in its base64 */

    value = encode((u_char *) "bob:" SECRET "~~>>", sizeof(SECRET) + 7, 1);

    for (i = 0, bad = 0; i < value.len; i++) {
        bare = copy(&value);

        for (k = 0; k < 256; k++) {
            bare.data[i] = (u_char) k;
            text = basic(&bare);

            bad += (strcmp(text, "bad") == 0);
            bad += (strcmp(text, "error") != 0
                    && k != '=' && k != '+' && k != '/'
                    && !(k < 0x80 && isalnum((int) k)));
        }

        free(bare.data);
    }

    ok(bad == 0, "basic: any byte in any place of the base64");

    bare = value;

    for (bare.len = 0, bad = 0; bare.len < value.len; bare.len++) {
        bad += (strcmp(basic(&bare), "bad") == 0);
        bad += (bare.len % 4 == 1 && strcmp(basic(&bare), "error") != 0);
    }

    ok(bad == 0, "basic: cut at any byte");

    free(value.data);

    value.len = 65536;
    value.data = allocated(value.len);
    ngx_memset(value.data, 'Y', value.len);

    ok(strcmp(basic(&value), "error") == 0, "T29, basic: 64 KiB");

    free(value.data);
}


/*
 * Where a browser goes (WHATWG URL standard, 4.4): blanks and control bytes
 * at the ends are dropped, tabs and line feeds everywhere, "\" is "/", and a
 * host follows two of them.
 */

static ngx_uint_t
stays(ngx_str_t *s)
{
    char    url[1024];
    size_t  i, n, last;

    last = s->len;

    while (last && s->data[last - 1] <= ' ') {
        last--;
    }

    for (i = 0; i < last && s->data[i] <= ' '; i++) { /* void */ }

    for (n = 0; i < last; i++) {
        if (s->data[i] != '\t' && s->data[i] != '\r' && s->data[i] != '\n') {
            url[n++] = s->data[i] == '\\' ? '/' : s->data[i];
        }
    }

    return n && url[0] == '/' && (n == 1 || url[1] != '/');
}


static void
test_target(void)
{
    char        *p;
    size_t       i, j, k, n;
    u_char       path[8], url[256];
    ngx_str_t    s;
    ngx_uint_t   bad, left_host, accepted, rc;

    static const char  *schemes[] = {
        "", "http:", "https:", "HtTp:", "javascript:", "java\tscript:",
        "data:", "vbscript:", "file:", "x-app:", ":", "%68ttp:"
    };

    /* what stands before a host, and whether that is no host then */

    static struct {
        ngx_str_t    slashes;
        ngx_uint_t   path;
    } slashes[] = {
        { ngx_string("//"), 0 },
        { ngx_string("///"), 0 },
        { ngx_string("////"), 0 },
        { ngx_string("\\\\"), 0 },
        { ngx_string("/\\"), 0 },
        { ngx_string("\\/"), 0 },
        { ngx_string("\\"), 0 },
        { ngx_string(""), 0 },
        { ngx_string("/\t/"), 0 },
        { ngx_string("/\n/"), 0 },
        { ngx_string("/\r/"), 0 },
        { ngx_string("/\r\n/"), 0 },
        { ngx_string("/\t\\"), 0 },
        { ngx_string("\t//"), 0 },
        { ngx_string(" //"), 0 },
        { ngx_string("\x01//"), 0 },
        { ngx_string("\0//"), 0 },
        { ngx_string("/\0/"), 0 },
        { ngx_string("/ /"), 0 },
        { ngx_string("/\v/"), 0 },
        { ngx_string("/\x7f/"), 0 },
        { ngx_string("/\xc2\xa0/"), 0 },
        { ngx_string("/\xe2\x81\x84"), 0 },         /* fraction slash */
        { ngx_string("/\xe2\x88\x95"), 0 },         /* division slash */
        { ngx_string("/\xef\xbc\x8f"), 0 },         /* fullwidth slash */
        { ngx_string("\xef\xbc\x8f\xef\xbc\x8f"), 0 },
        { ngx_string("/\xef\xbc\xbc"), 0 },         /* fullwidth "\" */
        { ngx_string("/\xc0\xaf"), 0 },             /* an overlong slash */
        { ngx_string("/x\\"), 0 },
        { ngx_string("/.\\"), 0 },
        { ngx_string("/x\r\nLocation:"), 0 },
        { ngx_string("%2f%2f"), 0 },
        { ngx_string("%5c"), 0 },
        { ngx_string("@"), 0 },
        { ngx_string("."), 0 },
        { ngx_string("?"), 0 },
        { ngx_string("#"), 0 },
        { ngx_string("/"), 1 },
        { ngx_string("/%2f"), 1 },
        { ngx_string("/%5c"), 1 },
        { ngx_string("/%09/"), 1 },
        { ngx_string("/%0d%0aLocation:"), 1 },
        { ngx_string("/%00/"), 1 },
        { ngx_string("/."), 1 },
        { ngx_string("/@"), 1 },
        { ngx_string("/:"), 1 },
        { ngx_string("/;//"), 1 },
        { ngx_string("/?u=//"), 1 },
        { ngx_string("/#//"), 1 },
        { ngx_string("/~"), 1 }
    };

    static const char  *hosts[] = {
        "", "evil.com", "evil.com/..", "a@evil.com", "good.com:80@evil.com",
        "[::1]", "2130706433", "evil%2ecom"
    };

    bad = 0;
    left_host = 0;
    accepted = 0;
    n = 0;

    for (i = 0; i < COUNT(schemes); i++) {
        for (j = 0; j < COUNT(slashes); j++) {
            for (k = 0; k < COUNT(hosts); k++) {
                p = (char *) url + sprintf((char *) url, "%s", schemes[i]);
                p = (char *) ngx_cpymem(p, slashes[j].slashes.data,
                                        slashes[j].slashes.len);
                p += sprintf(p, "%s", hosts[k]);

                s.data = url;
                s.len = p - (char *) url;

                rc = target(&s);

                n++;
                accepted += rc;
                left_host += (rc && !stays(&s));

                /* not every one that stays is let through */

                if (rc != (i == 0 && slashes[j].path)) {
                    bad++;
                    printf("# %u \"%s\"\n", (unsigned) rc, shown(&s));
                }
            }
        }
    }

    ok(n >= 800 && bad == 0, "T33: %u targets, %u of them of this host",
       (unsigned) n, (unsigned) accepted);
    ok(left_host == 0 && accepted > 0,
       "T33: a browser stays here with all of these");

    /* each byte in each place */

    for (i = 0, bad = 0; i < 4; i++) {
        for (k = 0; k < 256; k++) {
            ngx_memcpy(path, "/abc", 4);
            path[i] = (u_char) k;

            s.data = path;
            s.len = 4;

            rc = target(&s);

            bad += (rc != (i ? k > ' ' && k < 0x7f && k != '\\'
                               && !(i == 1 && k == '/')
                             : k == '/'));
            bad += (rc && !stays(&s));
        }
    }

    ok(bad == 0, "T33: any byte in any place");

    ngx_str_set(&s, "/");
    ok(target(&s) == 1, "T33: the root");

    ngx_str_null(&s);
    ok(target(&s) == 0, "T33: no target");
}


/* bodies of random values, each byte in one of its forms */

static void
test_random(void)
{
    char        *p, *e, c;
    size_t       i, j, k, n, len, used[COUNT(names)];
    char         body[1024], value[16], parts[5][64], expected[400];
    ngx_str_t    s;
    ngx_uint_t   json, bad, twice, errors;
    const char  *text;

    static const char  alphabet[] = "ab:/\\\"%+&= {}\n\x7f\xc3\xb6z09";
    static const char  other[] = "{}[]\",:\\u00dDcC8%=&+ \0\xff" "logintrue1";

    for (json = FORM; json <= JSON; json++) {

        for (i = 0, bad = 0, twice = 0, errors = 0; i < 2 * RANDOM; i++) {
            ngx_memzero(used, sizeof(used));

            p = body;

            if (json) {
                *p++ = '{';
            }

            for (n = randomly(6), j = 0; j < n; j++) {
                k = randomly(i % 8 ? 32 : COUNT(names)) % (COUNT(names) + 1);

                if (j) {
                    *p++ = json ? ',' : '&';
                }

                p += sprintf(p, json ? "\"%s\":\"" : "%s=",
                             k < COUNT(names) ? names[k] : "other");

                for (len = randomly(sizeof(value)), e = value; len; len--) {
                    c = alphabet[randomly(sizeof(alphabet) - 1)];
                    *e++ = c;

                    if (json && (strchr("\"\\\n", c)
                                 || (randomly(3) == 0 && c > 0)))
                    {
                        p += sprintf(p, "\\u%04x", c);

                    } else if (!json && c == ' ' && randomly(2)) {
                        *p++ = '+';

                    } else if (!json && (strchr("%+&", c)
                                         || randomly(3) == 0))
                    {
                        p += sprintf(p, randomly(2) ? "%%%02x" : "%%%02X",
                                     (u_char) c);

                    } else {
                        *p++ = c;
                    }
                }

                if (json) {
                    *p++ = '"';
                }

                if (k < COUNT(names)) {
                    used[k]++;
                    (void) sprintf(parts[k], "[%s=%.*s]", names[k],
                            (int) (e - value), value);
                }
            }

            if (json) {
                *p++ = '}';
            }

            for (k = 0, e = expected, *e = '\0'; k < COUNT(names); k++) {

                if (used[k] > 1) {
                    strcpy(expected, "error");
                    twice++;
                    break;
                }

                if (used[k]) {
                    e += sprintf(e, "%s", parts[k]);
                }
            }

            s.data = (u_char *) body;
            s.len = p - body;

            text = parsed(&s, json);

            if (strcmp(text, expected) != 0 && bad++ == 0) {
                printf("# got %s", text);
                printf(" of %s\n", shown(&s));
            }

            /* then damaged: whatever it is, it is one of the two */

            for (k = 1 + randomly(3); s.len && k; k--) {
                body[randomly(s.len)] = other[randomly(sizeof(other) - 1)];
            }

            text = parsed(&s, json);
            bad += (strcmp(text, "bad") == 0);
            errors += (strcmp(text, "error") == 0);

            bad += (strcmp(basic(&s), "bad") == 0);
            bad += (target(&s) && !stays(&s));
        }

        ok(bad == 0, "random: %u bodies, %s", (unsigned) (4 * RANDOM),
           json ? "json" : "form");
        ok(twice > RANDOM / 100 && errors > RANDOM / 10,
           "random: %u with a field twice, %u broken", (unsigned) twice,
           (unsigned) errors);
    }
}


int
main(void)
{
    cJSON_Hooks  hooks;

    hooks.malloc_fn = hook_malloc;
    hooks.free_fn = hook_free;
    cJSON_InitHooks(&hooks);

    printf("1..%d\n", PLAN);

    test_bodies("json", objects, COUNT(objects), JSON);
    test_bodies("form", forms, COUNT(forms), FORM);
    test_damaged();
    test_sizes();
    test_basic();
    test_target();
    test_random();

    if (tests != PLAN) {
        printf("# planned %d tests, ran %u\n", PLAN, (unsigned) tests);
        return 1;
    }

    return failures ? 1 : 0;
}
