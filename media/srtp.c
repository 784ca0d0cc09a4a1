#include "media/srtp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "conf/log.h"
#include "media/srtp_cipher.h"
#include "media/srtp_session.h"

enum {
    RTP_HEADER = 12,
    RTCP_HEADER = 8,
    USED = 8,    /* keys of ours that are remembered, so that they are not used again from index 0 */
    RESTART = 4, /* packets in sequence, all older than the window: their sender has set its numbers back */
};

/* An SSRC that we send. Numbers are those that went out. */
struct sent {
    uint32_t ssrc;
    uint16_t shift;   /* added to the sender's sequence numbers */
    uint16_t highest; /* if begun */
    uint16_t floor;   /* if floored: up to here numbers were used with other keys, that may come back */
    uint16_t awaited; /* the sender's number that would follow the old one that came last */
    uint8_t old;      /* old ones in sequence */
    bool begun, floored;
};

/* An SSRC that we receive: something of it was authenticated. */
struct heard {
    uint32_t ssrc;
    bool rtp;        /* RTP too: its roll-over counter is known */
    int64_t last_ms; /* RTP authenticated */
};

/* Keys of the other side, and what was received with them. */
struct hearing {
    struct heard *heard;
    uint16_t count, room;
    uint8_t searched; /* which roll-over counter was tried last: see search() */
    struct kg_srtp_session session;
};

/* Keys that something was, or could have been, sent with. */
struct used {
    uint8_t digest[32];
    bool over; /* indexes have begun anew since: these keys must never come back */
};

struct kg_srtp {
    bool can_send, can_receive;
    bool anew;       /* the next other keys are used from index 0 */
    bool index_lost; /* of what was sent: never again with this context */
    uint16_t sent_count, sent_room;
    struct sent *sent;
    struct kg_srtp_session sending;
    struct hearing now, before;
    int64_t before_until; /* milliseconds: when keys before end */
    struct kg_srtp_counts counts;
    struct used used[USED];
    uint8_t used_next;
};

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, 4);
    return ntohl(value);
}

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static int install(void)
{
    if (srtp_init() != srtp_err_status_ok) {
        kg_error("media",
                 "libsrtp2 failed its own tests: SRTP is not possible; reinstall the package libsrtp2-1");
        return ENOTSUP;
    }
    srtp_install_event_handler(NULL); /* the default prints */
    const char *refused = kg_srtp_cipher_install();
    if (refused) {
        kg_error("media", "%s does not take \"%s\": SRTP is not possible with this build of it",
                 srtp_get_version_string(), refused);
        return ENOTSUP;
    }
    return 0;
}

int kg_srtp_init(void)
{
    static int result = -1; /* libsrtp2 does not take its own self-test a second time */
    if (result < 0)
        result = install();
    return result;
}

struct kg_srtp *kg_srtp_new(void)
{
    return calloc(1, sizeof(struct kg_srtp));
}

static void hearing_close(struct hearing *hearing)
{
    kg_srtp_session_close(&hearing->session);
    free(hearing->heard);
    *hearing = (struct hearing){0};
}

void kg_srtp_free(struct kg_srtp *srtp)
{
    if (!srtp)
        return;
    kg_srtp_session_close(&srtp->sending);
    hearing_close(&srtp->now);
    hearing_close(&srtp->before);
    free(srtp->sent);
    OPENSSL_cleanse(srtp, sizeof *srtp);
    free(srtp);
}

/* ---- Sending ---- */

void kg_srtp_begin_anew(struct kg_srtp *srtp)
{
    srtp->anew = srtp->sending.srtp != NULL;
}

bool kg_srtp_sends_with(const struct kg_srtp *srtp, const struct kg_srtp_keys *keys)
{
    return srtp->sending.srtp && kg_srtp_session_has(&srtp->sending, keys);
}

/* Would they be used twice from some index on? */
static bool used_up(const struct kg_srtp *srtp, const struct kg_srtp_keys *keys)
{
    uint8_t digest[sizeof srtp->used[0].digest];
    if (!kg_srtp_session_digest(keys, digest))
        return false;
    for (size_t i = 0; i < USED; i++)
        if ((srtp->anew || srtp->used[i].over) && memcmp(srtp->used[i].digest, digest, sizeof digest) == 0)
            return true;
    return false;
}

static int send_anew(struct kg_srtp *srtp, const struct kg_srtp_keys *keys)
{
    struct kg_srtp_session other = {0};
    int error = kg_srtp_session_open(&other, keys, ssrc_any_outbound);
    if (error)
        return error;
    kg_srtp_session_close(&srtp->sending);
    srtp->sending = other;
    srtp->sent_count = 0;
    srtp->anew = false;
    for (size_t i = 0; i < USED; i++)
        srtp->used[i].over = true;
    return 0;
}

static int send_on(struct kg_srtp *srtp, const struct kg_srtp_keys *keys)
{
    bool had = srtp->sending.srtp;
    int error = kg_srtp_session_open(&srtp->sending, keys, ssrc_any_outbound);
    if (!srtp->sending.srtp) {
        srtp->index_lost = had;
        srtp->can_send = false;
    }
    for (uint16_t i = 0; error == 0 && i < srtp->sent_count; i++) {
        struct sent *sent = &srtp->sent[i];
        sent->floored = sent->begun;
        sent->floor = sent->highest;
    }
    return error;
}

int kg_srtp_set_send(struct kg_srtp *srtp, const struct kg_srtp_keys *keys, int64_t now_ms)
{
    (void)now_ms;
    if (keys->suite == KG_SRTP_NONE) {
        srtp->can_send = false;
        return 0;
    }
    if (srtp->index_lost)
        return ENOMEM;
    if (!kg_srtp_session_has(&srtp->sending, keys)) {
        int error = used_up(srtp, keys) ? EINVAL : srtp->anew ? send_anew(srtp, keys) : send_on(srtp, keys);
        if (error)
            return error;
        struct used *used = &srtp->used[srtp->used_next];
        *used = (struct used){0};
        memcpy(used->digest, srtp->sending.digest, sizeof used->digest);
        srtp->used_next = (uint8_t)((srtp->used_next + 1) % USED);
    }
    srtp->can_send = true;
    return 0;
}

bool kg_srtp_can_send(const struct kg_srtp *srtp)
{
    return srtp->can_send;
}

enum kg_srtp_suite kg_srtp_send_suite(const struct kg_srtp *srtp)
{
    return srtp->can_send ? (enum kg_srtp_suite)srtp->sending.suite : KG_SRTP_NONE;
}

/* NULL: there are too many, or no memory. */
static struct sent *sent_of(struct kg_srtp *srtp, uint32_t ssrc)
{
    for (uint16_t i = 0; i < srtp->sent_count; i++)
        if (srtp->sent[i].ssrc == ssrc)
            return &srtp->sent[i];
    if (srtp->sent_count == srtp->sent_room) {
        uint16_t room = srtp->sent_room ? (uint16_t)(2 * srtp->sent_room) : 2;
        struct sent *more = room <= KG_SRTP_SSRC_MAX ? realloc(srtp->sent, room * sizeof *more) : NULL;
        if (!more)
            return NULL;
        srtp->sent = more;
        srtp->sent_room = room;
    }
    struct sent *sent = &srtp->sent[srtp->sent_count++];
    *sent = (struct sent){.ssrc = ssrc};
    return sent;
}

/* seq is older than the window. Whether its sender has begun anew; then its numbers are shifted to follow
 * what was sent. (RFC 3550 A.1 asks for two in sequence.) */
static bool restarted(struct sent *sent, uint16_t seq)
{
    sent->old = sent->old && seq == sent->awaited ? sent->old + 1 : 1;
    sent->awaited = (uint16_t)(seq + 1);
    if (sent->old < RESTART)
        return false;
    sent->shift = (uint16_t)(sent->highest + 1 - seq);
    sent->old = 0;
    return true;
}

static srtp_err_status_t protect_as(struct kg_srtp *srtp, struct sent *sent, uint8_t *data, size_t *len,
                                    uint16_t seq)
{
    uint16_t number = (uint16_t)(seq + sent->shift);
    if (sent->floored) {
        if ((int16_t)(number - sent->floor) <= -KG_SRTP_WINDOW)
            return srtp_err_status_replay_old;
        if ((int16_t)(number - sent->floor) <= 0)
            return srtp_err_status_replay_fail;
        if ((int16_t)(number - sent->floor) > KG_SRTP_WINDOW)
            sent->floored = false;
    }
    if (sent->shift != 0) {
        data[2] = (uint8_t)(number >> 8);
        data[3] = (uint8_t)number;
    }
    srtp_err_status_t status = kg_srtp_session_protect(&srtp->sending, data, len);
    if (status == srtp_err_status_ok) {
        if (!sent->begun || (int16_t)(number - sent->highest) > 0)
            sent->highest = number;
        sent->begun = true;
        sent->old = 0;
    }
    return status;
}

static enum kg_srtp_result result_of(srtp_err_status_t status)
{
    switch (status) {
    case srtp_err_status_ok:
        return KG_SRTP_OK;
    case srtp_err_status_replay_fail:
    case srtp_err_status_replay_old:
    case srtp_err_status_pkt_idx_old:
        return KG_SRTP_REPLAY;
    default:
        return KG_SRTP_BAD;
    }
}

enum kg_srtp_result kg_srtp_protect(struct kg_srtp *srtp, uint8_t *data, size_t *len, size_t room)
{
    if (!srtp->can_send)
        return KG_SRTP_NO_KEYS;
    struct sent *sent;
    if (*len < RTP_HEADER || *len > UINT16_MAX || *len + srtp->sending.rtp_growth > room ||
        data[0] >> 6 != 2 || !(sent = sent_of(srtp, get32(data + 8))))
        return KG_SRTP_BAD;
    uint16_t seq = get16(data + 2);
    srtp_err_status_t status = protect_as(srtp, sent, data, len, seq);
    if (status == srtp_err_status_replay_old && restarted(sent, seq))
        status = protect_as(srtp, sent, data, len, seq);
    return result_of(status);
}

enum kg_srtp_result kg_srtp_protect_rtcp(struct kg_srtp *srtp, uint8_t *data, size_t *len, size_t room)
{
    if (!srtp->can_send)
        return KG_SRTP_NO_KEYS;
    if (*len < RTCP_HEADER || *len > UINT16_MAX || *len + srtp->sending.rtcp_growth > room ||
        data[0] >> 6 != 2 || !sent_of(srtp, get32(data + 4)))
        return KG_SRTP_BAD;
    return result_of(kg_srtp_session_protect_rtcp(&srtp->sending, data, len));
}

/* ---- Receiving ---- */

int kg_srtp_set_receive(struct kg_srtp *srtp, const struct kg_srtp_keys *keys, int64_t now_ms)
{
    if (keys->suite == KG_SRTP_NONE) {
        srtp->can_receive = false;
        return 0;
    }
    if (!kg_srtp_session_has(&srtp->now.session, keys)) {
        struct hearing other = {0};
        if (kg_srtp_session_has(&srtp->before.session, keys)) { /* the change was taken back */
            other = srtp->before;
            srtp->before = (struct hearing){0};
        } else {
            int error = kg_srtp_session_open(&other.session, keys, ssrc_any_inbound);
            if (error)
                return error;
        }
        /* Keys with which nothing came are not those that they still use. */
        struct hearing *unused =
            srtp->now.count == 0 && srtp->before.session.srtp ? &srtp->now : &srtp->before;
        hearing_close(unused);
        if (unused == &srtp->before)
            srtp->before = srtp->now;
        srtp->now = other;
        srtp->before_until = now_ms + KG_SRTP_REKEY_MS;
    }
    srtp->can_receive = true;
    return 0;
}

void kg_srtp_forget_received(struct kg_srtp *srtp)
{
    hearing_close(&srtp->now);
    hearing_close(&srtp->before);
    srtp->can_receive = false;
}

bool kg_srtp_can_receive(const struct kg_srtp *srtp)
{
    return srtp->can_receive;
}

static struct heard *heard_of(struct hearing *hearing, uint32_t ssrc)
{
    for (uint16_t i = 0; i < hearing->count; i++)
        if (hearing->heard[i].ssrc == ssrc)
            return &hearing->heard[i];
    return NULL;
}

/* Room for one more, before it is authenticated. */
static bool make_room(struct hearing *hearing)
{
    if (hearing->count < hearing->room)
        return true;
    uint16_t room = hearing->room ? (uint16_t)(2 * hearing->room) : 2;
    struct heard *more = room <= KG_SRTP_SSRC_MAX ? realloc(hearing->heard, room * sizeof *more) : NULL;
    if (!more)
        return false;
    hearing->heard = more;
    hearing->room = room;
    return true;
}

static struct heard *add(struct hearing *hearing, uint32_t ssrc)
{
    struct heard *heard = &hearing->heard[hearing->count++];
    *heard = (struct heard){.ssrc = ssrc};
    return heard;
}

/* The packet fails with the roll-over counter that we know, or with 0: tries others. known: that of the keys
 * before, which may go on (RFC 3711 3.3.1) or not. A counter never goes back. */
static srtp_err_status_t search(struct hearing *hearing, bool streamed, uint32_t known, uint8_t *data,
                                size_t *len)
{
    uint32_t ssrc = get32(data + 8), base = 0;
    srtp_t session = hearing->session.srtp;
    if (streamed)
        srtp_get_stream_roc(session, ssrc, &base);
    else if (!kg_srtp_session_admit(&hearing->session, ssrc))
        return srtp_err_status_alloc_fail;
    hearing->searched = hearing->searched % KG_SRTP_ROC_TRIED + 1;
    const uint32_t tries[] = {base + 1, base + 1 + hearing->searched, known, known + 1};
    size_t count = known > base ? 4 : 2;
    srtp_err_status_t status = srtp_err_status_auth_fail;
    for (size_t i = 0; i < count && status != srtp_err_status_ok; i++) {
        srtp_set_stream_roc(session, ssrc, tries[i]);
        status = kg_srtp_session_unprotect(&hearing->session, data, len);
    }
    if (status != srtp_err_status_ok && !streamed)
        srtp_remove_stream(session, htonl(ssrc));
    else
        srtp_set_stream_roc(session, ssrc, 0); /* none is awaited */
    return status;
}

static uint32_t roc_of(const struct hearing *hearing, uint32_t ssrc)
{
    uint32_t roc = 0;
    srtp_get_stream_roc(hearing->session.srtp, ssrc, &roc);
    return roc;
}

/* known_roc: of its SSRC, with the keys before. */
static srtp_err_status_t hear(struct hearing *hearing, uint32_t known_roc, uint8_t *data, size_t *len,
                              int64_t now_ms)
{
    uint32_t ssrc = get32(data + 8);
    if (*len < (size_t)RTP_HEADER + hearing->session.rtp_growth)
        return srtp_err_status_bad_param;
    struct heard *heard = heard_of(hearing, ssrc);
    if (!heard && !make_room(hearing))
        return srtp_err_status_alloc_fail;
    srtp_err_status_t status = kg_srtp_session_unprotect(&hearing->session, data, len);
    if (status == srtp_err_status_auth_fail &&
        (!heard || !heard->rtp || now_ms - heard->last_ms > KG_SRTP_LOST_MS))
        status = search(hearing, heard != NULL, known_roc, data, len);
    if (status == srtp_err_status_ok) {
        if (!heard)
            heard = add(hearing, ssrc);
        heard->rtp = true;
        heard->last_ms = now_ms;
    }
    return status;
}

static srtp_err_status_t hear_rtcp(struct hearing *hearing, uint8_t *data, size_t *len)
{
    uint32_t ssrc = get32(data + 4);
    if (*len < (size_t)RTCP_HEADER + hearing->session.rtcp_growth)
        return srtp_err_status_bad_param;
    bool known = heard_of(hearing, ssrc);
    if (!known && !make_room(hearing))
        return srtp_err_status_alloc_fail;
    srtp_err_status_t status = kg_srtp_session_unprotect_rtcp(&hearing->session, data, len);
    if (status == srtp_err_status_ok && !known)
        add(hearing, ssrc);
    return status;
}

/* While two sets of keys serve. */
static srtp_err_status_t receive_changing(struct kg_srtp *srtp, uint8_t *data, size_t *len, bool rtcp,
                                          int64_t now_ms)
{
    srtp_err_status_t status =
        rtcp ? hear_rtcp(&srtp->now, data, len)
             : hear(&srtp->now, roc_of(&srtp->before, get32(data + 8)), data, len, now_ms);
    if (status == srtp_err_status_ok) {
        if (srtp->before_until > now_ms + KG_SRTP_OVERLAP_MS)
            srtp->before_until = now_ms + KG_SRTP_OVERLAP_MS;
        return status;
    }
    srtp_err_status_t old =
        rtcp ? hear_rtcp(&srtp->before, data, len) : hear(&srtp->before, 0, data, len, now_ms);
    return old == srtp_err_status_ok || result_of(old) == KG_SRTP_REPLAY ? old : status;
}

static enum kg_srtp_result receive(struct kg_srtp *srtp, uint8_t *data, size_t *len, bool rtcp,
                                   int64_t now_ms)
{
    if (!srtp->can_receive)
        return KG_SRTP_NO_KEYS;
    if (srtp->before.session.srtp && now_ms >= srtp->before_until)
        hearing_close(&srtp->before);
    srtp_err_status_t status = srtp_err_status_bad_param;
    if (*len >= (rtcp ? RTCP_HEADER : RTP_HEADER) && *len <= UINT16_MAX && data[0] >> 6 == 2)
        status = srtp->before.session.srtp ? receive_changing(srtp, data, len, rtcp, now_ms)
                 : rtcp                    ? hear_rtcp(&srtp->now, data, len)
                                           : hear(&srtp->now, 0, data, len, now_ms);
    enum kg_srtp_result result = result_of(status);
    srtp->counts.bad += result == KG_SRTP_BAD;
    srtp->counts.replayed += result == KG_SRTP_REPLAY;
    return result;
}

enum kg_srtp_result kg_srtp_unprotect(struct kg_srtp *srtp, uint8_t *data, size_t *len, int64_t now_ms)
{
    return receive(srtp, data, len, false, now_ms);
}

enum kg_srtp_result kg_srtp_unprotect_rtcp(struct kg_srtp *srtp, uint8_t *data, size_t *len, int64_t now_ms)
{
    return receive(srtp, data, len, true, now_ms);
}

struct kg_srtp_counts kg_srtp_counts(const struct kg_srtp *srtp)
{
    return srtp->counts;
}
