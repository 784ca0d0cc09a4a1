/* Names and sentences for the enums of media/client.h. */
#include "media/client.h"

const char *kg_proof_name(enum kg_proof proof)
{
    static const char *const name[] = {"none", "first-packets", "same-address", "sdp", "srtp", "ice"};
    return (unsigned)proof < sizeof name / sizeof name[0] ? name[proof] : "none";
}

const char *kg_ice_use_name(enum kg_ice_use use)
{
    static const char *const name[] = {"none", "agent", "steer"};
    return (unsigned)use < sizeof name / sizeof name[0] ? name[use] : "none";
}

const char *kg_media_error_text(enum kg_media_error error)
{
    static const char *const text[] = {
        [KG_MEDIA_OK] = "no error",
        [KG_MEDIA_NO_PORTS] = "every RTP port of media.ports is in use or resting; widen the range",
        [KG_MEDIA_NO_SOCKETS] = "the media engine is out of file descriptors or memory; raise its limits",
        [KG_MEDIA_BAD_ADDRESS] = "the media engine cannot use that local address; check media.address",
        [KG_MEDIA_UNKNOWN] = "the media engine does not know this call",
        [KG_MEDIA_TOO_BIG] = "the call has more media lines than kedge carries",
        [KG_MEDIA_GONE] = "the media engine does not answer",
    };
    return (unsigned)error < sizeof text / sizeof text[0] ? text[error] : "unknown media error";
}
