#include "b2bua/call/record.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/clock.h"

struct kg_record *kg_record_new(const char *id)
{
    struct kg_record *record = calloc(1, sizeof *record);
    if (record)
        snprintf(record->id, sizeof record->id, "%s", id);
    if (record)
        record->uses = 1;
    return record;
}

struct kg_record *kg_record_use(struct kg_record *record)
{
    record->uses++;
    return record;
}

bool kg_record_challenged(const struct kg_record *record)
{
    return !record->answered_ms && !record->why && (record->status == 401 || record->status == 407);
}

const char *kg_record_why(const struct kg_record *record, char out[static KG_RECORD_WHY_SIZE])
{
    const struct kg_record_leg *callee = &record->leg[KG_SIDE_B];

    if (record->why)
        return record->why;
    if (record->answered_ms)
        return "the other side failed";
    if (callee->trunk)
        snprintf(out, KG_RECORD_WHY_SIZE, "the trunk %s answered %d", callee->trunk, record->status);
    else if (callee->pbx)
        snprintf(out, KG_RECORD_WHY_SIZE, "the PBX answered %d", record->status);
    else
        snprintf(out, KG_RECORD_WHY_SIZE, "the callee's side answered %d", record->status);
    return out;
}

void kg_record_free(struct kg_record *record)
{
    if (!record || --record->uses > 0)
        return;
    free(record->from);
    free(record->to);
    for (int side = 0; side < 2; side++) {
        free(record->leg[side].user);
        free(record->leg[side].call_id);
        free(record->leg[side].nat_reasons);
        free(record->leg[side].trunk);
        free(record->stats[side]);
        free(record->leg[side].candidate);
    }
    free(record->pair);
    free(record->event);
    for (uint8_t i = 0; i < record->diversion_count; i++) {
        free(record->diversion[i].from);
        free(record->diversion[i].to);
    }
    free(record->diversion);
    for (size_t i = 0; i < KG_RECORD_KEPT_MAX; i++)
        free(record->kept[i]);
    free(record);
}

void kg_record_set_stats(struct kg_record *record, const struct kg_media_session_info *info)
{
    uint8_t count = info->stream_count < KG_MEDIA_STREAMS_MAX ? info->stream_count : KG_MEDIA_STREAMS_MAX;
    record->stream_count = count;
    for (int side = 0; side < 2; side++) {
        free(record->stats[side]);
        record->stats[side] = count ? malloc(count * sizeof *record->stats[side]) : NULL;
        if (record->stats[side])
            memcpy(record->stats[side], info->stats[side], count * sizeof *record->stats[side]);
        else
            record->stream_count = 0;
    }
    kg_record_set_pairs(record, info);
}

/* Without control characters and quotes: for header texts that go into sentences. Returns malloc'd. */
static char *copy_text(const char *text)
{
    size_t len = strlen(text);
    char *out = malloc(len + 1);
    if (!out)
        return NULL;
    for (size_t i = 0; i < len; i++)
        out[i] = iscntrl((unsigned char)text[i]) || text[i] == '"' ? '?' : text[i];
    out[len] = '\0';
    return out;
}

/* jansson refuses strings that are not UTF-8, and peers send those: bytes above ASCII are then replaced. */
static json_t *text_json(const char *text)
{
    json_t *json = json_string(text ? text : "");
    if (json || !text)
        return json;
    char *ascii = strdup(text);
    for (char *c = ascii; c && *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    json = ascii ? json_string(ascii) : NULL;
    free(ascii);
    return json;
}

/* RFC 3339 in UTC; null for 0. */
static json_t *time_json(int64_t ms)
{
    char text[40];
    struct tm tm;
    time_t seconds = (time_t)(ms / 1000);
    if (ms == 0 || !gmtime_r(&seconds, &tm))
        return json_null();
    size_t len = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + len, sizeof text - len, ".%03dZ", (int)(ms % 1000));
    return json_string(text);
}

json_t *kg_record_addr_json(const struct kg_addr *addr)
{
    char text[KG_ADDR_STR];
    return kg_addr_is_set(addr) ? json_string(kg_addr_format(addr, text)) : json_null();
}

/* Rounded to two digits, so that JSON shows 4.41 and not 4.4100000000000001. */
static json_t *figure_json(double value)
{
    return json_real(round(value * 100) / 100);
}

json_t *kg_record_ms_json(int64_t ms)
{
    return ms < 0 ? json_null() : json_integer((json_int_t)ms);
}

static json_t *medium_json(const struct kg_media_stats *stats)
{
    json_t *json = json_object();
    json_object_set_new(json, "kind", text_json(stats->kind));
    json_object_set_new(json, "local", kg_record_addr_json(&stats->local));
    json_object_set_new(json, "remote", kg_record_addr_json(&stats->remote));
    json_object_set_new(json, "proof", json_string(kg_proof_name(stats->proof)));
    json_object_set_new(json, "codec", text_json(stats->codec));
    json_object_set_new(json, "packets_in", json_integer((json_int_t)stats->packets_in));
    json_object_set_new(json, "packets_out", json_integer((json_int_t)stats->packets_out));
    json_object_set_new(json, "bytes_in", json_integer((json_int_t)stats->bytes_in));
    json_object_set_new(json, "bytes_out", json_integer((json_int_t)stats->bytes_out));
    json_object_set_new(json, "dropped", json_integer((json_int_t)stats->dropped));
    json_object_set_new(json, "lost", json_integer((json_int_t)stats->lost));
    json_object_set_new(json, "jitter_ms", figure_json(stats->jitter_ms));
    json_object_set_new(json, "rtt_ms", stats->rtt_ms < 0 ? json_null() : figure_json(stats->rtt_ms));
    json_object_set_new(json, "first_packet_ms",
                        kg_record_ms_json(stats->packets_in ? stats->first_packet_ms : -1));
    json_object_set_new(json, "ice", json_string(kg_ice_use_name((enum kg_ice_use)stats->ice_use)));
    json_object_set_new(json, "ice_state",
                        stats->ice_use == KG_ICE_AGENT
                            ? json_string(kg_ice_state_name((enum kg_ice_state)stats->ice_state))
                            : json_null());
    json_object_set_new(json, "ice_connected_ms", kg_record_ms_json(stats->ice_connected_ms));
    json_object_set_new(json, "moves", json_integer(stats->moves));
    json_object_set_new(json, "move_gap_ms", kg_record_ms_json(stats->moves ? stats->move_gap_ms : -1));
    json_object_set_new(json, "srtp_bad", json_integer((json_int_t)stats->srtp_bad));
    json_object_set_new(json, "srtp_replayed", json_integer((json_int_t)stats->srtp_replayed));
    json_object_set_new(json, "mos", stats->mos > 0 ? figure_json(stats->mos) : json_null());
    return json;
}

static json_t *reasons_json(const char *lines)
{
    json_t *json = json_array();
    while (lines && *lines) {
        const char *end = strchrnul(lines, '\n');
        json_array_append_new(json, json_stringn(lines, (size_t)(end - lines)));
        lines = *end ? end + 1 : end;
    }
    return json;
}

const char *kg_record_keep(struct kg_record *record, const char *sentence)
{
    for (size_t i = 0; i < KG_RECORD_KEPT_MAX; i++) {
        if (!record->kept[i])
            return record->kept[i] = strdup(sentence);
        if (strcmp(record->kept[i], sentence) == 0)
            return record->kept[i];
    }
    return NULL;
}

const char *kg_record_secure(const struct kg_record *record, enum kg_side side,
                             char out[static KG_RECORD_SECURE_SIZE])
{
    const struct kg_record_leg *leg = &record->leg[side];
    uint8_t suite = KG_SRTP_NONE;
    for (uint8_t i = 0; record->stats[side] && i < record->stream_count && suite == KG_SRTP_NONE; i++)
        suite = record->stats[side][i].suite;
    if (leg->secure == KG_SECURE_PASS || leg->secure == KG_SECURE_PLAIN)
        snprintf(out, KG_RECORD_SECURE_SIZE, "%s", leg->zrtp ? "zrtp" : leg->sealed ? "end-to-end" : "none");
    else if (suite == KG_SRTP_NONE)
        snprintf(out, KG_RECORD_SECURE_SIZE, "%s", kg_secure_use_name((enum kg_secure_use)leg->secure));
    else
        snprintf(out, KG_RECORD_SECURE_SIZE, "%s %s", kg_secure_use_name((enum kg_secure_use)leg->secure),
                 kg_srtp_suite_name((enum kg_srtp_suite)suite));
    return out;
}

static json_t *leg_json(const struct kg_record *record, enum kg_side side)
{
    const struct kg_record_leg *leg = &record->leg[side];
    char secure[KG_RECORD_SECURE_SIZE];
    json_t *json = json_object();
    json_t *media = json_array();
    json_object_set_new(json, "user", text_json(leg->user));
    json_object_set_new(json, "call_id", text_json(leg->call_id));
    json_object_set_new(json, "transport", json_string(kg_transport_name(leg->transport)));
    json_object_set_new(json, "remote", kg_record_addr_json(&leg->remote));
    json_object_set_new(json, "nat", json_boolean(leg->nat));
    json_object_set_new(json, "nat_reasons", reasons_json(leg->nat_reasons));
    json_object_set_new(json, "session_ends", time_json(leg->session_end_ms)); /* RFC 4028 */
    json_object_set_new(json, "session_refresher",
                        leg->session_end_ms ? json_string(leg->session_ours ? "kedge" : "peer")
                                            : json_null());
    json_object_set_new(json, "pbx", json_boolean(leg->pbx && !leg->trunk));
    json_object_set_new(json, "trunk", leg->trunk ? json_string(leg->trunk) : json_null());
    json_object_set_new(json, "reachable", json_boolean(!leg->lost));
    json_object_set_new(json, "secure", json_string(kg_record_secure(record, side, secure)));
    for (uint8_t i = 0; record->stats[side] && i < record->stream_count; i++)
        json_array_append_new(media, medium_json(&record->stats[side][i]));
    json_object_set_new(json, "media", media);
    kg_record_add_leg_ice(json, record, side);
    return json;
}

static json_t *diversions_json(const struct kg_record *record)
{
    json_t *json = json_array();
    for (uint8_t i = 0; i < record->diversion_count; i++) {
        const struct kg_record_diversion *d = &record->diversion[i];
        json_t *one = json_object();
        json_object_set_new(one, "from", text_json(d->from));
        json_object_set_new(one, "to", text_json(d->to));
        json_object_set_new(one, "status", json_integer(d->status));
        json_object_set_new(one, "after_ms", kg_record_ms_json(d->after_ms));
        json_array_append_new(json, one);
    }
    return json;
}

/* ms after the INVITE; null for what did not happen. */
static json_t *after_json(const struct kg_record *record, int64_t at_ms)
{
    return at_ms ? kg_record_ms_json(at_ms - record->started_ms) : json_null();
}

/* Of the call as a whole. The engine counts from its own start, which is the INVITE's but for the way there.
 */
static void add_media_sums(json_t *json, const struct kg_record *record)
{
    int64_t first = -1;
    uint64_t bytes = 0;
    for (int side = 0; side < 2; side++)
        for (uint8_t i = 0; record->stats[side] && i < record->stream_count; i++) {
            const struct kg_media_stats *stats = &record->stats[side][i];
            bytes += stats->bytes_out;
            if (stats->packets_in > 0 && stats->first_packet_ms >= 0 &&
                (first < 0 || stats->first_packet_ms < first))
                first = stats->first_packet_ms;
        }
    json_object_set_new(json, "first_media_ms", kg_record_ms_json(first));
    json_object_set_new(json, "bytes_relayed", json_integer((json_int_t)bytes));
}

json_t *kg_record_json(const struct kg_record *record, const char *state)
{
    char why[KG_RECORD_WHY_SIZE];
    json_t *json = json_object();
    json_t *legs = json_array();
    json_object_set_new(json, "id", json_string(record->id));
    json_object_set_new(json, "state", json_string(state));
    json_object_set_new(json, "from", text_json(record->from));
    json_object_set_new(json, "to", text_json(record->to));
    json_object_set_new(json, "started", time_json(record->started_ms));
    json_object_set_new(json, "answered", time_json(record->answered_ms));
    json_object_set_new(json, "ended", time_json(record->ended_ms));
    json_object_set_new(json, "ringing_ms", after_json(record, record->ringing_ms));
    json_object_set_new(json, "answered_ms", after_json(record, record->answered_ms));
    json_object_set_new(json, "ended_ms", after_json(record, record->ended_ms));
    add_media_sums(json, record);
    json_object_set_new(json, "path", text_json(record->path));
    json_object_set_new(json, "reason", text_json(record->reason));
    if (record->status) {
        json_object_set_new(json, "status", json_integer(record->answered_ms ? 200 : record->status));
        json_object_set_new(json, "why", text_json(kg_record_why(record, why)));
    }
    json_array_append_new(legs, leg_json(record, KG_SIDE_A));
    json_array_append_new(legs, leg_json(record, KG_SIDE_B));
    json_object_set_new(json, "legs", legs);
    if (record->contacts > 1)
        json_object_set_new(json, "contacts", json_integer(record->contacts));
    if (record->diversion_count)
        json_object_set_new(json, "diversions", diversions_json(record));
    kg_record_add_ice(json, record);
    return json;
}

void kg_record_divert(struct kg_record *record, const char *from, const char *to, int status)
{
    if (record->diversion_count == KG_RECORD_DIVERSIONS_MAX)
        return;
    struct kg_record_diversion *list =
        realloc(record->diversion, (record->diversion_count + 1u) * sizeof *record->diversion);
    if (!list)
        return;
    record->diversion = list;
    struct kg_record_diversion d = {.from = copy_text(from),
                                    .to = copy_text(to),
                                    .status = status,
                                    .after_ms = kg_wall_ms() - record->started_ms};
    if (d.from && d.to) {
        list[record->diversion_count++] = d;
    } else {
        free(d.from);
        free(d.to);
    }
}
