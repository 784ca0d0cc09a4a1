#include "media/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct kg_request *kg_requests_add(struct kg_requests *requests, enum kg_request_kind kind, const char *id,
                                   Kg__Message *message)
{
    do {
        message->request = ++requests->last_number;
    } while (message->request == 0 || kg_requests_find(requests, message->request));
    size_t len = kg__message__get_packed_size(message);
    if (len > KG_WIRE_MESSAGE_MAX) {
        errno = EMSGSIZE;
        return NULL;
    }
    struct kg_request *request = calloc(1, sizeof *request + len);
    if (request == NULL)
        return NULL;
    request->number = message->request;
    request->kind = kind;
    snprintf(request->id, sizeof request->id, "%s", id);
    request->len = kg__message__pack(message, request->packed);
    HASH_ADD(hh, requests->by_number, number, sizeof request->number, request);
    return request;
}

struct kg_request *kg_requests_find(const struct kg_requests *requests, uint32_t number)
{
    struct kg_request *request;
    HASH_FIND(hh, requests->by_number, &number, sizeof number, request);
    return request;
}

void kg_requests_remove(struct kg_requests *requests, struct kg_request *request)
{
    HASH_DEL(requests->by_number, request);
    kg_wire_free(request, sizeof *request + request->len);
}

void kg_requests_clear(struct kg_requests *requests)
{
    struct kg_request *request, *next;
    HASH_ITER(hh, requests->by_number, request, next)
    kg_requests_remove(requests, request);
}

size_t kg_requests_count(const struct kg_requests *requests)
{
    return HASH_COUNT(requests->by_number);
}
