/* A request of kedge's own that is challenged is sent once more with the trunk's password. */
#include "b2bua/call/call.h"

#include <sofia-sip/sip_tag.h>

#include "b2bua/route/trunks.h"
#include "conf/log.h"

/* Whose password answers a challenge to a request on this leg: a trunk's that of its provider, a PBX's that
 * of the trunk on the other side. NULL: nobody's; a phone's password is the phone's. */
static struct kg_trunk *prover_of(const struct kg_leg *leg, enum kg_trunk_account *account)
{
    *account = leg->trunk ? KG_ACCOUNT_PROVIDER : KG_ACCOUNT_PBX;
    if (leg->trunk || !leg->pbx)
        return leg->trunk;
    return leg->call->leg[kg_other_side(leg->side)].trunk;
}

bool kg_prove(struct kg_leg *leg, nta_outgoing_t **orq, const sip_t *response, nta_response_f *on_answer)
{
    int status = response ? response->sip_status->st_status : 0;
    enum kg_trunk_account account;
    struct kg_trunk *trunk = prover_of(leg, &account);
    if (!trunk || (status != 401 && status != 407)) {
        leg->proofs = status >= 200 ? 0 : leg->proofs;
        return false;
    }
    msg_t *msg = kg_trunk_prove(trunk, account, leg->dialog, *orq, response, leg->proofs++);
    return msg && kg_out_instead(leg, orq, msg, NULL, on_answer);
}

bool kg_prove_may_be_asked(const struct kg_leg *leg)
{
    enum kg_trunk_account account;
    return prover_of(leg, &account);
}

void kg_prove_note(const struct kg_leg *leg)
{
    enum kg_trunk_account account;
    const char *name = kg_trunk_config(prover_of(leg, &account))->name;
    if (account == KG_ACCOUNT_PROVIDER)
        kg_warn("call", "call %s: the trunk %s does not take kedge's password for it", leg->call->record->id,
                name);
    else
        kg_warn(
            "call",
            "call %s: the PBX asks for a password, which calls from the trunk %s do not have, or not the "
            "right one: set its pbx_user and pbx_password, or let the PBX take calls from kedge's address",
            leg->call->record->id, name);
}
