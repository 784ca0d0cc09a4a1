/* b2bua/sip/websocket: frames and messages (RFC 6455 5, 7, 8.1) and what SIP makes of them (RFC 7118 5). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "b2bua/sip/shim.h"
#include "b2bua/sip/websocket.h"

#define HEAD "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/WSS y.invalid\r\n"

struct world {
    struct kg_websocket *socket;
    struct evbuffer *messages, *out;
    const char *why;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->socket = kg_websocket_new();
    w->messages = evbuffer_new();
    w->out = evbuffer_new();
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    kg_websocket_free(w->socket);
    evbuffer_free(w->messages);
    evbuffer_free(w->out);
    free(w);
    return 0;
}

/* A client's frame: first byte as given, length in the shortest form, masked. Returns its length. */
static size_t frame(uint8_t first, const void *payload, size_t len, uint8_t *out)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    size_t n = 2;
    out[0] = first;
    out[1] = (uint8_t)(0x80 | (len < 126 ? len : len < 65536 ? 126 : 127));
    if (len >= 65536) {
        memset(out + 2, 0, 4);
        for (int i = 0; i < 4; i++)
            out[6 + i] = (uint8_t)(len >> (24 - 8 * i));
        n = 10;
    } else if (len >= 126) {
        out[2] = (uint8_t)(len >> 8);
        out[3] = (uint8_t)len;
        n = 4;
    }
    memcpy(out + n, mask, 4);
    for (size_t i = 0; i < len; i++)
        out[n + 4 + i] = ((const uint8_t *)payload)[i] ^ mask[i % 4];
    return n + 4 + len;
}

/* In pieces of `step` bytes, each in a buffer of its own size. What the first piece that ends it returns. */
static int feed(struct world *w, const uint8_t *data, size_t len, size_t step)
{
    int ended = 0;
    for (size_t at = 0; !ended && at < len; at += step) {
        size_t n = len - at < step ? len - at : step;
        uint8_t *copy = malloc(n);
        memcpy(copy, data + at, n);
        ended = kg_websocket_receive(w->socket, copy, n, w->messages, w->out, &w->why);
        free(copy);
    }
    return ended;
}

static int say(struct world *w, uint8_t first, const char *text, size_t step)
{
    static uint8_t bytes[2 * KG_SIP_MESSAGE_MAX];
    return feed(w, bytes, frame(first, text, strlen(text), bytes), step);
}

static void assert_holds(struct evbuffer *buffer, const void *expected, size_t len)
{
    assert_int_equal(evbuffer_get_length(buffer), len);
    assert_memory_equal(evbuffer_pullup(buffer, -1), expected, len);
    evbuffer_drain(buffer, len);
}

static void assert_text(struct evbuffer *buffer, const char *expected)
{
    assert_holds(buffer, expected, strlen(expected));
}

/* Exactly one Close with this code waits for the peer. */
static void assert_close(struct world *w, unsigned code)
{
    const uint8_t expected[] = {0x88, 2, (uint8_t)(code >> 8), (uint8_t)code};
    assert_holds(w->out, expected, sizeof expected);
}

static void fresh(struct world *w)
{
    kg_websocket_free(w->socket);
    w->socket = kg_websocket_new();
    evbuffer_drain(w->messages, evbuffer_get_length(w->messages));
    evbuffer_drain(w->out, evbuffer_get_length(w->out));
}

/* RFC 6455 5.7 */
static void examples_of_the_rfc(void **state)
{
    struct world *w = *state;
    static const uint8_t ping[] = {0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58};
    static const uint8_t pong[] = {0x8a, 0x05, 'H', 'e', 'l', 'l', 'o'};
    assert_int_equal(feed(w, ping, sizeof ping, 1), 0);
    assert_holds(w->out, pong, sizeof pong);
    assert_false(kg_websocket_is_midway(w->socket));
    /* "Hello", masked: a text, but no SIP */
    static const uint8_t hello[] = {0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58};
    assert_int_equal(feed(w, hello, sizeof hello, 1), EPROTO);
    assert_close(w, 1007);
    fresh(w); /* "A single-frame unmasked text message" */
    static const uint8_t unmasked[] = {0x81, 0x05, 'H', 'e', 'l', 'l', 'o'};
    assert_int_equal(feed(w, unmasked, sizeof unmasked, sizeof unmasked), EPROTO);
    assert_close(w, 1002);
}

static void messages(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *text, *becomes; /* NULL: closed with 1007 */
    } rows[] = {
        {HEAD "Content-Length: 0\r\n\r\n", HEAD "Content-Length: 0\r\n\r\n"},
        {HEAD "l: 3\r\n\r\nabc", HEAD "l: 3\r\n\r\nabc"},
        {HEAD "\r\n", HEAD "Content-Length: 0\r\n\r\n"},
        {HEAD "\r\nbody\r\n\r\n", HEAD "Content-Length: 8\r\n\r\nbody\r\n\r\n"},
        {HEAD "Subject: \xc3\xa4\r\n\r\n", HEAD "Subject: \xc3\xa4\r\nContent-Length: 0\r\n\r\n"},
        {"SIP/2.0 200 OK\r\nv: SIP/2.0/WS y\r\n\r\n",
         "SIP/2.0 200 OK\r\nv: SIP/2.0/WS y\r\nContent-Length: 0\r\n\r\n"},
        {"\r\n", ""},
        {"", NULL},
        {"\r\n\r", NULL},
        {" ", NULL},
        {HEAD, NULL},
        {HEAD "l: 2\r\n\r\nabc", NULL},
        {HEAD "l: 4\r\n\r\nabc", NULL},
        {HEAD "l: 0\r\n\r\n" HEAD "l: 0\r\n\r\n", NULL},
        {HEAD "l: 3\r\nl: 3\r\n\r\nabc", NULL},
        {HEAD "l: -1\r\n\r\n", NULL},
        {HEAD "Content-Length:\r\n 3\r\n\r\nabc", NULL},
        {"OPTIONS sip:x SIP/2.0\nVia: SIP/2.0/WS y\n\n", NULL},
        {"\r\n" HEAD "l: 0\r\n\r\n", NULL},
        {HEAD "Subject: a\rb\r\n\r\n", NULL},
        {HEAD "Subject: \xe4\r\n\r\n", NULL}, /* Latin-1 in a text */
        {HEAD "Subject: \xc0\xaf\r\n\r\n", NULL},
        {HEAD "Subject: \xed\xa0\x80\r\n\r\n", NULL},
        {HEAD "Subject: \xf4\x90\x80\x80\r\n\r\n", NULL},
        {HEAD "Subject: \x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\r\n\r\n", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (size_t step = 1; step < 100; step += 97) {
            fresh(w);
            assert_int_equal(say(w, 0x81, rows[i].text, step), rows[i].becomes ? 0 : EPROTO);
            assert_text(w->messages, rows[i].becomes ? rows[i].becomes : "");
            if (!rows[i].becomes)
                assert_close(w, 1007);
            assert_int_equal(evbuffer_get_length(w->out), 0);
            assert_false(kg_websocket_is_midway(w->socket) && rows[i].becomes);
        }
    fresh(w); /* not UTF-8, but not said to be */
    assert_int_equal(say(w, 0x82, HEAD "Subject: \xe4\r\n\r\n", 7), 0);
    assert_text(w->messages, HEAD "Subject: \xe4\r\nContent-Length: 0\r\n\r\n");
}

/* RFC 5626 3.5.1 by RFC 7118 6 */
static void crlf_keepalive(void **state)
{
    struct world *w = *state;
    static const uint8_t answer[] = {0x81, 2, '\r', '\n'};
    assert_int_equal(say(w, 0x81, "\r\n\r\n", 3), 0);
    assert_holds(w->out, answer, sizeof answer);
    assert_int_equal(evbuffer_get_length(w->messages), 0);
}

static void fragments(void **state)
{
    struct world *w = *state;
    uint8_t bytes[512];
    size_t n = frame(0x01, HEAD, sizeof HEAD - 1, bytes);
    n += frame(0x00, NULL, 0, bytes + n);
    n += frame(0x89, "now", 3, bytes + n); /* between fragments: allowed */
    n += frame(0x00, "l: 2\r\n", 6, bytes + n);
    assert_int_equal(feed(w, bytes, n, 5), 0);
    assert_true(kg_websocket_is_midway(w->socket));
    assert_int_equal(evbuffer_get_length(w->messages), 0);
    assert_text(w->out, "\x8a\x03now");
    n = frame(0x80, "\r\nab", 4, bytes);
    assert_int_equal(feed(w, bytes, n, 5), 0);
    assert_text(w->messages, HEAD "l: 2\r\n\r\nab");
    assert_false(kg_websocket_is_midway(w->socket));
}

static void a_frame_begun_is_midway(void **state)
{
    struct world *w = *state;
    uint8_t bytes[64];
    size_t n = frame(0x89, "", 0, bytes);
    for (size_t have = 1; have < n; have++) {
        assert_int_equal(feed(w, bytes + have - 1, 1, 1), 0);
        assert_true(kg_websocket_is_midway(w->socket));
    }
    assert_int_equal(feed(w, bytes + n - 1, 1, 1), 0);
    assert_false(kg_websocket_is_midway(w->socket));
}

static void bad_frames(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *bytes;
        size_t len;
        unsigned code;
    } rows[] = {
#define BYTES(text) text, sizeof text - 1
        {BYTES("\xc1\x80\x01\x02\x03\x04"), 1002},         /* RSV1 */
        {BYTES("\xa1\x80\x01\x02\x03\x04"), 1002},         /* RSV2 */
        {BYTES("\x91\x80\x01\x02\x03\x04"), 1002},         /* RSV3 */
        {BYTES("\x83\x80\x01\x02\x03\x04"), 1002},         /* opcode 3 */
        {BYTES("\x8b\x80\x01\x02\x03\x04"), 1002},         /* opcode 11 */
        {BYTES("\x80\x80\x01\x02\x03\x04"), 1002},         /* continues nothing */
        {BYTES("\x09\x80\x01\x02\x03\x04"), 1002},         /* a Ping in pieces */
        {BYTES("\x89\xfe\x00\x7e\x01\x02\x03\x04"), 1002}, /* a Ping of 126 bytes */
        {BYTES("\x89\x00"), 1002},                         /* unmasked */
        {BYTES("\x88\x00"), 1002},
        {BYTES("\x81\xfe\x00\x05\x01\x02\x03\x04"), 1002},             /* 5 written in 16 bits */
        {BYTES("\x81\xff\0\0\0\0\0\0\x01\x00\x01\x02\x03\x04"), 1002}, /* 256 written in 64 */
        {BYTES("\x81\xff\x80\0\0\0\0\0\0\0\x01\x02\x03\x04"), 1002},   /* 2^63 */
        {BYTES("\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04"), 1002},
        {BYTES("\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04x"), 1009}, /* 2^63 - 1 */
        {BYTES("\x82\xff\0\0\0\0\0\x01\0\0\x01\x02\x03\x04x"), 1009},               /* 65536 */
        {BYTES("\x01\x81\0\0\0\0x\x81\x81\0\0\0\0x"), 1002},         /* a message within another */
        {BYTES("\x01\x81\0\0\0\0x\x80\xfe\xff\xff\0\0\0\0x"), 1009}, /* 1 and 65535 bytes */
        {BYTES("\x88\x81\0\0\0\0x"), 1002},                          /* a Close with half a code */
        {BYTES("\x88\x82\0\0\0\0\x03\xe7"), 1002},                   /* 999 */
        {BYTES("\x88\x82\0\0\0\0\x03\xed"), 1002},                   /* 1005: never on the wire */
        {BYTES("\x88\x82\0\0\0\0\x03\xee"), 1002},                   /* 1006 */
        {BYTES("\x88\x82\0\0\0\0\x03\xf7"), 1002},                   /* 1015 */
        {BYTES("\x88\x82\0\0\0\0\x13\x88"), 1002},                   /* 5000 */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (size_t step = 1; step < 100; step += 98) {
            fresh(w);
            assert_int_equal(feed(w, (const uint8_t *)rows[i].bytes, rows[i].len, step), EPROTO);
            assert_true(w->why[0]);
            assert_close(w, rows[i].code);
            /* Nothing is taken or given any more. */
            assert_int_equal(say(w, 0x81, HEAD "l: 0\r\n\r\n", 9), ESHUTDOWN);
            assert_int_equal(kg_websocket_send(w->socket, "x", 1, w->out), ESHUTDOWN);
            kg_websocket_close(w->socket, KG_WEBSOCKET_GOING_AWAY, w->out);
            assert_int_equal(evbuffer_get_length(w->out) + evbuffer_get_length(w->messages), 0);
        }
}

static void closing(void **state)
{
    struct world *w = *state;
    uint8_t bytes[128];
    /* Everything before the Close arrives, nothing after it. */
    size_t n = frame(0x81, HEAD "l: 0\r\n\r\n", sizeof HEAD + 7, bytes);
    n += frame(0x88, "\x03\xe9going", 7, bytes + n);
    n += frame(0x89, "", 0, bytes + n);
    assert_int_equal(feed(w, bytes, n, n), ESHUTDOWN);
    assert_text(w->messages, HEAD "l: 0\r\n\r\n");
    assert_holds(w->out, "\x88\x02\x03\xe9", 4);
    fresh(w); /* without a code */
    n = frame(0x88, "", 0, bytes);
    assert_int_equal(feed(w, bytes, n, 1), ESHUTDOWN);
    assert_holds(w->out, "\x88\x00", 2);
    fresh(w); /* ours first */
    kg_websocket_close(w->socket, KG_WEBSOCKET_GOING_AWAY, w->out);
    assert_close(w, 1001);
    assert_int_equal(kg_websocket_ping(w->socket, w->out), ESHUTDOWN);
    assert_int_equal(evbuffer_get_length(w->out), 0);
}

static void sizes(void **state)
{
    struct world *w = *state;
    static char big[KG_SIP_MESSAGE_MAX + 2];
    static uint8_t bytes[sizeof big + 16];
    static const size_t rows[] = {125, 126, 127, 4096, 65534, 65535};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t head = sizeof HEAD - 1 + 4;
        memset(big, 'b', sizeof big);
        memcpy(big, HEAD "m:\r\n", sizeof HEAD + 3);
        memcpy(big + head, "\r\n", 2);
        fresh(w);
        assert_int_equal(feed(w, bytes, frame(0x81, big, rows[i], bytes), 1000), 0);
        char line[40];
        int n = snprintf(line, sizeof line, "Content-Length: %zu\r\n\r\n", rows[i] - head - 2);
        assert_int_equal(evbuffer_get_length(w->messages), rows[i] + (size_t)n - 2);
        assert_memory_equal(evbuffer_pullup(w->messages, -1) + head, line, n);
        /* and out again, in one frame */
        assert_int_equal(kg_websocket_send(w->socket, big, rows[i], w->out), 0);
        const uint8_t *out = evbuffer_pullup(w->out, -1);
        size_t header = rows[i] < 126 ? 2 : 4;
        assert_int_equal(evbuffer_get_length(w->out), rows[i] + header);
        assert_int_equal(out[0], 0x81);
        assert_int_equal(out[1], rows[i] < 126 ? rows[i] : 126);
        assert_memory_equal(out + header, big, rows[i]);
    }
    fresh(w);
    assert_int_equal(kg_websocket_send(w->socket, "\xe4", 1, w->out), 0);
    assert_holds(w->out, "\x82\x01\xe4", 3);
    assert_int_equal(kg_websocket_ping(w->socket, w->out), 0);
    assert_holds(w->out, "\x89\x00", 2);
}

/* Nobody makes kedge work without end by saying nothing. */
static void idle_words(void **state)
{
    struct world *w = *state;
    static const struct {
        uint8_t first;
        const char *text;
    } rows[] = {{0x89, "x"}, {0x8a, ""}, {0x81, "\r\n\r\n"}, {0x82, "\r\n"}, {0x81, "\r\n\r\n\r\n"},
                {0x00, ""},  {0x00, "x"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fresh(w);
        if (rows[i].first == 0)
            assert_int_equal(say(w, 0x01, "OPTIONS ", 100), 0);
        for (int round = 0; round < 3; round++) {
            for (int n = 0; n < KG_WEBSOCKET_IDLE_WORDS; n++)
                assert_int_equal(say(w, rows[i].first, rows[i].text, 100), 0);
            assert_int_equal(kg_websocket_ping(w->socket, w->out), 0);
        }
        for (int n = 0; n < KG_WEBSOCKET_IDLE_WORDS; n++)
            assert_int_equal(say(w, rows[i].first, rows[i].text, 100), 0);
        evbuffer_drain(w->out, evbuffer_get_length(w->out));
        assert_int_equal(say(w, rows[i].first, rows[i].text, 100), EPROTO);
        assert_close(w, 1008);
    }
    fresh(w); /* messages do not count */
    for (int n = 0; n < 3 * KG_WEBSOCKET_IDLE_WORDS; n++)
        assert_int_equal(say(w, 0x81, HEAD "l: 0\r\n\r\n", 100), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(examples_of_the_rfc),
        TEST(messages),
        TEST(crlf_keepalive),
        TEST(fragments),
        TEST(a_frame_begun_is_midway),
        TEST(bad_frames),
        TEST(closing),
        TEST(sizes),
        TEST(idle_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
