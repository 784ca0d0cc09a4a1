#include "b2bua/sip/hush.h"

#include <sofia-sip/sip_protos.h>

#include "b2bua/server.h"
#include "conf/clock.h"

/* So many refusals of one dialog at once, and then a second; who goes on is not heard for HUSH_MS. */
#define REFUSED_BURST 10
#define REFUSED_RATE  1
#define HUSH_MS       1000

/* By the hash that libsofia makes of every Call-ID. There is one stack a process. */
static struct {
    uint32_t hash;
    int64_t until_ms;
} hushed[KG_HUSH_MAX];
static int64_t last_ms; /* the latest of all: after it nothing has to be looked up */

bool kg_hush_refused(struct kg_pace *refused, const sip_call_id_t *call_id, int64_t now_ms)
{
    if (kg_pace_take(refused, now_ms, REFUSED_RATE, REFUSED_BURST))
        return false;
    uint32_t hash = (uint32_t)call_id->i_hash;
    int64_t until_ms = now_ms + HUSH_MS;
    hushed[hash % KG_HUSH_MAX].hash = hash;
    hushed[hash % KG_HUSH_MAX].until_ms = until_ms;
    if (until_ms > last_ms)
        last_ms = until_ms;
    return true;
}

bool kg_is_hushed(const sip_t *sip)
{
    int64_t now = last_ms > 0 ? kg_mono_ms() : 0;
    if (now >= last_ms || !sip->sip_request || !sip->sip_call_id)
        return false;
    sip_method_t method = sip->sip_request->rq_method;
    if (method == sip_method_ack || method == sip_method_bye || method == sip_method_cancel)
        return false;
    uint32_t hash = (uint32_t)sip->sip_call_id->i_hash;
    bool found = hushed[hash % KG_HUSH_MAX].hash == hash && now < hushed[hash % KG_HUSH_MAX].until_ms;
    kg_counters.requests_hushed += found;
    return found;
}
