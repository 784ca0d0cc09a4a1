/* From a configured server to where it is (RFC 3263, RFC 2782). Pure: DNS answers and randomness are handed
 * in. */
#ifndef KG_ROUTE_LOCATE_H
#define KG_ROUTE_LOCATE_H

#include <stdbool.h>

#include "b2bua/route/dns.h"

/* What kedge can send over. */
struct kg_reach {
    bool transport[3]; /* enum kg_transport */
    bool v4, v6;
};

/* One address of a server. priority and weight are those of its SRV record, 0 without one. */
struct kg_place {
    struct kg_endpoint at;
    uint16_t priority, weight;
};
#define KG_PLACES_MAX 16

/* The answer that is known, perhaps an old one; NULL: none yet, ask again when there is news. */
typedef const struct kg_dns_answer *kg_locate_ask(void *ctx, enum kg_dns_type type, const char *name);

/* Returns 0 with *count places (0: DNS knows none), or EAGAIN while an answer is awaited that matters. */
int kg_locate(const struct kg_server_at *server, const struct kg_reach *reach, kg_locate_ask *ask, void *ctx,
              struct kg_place out[static KG_PLACES_MAX], size_t *count);

/* RFC 2782, "Weight": in which order to ask. order gets the indices 0 to count - 1. */
struct kg_weighted {
    uint16_t priority, weight;
};
#define KG_WEIGHTED_MAX 64
void kg_order(const struct kg_weighted *item, size_t count, uint32_t (*random)(void *ctx), void *ctx,
              uint8_t order[static KG_WEIGHTED_MAX]);

#endif
