/* The client's inside: shared by client.c (requests out, connection) and client_answers.c (messages in,
 * recovery). */
#ifndef KG_MEDIA_CLIENT_STATE_H
#define KG_MEDIA_CLIENT_STATE_H

#include "media/client.h"
#include "media/mirror.h"
#include "media/request.h"
#include "media/wire.h"

#define KG_REQUEST_TIMEOUT_MS 2000

enum kg_client_state {
    KG_CLIENT_DOWN,       /* no connection */
    KG_CLIENT_GREETING,   /* connected; the engine's Hello is to come */
    KG_CLIENT_RECOVERING, /* reading what it holds, making again what it lost */
    KG_CLIENT_UP,
};

struct kg_media_client {
    enum kg_client_state state;
    int fd;
    bool blocked; /* the socket took no more */
    bool broken;  /* a write failed; run closes */
    bool listed;  /* KG_CLIENT_RECOVERING: the engine's list has ended */
    bool same_engine;
    bool has_configure, configure_due;
    Kg__Configure configure;
    struct kg_addr avoid_addr[KG_MEDIA_AVOID_MAX]; /* what configure.avoid is made of */
    Kg__Address avoid[KG_MEDIA_AVOID_MAX], *avoid_list[KG_MEDIA_AVOID_MAX];
    size_t avoid_count;
    uint64_t instance;              /* of the engine last met; 0: none yet */
    struct kg_fingerprint identity; /* its certificate's */
    int64_t now_ms;
    int64_t reconnect_ms;
    int64_t recovery_ms; /* when this recovery began */
    struct kg_requests requests;
    struct kg_mirror mirror;
    struct kg_arena *in_arena;  /* the message being read */
    struct kg_arena *out_arena; /* the request being made; a callback may still read the former */
    kg_media_on_event *on_event;
    void *ctx;
    char path[KG_PATH_MAX];
    uint8_t in[KG_WIRE_MESSAGE_MAX + 1];
};

/* client.c */
void kg_client_tell(struct kg_media_client *client, const struct kg_media_event *event);
void kg_client_tell_plain(struct kg_media_client *client, enum kg_media_event_type type);
void kg_client_put_message(struct kg_media_client *client,
                           const Kg__Message *message); /* Hello or Configure */
/* Sends what may be sent now, in order. */
void kg_client_flush(struct kg_media_client *client);
/* Queued, not yet sent. NULL with errno. */
struct kg_request *kg_client_add_delete(struct kg_media_client *client, const char *id);
struct kg_request *kg_client_add_query(struct kg_media_client *client, enum kg_request_kind kind,
                                       const char *id, bool whole);

/* The request ends and its owner hears. */
void kg_client_complete(struct kg_media_client *client, struct kg_request *request,
                        const struct kg_media_reply *reply);

/* client_answers.c: client->in[0..len) has come. */
void kg_client_on_message(struct kg_media_client *client, size_t len);

#endif
