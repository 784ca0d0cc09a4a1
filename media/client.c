#include "media/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "conf/log.h"
#include "media/mirror.h"
#include "media/request.h"
#include "media/wire.h"

#define REQUEST_TIMEOUT_MS 2000
#define REQUESTS_MAX       4096
#define RECONNECT_MS       50
#define BUSY_RETRY_MS      50 /* a port of the dead engine that the kernel has not let go */
#define BUSY_GIVE_UP_MS    2000
#define RUN_EVERY_MS       500 /* so that a request made between runs expires in time */
#define READ_BURST         256

enum state {
    DOWN,       /* no connection */
    GREETING,   /* connected; the engine's Hello is to come */
    RECOVERING, /* reading what it holds, making again what it lost */
    UP,
};

struct kg_media_client {
    enum state state;
    int fd;
    bool blocked; /* the socket took no more */
    bool broken;  /* a write failed; run closes */
    bool listed;  /* RECOVERING: the engine's list has ended */
    bool same_engine;
    bool has_configure, configure_due;
    Kg__Configure configure;
    uint64_t instance; /* of the engine last met; 0: none yet */
    int64_t now_ms;
    int64_t reconnect_ms;
    int64_t recovery_ms; /* when this recovery began */
    struct kg_requests requests;
    struct kg_mirror mirror;
    struct kg_arena *in_arena; /* the message being read */
    struct kg_arena
        *out_arena; /* the request being made, perhaps by a callback that still reads the former */
    kg_media_on_event *on_event;
    void *ctx;
    char path[KG_PATH_MAX];
    uint8_t in[KG_WIRE_MESSAGE_MAX + 1];
};

/* ---- construction ---- */

struct kg_media_client *kg_media_client_new(const char *path, kg_media_on_event *on_event, void *ctx)
{
    struct kg_media_client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return NULL;
    client->fd = -1;
    client->on_event = on_event;
    client->ctx = ctx;
    client->in_arena = kg_arena_new();
    client->out_arena = kg_arena_new();
    snprintf(client->path, sizeof client->path, "%s", path);
    if (client->in_arena == NULL || client->out_arena == NULL) {
        kg_media_client_free(client);
        return NULL;
    }
    return client;
}

void kg_media_client_free(struct kg_media_client *client)
{
    if (client == NULL)
        return;
    if (client->fd >= 0)
        close(client->fd);
    kg_requests_clear(&client->requests);
    kg_mirror_clear(&client->mirror);
    free(client->in_arena);
    free(client->out_arena);
    free(client);
}

int kg_media_client_fd(const struct kg_media_client *client)
{
    return client->fd;
}

bool kg_media_client_wants_write(const struct kg_media_client *client)
{
    return client->fd >= 0 && client->blocked;
}

bool kg_media_client_is_up(const struct kg_media_client *client)
{
    return client->state == UP;
}

static void tell(struct kg_media_client *client, const struct kg_media_event *event)
{
    if (client->on_event)
        client->on_event(client->ctx, event);
}

static void tell_plain(struct kg_media_client *client, enum kg_media_event_type type)
{
    tell(client, &(struct kg_media_event){.type = type});
}

/* ---- sending ---- */

/* False: not sent; blocked or broken says why. */
static bool put(struct kg_media_client *client, const uint8_t *data, size_t len)
{
    if (client->blocked || client->broken)
        return false;
    if (send(client->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return true;
    if (errno == EAGAIN || errno == ENOBUFS)
        client->blocked = true;
    else
        client->broken = true;
    return false;
}

static void put_request(struct kg_media_client *client, struct kg_request *request)
{
    request->sent = put(client, request->packed, request->len);
    request->ever_sent |= request->sent;
}

static void put_message(struct kg_media_client *client, const Kg__Message *message)
{
    uint8_t packed[256]; /* Hello and Configure */
    if (kg__message__get_packed_size(message) <= sizeof packed)
        put(client, packed, kg__message__pack(message, packed));
}

static void put_configure(struct kg_media_client *client)
{
    Kg__Message message = KG__MESSAGE__INIT;
    message.body_case = KG__MESSAGE__BODY_CONFIGURE;
    message.configure = &client->configure;
    put_message(client, &message);
    client->configure_due = client->blocked;
}

static bool may_send(const struct kg_media_client *client, const struct kg_request *request)
{
    if (request->sent || request->not_before_ms > client->now_ms)
        return false;
    return client->state == UP || (client->state == RECOVERING && kg_request_is_recovery(request));
}

/* Sends what may be sent now, in order. */
static void flush(struct kg_media_client *client)
{
    if (client->state < RECOVERING)
        return;
    if (client->configure_due)
        put_configure(client);
    struct kg_request *request, *next;
    HASH_ITER(hh, client->requests.by_number, request, next)
    {
        if (client->blocked || client->broken)
            return;
        if (may_send(client, request))
            put_request(client, request);
    }
}

/* One new request at the end of the queue: all before it were sent unless the socket is blocked. */
static void send_new(struct kg_media_client *client, struct kg_request *request)
{
    if (may_send(client, request))
        put_request(client, request);
}

/* ---- requests ---- */

static bool is_full(const struct kg_media_client *client)
{
    return kg_requests_count(&client->requests) >= REQUESTS_MAX;
}

static int pack_side(struct kg_arena *arena, const struct kg_media_side *side, ProtobufCBinaryData *out)
{
    if (side == NULL)
        return 0;
    Kg__Side *wire = kg_wire_from_side(arena, side);
    size_t len = wire ? kg__side__get_packed_size(wire) : 0;
    out->data = wire ? kg_arena_take(arena, len ? len : 1) : NULL;
    if (out->data == NULL)
        return ENOMEM;
    out->len = kg__side__pack(wire, out->data);
    return 0;
}

int kg_media_apply(struct kg_media_client *client, const struct kg_media_change *change, kg_media_done *done,
                   void *ctx)
{
    if (is_full(client))
        return ENOBUFS;
    if (change->snapshot && change->snapshot_len > KG_MEDIA_SNAPSHOT_MAX)
        return EMSGSIZE;
    kg_arena_reset(client->out_arena);
    Kg__Apply apply = KG__APPLY__INIT;
    char id[KG_MEDIA_ID_MAX];
    snprintf(id, sizeof id, "%s", change->id);
    apply.id = id;
    apply.bind_a = kg_wire_from_addr(client->out_arena, &change->bind[KG_SIDE_A]);
    apply.bind_b = kg_wire_from_addr(client->out_arena, &change->bind[KG_SIDE_B]);
    apply.answered = change->answered;
    apply.has_snapshot = change->snapshot != NULL;
    apply.snapshot.len = change->snapshot ? change->snapshot_len : 0;
    apply.snapshot.data = (uint8_t *)(uintptr_t)change->snapshot;
    if (pack_side(client->out_arena, change->side[KG_SIDE_A], &apply.side_a) != 0 ||
        pack_side(client->out_arena, change->side[KG_SIDE_B], &apply.side_b) != 0)
        return ENOMEM;
    Kg__Message message = KG__MESSAGE__INIT;
    message.body_case = KG__MESSAGE__BODY_APPLY;
    message.apply = &apply;
    struct kg_request *request = kg_requests_add(&client->requests, KG_REQUEST_APPLY, id, &message);
    if (request == NULL)
        return errno;
    struct kg_mirror_session *session = kg_mirror_get(&client->mirror, id);
    if (session == NULL || kg_mirror_take_apply(session, &apply) != 0) {
        if (session && !session->confirmed)
            kg_mirror_remove(&client->mirror, session);
        kg_requests_remove(&client->requests, request);
        return ENOMEM;
    }
    session->deleting = false;
    request->creates = !session->confirmed;
    request->done = done;
    request->ctx = ctx;
    send_new(client, request);
    return 0;
}

static struct kg_request *add_delete(struct kg_media_client *client, const char *id)
{
    Kg__Delete body = KG__DELETE__INIT;
    body.id = (char *)(uintptr_t)id;
    Kg__Message message = KG__MESSAGE__INIT;
    message.body_case = KG__MESSAGE__BODY_DELETION;
    message.deletion = &body;
    struct kg_request *request = kg_requests_add(&client->requests, KG_REQUEST_DELETE, id, &message);
    struct kg_mirror_session *session = kg_mirror_find(&client->mirror, id);
    if (request && session)
        session->deleting = true;
    return request;
}

int kg_media_delete(struct kg_media_client *client, const char *id, kg_media_done *done, void *ctx)
{
    if (is_full(client))
        return ENOBUFS;
    struct kg_request *request = add_delete(client, id);
    if (request == NULL)
        return errno;
    request->done = done;
    request->ctx = ctx;
    send_new(client, request);
    return 0;
}

static struct kg_request *add_query(struct kg_media_client *client, enum kg_request_kind kind, const char *id,
                                    bool whole)
{
    Kg__Query body = KG__QUERY__INIT;
    body.id = (char *)(uintptr_t)id;
    body.whole = whole;
    Kg__Message message = KG__MESSAGE__INIT;
    message.body_case = KG__MESSAGE__BODY_QUERY;
    message.query = &body;
    return kg_requests_add(&client->requests, kind, id, &message);
}

int kg_media_query(struct kg_media_client *client, const char *id, kg_media_done *done, void *ctx)
{
    if (is_full(client))
        return ENOBUFS;
    struct kg_request *request =
        add_query(client, id ? KG_REQUEST_QUERY : KG_REQUEST_QUERY_ALL, id ? id : "", false);
    if (request == NULL)
        return errno;
    request->done = done;
    request->ctx = ctx;
    send_new(client, request);
    return 0;
}

int kg_media_configure(struct kg_media_client *client, const struct kg_config *config)
{
    Kg__Configure *c = &client->configure;
    kg__configure__init(c);
    c->port_min = config->media.port_min;
    c->port_max = config->media.port_max;
    c->latch_packets = config->media.latch_packets;
    c->latch_window_ms = config->media.latch_window_ms;
    c->silence_timeout_ms = config->media.silence_timeout_ms;
    c->hold_timeout_ms = config->media.hold_timeout_ms;
    c->unanswered_timeout_ms = config->media.unanswered_timeout_ms;
    c->port_quarantine_ms = config->media.port_quarantine_ms;
    client->has_configure = true;
    if (client->state >= RECOVERING)
        put_configure(client);
    return 0;
}

/* ---- answers ---- */

static void call_done(const struct kg_request *request, const struct kg_media_reply *reply)
{
    if (request->done)
        request->done(request->ctx, reply);
}

/* Takes the request out of the queue before its owner hears: the callback may make new ones. */
static void complete(struct kg_media_client *client, struct kg_request *request,
                     const struct kg_media_reply *reply)
{
    kg_media_done *done = request->done;
    void *ctx = request->ctx;
    kg_requests_remove(&client->requests, request);
    if (done)
        done(ctx, reply);
}

static void info_of(const struct kg_media_client *client, const Kg__Session *session,
                    struct kg_media_session_info *info)
{
    memset(info, 0, sizeof *info);
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
    tell(client, &(struct kg_media_event){.type = KG_MEDIA_LOST, .id = id, .reason = reason});
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
    complete(client, request, &out);
}

static void on_reported(struct kg_media_client *client, struct kg_request *request, const Kg__Reply *reply)
{
    struct kg_media_session_info info;
    struct kg_media_reply out = {.error = error_of(reply)};
    if (reply->session) {
        info_of(client, reply->session, &info);
        out.info = &info;
        out.stream_count = info.stream_count;
    }
    if (request->kind == KG_REQUEST_QUERY_ALL && reply->session) {
        request->deadline_ms = client->now_ms + REQUEST_TIMEOUT_MS;
        call_done(request, &out);
        return;
    }
    bool deleted = request->kind == KG_REQUEST_DELETE;
    char id[KG_MEDIA_ID_MAX];
    snprintf(id, sizeof id, "%s", request->id);
    complete(client, request, &out); /* its snapshot is the mirror's: forget that afterwards */
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
    info_of(client, wire, &info);
    tell(client, &(struct kg_media_event){.type = KG_MEDIA_RECOVERED, .id = info.id, .info = &info});
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
                     (request = add_delete(client, session->id)))
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
    if (client->state != RECOVERING || !client->listed)
        return;
    const struct kg_request *request, *next;
    HASH_ITER(hh, client->requests.by_number, request, next)
    {
        if (kg_request_is_recovery(request))
            return;
    }
    client->state = UP;
    tell_plain(client, KG_MEDIA_UP);
    flush(client);
}

/* ---- messages in ---- */

static void on_hello(struct kg_media_client *client, const Kg__Hello *hello)
{
    if (hello->version != KG_WIRE_VERSION || client->state != GREETING) {
        kg_error("media",
                 "the media engine speaks version %u of the control protocol, we speak %u; restart kedge",
                 hello->version, KG_WIRE_VERSION);
        client->broken = true;
        return;
    }
    client->same_engine = client->instance == hello->instance;
    client->instance = hello->instance;
    client->state = RECOVERING;
    client->listed = false;
    client->recovery_ms = client->now_ms;
    for (struct kg_mirror_session *session = client->mirror.sessions; session; session = session->hh.next)
        session->seen = false;
    Kg__Hello ours = KG__HELLO__INIT;
    ours.version = KG_WIRE_VERSION;
    Kg__Message message = KG__MESSAGE__INIT;
    message.body_case = KG__MESSAGE__BODY_HELLO;
    message.hello = &ours;
    put_message(client, &message);
    client->configure_due = client->has_configure;
    struct kg_request *request = add_query(client, KG_REQUEST_RECOVER, "", true);
    if (request)
        request->deadline_ms = INT64_MAX;
    else
        client->broken = true;
    flush(client);
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
            flush(client);
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
    struct kg_mirror_session *session = kg_mirror_find(&client->mirror, wire->id);
    if (session == NULL || session->deleting)
        return;
    if (wire->type == KG__EVENT__TYPE__ENDED) {
        lose(client, wire->id, wire->reason);
        return;
    }
    struct kg_media_event event = {.type = KG_MEDIA_SILENCE, .id = session->id, .reason = wire->reason};
    if (wire->type == KG__EVENT__TYPE__LATCHED) {
        kg_mirror_take_latched(session, wire);
        event.type = KG_MEDIA_LATCHED;
        event.side = wire->side == 1 ? KG_SIDE_B : KG_SIDE_A;
        event.stream = (uint8_t)(wire->stream % KG_MEDIA_STREAMS_MAX);
        event.rtcp = wire->rtcp;
        event.proof = wire->proof <= KG_PROOF_ICE ? (enum kg_proof)wire->proof : KG_PROOF_NONE;
        event.addr = kg_wire_to_addr(wire->addr);
        event.reason = NULL;
    }
    tell(client, &event);
}

static void on_message(struct kg_media_client *client, size_t len)
{
    const Kg__Message *message =
        len > KG_WIRE_MESSAGE_MAX ? NULL : kg_wire_parse(client->in_arena, client->in, len);
    if (message == NULL) {
        kg_error("media", "the media engine sent something that is no message: reconnecting");
        client->broken = true;
        return;
    }
    if (message->body_case == KG__MESSAGE__BODY_HELLO)
        on_hello(client, message->hello);
    else if (message->body_case == KG__MESSAGE__BODY_REPLY)
        on_reply(client, message->request, message->reply);
    else if (message->body_case == KG__MESSAGE__BODY_EVENT)
        on_engine_event(client, message->event);
}

/* ---- running ---- */

static void try_connect(struct kg_media_client *client)
{
    if (client->now_ms < client->reconnect_ms)
        return;
    client->reconnect_ms = client->now_ms + RECONNECT_MS;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t len = strlen(client->path);
    if (len >= sizeof at.sun_path)
        return;
    memcpy(at.sun_path, client->path, len);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)&at, sizeof at) != 0) {
        close(fd);
        return;
    }
    client->fd = fd;
    client->state = GREETING;
    client->blocked = client->broken = false;
}

static void disconnect(struct kg_media_client *client)
{
    bool met = client->state > GREETING;
    close(client->fd);
    client->fd = -1;
    client->state = DOWN;
    client->blocked = client->broken = false;
    client->reconnect_ms = client->now_ms;
    if (!met)
        client->reconnect_ms += RECONNECT_MS;
    struct kg_request *request, *next;
    HASH_ITER(hh, client->requests.by_number, request, next)
    {
        request->sent = false;
        if (kg_request_is_recovery(request))
            kg_requests_remove(&client->requests, request);
    }
    if (met)
        tell_plain(client, KG_MEDIA_DOWN);
}

static void read_all(struct kg_media_client *client)
{
    for (int i = 0; i < READ_BURST && !client->broken; i++) {
        ssize_t len = recv(client->fd, client->in, sizeof client->in, MSG_DONTWAIT);
        if (len < 0 && errno == EAGAIN)
            return;
        if (len <= 0)
            client->broken = true;
        else
            on_message(client, (size_t)len);
    }
}

static void expire(struct kg_media_client *client, struct kg_request *request)
{
    static const struct kg_media_reply gone = {.error = KG_MEDIA_GONE};
    struct kg_mirror_session *session = kg_mirror_find(&client->mirror, request->id);
    if (request->kind == KG_REQUEST_DELETE) {
        /* Its owner hears that we cannot tell; the engine hears of it when it is back. */
        kg_media_done *done = request->done;
        request->done = NULL;
        request->deadline_ms = INT64_MAX;
        if (done)
            done(request->ctx, &gone);
        return;
    }
    if (request->kind == KG_REQUEST_APPLY && request->creates && session && !session->confirmed) {
        /* For its owner the session was never made. If the engine heard of it, it shall forget it. */
        struct kg_request *undo = NULL;
        if (!request->ever_sent)
            kg_mirror_remove(&client->mirror, session);
        else if ((undo = add_delete(client, request->id)))
            undo->deadline_ms = INT64_MAX;
    }
    complete(client, request, &gone);
}

/* Returns the earliest deadline left. */
static int64_t expire_due(struct kg_media_client *client)
{
    int64_t earliest;
    struct kg_request *request, *due;
    do {
        due = NULL;
        earliest = INT64_MAX;
        for (request = client->requests.by_number; request && !due; request = request->hh.next) {
            if (request->deadline_ms == 0)
                request->deadline_ms = client->now_ms + REQUEST_TIMEOUT_MS;
            if (request->deadline_ms <= client->now_ms)
                due = request;
            int64_t at =
                request->not_before_ms && !request->sent ? request->not_before_ms : request->deadline_ms;
            if (at < earliest)
                earliest = at;
        }
        if (due)
            expire(client, due);
    } while (due);
    return earliest;
}

int64_t kg_media_client_run(struct kg_media_client *client, int64_t now_ms)
{
    client->now_ms = now_ms;
    if (client->state == DOWN)
        try_connect(client);
    if (client->state != DOWN) {
        client->blocked = false;
        flush(client);
        read_all(client);
        flush(client);
    }
    if (client->broken)
        disconnect(client);
    int64_t next = expire_due(client);
    if (client->state == DOWN && client->reconnect_ms < next)
        next = client->reconnect_ms;
    int64_t wait = next - now_ms;
    return wait < 0 ? 0 : wait < RUN_EVERY_MS ? wait : RUN_EVERY_MS;
}
