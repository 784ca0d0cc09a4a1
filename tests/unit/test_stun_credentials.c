/* Credentials of RFC 8489 9: the client and the server of ice/stun against each other, and attackers between.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ice/stun/credentials.h"

#define REALM "kedge.example"
#define NOW   INT64_C(1000000000)

static const uint8_t some_id[KG_STUN_ID] = "abcdefghijk";
static const struct kg_stun_server server = {.realm = REALM, .secret = "0123456789abcdef0123456789abcde"};
static const struct kg_stun_server anonymous = {
    .realm = REALM, .secret = "0123456789abcdef0123456789abcde", .anonymity = true};

struct exchange {
    const struct kg_stun_server *server;
    const char *from; /* the client's address */
    int64_t now_ms;
    uint8_t request[1500], response[1500];
    size_t request_len, response_len;
    struct kg_stun_authorization auth;
};

static size_t find_key(void *ctx, const struct kg_stun_user *user, enum kg_stun_password_algorithm algorithm,
                       uint8_t key[static KG_STUN_KEY_MAX])
{
    uint8_t hash[32];
    (void)ctx;
    if (user->hash != NULL) {
        assert_true(kg_stun_userhash("alice", REALM, hash));
        if (memcmp(hash, user->hash, 32) != 0)
            return 0;
    } else if (user->name_len != 5 || memcmp(user->name, "alice", 5) != 0) {
        return 0;
    }
    return kg_stun_long_term_key(algorithm, "alice", REALM, "secret", key);
}

static struct kg_addr addr(const char *text)
{
    struct kg_addr out;
    assert_int_equal(kg_addr_parse(text, &out), 0);
    return out;
}

static void parse(const uint8_t *data, size_t len, struct kg_stun_message *m)
{
    assert_int_equal(kg_stun_parse(data, len, m), KG_STUN_OK);
}

static void ask(struct exchange *x, const struct kg_stun_client *client)
{
    struct kg_stun_writer w;
    kg_stun_begin(&w, x->request, sizeof x->request, KG_STUN_REQUEST, KG_STUN_ALLOCATE, some_id);
    kg_stun_put_u32(&w, KG_STUN_REQUESTED_TRANSPORT, 17u << 24);
    kg_stun_client_put(client, &w);
    kg_stun_put_fingerprint(&w);
    x->request_len = kg_stun_end(&w);
    assert_int_not_equal(x->request_len, 0);
}

/* Returns the code; the response is in x. */
static int answer(struct exchange *x)
{
    struct kg_stun_message m;
    struct kg_stun_writer w;
    struct kg_addr client = addr(x->from);
    parse(x->request, x->request_len, &m);
    kg_stun_server_check(x->server, &m, &client, x->now_ms, find_key, NULL, &x->auth);
    kg_stun_begin(&w, x->response, sizeof x->response, x->auth.code == 0 ? KG_STUN_SUCCESS : KG_STUN_ERROR,
                  KG_STUN_ALLOCATE, m.id);
    if (x->auth.code == 0)
        kg_stun_server_seal(&x->auth, &w);
    else
        kg_stun_server_refuse(x->server, &client, x->now_ms, x->auth.code, &w);
    kg_stun_put_fingerprint(&w);
    x->response_len = kg_stun_end(&w);
    assert_int_not_equal(x->response_len, 0);
    return x->auth.code;
}

static enum kg_stun_reply take(struct exchange *x, struct kg_stun_client *client)
{
    struct kg_stun_message m;
    parse(x->response, x->response_len, &m);
    return kg_stun_client_take(client, &m);
}

static struct exchange start(const struct kg_stun_server *s, struct kg_stun_client *client, const char *user,
                             const char *password)
{
    kg_stun_client_start(client, user, password);
    return (struct exchange){.server = s, .from = "192.0.2.7:40000", .now_ms = NOW};
}

/* Challenged and let in. */
static struct exchange enter(const struct kg_stun_server *s, struct kg_stun_client *client)
{
    struct exchange x = start(s, client, "alice", "secret");
    ask(&x, client);
    assert_int_equal(answer(&x), 401);
    assert_int_equal(take(&x, client), KG_STUN_REPLY_RETRY);
    ask(&x, client);
    assert_int_equal(answer(&x), 0);
    assert_int_equal(take(&x, client), KG_STUN_REPLY_GENUINE);
    assert_int_equal(client->state, KG_STUN_KNOWN);
    return x;
}

/* Rewrites a message as somebody between would: without `drop`, `put` with another value. */
static size_t tamper(uint8_t *data, size_t len, uint16_t drop, uint16_t put, const void *value,
                     size_t value_len)
{
    uint8_t out[1500];
    struct kg_stun_message m;
    struct kg_stun_writer w;
    parse(data, len, &m);
    kg_stun_begin(&w, out, sizeof out, m.class, m.method, m.id);
    for (size_t i = 0; i < m.count; i++) {
        const struct kg_stun_value *v = &m.attribute[i];
        if (v->type == put)
            kg_stun_put(&w, put, value, value_len);
        else if (v->type != drop && v->type != KG_STUN_FINGERPRINT)
            kg_stun_put(&w, v->type, v->data, v->len);
    }
    kg_stun_put_fingerprint(&w);
    len = kg_stun_end(&w);
    assert_int_not_equal(len, 0);
    memcpy(data, out, len);
    return len;
}

static bool mentions(const uint8_t *data, size_t len, uint16_t type)
{
    struct kg_stun_message m;
    parse(data, len, &m);
    return kg_stun_find(&m, type) != NULL;
}

static void test_9_2_challenge_and_answer(void **state)
{
    (void)state;
    struct kg_stun_client client;
    struct exchange x = enter(&server, &client);
    assert_memory_equal(client.nonce, "obMatJos2gAAA", 13);
    assert_int_equal(client.algorithm, KG_STUN_SHA256);
    assert_true(x.auth.sha256);
    assert_true(mentions(x.request, x.request_len, KG_STUN_MESSAGE_INTEGRITY_SHA256));
    assert_true(mentions(x.response, x.response_len, KG_STUN_MESSAGE_INTEGRITY_SHA256));
    /* The nonce goes on being good (9.2.3.2), until it is ten minutes old. */
    ask(&x, &client);
    x.now_ms += KG_STUN_NONCE_MS - 1000;
    assert_int_equal(answer(&x), 0);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_GENUINE);
}

static void test_9_2_4_stale_nonce(void **state)
{
    (void)state;
    struct kg_stun_client client;
    struct exchange x = enter(&server, &client);
    x.now_ms += KG_STUN_NONCE_MS;
    ask(&x, &client);
    assert_int_equal(answer(&x), 438);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_RETRY);
    ask(&x, &client);
    assert_int_equal(answer(&x), 0);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_GENUINE);
}

static void test_replays(void **state)
{
    (void)state;
    struct kg_stun_client client;
    struct exchange x = enter(&server, &client);
    x.from = "192.0.2.7:40001"; /* another port, another host */
    assert_int_equal(answer(&x), 438);
    x.from = "203.0.113.9:40000";
    assert_int_equal(answer(&x), 438);
    x.from = "192.0.2.7:40000";
    x.now_ms = NOW + KG_STUN_NONCE_MS;
    assert_int_equal(answer(&x), 438);
    x.now_ms = NOW - 5000; /* made in the future: a clock set back, or no nonce of ours */
    assert_int_equal(answer(&x), 438);
    /* After a restart with another secret. */
    struct kg_stun_server other = server;
    other.secret[0] ^= 1;
    x.server = &other;
    x.now_ms = NOW;
    assert_int_equal(answer(&x), 438);
}

static void test_438_without_end_is_given_up(void **state)
{
    (void)state;
    struct kg_stun_client client;
    struct exchange x = enter(&server, &client);
    for (int i = 0; i < KG_STUN_STALE_MAX; i++) {
        x.now_ms += KG_STUN_NONCE_MS;
        ask(&x, &client);
        assert_int_equal(answer(&x), 438);
        assert_int_equal(take(&x, &client), KG_STUN_REPLY_RETRY);
    }
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_REFUSED);
}

static void test_wrong_user_and_wrong_password_look_the_same(void **state)
{
    (void)state;
    uint8_t responses[2][1500];
    size_t lens[2];
    for (int i = 0; i < 2; i++) {
        struct kg_stun_client client;
        struct exchange x = start(&server, &client, i ? "alice" : "mallory", "wrong");
        ask(&x, &client);
        assert_int_equal(answer(&x), 401);
        assert_int_equal(take(&x, &client), KG_STUN_REPLY_RETRY);
        ask(&x, &client);
        assert_int_equal(answer(&x), 401);
        assert_int_equal(x.auth.key_len, 0);
        /* The same credentials are not tried again (9.2.5). */
        assert_int_equal(take(&x, &client), KG_STUN_REPLY_REFUSED);
        memcpy(responses[i], x.response, x.response_len);
        lens[i] = x.response_len;
    }
    assert_int_equal(lens[0], lens[1]);
    assert_memory_equal(responses[0], responses[1], lens[0]);
}

static void test_9_2_4_missing_attributes_are_400(void **state)
{
    (void)state;
    static const uint16_t needed[] = {KG_STUN_USERNAME, KG_STUN_REALM, KG_STUN_NONCE,
                                      KG_STUN_PASSWORD_ALGORITHM, KG_STUN_PASSWORD_ALGORITHMS};
    for (size_t i = 0; i < 5; i++) {
        struct kg_stun_client client;
        struct exchange x = enter(&server, &client);
        x.request_len = tamper(x.request, x.request_len, needed[i], 0, NULL, 0);
        assert_int_equal(answer(&x), 400);
        assert_false(mentions(x.response, x.response_len, KG_STUN_NONCE));
        assert_int_equal(take(&x, &client),
                         KG_STUN_REPLY_IGNORE); /* a 400 without integrity proves nothing */
    }
}

static void test_wrong_realm(void **state)
{
    (void)state;
    struct kg_stun_client client;
    struct exchange x = enter(&server, &client);
    strncpy(client.realm, "other.example", sizeof client.realm);
    ask(&x, &client);
    assert_int_equal(answer(&x), 401);
    /* A server that suddenly names another realm gets no digest for it. */
    x = enter(&server, &client);
    struct kg_stun_server trap = server;
    trap.realm = "pbx.example";
    x.server = &trap;
    x.now_ms += KG_STUN_NONCE_MS;
    ask(&x, &client);
    assert_int_equal(answer(&x), 401);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_REFUSED);
    x.response_len = 0;
    struct kg_stun_writer w;
    kg_stun_begin(&w, x.response, sizeof x.response, KG_STUN_ERROR, KG_STUN_ALLOCATE, some_id);
    struct kg_addr from = addr(x.from);
    kg_stun_server_refuse(&trap, &from, NOW, 438, &w);
    x.response_len = kg_stun_end(&w);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_REFUSED);
}

/* ---- 9.2.1: somebody between takes the better algorithms away ---- */

static void test_bid_down_the_list_is_removed(void **state)
{
    (void)state;
    struct kg_stun_client client;
    struct exchange x = start(&server, &client, "alice", "secret");
    ask(&x, &client);
    answer(&x);
    x.response_len = tamper(x.response, x.response_len, KG_STUN_PASSWORD_ALGORITHMS, 0, NULL, 0);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_REFUSED);
    assert_int_equal(client.state, KG_STUN_UNCHALLENGED); /* nothing of the password went out */
}

static void test_bid_down_list_and_feature_bit_are_removed(void **state)
{
    (void)state;
    struct kg_stun_client client;
    struct exchange x = start(&server, &client, "alice", "secret");
    uint8_t nonce[100];
    struct kg_stun_message m;
    ask(&x, &client);
    answer(&x);
    parse(x.response, x.response_len, &m);
    const struct kg_stun_value *v = kg_stun_find(&m, KG_STUN_NONCE);
    size_t len = v->len;
    memcpy(nonce, v->data, len);
    memcpy(nonce + 9, "AAAA", 4);
    x.response_len =
        tamper(x.response, x.response_len, KG_STUN_PASSWORD_ALGORITHMS, KG_STUN_NONCE, nonce, len);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_RETRY);
    ask(&x, &client);
    assert_int_equal(client.algorithm, KG_STUN_MD5);
    assert_int_equal(answer(&x), 438); /* not a nonce of ours */
    /* The true 438 arrives: the client goes up again. */
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_RETRY);
    assert_int_equal(client.algorithm, KG_STUN_SHA256);
    ask(&x, &client);
    assert_int_equal(answer(&x), 0);
}

static void test_bid_down_the_list_is_shortened(void **state)
{
    (void)state;
    struct kg_stun_client client;
    struct exchange x = start(&server, &client, "alice", "secret");
    ask(&x, &client);
    answer(&x);
    x.response_len =
        tamper(x.response, x.response_len, 0, KG_STUN_PASSWORD_ALGORITHMS, "\0\1\0\0", 4); /* MD5 only */
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_RETRY);
    ask(&x, &client);
    assert_int_equal(answer(&x), 400); /* 9.2.4: not the list that went with this nonce */
    /* Or turned round, the weaker one first. */
    x = start(&server, &client, "alice", "secret");
    ask(&x, &client);
    answer(&x);
    x.response_len =
        tamper(x.response, x.response_len, 0, KG_STUN_PASSWORD_ALGORITHMS, "\0\1\0\0\0\2\0\0", 8);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_RETRY);
    ask(&x, &client);
    assert_int_equal(answer(&x), 400);
}

static void test_bid_down_in_a_438(void **state)
{
    (void)state;
    struct kg_stun_client client;
    struct exchange x = enter(&server, &client);
    x.now_ms += KG_STUN_NONCE_MS;
    ask(&x, &client);
    assert_int_equal(answer(&x), 438);
    x.response_len =
        tamper(x.response, x.response_len, KG_STUN_PASSWORD_ALGORITHMS, KG_STUN_NONCE, "an old server's", 15);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_REFUSED);
    client.stale = 0;
    assert_int_equal(answer(&x), 438);
    x.response_len = tamper(x.response, x.response_len, 0, KG_STUN_PASSWORD_ALGORITHMS, "\0\1\0\0", 4);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_REFUSED);
}

/* A challenge as another server might make it. */
static void challenge(struct exchange *x, int code, const char *nonce, const char *list, size_t list_len)
{
    struct kg_stun_writer w;
    kg_stun_begin(&w, x->response, sizeof x->response, KG_STUN_ERROR, KG_STUN_ALLOCATE, some_id);
    kg_stun_put_error(&w, code, "");
    kg_stun_put(&w, KG_STUN_REALM, REALM, strlen(REALM));
    kg_stun_put(&w, KG_STUN_NONCE, nonce, strlen(nonce));
    if (list_len > 0)
        kg_stun_put(&w, KG_STUN_PASSWORD_ALGORITHMS, list, list_len);
    x->response_len = kg_stun_end(&w);
}

/* What a server could do with its first nonce it can do with the next. */
static void test_bid_down_between_nonces(void **state)
{
    (void)state;
    struct kg_stun_client client;
    struct exchange x = start(&server, &client, "alice", "secret");
    challenge(&x, 401, "obMatJos2gAAA1", "\0\1\0\0", 4);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_RETRY);
    challenge(&x, 438, "obMatJos2gAAA2", "\0\1\0\0", 4);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_RETRY);
    challenge(&x, 438, "obMatJos2AAAA3", "", 0); /* no list: SHA-1 integrity again */
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_REFUSED);
    x = start(&server, &client, "alice", "secret");
    challenge(&x, 401, "obMatJos2QAAA1", "", 0);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_RETRY);
    assert_true(client.anonymity);
    challenge(&x, 438, "obMatJos2AAAA2", "", 0); /* the user's name in the clear */
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_REFUSED);
    challenge(&x, 438, "obMatJos2QAAA2", "", 0);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_RETRY);
}

static void test_no_common_algorithm(void **state)
{
    (void)state;
    struct kg_stun_client client;
    static const uint8_t lists[][8] = {
        {0, 9, 0, 0, 0, 7, 0, 0}, {0, 2, 0, 1, 'x'}, {0, 9, 0xff, 0xff, 0, 1, 0, 0}};
    for (size_t i = 0; i < 3; i++) {
        struct exchange x = start(&server, &client, "alice", "secret");
        ask(&x, &client);
        answer(&x);
        x.response_len = tamper(x.response, x.response_len, 0, KG_STUN_PASSWORD_ALGORITHMS, lists[i], 8);
        assert_int_equal(take(&x, &client), KG_STUN_REPLY_REFUSED);
    }
}

/* ---- older peers ---- */

static void test_a_client_of_rfc5389(void **state)
{
    (void)state;
    struct kg_stun_client client;
    struct exchange x = start(&server, &client, "alice", "secret");
    ask(&x, &client);
    answer(&x);
    take(&x, &client);
    /* It knows no PASSWORD-ALGORITHMS: processed as MD5, answered with SHA1. */
    client.algorithms_len = 0;
    client.key_len = kg_stun_long_term_key(KG_STUN_MD5, "alice", REALM, "secret", client.key);
    ask(&x, &client);
    assert_int_equal(answer(&x), 0);
    assert_false(x.auth.sha256);
    assert_true(mentions(x.response, x.response_len, KG_STUN_MESSAGE_INTEGRITY));
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_GENUINE);
}

static void test_a_server_of_rfc5389(void **state)
{
    (void)state;
    struct kg_stun_client client;
    struct exchange x = start(&server, &client, "alice", "secret");
    struct kg_stun_writer w;
    struct kg_stun_message m;
    uint8_t key[KG_STUN_KEY_MAX];
    kg_stun_begin(&w, x.response, sizeof x.response, KG_STUN_ERROR, KG_STUN_ALLOCATE, some_id);
    kg_stun_put_error(&w, 401, "Unauthorized");
    kg_stun_put(&w, KG_STUN_REALM, REALM, strlen(REALM));
    kg_stun_put(&w, KG_STUN_NONCE, "xyz", 3);
    x.response_len = kg_stun_end(&w);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_RETRY);
    ask(&x, &client);
    parse(x.request, x.request_len, &m);
    size_t len = kg_stun_long_term_key(KG_STUN_MD5, "alice", REALM, "secret", key);
    assert_int_equal(len, 16);
    assert_int_equal(kg_stun_check_integrity(&m, key, len), KG_STUN_INTEGRITY_RIGHT);
    assert_null(kg_stun_find(&m, KG_STUN_PASSWORD_ALGORITHM));
    assert_int_equal(m.integrity_sha256, 0);
}

/* ---- 9.2.5: what else may come back ---- */

static void test_unproven_responses_are_ignored(void **state)
{
    (void)state;
    struct kg_stun_client client;
    struct exchange x = enter(&server, &client);
    x.response_len = tamper(x.response, x.response_len, KG_STUN_MESSAGE_INTEGRITY_SHA256, 0, NULL, 0);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_IGNORE);
    uint8_t wrong[32] = {1};
    assert_int_equal(answer(&x), 0);
    x.response_len =
        tamper(x.response, x.response_len, 0, KG_STUN_MESSAGE_INTEGRITY_SHA256, wrong, sizeof wrong);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_IGNORE);
    /* Right, but weaker than what was agreed on. */
    struct kg_stun_writer w;
    kg_stun_begin(&w, x.response, sizeof x.response, KG_STUN_SUCCESS, KG_STUN_ALLOCATE, some_id);
    kg_stun_put_integrity(&w, client.key, client.key_len);
    x.response_len = kg_stun_end(&w);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_IGNORE);
    /* 9.2.5: a 400 without integrity is nobody's, also before there is a key. */
    struct kg_stun_client fresh;
    kg_stun_client_start(&fresh, "alice", "secret");
    kg_stun_begin(&w, x.response, sizeof x.response, KG_STUN_ERROR, KG_STUN_ALLOCATE, some_id);
    kg_stun_put_error(&w, 400, "Bad Request");
    x.response_len = kg_stun_end(&w);
    assert_int_equal(take(&x, &fresh), KG_STUN_REPLY_IGNORE);
    /* An error without a code says nothing. */
    kg_stun_begin(&w, x.response, sizeof x.response, KG_STUN_ERROR, KG_STUN_ALLOCATE, some_id);
    x.response_len = kg_stun_end(&w);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_IGNORE);
}

static void test_broken_challenges_are_refused(void **state)
{
    (void)state;
    static const struct {
        uint16_t drop, put;
        const char *value;
        size_t len;
    } cases[] = {{KG_STUN_NONCE, 0, NULL, 0},
                 {KG_STUN_REALM, 0, NULL, 0},
                 {0, KG_STUN_REALM, "a\0b", 3},
                 {0, KG_STUN_NONCE, "a\0b", 3}};
    for (size_t i = 0; i < 4; i++) {
        struct kg_stun_client client;
        struct exchange x = start(&server, &client, "alice", "secret");
        ask(&x, &client);
        answer(&x);
        x.response_len =
            tamper(x.response, x.response_len, cases[i].drop, cases[i].put, cases[i].value, cases[i].len);
        assert_int_equal(take(&x, &client), KG_STUN_REPLY_REFUSED);
    }
}

static void test_username_anonymity(void **state)
{
    (void)state;
    struct kg_stun_client client;
    struct exchange x = enter(&anonymous, &client);
    assert_memory_equal(client.nonce, "obMatJos2wAAA", 13);
    assert_true(mentions(x.request, x.request_len, KG_STUN_USERHASH));
    assert_false(mentions(x.request, x.request_len, KG_STUN_USERNAME));
    assert_non_null(x.auth.user.hash);
    x = start(&anonymous, &client, "mallory", "secret");
    ask(&x, &client);
    answer(&x);
    assert_int_equal(take(&x, &client), KG_STUN_REPLY_RETRY);
    ask(&x, &client);
    assert_int_equal(answer(&x), 401);
}

/* Any change of any character of a nonce: never taken for ours. */
static void test_forged_nonces(void **state)
{
    (void)state;
    struct kg_stun_client client;
    struct exchange x = enter(&server, &client);
    size_t len = strlen(client.nonce);
    for (size_t i = 0; i < len; i++) {
        char kept = client.nonce[i];
        client.nonce[i] = kept == '1' ? '2' : '1';
        ask(&x, &client);
        int code = answer(&x);
        /* Within the cookie it may also change what the list means. */
        assert_true(code == 438 || (i < 13 && code == 401));
        client.nonce[i] = kept;
    }
    client.nonce[len - 1] = 0;
    ask(&x, &client);
    assert_int_equal(answer(&x), 438);
}

/* ---- 9.1 ---- */

static void test_short_term(void **state)
{
    (void)state;
    static const struct {
        const char *user, *password;
        int code;
    } cases[] = {{"a:b", "pw", 0}, {"a:c", "pw", 401}, {"a:b", "px", 401}, {"a", "pw", 401}};
    for (size_t i = 0; i < 4; i++) {
        uint8_t buf[300];
        struct kg_stun_writer w;
        struct kg_stun_message m;
        kg_stun_begin(&w, buf, sizeof buf, KG_STUN_REQUEST, KG_STUN_BINDING, some_id);
        kg_stun_short_term_put(&w, cases[i].user, cases[i].password);
        kg_stun_put_fingerprint(&w);
        parse(buf, kg_stun_end(&w), &m);
        assert_int_equal(kg_stun_short_term_check(&m, "a:b", "pw"), cases[i].code);
    }
    uint8_t buf[300];
    struct kg_stun_writer w;
    struct kg_stun_message m;
    kg_stun_begin(&w, buf, sizeof buf, KG_STUN_REQUEST, KG_STUN_BINDING, some_id);
    kg_stun_put(&w, KG_STUN_USERNAME, "a:b", 3);
    parse(buf, w.len, &m);
    assert_int_equal(kg_stun_short_term_check(&m, "a:b", "pw"), 400);
    kg_stun_begin(&w, buf, sizeof buf, KG_STUN_REQUEST, KG_STUN_BINDING, some_id);
    kg_stun_put_integrity(&w, "pw", 2);
    parse(buf, w.len, &m);
    assert_int_equal(kg_stun_short_term_check(&m, "a:b", "pw"), 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_9_2_challenge_and_answer),
        cmocka_unit_test(test_9_2_4_stale_nonce),
        cmocka_unit_test(test_replays),
        cmocka_unit_test(test_438_without_end_is_given_up),
        cmocka_unit_test(test_wrong_user_and_wrong_password_look_the_same),
        cmocka_unit_test(test_9_2_4_missing_attributes_are_400),
        cmocka_unit_test(test_wrong_realm),
        cmocka_unit_test(test_bid_down_the_list_is_removed),
        cmocka_unit_test(test_bid_down_list_and_feature_bit_are_removed),
        cmocka_unit_test(test_bid_down_the_list_is_shortened),
        cmocka_unit_test(test_bid_down_in_a_438),
        cmocka_unit_test(test_bid_down_between_nonces),
        cmocka_unit_test(test_no_common_algorithm),
        cmocka_unit_test(test_a_client_of_rfc5389),
        cmocka_unit_test(test_a_server_of_rfc5389),
        cmocka_unit_test(test_unproven_responses_are_ignored),
        cmocka_unit_test(test_broken_challenges_are_refused),
        cmocka_unit_test(test_username_anonymity),
        cmocka_unit_test(test_forged_nonces),
        cmocka_unit_test(test_short_term),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
