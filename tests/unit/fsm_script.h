/* Scripts for the call's state machine: an event in words, and the actions that must follow. */
#ifndef FSM_SCRIPT_H
#define FSM_SCRIPT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "b2bua/call/fsm.h"

#define A KG_SIDE_A
#define B KG_SIDE_B

/* ---- scripts: "event -> actions", one line a step ---- */

static const char *const event_names[KG_EV_COUNT] = {
    [KG_EV_INVITE] = "invite",        [KG_EV_MEDIA] = "media",
    [KG_EV_PROVISIONAL] = "1xx",      [KG_EV_ANSWER] = "2xx",
    [KG_EV_REJECT] = "reject",        [KG_EV_ACK] = "ack",
    [KG_EV_ACK_TIMEOUT] = "noack",    [KG_EV_CANCEL] = "cancel",
    [KG_EV_REINVITE] = "reinvite",    [KG_EV_BYE] = "bye",
    [KG_EV_BYE_DONE] = "byedone",     [KG_EV_FLOW_LOST] = "flowlost",
    [KG_EV_SILENCE] = "silence",      [KG_EV_MEDIA_LOST] = "medialost",
    [KG_EV_HANGUP] = "hangup",        [KG_EV_SHUTDOWN] = "shutdown",
    [KG_EV_TIMER] = "timer",          [KG_EV_UPDATE] = "update",
    [KG_EV_RENEW] = "renew",          [KG_EV_UPGRADE] = "upgrade",
    [KG_EV_PATH_LOST] = "pathlost",   [KG_EV_REFRESH] = "refresh",
    [KG_EV_EXPIRED] = "expired",      [KG_EV_PRE_ANSWER] = "pre2xx",
    [KG_EV_PRE_REJECT] = "prereject", [KG_EV_PRE_OVER] = "preover",
    [KG_EV_PRACK] = "prack",          [KG_EV_PRACK_TIMEOUT] = "noprack",
};
static const char *const action_names[] = {
    [KG_DO_APPLY] = "apply",
    [KG_DO_RESTORE] = "restore",
    [KG_DO_INVITE] = "INVITE",
    [KG_DO_DROP] = "drop",
    [KG_DO_PROGRESS] = "progress",
    [KG_DO_ANSWER] = "200",
    [KG_DO_REFUSE] = "refuse",
    [KG_DO_TURN_AWAY] = "away",
    [KG_DO_DEFER] = "defer",
    [KG_DO_ACK] = "ACK",
    [KG_DO_CANCEL] = "CANCEL",
    [KG_DO_BYE] = "BYE",
    [KG_DO_ANSWERED] = "talk",
    [KG_DO_RELEASE] = "release",
    [KG_DO_FREE] = "free",
    [KG_DO_UPDATE] = "UPDATE",
    [KG_DO_ASK] = "ask",
    [KG_DO_RENEW] = "renew",
    [KG_DO_DONE] = "done",
    [KG_DO_OFFER] = "200 offer",
    [KG_DO_AGREED] = "agreed",
    [KG_DO_SERVE] = "serve",
    [KG_DO_PRACK] = "PRACK",
    [KG_DO_PRE_UPDATE] = "pre UPDATE",
    [KG_DO_PRE_ANSWER] = "pre 200",
};

struct run {
    struct kg_fsm fsm;
    int64_t now;
    unsigned last_seq;
};

static inline struct run start(unsigned targets, bool to_pbx)
{
    struct run run = {.now = 1000};
    kg_fsm_init(&run.fsm, targets, to_pbx);
    return run;
}

/* "A 1xx 183 sdp": side, event, status, "sdp", "fail", "old" (a media reply that was overtaken), "absorb",
 * "same",
 * "#N": chance, "+N": N ms later. */
static struct kg_fsm_event parse_event(struct run *run, const char *text)
{
    struct kg_fsm_event event = {.type = KG_EV_COUNT, .ok = true, .seq = run->last_seq};
    char copy[80], *save = NULL;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        if (strcmp(word, "A") == 0 || strcmp(word, "B") == 0)
            event.side = word[0] == 'A' ? A : B;
        else if (strcmp(word, "sdp") == 0)
            event.sdp = true;
        else if (strcmp(word, "reliable") == 0)
            event.reliable = true;
        else if (strcmp(word, "passes") == 0)
            event.passes = true;
        else if (strcmp(word, "fail") == 0)
            event.ok = false;
        else if (strcmp(word, "absorb") == 0)
            event.absorb = event.sdp = true;
        else if (strcmp(word, "same") == 0)
            event.same = event.sdp = true;
        else if (word[0] == '#')
            event.chance = (unsigned)strtoul(word + 1, NULL, 10);
        else if (strcmp(word, "old") == 0)
            event.seq = run->last_seq - 1;
        else if (word[0] == '+')
            run->now += strtol(word + 1, NULL, 10);
        else if (word[0] >= '1' && word[0] <= '9' && strlen(word) == 3 && strspn(word, "0123456789") == 3)
            event.status = (int)strtol(word, NULL, 10);
        else
            for (int i = 0; i < KG_EV_COUNT; i++)
                if (strcmp(word, event_names[i]) == 0)
                    event.type = (enum kg_fsm_event_type)i;
    }
    assert_int_not_equal(event.type, KG_EV_COUNT);
    return event;
}

static void step(struct run *run, const char *event_text, const char *expected, const char *file, int line)
{
    struct kg_fsm_action action[KG_FSM_ACTIONS_MAX];
    char got[400] = "";
    struct kg_fsm_event event = parse_event(run, event_text);
    size_t count = kg_fsm_run(&run->fsm, &event, run->now, action), len = 0;
    for (size_t i = 0; i < count; i++) {
        const struct kg_fsm_action *a = &action[i];
        bool sided = a->type != KG_DO_RELEASE && a->type != KG_DO_FREE && a->type != KG_DO_RESTORE &&
                     a->type != KG_DO_ANSWERED && a->type != KG_DO_AGREED;
        len += (size_t)snprintf(got + len, sizeof got - len, "%s%s%s", i ? ", " : "", action_names[a->type],
                                !sided         ? ""
                                : a->side == A ? " A"
                                               : " B");
        if (a->type == KG_DO_PROGRESS || a->type == KG_DO_REFUSE || a->type == KG_DO_TURN_AWAY)
            len += (size_t)snprintf(got + len, sizeof got - len, " %d%s%s", a->status, a->sdp ? " sdp" : "",
                                    a->retry_after ? " later" : "");
        if (a->type == KG_DO_PROGRESS && a->ok)
            len += (size_t)snprintf(got + len, sizeof got - len, " reliable");
        if (a->type == KG_DO_ACK && a->ok)
            len += (size_t)snprintf(got + len, sizeof got - len, " answer");
        if (a->type == KG_DO_DONE)
            len += (size_t)snprintf(got + len, sizeof got - len, " %s%s",
                                    a->what == KG_EV_RENEW     ? "renewal"
                                    : a->what == KG_EV_REFRESH ? "refresh"
                                                               : "upgrade",
                                    a->ok ? "" : " failed");
        if (a->type == KG_DO_APPLY)
            run->last_seq = a->seq;
    }
    if (strcmp(got, expected) != 0)
        fail_msg("%s:%d: after \"%s\": got \"%s\", expected \"%s\"", file, line, event_text, got, expected);
}
#define STEP(event, expected) step(&run, event, expected, __FILE__, __LINE__)

static void ringing(struct run *run_)
{
    struct run run = *run_;
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B 1xx 180", "progress A 180");
    *run_ = run;
}

static inline void talking(struct run *run_)
{
    ringing(run_);
    struct run run = *run_;
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "200 A");
    STEP("A ack", "talk");
    assert_int_equal(run.fsm.state, KG_CALL_TALK);
    *run_ = run;
}

#endif
