#include "b2bua/request/request.h"

#include <stdlib.h>

#include <sofia-sip/sip_status.h>

struct kg_requests {
    struct kg_server *server;
};

struct kg_requests *kg_requests_new(struct kg_server *server)
{
    struct kg_requests *requests = calloc(1, sizeof *requests);
    if (requests)
        requests->server = server;
    return requests;
}

void kg_requests_free(struct kg_requests *requests)
{
    free(requests);
}

void kg_requests_serve(struct kg_requests *requests, nta_incoming_t *irq, const sip_t *sip,
                       const struct kg_flow *flow)
{
    (void)requests;
    (void)sip;
    (void)flow;
    nta_incoming_treply(irq, SIP_405_METHOD_NOT_ALLOWED, TAG_END());
    nta_incoming_destroy(irq);
}

void kg_requests_flow_lost(struct kg_requests *requests, tport_t *tport)
{
    (void)requests;
    (void)tport;
}
