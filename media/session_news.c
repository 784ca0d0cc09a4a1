/* What workers say of sessions: answers to questions, and events; as messages for signalling. */
#include "media/session_state.h"

#include <stdlib.h>

#include "conf/log.h"
#include "media/ports.h"

static Kg__Place *place_of(struct kg_sessions *s, const struct kg_session *session,
                           const struct kg_latched *latched, unsigned side, unsigned i)
{
    Kg__Place *place = kg_arena_take(s->arena, sizeof *place);
    if (place == NULL)
        return NULL;
    kg__place__init(place);
    place->local = kg_wire_from_addr(s->arena, &session->line[i].local[side]);
    place->rtp = kg_wire_from_addr(s->arena, &latched->addr[side][i][0]);
    place->rtcp = kg_wire_from_addr(s->arena, &latched->addr[side][i][1]);
    place->rtp_proof = latched->proof[side][i][0];
    place->rtcp_proof = latched->proof[side][i][1];
    return place;
}

/* Everything that makes this session again. */
static Kg__Apply *whole_apply(struct kg_sessions *s, struct kg_session *session,
                              const struct kg_report *report)
{
    Kg__Apply *apply = kg_arena_take(s->arena, sizeof *apply);
    Kg__Place **place[2];
    for (unsigned side = 0; side < 2; side++) {
        place[side] = kg_arena_take(s->arena, KG_MEDIA_STREAMS_MAX * sizeof **place);
        for (unsigned i = 0; place[side] && i < session->line_count; i++) {
            place[side][i] = place_of(s, session, &report->latched, side, i);
            if (place[side][i] == NULL)
                return NULL;
        }
    }
    if (apply == NULL || place[0] == NULL || place[1] == NULL)
        return NULL;
    kg__apply__init(apply);
    apply->id = session->id;
    apply->bind_a = kg_wire_from_addr(s->arena, &session->bind[0]);
    apply->bind_b = kg_wire_from_addr(s->arena, &session->bind[1]);
    apply->side_a = (ProtobufCBinaryData){session->side[0].len, session->side[0].data};
    apply->side_b = (ProtobufCBinaryData){session->side[1].len, session->side[1].data};
    apply->answered = session->answered;
    apply->has_snapshot = session->snapshot.len > 0;
    apply->snapshot = (ProtobufCBinaryData){session->snapshot.len, session->snapshot.data};
    apply->n_place_a = apply->n_place_b = session->line_count;
    apply->ice_a = session->ice[0] ? kg_wire_from_ice_local(s->arena, session->ice[0]) : NULL;
    apply->ice_b = session->ice[1] ? kg_wire_from_ice_local(s->arena, session->ice[1]) : NULL;
    apply->place_a = place[0];
    apply->place_b = place[1];
    return apply;
}

static Kg__Stats **list_stats(struct kg_sessions *s, const struct kg_session *session,
                              struct kg_report *report, unsigned side)
{
    Kg__Stats **list = kg_arena_take(s->arena, KG_MEDIA_STREAMS_MAX * sizeof *list);
    for (unsigned i = 0; list && i < session->line_count; i++) {
        report->stats[side][i].local = session->line[i].local[side];
        list[i] = kg_wire_from_stats(s->arena, &report->stats[side][i]);
        if (list[i] == NULL)
            return NULL;
    }
    return list;
}

/* The worker does not know where its sockets are seen from outside: local without address is ours. */
static void list_pairs(struct kg_sessions *s, const struct kg_session *session, struct kg_report *report,
                       Kg__Session *out)
{
    out->pair = kg_arena_take(s->arena, KG_MEDIA_PAIRS_MAX * sizeof(Kg__Pair *));
    for (unsigned i = 0; out->pair && i < report->pair_count; i++) {
        struct kg_ice_pair *pair = &report->pair[i].pair;
        if (!kg_addr_is_set(&pair->local.addr) && pair->stream < session->line_count) {
            pair->local.addr = session->line[pair->stream].local[report->pair[i].side];
            if (pair->component == 2)
                kg_addr_set_port(&pair->local.addr, (uint16_t)(kg_addr_port(&pair->local.addr) + 1));
        }
        out->pair[out->n_pair] = kg_wire_from_pair(s->arena, &report->pair[i]);
        if (out->pair[out->n_pair])
            out->n_pair++;
    }
}

static void release_ports(struct kg_sessions *s, const struct kg_session *session, int64_t now_ms)
{
    for (unsigned i = 0; i < session->line_count; i++) {
        for (unsigned side = 0; side < 2; side++) {
            if (kg_addr_is_set(&session->line[i].local[side]))
                kg_ports_release(s->ports, kg_addr_port(&session->line[i].local[side]), now_ms);
        }
    }
}

static void answer(struct kg_sessions *s, struct kg_command *command, int64_t now_ms)
{
    struct kg_question *question = command->ctx;
    struct kg_session *session = question->session;
    Kg__Session out = KG__SESSION__INIT;
    out.id = session->id;
    out.a = list_stats(s, session, command->report, 0);
    out.b = list_stats(s, session, command->report, 1);
    if (out.a && out.b)
        out.n_a = out.n_b = session->line_count;
    if (question->whole)
        out.apply = whole_apply(s, session, command->report);
    else
        list_pairs(s, session, command->report, &out);
    if (question->request != 0)
        s->handlers.report(s->handlers.link, question->request, question->ctx, &out);
    if (command->type == KG_COMMAND_REMOVE) {
        release_ports(s, session, now_ms);
        kg_session_free(session);
    }
    free(question);
    kg_report_free(command->report);
    kg_command_free(command);
}

static void tell(struct kg_sessions *s, Kg__Event__Type type, const struct kg_notice *notice)
{
    struct kg_session *session = notice->owner;
    Kg__Event event = KG__EVENT__INIT;
    event.type = type;
    event.id = session->id;
    event.side = notice->side;
    event.stream = notice->stream;
    event.rtcp = notice->rtcp;
    event.proof = notice->proof;
    event.addr = kg_wire_from_addr(s->arena, &notice->addr);
    event.ice_state = notice->ice_state;
    event.relayed = notice->relayed;
    event.secured = notice->secured;
    if (notice->type == KG_NOTICE_RTCP) {
        struct kg_addr local = session->line[notice->stream].local[notice->side];
        kg_addr_set_port(&local, (uint16_t)(kg_addr_port(&local) + notice->rtcp));
        event.local = kg_wire_from_addr(s->arena, &local);
        event.packet.len = notice->packet_len;
        event.packet.data = (uint8_t *)(uintptr_t)notice->packet;
    }
    if (notice->reason)
        event.reason = (char *)(uintptr_t)notice->reason; /* protobuf-c has no const; it only reads */
    s->handlers.event(s->handlers.link, &event);
}

static void heed(struct kg_sessions *s, const struct kg_notice *notice, bool owned, int64_t now_ms)
{
    kg_arena_reset(s->arena);
    if (notice->type == KG_NOTICE_DONE) {
        answer(s, notice->command, now_ms);
        return;
    }
    const struct kg_session *session = notice->owner;
    if (session->removed)
        return;
    static const Kg__Event__Type type[] = {
        [KG_NOTICE_LATCHED] = KG__EVENT__TYPE__LATCHED, [KG_NOTICE_ICE] = KG__EVENT__TYPE__ICE,
        [KG_NOTICE_PATH] = KG__EVENT__TYPE__PATH,       [KG_NOTICE_LEFT] = KG__EVENT__TYPE__LEFT,
        [KG_NOTICE_RTCP] = KG__EVENT__TYPE__RTCP,       [KG_NOTICE_SECURE] = KG__EVENT__TYPE__SECURE,
        [KG_NOTICE_REKEY] = KG__EVENT__TYPE__REKEY,
    };
    if (notice->type < sizeof type / sizeof type[0]) {
        tell(s, type[notice->type], notice);
        return;
    }
    bool ours = !owned || notice->type == KG_NOTICE_ABANDONED;
    tell(s, ours ? KG__EVENT__TYPE__ENDED : KG__EVENT__TYPE__SILENCE, notice);
    if (!ours)
        return;
    kg_info("media", "call %s: ended by the engine, since %s and no signalling came to end it", session->id,
            notice->reason);
    /* Without room now, the worker's reminder brings us back. */
    if (kg_sessions_have_room(s))
        kg_sessions_remove(s, session->id, 0, NULL);
}

void kg_sessions_collect(struct kg_sessions *s, bool owned, int64_t now_ms)
{
    struct kg_notice notice;
    for (unsigned i = 0; i < s->worker_count; i++) {
        while (kg_worker_take_notice(s->worker[i], &notice))
            heed(s, &notice, owned, now_ms);
    }
}
