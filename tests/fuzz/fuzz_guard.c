/* b2bua/guard/guard.h: any course of events over a few sources. A trusted source is never limited nor banned;
 * a known one never banned as a whole; a stranger never gets more bytes than 1.3 times what it sent, answers
 * to accepted INVITEs apart; no more bans than there is room for; and what is unbanned is not banned. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/guard/guard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SOURCES 16
#define HEADERS 28

static const uint8_t key[16] = "0123456789abcdef";
static const char *const users[] = {
    "", "100", "101", "a user with a very long name that does not fit into a ban as it is, by far"};
static const char *const agents[] = {NULL, "Yealink", "friendly-scanner", "x\x1b[31m"};
static struct kg_guard_ban bans[KG_GUARD_BANS];

static void expect(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

/* 0 to 11: IPv4; the others: IPv6, two by two in one /64. 15: trusted by configuration. */
static struct kg_addr source_of(unsigned index)
{
    char text[64];
    struct kg_addr addr;
    if (index == 15)
        snprintf(text, sizeof text, "127.0.0.1:5060");
    else if (index < 12)
        snprintf(text, sizeof text, "192.0.2.%u:%u", index, 5000 + index);
    else
        snprintf(text, sizeof text, "[2001:db8:0:%u::%u]:5060", index / 2, index);
    expect(kg_addr_parse(text, &addr) == 0, "a source of this harness");
    return addr;
}

struct course {
    struct kg_guard *guard;
    int64_t now, in[SOURCES], out[SOURCES];
    bool open[SOURCES]; /* was it ever more than a stranger: then its bytes are not counted */
    bool trusted[SOURCES];
};

static unsigned group_of(unsigned index)
{
    return index >= 12 && index < 15 ? 12 + (index - 12) / 2 * 2 : index;
}

/* An answer as kedge sends them: with a status. */
static bool is_answer(const uint8_t *text, size_t len)
{
    return len >= 11 && memcmp(text, "SIP/2.0 ", 8) == 0 && text[8] >= '1' && text[8] <= '6' &&
           text[9] >= '0' && text[9] <= '9' && text[10] >= '0' && text[10] <= '9';
}

static void step(struct course *c, const uint8_t *event, const uint8_t *text, size_t len)
{
    unsigned index = event[1] % SOURCES, group = group_of(index);
    struct kg_addr addr = source_of(index);
    const char *user = users[event[2] % 4];
    char nonce[8];
    snprintf(nonce, sizeof nonce, "n%u", event[2] % 3);
    c->now += event[3];
    switch (event[0] % 12) {
    case 0:
    case 1:
        if (kg_guard_receive(c->guard, &addr, text, len, c->now))
            c->in[group] += (int64_t)len + HEADERS;
        else
            expect(!c->trusted[group] && index != 15, "a trusted datagram was dropped");
        break;
    case 2:
        if (c->in[group] > 0 && /* nobody answers before something came */
            kg_guard_send(c->guard, &addr, (const char *)text, len, len, c->now) && is_answer(text, len) &&
            !memmem(text, len, " INVITE", 7))
            c->out[group] += (int64_t)len + HEADERS;
        break;
    case 3: {
        bool stream = event[2] & 1;
        enum kg_guard_verdict verdict = kg_guard_request(c->guard, &addr, stream, agents[event[2] / 2 % 4],
                                                         agents[event[2] / 8 % 4], c->now);
        expect(verdict == KG_GUARD_PASS || (!c->trusted[group] && index != 15),
               "a trusted request was refused");
        c->open[group] |= stream;
        break;
    }
    case 4:
        kg_guard_fault(c->guard, &addr, user, event[2] / 4 % KG_FAULTS, c->now);
        break;
    case 5:
        kg_guard_registered(c->guard, &addr, c->now + event[2] * 1000, c->now);
        c->open[group] = true;
        break;
    case 6:
        kg_guard_echoed(c->guard, &addr, nonce, c->now);
        c->open[group] |= kg_guard_is_open(c->guard, &addr, c->now);
        break;
    case 7:
        kg_guard_good(c->guard, &addr, user, c->now);
        expect(!kg_guard_is_open(c->guard, &addr, c->now) || c->open[group] || c->trusted[group] ||
                   index == 15,
               "right credentials alone opened a source");
        break;
    case 8:
        kg_guard_proved(c->guard, &addr, c->now);
        c->open[group] = true;
        break;
    case 9:
        kg_guard_unban(c->guard, &addr, c->now);
        expect(!kg_guard_is_banned(c->guard, &addr, c->now) &&
                   !kg_guard_is_blocked(c->guard, &addr, user, c->now),
               "an unbanned source is banned");
        break;
    case 10:
        c->trusted[group] = event[2] & 1;
        kg_guard_trust(c->guard, &addr, event[2] & 1, c->now);
        c->open[group] = true;
        break;
    case 11:
        c->now += (int64_t)event[2] << event[3] % 24;
        break;
    }
    expect(!c->trusted[group] || !kg_guard_is_banned(c->guard, &addr, c->now), "a trusted source is banned");
    expect(c->open[group] || index == 15 || c->out[group] * 10 <= c->in[group] * 13,
           "a stranger got more than it sent");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct kg_config config;
    struct course c = {.now = 1000000};
    if (!config.guard.ban_ms)
        kg_config_defaults(&config);
    c.guard = kg_guard_new(key, &config);
    expect(c.guard != NULL, "memory");
    while (size >= 5) {
        size_t len = data[4] < size - 5 ? data[4] : size - 5;
        step(&c, data, data + 5, len);
        data += 5 + len;
        size -= 5 + len;
    }
    size_t count = kg_guard_bans(c.guard, c.now, bans, KG_GUARD_BANS);
    expect(count <= SOURCES * 5, "more bans than sources and users");
    for (size_t i = 0; i < count; i++)
        expect(bans[i].until_ms > c.now && memchr(bans[i].user, '\0', sizeof bans[i].user),
               "a ban that is none");
    kg_guard_free(c.guard);
    return 0;
}
