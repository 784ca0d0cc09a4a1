/* The state machine of one call with two legs: events in, actions out. Pure: no SIP types, no sockets, no
 * clock, no allocation. Side A is the caller's leg, side B the callee's (RFC 3261 13 to 15, RFC 3264 for when
 * SDP moves).
 *
 * Media replies come later than the messages that caused them, so every apply carries a number; a reply whose
 * number is not the last one given out belongs to something overtaken and is ignored. */
#ifndef KG_CALL_FSM_H
#define KG_CALL_FSM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "media/client.h"

/* ms without any response to B's INVITE before the next contact is tried: README.md promises it within 4 s.
 */
#define KG_CALL_UNHEARD_MS 4000
/* ms from the INVITE to its final answer (RFC 3261 16.6 step 11 has "> 3 min"); whoever rings on holds a
 * half-open dialog. */
#define KG_CALL_RINGING_MS 180000
/* ms for the media engine to answer; its client gives up by itself before this. */
#define KG_CALL_MEDIA_MS 10000
/* ms for the final response to an INVITE that was cancelled or for an ACK: 64*T1 (RFC 3261 9.1, 13.3.1.4) and
 * some. */
#define KG_CALL_FINAL_MS 35000
/* ms for the other side to agree to what an UPDATE offers, before its sender is told 504 (RFC 3311 5.2; its
 * transaction lasts 32 s). */
#define KG_CALL_UPDATE_MS 20000
/* ms for the answer to an offer of kedge's own, then it is cancelled. */
#define KG_CALL_RENEWAL_MS 32000
/* ms for the second side of an upgrade: the first one's 2xx waits for its ACK and is retransmitted for 32 s.
 */
#define KG_CALL_UPGRADE_MS 8000
/* ms for the ACK with the answer to an offer in our 2xx: the 2xx that the offer came in waits for its own ACK
 * and is retransmitted for 32 s (RFC 3261 13.3.1.4). */
#define KG_CALL_LATE_MS 20000
/* How often an offer of kedge's own is made that meets one of the peer's (491). */
#define KG_CALL_TRIES 3
/* ms for the answer to our BYE; nta goes on sending it afterwards. */
#define KG_CALL_BYE_MS 4000
/* seconds in Retry-After when ports or the engine are missing */
#define KG_CALL_RETRY_AFTER 5

enum kg_call_state {
    KG_CALL_NEW,
    KG_CALL_SETUP,      /* A's offer is with the media engine */
    KG_CALL_CALLING,    /* B was sent an INVITE */
    KG_CALL_ANSWERING,  /* B answered and was ACKed; its answer is with the media engine */
    KG_CALL_CONFIRMING, /* A was sent the 200; its ACK is awaited */
    KG_CALL_TALK,
    KG_CALL_ENDING, /* decided; BYE, CANCEL or an ACK is still on its way */
    KG_CALL_ENDED,
};
const char *kg_call_state_name(enum kg_call_state state); /* "setup", "ringing", "talk" ... */

enum kg_leg_state {
    KG_LEG_IDLE,
    KG_LEG_INVITED,       /* A: its INVITE has no final answer yet */
    KG_LEG_ANSWERED,      /* A: 200 sent, no ACK yet */
    KG_LEG_BYE_AFTER_ACK, /* A: to be sent BYE, but not before its ACK or 64*T1 (RFC 3261 15) */
    KG_LEG_INVITING,      /* B: INVITE sent, nothing heard */
    KG_LEG_RINGING,       /* B: a provisional response came */
    KG_LEG_CANCELLING,    /* B: CANCEL sent or owed; the final response is awaited */
    KG_LEG_OFFERED,       /* B: its 2xx has the offer; our ACK waits for the answer */
    KG_LEG_UP,
    KG_LEG_BYE_SENT,
    KG_LEG_DOWN,
};

/* Which provisional responses go to A reliably (RFC 3262). */
enum kg_reliable {
    KG_RELIABLE_NONE,
    KG_RELIABLE_SDP, /* A supports it: those with SDP */
    KG_RELIABLE_ALL, /* A requires it */
};

/* A session that is changed in talk (RFC 3261 14, RFC 3311). */
enum kg_re_kind {
    KG_RE_PASSES,   /* an offer of re_from's goes to the other side */
    KG_RE_ABSORBED, /* an offer of re_from's is answered by kedge alone */
    KG_RE_RENEWAL,  /* kedge offers re_from's agreed description to the other side once more */
    KG_RE_REFRESH,  /* kedge offers the other side what it has, so that its session does not expire */
    KG_RE_UPGRADE,  /* re_from is asked for an offer, which goes to the other side */
    KG_RE_LATE,     /* the other side's INVITE has no SDP: re_from is asked for the offer, which goes into our
                     * 2xx; the ACK has the answer */
};
enum kg_re_state {
    KG_RE_NONE,
    KG_RE_ASKED,      /* upgrade, late: re_from was sent an INVITE without SDP */
    KG_RE_OFFER,      /* with the media engine */
    KG_RE_SENT,       /* to the other side */
    KG_RE_ANSWER,     /* the answer, or the absorbed offer, is with the media engine */
    KG_RE_CONFIRMING, /* 200 sent, ACK awaited */
    KG_RE_WITHDRAWN,  /* given up; only the other side's final response is awaited */
};

/* A session that is changed before the call is answered (RFC 3311 5.1, RFC 3262 5). */
enum kg_pre_state {
    KG_PRE_NONE,
    KG_PRE_OFFER,  /* with the media engine */
    KG_PRE_SENT,   /* an UPDATE to the other side */
    KG_PRE_ANSWER, /* with the media engine */
};

/* A late offer that comes in a reliable 18x of B's and is answered in PRACK (RFC 3262 5). */
enum kg_late_18x {
    KG_18X_NONE,
    KG_18X_OFFER,  /* with the media engine */
    KG_18X_TOLD,   /* in a reliable 18x to A, or held: A's PRACK of it has the answer */
    KG_18X_ANSWER, /* with the media engine */
    KG_18X_DONE,   /* both sides were PRACKed: from now on it is as if A had offered */
};

/* What a media apply is for. */
enum kg_apply {
    KG_APPLY_OFFER,
    KG_APPLY_PROGRESS,
    KG_APPLY_ANSWER,
    KG_APPLY_RE_OFFER,
    KG_APPLY_RE_ANSWER,
    KG_APPLY_ABSORBED, /* an offer that the other leg does not hear of */
    KG_APPLY_RENEWED,  /* the answer to an offer that the other leg did not hear of */
    KG_APPLY_UPGRADE,  /* the offer that a side made when it was asked */
};
static inline bool kg_apply_is_offer(enum kg_apply purpose)
{
    return purpose == KG_APPLY_OFFER || purpose == KG_APPLY_RE_OFFER || purpose == KG_APPLY_ABSORBED ||
           purpose == KG_APPLY_UPGRADE;
}

/* What kedge itself wants to change, as soon as nothing else is under way. */
enum {
    KG_WISH_RENEW_A = KG_SIDE_A,
    KG_WISH_RENEW_B = KG_SIDE_B,
    KG_WISH_REFRESH_A,
    KG_WISH_REFRESH_B,
    KG_WISH_UPGRADE,
    KG_WISH_COUNT
};
struct kg_fsm_wish {
    bool wanted;    /* until it is done */
    uint8_t tries;  /* so far */
    int64_t due_ms; /* not before */
};

struct kg_fsm {
    enum kg_call_state state;
    enum kg_leg_state leg[2];
    enum kg_re_state re;
    enum kg_re_kind re_kind;
    enum kg_side re_from;
    bool re_update; /* re_from's request was an UPDATE: no ACK follows */
    bool re_cancelled;
    int64_t re_deadline_ms; /* of what is under way; INT64_MAX: none */
    struct kg_fsm_wish wish[KG_WISH_COUNT];
    enum kg_side upgrade_first;
    bool late;            /* A's INVITE has no SDP: B makes the offer (RFC 3261 13.2.1) */
    bool deferred;        /* B's re-INVITE waits for A's ACK */
    bool to_pbx;          /* B is a PBX: silence means 503, not 408 */
    unsigned rounds_left; /* of B's contacts, each called at once; the state machine sees one leg */
    unsigned apply_seq;   /* of the last apply; its reply must carry it */
    enum kg_apply apply;  /* what that was for */
    bool applying;
    enum kg_reliable reliable;
    enum kg_late_18x late_18x;
    bool settled[2]; /* that side's description and kedge's were exchanged by a reliable response */
    enum kg_pre_state pre;
    enum kg_side pre_from;   /* who offers */
    int64_t pre_deadline_ms; /* INT64_MAX: none */
    bool unacked;            /* a reliable response waits for A's PRACK: what would follow it is held */
    bool unacked_sdp;        /* ... and it has a description */
    int held_status;         /* the newest provisional response; 0: none */
    bool held_sdp;           /* ... and there is a description that A was not told */
    bool held_answer;        /* the 200 */
    int progress_status;     /* of the provisional response whose SDP is being applied */
    int next_status;         /* of the newest that came after that one, without SDP; 0: none */
    int64_t invited_ms;      /* when A's INVITE came */
    int64_t asked_ms;        /* when B was first sent one; 0: not yet */
    int64_t deadline_ms;     /* INT64_MAX: none */
};

enum kg_fsm_event_type {
    KG_EV_INVITE,      /* A: sdp; without, B makes the offer */
    KG_EV_MEDIA,       /* seq, ok; not ok: why, status if the description is to blame */
    KG_EV_PROVISIONAL, /* side, status, sdp, reliable */
    KG_EV_ANSWER,      /* side, sdp: 2xx to an INVITE we sent */
    KG_EV_REJECT, /* side, status, why: 3xx-6xx, also made up by nta; of several contacts, the best of all */
    KG_EV_ACK,    /* side, sdp: the answer, where kg_fsm_awaits_answer */
    KG_EV_ACK_TIMEOUT,   /* side */
    KG_EV_PRACK,         /* side A, sdp: the answer, where kg_fsm_awaits_prack */
    KG_EV_PRACK_TIMEOUT, /* side A: no PRACK in 64*T1 */
    KG_EV_PRE_ANSWER,    /* side, sdp: 2xx to PRE_UPDATE */
    KG_EV_PRE_REJECT,    /* side, status */
    KG_EV_PRE_OVER,      /* the INVITE has a final response: no change before the answer any more */
    KG_EV_CANCEL,        /* side */
    KG_EV_REINVITE,      /* side, sdp, absorb, same */
    KG_EV_UPDATE,        /* side, absorb, same, passes: with SDP; one without is no business of the machine */
    KG_EV_BYE,           /* side; the request itself is always answered 200 */
    KG_EV_BYE_DONE,      /* side: final response to our BYE, or none in time */
    KG_EV_FLOW_LOST,     /* side */
    KG_EV_SILENCE,       /* no media within the engine's timeout */
    KG_EV_MEDIA_LOST,    /* the engine lost the session */
    KG_EV_PATH_LOST,     /* side: no path for its media is left */
    KG_EV_RENEW,         /* side: kedge is to offer anew on that leg alone (ICE restart of its own) */
    KG_EV_UPGRADE,       /* side: asked for an offer first, which then goes to the other side */
    KG_EV_REFRESH,       /* side: a re-INVITE that changes nothing (RFC 4028 7.4) */
    KG_EV_EXPIRED,       /* side, why: nobody refreshed its session */
    KG_EV_HANGUP,        /* by an admin, or why */
    KG_EV_SHUTDOWN,      /* kedge ends */
    KG_EV_TIMER,         /* the deadline has passed */
    KG_EV_COUNT
};
struct kg_fsm_event {
    enum kg_fsm_event_type type;
    enum kg_side side;
    int status;
    bool sdp;
    bool ok;
    unsigned chance; /* REJECT: random, for how long to wait after glare */
    bool same;       /* the offer is the one that holds, word by word */
    bool absorb;     /* the offer concerns nothing but that leg's ICE and transport: kedge answers it alone */
    unsigned seq;
    bool reliable; /* PROVISIONAL */
    bool passes;   /* UPDATE: the other side could take it before the answer */
    /* A sentence that lives as long as the call's record, or NULL: nothing better to say than what always
     * holds. ANSWER without sdp: why the description that it had cannot be used. */
    const char *why;
};

enum kg_fsm_action_type {
    KG_DO_APPLY,      /* media: purpose, seq, side: whose new description it is */
    KG_DO_RESTORE,    /* media: the agreed descriptions again, a re-INVITE came to nothing; no reply wanted */
    KG_DO_INVITE,     /* INVITE to `side`: the first contacts, the next ones, or a re-INVITE */
    KG_DO_UPDATE,     /* UPDATE to `side` if its peer knows that method, else a re-INVITE */
    KG_DO_PRACK,      /* to `side`'s 18x that has the offer, with the answer */
    KG_DO_PRE_UPDATE, /* UPDATE to `side` in its early dialog */
    KG_DO_PRE_ANSWER, /* 200 with SDP to the UPDATE or PRACK of `side` that waits */
    KG_DO_ASK,        /* re-INVITE without SDP to `side` */
    KG_DO_SERVE,      /* the re-INVITE or UPDATE that just came is served */
    KG_DO_RENEW,      /* new ICE credentials of kedge's toward `side`, for the offer that follows */
    KG_DO_DROP,       /* give up `side`'s INVITE that nobody answered: CANCEL when possible, want no answer */
    KG_DO_PROGRESS,   /* provisional `status` to `side`, with SDP if sdp, reliably if ok */
    KG_DO_ANSWER,     /* 200 with SDP to `side`'s INVITE or UPDATE */
    KG_DO_OFFER,      /* 200 with the other side's offer to `side`'s INVITE; its ACK will have the answer */
    KG_DO_AGREED,     /* the offer/answer is complete, though no 200 of ours says so */
    KG_DO_REFUSE,     /* final `status` to `side`'s INVITE or UPDATE; retry_after seconds if not 0; why for
                       * Warning and log
                       */
    KG_DO_TURN_AWAY,  /* final `status` to the re-INVITE or UPDATE that just came: it is not served */
    KG_DO_DEFER,      /* keep the re-INVITE that just came until ANSWERED, then hand it in again */
    KG_DO_ACK,        /* to `side`'s 2xx. If that has an offer: ok: with the answer, else with every m-line
                       * rejected. Nothing after UPDATE */
    KG_DO_CANCEL,     /* `side`'s INVITE */
    KG_DO_BYE,        /* to `side`; why for the Reason header */
    KG_DO_ANSWERED,   /* the call is in talk from now on */
    KG_DO_DONE,       /* what RENEW or UPGRADE (`what`) wanted of `side` has ended: ok or not */
    KG_DO_RELEASE,    /* media session and limits; the call is over for people: status, why */
    KG_DO_FREE,       /* nothing is awaited any more; last action ever */
};
struct kg_fsm_action {
    enum kg_fsm_action_type type;
    enum kg_side side;
    enum kg_apply purpose;
    int status;
    bool sdp;
    bool ok;
    enum kg_fsm_event_type what;
    unsigned seq;
    int retry_after;
    const char *why; /* a constant sentence or NULL */
};
#define KG_FSM_ACTIONS_MAX 12

/* rounds: of contacts of B, the first included. to_pbx as in the struct. */
void kg_fsm_init(struct kg_fsm *fsm, unsigned rounds, bool to_pbx);
/* A contact has named others to be called in its stead: so many rounds are left now. */
void kg_fsm_set_rounds(struct kg_fsm *fsm, unsigned left);
/* A call in talk, taken over after a restart. */
void kg_fsm_init_talk(struct kg_fsm *fsm);
/* Returns how many actions were written, to be carried out in this order. Any event is harmless in any state.
 */
size_t kg_fsm_run(struct kg_fsm *fsm, const struct kg_fsm_event *event, int64_t now_ms,
                  struct kg_fsm_action out[static KG_FSM_ACTIONS_MAX]);

/* A's next PRACK has the answer to an offer of ours. */
bool kg_fsm_awaits_prack(const struct kg_fsm *fsm);
/* B may make the late offer in a reliable 18x. */
bool kg_fsm_takes_18x(const struct kg_fsm *fsm);
/* An offer that comes now, before the answer, is one that can be served. */
bool kg_fsm_takes_pre_offer(const struct kg_fsm *fsm);
/* `side`'s next ACK has the answer to an offer of ours. */
bool kg_fsm_awaits_answer(const struct kg_fsm *fsm, enum kg_side side);

/* The status that A is sent for B's refusal. */
int kg_fsm_map_status(int status, bool from_pbx);

#endif
