/* A cache of DNS answers that fills itself (c-ares) on the signalling thread's su_root. Asking never blocks
 * and never waits: what is known is told at once, the rest is asked for, and the owner hears when there is
 * news. */
#ifndef KG_ROUTE_RESOLVE_H
#define KG_ROUTE_RESOLVE_H

#include <sofia-sip/su_wait.h>

#include "b2bua/route/dns.h"

struct kg_resolver;

/* Names and types that are known or asked for at once (some 4 KB each); the one not wanted for longest makes
 * room. */
#define KG_RESOLVER_NAMES_MAX 1024
/* An answer is believed at least and at most so long, whatever its TTL says. */
#define KG_DNS_TTL_MIN_S 5
#define KG_DNS_TTL_MAX_S 3600
/* "There is none" is believed for no longer than this (RFC 2308 5 would allow hours). */
#define KG_DNS_NEGATIVE_MAX_S 60

/* servers: whom to ask, none: those of /etc/resolv.conf. news: some answer changed or arrived; it is called
 * from the su_root, never from inside kg_resolver_ask. NULL when out of memory. */
struct kg_resolver *kg_resolver_new(su_root_t *root, const struct kg_addr *servers, size_t server_count,
                                    void (*news)(void *ctx), void *ctx);
void kg_resolver_free(struct kg_resolver *resolver);
void kg_resolver_set_servers(struct kg_resolver *resolver, const struct kg_addr *servers,
                             size_t server_count);

/* What is known, an old answer too while DNS gives no new one; NULL: nothing yet. Valid until the next call
 * with another now_ms. /etc/hosts goes before DNS. Names that nobody asks for any more are not renewed. */
const struct kg_dns_answer *kg_resolver_ask(struct kg_resolver *resolver, enum kg_dns_type type,
                                            const char *name, int64_t now_ms);
/* Why the last query that failed did, a constant; NULL: the last one was answered. */
const char *kg_resolver_trouble(const struct kg_resolver *resolver);

#endif
