#include "b2bua/route/caps.h"

#include <stdlib.h>
#include <string.h>

#include <uthash.h>
#include <utlist.h>

#define MINUTE_MS 60000
/* How many of the users that called longest ago are looked at for one to forget. */
#define FORGET_MAX 8
/* When a line may be free again: nobody knows. */
#define BUSY_RETRY_S 10

struct kg_caps_user {
    UT_hash_handle hh;
    struct kg_caps_user *prev, *next; /* who asked longest ago comes first */
    uint32_t calls;
    int64_t credit_ms; /* token bucket: a call costs MINUTE_MS / rate; full at MINUTE_MS */
    int64_t asked_ms, said_ms;
    unsigned held_back;
    char name[];
};

struct kg_caps {
    const struct kg_config *config;
    struct kg_caps_user *by_name, *by_age;
};

struct kg_caps *kg_caps_new(const struct kg_config *config)
{
    struct kg_caps *caps = calloc(1, sizeof *caps);
    if (caps)
        caps->config = config;
    return caps;
}

static void forget(struct kg_caps *caps, struct kg_caps_user *user)
{
    HASH_DEL(caps->by_name, user);
    DL_DELETE(caps->by_age, user);
    free(user);
}

void kg_caps_free(struct kg_caps *caps)
{
    if (!caps)
        return;
    while (caps->by_age)
        forget(caps, caps->by_age);
    free(caps);
}

static const struct kg_cap *cap_of(const struct kg_caps *caps, const char *user)
{
    const struct kg_cap *others = NULL;
    for (size_t i = 0; i < caps->config->caps_count; i++) {
        const struct kg_cap *cap = &caps->config->caps[i];
        if (strcmp(cap->user, user) == 0)
            return cap;
        if (strcmp(cap->user, "*") == 0)
            others = cap;
    }
    return others;
}

/* Bytes of the longest prefix that fits; -1: none. */
static int longest(const struct kg_prefix *prefix, size_t count, const char *number)
{
    int best = -1;
    for (size_t i = 0; i < count; i++) {
        int len = (int)strlen(prefix[i].text);
        if (len > best && strncmp(prefix[i].text, number, (size_t)len) == 0)
            best = len;
    }
    return best;
}

/* What a gateway will dial: without separators, wherever they are, and without parameters. False: too long.
 */
static bool dialled(const char *number, char out[static KG_NUMBER_SIZE])
{
    size_t n = 0;
    for (; *number && *number != ';' && n + 1 < KG_NUMBER_SIZE; number++)
        if (!strchr("-.() /", *number))
            out[n++] = *number;
    out[n] = '\0';
    return !*number || *number == ';';
}

static bool may_call(const struct kg_cap *cap, const char *number)
{
    char plain[KG_NUMBER_SIZE];
    if (strcmp(number, KG_CAPS_UNREADABLE) == 0 || !dialled(number, plain))
        return cap->allow_count == 0 && cap->deny_count == 0;
    int allowed = longest(cap->allow, cap->allow_count, plain);
    int denied = longest(cap->deny, cap->deny_count, plain);
    if (allowed < 0 && denied < 0) /* who lists only what is allowed means nothing else */
        return cap->allow_count == 0 || cap->deny_count > 0;
    return allowed > denied;
}

bool kg_caps_permit(const struct kg_caps *caps, const char *user, const char *number)
{
    const struct kg_cap *cap = cap_of(caps, user);
    return !cap || may_call(cap, number);
}

static void earn(struct kg_caps_user *user, int64_t now_ms)
{
    if (now_ms > user->asked_ms)
        user->credit_ms += now_ms - user->asked_ms;
    if (user->credit_ms > MINUTE_MS)
        user->credit_ms = MINUTE_MS;
    user->asked_ms = now_ms;
}

static bool is_idle(const struct kg_caps_user *user, int64_t now_ms)
{
    return user->calls == 0 && now_ms - user->asked_ms >= MINUTE_MS;
}

static struct kg_caps_user *find(struct kg_caps *caps, const char *name, int64_t now_ms)
{
    struct kg_caps_user *user = NULL;
    HASH_FIND_STR(caps->by_name, name, user);
    if (user) {
        DL_DELETE(caps->by_age, user);
        DL_APPEND(caps->by_age, user);
        return user;
    }
    for (int i = 0; i < FORGET_MAX && caps->by_age && HASH_COUNT(caps->by_name) >= KG_CAPS_USERS_MAX; i++) {
        struct kg_caps_user *oldest = caps->by_age;
        if (is_idle(oldest, now_ms)) {
            forget(caps, oldest);
        } else {
            DL_DELETE(caps->by_age, oldest);
            DL_APPEND(caps->by_age, oldest);
        }
    }
    if (HASH_COUNT(caps->by_name) >= KG_CAPS_USERS_MAX ||
        !(user = calloc(1, sizeof *user + strlen(name) + 1)))
        return NULL;
    memcpy(user->name, name, strlen(name) + 1);
    user->credit_ms = MINUTE_MS;
    user->asked_ms = now_ms;
    user->said_ms = now_ms - KG_CAPS_SAY_MS;
    HASH_ADD_STR(caps->by_name, name, user);
    DL_APPEND(caps->by_age, user);
    return user;
}

static struct kg_caps_answer refuse(struct kg_caps_user *user, enum kg_caps_verdict verdict,
                                    unsigned retry_after_s, int64_t now_ms)
{
    struct kg_caps_answer answer = {.verdict = verdict,
                                    .status = verdict == KG_CAPS_NUMBER ? 403 : 503,
                                    .retry_after_s = retry_after_s,
                                    .say = now_ms - user->said_ms >= KG_CAPS_SAY_MS,
                                    .held_back = user->held_back};
    if (answer.say) {
        user->said_ms = now_ms;
        user->held_back = 0;
    } else {
        user->held_back++;
    }
    return answer;
}

static struct kg_caps_answer ask(struct kg_caps *caps, const char *name, const char *number, bool lasts,
                                 int64_t now_ms)
{
    const struct kg_cap *cap = caps->config->caps_count > 0 ? cap_of(caps, name) : NULL;
    if (!cap)
        return (struct kg_caps_answer){.verdict = KG_CAPS_OK};
    struct kg_caps_user *user = find(caps, name, now_ms);
    if (!user)
        return (struct kg_caps_answer){
            .verdict = KG_CAPS_FULL, .status = 503, .retry_after_s = BUSY_RETRY_S, .say = true};
    earn(user, now_ms);
    if (number) {
        int64_t price_ms = cap->rate ? MINUTE_MS / cap->rate : 0;
        if (!may_call(cap, number))
            return refuse(user, KG_CAPS_NUMBER, 0, now_ms);
        if (lasts && cap->calls && user->calls >= cap->calls)
            return refuse(user, KG_CAPS_CALLS, BUSY_RETRY_S, now_ms);
        if (user->credit_ms < price_ms)
            return refuse(user, KG_CAPS_RATE, (unsigned)((price_ms - user->credit_ms + 999) / 1000), now_ms);
        user->credit_ms -= price_ms;
    }
    user->calls += lasts;
    return (struct kg_caps_answer){.verdict = KG_CAPS_OK, .user = lasts ? user : NULL};
}

struct kg_caps_answer kg_caps_ask(struct kg_caps *caps, const char *name, const char *number, int64_t now_ms)
{
    return ask(caps, name, number, true, now_ms);
}

struct kg_caps_answer kg_caps_ask_once(struct kg_caps *caps, const char *name, const char *number,
                                       int64_t now_ms)
{
    return ask(caps, name, number, false, now_ms);
}

void kg_caps_done(struct kg_caps *caps, struct kg_caps_user *user, bool refund)
{
    if (!user)
        return;
    user->calls--;
    const struct kg_cap *cap = refund ? cap_of(caps, user->name) : NULL;
    if (cap && cap->rate)
        user->credit_ms += MINUTE_MS / cap->rate; /* bounded when it is earned next */
}

const char *kg_caps_name(const struct kg_caps_user *user)
{
    return user->name;
}

const char *kg_caps_why(enum kg_caps_verdict verdict)
{
    static const char *const why[] = {
        [KG_CAPS_OK] = "it is allowed",
        [KG_CAPS_CALLS] = "the user has as many calls at once as caps allow",
        [KG_CAPS_RATE] = "the user makes more calls a minute than caps allow",
        [KG_CAPS_NUMBER] = "caps do not allow the user this number",
        [KG_CAPS_FULL] = "too many users call at the same time to watch over each",
    };
    return why[verdict];
}
