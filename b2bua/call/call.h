/* Inside call/: one call, its two legs, and what the files of this folder do with them. Signalling thread
 * only. */
#ifndef KG_CALL_CALL_H
#define KG_CALL_CALL_H

/* nta hands these back in its callbacks. Before any header that includes nta.h. */
#define NTA_LEG_MAGIC_T      struct kg_leg
#define NTA_INCOMING_MAGIC_T struct kg_leg
#define NTA_OUTGOING_MAGIC_T struct kg_leg
#define NTA_RELIABLE_MAGIC_T struct kg_leg

#include <sofia-sip/nta.h>
#include <sofia-sip/nta_tport.h>
#include <sofia-sip/sip.h>
#include <uthash.h>

#include "b2bua/call/calls.h"
#include "b2bua/call/fork.h"
#include "b2bua/call/fsm.h"
#include "b2bua/call/habits.h"
#include "b2bua/call/headers.h"
#include "b2bua/call/path.h"
#include "b2bua/call/record.h"
#include "b2bua/call/secure.h"
#include "b2bua/call/session_timer.h"
#include "b2bua/route/failover.h"
#include "b2bua/route/peers.h"
#include "b2bua/sdp/multipart.h"
#include "b2bua/sdp/sdp.h"
#include "b2bua/server.h"
#include "b2bua/sip/flow.h"
#include "conf/pace.h"

#define KG_CALL_ID_HEX 24 /* of our Call-IDs */
/* Ended calls remembered for `calls --recent` and `explain`. */
#define KG_RECENT_MAX 1000
/* Early dialogs of one INVITE that are told apart; a PBX seldom rings more phones that send media at once. */
#define KG_EARLY_MAX 4

/* Phones with caps that divert one call out; the next one may not. */
#define KG_DIVERTERS_MAX 4

struct kg_call;
struct kg_caps_user;
struct kg_trunk;
struct kg_fork;
struct kg_relay;
struct kg_transfer;
struct kg_frame;
struct kg_heard;

/* What a leg's m-lines are to the media engine; bit or index n: m-line n. */
struct kg_leg_lines {
    uint8_t enabled;                   /* described and not rejected */
    uint8_t mux;                       /* rtcp-mux */
    uint8_t ice;                       /* does ICE that can be used */
    uint8_t mismatch;                  /* its addresses were changed on the way (RFC 8839 4.2.5) */
    uint8_t flows;                     /* in both directions */
    uint8_t use[KG_MEDIA_STREAMS_MAX]; /* enum kg_ice_use */
    /* What it says of keys (secure.h), and what is done about it. */
    uint8_t feedback;                         /* AVPF or SAVPF */
    uint8_t zrtp;                             /* plain RTP with a=zrtp-hash */
    uint8_t said[KG_MEDIA_STREAMS_MAX];       /* enum kg_shape */
    uint8_t kind[KG_MEDIA_STREAMS_MAX];       /* enum kg_secure_use */
    uint8_t setup_said[KG_MEDIA_STREAMS_MAX]; /* enum kg_dtls_setup */
    uint8_t secure[KG_MEDIA_STREAMS_MAX];     /* enum kg_secure_use */
    uint8_t setup[KG_MEDIA_STREAMS_MAX];      /* ours */
    uint8_t sealed;                           /* passes encrypted */
};

/* In which shapes a peer is asked for media, one after the other until it takes one. */
struct kg_leg_asks {
    uint8_t shape[KG_SHAPE_TRIES]; /* enum kg_shape */
    uint8_t count, at;             /* count 0: not planned yet */
    bool ours;                     /* kedge's keys even where the shape is the other side's own */
    bool demanded;                 /* nothing in the clear, by the operator's word */
    bool kept;                     /* ... since it is known for keys (kg_shapes_keep_keys) */
    bool both;                     /* SDES: who would rather do DTLS may */
};

/* What kedge's own keys toward a peer are made of, and how it is asked for media. */
struct kg_leg_keys {
    uint8_t
        shape[KG_MEDIA_STREAMS_MAX]; /* enum kg_shape of the text that it is sent next, or was sent last */
    struct kg_leg_asks asks;
    uint8_t secret[32]; /* that keys and tls-ids are derived from, once has_secret */
    bool has_secret;
    struct kg_fingerprint
        ours; /* of the engine's certificate, as it was told; hash KG_FINGERPRINT_NONE: not yet */
};

/* The CSeq of a REFER on the leg it came from, and on the other one; 0: none. */
struct kg_refer_seq {
    uint32_t in, out;
};
#define KG_REFERS_MAX 2 /* whose NOTIFY may still come */

/* While several contacts of the callee are called, leg B shows one of them, the branch in front: what is
 * marked * is that branch's, and kept aside for the others (branch.c). */
struct kg_leg {
    struct kg_call *call;
    enum kg_side side;
    bool pbx;               /* * a server of ours: a PBX, or a trunk */
    bool lost;              /* * its stream was closed; nothing can be sent to it until it comes back */
    bool bye_answered;      /* our BYE had an answer before the state machine wanted one */
    struct kg_trunk *trunk; /* * which, if it is one; kg_leg_set_trunk */
    unsigned proofs;        /* * given to the trunk in a row */
    uint32_t peer;          /* * B: the server that was asked last, as in struct kg_call_target */
    uint32_t rcseq;         /* * CSeq of its peer's last request that was believed */
    struct kg_fork *fork;   /* B, before its answer, if it has several contacts; NULL: it has one */
    nta_leg_t *dialog;      /* * NULL before B's INVITE */
    nta_incoming_t *irq; /* the peer's INVITE that we serve, until its ACK; or its UPDATE, until our answer */
    nta_incoming_t
        *arrived; /* the re-INVITE or UPDATE being looked at, or that waits for the other side's ACK */
    nta_outgoing_t *invite; /* * our INVITE or UPDATE to the peer, until its final response and ACK */
    nta_outgoing_t *bye;
    nta_incoming_t *bye_irq;    /* its BYE that waits for the PBX's answer to ours */
    nta_outgoing_t *update;     /* our UPDATE before the answer */
    nta_reliable_t *unacked;    /* our reliable 18x that waits for PRACK */
    msg_t *offer_18x;           /* the peer's 18x whose offer is to be answered in our PRACK */
    struct kg_heard *heard;     /* reliable 18x of the peer, by dialog; NULL: none yet */
    msg_t *early[KG_EARLY_MAX]; /* 18x to our INVITEs, one a dialog, the newest description first */
    msg_t *early_agreed;        /* of the dialog that sdp_agreed is from, before the answer */
    struct kg_flow flow;        /* * */
    struct kg_addr placed;  /* * host of our ports in the offer to one of several contacts; none: as bound */
    char *target;           /* * request URI of our first INVITE */
    char *local, *remote;   /* * From or To of the dialog without tag: our side, the peer's side */
    char *sdp_agreed;       /* what the peer said in the last offer/answer that was completed */
    char *sdp_pending;      /* what it says in the one under way; NULL: none */
    struct kg_sdp *sdp;     /* of sdp_pending, parsed */
    struct kg_frame *frame; /* the multipart around it; NULL: none */
    msg_t *made; /* A: the INVITE that kedge made in its name, until it has a dialog (transfer.c) */
    struct kg_leg_lines lines;           /* as the engine was told last */
    struct kg_leg_lines agreed;          /* as in sdp_agreed */
    uint8_t mux_offered;                 /* * m-lines of our last offer to it that had rtcp-mux */
    uint8_t told[KG_MEDIA_STREAMS_MAX];  /* * enum kg_sdp_ice of what it is sent next, or was sent last */
    struct kg_leg_keys keys;             /* * */
    bool rekeys;                         /* its next renewal has new keys, and ICE only if it does ICE */
    uint32_t dtls[KG_MEDIA_STREAMS_MAX]; /* hash of what its association is made of; 0: none */
    uint8_t associations[KG_MEDIA_STREAMS_MAX]; /* how often that changed; it may wrap */
    struct kg_media_ice_local ice; /* kedge's own, should it be this peer's agent; ufrag "": none yet */
    struct kg_addr seen[2];      /* where the relay found it, first m-line, by component - 1; none: not yet */
    struct kg_sdp_origin origin; /* * of what we send to it */
    bool bad_keys;               /* what came last is no description of its, since its keys do not fit */
    bool standing; /* B: its dialog stands, but what it answered was of no use: it is asked again inside */
    bool asked;    /* our INVITE had no SDP: its 2xx has the offer, and the ACK must have the answer */
    bool allows_update; /* * its Allow names UPDATE */
    bool refuses_refer; /* * its Allow does not name REFER */
    bool trickles;      /* * it takes candidates in INFO (RFC 8840): header or a=ice-options said so */
    bool too_fast;      /* its requests come too fast; it was said once */
    uint8_t options;    /* * option tags that its peer supports, of those that options.c passes on */
    struct kg_session_timer session;
    struct kg_session_said session_asked;         /* by the request being served */
    struct kg_pace pace, pace_info, pace_refused; /* of its peer's requests */
    nta_outgoing_t *doubt;                        /* our OPTIONS: is it still in the call? */
    nta_outgoing_t *refresh;                      /* our UPDATE without SDP */
    struct kg_refer_seq refers[KG_REFERS_MAX];    /* of its peer, the newest first */
};

/* A contact of the callee not tried yet. */
struct kg_call_target {
    char *url; /* NULL: a server, see kg_parties_target */
    struct kg_flow flow;
    uint32_t peer; /* a server's number in route/peers.h; 0: it is a phone */
    bool nat;
    bool pbx;               /* as in struct kg_leg */
    char *user;             /* whose it is; NULL: call->called */
    char *path;             /* Route header of a request to there (RFC 3327); NULL: none */
    struct kg_trunk *trunk; /* it is a server of this one's, held; NULL: a PBX's, or a phone */
    struct kg_fork_contact order;
    bool diverted; /* the call was diverted to here, by target[by], with: */
    uint8_t by;
    uint16_t cause;     /* the status */
    const char *reason; /* constant; as in Diversion */
};

struct kg_call {
    UT_hash_handle hh;        /* by record->id */
    UT_hash_handle hh_invite; /* by invite_key */
    uint64_t invite_key;      /* of the INVITE that started it; 0: taken over, unknown */
    struct kg_calls *calls;
    struct kg_fsm fsm;
    struct kg_leg leg[2];
    struct kg_record *record;
    struct kg_call_target *target; /* until the answer */
    char *called; /* whom the caller called, while there are several contacts; else the record has it */
    int64_t session_due_ms; /* of the session timers; INT64_MAX: none */
    int64_t doubt_ms;       /* a BYE from elsewhere than doubt_side's phone is believed then; 0: none */
    struct kg_path path;    /* which way media goes */
    enum kg_path_why why;   /* the same, of the offer/answer under way */
    enum kg_secure_why secured;
    enum kg_side doubt_side;
    bool parallel; /* contacts of one q are called at once (calls.fork) */
    uint8_t target_count;
    bool stubborn;      /* the answer to our ICE restart did not restart */
    bool latches;       /* what was renewed last does no ICE */
    bool restarts;      /* the offer under way restarts ICE between the two sides */
    uint8_t joining;    /* by a transfer: 1 + the side that hears of the other one's new session; 0: no */
    bool ports_unknown; /* taken over: local is asked of the engine */
    uint8_t stream_count;
    struct kg_media_local *local[2]; /* our ports toward each side, stream_count each */
    int max_forwards;                /* for B's INVITE */
    int64_t bye_due_ms;              /* a phone's BYE is not done yet, and not later than this; 0: none */
    enum kg_side bye_from;
    enum kg_policy policy;   /* of media; KG_POLICY_DEFAULT: media.policy */
    enum kg_profile profile; /* toward B, by a route; KG_PROFILE_DEFAULT: as B's own setting says */
    /* As `numbers` made them on their way in, unescaped; NULL: as in the INVITE. */
    char *called_number, *caller_number;
    struct kg_caps_user *cap; /* whom the call counts for; NULL: nobody */
    /* likewise, each that diverted it out, until it ends */
    struct kg_caps_user *divert_cap[KG_DIVERTERS_MAX];
    uint8_t divert_caps;
    bool claimed;       /* cap is a name that only the PBX's answer can prove */
    const sip_t *cause; /* the message being handled; headers may pass from it. NULL outside of callbacks */
    struct kg_fsm_event queue[16]; /* events that arose while actions were being carried out */
    uint8_t queued;
    bool running;
    bool over;    /* out of the table; only the memory is left */
    bool unheard; /* counted with this server: */
    uint32_t asked;
    bool listed;       /* by the list being made */
    int64_t handed_ms; /* until then whoever calls with its name may take it over (replaces.c) */
    unsigned holds;    /* media replies still to come, callbacks on the stack: the memory stays until 0 */
    struct kg_call *dead_next;
    struct kg_transfer *transfer; /* that it is part of; NULL: none */
    struct kg_relay *relays;      /* in-dialog requests passing through */
};

struct kg_ending {
    struct kg_calls *calls;
    struct kg_record *record;
    struct kg_ending *prev, *next;
};

struct kg_calls {
    struct kg_server *server;
    nta_agent_t *agent;
    su_home_t home[1];
    su_timer_t *timer;
    struct kg_call *by_id;
    struct kg_call *by_invite;
    size_t count;
    bool pbx_challenges;                     /* a PBX wanted a password for a session refresh of kedge's */
    unsigned walks;                          /* through by_id, under way */
    struct kg_call *dead;                    /* freed after the last of them */
    struct kg_record *recent[KG_RECENT_MAX]; /* ring */
    size_t recent_next;
    struct kg_ending *endings;
    struct kg_habits *habits;
    uint8_t chance[1024]; /* random bytes not given out yet */
    size_t chance_left;
    sip_content_type_t *content_type; /* application/sdp */
    sip_allow_t *allow;
};

/* ---- calls.c ---- */
struct kg_call *kg_call_new(struct kg_calls *calls, const char *id); /* id NULL: a new one */
/* Takes it out of the table, gives back what it has, and frees the memory as soon as nothing holds it. */
void kg_call_end(struct kg_call *call);
void kg_call_unhold(struct kg_call *call);
/* Room for `count` contacts of the callee in all. 0, or ENOMEM. */
int kg_call_reserve(struct kg_call *call, size_t count);
void kg_call_free_targets(struct kg_call *call);
struct kg_call *kg_calls_find(struct kg_calls *calls, const char *id);

/* len is at most KG_CALL_ID_HEX; for hex, digits, and a NUL is added. */
void kg_calls_random(struct kg_calls *calls, void *out, size_t len);
void kg_calls_random_hex(struct kg_calls *calls, char *out, size_t len);
struct kg_sdp_origin kg_calls_new_origin(struct kg_calls *calls);

/* A call that has ended and waits for its last figures; NULL without memory. */
struct kg_ending *kg_calls_ending(struct kg_call *call);
/* Nothing more will be known of it: its CDR, if they are wanted. Frees it; NULL is fine. */
void kg_calls_file(struct kg_ending *ending);

/* What holds for its media now. */
enum kg_policy kg_call_policy(const struct kg_call *call);

/* ---- run.c ---- */
/* Feeds one event and carries the actions out. The call may be gone afterwards. */
void kg_call_event(struct kg_call *call, const struct kg_fsm_event *event);
/* An event of this leg. */
void kg_leg_tell(struct kg_leg *leg, enum kg_fsm_event_type type, int status, bool sdp);

/* ---- leg.c ---- */
int kg_leg_accept(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow);
/* The dialog toward B, as our From, To and Call-ID describe it. */
int kg_leg_open(struct kg_leg *leg, const sip_from_t *from, const sip_to_t *to);
void kg_leg_close(struct kg_leg *leg); /* gives everything of nta back; silent */
/* True if a request can be sent now. */
bool kg_leg_is_reachable(struct kg_leg *leg);
/* The answer to an offer of ours, in an ACK or PRACK that came by flow. True if it can be used: whoever has
 * overheard the call can send it too, and an ACK cannot be challenged (RFC 3261 22.1), so that it must come
 * from where the leg's peer is. */
bool kg_leg_take_answer(struct kg_leg *leg, const sip_t *sip, const struct kg_flow *flow);
/* NULL: none. The calls of a trunk are counted by the legs that have it. */
void kg_leg_set_trunk(struct kg_leg *leg, struct kg_trunk *trunk);
/* The record says which it is now. */
void kg_leg_name_trunk(struct kg_leg *leg);
/* What its peer is to the rules of headers and identity. */
struct kg_peer kg_leg_peer(const struct kg_leg *leg);
/* Headers of sip that may pass from the other side of the call to leg's peer. */
void kg_leg_pass(const struct kg_leg *leg, const sip_t *sip, struct kg_passed *out);
const char *kg_leg_route_url(const struct kg_leg *leg, char buf[static KG_HOP_URL]);
/* Fills a Contact of ours toward this leg's peer; buf holds its text and must live as long. */
void kg_leg_contact(const struct kg_leg *leg, sip_contact_t contact[1], char buf[static KG_CONTACT_URL]);
/* nta's callback for requests inside of the dialog. */
int kg_leg_request(struct kg_leg *leg, nta_leg_t *dialog, nta_incoming_t *irq, const sip_t *sip);
/* The INVITE that leg's peer sent, or that kedge made in its name: a reference; NULL: it is gone. */
msg_t *kg_leg_invite(const struct kg_leg *leg);
void kg_leg_resume(struct kg_leg *leg); /* the re-INVITE that was deferred, if any */
void kg_leg_set_flow(struct kg_leg *leg, const struct kg_flow *flow);
/* Its phone has shown, by credentials, that it is elsewhere: everything follows it there. */
void kg_leg_move(struct kg_leg *leg, const struct kg_flow *flow);
/* The request in leg->arrived is accepted for service: it becomes leg->irq. */
void kg_leg_serve(struct kg_leg *leg);
/* A PRACK with an offer, before the answer: it waits in leg->arrived, or is refused. */
void kg_leg_pre_offer(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip);
/* Remembers what a message of its peer announces: UPDATE, trickle. */
void kg_leg_learn(struct kg_leg *leg, const sip_t *sip);

/* ---- branch.c: which of the callee's contacts is the leg now ---- */
/* Brings the branch to the front that this INVITE or dialog is of. False: none. */
bool kg_branch_turn(struct kg_leg *leg, const nta_outgoing_t *invite);
bool kg_branch_turn_dialog(struct kg_leg *leg, const nta_leg_t *dialog);
/* The nth that still goes on, for walking through all. False: there are no more. */
bool kg_branch_show(struct kg_leg *leg, unsigned n);
/* Back to the branch whose description is taken, after any of the three above. */
void kg_branch_settle(struct kg_leg *leg);
/* Which contact the one in front calls: call->target[]. */
unsigned kg_branch_target(const struct kg_leg *leg);
/* Which one is in front; and back to it after something that may have called back. False: it is over, or the
 * call is. */
unsigned kg_branch_place(const struct kg_leg *leg);
bool kg_branch_return(struct kg_leg *leg, const struct kg_fork *fork, unsigned place);
void kg_branch_cancel(nta_outgoing_t *invite); /* one that nobody wants any more; NULL is fine */
/* The one in front has answered: it alone is the leg from now on, the others are cancelled. */
void kg_branch_win(struct kg_leg *leg);
/* All but the one in front are cancelled. reason: may be NULL. */
void kg_branch_drop_others(struct kg_leg *leg, const sip_reason_t *reason);

/* ---- round.c: the contacts are called, and what becomes of them ---- */
/* Sends the INVITE to all contacts of the next round. */
void kg_branch_call(struct kg_leg *leg);
/* There was a response from the one in front. */
void kg_branch_heard(struct kg_leg *leg);
/* It refused (orq: what got the response, or NULL): KG_EV_REJECT with the best response follows when none is
 * left. */
void kg_branch_fail(struct kg_leg *leg, int status, const char *why, nta_outgoing_t *orq);
/* It refused (orq: likewise), but is sent another INVITE at once. */
void kg_branch_asked_again(struct kg_leg *leg, int status, nta_outgoing_t *orq);
/* Its flow is gone or, by_phone, it said BYE: the same. False: there is no fork, and it is left to the
 * caller.
 */
bool kg_branch_leave(struct kg_leg *leg, bool by_phone, const char *why);
/* Contacts that say nothing are given up after KG_CALL_UNHEARD_MS, servers sooner if there are others. True:
 * the state machine's deadline does not count yet, or the call is gone. */
bool kg_branch_tick(struct kg_leg *leg, int64_t now_ms);

/* ---- redirect.c: 3xx ---- */
/* The contact `by`, in front, was answered 3xx. Returns 0 when it is followed: those who are called instead
 * were added behind call->target[]; else the status to go on with, and why. */
int kg_redirect(struct kg_leg *leg, unsigned by, const sip_t *sip, const char **why);
/* Diversion and History-Info of the INVITE to contact n, to which the call was diverted; malloc'd lines, or
 * NULL. sip: the caller's INVITE. */
char *kg_redirect_headers(const struct kg_leg *leg, const sip_t *sip, unsigned n);

/* ---- out.c: INVITE, UPDATE, ACK and CANCEL that we send ---- */
/* INVITE to target[n], in the branch in front. NULL, or in words why it could not be sent. */
const char *kg_out_first(struct kg_leg *leg, const sip_t *sip, unsigned n);
void kg_out_invite(struct kg_leg *leg);
void kg_out_update(struct kg_leg *leg); /* a re-INVITE if the peer does not know UPDATE */
void kg_out_ask(struct kg_leg *leg);    /* re-INVITE without SDP */
/* The same once more: its session was too short for the peer (RFC 4028 7.3), or its shape was refused. */
void kg_out_anew(struct kg_leg *leg, nta_outgoing_t *refused);
/* The first offer once more, in the dialog that stands (leg->standing). */
void kg_out_inside(struct kg_leg *leg);
/* answer: where the 2xx has an offer. Otherwise such an ACK rejects every m-line. */
void kg_out_ack(struct kg_leg *leg, bool answer);
void kg_out_cancel(struct kg_leg *leg);
void kg_out_drop(struct kg_leg *leg);
/* A request just made, or NULL: the call ended while it was sent, since the connection broke that others wait
 * on. */
nta_outgoing_t *kg_out_keep(const struct kg_leg *leg, nta_outgoing_t *orq);
/* leg->flow is new: what had no response at the old place is sent there. */
void kg_out_follow(struct kg_leg *leg);
/* Sends msg, which it takes over, in the stead of *orq, a request that belongs to leg and ends with it;
 * branch NULL: a new one. What waits on a connection that breaks meanwhile is told so at once, which may end
 * the call: then nothing was put into *orq, which is gone, and if nobody holds the call so is that. False: it
 * could not be sent, and all is as before. True otherwise: there is nothing left to do. */
bool kg_out_instead(struct kg_leg *leg, nta_outgoing_t **orq, msg_t *msg, const char *branch,
                    nta_response_f *on_answer);
/* If *orq (NULL is fine) has no response yet, sends what it sent to where the peer is now, in its stead. The
 * caller holds the call, which may be over then. */
void kg_out_again(struct kg_leg *leg, nta_outgoing_t **orq, nta_response_f *on_answer);

/* ---- answer.c: responses to our INVITE or UPDATE; for nta ---- */
int kg_answer_take(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip);

/* ---- prove.c: passwords of trunks ---- */
/* response is the one to *orq, a request of ours on this leg: if it is a 401 or 407 that a password of a
 * trunk's answers, the request is sent once more with the proof, in the stead of *orq. True: that was all,
 * and the call may be gone (kg_out_instead). False: the response is still to be looked at. */
bool kg_prove(struct kg_leg *leg, nta_outgoing_t **orq, const sip_t *response, nta_response_f *on_answer);
bool kg_prove_may_be_asked(const struct kg_leg *leg); /* for such a password */
void kg_prove_note(const struct kg_leg *leg);         /* in the log: it was not taken */

/* ---- judge.c: how the server is that leg B asked ---- */
/* What a response says of it; and whether the PBX believed the caller. */
void kg_judge_response(struct kg_leg *leg, const sip_t *sip, int status);
/* It has said something, or nothing more is expected of it. */
void kg_judge_heard(struct kg_call *call);
/* What became of the request there. */
void kg_judge(struct kg_leg *leg, enum kg_outcome outcome, uint32_t retry_after_s);

/* ---- size.c: how large an INVITE gets ---- */
/* Bytes for the SDP of an INVITE on this leg; 0: as many as it likes. */
size_t kg_size_left(const struct kg_leg *leg);
/* Says in the log that this INVITE is too large for UDP. body: bytes; sip: the message whose headers pass;
 * NULL: the other side's INVITE, if there is one. */
void kg_size_note(const struct kg_leg *leg, const sip_t *sip, size_t body);

/* ---- replaces.c ---- */
/* False: user (NULL: the trunk, or a PBX) may not do with a call what Replaces or Join of its INVITE says. */
bool kg_replaces_permits(struct kg_calls *calls, const sip_t *sip, const char *user,
                         const struct kg_trunk *trunk);
/* from's peer sends somebody on by a Refer-To with these headers: whom he calls may find him in its own
 * call's stead. */
void kg_replaces_hand_over(const struct kg_leg *from, const char *headers);

/* ---- stranger.c: whether a request of leg's peer is looked at; true: no, it is answered ---- */
bool kg_leg_is_too_fast(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip); /* 500 */
bool kg_leg_is_stranger(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip); /* irq is gone then */
/* flow is where leg's peer is: the leg's host, or one where its user is registered (another port is a NAT's
 * doing). A PBX or trunk may have several hosts, and is believed. */
bool kg_leg_knows(const struct kg_leg *leg, const struct kg_flow *flow);
void kg_leg_doubt_tick(struct kg_call *call, int64_t now_ms);

/* ---- options.c: option tags ---- */
void kg_options_learn(struct kg_leg *leg, const sip_t *sip);
#define KG_OPTIONS_TEXT 128
/* The Supported header's value toward leg's peer; returns out. */
const char *kg_options_supported(const struct kg_leg *leg, char out[static KG_OPTIONS_TEXT]);

/* ---- session.c: session timers (RFC 4028) ---- */
/* An INVITE or UPDATE asks for a session that is too short: answered 422; the caller destroys irq. */
bool kg_session_refuse(struct kg_calls *calls, nta_incoming_t *irq, const sip_t *sip);
/* Remembers what the INVITE or UPDATE asks that is being served... */
void kg_session_ask(struct kg_leg *leg, const sip_t *sip);
/* ... and that it is answered 2xx now: Session-Expires for that; "": none. */
void kg_session_serve(struct kg_leg *leg, char out[static KG_SESSION_TEXT]);
/* Session-Expires for an INVITE or UPDATE of ours; false: none. */
bool kg_session_text(const struct kg_leg *leg, char out[static KG_SESSION_TEXT]);
void kg_session_heard(struct kg_leg *leg, const sip_t *sip); /* a 2xx to such a request */
/* sip is a 422 after which the request can be sent again. */
bool kg_session_too_short(struct kg_leg *leg, const sip_t *sip);
/* A refresh of kedge's got this status. True: it is a challenge that nobody here can answer, which shows that
 * the PBX is there; sessions with PBXes have no timers any more. */
bool kg_session_challenged(struct kg_leg *leg, int status);
void kg_session_tick(struct kg_call *call);   /* call->session_due_ms has come */
void kg_session_follow(struct kg_leg *leg);   /* as kg_relay_follow */
void kg_session_restored(struct kg_leg *leg); /* leg->session is from a snapshot */

/* ---- reply.c: responses that we send ---- */
void kg_reply_progress(struct kg_leg *leg, int status, bool sdp, bool reliable);
void kg_reply_answer(struct kg_leg *leg, bool sdp);
void kg_reply_refuse(nta_incoming_t *irq, struct kg_leg *leg, const struct kg_fsm_action *action);

/* ---- reliable.c: reliable provisional responses (RFC 3262) ---- */
/* What a caller whose INVITE is sip gets. */
enum kg_reliable kg_reliable_of(const struct kg_calls *calls, const sip_t *sip);
/* To leg->irq; KG_EV_PRACK follows. */
void kg_reliable_reply(struct kg_leg *leg, int status, const tagi_t *tags);
void kg_reliable_close(struct kg_leg *leg);
/* A 18x to our INVITE: PRACKs it if need be. False: it came before, or one before it is missing: it is to be
 * ignored. */
bool kg_reliable_take(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip);
/* PRACK with the answer to the offer of a 18x. */
void kg_reliable_answer(struct kg_leg *leg);

/* A 18x that is such a one. */
bool kg_reliable_is(const sip_t *sip);

/* ---- preanswer_run.c: offers before the answer ---- */
/* An offer of from's peer could go to the other one. */
bool kg_pre_can_pass(const struct kg_leg *from);
void kg_pre_update(struct kg_leg *leg);
void kg_pre_answer(struct kg_leg *leg); /* to leg->arrived */

/* ---- early.c: early dialogs of our INVITE ---- */
/* The 18x that orq just got. sdp: its description is the one taken from now on. */
void kg_early_remember(struct kg_leg *leg, nta_outgoing_t *orq, bool sdp);
/* The 18x of the To tag that sip has: the one with SDP if there was one. NULL: none. */
const sip_t *kg_early_of(const struct kg_leg *leg, const sip_t *sip);
const sip_t *
kg_early_newest(const struct kg_leg *leg);            /* whose description is taken; NULL: no early dialog */
const sip_t *kg_early_here(const struct kg_leg *leg); /* likewise among those of the branch in front */
/* Its offer before the answer was accepted: that dialog has the newest description now. */
void kg_early_speaks(struct kg_leg *leg, const sip_t *request);
/* The newest description is agreed to: sdp_agreed is that, of this dialog alone. */
void kg_early_agree(struct kg_leg *leg);
bool kg_early_is_agreed(const struct kg_leg *leg, const sip_t *sip);
void kg_early_forget(struct kg_leg *leg);
/* What the branch in front said is no answer to what it, or another one, is asked next. */
void kg_early_drop(struct kg_leg *leg);

/* ---- relay.c: requests that pass from one dialog to the other ---- */
/* A request of leg's peer whose method passes. The return value is for nta: a status to answer with, or 0. */
int kg_relay_request(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip);
/* Sends `to` an INFO, in its early dialog if it has no other. 0: irq, if any, is answered when that is; else
 * a status. What it answers is its own: kedge has made use of it. */
int kg_relay_info(struct kg_leg *to, nta_incoming_t *irq, const char *package, const sip_content_type_t *type,
                  const char *body, size_t len);
/* A request of kedge's own on this leg, made with the callback below, whose answer matters to nobody, but
 * that a trunk may challenge it. orq NULL is fine. */
void kg_relay_keep(struct kg_leg *leg, nta_outgoing_t *orq);
int kg_relay_response(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip);
void kg_relay_close_all(struct kg_call *call);
/* leg's peer is in another place: what it has not answered is sent there. */
void kg_relay_follow(struct kg_leg *leg);

/* ---- body.c: bodies of messages ---- */
enum kg_sdp_found { KG_SDP_NONE, KG_SDP_BAD, KG_SDP_OK };
/* Where the SDP of a message is in its payload. BAD: a sentence in error. */
enum kg_sdp_found kg_body_find(const sip_t *sip, struct kg_multipart *at, char *error, size_t size);
/* One that can be read or not. */
bool kg_body_has_sdp(const sip_t *sip);
/* *out: a copy of the multipart around it, for the message that the other side gets; NULL: it stands alone. 0
 * or ENOMEM. */
int kg_body_keep(const sip_t *sip, const struct kg_multipart *at, struct kg_frame **out);
/* The body of a message that is being made, as tags. */
struct kg_body {
    tagi_t tag[8];
    char *text;
    char type[KG_MULTIPART_HEADER_MAX + 1];
    sip_payload_t payload[1];
    sip_unknown_t content_id[1];
};
void kg_body_begin(struct kg_body *body); /* none yet */
/* sdp (malloc'd, taken over) for leg's peer, inside of what the other side had around its own. */
void kg_body_sdp(struct kg_body *body, const struct kg_leg *leg, char *sdp, size_t len);
/* A body that is no business of kedge's, as it is; sip must live as long. */
void kg_body_pass(struct kg_body *body, const sip_t *sip);
/* Likewise of a message that ends something and sets nothing up, BYE or a refusal: ISUP, a reason in words.
 * Not SDP, which would show addresses, and not what is larger than any of these. */
#define KG_FOREIGN_BODY_MAX 8192
void kg_body_pass_foreign(struct kg_body *body, const sip_t *sip);
size_t kg_body_len(const struct kg_body *body);
/* For TAG_NEXT; more: a list that follows, or NULL. */
const tagi_t *kg_body_tags(struct kg_body *body, const tagi_t *more);
void kg_body_end(struct kg_body *body);

/* ---- bye.c ---- */
/* status and why: for the Reason header; why NULL: none. KG_EV_BYE_DONE follows. */
void kg_bye_send(struct kg_leg *leg, int status, const char *why);
/* BYE in a dialog that stands (leg->standing), of whose call nothing comes. */
void kg_bye_leave(struct kg_leg *leg);
void kg_bye_follow(struct kg_leg *leg); /* as kg_relay_follow */
/* A phone's BYE toward a PBX: true if irq waits for the PBX's answer. False: nothing was done. */
bool kg_bye_pass(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip);
void kg_bye_tick(struct kg_call *call, int64_t now_ms);
/* The call ends: a BYE that waits is answered. */
void kg_bye_settle(struct kg_call *call);

/* ---- snapshot.c ---- */
/* Returns its length; 0: the call cannot be written down. */
size_t kg_snapshot_write(const struct kg_call *call, char *buf, size_t size);
/* Rebuilds a call in talk. 0, EINVAL, ENOMEM or EEXIST. */
int kg_snapshot_read(struct kg_calls *calls, const char *id, const void *data, size_t len);

/* ---- way.c ---- */
/* One server that a call can go out by. The flow and the trunk are borrowed: copy, hold what is kept. */
struct kg_outlet {
    const struct kg_flow *flow;
    uint32_t peer;
    struct kg_trunk *trunk;
};
/* Embedded mode: where `routes` take a call of this account that is not for another account, as if it had
 * dialled the number itself, within its caps. The call counts for it from then on. Returns how many outlets;
 * 0: none, and why, a constant, unless there is no route. */
size_t kg_way_out(struct kg_call *call, const char *account, const char *number,
                  struct kg_outlet out[static KG_FAILOVER_SERVERS], const char **why);

/* ---- payer.c: caps ---- */
/* It cost nothing: it was challenged, or the PBX did not believe who claimed to call. */
bool kg_call_is_refunded(const struct kg_call *call);
/* Whose caps leg's peer has. */
const char *kg_leg_payer(const struct kg_leg *leg);

/* ---- parties.c ---- */
/* B's dialog, after A's INVITE. 0 or ENOMEM. */
int kg_parties_open(struct kg_leg *leg, const sip_t *sip);
/* Asserted identities among the headers that pass to leg's peer, as its side writes numbers; and kedge's own
 * assertion, where it knows the caller and the peer is trusted. */
void kg_parties_identify(const struct kg_leg *leg, const sip_t *sip, struct kg_passed *passed);
/* The request URI toward a server, malloc'd. */
char *kg_parties_target(const struct kg_leg *leg, const sip_t *sip);

/* ---- names.c ---- */
/* "\"Alice\" <sip:alice@example.org>", malloc'd. */
char *kg_name_addr(const char *display, const url_t *url);
char *kg_url_text(const url_t *url); /* malloc'd */

#endif
