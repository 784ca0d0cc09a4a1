/* A REGISTER to the PBX and its answer back: a leg of ours on each side. What the PBX must see to check the
 * digest goes end to end (user, URIs, credentials); where the phone is does not. */
#include <sofia-sip/msg_header.h>
#include <sofia-sip/nta_tag.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "b2bua/registrar/front.h"
#include "b2bua/sip/sip.h"
#include "conf/clock.h"
#include "conf/log.h"

/* When a phone that found no PBX should try again: spread over half a minute. Seconds. */
#define RETRY_AFTER_MIN 10
#define RETRY_AFTER_MAX 40

static int on_answer(nta_outgoing_magic_t *magic, nta_outgoing_t *orq, const sip_t *sip);

void kg_forward_put_off(struct kg_exchange *x, uint32_t seconds)
{
    char text[16];

    snprintf(text, sizeof text, "%u", seconds);
    kg_exchange_reply(x, SIP_503_SERVICE_UNAVAILABLE, SIPTAG_RETRY_AFTER_STR(text), TAG_END());
}

/* 503 with a time to come back, spread. */
static void refuse(struct kg_exchange *x)
{
    kg_forward_put_off(x, RETRY_AFTER_MIN + kg_random_u32() % (RETRY_AFTER_MAX - RETRY_AFTER_MIN + 1));
}

static struct kg_exchange exchange_of(struct kg_forward *f)
{
    struct kg_exchange x = {
        .agent = kg_registrar_agent(f->front->registrar), .irq = f->irq, .sip = f->sip, .flow = &f->flow};

    f->irq = NULL;
    return x;
}

static struct kg_peers *peers_of(const struct kg_forward *f)
{
    return f->front->registrar->server->peers;
}

/* The one asked has said something, or is given up. */
static void stop_waiting(struct kg_forward *f)
{
    if (f->waits)
        kg_peers_heard(peers_of(f), f->pbx);
    f->waits = false;
}

void kg_forward_free(struct kg_forward *f)
{
    if (f->front->next == f)
        f->front->next = f->next;
    DL_DELETE(f->front->forwards, f);
    f->front->forward_count--;
    stop_waiting(f);
    if (f->orq)
        nta_outgoing_destroy(f->orq);
    if (f->irq)
        nta_incoming_destroy(f->irq); /* answers 500 */
    if (f->request)
        msg_destroy(f->request);
    kg_flow_clear(&f->flow);
    free(f);
}

/* --- to the PBX -------------------------------------------------------------------------------------------
 */

/* One of the phone's URIs, with a host that may have become longer. */
#define URI_SIZE (KG_SIP_URI_MAX + KG_ADDR_STR + 32)

/* A URI of the phone's request as the PBX shall see it. */
static void write_uri(const struct kg_front *front, const url_t *url, const struct kg_flow *flow,
                      char out[static URI_SIZE])
{
    struct kg_sip_host text;
    url_t copy = *url;
    kg_sip_mean_server(front->registrar->server->sip, &copy, &flow->remote, &text);
    url_e(out, URI_SIZE, &copy);
}

/* RFC 5626: one of several flows of a phone unregisters. Its contact stays at the PBX. */
static bool has_other_flow(const struct kg_forward *f, unsigned i)
{
    const struct kg_binding *b = kg_bindings_of_device(f->front->registrar->bindings, f->names[i].device);

    for (; b; b = b->device_next)
        if (strcmp(b->token, f->names[i].token) != 0)
            return true;
    return false;
}

/* What this PBX did with a Path so far. */
static enum kg_path_at *path_at(struct kg_front *front, uint32_t pbx)
{
    unsigned i = 0;

    while (i < KG_PBX_MAX && front->path_at[i].pbx != pbx)
        i++;
    if (i == KG_PBX_MAX) {
        i = front->path_next++ % KG_PBX_MAX;
        front->path_at[i].pbx = pbx;
        front->path_at[i].at = KG_PATH_UNKNOWN;
    }
    return &front->path_at[i].at;
}

/* A PBX that ignores Path may hold the phone's own Contact, from before that was known. */
static bool takes_back(const struct kg_forward *f)
{
    return f->front->registrar->server->config.registration.path == KG_PATH_YES && f->wanted.count == 1 &&
           *path_at(f->front, f->pbx) == KG_PATH_IGNORED;
}

static void write_contacts(const struct kg_forward *f, const struct kg_flow *flow, char *out, size_t size)
{
    const struct kg_front *front = f->front;
    size_t used = 0;

    out[0] = '\0';
    if (f->wanted.all)
        snprintf(out, size, "*");
    for (unsigned i = 0; i < f->wanted.count && used < size; i++) {
        const struct kg_wish *wish = &f->wanted.wish[i];
        bool gruu = f->wanted.gruu && wish->instance[0] && !strchr(wish->instance, '"');
        char url[KG_CONTACT_URL];

        kg_flow_contact_url(&front->registrar->server->config, flow, f->names[i].device, url);
        used += (size_t)snprintf(out + used, size - used, "%s<%s>;expires=%u", i ? ", " : "",
                                 f->own_contact ? wish->uri : url,
                                 wish->expires_s == 0 && !has_other_flow(f, i) ? 0 : front->expires_s);
        if (gruu && used < size)
            used += (size_t)snprintf(out + used, size - used, ";+sip.instance=\"%s\"", wish->instance);
        if (takes_back(f) && used < size)
            used += (size_t)snprintf(out + used, size - used, ", <%s>;expires=0", wish->uri);
    }
}

/* See registration.path. Only where there is one contact: one Path cannot name several. */
static bool wants_path(const struct kg_forward *f)
{
    enum kg_path_at at = *path_at(f->front, f->pbx);

    switch (f->front->registrar->server->config.registration.path) {
    case KG_PATH_YES:
        return at != KG_PATH_IGNORED && f->wanted.count == 1;
    case KG_PATH_AUTO:
        return at == KG_PATH_TAKEN && f->wanted.count == 1;
    case KG_PATH_NO:
        break;
    }
    return false;
}

/* Expires goes with *, where there is no parameter to say it. */
static const char *expires_of(const struct kg_forward *f)
{
    return f->wanted.all ? "0" : NULL;
}

static nta_outgoing_t *send_to(struct kg_forward *f, const struct kg_flow *flow)
{
    struct kg_registrar *registrar = f->front->registrar;
    nta_agent_t *agent = kg_registrar_agent(registrar);
    const sip_t *sip = f->sip;
    char request_uri[URI_SIZE], from_uri[URI_SIZE], to_uri[URI_SIZE], route[KG_FLOW_URL],
        contacts[KG_WISHES_MAX * (KG_CONTACT_URL + 512 + 128 + 64)], path[KG_CONTACT_URL + 8] = "",
                                                                                           options[16];
    bool has_path = wants_path(f);
    char from[URI_SIZE + 32], to[URI_SIZE + 32], id[KG_AOR_SIZE + 256], call_id[33], tag[17], cseq[32],
        hops[16];
    msg_t *msg = nta_msg_create(agent, 0);
    sip_request_t *request;
    nta_outgoing_t *orq;

    write_uri(f->front, sip->sip_request->rq_url, flow, request_uri);
    write_uri(f->front, sip->sip_from->a_url, flow, from_uri);
    write_uri(f->front, sip->sip_to->a_url, flow, to_uri);
    f->own_contact = has_path && registrar->server->config.registration.path == KG_PATH_YES;
    write_contacts(f, flow, contacts, sizeof contacts);
    if (has_path) {
        char url[KG_CONTACT_URL];

        kg_flow_contact_url(&registrar->server->config, flow, f->names[0].device, url);
        snprintf(path, sizeof path, "<%s;lr>", url);
    }
    snprintf(options, sizeof options, "%s%s%s", has_path ? "path" : "",
             has_path && f->wanted.gruu ? ", " : "", f->wanted.gruu ? "gruu" : "");
    /* The same for every REGISTER in this row of the phone's (RFC 3261 10.2), with the phone's growing CSeqs,
     * also after a restart of kedge; and nobody can tell the phone's Call-ID from it. */
    snprintf(id, sizeof id, "%s\n%s", f->wanted.user, f->wanted.call_id);
    kg_digest_name(registrar->digest, f->own_contact ? "call-id own" : "call-id", id, call_id,
                   sizeof call_id);
    kg_digest_name(registrar->digest, "from-tag", id, tag, sizeof tag);
    snprintf(from, sizeof from, "<%s>;tag=%s", from_uri, tag);
    snprintf(to, sizeof to, "<%s>", to_uri);
    snprintf(cseq, sizeof cseq, "%u REGISTER", f->wanted.cseq);
    snprintf(hops, sizeof hops, "%lu", sip->sip_max_forwards ? sip->sip_max_forwards->mf_count - 1 : 70);
    request = msg ? sip_request_create(msg_home(msg), SIP_METHOD_REGISTER, (url_string_t *)request_uri, NULL)
                  : NULL;
    if (!request) {
        msg_destroy(msg);
        return NULL;
    }
    sip_header_insert(msg, sip_object(msg), (sip_header_t *)request);
    orq = nta_outgoing_mcreate(
        agent, on_answer, (nta_outgoing_magic_t *)f, URL_STRING_MAKE(kg_flow_route_url(flow, route)), msg,
        NTATAG_TPORT(flow->tport), SIPTAG_FROM_STR(from), SIPTAG_TO_STR(to), SIPTAG_CALL_ID_STR(call_id),
        SIPTAG_CSEQ_STR(cseq), SIPTAG_MAX_FORWARDS_STR(hops),
        TAG_IF(contacts[0], SIPTAG_CONTACT_STR(contacts)), SIPTAG_EXPIRES_STR(expires_of(f)),
        TAG_IF(path[0], SIPTAG_PATH_STR(path)), TAG_IF(options[0], SIPTAG_SUPPORTED_STR(options)),
        SIPTAG_AUTHORIZATION(sip->sip_authorization),
        SIPTAG_PROXY_AUTHORIZATION(sip->sip_proxy_authorization), SIPTAG_USER_AGENT(sip->sip_user_agent),
        TAG_END());
    if (!orq)
        msg_destroy(msg);
    return orq;
}

/* Asks the best PBX that was not asked yet; without one the phone gets 503 and f is gone. */
static void ask(struct kg_forward *f)
{
    struct kg_exchange x;

    while (f->choice_next < f->choices) {
        const struct kg_flow *flow;
        int64_t now_ms = kg_mono_ms(), elapsed_ms = now_ms - f->began_ms;

        if (elapsed_ms >= KG_FAILOVER_MS)
            break;
        f->pbx = f->choice[f->choice_next++];
        flow = kg_peers_flow(peers_of(f), f->pbx);
        f->give_up_ms = now_ms + kg_failover_wait_ms(elapsed_ms, (unsigned)(f->choices - f->choice_next));
        if (flow && (f->orq = send_to(f, flow))) {
            f->waits = true;
            kg_peers_asked(peers_of(f), f->pbx);
            return;
        }
        kg_peers_outcome(peers_of(f), f->pbx, KG_OUTCOME_UNREACHABLE, 0);
    }
    x = exchange_of(f);
    refuse(&x);
    kg_forward_free(f);
}

void kg_forward_start(struct kg_front *front, struct kg_exchange *x, const struct kg_register *wanted,
                      const struct kg_names names[KG_WISHES_MAX], uint32_t preferred_pbx)
{
    uint32_t configured_s = front->registrar->server->config.registration.pbx_expires_ms / 1000;
    struct kg_forward *f = front->forward_count < KG_FORWARDS_MAX ? calloc(1, sizeof *f) : NULL;

    if (!f) {
        refuse(x);
        return;
    }
    if (front->expires_s < configured_s)
        front->expires_s = configured_s;
    f->front = front;
    f->irq = x->irq;
    f->request = nta_incoming_getrequest(x->irq);
    f->sip = x->sip;
    f->wanted = *wanted;
    memcpy(f->names, names, sizeof f->names);
    kg_flow_copy(&f->flow, x->flow);
    kg_front_auth_user(x->sip, f->auth_user, sizeof f->auth_user);
    DL_APPEND(front->forwards, f);
    front->forward_count++;
    x->irq = NULL;
    f->began_ms = kg_mono_ms();
    f->choices = kg_peers_pick(peers_of(f), KG_GROUP_PBX, preferred_pbx, f->choice, KG_FAILOVER_SERVERS);
    ask(f);
}

/* --- and back ---------------------------------------------------------------------------------------------
 */

static void next_pbx(struct kg_forward *f, enum kg_outcome outcome, uint32_t retry_after_s)
{
    stop_waiting(f);
    kg_peers_outcome(peers_of(f), f->pbx, outcome, retry_after_s);
    if (f->orq)
        nta_outgoing_destroy(f->orq);
    f->orq = NULL;
    ask(f);
}

/* A connection that breaks when one of them is sent to another PBX ends others that wait on it, at once. */
void kg_forward_tick(struct kg_front *front, int64_t now_ms)
{
    struct kg_forward *f;

    for (front->next = front->forwards; (f = front->next);) {
        front->next = f->next;
        if (f->give_up_ms <= now_ms)
            next_pbx(f, KG_OUTCOME_SILENT, 0);
    }
}

static void pass_ok(struct kg_forward *f, const sip_t *answer)
{
    int64_t now_ms = kg_mono_ms();
    bool ok = kg_front_accept(f->front, f, answer, now_ms);
    struct kg_exchange x = exchange_of(f);

    if (!ok) {
        refuse(&x);
        return;
    }
    kg_standing_judge(f->front->registrar, &f->flow, f->sip, answer);
    kg_register_ok(f->front->registrar, &x, &f->wanted, answer->sip_authentication_info, now_ms);
}

static bool names_path(const msg_list_t *list)
{
    return list && msg_header_find_item((const msg_common_t *)list, "path");
}

/* RFC 3327 5.3: a registrar that has kept the Path says so in its 200. True: it has not, while the contact it
 * keeps is the phone's own, at which it would reach nobody; or it wants no Path. It is asked again without.
 */
static bool look_at_path(struct kg_forward *f, const sip_t *answer)
{
    enum kg_path_at *at = path_at(f->front, f->pbx);
    int status = answer->sip_status->st_status;

    if (f->own_contact && status < 300 && f->wanted.wish[0].expires_s != 0) {
        *at = answer->sip_path ? KG_PATH_TAKEN : KG_PATH_IGNORED;
        if (answer->sip_path)
            return false;
        kg_warn(
            "registrar",
            "the PBX at %s ignores Path (RFC 3327): phones are registered there with a Contact of kedge's",
            kg_peers_name(peers_of(f), f->pbx));
        return true;
    }
    if (status == 420 && names_path(answer->sip_unsupported) && *at != KG_PATH_IGNORED) {
        *at = KG_PATH_IGNORED;
        return true;
    }
    if (*at == KG_PATH_UNKNOWN && (names_path(answer->sip_supported) || names_path(answer->sip_require)))
        *at = KG_PATH_TAKEN;
    return false;
}

static void ask_again(struct kg_forward *f)
{
    const struct kg_flow *flow = kg_peers_flow(peers_of(f), f->pbx);
    struct kg_exchange x;

    nta_outgoing_destroy(f->orq);
    f->orq = flow ? send_to(f, flow) : NULL;
    if (f->orq) {
        f->waits = true;
        kg_peers_asked(peers_of(f), f->pbx);
        return;
    }
    x = exchange_of(f);
    refuse(&x);
    kg_forward_free(f);
}

/* What the phone's owner will ask about. Challenges are none of it, and 423 mends itself. */
static void say_refused(const struct kg_forward *f, int status)
{
    char what[80];
    const char *user = f->sip->sip_to->a_url->url_user;

    if (status == 401 || status == 407 || status == 423)
        return;
    snprintf(what, sizeof what, "the PBX at %s answers its registration with %d",
             kg_peers_name(peers_of(f), f->pbx), status);
    kg_registrar_complain(f->front->registrar, what, user ? user : "", &f->flow);
}

/* Refusals go back as they are: challenges unchanged, or the digest would not fit; nothing that names the
 * PBX's host. */
static void pass_back(struct kg_forward *f, const sip_t *answer)
{
    struct kg_front *front = f->front;
    int status = answer->sip_status->st_status;
    struct kg_exchange x = exchange_of(f);

    if (status == 401 || status == 407)
        kg_counters.challenges++;
    say_refused(f, status);
    kg_standing_judge(front->registrar, &f->flow, f->sip, answer);
    /* 10.3 step 7: our time was too short for the PBX. The phone, told so, asks again, and then we ask for
     * more. */
    if (status == 423 && answer->sip_min_expires && answer->sip_min_expires->me_delta > front->expires_s)
        front->expires_s = (uint32_t)answer->sip_min_expires->me_delta;
    /* RFC 4320 4.2: no 408 to anything but INVITE. A redirection would lead the phone past kedge. */
    if (status == 408 || status < 400)
        kg_exchange_reply(&x, SIP_503_SERVICE_UNAVAILABLE, TAG_END());
    else
        kg_exchange_reply(
            &x, status, answer->sip_status->st_phrase, SIPTAG_WWW_AUTHENTICATE(answer->sip_www_authenticate),
            SIPTAG_PROXY_AUTHENTICATE(answer->sip_proxy_authenticate),
            SIPTAG_RETRY_AFTER(answer->sip_retry_after), SIPTAG_MIN_EXPIRES(answer->sip_min_expires),
            SIPTAG_UNSUPPORTED(answer->sip_unsupported), TAG_END());
}

static int on_answer(nta_outgoing_magic_t *magic, nta_outgoing_t *orq, const sip_t *sip)
{
    struct kg_forward *f = (struct kg_forward *)magic;
    int status = nta_outgoing_status(orq);
    uint32_t retry_after_s = sip && sip->sip_retry_after ? (uint32_t)sip->sip_retry_after->af_delta : 0;

    stop_waiting(f);
    if (status < 200)
        return 0;
    if (!sip || !sip->sip_status || nta_sip_is_internal(sip)) {
        next_pbx(f, status == 408 ? KG_OUTCOME_SILENT : KG_OUTCOME_UNREACHABLE, 0);
        return 0;
    }
    if (look_at_path(f, sip)) {
        ask_again(f);
        return 0;
    }
    if (status == 503 && f->choice_next < f->choices) {
        next_pbx(f, KG_OUTCOME_BUSY, retry_after_s);
        return 0;
    }
    kg_peers_outcome(peers_of(f), f->pbx, status == 503 ? KG_OUTCOME_BUSY : KG_OUTCOME_GOOD, retry_after_s);
    if (status < 300)
        pass_ok(f, sip);
    else
        pass_back(f, sip);
    kg_forward_free(f);
    return 0;
}
