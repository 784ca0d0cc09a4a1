/* One dialog of a subscription: its peer, the way to it, whose phone it is. */
#include "b2bua/request/subscription.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_tag.h>
#include <utlist.h>

#include "b2bua/sip/sip.h"

/* Before the first request: nta would begin anywhere below 2^31, and the store could not tell whether it has.
 */
#define FIRST_CSEQ 1

/* ---- opening and closing ---- */

static char *copy_name(su_home_t *home, const char *display, const url_t *url)
{
    const char *name = kg_compose_name(home, display, url);
    return name ? strdup(name) : NULL;
}

static int set(char **field, char *text)
{
    free(*field);
    *field = text;
    return text ? 0 : ENOMEM;
}

/* The names and the Call-ID are kept for the store: nta does not give them back. */
static int make_dialog(struct kg_end *end, su_home_t *home, const char *call_id, const char *tag,
                       const char *remote_tag, uint32_t cseq, uint32_t remote_cseq)
{
    struct kg_requests *requests = end->subscription->requests;
    const char *us = su_sprintf(home, "%s;tag=%s", end->local, tag);
    const char *peer = remote_tag ? su_sprintf(home, "%s;tag=%s", end->remote, remote_tag) : end->remote;
    if (end->dialog)
        nta_leg_destroy(end->dialog);
    end->dialog = NULL;
    if (!us || !peer || set(&end->call_id, strdup(call_id)) != 0)
        return ENOMEM;
    /* Our tag from the start and not by nta_leg_tag: nta would hand requests without a To tag to this dialog
     * too. */
    end->dialog = nta_leg_tcreate(requests->agent, kg_end_request, end, SIPTAG_CALL_ID_STR(call_id),
                                  SIPTAG_FROM(sip_from_make(home, us)), SIPTAG_TO(sip_to_make(home, peer)),
                                  TAG_IF(remote_cseq, NTATAG_REMOTE_CSEQ(remote_cseq)),
                                  SIPTAG_CSEQ_STR(su_sprintf(home, "%u NOTIFY", cseq)), TAG_END());
    return end->dialog ? 0 : ENOMEM;
}

int kg_end_accept(struct kg_end *end, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow)
{
    char tag[KG_REQUEST_TAG + 1];
    su_home_t home[1] = {SU_HOME_INIT(home)};
    su_home_init(home);
    kg_requests_random_hex(tag, KG_REQUEST_TAG);
    int failed = ENOMEM;
    if (set(&end->local, copy_name(home, sip->sip_to->a_display, sip->sip_to->a_url)) == 0 &&
        set(&end->remote, copy_name(home, sip->sip_from->a_display, sip->sip_from->a_url)) == 0 &&
        make_dialog(end, home, sip->sip_call_id->i_id, tag, sip->sip_from->a_tag, FIRST_CSEQ,
                    sip->sip_cseq->cs_seq) == 0 &&
        nta_incoming_tag(irq, tag) &&
        nta_leg_server_route(end->dialog, sip->sip_record_route, sip->sip_contact) >= 0)
        failed = 0;
    su_home_deinit(home);
    kg_end_move(end, flow);
    return failed;
}

int kg_end_open(struct kg_end *end, const sip_t *sip, struct kg_peer from, const struct kg_target *target)
{
    struct kg_requests *requests = end->subscription->requests;
    const char *user = target->user[0] ? target->user : NULL;
    char call_id[KG_REQUEST_ID + 1], tag[KG_REQUEST_TAG + 1];
    su_home_t home[1] = {SU_HOME_INIT(home)};
    su_home_init(home);
    kg_requests_random_hex(call_id, KG_REQUEST_ID);
    kg_requests_random_hex(tag, KG_REQUEST_TAG);
    kg_end_move(end, &target->flow);
    const url_t *us = kg_compose_uri(home, requests, sip->sip_from->a_url, NULL, from, end->peer, &end->flow);
    const url_t *peer = kg_compose_uri(home, requests, sip->sip_to->a_url, user, from, end->peer, &end->flow);
    const url_t *where =
        kg_compose_uri(home, requests, sip->sip_request->rq_url, NULL, from, end->peer, &end->flow);
    char *text = target->contact[0] ? strdup(target->contact) : where ? kg_compose_text(where) : NULL;
    int failed = ENOMEM;
    if (set(&end->target, text) == 0 && us && peer &&
        set(&end->local, copy_name(home, sip->sip_from->a_display, us)) == 0 &&
        set(&end->remote, copy_name(home, sip->sip_to->a_display, peer)) == 0)
        failed = make_dialog(end, home, call_id, tag, NULL, FIRST_CSEQ, 0);
    su_home_deinit(home);
    return failed;
}

int kg_end_restore(struct kg_end *end, const char *call_id, const char *tag, const char *remote_tag,
                   uint32_t cseq, uint32_t remote_cseq, const char *routes, const char *target)
{
    su_home_t home[1] = {SU_HOME_INIT(home)};
    su_home_init(home);
    int failed = make_dialog(end, home, call_id, tag, remote_tag, cseq, remote_cseq);
    const sip_contact_t *contact = *target ? sip_contact_format(home, "<%s>", target) : NULL;
    const sip_record_route_t *route = *routes ? sip_record_route_make(home, routes) : NULL;
    /* As if a request had brought it: nta keeps this order. */
    if (!failed && nta_leg_server_route(end->dialog, route, contact) < 0)
        failed = ENOMEM;
    su_home_deinit(home);
    return failed;
}

static void leave_user(struct kg_end *end)
{
    struct kg_requests *requests = end->subscription->requests;
    struct kg_subscriber *user = end->user;
    if (!user)
        return;
    DL_DELETE(user->ends, end);
    user->count -= end->index == KG_SUBSCRIBER;
    if (!user->ends) {
        HASH_DEL(requests->subscribers, user);
        free(user->calls);
        free(user);
    }
    end->user = NULL;
}

void kg_end_close(struct kg_end *end)
{
    leave_user(end);
    if (end->dialog)
        nta_leg_destroy(end->dialog);
    end->dialog = NULL;
    kg_flow_clear(&end->flow);
    free(end->target);
    free(end->local);
    free(end->remote);
    free(end->call_id);
}

int kg_end_belongs(struct kg_end *end, const char *name)
{
    struct kg_requests *requests = end->subscription->requests;
    struct kg_subscriber *user = NULL;
    bool asks = end->index == KG_SUBSCRIBER;
    HASH_FIND_STR(requests->subscribers, name, user);
    if (user && asks && user->count >= requests->server->config.limits.subscriptions_per_user)
        return EDQUOT;
    if (!user) {
        user = calloc(1, sizeof *user);
        if (!user)
            return ENOMEM;
        snprintf(user->name, sizeof user->name, "%s", name);
        HASH_ADD_STR(requests->subscribers, name, user);
    }
    user->count += asks;
    DL_APPEND(user->ends, end);
    end->user = user;
    return 0;
}

/* ---- where it is ---- */

const char *kg_end_route_url(const struct kg_end *end, char buf[static KG_HOP_URL])
{
    if (end->peer.kind == KG_PEER_PHONE)
        return kg_flow_route_url(&end->flow, buf);
    return kg_flow_hop_url(&end->flow, end->dialog, buf);
}

void kg_end_contact(const struct kg_end *end, sip_contact_t contact[1], char buf[static KG_CONTACT_URL])
{
    const struct kg_subscription *subscription = end->subscription;
    sip_contact_init(contact);
    kg_flow_contact_url(&subscription->requests->server->config, &end->flow, subscription->id, buf);
    url_d(contact->m_url, buf);
}

bool kg_end_is_reachable(const struct kg_end *end)
{
    return end->peer.kind != KG_PEER_PHONE || kg_flow_is_up(&end->flow);
}

void kg_end_move(struct kg_end *end, const struct kg_flow *flow)
{
    struct kg_flow old = end->flow;
    kg_flow_copy(&end->flow, flow);
    kg_flow_clear(&old);
    end->away = false;
}
