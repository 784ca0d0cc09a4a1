/* What the files of the state machine share. */
#ifndef KG_CALL_FSM_INSIDE_H
#define KG_CALL_FSM_INSIDE_H

#include "b2bua/call/fsm.h"

/* Where the actions of one event are collected. */
struct kg_fsm_out {
    struct kg_fsm_action *action;
    size_t count;
};

struct kg_fsm_action *kg_fsm_add(struct kg_fsm_out *out, enum kg_fsm_action_type type, enum kg_side side);
void kg_fsm_refuse(struct kg_fsm_out *out, enum kg_side side, int status, int retry_after, const char *why);
/* The same to an offer in talk or before the answer. */
void kg_fsm_turn_away(struct kg_fsm_out *out, enum kg_side side, int status, int retry_after,
                      const char *why);
void kg_fsm_apply(struct kg_fsm *fsm, struct kg_fsm_out *out, enum kg_apply purpose, enum kg_side side);
/* Of a reply of the media engine that is not ok. */
const char *kg_fsm_media_why(const struct kg_fsm_event *ev);
int kg_fsm_media_status(const struct kg_fsm_event *ev, int *retry_after);

/* A handler an event. */
typedef void kg_fsm_handler(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                            struct kg_fsm_out *out);

/* ---- setup.c: from NEW to CONFIRMING ---- */
kg_fsm_handler kg_setup_on_invite;
kg_fsm_handler kg_setup_on_media; /* the reply to the last apply, whose purpose was one of setting up */
kg_fsm_handler kg_setup_on_provisional;
kg_fsm_handler kg_setup_on_answer; /* where kg_setup_is_asking, as the next */
kg_fsm_handler kg_setup_on_reject;
kg_fsm_handler kg_setup_on_ack; /* of our first 200, as the next */
kg_fsm_handler kg_setup_on_ack_timeout;
kg_fsm_handler kg_setup_on_prack;
kg_fsm_handler kg_setup_on_prack_timeout;
kg_fsm_handler kg_setup_on_flow_lost;
kg_fsm_handler kg_setup_on_timer;
/* B was sent an INVITE that has no final response yet. */
bool kg_setup_is_asking(const struct kg_fsm *fsm, enum kg_side side);
/* After each event in CALLING: two things may be due while it rings. */
void kg_setup_set_deadline(struct kg_fsm *fsm);

/* ---- preanswer.c ---- */
void kg_pre_on_offer(struct kg_fsm *fsm, const struct kg_fsm_event *ev, struct kg_fsm_out *out);
kg_fsm_handler kg_pre_on_media; /* likewise, a change before the answer */
kg_fsm_handler kg_pre_on_answer;
kg_fsm_handler kg_pre_on_reject;
kg_fsm_handler kg_pre_on_over;
bool kg_pre_on_timer(struct kg_fsm *fsm, int64_t now_ms, struct kg_fsm_out *out); /* true: it was due */
void kg_pre_end(struct kg_fsm *fsm, struct kg_fsm_out *out);

/* ---- renegotiate.c: TALK ---- */
kg_fsm_handler kg_re_on_offer;  /* REINVITE, UPDATE; in any state */
kg_fsm_handler kg_re_on_wish;   /* RENEW, UPGRADE */
kg_fsm_handler kg_re_on_media;  /* likewise, a change in talk */
kg_fsm_handler kg_re_on_answer; /* also of what nobody waits for any more: it is ACKed */
kg_fsm_handler kg_re_on_reject;
kg_fsm_handler kg_re_on_ack;
kg_fsm_handler kg_re_on_ack_timeout;
kg_fsm_handler kg_re_on_cancel;
kg_fsm_handler kg_re_on_timer;
/* The call ends: what is under way is answered first (RFC 3261 15.1.2). */
void kg_re_end(struct kg_fsm *fsm, struct kg_fsm_out *out);
/* A 200 with an offer was sent to this side in talk. */
bool kg_re_awaits_answer(const struct kg_fsm *fsm, enum kg_side side);
/* After each event in talk: begins what is due and sets the deadline. */
void kg_re_settle(struct kg_fsm *fsm, int64_t now_ms, struct kg_fsm_out *out);

/* ---- ending.c: ENDING, and how it comes to that ---- */
/* The call is over: status is for a caller that has no answer yet, why for people and the Reason header. */
void kg_fsm_finish(struct kg_fsm *fsm, struct kg_fsm_out *out, int64_t now_ms, int status, int retry_after,
                   const char *why);
kg_fsm_handler kg_end_on_bye;
kg_fsm_handler kg_end_on_silence;
kg_fsm_handler kg_end_on_media_lost;
kg_fsm_handler kg_end_on_path_lost;
kg_fsm_handler kg_end_on_expired;
kg_fsm_handler kg_end_on_hangup;
kg_fsm_handler kg_end_on_shutdown;
kg_fsm_handler kg_end_on_bye_done;
kg_fsm_handler kg_end_on_answer; /* of a leg that is being cancelled, as the next */
kg_fsm_handler kg_end_on_reject;
kg_fsm_handler kg_end_on_ack; /* that BYE waited for, or its timeout */
kg_fsm_handler kg_end_on_timer;

#endif
