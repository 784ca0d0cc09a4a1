/* SRTP and SRTCP (RFC 3711, 6188, 7714) of one leg: what it sends with one set of keys, what it receives with
 * another. Sessions of libsrtp2 with OpenSSL behind its ciphers (srtp_cipher.h). Sans-IO; belongs to one
 * thread (a worker). */
#ifndef KG_MEDIA_SRTP_H
#define KG_MEDIA_SRTP_H

#include <stdint.h>

#include "media/keys.h"

/* A packet grows by at most so much when it is protected (tag, MKI, SRTCP index). Buffers have that room
 * behind it. */
#define KG_SRTP_GROWTH (16 + KG_SRTP_MKI_MAX + 4)
/* SSRCs of one direction in the life of a context; packets of more are refused. None is forgotten to make
 * room: its index would be lost, and with it the protection against replay (received) and against a keystream
 * that is used twice (sent). A peer that proves itself, or a plain one behind us, may invent as many as it
 * likes. */
#define KG_SRTP_SSRC_MAX 128
/* Packets of the keys before may still be on their way so long after the first one with the new keys. */
#define KG_SRTP_OVERLAP_MS 2000
/* If none comes with the new keys, the old ones serve so long: an offer tells keys that are used after its
 * answer, and the transaction that carries both lasts 64*T1 (RFC 3261 17.1.1.2). */
#define KG_SRTP_REKEY_MS 32000
/* Roll-over counters tried, two for each packet, for an SSRC whose packets do not authenticate with what we
 * know: its first packets were lost around a wrap, or it spoke before we (the engine restarted) knew it. 64
 * wraps are 23 hours of audio. */
#define KG_SRTP_ROC_TRIED 64
/* An SSRC that authenticated within this is not searched: what fails with it is not its own. */
#define KG_SRTP_LOST_MS 2000

/* Before any thread; harmless again: installs the OpenSSL ciphers and authenticators. 0 or an errno, and
 * why is logged. */
int kg_srtp_init(void);

struct kg_srtp;
/* NULL without memory. Nothing can be sent or received before the keys are set. */
struct kg_srtp *kg_srtp_new(void);
void kg_srtp_free(struct kg_srtp *srtp); /* keys are overwritten; NULL is fine */

/* The same keys as before: nothing changes, the index goes on. Others: from now on they are used for sending,
 * and for receiving beside the old ones (see above). The index of each SSRC that is sent goes on (RFC
 * 3711 3.3.1), so that earlier keys may be returned to and no keystream is used twice; that of an SSRC that
 * is received may go on or begin anew, as the peer likes. keys->suite KG_SRTP_NONE: nothing is sent
 * (received), nothing is forgotten. 0; EINVAL: no such suite, or several keys without MKIs; ENOMEM: if it was
 * set_send, nothing can be sent any more with this context. */
int kg_srtp_set_send(struct kg_srtp *srtp, const struct kg_srtp_keys *keys, int64_t now_ms);
int kg_srtp_set_receive(struct kg_srtp *srtp, const struct kg_srtp_keys *keys, int64_t now_ms);
/* The next other keys to send with are used from index 0 on: where the peer begins a new crypto context,
 * because an address or port changed (RFC 4568 7.1.4), or a new DTLS association. kg_srtp_set_send() refuses
 * keys that would be used twice, then and later: those from before (EINVAL; what served goes on). Received
 * indexes need no such call. */
void kg_srtp_begin_anew(struct kg_srtp *srtp);
/* Nothing is received any more with the keys that were set: another engine used them before, and took its
 * replay window with it. */
void kg_srtp_forget_received(struct kg_srtp *srtp);
bool kg_srtp_sends_with(const struct kg_srtp *srtp, const struct kg_srtp_keys *keys); /* these very keys */
bool kg_srtp_can_send(const struct kg_srtp *srtp);
bool kg_srtp_can_receive(const struct kg_srtp *srtp);

enum kg_srtp_result {
    KG_SRTP_OK,
    KG_SRTP_NO_KEYS,
    KG_SRTP_BAD, /* no valid SRTP, or its tag does not fit: it proves nothing, and changed nothing, not even
                    data. Sent: no valid RTP, no room, or more SSRCs than KG_SRTP_SSRC_MAX */
    KG_SRTP_REPLAY, /* an index that was used, or older than the window of 128 (RFC 3711 3.3.2). It proves
                       nothing either: that is looked at before the tag */
};
/* In place; *len becomes shorter or longer. data: aligned to 4 bytes, at least 12 (RTCP: 8) of them. room:
 * bytes that data may take. An index is sent once: a packet that the relay gets a second time is not
 * protected a second time, for the receiver would refuse it, and another text with the same index would break
 * both (RFC 3711 9.1). A sender that sets its sequence number back (in plain RTP it may) goes on under
 * shifted numbers: its packets are changed in data too. */
enum kg_srtp_result kg_srtp_unprotect(struct kg_srtp *srtp, uint8_t *data, size_t *len, int64_t now_ms);
enum kg_srtp_result kg_srtp_unprotect_rtcp(struct kg_srtp *srtp, uint8_t *data, size_t *len, int64_t now_ms);
enum kg_srtp_result kg_srtp_protect(struct kg_srtp *srtp, uint8_t *data, size_t *len, size_t room);
enum kg_srtp_result kg_srtp_protect_rtcp(struct kg_srtp *srtp, uint8_t *data, size_t *len, size_t room);

struct kg_srtp_counts {
    uint64_t bad, replayed; /* received */
};
struct kg_srtp_counts kg_srtp_counts(const struct kg_srtp *srtp);
enum kg_srtp_suite kg_srtp_send_suite(const struct kg_srtp *srtp);

#endif
