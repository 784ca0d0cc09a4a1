/* Dialogs named by their identifiers: Replaces (RFC 3891), Refer-To with Replaces, Target-Dialog (RFC 4538),
 * dialog-info bodies (RFC 4235). kedge's two legs are two dialogs, so who names one of them to the other side
 * has to be understood there. Signalling thread only. */
#ifndef KG_CALL_DIALOGS_H
#define KG_CALL_DIALOGS_H

#include <stdbool.h>
#include <stddef.h>

#include <sofia-sip/su_alloc.h>

struct kg_calls;
struct kg_leg;

#define KG_DIALOG_TEXT                                                                                       \
    256 /* bytes of a Call-ID or tag, with NUL; longer ones are not ours and pass as they are */

/* As in a Replaces header: to_tag is the local tag of whoever the header is meant for. */
struct kg_dialog_id {
    char call_id[KG_DIALOG_TEXT], to_tag[KG_DIALOG_TEXT], from_tag[KG_DIALOG_TEXT];
};

enum kg_dialog_place {
    KG_DIALOG_FOREIGN, /* none of kedge's */
    KG_DIALOG_NEAR,    /* kedge is the party that is meant: to_tag is ours */
    KG_DIALOG_FAR,     /* kedge's peer is meant */
};

/* Finds the leg that id names; NEAR is preferred where a PBX that is a proxy made both ends of one dialog
 * ours. An early dialog of a leg that rings is found as well. */
enum kg_dialog_place kg_dialog_find(struct kg_calls *calls, const struct kg_dialog_id *id,
                                    struct kg_leg **leg);
/* A leg's dialog as its peer (FAR), or as kedge (NEAR), is told of it in Replaces. 0; ENOENT: it has no peer
 * yet; E2BIG. Then *id is as it was. */
int kg_dialog_name(const struct kg_leg *leg, enum kg_dialog_place place, struct kg_dialog_id *id);
/* Rewrites *id as it has to read for a request or body that goes to a PBX or trunk (to_pbx) or to a phone:
 *   to a PBX:   a leg that faces a PBX stays as it is; a phone's leg becomes the same call's other leg
 *   to a phone: NEAR becomes the call's other leg; FAR stays as it is
 * In the other leg the same party is meant: who was behind kedge (NEAR) is kedge's peer there (FAR), and the
 * other way round. Returns true if *id was changed. Foreign ids are left alone, and so is a leg whose other
 * one has no dialog yet. */
bool kg_dialog_translate(struct kg_calls *calls, struct kg_dialog_id *id, bool to_pbx);

/* ---- dialog_text.c: header texts, on home, for a PBX or trunk (to_pbx) or for a phone ---- */
/* Replaces or Join. NULL: it is none, or no memory. */
const char *kg_dialog_replaces(su_home_t *home, struct kg_calls *calls, const char *text, bool to_pbx);
/* Target-Dialog. NULL as above. */
const char *kg_dialog_target(su_home_t *home, struct kg_calls *calls, const char *text, bool to_pbx);
/* The headers in a Refer-To's URI: those that may be there, each dialog as it has to be named. "": none is
 * left. NULL: no memory, or a Replaces that is none. headers may be NULL. */
const char *kg_dialog_uri_headers(su_home_t *home, struct kg_calls *calls, const char *headers, bool to_pbx);

/* ---- dialog_id.c: pure ---- */
/* "call-id;to-tag=..;from-tag=..[;early-only]", unescaped. 0 or EINVAL: not that, or longer than we keep. */
int kg_dialog_parse(const char *replaces, struct kg_dialog_id *id);
/* Writes id the same way, followed by the parameters of `like` (NULL: none) that are not tags, as early-only.
 * Returns the length, or 0 if it does not fit. */
size_t kg_dialog_format(const struct kg_dialog_id *id, const char *like, char *out, size_t size);
bool kg_dialog_is_tag(const char *a, const char *b); /* tags are tokens: no case (RFC 3261 7.3.1) */

#endif
