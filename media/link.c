#include "media/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conf/clock.h"
#include "conf/log.h"

/* Bytes waiting for a slow reader: beyond the first no more reports are begun, beyond the second it is cut
 * off. */
#define QUEUE_PAUSE (256 * 1024)
#define QUEUE_MAX   (8 * 1024 * 1024)
#define LISTS_MAX   64 /* queries of all sessions at once */
#define LIST_AHEAD  32 /* reports under way for one of them */
#define RESUME_MS   5  /* when the workers had no room */
#define WAKE_MS     10 /* workers' commands share a wake-up */
#define READ_BURST  64 /* messages before the loop serves others */

struct packet {
    struct packet *next;
    size_t len;
    uint8_t data[];
};

/* A query of all sessions in progress. */
struct list {
    struct list *next;
    uint32_t request;
    uint32_t slot; /* next to look at */
    uint32_t under_way;
    bool whole, done, orphan /* its asker is gone */;
};

struct kg_link {
    struct event_base *base;
    struct event *accept, *read, *write, *resume, *wake;
    int fd; /* -1: nobody */
    bool greeted;
    bool paused; /* workers have no room: reading goes on after kg_link_resume */
    uint64_t instance;
    struct kg_fingerprint identity; /* of the engine's certificate */
    uint32_t generation;            /* of the connection */
    struct kg_sessions *sessions;
    struct kg_arena *arena;
    struct packet *out, **out_last;
    size_t out_bytes;
    struct list *lists;
    unsigned list_count;
    uint8_t in[KG_WIRE_MESSAGE_MAX + 1];
};

static void drop(struct kg_link *link, const char *why)
{
    if (link->fd < 0)
        return;
    kg_info("media", "signalling's connection closed: %s; calls go on", why);
    event_free(link->read);
    event_free(link->write);
    link->read = link->write = NULL;
    close(link->fd);
    link->fd = -1;
    link->greeted = link->paused = false;
    link->generation++;
    while (link->out) {
        struct packet *packet = link->out;
        link->out = packet->next;
        kg_wire_free(packet, sizeof *packet + packet->len);
    }
    link->out_last = &link->out;
    link->out_bytes = 0;
    for (struct list *list = link->lists; list; list = list->next)
        list->orphan = true;
}

static void flush(struct kg_link *link)
{
    while (link->out) {
        struct packet *packet = link->out;
        if (send(link->fd, packet->data, packet->len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            if (errno == EAGAIN || errno == ENOBUFS)
                event_add(link->write, NULL);
            else
                drop(link, strerror(errno));
            return;
        }
        link->out = packet->next;
        if (link->out == NULL)
            link->out_last = &link->out;
        link->out_bytes -= packet->len;
        kg_wire_free(packet, sizeof *packet + packet->len);
    }
}

static void send_message(struct kg_link *link, const Kg__Message *message)
{
    if (link->fd < 0)
        return;
    size_t len = kg__message__get_packed_size(message);
    if (len > KG_WIRE_MESSAGE_MAX) {
        kg_error("media", "a control message of %zu bytes is too long and was not sent", len);
        return;
    }
    struct packet *packet = malloc(sizeof *packet + len);
    if (packet == NULL || link->out_bytes + len > QUEUE_MAX) {
        free(packet);
        drop(link, "it reads too slowly");
        return;
    }
    packet->next = NULL;
    packet->len = kg__message__pack(message, packet->data);
    bool idle = link->out == NULL;
    *link->out_last = packet;
    link->out_last = &packet->next;
    link->out_bytes += packet->len;
    if (idle)
        flush(link);
}

static void reply(struct kg_link *link, uint32_t request, Kg__Reply *body)
{
    Kg__Message message = KG__MESSAGE__INIT;
    message.request = request;
    message.body_case = KG__MESSAGE__BODY_REPLY;
    message.reply = body;
    send_message(link, &message);
}

static void refuse(struct kg_link *link, uint32_t request, enum kg_media_error error)
{
    Kg__Reply body = KG__REPLY__INIT;
    body.error = (uint32_t)error;
    reply(link, request, &body);
}

static void free_list(struct kg_link *link, struct list *list)
{
    struct list **at = &link->lists;
    while (*at != list)
        at = &(*at)->next;
    *at = list->next;
    link->list_count--;
    free(list);
}

/* Asks for the next reports of a list. True: the list has ended and is gone. */
static bool go_on(struct kg_link *link, struct list *list)
{
    while (!list->orphan && !list->done && list->under_way < LIST_AHEAD && link->out_bytes < QUEUE_PAUSE &&
           kg_sessions_have_room(link->sessions)) {
        const char *id = kg_sessions_next(link->sessions, &list->slot);
        if (id == NULL)
            list->done = true;
        else if (kg_sessions_report(link->sessions, id, list->whole, list->request, list) == KG_MEDIA_OK)
            list->under_way++;
    }
    if (list->under_way > 0 || !(list->done || list->orphan))
        return false;
    if (!list->orphan)
        refuse(link, list->request, KG_MEDIA_OK); /* without a session: the end */
    free_list(link, list);
    return true;
}

static void go_on_all(struct kg_link *link)
{
    struct list *next;
    for (struct list *list = link->lists; list; list = next) {
        next = list->next;
        go_on(link, list);
    }
}

void kg_link_report(void *ctx, uint32_t request, void *asked_by, Kg__Session *session)
{
    struct kg_link *link = ctx;
    struct list *list = NULL;
    for (list = link->lists; list && list != asked_by; list = list->next)
        ;
    bool current = list ? !list->orphan : (uint32_t)(uintptr_t)asked_by == link->generation;
    if (current) {
        Kg__Reply body = KG__REPLY__INIT;
        body.session = session;
        reply(link, request, &body);
    }
    if (list) {
        list->under_way--;
        go_on(link, list);
    }
}

void kg_link_event(void *ctx, const Kg__Event *event)
{
    struct kg_link *link = ctx;
    if (!link->greeted)
        return;
    Kg__Message message = KG__MESSAGE__INIT;
    message.body_case = KG__MESSAGE__BODY_EVENT;
    message.event = (Kg__Event *)(uintptr_t)event;
    send_message(link, &message);
}

static void *token(const struct kg_link *link)
{
    return (void *)(uintptr_t)link->generation;
}

static void on_hello(struct kg_link *link, const Kg__Message *message)
{
    if (message->hello->version != KG_WIRE_VERSION) {
        drop(link, "it speaks another version of the control protocol; restart kedge");
        return;
    }
    link->greeted = true;
}

static void on_apply(struct kg_link *link, const Kg__Message *message)
{
    const Kg__Apply *apply = message->apply;
    size_t id_len = strlen(apply->id);
    Kg__Reply body = KG__REPLY__INIT;
    if (id_len == 0 || id_len >= KG_MEDIA_ID_MAX || apply->snapshot.len > KG_MEDIA_SNAPSHOT_MAX)
        body.error = KG_MEDIA_TOO_BIG;
    else
        kg_sessions_apply(link->sessions, apply, kg_mono_ms(), &body);
    reply(link, message->request, &body);
}

static void on_delete(struct kg_link *link, const Kg__Message *message)
{
    enum kg_media_error error =
        kg_sessions_remove(link->sessions, message->deletion->id, message->request, token(link));
    if (error != KG_MEDIA_OK)
        refuse(link, message->request, error);
}

static void on_query(struct kg_link *link, const Kg__Message *message)
{
    const Kg__Query *query = message->query;
    if (query->id[0] != '\0') {
        enum kg_media_error error =
            kg_sessions_report(link->sessions, query->id, query->whole, message->request, token(link));
        if (error != KG_MEDIA_OK)
            refuse(link, message->request, error);
        return;
    }
    struct list *list = link->list_count < LISTS_MAX ? calloc(1, sizeof *list) : NULL;
    if (list == NULL) {
        refuse(link, message->request, KG_MEDIA_NO_SOCKETS);
        return;
    }
    *list = (struct list){.next = link->lists, .request = message->request, .whole = query->whole};
    link->lists = list;
    link->list_count++;
    go_on(link, list);
}

static void on_configure(struct kg_link *link, const Kg__Message *message)
{
    const Kg__Configure *c = message->configure;
    if (c->port_min == 0 || c->port_max > UINT16_MAX || c->port_min > c->port_max)
        kg_error("media", "signalling sent a port range that is none (%u-%u): ignored", c->port_min,
                 c->port_max);
    else
        kg_sessions_configure(link->sessions, c);
}

static void dispatch(struct kg_link *link, const Kg__Message *message)
{
    static void (*const handler[])(struct kg_link *, const Kg__Message *) = {
        [KG__MESSAGE__BODY_HELLO] = on_hello,         [KG__MESSAGE__BODY_APPLY] = on_apply,
        [KG__MESSAGE__BODY_DELETION] = on_delete,     [KG__MESSAGE__BODY_QUERY] = on_query,
        [KG__MESSAGE__BODY_CONFIGURE] = on_configure,
    };
    unsigned body = (unsigned)message->body_case;
    if (body >= sizeof handler / sizeof handler[0] || handler[body] == NULL ||
        (!link->greeted && body != KG__MESSAGE__BODY_HELLO)) {
        drop(link, "it sent a message that makes no sense here");
        return;
    }
    handler[body](link, message);
}

static void pause_reading(struct kg_link *link)
{
    struct timeval soon = {0, RESUME_MS * 1000};
    link->paused = true;
    event_del(link->read);
    event_add(link->resume, &soon);
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
    struct kg_link *link = ctx;
    (void)what;
    uint32_t generation = link->generation;
    for (int i = 0; i < READ_BURST && link->generation == generation; i++) {
        if (!kg_sessions_have_room(link->sessions)) {
            pause_reading(link);
            return;
        }
        ssize_t len = recv(fd, link->in, sizeof link->in, MSG_DONTWAIT);
        if (len < 0 && errno == EAGAIN)
            return;
        if (len <= 0) {
            drop(link, len < 0 ? strerror(errno) : "it went away");
            return;
        }
        const Kg__Message *message =
            len > KG_WIRE_MESSAGE_MAX ? NULL : kg_wire_parse(link->arena, link->in, (size_t)len);
        if (message == NULL)
            drop(link, "it sent something that is no message");
        else
            dispatch(link, message);
        if (len > 0 && (size_t)len <= sizeof link->in)
            explicit_bzero(link->in, (size_t)len); /* it may have carried keys */
        kg_arena_reset(link->arena);
    }
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
    struct kg_link *link = ctx;
    (void)fd;
    (void)what;
    flush(link);
    go_on_all(link);
}

static void greet(struct kg_link *link)
{
    Kg__Hello hello = KG__HELLO__INIT;
    hello.version = KG_WIRE_VERSION;
    hello.instance = link->instance;
    if (link->identity.hash != KG_FINGERPRINT_NONE)
        hello.identity = kg_wire_from_fingerprint(link->arena, &link->identity);
    Kg__Message message = KG__MESSAGE__INIT;
    message.body_case = KG__MESSAGE__BODY_HELLO;
    message.hello = &hello;
    send_message(link, &message);
}

static void on_acceptable(evutil_socket_t listen_fd, short what, void *ctx)
{
    struct kg_link *link = ctx;
    (void)what;
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EAGAIN || errno == ECONNABORTED)
            return;
        kg_error("media", "cannot accept signalling's connection: %s; trying again in a second",
                 strerror(errno));
        event_del(link->accept); /* or the loop would spin; kg_link_resume adds it again */
        return;
    }
    drop(link, "a newer one took its place");
    link->fd = fd;
    link->read = event_new(link->base, fd, EV_READ | EV_PERSIST, on_readable, link);
    link->write = event_new(link->base, fd, EV_WRITE, on_writable, link);
    if (link->read == NULL || link->write == NULL || event_add(link->read, NULL) != 0) {
        kg_error("media", "out of memory: signalling's connection was refused");
        if (link->read)
            event_free(link->read);
        if (link->write)
            event_free(link->write);
        link->read = link->write = NULL;
        close(fd);
        link->fd = -1;
        return;
    }
    kg_arena_reset(link->arena);
    greet(link);
}

static void on_wake(evutil_socket_t fd, short what, void *ctx)
{
    struct kg_link *link = ctx;
    (void)fd;
    (void)what;
    kg_sessions_wake(link->sessions);
}

void kg_link_wake_soon(void *ctx)
{
    struct kg_link *link = ctx;
    struct timeval soon = {0, WAKE_MS * 1000};
    event_add(link->wake, &soon);
}

static void on_resume(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    kg_link_resume(ctx);
}

struct kg_link *kg_link_new(struct event_base *base, int listen_fd, uint64_t instance, struct kg_arena *arena)
{
    struct kg_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return NULL;
    link->base = base;
    link->fd = -1;
    link->instance = instance;
    link->arena = arena;
    link->out_last = &link->out;
    evutil_make_socket_nonblocking(listen_fd);
    link->accept = event_new(base, listen_fd, EV_READ | EV_PERSIST, on_acceptable, link);
    link->resume = event_new(base, -1, 0, on_resume, link);
    link->wake = event_new(base, -1, 0, on_wake, link);
    if (link->accept == NULL || link->resume == NULL || link->wake == NULL) {
        kg_link_free(link);
        return NULL;
    }
    return link;
}

void kg_link_serve(struct kg_link *link, struct kg_sessions *sessions)
{
    link->sessions = sessions;
    event_add(link->accept, NULL);
}

void kg_link_free(struct kg_link *link)
{
    if (link == NULL)
        return;
    drop(link, "the engine ends");
    while (link->lists)
        free_list(link, link->lists);
    if (link->accept)
        event_free(link->accept);
    if (link->resume)
        event_free(link->resume);
    if (link->wake)
        event_free(link->wake);
    free(link);
}

void kg_link_set_identity(struct kg_link *link, const struct kg_fingerprint *identity)
{
    link->identity = *identity;
    kg_arena_reset(link->arena);
    Kg__Event event = KG__EVENT__INIT;
    event.type = KG__EVENT__TYPE__IDENTITY;
    event.identity = kg_wire_from_fingerprint(link->arena, identity);
    kg_link_event(link, &event);
}

bool kg_link_is_owned(const struct kg_link *link)
{
    return link->greeted;
}

void kg_link_resume(struct kg_link *link)
{
    go_on_all(link);
    event_add(link->accept, NULL);
    if (!link->paused)
        return;
    struct timeval soon = {0, RESUME_MS * 1000};
    if (kg_sessions_have_room(link->sessions)) {
        link->paused = false;
        event_add(link->read, NULL);
    } else {
        event_add(link->resume, &soon);
    }
}
