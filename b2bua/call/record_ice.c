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
    for (uint8_t line = 0; line < described->stream_count; line++) {
        const struct kg_ice_description *ice = described->stream[line].ice;
        for (uint8_t i = 0; ice && i < ice->candidate_count && count < KG_RECORD_CANDIDATES_MAX; i++)
            found[count++] = (struct kg_record_candidate){.type = ice->candidate[i].type,
                                                          .component = ice->candidate[i].component,
                                                          .line = line,
                                                          .addr = ice->candidate[i].addr};
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
