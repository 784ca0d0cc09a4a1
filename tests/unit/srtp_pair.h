/* Two SRTP contexts, each with the keys of the other, and packets between them. */
#ifndef KG_TESTS_SRTP_PAIR_H
#define KG_TESTS_SRTP_PAIR_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "media/srtp.h"
#include "tests/unit/srtp_packets.h"

enum { SSRC = 0x01020304 };
#define DEFAULT KG_SRTP_AES_CM_128_SHA1_80

static const enum kg_srtp_suite all[] = {KG_SRTP_AEAD_AES_256_GCM,   KG_SRTP_AEAD_AES_128_GCM,
                                         KG_SRTP_AES_CM_256_SHA1_80, KG_SRTP_AES_CM_256_SHA1_32,
                                         KG_SRTP_AES_CM_128_SHA1_80, KG_SRTP_AES_CM_128_SHA1_32};

static inline bool is_short(enum kg_srtp_suite suite)
{
    return suite == KG_SRTP_AES_CM_256_SHA1_32 || suite == KG_SRTP_AES_CM_128_SHA1_32;
}

static inline struct kg_srtp *with_keys(const struct kg_srtp_keys *send, const struct kg_srtp_keys *receive)
{
    struct kg_srtp *srtp = kg_srtp_new();
    assert_non_null(srtp);
    if (send)
        assert_int_equal(kg_srtp_set_send(srtp, send, 0), 0);
    if (receive)
        assert_int_equal(kg_srtp_set_receive(srtp, receive, 0), 0);
    return srtp;
}

/* Two sides: what one sends the other receives. */
struct pair {
    struct kg_srtp *sender, *receiver;
};

static inline struct pair pair_of(enum kg_srtp_suite suite)
{
    struct kg_srtp_keys keys = keys_of(suite, 1);
    return (struct pair){with_keys(&keys, NULL), with_keys(NULL, &keys)};
}

static inline void end(struct pair *pair)
{
    kg_srtp_free(pair->sender);
    kg_srtp_free(pair->receiver);
}

static inline struct packet protected(struct kg_srtp *srtp, struct packet packet)
{
    assert_int_equal(kg_srtp_protect(srtp, packet.data, &packet.len, ROOM), KG_SRTP_OK);
    return packet;
}

static inline enum kg_srtp_result take(struct kg_srtp *srtp, struct packet packet, int64_t now_ms)
{
    return kg_srtp_unprotect(srtp, packet.data, &packet.len, now_ms);
}

static inline struct packet sent(const struct pair *pair, uint16_t seq)
{
    return protected(pair->sender, rtp(SSRC, seq));
}

static inline enum kg_srtp_result heard(const struct pair *pair, uint16_t seq, int64_t now_ms)
{
    return take(pair->receiver, sent(pair, seq), now_ms);
}

/* Moves the index of both from one number to another, in leaps. */
static inline void run(const struct pair *pair, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i += 16000)
        assert_int_equal(heard(pair, (uint16_t)i, 0), KG_SRTP_OK);
    assert_int_equal(heard(pair, (uint16_t)to, 0), KG_SRTP_OK);
}

static inline int install(void **state)
{
    (void)state;
    return kg_srtp_init();
}

#endif
