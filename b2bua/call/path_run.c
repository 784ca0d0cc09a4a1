/* Carries out what path.c decides. */
#include "b2bua/call/call.h"

void kg_path_trickle(struct kg_leg *leg, const char *body, size_t len)
{
    (void)leg;
    (void)body;
    (void)len;
}

char *kg_path_trickle_text(struct kg_leg *from, const char *body, size_t len, size_t *out_len)
{
    (void)from;
    (void)body;
    (void)len;
    (void)out_len;
    return NULL;
}

void kg_path_done(struct kg_call *call, enum kg_fsm_event_type what, enum kg_side side, bool ok)
{
    (void)call;
    (void)what;
    (void)side;
    (void)ok;
}

void kg_path_moved(struct kg_leg *leg, const struct kg_addr *before, bool restarted)
{
    (void)leg;
    (void)before;
    (void)restarted;
}
