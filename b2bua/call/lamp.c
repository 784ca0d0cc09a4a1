#include "b2bua/call/lamp.h"

#include "b2bua/call/call.h"

static enum kg_lamp_state state_of(const struct kg_fsm *fsm)
{
    if (fsm->state >= KG_CALL_ANSWERING)
        return KG_LAMP_CONFIRMED;
    return fsm->leg[KG_SIDE_B] == KG_LEG_RINGING ? KG_LAMP_EARLY : KG_LAMP_TRYING;
}

/* Who picks a call up replaces the other party's dialog with kedge (RFC 5359 2.17): it is on the other leg. A
 * call that is answered nobody picks up, and its names are its own. */
void kg_calls_each_lamp(struct kg_calls *calls, void (*tell)(void *ctx, const struct kg_lamp *lamp),
                        void *ctx)
{
    struct kg_call *call, *next;
    HASH_ITER(hh, calls->by_id, call, next)
    {
        if (call->fsm.state < KG_CALL_CALLING || call->fsm.state > KG_CALL_TALK)
            continue;
        for (int side = 0; side < 2; side++) {
            const struct kg_leg *other = &call->leg[!side];
            struct kg_lamp lamp = {.user = call->record->leg[side].user,
                                   .other = call->record->leg[!side].user,
                                   .id = call->record->id,
                                   .initiator = side == KG_SIDE_A,
                                   .state = state_of(&call->fsm)};
            if (!lamp.user || !lamp.other || call->leg[side].pbx)
                continue;
            lamp.named =
                lamp.state != KG_LAMP_CONFIRMED && kg_dialog_name(other, KG_DIALOG_FAR, &lamp.dialog) == 0;
            tell(ctx, &lamp);
        }
    }
}
