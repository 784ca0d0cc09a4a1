/* Who may take a call over (Replaces, RFC 3891) or listen in (Join, RFC 3911). Where kedge has the passwords
 * it decides that, since a phone cannot: whoever watches a lamp knows the names of calls that ring, and they
 * stay the same when those are answered. In front of a PBX it is the PBX's business. */
#include "b2bua/call/call.h"

#include <stdlib.h>
#include <string.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/url.h>

#include "b2bua/call/dialogs.h"
#include "conf/clock.h"
#include "conf/log.h"

/* ms from a party's REFER to the INVITE of the one who takes its place; a person may be asked in between. */
#define HANDED_MS 60000

static struct kg_call *named_by(struct kg_calls *calls, const char *text)
{
    struct kg_dialog_id id;
    struct kg_leg *leg;
    if (!text || kg_dialog_parse(text, &id) != 0 || kg_dialog_find(calls, &id, &leg) == KG_DIALOG_FOREIGN)
        return NULL;
    return leg->call;
}

/* user NULL: the one who speaks is a server, of trunk or a PBX. */
static bool is_party(const struct kg_call *call, const char *user, const struct kg_trunk *trunk)
{
    bool found = false;
    for (int side = 0; side < 2; side++) {
        const struct kg_leg *leg = &call->leg[side];
        const char *name = call->record->leg[side].user;
        found |= user ? !leg->pbx && name && strcmp(name, user) == 0 : leg->pbx && leg->trunk == trunk;
    }
    return found;
}

static bool may_take(struct kg_calls *calls, const char *text, bool join, const char *user,
                     const struct kg_trunk *trunk)
{
    const struct kg_call *call = named_by(calls, text);
    if (!call || is_party(call, user, trunk) || kg_mono_ms() < call->handed_ms)
        return true;
    if (!join && user && call->fsm.state < KG_CALL_ANSWERING) /* picked up */
        return true;
    kg_warn("call", "call %s: %s may not %s: it is no party of it", call->record->id, user ? user : "a trunk",
            join ? "join it" : "take it over");
    return false;
}

bool kg_replaces_permits(struct kg_calls *calls, const sip_t *sip, const char *user,
                         const struct kg_trunk *trunk)
{
    su_home_t home[1] = {SU_HOME_INIT(home)};
    bool may = true;
    if (calls->server->config.pbx_count > 0)
        return true;
    su_home_init(home);
    if (sip->sip_replaces)
        may = may_take(calls, sip_header_as_string(home, (const sip_header_t *)sip->sip_replaces), false,
                       user, trunk);
    for (const sip_unknown_t *h = sip->sip_unknown; h && may; h = h->un_next)
        if (strcasecmp(h->un_name, "Join") == 0)
            may = may_take(calls, h->un_value, true, user, trunk);
    su_home_deinit(home);
    return may;
}

void kg_replaces_hand_over(const struct kg_leg *from, const char *headers)
{
    const char *user = from->pbx ? NULL : from->call->record->leg[from->side].user;
    for (size_t len = 0; headers && *headers; headers += len + (headers[len] == '&')) {
        len = strcspn(headers, "&");
        char text[3 * KG_DIALOG_TEXT + 64];
        size_t value = len - 9;
        if (len <= 9 || strncasecmp(headers, "Replaces=", 9) != 0 || value >= sizeof text)
            continue;
        memcpy(text, headers + 9, value);
        text[value] = '\0';
        url_unescape(text, text);
        struct kg_call *call = named_by(from->call->calls, text);
        if (call && (user || from->pbx) && is_party(call, user, from->trunk))
            call->handed_ms = kg_mono_ms() + HANDED_MS;
    }
}
