/* Inside of b2bua/guard/: what guard.c and bans.c share. Nobody else includes this. */
#ifndef KG_GUARD_INSIDE_H
#define KG_GUARD_INSIDE_H

#include "b2bua/guard/guard.h"
#include "conf/pace.h"

/* Places that one hash may take: the table is an array of sets. */
#define KG_GUARD_WAYS 8

/* What a source, or a user at a source, is called in the tables. */
enum kg_guard_kind { KG_KIND_FREE, KG_KIND_V4, KG_KIND_V6, KG_KIND_USER };
struct kg_guard_name {
    uint64_t value; /* an address, a /64, or a keyed hash of that and the user */
    uint8_t kind;
};

struct kg_ban_slot {
    struct kg_guard_name name;
    struct kg_pace pace; /* unproven bans: of the one request a second */
    struct kg_guard_ban ban;
};

struct kg_guard_source;

struct kg_guard {
    uint8_t key[16];
    typeof(((struct kg_config *)0)->guard) limits;
    struct kg_net trusted[KG_TRUSTED_MAX + KG_TRUNKS_MAX * KG_TRUNK_NETS_MAX];
    size_t trusted_count;
    struct kg_guard_source *sources; /* KG_GUARD_SOURCES */
    struct kg_ban_slot *bans;        /* KG_GUARD_BANS */
    int64_t last_ban_ms;             /* no ban lasts longer: later nobody looks */
    struct kg_pace total_pace, busy_pace;
    struct kg_guard_counts counts;
    kg_guard_watcher *watcher;
    void *watcher_ctx;
};

struct kg_guard_name kg_guard_name_of(const struct kg_guard *guard, const struct kg_addr *source,
                                      const char *user);
/* Where in a table of `count` places the set of this name begins. */
size_t kg_guard_set_of(const struct kg_guard *guard, struct kg_guard_name name, size_t count);

/* bans.c. NULL: there is none in force. */
struct kg_ban_slot *kg_bans_find(struct kg_guard *guard, struct kg_guard_name name, int64_t now_ms);
void kg_bans_make(struct kg_guard *guard, struct kg_guard_name name, const struct kg_addr *source,
                  const char *user, enum kg_guard_fault why, bool proven, int64_t now_ms);
void kg_bans_lift(struct kg_guard *guard, struct kg_ban_slot *slot, int64_t now_ms);

#endif
