/* What the engine says to the client: answers, events, and the list from which both ends become whole again.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "conf/log.h"
#include "media/client_state.h"

#define BUSY_RETRY_MS   50 /* a port of the dead engine that the kernel has not let go */
#define BUSY_GIVE_UP_MS 2000

/* ---- answers ---- */

static void call_done(const struct kg_request *request, const struct kg_media_reply *reply)
{
    if (request->done)
        request->done(request->ctx, reply);
}

/* pair: room for KG_MEDIA_PAIRS_MAX, for as long as info is used. */
static void info_of(const struct kg_media_client *client, const Kg__Session *session,
                    struct kg_media_session_info *info, struct kg_media_pair *pair)
{
    memset(info, 0, sizeof *info);
    info->pair = pair;
    for (; info->pair_count < session->n_pair && info->pair_count < KG_MEDIA_PAIRS_MAX; info->pair_count++)
        kg_wire_to_pair(session->pair[info->pair_count], &pair[info->pair_count]);
    snprintf(info->id, sizeof info->id, "%s", session->id);
    for (size_t i = 0; i < session->n_a && i < session->n_b && i < KG_MEDIA_STREAMS_MAX; i++) {
        kg_wire_to_stats(session->a[i], &info->stats[KG_SIDE_A][i]);
        kg_wire_to_stats(session->b[i], &info->stats[KG_SIDE_B][i]);
        info->stream_count++;
    }
    const struct kg_mirror_session *mirrored = kg_mirror_find(&client->mirror, info->id);
    if (mirrored && mirrored->snapshot.len > 0) {
        info->snapshot = mirrored->snapshot.data;
        info->snapshot_len = mirrored->snapshot.len;
    }
}

static void local_of(const Kg__Reply *reply, struct kg_media_reply *out)
{
    for (size_t i = 0; i < reply->n_a && i < reply->n_b && i < KG_MEDIA_STREAMS_MAX; i++) {
        struct kg_media_local *local[2] = {&out->local[KG_SIDE_A][i], &out->local[KG_SIDE_B][i]};
        local[0]->rtp = local[0]->rtcp = kg_wire_to_addr(reply->a[i]);
        local[1]->rtp = local[1]->rtcp = kg_wire_to_addr(reply->b[i]);
        for (unsigned side = 0; side < 2; side++) {
            if (kg_addr_is_set(&local[side]->rtcp))
                kg_addr_set_port(&local[side]->rtcp, (uint16_t)(kg_addr_port(&local[side]->rtp) + 1));
        }
        out->stream_count++;
    }
}

static enum kg_media_error error_of(const Kg__Reply *reply)
{
    if (reply->error == KG_WIRE_PORT_BUSY)
        return KG_MEDIA_NO_PORTS;
    return reply->error <= KG_MEDIA_GONE ? (enum kg_media_error)reply->error : KG_MEDIA_NO_SOCKETS;
}

static void lose(struct kg_media_client *client, const char *id_in_mirror, const char *reason)
{
    char id[KG_MEDIA_ID_MAX];
    snprintf(id, sizeof id, "%s", id_in_mirror);
    struct kg_mirror_session *session = kg_mirror_find(&client->mirror, id);
    if (session)
        kg_mirror_remove(&client->mirror, session);
    kg_client_tell(client, &(struct kg_media_event){.type = KG_MEDIA_LOST, .id = id, .reason = reason});
}

static void on_applied(struct kg_media_client *client, struct kg_request *request, const Kg__Reply *reply)
{
    struct kg_media_reply out = {.error = error_of(reply)};
    struct kg_mirror_session *session = kg_mirror_find(&client->mirror, request->id);
    if (out.error == KG_MEDIA_OK) {
        local_of(reply, &out);
        if (session && kg_mirror_take_local(session, reply) == 0)
            session->confirmed = true;
    } else if (session && !session->confirmed) {
        kg_mirror_remove(&client->mirror, session);
    }
    kg_client_complete(client, request, &out);
}

static void on_reported(struct kg_media_client *client, struct kg_request *request, const Kg__Reply *reply)
{
    struct kg_media_session_info info;
    struct kg_media_pair pair[KG_MEDIA_PAIRS_MAX];
    struct kg_media_reply out = {.error = error_of(reply)};
    if (reply->session) {
        info_of(client, reply->session, &info, pair);
        out.info = &info;
        out.stream_count = info.stream_count;
    }
    if (request->kind == KG_REQUEST_QUERY_ALL && reply->session) {
        request->deadline_ms = client->now_ms + KG_REQUEST_TIMEOUT_MS;
        call_done(request, &out);
        return;
    }
    bool deleted = request->kind == KG_REQUEST_DELETE;
    char id[KG_MEDIA_ID_MAX];
    snprintf(id, sizeof id, "%s", request->id);
    kg_client_complete(client, request, &out); /* its snapshot is the mirror's: forget that afterwards */
    struct kg_mirror_session *session = deleted ? kg_mirror_find(&client->mirror, id) : NULL;
    if (session && session->deleting)
        kg_mirror_remove(&client->mirror, session);
}

/* ---- recovery ---- */

/* One session that the engine holds. */
static void on_listed(struct kg_media_client *client, const Kg__Session *wire)
{
    if (wire->apply == NULL)
        return;
    struct kg_mirror_session *session = kg_mirror_find(&client->mirror, wire->id);
    if (session) {
        /* Ours is the newer description; where its latches are, the engine knows better. */
        Kg__Apply places = KG__APPLY__INIT;
        places.answered = session->answered;
        places.n_place_a = wire->apply->n_place_a;
        places.n_place_b = wire->apply->n_place_b;
        places.place_a = wire->apply->place_a;
        places.place_b = wire->apply->place_b;
        kg_mirror_take_apply(session, &places);
        session->seen = session->confirmed = true;
        return;
    }
    session = kg_mirror_get(&client->mirror, wire->id);
    if (session == NULL || kg_mirror_take_apply(session, wire->apply) != 0) {
        kg_error("media", "out of memory: call %s of the media engine cannot be taken over", wire->id);
        if (session)
            kg_mirror_remove(&client->mirror, session);
        return;
    }
    session->seen = session->confirmed = true;
    struct kg_media_session_info info;
    info_of(client, wire, &info, NULL); /* a whole one carries no pairs */
    kg_client_tell(client,
                   &(struct kg_media_event){.type = KG_MEDIA_RECOVERED, .id = info.id, .info = &info});
}

static int replay(struct kg_media_client *client, const struct kg_mirror_session *session)
{
    kg_arena_reset(client->out_arena);
    Kg__Apply *apply = kg_mirror_apply(session, client->out_arena);
    if (apply == NULL)
        return ENOMEM;
    Kg__Message message = KG__MESSAGE__INIT;
    message.body_case = KG__MESSAGE__BODY_APPLY;
    message.apply = apply;
    struct kg_request *request = kg_requests_add(&client->requests, KG_REQUEST_REPLAY, session->id, &message);
    if (request == NULL)
        return errno;
    request->deadline_ms = INT64_MAX;
    return 0;
}

static bool has_delete(const struct kg_media_client *client, const char *id)
{
    const struct kg_request *request, *next;
    HASH_ITER(hh, client->requests.by_number, request, next)
    {
        if (request->kind == KG_REQUEST_DELETE && strcmp(request->id, id) == 0)
            return true;
    }
    return false;
}

/* The list has ended: what we know and the engine does not is made again. */
static void on_list_end(struct kg_media_client *client)
{
    client->listed = true;
    struct kg_mirror_session *session, *next;
    HASH_ITER(hh, client->mirror.sessions, session, next)
    {
        if (session->deleting) {
            struct kg_request *request = NULL;
            if (!session->seen && session->confirmed && !has_delete(client, session->id))
                kg_mirror_remove(&client->mirror, session);
            else if (session->seen && !has_delete(client, session->id) &&
                     (request = kg_client_add_delete(client, session->id)))
                request->deadline_ms = INT64_MAX;
            continue;
        }
        if (session->seen || !session->confirmed)
            continue;
        if (client->same_engine)
            session->lost = "the media engine ended it while signalling was away: no packet came";
        else if (replay(client, session) != 0)
            session->lost = "out of memory when the media engine came back";
    }
    /* Told afterwards: the callbacks may change the mirror. */
    for (session = client->mirror.sessions; session;) {
        if (session->lost) {
            lose(client, session->id, session->lost);
            session = client->mirror.sessions;
        } else {
            session = session->hh.next;
        }
    }
}

static void on_replayed(struct kg_media_client *client, struct kg_request *request, const Kg__Reply *reply)
{
    if (reply->error == KG_WIRE_PORT_BUSY && client->now_ms - client->recovery_ms < BUSY_GIVE_UP_MS) {
        request->sent = false;
        request->not_before_ms = client->now_ms + BUSY_RETRY_MS;
        return;
    }
    char id[KG_MEDIA_ID_MAX];
    snprintf(id, sizeof id, "%s", request->id);
    kg_requests_remove(&client->requests, request);
    if (reply->error == KG_MEDIA_OK)
        return;
    lose(client, id,
         reply->error == KG_WIRE_PORT_BUSY
             ? "the media engine was restarted and its ports are now another program's"
             : kg_media_error_text(error_of(reply)));
}

static void maybe_up(struct kg_media_client *client)
{
    if (client->state != KG_CLIENT_RECOVERING || !client->listed)
        return;
    const struct kg_request *request, *next;
    HASH_ITER(hh, client->requests.by_number, request, next)
    {
        if (kg_request_is_recovery(request))
            return;
    }
    client->state = KG_CLIENT_UP;
    kg_client_tell_plain(client, KG_MEDIA_UP);
    kg_client_flush(client);
}

/* ---- messages in ---- */

static void on_identity(struct kg_media_client *client, const Kg__Fingerprint *wire)
{
    struct kg_fingerprint before = client->identity;
    if (kg_wire_to_fingerprint(wire, &client->identity) &&
        memcmp(&before, &client->identity, sizeof before) != 0)
        kg_client_tell_plain(client, KG_MEDIA_IDENTITY);
}

static void on_hello(struct kg_media_client *client, const Kg__Hello *hello)
{
    if (hello->version != KG_WIRE_VERSION || client->state != KG_CLIENT_GREETING) {
        kg_error("media",
                 "the media engine speaks version %u of the control protocol, we speak %u; restart kedge",
                 hello->version, KG_WIRE_VERSION);
        client->broken = true;
        return;
    }
    client->same_engine = client->instance == hello->instance;
    client->instance = hello->instance;
    client->state = KG_CLIENT_RECOVERING;
    client->listed = false;
    client->recovery_ms = client->now_ms;
    for (struct kg_mirror_session *session = client->mirror.sessions; session; session = session->hh.next)
        session->seen = false;
    Kg__Hello ours = KG__HELLO__INIT;
    ours.version = KG_WIRE_VERSION;
    Kg__Message message = KG__MESSAGE__INIT;
    message.body_case = KG__MESSAGE__BODY_HELLO;
    message.hello = &ours;
    kg_client_put_message(client, &message);
    client->configure_due = client->has_configure;
    struct kg_request *request = kg_client_add_query(client, KG_REQUEST_RECOVER, "", true);
    if (request)
        request->deadline_ms = INT64_MAX;
    else
        client->broken = true;
    on_identity(client, hello->identity);
    kg_client_flush(client);
}

static void on_reply(struct kg_media_client *client, uint32_t number, const Kg__Reply *reply)
{
    struct kg_request *request = kg_requests_find(&client->requests, number);
    if (request == NULL)
        return; /* expired */
    switch (request->kind) {
    case KG_REQUEST_APPLY:
        on_applied(client, request, reply);
        break;
    case KG_REQUEST_DELETE:
    case KG_REQUEST_QUERY:
    case KG_REQUEST_QUERY_ALL:
        on_reported(client, request, reply);
        break;
    case KG_REQUEST_RECOVER:
        if (reply->session) {
            on_listed(client, reply->session);
        } else {
            kg_requests_remove(&client->requests, request);
            on_list_end(client);
            kg_client_flush(client);
        }
        break;
    case KG_REQUEST_REPLAY:
        on_replayed(client, request, reply);
        break;
    }
    maybe_up(client);
}

static void on_engine_event(struct kg_media_client *client, const Kg__Event *wire)
{
    if (wire->type == KG__EVENT__TYPE__IDENTITY) {
        on_identity(client, wire->identity);
        return;
    }
    struct kg_mirror_session *session = kg_mirror_find(&client->mirror, wire->id);
    if (session == NULL || session->deleting)
        return;
    if (wire->type == KG__EVENT__TYPE__ENDED) {
        lose(client, wire->id, wire->reason);
        return;
    }
    static const enum kg_media_event_type type[] = {
        [KG__EVENT__TYPE__LATCHED] = KG_MEDIA_LATCHED, [KG__EVENT__TYPE__SILENCE] = KG_MEDIA_SILENCE,
        [KG__EVENT__TYPE__ICE] = KG_MEDIA_ICE,         [KG__EVENT__TYPE__PATH] = KG_MEDIA_PATH,
        [KG__EVENT__TYPE__LEFT] = KG_MEDIA_LEFT,       [KG__EVENT__TYPE__RTCP] = KG_MEDIA_RTCP,
        [KG__EVENT__TYPE__SECURE] = KG_MEDIA_SECURE,   [KG__EVENT__TYPE__REKEY] = KG_MEDIA_REKEY,
    };
    if ((unsigned)wire->type >= sizeof type / sizeof type[0])
        return;
    if (wire->type == KG__EVENT__TYPE__LATCHED)
        kg_mirror_take_latched(session, wire);
    struct kg_media_event event = {
        .type = type[wire->type],
        .id = session->id,
        .side = wire->side == 1 ? KG_SIDE_B : KG_SIDE_A,
        .stream = (uint8_t)(wire->stream % KG_MEDIA_STREAMS_MAX),
        .rtcp = wire->rtcp,
        .proof = wire->proof <= KG_PROOF_ICE ? (enum kg_proof)wire->proof : KG_PROOF_NONE,
        .addr = kg_wire_to_addr(wire->addr),
        .ice_state = wire->ice_state <= KG_ICE_FAILED ? (enum kg_ice_state)wire->ice_state : KG_ICE_NEW,
        .relayed = wire->relayed,
        .secured = wire->secured,
        .reason = wire->reason[0] ? wire->reason : NULL,
        .local = kg_wire_to_addr(wire->local),
        .packet = wire->packet.data,
        .packet_len = wire->packet.len,
    };
    if (event.type == KG_MEDIA_ICE && event.ice_state == KG_ICE_DISCONNECTED)
        kg_mirror_forget_latched(session, event.side, event.stream);
    kg_client_tell(client, &event);
}

void kg_client_on_message(struct kg_media_client *client, size_t len)
{
    const Kg__Message *message =
        len > KG_WIRE_MESSAGE_MAX ? NULL : kg_wire_parse(client->in_arena, client->in, len);
    if (message == NULL) {
        kg_error("media", "the media engine sent something that is no message: reconnecting");
        client->broken = true;
        return;
    }
    explicit_bzero(client->in, len); /* it may have carried keys */
    if (message->body_case == KG__MESSAGE__BODY_HELLO)
        on_hello(client, message->hello);
    else if (message->body_case == KG__MESSAGE__BODY_REPLY)
        on_reply(client, message->request, message->reply);
    else if (message->body_case == KG__MESSAGE__BODY_EVENT)
        on_engine_event(client, message->event);
    kg_arena_reset(client->in_arena);
}
