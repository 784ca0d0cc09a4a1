/* Stand-ins for the ICE agent and kg_steer until these land: nothing is verified, so nothing flows on a leg
 * with ICE. Weak, so that the real ones win; this file goes when both are there. */
#include <errno.h>
#include <stdlib.h>

#include "media/steer.h"

#define WEAK __attribute__((weak))
#pragma GCC diagnostic ignored "-Wunused-parameter"

struct kg_ice_agent {
    int nothing;
};
WEAK struct kg_ice_agent *kg_ice_agent_new(const struct kg_ice_settings *settings)
{
    return calloc(1, sizeof(struct kg_ice_agent));
}
WEAK void kg_ice_agent_free(struct kg_ice_agent *agent)
{
    free(agent);
}
WEAK int kg_ice_add_stream(struct kg_ice_agent *agent, uint8_t stream, uint8_t components)
{
    return 0;
}
WEAK int kg_ice_add_local(struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                          enum kg_candidate_type type, const struct kg_addr *addr, const struct kg_addr *base,
                          uint16_t preference, const struct kg_addr *server)
{
    return 0;
}
WEAK int kg_ice_set_local(struct kg_ice_agent *agent, const char *ufrag, const char *pwd)
{
    return 0;
}
WEAK int kg_ice_set_remote(struct kg_ice_agent *agent, uint8_t stream,
                           const struct kg_ice_description *remote, int64_t now_ms)
{
    return 0;
}
WEAK int kg_ice_start(struct kg_ice_agent *agent, int64_t now_ms)
{
    return 0;
}
WEAK int kg_ice_restart(struct kg_ice_agent *agent, const char *ufrag, const char *pwd, int64_t now_ms)
{
    return 0;
}
WEAK void kg_ice_drop_component(struct kg_ice_agent *agent, uint8_t stream, uint8_t component)
{
}
WEAK void kg_ice_drop_stream(struct kg_ice_agent *agent, uint8_t stream)
{
}
WEAK bool kg_ice_receive(struct kg_ice_agent *agent, const struct kg_addr *base, const struct kg_addr *source,
                         const uint8_t *data, size_t len, int64_t now_ms)
{
    return false;
}
WEAK bool kg_ice_poll(struct kg_ice_agent *agent, int64_t now_ms, struct kg_ice_datagram *out)
{
    return false;
}
WEAK bool kg_ice_poll_event(struct kg_ice_agent *agent, struct kg_ice_event *out)
{
    return false;
}
WEAK int64_t kg_ice_next_ms(const struct kg_ice_agent *agent)
{
    return INT64_MAX;
}
WEAK void kg_ice_challenge(struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                           const struct kg_addr *base, const struct kg_addr *source, int64_t now_ms)
{
}
WEAK enum kg_ice_state kg_ice_state(const struct kg_ice_agent *agent)
{
    return KG_ICE_NEW;
}
WEAK bool kg_ice_selected(const struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                          struct kg_ice_pair *out)
{
    return false;
}
WEAK bool kg_ice_is_valid_source(const struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                                 const struct kg_addr *source)
{
    return false;
}
WEAK size_t kg_ice_pairs(const struct kg_ice_agent *agent, struct kg_ice_pair *out, size_t max)
{
    return 0;
}

struct kg_steer {
    int nothing;
};
WEAK struct kg_steer *kg_steer_new(uint32_t consent_ms, void (*random)(void *ctx, void *out, size_t len),
                                   void *random_ctx)
{
    return calloc(1, sizeof(struct kg_steer));
}
WEAK void kg_steer_free(struct kg_steer *steer)
{
    free(steer);
}
WEAK int kg_steer_describe(struct kg_steer *steer, enum kg_side side, const struct kg_ice_description *ice,
                           int64_t now_ms)
{
    return 0;
}
WEAK enum kg_steer_verdict kg_steer_receive(struct kg_steer *steer, enum kg_side side,
                                            const struct kg_addr *source, const uint8_t *data, size_t len,
                                            int64_t now_ms, const struct kg_addr **to, bool *moved)
{
    return KG_STEER_DROP;
}
WEAK bool kg_steer_is_verified(const struct kg_steer *steer, enum kg_side side, const struct kg_addr *source,
                               int64_t now_ms)
{
    return false;
}
WEAK bool kg_steer_media(struct kg_steer *steer, enum kg_side side, const struct kg_addr *source,
                         int64_t now_ms)
{
    return false;
}
WEAK void kg_steer_suspect(struct kg_steer *steer, enum kg_side side, const struct kg_addr *source,
                           int64_t now_ms)
{
}
WEAK const struct kg_addr *kg_steer_target(const struct kg_steer *steer, enum kg_side side, int64_t now_ms)
{
    return NULL;
}
WEAK bool kg_steer_is_nominated(const struct kg_steer *steer)
{
    return false;
}
WEAK int64_t kg_steer_silence(const struct kg_steer *steer, enum kg_side side, int64_t now_ms)
{
    return -1;
}
WEAK bool kg_steer_poll(struct kg_steer *steer, int64_t now_ms, struct kg_steer_datagram *out)
{
    return false;
}
WEAK int64_t kg_steer_next_ms(const struct kg_steer *steer)
{
    return INT64_MAX;
}
WEAK size_t kg_steer_pairs(const struct kg_steer *steer, enum kg_side side, struct kg_ice_pair *out,
                           size_t max)
{
    return 0;
}
