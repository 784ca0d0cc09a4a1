/* In which shapes the contact in front is asked for media, one after the other (secure.h has the order), and
 * what is learnt of that. */
#include "b2bua/call/talk.h"

#include <stdio.h>
#include <string.h>

#include "b2bua/route/trunks.h"
#include "conf/clock.h"
#include "conf/log.h"

/* Whether what a peer took or refused before says what it takes next: a PBX speaks for many phones, each with
 * habits of its own. */
static bool has_habits(bool pbx, const struct kg_trunk *trunk)
{
    return !pbx || trunk;
}

/* The word for a peer in the configuration. B before its INVITE: for the contact that is tried first. */
static struct kg_shape_facts shape_facts(const struct kg_leg *to, enum kg_shape offered)
{
    const struct kg_call *call = to->call;
    const struct kg_config *config = &call->calls->server->config;
    const struct kg_call_target *first =
        to->side == KG_SIDE_B && !to->dialog && call->target_count > 0 ? &call->target[0] : NULL;
    const struct kg_trunk *trunk = first ? first->trunk : to->trunk;
    bool pbx = first ? first->pbx : to->pbx;
    const struct kg_flow *flow = first ? &first->flow : &to->flow;
    struct kg_shape_facts facts = {.web = kg_transport_is_web(flow->transport), .offered = offered};
    facts.word = trunk ? kg_trunk_config(trunk)->profile
                 : pbx ? config->media.pbx_profile
                       : config->media.profile;
    if (to->side == KG_SIDE_B && call->profile != KG_PROFILE_DEFAULT)
        facts.word = call->profile;
    if (has_habits(pbx, trunk))
        kg_habits_recall(call->calls->habits, flow->transport, &flow->remote, kg_mono_ms(), &facts);
    return facts;
}

/* The first m-line that has any shape; KG_MEDIA_STREAMS_MAX: none. */
static unsigned first_line(const struct kg_leg *leg)
{
    unsigned first = 0;
    while (first < KG_MEDIA_STREAMS_MAX &&
           (!(leg->lines.enabled >> first & 1) || leg->lines.said[first] == KG_SHAPE_AS_IT_CAME))
        first++;
    return first;
}

static enum kg_shape shape_of_offer(const struct kg_leg *from)
{
    unsigned first = first_line(from);
    return first < KG_MEDIA_STREAMS_MAX ? (enum kg_shape)from->lines.said[first] : KG_SHAPE_AS_IT_CAME;
}

/* The shapes for a contact, by the first m-line that has any. */
static void plan(struct kg_leg *to)
{
    const struct kg_leg *from = &to->call->leg[kg_other_side(to->side)];
    enum kg_shape offered = shape_of_offer(from), out[KG_SHAPE_TRIES];
    unsigned first = first_line(from);
    struct kg_shape_facts facts = shape_facts(to, offered);
    facts.feedback = first < KG_MEDIA_STREAMS_MAX && (from->lines.feedback >> first & 1);
    to->keys.asks = (struct kg_leg_asks){.count = (uint8_t)kg_shapes(&facts, out)};
    to->keys.asks.demanded = kg_secure_is_demanded(facts.word);
    to->keys.asks.kept = !to->keys.asks.demanded && kg_shapes_keep_keys(&facts);
    to->keys.asks.both = facts.word == KG_PROFILE_AUTO || facts.word == KG_PROFILE_DEFAULT;
    /* Who answers begins the handshake (RFC 5763 5): behind a NAT, without ICE, who offered would never be
     * found. */
    to->keys.asks.ours = offered == KG_SHAPE_DTLS && from->call->record->leg[from->side].nat &&
                         !(from->lines.ice >> first & 1);
    for (uint8_t i = 0; i < to->keys.asks.count; i++)
        to->keys.asks.shape[i] = (uint8_t)out[i];
}

enum kg_shape kg_talk_wanted_shape(struct kg_leg *to, bool *ours)
{
    if (to->keys.asks.count == 0)
        plan(to);
    *ours = to->keys.asks.ours || to->keys.asks.at > 0;
    return (enum kg_shape)to->keys.asks.shape[to->keys.asks.at];
}

bool kg_talk_bars_clear(const struct kg_leg *leg)
{
    return leg->asked && leg->side == KG_SIDE_B &&
           kg_secure_is_demanded(shape_facts(leg, KG_SHAPE_PLAIN).word);
}

bool kg_talk_will_end(const struct kg_leg *leg)
{
    bool ours;
    return kg_talk_wanted_shape(&leg->call->leg[kg_other_side(leg->side)], &ours) != KG_SHAPE_WEB || ours;
}

/* Whoever answers with a fingerprint where there was none to answer wants DTLS. */
static bool shows_dtls(const sip_t *answer)
{
    char error[160];
    struct kg_sdp_secure said;
    bool shows = false;
    struct kg_sdp *sdp = kg_talk_parse(answer, error, sizeof error);
    for (size_t i = 0; sdp && !shows && kg_sdp_secure(sdp, i, &said) == 0; i++) {
        shows = said.dtls;
        kg_sdp_secure_clear(&said);
    }
    kg_sdp_free(sdp);
    return shows;
}

/* Nothing is left, since it was not asked in the clear. */
static void say_kept(const struct kg_leg *leg, int status)
{
    if (!leg->keys.asks.kept)
        return;
    kg_warn(
        "call",
        "call %s: %s refuses encrypted media (%d), though it had keys within the last day. It is not asked "
        "in "
        "the clear, for anybody on the way could have said so. If it was set up without keys on purpose, one "
        "call from it shows that; or set the profile to plain.",
        leg->call->record->id, leg->call->record->leg[leg->side].user, status);
}

bool kg_talk_next_shape(struct kg_leg *leg, int status, const sip_t *answer)
{
    uint8_t before = leg->keys.asks.at;
    if (!kg_shape_is_refusal(status))
        return false;
    if (leg->keys.asks.at + 1 >= leg->keys.asks.count) {
        say_kept(leg, status);
        return false;
    }
    leg->keys.asks.at++;
    for (uint8_t i = leg->keys.asks.at; shows_dtls(answer) && i < leg->keys.asks.count; i++)
        if (leg->keys.asks.shape[i] == KG_SHAPE_DTLS)
            leg->keys.asks.at = i;
    uint8_t refused = leg->keys.asks.shape[before], asked = leg->keys.asks.shape[leg->keys.asks.at];
    const char *id = leg->call->record->id, *name = leg->call->record->leg[leg->side].user;
    kg_record_note_reshaped(leg->call->record, leg->side, refused, asked);
    if (answer)
        kg_info("call", "call %s: the answer of %s to %s is of no use; it is asked for %s", id, name,
                kg_shape_name((enum kg_shape)refused), kg_shape_name((enum kg_shape)asked));
    else
        kg_info("call", "call %s: %s refuses %s (%d) and is asked for %s", id, name,
                kg_shape_name((enum kg_shape)refused), status, kg_shape_name((enum kg_shape)asked));
    return true;
}

const char *kg_talk_why_refused(const struct kg_leg *leg, int status, const sip_t *sip)
{
    const struct kg_leg *other = &leg->call->leg[kg_other_side(leg->side)];
    const char *name = leg->call->record->leg[leg->side].user;
    char error[160], codecs[80], shapes[80] = "", why[240] = "";
    if (!kg_shape_is_refusal(status) || !other->sdp || leg->keys.asks.count == 0)
        return NULL;
    struct kg_sdp *could = kg_talk_parse(sip, error, sizeof error); /* RFC 3261 21.4.26 */
    if (could && !kg_sdp_have_common_codec(other->sdp, "the caller", could, name, error, sizeof error))
        snprintf(why, sizeof why, "%s; kedge does not transcode", error);
    kg_sdp_free(could);
    if (!why[0]) {
        kg_sdp_codec_names(other->sdp, codecs, sizeof codecs);
        for (uint8_t i = 0; i <= leg->keys.asks.at && leg->keys.asks.shape[i] != KG_SHAPE_AS_IT_CAME; i++) {
            size_t len = strlen(shapes);
            snprintf(shapes + len, sizeof shapes - len, "%s%s", i > 0 ? ", " : " (",
                     kg_shape_name((enum kg_shape)leg->keys.asks.shape[i]));
        }
        snprintf(why, sizeof why,
                 "the callee refuses every way of media that it was offered%s%s, with the codecs %s", shapes,
                 shapes[0] ? ")" : "", codecs);
    }
    return kg_record_keep(leg->call->record, why);
}

void kg_talk_learn_shapes(struct kg_leg *leg, bool sdp)
{
    const struct kg_leg *from = &leg->call->leg[kg_other_side(leg->side)];
    struct kg_habits *habits = leg->call->calls->habits;
    enum kg_shape offered = shape_of_offer(from);
    uint8_t refused = 0;
    if (has_habits(from->pbx, from->trunk) && offered != KG_SHAPE_AS_IT_CAME)
        kg_habits_shown(habits, from->flow.transport, &from->flow.remote, kg_mono_ms(), offered);
    if (!sdp || !has_habits(leg->pbx, leg->trunk))
        return;
    for (uint8_t i = 0; i < leg->keys.asks.at; i++)
        refused |= KG_SHAPE_BIT(leg->keys.asks.shape[i]);
    refused &= (uint8_t)~KG_SHAPE_BIT(leg->keys.asks.shape[leg->keys.asks.at]);
    kg_habits_took(habits, leg->flow.transport, &leg->flow.remote, kg_mono_ms(), refused,
                   (enum kg_shape)leg->keys.asks.shape[leg->keys.asks.at]);
}
