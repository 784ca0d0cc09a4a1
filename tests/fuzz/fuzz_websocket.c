/* b2bua/sip/websocket: any split of any stream gives the same messages and the same answers; what comes out
 * are whole SIP messages by the rules of streams; the answers are unmasked frames, none longer than a control
 * frame, at most one Close and that last; after the end nothing is taken or given. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/sip/framing.h"
#include "b2bua/sip/shim.h"
#include "b2bua/sip/websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
    struct evbuffer *messages, *out;
    int ended;
    bool midway;
};

static struct run receive(const uint8_t *data, size_t size, size_t step)
{
    struct run run = {evbuffer_new(), evbuffer_new(), 0, false};
    struct kg_websocket *socket = kg_websocket_new();
    const char *why = NULL;
    if (!socket || !run.messages || !run.out)
        abort();
    for (size_t at = 0; at < size && !run.ended; at += step) {
        size_t n = size - at < step ? size - at : step;
        uint8_t *piece = malloc(n);
        memcpy(piece, data + at, n);
        run.ended = kg_websocket_receive(socket, piece, n, run.messages, run.out, &why);
        free(piece);
    }
    if (run.ended == ENOMEM || (run.ended == EPROTO && !*why))
        abort();
    run.midway = kg_websocket_is_midway(socket);
    size_t before = evbuffer_get_length(run.messages) + evbuffer_get_length(run.out);
    if (run.ended &&
        (kg_websocket_receive(socket, "\x89\x80\0\0\0\0", 6, run.messages, run.out, &why) != ESHUTDOWN ||
         kg_websocket_send(socket, "x", 1, run.out) != ESHUTDOWN ||
         evbuffer_get_length(run.messages) + evbuffer_get_length(run.out) != before))
        abort();
    kg_websocket_free(socket);
    return run;
}

static void check_messages(struct evbuffer *messages)
{
    size_t len = evbuffer_get_length(messages), used;
    const char *at = (const char *)evbuffer_pullup(messages, -1), *why;
    struct kg_framing framing = {0};
    for (; len > 0; at += used, len -= used) {
        size_t transport_len;
        if (kg_framing_next(&framing, at, len, &used, &why) != KG_FRAME_MESSAGE)
            abort();
        const char *transport = kg_framing_via_transport(at, used, &transport_len);
        if (transport && (transport < at || transport + transport_len > at + used))
            abort();
    }
}

static void check_answers(struct evbuffer *out)
{
    size_t len = evbuffer_get_length(out);
    const uint8_t *at = evbuffer_pullup(out, -1);
    while (len > 0) {
        if (len < 2 || at[1] > 125 || len < 2u + at[1] || (at[0] != 0x8a && at[0] != 0x88 && at[0] != 0x81) ||
            (at[0] == 0x88 && len != 2u + at[1]))
            abort();
        len -= 2u + at[1];
        at += 2 + at[1];
    }
}

static void assert_same(struct evbuffer *a, struct evbuffer *b)
{
    size_t len = evbuffer_get_length(a);
    if (len != evbuffer_get_length(b) ||
        (len && memcmp(evbuffer_pullup(a, -1), evbuffer_pullup(b, -1), len) != 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct run slow = receive(data + 1, size - 1, 1 + data[0] % 32), fast = receive(data + 1, size - 1, size);
    assert_same(slow.messages, fast.messages);
    assert_same(slow.out, fast.out);
    if (slow.ended != fast.ended || (!slow.ended && slow.midway != fast.midway))
        abort();
    check_messages(slow.messages);
    check_answers(slow.out);
    evbuffer_free(slow.messages);
    evbuffer_free(slow.out);
    evbuffer_free(fast.messages);
    evbuffer_free(fast.out);
    return 0;
}
