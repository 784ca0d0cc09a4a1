#include "b2bua/call/session_timer.h"

#include <stdio.h>

static uint32_t least(const struct kg_session_rules *rules)
{
    return rules->min_s > KG_SESSION_LEAST_S ? rules->min_s : KG_SESSION_LEAST_S;
}

static uint32_t within(uint32_t value, uint32_t low, uint32_t high)
{
    return value < low ? low : value > high ? high : value;
}

static void agree(struct kg_session_timer *timer, uint32_t expires_s, bool ours, int64_t now_ms)
{
    timer->expires_s = expires_s;
    timer->ours = ours && expires_s > 0;
    timer->since_ms = now_ms;
    timer->retry_ms = 0;
    timer->raised = 0;
}

/* ---- as a UAS ---- */

uint32_t kg_session_refusal(const struct kg_session_said *asked, const struct kg_session_rules *rules)
{
    return asked->expires_s > 0 && asked->expires_s < least(rules) ? least(rules) : 0;
}

/* RFC 4028 9: the value may be lowered but not raised; the UAC's choice of who refreshes holds. Where it has
 * none it is us: a phone that says it would and forgets it loses no call that way. */
void kg_session_accept(struct kg_session_timer *timer, const struct kg_session_said *asked,
                       const struct kg_session_rules *rules, int64_t now_ms)
{
    uint32_t expires_s = asked->expires_s;
    if (asked->min_s > timer->min_s)
        timer->min_s = within(asked->min_s, 0, KG_SESSION_MOST_S);
    if (expires_s == 0 && rules->offer_s > 0)
        expires_s = rules->offer_s < asked->min_s ? asked->min_s : rules->offer_s;
    if (expires_s > 0)
        expires_s = within(expires_s, least(rules), KG_SESSION_MOST_S);
    bool peer = asked->supported && asked->expires_s > 0 && asked->refresher == KG_REFRESHER_UAC;
    agree(timer, expires_s, !peer, now_ms);
}

/* ---- as a UAC ---- */

/* RFC 4028 7.2: without Session-Expires in the 2xx the session does not expire; but where we refresh already,
 * for a peer that knows nothing of timers, that it answers is all we want to know. A peer that would have us
 * refresh every second has to do with less. */
void kg_session_accepted(struct kg_session_timer *timer, const struct kg_session_said *answer,
                         const struct kg_session_rules *rules, int64_t now_ms)
{
    uint32_t expires_s = answer->expires_s;
    if (expires_s == 0 && timer->ours) {
        agree(timer, timer->expires_s, true, now_ms);
        return;
    }
    if (expires_s > 0)
        expires_s = within(expires_s, least(rules), KG_SESSION_MOST_S);
    agree(timer, expires_s, answer->refresher != KG_REFRESHER_UAS, now_ms);
}

static uint32_t asked_s(const struct kg_session_timer *timer, const struct kg_session_rules *rules)
{
    uint32_t value = timer->expires_s ? timer->expires_s : rules->offer_s;
    return value > 0 && value < timer->min_s ? timer->min_s : value;
}

bool kg_session_raise(struct kg_session_timer *timer, const struct kg_session_said *answer,
                      const struct kg_session_rules *rules)
{
    if (answer->min_s > KG_SESSION_MOST_S || answer->min_s <= asked_s(timer, rules) ||
        timer->raised >= KG_SESSION_RAISES_MAX)
        return false;
    timer->raised++;
    timer->min_s = answer->min_s;
    return true;
}

/* ---- on the wire ---- */

bool kg_session_request_text(const struct kg_session_timer *timer, const struct kg_session_rules *rules,
                             char out[static KG_SESSION_TEXT])
{
    /* RFC 4028 7.4: later requests keep the roles. In the first one the UAS may choose. */
    const char *refresher = timer->expires_s == 0 ? "" : timer->ours ? ";refresher=uac" : ";refresher=uas";
    out[0] = '\0';
    if (asked_s(timer, rules) > 0)
        snprintf(out, KG_SESSION_TEXT, "%u%s", (unsigned)asked_s(timer, rules), refresher);
    return out[0] != '\0';
}

bool kg_session_response_text(const struct kg_session_timer *timer, char out[static KG_SESSION_TEXT])
{
    out[0] = '\0';
    if (timer->expires_s > 0)
        snprintf(out, KG_SESSION_TEXT, "%u;refresher=%s", (unsigned)timer->expires_s,
                 timer->ours ? "uas" : "uac");
    return out[0] != '\0';
}

/* ---- time ---- */

/* RFC 4028 10: BYE goes out this long before the end, so that the peer has not given up before us. */
static int64_t margin_ms(const struct kg_session_timer *timer)
{
    int64_t third = (int64_t)timer->expires_s * 1000 / 3;
    return third < 32000 ? third : 32000;
}

/* Between two tries: a few of them fit between half of the time and its end, of the shortest as of the
 * longest. */
static int64_t gap_ms(const struct kg_session_timer *timer)
{
    return (int64_t)within(timer->expires_s / 18, 5, 60) * 1000;
}

/* RFC 4028 10: at half of the time. */
static int64_t refresh_ms(const struct kg_session_timer *timer)
{
    int64_t half = timer->since_ms + (int64_t)timer->expires_s * 500;
    return half > timer->retry_ms ? half : timer->retry_ms;
}

int64_t kg_session_end_ms(const struct kg_session_timer *timer)
{
    return timer->expires_s == 0 ? INT64_MAX
                                 : timer->since_ms + (int64_t)timer->expires_s * 1000 - margin_ms(timer);
}

int64_t kg_session_due_ms(const struct kg_session_timer *timer)
{
    int64_t end = kg_session_end_ms(timer);
    return timer->expires_s > 0 && timer->ours && refresh_ms(timer) < end ? refresh_ms(timer) : end;
}

enum kg_session_step kg_session_step(struct kg_session_timer *timer, int64_t now_ms)
{
    if (now_ms >= kg_session_end_ms(timer))
        return KG_SESSION_EXPIRED;
    if (now_ms < kg_session_due_ms(timer))
        return KG_SESSION_WAIT;
    timer->retry_ms = now_ms + gap_ms(timer);
    return KG_SESSION_REFRESH;
}
