#include "b2bua/call/path.h"

static const int64_t upgrade_delay_ms[KG_PATH_UPGRADES_MAX] = {10000, 60000, 300000};

const char *kg_path_why_text(enum kg_path_why why)
{
    static const char *const text[KG_WHY_COUNT] = {
        [KG_WHY_UNDECIDED] = "the callee has not answered yet",
        [KG_WHY_STEERED] =
            "both phones do ICE, so they found the best path between themselves; kedge's ports are "
            "their last resort",
        [KG_WHY_RELAYED] = "both phones do ICE, but found no better path than through kedge's ports",
        [KG_WHY_ICE_OFF] =
            "ICE is switched off in the configuration (media.ice: no); a phone that insists on ICE "
            "(baresip) sends no media until it is switched off there too",
        [KG_WHY_NEITHER] = "neither side does ICE, so kedge's relay ports join the two",
        [KG_WHY_ONLY_CALLER] =
            "only the caller does ICE, so kedge is its ICE peer and finds the callee by its packets",
        [KG_WHY_ONLY_CALLEE] =
            "only the callee does ICE, so kedge is its ICE peer and finds the caller by its packets",
        [KG_WHY_CALLER_MISMATCH] = "something between kedge and the caller's phone changes addresses in SDP, "
                                   "as a SIP ALG does (ICE mismatch), so its ICE cannot be used",
        [KG_WHY_CALLEE_MISMATCH] = "something between kedge and the callee's phone changes addresses in SDP, "
                                   "as a SIP ALG does (ICE mismatch), so its ICE cannot be used",
        [KG_WHY_POLICY_ANCHOR] = "the configuration says so (media.policy, a route or a trunk: anchor)",
        [KG_WHY_POLICY_BYPASS] = "bypass is not available in this kedge yet",
        [KG_WHY_STEER_NEITHER] =
            "media.policy is steer, but neither side does ICE, without which phones cannot be "
            "steered to each other",
        [KG_WHY_STEER_ONLY_CALLER] =
            "media.policy is steer, but the callee does no ICE, without which phones cannot "
            "be steered to each other",
        [KG_WHY_STEER_ONLY_CALLEE] =
            "media.policy is steer, but the caller does no ICE, without which phones cannot "
            "be steered to each other",
        [KG_WHY_BOTH_APART] =
            "both sides do ICE, but each began it with kedge; they may be steered to each other "
            "later",
        [KG_WHY_TERMINATED] =
            "both sides do ICE, but secure their media differently, so kedge has to stand between them",
        [KG_WHY_FELL_BACK] = "the path between the phones was lost, so kedge's ports join them again",
    };
    return text[why];
}

/* ---- an m-line ---- */

static bool may_steer(const struct kg_path_rules *rules)
{
    bool permitted = rules->policy == KG_POLICY_AUTO || rules->policy == KG_POLICY_STEER;
    return rules->ice && permitted && (!rules->apart || rules->upgrade);
}

/* Of an anchored line whose sides do ICE, or not, with kedge. */
static enum kg_path_why why_anchored(const struct kg_path_rules *rules, const struct kg_path_facts *facts,
                                     const struct kg_path_line *line)
{
    bool a = line->use[KG_SIDE_A] == KG_ICE_AGENT, b = line->use[KG_SIDE_B] == KG_ICE_AGENT;
    if (!rules->ice)
        return KG_WHY_ICE_OFF;
    if (rules->policy == KG_POLICY_ANCHOR)
        return KG_WHY_POLICY_ANCHOR;
    if (rules->policy == KG_POLICY_BYPASS)
        return KG_WHY_POLICY_BYPASS;
    if (rules->apart)
        return KG_WHY_FELL_BACK;
    if (a && b)
        return facts->terminated ? KG_WHY_TERMINATED : KG_WHY_BOTH_APART;
    if (facts->mismatch[KG_SIDE_A])
        return KG_WHY_CALLER_MISMATCH;
    if (facts->mismatch[KG_SIDE_B])
        return KG_WHY_CALLEE_MISMATCH;
    if (rules->policy == KG_POLICY_STEER)
        return a ? KG_WHY_STEER_ONLY_CALLER : b ? KG_WHY_STEER_ONLY_CALLEE : KG_WHY_STEER_NEITHER;
    return a ? KG_WHY_ONLY_CALLER : b ? KG_WHY_ONLY_CALLEE : KG_WHY_NEITHER;
}

/* What a side that does ICE with kedge, or does none, is told. */
static uint8_t own_text(uint8_t use)
{
    return use == KG_ICE_AGENT ? KG_SDP_ICE_OURS : KG_SDP_ICE_NONE;
}

struct kg_path_line kg_path_offer(const struct kg_path_rules *rules, const struct kg_path_facts *facts,
                                  enum kg_side from)
{
    enum kg_side to = kg_other_side(from);
    struct kg_path_line line = {.why = KG_WHY_UNDECIDED};
    if (!rules->ice || !facts->enabled[from])
        return line;
    bool legacy = facts->known[to] && facts->enabled[to] && facts->use[to] == KG_ICE_UNUSED;
    bool agent = facts->use[to] == KG_ICE_AGENT && !rules->upgrade;
    if (facts->ice[from] && may_steer(rules) && !legacy && !agent && !facts->terminated) {
        line.text[to] = KG_SDP_ICE_KEEP;
        /* An upgrade changes nothing in the engine before its answer: make before break. */
        line.use[from] = rules->upgrade ? facts->use[from] : KG_ICE_STEER;
        line.use[to] = facts->use[to];
        line.text[from] = own_text(line.use[from]);
        return line;
    }
    if (legacy)
        line.text[to] = KG_SDP_ICE_NONE;
    else if (facts->use[to] != KG_ICE_UNUSED || !rules->trusted[to] || facts->web[to])
        line.text[to] = KG_SDP_ICE_OURS;
    /* Who was steered to `from` has nobody left to do ICE with but kedge. */
    line.use[to] = facts->use[to] == KG_ICE_UNUSED ? KG_ICE_UNUSED : KG_ICE_AGENT;
    /* At first our checks wait for the answer: the phone does not know our ufrag before it (RFC 8445 6.1). */
    if (facts->ice[from] && facts->use[from] != KG_ICE_UNUSED)
        line.use[from] = KG_ICE_AGENT;
    line.text[from] = own_text(line.use[from]);
    return line;
}

struct kg_path_line kg_path_answer(const struct kg_path_rules *rules, const struct kg_path_facts *facts,
                                   enum kg_side from)
{
    enum kg_side offerer = kg_other_side(from);
    struct kg_path_line line = {.why = KG_WHY_UNDECIDED};
    if (!facts->enabled[from] || !facts->enabled[offerer])
        return line;
    if (rules->ice && facts->told[from] == KG_SDP_ICE_KEEP && facts->ice[from] && facts->ice[offerer]) {
        line.use[from] = line.use[offerer] = KG_ICE_STEER;
        line.text[from] = line.text[offerer] = KG_SDP_ICE_KEEP;
        line.why = KG_WHY_STEERED;
        return line;
    }
    if (rules->ice && facts->told[from] == KG_SDP_ICE_OURS && facts->ice[from])
        line.use[from] = KG_ICE_AGENT;
    if (rules->ice && facts->ice[offerer])
        line.use[offerer] = KG_ICE_AGENT;
    line.text[from] = own_text(line.use[from]);
    line.text[offerer] = own_text(line.use[offerer]);
    line.why = why_anchored(rules, facts, &line);
    return line;
}

struct kg_path_line kg_path_renewal(const struct kg_path_rules *rules, const struct kg_path_facts *facts,
                                    enum kg_side from)
{
    enum kg_side other = kg_other_side(from);
    struct kg_path_line line = {.why = KG_WHY_UNDECIDED};
    if (!facts->enabled[from] || !facts->enabled[other])
        return line;
    bool agent = rules->ice && facts->ice[from] && facts->told[from] == KG_SDP_ICE_OURS;
    line.use[from] = agent ? KG_ICE_AGENT : KG_ICE_UNUSED;
    line.use[other] = facts->use[other] == KG_ICE_UNUSED ? KG_ICE_UNUSED : KG_ICE_AGENT;
    line.text[from] = own_text(line.use[from]);
    line.text[other] = own_text(line.use[other]);
    line.why = why_anchored(rules, facts, &line);
    return line;
}

/* ---- a call ---- */

void kg_path_init(struct kg_path *path)
{
    *path = (struct kg_path){.upgrade_ms = INT64_MAX, .deadline_ms = INT64_MAX};
}

const char *kg_path_name(const struct kg_path *path)
{
    return !path->steered ? "anchored" : path->relayed ? "relayed by kedge" : "direct";
}

const char *kg_path_reason(const struct kg_path *path)
{
    return kg_path_why_text(path->steered && path->relayed ? KG_WHY_RELAYED : path->why);
}

static struct kg_path_action nothing(void)
{
    return (struct kg_path_action){.what = KG_PATH_NOTHING};
}

static void set_health(struct kg_path *path, enum kg_side side, enum kg_path_health health, int64_t by_ms)
{
    path->leg[side].health = health;
    path->leg[side].by_ms = by_ms;
}

static void all_fine(struct kg_path *path)
{
    path->half = false;
    for (int side = 0; side < 2; side++) {
        set_health(path, (enum kg_side)side, KG_PATH_FINE, INT64_MAX);
        path->leg[side].rekey = false;
        path->leg[side].renewals = 0;
    }
}

static struct kg_path_action end(struct kg_path *path, enum kg_side side, const char *why)
{
    path->upgrade_ms = INT64_MAX;
    all_fine(path);
    return (struct kg_path_action){.what = KG_PATH_END, .side = side, .why = why};
}

/* ICE with this phone came to nothing: the next best is its SDP address, or wherever its packets come from
 * (latching). */
static struct kg_path_action go_on_plain(struct kg_path *path, enum kg_side side, int64_t now_ms,
                                         const char *why)
{
    struct kg_path_leg *leg = &path->leg[side];
    if (leg->plain)
        return end(path, side, why);
    leg->plain = true;
    leg->renewals = 0;
    set_health(path, side, KG_PATH_LOST, now_ms);
    return nothing();
}

static void plan_upgrade(struct kg_path *path, int64_t now_ms)
{
    path->upgrade_ms =
        path->upgrades < KG_PATH_UPGRADES_MAX ? now_ms + upgrade_delay_ms[path->upgrades] : INT64_MAX;
}

static void on_agreed(struct kg_path *path, const struct kg_path_event *event, int64_t now_ms)
{
    if (event->steered && !path->steered) {
        path->relayed = path->fell_back = false;
        all_fine(path);
    }
    for (int side = 0; side < 2 && event->steered != path->steered; side++)
        path->leg[side].connected = false;
    path->steered = event->steered;
    path->why = event->why;
    if (!event->both || event->steered)
        path->upgrade_ms = INT64_MAX;
    else if (path->upgrade_ms == INT64_MAX && !path->upgrading)
        plan_upgrade(path, now_ms);
}

static struct kg_path_action on_ice(struct kg_path *path, const struct kg_path_event *event, int64_t now_ms)
{
    struct kg_path_leg *leg = &path->leg[event->side];
    switch (event->ice) {
    case KG_ICE_CONNECTED:
    case KG_ICE_COMPLETED:
        leg->connected = true;
        /* After a fall-back a phone may answer our checks before it was told whom it talks to: it still is
         * to be told. */
        if (path->fell_back && leg->health == KG_PATH_LOST && leg->renewals == 0)
            break;
        /* The agent of a new engine finds the phone at once, but has no keys with it. */
        if (leg->rekey && leg->health == KG_PATH_LOST)
            break;
        if (!path->steered && leg->health != KG_PATH_RENEWING) {
            set_health(path, event->side, KG_PATH_FINE, INT64_MAX);
            leg->renewals = 0;
        }
        break;
    case KG_ICE_DISCONNECTED:
    case KG_ICE_FAILED:
        leg->connected = false;
        if (path->steered)
            break;
        if (leg->health == KG_PATH_MENDING)
            return go_on_plain(path, event->side, now_ms,
                               "ICE found no path to a phone any more, and a restart did not help");
        if (leg->health == KG_PATH_FINE)
            set_health(path, event->side, KG_PATH_LOST, now_ms);
        break;
    case KG_ICE_NEW:
    case KG_ICE_CHECKING:
        break;
    }
    return nothing();
}

static void on_doubt(struct kg_path *path, enum kg_side side, int64_t now_ms)
{
    if (path->steered && path->leg[side].health == KG_PATH_FINE)
        set_health(path, side, KG_PATH_DOUBT, now_ms + KG_PATH_GRACE_MS);
}

/* A page that was loaded anew knows nothing of the call, and says so (481) when it is offered an ICE restart;
 * one in another network needs it. Consent would tell only after half a minute. */
static void on_returned(struct kg_path *path, enum kg_side side, int64_t now_ms)
{
    if (path->steered)
        on_doubt(path, side, now_ms);
    else if (path->leg[side].health == KG_PATH_FINE || path->leg[side].health == KG_PATH_LOST)
        set_health(path, side, KG_PATH_LOST, now_ms);
}

static void on_restarted(struct kg_path *path, enum kg_side side, int64_t now_ms)
{
    path->leg[side].plain = false;
    if (path->steered) { /* it helps itself, end to end */
        path->fell_back = false;
        all_fine(path);
    } else if (path->leg[side].health == KG_PATH_LOST || path->leg[side].health == KG_PATH_RENEWING) {
        set_health(path, side, KG_PATH_MENDING, now_ms + KG_PATH_CONNECT_MS);
    }
}

static struct kg_path_action on_renewed(struct kg_path *path, const struct kg_path_event *event,
                                        int64_t now_ms)
{
    struct kg_path_leg *leg = &path->leg[event->side];
    if (leg->health != KG_PATH_RENEWING)
        return nothing();
    if (event->ok && event->stubborn && !event->latches && !leg->plain)
        return go_on_plain(path, event->side, now_ms, NULL);
    if (event->ok) {
        leg->rekey = false;
        bool fine = leg->connected || leg->plain || event->latches;
        set_health(path, event->side, fine ? KG_PATH_FINE : KG_PATH_MENDING,
                   fine ? INT64_MAX : now_ms + KG_PATH_CONNECT_MS);
        if (path->half)
            set_health(path, kg_other_side(event->side), KG_PATH_LOST, now_ms);
        path->half = false;
    } else if (event->unreachable) { /* until it comes from elsewhere, or nobody waits any more */
        int64_t end_ms = leg->first_ms + KG_PATH_ANSWER_MS, again_ms = now_ms + KG_PATH_AGAIN_MS;
        if (now_ms >= end_ms)
            return end(path, event->side,
                       "the path to a phone was lost, and the phone could not be reached to offer another");
        set_health(path, event->side, KG_PATH_LOST, again_ms < end_ms ? again_ms : end_ms);
    } else if (leg->renewals < 2) {
        set_health(path, event->side, KG_PATH_LOST, now_ms + KG_PATH_AGAIN_MS);
    } else if (path->steered) { /* nothing was changed yet, and what there is may still work */
        path->fell_back = false;
        all_fine(path);
    } else {
        return end(path, event->side, "the path to a phone was lost, and it refused to look for another");
    }
    return nothing();
}

static void on_upgraded(struct kg_path *path, int64_t now_ms)
{
    path->upgrading = false;
    if (!path->steered)
        plan_upgrade(path, now_ms);
}

/* The doubted side first: it needs the other path most, and if it refuses nothing was changed yet. */
static struct kg_path_action fall_back(struct kg_path *path, enum kg_side side, int64_t now_ms)
{
    path->fell_back = true;
    for (int i = 0; i < 2; i++)
        path->leg[i].renewals = 0;
    path->half = true;
    set_health(path, side, KG_PATH_LOST, now_ms);
    set_health(path, kg_other_side(side), KG_PATH_FINE, INT64_MAX);
    return (struct kg_path_action){.what = KG_PATH_FALL_BACK, .side = side};
}

/* What is due on one leg. */
static struct kg_path_action on_due(struct kg_path *path, enum kg_side side, bool ready, int64_t now_ms)
{
    struct kg_path_leg *leg = &path->leg[side];
    switch (leg->health) {
    case KG_PATH_DOUBT:
        return ready ? fall_back(path, side, now_ms) : nothing();
    case KG_PATH_LOST:
        if (!ready)
            break;
        if (leg->renewals++ == 0)
            leg->first_ms = leg->by_ms;
        set_health(path, side, KG_PATH_RENEWING, now_ms + KG_PATH_ANSWER_MS);
        return (struct kg_path_action){.what = KG_PATH_RENEW, .side = side};
    case KG_PATH_RENEWING:
        return end(path, side, "the path to a phone was lost, and it did not answer the offer of another");
    case KG_PATH_MENDING:
        if (!leg->connected)
            return go_on_plain(path, side, now_ms,
                               "the path to a phone was lost, and an ICE restart found no other");
        set_health(path, side, KG_PATH_FINE, INT64_MAX);
        leg->renewals = 0;
        break;
    case KG_PATH_FINE:
        leg->by_ms = INT64_MAX;
        break;
    }
    return nothing();
}

static struct kg_path_action on_tick(struct kg_path *path, const struct kg_path_event *event, int64_t now_ms)
{
    enum kg_side first = path->leg[KG_SIDE_B].by_ms < path->leg[KG_SIDE_A].by_ms ? KG_SIDE_B : KG_SIDE_A;
    for (int i = 0; i < 2; i++) {
        enum kg_side side = i == 0 ? first : kg_other_side(first);
        if (now_ms < path->leg[side].by_ms)
            continue;
        struct kg_path_action action = on_due(path, side, event->ready, now_ms);
        if (action.what != KG_PATH_NOTHING)
            return action;
    }
    if (now_ms < path->upgrade_ms)
        return nothing();
    bool fine = path->leg[0].health == KG_PATH_FINE && path->leg[1].health == KG_PATH_FINE;
    if (event->held || !fine) {
        path->upgrade_ms = now_ms + KG_PATH_HELD_MS;
    } else if (event->ready) {
        path->upgrades++;
        path->upgrading = true;
        path->upgrade_ms = INT64_MAX;
        return (struct kg_path_action){.what = KG_PATH_UPGRADE};
    }
    return nothing();
}

static void set_deadline(struct kg_path *path)
{
    path->deadline_ms = path->upgrade_ms;
    for (int side = 0; side < 2; side++)
        if (path->leg[side].health != KG_PATH_FINE && path->leg[side].by_ms < path->deadline_ms)
            path->deadline_ms = path->leg[side].by_ms;
}

struct kg_path_action kg_path_run(struct kg_path *path, const struct kg_path_event *event, int64_t now_ms)
{
    struct kg_path_action action = nothing();
    switch (event->type) {
    case KG_PATH_EV_AGREED:
        on_agreed(path, event, now_ms);
        break;
    case KG_PATH_EV_ICE:
        action = on_ice(path, event, now_ms);
        break;
    case KG_PATH_EV_RELAYED:
        path->relayed = path->steered && event->relayed;
        break;
    case KG_PATH_EV_LEFT:
    case KG_PATH_EV_MOVED:
        on_doubt(path, event->side, now_ms);
        break;
    case KG_PATH_EV_RETURNED:
        on_returned(path, event->side, now_ms);
        break;
    case KG_PATH_EV_RESTARTED:
        on_restarted(path, event->side, now_ms);
        break;
    case KG_PATH_EV_RENEWED:
        action = on_renewed(path, event, now_ms);
        break;
    case KG_PATH_EV_REKEY:
        path->leg[event->side].rekey = true;
        if (path->leg[event->side].health == KG_PATH_FINE || path->leg[event->side].health == KG_PATH_MENDING)
            set_health(path, event->side, KG_PATH_LOST, now_ms);
        break;
    case KG_PATH_EV_UPGRADED:
        on_upgraded(path, now_ms);
        break;
    case KG_PATH_EV_TICK:
        action = on_tick(path, event, now_ms);
        break;
    }
    set_deadline(path);
    return action;
}
