/* What ICE did in a call, in plain sentences. */
#include "b2bua/call/explain.h"
#include "b2bua/call/secure.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- candidates ---- */

static const char *type_words(uint8_t type)
{
    static const char *const words[] = {
        [KG_CANDIDATE_HOST] = "its own address",
        [KG_CANDIDATE_SRFLX] = "as a STUN server sees it",
        [KG_CANDIDATE_PRFLX] = "as its peer saw it",
        [KG_CANDIDATE_RELAY] = "a relay of its own",
    };
    return type < sizeof words / sizeof words[0] ? words[type] : "of an unknown type";
}

/* Appends to what is in text; what does not fit is left out. */
static void append(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append(char *text, size_t size, const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + used, size - used, format, args);
    va_end(args);
}

static void explain_mapping(const struct kg_record *record, enum kg_side side, json_t *list)
{
    const char *name = kg_record_name(record, side);
    switch (kg_record_mapping(record, side)) {
    case KG_MAPPING_UNKNOWN:
        break;
    case KG_MAPPING_NONE:
        kg_say(list, "%s's packets come from its own address: no NAT changes it.", name);
        break;
    case KG_MAPPING_CONE:
        kg_say(list,
               "%s's NAT gives a phone the same port towards everybody (cone): its packets came to kedge "
               "from the address that a STUN server had told it.",
               name);
        break;
    case KG_MAPPING_SYMMETRIC:
        kg_say(
            list,
            "%s's NAT gives each destination a port of its own (symmetric): its packets came to kedge from "
            "another port than a STUN server had told it.",
            name);
        break;
    }
}

void kg_explain_candidates(const struct kg_record *record, enum kg_side side, json_t *list)
{
    const struct kg_record_leg *leg = &record->leg[side];
    const char *name = kg_record_name(record, side);
    char text[600] = "", addr[KG_ADDR_STR];
    unsigned count = 0;
    for (uint8_t i = 0; i < leg->candidate_count; i++) {
        const struct kg_record_candidate *candidate = &leg->candidate[i];
        if (candidate->component != 1 || candidate->line != leg->candidate[0].line)
            continue;
        append(text, sizeof text, "%s%s (%s)", count++ ? ", " : "", kg_addr_format(&candidate->addr, addr),
               type_words(candidate->type));
    }
    if (count)
        kg_say(list, "%s's phone does ICE and can be reached at: %s.", name, text);
    if (leg->ice_problem)
        kg_say(list, "%s's phone does ICE, but not in this call: %s.", name, leg->ice_problem);
    unsigned unused = 0;
    for (size_t i = 0; i < KG_RECORD_UNUSED_MAX && leg->unused[i].reason; i++) {
        unused += leg->unused[i].count;
        kg_say(list, "%u of %s's candidates %s not used: %s.", leg->unused[i].count, name,
               leg->unused[i].count == 1 ? "was" : "were", leg->unused[i].reason);
    }
    const char *other = kg_record_name(record, kg_other_side(side));
    if (leg->useless > unused)
        kg_say(list,
               "%u of %s's candidates %s not told to %s, who is in another network and could not reach them.",
               leg->useless - unused, name, leg->useless - unused == 1 ? "was" : "were", other);
    if (leg->pruned)
        kg_say(list,
               "%u of %s's candidates were left out of what %s was told, the least useful ones, so that the "
               "request fits into a datagram.",
               leg->pruned, name, other);
    if (leg->too_big)
        kg_say(list,
               "What %s was told of %s does not fit into a datagram that is sure to pass (1300 bytes); "
               "fragments may get lost: TCP or TLS on that side avoids it.",
               other, name);
    explain_mapping(record, side, list);
}

/* ---- pairs ---- */

/* What the phone itself said of this address, or that it was seen in a check. */
static const char *remote_words(const struct kg_record *record, const struct kg_record_pair *pair)
{
    const struct kg_record_leg *leg = &record->leg[pair->side];
    for (uint8_t i = 0; i < leg->candidate_count; i++)
        if (kg_addr_equal(&leg->candidate[i].addr, &pair->remote))
            return type_words(leg->candidate[i].type);
    return pair->remote_type == KG_CANDIDATE_PRFLX ? "seen in its checks" : type_words(pair->remote_type);
}

/* Of a steered side: nothing may be sent to it on the relay's path, not yet or, without its consent, no more.
 */
static bool is_unused(const struct kg_record *record, const struct kg_record_pair *pair)
{
    if (!record->stats[pair->side] || pair->stream >= record->stream_count || pair->selected)
        return false;
    const struct kg_media_stats *stats = &record->stats[pair->side][pair->stream];
    return stats->ice_use == KG_ICE_STEER && !kg_addr_is_set(&stats->remote);
}

static void explain_pair(const struct kg_record *record, const struct kg_record_pair *pair, json_t *list)
{
    char local[KG_ADDR_STR], remote[KG_ADDR_STR], how[160] = "";
    if (pair->component != 1)
        return;
    switch (pair->state) {
    case KG_PAIR_SUCCEEDED:
        append(how, sizeof how, "%s", is_unused(record, pair) ? "has worked, is not in use now" : "works");
        if (pair->rtt_ms >= 0)
            append(how, sizeof how, ", round trip %" PRId32 " ms", pair->rtt_ms);
        if (pair->won_ms >= 0)
            append(how, sizeof how, ", found after %" PRId32 " ms", pair->won_ms);
        break;
    case KG_PAIR_FAILED:
        append(how, sizeof how, "does not work (%s)", pair->reason[0] ? pair->reason : "no answer");
        break;
    case KG_PAIR_IN_PROGRESS:
        append(how, sizeof how, "is being checked");
        break;
    default:
        append(how, sizeof how, "was not checked");
        break;
    }
    kg_say(list, "Between kedge's %s and %s's %s (%s): %s%s.", kg_addr_format(&pair->local, local),
           kg_record_name(record, (enum kg_side)pair->side), kg_addr_format(&pair->remote, remote),
           remote_words(record, pair), how,
           !pair->selected                             ? ""
           : kg_record_is_direct(record, pair->stream) ? "; it is kept ready"
                                                       : "; it is the one in use");
}

static bool has_family(const struct kg_record_leg *leg, int family)
{
    for (uint8_t i = 0; i < leg->candidate_count; i++)
        if (kg_addr_family(&leg->candidate[i].addr) == family)
            return true;
    return false;
}

static bool has_public(const struct kg_record_leg *leg)
{
    for (uint8_t i = 0; i < leg->candidate_count; i++)
        if (!kg_addr_is_private(&leg->candidate[i].addr))
            return true;
    return false;
}

/* Of a steered call that goes through the relay. */
static void explain_no_better(const struct kg_record *record, json_t *list)
{
    const struct kg_record_leg *a = &record->leg[KG_SIDE_A], *b = &record->leg[KG_SIDE_B];
    bool symmetric[2] = {kg_record_mapping(record, KG_SIDE_A) == KG_MAPPING_SYMMETRIC,
                         kg_record_mapping(record, KG_SIDE_B) == KG_MAPPING_SYMMETRIC};
    bool common = (has_family(a, AF_INET) && has_family(b, AF_INET)) ||
                  (has_family(a, AF_INET6) && has_family(b, AF_INET6));
    if (!a->candidate_count || !b->candidate_count)
        return;
    if (!common) {
        kg_say(list, "None better: one phone has only IPv4 addresses, the other only IPv6 ones.");
    } else if (symmetric[0] && symmetric[1]) {
        kg_say(list,
               "None better: both are behind NATs that give each destination its own port (symmetric), so "
               "neither can say where it will come from.");
    } else if (symmetric[0] || symmetric[1]) {
        enum kg_side side = symmetric[0] ? KG_SIDE_A : KG_SIDE_B;
        kg_say(list,
               "None better: %s is behind a NAT that gives each destination its own port (symmetric), and "
               "what is "
               "in front of %s lets in only ports that it was told of.",
               kg_record_name(record, side), kg_record_name(record, kg_other_side(side)));
    } else if (!has_public(a) && !has_public(b)) {
        kg_say(list, "None better: both phones name only addresses of their own networks; with a STUN server "
                     "set in both, they could name their public ones.");
    } else if (!has_public(a) || !has_public(b)) {
        kg_say(list,
               "None better: %s's phone names only addresses of its own network; with a STUN server set in "
               "it, it "
               "could name its public one.",
               kg_record_name(record, has_public(a) ? KG_SIDE_B : KG_SIDE_A));
    } else {
        kg_say(
            list,
            "None better: the checks between the phones themselves do not pass kedge, so which of them got "
            "lost is not known here; a firewall that blocks UDP between them is the usual cause.");
    }
}

void kg_explain_pairs(const struct kg_record *record, json_t *list)
{
    char a[KG_ADDR_STR], b[KG_ADDR_STR];
    for (uint8_t i = 0; i < record->pair_count; i++)
        explain_pair(record, &record->pair[i], list);
    if (kg_addr_is_set(&record->told[KG_SIDE_A]))
        kg_say(list, "An updated offer told kedge which pair the phones selected: %s's %s and %s's %s.",
               kg_record_name(record, KG_SIDE_A), kg_addr_format(&record->told[KG_SIDE_A], a),
               kg_record_name(record, KG_SIDE_B), kg_addr_format(&record->told[KG_SIDE_B], b));
    else if (kg_record_is_direct(record, 0))
        kg_say(
            list,
            "Which pair the phones selected is not known here: they check their paths without kedge, and no "
            "updated offer told it.");
    if (record->stats[KG_SIDE_A] && record->stream_count && !kg_record_is_direct(record, 0) &&
        record->stats[KG_SIDE_A][0].ice_use == KG_ICE_STEER)
        explain_no_better(record, list);
}

/* ---- story ---- */

static void explain_event(const struct kg_record *record, const struct kg_record_event *event, json_t *list)
{
    /* %s: the side's name, then an address if the note has one. */
    static const char *const words[KG_NOTE_COUNT] = {
        [KG_NOTE_TCP] = "%s offered media over TCP, which kedge does not relay; that line was rejected",
        [KG_NOTE_CONNECTED] = "ICE between kedge and %s was connected",
        [KG_NOTE_CONSENT_LOST] = "%s's phone stopped answering kedge's consent checks",
        [KG_NOTE_FAILED] = "ICE between kedge and %s found no path",
        [KG_NOTE_LEFT] = "%s's phone stopped answering the checks on the relay's path",
        [KG_NOTE_MOVED] = "%s's phone moved; its SIP came from another address",
        [KG_NOTE_MEDIA_MOVED] = "%s's media came from another address, and proved to be %s's",
        [KG_NOTE_RESTART] = "%s's phone restarted ICE",
        [KG_NOTE_RENEW] = "kedge restarted ICE with %s",
        [KG_NOTE_RENEW_REFUSED] = "that came to nothing: %s's phone refused it, or could not be reached",
        [KG_NOTE_PLAIN] =
            "%s's phone does not restart ICE, or found no path by it; kedge offered it media without ICE",
        [KG_NOTE_FALL_BACK] =
            "the phones' path was given up for %s's sake; kedge joined them, as the ICE peer of each",
        [KG_NOTE_UPGRADE] = "kedge tried to move the call to a direct path and asked %s first",
        [KG_NOTE_UPGRADED] = "both agreed: the phones look for a direct path",
        [KG_NOTE_NOT_UPGRADED] = "that came to nothing, and the call stayed where it was",
        [KG_NOTE_RELAYED] = "the phones' media began to flow through kedge's relay ports",
        [KG_NOTE_DIRECT] = "the phones' media left kedge's relay ports for a path of their own",
        [KG_NOTE_NO_PATH] = "no path to %s was left",
        [KG_NOTE_TAKEN_OVER] = "a restarted signalling process took the call over",
        [KG_NOTE_REFERRED] = "%s transferred the other side (REFER)",
        [KG_NOTE_ENGINE_LOST] = "the media process went away; its successor counts anew",
        [KG_NOTE_SECURED] = "kedge and %s agreed on keys (DTLS)",
        [KG_NOTE_NOT_SECURED] = "kedge and %s could not agree on keys (DTLS)",
        [KG_NOTE_REKEY] =
            "%s was offered new keys, since the media process had lost count of what the old ones had sent",
        [KG_NOTE_RESHAPED] = "%s did not take media as it was offered",
    };
    char text[300] = "", addr[KG_ADDR_STR];
    const char *name = kg_record_name(record, (enum kg_side)event->side), *p = words[event->note];
    while (*p) {
        size_t len = strcspn(p, "%");
        append(text, sizeof text, "%.*s", (int)len, p);
        p += len;
        if (*p) {
            append(text, sizeof text, "%s", name);
            p += 2;
        }
    }
    if (kg_addr_is_set(&event->addr))
        append(text, sizeof text, ": %s", kg_addr_format(&event->addr, addr));
    if (event->note == KG_NOTE_RESHAPED)
        append(text, sizeof text, " (%s), and was asked for %s", kg_shape_name((enum kg_shape)event->refused),
               kg_shape_name((enum kg_shape)event->asked));
    kg_say(list, "%.1f s after the INVITE: %s.", (double)event->after_ms / 1000, text);
}

/* Times since the INVITE are known to the media process that was there then. */
static bool engine_lost(const struct kg_record *record)
{
    for (uint8_t i = 0; i < record->event_count; i++)
        if (record->event[i].note == KG_NOTE_ENGINE_LOST)
            return true;
    return false;
}

static void explain_times(const struct kg_record *record, enum kg_side side, json_t *list)
{
    bool since_invite = !engine_lost(record);
    const struct kg_media_stats *stats = record->stats[side] ? &record->stats[side][0] : NULL;
    const char *name = kg_record_name(record, side);
    if (!stats || !kg_addr_is_set(&stats->local))
        return;
    if (since_invite && stats->ice_connected_ms >= 0 && stats->ice_use == KG_ICE_AGENT)
        kg_say(list, "From the INVITE to a first working pair with %s: %" PRId64 " ms.", name,
               stats->ice_connected_ms);
    if (since_invite && stats->packets_in && stats->first_packet_ms >= 0)
        kg_say(list, "From the INVITE to the first media of %s: %" PRId64 " ms.", name,
               stats->first_packet_ms);
    if (stats->moves)
        kg_say(list,
               "%s's media moved %" PRIu32
               " time%s; before it was believed the last time, nothing was heard for "
               "%" PRId64 " ms.",
               name, stats->moves, stats->moves == 1 ? "" : "s", stats->move_gap_ms);
}

void kg_explain_story(const struct kg_record *record, json_t *list)
{
    for (uint8_t i = 0; i < record->event_count; i++) {
        if (i == KG_RECORD_EVENTS_FIRST && record->events_lost)
            kg_say(list, "Then %u more things of this kind happened.", record->events_lost);
        explain_event(record, &record->event[i], list);
    }
    for (int side = 0; side < 2 && record->stream_count; side++)
        explain_times(record, (enum kg_side)side, list);
}
