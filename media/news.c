/* What relays have to tell signalling: where latches moved, what became of ICE and of keys. */
#include "media/news.h"

#include "media/relay_ice.h"
#include "media/secure.h"

void kg_news_latched(struct kg_worker *worker, struct kg_flow *flow)
{
    const struct kg_leg *leg = flow->leg;
    struct kg_notice notice = {.type = KG_NOTICE_LATCHED,
                               .owner = leg->stream->relay->owner,
                               .side = leg->side,
                               .stream = leg->stream->index,
                               .rtcp = flow->rtcp,
                               .proof = flow->latch.proof,
                               .addr = flow->latch.remote};
    if (kg_worker_notify(worker, &notice))
        flow->untold = false;
}

void kg_news_latches(struct kg_worker *worker, struct kg_relay *relay)
{
    for (unsigned i = 0; i < relay->stream_count; i++) {
        for (unsigned side = 0; relay->stream[i] && side < 2; side++) {
            struct kg_leg *leg = &relay->stream[i]->leg[side];
            if (leg->rtp.untold)
                kg_news_latched(worker, &leg->rtp);
            if (leg->rtcp.untold)
                kg_news_latched(worker, &leg->rtcp);
        }
    }
}

/* ---- ICE ---- */

static bool tell_state(struct kg_worker *worker, const struct kg_relay *relay, unsigned side)
{
    const struct kg_relay_ice *ice = relay->ice;
    uint8_t stream = ice->state_stream[side];
    struct kg_notice notice = {.type = KG_NOTICE_ICE,
                               .owner = relay->owner,
                               .side = (uint8_t)side,
                               .stream = stream,
                               .ice_state = (uint8_t)kg_ice_state(ice->agent[side]),
                               .reason = ice->state_reason[side]};
    const struct kg_latch *latch = &relay->stream[stream]->leg[side].rtp.latch;
    if (latch->proof == KG_PROOF_ICE)
        notice.addr = latch->remote;
    return kg_worker_notify(worker, &notice);
}

static bool tell_path(struct kg_worker *worker, const struct kg_relay *relay, uint8_t stream)
{
    bool relayed = relay->ice->stream[stream]->path == KG_PATH_RELAYED;
    const char *why = relayed ? "media passes the relay" : "no media passes the relay any more";
    return kg_worker_notify(worker, &(struct kg_notice){.type = KG_NOTICE_PATH,
                                                        .owner = relay->owner,
                                                        .stream = stream,
                                                        .relayed = relayed,
                                                        .reason = why});
}

static bool tell_left(struct kg_worker *worker, const struct kg_relay *relay, uint8_t stream, unsigned side)
{
    return kg_worker_notify(worker,
                            &(struct kg_notice){.type = KG_NOTICE_LEFT,
                                                .owner = relay->owner,
                                                .side = (uint8_t)side,
                                                .stream = stream,
                                                .reason = "it answers no more checks on the relay path"});
}

static bool tell_ice(struct kg_worker *worker, struct kg_relay *relay)
{
    struct kg_relay_ice *ice = relay->ice;
    bool all = true;
    for (unsigned side = 0; side < 2; side++) {
        if (ice->state_untold[side] && ice->agent[side])
            all &= !(ice->state_untold[side] = !tell_state(worker, relay, side));
    }
    for (uint8_t i = 0; i < relay->stream_count; i++) {
        struct kg_stream_ice *stream = ice->stream[i];
        if (stream == NULL)
            continue;
        if (stream->path_untold)
            all &= !(stream->path_untold = !tell_path(worker, relay, i));
        for (unsigned side = 0; side < 2; side++) {
            if (stream->left_untold[side])
                all &= !(stream->left_untold[side] = !tell_left(worker, relay, i, side));
        }
    }
    return all;
}

/* ---- keys ---- */

static bool tell_association(struct kg_worker *worker, const struct kg_leg *leg, unsigned component)
{
    const struct kg_association *a = &leg->secure->dtls->by_component[component];
    return kg_worker_notify(worker, &(struct kg_notice){.type = KG_NOTICE_SECURE,
                                                        .owner = leg->stream->relay->owner,
                                                        .side = leg->side,
                                                        .stream = leg->stream->index,
                                                        .rtcp = component == 1,
                                                        .secured = a->secured,
                                                        .reason = a->reason});
}

static bool tell_secure(struct kg_worker *worker, struct kg_relay *relay)
{
    bool all = true, rekey[2] = {false};
    for (unsigned i = 0; i < 2u * relay->stream_count; i++) {
        struct kg_leg *leg = relay->stream[i / 2] ? &relay->stream[i / 2]->leg[i % 2] : NULL;
        if (leg == NULL || leg->secure == NULL)
            continue;
        struct kg_leg_secure *secure = leg->secure;
        if (secure->rekey_untold && !rekey[leg->side]) /* once for the side */
            rekey[leg->side] = kg_worker_notify(
                worker,
                &(struct kg_notice){.type = KG_NOTICE_REKEY, .owner = relay->owner, .side = leg->side});
        if (secure->rekey_untold)
            all &= !(secure->rekey_untold = !rekey[leg->side]);
        for (unsigned c = 0; secure->dtls && c < 2; c++) {
            struct kg_association *a = &secure->dtls->by_component[c];
            if (a->untold)
                all &= !(a->untold = !tell_association(worker, leg, c));
        }
    }
    return all;
}

/* ---- all of it ---- */

void kg_news_tell(struct kg_worker *worker, struct kg_relay *relay)
{
    bool all = relay->ice == NULL || tell_ice(worker, relay);
    if (relay->secured)
        all &= tell_secure(worker, relay);
    kg_news_latches(worker, relay);
    relay->untold = !all;
}
