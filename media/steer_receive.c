/* A STUN message on one of our ports: verified, passed on, kept or dropped. */
#include <string.h>

#include "ice/stun/integrity.h"
#include "media/steer_state.h"

/* USERNAME "<ufrag of the addressee>:<ufrag of the sender>" (RFC 8445 7.2.2): which credentials of `to` and
 * `from` these are. from may be undescribed: then any name of it will do. */
static bool match_names(const struct kg_stun_value *user, const struct kg_steer_peer *from,
                        const struct kg_steer_peer *to, int64_t now_ms, struct kg_steer_names *out)
{
    for (unsigned t = 0; t < KG_STEER_GENERATIONS; t++) {
        const struct kg_steer_credentials *c = &to->credentials[t];
        size_t skip = c->ufrag_len + 1;

        if (!kg_steer_counts(c, now_ms) || user->len <= skip ||
            memcmp(user->data, c->ufrag, c->ufrag_len) != 0 || user->data[c->ufrag_len] != ':')
            continue;
        for (unsigned f = 0; f < KG_STEER_GENERATIONS; f++) {
            const struct kg_steer_credentials *own = &from->credentials[f];

            *out = (struct kg_steer_names){.own = (uint8_t)f, .other = (uint8_t)t};
            if (!kg_steer_is_described(from) ||
                (kg_steer_counts(own, now_ms) && user->len - skip == own->ufrag_len &&
                 memcmp(user->data + skip, own->ufrag, own->ufrag_len) == 0))
                return true;
        }
    }
    return false;
}

static bool is_right(const struct kg_stun_message *message, const struct kg_steer_credentials *c)
{
    return kg_stun_check_integrity(message, c->pwd, c->pwd_len) == KG_STUN_INTEGRITY_RIGHT;
}

/* A response is made with the responder's own password, old or new: which generation, or KG_STEER_NONE. */
static int answered_as(const struct kg_steer_peer *peer, const struct kg_stun_message *message,
                       int64_t now_ms)
{
    for (int g = 0; g < KG_STEER_GENERATIONS; g++)
        if (kg_steer_counts(&peer->credentials[g], now_ms) && is_right(message, &peer->credentials[g]))
            return g;
    return KG_STEER_NONE;
}

/* ---- requests ---- */

/* Our own check, sent back to us by its addressee: it would be a valid one of the other side. */
static bool is_reflected(const struct kg_steer *steer, const uint8_t *id)
{
    for (size_t s = 0; s < 2; s++)
        for (size_t i = 0; i < KG_STEER_SOURCES; i++)
            if (steer->peer[s].source[i].waiting && memcmp(steer->peer[s].source[i].id, id, KG_STUN_ID) == 0)
                return true;
    return false;
}

static void keep(struct kg_steer_peer *peer, const struct kg_addr *source,
                 const struct kg_stun_message *message, bool unplaced, int64_t now_ms)
{
    if (message->len > KG_STEER_KEPT_MAX)
        return;
    peer->kept = (struct kg_steer_kept){
        .source = *source, .len = (uint16_t)message->len, .unplaced = unplaced, .ms = now_ms};
    memcpy(peer->kept.data, message->data, message->len);
}

/* A request goes to a source that is known by the very credentials it names (after a restart, and when a
 * forked call has been described by another branch), else to the target. */
static int destination(const struct kg_steer *steer, const struct kg_steer_peer *peer, uint8_t generation,
                       int64_t now_ms)
{
    int best = peer->target;

    if (best == KG_STEER_NONE || peer->source[best].names.own == generation)
        return best;
    for (int i = 0; i < KG_STEER_SOURCES; i++) {
        const struct kg_steer_source *s = &peer->source[i];
        if (kg_steer_is_live(steer, s, now_ms) && s->names.own == generation &&
            (best == peer->target || s->proven_ms > peer->source[best].proven_ms))
            best = i;
    }
    return best;
}

/* A request that a verified source has made a while ago comes from one that is not: somebody overheard it. (A
 * NAT that gave the phone another port in mid-transaction looks the same; its next request tells.) */
static bool is_replayed(const struct kg_steer *steer, enum kg_side side, const struct kg_addr *addr,
                        const uint8_t *id, int64_t now_ms)
{
    const struct kg_steer_peer *peer = &steer->peer[side];

    for (size_t i = 0; i < KG_STEER_PENDING; i++) {
        const struct kg_steer_pending *p = &steer->pending[i];
        if (p->ms != 0 && p->side == side && now_ms - p->ms < KG_STEER_PENDING_MS &&
            memcmp(p->id, id, KG_STUN_ID) == 0 && kg_steer_is_live(steer, &peer->source[p->from], now_ms) &&
            !kg_steer_is_verified(steer, side, addr, now_ms))
            return true;
    }
    return false;
}

static void remember(struct kg_steer *steer, enum kg_side side, const struct kg_stun_message *message,
                     int from, int to, int64_t now_ms)
{
    struct kg_steer_pending *oldest = &steer->pending[0];

    for (size_t i = 0; i < KG_STEER_PENDING; i++) {
        struct kg_steer_pending *p = &steer->pending[i];
        if (p->ms != 0 && p->side == side && p->from == from && p->to == to &&
            memcmp(p->id, message->id, KG_STUN_ID) == 0) {
            p->owed += p->owed < UINT8_MAX;
            p->ms = now_ms;
            return;
        }
        if ((p->owed == 0) != (oldest->owed == 0) ? p->owed == 0 : p->ms < oldest->ms)
            oldest = p;
    }
    *oldest = (struct kg_steer_pending){
        .side = (uint8_t)side,
        .from = (uint8_t)from,
        .to = (uint8_t)to,
        .owed = 1,
        .nominates = kg_stun_find(message, KG_STUN_USE_CANDIDATE) != NULL,
        .ms = now_ms,
    };
    memcpy(oldest->id, message->id, KG_STUN_ID);
}

/* The newest of a side that has not answered yet: without a verified one, it is worth another try. */
static void ask_newest(struct kg_steer_peer *peer, int64_t now_ms)
{
    int newest = KG_STEER_NONE;

    for (int i = 0; i < KG_STEER_SOURCES; i++)
        if (peer->source[i].state != KG_STEER_FREE &&
            (newest == KG_STEER_NONE || peer->source[i].seen_ms > peer->source[newest].seen_ms))
            newest = i;
    if (newest != KG_STEER_NONE)
        kg_steer_ask_if_quiet(&peer->source[newest], now_ms);
}

/* Nothing has come from the other side under its present credentials, so it cannot answer this check. */
static void owe_vouch(struct kg_steer *steer, enum kg_side side, const struct kg_addr *addr,
                      const struct kg_steer_names *names, const struct kg_stun_message *message,
                      int64_t now_ms)
{
    struct kg_steer_vouch *vouch = &steer->peer[side].vouch;
    const struct kg_steer_peer *other = &steer->peer[kg_other_side(side)];

    if (other->came || other->missed || names->own != KG_STEER_NOW || names->other != KG_STEER_NOW ||
        kg_stun_find(message, KG_STUN_USE_CANDIDATE) != NULL)
        return;
    vouch->source = *addr;
    memcpy(vouch->id, message->id, KG_STUN_ID);
    vouch->owed = true;
    vouch->at_ms = now_ms + KG_STEER_VOUCH_AFTER_MS;
}

static enum kg_steer_verdict take_request(struct kg_steer *steer, enum kg_side side,
                                          const struct kg_addr *addr, const struct kg_stun_message *message,
                                          int64_t now_ms, const struct kg_addr **to)
{
    struct kg_steer_peer *peer = &steer->peer[side], *other = &steer->peer[kg_other_side(side)];
    const struct kg_stun_value *user = kg_stun_find(message, KG_STUN_USERNAME);
    struct kg_steer_source *source;
    struct kg_steer_names names;
    int from, at;

    if (user == NULL || !match_names(user, peer, other, now_ms, &names) ||
        !is_right(message, &other->credentials[names.other]) || is_reflected(steer, message->id) ||
        is_replayed(steer, side, addr, message->id, now_ms))
        return KG_STEER_DROP;
    if (!kg_steer_is_described(peer)) {
        keep(peer, addr, message, true, now_ms);
        return KG_STEER_KEPT;
    }

    if (names.own == KG_STEER_NOW && kg_stun_find(message, KG_STUN_ICE_CONTROLLING) != NULL)
        peer->role = KG_STEER_CONTROLLING;
    else if (names.own == KG_STEER_NOW && kg_stun_find(message, KG_STUN_ICE_CONTROLLED) != NULL)
        peer->role = KG_STEER_CONTROLLED;
    from = kg_steer_find_or_add(steer, side, addr);
    source = &peer->source[from];
    source->seen_ms = now_ms;
    source->names = names;
    if (!kg_steer_is_live(steer, source, now_ms))
        kg_steer_ask_if_quiet(source, now_ms);
    owe_vouch(steer, side, addr, &names, message, now_ms);

    at = destination(steer, other, names.other, now_ms);
    if (at == KG_STEER_NONE) {
        ask_newest(other, now_ms);
        keep(peer, addr, message, false, now_ms);
        return KG_STEER_KEPT;
    }
    remember(steer, side, message, from, at, now_ms);
    *to = &other->source[at].addr;
    return KG_STEER_FORWARD;
}

/* ---- responses ---- */

/* What the peer saw as the source of our check is our port as it was told, or that behind NAT64 (RFC
 * 6052 2.2: the IPv4 address stands last). Otherwise somebody handed the check on, and the answer back. */
static bool saw_our_port(const struct kg_steer_peer *peer, const struct kg_stun_message *message)
{
    const struct kg_addr *known[] = {&peer->bound, &peer->advertised};
    struct kg_addr mapped;

    if (!kg_addr_is_set(&peer->bound))
        return true;
    if (!kg_stun_get_address(message, KG_STUN_XOR_MAPPED_ADDRESS, &mapped) ||
        kg_addr_port(&mapped) != kg_addr_port(&peer->bound))
        return false;
    for (size_t i = 0; i < 2; i++) {
        if (kg_addr_same_host(&mapped, known[i]) || (i == 0 && kg_addr_is_any(known[i])))
            return true;
        if (kg_addr_family(known[i]) == AF_INET && kg_addr_family(&mapped) == AF_INET6 &&
            memcmp(&mapped.in6.sin6_addr.s6_addr[12], &known[i]->in4.sin_addr, 4) == 0)
            return true;
    }
    return false;
}

static enum kg_steer_verdict take_answer(struct kg_steer *steer, struct kg_steer_peer *peer, int at,
                                         const struct kg_stun_message *message, int64_t now_ms, bool *moved)
{
    struct kg_steer_source *source = &peer->source[at];
    int code = 0, generation = answered_as(peer, message, now_ms);

    if (now_ms - source->asked_ms > KG_STEER_ANSWER_MS || generation == KG_STEER_NONE)
        return KG_STEER_DROP;
    if (message->class == KG_STUN_SUCCESS && !saw_our_port(peer, message))
        return KG_STEER_DROP;
    source->waiting = false;
    source->unanswered = 0;
    if (message->class == KG_STUN_SUCCESS) {
        source->responses++;
        peer->answered_ms = now_ms;
        if (source->begun_ms == source->asked_ms) /* otherwise nobody knows which one was answered */
            source->rtt_ms = (int32_t)(now_ms - source->asked_ms);
        *moved |= kg_steer_prove(steer, peer, at, generation, now_ms);
    } else if (kg_stun_get_error(message, &code, NULL, NULL) && code == 487) {
        peer->role = source->claimed; /* it has the role that we claimed (RFC 8445 7.3.1.1) */
        if (!source->again)
            source->ask_ms = now_ms;
        source->again = true;
    }
    return KG_STEER_KEPT;
}

static struct kg_steer_pending *find_pending(struct kg_steer *steer, enum kg_side side, int to,
                                             const uint8_t *id, int64_t now_ms)
{
    struct kg_steer_pending *first = NULL;

    for (size_t i = 0; i < KG_STEER_PENDING; i++) {
        struct kg_steer_pending *p = &steer->pending[i];
        if (p->owed > 0 && p->side == side && p->to == to && now_ms - p->ms < KG_STEER_PENDING_MS &&
            memcmp(p->id, id, KG_STUN_ID) == 0 && (first == NULL || p->ms < first->ms))
            first = p;
    }
    return first;
}

static enum kg_steer_verdict take_response(struct kg_steer *steer, enum kg_side side,
                                           const struct kg_addr *addr, const struct kg_stun_message *message,
                                           int64_t now_ms, const struct kg_addr **to, bool *moved)
{
    enum kg_side asking = kg_other_side(side);
    struct kg_steer_peer *peer = &steer->peer[side], *other = &steer->peer[asking];
    int at = kg_steer_find(peer, addr), generation;
    struct kg_steer_pending *pending;
    struct kg_steer_source *from;

    if (at == KG_STEER_NONE)
        return KG_STEER_DROP;
    if (peer->source[at].waiting && memcmp(peer->source[at].id, message->id, KG_STUN_ID) == 0)
        return take_answer(steer, peer, at, message, now_ms, moved);
    pending = find_pending(steer, asking, at, message->id, now_ms);
    generation = pending ? answered_as(peer, message, now_ms) : KG_STEER_NONE;
    if (generation == KG_STEER_NONE)
        return KG_STEER_DROP;

    pending->owed--;
    *moved |= kg_steer_prove(steer, peer, at, generation, now_ms);
    from = &other->source[pending->from];
    if (message->class == KG_STUN_SUCCESS) {
        bool live = kg_steer_is_live(steer, from, now_ms);
        if (!live)
            kg_steer_ask(from, now_ms);
        if (pending->nominates) {
            *moved |= kg_steer_nominate(steer, other, pending->from, now_ms);
            if (live)
                *moved |= kg_steer_nominate(steer, peer, at, now_ms);
        }
    }
    *to = &from->addr;
    return KG_STEER_FORWARD;
}

/* Keepalives (RFC 8445 11) carry no integrity. */
static enum kg_steer_verdict take_indication(struct kg_steer *steer, enum kg_side side,
                                             const struct kg_addr *addr, int64_t now_ms,
                                             const struct kg_addr **to)
{
    *to = kg_steer_target(steer, kg_other_side(side), now_ms);
    return *to != NULL && kg_steer_is_verified(steer, side, addr, now_ms) ? KG_STEER_FORWARD : KG_STEER_DROP;
}

enum kg_steer_verdict kg_steer_receive(struct kg_steer *steer, enum kg_side side,
                                       const struct kg_addr *source, const uint8_t *data, size_t len,
                                       int64_t now_ms, const struct kg_addr **to, bool *moved)
{
    struct kg_stun_message message;

    *moved = kg_steer_replace_expired(steer, &steer->peer[0], now_ms);
    *moved |= kg_steer_replace_expired(steer, &steer->peer[1], now_ms);
    if (kg_stun_parse(data, len, &message) != KG_STUN_OK || message.method != KG_STUN_BINDING ||
        !kg_addr_is_usable(source))
        return KG_STEER_DROP;
    switch (message.class) {
    case KG_STUN_REQUEST:
        return take_request(steer, side, source, &message, now_ms, to);
    case KG_STUN_INDICATION:
        return take_indication(steer, side, source, now_ms, to);
    case KG_STUN_SUCCESS:
    case KG_STUN_ERROR:
        return take_response(steer, side, source, &message, now_ms, to, moved);
    }
    return KG_STEER_DROP;
}
