#include "media/srtp_session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include <srtp2/crypto_types.h>

/* What libsrtp2 calls the suites. SRTCP always has the long tag (RFC 4568 6.2.2, 6188 3). GCM's tag belongs
 * to the cipher: libsrtp2 takes its length from a null authenticator. */
static const struct {
    srtp_cipher_type_id_t cipher;
    srtp_auth_type_id_t auth;
    uint8_t auth_key_len, rtp_tag, rtcp_tag;
} suites[KG_SRTP_SUITES] = {
    [KG_SRTP_AEAD_AES_256_GCM] = {SRTP_AES_GCM_256, SRTP_NULL_AUTH, 0, 16, 16},
    [KG_SRTP_AEAD_AES_128_GCM] = {SRTP_AES_GCM_128, SRTP_NULL_AUTH, 0, 16, 16},
    [KG_SRTP_AES_CM_256_SHA1_80] = {SRTP_AES_ICM_256, SRTP_HMAC_SHA1, 20, 10, 10},
    [KG_SRTP_AES_CM_256_SHA1_32] = {SRTP_AES_ICM_256, SRTP_HMAC_SHA1, 20, 4, 10},
    [KG_SRTP_AES_CM_128_SHA1_80] = {SRTP_AES_ICM_128, SRTP_HMAC_SHA1, 20, 10, 10},
    [KG_SRTP_AES_CM_128_SHA1_32] = {SRTP_AES_ICM_128, SRTP_HMAC_SHA1, 20, 4, 10},
};

static bool valid(const struct kg_srtp_keys *keys)
{
    if (keys->suite == KG_SRTP_NONE || keys->suite >= KG_SRTP_SUITES || keys->count < 1 ||
        keys->count > KG_SRTP_KEYS_MAX)
        return false;
    for (uint8_t i = 0; i < keys->count; i++)
        if (keys->key[i].mki_len > KG_SRTP_MKI_MAX || (keys->count > 1 && keys->key[i].mki_len == 0))
            return false;
    return true;
}

static int digest_of(const struct kg_srtp_keys *keys, uint8_t digest[32])
{
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    if (!sha)
        return ENOMEM;
    bool done =
        EVP_DigestInit_ex(sha, EVP_sha256(), NULL) == 1 && EVP_DigestUpdate(sha, &keys->suite, 1) == 1;
    for (uint8_t i = 0; done && i < keys->count; i++) {
        const struct kg_srtp_key *key = &keys->key[i];
        done = EVP_DigestUpdate(sha, &key->mki_len, 1) == 1 &&
               EVP_DigestUpdate(sha, key->mki, key->mki_len) == 1 &&
               EVP_DigestUpdate(sha, key->bytes, kg_srtp_suite_key_len((enum kg_srtp_suite)keys->suite)) == 1;
    }
    done = done && EVP_DigestFinal_ex(sha, digest, NULL) == 1;
    EVP_MD_CTX_free(sha);
    return done ? 0 : ENOMEM;
}

static srtp_crypto_policy_t policy_of(uint8_t suite, uint8_t tag)
{
    return (srtp_crypto_policy_t){.cipher_type = suites[suite].cipher,
                                  .cipher_key_len = (int)kg_srtp_suite_key_len((enum kg_srtp_suite)suite),
                                  .auth_type = suites[suite].auth,
                                  .auth_key_len = suites[suite].auth_key_len,
                                  .auth_tag_len = tag,
                                  .sec_serv = sec_serv_conf_and_auth};
}

int kg_srtp_session_open(struct kg_srtp_session *session, const struct kg_srtp_keys *keys,
                         srtp_ssrc_type_t direction)
{
    if (!valid(keys))
        return EINVAL;
    struct kg_srtp_keys copy = *keys; /* libsrtp2 wants to be able to write */
    srtp_master_key_t master[KG_SRTP_KEYS_MAX], *masters[KG_SRTP_KEYS_MAX];
    for (uint8_t i = 0; i < copy.count; i++) {
        master[i] = (srtp_master_key_t){
            .key = copy.key[i].bytes, .mki_id = copy.key[i].mki, .mki_size = copy.key[i].mki_len};
        masters[i] = &master[i];
    }
    srtp_policy_t policy = {.ssrc.type = direction,
                            .rtp = policy_of(copy.suite, suites[copy.suite].rtp_tag),
                            .rtcp = policy_of(copy.suite, suites[copy.suite].rtcp_tag),
                            .keys = masters,
                            .num_master_keys = copy.count,
                            .window_size = KG_SRTP_WINDOW};
    int error = digest_of(&copy, session->digest);
    if (error == 0 && (session->srtp ? srtp_update(session->srtp, &policy)
                                     : srtp_create(&session->srtp, &policy)) != srtp_err_status_ok)
        error = ENOMEM;
    if (error == 0) {
        session->suite = copy.suite;
        session->mki_len = copy.key[0].mki_len;
        session->rtcp_tag = suites[copy.suite].rtcp_tag;
        session->rtp_growth = (uint8_t)(suites[copy.suite].rtp_tag + session->mki_len);
        session->rtcp_growth = (uint8_t)(suites[copy.suite].rtcp_tag + session->mki_len + 4);
    } else {
        kg_srtp_session_close(session);
    }
    kg_srtp_keys_clear(&copy);
    return error;
}

void kg_srtp_session_close(struct kg_srtp_session *session)
{
    if (session->srtp)
        srtp_dealloc(session->srtp);
    OPENSSL_cleanse(session, sizeof *session);
}

bool kg_srtp_session_digest(const struct kg_srtp_keys *keys, uint8_t digest[32])
{
    return valid(keys) && digest_of(keys, digest) == 0;
}

bool kg_srtp_session_has(const struct kg_srtp_session *session, const struct kg_srtp_keys *keys)
{
    uint8_t digest[32];
    return session->srtp && kg_srtp_session_digest(keys, digest) &&
           CRYPTO_memcmp(digest, session->digest, sizeof digest) == 0;
}

static srtp_err_status_t done(srtp_err_status_t status, size_t *len, const int *length)
{
    if (status == srtp_err_status_ok)
        *len = (size_t)*length;
    return status;
}

srtp_err_status_t kg_srtp_session_unprotect(struct kg_srtp_session *session, uint8_t *data, size_t *len)
{
    int length = (int)*len;
    return done(srtp_unprotect_mki(session->srtp, data, &length, session->mki_len > 0), len, &length);
}

/* libsrtp2 (2.5) looks for the MKI of a report before a tag as long as that of RTP. Where the two differ the
 * MKI is taken out; the report must be of the first key. */
static srtp_err_status_t unprotect_rtcp_first_key(struct kg_srtp_session *session, uint8_t *data, size_t *len)
{
    uint8_t mki[KG_SRTP_MKI_MAX], *tag = data + *len - session->rtcp_tag, *at = tag - session->mki_len;
    memcpy(mki, at, session->mki_len);
    memmove(at, tag, session->rtcp_tag);
    int length = (int)*len - session->mki_len;
    srtp_err_status_t status = srtp_unprotect_rtcp(session->srtp, data, &length);
    if (status != srtp_err_status_ok) {
        memmove(tag, at, session->rtcp_tag);
        memcpy(at, mki, session->mki_len);
    }
    return done(status, len, &length);
}

srtp_err_status_t kg_srtp_session_unprotect_rtcp(struct kg_srtp_session *session, uint8_t *data, size_t *len)
{
    if (session->mki_len > 0 && suites[session->suite].rtp_tag != session->rtcp_tag)
        return unprotect_rtcp_first_key(session, data, len);
    int length = (int)*len;
    return done(srtp_unprotect_rtcp_mki(session->srtp, data, &length, session->mki_len > 0), len, &length);
}

srtp_err_status_t kg_srtp_session_protect(struct kg_srtp_session *session, uint8_t *data, size_t *len)
{
    int length = (int)*len;
    return done(srtp_protect_mki(session->srtp, data, &length, session->mki_len > 0, 0), len, &length);
}

srtp_err_status_t kg_srtp_session_protect_rtcp(struct kg_srtp_session *session, uint8_t *data, size_t *len)
{
    int length = (int)*len;
    return done(srtp_protect_rtcp_mki(session->srtp, data, &length, session->mki_len > 0, 0), len, &length);
}

/* libsrtp2 has no call for it, but protecting a report makes a stream with the keys of the template,
 * whichever its direction. The report goes nowhere. */
bool kg_srtp_session_admit(struct kg_srtp_session *session, uint32_t ssrc)
{
    uint32_t report[(8 + 16 + KG_SRTP_MKI_MAX + 4) / 4 + 1] = {htonl(0x80c90001), htonl(ssrc)};
    int len = 8;
    return srtp_protect_rtcp(session->srtp, report, &len) == srtp_err_status_ok;
}
