/* What is left with the media engine so that a restarted signalling process can go on with a call in talk:
 * both dialogs (RFC 3261 12), where their peers are, and what was agreed. The engine does not look into it.
 */
#include "b2bua/call/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/su_string.h>

#include "b2bua/call/notes.h"
#include "b2bua/call/talk.h"
#include "b2bua/route/caps.h"
#include "b2bua/route/trunks.h"
#include "conf/clock.h"
#include "conf/digits.h"
#include "conf/log.h"

#define VERSION 4
/* Requests sent after the snapshot (INFO) used CSeq numbers that it does not know; a gap does no harm (RFC
 * 3261 12.2.2), a number used twice does. */
#define CSEQ_GAP 1000
/* Likewise the o= line may have changed since (RFC 3264 8 wants a version that grows). */
#define ORIGIN_GAP 100

/* ---- writing ---- */

static void put_addr(struct kg_notes *w, const char *name, const struct kg_addr *addr)
{
    char text[KG_ADDR_STR];
    kg_notes_put(w, name, kg_addr_format(addr, text));
}

/* The route set as one header value: "<sip:192.0.2.1;lr>, <...>". */
static char *route_text(const sip_route_t *route)
{
    size_t size = 1, used = 0;
    for (const sip_route_t *r = route; r; r = r->r_next)
        size += (size_t)url_len(r->r_url) + 5;
    char *text = route ? calloc(1, size) : NULL;
    for (const sip_route_t *r = route; r && text; r = r->r_next) {
        used += (size_t)snprintf(text + used, size - used, "%s<", used ? ", " : "");
        used += (size_t)url_e(text + used, (isize_t)(size - used), r->r_url);
        used += (size_t)snprintf(text + used, size - used, ">");
    }
    return text;
}

/* Masks and uses of the m-lines, two hex digits each. */
#define LINES_BYTES (6 + 6 * KG_MEDIA_STREAMS_MAX)

static void put_lines(struct kg_notes *w, const struct kg_leg_lines *lines)
{
    uint8_t byte[LINES_BYTES] = {lines->enabled, lines->mux,      lines->ice,
                                 lines->flows,   lines->feedback, lines->sealed};
    const uint8_t *const by_line[] = {lines->use,        lines->said,   lines->kind,
                                      lines->setup_said, lines->secure, lines->setup};
    char text[2 * LINES_BYTES + 1];
    for (size_t i = 0; i < sizeof by_line / sizeof by_line[0]; i++)
        memcpy(byte + 6 + i * KG_MEDIA_STREAMS_MAX, by_line[i], KG_MEDIA_STREAMS_MAX);
    kg_notes_put(w, "lines", kg_hex(text, byte, LINES_BYTES));
}

/* kedge's own ICE toward this leg, and where the relay found its peer. */
static void put_ice(struct kg_notes *w, const struct kg_leg *leg)
{
    static const char *const seen[] = {"seen1", "seen2"};
    if (!leg->ice.ufrag[0])
        return;
    kg_notes_put(w, "ufrag", leg->ice.ufrag);
    kg_notes_put(w, "pwd", leg->ice.pwd);
    kg_notes_put_number(w, "controlling", leg->ice.controlling);
    kg_notes_put_number(w, "trickles", leg->trickles);
    kg_notes_put_number(w, "update", leg->allows_update);
    if (kg_addr_is_set(&leg->ice.advertised))
        put_addr(w, "advertised", &leg->ice.advertised);
    for (int i = 0; i < 2; i++)
        if (kg_addr_is_set(&leg->seen[i]))
            put_addr(w, seen[i], &leg->seen[i]);
}

static void put_hex(struct kg_notes *w, const char *name, const uint8_t *bytes, size_t len)
{
    char text[2 * 64 + 1];
    kg_notes_put(w, name, kg_hex(text, bytes, len < 64 ? len : 64));
    OPENSSL_cleanse(text, sizeof text);
}

/* kedge's own keys toward this leg. They go to the engine, which has them anyhow, and nowhere else. */
static void put_keys(struct kg_notes *w, const struct kg_leg *leg)
{
    static const uint8_t as_it_came[KG_MEDIA_STREAMS_MAX];
    if (memcmp(leg->keys.shape, as_it_came, sizeof as_it_came) != 0)
        put_hex(w, "shape", leg->keys.shape, sizeof leg->keys.shape);
    if (!leg->keys.has_secret)
        return;
    put_hex(w, "secret", leg->keys.secret, sizeof leg->keys.secret);
    if (leg->keys.ours.hash != KG_FINGERPRINT_NONE) {
        kg_notes_put_number(w, "ours_hash", leg->keys.ours.hash);
        put_hex(w, "ours", leg->keys.ours.bytes, leg->keys.ours.len);
    }
    put_hex(w, "associations", leg->associations, sizeof leg->associations);
    put_hex(w, "dtls", (const uint8_t *)leg->dtls, sizeof leg->dtls);
}

/* why: of what is being agreed, the rest of what was. */
static void put_path(struct kg_notes *w, enum kg_path_why why, const struct kg_path *path)
{
    kg_notes_put_number(w, "why", why);
    kg_notes_put_number(w, "relayed", path->relayed);
    kg_notes_put_number(w, "fell_back", path->fell_back);
    kg_notes_put_number(w, "upgrades", path->upgrades);
}

static void put_leg(struct kg_notes *w, const struct kg_leg *leg)
{
    const struct kg_record_leg *record = &leg->call->record->leg[leg->side];
    const sip_route_t *route = NULL;
    const sip_contact_t *contact = NULL;
    nta_leg_get_route(leg->dialog, &route, &contact);
    char *routes = route_text(route);
    char *target = contact ? kg_url_text(contact->m_url) : NULL;
    kg_notes_put(w, "call_id", record->call_id);
    kg_notes_put(w, "user", record->user);
    kg_notes_put(w, "local", leg->local);
    kg_notes_put(w, "remote", leg->remote);
    kg_notes_put(w, "tag", nta_leg_get_tag(leg->dialog));
    kg_notes_put(w, "rtag", nta_leg_get_rtag(leg->dialog));
    kg_notes_put_number(w, "cseq", nta_leg_get_seq(leg->dialog));
    kg_notes_put_number(w, "rcseq", nta_leg_get_rseq(leg->dialog));
    kg_notes_put(w, "route", routes);
    kg_notes_put(w, "target", target);
    kg_notes_put_number(w, "transport", leg->flow.transport);
    put_addr(w, "at", &leg->flow.remote);
    put_addr(w, "from", &leg->flow.local);
    kg_notes_put_number(w, "pbx", leg->pbx);
    kg_notes_put(w, "trunk", leg->trunk ? kg_trunk_config(leg->trunk)->name : NULL);
    kg_notes_put_number(w, "nat", record->nat);
    put_lines(w, &leg->lines);
    put_ice(w, leg);
    put_keys(w, leg);
    if (leg->session.expires_s) {
        kg_notes_put_number(w, "expires", leg->session.expires_s);
        kg_notes_put_number(w, "refresher", leg->session.ours);
        int64_t ago = leg->call->fsm.state == KG_CALL_TALK ? kg_mono_ms() - leg->session.since_ms : 0;
        kg_notes_put_number(w, "refreshed", (uint64_t)(kg_wall_ms() - ago));
    }
    kg_notes_put_number(w, "options", leg->options);
    kg_notes_put_number(w, "no_refer", leg->refuses_refer);
    kg_notes_put_number(w, "min_se", leg->session.min_s);
    kg_notes_put_number(w, "origin", leg->origin.id);
    kg_notes_put_number(w, "version", leg->origin.version);
    free(routes);
    free(target);
}

size_t kg_snapshot_write(const struct kg_call *call, char *buf, size_t size)
{
    struct kg_notes w = {.buf = buf, .size = size};
    if (!call->leg[KG_SIDE_A].dialog || !call->leg[KG_SIDE_B].dialog)
        return 0;
    kg_notes_put_number(&w, "version", VERSION);
    kg_notes_put(&w, "from", call->record->from);
    kg_notes_put(&w, "to", call->record->to);
    kg_notes_put_number(&w, "started", (uint64_t)call->record->started_ms);
    kg_notes_put_number(&w, "answered", (uint64_t)call->record->answered_ms);
    put_path(&w, call->why, &call->path);
    kg_notes_put_number(&w, "secured", call->secured);
    kg_notes_put_number(&w, "policy", call->policy == KG_POLICY_DEFAULT ? 0 : 1 + (uint64_t)call->policy);
    if (call->cap)
        kg_notes_put(&w, "cap", kg_caps_name(call->cap));
    for (int side = 0; side < 2; side++) {
        w.prefix = (char)('a' + side);
        put_leg(&w, &call->leg[side]);
    }
    if (w.full) {
        kg_warn("call",
                "call %s: its dialogs do not fit into a snapshot; it would end if signalling restarted",
                call->record->id);
        return 0;
    }
    /* Last, and only if there is room: without it re-INVITEs work, but a failed one cannot be taken back. */
    for (int side = 0; side < 2; side++) {
        const struct kg_leg *leg = &call->leg[side];
        struct kg_notes before = w;
        w.prefix = (char)('a' + side);
        kg_notes_put(&w, "sdp", leg->sdp_pending ? leg->sdp_pending : leg->sdp_agreed);
        if (w.full)
            w = before;
    }
    return w.len;
}

/* ---- reading ---- */

struct reader {
    const char *text;
    size_t len;
    char prefix;
};

static char *get(const struct reader *r, const char *name)
{
    char full[32];
    snprintf(full, sizeof full, "%c.%s", r->prefix, name);
    return kg_notes_get(r->text, r->len, full);
}

static uint64_t get_number(const struct reader *r, const char *name)
{
    char full[32];
    snprintf(full, sizeof full, "%c.%s", r->prefix, name);
    return kg_notes_get_number(r->text, r->len, full);
}

static struct kg_addr get_addr(const struct reader *r, const char *name)
{
    struct kg_addr addr = {0};
    char *text = get(r, name);
    if (text)
        kg_addr_parse(text, &addr);
    free(text);
    return addr;
}

/* UDP, and streams to the PBX, go on from where they were; a phone's stream died with the process. */
static void restore_flow(const struct reader *r, struct kg_leg *leg)
{
    struct kg_flow flow = {0};
    struct kg_addr remote = get_addr(r, "at");
    enum kg_transport transport = (enum kg_transport)get_number(r, "transport");
    bool can_open = transport == KG_UDP || leg->pbx;
    if (!can_open || transport >= KG_TRANSPORTS ||
        kg_flow_to(leg->call->calls->agent, transport, &remote, &flow) != 0) {
        flow = (struct kg_flow){.transport = transport >= KG_TRANSPORTS ? KG_UDP : transport,
                                .remote = remote,
                                .local = get_addr(r, "from")};
        kg_leg_set_flow(leg, &flow);
        leg->lost = leg->call->record->leg[leg->side].lost = true;
        return;
    }
    kg_leg_set_flow(leg, &flow);
    kg_flow_clear(&flow);
}

static int restore_dialog(const struct reader *r, struct kg_leg *leg, su_home_t *home)
{
    char *call_id = leg->call->record->leg[leg->side].call_id;
    char *tag = get(r, "tag"), *rtag = get(r, "rtag"), *route = get(r, "route"), *target = get(r, "target");
    int failed = EINVAL;
    if (call_id && tag && rtag && leg->local && leg->remote) {
        char cseq[16];
        snprintf(cseq, sizeof cseq, "%u", (unsigned)get_number(r, "cseq") + CSEQ_GAP);
        leg->dialog = nta_leg_tcreate(
            leg->call->calls->agent, kg_leg_request, leg, SIPTAG_CALL_ID_STR(call_id),
            SIPTAG_FROM_STR(su_sprintf(home, "%s;tag=%s", leg->local, tag)),
            SIPTAG_TO_STR(su_sprintf(home, "%s;tag=%s", leg->remote, rtag)), SIPTAG_CSEQ_STR(cseq),
            NTATAG_REMOTE_CSEQ((unsigned)get_number(r, "rcseq")), TAG_END());
        leg->rcseq = (uint32_t)get_number(r, "rcseq");
        const sip_contact_t *contact = target ? sip_contact_format(home, "<%s>", target) : NULL;
        const sip_record_route_t *routes = route ? sip_record_route_make(home, route) : NULL;
        /* As if a request had brought it: nta keeps this order, and notices loose routing only here. */
        if (leg->dialog && nta_leg_server_route(leg->dialog, routes, contact) == 0)
            failed = 0;
    }
    free(tag);
    free(rtag);
    free(route);
    free(target);
    return failed;
}

static void restore_lines(const struct reader *r, struct kg_leg *leg)
{
    uint8_t byte[LINES_BYTES] = {0};
    char *text = get(r, "lines");
    for (size_t i = 0; text && strlen(text) == 2 * LINES_BYTES && i < LINES_BYTES; i++) {
        const char digits[3] = {text[2 * i], text[2 * i + 1], '\0'};
        byte[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    free(text);
    leg->lines = (struct kg_leg_lines){.enabled = byte[0],
                                       .mux = byte[1],
                                       .ice = byte[2],
                                       .flows = byte[3],
                                       .feedback = byte[4],
                                       .sealed = byte[5]};
    uint8_t *const by_line[] = {leg->lines.use,        leg->lines.said,   leg->lines.kind,
                                leg->lines.setup_said, leg->lines.secure, leg->lines.setup};
    static const uint8_t most[] = {KG_ICE_STEER,      KG_SHAPE_WEB,   KG_SECURE_DTLS,
                                   KG_SETUP_HOLDCONN, KG_SECURE_DTLS, KG_SETUP_HOLDCONN};
    for (size_t n = 0; n < sizeof by_line / sizeof by_line[0]; n++)
        for (size_t i = 0; i < KG_MEDIA_STREAMS_MAX; i++) {
            uint8_t value = byte[6 + n * KG_MEDIA_STREAMS_MAX + i];
            by_line[n][i] = value <= most[n] ? value : 0;
        }
    for (size_t i = 0; i < KG_MEDIA_STREAMS_MAX; i++) /* plain RTP that is sealed has ZRTP */
        leg->lines.zrtp |= leg->lines.kind[i] == KG_SECURE_PLAIN ? leg->lines.sealed & (uint8_t)(1u << i) : 0;
    leg->agreed = leg->lines;
}

static void restore_secret(const struct reader *r, const char *name, char *out, size_t size)
{
    char *text = get(r, name);
    if (text && strlen(text) == size - 1)
        memcpy(out, text, size);
    free(text);
}

static void restore_ice(const struct reader *r, struct kg_leg *leg)
{
    restore_secret(r, "ufrag", leg->ice.ufrag, sizeof leg->ice.ufrag);
    restore_secret(r, "pwd", leg->ice.pwd, sizeof leg->ice.pwd);
    leg->ice.controlling = get_number(r, "controlling");
    leg->ice.advertised = get_addr(r, "advertised");
    leg->trickles = get_number(r, "trickles");
    leg->allows_update = get_number(r, "update");
    leg->seen[0] = get_addr(r, "seen1");
    leg->seen[1] = get_addr(r, "seen2");
}

static size_t get_hex(const struct reader *r, const char *name, uint8_t *out, size_t size)
{
    char *text = get(r, name);
    size_t len = text ? strlen(text) / 2 : 0;
    for (size_t i = 0; i < len && i < size; i++) {
        const char digits[3] = {text[2 * i], text[2 * i + 1], '\0'};
        out[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    if (text)
        OPENSSL_cleanse(text, strlen(text));
    free(text);
    return len < size ? len : size;
}

static void restore_keys(const struct reader *r, struct kg_leg *leg)
{
    get_hex(r, "shape", leg->keys.shape, sizeof leg->keys.shape);
    for (int i = 0; i < KG_MEDIA_STREAMS_MAX; i++)
        leg->keys.shape[i] =
            leg->keys.shape[i] < KG_SHAPE_COUNT ? leg->keys.shape[i] : (uint8_t)KG_SHAPE_AS_IT_CAME;
    leg->keys.has_secret =
        get_hex(r, "secret", leg->keys.secret, sizeof leg->keys.secret) == sizeof leg->keys.secret;
    leg->keys.ours.hash = (uint8_t)get_number(r, "ours_hash");
    leg->keys.ours.len = (uint8_t)get_hex(r, "ours", leg->keys.ours.bytes, sizeof leg->keys.ours.bytes);
    get_hex(r, "associations", leg->associations, sizeof leg->associations);
    get_hex(r, "dtls", (uint8_t *)leg->dtls, sizeof leg->dtls);
}

static void restore_path(const struct reader *r, struct kg_call *call)
{
    uint64_t why = kg_notes_get_number(r->text, r->len, "why");
    call->why = why < KG_WHY_COUNT ? (enum kg_path_why)why : KG_WHY_UNDECIDED;
    uint64_t secured = kg_notes_get_number(r->text, r->len, "secured");
    call->secured = secured < KG_SECURED_COUNT ? (enum kg_secure_why)secured : KG_SECURED_UNDECIDED;
    call->path.fell_back = kg_notes_get_number(r->text, r->len, "fell_back");
    call->path.upgrades = (uint8_t)kg_notes_get_number(r->text, r->len, "upgrades");
    kg_path_agreed(call);
    bool relayed = kg_notes_get_number(r->text, r->len, "relayed");
    kg_path_event(call, &(struct kg_path_event){.type = KG_PATH_EV_RELAYED, .relayed = relayed});
}

/* One that was removed meanwhile is a server that asks for no proof. */
static void restore_trunk(const struct reader *r, struct kg_leg *leg)
{
    char *name = get(r, "trunk");
    if (name)
        kg_leg_set_trunk(leg, kg_trunks_named(leg->call->calls->server->trunks, name));
    free(name);
}

static void restore_rules(const struct reader *r, struct kg_call *call)
{
    const struct kg_server *server = call->calls->server;
    uint64_t policy = kg_notes_get_number(r->text, r->len, "policy");
    char *cap = kg_notes_get(r->text, r->len, "cap");
    if (policy > 0 && policy <= KG_POLICY_DEFAULT)
        call->policy = (enum kg_policy)(policy - 1);
    if (cap)
        call->cap = kg_caps_ask(server->caps, cap, NULL, kg_mono_ms()).user;
    free(cap);
}

static int restore_leg(const struct reader *r, struct kg_leg *leg)
{
    struct kg_record_leg *record = &leg->call->record->leg[leg->side];
    su_home_t home[1] = {SU_HOME_INIT(home)};
    record->call_id = get(r, "call_id");
    record->user = get(r, "user");
    record->nat = get_number(r, "nat");
    record->pbx = leg->pbx = get_number(r, "pbx");
    restore_trunk(r, leg);
    leg->local = get(r, "local");
    leg->remote = get(r, "remote");
    leg->sdp_agreed = get(r, "sdp");
    restore_lines(r, leg);
    restore_ice(r, leg);
    restore_keys(r, leg);
    kg_talk_recall(leg);
    leg->origin = (struct kg_sdp_origin){.id = get_number(r, "origin"),
                                         .version = get_number(r, "version") + ORIGIN_GAP};
    leg->session = (struct kg_session_timer){.expires_s = (uint32_t)get_number(r, "expires"),
                                             .min_s = (uint32_t)get_number(r, "min_se"),
                                             .ours = get_number(r, "refresher"),
                                             .since_ms = (int64_t)get_number(r, "refreshed") - kg_wall_ms() +
                                                         kg_mono_ms()};
    kg_session_restored(leg);
    leg->options = (uint8_t)get_number(r, "options");
    leg->refuses_refer = get_number(r, "no_refer");
    restore_flow(r, leg);
    su_home_init(home);
    int failed = restore_dialog(r, leg, home);
    su_home_deinit(home);
    return failed;
}

int kg_snapshot_read(struct kg_calls *calls, const char *id, const void *data, size_t len)
{
    struct reader r = {.text = data, .len = len};
    if (kg_notes_get_number(r.text, r.len, "version") != VERSION || strlen(id) != KG_CALL_ID_LEN)
        return EINVAL;
    struct kg_call *call = kg_call_new(calls, id);
    if (!call)
        return ENOMEM;
    call->record->from = kg_notes_get(r.text, r.len, "from");
    call->record->to = kg_notes_get(r.text, r.len, "to");
    call->record->started_ms = (int64_t)kg_notes_get_number(r.text, r.len, "started");
    call->record->answered_ms = (int64_t)kg_notes_get_number(r.text, r.len, "answered");
    call->max_forwards = 69;
    kg_fsm_init_talk(&call->fsm);
    call->ports_unknown = true;
    restore_rules(&r, call);
    int failed = 0;
    for (int side = 0; side < 2 && !failed; side++) {
        r.prefix = (char)('a' + side);
        failed = restore_leg(&r, &call->leg[side]);
    }
    if (failed) {
        kg_call_end(call);
        return failed;
    }
    restore_path(&r, call);
    kg_record_note(call->record, KG_NOTE_TAKEN_OVER, KG_SIDE_A, NULL);
    if (call->record->answered_ms == 0) /* the snapshot was made a moment before the answer */
        call->record->answered_ms = call->record->started_ms;
    kg_info("call", "call %s: taken over after a restart: %s and %s are in talk", id,
            call->record->leg[KG_SIDE_A].user, call->record->leg[KG_SIDE_B].user);
    return 0;
}
