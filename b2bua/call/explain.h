/* Shared by the files that put a record into sentences. */
#ifndef KG_CALL_EXPLAIN_H
#define KG_CALL_EXPLAIN_H

#include "b2bua/call/record.h"

/* Appends a sentence. */
void kg_say(json_t *list, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "alice" or "the caller": every sentence has a subject. */
const char *kg_record_name(const struct kg_record *record, enum kg_side side);
/* The phones talk to each other and kedge sees nothing of it. */
bool kg_record_is_direct(const struct kg_record *record, uint8_t stream);

/* ---- explain_ice.c ---- */
void kg_explain_candidates(const struct kg_record *record, enum kg_side side, json_t *list);
/* Pairs that kedge saw, which won, and why none better. */
void kg_explain_pairs(const struct kg_record *record, json_t *list);
/* What happened to the path, with times. */
void kg_explain_story(const struct kg_record *record, json_t *list);

#endif
