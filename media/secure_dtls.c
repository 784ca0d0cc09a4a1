/* DTLS of legs that are secured: whom it hears, when it begins, what becomes of it. */
#include <stdlib.h>
#include <string.h>

#include "media/relay_ice.h"
#include "media/secure.h"

static struct kg_flow *flow_of(struct kg_leg *leg, unsigned component)
{
    return component == 1 ? &leg->rtcp : &leg->rtp;
}

/* ---- beginnings and ends ---- */

void kg_association_reset(struct kg_association *a)
{
    kg_dtls_free(a->dtls);
    kg_dtls_free(a->rival);
    *a = (struct kg_association){.dtls = NULL};
}

static bool may_try(const struct kg_association *a, int64_t now_ms)
{
    return a->tries < KG_DTLS_TRIES || now_ms - a->tried_ms >= KG_DTLS_AGAIN_MS;
}

static void count_try(struct kg_association *a, int64_t now_ms)
{
    a->tries += a->tries < KG_DTLS_TRIES;
    a->tried_ms = now_ms;
}

static struct kg_dtls *make(const struct kg_flow *flow, bool active, const struct kg_limits *limits,
                            int64_t now_ms)
{
    const struct kg_leg_secure *secure = flow->leg->secure;
    if (!may_try(kg_association_of(flow), now_ms) || secure->dtls->identity == NULL)
        return NULL;
    struct kg_dtls *dtls = kg_dtls_new(&(struct kg_dtls_settings){.identity = secure->dtls->identity,
                                                                  .active = active,
                                                                  .proven = flow->ice != KG_ICE_UNUSED,
                                                                  .secret = limits->dtls_secret});
    if (dtls && secure->dtls->fingerprint_count > 0)
        kg_dtls_expect(dtls, secure->dtls->fingerprint, secure->dtls->fingerprint_count);
    return dtls;
}

static void use(struct kg_association *a, struct kg_dtls *dtls, bool active)
{
    kg_dtls_free(a->dtls);
    a->dtls = dtls;
    a->active = active;
    a->installed = false;
    a->peer = (struct kg_addr){0};
}

static void start(struct kg_flow *flow, const struct kg_limits *limits, int64_t now_ms)
{
    struct kg_association *a = kg_association_of(flow);
    struct kg_dtls *dtls = make(flow, true, limits, now_ms);
    a->retry_ms = now_ms + KG_DTLS_RETRY_MS;
    if (dtls == NULL)
        return;
    use(a, dtls, true);
    count_try(a, now_ms);
    kg_dtls_start(dtls, now_ms);
}

void kg_association_described(struct kg_flow *flow, bool other_peer)
{
    const struct kg_leg_secure *secure = flow->leg->secure;
    struct kg_association *a = kg_association_of(flow);
    if (a->dtls == NULL)
        return;
    bool wrong_role = a->active ? secure->setup == KG_SETUP_PASSIVE : secure->setup == KG_SETUP_ACTIVE;
    if (kg_dtls_state(a->dtls) == KG_DTLS_IDLE && wrong_role) {
        kg_association_reset(a);
        return;
    }
    if (secure->dtls->fingerprint_count == 0)
        return;
    kg_dtls_expect(a->dtls, secure->dtls->fingerprint, secure->dtls->fingerprint_count);
    if (a->rival)
        kg_dtls_expect(a->rival, secure->dtls->fingerprint, secure->dtls->fingerprint_count);
    /* Signalling names another peer than the one that we are talking with: RFC 8842 4 calls that a new
     * association, whatever its number is. */
    if (other_peer && kg_dtls_state(a->dtls) == KG_DTLS_FAILED)
        kg_association_reset(a);
}

/* ---- who is heard ---- */

static bool does_dtls(const struct kg_flow *flow)
{
    const struct kg_leg *leg = flow->leg;
    return leg->secure && leg->secure->use == KG_SECURE_DTLS && leg->secure->dtls && leg->carrier == NULL &&
           leg->described && leg->enabled && !(flow->rtcp && leg->rtcp_mux);
}

static enum kg_proof rank_of(const struct kg_flow *in, const struct kg_addr *source)
{
    if (in->latch.proof != KG_PROOF_NONE && kg_latch_same_source(&in->latch.remote, source))
        return (enum kg_proof)in->latch.proof;
    return kg_latch_rank(&in->rules, source);
}

static bool was_refused(const struct kg_association *a, const struct kg_addr *source)
{
    for (unsigned i = 0; i < a->refused_count; i++)
        if (kg_addr_equal(&a->refused[i], source))
            return true;
    return false;
}

static void refuse(struct kg_association *a)
{
    if (!kg_addr_is_set(&a->peer))
        return;
    a->refused[a->refused_at++ % KG_DTLS_REFUSED] = a->peer;
    a->refused_count += a->refused_count < KG_DTLS_REFUSED;
}

/* Another source than the peer of a handshake under way. It takes over where it is the better one, or the
 * peer came to nothing. Who waits to be verified came to something. */
static bool may_take_over(const struct kg_flow *in, const struct kg_association *a,
                          const struct kg_addr *source, int64_t now_ms)
{
    bool stalled = kg_dtls_state(a->dtls) == KG_DTLS_HANDSHAKE &&
                   (now_ms - a->heard_ms >= KG_DTLS_STALL_MS || now_ms - a->tried_ms >= KG_DTLS_HOLD_MS);
    return !a->installed && (stalled || rank_of(in, source) > rank_of(in, &a->peer));
}

static bool is_heard(struct kg_flow *in, const struct kg_addr *source, int64_t now_ms)
{
    if (in->latch.proof != KG_PROOF_NONE && kg_latch_same_source(&in->latch.remote, source))
        return true;
    if (in->ice)
        return kg_relay_ice_is_proven(in, source, now_ms);
    return rank_of(in, source) > KG_PROOF_NONE && !was_refused(kg_association_of(in), source);
}

/* Whose handshake is it? Everybody's until a cookie came back, and where ICE has proven the source. */
static bool is_peer(const struct kg_flow *in, const struct kg_association *a, const struct kg_addr *source)
{
    return in->ice || a->active || kg_dtls_state(a->dtls) == KG_DTLS_IDLE ||
           kg_latch_same_source(&a->peer, source) ||
           (in->latch.proof == KG_PROOF_SRTP && kg_latch_same_source(&in->latch.remote, source));
}

static void to_peer(struct kg_flow *in, const struct kg_datagram *d, int64_t now_ms)
{
    struct kg_association *a = kg_association_of(in);
    enum kg_dtls_state before = kg_dtls_state(a->dtls);
    kg_dtls_receive(a->dtls, d->data, d->len, d->source, kg_addr_len(d->source), now_ms);
    enum kg_dtls_state after = kg_dtls_state(a->dtls);
    if (!a->active && before == KG_DTLS_IDLE) {
        a->peer = *d->source; /* until its cookie came back it may be anybody next */
        if (after != KG_DTLS_IDLE)
            count_try(a, now_ms);
    } else if (a->active && before == KG_DTLS_HANDSHAKE && after != KG_DTLS_HANDSHAKE) {
        a->peer = *d->source;
    }
    a->heard_ms = now_ms;
}

static void to_rival(struct kg_flow *in, const struct kg_datagram *d, int64_t now_ms)
{
    struct kg_association *a = kg_association_of(in);
    a->rival_peer = *d->source;
    kg_dtls_receive(a->rival, d->data, d->len, d->source, kg_addr_len(d->source), now_ms);
    if (kg_dtls_state(a->rival) == KG_DTLS_IDLE)
        return;
    use(a, a->rival, false);
    a->rival = NULL;
    a->peer = a->rival_peer;
    count_try(a, now_ms);
    a->heard_ms = now_ms;
}

static bool take(struct kg_flow *in, const struct kg_datagram *d, const struct kg_limits *limits,
                 int64_t now_ms)
{
    struct kg_association *a = kg_association_of(in);
    const struct kg_leg *leg = in->leg;
    bool passive = leg->secure->setup == KG_SETUP_PASSIVE || leg->secure->setup == KG_SETUP_ACTPASS;
    if (a->dtls == NULL && passive)
        a->dtls = make(in, false, limits, now_ms);
    if (a->dtls == NULL)
        return false;
    if (is_peer(in, a, d->source)) {
        to_peer(in, d, now_ms);
    } else if (may_take_over(in, a, d->source, now_ms)) {
        if (a->rival == NULL)
            a->rival = make(in, false, limits, now_ms);
        if (a->rival == NULL)
            return false;
        to_rival(in, d, now_ms);
    } else {
        return false;
    }
    if (kg_dtls_state(a->dtls) != KG_DTLS_IDLE)
        leg->stream->relay->handshakes++;
    leg->stream->relay->touched = true;
    return true;
}

bool kg_secure_dtls_receive(struct kg_flow *in, const struct kg_datagram *d, const struct kg_limits *limits,
                            int64_t now_ms)
{
    if ((in->rtcp && in->leg->rtcp_mux) || in->leg->secure->dtls == NULL)
        return false;
    if (is_heard(in, d->source, now_ms))
        return take(in, d, limits, now_ms);
    /* The phone's check of this path was answered; ours is still on its way. */
    return in->ice && !kg_association_of(in)->installed && kg_secure_keep_hello(in, d);
}

void kg_secure_forget_hellos(struct kg_leg_secure *secure)
{
    while (secure->early) {
        struct kg_early_hello *first = secure->early;
        secure->early = first->next;
        free(first);
    }
}

bool kg_secure_keep_hello(struct kg_flow *in, const struct kg_datagram *d)
{
    struct kg_leg *leg = in->leg;
    if (in->rtcp || d->len > KG_DTLS_DATAGRAM_MAX || !kg_demux_is_handshake(d->data, d->len, KG_PACKET_DTLS))
        return false;
    if (leg->secure == NULL && (leg->secure = calloc(1, sizeof *leg->secure)) == NULL)
        return false;
    leg->stream->relay->secured = true;
    if (leg->secure->early && !kg_latch_same_source(&leg->secure->early->source, d->source))
        kg_secure_forget_hellos(leg->secure);
    unsigned count = 0;
    struct kg_early_hello **last = &leg->secure->early;
    for (; *last; last = &(*last)->next)
        count++;
    struct kg_early_hello *early = count < KG_EARLY_MAX ? malloc(sizeof *early + d->len) : NULL;
    if (early == NULL)
        return false;
    *early = (struct kg_early_hello){.source = *d->source, .len = d->len};
    memcpy(early->data, d->data, d->len);
    *last = early;
    return true;
}

static void hear_early(struct kg_leg *leg, const struct kg_limits *limits, int64_t now_ms)
{
    struct kg_leg_secure *secure = leg->secure;
    bool heard = does_dtls(&leg->rtp) && is_heard(&leg->rtp, &secure->early->source, now_ms);
    if (!heard && leg->rtp.ice && does_dtls(&leg->rtp))
        return; /* once ICE has proven its source */
    for (struct kg_early_hello *early = secure->early; heard && early; early = early->next) {
        struct kg_datagram d = {
            .data = early->data, .len = early->len, .room = early->len, .source = &early->source};
        take(&leg->rtp, &d, limits, now_ms);
    }
    kg_secure_forget_hellos(secure);
}

/* ---- what becomes of it ---- */

static void tell(struct kg_flow *flow, bool secured, const char *reason)
{
    struct kg_association *a = kg_association_of(flow);
    a->untold = flow->leg->stream->relay->untold = true;
    a->secured = secured;
    a->reason = reason;
    a->failed_ms = 0;
}

static void install(struct kg_flow *flow, const struct kg_limits *limits, int64_t now_ms)
{
    struct kg_leg_secure *secure = flow->leg->secure;
    struct kg_association *a = kg_association_of(flow);
    struct kg_srtp *srtp = secure->keyed[flow->rtcp ? 1 : 0];
    struct kg_srtp_keys send, receive;
    a->installed = true;
    kg_srtp_begin_anew(srtp); /* and so does the peer: a new association begins with index 0 */
    bool good = kg_dtls_keys(a->dtls, &send, &receive) && kg_srtp_set_send(srtp, &send, now_ms) == 0 &&
                kg_srtp_set_receive(srtp, &receive, now_ms) == 0;
    kg_srtp_keys_clear(&send);
    kg_srtp_keys_clear(&receive);
    tell(flow, good, good ? NULL : "the keys of a DTLS association could not be used: out of memory");
    /* Who completed the handshake is there, and has the right certificate: better than what only signalling
     * makes plausible. Where SRTP or ICE has proven a place, that stands. */
    if (good && !flow->ice && flow->latch.proof < KG_PROOF_SRTP && kg_addr_is_set(&a->peer) &&
        kg_latch_genuine(&flow->latch, &limits->latch, &a->peer, true, now_ms) == KG_LATCH_MOVED)
        kg_relay_moved(flow, now_ms);
}

/* The wrong certificate where only the phone itself can be? Otherwise the phone may still come, or come
 * again: a forged message in the middle of a handshake breaks it, and its sender's address says nothing of
 * him. */
static void fail(struct kg_flow *flow, int64_t now_ms)
{
    struct kg_association *a = kg_association_of(flow);
    const char *reason = kg_dtls_reason(a->dtls);
    bool stranger = kg_dtls_is_stranger(a->dtls);
    bool sure = stranger && (a->active || flow->ice || rank_of(flow, &a->peer) >= KG_PROOF_SDP);
    if (stranger && !flow->ice && !a->active)
        refuse(a);
    use(a, NULL, false);
    a->retry_ms = now_ms + KG_DTLS_RETRY_MS;
    if (sure) {
        tell(flow, false, reason);
    } else if (a->failed_ms == 0) {
        a->failed_ms = now_ms;
        a->reason = reason;
    }
}

/* Where its datagrams go: NULL: nowhere yet. */
static const struct kg_addr *address_of(const struct kg_flow *flow)
{
    const struct kg_association *a = kg_association_of(flow);
    const struct kg_addr *target = kg_latch_target(&flow->latch, &flow->rules);
    if (target && (flow->ice || !kg_addr_is_set(&a->peer) || flow->latch.proof == KG_PROOF_SRTP))
        return target;
    return kg_addr_is_set(&a->peer) ? &a->peer : NULL;
}

static bool wants_to_begin(const struct kg_flow *flow)
{
    const struct kg_leg_secure *secure = flow->leg->secure;
    const struct kg_association *a = kg_association_of(flow);
    return a->dtls == NULL && secure->setup == KG_SETUP_ACTIVE && secure->dtls->identity &&
           kg_latch_target(&flow->latch, &flow->rules);
}

static bool poll_flow(struct kg_flow *flow, const struct kg_limits *limits, int64_t now_ms,
                      struct kg_secure_out *out)
{
    struct kg_association *a = kg_association_of(flow);
    out->flow = flow;
    if (a->rival && kg_dtls_poll(a->rival, now_ms, out->data, &out->len)) {
        out->to = a->rival_peer;
        return true;
    }
    if (now_ms >= a->retry_ms && wants_to_begin(flow))
        start(flow, limits, now_ms);
    while (a->dtls && kg_dtls_poll(a->dtls, now_ms, out->data, &out->len)) {
        const struct kg_addr *to = address_of(flow);
        if (to == NULL)
            continue;
        out->to = *to;
        return true;
    }
    if (a->dtls == NULL)
        return false;
    enum kg_dtls_state state = kg_dtls_state(a->dtls);
    if (state == KG_DTLS_FAILED)
        fail(flow, now_ms);
    else if (state == KG_DTLS_ESTABLISHED && !a->installed)
        install(flow, limits, now_ms);
    return false;
}

/* When a failure is told, if the phone has not come; INT64_MAX: there is none. */
static int64_t tell_ms(const struct kg_association *a)
{
    bool contest = a->refused_count > 1 || (a->dtls && kg_dtls_state(a->dtls) == KG_DTLS_HANDSHAKE);
    if (a->failed_ms == 0 || a->installed)
        return INT64_MAX;
    return a->failed_ms + (contest ? KG_DTLS_CONTEST_MS : KG_DTLS_PATIENCE_MS);
}

bool kg_secure_poll(struct kg_relay *relay, const struct kg_limits *limits, int64_t now_ms,
                    struct kg_secure_out *out)
{
    for (unsigned i = 0; relay->secured && i < 4u * relay->stream_count; i++) {
        struct kg_stream *stream = relay->stream[i / 4];
        struct kg_flow *flow = stream ? flow_of(&stream->leg[i % 2], i / 2 % 2) : NULL;
        if (flow && flow->leg->described && flow->leg->secure && flow->leg->secure->early)
            hear_early(flow->leg, limits, now_ms);
        if (flow == NULL || !does_dtls(flow))
            continue;
        if (now_ms >= tell_ms(kg_association_of(flow)))
            tell(flow, false, kg_association_of(flow)->reason);
        if (poll_flow(flow, limits, now_ms, out))
            return true;
    }
    return false;
}

static int64_t flow_next_ms(const struct kg_flow *flow)
{
    const struct kg_association *a = kg_association_of(flow);
    int64_t next = a->dtls ? kg_dtls_next_ms(a->dtls) : INT64_MAX;
    if (a->retry_ms < next && wants_to_begin(flow))
        next = a->retry_ms;
    return tell_ms(a) < next ? tell_ms(a) : next;
}

int64_t kg_secure_next_ms(const struct kg_relay *relay)
{
    int64_t next = INT64_MAX;
    for (unsigned i = 0; relay->secured && i < 4u * relay->stream_count; i++) {
        struct kg_stream *stream = relay->stream[i / 4];
        struct kg_flow *flow = stream ? flow_of(&stream->leg[i % 2], i / 2 % 2) : NULL;
        int64_t at = flow && does_dtls(flow) ? flow_next_ms(flow) : INT64_MAX;
        next = at < next ? at : next;
    }
    return next;
}

bool kg_secure_is_dear(const struct kg_flow *flow)
{
    return does_dtls(flow) && !kg_association_of(flow)->installed;
}
