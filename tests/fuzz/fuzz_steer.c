/* Steering under any sequence of checks, answers, replays, media, restarts and pauses, from twelve
 * addresses on each side. Always: what is verified, and where media goes, has answered a check that was sent
 * to it with the right password; nothing is sent to an address that neither made a valid request nor was
 * suspected; responses of kedge's own go to verified sources, one a request at most, and to none that
 * nominates. */
#include <stdlib.h>
#include <string.h>

#include "ice/stun/integrity.h"
#include "ice/stun/message.h"
#include "media/steer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PLACES 12 /* more than a side can have sources */

static const char *const ufrag[2][3] = {{"fragA", "newA", "otherA"}, {"fragB", "newB", "otherB"}};
static const char *const pwd[2][3] = {
    {"password of A, the first", "password of A, the second", "password of A, 3rd"},
    {"password of B, the first", "password of B, the second", "password of B, 3rd"}};

struct place {
    bool asked;    /* may be sent to: a valid request came from there, or suspicious media */
    bool answered; /* with the right password, what was sent to it */
    size_t len;    /* the latest request sent to it */
    uint8_t sent[KG_ICE_DATAGRAM_MAX];
    unsigned requests, vouched; /* without USE-CANDIDATE, valid or not; responses of kedge's own */
};

struct world {
    const uint8_t *data;
    size_t left;
    struct kg_steer *steer;
    struct place place[2][PLACES];
    uint8_t described[2], id;
    int64_t now_ms;
    uint8_t last[KG_ICE_DATAGRAM_MAX]; /* the latest message anybody sent, to be replayed */
    size_t last_len;
};

static void require(int truth)
{
    if (!truth)
        abort();
}

static uint8_t next(struct world *w)
{
    if (w->left == 0)
        return 0;
    w->left--;
    return *w->data++;
}

static void dice(void *ctx, void *out, size_t len)
{
    struct world *w = ctx;
    memset(out, 0x5A, len);
    memcpy(out, &w->id, 1);
    w->id++;
}

static struct kg_addr addr_of(unsigned place)
{
    struct kg_addr addr;
    require(kg_addr_parse_host("192.0.2.1", (uint16_t)(1000 + place), &addr) == 0);
    return addr;
}

static void sent_to(struct world *w, unsigned side, const struct kg_addr *to, const uint8_t *data, size_t len)
{
    struct kg_stun_message m;
    unsigned at = kg_addr_port(to) - 1000u;
    require(at < PLACES && w->place[side][at].asked);
    require(kg_stun_parse(data, len, &m) == KG_STUN_OK && m.method == KG_STUN_BINDING);
    if (m.class == KG_STUN_REQUEST) {
        memcpy(w->place[side][at].sent, data, len);
        w->place[side][at].len = len;
    }
}

static void look(struct world *w)
{
    for (unsigned s = 0; s < 2; s++) {
        const struct kg_addr *target = kg_steer_target(w->steer, s, w->now_ms);
        struct kg_ice_pair pair[KG_STEER_SOURCES + 1];
        require(target == NULL || w->place[s][kg_addr_port(target) - 1000].answered);
        require(kg_steer_pairs(w->steer, s, pair, KG_STEER_SOURCES + 1) <= KG_STEER_SOURCES);
        require(kg_steer_silence(w->steer, s, w->now_ms) >= -1);
        for (unsigned i = 0; i < PLACES; i++) {
            struct kg_addr addr = addr_of(i);
            require(!kg_steer_is_verified(w->steer, s, &addr, w->now_ms) || w->place[s][i].answered);
        }
    }
}

static void poll(struct world *w)
{
    struct kg_steer_datagram out;
    for (int i = 0; kg_steer_poll(w->steer, w->now_ms, &out); i++) {
        require(i < 64);
        sent_to(w, out.side, &out.to, out.data, out.len);
        if ((out.data[0] & 1) == 0) /* a request */
            continue;
        struct place *p = &w->place[out.side][kg_addr_port(&out.to) - 1000];
        require(kg_steer_is_verified(w->steer, out.side, &out.to, w->now_ms) && out.data[1] == 1);
        require(++p->vouched <= p->requests);
    }
    require(kg_steer_next_ms(w->steer) > w->now_ms);
}

static enum kg_steer_verdict receive(struct world *w, unsigned side, unsigned place, const uint8_t *data,
                                     size_t len)
{
    struct kg_addr source = addr_of(place);
    const struct kg_addr *to = NULL;
    bool moved;
    enum kg_steer_verdict verdict =
        kg_steer_receive(w->steer, side, &source, data, len, w->now_ms, &to, &moved);
    struct kg_stun_message m;
    if (kg_stun_parse(data, len, &m) == KG_STUN_OK && m.class == KG_STUN_REQUEST)
        w->place[side][place].requests += kg_stun_find(&m, KG_STUN_USE_CANDIDATE) == NULL;
    if (verdict == KG_STEER_FORWARD) {
        require(to != NULL);
        sent_to(w, !side, to, data, len);
    }
    if (data != w->last && len <= sizeof w->last) {
        memcpy(w->last, data, len);
        w->last_len = len;
    }
    return verdict;
}

static void request(struct world *w, unsigned side, unsigned place, uint8_t how)
{
    uint8_t buf[400], id[KG_STUN_ID] = {1, (uint8_t)(how >> 4), w->id++ / 4};
    unsigned own = how & 1 ? w->described[side] : (how >> 1) % 3, its = w->described[!side];
    struct kg_stun_writer wr;
    char user[64];
    size_t len = strlen(ufrag[!side][its]);
    memcpy(user, ufrag[!side][its], len);
    user[len] = ':';
    memcpy(user + len + 1, ufrag[side][own], strlen(ufrag[side][own]));
    len += 1 + strlen(ufrag[side][own]);
    kg_stun_begin(&wr, buf, sizeof buf, KG_STUN_REQUEST, KG_STUN_BINDING, id);
    kg_stun_put(&wr, KG_STUN_USERNAME, user, len);
    kg_stun_put_u64(&wr, how & 4 ? KG_STUN_ICE_CONTROLLING : KG_STUN_ICE_CONTROLLED, 5);
    if (how & 8)
        kg_stun_put(&wr, KG_STUN_USE_CANDIDATE, NULL, 0);
    kg_stun_put_integrity(&wr, pwd[!side][its], strlen(pwd[!side][its]));
    kg_stun_put_fingerprint(&wr);
    w->place[side][place].asked = true;
    receive(w, side, place, buf, kg_stun_end(&wr));
}

/* To what was sent to `place`, from `from`. */
static void answer(struct world *w, unsigned side, unsigned place, unsigned from, uint8_t how)
{
    struct place *p = &w->place[side][place];
    struct kg_stun_writer wr;
    uint8_t buf[400];
    const char *key = how & 1 ? pwd[side][w->described[side]] : pwd[!side][how % 3];
    struct kg_addr mapped = addr_of(0);
    if (p->len == 0)
        return;
    kg_stun_begin(&wr, buf, sizeof buf, how & 2 ? KG_STUN_ERROR : KG_STUN_SUCCESS, KG_STUN_BINDING,
                  p->sent + 8);
    if (how & 2)
        kg_stun_put_error(&wr, how & 4 ? 487 : 400, "");
    else
        kg_stun_put_address(&wr, KG_STUN_XOR_MAPPED_ADDRESS, &mapped);
    kg_stun_put_integrity(&wr, key, strlen(key));
    kg_stun_put_fingerprint(&wr);
    if (how & 1 && from == place)
        p->answered = true;
    receive(w, side, from, buf, kg_stun_end(&wr));
    if (from != place)
        w->last_len = 0; /* a right answer from elsewhere must not come from `place` later */
}

static void step(struct world *w)
{
    uint8_t op = next(w), how = next(w);
    unsigned side = op & 1, place = (op >> 1 & 7u) + (how >> 7) * 4u;
    struct kg_addr addr = addr_of(place);
    switch (op >> 4) {
    case 0:
        w->described[side] = how % 3;
        require(kg_steer_describe(
                    w->steer, side,
                    &(struct kg_ice_description){.ufrag = ufrag[side][how % 3], .pwd = pwd[side][how % 3]},
                    w->now_ms) == 0);
        break;
    case 1:
    case 2:
    case 3:
    case 4:
        request(w, side, place, how);
        break;
    case 5:
    case 6:
    case 7:
    case 8:
        answer(w, side, place, op >> 4 == 5 ? how >> 5 : place, how);
        break;
    case 9: /* from anywhere, to either port: what somebody overheard; it may be a valid request */
        w->place[side][place].asked = true;
        receive(w, side, place, w->last, w->last_len);
        break;
    case 10: /* also what kedge sent to a place, given back by it */
        w->place[side][place].asked = true;
        if (w->place[how & 1][place].len > 0)
            receive(w, side, place, w->place[how & 1][place].sent, w->place[how & 1][place].len);
        break;
    case 11:
        kg_steer_media(w->steer, side, &addr, w->now_ms);
        break;
    case 12:
        w->place[side][place].asked = true;
        kg_steer_suspect(w->steer, side, &addr, w->now_ms);
        break;
    case 13:
        receive(w, side, place, w->data, w->left);
        break;
    default:
        w->now_ms += op & 1 ? how * 200 : how;
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world *w = calloc(1, sizeof *w);
    require(w != NULL);
    w->data = data;
    w->left = size < 4096 ? size : 4096;
    w->now_ms = 1000;
    w->steer = kg_steer_new(next(w) & 1 ? 5000 : 0, 30000, dice, w);
    require(w->steer != NULL);
    while (w->left > 0) {
        step(w);
        look(w);
        if (next(w) & 3)
            poll(w);
    }
    kg_steer_free(w->steer);
    free(w);
    return 0;
}
