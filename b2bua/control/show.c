#include "b2bua/control/show.h"

#include <stdio.h>
#include <string.h>

#include "b2bua/control/table.h"
#include "conf/log.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

void kg_show_accounts(const json_t *answer)
{
    static const struct kg_column columns[] = {
        {"NAME", "name", KG_SHOW_TEXT},
        {"PHONES", "contacts", KG_SHOW_TEXT},
        {"CREATED", "created", KG_SHOW_TIME},
    };

    kg_table_print(answer, columns, COUNT(columns),
                   "No accounts. Make one: kedgectl account add NAME --generate");
}

/* 0 means that there is none: "-" in a table. */
static void blank_zero(json_t *row, const char *key)
{
    if (json_integer_value(json_object_get(row, key)) == 0)
        json_object_del(row, key);
}

void kg_show_registrations(const json_t *answer)
{
    static const struct kg_column columns[] = {
        {"USER", "user", KG_SHOW_TEXT},
        {"FROM", "remote", KG_SHOW_TEXT},
        {"OVER", "transport", KG_SHOW_TEXT},
        {"NAT", "nat", KG_SHOW_TEXT},
        {"EXPIRES", "expires_in", KG_SHOW_SECONDS},
        {"KEEPALIVE", "keepalive_s", KG_SHOW_SECONDS},
        {"LEARNT", "learnt", KG_SHOW_TEXT},
        {"CONTACT", "contact", KG_SHOW_TEXT},
        {"PHONE", "user_agent", KG_SHOW_TEXT},
        {"PBX", "pbx", KG_SHOW_TEXT}, /* last: without a PBX it is left out */
    };

    bool front = json_object_get(json_array_get(answer, 0), "pbx") != NULL;
    json_t *rows = json_array(), *phone;
    size_t index;

    json_array_foreach(answer, index, phone)
    {
        json_t *row = json_copy(phone);
        json_object_set(row, "learnt", json_object_get(json_object_get(phone, "keepalive"), "state"));
        blank_zero(row, "keepalive_s");
        json_array_append_new(rows, row);
    }
    kg_table_print(rows, columns, COUNT(columns) - !front, "No phone is registered.");
    json_decref(rows);
}

void kg_show_subscriptions(const json_t *answer)
{
    static const struct kg_column columns[] = {
        {"BY", "by", KG_SHOW_TEXT},
        {"EVENT", "event", KG_SHOW_TEXT},
        {"OF", "of", KG_SHOW_TEXT},
        {"STATE", "state", KG_SHOW_TEXT},
        {"EXPIRES", "expires_in", KG_SHOW_SECONDS},
        {"OVER", "transport", KG_SHOW_TEXT},
        {"PHONE AT", "remote", KG_SHOW_TEXT},
    };

    kg_table_print(answer, columns, COUNT(columns), "Nobody watches anything.");
}

void kg_show_trunks(const json_t *answer)
{
    static const struct kg_column columns[] = {
        {"TRUNK", "name", KG_SHOW_TEXT},          {"STATE", "state", KG_SHOW_TEXT},
        {"SERVER", "server", KG_SHOW_TEXT},       {"EXPIRES", "expires_in", KG_SHOW_SECONDS},
        {"NEXT TRY", "next_in", KG_SHOW_SECONDS}, {"LAST REFUSAL", "status", KG_SHOW_TEXT},
        {"CALLS", "calls", KG_SHOW_TEXT},
    };

    json_t *rows = json_deep_copy(answer), *trunk;
    size_t index;

    json_array_foreach(rows, index, trunk) blank_zero(trunk, "status");
    kg_table_print(rows, columns, COUNT(columns), "No trunks are configured.");
    json_decref(rows);
}

void kg_show_bans(const json_t *answer)
{
    static const struct kg_column columns[] = {
        {"ADDRESS", "address", KG_SHOW_TEXT},   {"USER", "user", KG_SHOW_TEXT},
        {"SINCE (UTC)", "since", KG_SHOW_TIME}, {"LEFT", "left_s", KG_SHOW_SECONDS},
        {"TIMES", "times", KG_SHOW_TEXT},       {"BECAUSE", "why", KG_SHOW_TEXT},
    };

    kg_table_print(answer, columns, COUNT(columns), "Nobody is banned.");
}

/* Packets that came from one leg, over all its media, and the worst of their MOS. */
static json_int_t packets_of(const json_t *leg, double *mos)
{
    json_int_t packets = 0;
    size_t index;
    json_t *medium;

    json_array_foreach(json_object_get(leg, "media"), index, medium)
    {
        double own = json_number_value(json_object_get(medium, "mos"));
        packets += json_integer_value(json_object_get(medium, "packets_in"));
        if (own > 0 && (*mos == 0 || own < *mos))
            *mos = own;
    }
    return packets;
}

void kg_show_calls(const json_t *answer)
{
    static const struct kg_column columns[] = {
        {"ID", "id", KG_SHOW_TEXT},
        {"STATE", "state", KG_SHOW_TEXT},
        {"FROM", "from", KG_SHOW_TEXT},
        {"TO", "to", KG_SHOW_TEXT},
        {"STARTED (UTC)", "started", KG_SHOW_TIME},
        {"PATH", "path", KG_SHOW_TEXT},
        {"CALLER SENT", "a_sent", KG_SHOW_TEXT},
        {"CALLEE SENT", "b_sent", KG_SHOW_TEXT},
        {"MOS", "mos", KG_SHOW_TEXT},
        {"ENDED BECAUSE", "why", KG_SHOW_TEXT},
    };
    json_t *rows = json_array(), *call;
    size_t index;

    json_array_foreach(answer, index, call)
    {
        json_t *row = json_copy(call), *legs = json_object_get(call, "legs");
        double mos = 0;
        json_object_set_new(row, "a_sent", json_integer(packets_of(json_array_get(legs, 0), &mos)));
        json_object_set_new(row, "b_sent", json_integer(packets_of(json_array_get(legs, 1), &mos)));
        if (mos > 0)
            json_object_set_new(row, "mos", json_real(mos));
        const char *why = json_string_value(json_object_get(row, "why"));
        if (why && !why[0] && json_is_null(json_object_get(row, "answered")))
            json_object_set_new(row, "why",
                                json_sprintf("the callee's side answered %d",
                                             (int)json_integer_value(json_object_get(row, "status"))));
        json_array_append_new(rows, row);
    }
    /* Calls that are up have no reason of their end. */
    call = json_array_get(rows, 0);
    kg_table_print(rows, columns, COUNT(columns) - (json_object_get(call, "why") == NULL), "No calls.");
    json_decref(rows);
}

/* Who does ICE with the phone, and how that stands. */
static json_t *ice_of(const json_t *medium)
{
    const char *use = json_string_value(json_object_get(medium, "ice"));
    const char *state = json_string_value(json_object_get(medium, "ice_state"));
    if (use && strcmp(use, "steer") == 0)
        return json_string("end to end");
    return json_string(use && strcmp(use, "agent") == 0 && state ? state : "-");
}

static void show_media(const json_t *legs)
{
    static const struct kg_column columns[] = {
        {"USER", "user", KG_SHOW_TEXT},           {"KIND", "kind", KG_SHOW_TEXT},
        {"CODEC", "codec", KG_SHOW_TEXT},         {"PHONE'S ADDRESS", "remote", KG_SHOW_TEXT},
        {"OURS", "local", KG_SHOW_TEXT},          {"ICE", "ice_shown", KG_SHOW_TEXT},
        {"PROOF", "proof", KG_SHOW_TEXT},         {"IN", "packets_in", KG_SHOW_TEXT},
        {"OUT", "packets_out", KG_SHOW_TEXT},     {"LOST", "lost", KG_SHOW_TEXT},
        {"JITTER MS", "jitter_ms", KG_SHOW_TEXT}, {"MOS", "mos", KG_SHOW_TEXT},
    };
    json_t *rows = json_array(), *leg, *medium;
    size_t i, j;

    json_array_foreach(legs, i, leg)
    {
        json_array_foreach(json_object_get(leg, "media"), j, medium)
        {
            json_t *row = json_copy(medium);
            json_object_set(row, "user", json_object_get(leg, "user"));
            json_object_set_new(row, "ice_shown", ice_of(medium));
            json_array_append_new(rows, row);
        }
    }
    if (json_array_size(rows) > 0) {
        putchar('\n');
        kg_table_print(rows, columns, COUNT(columns), "");
    }
    json_decref(rows);
}

void kg_show_explanation(const json_t *answer)
{
    char safe[1024];
    size_t index;
    json_t *sentence;

    json_array_foreach(json_object_get(answer, "explain"), index, sentence)
    {
        kg_log_escape(json_is_string(sentence) ? json_string_value(sentence) : "", safe, sizeof safe);
        puts(safe);
    }
    show_media(json_object_get(answer, "legs"));
}

void kg_show_peers(const json_t *answer)
{
    static const struct kg_column columns[] = {
        {"GROUP", "group", KG_SHOW_TEXT},       {"SERVER", "server", KG_SHOW_TEXT},
        {"ADDRESS", "address", KG_SHOW_TEXT},   {"STATE", "state", KG_SHOW_TEXT},
        {"SINCE (UTC)", "since", KG_SHOW_TIME}, {"BECAUSE", "why", KG_SHOW_TEXT},
        {"LAST ERROR", "error", KG_SHOW_TEXT},  {"AT (UTC)", "error_at", KG_SHOW_TIME},
        {"WAITING", "waiting", KG_SHOW_TEXT},
    };

    kg_table_print(answer, columns, COUNT(columns), "No PBX and no trunk is configured.");
}

void kg_show_stats(const json_t *answer)
{
    static const struct kg_column columns[] = {{"NAME", "name", KG_SHOW_TEXT},
                                               {"VALUE", "value", KG_SHOW_TEXT},
                                               {"MEANING", "meaning", KG_SHOW_TEXT}};
    static const struct {
        const char *name, *meaning;
    } docs[] = {
        {"uptime_s", "seconds since the signalling process started"},
        {"calls", "calls that are up or being set up"},
        {"registrations", "phones that are registered"},
        {"dialogs", "SIP dialogs: two a call"},
        {"transactions_in", "requests received in the last 32 s, or not answered yet"},
        {"transactions_out", "requests sent in the last 32 s, or not answered yet"},
        {"subscriptions", "lamps and presence that phones watch through kedge"},
        {"media_up", "the media engine answers"},
        {"store_healthy", "the store can be written"},
        {"store_waiting",
         "what is not in the store yet: a tenth of a second's writes, more while it cannot be written"},
        {"store_problem", "why it cannot; registrations go on from memory"},
#define C(counter, doc) {#counter, doc},
#include "b2bua/counters.inc"
#undef C
    };
    json_t *rows = json_array();

    for (size_t i = 0; i < COUNT(docs); i++) {
        json_t *value = json_object_get(answer, docs[i].name);
        if (value != NULL)
            json_array_append_new(rows, json_pack("{s:s, s:O, s:s}", "name", docs[i].name, "value", value,
                                                  "meaning", docs[i].meaning));
    }
    kg_table_print(rows, columns, COUNT(columns), "No counters.");
    json_decref(rows);
}

bool kg_show_reload(const json_t *answer)
{
    const char *file = json_string_value(json_object_get(answer, "file"));
    const char *restart = json_string_value(json_object_get(answer, "restart"));
    size_t index;
    json_t *error;

    if (json_is_true(json_object_get(answer, "ok"))) {
        printf("reloaded %s\n", file != NULL ? file : "the configuration");
        if (restart != NULL && restart[0] != '\0')
            printf("these changes need a restart of kedge: %s\n", restart);
        return true;
    }
    json_array_foreach(json_object_get(answer, "errors"), index, error)
    {
        const char *text = json_string_value(json_object_get(error, "text"));
        int line = (int)json_integer_value(json_object_get(error, "line"));
        fprintf(stderr, "%s:", file != NULL ? file : "configuration");
        if (line > 0)
            fprintf(stderr, "%d:", line);
        fprintf(stderr, " %s\n", text != NULL ? text : "");
    }
    fprintf(stderr, "kedgectl: nothing was changed; the old configuration stays in force\n");
    return false;
}
