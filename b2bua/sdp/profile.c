/* The transports of m-lines (RFC 3551, 4585, 3711, 5124, 5764), and what they and the lines around them tell
 * of their writer. */
#include <string.h>

#include "b2bua/sdp/model.h"

static const struct {
    const char *name;
    bool secure, feedback, dtls;
} profiles[KG_SDP_PROFILES] = {
    [KG_SDP_NOT_RTP] = {"not RTP", false, false, false},
    [KG_SDP_AVP] = {"RTP/AVP", false, false, false},
    [KG_SDP_AVPF] = {"RTP/AVPF", false, true, false},
    [KG_SDP_SAVP] = {"RTP/SAVP", true, false, false},
    [KG_SDP_SAVPF] = {"RTP/SAVPF", true, true, false},
    [KG_SDP_TLS_SAVP] = {"UDP/TLS/RTP/SAVP", true, false, true},
    [KG_SDP_TLS_SAVPF] = {"UDP/TLS/RTP/SAVPF", true, true, true},
};

const char *kg_sdp_profile_name(enum kg_sdp_profile profile)
{
    return profiles[profile].name;
}

bool kg_sdp_profile_is_secure(enum kg_sdp_profile profile)
{
    return profiles[profile].secure;
}

bool kg_sdp_profile_has_feedback(enum kg_sdp_profile profile)
{
    return profiles[profile].feedback;
}

bool kg_sdp_profile_is_dtls(enum kg_sdp_profile profile)
{
    return profiles[profile].dtls;
}

enum kg_sdp_profile kg_sdp_profile_of(struct kg_sdp_text proto)
{
    for (int i = KG_SDP_AVP; i < KG_SDP_PROFILES; i++)
        if (kg_sdp_text_equal(proto,
                              (struct kg_sdp_text){profiles[i].name, (uint16_t)strlen(profiles[i].name)}))
            return (enum kg_sdp_profile)i;
    return KG_SDP_NOT_RTP;
}

bool kg_sdp_media_is_data(const struct kg_sdp_media *m)
{
    static const char *const protos[] = {"UDP/DTLS/SCTP", "DTLS/SCTP", "TCP/DTLS/SCTP", "SCTP/DTLS"};
    for (size_t i = 0; i < sizeof(protos) / sizeof(protos[0]); i++)
        if (kg_sdp_text_equal(m->proto, (struct kg_sdp_text){protos[i], (uint16_t)strlen(protos[i])}))
            return true;
    return false;
}

bool kg_sdp_is_data(const struct kg_sdp *sdp, size_t media)
{
    return media < sdp->media_count && kg_sdp_media_is_data(&sdp->media[media]);
}

static bool says(const struct kg_sdp *sdp, const struct kg_sdp_media *m, enum kg_sdp_attribute attribute)
{
    for (size_t i = 0; i < sdp->session_end; i++)
        if (sdp->line[i].type == 'a' && sdp->line[i].attribute == attribute)
            return true;
    for (size_t i = m->first; i < m->end; i++)
        if (sdp->line[i].type == 'a' && sdp->line[i].attribute == attribute)
            return true;
    return false;
}

bool kg_sdp_is_web(const struct kg_sdp *sdp)
{
    for (size_t i = 0; i < sdp->media_count; i++) {
        const struct kg_sdp_media *m = &sdp->media[i];
        enum kg_sdp_profile profile = kg_sdp_profile_of(m->proto);
        if (m->enabled && (profile == KG_SDP_SAVPF || profile == KG_SDP_TLS_SAVPF) && m->rtcp_mux &&
            m->mid.len > 0 && m->ice.ufrag && m->ice.pwd && says(sdp, m, KG_SDP_FINGERPRINT))
            return true;
    }
    return false;
}
