/* Where servers given by name were found last, kept in the store: after a restart they serve before DNS has
 * answered, and without it if it is dead. */
#ifndef KG_ROUTE_REMEMBER_H
#define KG_ROUTE_REMEMBER_H

#include "b2bua/route/locate.h"

struct kg_store;

/* Does nothing for a server given by address, or without a store. Queued: never waits for a disk. */
void kg_remember(struct kg_store *store, const struct kg_server_at *at, const struct kg_place *place,
                 size_t count);
/* At start. found: returns false if it does not know such a server; then it is forgotten. */
void kg_recall(struct kg_store *store,
               bool (*found)(void *ctx, const char *server, const struct kg_place *place, size_t count),
               void *ctx);
/* What a server is remembered as: "sip:pbx.example.org". False: too long. */
#define KG_REMEMBER_KEY 128
bool kg_remember_key(const struct kg_server_at *at, char out[static KG_REMEMBER_KEY]);

#endif
