/* The attributes that kedge does something with. */
#include <strings.h>

#include "b2bua/sdp/model.h"

#define ROW(name, ...)                                                                                       \
    {                                                                                                        \
        name, sizeof(name) - 1, __VA_ARGS__                                                                  \
    }

static const struct kg_sdp_attribute_row other = {"", 0, KG_SDP_OTHER, 0};

/* The frequent ones first: the search is linear. */
static const struct kg_sdp_attribute_row table[] = {
    ROW("rtpmap", KG_SDP_RTPMAP, 0), ROW("fmtp", KG_SDP_FMTP, 0),
    ROW("sendrecv", KG_SDP_DIRECTION, KG_SENDRECV), ROW("sendonly", KG_SDP_DIRECTION, KG_SENDONLY),
    ROW("recvonly", KG_SDP_DIRECTION, KG_RECVONLY), ROW("inactive", KG_SDP_DIRECTION, KG_INACTIVE),
    ROW("rtcp", KG_SDP_RTCP, 0), ROW("rtcp-mux", KG_SDP_RTCP_MUX, 0),
    ROW("rtcp-mux-only", KG_SDP_RTCP_MUX_ONLY, 0), ROW("bundle-only", KG_SDP_BUNDLE_ONLY, 0),
    ROW("mid", KG_SDP_MID, 0), ROW("rtcp-fb", KG_SDP_RTCP_FB, 0), ROW("extmap", KG_SDP_EXTMAP, 0),
    ROW("ssrc", KG_SDP_WEB_ONLY, 0), /* RFC 5576 */
    /* Keys */
    ROW("crypto", KG_SDP_CRYPTO, 0), ROW("fingerprint", KG_SDP_FINGERPRINT, 0), ROW("setup", KG_SDP_SETUP, 0),
    ROW("tls-id", KG_SDP_TLS_ID, 0), ROW("key-mgmt", KG_SDP_KEY_MGMT, 0),
    ROW("zrtp-hash", KG_SDP_ZRTP_HASH, 0), ROW("connection", KG_SDP_KEY_OTHER, 0), /* RFC 4145 */
    ROW("encryption", KG_SDP_KEY_OTHER, 0), /* snom: whether a=crypto is demanded */
    /* RFC 5939, 6871: other profiles and keys on offer */
    ROW("csup", KG_SDP_KEY_OTHER, 0), ROW("creq", KG_SDP_KEY_OTHER, 0), ROW("acap", KG_SDP_KEY_OTHER, 0),
    ROW("tcap", KG_SDP_KEY_OTHER, 0), ROW("pcfg", KG_SDP_KEY_OTHER, 0), ROW("acfg", KG_SDP_KEY_OTHER, 0),
    ROW("sescap", KG_SDP_KEY_OTHER, 0), ROW("lcfg", KG_SDP_KEY_OTHER, 0),
    /* RFC 8839, 8840 */
    ROW("candidate", KG_SDP_CANDIDATE, 0), ROW("ice-ufrag", KG_SDP_UFRAG, 0), ROW("ice-pwd", KG_SDP_PWD, 0),
    ROW("ice-options", KG_SDP_OPTIONS, 0), ROW("ice-lite", KG_SDP_LITE, 0),
    ROW("ice-pacing", KG_SDP_PACING, 0), ROW("ice-mismatch", KG_SDP_MISMATCH, 0),
    ROW("remote-candidates", KG_SDP_REMOTE_CANDIDATES, 0),
    ROW("end-of-candidates", KG_SDP_END_OF_CANDIDATES, 0),
    /* WebRTC (RFC 8829) */
    ROW("group", KG_SDP_GROUP, 0), ROW("msid", KG_SDP_WEB_ONLY, 0), ROW("msid-semantic", KG_SDP_WEB_ONLY, 0),
    ROW("ssrc-group", KG_SDP_WEB_ONLY, 0), ROW("extmap-allow-mixed", KG_SDP_WEB_ONLY, 0),
    ROW("rid", KG_SDP_WEB_ONLY, 0), ROW("simulcast", KG_SDP_WEB_ONLY, 0),
    ROW("rtcp-rsize", KG_SDP_WEB_ONLY, 0), ROW("sctp-port", KG_SDP_WEB_ONLY, 0),
    ROW("sctpmap", KG_SDP_WEB_ONLY, 0), ROW("max-message-size", KG_SDP_WEB_ONLY, 0),
    /* Other ways to write addresses. */
    ROW("source-filter", KG_SDP_DROPPED, 0), /* RFC 4570 */
    ROW("altc", KG_SDP_DROPPED, 0),          /* RFC 6947 */
    ROW("ccap", KG_SDP_DROPPED, 0),          /* RFC 7006 */
    ROW("alt", KG_SDP_DROPPED, 0),           /* CounterPath's, before ICE */
    ROW("X-nat", KG_SDP_DROPPED, 0),         /* pjsip: the writer's NAT type */
};

const struct kg_sdp_attribute_row *kg_sdp_attribute_find(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].len == len && strncasecmp(table[i].name, name, len) == 0)
            return &table[i];
    }
    return &other;
}
