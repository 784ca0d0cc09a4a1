/* The parsed description. Internal to b2bua/sdp/. One allocation holds the struct, the tables and a copy of
 * the text; every pointer below points into it. In the copy each line ends with a NUL. */
#ifndef KG_SDP_MODEL_H
#define KG_SDP_MODEL_H

#include "b2bua/sdp/sdp.h"
#include "ice/agent/candidate.h"

#define KG_SDP_BYTES_MAX 65535
#define KG_SDP_LINES_MAX 2000

/* Not NUL-terminated. */
struct kg_sdp_text {
    const char *s;
    uint16_t len;
};

/* What a rewrite does with an attribute, and what the parser reads from it. */
enum kg_sdp_attribute {
    KG_SDP_OTHER,         /* unknown or harmless: kept unless an address is written in it */
    KG_SDP_DROPPED,       /* speaks of the writer's network */
    KG_SDP_DIRECTION,     /* sendrecv, sendonly, recvonly, inactive */
    KG_SDP_RTCP,          /* RFC 3605 */
    KG_SDP_RTCP_MUX,      /* RFC 5761 */
    KG_SDP_RTCP_MUX_ONLY, /* RFC 8858 */
    KG_SDP_RTPMAP,        /* RFC 8866 6.6 */
    KG_SDP_FMTP,          /* RFC 8866 6.15 */
    KG_SDP_BUNDLE_ONLY,   /* RFC 9143 */
    KG_SDP_MID,           /* RFC 5888 */
    KG_SDP_GROUP,         /* RFC 5888, 9143 */
    KG_SDP_RTCP_FB,       /* RFC 4585 */
    KG_SDP_EXTMAP,        /* RFC 8285 */
    KG_SDP_WEB_ONLY,      /* what no phone without WebRTC has a use for */
    /* Of keys; keys_rewrite.c says what becomes of them. */
    KG_SDP_CRYPTO,      /* RFC 4568 */
    KG_SDP_FINGERPRINT, /* RFC 8122 */
    KG_SDP_SETUP,       /* RFC 4145 */
    KG_SDP_TLS_ID,      /* RFC 8842 */
    KG_SDP_KEY_MGMT,    /* RFC 4567 */
    KG_SDP_ZRTP_HASH,   /* RFC 6189 */
    KG_SDP_KEY_OTHER,   /* speaks of keys; nothing is read from it */
    /* RFC 8839 5; ice_rewrite.c says what becomes of them. */
    KG_SDP_UFRAG,
    KG_SDP_PWD,
    KG_SDP_OPTIONS,
    KG_SDP_LITE,
    KG_SDP_PACING,
    KG_SDP_MISMATCH,
    KG_SDP_CANDIDATE,
    KG_SDP_REMOTE_CANDIDATES,
    KG_SDP_END_OF_CANDIDATES, /* RFC 8840 */
};

struct kg_sdp_attribute_row {
    const char *name;
    uint8_t len;
    uint8_t attribute; /* enum kg_sdp_attribute */
    uint8_t direction; /* enum kg_direction of KG_SDP_DIRECTION */
};
/* name without "a=" and without ":value". Never NULL: a row of KG_SDP_OTHER for what the table does not hold.
 */
const struct kg_sdp_attribute_row *kg_sdp_attribute_find(const char *name, size_t len);

struct kg_sdp_line {
    const char *value; /* after "a=", trailing blanks cut */
    uint16_t len;
    uint16_t argument; /* of an attribute: offset in value behind the ":", len if there is none */
    char type;         /* 'a' */
    uint8_t attribute; /* enum kg_sdp_attribute; only where type is 'a' */
    uint8_t verdict;   /* of KG_SDP_CANDIDATE: enum kg_candidate_verdict or enum kg_sdp_verdict */
};

/* Why a candidate that follows the grammar is not used; continues enum kg_candidate_verdict. */
enum kg_sdp_verdict {
    KG_SDP_LOOPBACK = KG_CANDIDATE_UNUSABLE + 1,
    KG_SDP_LINK_LOCAL,
    KG_SDP_TOO_MANY,
    KG_SDP_NOT_IN_MEDIA, /* stands in the session part */
};

/* What one level, the session or a media part, says of ICE. */
struct kg_sdp_ice_level {
    const char *ufrag, *pwd; /* the first ones, valid; NULL: none */
    bool bad;                /* an invalid one was there */
    bool lite, trickle, ice2, mismatch, end_of_candidates;
    uint16_t pacing_ms;
};

struct kg_sdp_connection {
    bool present;
    bool unspecified;    /* 0.0.0.0 or :: */
    struct kg_addr host; /* port 0; none if unspecified or a name */
};

struct kg_sdp_media {
    size_t first, end; /* lines [first, end); first is the m= line */
    struct kg_sdp_text kind, proto, formats;
    uint16_t port;
    bool enabled;                       /* has a port, and a transport that kedge relays: anything but TCP */
    bool rtp;                           /* an RTP profile */
    bool has_connection, has_direction; /* of its own */
    bool rtcp_mux, rtcp_mux_only, bundle_only;
    bool bundled;          /* bundle-only with port 0, in a BUNDLE group with an enabled line (RFC 9143 6) */
    uint8_t mid_extension; /* a=extmap of the mid (RFC 9143 15.2); 0: none */
    bool says_ice;         /* names anything of ICE, here or in the session part */
    bool does_ice;         /* `ice` is valid */
    bool mismatch;         /* its default destination is none of its candidates (RFC 8839 4.2.5) */
    struct kg_sdp_text mid;
    struct kg_sdp_ice_level own;
    struct kg_ice_description ice; /* the session's where it has none of its own; candidate is never NULL */
    const char *problem;           /* why its ICE is not used; constant */
    struct kg_sdp_connection connection; /* its own or the session's */
    enum kg_direction direction;         /* its own or the session's; hold by address taken into account */
    uint16_t rtcp_port;                  /* a=rtcp; 0: none */
    struct kg_addr rtcp_host;            /* none: as c= */
};

struct kg_sdp {
    size_t line_count, media_count;
    struct kg_sdp_line *line;
    struct kg_sdp_media *media;
    size_t session_end; /* lines [0, session_end) are the session's */
    struct kg_sdp_connection connection;
    enum kg_direction direction;
    bool says_ice;
    struct kg_sdp_ice_level ice;
    /* Of all media parts, in their order: the ones that are used. kg_ice_description.candidate points here.
     */
    struct kg_candidate *candidate;
    size_t candidate_count;
    bool has_name, has_time; /* s=, t= */
    char *text;              /* the copy */
    size_t text_len;
    bool has_keys; /* a=crypto is there: the copy is overwritten when it is freed */
};

/* An RFC 8840 fragment: no v= at its beginning. */
struct kg_sdp *kg_sdp_parse_fragment(const char *text, size_t len, char *error, size_t size);
/* ice.c: one attribute of ICE; m NULL in the session part. */
void kg_sdp_ice_attribute(struct kg_sdp *sdp, struct kg_sdp_media *m, struct kg_sdp_line *line);
/* ice.c: candidates and description of one media part when all of the text is read. `host`: the writer's
 * default destination; candidates on loopback are of use only where that is there too. */
void kg_sdp_ice_candidates(struct kg_sdp *sdp, struct kg_sdp_media *m, const struct kg_addr *host);
void kg_sdp_ice_finish(struct kg_sdp *sdp, struct kg_sdp_media *m);

/* codec.c: fills codec and codec_count. */
void kg_sdp_codecs(const struct kg_sdp *sdp, const struct kg_sdp_media *m, struct kg_media_stream *out);

/* bundle.c: the m-lines of the first BUNDLE group, in its order; an mid counts once. Returns their number. */
size_t kg_sdp_bundle_lines(const struct kg_sdp *sdp, uint8_t out[static KG_SDP_MEDIA_MAX]);
/* bundle.c: sets kg_sdp_media.bundled */
void kg_sdp_bundle_finish(struct kg_sdp *sdp);

/* profile.c */
enum kg_sdp_profile kg_sdp_profile_of(struct kg_sdp_text proto);
bool kg_sdp_media_is_data(const struct kg_sdp_media *m);

/* The next word of [*p, end), blanks skipped; empty at the end. */
struct kg_sdp_text kg_sdp_word(const char **p, const char *end);
/* Digits only, at most max. Returns false if it is not that. */
bool kg_sdp_number(const char *s, size_t len, uint32_t max, uint32_t *out);
bool kg_sdp_text_equal(struct kg_sdp_text a, struct kg_sdp_text b);  /* ASCII case ignored */
void kg_sdp_copy(char *out, size_t size, const char *s, size_t len); /* with NUL; cut to size */
/* Whether an IPv4 or IPv6 address is written anywhere in the text. */
bool kg_sdp_holds_address(const char *s, size_t len);

#endif
