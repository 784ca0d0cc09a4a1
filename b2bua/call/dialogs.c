/* Which leg a dialog identifier names. nta's own table of dialogs is the index. */
#include "b2bua/call/call.h"

#include <errno.h>
#include <stdio.h>

#include <sofia-sip/sip_header.h>

#include "b2bua/call/dialogs.h"

/* The leg of a call with these tags. It may have none of its peer's yet: then it rings, and one of its early
 * dialogs has to have it. */
static struct kg_leg *find(struct kg_calls *calls, const char *call_id, const char *local, const char *remote)
{
    sip_call_id_t id[1];
    sip_call_id_init(id)->i_id = call_id;
    id->i_hash = msg_hash_string(call_id);
    nta_leg_t *dialog = nta_leg_by_dialog(calls->agent, NULL, id, remote, NULL, local, NULL);
    struct kg_leg *leg = dialog ? nta_leg_magic(dialog, kg_leg_request) : NULL;
    if (!leg || leg->call->over)
        return NULL;
    const char *rtag = nta_leg_get_rtag(dialog);
    if (!kg_dialog_is_tag(nta_leg_get_tag(dialog), local))
        return NULL;
    if (rtag)
        return kg_dialog_is_tag(rtag, remote) ? leg : NULL;
    sip_to_t to = {.a_tag = remote};
    return kg_early_of(leg, &(sip_t){.sip_to = &to, .sip_call_id = id}) ? leg : NULL;
}

enum kg_dialog_place kg_dialog_find(struct kg_calls *calls, const struct kg_dialog_id *id,
                                    struct kg_leg **leg)
{
    *leg = find(calls, id->call_id, id->to_tag, id->from_tag);
    if (*leg)
        return KG_DIALOG_NEAR;
    *leg = find(calls, id->call_id, id->from_tag, id->to_tag);
    return *leg ? KG_DIALOG_FAR : KG_DIALOG_FOREIGN;
}

/* Its peer's tag; of a leg that rings, that of the early dialog whose description is taken. */
static const char *remote_tag(const struct kg_leg *leg)
{
    const char *rtag = nta_leg_get_rtag(leg->dialog);
    const sip_t *early = rtag ? NULL : kg_early_newest(leg);
    return early && early->sip_to ? early->sip_to->a_tag : rtag;
}

int kg_dialog_name(const struct kg_leg *leg, enum kg_dialog_place place, struct kg_dialog_id *id)
{
    const char *local = leg->dialog ? nta_leg_get_tag(leg->dialog) : NULL;
    const char *remote = leg->dialog ? remote_tag(leg) : NULL;
    const char *call_id = leg->call->record->leg[leg->side].call_id;
    struct kg_dialog_id made;
    if (!local || !remote || !call_id)
        return ENOENT;
    const char *to = place == KG_DIALOG_NEAR ? local : remote;
    const char *from = place == KG_DIALOG_NEAR ? remote : local;
    if ((size_t)snprintf(made.call_id, sizeof made.call_id, "%s", call_id) >= sizeof made.call_id ||
        (size_t)snprintf(made.to_tag, sizeof made.to_tag, "%s", to) >= sizeof made.to_tag ||
        (size_t)snprintf(made.from_tag, sizeof made.from_tag, "%s", from) >= sizeof made.from_tag)
        return E2BIG;
    *id = made;
    return 0;
}

bool kg_dialog_translate(struct kg_calls *calls, struct kg_dialog_id *id, bool to_pbx)
{
    struct kg_leg *leg;
    enum kg_dialog_place place = kg_dialog_find(calls, id, &leg);
    if (place == KG_DIALOG_FOREIGN || (to_pbx ? leg->pbx : place == KG_DIALOG_FAR))
        return false;
    const struct kg_leg *other = &leg->call->leg[kg_other_side(leg->side)];
    return kg_dialog_name(other, place == KG_DIALOG_NEAR ? KG_DIALOG_FAR : KG_DIALOG_NEAR, id) == 0;
}
