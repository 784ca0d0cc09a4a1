/* What the engine says of keys, and the record of who has which. */
#include "b2bua/call/talk.h"

#include <stdio.h>

#include "b2bua/call/explain.h"
#include "conf/log.h"

void kg_secure_agreed(struct kg_call *call)
{
    struct kg_record *record = call->record;
    for (int side = 0; side < 2; side++) {
        const struct kg_leg_lines *agreed = &call->leg[side].agreed;
        for (int i = KG_MEDIA_STREAMS_MAX - 1; i >= 0; i--) {
            if (!(agreed->enabled >> i & 1))
                continue;
            record->leg[side].secure = agreed->secure[i];
            record->leg[side].sealed = agreed->secure[i] == KG_SECURE_PASS && (agreed->sealed >> i & 1);
            record->leg[side].zrtp = record->leg[side].sealed && agreed->kind[i] == KG_SECURE_PLAIN;
        }
    }
    if (call->secured != KG_SECURED_UNDECIDED)
        record->secured = kg_secure_why_text(call->secured);
}

/* A side that has no keys hears nothing, and is not heard: the call is over, and says why. Before the answer
 * another phone may still take it. */
static void on_secured(struct kg_call *call, const struct kg_media_event *event)
{
    char why[200];
    bool known = call->leg[event->side].agreed.secure[event->stream] == KG_SECURE_DTLS;
    kg_record_note(call->record, event->secured ? KG_NOTE_SECURED : KG_NOTE_NOT_SECURED, event->side, NULL);
    if (event->secured || !call->record->answered_ms || !known)
        return;
    snprintf(why, sizeof why, "%s's media could not be secured (DTLS): %s",
             kg_record_name(call->record, event->side),
             event->reason && *event->reason ? event->reason : "no association came about");
    kg_warn("call", "call %s: %s", call->record->id, why);
    kg_call_event(call,
                  &(struct kg_fsm_event){.type = KG_EV_HANGUP, .why = kg_record_keep(call->record, why)});
}

static void renew(struct kg_call *call, enum kg_side side)
{
    call->leg[side].rekeys = true;
    kg_path_event(call, &(struct kg_path_event){.type = KG_PATH_EV_REKEY, .side = side});
}

void kg_secure_media(struct kg_call *call, const struct kg_media_event *event)
{
    if (event->type == KG_MEDIA_SECURE) {
        if (event->stream < KG_MEDIA_STREAMS_MAX)
            on_secured(call, event);
        return;
    }
    renew(call, event->side);
}

void kg_secure_recovered(struct kg_call *call, const struct kg_media_session_info *info)
{
    for (int side = 0; side < 2; side++) {
        bool wanted = false;
        for (uint8_t i = 0; i < info->stream_count; i++)
            wanted |= info->stats[side][i].wants_keys;
        if (wanted)
            renew(call, (enum kg_side)side);
    }
}
