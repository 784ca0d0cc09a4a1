#include "media/session_state.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/log.h"
#include "media/ports.h"
#include "media/relay_ice.h"
#include "media/secure.h"
#include "media/socket.h"

/* Commands one request or notice can need on one worker, and some to spare. */
#define ROOM_MIN 16

static struct kg_limits limits_of(const Kg__Configure *c)
{
    return (struct kg_limits){
        .latch = {.packets = c->latch_packets, .window_ms = c->latch_window_ms},
        .silence_timeout_ms = c->silence_timeout_ms,
        .hold_timeout_ms = c->hold_timeout_ms,
        .unanswered_timeout_ms = c->unanswered_timeout_ms,
        .ice = {.ta_ms = c->ice_pacing_ms,
                .rto_ms = c->ice_rto_ms,
                .patience_ms = c->ice_patience_ms,
                .keepalive_ms = c->ice_keepalive_ms,
                .consent_ms = c->ice_consent_ms,
                .consent_expiry_ms = c->ice_consent_expiry_ms},
        .tell_rtcp = c->tell_rtcp,
    };
}

void kg_avoid_add(struct kg_avoid *avoid, const struct kg_addr *addr)
{
    if (!kg_addr_is_set(addr) || kg_addr_is_any(addr) || avoid->count == KG_AVOID_MAX)
        return;
    for (size_t i = 0; i < avoid->count; i++)
        if (kg_addr_same_host(&avoid->addr[i], addr))
            return;
    avoid->addr[avoid->count++] = *addr;
}

struct kg_sessions *kg_sessions_new(const struct kg_config *config, struct kg_worker **workers,
                                    unsigned worker_count, const struct kg_sessions_handlers *handlers,
                                    struct kg_arena *arena, struct kg_avoid *avoid,
                                    const struct kg_identities *identities)
{
    struct kg_sessions *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->avoid = avoid;
    s->identities = identities;
    s->worker = workers;
    s->worker_count = worker_count;
    s->handlers = *handlers;
    s->arena = arena;
    s->ports = kg_ports_new(config->media.port_min, config->media.port_max, config->media.port_quarantine_ms);
    if (s->ports == NULL) {
        free(s);
        return NULL;
    }
    return s;
}

void kg_session_free(struct kg_session *session)
{
    kg_blob_clear(&session->side[0]);
    kg_blob_clear(&session->side[1]);
    kg_blob_clear(&session->snapshot);
    free(session->ice[0]);
    free(session->ice[1]);
    free(session->line);
    free(session);
}

void kg_sessions_free(struct kg_sessions *s)
{
    if (s == NULL)
        return;
    struct kg_session *session, *next;
    HASH_ITER(hh, s->by_id, session, next)
    {
        HASH_DEL(s->by_id, session);
        kg_session_free(session);
    }
    kg_ports_free(s->ports);
    free(s->slot);
    free(s);
}

static void send_command(struct kg_sessions *s, struct kg_worker *worker, struct kg_command *command)
{
    kg_worker_send(worker, command);
    if (!s->waking)
        s->handlers.wake_soon(s->handlers.link);
    s->waking = true;
}

void kg_sessions_wake(struct kg_sessions *s)
{
    s->waking = false;
    for (unsigned i = 0; i < s->worker_count; i++) {
        if (kg_worker_has_commands(s->worker[i]))
            kg_worker_wake(s->worker[i]);
    }
}

void kg_sessions_configure(struct kg_sessions *s, const Kg__Configure *c)
{
    struct kg_limits limits = limits_of(c);
    for (size_t i = 0; i < c->n_avoid; i++) {
        struct kg_addr addr = kg_wire_to_addr(c->avoid[i]);
        kg_avoid_add(s->avoid, &addr);
    }
    limits.ice.avoid = s->avoid->addr;
    limits.ice.avoid_count = s->avoid->count;
    limits.dtls_secret = s->identities->secret;
    kg_ports_configure(s->ports, (uint16_t)c->port_min, (uint16_t)c->port_max, c->port_quarantine_ms);
    for (unsigned i = 0; i < s->worker_count; i++) {
        struct kg_command *command = calloc(1, sizeof *command);
        if (command == NULL) {
            kg_error("media", "out of memory: the new timeouts do not apply");
            return;
        }
        command->type = KG_COMMAND_LIMITS;
        command->limits = limits;
        send_command(s, s->worker[i], command);
    }
}

unsigned kg_sessions_count(const struct kg_sessions *s)
{
    return HASH_COUNT(s->by_id);
}

bool kg_sessions_have_room(const struct kg_sessions *s)
{
    for (unsigned i = 0; i < s->worker_count; i++) {
        if (kg_worker_room(s->worker[i]) < ROOM_MIN)
            return false;
    }
    return true;
}

static struct kg_session *find(const struct kg_sessions *s, const char *id)
{
    struct kg_session *session;
    HASH_FIND_STR(s->by_id, id, session);
    return session;
}

static int take_slot(struct kg_sessions *s, struct kg_session *session)
{
    for (uint32_t i = 0; i < s->slot_count; i++) {
        uint32_t at = (i + HASH_COUNT(s->by_id)) % s->slot_count;
        if (s->slot[at] == NULL) {
            s->slot[at] = session;
            session->slot = at;
            return 0;
        }
    }
    uint32_t count = s->slot_count ? 2 * s->slot_count : 64;
    struct kg_session **slot = realloc(s->slot, count * sizeof(*slot));
    if (slot == NULL)
        return ENOMEM;
    for (uint32_t i = s->slot_count; i < count; i++)
        slot[i] = NULL;
    session->slot = s->slot_count;
    slot[s->slot_count] = session;
    s->slot = slot;
    s->slot_count = count;
    return 0;
}

static struct kg_session *session_new(struct kg_sessions *s, const char *id, int64_t now_ms)
{
    struct kg_session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return NULL;
    snprintf(session->id, sizeof session->id, "%s", id);
    session->relay = kg_relay_new(session, now_ms);
    if (session->relay == NULL || take_slot(s, session) != 0) {
        kg_relay_free(session->relay);
        free(session);
        return NULL;
    }
    session->worker = s->worker[s->next_worker++ % s->worker_count];
    HASH_ADD_STR(s->by_id, id, session);
    return session;
}

static void forget(struct kg_sessions *s, struct kg_session *session)
{
    HASH_DEL(s->by_id, session);
    s->slot[session->slot] = NULL;
}

/* Ports an earlier engine had for this line; 0: any. */
static uint16_t restored_port(const Kg__Apply *apply, unsigned side, unsigned line)
{
    size_t count = side == 0 ? apply->n_place_a : apply->n_place_b;
    Kg__Place **place = side == 0 ? apply->place_a : apply->place_b;
    if (line >= count || place[line]->local == NULL || place[line]->local->port > UINT16_MAX)
        return 0;
    return (uint16_t)place[line]->local->port;
}

static enum kg_media_error open_leg(struct kg_sessions *s, struct kg_session *session, const Kg__Apply *apply,
                                    unsigned side, unsigned line, int64_t now_ms, struct kg_command *command)
{
    struct kg_grant *grant = &command->grant[command->grant_count];
    const struct kg_addr *host = &session->bind[side];
    uint16_t exactly = restored_port(apply, side, line), port;
    enum kg_media_error error =
        kg_socket_open_pair(s->ports, host, session->line[line].audio, exactly, now_ms, grant->fd, &port);
    if (error != KG_MEDIA_OK)
        return exactly && error == KG_MEDIA_NO_PORTS ? (enum kg_media_error)KG_WIRE_PORT_BUSY : error;
    grant->stream = (uint8_t)line;
    grant->side = (uint8_t)side;
    grant->ipv6 = kg_addr_family(host) == AF_INET6;
    command->grant_count++;
    session->line[line].local[side] = *host;
    kg_addr_set_port(&session->line[line].local[side], port);
    return KG_MEDIA_OK;
}

/* The callee is another one than the one that the sockets were opened for, reached from another address of
 * ours, perhaps of the other family: they move there with their ports, which it was told. Where that cannot
 * be, all stays as it is. */
static void move_leg(struct kg_session *session, unsigned side, unsigned line, struct kg_command *command)
{
    struct kg_addr *local = &session->line[line].local[side];
    struct kg_grant *grant = &command->grant[command->grant_count];
    struct kg_addr there = session->bind[side];
    kg_addr_set_port(&there, kg_addr_port(local));
    int error = kg_socket_open_again(&there, session->line[line].audio, kg_addr_port(local), grant->fd);
    if (error != 0) {
        kg_warn("media", "call %s: its ports could not be opened at another address: %s", session->id,
                strerror(error));
        return;
    }
    grant->stream = (uint8_t)line;
    grant->side = (uint8_t)side;
    grant->ipv6 = kg_addr_family(&there) == AF_INET6;
    grant->moved = true;
    command->grant_count++;
    *local = there;
}

static bool is_elsewhere(const struct kg_session *session, unsigned side, unsigned line)
{
    const struct kg_addr *local = &session->line[line].local[side], *bind = &session->bind[side];
    return !session->answered && kg_addr_is_set(bind) && !kg_addr_same_host(local, bind);
}

/* When there are ports for all that is new: a change that is refused must leave every line where it was. */
static void move_lines(struct kg_session *session, struct kg_command *command)
{
    for (unsigned i = 0; i < session->line_count; i++) {
        for (unsigned side = 0; side < 2; side++) {
            if (kg_addr_is_set(&session->line[i].local[side]) && is_elsewhere(session, side, i))
                move_leg(session, side, i, command);
        }
    }
}

/* Undoes what open_lines did. */
static void close_lines(struct kg_sessions *s, struct kg_session *session, struct kg_command *command,
                        int64_t now_ms)
{
    for (unsigned i = 0; i < command->grant_count; i++) {
        struct kg_grant *grant = &command->grant[i];
        struct kg_addr *local = &session->line[grant->stream].local[grant->side];
        kg_socket_close_pair(grant->fd);
        if (grant->moved) /* the ports are in use on */
            continue;
        kg_ports_release(s->ports, kg_addr_port(local), now_ms);
        *local = (struct kg_addr){{{0}}};
    }
    for (unsigned i = 0; i < KG_MEDIA_STREAMS_MAX; i++) {
        if (command->stream[i])
            session->line[i].made = false;
    }
}

static enum kg_media_error grow_lines(struct kg_session *session, unsigned count)
{
    if (count <= session->line_count)
        return KG_MEDIA_OK;
    struct kg_session_line *line = realloc(session->line, count * sizeof *line);
    if (line == NULL)
        return KG_MEDIA_NO_SOCKETS;
    memset(line + session->line_count, 0, (count - session->line_count) * sizeof *line);
    session->line = line;
    session->line_count = (uint8_t)count;
    return KG_MEDIA_OK;
}

/* Sockets for each line that a side enables and that has none yet. */
static enum kg_media_error open_lines(struct kg_sessions *s, struct kg_session *session,
                                      const Kg__Apply *apply, int64_t now_ms, struct kg_command *command)
{
    unsigned count = session->line_count;
    for (unsigned side = 0; side < 2; side++) {
        if (command->side[side] && command->side[side]->stream_count > count)
            count = command->side[side]->stream_count;
    }
    enum kg_media_error error = grow_lines(session, count);
    for (unsigned i = 0; error == KG_MEDIA_OK && i < count; i++) {
        const char *kind = NULL;
        for (unsigned side = 0; side < 2; side++) {
            const struct kg_media_side *what = command->side[side];
            if (what && i < what->stream_count && what->stream[i].enabled)
                kind = what->stream[i].kind;
        }
        if (!session->line[i].made && kind == NULL)
            continue;
        if (!session->line[i].made) {
            command->stream[i] = kg_stream_new((uint8_t)i, kind);
            if (command->stream[i] == NULL)
                return KG_MEDIA_NO_SOCKETS;
            session->line[i].made = true;
            session->line[i].audio = strcmp(kind, "audio") == 0;
        }
        for (unsigned side = 0; error == KG_MEDIA_OK && side < 2; side++) {
            if (!kg_addr_is_set(&session->line[i].local[side]) && kg_addr_is_set(&session->bind[side]))
                error = open_leg(s, session, apply, side, i, now_ms, command);
        }
    }
    if (error == KG_MEDIA_OK)
        move_lines(session, command);
    return error;
}

static enum kg_media_error parse_side(struct kg_sessions *s, ProtobufCBinaryData packed,
                                      struct kg_media_side **out)
{
    if (packed.len == 0)
        return KG_MEDIA_OK;
    Kg__Side *side = kg__side__unpack(&s->arena->allocator, packed.len, packed.data);
    if (side == NULL)
        return KG_MEDIA_NO_SOCKETS;
    if (kg_wire_to_side(s->arena, side, &s->scratch) != 0)
        return KG_MEDIA_TOO_BIG;
    *out = kg_media_side_copy(&s->scratch);
    return *out ? KG_MEDIA_OK : KG_MEDIA_NO_SOCKETS;
}

static void take_latched(struct kg_latched *latched, unsigned side, Kg__Place **place, size_t count)
{
    for (unsigned i = 0; i < count && i < KG_MEDIA_STREAMS_MAX; i++) {
        latched->addr[side][i][0] = kg_wire_to_addr(place[i]->rtp);
        latched->addr[side][i][1] = kg_wire_to_addr(place[i]->rtcp);
        latched->proof[side][i][0] = (uint8_t)(place[i]->rtp_proof <= KG_PROOF_ICE ? place[i]->rtp_proof : 0);
        latched->proof[side][i][1] =
            (uint8_t)(place[i]->rtcp_proof <= KG_PROOF_ICE ? place[i]->rtcp_proof : 0);
    }
}

static struct kg_command *command_for(struct kg_sessions *s, const Kg__Apply *apply,
                                      enum kg_media_error *error)
{
    struct kg_command *command = calloc(1, sizeof *command);
    if (command == NULL)
        return NULL;
    command->type = KG_COMMAND_CHANGE;
    command->answered = apply->answered;
    *error = parse_side(s, apply->side_a, &command->side[0]);
    if (*error == KG_MEDIA_OK)
        *error = parse_side(s, apply->side_b, &command->side[1]);
    if (*error == KG_MEDIA_OK && apply->n_place_a + apply->n_place_b > 0) {
        command->restore = calloc(1, sizeof *command->restore);
        if (command->restore) {
            take_latched(command->restore, 0, apply->place_a, apply->n_place_a);
            take_latched(command->restore, 1, apply->place_b, apply->n_place_b);
        }
    }
    return command;
}

static void keep(struct kg_session *session, const Kg__Apply *apply)
{
    int error = 0;
    session->answered = apply->answered;
    if (apply->side_a.len > 0)
        error |= kg_blob_set(&session->side[0], apply->side_a.data, apply->side_a.len);
    if (apply->side_b.len > 0)
        error |= kg_blob_set(&session->side[1], apply->side_b.data, apply->side_b.len);
    if (apply->has_snapshot)
        error |= kg_blob_set(&session->snapshot, apply->snapshot.data, apply->snapshot.len);
    error |= kg_wire_keep_ice_local(apply->ice_a, &session->ice[0]);
    error |= kg_wire_keep_ice_local(apply->ice_b, &session->ice[1]);
    if (error != 0)
        kg_error("media", "out of memory: call %s could not be taken over after a restart", session->id);
}

/* What the worker needs for ICE: our credentials and where the sockets are bound. Nothing for a call that
 * never does ICE. */
static enum kg_media_error add_ice(struct kg_session *session, struct kg_command *command)
{
    for (unsigned side = 0; side < 2; side++) {
        const struct kg_media_side *what = command->side[side];
        for (unsigned i = 0; what && i < what->stream_count; i++)
            session->ice_spoken |= what->stream[i].ice_use != KG_ICE_UNUSED;
    }
    if (!session->ice_spoken && session->ice[0] == NULL && session->ice[1] == NULL)
        return KG_MEDIA_OK;
    command->ice = calloc(1, sizeof *command->ice);
    if (command->ice == NULL)
        return KG_MEDIA_NO_SOCKETS;
    for (unsigned side = 0; side < 2; side++) {
        if (session->ice[side])
            command->ice->local[side] = *session->ice[side];
        for (unsigned i = 0; i < session->line_count; i++)
            command->ice->bound[side][i] = session->line[i].local[side];
    }
    return KG_MEDIA_OK;
}

/* What the worker needs for keys beside the descriptions. Nothing for a call that has none. */
static enum kg_media_error add_secure(const struct kg_sessions *s, struct kg_command *command)
{
    for (unsigned n = 0; n < 2 * KG_MEDIA_STREAMS_MAX; n++) {
        unsigned side = n % 2, i = n / 2;
        const struct kg_media_side *what = command->side[side];
        const struct kg_media_secure *secure = what && i < what->stream_count ? what->stream[i].secure : NULL;
        if (secure == NULL || secure->use == KG_SECURE_PASS || secure->use == KG_SECURE_PLAIN)
            continue;
        if (command->secure == NULL && (command->secure = calloc(1, sizeof *command->secure)) == NULL)
            return KG_MEDIA_NO_SOCKETS;
        command->secure->restored = command->restore != NULL;
        if (secure->use == KG_SECURE_DTLS)
            command->secure->identity[side][i] = kg_identities_find(s->identities, &secure->ours);
    }
    return KG_MEDIA_OK;
}

static void list_local(struct kg_sessions *s, const struct kg_session *session, Kg__Reply *reply)
{
    static Kg__Address nowhere = KG__ADDRESS__INIT;
    Kg__Address **list[2];
    for (unsigned side = 0; side < 2; side++) {
        list[side] = kg_arena_take(s->arena, KG_MEDIA_STREAMS_MAX * sizeof **list);
        for (unsigned i = 0; list[side] && i < session->line_count; i++) {
            list[side][i] = kg_wire_from_addr(s->arena, &session->line[i].local[side]);
            if (list[side][i] == NULL)
                list[side][i] = &nowhere;
        }
    }
    if (list[0] == NULL || list[1] == NULL)
        return;
    reply->a = list[0];
    reply->b = list[1];
    reply->n_a = reply->n_b = session->line_count;
}

void kg_sessions_apply(struct kg_sessions *s, const Kg__Apply *apply, int64_t now_ms, Kg__Reply *reply)
{
    enum kg_media_error error = KG_MEDIA_NO_SOCKETS;
    struct kg_session *session = NULL;
    bool created = false;
    struct kg_command *command = command_for(s, apply, &error);
    if (command == NULL || error != KG_MEDIA_OK)
        goto out;
    session = find(s, apply->id);
    created = session == NULL;
    if (created)
        session = session_new(s, apply->id, now_ms);
    error = KG_MEDIA_NO_SOCKETS;
    if (session == NULL)
        goto out;
    if (apply->bind_a)
        session->bind[0] = kg_wire_to_addr(apply->bind_a);
    if (apply->bind_b)
        session->bind[1] = kg_wire_to_addr(apply->bind_b);
    error = open_lines(s, session, apply, now_ms, command);
    if (error != KG_MEDIA_OK)
        goto out;
    keep(session, apply);
    if (!created) { /* made by us: what it holds now is newer than what the client remembers */
        free(command->restore);
        command->restore = NULL;
    }
    error = add_ice(session, command);
    if (error == KG_MEDIA_OK)
        error = add_secure(s, command);
    if (error != KG_MEDIA_OK)
        goto out;
    command->relay = session->relay;
    command->adopt = created;
    send_command(s, session->worker, command);
    command = NULL;
    list_local(s, session, reply);
out:
    if (command && session)
        close_lines(s, session, command, now_ms);
    kg_command_free(command);
    if (error != KG_MEDIA_OK && created && session) {
        forget(s, session);
        kg_relay_free(session->relay);
        kg_session_free(session);
    }
    reply->error = (uint32_t)error;
}

static enum kg_media_error ask(struct kg_sessions *s, struct kg_session *session, enum kg_command_type type,
                               bool whole, uint32_t request, void *ctx)
{
    struct kg_command *command = calloc(1, sizeof *command);
    struct kg_report *report = calloc(1, sizeof *report);
    struct kg_question *question = calloc(1, sizeof *question);
    if (command == NULL || report == NULL || question == NULL) {
        free(command);
        free(report);
        free(question);
        return KG_MEDIA_NO_SOCKETS;
    }
    *question = (struct kg_question){session, request, whole, ctx};
    command->type = type;
    command->relay = session->relay;
    command->report = report;
    command->ctx = question;
    send_command(s, session->worker, command);
    return KG_MEDIA_OK;
}

enum kg_media_error kg_sessions_remove(struct kg_sessions *s, const char *id, uint32_t request, void *ctx)
{
    struct kg_session *session = find(s, id);
    if (session == NULL)
        return KG_MEDIA_UNKNOWN;
    enum kg_media_error error = ask(s, session, KG_COMMAND_REMOVE, false, request, ctx);
    if (error != KG_MEDIA_OK)
        return error;
    session->removed = true;
    forget(s, session);
    return KG_MEDIA_OK;
}

enum kg_media_error kg_sessions_report(struct kg_sessions *s, const char *id, bool whole, uint32_t request,
                                       void *ctx)
{
    struct kg_session *session = find(s, id);
    return session ? ask(s, session, KG_COMMAND_REPORT, whole, request, ctx) : KG_MEDIA_UNKNOWN;
}

const char *kg_sessions_next(const struct kg_sessions *s, uint32_t *slot)
{
    while (*slot < s->slot_count) {
        const struct kg_session *session = s->slot[(*slot)++];
        if (session)
            return session->id;
    }
    return NULL;
}
