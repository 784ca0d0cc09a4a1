/* The servers as the control API shows them. */
#include "b2bua/route/peers_state.h"
#include "conf/clock.h"

static int64_t wall(int64_t mono_ms)
{
    return kg_wall_ms() - (kg_mono_ms() - mono_ms);
}

static json_t *peer_json(const struct kg_peers *peers, const struct kg_peer_state *peer)
{
    static const char *const why[] = {
        [KG_CAUSE_NONE] = "",
        [KG_CAUSE_SILENCE] = "does not answer OPTIONS",
        [KG_CAUSE_BREAKER] = "does not answer requests",
        [KG_CAUSE_REFUSED] = "cannot be reached",
        [KG_CAUSE_BUSY] = "answers 503",
        [KG_CAUSE_PAUSE] = "answers 503 and asked for a pause",
        [KG_CAUSE_ASKED] = "asked for a pause",
    };
    const struct kg_health *h = &peer->health;
    char server[KG_SERVER_AT_STR];
    json_t *json =
        json_pack("{s:s,s:s,s:s,s:s,s:s,s:I,s:i,s:i,s:i}", "group",
                  peer->group == KG_GROUP_PBX ? "pbx" : peers->group[peer->group].name, "server",
                  kg_server_at_format(&peer->at, server), "address", peer->name, "state",
                  peer->wanted ? kg_health_state_name(h->state) : "gone", "why", why[h->cause], "since",
                  (json_int_t)wall(peer->wanted ? h->since_ms : peer->retired_ms), "priority",
                  (int)peer->place.priority, "weight", (int)peer->place.weight, "waiting", (int)h->unheard);

    if (json != NULL && h->error != NULL) {
        json_object_set_new(json, "error", json_string(h->error));
        json_object_set_new(json, "error_at", json_integer(wall(h->error_ms)));
    }
    return json;
}

/* A server that DNS has not told the address of. */
static json_t *unknown_json(const struct kg_peers *peers, uint32_t group, const struct kg_peer_entry *entry)
{
    const char *trouble = kg_resolver_trouble(peers->resolver);
    char server[KG_SERVER_AT_STR];

    return json_pack("{s:s,s:s,s:s,s:s,s:s}", "group",
                     group == KG_GROUP_PBX ? "pbx" : peers->group[group].name, "server",
                     kg_server_at_format(&entry->at, server), "address", "-", "state", "unknown", "why",
                     trouble != NULL    ? trouble
                     : entry->complains ? "DNS has no address for it"
                                        : "DNS is being asked");
}

json_t *kg_peers_json(const struct kg_peers *peers)
{
    json_t *list = json_array();

    for (uint32_t group = 0; group < peers->group_count; group++) {
        for (unsigned i = 0; i < peers->group[group].entry_count; i++) {
            const struct kg_peer_entry *entry = &peers->group[group].entry[i];
            for (size_t k = 0; k < peers->count; k++)
                if (peers->peer[k]->group == group && peers->peer[k]->entry == i)
                    json_array_append_new(list, peer_json(peers, peers->peer[k]));
            if (!entry->located)
                json_array_append_new(list, unknown_json(peers, group, entry));
        }
    }
    return list;
}
