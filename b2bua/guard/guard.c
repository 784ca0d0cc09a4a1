#include "b2bua/guard/guard.h"

#include <stdlib.h>
#include <string.h>

#include "b2bua/guard/inside.h"
#include "b2bua/guard/scanners.h"
#include "b2bua/guard/siphash.h"

/* Tokens that a bucket holds, in seconds of its rate: an office whose power comes back registers all at once.
 */
#define REQUESTS_BURST_S  5
#define STRANGERS_BURST_S 2
/* Of the requests beyond guard.requests so many a second, all together, are answered 503; the rest get
 * nothing. */
#define BUSY_ANSWERS 50
/* An unproven ban lets this through, a second. */
#define BANNED_RATE  1
#define BANNED_BURST 2
/* A proof holds so long; every further one prolongs it. */
#define PROVEN_MS 3600000
/* A source stays known so long after its last contact expired: a phone that comes back finds its room. */
#define KNOWN_GRACE_MS 600000
/* IPv4 and UDP headers: what a datagram costs besides its contents. */
#define HEADERS 28
/* Bytes that may be answered to a stranger for each ten that came, and the most that is kept of it. */
#define ANSWER_RATIO 13
#define CREDIT_MAX   8192
/* What must be left of a stranger's credit for the final answer before 100 (Trying) is sent. */
#define FINAL_RESERVE 600
/* A row of faults is one when not more than this lies between its first and its last. */
#define FAULTS_MS 60000
/* So many points ban. A wrong password counts POINTS / guard.passwords. */
#define POINTS 1000

struct kg_guard_source {
    struct kg_guard_name name;
    bool trusted;
    uint16_t points;
    uint32_t nonce;      /* of the last challenge; 0: none */
    int32_t credit;      /* bytes that it may be answered as a stranger */
    int64_t seen_ms;     /* last */
    int64_t known_ms;    /* until */
    int64_t proven_ms;   /* until */
    struct kg_pace pace; /* of requests */
    int64_t faults_ms;   /* the first of the row; with points only */
};
_Static_assert(sizeof(struct kg_guard_source) <= 72, "documented in guard.h");

enum standing { STRANGER, PROVEN, KNOWN, TRUSTED };

/* --- names ------------------------------------------------------------------------------------------------
 */

struct kg_guard_name kg_guard_name_of(const struct kg_guard *guard, const struct kg_addr *source,
                                      const char *user)
{
    struct kg_guard_name name = {.kind = KG_KIND_V4};
    if (kg_addr_family(source) == AF_INET6) {
        name.kind = KG_KIND_V6;
        memcpy(&name.value, source->in6.sin6_addr.s6_addr, 8);
    } else {
        memcpy(&name.value, &source->in4.sin_addr, 4);
    }
    if (user) {
        uint64_t both[3] = {name.value, name.kind, kg_siphash(guard->key, user, strlen(user))};
        name.value = kg_siphash(guard->key, both, sizeof both);
        name.kind = KG_KIND_USER;
    }
    return name;
}

size_t kg_guard_set_of(const struct kg_guard *guard, struct kg_guard_name name, size_t count)
{
    uint64_t both[2] = {name.value, name.kind};
    return kg_siphash(guard->key, both, sizeof both) % (count / KG_GUARD_WAYS) * KG_GUARD_WAYS;
}

/* --- sources ----------------------------------------------------------------------------------------------
 */

static enum standing standing_of(const struct kg_guard_source *source, int64_t now_ms)
{
    if (source->trusted)
        return TRUSTED;
    if (now_ms < source->known_ms)
        return KNOWN;
    return now_ms < source->proven_ms ? PROVEN : STRANGER;
}

static bool is_configured(const struct kg_guard *guard, const struct kg_addr *addr)
{
    for (size_t i = 0; i < guard->trusted_count; i++)
        if (kg_net_has(&guard->trusted[i], addr))
            return true;
    return false;
}

static struct kg_guard_source *find(const struct kg_guard *guard, struct kg_guard_name name)
{
    struct kg_guard_source *set = guard->sources + kg_guard_set_of(guard, name, KG_GUARD_SOURCES);
    for (size_t i = 0; i < KG_GUARD_WAYS; i++)
        if (set[i].name.value == name.value && set[i].name.kind == name.kind)
            return &set[i];
    return NULL;
}

/* Whose place a new source may take: a free one, then strangers, then those whose faults or proofs would be
 * forgotten. NULL: all are known. */
static struct kg_guard_source *victim(struct kg_guard_source *set, int64_t now_ms)
{
    struct kg_guard_source *best = NULL;
    int best_worth = 0;
    for (size_t i = 0; i < KG_GUARD_WAYS; i++) {
        enum standing standing = standing_of(&set[i], now_ms);
        int worth = set[i].name.kind == KG_KIND_FREE ? 0 : standing == STRANGER && !set[i].points ? 1 : 2;
        if (standing >= KNOWN ||
            (best && (worth > best_worth || (worth == best_worth && set[i].seen_ms >= best->seen_ms))))
            continue;
        best = &set[i];
        best_worth = worth;
    }
    return best;
}

static struct kg_guard_source *obtain(struct kg_guard *guard, struct kg_guard_name name, int64_t now_ms)
{
    struct kg_guard_source *source = find(guard, name);
    if (!source) {
        source = victim(guard->sources + kg_guard_set_of(guard, name, KG_GUARD_SOURCES), now_ms);
        if (!source)
            return NULL;
        *source = (struct kg_guard_source){.name = name};
    }
    source->seen_ms = now_ms;
    return source;
}

static void prove(struct kg_guard_source *source, int64_t now_ms)
{
    if (standing_of(source, now_ms) == STRANGER)
        source->pace = (struct kg_pace){0}; /* what it used as a stranger was counted against less */
    source->proven_ms = now_ms + PROVEN_MS;
}

/* --- the object -------------------------------------------------------------------------------------------
 */

struct kg_guard *kg_guard_new(const uint8_t key[static 16], const struct kg_config *config)
{
    struct kg_guard *guard = calloc(1, sizeof *guard);
    if (!guard)
        return NULL;
    memcpy(guard->key, key, sizeof guard->key);
    guard->sources = calloc(KG_GUARD_SOURCES, sizeof *guard->sources);
    guard->bans = calloc(KG_GUARD_BANS, sizeof *guard->bans);
    if (!guard->sources || !guard->bans) {
        kg_guard_free(guard);
        return NULL;
    }
    kg_guard_configure(guard, config);
    return guard;
}

void kg_guard_free(struct kg_guard *guard)
{
    if (!guard)
        return;
    free(guard->sources);
    free(guard->bans);
    free(guard);
}

void kg_guard_configure(struct kg_guard *guard, const struct kg_config *config)
{
    guard->limits = config->guard;
    guard->trusted_count = 0;
    for (size_t i = 0; i < config->guard.trusted_count; i++)
        guard->trusted[guard->trusted_count++] = config->guard.trusted[i];
    for (size_t i = 0; i < config->trunk_count; i++)
        for (size_t k = 0; k < config->trunk[i].match_count; k++)
            guard->trusted[guard->trusted_count++] = config->trunk[i].match[k];
}

const struct kg_guard_counts *kg_guard_counts(const struct kg_guard *guard)
{
    return &guard->counts;
}

/* --- what comes and goes ----------------------------------------------------------------------------------
 */

/* An answer, or an ACK, is never answered and belongs to something that exists; nta drops it otherwise. */
static bool is_request(const char *data, size_t len)
{
    return !(len >= 8 && memcmp(data, "SIP/2.0 ", 8) == 0) && !(len >= 4 && memcmp(data, "ACK ", 4) == 0);
}

static bool admit_stranger(struct kg_guard *guard, struct kg_guard_source *source, const void *data,
                           size_t len, int64_t now_ms)
{
    if (!is_request(data, len))
        return true;
    if ((source && !kg_pace_take(&source->pace, now_ms, guard->limits.strangers,
                                 guard->limits.strangers * STRANGERS_BURST_S)) ||
        !kg_pace_take(&guard->total_pace, now_ms, guard->limits.strangers_total,
                      guard->limits.strangers_total)) {
        guard->counts.strangers++;
        return false;
    }
    return true;
}

bool kg_guard_receive(struct kg_guard *guard, const struct kg_addr *from, const void *data, size_t len,
                      int64_t now_ms)
{
    if (is_configured(guard, from))
        return true;
    struct kg_guard_name name = kg_guard_name_of(guard, from, NULL);
    struct kg_ban_slot *ban = kg_bans_find(guard, name, now_ms);
    if (ban && (ban->ban.proven || !kg_pace_take(&ban->pace, now_ms, BANNED_RATE, BANNED_BURST))) {
        guard->counts.banned++;
        return false;
    }
    struct kg_guard_source *source = obtain(guard, name, now_ms);
    if (source && standing_of(source, now_ms) != STRANGER)
        return true;
    if (!admit_stranger(guard, source, data, len, now_ms))
        return false;
    if (source) {
        int64_t credit = source->credit + (int64_t)(len + HEADERS) * ANSWER_RATIO / 10;
        source->credit = (int32_t)(credit < CREDIT_MAX ? credit : CREDIT_MAX);
    }
    return true;
}

/* The status of an answer; 0: it is none. */
static int status_of(const char *text, size_t len)
{
    if (len < 11 || memcmp(text, "SIP/2.0 ", 8) != 0)
        return 0;
    return (text[8] - '0') * 100 + (text[9] - '0') * 10 + text[10] - '0';
}

/* The method in its CSeq. No header of an answer holds a line break that could look like one. */
static bool is_of_invite(const char *text, size_t len)
{
    static const char header[] = "\r\nCSeq:";
    const char *at = memmem(text, len, header, sizeof header - 1);
    const char *end = at ? memchr(at + 2, '\r', len - (size_t)(at + 2 - text)) : NULL;
    return end && end - at > 7 && memcmp(end - 7, " INVITE", 7) == 0;
}

static uint32_t nonce_of(const struct kg_guard *guard, const char *nonce, size_t len)
{
    uint32_t hash = (uint32_t)kg_siphash(guard->key, nonce, len);
    return hash ? hash : 1;
}

/* The nonce of a challenge. Its header begins a line, and nothing that a stranger wrote does. */
static void note_challenge(const struct kg_guard *guard, struct kg_guard_source *source, const char *text,
                           size_t len)
{
    static const char *const headers[] = {"\r\nWWW-Authenticate:", "\r\nProxy-Authenticate:"};
    static const char name[] = "nonce=\"";
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        const char *line = memmem(text, len, headers[i], strlen(headers[i]));
        const char *end = line ? memchr(line + 2, '\r', len - (size_t)(line + 2 - text)) : NULL;
        const char *at = end ? memmem(line, (size_t)(end - line), name, sizeof name - 1) : NULL;
        const char *close =
            at ? memchr(at + sizeof name - 1, '"', (size_t)(end - at) - (sizeof name - 1)) : NULL;
        if (close) {
            at += sizeof name - 1;
            source->nonce = nonce_of(guard, at, (size_t)(close - at));
            return;
        }
    }
}

bool kg_guard_is_open(const struct kg_guard *guard, const struct kg_addr *to, int64_t now_ms)
{
    if (is_configured(guard, to))
        return true;
    const struct kg_guard_source *source = find(guard, kg_guard_name_of(guard, to, NULL));
    return !source || standing_of(source, now_ms) != STRANGER;
}

bool kg_guard_send(struct kg_guard *guard, const struct kg_addr *to, const char *text, size_t text_len,
                   size_t len, int64_t now_ms)
{
    int status = status_of(text, text_len);
    if (status == 0 || kg_guard_is_open(guard, to, now_ms))
        return true;
    struct kg_guard_source *source = find(guard, kg_guard_name_of(guard, to, NULL));
    if (status > 100 && status < 300 && is_of_invite(text, text_len))
        return true;
    if (source->credit < (int32_t)(len + HEADERS + (status == 100 ? FINAL_RESERVE : 0))) {
        guard->counts.withheld++;
        return false;
    }
    source->credit -= (int32_t)(len + HEADERS);
    if (status == 401 || status == 407)
        note_challenge(guard, source, text, text_len);
    return true;
}

static enum kg_guard_verdict busy(struct kg_guard *guard, int64_t now_ms)
{
    guard->counts.busy++;
    return kg_pace_take(&guard->busy_pace, now_ms, BUSY_ANSWERS, BUSY_ANSWERS) ? KG_GUARD_BUSY
                                                                               : KG_GUARD_DROP;
}

enum kg_guard_verdict kg_guard_request(struct kg_guard *guard, const struct kg_addr *from, bool stream,
                                       const char *user_agent, const char *display, int64_t now_ms)
{
    if (is_configured(guard, from))
        return KG_GUARD_PASS;
    struct kg_guard_source *source = obtain(guard, kg_guard_name_of(guard, from, NULL), now_ms);
    if (source && stream)
        prove(source, now_ms);
    if (source && source->trusted)
        return KG_GUARD_PASS;
    if (guard->limits.scanners && (kg_scanner_matches(user_agent) || kg_scanner_matches(display))) {
        guard->counts.scanners++;
        kg_guard_fault(guard, from, "", KG_FAULT_SCANNER, now_ms);
        return KG_GUARD_DROP;
    }
    /* What may be forged is said of datagrams only: a connection is no part of it. */
    const struct kg_ban_slot *ban =
        stream ? kg_bans_find(guard, kg_guard_name_of(guard, from, NULL), now_ms) : NULL;
    if (ban && ban->ban.proven) {
        guard->counts.banned++;
        return KG_GUARD_DROP;
    }
    if (!source || standing_of(source, now_ms) == STRANGER) /* kg_guard_receive has counted it */
        return KG_GUARD_PASS;
    if (!kg_pace_take(&source->pace, now_ms, guard->limits.requests,
                      guard->limits.requests * REQUESTS_BURST_S))
        return busy(guard, now_ms);
    return KG_GUARD_PASS;
}

/* --- what is learnt ---------------------------------------------------------------------------------------
 */

static struct kg_guard_source *source_at(struct kg_guard *guard, const struct kg_addr *addr, int64_t now_ms)
{
    return obtain(guard, kg_guard_name_of(guard, addr, NULL), now_ms);
}

/* Right is what comes from there now: a ban that a forged source brought about is over. */
static void lift_unproven(struct kg_guard *guard, const struct kg_addr *addr, int64_t now_ms)
{
    struct kg_ban_slot *ban = kg_bans_find(guard, kg_guard_name_of(guard, addr, NULL), now_ms);
    if (ban && !ban->ban.proven)
        kg_bans_lift(guard, ban, now_ms);
}

void kg_guard_trust(struct kg_guard *guard, const struct kg_addr *addr, bool trusted, int64_t now_ms)
{
    struct kg_guard_source *source = source_at(guard, addr, now_ms);
    if (source)
        source->trusted = trusted;
    if (trusted)
        kg_guard_unban(guard, addr, now_ms);
}

void kg_guard_registered(struct kg_guard *guard, const struct kg_addr *addr, int64_t until_ms, int64_t now_ms)
{
    struct kg_guard_source *source = source_at(guard, addr, now_ms);
    if (source && source->known_ms < until_ms + KNOWN_GRACE_MS)
        source->known_ms = until_ms + KNOWN_GRACE_MS;
    lift_unproven(guard, addr, now_ms);
}

void kg_guard_echoed(struct kg_guard *guard, const struct kg_addr *addr, const char *nonce, int64_t now_ms)
{
    struct kg_guard_source *source = source_at(guard, addr, now_ms);
    if (source && source->nonce && source->nonce == nonce_of(guard, nonce, strlen(nonce)))
        prove(source, now_ms);
}

void kg_guard_proved(struct kg_guard *guard, const struct kg_addr *addr, int64_t now_ms)
{
    struct kg_guard_source *source = source_at(guard, addr, now_ms);
    if (source)
        prove(source, now_ms);
}

void kg_guard_good(struct kg_guard *guard, const struct kg_addr *addr, const char *user, int64_t now_ms)
{
    struct kg_guard_source *source = source_at(guard, addr, now_ms);
    struct kg_guard_source *own = find(guard, kg_guard_name_of(guard, addr, user));
    if (source && now_ms >= source->known_ms)
        source->points = 0;
    if (own)
        own->points = 0;
    lift_unproven(guard, addr, now_ms);
}

static unsigned points_of(const struct kg_guard *guard, enum kg_guard_fault fault)
{
    switch (fault) {
    case KG_FAULT_PASSWORD:
        return (POINTS + guard->limits.passwords - 1) / guard->limits.passwords;
    case KG_FAULT_UNKNOWN:
        return POINTS / 20;
    case KG_FAULT_MALFORMED:
        return POINTS / 40;
    case KG_FAULT_SCANNER:
    case KG_FAULTS:
        break;
    }
    return POINTS;
}

void kg_guard_fault(struct kg_guard *guard, const struct kg_addr *addr, const char *user,
                    enum kg_guard_fault fault, int64_t now_ms)
{
    if (is_configured(guard, addr))
        return;
    struct kg_guard_name name = kg_guard_name_of(guard, addr, NULL);
    struct kg_guard_source *source = obtain(guard, name, now_ms);
    enum standing standing = source ? standing_of(source, now_ms) : STRANGER;
    if (standing == TRUSTED)
        return;
    if (standing == KNOWN) { /* others share this address: only a user can be at fault */
        if (fault != KG_FAULT_PASSWORD || user[0] == '\0')
            return;
        name = kg_guard_name_of(guard, addr, user);
        source = obtain(guard, name, now_ms);
    }
    if (!source)
        return;
    if (source->points == 0 || now_ms - source->faults_ms > FAULTS_MS) {
        source->points = 0;
        source->faults_ms = now_ms;
    }
    unsigned points = source->points + points_of(guard, fault);
    source->points = (uint16_t)(points < POINTS ? points : POINTS);
    const struct kg_ban_slot *ban = kg_bans_find(guard, name, now_ms);
    if (points < POINTS || (ban && (ban->ban.proven || standing == STRANGER)))
        return;
    source->points = 0;
    kg_bans_make(guard, name, addr, standing == KNOWN ? user : "", fault, standing != STRANGER, now_ms);
}

size_t kg_guard_unban(struct kg_guard *guard, const struct kg_addr *addr, int64_t now_ms)
{
    struct kg_guard_name name = kg_guard_name_of(guard, addr, NULL);
    struct kg_guard_source *source = find(guard, name);
    size_t count = 0;
    if (source)
        source->points = 0;
    for (size_t i = 0; i < KG_GUARD_BANS; i++) {
        struct kg_ban_slot *slot = &guard->bans[i];
        if (slot->name.kind == KG_KIND_FREE)
            continue;
        struct kg_guard_name owner = kg_guard_name_of(guard, &slot->ban.source, NULL);
        if (owner.value != name.value || owner.kind != name.kind)
            continue;
        count += now_ms < slot->ban.until_ms;
        if (now_ms < slot->ban.until_ms)
            kg_bans_lift(guard, slot, now_ms);
        else
            memset(slot, 0, sizeof *slot);
    }
    return count;
}
