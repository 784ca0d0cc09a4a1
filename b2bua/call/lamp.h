/* The calls that are up, as a lamp shows them (RFC 4235): for kedge's own event package `dialog`. Signalling
 * thread only. */
#ifndef KG_CALL_LAMP_H
#define KG_CALL_LAMP_H

#include <stdbool.h>

#include "b2bua/call/dialogs.h"

enum kg_lamp_state { KG_LAMP_TRYING, KG_LAMP_EARLY, KG_LAMP_CONFIRMED };

/* One side of a call. */
struct kg_lamp {
    const char *user;  /* whose lamp */
    const char *other; /* user part of the other party, as it came from the network */
    const char *id;    /* of the call */
    bool initiator;
    enum kg_lamp_state state;
    bool named;                 /* the dialog is known: */
    struct kg_dialog_id dialog; /* as a Replaces header names it to the other party's phone */
};
/* Each side of each call that is set up or in talk. */
void kg_calls_each_lamp(struct kg_calls *calls, void (*tell)(void *ctx, const struct kg_lamp *lamp),
                        void *ctx);

#endif
