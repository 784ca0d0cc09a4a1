/* What the writers of a description share. Internal to b2bua/sdp/. */
#ifndef KG_SDP_REWRITE_H
#define KG_SDP_REWRITE_H

#include "b2bua/sdp/model.h"

/* A text that grows. After a failed allocation nothing more is written. */
struct kg_sdp_out {
    char *s;
    size_t len, size;
    bool failed;
};
void kg_sdp_put(struct kg_sdp_out *out, const char *s, size_t len);
void kg_sdp_put_text(struct kg_sdp_out *out, const char *s);
void kg_sdp_put_number(struct kg_sdp_out *out, unsigned value);
void kg_sdp_out_clear(struct kg_sdp_out *out); /* it holds keys: overwritten and freed */
#define KG_SDP_PUT(out, literal) kg_sdp_put(out, literal, sizeof(literal) - 1)
/* A line as it was; the second only if no address is written in it. */
void kg_sdp_put_line(struct kg_sdp_out *out, const struct kg_sdp_line *line);
void kg_sdp_put_harmless(struct kg_sdp_out *out, const struct kg_sdp_line *line);

/* Payload types. */
struct kg_sdp_types {
    uint64_t bit[2];
};

/* What is still to be written of one media part. */
struct kg_sdp_part {
    const struct kg_sdp *sdp;
    const struct kg_sdp_media *media;
    const struct kg_sdp_local *local;
    const struct kg_sdp_local *transport; /* its own, or that of the m-line whose transport it has */
    const struct kg_sdp_reader *reader;
    size_t number;            /* of the m-line */
    struct kg_addr rtp, rtcp; /* default destination */
    bool on;                  /* not rejected, neither by its writer nor by us */
    enum kg_direction way;    /* sendrecv and its like, as the reader may be told */
    bool shares;              /* has the transport of another m-line (RFC 9143) */
    bool feedback;            /* the reader may read a=rtcp-fb */
    struct kg_sdp_types types_left_out;
    uint32_t crypto_left_out;        /* by number in local->ours->crypto */
    bool connection, direction, mux; /* not yet written */
    enum kg_sdp_ice ice;             /* as asked for, if that is possible */
    const bool *left_out;            /* by number of the part's candidate; NULL: none */
    uint8_t next_candidate;          /* number of the next one in the text */
    bool ours;                       /* our candidates are written */
    bool end_of_candidates;          /* written */
};

enum kg_sdp_ice kg_sdp_ice_mode(const struct kg_sdp_media *m, const struct kg_sdp_local *local);

/* What the session part of the result says of ICE. */
struct kg_sdp_ice_session {
    bool any;     /* an m-line keeps the writer's ICE */
    bool shared;  /* every m-line does: the session's lines hold for all, and stay where they are */
    bool trickle; /* every reader of one understands it */
};
struct kg_sdp_ice_session kg_sdp_ice_in_session(const struct kg_sdp *sdp, const struct kg_sdp_local *local);
/* One line of ICE in the session part. */
void kg_sdp_ice_put_session(struct kg_sdp_out *out, const struct kg_sdp *sdp,
                            const struct kg_sdp_ice_session *session, const struct kg_sdp_line *line);
/* One line of ICE in a media part, and what stands at the part's end. */
void kg_sdp_ice_put_line(struct kg_sdp_out *out, struct kg_sdp_part *part, const struct kg_sdp_line *line);
void kg_sdp_ice_put_end(struct kg_sdp_out *out, const struct kg_sdp_ice_session *session,
                        struct kg_sdp_part *part);
/* "candidate:..." as the reader gets it: without the related address, which tells of the writer's network and
 * helps nobody (RFC 8839 5.1). Returns its length. */
size_t kg_sdp_ice_candidate_text(const struct kg_candidate *candidate, char out[static KG_CANDIDATE_STR]);

/* keys_rewrite.c: no m-line has keys of ours: the session's lines of keys stay where they are. */
bool kg_sdp_keys_are_shared(const struct kg_sdp *sdp, const struct kg_sdp_local *local);
void kg_sdp_keys_put(struct kg_sdp_out *out, const struct kg_sdp_line *line); /* the writer's */
/* One line of keys in a media part, and what stands at the part's end. */
void kg_sdp_keys_put_line(struct kg_sdp_out *out, const struct kg_sdp_part *part,
                          const struct kg_sdp_line *line);
void kg_sdp_keys_put_end(struct kg_sdp_out *out, const struct kg_sdp_part *part, bool shared);
struct kg_sdp_text kg_sdp_proto(const struct kg_sdp_part *part); /* the transport of its m= line */
/* Chooses a=crypto lines of ours to be left out, as kg_sdp_prune does; left_out by m-line, bits by number. */
size_t kg_sdp_keys_prune(const struct kg_sdp *sdp, const struct kg_sdp_local *local,
                         const struct kg_sdp_reader *reader, size_t excess,
                         uint32_t left_out[static KG_SDP_MEDIA_MAX]);

/* format.c: what a reader of kind LEGACY has no use for whatever the room: repair that needs feedback. */
void kg_sdp_formats_leave_out(const struct kg_sdp *sdp, const struct kg_sdp_media *m,
                              struct kg_sdp_types *out);
/* Chooses codecs of a video line to be left out, until `saved` is `excess`; returns how many: first the
 * profiles of one codec but the first and, of H264, constrained baseline; then codecs but H264 and VP8, if
 * one of these is there. */
size_t kg_sdp_formats_prune(const struct kg_sdp *sdp, const struct kg_sdp_media *m, size_t excess,
                            size_t *saved, struct kg_sdp_types *out);
void kg_sdp_put_formats(struct kg_sdp_out *out, const struct kg_sdp_media *m,
                        const struct kg_sdp_types *left_out);
bool kg_sdp_line_is_left_out(const struct kg_sdp_line *line, const struct kg_sdp_types *left_out);

/* web_rewrite.c: the writer's direction; to a browser none that its offer excludes. */
enum kg_direction kg_sdp_web_direction(const struct kg_sdp_part *part);
/* Whether the m-line is enabled in the result. */
bool kg_sdp_web_is_on(const struct kg_sdp_part *part);
/* Whether a=rtcp-fb has a meaning in the result (RFC 4585 4.2). */
bool kg_sdp_feedback_passes(const struct kg_sdp_part *part);
/* Whether the reader gets this line of the writer's, if it is one of WebRTC. */
bool kg_sdp_web_passes(const struct kg_sdp_line *line, enum kg_sdp_kind kind);
void kg_sdp_web_put_mid(struct kg_sdp_out *out, const struct kg_sdp_part *part);
void kg_sdp_web_put_group(struct kg_sdp_out *out, const struct kg_sdp *sdp,
                          const struct kg_sdp_reader *reader, const struct kg_sdp_local *local);

/* crypto.c: what stands behind "a=crypto:". NULL, or a constant sentence that says why it cannot be used;
 * then out holds no keys, but tag and suite as far as they were read. */
const char *kg_sdp_crypto_read(const char *s, const char *end, struct kg_sdp_crypto *out);
void kg_sdp_put_crypto(struct kg_sdp_out *out, const struct kg_sdp_crypto *crypto);
/* fingerprint.c: the same of "a=fingerprint:", and a=setup. */
const char *kg_sdp_fingerprint_read(const char *s, const char *end, struct kg_fingerprint *out);
void kg_sdp_put_fingerprint(struct kg_sdp_out *out, const struct kg_fingerprint *fingerprint);
enum kg_dtls_setup kg_sdp_setup_read(const char *s, const char *end); /* KG_SETUP_NONE: none of them */
void kg_sdp_put_setup(struct kg_sdp_out *out, enum kg_dtls_setup setup);

/* prune.c: marks what the reader has no use for whatever the room, by number in sdp->candidate: component 2
 * where rtcp-mux is agreed, private hosts of another network, our own ports as the writer's peer-reflexive
 * addresses. Returns how many. */
size_t kg_sdp_leave_out(const struct kg_sdp *sdp, const struct kg_sdp_local *local, bool *left_out);
/* Chooses what is left out of the kept candidates so that the text becomes `excess` bytes shorter,
 * or as much as is possible. left_out is by number in sdp->candidate; what is set already stays. Returns how
 * many were set now. */
size_t kg_sdp_prune(const struct kg_sdp *sdp, const struct kg_sdp_local *local, size_t excess,
                    bool *left_out);

#endif
