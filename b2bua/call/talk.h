/* Inside call/: SDP, ICE and keys of a call's legs, and the media engine that is told of them. */
#ifndef KG_CALL_TALK_H
#define KG_CALL_TALK_H

#include "b2bua/call/call.h"

/* ---- talk.c: what a leg's peer says ---- */
/* The SDP of a message, to be freed. NULL, and mostly a sentence in error: none that can be read; sip may be
 * NULL. */
struct kg_sdp *kg_talk_parse(const sip_t *sip, char *error, size_t size);
/* Takes the SDP out of a message; NONE and BAD (a sentence in error): nothing has changed. */
enum kg_sdp_found kg_talk_take(struct kg_leg *leg, const sip_t *sip, char *error, size_t size);
/* What was agreed before the answer is what a 2xx without SDP means. False: nothing was. */
bool kg_talk_take_agreed(struct kg_leg *leg);
/* What leg's peer answered has no m-line. */
bool kg_talk_is_empty(const struct kg_leg *leg);
/* Parsed sdp of what the leg said last: pending, else agreed (then *made is to be freed). NULL: nothing. */
const struct kg_sdp *kg_talk_said(const struct kg_leg *leg, struct kg_sdp **made);
/* Tells the record what the leg agreed to, when the call is taken over. */
void kg_talk_recall(struct kg_leg *leg);
/* The side that made the offer under way, or in whose name kedge makes it. */
enum kg_side kg_talk_offerer(const struct kg_call *call);
/* The offer/answer under way is done, or came to nothing. */
void kg_talk_commit(struct kg_call *call);
void kg_talk_abandon(struct kg_call *call);
void kg_talk_forget(struct kg_leg *leg); /* what it says in the offer/answer under way */

/* ---- talk_engine.c: the media engine ---- */
void kg_talk_apply(struct kg_call *call, const struct kg_fsm_action *action);
void kg_talk_restore(struct kg_call *call); /* both agreed descriptions once more */
void kg_talk_release(struct kg_call *call);
/* Tells the engine once more what the leg said last, as it was decided. */
void kg_talk_tell(struct kg_leg *leg);
/* Asks the engine which ports the call has. */
void kg_talk_ask_ports(struct kg_call *call);
/* Leaves a new snapshot with the engine. */
void kg_talk_save(struct kg_call *call);
/* Hands a change to the engine, with the call's id and, in talk, a snapshot. seq not 0: KG_EV_MEDIA with it
 * follows. 0 or an errno. */
int kg_talk_send(struct kg_call *call, struct kg_media_change *change, unsigned seq);
/* The local host for this leg's media: of the family that its SDP speaks, else of its signalling. side may be
 * NULL. */
struct kg_addr kg_talk_bind_host(const struct kg_leg *leg, const struct kg_media_side *side);
/* Behind a 1:1 NAT the advertised address is for those outside; a peer with a private address is inside and
 * reaches the one we are bound to. */
struct kg_addr kg_talk_advertised(const struct kg_leg *leg, const struct kg_addr *remote,
                                  const struct kg_addr *local);

/* ---- talk_text.c: what a leg's peer is told ---- */
/* What `leg`'s peer is told of the other side: malloc'd SDP, NULL without memory. */
char *kg_talk_text(struct kg_leg *leg, size_t *len);
/* The text for an ACK whose 2xx, `offer`, had an offer: the answer, if it fits (after a change that came to
 * nothing it is what was agreed before), else the refusal: every m-line rejected. malloc'd; NULL: `offer` has
 * none. */
char *kg_talk_answer(struct kg_leg *leg, const sip_t *offer, size_t *len);
char *kg_talk_refusal(struct kg_leg *leg, const sip_t *offer, size_t *len);
/* Two phones in different private networks: seen at different addresses, not both inside of kedge's own
 * network. Of a PBX's other side nothing is known, nor of one phone on IPv4 and one on IPv6. */
bool kg_talk_are_apart(const struct kg_leg *a, const struct kg_leg *b);
/* What leg's peer understands. */
enum kg_sdp_kind kg_talk_reader(const struct kg_leg *leg);

/* ---- talk_ice.c: what ICE adds to that ---- */
/* What the leg says now comes with other ICE credentials than what it said before. */
bool kg_talk_is_restart(const struct kg_leg *leg);
/* Decides for each m-line of both sides what ICE means for it, now that `leg` has made an offer or an answer
 * (leg->lines has it): fills lines.use and told of both. Returns true if the engine knows other things of the
 * other side than it should now. */
bool kg_talk_decide(struct kg_leg *leg, enum kg_apply purpose);
/* An upgrade came to nothing, but the side that was asked for an offer has restarted ICE by it: that is
 * absorbed, so that the answer in our ACK and its agent go on together. */
void kg_talk_keep_restart(struct kg_call *call);
/* leg->ice, made at the first call; new_ones: again, as in an ICE restart. */
void kg_talk_credentials(struct kg_leg *leg, bool new_ones, bool controlling);
/* What the contact tried before was told of kedge's ICE ends here. */
void kg_talk_next_contact(struct kg_leg *leg);
/* B: in which shapes the contact in front is offered media; shape and told are of the one that is its turn.
 */
void kg_talk_aim(struct kg_leg *leg);
/* The peer of `from`, in another call, is to take this leg's place: it is offered what it understands, with
 * new keys. */
void kg_talk_seat(struct kg_leg *seat, const struct kg_leg *from);
/* The offer just taken into leg->sdp says nothing but what ICE and a new network of this leg's peer change,
 * and the other side is not steered to it: kedge answers it alone (kg_talk_apply, then kg_talk_text as for
 * any answer; a restart of the peer's gets a new ufrag and pwd of kedge's by itself). */
bool kg_talk_is_absorbed(const struct kg_leg *leg);
/* New ufrag and pwd of kedge's for that leg, told to the engine at once; the next kg_talk_text of the leg is
 * kedge's own offer with them, made of what the other side agreed to. For KG_EV_RENEW. */
void kg_talk_renew(struct kg_leg *leg);

/* ---- talk_bundle.c: lines that share a transport (RFC 9143) ---- */
/* What the leg's own description says of it, and kedge takes part in. offers: it is an offer of its peer's.
 */
void kg_talk_bundle(struct kg_leg *leg, const struct kg_sdp *sdp, bool offers, struct kg_media_side *side);
/* leg's answer rejects a line that may have carried others on the other side. */
bool kg_talk_unbundles(const struct kg_leg *leg);
/* For the text of `sdp` that leg's peer is sent. */
void kg_talk_plan_bundle(struct kg_leg *leg, const struct kg_sdp *sdp, const struct kg_sdp_reader *reader,
                         struct kg_sdp_local *local, size_t count);

/* ---- talk_secure.c: what keys add to that ---- */
/* What `sdp` of the leg says of keys, into leg->lines. */
void kg_talk_note_keys(struct kg_leg *leg, const struct kg_sdp *sdp, uint8_t count);
/* 0, or EINVAL and a sentence: an offer that nobody could answer, an answer that does not fit what kedge
 * offered. */
int kg_talk_check_keys(struct kg_leg *leg, const struct kg_sdp *sdp, bool answers, char *error, size_t size);
/* Decides for m-line i of both sides, as kg_talk_decide: fills lines.secure, keys.shape and the rest. True if
 * the engine knows other things of the other side than it should. */
bool kg_talk_decide_keys(struct kg_leg *leg, uint8_t i, enum kg_apply purpose);
/* The m-line does not pass as it came, or is not to. */
bool kg_talk_is_terminated(const struct kg_call *call, uint8_t i);
/* B: keys.shape of m-line i for the contact that is its turn. */
void kg_talk_aim_keys(struct kg_leg *leg, uint8_t i);

/* ---- talk_shape.c: in which shapes a peer is asked for media ---- */
/* The one whose turn it is; planned at the first call. *ours: with kedge's keys even if it is the offer's own
 * shape. */
enum kg_shape kg_talk_wanted_shape(struct kg_leg *to, bool *ours);
/* A callee that was asked for an offer may not make one in the clear: the operator's word demands keys. */
bool kg_talk_bars_clear(const struct kg_leg *leg);
/* Of a browser's first offer: its keys will end at kedge, since whom it calls is no browser. */
bool kg_talk_will_end(const struct kg_leg *leg);
/* The contact in front refused with `status`: true if that may be due to the shape and another one is left.
 * answer: of what it said in a 2xx that was of no use; else NULL. */
bool kg_talk_next_shape(struct kg_leg *leg, int status, const sip_t *answer);
/* Why the contact in front refuses all that it was asked for, for the caller; sip: its last word. NULL: not
 * about media. */
const char *kg_talk_why_refused(const struct kg_leg *leg, int status, const sip_t *sip);
/* B answered: it took the one whose turn it was, if its answer has SDP, and the caller is one who offers what
 * he offered. Not before: an INVITE that nobody took could be anybody's. */
void kg_talk_learn_shapes(struct kg_leg *leg, bool sdp);

/* ---- talk_keys.c: kedge's own keys, written and told to the engine ---- */
/* Other keys of kedge's toward it, from its next text on. */
void kg_talk_new_keys(struct kg_leg *leg);
/* These m-lines (bits) were rejected: used again, each has another transport and another association. */
void kg_talk_end_associations(struct kg_leg *leg, uint8_t lines);
/* kedge's keys in the text for leg's peer. False: what the other side wrote stays. Forget them afterwards. */
#define KG_TLS_ID     41
#define KG_OUR_CRYPTO 5
struct kg_talk_keys {
    struct kg_sdp_our_keys sdp;
    struct kg_sdp_crypto crypto[KG_OUR_CRYPTO];
    char tls_id[KG_TLS_ID];
};
bool kg_talk_write_keys(struct kg_leg *leg, uint8_t line, bool answers, struct kg_talk_keys *out);
void kg_talk_forget_keys(struct kg_talk_keys *keys, size_t count);
/* What the engine is told: side's streams point into out. Clear them afterwards. */
void kg_talk_fill_keys(struct kg_leg *leg, const struct kg_sdp *sdp, struct kg_media_side *side,
                       struct kg_media_secure out[static KG_MEDIA_STREAMS_MAX]);
void kg_talk_clear_keys(struct kg_media_side *side);

/* ---- secure_run.c: what the engine says of keys, and the record of it ---- */
void kg_secure_media(struct kg_call *call, const struct kg_media_event *event); /* SECURE, REKEY */
/* A call that was taken over: who died may have been told that keys are due, and not have come to it. */
void kg_secure_recovered(struct kg_call *call, const struct kg_media_session_info *info);
void kg_secure_agreed(struct kg_call *call);

/* ---- talk_trickle.c: candidates that come one after the other ---- */
/* An INFO with application/trickle-ice-sdpfrag came from leg's peer: its candidates go to the engine. */
void kg_talk_trickle(struct kg_leg *leg, const char *body, size_t len);
/* The same on a steered call: what the other side is sent of it, malloc'd. NULL: nothing (kept for the next
 * offer, or it does not understand). */
char *kg_talk_trickle_text(struct kg_leg *from, const char *body, size_t len, size_t *out_len);

/* ---- trickle.c: candidates in INFO (RFC 8840) ---- */
/* True if the INFO is about trickle-ice; then it is served, and *status is for nta as above. */
bool kg_trickle_request(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip, int *status);
/* For what sets a session up: kedge takes candidates in INFO (RFC 8840 10.2, RFC 6086 5.2). Supported says it
 * too (kg_options_supported). */
#define KG_TRICKLE_TAGS(announce) TAG_IF(announce, SIPTAG_HEADER_STR("Recv-Info: trickle-ice"))
/* Whether a message says that its sender takes candidates in INFO. */
bool kg_trickle_is_announced(const sip_t *sip);

/* ---- path_run.c: which way media goes (path.h decides), and the record of it ---- */
/* An offer/answer is complete: leg->agreed of both sides has it. */
void kg_path_agreed(struct kg_call *call);
/* leg's peer restarts ICE by the offer just taken. */
void kg_path_restarted(struct kg_leg *leg);
/* A description that the engine is told; what was left out of a text for leg's peer. */
void kg_path_note_side(struct kg_leg *leg, const struct kg_sdp *sdp, const struct kg_media_side *side);
void kg_path_note_pruned(struct kg_leg *leg, const struct kg_sdp_pruned *pruned);
void kg_path_event(struct kg_call *call, const struct kg_path_event *event);
void kg_path_tick(struct kg_call *call);
/* ICE, PATH, LEFT and LATCHED of the engine. */
void kg_path_media(struct kg_call *call, const struct kg_media_event *event);
/* How a KG_EV_RENEW or KG_EV_UPGRADE ended: ok when its offer was answered (and committed), not ok when it
 * was refused, not answered, or could not be begun; status: of its refusal, 0: none. */
void kg_path_done(struct kg_call *call, enum kg_fsm_event_type what, enum kg_side side, bool ok, int status);
/* The peer's SIP comes from another place than before (leg->flow has it already). restarted: the request that
 * showed it is an offer with an ICE restart. */
void kg_path_moved(struct kg_leg *leg, const struct kg_addr *before, bool restarted);

/* ---- rtcp_capture.c ---- */
/* An RTCP report that the engine relayed, for the capture server. */
void kg_rtcp_capture(const struct kg_call *call, const struct kg_media_event *event);

#endif
