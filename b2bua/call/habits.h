/* In which shapes peers took media, and which they refused: so that the second call is right at once. By
 * where their SIP comes from; in memory. A table of fixed size: where it is full a newcomer takes the place
 * of somebody who is known for no keys, which costs that one a refused INVITE; only where all are known for
 * keys of who was silent longest, who may then be asked in the clear once more after a refusal. Pure.
 *
 * A refusal over UDP or TCP may be somebody else's on the way. So it makes nobody who was seen with keys be
 * asked in the clear (secure.h), and what it led to in the clear is forgotten soon. */
#ifndef KG_CALL_HABITS_H
#define KG_CALL_HABITS_H

#include "b2bua/call/secure.h"

#define KG_HABITS_MAX 4096
/* ms that a habit is remembered: a phone may be set up anew. */
#define KG_HABITS_MS (24 * 3600 * 1000)
/* The same of a refusal of keys that anybody could have forged, after which media was in the clear: then they
 * are offered again. */
#define KG_HABITS_DOUBT_MS (3600 * 1000)

struct kg_habits;
struct kg_habits *kg_habits_new(void); /* NULL without memory */
void kg_habits_free(struct kg_habits *habits);
/* Sets refused, shown and taken. */
void kg_habits_recall(const struct kg_habits *habits, enum kg_transport transport, const struct kg_addr *addr,
                      int64_t now_ms, struct kg_shape_facts *facts);
/* It refused these (KG_SHAPE_BIT), and took this one. */
void kg_habits_took(struct kg_habits *habits, enum kg_transport transport, const struct kg_addr *addr,
                    int64_t now_ms, uint8_t refused, enum kg_shape taken);
/* It offers media in this shape itself: then it takes it, too. */
void kg_habits_shown(struct kg_habits *habits, enum kg_transport transport, const struct kg_addr *addr,
                     int64_t now_ms, enum kg_shape shape);

#endif
