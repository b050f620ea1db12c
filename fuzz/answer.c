
/*
 * The API's answers: what they are read as is what a plain cJSON finds, and
 * an answer that is made of it is read as the same.
 */


#include <cjson/cJSON.h>

#include "fuzz.h"
#include "../ngx_http_quickblox_module/ngx_http_quickblox_json.h"
#include "../ngx_http_quickblox_module/ngx_http_quickblox_message.h"


#define ID_MAX  9007199254740992ULL


static void fuzz_session(ngx_str_t *body);
static void fuzz_user(ngx_str_t *body);
static void fuzz_token(ngx_str_t *body);
static void fuzz_errors(ngx_str_t *body);
static ngx_http_quickblox_answer_t *fuzz_answer(void);
static void fuzz_shape(ngx_http_quickblox_answer_t *answer, ngx_str_t *body,
    const char *object);


int
LLVMFuzzerTestOneInput(const u_char *data, size_t size)
{
    ngx_str_t  body;

    body = fuzz_copy(data, size);

    fuzz_session(&body);
    fuzz_user(&body);
    fuzz_token(&body);
    fuzz_errors(&body);

    fuzz_check(size == 0 || ngx_memcmp(body.data, data, size) == 0);

    free(body.data);

    return 0;
}


static void
fuzz_session(ngx_str_t *body)
{
    char                          text[2048];
    ngx_int_t                     rc;
    ngx_str_t                     made;
    const char                   *reason;
    ngx_http_quickblox_answer_t  *answer, *again;

    reason = NULL;
    answer = fuzz_answer();

    rc = ngx_http_quickblox_parse_session(body, answer, &reason);

    if (rc == NGX_OK) {
        fuzz_check(answer->application_id <= ID_MAX);
        fuzz_check(answer->user_id <= ID_MAX);
        fuzz_shape(answer, body, "session");

        made.data = (u_char *) text;
        made.len = snprintf(text, sizeof(text),
                            "{\"session\":{\"user_id\":%llu,"
                            "\"application_id\":\"%llu\",\"token\":\"%.*s\"}}",
                            (unsigned long long) answer->user_id,
                            (unsigned long long) answer->application_id,
                            (int) answer->token_len, answer->token);

        again = fuzz_answer();

        fuzz_check(ngx_http_quickblox_parse_session(&made, again, &reason)
                   == NGX_OK);
        fuzz_check(again->application_id == answer->application_id);
        fuzz_check(again->user_id == answer->user_id);
        fuzz_check(again->token_len == answer->token_len);
        fuzz_check(ngx_memcmp(again->token, answer->token, answer->token_len)
                   == 0);

        free(again);

    } else {
        fuzz_check(rc == NGX_DECLINED || (rc == NGX_ERROR && reason));
        fuzz_check(answer->token_len == 0);
    }

    free(answer);
}


static void
fuzz_user(ngx_str_t *body)
{
    uint64_t     id;
    ngx_int_t    rc;
    const char  *reason;

    id = 0;
    reason = NULL;

    rc = ngx_http_quickblox_parse_user(body, &id, &reason);

    fuzz_check(rc == NGX_OK || rc == NGX_DECLINED
               || (rc == NGX_ERROR && reason));
    fuzz_check(rc != NGX_OK || (id >= 1 && id <= ID_MAX));
}


static void
fuzz_token(ngx_str_t *body)
{
    time_t                        expires;
    ngx_int_t                     rc;
    const char                   *reason;
    ngx_http_quickblox_answer_t  *answer;

    reason = NULL;
    answer = fuzz_answer();

    rc = ngx_http_quickblox_parse_token(body, answer, &expires, &reason);

    if (rc == NGX_OK) {
        fuzz_check(expires == NGX_ERROR || expires >= 0);
        fuzz_shape(answer, body, NULL);

    } else {
        fuzz_check(rc == NGX_DECLINED || (rc == NGX_ERROR && reason));
        fuzz_check(answer->token_len == 0);
    }

    free(answer);
}


/* any text has the empty one, and case counts for nothing */

static void
fuzz_errors(ngx_str_t *body)
{
    ngx_uint_t        i, found[4];

    static ngx_str_t  texts[] = {
        ngx_string(""),
        ngx_string("token expired"),
        ngx_string("TOKEN EXPIRED"),
        ngx_string("token")
    };

    for (i = 0; i < 4; i++) {
        found[i] = ngx_http_quickblox_has_error(body, &texts[i]);
        fuzz_check(found[i] <= 1);
    }

    fuzz_check(found[1] == found[2]);
    fuzz_check(!found[1] || found[3]);
    fuzz_check(!found[3] || found[0]);
}


static ngx_http_quickblox_answer_t *
fuzz_answer(void)
{
    ngx_http_quickblox_answer_t  *answer;

    answer = fuzz_alloc(sizeof(ngx_http_quickblox_answer_t));
    ngx_memzero(answer, sizeof(ngx_http_quickblox_answer_t));

    return answer;
}


/* the token of an object of the body, or of the body itself */

static void
fuzz_shape(ngx_http_quickblox_answer_t *answer, ngx_str_t *body,
    const char *object)
{
    cJSON       *root, *item;
    ngx_str_t    token, value;

    token.data = answer->token;
    token.len = answer->token_len;

    fuzz_check(token.len <= NGX_HTTP_QUICKBLOX_TOKEN_MAX);
    fuzz_check(ngx_http_quickblox_token(&token));

    root = cJSON_ParseWithLength((char *) body->data, body->len);
    item = object ? cJSON_GetObjectItemCaseSensitive(root, object) : root;
    item = cJSON_GetObjectItemCaseSensitive(item, "token");

    fuzz_check(cJSON_IsString(item));

    value.data = (u_char *) item->valuestring;
    value.len = ngx_strlen(value.data);

    fuzz_check(fuzz_same(&value, &token));

    cJSON_Delete(root);
}
