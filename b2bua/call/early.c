/* What the early dialogs of leg B said: an INVITE that a PBX forks makes one for each phone that rings, each
 * with a To tag and a description of its own (RFC 3261 12.1, 13.2.2.4), and so do INVITEs of ours to several
 * contacts, each with a Call-ID of its own. */
#include "b2bua/call/talk.h"

#include <string.h>

#include <sofia-sip/sip_protos.h>

static const sip_t *message(msg_t *msg)
{
    return msg ? sip_object(msg) : NULL;
}

static const char *tag_of(const sip_t *sip)
{
    return sip && sip->sip_to && sip->sip_to->a_tag ? sip->sip_to->a_tag : NULL;
}

static bool is_of_call(const sip_t *sip, const char *call_id)
{
    return sip && sip->sip_call_id && strcmp(sip->sip_call_id->i_id, call_id) == 0;
}

static bool is_of(const sip_t *known, const sip_call_id_t *call_id, const char *tag)
{
    const char *known_tag = tag_of(known);
    return tag && call_id && known_tag && strcmp(known_tag, tag) == 0 && is_of_call(known, call_id->i_id);
}

static int find(const struct kg_leg *leg, const sip_call_id_t *call_id, const char *tag)
{
    for (int i = 0; i < KG_EARLY_MAX; i++)
        if (is_of(message(leg->early[i]), call_id, tag))
            return i;
    return -1;
}

static void put_first(struct kg_leg *leg, int at)
{
    msg_t *msg = leg->early[at];
    memmove(&leg->early[1], &leg->early[0], (size_t)at * sizeof leg->early[0]);
    leg->early[0] = msg;
}

void kg_early_remember(struct kg_leg *leg, nta_outgoing_t *orq, bool sdp)
{
    msg_t *msg = nta_outgoing_getresponse(orq);
    const char *tag = tag_of(message(msg));
    int at = tag ? find(leg, message(msg)->sip_call_id, tag) : -1;
    if (!tag || (at >= 0 && !sdp)) { /* says nothing new */
        msg_destroy(msg);
        return;
    }
    /* The newest description stands first; the last one goes when there is no room. */
    if (at < 0)
        at = KG_EARLY_MAX - 1;
    msg_destroy(leg->early[at]);
    leg->early[at] = NULL;
    int to = 0;
    if (!sdp) /* behind all that are there: no description, no say */
        while (to < at && leg->early[to])
            to++;
    memmove(&leg->early[to + 1], &leg->early[to], (size_t)(at - to) * sizeof leg->early[0]);
    leg->early[to] = msg;
}

const sip_t *kg_early_of(const struct kg_leg *leg, const sip_t *sip)
{
    int at = find(leg, sip->sip_call_id, tag_of(sip));
    return at < 0 ? NULL : message(leg->early[at]);
}

const sip_t *kg_early_newest(const struct kg_leg *leg)
{
    return message(leg->early[0]);
}

const sip_t *kg_early_here(const struct kg_leg *leg)
{
    const char *call_id = leg->call->record->leg[leg->side].call_id;
    for (int i = 0; i < KG_EARLY_MAX && call_id; i++)
        if (is_of_call(message(leg->early[i]), call_id))
            return message(leg->early[i]);
    return NULL;
}

void kg_early_drop(struct kg_leg *leg)
{
    const char *call_id = leg->call->record->leg[leg->side].call_id;
    int kept = 0;
    if (!call_id)
        return;
    if (is_of_call(kg_early_newest(leg), call_id))
        kg_talk_forget(leg);
    for (int i = 0; i < KG_EARLY_MAX; i++) {
        msg_t *msg = leg->early[i];
        leg->early[i] = NULL;
        if (is_of_call(message(msg), call_id))
            msg_destroy(msg);
        else if (msg)
            leg->early[kept++] = msg;
    }
}

void kg_early_speaks(struct kg_leg *leg, const sip_t *request)
{
    int at = find(leg, request->sip_call_id, request->sip_from->a_tag);
    if (at > 0)
        put_first(leg, at);
}

void kg_early_agree(struct kg_leg *leg)
{
    msg_destroy(leg->early_agreed);
    leg->early_agreed = leg->early[0] ? msg_ref_create(leg->early[0]) : NULL;
}

bool kg_early_is_agreed(const struct kg_leg *leg, const sip_t *sip)
{
    return is_of(message(leg->early_agreed), sip->sip_call_id, tag_of(sip));
}

void kg_early_forget(struct kg_leg *leg)
{
    msg_destroy(leg->early_agreed);
    leg->early_agreed = NULL;
    for (int i = 0; i < KG_EARLY_MAX; i++) {
        msg_destroy(leg->early[i]);
        leg->early[i] = NULL;
    }
}
