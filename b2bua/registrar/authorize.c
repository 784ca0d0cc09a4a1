/* Digest applied to SIP requests (RFC 3261 22, RFC 8760). */
#include <sofia-sip/nta_stateless.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/url.h>
#include <string.h>
#include <strings.h>

#include "b2bua/registrar/inside.h"
#include "b2bua/sip/sip.h"
#include "conf/clock.h"

static bool same_text(const char *a, const char *b)
{
    return strcasecmp(a ? a : "", b ? b : "") == 0;
}

/* RFC 7616 3.4.6: the digest's uri must name what the Request-URI names. A SIP ALG or an outbound proxy may
 * have changed the host on the way, so another name of ours is as good. */
static bool is_uri_of(const struct kg_registrar *registrar, const char *uri, const url_t *request)
{
    char copy[512];
    url_t url;
    size_t len = strlen(uri);

    if (len >= sizeof copy)
        return false;
    memcpy(copy, uri, len + 1);
    if (url_d(&url, copy) < 0 || !same_text(url.url_user, request->url_user))
        return false;
    return same_text(url.url_host, request->url_host) ||
           (kg_sip_is_us(registrar->server->sip, &url) && kg_sip_is_us(registrar->server->sip, request));
}

/* Credentials for our realm; of two, those with the better algorithm. */
static bool find_credentials(const struct kg_registrar *registrar, const sip_authorization_t *list,
                             struct kg_credentials *out)
{
    struct kg_credentials cred;
    bool md5_refused = registrar->server->config.registration.digest == KG_DIGEST_OFFER_SHA256;
    bool found = false;

    for (; list; list = list->au_next) {
        if (!list->au_scheme || strcasecmp(list->au_scheme, "Digest") != 0 ||
            kg_credentials_parse((const char *const *)list->au_params, &cred) ||
            (cred.algorithm == KG_DIGEST_MD5 && md5_refused) ||
            strcmp(cred.realm, registrar->server->config.sip.domain) != 0)
            continue;
        if (!found || cred.algorithm > out->algorithm)
            *out = cred;
        found = true;
    }
    return found;
}

enum kg_check kg_authorize_check(struct kg_registrar *registrar, const sip_authorization_t *list,
                                 const sip_t *sip, const struct kg_flow *flow, bool use,
                                 struct kg_credentials *cred)
{
    const struct kg_account *account;
    enum kg_digest_verdict verdict;

    if (!find_credentials(registrar, list, cred))
        return KG_CHECK_CHALLENGE;
    if (kg_standing_is_blocked(registrar, flow, cred->username))
        return KG_CHECK_BLOCKED;
    account = kg_accounts_find(registrar->accounts, cred->username);
    verdict = kg_digest_check(registrar->digest, cred, sip->sip_request->rq_method_name,
                              account ? &account->ha1 : NULL, kg_wall_ms(),
                              registrar->server->config.registration.nonce_lifetime_ms);
    if (verdict == KG_DIGEST_GOOD && !is_uri_of(registrar, cred->uri, sip->sip_request->rq_url))
        verdict = KG_DIGEST_WRONG;
    if (verdict == KG_DIGEST_GOOD && use)
        verdict = kg_digest_use(registrar->digest, cred);
    switch (verdict) {
    case KG_DIGEST_GOOD:
        kg_standing_good(registrar, flow, cred->username);
        return KG_CHECK_OK;
    case KG_DIGEST_REPEATED:
        return KG_CHECK_REPEATED;
    case KG_DIGEST_STALE:
        return KG_CHECK_STALE;
    case KG_DIGEST_WRONG:
        break;
    }
    kg_standing_wrong(registrar, flow, cred->username);
    return KG_CHECK_DENIED;
}

/* A phone must skip a challenge whose algorithm it does not know (RFC 8760 2.3), but many give up instead,
 * whatever else is offered (libre before 2.2, SIPp): hence the setting. Credentials by SHA-256 are good under
 * each. */
void kg_authorize_challenge(struct kg_registrar *registrar, struct kg_exchange *x, int status, bool stale)
{
    const char *realm = registrar->server->config.sip.domain;
    enum kg_digest_offer offer = registrar->server->config.registration.digest;
    char nonce[KG_NONCE_HEX], md5[512], sha256[512];
    /* RFC 8760 2.4: the best one first. */
    const char *first = offer == KG_DIGEST_OFFER_MD5 ? md5 : sha256;
    const char *second = offer == KG_DIGEST_OFFER_BOTH ? md5 : NULL;

    kg_counters.challenges++;
    kg_digest_nonce(registrar->digest, kg_wall_ms(), nonce);
    kg_digest_challenge(KG_DIGEST_SHA256, realm, nonce, stale, sha256, sizeof sha256);
    kg_digest_challenge(KG_DIGEST_MD5, realm, nonce, stale, md5, sizeof md5);
    if (status == 401)
        kg_exchange_reply(x, SIP_401_UNAUTHORIZED, SIPTAG_WWW_AUTHENTICATE_STR(first),
                          TAG_IF(second, SIPTAG_WWW_AUTHENTICATE_STR(second)), TAG_END());
    else
        kg_exchange_reply(x, SIP_407_PROXY_AUTH_REQUIRED, SIPTAG_PROXY_AUTHENTICATE_STR(first),
                          TAG_IF(second, SIPTAG_PROXY_AUTHENTICATE_STR(second)), TAG_END());
}
