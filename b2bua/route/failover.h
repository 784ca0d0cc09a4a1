/* How long one of several servers may keep a request to itself. Pure. */
#ifndef KG_ROUTE_FAILOVER_H
#define KG_ROUTE_FAILOVER_H

#include <stdint.h>

/* From the first server that is asked to the last: what README.md promises when a PBX dies unnoticed. */
#define KG_FAILOVER_MS 4000
/* A server that is there says 100 within this, even if the first packet was lost (RFC 3261 17.1.1.2: it is
 * sent again after 500 ms). */
#define KG_FAILOVER_MIN_MS 1000
#define KG_FAILOVER_MAX_MS 2000
/* So many are asked at the most: KG_FAILOVER_MS / KG_FAILOVER_MIN_MS. */
#define KG_FAILOVER_SERVERS 4

/* The time for the one that is asked now: elapsed_ms after the first was asked, while `others` more could be.
 */
static inline int64_t kg_failover_wait_ms(int64_t elapsed_ms, unsigned others)
{
    int64_t left = KG_FAILOVER_MS - elapsed_ms, share = left / (others + 1);

    if (others > 0 && share > KG_FAILOVER_MAX_MS)
        share = KG_FAILOVER_MAX_MS;
    return share > KG_FAILOVER_MIN_MS ? share : KG_FAILOVER_MIN_MS;
}

#endif
