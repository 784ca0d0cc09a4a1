#include "media/steer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ice/stun/integrity.h"
#include "ice/stun/message.h"

#define NONE (-1)

/* Of our checks. The lowest of a relay candidate: it only counts if the peer does not know our port as a
 * candidate yet (RFC 8445 7.3.1.3). */
#define OUR_PRIORITY 255

enum generation { NOW, BEFORE, GENERATIONS }; /* BEFORE: the credentials before the latest restart */

struct credentials {
    char *ufrag, *pwd; /* one allocation, ufrag's; NULL: none */
    size_t ufrag_len, pwd_len;
    int64_t until_ms; /* BEFORE: when they stop to count */
};

/* Under which credentials a request was made: of the side that sent it, and of the other one. */
struct names {
    uint8_t own, other; /* enum generation */
};

enum role { ROLE_UNKNOWN, CONTROLLING, CONTROLLED };

enum source_state {
    SOURCE_FREE,
    SOURCE_SEEN,     /* a valid request or suspicious media came from there */
    SOURCE_VERIFIED, /* it has answered a check; for how long that counts: proven_ms */
};

struct source {
    struct kg_addr addr;
    uint8_t state; /* enum source_state */
    bool suspect;  /* media came from there: its first answer makes it the target */
    bool nominated;
    bool waiting, again; /* for the answer to our check; asked again after a role conflict */
    uint8_t claimed;     /* enum role: ours in that check */
    uint8_t unanswered;  /* checks of ours in a row */
    struct names names;  /* of its latest valid request */
    uint8_t id[KG_STUN_ID];
    uint16_t requests, responses; /* of ours to it, and its answers */
    int32_t rtt_ms;
    int64_t seen_ms, proven_ms;
    int64_t asked_ms, ask_ms; /* our check: the latest, the next (INT64_MAX: none) */
};

/* A request that waits for the other side to be known. */
struct kept {
    struct kg_addr source;
    uint16_t len;  /* 0: none */
    bool unplaced; /* its own side has not been described: not verified as a whole */
    int64_t ms;
    uint8_t data[KG_STEER_KEPT_MAX];
};

struct peer {
    struct credentials credentials[GENERATIONS];
    struct source source[KG_STEER_SOURCES];
    struct kept kept;
    struct kg_addr bound, advertised;
    int8_t target; /* NONE, or index of source */
    uint8_t role;  /* enum role, as in its latest request */
    int64_t proven_ms, suspect_ms, nominated_ms;
    int64_t consent_ms; /* when the target is asked next */
};

/* A request of sources[side][from], passed on to sources[other][to]. */
struct pending {
    uint8_t id[KG_STUN_ID];
    uint8_t side, from, to;
    uint8_t owed; /* responses that may still come; 0: free */
    bool nominates;
    int64_t ms;
};

struct kg_steer {
    struct peer peer[2];
    struct pending pending[KG_STEER_PENDING];
    uint32_t consent_ms;
    void (*random)(void *ctx, void *out, size_t len);
    void *random_ctx;
};

/* ---- life ---- */

struct kg_steer *kg_steer_new(uint32_t consent_ms, void (*random)(void *ctx, void *out, size_t len),
                              void *random_ctx)
{
    struct kg_steer *steer = calloc(1, sizeof *steer);

    if (steer == NULL)
        return NULL;
    steer->consent_ms = consent_ms;
    steer->random = random;
    steer->random_ctx = random_ctx;
    for (size_t s = 0; s < 2; s++) {
        steer->peer[s].target = NONE;
        steer->peer[s].proven_ms = steer->peer[s].suspect_ms = steer->peer[s].nominated_ms = INT64_MIN / 2;
    }
    return steer;
}

void kg_steer_free(struct kg_steer *steer)
{
    if (steer == NULL)
        return;
    for (size_t s = 0; s < 2; s++)
        for (size_t g = 0; g < GENERATIONS; g++)
            free(steer->peer[s].credentials[g].ufrag);
    free(steer);
}

/* ---- credentials ---- */

static bool is_same(const struct credentials *c, const struct kg_ice_description *ice)
{
    return c->ufrag != NULL && strcmp(c->ufrag, ice->ufrag) == 0 && strcmp(c->pwd, ice->pwd) == 0;
}

static bool counts(const struct credentials *c, int64_t now_ms)
{
    return c->ufrag != NULL && now_ms < c->until_ms;
}

static bool is_described(const struct peer *peer)
{
    return peer->credentials[NOW].ufrag != NULL;
}

static int copy_credentials(const struct kg_ice_description *ice, struct credentials *out)
{
    size_t ufrag_len = strlen(ice->ufrag), pwd_len = strlen(ice->pwd);
    char *both = malloc(ufrag_len + pwd_len + 2);

    if (both == NULL)
        return ENOMEM;
    memcpy(both, ice->ufrag, ufrag_len + 1);
    memcpy(both + ufrag_len + 1, ice->pwd, pwd_len + 1);
    *out = (struct credentials){both, both + ufrag_len + 1, ufrag_len, pwd_len, INT64_MAX};
    return 0;
}

int kg_steer_describe(struct kg_steer *steer, enum kg_side side, const struct kg_ice_description *ice,
                      int64_t now_ms)
{
    struct peer *peer = &steer->peer[side], *other = &steer->peer[kg_other_side(side)];
    struct credentials *c = peer->credentials, fresh;

    if (is_same(&c[NOW], ice))
        return 0;
    if (is_same(&c[BEFORE], ice)) { /* the branch of a forked call that was described before this one */
        fresh = c[BEFORE];
        c[BEFORE] = (struct credentials){0};
    } else if (copy_credentials(ice, &fresh) != 0) {
        return ENOMEM;
    }
    free(c[BEFORE].ufrag);
    c[BEFORE] = c[NOW];
    c[BEFORE].until_ms = now_ms + KG_STEER_OVERLAP_MS;
    c[NOW] = fresh;
    c[NOW].until_ms = INT64_MAX;
    for (size_t i = 0; i < KG_STEER_SOURCES; i++) {
        peer->source[i].names.own = BEFORE;
        other->source[i].names.other = BEFORE;
        /* The pair selected before stays in use until the next is nominated (RFC 8445 9). */
        peer->source[i].nominated = other->source[i].nominated = false;
    }
    return 0;
}

void kg_steer_local(struct kg_steer *steer, enum kg_side side, const struct kg_addr *bound,
                    const struct kg_addr *advertised)
{
    steer->peer[side].bound = *bound;
    steer->peer[side].advertised = *advertised;
}

/* USERNAME "<ufrag of the addressee>:<ufrag of the sender>" (RFC 8445 7.2.2): which credentials of `to` and
 * `from` these are. from may be undescribed: then any name of it will do. */
static bool match_names(const struct kg_stun_value *user, const struct peer *from, const struct peer *to,
                        int64_t now_ms, struct names *out)
{
    for (uint8_t t = 0; t < GENERATIONS; t++) {
        const struct credentials *c = &to->credentials[t];
        size_t skip = c->ufrag_len + 1;

        if (!counts(c, now_ms) || user->len <= skip || memcmp(user->data, c->ufrag, c->ufrag_len) != 0 ||
            user->data[c->ufrag_len] != ':')
            continue;
        for (uint8_t f = 0; f < GENERATIONS; f++) {
            const struct credentials *own = &from->credentials[f];

            *out = (struct names){.own = f, .other = t};
            if (!is_described(from) || (counts(own, now_ms) && user->len - skip == own->ufrag_len &&
                                        memcmp(user->data + skip, own->ufrag, own->ufrag_len) == 0))
                return true;
        }
    }
    return false;
}

static bool is_right(const struct kg_stun_message *message, const struct credentials *c)
{
    return kg_stun_check_integrity(message, c->pwd, c->pwd_len) == KG_STUN_INTEGRITY_RIGHT;
}

/* A response is made with the responder's own password, old or new. */
static bool is_answer_of(const struct peer *peer, const struct kg_stun_message *message, int64_t now_ms)
{
    for (size_t g = 0; g < GENERATIONS; g++)
        if (counts(&peer->credentials[g], now_ms) && is_right(message, &peer->credentials[g]))
            return true;
    return false;
}

/* ---- sources ---- */

static bool is_live(const struct kg_steer *steer, const struct source *source, int64_t now_ms)
{
    return source->state == SOURCE_VERIFIED &&
           (steer->consent_ms == 0 || now_ms - source->proven_ms < KG_STEER_PROOF_MS);
}

static int find(const struct peer *peer, const struct kg_addr *addr)
{
    for (int i = 0; i < KG_STEER_SOURCES; i++)
        if (peer->source[i].state != SOURCE_FREE && kg_addr_equal(&peer->source[i].addr, addr))
            return i;
    return NONE;
}

/* Which of the two is worth less. Never the target. */
static bool is_lesser(const struct source *a, const struct source *b)
{
    if (a->state != b->state)
        return a->state < b->state;
    return a->state == SOURCE_VERIFIED ? a->proven_ms < b->proven_ms : a->seen_ms < b->seen_ms;
}

static int find_or_add(struct kg_steer *steer, enum kg_side side, const struct kg_addr *addr)
{
    struct peer *peer = &steer->peer[side];
    int at = find(peer, addr);

    if (at != NONE)
        return at;
    for (int i = 0; i < KG_STEER_SOURCES; i++)
        if (i != peer->target && (at == NONE || is_lesser(&peer->source[i], &peer->source[at])))
            at = i;
    for (size_t i = 0; i < KG_STEER_PENDING; i++) {
        struct pending *p = &steer->pending[i];
        if ((p->side == side ? p->from : p->to) == at)
            p->owed = 0;
    }
    peer->source[at] = (struct source){
        .addr = *addr, .state = SOURCE_SEEN, .rtt_ms = -1, .asked_ms = INT64_MIN / 2, .ask_ms = INT64_MAX};
    return at;
}

/* A check of ours as soon as the last one is old enough. */
static void ask(struct source *source, int64_t now_ms)
{
    int64_t at_ms = source->asked_ms + KG_ICE_CHALLENGE_MS;

    source->again = false;
    if (source->ask_ms == INT64_MAX)
        source->ask_ms = at_ms > now_ms ? at_ms : now_ms;
}

/* The same, unless one is on its way: repeated requests do not add up. */
static void ask_if_quiet(struct source *source, int64_t now_ms)
{
    if (now_ms - source->asked_ms >= KG_ICE_CHALLENGE_MS)
        ask(source, now_ms);
}

static int64_t jittered(struct kg_steer *steer, int64_t now_ms)
{
    uint32_t dice = 0;

    if (steer->consent_ms == 0)
        return INT64_MAX;
    steer->random(steer->random_ctx, &dice, sizeof dice);
    return now_ms + steer->consent_ms * (INT64_C(800) + dice % 401) / 1000;
}

/* True if that is another one than before. */
static bool aim(struct kg_steer *steer, struct peer *peer, int at, int64_t now_ms)
{
    if (peer->target == at)
        return false;
    if (peer->target == NONE) /* otherwise it goes on in its rhythm */
        peer->consent_ms = jittered(steer, now_ms);
    peer->target = (int8_t)at;
    return true;
}

/* Media goes to no target whose proof has expired, but to the next best. */
static bool replace_expired(struct kg_steer *steer, struct peer *peer, int64_t now_ms)
{
    int best = NONE;

    if (peer->target == NONE || is_live(steer, &peer->source[peer->target], now_ms))
        return false;
    for (int i = 0; i < KG_STEER_SOURCES; i++) {
        const struct source *s = &peer->source[i], *b = &peer->source[best == NONE ? 0 : best];
        if (is_live(steer, s, now_ms) && (best == NONE || s->nominated > b->nominated ||
                                          (s->nominated == b->nominated && s->proven_ms > b->proven_ms)))
            best = i;
    }
    return aim(steer, peer, best, now_ms);
}

/* The source has answered. True if the target is another one now. */
static bool prove(struct kg_steer *steer, struct peer *peer, int at, int64_t now_ms)
{
    struct source *source = &peer->source[at];
    bool first = !is_live(steer, source, now_ms);
    bool moves = peer->target == NONE || (first && (source->nominated || source->suspect));

    source->state = SOURCE_VERIFIED;
    source->suspect = false;
    source->proven_ms = peer->proven_ms = now_ms;
    return moves && aim(steer, peer, at, now_ms);
}

/* USE-CANDIDATE from or to that source succeeded. Agents that nominate aggressively do so for several; media
 * tells which they mean. */
static bool nominate(struct kg_steer *steer, struct peer *peer, int at, int64_t now_ms)
{
    struct source *source = &peer->source[at];
    bool first = !source->nominated;

    source->nominated = true;
    if (!first || !is_live(steer, source, now_ms))
        return false;
    peer->nominated_ms = now_ms;
    return aim(steer, peer, at, now_ms);
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

static void keep(struct peer *peer, const struct kg_addr *source, const struct kg_stun_message *message,
                 bool unplaced, int64_t now_ms)
{
    if (message->len > KG_STEER_KEPT_MAX)
        return;
    peer->kept =
        (struct kept){.source = *source, .len = (uint16_t)message->len, .unplaced = unplaced, .ms = now_ms};
    memcpy(peer->kept.data, message->data, message->len);
}

/* A request goes to a source that is known by the very credentials it names (after a restart, and when a
 * forked call has been described by another branch), else to the target. */
static int destination(const struct kg_steer *steer, const struct peer *peer, uint8_t generation,
                       int64_t now_ms)
{
    int best = peer->target;

    if (best == NONE || peer->source[best].names.own == generation)
        return best;
    for (int i = 0; i < KG_STEER_SOURCES; i++) {
        const struct source *s = &peer->source[i];
        if (is_live(steer, s, now_ms) && s->names.own == generation &&
            (best == peer->target || s->proven_ms > peer->source[best].proven_ms))
            best = i;
    }
    return best;
}

static void remember(struct kg_steer *steer, enum kg_side side, const struct kg_stun_message *message,
                     int from, int to, int64_t now_ms)
{
    struct pending *oldest = &steer->pending[0];

    for (size_t i = 0; i < KG_STEER_PENDING; i++) {
        struct pending *p = &steer->pending[i];
        if (p->owed > 0 && p->side == side && p->from == from && p->to == to &&
            memcmp(p->id, message->id, KG_STUN_ID) == 0) {
            p->owed += p->owed < UINT8_MAX;
            p->ms = now_ms;
            return;
        }
        if (p->owed == 0 ? oldest->owed > 0 : oldest->owed > 0 && p->ms < oldest->ms)
            oldest = p;
    }
    *oldest = (struct pending){
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
static void ask_newest(struct peer *peer, int64_t now_ms)
{
    int newest = NONE;

    for (int i = 0; i < KG_STEER_SOURCES; i++)
        if (peer->source[i].state != SOURCE_FREE &&
            (newest == NONE || peer->source[i].seen_ms > peer->source[newest].seen_ms))
            newest = i;
    if (newest != NONE)
        ask_if_quiet(&peer->source[newest], now_ms);
}

static enum kg_steer_verdict take_request(struct kg_steer *steer, enum kg_side side,
                                          const struct kg_addr *addr, const struct kg_stun_message *message,
                                          int64_t now_ms, const struct kg_addr **to)
{
    struct peer *peer = &steer->peer[side], *other = &steer->peer[kg_other_side(side)];
    const struct kg_stun_value *user = kg_stun_find(message, KG_STUN_USERNAME);
    struct source *source;
    struct names names;
    int from, at;

    if (user == NULL || !match_names(user, peer, other, now_ms, &names) ||
        !is_right(message, &other->credentials[names.other]) || is_reflected(steer, message->id))
        return KG_STEER_DROP;
    if (!is_described(peer)) {
        keep(peer, addr, message, true, now_ms);
        return KG_STEER_KEPT;
    }

    if (names.own == NOW && kg_stun_find(message, KG_STUN_ICE_CONTROLLING) != NULL)
        peer->role = CONTROLLING;
    else if (names.own == NOW && kg_stun_find(message, KG_STUN_ICE_CONTROLLED) != NULL)
        peer->role = CONTROLLED;
    from = find_or_add(steer, side, addr);
    source = &peer->source[from];
    source->seen_ms = now_ms;
    source->names = names;
    if (!is_live(steer, source, now_ms))
        ask_if_quiet(source, now_ms);

    at = destination(steer, other, names.other, now_ms);
    if (at == NONE) {
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
static bool saw_our_port(const struct peer *peer, const struct kg_stun_message *message)
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

static enum kg_steer_verdict take_answer(struct kg_steer *steer, struct peer *peer, int at,
                                         const struct kg_stun_message *message, int64_t now_ms, bool *moved)
{
    struct source *source = &peer->source[at];
    int code = 0;

    if (now_ms - source->asked_ms > KG_STEER_ANSWER_MS || !is_answer_of(peer, message, now_ms))
        return KG_STEER_DROP;
    if (message->class == KG_STUN_SUCCESS && !saw_our_port(peer, message))
        return KG_STEER_DROP;
    source->waiting = false;
    source->unanswered = 0;
    if (message->class == KG_STUN_SUCCESS) {
        source->responses++;
        source->rtt_ms = (int32_t)(now_ms - source->asked_ms);
        *moved |= prove(steer, peer, at, now_ms);
    } else if (kg_stun_get_error(message, &code, NULL, NULL) && code == 487) {
        peer->role = source->claimed; /* it has the role that we claimed (RFC 8445 7.3.1.1) */
        if (!source->again)
            source->ask_ms = now_ms;
        source->again = true;
    }
    return KG_STEER_KEPT;
}

static struct pending *find_pending(struct kg_steer *steer, enum kg_side side, int to, const uint8_t *id,
                                    int64_t now_ms)
{
    struct pending *first = NULL;

    for (size_t i = 0; i < KG_STEER_PENDING; i++) {
        struct pending *p = &steer->pending[i];
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
    struct peer *peer = &steer->peer[side], *other = &steer->peer[asking];
    int at = find(peer, addr);
    struct pending *pending;
    struct source *from;

    if (at == NONE)
        return KG_STEER_DROP;
    if (peer->source[at].waiting && memcmp(peer->source[at].id, message->id, KG_STUN_ID) == 0)
        return take_answer(steer, peer, at, message, now_ms, moved);
    pending = find_pending(steer, asking, at, message->id, now_ms);
    if (pending == NULL || !is_answer_of(peer, message, now_ms))
        return KG_STEER_DROP;

    pending->owed--;
    *moved |= prove(steer, peer, at, now_ms);
    from = &other->source[pending->from];
    if (message->class == KG_STUN_SUCCESS) {
        bool live = is_live(steer, from, now_ms);
        if (!live)
            ask(from, now_ms);
        if (pending->nominates) {
            *moved |= nominate(steer, other, pending->from, now_ms);
            if (live)
                *moved |= nominate(steer, peer, at, now_ms);
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

    *moved = replace_expired(steer, &steer->peer[0], now_ms);
    *moved |= replace_expired(steer, &steer->peer[1], now_ms);
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

/* ---- media ---- */

bool kg_steer_is_verified(const struct kg_steer *steer, enum kg_side side, const struct kg_addr *source,
                          int64_t now_ms)
{
    int at = find(&steer->peer[side], source);

    return at != NONE && is_live(steer, &steer->peer[side].source[at], now_ms);
}

bool kg_steer_media(struct kg_steer *steer, enum kg_side side, const struct kg_addr *source, int64_t now_ms)
{
    struct peer *peer = &steer->peer[side];
    int at = find(peer, source);

    if (at == NONE || !is_live(steer, &peer->source[at], now_ms))
        return false;
    if (!peer->source[at].nominated && now_ms - peer->nominated_ms < KG_STEER_SETTLE_MS)
        return false;
    return aim(steer, peer, at, now_ms);
}

void kg_steer_suspect(struct kg_steer *steer, enum kg_side side, const struct kg_addr *source, int64_t now_ms)
{
    struct peer *peer = &steer->peer[side];
    struct source *suspect;

    if (!is_described(peer) || !is_described(&steer->peer[kg_other_side(side)]) ||
        !kg_addr_is_usable(source) || now_ms - peer->suspect_ms < KG_ICE_CHALLENGE_MS ||
        kg_steer_is_verified(steer, side, source, now_ms))
        return;
    peer->suspect_ms = now_ms;
    suspect = &peer->source[find_or_add(steer, side, source)];
    suspect->seen_ms = now_ms;
    suspect->suspect = true;
    ask_if_quiet(suspect, now_ms);
}

const struct kg_addr *kg_steer_target(const struct kg_steer *steer, enum kg_side side, int64_t now_ms)
{
    const struct peer *peer = &steer->peer[side];

    return peer->target != NONE && is_live(steer, &peer->source[peer->target], now_ms)
               ? &peer->source[peer->target].addr
               : NULL;
}

/* ---- what is to be sent ---- */

static bool restarted(const struct credentials c[GENERATIONS], int64_t now_ms)
{
    return counts(&c[BEFORE], now_ms);
}

/* Our check stands for the other side: its role, if we know either's (RFC 8445 7.1.2). With the least
 * tie-breaker for controlling and the greatest for controlled the addressee keeps its role in every conflict
 * (7.3.1.1). */
static void put_role(struct kg_stun_writer *w, const struct peer *peer, const struct peer *other,
                     uint8_t *claimed)
{
    bool controlling = peer->role == CONTROLLED || (peer->role == ROLE_UNKNOWN && other->role == CONTROLLING);

    *claimed = controlling ? CONTROLLING : CONTROLLED;
    if (controlling)
        kg_stun_put_u64(w, KG_STUN_ICE_CONTROLLING, 0);
    else
        kg_stun_put_u64(w, KG_STUN_ICE_CONTROLLED, UINT64_MAX);
}

static bool write_check(struct kg_steer *steer, enum kg_side side, struct source *source, int64_t now_ms,
                        struct kg_steer_datagram *out)
{
    const struct peer *peer = &steer->peer[side], *other = &steer->peer[kg_other_side(side)];
    struct names names = source->names;
    char user[2 * KG_ICE_CREDENTIAL_MAX + 1];
    const struct credentials *own, *its;
    struct kg_stun_writer w;

    /* As in its latest request; in vain: the other way round, where a restart is under way. */
    if (source->unanswered % 2 == 1)
        names = (struct names){!names.own, !names.other};
    if (!restarted(peer->credentials, now_ms))
        names.own = NOW;
    if (!restarted(other->credentials, now_ms))
        names.other = NOW;
    own = &peer->credentials[names.own];
    its = &other->credentials[names.other];
    if (own->ufrag == NULL || its->ufrag == NULL || own->ufrag_len + its->ufrag_len >= sizeof user)
        return false;
    memcpy(user, own->ufrag, own->ufrag_len);
    user[own->ufrag_len] = ':';
    memcpy(user + own->ufrag_len + 1, its->ufrag, its->ufrag_len);

    steer->random(steer->random_ctx, source->id, KG_STUN_ID);
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
    source->unanswered += source->unanswered < UINT8_MAX;
    source->requests++;
    source->asked_ms = now_ms;
    return true;
}

static bool poll_checks(struct kg_steer *steer, enum kg_side side, int64_t now_ms,
                        struct kg_steer_datagram *out)
{
    struct peer *peer = &steer->peer[side];

    for (size_t i = 0; i < KG_STEER_SOURCES; i++) {
        struct source *source = &peer->source[i];
        if (source->state == SOURCE_FREE || source->ask_ms > now_ms)
            continue;
        source->ask_ms = INT64_MAX;
        if (write_check(steer, side, source, now_ms, out))
            return true;
    }
    if (peer->target == NONE || peer->consent_ms > now_ms)
        return false;
    peer->consent_ms = jittered(steer, now_ms);
    peer->source[peer->target].again = false;
    return write_check(steer, side, &peer->source[peer->target], now_ms, out);
}

static bool is_ready(const struct kg_steer *steer, enum kg_side side)
{
    const struct peer *peer = &steer->peer[side];

    return peer->kept.len > 0 &&
           (peer->kept.unplaced ? is_described(peer) : steer->peer[kg_other_side(side)].target != NONE);
}

/* The kept request is taken once more, as if it came now. */
static bool poll_kept(struct kg_steer *steer, enum kg_side side, int64_t now_ms,
                      struct kg_steer_datagram *out)
{
    struct kept *kept = &steer->peer[side].kept;
    struct kg_addr source = kept->source;
    const struct kg_addr *to = NULL;
    bool moved;

    if (!is_ready(steer, side))
        return false;
    out->len = kept->len;
    memcpy(out->data, kept->data, kept->len);
    kept->len = 0;
    if (now_ms - kept->ms > KG_STEER_KEPT_MS ||
        kg_steer_receive(steer, side, &source, out->data, out->len, now_ms, &to, &moved) != KG_STEER_FORWARD)
        return false;
    out->side = kg_other_side(side);
    out->to = *to;
    return true;
}

bool kg_steer_poll(struct kg_steer *steer, int64_t now_ms, struct kg_steer_datagram *out)
{
    for (unsigned s = 0; s < 2; s++)
        replace_expired(steer, &steer->peer[s], now_ms);
    for (unsigned s = 0; s < 2; s++)
        if (poll_kept(steer, s, now_ms, out))
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
        const struct peer *peer = &steer->peer[s];
        if (is_ready(steer, s))
            return peer->kept.ms;
        for (size_t i = 0; i < KG_STEER_SOURCES; i++)
            if (peer->source[i].state != SOURCE_FREE && peer->source[i].ask_ms < next_ms)
                next_ms = peer->source[i].ask_ms;
        if (peer->target == NONE || steer->consent_ms == 0)
            continue;
        if (peer->consent_ms < next_ms)
            next_ms = peer->consent_ms;
        if (peer->source[peer->target].proven_ms + KG_STEER_PROOF_MS < next_ms)
            next_ms = peer->source[peer->target].proven_ms + KG_STEER_PROOF_MS;
    }
    return next_ms;
}

/* ---- what is known ---- */

bool kg_steer_is_nominated(const struct kg_steer *steer)
{
    for (unsigned s = 0; s < 2; s++)
        if (steer->peer[s].target != NONE && steer->peer[s].source[steer->peer[s].target].nominated)
            return true;
    return false;
}

int64_t kg_steer_silence(const struct kg_steer *steer, enum kg_side side, int64_t now_ms)
{
    return steer->peer[side].proven_ms < 0 ? -1 : now_ms - steer->peer[side].proven_ms;
}

size_t kg_steer_pairs(const struct kg_steer *steer, enum kg_side side, struct kg_ice_pair *out, size_t max)
{
    const struct peer *peer = &steer->peer[side];
    size_t count = 0;

    for (int i = 0; i < KG_STEER_SOURCES && count < max; i++) {
        const struct source *source = &peer->source[i];
        if (source->state != SOURCE_VERIFIED)
            continue;
        out[count++] = (struct kg_ice_pair){
            .state = KG_PAIR_SUCCEEDED,
            .valid = true,
            .nominated = source->nominated,
            .selected = i == peer->target,
            .local = {.type = KG_CANDIDATE_RELAY},
            .remote = {.type = KG_CANDIDATE_PRFLX, .addr = source->addr},
            .rtt_ms = source->rtt_ms,
            .won_ms = -1,
            .requests = source->requests,
            .responses = source->responses,
        };
    }
    return count;
}
