/* In which shapes peers took media, and which they refused: so that the second call is right at once. By
 * where their SIP comes from; in memory. A table of fixed size: a newcomer takes the place of who was there
 * before, which costs that one a refused INVITE. */
#ifndef KG_CALL_HABITS_H
#define KG_CALL_HABITS_H

#include "b2bua/call/secure.h"

#define KG_HABITS_MAX 4096
/* ms that a refusal is remembered: a phone may be set up anew. */
#define KG_HABITS_MS (24 * 3600 * 1000)

struct kg_habits;
struct kg_habits *kg_habits_new(void); /* NULL without memory */
void kg_habits_free(struct kg_habits *habits);
/* Sets refused and shown. */
void kg_habits_recall(const struct kg_habits *habits, enum kg_transport transport, const struct kg_addr *addr,
                      int64_t now_ms, struct kg_shape_facts *facts);
/* It refused these (KG_SHAPE_BIT), and took another one. */
void kg_habits_refused(struct kg_habits *habits, enum kg_transport transport, const struct kg_addr *addr,
                       int64_t now_ms, uint8_t refused);
/* It offers media in this shape itself: then it takes it, too. */
void kg_habits_shown(struct kg_habits *habits, enum kg_transport transport, const struct kg_addr *addr,
                     int64_t now_ms, enum kg_shape shape);

#endif
