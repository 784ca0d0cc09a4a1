/* The table of what is under way outside of calls, its timer, and the entrance. */
#include "b2bua/request/subscription.h"

#include <stdlib.h>

#include <sofia-sip/sip_status.h>
#include <sofia-sip/su_wait.h>

#include "b2bua/sip/sip.h"
#include "conf/clock.h"

/* Deadlines here are seconds. Transits are looked at each time, subscriptions, of which there are many, once
 * in SUBSCRIPTIONS_EVERY. */
#define TICK_MS             250
#define SUBSCRIPTIONS_EVERY 8

static void on_tick(su_root_magic_t *magic, su_timer_t *timer, su_timer_arg_t *arg)
{
    struct kg_requests *requests = (struct kg_requests *)arg;
    int64_t now_ms = kg_mono_ms();
    (void)magic;
    kg_transits_tick(requests, now_ms);
    if (requests->lamps > 0)
        kg_lamps_tick(requests);
    if (++requests->ticks % SUBSCRIPTIONS_EVERY == 0)
        kg_subscriptions_tick(requests, now_ms);
    su_timer_set_interval(timer, on_tick, arg, TICK_MS);
}

struct kg_requests *kg_requests_new(struct kg_server *server)
{
    struct kg_requests *requests = calloc(1, sizeof *requests);
    if (!requests)
        return NULL;
    requests->server = server;
    requests->agent = kg_sip_agent(server->sip);
    requests->timer = su_timer_create(su_root_task(server->root), TICK_MS);
    if (!requests->timer) {
        kg_requests_free(requests);
        return NULL;
    }
    su_timer_set_interval(requests->timer, on_tick, (su_timer_arg_t *)requests, TICK_MS);
    kg_subscriptions_load(requests);
    return requests;
}

void kg_requests_free(struct kg_requests *requests)
{
    if (!requests)
        return;
    requests->closing = true;
    while (requests->subscriptions)
        kg_subscription_free(requests->subscriptions);
    while (requests->transits)
        kg_transit_free(requests->transits);
    if (requests->timer)
        su_timer_destroy(requests->timer);
    free(requests);
}

void kg_requests_serve(struct kg_requests *requests, nta_incoming_t *irq, const sip_t *sip,
                       const struct kg_flow *flow)
{
    struct kg_way way;
    if (sip->sip_payload && sip->sip_payload->pl_len > requests->server->config.limits.request_body) {
        kg_counters.requests_refused++;
        kg_request_refuse(irq, SIP_413_REQUEST_TOO_LARGE, 0);
        return;
    }
    if (kg_way_find(requests, irq, sip, flow, &way) != 0)
        return;
    if (way.manner == KG_MANNER_DIALOG || way.manner == KG_MANNER_OWN)
        kg_subscription_start(requests, irq, sip, flow, &way);
    else
        kg_transit_start(requests, irq, sip, flow, &way, NULL);
}
