/* Between the structs of media/client.h and the messages of media/control.proto. Nothing here calls malloc:
 * messages are built in and parsed into an arena that is emptied for the next one. */
#ifndef KG_MEDIA_WIRE_H
#define KG_MEDIA_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "media/client.h"
#include "media/control.pb-c.h"

#define KG_WIRE_VERSION     3
#define KG_WIRE_MESSAGE_MAX 65535
/* Reply.error beyond enum kg_media_error: a port of a session to make again is still busy. */
#define KG_WIRE_PORT_BUSY 100

struct kg_arena {
    size_t used;
    ProtobufCAllocator allocator; /* of this arena, for unpacking */
    /* A parsed message takes a few times its packed size; one that takes more is refused. */
    _Alignas(16) uint8_t bytes[512 * 1024];
};
struct kg_arena *kg_arena_new(void); /* NULL without memory */
void kg_arena_free(struct kg_arena *arena);
void kg_arena_reset(struct kg_arena *arena); /* what was in it is overwritten */
/* Zeroed; NULL when the arena is full. */
void *kg_arena_take(struct kg_arena *arena, size_t size);
char *kg_arena_text(struct kg_arena *arena, const char *text); /* a copy; NULL when the arena is full */

/* Resets the arena. NULL: not a message, or too large. Lives until the next reset. */
Kg__Message *kg_wire_parse(struct kg_arena *arena, const uint8_t *data, size_t len);

/* Builders return NULL when the arena is full (or for an address that is not set). */
Kg__Address *kg_wire_from_addr(struct kg_arena *arena, const struct kg_addr *addr);
struct kg_addr kg_wire_to_addr(const Kg__Address *address); /* NULL and nonsense: none */
Kg__Side *kg_wire_from_side(struct kg_arena *arena, const struct kg_media_side *side);
/* Returns 0, EINVAL, or E2BIG for more lines or codecs than we hold. ICE descriptions and what secures a line
 * live in the arena, the former point into `side`; one that breaks the rules of RFC 8839 is left out. */
int kg_wire_to_side(struct kg_arena *arena, const Kg__Side *side, struct kg_media_side *out);
/* On the heap in one piece, with as many streams as stream_count says and everything they point to. NULL
 * without memory. */
struct kg_media_side *kg_media_side_copy(const struct kg_media_side *side);
void kg_media_side_free(struct kg_media_side *copy); /* keys are overwritten */
Kg__Stats *kg_wire_from_stats(struct kg_arena *arena, const struct kg_media_stats *stats);
void kg_wire_to_stats(const Kg__Stats *stats, struct kg_media_stats *out);

/* wire_ice.c */
Kg__Ice *kg_wire_from_ice(struct kg_arena *arena, const struct kg_ice_description *ice);
/* Points into `ice`. NULL: invalid, or the arena is full. */
const struct kg_ice_description *kg_wire_to_ice(struct kg_arena *arena, const Kg__Ice *ice);
Kg__IceLocal *kg_wire_from_ice_local(struct kg_arena *arena, const struct kg_media_ice_local *local);
/* Allocates *kept where it is NULL; local NULL changes nothing. Returns 0 or ENOMEM. */
int kg_wire_keep_ice_local(const Kg__IceLocal *local, struct kg_media_ice_local **kept);
Kg__Pair *kg_wire_from_pair(struct kg_arena *arena, const struct kg_media_pair *pair);
void kg_wire_to_pair(const Kg__Pair *pair, struct kg_media_pair *out); /* reason points into `pair` */

/* wire_secure.c */
void kg_wire_free(void *data, size_t len); /* from the heap; overwritten: messages carry keys */
Kg__Secure *kg_wire_from_secure(struct kg_arena *arena, const struct kg_media_secure *secure);
/* In the arena. NULL: invalid, or the arena is full. */
const struct kg_media_secure *kg_wire_to_secure(struct kg_arena *arena, const Kg__Secure *secure);
Kg__Fingerprint *kg_wire_from_fingerprint(struct kg_arena *arena, const struct kg_fingerprint *fingerprint);
/* False: none, or no such hash. */
bool kg_wire_to_fingerprint(const Kg__Fingerprint *wire, struct kg_fingerprint *out);

/* A copy on the heap of bytes that outlive the arena. They may hold keys: overwritten when they are freed. */
struct kg_blob {
    size_t len;
    uint8_t *data; /* owned; NULL when len is 0 */
};
/* Returns 0, or ENOMEM with the blob as before. */
int kg_blob_set(struct kg_blob *blob, const void *data, size_t len);
void kg_blob_clear(struct kg_blob *blob);

#endif
