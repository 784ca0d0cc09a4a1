/* What ICE adds to talk.c. */
#include "b2bua/call/call.h"

bool kg_talk_is_absorbed(const struct kg_leg *leg)
{
    (void)leg;
    return false;
}

void kg_talk_renew(struct kg_leg *leg)
{
    (void)leg;
}
