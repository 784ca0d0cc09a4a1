/* What the record keeps of ICE: candidates, pairs and what happened to the path. Bounded. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/call/record.h"
#include "conf/clock.h"

void kg_record_note(struct kg_record *record, enum kg_note note, enum kg_side side,
                    const struct kg_addr *addr)
{
    struct kg_record_event *event = record->event;
    if (record->event_count == KG_RECORD_EVENTS_MAX) { /* how it began and how it ended stay */
        memmove(event + KG_RECORD_EVENTS_FIRST, event + KG_RECORD_EVENTS_FIRST + 1,
                (KG_RECORD_EVENTS_MAX - KG_RECORD_EVENTS_FIRST - 1) * sizeof *event);
        record->event_count--;
        record->events_lost++;
    } else {
        event = realloc(record->event, (record->event_count + 1u) * sizeof *record->event);
        if (!event)
            return;
        record->event = event;
    }
    event += record->event_count++;
    memset(event, 0, sizeof *event);
    event->note = (uint8_t)note;
    event->side = (uint8_t)side;
    event->after_ms = kg_wall_ms() - record->started_ms;
    if (addr)
        event->addr = *addr;
}

void kg_record_note_reshaped(struct kg_record *record, enum kg_side side, uint8_t refused, uint8_t asked)
{
    uint8_t before = record->event_count;
    kg_record_note(record, KG_NOTE_RESHAPED, side, NULL);
    if (record->event_count > 0 && (record->event_count > before || before == KG_RECORD_EVENTS_MAX)) {
        record->event[record->event_count - 1].refused = refused;
        record->event[record->event_count - 1].asked = asked;
    }
}

static void count_unused(struct kg_record_leg *leg, const char *reason)
{
    for (size_t i = 0; i < KG_RECORD_UNUSED_MAX; i++) {
        struct kg_record_unused *unused = &leg->unused[i];
        if (unused->reason && strcmp(unused->reason, reason) != 0)
            continue;
        unused->reason = reason;
        unused->count += unused->count < UINT8_MAX;
        return;
    }
}

void kg_record_set_candidates(struct kg_record *record, enum kg_side side, const struct kg_sdp *sdp,
                              const struct kg_media_side *described)
{
    struct kg_record_leg *leg = &record->leg[side];
    struct kg_record_candidate found[KG_RECORD_CANDIDATES_MAX];
    struct kg_sdp_unused unused[KG_ICE_CANDIDATES_MAX];
    uint8_t count = 0;
    memset(leg->unused, 0, sizeof leg->unused);
    leg->ice_problem = NULL;
    for (uint8_t line = 0; line < described->stream_count; line++) {
        const struct kg_ice_description *ice = described->stream[line].ice;
        for (uint8_t i = 0; ice && i < ice->candidate_count && count < KG_RECORD_CANDIDATES_MAX; i++)
            found[count++] = (struct kg_record_candidate){.type = ice->candidate[i].type,
                                                          .component = ice->candidate[i].component,
                                                          .line = line,
                                                          .addr = ice->candidate[i].addr};
        if (!leg->ice_problem)
            leg->ice_problem = kg_sdp_ice_problem(sdp, line);
        size_t others = kg_sdp_ice_unused(sdp, line, unused, KG_ICE_CANDIDATES_MAX);
        for (size_t i = 0; i < others; i++)
            count_unused(leg, unused[i].reason);
    }
    free(leg->candidate);
    leg->candidate = count ? malloc(count * sizeof *found) : NULL;
    leg->candidate_count = leg->candidate ? count : 0;
    if (leg->candidate)
        memcpy(leg->candidate, found, count * sizeof *found);
}

void kg_record_set_pairs(struct kg_record *record, const struct kg_media_session_info *info)
{
    uint8_t count = info->pair_count < KG_MEDIA_PAIRS_MAX ? info->pair_count : KG_MEDIA_PAIRS_MAX;
    struct kg_record_pair *pairs = count ? calloc(count, sizeof *pairs) : NULL;
    if (!pairs) /* nothing new is known: what was seen before stays */
        return;
    for (uint8_t i = 0; i < count; i++) {
        const struct kg_ice_pair *seen = &info->pair[i].pair;
        pairs[i] = (struct kg_record_pair){.side = info->pair[i].side,
                                           .stream = seen->stream,
                                           .component = seen->component,
                                           .state = seen->state,
                                           .local_type = seen->local.type,
                                           .remote_type = seen->remote.type,
                                           .selected = seen->selected,
                                           .nominated = seen->nominated,
                                           .local = seen->local.addr,
                                           .remote = seen->remote.addr,
                                           .rtt_ms = seen->rtt_ms,
                                           .won_ms = seen->won_ms};
        snprintf(pairs[i].reason, sizeof pairs[i].reason, "%s", seen->reason ? seen->reason : "");
    }
    free(record->pair);
    record->pair = pairs;
    record->pair_count = count;
}

/* ---- what follows from it ---- */

enum kg_mapping kg_record_mapping(const struct kg_record *record, enum kg_side side)
{
    const struct kg_record_leg *leg = &record->leg[side];
    enum kg_mapping mapping = KG_MAPPING_UNKNOWN;
    for (uint8_t p = 0; p < record->pair_count; p++) {
        const struct kg_record_pair *pair = &record->pair[p];
        if (pair->side != side || pair->component != 1 || pair->state != KG_PAIR_SUCCEEDED)
            continue;
        for (uint8_t i = 0; i < leg->candidate_count; i++) {
            const struct kg_record_candidate *candidate = &leg->candidate[i];
            if (candidate->component != 1 || candidate->line != pair->stream ||
                !kg_addr_same_host(&candidate->addr, &pair->remote))
                continue;
            bool same = kg_addr_equal(&candidate->addr, &pair->remote);
            if (same && candidate->type == KG_CANDIDATE_HOST)
                return KG_MAPPING_NONE;
            if (same && candidate->type == KG_CANDIDATE_SRFLX)
                mapping = KG_MAPPING_CONE;
            else if (candidate->type == KG_CANDIDATE_SRFLX && mapping == KG_MAPPING_UNKNOWN)
                mapping = KG_MAPPING_SYMMETRIC;
        }
    }
    return mapping;
}

static const char *mapping_name(enum kg_mapping mapping)
{
    static const char *const name[] = {"unknown", "none", "cone", "symmetric"};
    return name[mapping];
}

static const char *note_name(enum kg_note note)
{
    static const char *const name[KG_NOTE_COUNT] = {
        [KG_NOTE_TCP] = "tcp-line-rejected",
        [KG_NOTE_CONNECTED] = "connected",
        [KG_NOTE_CONSENT_LOST] = "consent-lost",
        [KG_NOTE_FAILED] = "failed",
        [KG_NOTE_LEFT] = "left",
        [KG_NOTE_MOVED] = "moved",
        [KG_NOTE_MEDIA_MOVED] = "media-moved",
        [KG_NOTE_RESTART] = "restart",
        [KG_NOTE_RENEW] = "renewal",
        [KG_NOTE_RENEW_REFUSED] = "renewal-refused",
        [KG_NOTE_PLAIN] = "plain",
        [KG_NOTE_FALL_BACK] = "fallback",
        [KG_NOTE_UPGRADE] = "upgrade",
        [KG_NOTE_UPGRADED] = "upgraded",
        [KG_NOTE_NOT_UPGRADED] = "not-upgraded",
        [KG_NOTE_RELAYED] = "relayed",
        [KG_NOTE_DIRECT] = "direct",
        [KG_NOTE_NO_PATH] = "no-path",
        [KG_NOTE_TAKEN_OVER] = "taken-over",
        [KG_NOTE_REFERRED] = "referred",
        [KG_NOTE_ENGINE_LOST] = "media-restarted",
        [KG_NOTE_SECURED] = "secured",
        [KG_NOTE_NOT_SECURED] = "not-secured",
        [KG_NOTE_REKEY] = "new-keys",
        [KG_NOTE_RESHAPED] = "asked-again",
    };
    return name[note];
}

/* ---- as JSON ---- */

static json_t *side_json(uint8_t side)
{
    return json_string(side == KG_SIDE_A ? "caller" : "callee");
}

void kg_record_add_leg_ice(json_t *json, const struct kg_record *record, enum kg_side side)
{
    const struct kg_record_leg *leg = &record->leg[side];
    json_t *candidates = json_array(), *unused = json_array();
    for (uint8_t i = 0; i < leg->candidate_count; i++) {
        const struct kg_record_candidate *candidate = &leg->candidate[i];
        json_array_append_new(candidates,
                              json_pack("{s:s, s:i, s:i, s:o}", "type",
                                        kg_candidate_type_name((enum kg_candidate_type)candidate->type),
                                        "component", (int)candidate->component, "line", (int)candidate->line,
                                        "address", kg_record_addr_json(&candidate->addr)));
    }
    for (size_t i = 0; i < KG_RECORD_UNUSED_MAX && leg->unused[i].reason; i++)
        json_array_append_new(unused, json_pack("{s:i, s:s}", "count", (int)leg->unused[i].count, "reason",
                                                leg->unused[i].reason));
    json_object_set_new(json, "ice_problem", leg->ice_problem ? json_string(leg->ice_problem) : json_null());
    json_object_set_new(json, "candidates", candidates);
    json_object_set_new(json, "unused", unused);
    json_object_set_new(json, "useless", json_integer(leg->useless));
    json_object_set_new(json, "left_out", json_integer(leg->pruned));
    json_object_set_new(json, "too_big", json_boolean(leg->too_big));
    json_object_set_new(json, "nat_mapping", json_string(mapping_name(kg_record_mapping(record, side))));
}

static json_t *pair_json(const struct kg_record_pair *pair)
{
    json_t *json = json_object();
    json_object_set_new(json, "side", side_json(pair->side));
    json_object_set_new(json, "line", json_integer(pair->stream));
    json_object_set_new(json, "component", json_integer(pair->component));
    json_object_set_new(json, "state", json_string(kg_pair_state_name((enum kg_pair_state)pair->state)));
    json_object_set_new(json, "local", kg_record_addr_json(&pair->local));
    json_object_set_new(json, "remote", kg_record_addr_json(&pair->remote));
    json_object_set_new(json, "remote_type",
                        json_string(kg_candidate_type_name((enum kg_candidate_type)pair->remote_type)));
    json_object_set_new(json, "nominated", json_boolean(pair->nominated));
    json_object_set_new(json, "selected", json_boolean(pair->selected));
    json_object_set_new(json, "rtt_ms", kg_record_ms_json(pair->rtt_ms));
    json_object_set_new(json, "won_ms", kg_record_ms_json(pair->won_ms));
    json_object_set_new(json, "reason", json_string(pair->reason));
    return json;
}

void kg_record_add_ice(json_t *json, const struct kg_record *record)
{
    json_t *pairs = json_array(), *events = json_array(), *told = json_null();
    for (uint8_t i = 0; i < record->pair_count; i++)
        json_array_append_new(pairs, pair_json(&record->pair[i]));
    for (uint8_t i = 0; i < record->event_count; i++) {
        const struct kg_record_event *event = &record->event[i];
        json_array_append_new(
            events, json_pack("{s:s, s:o, s:I, s:o}", "what", note_name((enum kg_note)event->note), "side",
                              side_json(event->side), "after_ms", (json_int_t)event->after_ms, "address",
                              kg_record_addr_json(&event->addr)));
    }
    if (kg_addr_is_set(&record->told[KG_SIDE_A]))
        told = json_pack("{s:o, s:o}", "caller", kg_record_addr_json(&record->told[KG_SIDE_A]), "callee",
                         kg_record_addr_json(&record->told[KG_SIDE_B]));
    json_object_set_new(json, "pairs", pairs);
    json_object_set_new(json, "selected_by_phones", told);
    json_object_set_new(json, "events", events);
    json_object_set_new(json, "events_lost", json_integer(record->events_lost));
}
