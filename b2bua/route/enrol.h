/* The registration of one trunk at its provider: when to send a REGISTER, and what its answer means (RFC 3261
 * 10.2). Pure: no SIP types, no clock; chance is handed in as 16 random bits. */
#ifndef KG_ROUTE_ENROL_H
#define KG_ROUTE_ENROL_H

#include <stdbool.h>
#include <stdint.h>

/* After failure n in a row: between half and all of BASE * 2^n, at most MAX (as RFC 5626 4.5, sooner at
 * first). */
#define KG_ENROL_RETRY_BASE_MS 4000
#define KG_ENROL_RETRY_MAX_MS  300000
/* After a refusal that only a person can mend (wrong password, account closed): providers ban who hammers. */
#define KG_ENROL_REFUSED_MS 900000
/* Longer Retry-After is not believed. */
#define KG_ENROL_RETRY_AFTER_MAX_S 3600
/* A provider that grants less is asked again no sooner than this. */
#define KG_ENROL_LEAST_S 10
/* Proofs in a row: one for the challenge, and if its nonce is stale by then, once more, and again. */
#define KG_ENROL_PROOFS_MAX 3
/* RFC 3261 10.3: 423 may ask for more, not for ever. */
#define KG_ENROL_EXPIRES_MAX_S 86400

enum kg_enrol_state {
    KG_ENROL_OFF,        /* not wanted */
    KG_ENROL_ASKING,     /* REGISTER sent, not registered */
    KG_ENROL_REGISTERED, /* also while it is refreshed */
    KG_ENROL_WAITING,    /* failed; tried again at due_ms */
    KG_ENROL_REFUSED,    /* the same, and a person is needed */
    KG_ENROL_LEAVING,    /* unregistering */
};

enum kg_enrol_act {
    KG_ENROL_NOTHING,
    KG_ENROL_SEND,  /* a REGISTER for asked_s; 0: unregister */
    KG_ENROL_PROVE, /* the same with the answer to the challenge */
};

struct kg_enrol {
    enum kg_enrol_state state;
    uint32_t wanted_s; /* configured */
    uint32_t asked_s;  /* more after a 423 */
    uint32_t granted_s;
    unsigned failures; /* in a row */
    unsigned proofs;
    bool in_flight;
    int64_t due_ms;     /* the next REGISTER */
    int64_t expires_ms; /* of what is registered; 0: nothing */
    int status;         /* of the last failure, for people; 0: none */
};

/* What came for the REGISTER in flight. */
struct kg_enrol_answer {
    int status;             /* 408: nothing came */
    uint32_t granted_s;     /* 2xx */
    uint32_t min_expires_s; /* 423 */
    uint32_t retry_after_s; /* 0: none said */
    bool provable;          /* 401, 407: there are credentials for it, and the realm is the trunk's */
    bool stale;             /* what was proven was right but for its age */
};

/* now_ms is monotonic. Registers at once, or within a few seconds by chance: many trunks, one provider. */
void kg_enrol_start(struct kg_enrol *e, uint32_t wanted_s, int64_t now_ms, uint16_t chance);
enum kg_enrol_act kg_enrol_tick(struct kg_enrol *e, int64_t now_ms);
enum kg_enrol_act kg_enrol_answered(struct kg_enrol *e, const struct kg_enrol_answer *answer, int64_t now_ms,
                                    uint16_t chance);
/* The trunk goes. The answer to what is in flight may still come. */
enum kg_enrol_act kg_enrol_leave(struct kg_enrol *e);
/* The flow was lost: the provider could not reach us by it. Registers again soon. */
void kg_enrol_lost(struct kg_enrol *e, int64_t now_ms, uint16_t chance);
/* "registered" */
const char *kg_enrol_state_name(enum kg_enrol_state state);

#endif
