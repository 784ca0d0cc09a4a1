/* A call in plain sentences. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "b2bua/call/explain.h"

/* Someone in talk whose last packet is older than this is not heard at the moment. ms; comfort noise and
 * discontinuous transmission send at least every few seconds. */
#define STALE_MS 10000

void kg_say(json_t *list, const char *format, ...)
{
    char text[768];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    json_t *json = json_string(text);
    if (!json) { /* not UTF-8 */
        for (char *c = text; *c; c++)
            if ((unsigned char)*c >= 0x80)
                *c = '?';
        json = json_string(text);
    }
    json_array_append_new(list, json);
}

const char *kg_record_name(const struct kg_record *record, enum kg_side side)
{
    const char *user = record->leg[side].user;
    if (user && *user)
        return user;
    return side == KG_SIDE_A ? "the caller" : "the callee";
}

static void explain_fate(const struct kg_record *record, const char *state, json_t *list)
{
    char why[KG_RECORD_WHY_SIZE];
    kg_say(list, "%s called %s (%s to %s).", kg_record_name(record, KG_SIDE_A),
           kg_record_name(record, KG_SIDE_B), record->from ? record->from : "?",
           record->to ? record->to : "?");
    if (!record->ended_ms)
        kg_say(list,
               record->answered_ms ? "The call is up (%s)." : "The call has not been answered yet (%s).",
               state);
    else if (record->answered_ms)
        kg_say(list, "It was answered after %.1f s and lasted %.1f s; it ended because %s.",
               (double)(record->answered_ms - record->started_ms) / 1000,
               (double)(record->ended_ms - record->answered_ms) / 1000, kg_record_why(record, why));
    else if (record->why)
        kg_say(list, "It failed with status %d: %s.", record->status, record->why);
    else
        kg_say(list, "It failed: %s.", kg_record_why(record, why));
}

static void explain_session(const struct kg_record *record, enum kg_side side, json_t *list)
{
    const struct kg_record_leg *leg = &record->leg[side];
    time_t end = (time_t)(leg->session_end_ms / 1000);
    struct tm tm;
    char at[16];
    if (!leg->session_end_ms || record->ended_ms || !gmtime_r(&end, &tm))
        return;
    strftime(at, sizeof at, "%H:%M:%S", &tm);
    kg_say(list, "The session with %s ends at %s UTC unless %s refreshes it before (RFC 4028).",
           kg_record_name(record, side), at,
           leg->session_ours ? "kedge"
           : leg->pbx        ? "its server"
                             : "its phone");
}

static void explain_diversions(const struct kg_record *record, json_t *list)
{
    if (record->contacts > 1)
        kg_say(list, "%u contacts were called, those with the same q at once.", record->contacts);
    for (uint8_t i = 0; i < record->diversion_count; i++) {
        const struct kg_record_diversion *d = &record->diversion[i];
        kg_say(list, "%.1f s after the INVITE %s's side diverted the call to %s (%d).",
               (double)d->after_ms / 1000, d->from, d->to, d->status);
    }
}

static void explain_leg(const struct kg_record *record, enum kg_side side, json_t *list)
{
    const struct kg_record_leg *leg = &record->leg[side];
    char remote[KG_ADDR_STR];
    if (!kg_addr_is_set(&leg->remote))
        return;
    if (leg->trunk) {
        kg_say(list, "%s is reached over the trunk %s at %s, signalling over %s.",
               kg_record_name(record, side), leg->trunk, kg_addr_format(&leg->remote, remote),
               kg_transport_name(leg->transport));
        return;
    }
    kg_say(list, "%s is %s at %s, signalling over %s%s.", kg_record_name(record, side),
           leg->pbx ? "behind the PBX" : "a phone", kg_addr_format(&leg->remote, remote),
           kg_transport_name(leg->transport),
           leg->pbx   ? ""
           : leg->nat ? ", behind a NAT"
                      : ", without a NAT in between");
    for (const char *line = leg->nat_reasons; line && *line;) {
        const char *end = strchrnul(line, '\n');
        kg_say(list, "How we know: %.*s.", (int)(end - line), line);
        line = *end ? end + 1 : end;
    }
    explain_session(record, side, list);
    if (leg->lost && !record->ended_ms)
        kg_say(list, "The signalling connection to %s is gone; requests to it wait until it connects again.",
               kg_record_name(record, side));
}

static void explain_keys(const struct kg_record *record, json_t *list)
{
    char secure[KG_RECORD_SECURE_SIZE];
    if (!record->secured || (!record->answered_ms && record->ended_ms))
        return;
    kg_say(list, "Keys: %s.", record->secured);
    for (int i = 0; i < 2; i++) {
        enum kg_side side = (enum kg_side)i;
        uint8_t use = record->leg[side].secure;
        const char *name = kg_record_name(record, side),
                   *suite = strchr(kg_record_secure(record, side, secure), ' ');
        if (use == KG_SECURE_SDES)
            kg_say(list, "Media between kedge and %s is SRTP with keys from SDP (SDES)%s%s.", name,
                   suite ? ":" : "", suite ? suite : "");
        else if (use == KG_SECURE_DTLS && suite)
            kg_say(list, "Media between kedge and %s is SRTP with keys by DTLS:%s.", name, suite);
        else if (use == KG_SECURE_DTLS)
            kg_say(list,
                   "Media between kedge and %s is to be SRTP with keys by DTLS, which has not come about.",
                   name);
    }
}

static const char *proof_words(enum kg_proof proof)
{
    static const char *const words[] = {
        [KG_PROOF_NONE] = "nothing yet",
        [KG_PROOF_FIRST_PACKETS] = "the first packets that came, nothing better",
        [KG_PROOF_SAME_ADDRESS] = "packets from the host that its signalling or SDP names",
        [KG_PROOF_SDP] = "packets from exactly the address in its SDP",
        [KG_PROOF_SRTP] = "authenticated SRTP",
        [KG_PROOF_ICE] = "ICE connectivity checks",
    };
    return words[proof];
}

/* DTLS has given no keys (yet): what comes cannot be read, and nothing may leave. */
static bool waits_for_keys(const struct kg_record *record, enum kg_side side)
{
    char secure[KG_RECORD_SECURE_SIZE];
    return record->leg[side].secure == KG_SECURE_DTLS && !strchr(kg_record_secure(record, side, secure), ' ');
}

/* Why does `listener` not hear `talker`? Both ends of one stream, the nearest cause first. */
static void explain_silence(const struct kg_record *record, enum kg_side talker, uint8_t stream, json_t *list)
{
    enum kg_side listener = kg_other_side(talker);
    const struct kg_media_stats *from = &record->stats[talker][stream];
    const struct kg_media_stats *to = &record->stats[listener][stream];
    const char *t = kg_record_name(record, talker), *l = kg_record_name(record, listener);
    char local[KG_ADDR_STR];
    kg_addr_format(&from->local, local);
    if (from->packets_in == 0 && from->dropped > 0 && waits_for_keys(record, talker))
        kg_say(list,
               "%s does not hear %s: %" PRIu64 " packets reached %s, but kedge and %s have agreed on no keys "
               "(DTLS), so they cannot be read.",
               l, t, from->dropped, local, t);
    else if (from->packets_in == 0 && from->dropped > 0)
        kg_say(list,
               "%s does not hear %s: %" PRIu64
               " packets reached %s, but from addresses that neither %s's SDP nor "
               "its signalling vouches for, so they were dropped.",
               l, t, from->dropped, local, t);
    else if (from->packets_in == 0 && from->srtp_bad > 0)
        kg_say(list,
               "%s does not hear %s: %" PRIu64 " packets came from %s that do not fit its keys: they were "
               "encrypted with others, or changed on the way.",
               l, t, from->srtp_bad, t);
    else if (from->packets_in == 0)
        kg_say(
            list,
            "%s does not hear %s because no packet arrived from %s's phone at %s; a firewall on the way, a "
            "wrong "
            "media address of kedge, or a muted phone are the usual causes.",
            l, t, t, local);
    else if (to->packets_out == 0 && waits_for_keys(record, listener))
        kg_say(list,
               "%s does not hear %s: packets arrive from %s, but kedge and %s have agreed on no keys (DTLS), "
               "without which nothing is sent.",
               l, t, t, l);
    else if (to->packets_out == 0)
        kg_say(list,
               "%s does not hear %s: packets arrive from %s, but kedge does not know yet where to send them, "
               "because "
               "%s's phone has sent nothing from behind its NAT (proof: %s).",
               l, t, t, l, kg_proof_name(to->proof));
    else if (!record->ended_ms && to->ice_use != KG_ICE_UNUSED && !kg_addr_is_set(&to->remote))
        kg_say(list,
               "%s hears nothing from %s at the moment: %s's phone answers no more ICE checks, so it is sent "
               "nothing.",
               l, t, l);
    else if (!record->ended_ms && from->last_packet_ms_ago > STALE_MS)
        kg_say(list,
               "%s hears nothing from %s at the moment: the last packet came %" PRId64
               " s ago (hold, mute, or "
               "the phone lost its network).",
               l, t, from->last_packet_ms_ago / 1000);
    else
        kg_say(list, "%s hears %s: %" PRIu64 " %s packets passed, %" PRIu64 " were lost on the way to kedge.",
               l, t, to->packets_out, from->kind, from->lost);
}

bool kg_record_is_direct(const struct kg_record *record, uint8_t stream)
{
    bool relayed = record->path && strcmp(record->path, "relayed by kedge") == 0;
    return !relayed && stream < record->stream_count && record->stats[KG_SIDE_A] &&
           record->stats[KG_SIDE_A][stream].ice_use == KG_ICE_STEER;
}

static void explain_stream(const struct kg_record *record, uint8_t stream, json_t *list)
{
    if (kg_record_is_direct(record, stream)) {
        kg_say(list,
               "Who hears whom, and since when, is not known here: the %s of this call does not pass kedge.",
               record->stats[KG_SIDE_A][stream].kind);
        return;
    }
    for (int i = 0; i < 2; i++) {
        enum kg_side side = (enum kg_side)i;
        const struct kg_media_stats *stats = &record->stats[side][stream];
        char remote[KG_ADDR_STR], local[KG_ADDR_STR];
        if (kg_addr_is_set(&stats->remote))
            kg_say(list, "%s's %s goes between its %s and our %s; proven by %s.",
                   kg_record_name(record, side), stats->kind, kg_addr_format(&stats->remote, remote),
                   kg_addr_format(&stats->local, local), proof_words(stats->proof));
    }
    explain_silence(record, KG_SIDE_A, stream, list);
    explain_silence(record, KG_SIDE_B, stream, list);
}

json_t *kg_record_explain(const struct kg_record *record, const char *state)
{
    json_t *list = json_array();
    explain_fate(record, state, list);
    explain_diversions(record, list);
    explain_leg(record, KG_SIDE_A, list);
    explain_leg(record, KG_SIDE_B, list);
    kg_explain_candidates(record, KG_SIDE_A, list);
    kg_explain_candidates(record, KG_SIDE_B, list);
    if (record->path && record->reason && (record->answered_ms || !record->ended_ms))
        kg_say(list, record->ended_ms ? "Media was %s: %s." : "Media is %s: %s.", record->path,
               record->reason);
    explain_keys(record, list);
    kg_explain_pairs(record, list);
    kg_explain_story(record, list);
    bool known = record->stats[KG_SIDE_A] && record->stats[KG_SIDE_B];
    if (record->answered_ms && !known)
        kg_say(list, "The media engine gave no figures, so nothing can be said of who hears whom.");
    for (uint8_t i = 0; record->answered_ms && known && i < record->stream_count; i++)
        if (kg_addr_is_set(&record->stats[KG_SIDE_A][i].local))
            explain_stream(record, i, list);
    return list;
}
