#include "b2bua/registrar/inside.h"
struct kg_front *kg_front_new(struct kg_registrar *r)
{
    (void)r;
    return NULL;
}
void kg_front_free(struct kg_front *f)
{
    (void)f;
}
void kg_front_register(struct kg_front *f, struct kg_exchange *x)
{
    (void)f;
    (void)x;
}
bool kg_front_refresh(struct kg_front *f, struct kg_exchange *x)
{
    (void)f;
    (void)x;
    return false;
}
void kg_front_tick(struct kg_front *f, int64_t n)
{
    (void)f;
    (void)n;
}
