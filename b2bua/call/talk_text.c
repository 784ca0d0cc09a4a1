/* The SDP that a leg's peer is sent: what the other side said, with the engine's ports and kedge's own ICE
 * and keys in it. */
#include "b2bua/call/talk.h"

#include <stdlib.h>
#include <string.h>

/* The offer under way goes into a 2xx of ours, and the answer comes in its ACK. */
static bool is_late(const struct kg_call *call)
{
    return call->fsm.re != KG_RE_NONE ? call->fsm.re_kind == KG_RE_LATE : call->fsm.late;
}

bool kg_talk_are_apart(const struct kg_leg *a, const struct kg_leg *b)
{
    const struct kg_addr *at = &a->flow.remote, *bt = &b->flow.remote;
    return !a->pbx && !b->pbx && kg_addr_family(at) == kg_addr_family(bt) && !kg_addr_same_host(at, bt) &&
           !(kg_addr_is_private(at) && kg_addr_is_private(bt));
}

/* Whether the two phones of a steered call talk to each other without our relay, as far as the offer under
 * way tells: who updates its offer after the selection writes its end of the selected pair as the default
 * destination, and the peer's end as a=remote-candidates (RFC 8839 4.4.1.2.2, 4.4.1.3). Where the offer does
 * not tell, what flowed last decides. */
static bool is_direct(const struct kg_leg *from, uint8_t i)
{
    const struct kg_call *call = from->call;
    const struct kg_leg *to = &call->leg[kg_other_side(from->side)];
    struct kg_media_side side;
    if (call->fsm.state != KG_CALL_TALK || !call->path.steered || call->restarts)
        return false;
    if (from->sdp && i == 0 && kg_sdp_describe(from->sdp, &side) == 0 && side.stream[i].ice) {
        const struct kg_addr *at = &side.stream[i].rtp, *peer = &side.stream[i].ice->remote_candidate[0];
        struct kg_addr near = kg_talk_advertised(from, &from->flow.remote, &call->local[from->side][i].rtp);
        struct kg_addr far = kg_talk_advertised(to, &to->flow.remote, &call->local[to->side][i].rtp);
        if (kg_addr_equal(at, &near) || kg_addr_equal(at, &far))
            return false;
        if (kg_addr_is_set(peer))
            return !kg_addr_equal(peer, &near);
        if (kg_addr_is_set(at) && kg_addr_is_set(&from->seen[0]) && !kg_addr_equal(at, &from->seen[0]))
            return true;
    }
    return !call->path.relayed;
}

/* Where a contact of the callee is told to send. One that is reached from another address of ours than the
 * first, for which the ports were opened, is told the same ports there: if it answers, the engine moves them
 * (media/client.h). */
static struct kg_addr port_for(const struct kg_leg *leg, const struct kg_addr *ours)
{
    struct kg_addr at = *ours;
    if (kg_addr_is_set(ours) && kg_addr_is_set(&leg->placed)) {
        at = leg->placed;
        kg_addr_set_port(&at, kg_addr_port(ours));
    }
    return at;
}

/* m-lines that its peer, a browser, is asked for; they have no media without rtcp-mux (RFC 8834 4.4). */
static uint8_t web_lines(const struct kg_leg *leg)
{
    uint8_t lines = 0;
    for (uint8_t i = 0; i < KG_MEDIA_STREAMS_MAX; i++)
        lines |= leg->keys.shape[i] == KG_SHAPE_WEB ? (uint8_t)(1u << i) : 0;
    return lines;
}

/* Whether keys end at kedge. */
static bool is_terminated(const struct kg_leg *leg)
{
    for (uint8_t i = 0; i < KG_MEDIA_STREAMS_MAX; i++)
        if (leg->keys.shape[i] != KG_SHAPE_AS_IT_CAME)
            return true;
    return false;
}

enum kg_sdp_kind kg_talk_reader(const struct kg_leg *leg)
{
    const struct kg_leg *other = &leg->call->leg[kg_other_side(leg->side)];
    bool from_web = false;
    for (uint8_t i = 0; i < KG_MEDIA_STREAMS_MAX; i++)
        from_web |= other->lines.said[i] == KG_SHAPE_WEB;
    if (web_lines(leg))
        return KG_SDP_WEB;
    return is_terminated(leg) && from_web ? KG_SDP_LEGACY : KG_SDP_LIKE_WRITER;
}

char *kg_talk_text(struct kg_leg *leg, size_t *len)
{
    const struct kg_call *call = leg->call;
    const struct kg_leg *other = &call->leg[kg_other_side(leg->side)];
    struct kg_sdp_local local[KG_MEDIA_STREAMS_MAX];
    struct kg_talk_keys keys[KG_MEDIA_STREAMS_MAX];
    struct kg_sdp_pruned pruned = {0};
    struct kg_sdp *made, *made_own = NULL;
    const struct kg_sdp *said = kg_talk_said(other, &made);
    char *text = NULL;
    memset(local, 0, sizeof local);
    if (!said || call->stream_count > KG_MEDIA_STREAMS_MAX)
        goto out;
    bool is_offer = kg_talk_offerer(call) != leg->side && !leg->asked; /* asked: the answer in our ACK */
    if (leg->fork && call->fsm.state == KG_CALL_CALLING)
        leg->placed = kg_talk_bind_host(leg, NULL);
    /* An offer of ours has rtcp-mux where the other side offered it, an answer where this side did. */
    uint8_t mux = is_offer ? other->lines.mux | web_lines(leg) : leg->lines.mux;
    struct kg_sdp_reader reader = {.kind = kg_talk_reader(leg), .answers = !is_offer};
    /* Where keys are ours the answer has the profile of the offer (RFC 3264 6), whatever the writer's is. */
    if (reader.kind != KG_SDP_LIKE_WRITER || (reader.answers && is_terminated(leg)))
        reader.said = kg_talk_said(leg, &made_own);
    for (uint8_t i = 0; i < call->stream_count; i++) {
        const struct kg_media_local *ours = &call->local[leg->side][i],
                                    *theirs = &call->local[other->side][i];
        struct kg_sdp_local *line = &local[i];
        struct kg_addr rtp = port_for(leg, &ours->rtp), rtcp = port_for(leg, &ours->rtcp);
        line->rtp = kg_talk_advertised(leg, &leg->flow.remote, &rtp);
        line->rtcp = kg_talk_advertised(leg, &leg->flow.remote, &rtcp);
        line->rtcp_mux = mux >> i & 1;
        line->ice = leg->told[i];
        line->trickle = leg->trickles;
        line->mismatch = !is_offer && leg->sdp && kg_sdp_ice_is_mismatch(leg->sdp, i);
        if (line->ice == KG_SDP_ICE_OURS) {
            line->ufrag = leg->ice.ufrag;
            line->pwd = leg->ice.pwd;
        } else if (line->ice == KG_SDP_ICE_KEEP) {
            if (!is_offer) /* the two agree on it, or have it not (RFC 5761 5.1.1) */
                line->rtcp_mux = mux & other->lines.mux & 1u << i;
            line->apart = kg_talk_are_apart(leg, other);
            line->selected = is_direct(is_offer ? other : leg, i);
            line->peer[0].from = kg_talk_advertised(other, &other->flow.remote, &theirs->rtp);
            line->peer[1].from = kg_talk_advertised(other, &other->flow.remote, &theirs->rtcp);
            for (int c = 0; c < 2 && i == 0; c++)
                line->peer[c].to = leg->seen[c];
        }
        line->mux_agreed = !is_offer && line->rtcp_mux;
        if (kg_talk_write_keys(leg, i, !is_offer, &keys[i])) {
            line->keys = KG_SDP_KEYS_OURS;
            line->ours = &keys[i].sdp;
        }
    }
    kg_talk_plan_bundle(leg, said, &reader, local, call->stream_count);
    if (is_offer)
        leg->mux_offered = mux;
    text = kg_sdp_rewrite_within(said, local, call->stream_count, &reader, &leg->origin,
                                 is_offer && !is_late(call) ? kg_size_left(leg) : 0, &pruned, len);
    kg_path_note_pruned(leg, &pruned);
    for (uint8_t i = 0; i < call->stream_count; i++)
        if (local[i].ours)
            kg_talk_forget_keys(&keys[i], 1);
    kg_sdp_free(made_own);
out:
    kg_sdp_free(made);
    return text;
}

char *kg_talk_answer(struct kg_leg *leg, const sip_t *offer, size_t *len)
{
    char error[160];
    char *text = kg_talk_text(leg, len);
    struct kg_sdp *asked = kg_talk_parse(offer, error, sizeof error), *answer = NULL;
    if (asked && text)
        answer = kg_sdp_parse(text, *len, error, sizeof error);
    if (asked && (!answer || kg_sdp_check_answer(asked, answer, error, sizeof error) != 0)) {
        free(text);
        text = kg_talk_refusal(leg, offer, len);
    }
    kg_sdp_free(asked);
    kg_sdp_free(answer);
    return text;
}

char *kg_talk_refusal(struct kg_leg *leg, const sip_t *offer, size_t *len)
{
    char error[160];
    struct kg_sdp_local local[KG_SDP_MEDIA_MAX];
    struct kg_sdp *sdp = kg_talk_parse(offer, error, sizeof error);
    char *text = NULL;
    memset(local, 0, sizeof local);
    if (sdp) {
        local[0].rtp = leg->flow.local; /* for o= and c=; no line gets a port */
        kg_addr_set_port(&local[0].rtp, 0);
        text = kg_sdp_rewrite(sdp, local, KG_SDP_MEDIA_MAX, &leg->origin, len);
    }
    kg_sdp_free(sdp);
    return text;
}
