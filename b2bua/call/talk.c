/* SDP between the legs and the media engine. Each side's description goes to the engine, the engine's ports
 * go into the description that the other side is sent. */
#include "b2bua/call/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "conf/log.h"

/* ---- what a leg says ---- */

void kg_talk_forget(struct kg_leg *leg)
{
    kg_sdp_free(leg->sdp);
    free(leg->sdp_pending);
    leg->sdp = NULL;
    leg->sdp_pending = NULL;
}

static bool is_sdp(const sip_t *sip)
{
    if (!sip->sip_payload || sip->sip_payload->pl_len == 0)
        return false;
    return sip->sip_content_type && sip->sip_content_type->c_type &&
           strcasecmp(sip->sip_content_type->c_type, "application/sdp") == 0;
}

/* The side that made the offer under way. */
static enum kg_side offerer(const struct kg_call *call)
{
    return call->fsm.re != KG_RE_NONE ? call->fsm.re_from : KG_SIDE_A;
}

enum kg_sdp_found kg_talk_take(struct kg_leg *leg, const sip_t *sip, char *error, size_t size)
{
    if (!is_sdp(sip))
        return KG_SDP_NONE;
    const sip_payload_t *payload = sip->sip_payload;
    struct kg_sdp *sdp = kg_sdp_parse(payload->pl_data, payload->pl_len, error, size);
    if (!sdp)
        return KG_SDP_BAD;
    const struct kg_leg *other = &leg->call->leg[kg_other_side(leg->side)];
    bool is_answer = sip->sip_status != NULL;
    if (is_answer && other->sdp && kg_sdp_check_answer(other->sdp, sdp, error, size) != 0) {
        kg_sdp_free(sdp);
        return KG_SDP_BAD;
    }
    char *text = strndup(payload->pl_data, payload->pl_len);
    if (!text) {
        kg_sdp_free(sdp);
        snprintf(error, size, "out of memory");
        return KG_SDP_BAD;
    }
    kg_talk_forget(leg);
    leg->sdp = sdp;
    leg->sdp_pending = text;
    return KG_SDP_OK;
}

void kg_talk_commit(struct kg_call *call)
{
    for (int side = 0; side < 2; side++) {
        struct kg_leg *leg = &call->leg[side];
        if (leg->sdp_pending) {
            free(leg->sdp_agreed);
            leg->sdp_agreed = leg->sdp_pending;
            leg->sdp_pending = NULL;
        }
        kg_talk_forget(leg);
    }
}

void kg_talk_abandon(struct kg_call *call)
{
    kg_talk_forget(&call->leg[KG_SIDE_A]);
    kg_talk_forget(&call->leg[KG_SIDE_B]);
}

/* ---- to the engine ---- */

/* Fills what the engine is told of this side. Returns 0 or E2BIG. */
static int describe(struct kg_leg *leg, const struct kg_sdp *sdp, struct kg_media_side *out)
{
    int failed = kg_sdp_describe(sdp, out);
    if (failed)
        return failed;
    out->signalling = leg->flow.remote;
    out->trusted = leg->pbx;
    out->first_packets = !leg->pbx && leg->call->calls->server->config.media.first_packets;
    uint8_t offered = leg->call->leg[kg_other_side(leg->side)].mux;
    bool is_answer = offerer(leg->call) != leg->side;
    leg->mux = 0;
    for (uint8_t i = 0; i < out->stream_count; i++) {
        if (is_answer && !(offered >> i & 1)) /* RFC 5761 5.1.1: not without an offer of it */
            out->stream[i].rtcp_mux = false;
        if (out->stream[i].rtcp_mux)
            leg->mux |= (uint8_t)(1u << i);
    }
    return 0;
}

/* The local host for this leg's media: of the family that its SDP speaks, else of its signalling. */
static struct kg_addr bind_host(const struct kg_leg *leg, const struct kg_media_side *side)
{
    const struct kg_addr *configured = &leg->call->calls->server->config.media.address;
    struct kg_addr host = kg_addr_is_set(configured) ? *configured : leg->flow.local;
    for (uint8_t i = 0; side && i < side->stream_count; i++) {
        const struct kg_addr *rtp = &side->stream[i].rtp;
        if (!side->stream[i].enabled || !kg_addr_is_set(rtp))
            continue;
        struct kg_addr other;
        if (kg_addr_family(rtp) != kg_addr_family(&host) && kg_addr_local_for(rtp, &other) == 0)
            host = other;
        break;
    }
    kg_addr_set_port(&host, 0);
    return host;
}

static int store_ports(struct kg_call *call, const struct kg_media_reply *reply)
{
    size_t size = reply->stream_count * sizeof *call->local[0];
    for (int side = 0; side < 2 && size; side++) {
        struct kg_media_local *local = realloc(call->local[side], size);
        if (!local)
            return ENOMEM;
        memcpy(local, reply->local[side], size);
        call->local[side] = local;
    }
    call->stream_count = reply->stream_count;
    return 0;
}

struct waiting {
    struct kg_call *call;
    unsigned seq;
};

static void on_applied(void *ctx, const struct kg_media_reply *reply)
{
    struct waiting *waiting = ctx;
    struct kg_call *call = waiting->call;
    bool ok = reply->error == KG_MEDIA_OK && !call->over;
    if (reply->error != KG_MEDIA_OK && !call->over)
        kg_warn("call", "call %s: no media: %s", call->record->id, kg_media_error_text(reply->error));
    if (ok && store_ports(call, reply) != 0)
        ok = false;
    if (!call->over)
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_MEDIA, .seq = waiting->seq, .ok = ok});
    free(waiting);
    kg_call_unhold(call);
}

static int send_change(struct kg_call *call, struct kg_media_change *change, unsigned seq)
{
    char snapshot[KG_MEDIA_SNAPSHOT_MAX];
    struct waiting *waiting = NULL;
    snprintf(change->id, sizeof change->id, "%s", call->record->id);
    if (change->answered) {
        change->snapshot_len = kg_snapshot_write(call, snapshot, sizeof snapshot);
        change->snapshot = change->snapshot_len ? snapshot : NULL;
    }
    if (seq) {
        waiting = malloc(sizeof *waiting);
        if (!waiting)
            return ENOMEM;
        *waiting = (struct waiting){call, seq};
    }
    int failed = kg_media_apply(call->calls->server->media, change, waiting ? on_applied : NULL, waiting);
    if (failed)
        free(waiting);
    else if (waiting)
        call->holds++;
    return failed;
}

void kg_talk_apply(struct kg_call *call, const struct kg_fsm_action *action)
{
    struct kg_leg *leg = &call->leg[action->side];
    struct kg_leg *other = &call->leg[kg_other_side(action->side)];
    struct kg_media_side side;
    memset(&side, 0, sizeof side);
    int failed = leg->sdp ? describe(leg, leg->sdp, &side) : EINVAL;
    if (!failed) {
        struct kg_media_change change = {.answered = action->purpose != KG_APPLY_OFFER && action->purpose != KG_APPLY_PROGRESS};
        change.side[action->side] = &side;
        change.bind[action->side] = bind_host(leg, &side);
        /* Before B's first INVITE its leg has no flow yet: the contact that is tried first has. */
        struct kg_leg first = *other;
        if (!kg_addr_is_set(&first.flow.local) && call->target_count > 0)
            first.flow = call->target[0].flow;
        change.bind[other->side] = bind_host(&first, NULL);
        failed = send_change(call, &change, action->seq);
    }
    if (failed) {
        kg_warn("call", "call %s: no media: %s", call->record->id,
                failed == E2BIG ? "its SDP has more m-lines than kedge carries" : strerror(failed));
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_MEDIA, .seq = action->seq});
    }
}

/* Both agreed descriptions once more. */
void kg_talk_restore(struct kg_call *call)
{
    struct kg_media_side side[2];
    struct kg_media_change change = {.answered = true};
    char error[160];
    kg_talk_abandon(call);
    memset(side, 0, sizeof side);
    for (int i = 0; i < 2; i++) {
        struct kg_leg *leg = &call->leg[i];
        struct kg_sdp *sdp = leg->sdp_agreed
                                 ? kg_sdp_parse(leg->sdp_agreed, strlen(leg->sdp_agreed), error, sizeof error)
                                 : NULL;
        if (sdp && describe(leg, sdp, &side[i]) == 0) {
            change.side[i] = &side[i];
            change.bind[i] = bind_host(leg, &side[i]);
        }
        kg_sdp_free(sdp);
    }
    send_change(call, &change, 0);
}

void kg_talk_save(struct kg_call *call)
{
    send_change(call, &(struct kg_media_change){.answered = true}, 0);
}

static void on_deleted(void *ctx, const struct kg_media_reply *reply)
{
    struct kg_calls *calls = ctx;
    if (reply->error != KG_MEDIA_OK || !reply->info)
        return;
    /* The newest are the likeliest. */
    for (size_t i = 0; i < KG_RECENT_MAX; i++) {
        struct kg_record *record =
            calls->recent[(calls->recent_next + KG_RECENT_MAX - 1 - i) % KG_RECENT_MAX];
        if (!record)
            return;
        if (strcmp(record->id, reply->info->id) == 0) {
            kg_record_set_stats(record, reply->info);
            return;
        }
    }
    struct kg_call *call = kg_calls_find(calls, reply->info->id); /* its BYE is still on the way */
    if (call)
        kg_record_set_stats(call->record, reply->info);
}

void kg_talk_release(struct kg_call *call)
{
    kg_talk_abandon(call);
    if (call->fsm.apply_seq > 0) /* else the engine never heard of it */
        kg_media_delete(call->calls->server->media, call->record->id, on_deleted, call->calls);
}

/* ---- to the other side ---- */

/* Behind a 1:1 NAT the advertised address is for those outside; a peer with a private address is inside and
 * reaches the one we are bound to. */
static struct kg_addr advertised(const struct kg_leg *leg, const struct kg_addr *local)
{
    const struct kg_addr *advertise = &leg->call->calls->server->config.media.advertise;
    if (!kg_addr_is_set(local) || !kg_addr_is_set(advertise) ||
        kg_addr_family(advertise) != kg_addr_family(local) || kg_addr_is_private(&leg->flow.remote))
        return *local;
    struct kg_addr out = *advertise;
    kg_addr_set_port(&out, kg_addr_port(local));
    return out;
}

char *kg_talk_text(struct kg_leg *leg, size_t *len)
{
    const struct kg_call *call = leg->call;
    const struct kg_leg *other = &call->leg[kg_other_side(leg->side)];
    struct kg_sdp_local local[KG_MEDIA_STREAMS_MAX];
    memset(local, 0, sizeof local);
    if (!other->sdp || call->stream_count > KG_MEDIA_STREAMS_MAX)
        return NULL;
    /* An offer of ours has rtcp-mux where the other side offered it, an answer where this side did. */
    uint8_t mux = offerer(call) == leg->side ? leg->mux : other->mux;
    for (uint8_t i = 0; i < call->stream_count; i++) {
        local[i].rtp = advertised(leg, &call->local[leg->side][i].rtp);
        local[i].rtcp = advertised(leg, &call->local[leg->side][i].rtcp);
        local[i].rtcp_mux = mux >> i & 1;
    }
    return kg_sdp_rewrite(other->sdp, local, call->stream_count, &leg->origin, len);
}
