/* The methods of SIP and what kedge does with a request of each: the one allow-list. What is not in the table
 * gets 501. */
#ifndef KG_SIP_METHODS_H
#define KG_SIP_METHODS_H

#include <sofia-sip/sip.h>
#include <stdbool.h>

#include "conf/config.h"

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

/* NULL: not in the table. */
const struct kg_method *kg_method_of(const sip_t *sip);
/* One that is not in the table, but in the configuration's sip.pass_methods: it passes. NULL: 501. */
const struct kg_method *kg_method_listed(const struct kg_config *config, const sip_t *sip);
/* Whether a Supported or Require option of one end is only for the other end. */
bool kg_sip_option_passes(const char *name);
/* Event packages (RFC 6665) that pass: all do; these are what Allow-Events names (8.2.2). */
#define KG_ALLOW_EVENTS "dialog, message-summary, presence, refer"
/* The Allow header: every method of the table that is not refused both outside and inside. */
#define KG_SIP_ALLOW                                                                                         \
    "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, INFO, UPDATE, PRACK, REFER, NOTIFY, SUBSCRIBE, MESSAGE, "  \
    "PUBLISH"

#endif
