/* The methods of SIP and what kedge does with a request of each: the one allow-list. What is not in the table
 * gets 501. */
#ifndef KG_SIP_METHODS_H
#define KG_SIP_METHODS_H

#include <sofia-sip/sip.h>
#include <stdbool.h>

enum kg_method_use {
    KG_METHOD_REFUSE,    /* known and not served here: 405 with Allow (RFC 3261 8.2.1) */
    KG_METHOD_NO_DIALOG, /* lives only inside of a dialog, and there is none: 481 (RFC 3261 12.2.2) */
    KG_METHOD_DISCARD,   /* never answered (ACK) */
    KG_METHOD_SERVE,     /* kedge takes part in what it means */
    KG_METHOD_PASS,      /* goes to the other side with its body untouched, and the answer comes back */
};

struct kg_method {
    const char *name;
    enum kg_method_use outside; /* of a dialog */
    enum kg_method_use inside;  /* of a call's dialog */
};

/* NULL: not in the table, 501. */
const struct kg_method *kg_method_of(const sip_t *sip);
/* The Allow header: every method of the table that is not refused both outside and inside. */
#define KG_SIP_ALLOW                                                                                         \
    "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, INFO, UPDATE, PRACK, REFER, NOTIFY, SUBSCRIBE, MESSAGE, "  \
    "PUBLISH"

#endif
