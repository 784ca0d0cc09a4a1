/* Which way the media of a call goes, and why. Pure: no SIP, no SDP, no sockets, no clock.
 *
 * First half: what each m-line does, from what the two sides said of ICE (RFC 8445) and what the
 * configuration permits. Second half: the state machine of a call in talk, which follows what the engine
 * reports and decides when a leg is restarted, when a steered call falls back to kedge's relay, when an
 * anchored one is tried to be steered again, and when nothing is left but to end it. */
#ifndef KG_CALL_PATH_H
#define KG_CALL_PATH_H

#include <stdbool.h>
#include <stdint.h>

#include "b2bua/call/fsm.h"
#include "b2bua/sdp/sdp.h"
#include "media/client.h"

/* ms that a phone which moved, or left the relay's path, gets for an ICE restart of its own: longer than the
 * round trip after which a phone that knows of its move sends one. */
#define KG_PATH_GRACE_MS 500
/* ms for the answer to our re-INVITE, and as long it is sent again to a phone that cannot be reached, which
 * may come back from elsewhere: the path is dead meanwhile, nobody waits longer for a voice. */
#define KG_PATH_ANSWER_MS 15000
/* ms from that answer until the checks have found a pair. */
#define KG_PATH_CONNECT_MS 20000
/* ms until a re-INVITE that was refused, or not delivered, is sent once more. */
#define KG_PATH_AGAIN_MS 2000
/* How often, and after how many ms, an anchored call is tried to be steered. */
#define KG_PATH_UPGRADES_MAX 3
/* ms until an upgrade is looked at again that found the call on hold. */
#define KG_PATH_HELD_MS 5000

/* Why media goes the way it goes. */
enum kg_path_why {
    KG_WHY_UNDECIDED,
    KG_WHY_STEERED,
    KG_WHY_RELAYED,
    KG_WHY_ICE_OFF,
    KG_WHY_NEITHER,
    KG_WHY_ONLY_CALLER,
    KG_WHY_ONLY_CALLEE,
    KG_WHY_CALLER_MISMATCH,
    KG_WHY_CALLEE_MISMATCH,
    KG_WHY_POLICY_ANCHOR,
    KG_WHY_POLICY_BYPASS,
    KG_WHY_STEER_NEITHER,
    KG_WHY_STEER_ONLY_CALLER,
    KG_WHY_STEER_ONLY_CALLEE,
    KG_WHY_BOTH_APART,
    KG_WHY_FELL_BACK,
    KG_WHY_TERMINATED,
    KG_WHY_COUNT
};
/* A sentence without capital and full stop; constant. */
const char *kg_path_why_text(enum kg_path_why why);

/* ---- an m-line ---- */

struct kg_path_rules {
    bool ice; /* media.ice */
    enum kg_policy policy;
    bool trusted[2]; /* a configured PBX: without need it is not offered ICE */
    bool apart;      /* the call fell back: the sides do ICE with kedge, not with each other */
    bool upgrade;    /* this offer/answer is an upgrade: they try each other again */
};
struct kg_path_facts {
    bool known[2];    /* the side has described this m-line, now or earlier in the dialog */
    bool enabled[2];  /* ... and does not reject it */
    bool ice[2];      /* its newest description does ICE that can be used */
    bool mismatch[2]; /* ... or says a=ice-mismatch (RFC 8839 5.6) */
    uint8_t use[2];   /* enum kg_ice_use as agreed before; KG_ICE_UNUSED at first */
    uint8_t told[2];  /* enum kg_sdp_ice of the text that side was sent last */
    bool terminated;  /* kedge is the end of its security, or is to be (secure.h): it has to stand between the
                         two */
    bool web[2];      /* the side is offered WebRTC, which has no media without ICE */
};
struct kg_path_line {
    uint8_t use[2];  /* enum kg_ice_use */
    uint8_t text[2]; /* enum kg_sdp_ice of what that side is sent next */
    enum kg_path_why why;
};
/* `from` made an offer. text of the other side is for the offer that passes on, that of `from` for the case
 * that kedge answers it alone. */
struct kg_path_line kg_path_offer(const struct kg_path_rules *rules, const struct kg_path_facts *facts,
                                  enum kg_side from);
/* `from` answered what the other side had offered (told[from] says how it was passed on). */
struct kg_path_line kg_path_answer(const struct kg_path_rules *rules, const struct kg_path_facts *facts,
                                   enum kg_side from);
/* `from` answered an offer of kedge's own; the other side was not asked. */
struct kg_path_line kg_path_renewal(const struct kg_path_rules *rules, const struct kg_path_facts *facts,
                                    enum kg_side from);

/* ---- a call ---- */

enum kg_path_health {
    KG_PATH_FINE,
    KG_PATH_DOUBT,    /* steered: it moved or left; after by_ms the call falls back */
    KG_PATH_LOST,     /* its re-INVITE is due at by_ms */
    KG_PATH_RENEWING, /* its re-INVITE is to be answered by by_ms */
    KG_PATH_MENDING,  /* answered; a pair is to be found by by_ms */
};

struct kg_path {
    enum kg_path_why why;
    bool steered, relayed; /* relayed: what is steered flows through kedge's ports */
    bool fell_back;        /* offers are not steered any more, until an upgrade succeeds */
    bool half;             /* of a fallback only one leg has been renewed, or is being */
    struct kg_path_leg {
        enum kg_path_health health;
        int64_t by_ms;
        bool connected; /* kedge's agent has a pair */
        bool rekey;     /* it needs other keys: an offer is due, whatever ICE finds */
        bool plain;     /* its phone does not restart ICE: it is offered none, until it restarts by itself */
        uint8_t renewals; /* in a row, without a pair in between */
        int64_t first_ms; /* the first of these was due */
    } leg[2];
    bool upgrading;
    uint8_t upgrades;    /* tried so far */
    int64_t upgrade_ms;  /* when the next is due; INT64_MAX: never */
    int64_t deadline_ms; /* when TICK is due; INT64_MAX: never */
};

enum kg_path_event_type {
    KG_PATH_EV_AGREED,    /* an offer/answer is complete: why, steered, both, held */
    KG_PATH_EV_ICE,       /* side, ice: kedge's agent there */
    KG_PATH_EV_RELAYED,   /* relayed */
    KG_PATH_EV_LEFT,      /* side */
    KG_PATH_EV_MOVED,     /* side: its SIP comes from another host */
    KG_PATH_EV_RETURNED,  /* side: registered again over another WebSocket: loaded anew, or in another network
                           */
    KG_PATH_EV_RESTARTED, /* side: its phone restarts ICE itself */
    KG_PATH_EV_RENEWED,   /* side, ok: how our re-INVITE ended; stubborn, unreachable */
    KG_PATH_EV_REKEY,     /* side: it is to be offered new keys, and nothing flows there before */
    KG_PATH_EV_UPGRADED,  /* ok */
    KG_PATH_EV_TICK,      /* ready: the call is in talk and no offer/answer is under way */
};
struct kg_path_event {
    enum kg_path_event_type type;
    enum kg_side side;
    enum kg_path_why why;
    enum kg_ice_state ice;
    bool steered, relayed, ok, ready;
    bool stubborn; /* answered with the ICE credentials that it had: it does not restart (RFC 8839 4.4.3.1.1)
                    */
    bool latches;  /* ok, and that side does no ICE */
    bool unreachable; /* not ok, and not refused by the phone: it could not be delivered */
    bool both;        /* each m-line in use does ICE with kedge on both sides, and steering is permitted */
    bool held;        /* some m-line in use does not flow both ways */
};

enum kg_path_do {
    KG_PATH_NOTHING,
    KG_PATH_FALL_BACK, /* for the record; the renewals follow */
    KG_PATH_RENEW,     /* side; leg[side].plain: without ICE */
    KG_PATH_UPGRADE,   /* ask a side for an offer */
    KG_PATH_END,       /* side: whose path is gone; why */
};
struct kg_path_action {
    enum kg_path_do what;
    enum kg_side side;
    const char *why; /* constant */
};

void kg_path_init(struct kg_path *path);
/* Any event is harmless at any time. After an action other than NOTHING ask again with TICK. */
struct kg_path_action kg_path_run(struct kg_path *path, const struct kg_path_event *event, int64_t now_ms);
/* "anchored", "direct" or "relayed by kedge", and why; constant. */
const char *kg_path_name(const struct kg_path *path);
const char *kg_path_reason(const struct kg_path *path);

#endif
