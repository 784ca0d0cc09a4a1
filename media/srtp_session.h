/* One libsrtp2 session: one direction, one set of keys, its SSRCs. Used by srtp.c. */
#ifndef KG_MEDIA_SRTP_SESSION_H
#define KG_MEDIA_SRTP_SESSION_H

#include <srtp2/srtp.h>

#include "media/keys.h"

enum { KG_SRTP_WINDOW = 128 }; /* packets that may come late; RFC 3711 3.3.2: at least 64 */

struct kg_srtp_session {
    srtp_t srtp;         /* NULL: none */
    uint8_t suite;       /* enum kg_srtp_suite */
    uint8_t mki_len;     /* of the first key; 0: no MKIs */
    uint8_t rtp_growth;  /* bytes that a packet becomes longer: tag and MKI */
    uint8_t rtcp_growth; /* and the SRTCP index */
    uint8_t rtcp_tag;
    uint8_t digest[32]; /* of its keys: they themselves are only in the ciphers */
};

/* direction: ssrc_any_inbound or ssrc_any_outbound. A session that is open already gets other keys; its SSRCs
 * keep their indexes. 0, EINVAL (nothing changed) or ENOMEM (closed). */
int kg_srtp_session_open(struct kg_srtp_session *session, const struct kg_srtp_keys *keys,
                         srtp_ssrc_type_t direction);
void kg_srtp_session_close(struct kg_srtp_session *session);
/* What keys are told apart by. False: they are not valid. */
bool kg_srtp_session_digest(const struct kg_srtp_keys *keys, uint8_t digest[32]);
bool kg_srtp_session_has(const struct kg_srtp_session *session, const struct kg_srtp_keys *keys);

/* As libsrtp2's calls; *len is changed and data is only if all is well. */
srtp_err_status_t kg_srtp_session_unprotect(struct kg_srtp_session *session, uint8_t *data, size_t *len);
srtp_err_status_t kg_srtp_session_unprotect_rtcp(struct kg_srtp_session *session, uint8_t *data, size_t *len);
srtp_err_status_t kg_srtp_session_protect(struct kg_srtp_session *session, uint8_t *data, size_t *len);
srtp_err_status_t kg_srtp_session_protect_rtcp(struct kg_srtp_session *session, uint8_t *data, size_t *len);

/* Receiving: makes the stream of an SSRC (host order) before any packet of it was authenticated, so that its
 * roll-over counter can be set. False without memory. */
bool kg_srtp_session_admit(struct kg_srtp_session *session, uint32_t ssrc);

#endif
