/* The REGISTERs of one trunk, and the proofs that its provider asks for. */
#include "b2bua/route/trunk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/msg_addr.h>
#include <sofia-sip/nta_tag.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/url.h>

#include "b2bua/route/peers.h"
#include "b2bua/sip/sip.h"
#include "conf/clock.h"
#include "conf/log.h"

#define URI_SIZE (KG_DOMAIN_MAX + 128)

static nta_agent_t *agent_of(const struct kg_trunk *trunk)
{
    return kg_sip_agent(trunk->trunks->server->sip);
}

/* ---- proofs ---- */

/* What is proven with. */
struct account {
    const char *user, *password;
    const char *wanted; /* realm; "*": any; "": the first that asks ... */
    char *learnt;       /* ... which is kept here */
    size_t size;
};

static struct account account_of(struct kg_trunk *trunk, enum kg_trunk_account which)
{
    const struct kg_trunk_config *config = &trunk->config;
    if (which == KG_ACCOUNT_PBX)
        return (struct account){config->pbx_user, config->pbx_password, "", trunk->pbx_realm,
                                sizeof trunk->pbx_realm};
    return (struct account){config->auth_user[0] ? config->auth_user : config->user, config->password,
                            config->realm, trunk->realm, sizeof trunk->realm};
}

static bool is_its_realm(const struct account *account, const char *realm)
{
    if (strcmp(account->wanted, "*") == 0)
        return true;
    if (account->wanted[0])
        return strcmp(account->wanted, realm) == 0;
    if (!account->learnt[0])
        snprintf(account->learnt, account->size, "%s", realm);
    return strcmp(account->learnt, realm) == 0;
}

/* The first one that kedge can answer: servers list what they like best first (RFC 8760 2.4). */
static bool find_challenge(const sip_www_authenticate_t *list, struct kg_challenge *out)
{
    for (; list; list = list->au_next)
        if (list->au_scheme && strcasecmp(list->au_scheme, "Digest") == 0 && list->au_params &&
            kg_challenge_parse((const char *const *)list->au_params, out) == 0)
            return true;
    return false;
}

static bool challenge_of(const sip_t *response, struct kg_challenge *out)
{
    bool proxy = response->sip_status->st_status == 407;
    return find_challenge(proxy ? response->sip_proxy_authenticate : response->sip_www_authenticate, out);
}

/* Whether an answer to the challenge may be given, and has not been given in vain. */
static bool is_provable(const struct kg_trunk *trunk, const struct account *account,
                        const struct kg_challenge *challenge, const sip_t *request)
{
    const sip_authorization_t *said =
        request->sip_authorization ? request->sip_authorization : request->sip_proxy_authorization;
    if (!account->password[0])
        return false;
    if (!is_its_realm(account, challenge->realm)) {
        kg_warn("trunk",
                "trunk %s: a server of it asks for the password of the realm \"%s\", which is not the "
                "trunk's; it is not "
                "answered. If it is right, set the trunk's realm to it, or to \"*\".",
                trunk->config.name, challenge->realm);
        return false;
    }
    return !said || challenge->stale;
}

static msg_t *copy_with_proof(struct kg_digest *digest, const struct account *account, nta_outgoing_t *orq,
                              const struct kg_challenge *challenge, bool proxy)
{
    char cnonce[33], value[2048], *uri;
    msg_t *sent = nta_outgoing_getrequest(orq), *msg = sent ? msg_copy(sent) : NULL;
    sip_t *sip = msg ? sip_object(msg) : NULL;
    msg_destroy(sent);
    if (!sip || !sip->sip_request || !sip->sip_via) {
        msg_destroy(msg);
        return NULL;
    }
    kg_random_hex(cnonce, sizeof cnonce - 1);
    uri = url_as_string(msg_home(msg), sip->sip_request->rq_url);
    sip_header_t *old = (sip_header_t *)(proxy ? sip->sip_proxy_authorization : sip->sip_authorization);
    msg_header_remove(msg, (msg_pub_t *)sip, (msg_header_t *)sip->sip_via);
    if (old)
        msg_header_remove(msg, (msg_pub_t *)sip, (msg_header_t *)old);
    if (!uri ||
        kg_challenge_answer(digest, challenge, account->user, account->password,
                            sip->sip_request->rq_method_name, uri, cnonce, value, sizeof value) != 0 ||
        msg_header_add_make(msg, (msg_pub_t *)sip,
                            proxy ? sip_proxy_authorization_class : sip_authorization_class, value) != 0) {
        msg_destroy(msg);
        return NULL;
    }
    return msg;
}

/* RFC 3261 22.2: the same request with the next CSeq. */
static bool count_on(msg_t *msg, nta_leg_t *dialog)
{
    sip_t *sip = sip_object(msg);
    const sip_request_t *rq = sip->sip_request;
    uint32_t next = sip->sip_cseq->cs_seq + 1;
    msg_header_remove(msg, (msg_pub_t *)sip, (msg_header_t *)sip->sip_cseq);
    if (!dialog) {
        sip_cseq_t *cseq = sip_cseq_create(msg_home(msg), next, rq->rq_method, rq->rq_method_name);
        return cseq && sip_header_insert(msg, sip, (sip_header_t *)cseq) == 0;
    }
    return nta_msg_request_complete(msg, dialog, rq->rq_method, rq->rq_method_name, NULL) == 0;
}

msg_t *kg_trunk_prove(struct kg_trunk *trunk, enum kg_trunk_account which, nta_leg_t *dialog,
                      nta_outgoing_t *orq, const sip_t *response, unsigned proofs)
{
    const struct account account = account_of(trunk, which);
    struct kg_challenge challenge;
    bool proxy = response->sip_status->st_status == 407;
    msg_t *sent = proofs < KG_TRUNK_PROOFS_MAX && challenge_of(response, &challenge)
                      ? nta_outgoing_getrequest(orq)
                      : NULL;
    bool may = sent && is_provable(trunk, &account, &challenge, sip_object(sent));
    msg_t *msg = may ? copy_with_proof(trunk->trunks->digest, &account, orq, &challenge, proxy) : NULL;
    msg_destroy(sent);
    if (msg && !count_on(msg, dialog)) {
        msg_destroy(msg);
        return NULL;
    }
    return msg;
}

/* ---- REGISTER ---- */

static int on_answer(nta_outgoing_magic_t *magic, nta_outgoing_t *orq, const sip_t *sip);

static void write_contact(const struct kg_trunk *trunk, char *out, size_t size)
{
    char url[KG_CONTACT_URL];
    kg_flow_contact_url(&trunk->trunks->server->config, &trunk->flow, trunk->line, url);
    snprintf(out, size, "<%s;line=%s>", url, trunk->line);
}

static struct kg_peers *peers_of(const struct kg_trunk *trunk)
{
    return trunk->trunks->server->peers;
}

static bool is_tried(const struct kg_trunk *trunk, uint32_t peer)
{
    for (unsigned i = 0; i < trunk->tried_count; i++)
        if (trunk->tried[i] == peer)
            return true;
    return false;
}

/* The way to the best server that was not asked since it was due. A trunk that was removed keeps the way it
 * had. False: there is none at the moment. */
static bool find_flow(struct kg_trunk *trunk)
{
    uint32_t peer[KG_FAILOVER_SERVERS];
    if (trunk->index == SIZE_MAX)
        return trunk->flow.tport != NULL;
    size_t count =
        kg_peers_pick(peers_of(trunk), (uint32_t)trunk->index + 1, trunk->peer, peer, KG_FAILOVER_SERVERS);
    for (size_t i = 0; i < count && trunk->tried_count < KG_FAILOVER_SERVERS; i++) {
        const struct kg_flow *flow =
            is_tried(trunk, peer[i]) ? NULL : kg_peers_flow(peers_of(trunk), peer[i]);
        if (!flow)
            continue;
        kg_flow_clear(&trunk->flow);
        kg_flow_copy(&trunk->flow, flow);
        trunk->peer = trunk->tried[trunk->tried_count++] = peer[i];
        return true;
    }
    return false;
}

/* Tells peers.h what became of the REGISTER that was sent. */
static void judge(struct kg_trunk *trunk, const sip_t *sip)
{
    bool busy = sip && sip->sip_status->st_status == 503;
    unsigned retry_after_s = busy && sip->sip_retry_after ? (unsigned)sip->sip_retry_after->af_delta : 0;
    if (trunk->unheard)
        kg_peers_heard(peers_of(trunk), trunk->peer);
    trunk->unheard = false;
    if (!sip || sip->sip_status->st_status >= 200)
        kg_peers_outcome(peers_of(trunk), trunk->peer,
                         !sip   ? KG_OUTCOME_SILENT
                         : busy ? KG_OUTCOME_BUSY
                                : KG_OUTCOME_GOOD,
                         retry_after_s);
}

static msg_t *make_register(struct kg_trunk *trunk)
{
    nta_agent_t *agent = agent_of(trunk);
    char uri[URI_SIZE], aor[URI_SIZE], from[URI_SIZE + 32], contact[2 * KG_CONTACT_URL], cseq[32],
        expires[16];
    msg_t *msg = nta_msg_create(agent, 0);
    sip_t *sip = msg ? sip_object(msg) : NULL;
    snprintf(uri, sizeof uri, "sip:%s%s%s", trunk->domain, trunk->port[0] ? ":" : "", trunk->port);
    snprintf(aor, sizeof aor, "<sip:%s@%s>", trunk->config.user, trunk->domain);
    snprintf(from, sizeof from, "%s;tag=%s", aor, trunk->tag);
    snprintf(cseq, sizeof cseq, "%u REGISTER", ++trunk->cseq);
    snprintf(expires, sizeof expires, "%u", trunk->enrol.asked_s);
    write_contact(trunk, contact, sizeof contact);
    sip_request_t *request =
        sip ? sip_request_create(msg_home(msg), SIP_METHOD_REGISTER, (url_string_t *)uri, NULL) : NULL;
    if (!request || sip_header_insert(msg, sip, (sip_header_t *)request) < 0 ||
        sip_add_tl(msg, sip, SIPTAG_FROM_STR(from), SIPTAG_TO_STR(aor), SIPTAG_CALL_ID_STR(trunk->call_id),
                   SIPTAG_CSEQ_STR(cseq), SIPTAG_CONTACT_STR(contact), SIPTAG_EXPIRES_STR(expires),
                   SIPTAG_MAX_FORWARDS_STR("70"), SIPTAG_SUPPORTED_STR("path"),
                   SIPTAG_USER_AGENT_STR(KG_SIP_SERVER), TAG_END()) < 0) {
        msg_destroy(msg);
        return NULL;
    }
    return msg;
}

static bool send_out(struct kg_trunk *trunk, msg_t *msg)
{
    char route[KG_FLOW_URL];
    if (!msg)
        return false;
    trunk->orq = nta_outgoing_mcreate(agent_of(trunk), on_answer, (nta_outgoing_magic_t *)trunk,
                                      URL_STRING_MAKE(kg_flow_route_url(&trunk->flow, route)), msg,
                                      NTATAG_TPORT(trunk->flow.tport), TAG_END());
    if (!trunk->orq)
        msg_destroy(msg);
    trunk->give_up_ms = kg_mono_ms() + KG_TRUNK_ANSWER_MS;
    if (trunk->orq) {
        kg_peers_asked(peers_of(trunk), trunk->peer);
        trunk->unheard = true;
    }
    return trunk->orq != NULL;
}

/* ---- and its answer ---- */

static const char *reason_of(int status)
{
    switch (status) {
    case 401:
    case 407:
        return "its user or password is wrong, or it asks for a realm that is not the trunk's";
    case 402:
    case 403:
        return "it refuses the account: look there whether it is still valid, and whether the password is "
               "right";
    case 404:
    case 604:
        return "it does not know the user: is `user` right, and `domain`?";
    case 408:
        return "it does not answer";
    default:
        return "it cannot at the moment";
    }
}

/* One line when something changes, not one a try. */
static void tell(struct kg_trunk *trunk)
{
    const struct kg_enrol *e = &trunk->enrol;
    int status = trunk->unasked ? KG_TRUNK_UNASKED : e->state == KG_ENROL_REGISTERED ? 200 : e->status;
    int64_t wait_s = (e->due_ms - kg_mono_ms() + 999) / 1000;
    if (trunk->said == status)
        return;
    if (e->state == KG_ENROL_REGISTERED)
        kg_info("trunk", "trunk %s is registered for %u s", trunk->config.name, e->granted_s);
    else if (e->state == KG_ENROL_REFUSED)
        kg_error("trunk",
                 "trunk %s: the provider answers %d to its registration: %s. Tried again in %lld s, or when "
                 "what was wrong is corrected and reloaded.",
                 trunk->config.name, e->status, reason_of(e->status), (long long)wait_s);
    else if (e->state == KG_ENROL_WAITING && trunk->unasked)
        kg_warn("trunk",
                "trunk %s cannot be registered: no server of it is up, has an address and can be reached "
                "(kedgectl peers). Tried again in %lld s, and so on.",
                trunk->config.name, (long long)wait_s);
    else if (e->state == KG_ENROL_WAITING)
        kg_warn("trunk", "trunk %s: registration failed with %d: %s. Tried again in %lld s, and so on.",
                trunk->config.name, e->status, reason_of(e->status), (long long)wait_s);
    else
        return;
    trunk->said = status;
}

/* What of our Contact the 200 says; else its Expires; 0: nothing. */
static uint32_t granted_by(const struct kg_trunk *trunk, const sip_t *sip)
{
    for (const sip_contact_t *contact = sip->sip_contact; contact; contact = contact->m_next)
        if (contact->m_url->url_user && strcmp(contact->m_url->url_user, trunk->line) == 0 &&
            contact->m_expires)
            return (uint32_t)strtoul(contact->m_expires, NULL, 10);
    return sip->sip_expires ? (uint32_t)sip->sip_expires->ex_delta : 0;
}

static void take_service_route(struct kg_trunk *trunk, const sip_t *sip)
{
    su_home_t home[1] = {SU_HOME_INIT(home)};
    su_home_init(home);
    free(trunk->service_route);
    trunk->service_route = NULL;
    if (sip->sip_service_route) {
        const char *text = "";
        for (const sip_service_route_t *r = sip->sip_service_route; r && text; r = r->r_next)
            text = su_sprintf(home, "%s%s%s", text, *text ? ", " : "",
                              sip_header_as_string(home, (const sip_header_t *)r));
        trunk->service_route = text ? strdup(text) : NULL;
    }
    su_home_deinit(home);
}

static void act(struct kg_trunk *trunk, enum kg_enrol_act what, msg_t *proof);

/* answered: by sip, or by silence (NULL). May free the trunk. */
static void take_answer(struct kg_trunk *trunk, nta_outgoing_t *orq, const sip_t *sip)
{
    struct kg_enrol_answer answer = {.status = sip ? sip->sip_status->st_status : 408};
    struct kg_challenge challenge = {.stale = false};
    msg_t *proof = NULL;
    trunk->unasked = sip && nta_sip_is_internal(sip); /* nta's words for what it could not send */
    if (answer.status == 401 || answer.status == 407) {
        proof = kg_trunk_prove(trunk, KG_ACCOUNT_PROVIDER, NULL, orq, sip, trunk->enrol.proofs);
        answer.provable = proof != NULL;
        answer.stale = challenge_of(sip, &challenge) && challenge.stale;
        if (proof)
            trunk->cseq++;
    } else if (sip) {
        answer.granted_s = answer.status < 300 ? granted_by(trunk, sip) : 0;
        answer.min_expires_s = sip->sip_min_expires ? (uint32_t)sip->sip_min_expires->me_delta : 0;
        answer.retry_after_s = sip->sip_retry_after ? (uint32_t)sip->sip_retry_after->af_delta : 0;
    }
    enum kg_enrol_act what = kg_enrol_answered(&trunk->enrol, &answer, kg_mono_ms(), kg_random_u16());
    if (what != KG_ENROL_PROVE && answer.status >= 200 && answer.status < 300) {
        take_service_route(trunk, sip);
        trunk->epoch = kg_peers_epoch(peers_of(trunk), trunk->peer);
    }
    if (what == KG_ENROL_NOTHING && trunk->enrol.state != KG_ENROL_LEAVING)
        tell(trunk);
    act(trunk, what, proof);
}

static void finish(struct kg_trunk *trunk)
{
    if (trunk->leaving && trunk->enrol.state == KG_ENROL_OFF) {
        trunk->leaving = false;
        kg_trunk_release(trunk);
    }
}

/* Silence and 503 are one server's: another one is asked at once. True: it was. */
static bool try_next(struct kg_trunk *trunk, const sip_t *sip)
{
    bool failed = !sip || sip->sip_status->st_status == 503 || sip->sip_status->st_status == 408;
    return failed && trunk->index != SIZE_MAX && find_flow(trunk) && send_out(trunk, make_register(trunk));
}

static int on_answer(nta_outgoing_magic_t *magic, nta_outgoing_t *orq, const sip_t *sip)
{
    struct kg_trunk *trunk = (struct kg_trunk *)magic;
    if (orq != trunk->orq)
        return 0;
    trunk->give_up_ms = INT64_MAX;
    judge(trunk, sip);
    if (sip && sip->sip_status->st_status < 200)
        return 0;
    trunk->orq = NULL;
    if (try_next(trunk, sip)) {
        nta_outgoing_destroy(orq);
        return 0;
    }
    take_answer(trunk, orq, sip);
    nta_outgoing_destroy(orq);
    finish(trunk);
    return 0;
}

/* ---- acting ---- */

/* Nothing was sent, or nothing came. */
static void fail(struct kg_trunk *trunk, bool asked)
{
    struct kg_enrol_answer answer = {.status = asked ? 408 : 503};
    trunk->unasked = !asked;
    kg_enrol_answered(&trunk->enrol, &answer, kg_mono_ms(), kg_random_u16());
    if (trunk->enrol.state != KG_ENROL_LEAVING)
        tell(trunk);
}

static void act(struct kg_trunk *trunk, enum kg_enrol_act what, msg_t *proof)
{
    if (what != KG_ENROL_PROVE)
        msg_destroy(proof);
    if (what == KG_ENROL_PROVE && !send_out(trunk, proof))
        fail(trunk, false);
    if (what == KG_ENROL_SEND)
        trunk->tried_count = 0;
    if (what == KG_ENROL_SEND && (!find_flow(trunk) || !send_out(trunk, make_register(trunk))))
        fail(trunk, false);
}

/* The server fell silent and is back: if it was restarted, it may have forgotten us. */
static void look_for_restart(struct kg_trunk *trunk, int64_t now_ms)
{
    uint32_t epoch = kg_peers_epoch(peers_of(trunk), trunk->peer);
    if (trunk->enrol.state != KG_ENROL_REGISTERED || trunk->index == SIZE_MAX || epoch == trunk->epoch ||
        !kg_peers_is_up(peers_of(trunk), trunk->peer))
        return;
    trunk->epoch = epoch;
    kg_enrol_lost(&trunk->enrol, now_ms, kg_random_u16());
}

void kg_trunk_tick(struct kg_trunk *trunk, int64_t now_ms)
{
    look_for_restart(trunk, now_ms);
    if (trunk->orq && now_ms >= trunk->give_up_ms) {
        nta_outgoing_destroy(trunk->orq);
        trunk->orq = NULL;
        judge(trunk, NULL);
        if (!try_next(trunk, NULL))
            fail(trunk, true);
    }
    enum kg_enrol_act what = kg_enrol_tick(&trunk->enrol, now_ms);
    act(trunk, what, NULL);
    finish(trunk);
}

void kg_trunk_drop(struct kg_trunk *trunk)
{
    if (trunk->orq)
        nta_outgoing_destroy(trunk->orq);
    trunk->orq = NULL;
    if (trunk->unheard)
        kg_peers_heard(peers_of(trunk), trunk->peer);
    trunk->unheard = false;
}

void kg_trunk_leave(struct kg_trunk *trunk)
{
    enum kg_enrol_act what = kg_enrol_leave(&trunk->enrol);
    kg_trunk_drop(trunk); /* its answer says nothing any more */
    act(trunk, what, NULL);
}
