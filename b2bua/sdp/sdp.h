/* SDP: our own model, parser and rewriter (RFC 8866, 3264, 3605, 5761). Pure: text in, text out; no sockets,
 * no clock. Unknown lines and attributes survive a rewrite in their place; so do CRLF rules and the order of
 * lines. */
#ifndef KG_SDP_H
#define KG_SDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "b2bua/sdp/secure.h"
#include "conf/addr.h"
#include "media/client.h"

struct kg_sdp;

/* m= lines of a description; more are refused. */
#define KG_SDP_MEDIA_MAX 64

/* Tolerates what phones in the field send (bare LF, missing t=, trailing blanks ...); refuses what cannot be
 * understood. Returns NULL and a sentence in error ("line 4: c= has no address"). Never more than 64 KB. */
struct kg_sdp *kg_sdp_parse(const char *text, size_t len, char *error, size_t size);
void kg_sdp_free(struct kg_sdp *sdp);

/* Fills streams and stream_count of a side (other fields untouched): kind, mid and the id of the mid
 * extension, `ice` (pointing into sdp; NULL where the m-line has no valid ufrag and pwd, or says
 * a=ice-mismatch, or its default destination is not among its candidates, RFC 8839 4.2.5), addresses, a=rtcp,
 * rtcp-mux, direction with both notations of hold (a=sendonly/inactive, c=0.0.0.0 or ::), codecs with clock
 * rates incl. static payload types (RFC 3551). A c= that is a host name gives no address. A line over TCP
 * counts as rejected: the relay carries UDP. `bundle` stays 0 and a=bundle-only lines (port 0) disabled;
 * `secure` stays NULL. Returns 0 or E2BIG (more than KG_MEDIA_STREAMS_MAX m-lines). */
int kg_sdp_describe(const struct kg_sdp *sdp, struct kg_media_side *out);
/* After it, where kedge bundles with this side (RFC 9143): the lines of its BUNDLE group share the transport
 * of the group's first enabled line, which is given to them (addresses, ICE); bundle-only ones become
 * enabled. Of an offer: what may be agreed; of an answer: what is. */
void kg_sdp_describe_bundle(const struct kg_sdp *sdp, struct kg_media_side *out);
/* An SCTP association over DTLS (RFC 8841), which kedge can pass but not terminate. */
bool kg_sdp_is_data(const struct kg_sdp *sdp, size_t media);
/* The writer speaks WebRTC (RFC 8829): an enabled audio or video line has ICE, a fingerprint, SAVPF, rtcp-mux
 * and a=mid. */
bool kg_sdp_is_web(const struct kg_sdp *sdp);

/* Whether for each kind of media that both have enabled there is a codec in both (telephone-event, CN,
 * redundancy and repair do not count). False: a sentence for people, with `a` and `b` as their names ("the
 * browser"): "no common audio codec: the browser has opus, PCMU; the phone has G729". */
bool kg_sdp_have_common_codec(const struct kg_sdp *first, const char *a, const struct kg_sdp *second,
                              const char *b, char *error, size_t size);
/* "opus, G722, PCMU": the audio codecs of a description, for people. Returns the length. */
size_t kg_sdp_codec_names(const struct kg_sdp *sdp, char *out, size_t size);

/* A candidate that is not in kg_ice_description because nobody can use it. */
struct kg_sdp_unused {
    const char *text;   /* "candidate:..." as written, belongs to sdp */
    const char *reason; /* constant: "it is not for UDP" */
};
/* Of one m-line; returns their number, at most max. */
size_t kg_sdp_ice_unused(const struct kg_sdp *sdp, size_t media, struct kg_sdp_unused *out, size_t max);
/* NULL: the m-line does ICE, or does not try to. Otherwise why its `ice` is NULL, a constant sentence. */
const char *kg_sdp_ice_problem(const struct kg_sdp *sdp, size_t media);
/* The m-line's default destination is none of its candidates, for which an answer says a=ice-mismatch. */
bool kg_sdp_ice_is_mismatch(const struct kg_sdp *sdp, size_t media);

/* The m-line has a port, and a transport that kedge relays. False also if there is no such line. */
bool kg_sdp_is_enabled(const struct kg_sdp *sdp, size_t media);
/* "audio", for people; cut to size. Returns out. */
const char *kg_sdp_media_kind(const struct kg_sdp *sdp, size_t media, char *out, size_t size);

/* Whether an m-line over TCP is offered, which kedge rejects. */
bool kg_sdp_offers_tcp(const struct kg_sdp *sdp);

/* The connection host of the first enabled m-line (port 0); none if it has none. For comparison with the
 * packet source. */
struct kg_addr kg_sdp_host(const struct kg_sdp *sdp);

/* An answer must match its offer (RFC 3264 6): same number and kinds of m-lines, no line revived
 * (a=bundle-only excepted, RFC 9143). Returns 0 or EINVAL and a sentence. */
int kg_sdp_check_answer(const struct kg_sdp *offer, const struct kg_sdp *answer, char *error, size_t size);

/* What one leg's o= line says, kept for the whole dialog: id constant, version grows when the text changes
 * (RFC 3264 8). */
struct kg_sdp_origin {
    /* Chosen by the caller at first, below 2^62 (RFC 3264 5); phones are surest of what fits in 31 bits. */
    uint64_t id, version;
    uint64_t hash; /* of what was last sent, without its o= line; 0: nothing yet */
};

/* What is done with ICE in the text for the other side. */
enum kg_sdp_ice {
    KG_SDP_ICE_NONE, /* every ICE line goes */
    KG_SDP_ICE_KEEP, /* steering: ufrag, pwd, options and candidates stay as they are (useless ones go: see
                        prune), our rtp and rtcp addresses join as relay candidates whose priority is below
                        all others, and are the default destination (c=, m=, a=rtcp) */
    KG_SDP_ICE_OURS, /* the writer's ICE lines go, ours come: ufrag, pwd and host candidates rtp and rtcp */
};

/* What is done with lines of keys: a=crypto, fingerprint, setup, tls-id, key-mgmt, zrtp-hash, and the
 * profile. */
enum kg_sdp_keys {
    KG_SDP_KEYS_KEEP, /* they are between the two phones */
    KG_SDP_KEYS_OURS, /* the writer's go, kedge's come */
};

/* What the reader of the result understands. */
enum kg_sdp_kind {
    KG_SDP_LIKE_WRITER, /* the same: nothing of WebRTC is added or left out */
    KG_SDP_LEGACY,      /* no WebRTC: a=group, mid, msid, ssrc, extmap, rid, simulcast, rtcp-rsize, sctp go;
                           rtcp-fb too, unless the profile has feedback. Data channels are rejected */
    KG_SDP_WEB, /* WebRTC: each line has a=mid, the enabled ones share a BUNDLE group as kg_sdp_local says.
                   What is not RTP is rejected. The caller gives rtcp-mux, ICE and DTLS */
};
struct kg_sdp_reader {
    enum kg_sdp_kind kind;
    bool answers; /* the result answers `said` */
    /* What it said last: its offer, or what was agreed before an offer of ours; NULL: nothing yet. Its mids
     * are used (RFC 8829 5.2.2, 5.3.1), and in an answer its profiles. LIKE_WRITER: only these, where keys
     * are ours. */
    const struct kg_sdp *said;
};

struct kg_sdp_local {
    /* Advertised to the reader of the result. rtp none or without port: the line is written as rejected; its
     * host still serves for o= and c= where no other line has one. */
    struct kg_addr rtp, rtcp;
    const char *ufrag, *pwd;            /* KG_SDP_ICE_OURS */
    const struct kg_sdp_our_keys *ours; /* KG_SDP_KEYS_OURS; NULL: plain RTP/AVP */
    enum kg_sdp_ice ice;
    enum kg_sdp_keys keys;
    bool rtcp_mux; /* put a=rtcp-mux (then a=rtcp is dropped) */
    /* The result is an answer to an offer with rtcp-mux: component 1 only. False with rtcp_mux: an offer of
     * it, where component 2 is told too, for a reader that does not mux (KEEP: if the writer told it). */
    bool mux_agreed;
    /* The reader is known to understand a=ice-options:trickle. KEEP: false, the word and a=end-of-candidates
     * go. OURS: true, the word and a=end-of-candidates are put (half trickle, RFC 8840 4.1.3.2). */
    bool trickle;
    /* KEEP: the reader's network is another one than the writer's: candidates with private addresses go, of
     * whatever type they say they are. The writer cannot be reached there, checks that fail cost some phones
     * seconds each, and the reader would be made to knock at others in its own network (RFC 8445 19.5.1). */
    bool apart;
    /* KEEP: a default destination that is one of the writer's own candidates stays: after the selection it is
     * the writer's end of the selected pair (RFC 8839 4.4.1.2.2), and some phones send to it at once. Where
     * it is our port, the two have selected differently, and the writer's only other candidate takes its
     * place. */
    bool selected;
    bool mismatch; /* NONE: put a=ice-mismatch, the reader's candidates could not be used (RFC 8839 4.2.5) */
    /* KG_SDP_WEB: 1 + number of the m-line whose transport this one shares; its own number: it is in the
     * BUNDLE group with a transport of its own (the first, and in a first offer all); 0: not in the group.
     * All that share have rtp of that one. kg_sdp_plan_bundle knows. */
    uint8_t bundle;
    /* KEEP, a=remote-candidates by component - 1: what the writer calls its peer's candidate, as the reader
     * knows it. `from` is our address on the writer's side, `to` the reader's own address (none: the line
     * goes). A line that names one of the reader's own candidates stays as it is. */
    struct {
        struct kg_addr from, to;
    } peer[2];
};
/* Sets kg_sdp_local.bundle of each line, for KG_SDP_WEB: in an answer the lines that the reader offered to
 * bundle and that have rtp here, which share the first one's transport; in an offer all lines with rtp whose
 * payload types do not collide (RFC 9143 9.1), with the transports that `agreed` tells: as
 * kg_media_stream.bundle of the reader's side, NULL: each its own. Lines that share get rtp and rtcp of the
 * one that they share. */
void kg_sdp_plan_bundle(const struct kg_sdp *sdp, const struct kg_sdp_reader *reader, const uint8_t *agreed,
                        struct kg_sdp_local *local, size_t count);

/* What was left out of a description that had to fit, for explain. */
struct kg_sdp_pruned {
    uint8_t candidates; /* left out because the text would not fit into `budget` */
    uint8_t useless; /* left out because the reader can never use them: mDNS, TCP, loopback, link-local ... */
    uint8_t codecs;  /* payload types of video left out for `budget` */
    uint8_t crypto;  /* a=crypto lines of ours left out for `budget` */
    bool too_big;    /* does not fit even so */
};

/* Writes the description anew for the other side: o= and c= are ours, each enabled m-line gets our port,
 * a=rtcp where it is not port + 1, rtcp-mux as told, hold by c=0.0.0.0 becomes a direction attribute, ICE and
 * keys as kg_sdp_local says. Nothing of the writer's addresses survives but the candidates of
 * KG_SDP_ICE_KEEP. origin is brought up to date. Rejected lines stay rejected. count may be larger than the
 * number of m-lines: ports that a refused offer of one more line has left. Returns malloc'd NUL-terminated
 * text, or NULL (ENOMEM, or count is smaller). */
char *kg_sdp_rewrite(const struct kg_sdp *sdp, const struct kg_sdp_local *local, size_t count,
                     struct kg_sdp_origin *origin, size_t *len);
/* The same for a reader of another kind (NULL: like the writer), within `budget` bytes (0: no limit): first
 * a=crypto lines of ours go, AES_CM_128_HMAC_SHA1_80 and the last one never; then, for a reader of kind
 * LEGACY, video codecs that few phones have; then kept candidates are left out, the least useful first
 * (prune.c has the order: duplicates by address, second host address of one family, second relay of the
 * phone's own
 * ..., the only srflx last), both components of one together, never ours and never the last of a component.
 * If the text does not fit even so, it is returned nevertheless, with too_big set. pruned may be NULL. */
char *kg_sdp_rewrite_within(const struct kg_sdp *sdp, const struct kg_sdp_local *local, size_t count,
                            const struct kg_sdp_reader *reader, struct kg_sdp_origin *origin, size_t budget,
                            struct kg_sdp_pruned *pruned, size_t *len);

/* True if two descriptions of one side differ in nothing but what ICE and a new network change: o= version,
 * c=, ports, a=rtcp, every ICE attribute. Such an offer says nothing to the other side of an anchored call.
 */
bool kg_sdp_same_but_transport(const struct kg_sdp *a, const struct kg_sdp *b);
/* The same, and keys and profile may differ too, and what a reader of that kind does not get: nothing of it
 * concerns the other side of a call whose keys end at kedge. */
bool kg_sdp_same_but_keys(const struct kg_sdp *a, const struct kg_sdp *b, enum kg_sdp_kind reader);
/* ufrag or pwd of an enabled m-line differ (RFC 8839 4.4.1.1.1). */
bool kg_sdp_is_ice_restart(const struct kg_sdp *before, const struct kg_sdp *after);

#endif
