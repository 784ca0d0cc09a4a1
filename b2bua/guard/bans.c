/* The table of bans. A ban that is over stays for a day, so that the next one is longer. */
#include <string.h>

#include "b2bua/guard/inside.h"

#define REMEMBER_MS  86400000 /* how long a ban that is over still counts */
#define BAN_MAX_MS   86400000
#define DOUBLING_MAX 10

const char *kg_guard_why(enum kg_guard_fault fault)
{
    static const char *const why[KG_FAULTS] = {
        [KG_FAULT_PASSWORD] = "too many wrong passwords or unknown users in a row",
        [KG_FAULT_UNKNOWN] = "too many requests for users that do not exist",
        [KG_FAULT_MALFORMED] = "too many malformed requests",
        [KG_FAULT_SCANNER] = "it is a program that looks for SIP servers to break into",
    };
    return why[fault];
}

struct kg_ban_slot *kg_bans_find(struct kg_guard *guard, struct kg_guard_name name, int64_t now_ms)
{
    if (now_ms >= guard->last_ban_ms)
        return NULL;
    struct kg_ban_slot *set = guard->bans + kg_guard_set_of(guard, name, KG_GUARD_BANS);
    for (size_t i = 0; i < KG_GUARD_WAYS; i++)
        if (set[i].name.value == name.value && set[i].name.kind == name.kind)
            return now_ms < set[i].ban.until_ms ? &set[i] : NULL;
    return NULL;
}

/* The name's own place, else the one whose ban ends or ended first. */
static struct kg_ban_slot *place(struct kg_guard *guard, struct kg_guard_name name)
{
    struct kg_ban_slot *set = guard->bans + kg_guard_set_of(guard, name, KG_GUARD_BANS), *best = set;
    for (size_t i = 0; i < KG_GUARD_WAYS; i++) {
        if (set[i].name.value == name.value && set[i].name.kind == name.kind)
            return &set[i];
        if (set[i].ban.until_ms < best->ban.until_ms)
            best = &set[i];
    }
    if (best->name.kind != KG_KIND_FREE)
        memset(best, 0, sizeof *best);
    return best;
}

/* The address that stands for the source, without port and without what lies below an IPv6 /64. */
static struct kg_addr source_of(const struct kg_addr *addr)
{
    struct kg_addr source = *addr;
    kg_addr_set_port(&source, 0);
    if (kg_addr_family(&source) == AF_INET6) {
        memset(source.in6.sin6_addr.s6_addr + 8, 0, 8);
        source.in6.sin6_scope_id = 0;
    }
    return source;
}

void kg_bans_make(struct kg_guard *guard, struct kg_guard_name name, const struct kg_addr *source,
                  const char *user, enum kg_guard_fault why, bool proven, int64_t now_ms)
{
    struct kg_ban_slot *slot = place(guard, name);
    struct kg_guard_ban *ban = &slot->ban;
    unsigned times =
        slot->name.kind != KG_KIND_FREE && now_ms - ban->until_ms < REMEMBER_MS ? ban->times + 1 : 1;
    unsigned doublings = times - 1 < DOUBLING_MAX ? times - 1 : DOUBLING_MAX;
    int64_t length_ms = (int64_t)guard->limits.ban_ms << doublings;
    int64_t longest_ms = guard->limits.ban_ms > BAN_MAX_MS ? guard->limits.ban_ms : BAN_MAX_MS;

    slot->name = name;
    slot->pace = (struct kg_pace){0};
    *ban = (struct kg_guard_ban){.source = source_of(source),
                                 .why = why,
                                 .proven = proven,
                                 .times = times,
                                 .since_ms = now_ms,
                                 .until_ms = now_ms + (length_ms < longest_ms ? length_ms : longest_ms)};
    strncpy(ban->user, user, sizeof ban->user - 1);
    if (guard->last_ban_ms < ban->until_ms)
        guard->last_ban_ms = ban->until_ms;
    guard->counts.bans++;
    if (guard->watcher)
        guard->watcher(guard->watcher_ctx, ban, false);
}

void kg_bans_lift(struct kg_guard *guard, struct kg_ban_slot *slot, int64_t now_ms)
{
    struct kg_guard_ban ban = slot->ban;
    (void)now_ms;
    memset(slot, 0, sizeof *slot);
    if (guard->watcher)
        guard->watcher(guard->watcher_ctx, &ban, true);
}

bool kg_guard_is_banned(struct kg_guard *guard, const struct kg_addr *source, int64_t now_ms)
{
    return kg_bans_find(guard, kg_guard_name_of(guard, source, NULL), now_ms) != NULL;
}

bool kg_guard_is_blocked(struct kg_guard *guard, const struct kg_addr *source, const char *user,
                         int64_t now_ms)
{
    if (now_ms >= guard->last_ban_ms)
        return false;
    return kg_bans_find(guard, kg_guard_name_of(guard, source, user), now_ms) != NULL;
}

size_t kg_guard_bans(const struct kg_guard *guard, int64_t now_ms, struct kg_guard_ban *out, size_t max)
{
    size_t count = 0;
    for (size_t i = 0; i < KG_GUARD_BANS && count < max; i++)
        if (guard->bans[i].name.kind != KG_KIND_FREE && now_ms < guard->bans[i].ban.until_ms)
            out[count++] = guard->bans[i].ban;
    return count;
}

void kg_guard_watch(struct kg_guard *guard, kg_guard_watcher *watcher, void *ctx)
{
    guard->watcher = watcher;
    guard->watcher_ctx = ctx;
}
