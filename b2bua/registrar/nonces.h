/* Which nonce counts were used with which nonce (RFC 7616 3.4.5): the defence against replayed credentials.
 * Bounded.
 *
 * Only right credentials make an entry, so strangers cannot fill the table. When it is full the entry unused
 * for longest goes, and every nonce as old as that or older that is not in the table counts as forgotten from
 * then on: its owner is challenged once more (stale), a replay is never taken for new. A restart is the same:
 * what was issued before it and is not restored is forgotten. */
#ifndef KG_NONCES_H
#define KG_NONCES_H

#include <stdint.h>

struct kg_nonces;
enum kg_nonce_use { KG_NONCE_FRESH, KG_NONCE_SEEN, KG_NONCE_FORGOTTEN };

#define KG_NONCES_MAX 65536 /* about 7 MB */

struct kg_nonces *kg_nonces_new(int64_t now_ms);
void kg_nonces_free(struct kg_nonces *nonces);
/* Counts may arrive out of order (UDP): within 64 of the highest each is good once, below that it counts as
 * seen. */
enum kg_nonce_use kg_nonces_use(struct kg_nonces *nonces, uint64_t id, int64_t made_ms, uint32_t nc);
/* Everything up to nc was used. */
void kg_nonces_restore(struct kg_nonces *nonces, uint64_t id, int64_t made_ms, uint32_t nc);

#endif
