/* Bodies that name dialogs. */
#include "b2bua/request/inside.h"

const sip_payload_t *kg_body_translate(su_home_t *home, const struct kg_requests *requests, const sip_t *sip,
                                       struct kg_peer to)
{
    (void)home;
    (void)requests;
    (void)to;
    return sip->sip_payload;
}
