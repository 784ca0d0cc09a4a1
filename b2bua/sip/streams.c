/* Until the edge lands: TCP by Sofia. */
#include "b2bua/sip/streams.h"
#include <stddef.h>
int kg_streams_new(struct kg_sip *sip, struct kg_streams **out, char *error, size_t size)
{
    (void)sip;
    (void)error;
    (void)size;
    *out = NULL;
    return 0;
}
int kg_streams_listen(struct kg_streams *s, enum kg_transport t, struct kg_addr *a)
{
    (void)s;
    (void)t;
    (void)a;
    return 0;
}
void kg_streams_bind_as(enum kg_transport t)
{
    (void)t;
}
int kg_streams_start(struct kg_streams *s)
{
    (void)s;
    return 0;
}
void kg_streams_stop(struct kg_streams *s)
{
    (void)s;
}
void kg_streams_free(struct kg_streams *s)
{
    (void)s;
}
struct event_base *kg_streams_base(struct kg_streams *s)
{
    (void)s;
    return NULL;
}
int kg_streams_reload(struct kg_streams *s, const struct kg_config *c, char *e, size_t z)
{
    (void)s;
    (void)c;
    (void)e;
    (void)z;
    return 0;
}
uint64_t kg_streams_refused(const struct kg_streams *s)
{
    (void)s;
    return 0;
}
