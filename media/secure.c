/* Packets of legs that are secured: opened before anything is learnt from them, sealed before they leave. */
#include "media/secure.h"

#include "media/rtcp.h"
#include "media/rtp.h"

/* The session that serves this flow: lines that share a transport (bundle.h) share its keys. */
static struct kg_srtp *session_of(const struct kg_flow *flow)
{
    const struct kg_leg_secure *secure = flow->leg->secure;
    return secure->use == KG_SECURE_SDES ? secure->sdes : secure->keyed[flow->rtcp ? 1 : 0];
}

/* The replay window of these keys was lost with another engine: what comes from elsewhere may be an old
 * recording. */
static bool may_be_replayed(const struct kg_flow *in, const struct kg_datagram *d)
{
    const struct kg_lost_keys *lost = in->leg->secure->lost;
    return lost && lost->receive.suite != KG_SRTP_NONE && !in->ice &&
           (in->latch.proof == KG_PROOF_NONE || !kg_latch_same_source(&in->latch.remote, d->source));
}

static enum kg_opened unprotect(struct kg_flow *in, struct kg_datagram *d, bool rtcp, int64_t now_ms)
{
    struct kg_srtp *srtp = session_of(in);
    if (srtp == NULL || d->len < (rtcp ? KG_RTCP_HEADER : KG_RTP_HEADER_MIN) || may_be_replayed(in, d))
        return KG_OPEN_REFUSED;
    enum kg_srtp_result result = rtcp ? kg_srtp_unprotect_rtcp(srtp, d->data, &d->len, now_ms)
                                      : kg_srtp_unprotect(srtp, d->data, &d->len, now_ms);
    d->genuine = result == KG_SRTP_OK;
    return d->genuine ? KG_OPEN : KG_OPEN_REFUSED;
}

enum kg_opened kg_secure_open(struct kg_flow *in, struct kg_datagram *d, enum kg_packet_kind kind,
                              const struct kg_limits *limits, int64_t now_ms)
{
    const struct kg_leg_secure *secure = in->leg->secure;
    if (secure->use == KG_SECURE_PASS || secure->use == KG_SECURE_PLAIN)
        return KG_OPEN;
    if (in->leg->stream->any_payload && !in->rtcp) /* UDPTL has no keys */
        return KG_OPEN_REFUSED;
    switch (kind) {
    case KG_PACKET_RTP:
        return in->rtcp ? KG_OPEN_REFUSED : unprotect(in, d, false, now_ms);
    case KG_PACKET_RTCP:
        return unprotect(in, d, true, now_ms);
    case KG_PACKET_DTLS:
        return secure->use == KG_SECURE_DTLS && kg_secure_dtls_receive(in, d, limits, now_ms)
                   ? KG_OPEN_TAKEN
                   : KG_OPEN_REFUSED;
    default: /* STUN is its agent's; what is left is nobody's */
        return KG_OPEN_REFUSED;
    }
}

static enum kg_secure_use use_of(const struct kg_leg *leg)
{
    return leg->secure ? (enum kg_secure_use)leg->secure->use : KG_SECURE_PASS;
}

static bool is_keyed(enum kg_secure_use use)
{
    return use == KG_SECURE_SDES || use == KG_SECURE_DTLS;
}

bool kg_secure_seal(struct kg_leg *from, struct kg_flow *out, struct kg_datagram *d, enum kg_packet_kind kind)
{
    struct kg_leg_secure *secure = d->to->secure;
    enum kg_secure_use use = use_of(out->leg), came_as = use_of(from);
    /* What ends here on one side only was never meant to leave in the clear, or sealed twice; nor do lines
     * that share a transport differ. */
    if ((is_keyed(came_as) && use == KG_SECURE_PASS) || (is_keyed(use) && came_as == KG_SECURE_PASS) ||
        use != use_of(d->to)) {
        from->dropped++;
        return false;
    }
    if (use == KG_SECURE_PASS)
        return true;
    bool rtcp = kind == KG_PACKET_RTCP;
    bool media = (rtcp || kind == KG_PACKET_RTP) && (!out->leg->stream->any_payload || out->rtcp);
    if (media && rtcp && !secure->feedback)
        d->len = kg_rtcp_without_feedback(d->data, d->len);
    if (d->len == 0)
        return false;
    if (use == KG_SECURE_PLAIN)
        return true;
    struct kg_srtp *srtp = session_of(out);
    enum kg_srtp_result result = KG_SRTP_NO_KEYS;
    if (media && srtp)
        result = rtcp ? kg_srtp_protect_rtcp(srtp, d->data, &d->len, d->room)
                      : kg_srtp_protect(srtp, d->data, &d->len, d->room);
    if (result != KG_SRTP_OK)
        secure->unsent++;
    return result == KG_SRTP_OK;
}
