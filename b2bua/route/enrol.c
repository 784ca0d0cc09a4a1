#include "b2bua/route/enrol.h"

/* The whole of a start is spread over this. */
#define START_SPREAD_MS 500

static int64_t share(int64_t whole, uint16_t chance)
{
    return whole * chance / 65536;
}

void kg_enrol_start(struct kg_enrol *e, uint32_t wanted_s, int64_t now_ms, uint16_t chance)
{
    *e = (struct kg_enrol){.state = KG_ENROL_ASKING,
                           .wanted_s = wanted_s,
                           .asked_s = wanted_s,
                           .due_ms = now_ms + share(START_SPREAD_MS, chance)};
}

enum kg_enrol_act kg_enrol_tick(struct kg_enrol *e, int64_t now_ms)
{
    if (e->expires_ms && now_ms >= e->expires_ms) { /* every refresh until now has failed */
        e->expires_ms = 0;
        if (e->state == KG_ENROL_REGISTERED)
            e->state = KG_ENROL_ASKING;
    }
    if (e->in_flight || e->state == KG_ENROL_OFF || e->state == KG_ENROL_LEAVING || now_ms < e->due_ms)
        return KG_ENROL_NOTHING;
    e->in_flight = true;
    e->proofs = 0;
    return KG_ENROL_SEND;
}

/* Refreshed when 80 to 90 % of it are over, by chance. */
static void accept(struct kg_enrol *e, uint32_t granted_s, int64_t now_ms, uint16_t chance)
{
    int64_t granted_ms = (int64_t)(granted_s ? granted_s : e->asked_s) * 1000;
    int64_t due_ms = granted_ms * 8 / 10 + share(granted_ms / 10, chance);
    if (due_ms < KG_ENROL_LEAST_S * 1000)
        due_ms = KG_ENROL_LEAST_S * 1000;
    e->state = KG_ENROL_REGISTERED;
    e->granted_s = (uint32_t)(granted_ms / 1000);
    e->expires_ms = now_ms + granted_ms;
    e->due_ms = now_ms + due_ms;
    e->failures = 0;
    e->status = 0;
}

static int64_t backoff_ms(const struct kg_enrol *e, uint16_t chance)
{
    int64_t most = KG_ENROL_RETRY_BASE_MS;
    for (unsigned i = 0; i < e->failures && most < KG_ENROL_RETRY_MAX_MS; i++)
        most *= 2;
    if (most > KG_ENROL_RETRY_MAX_MS)
        most = KG_ENROL_RETRY_MAX_MS;
    return most / 2 + share(most / 2, chance);
}

/* What was registered goes on until it expires. */
static void fail(struct kg_enrol *e, enum kg_enrol_state state, int64_t wait_ms, int64_t now_ms)
{
    e->state = state;
    e->failures++;
    e->due_ms = now_ms + wait_ms;
}

static bool needs_a_person(int status)
{
    switch (status) {
    case 401: /* after a proof, or without credentials */
    case 407:
    case 402:
    case 403:
    case 404: /* RFC 3261 10.3 step 5: no such address of record */
    case 604:
        return true;
    default:
        return false;
    }
}

enum kg_enrol_act kg_enrol_answered(struct kg_enrol *e, const struct kg_enrol_answer *answer, int64_t now_ms,
                                    uint16_t chance)
{
    int status = answer->status;
    if (status < 200)
        return KG_ENROL_NOTHING;
    if ((status == 401 || status == 407) && answer->provable && e->proofs < KG_ENROL_PROOFS_MAX &&
        (e->proofs == 0 || answer->stale)) {
        e->proofs++;
        return KG_ENROL_PROVE;
    }
    e->in_flight = false;
    if (e->state == KG_ENROL_LEAVING) { /* gone, or it expires there */
        e->state = KG_ENROL_OFF;
        e->expires_ms = 0;
        return KG_ENROL_NOTHING;
    }
    if (status < 300) {
        accept(e, answer->granted_s, now_ms, chance);
        return KG_ENROL_NOTHING;
    }
    e->status = status;
    if (status == 423 && answer->min_expires_s > e->asked_s &&
        answer->min_expires_s <= KG_ENROL_EXPIRES_MAX_S) {
        e->asked_s = answer->min_expires_s; /* RFC 3261 10.2.8 */
        e->in_flight = true;
        e->proofs = 0;
        return KG_ENROL_SEND;
    }
    int64_t wait_ms = backoff_ms(e, chance), asked_ms = (int64_t)answer->retry_after_s * 1000;
    if (needs_a_person(status)) {
        fail(e, KG_ENROL_REFUSED, KG_ENROL_REFUSED_MS / 2 + share(KG_ENROL_REFUSED_MS / 2, chance), now_ms);
        return KG_ENROL_NOTHING;
    }
    if (asked_ms > KG_ENROL_RETRY_AFTER_MAX_S * 1000)
        asked_ms = KG_ENROL_RETRY_AFTER_MAX_S * 1000;
    if (asked_ms > wait_ms) /* up to a tenth more: others were told the same */
        wait_ms = asked_ms + share(asked_ms / 10, chance);
    fail(e, KG_ENROL_WAITING, wait_ms, now_ms);
    return KG_ENROL_NOTHING;
}

enum kg_enrol_act kg_enrol_leave(struct kg_enrol *e)
{
    bool known = e->expires_ms != 0 || e->in_flight; /* a REGISTER on its way may yet be accepted */
    if (!known || e->state == KG_ENROL_OFF) {
        e->state = KG_ENROL_OFF;
        return KG_ENROL_NOTHING;
    }
    e->state = KG_ENROL_LEAVING;
    e->asked_s = 0;
    e->proofs = 0;
    e->in_flight = true;
    return KG_ENROL_SEND;
}

void kg_enrol_lost(struct kg_enrol *e, int64_t now_ms, uint16_t chance)
{
    if (e->state != KG_ENROL_REGISTERED || e->in_flight)
        return;
    e->due_ms = now_ms + share(KG_ENROL_RETRY_BASE_MS, chance);
}

const char *kg_enrol_state_name(enum kg_enrol_state state)
{
    static const char *const names[] = {
        [KG_ENROL_OFF] = "not registering",   [KG_ENROL_ASKING] = "registering",
        [KG_ENROL_REGISTERED] = "registered", [KG_ENROL_WAITING] = "failed, tries again",
        [KG_ENROL_REFUSED] = "refused",       [KG_ENROL_LEAVING] = "unregistering",
    };
    return names[state];
}
