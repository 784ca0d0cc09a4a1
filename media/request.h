/* The client's requests: queued, sent, answered or expired, in the order they were made. */
#ifndef KG_MEDIA_REQUEST_H
#define KG_MEDIA_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "media/client.h"
#include "media/wire.h"

enum kg_request_kind {
    KG_REQUEST_APPLY,
    KG_REQUEST_DELETE,
    KG_REQUEST_QUERY,
    KG_REQUEST_QUERY_ALL,
    KG_REQUEST_RECOVER, /* the client's own: everything the engine holds */
    KG_REQUEST_REPLAY,  /* the client's own: make a session again */
};

struct kg_request {
    uint32_t number;
    UT_hash_handle hh;
    enum kg_request_kind kind;
    bool sent; /* on this connection */
    bool ever_sent;
    bool creates;          /* APPLY of a session the engine did not have */
    int64_t deadline_ms;   /* 0: to be set by the next run; INT64_MAX: never */
    int64_t not_before_ms; /* REPLAY after a busy port */
    char id[KG_MEDIA_ID_MAX];
    kg_media_done *done; /* may be NULL */
    void *ctx;
    size_t len;
    uint8_t packed[];
};

/* Keyed by number; uthash iterates in the order of insertion. */
struct kg_requests {
    struct kg_request *by_number;
    uint32_t last_number;
};

/* True for the requests that make the engine whole again before any other is sent. */
static inline bool kg_request_is_recovery(const struct kg_request *request)
{
    return request->kind == KG_REQUEST_RECOVER || request->kind == KG_REQUEST_REPLAY;
}

/* Numbers and packs message, which the caller has filled but for the number. NULL without memory or when it
 * is too long (errno ENOMEM or EMSGSIZE). */
struct kg_request *kg_requests_add(struct kg_requests *requests, enum kg_request_kind kind, const char *id,
                                   Kg__Message *message);
struct kg_request *kg_requests_find(const struct kg_requests *requests, uint32_t number);
void kg_requests_remove(struct kg_requests *requests, struct kg_request *request);
void kg_requests_clear(struct kg_requests *requests);
size_t kg_requests_count(const struct kg_requests *requests);

#endif
