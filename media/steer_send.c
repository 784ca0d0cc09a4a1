/* Our own checks, and requests that were kept. */
#include <string.h>

#include "media/steer_state.h"

/* Of our checks. The lowest of a relay candidate: it only counts if the peer does not know our port as a
 * candidate yet (RFC 8445 7.3.1.3). */
#define OUR_PRIORITY 255

static bool restarted(const struct kg_steer_credentials c[KG_STEER_GENERATIONS], int64_t now_ms)
{
    return kg_steer_counts(&c[KG_STEER_BEFORE], now_ms);
}

/* Our check stands for the other side: its role, if we know either's (RFC 8445 7.1.2). With the least
 * tie-breaker for controlling and the greatest for controlled the addressee keeps its role in every conflict
 * (7.3.1.1). */
static void put_role(struct kg_stun_writer *w, const struct kg_steer_peer *peer,
                     const struct kg_steer_peer *other, uint8_t *claimed)
{
    bool controlling = peer->role == KG_STEER_CONTROLLED ||
                       (peer->role == KG_STEER_ROLE_UNKNOWN && other->role == KG_STEER_CONTROLLING);

    *claimed = controlling ? KG_STEER_CONTROLLING : KG_STEER_CONTROLLED;
    if (controlling)
        kg_stun_put_u64(w, KG_STUN_ICE_CONTROLLING, 0);
    else
        kg_stun_put_u64(w, KG_STUN_ICE_CONTROLLED, UINT64_MAX);
}

static bool write_check(struct kg_steer *steer, enum kg_side side, struct kg_steer_source *source,
                        int64_t now_ms, struct kg_steer_datagram *out)
{
    const struct kg_steer_peer *peer = &steer->peer[side], *other = &steer->peer[kg_other_side(side)];
    struct kg_steer_names names = source->names;
    char user[2 * KG_ICE_CREDENTIAL_MAX + 1];
    const struct kg_steer_credentials *own, *its;
    struct kg_stun_writer w;
    /* What has never been answered is repeated with the same id, or answers that take longer than
     * KG_ICE_CHALLENGE_MS would all be too late. A consent check is a new one each time (RFC 7675 5.1). */
    bool repeated = source->waiting && !kg_steer_is_live(steer, source, now_ms) &&
                    now_ms - source->begun_ms < KG_STEER_ANSWER_MS;

    /* As in its latest request; in vain: the other way round, where a restart is under way. */
    if ((source->unanswered - repeated) % 2 == 1)
        names = (struct kg_steer_names){!names.own, !names.other};
    if (!restarted(peer->credentials, now_ms))
        names.own = KG_STEER_NOW;
    if (!restarted(other->credentials, now_ms))
        names.other = KG_STEER_NOW;
    own = &peer->credentials[names.own];
    its = &other->credentials[names.other];
    if (own->ufrag == NULL || its->ufrag == NULL || own->ufrag_len + its->ufrag_len >= sizeof user)
        return false;
    memcpy(user, own->ufrag, own->ufrag_len);
    user[own->ufrag_len] = ':';
    memcpy(user + own->ufrag_len + 1, its->ufrag, its->ufrag_len);

    if (!repeated) {
        steer->random(steer->random_ctx, source->id, KG_STUN_ID);
        source->begun_ms = now_ms;
    }
    kg_stun_begin(&w, out->data, sizeof out->data, KG_STUN_REQUEST, KG_STUN_BINDING, source->id);
    kg_stun_put(&w, KG_STUN_USERNAME, user, own->ufrag_len + 1 + its->ufrag_len);
    kg_stun_put_u32(&w, KG_STUN_PRIORITY, OUR_PRIORITY);
    put_role(&w, peer, other, &source->claimed);
    kg_stun_put_integrity(&w, own->pwd, own->pwd_len);
    kg_stun_put_fingerprint(&w);
    out->side = side;
    out->to = source->addr;
    out->len = kg_stun_end(&w);
    if (out->len == 0)
        return false;
    source->waiting = true;
    source->unanswered += !repeated && source->unanswered < UINT8_MAX;
    source->requests++;
    source->asked_ms = now_ms;
    return true;
}

static bool poll_checks(struct kg_steer *steer, enum kg_side side, int64_t now_ms,
                        struct kg_steer_datagram *out)
{
    struct kg_steer_peer *peer = &steer->peer[side];

    for (size_t i = 0; i < KG_STEER_SOURCES; i++) {
        struct kg_steer_source *source = &peer->source[i];
        if (source->state == KG_STEER_FREE || source->ask_ms > now_ms)
            continue;
        source->ask_ms = INT64_MAX;
        if (write_check(steer, side, source, now_ms, out))
            return true;
    }
    if (peer->target == KG_STEER_NONE || peer->consent_ms > now_ms)
        return false;
    peer->consent_ms = kg_steer_consent_at(steer, now_ms);
    peer->source[peer->target].again = false;
    return write_check(steer, side, &peer->source[peer->target], now_ms, out);
}

static bool is_ready(const struct kg_steer *steer, enum kg_side side)
{
    const struct kg_steer_peer *peer = &steer->peer[side];

    return peer->kept.len > 0 &&
           (peer->kept.unplaced ? kg_steer_is_described(peer)
                                : steer->peer[kg_other_side(side)].target != KG_STEER_NONE);
}

/* The kept request is taken once more, as if it came now; but one request is vouched for once. */
static bool poll_kept(struct kg_steer *steer, enum kg_side side, int64_t now_ms,
                      struct kg_steer_datagram *out)
{
    struct kg_steer_kept *kept = &steer->peer[side].kept;
    struct kg_addr source = kept->source;
    const struct kg_addr *to = NULL;
    bool moved, owed = steer->peer[side].vouch.owed;
    enum kg_steer_verdict verdict;

    if (!is_ready(steer, side))
        return false;
    out->len = kept->len;
    memcpy(out->data, kept->data, kept->len);
    kept->len = 0;
    if (now_ms - kept->ms > KG_STEER_KEPT_MS)
        return false;
    verdict = kg_steer_receive(steer, side, &source, out->data, out->len, now_ms, &to, &moved);
    steer->peer[side].vouch.owed = owed;
    if (verdict != KG_STEER_FORWARD)
        return false;
    out->side = kg_other_side(side);
    out->to = *to;
    return true;
}

/* ---- vouching for a side that has not come yet ---- */

static bool owes_vouch(const struct kg_steer *steer, enum kg_side side)
{
    const struct kg_steer_peer *peer = &steer->peer[side];
    int at = peer->vouch.owed ? kg_steer_find(peer, &peer->vouch.source) : KG_STEER_NONE;

    return at != KG_STEER_NONE && peer->source[at].state == KG_STEER_VERIFIED &&
           !steer->peer[kg_other_side(side)].came;
}

/* The port of ours that the side would see as the source of a check passed on to it; unknown: the asker. */
static struct kg_addr seen_by(const struct kg_steer_peer *peer, const struct kg_addr *asker)
{
    struct kg_addr port = kg_addr_is_set(&peer->advertised) ? peer->advertised : peer->bound;

    if (!kg_addr_is_set(&peer->bound) || kg_addr_is_any(&port))
        return *asker;
    kg_addr_set_port(&port, kg_addr_port(&peer->bound));
    return port;
}

static bool poll_vouch(struct kg_steer *steer, enum kg_side side, int64_t now_ms,
                       struct kg_steer_datagram *out)
{
    struct kg_steer_vouch *vouch = &steer->peer[side].vouch;
    const struct kg_steer_peer *other = &steer->peer[kg_other_side(side)];
    const struct kg_steer_credentials *its = &other->credentials[KG_STEER_NOW];
    struct kg_addr mapped = seen_by(other, &vouch->source);
    int64_t described_ms = other->described_ms;
    struct kg_stun_writer w;

    if (!owes_vouch(steer, side) || vouch->at_ms > now_ms)
        return false;
    vouch->owed = false;
    if (steer->peer[side].described_ms > described_ms)
        described_ms = steer->peer[side].described_ms;
    if (now_ms - described_ms >= KG_STEER_VOUCH_MS ||
        !kg_steer_is_verified(steer, side, &vouch->source, now_ms))
        return false;
    kg_stun_begin(&w, out->data, sizeof out->data, KG_STUN_SUCCESS, KG_STUN_BINDING, vouch->id);
    kg_stun_put_address(&w, KG_STUN_XOR_MAPPED_ADDRESS, &mapped);
    kg_stun_put_integrity(&w, its->pwd, its->pwd_len);
    kg_stun_put_fingerprint(&w);
    out->side = side;
    out->to = vouch->source;
    out->len = kg_stun_end(&w);
    return out->len > 0;
}

bool kg_steer_poll(struct kg_steer *steer, int64_t now_ms, struct kg_steer_datagram *out)
{
    for (unsigned s = 0; s < 2; s++)
        kg_steer_replace_expired(steer, &steer->peer[s], now_ms);
    for (unsigned s = 0; s < 2; s++)
        if (poll_kept(steer, s, now_ms, out) || poll_vouch(steer, s, now_ms, out))
            return true;
    for (unsigned s = 0; s < 2; s++)
        if (poll_checks(steer, s, now_ms, out))
            return true;
    return false;
}

int64_t kg_steer_next_ms(const struct kg_steer *steer)
{
    int64_t next_ms = INT64_MAX;

    for (unsigned s = 0; s < 2; s++) {
        const struct kg_steer_peer *peer = &steer->peer[s];
        if (is_ready(steer, s))
            return peer->kept.ms;
        if (owes_vouch(steer, s) && peer->vouch.at_ms < next_ms)
            next_ms = peer->vouch.at_ms;
        for (size_t i = 0; i < KG_STEER_SOURCES; i++)
            if (peer->source[i].state != KG_STEER_FREE && peer->source[i].ask_ms < next_ms)
                next_ms = peer->source[i].ask_ms;
        if (peer->target == KG_STEER_NONE || steer->consent_ms == 0)
            continue;
        if (peer->consent_ms < next_ms)
            next_ms = peer->consent_ms;
        if (peer->source[peer->target].proven_ms + steer->proof_ms < next_ms)
            next_ms = peer->source[peer->target].proven_ms + steer->proof_ms;
    }
    return next_ms;
}
