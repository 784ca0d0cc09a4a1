/* SRTP and SRTCP (RFC 3711, 6188, 7714) of one leg: what it sends with one set of keys, what it receives with
 * another. Sessions of libsrtp2 with OpenSSL behind its ciphers. Sans-IO; belongs to one thread (a worker).
 */
#ifndef KG_MEDIA_SRTP_H
#define KG_MEDIA_SRTP_H

#include <stdint.h>

#include "media/keys.h"

/* A packet grows by at most so much when it is protected (tag, MKI, SRTCP index). Buffers have that room
 * behind it. */
#define KG_SRTP_GROWTH (16 + KG_SRTP_MKI_MAX + 4)
/* SSRCs that one direction remembers; the one that was quiet longest makes room (a peer that proves itself
 * may invent as many as it likes). */
#define KG_SRTP_SSRC_MAX 16
/* How long the keys before serve beside new ones that the peer was told, or told us: packets cross
 * signalling. */
#define KG_SRTP_OVERLAP_MS 2000

/* Once per process, before any thread: installs the OpenSSL ciphers and authenticators. 0 or an errno. */
int kg_srtp_init(void);

struct kg_srtp;
/* NULL without memory. Nothing can be sent or received before the keys are set. */
struct kg_srtp *kg_srtp_new(void);
void kg_srtp_free(struct kg_srtp *srtp); /* keys are overwritten; NULL is fine */

/* The same keys as before: nothing changes, the index goes on. Others: from now on they are used for sending,
 * and for receiving beside the old ones until a packet with the new ones came or KG_SRTP_OVERLAP_MS are over;
 * the index of each SSRC that is sent goes on (never twice one keystream). keys->suite KG_SRTP_NONE: nothing
 * is sent (received). 0, ENOMEM or EINVAL. */
int kg_srtp_set_send(struct kg_srtp *srtp, const struct kg_srtp_keys *keys, int64_t now_ms);
int kg_srtp_set_receive(struct kg_srtp *srtp, const struct kg_srtp_keys *keys, int64_t now_ms);
bool kg_srtp_can_send(const struct kg_srtp *srtp);
bool kg_srtp_can_receive(const struct kg_srtp *srtp);

enum kg_srtp_result {
    KG_SRTP_OK,
    KG_SRTP_NO_KEYS,
    KG_SRTP_BAD,    /* no valid SRTP, or its tag does not fit: it proves nothing, and changed nothing */
    KG_SRTP_REPLAY, /* genuine, and seen before or too old (RFC 3711 3.3.2) */
};
/* In place; *len becomes shorter or longer. room: bytes that data may take. */
enum kg_srtp_result kg_srtp_unprotect(struct kg_srtp *srtp, uint8_t *data, size_t *len, int64_t now_ms);
enum kg_srtp_result kg_srtp_unprotect_rtcp(struct kg_srtp *srtp, uint8_t *data, size_t *len, int64_t now_ms);
enum kg_srtp_result kg_srtp_protect(struct kg_srtp *srtp, uint8_t *data, size_t *len, size_t room);
enum kg_srtp_result kg_srtp_protect_rtcp(struct kg_srtp *srtp, uint8_t *data, size_t *len, size_t room);

struct kg_srtp_counts {
    uint64_t bad, replayed;
};
struct kg_srtp_counts kg_srtp_counts(const struct kg_srtp *srtp);
enum kg_srtp_suite kg_srtp_send_suite(const struct kg_srtp *srtp);

#endif
