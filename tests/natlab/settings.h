/* name=value settings of a box: one table, for the command line and for "set" at run time. */
#ifndef KG_NATLAB_SETTINGS_H
#define KG_NATLAB_SETTINGS_H

#include <arpa/inet.h>
#include <stdio.h>

#include "impair.h"

struct settings {
    struct nat_config nat;
    struct impair_config line[2]; /* [direction] */
};

enum setting_kind { SET_ENUM, SET_BOOL, SET_SECONDS, SET_MS, SET_PERCENT, SET_NUMBER, SET_IP4 };

struct setting {
    const char *name;
    enum setting_kind kind;
    bool line; /* offset is in impair_config; "up-NAME" and "down-NAME" set one direction */
    size_t offset;
    const char *values[4];
    const char *doc;
};

#define SETTING_NAT(field)  false, offsetof(struct settings, nat) + offsetof(struct nat_config, field)
#define SETTING_LINE(field) true, offsetof(struct impair_config, field)

static const struct setting settings_table[] = {
    {"mapping", SET_ENUM, SETTING_NAT(mapping), {"eim", "adm", "apdm"}, "RFC 4787 4.1"},
    {"filtering", SET_ENUM, SETTING_NAT(filtering), {"eif", "adf", "apdf"}, "RFC 4787 5"},
    {"ports",
     SET_ENUM,
     SETTING_NAT(ports),
     {"random", "sequential", "preserving"},
     "choice of external ports"},
    {"ipv6", SET_ENUM, SETTING_NAT(ipv6), {"off", "open", "firewall"}, "never translated"},
    {"hairpin",
     SET_BOOL,
     SETTING_NAT(hairpin),
     {NULL},
     "inside hosts reach each other by external addresses"},
    {"inbound-refresh",
     SET_BOOL,
     SETTING_NAT(inbound_refresh),
     {NULL},
     "packets from outside keep a mapping"},
    {"block-udp", SET_BOOL, SETTING_NAT(block_udp), {NULL}, "no UDP either way"},
    {"drop-fragments", SET_BOOL, SETTING_NAT(drop_fragments), {NULL}, "no IP fragments either way"},
    {"timeout", SET_SECONDS, SETTING_NAT(timeout_us), {NULL}, "UDP and ICMP mappings"},
    {"tcp-timeout", SET_SECONDS, SETTING_NAT(tcp_timeout_us), {NULL}, "TCP mappings"},
    {"seed", SET_NUMBER, SETTING_NAT(seed), {NULL}, "of every random choice"},
    {"address", SET_IP4, SETTING_NAT(external), {NULL}, "external IPv4 address"},
    {"delay", SET_MS, SETTING_LINE(delay_us), {NULL}, "one way"},
    {"jitter", SET_MS, SETTING_LINE(jitter_us), {NULL}, "0 to this more, order kept"},
    {"reorder-delay", SET_MS, SETTING_LINE(reorder_us), {NULL}, "how much later a reordered packet comes"},
    {"loss", SET_PERCENT, SETTING_LINE(loss), {NULL}, "of packets"},
    {"lose-once", SET_BOOL, SETTING_LINE(lose_once), {NULL}, "not what is sent again"},
    {"reorder", SET_PERCENT, SETTING_LINE(reorder), {NULL}, "of packets"},
    {"duplicate", SET_PERCENT, SETTING_LINE(duplicate), {NULL}, "of packets"},
};

static inline void settings_defaults(struct settings *s)
{
    *s = (struct settings){
        .nat = {.mapping = NAT_EIM,
                .filtering = NAT_APDF,
                .ipv6 = NAT_IPV6_FIREWALL,
                .timeout_us = 120 * INT64_C(1000000),        /* RFC 4787 REQ-5: 2 minutes at least */
                .tcp_timeout_us = 7440 * INT64_C(1000000)}}; /* RFC 5382 REQ-5 */
    s->line[NAT_UP].reorder_us = s->line[NAT_DOWN].reorder_us = 30000;
}

static inline int setting_number(const char *text, double limit, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end == text || *end || !(*out >= 0 && *out <= limit) ? EINVAL : 0;
}

static inline int setting_store(const struct setting *row, void *at, const char *value)
{
    double number = 0;
    switch (row->kind) {
    case SET_ENUM:
        for (unsigned i = 0; i < 4 && row->values[i]; i++)
            if (strcmp(row->values[i], value) == 0) {
                memcpy(at, &i, sizeof i); /* all our enums are unsigned int */
                return 0;
            }
        return EINVAL;
    case SET_BOOL:
        if (setting_number(value, 1, &number))
            return EINVAL;
        *(bool *)at = number > 0;
        return 0;
    case SET_SECONDS:
    case SET_MS:
        if (setting_number(value, 1e7, &number))
            return EINVAL;
        *(int64_t *)at = (int64_t)(number * (row->kind == SET_MS ? 1e3 : 1e6));
        return 0;
    case SET_PERCENT:
        if (setting_number(value, 100, &number))
            return EINVAL;
        *(uint32_t *)at = (uint32_t)(number * 10000 + 0.5);
        return 0;
    case SET_NUMBER:
        if (setting_number(value, 1e15, &number))
            return EINVAL;
        *(uint64_t *)at = (uint64_t)number;
        return 0;
    case SET_IP4:
    default: {
        struct endpoint e = {0};
        if (inet_pton(AF_INET, value, e.ip) != 1)
            return EINVAL;
        *(struct endpoint *)at = e;
        return 0;
    }
    }
}

/* Applies "name=value". Returns 0, ENOENT for an unknown name, EINVAL for a value out of range. */
static inline int settings_apply(struct settings *s, const char *text)
{
    const char *equals = strchr(text, '=');
    if (!equals)
        return ENOENT;
    bool up = true, down = true;
    if (strncmp(text, "up-", 3) == 0)
        down = false, text += 3;
    else if (strncmp(text, "down-", 5) == 0)
        up = false, text += 5;
    for (size_t i = 0; i < sizeof settings_table / sizeof *settings_table; i++) {
        const struct setting *row = &settings_table[i];
        size_t len = (size_t)(equals - text);
        if (strncmp(row->name, text, len) != 0 || row->name[len])
            continue;
        if (!row->line)
            return up && down ? setting_store(row, (char *)s + row->offset, equals + 1) : ENOENT;
        for (int direction = 0; direction < 2; direction++)
            if (direction == NAT_UP ? up : down)
                if (setting_store(row, (char *)&s->line[direction] + row->offset, equals + 1))
                    return EINVAL;
        return 0;
    }
    return ENOENT;
}

#endif
