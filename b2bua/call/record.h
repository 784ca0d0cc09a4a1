/* What people are told of a call, while it lasts and afterwards. No SIP types. */
#ifndef KG_CALL_RECORD_H
#define KG_CALL_RECORD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "media/client.h"

#define KG_CALL_ID_LEN 16 /* hex digits */

struct kg_record_leg {
    char *user;    /* account, or what the other side dialled; never NULL once the leg exists */
    char *call_id; /* Call-ID header of this leg; NULL before it exists */
    enum kg_transport transport;
    struct kg_addr remote; /* packet source of its signalling */
    bool nat;
    char *nat_reasons; /* sentences, one a line; NULL: none */
    bool pbx;
    bool lost; /* its connection is gone */
};

struct kg_record {
    char id[KG_CALL_ID_LEN + 1];
    char *from, *to;                           /* URIs */
    int64_t started_ms, answered_ms, ended_ms; /* wall clock; 0: not (yet) */
    int status;         /* sent to the caller, or that it would have got; 0 while the call lasts */
    const char *why;    /* it ended; constant; NULL: by a failure of the other side with `status` */
    const char *path;   /* "anchored", "direct", "bypass" */
    const char *reason; /* for the path; constant */
    struct kg_record_leg leg[2];
    uint8_t stream_count;
    struct kg_media_stats *stats[2]; /* last known, stream_count each; NULL: none */
};

struct kg_record *kg_record_new(const char *id);
void kg_record_free(struct kg_record *record);
/* Keeps a copy of the engine's figures. */
void kg_record_set_stats(struct kg_record *record, const struct kg_media_session_info *info);

/* One row of `calls --json`. state: kg_call_state_name. */
json_t *kg_record_json(const struct kg_record *record, const char *state);
/* Plain sentences: who called whom, over what, which media path and why, who hears whom and if not, why not.
 */
json_t *kg_record_explain(const struct kg_record *record, const char *state);

/* Copies text without control characters and quotes: for header texts that go into sentences. Returns
 * malloc'd. */
char *kg_record_text(const char *text);

#endif
