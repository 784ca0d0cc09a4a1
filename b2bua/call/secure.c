#include "b2bua/call/secure.h"

const char *kg_shape_name(enum kg_shape shape)
{
    static const char *const name[KG_SHAPE_COUNT] = {
        [KG_SHAPE_AS_IT_CAME] = "as it came",
        [KG_SHAPE_PLAIN] = "RTP",
        [KG_SHAPE_OPPORTUNISTIC] = "opportunistic SRTP",
        [KG_SHAPE_SDES] = "SDES",
        [KG_SHAPE_DTLS] = "DTLS-SRTP",
        [KG_SHAPE_WEB] = "WebRTC",
    };
    return name[shape];
}

const char *kg_secure_why_text(enum kg_secure_why why)
{
    static const char *const text[KG_SECURED_COUNT] = {
        [KG_SECURED_UNDECIDED] = "the callee has not answered yet",
        [KG_SECURED_NOT] = "neither side encrypts its media",
        [KG_SECURED_END_TO_END] = "the keys are between the two phones; kedge cannot decrypt what it passes",
        [KG_SECURED_DIFFERENTLY] =
            "both sides encrypt, each in its own way, so kedge decrypts and encrypts in between",
        [KG_SECURED_HALF] =
            "only one side encrypts, so kedge translates: toward the other side media is in the clear",
        [KG_SECURED_ZRTP] =
            "both phones know ZRTP, which passes kedge: whether they have keys, only they can tell",
    };
    return text[why];
}

/* ---- toward whom which ---- */

/* By what was offered: that, and then what is tried where it is refused. Secure shapes before plain ones, but
 * from a browser, whom nobody but a browser understands: plain RTP is what most phones take. */
static const enum kg_shape automatic[KG_SHAPE_COUNT][KG_SHAPE_TRIES] = {
    [KG_SHAPE_AS_IT_CAME] = {KG_SHAPE_AS_IT_CAME},
    [KG_SHAPE_PLAIN] = {KG_SHAPE_PLAIN, KG_SHAPE_SDES, KG_SHAPE_DTLS, KG_SHAPE_WEB},
    [KG_SHAPE_OPPORTUNISTIC] = {KG_SHAPE_OPPORTUNISTIC, KG_SHAPE_PLAIN, KG_SHAPE_SDES, KG_SHAPE_DTLS},
    [KG_SHAPE_SDES] = {KG_SHAPE_SDES, KG_SHAPE_OPPORTUNISTIC, KG_SHAPE_PLAIN, KG_SHAPE_DTLS},
    [KG_SHAPE_DTLS] = {KG_SHAPE_DTLS, KG_SHAPE_SDES, KG_SHAPE_OPPORTUNISTIC, KG_SHAPE_PLAIN},
    [KG_SHAPE_WEB] = {KG_SHAPE_PLAIN, KG_SHAPE_SDES, KG_SHAPE_DTLS, KG_SHAPE_WEB},
};

/* Words that leave no choice. */
static const enum kg_shape fixed[KG_PROFILE_DEFAULT][2] = {
    [KG_PROFILE_PLAIN] = {KG_SHAPE_PLAIN},
    [KG_PROFILE_OPPORTUNISTIC] = {KG_SHAPE_OPPORTUNISTIC, KG_SHAPE_PLAIN},
    [KG_PROFILE_SDES] = {KG_SHAPE_SDES},
    [KG_PROFILE_DTLS] = {KG_SHAPE_DTLS},
    [KG_PROFILE_WEBRTC] = {KG_SHAPE_WEB},
};

bool kg_secure_is_demanded(enum kg_profile word)
{
    return word == KG_PROFILE_SDES || word == KG_PROFILE_DTLS || word == KG_PROFILE_WEBRTC;
}

static bool is_clear(enum kg_shape shape)
{
    return shape == KG_SHAPE_PLAIN || shape == KG_SHAPE_OPPORTUNISTIC;
}

/* 0: first choice. What it refused comes last; where nothing but secure shapes was ever seen of a phone, it
 * is not asked for plain RTP before them. */
static int rank(const struct kg_shape_facts *facts, enum kg_shape shape)
{
    bool only_secure = facts->shown && !(facts->shown & (uint8_t)~KG_SHAPES_WITH_KEYS);
    if (facts->refused & KG_SHAPE_BIT(shape))
        return 2;
    return only_secure && is_clear(facts->offered == KG_SHAPE_WEB ? KG_SHAPE_PLAIN : facts->offered) &&
           !(facts->shown & KG_SHAPE_BIT(shape));
}

bool kg_shapes_keep_keys(const struct kg_shape_facts *facts)
{
    return !is_clear(facts->offered) && facts->offered != KG_SHAPE_AS_IT_CAME &&
           ((facts->shown | facts->taken) & KG_SHAPES_WITH_KEYS) &&
           !(facts->shown & (uint8_t)~KG_SHAPES_WITH_KEYS);
}

static bool is_asked(const struct kg_shape_facts *facts, enum kg_shape shape)
{
    bool free = facts->word == KG_PROFILE_AUTO || facts->word == KG_PROFILE_DEFAULT;
    return !is_clear(shape) || !free || !kg_shapes_keep_keys(facts);
}

size_t kg_shapes(const struct kg_shape_facts *facts, enum kg_shape out[static KG_SHAPE_TRIES])
{
    static const enum kg_shape web[KG_SHAPE_TRIES] = {KG_SHAPE_WEB, KG_SHAPE_PLAIN};
    const enum kg_shape *order = automatic[facts->offered];
    size_t count = 0, tries = KG_SHAPE_TRIES;
    if (facts->offered == KG_SHAPE_AS_IT_CAME) {
        out[0] = KG_SHAPE_AS_IT_CAME;
        return 1;
    }
    if (facts->web) { /* whatever the word says: a browser can do nothing else */
        order = web;
        tries = kg_secure_is_demanded(facts->word) ? 1 : KG_SHAPE_TRIES;
    } else if (facts->word != KG_PROFILE_AUTO && facts->word != KG_PROFILE_DEFAULT) {
        order = fixed[facts->word];
        tries = sizeof fixed[0] / sizeof fixed[0][0];
    }
    for (int pass = 0; pass < 3; pass++)
        for (size_t i = 0; i < tries && order[i] != KG_SHAPE_AS_IT_CAME; i++)
            if (rank(facts, order[i]) == pass && is_asked(facts, order[i]))
                out[count++] = order[i];
    /* Whoever refuses feedback may take the same without it. */
    if (facts->feedback && out[0] == facts->offered && out[0] != KG_SHAPE_WEB) {
        count += count < KG_SHAPE_TRIES;
        for (size_t i = count - 1; i > 0; i--)
            out[i] = out[i - 1];
    }
    return count;
}

bool kg_shape_is_refusal(int status)
{
    return status == 488 || status == 606 || status == 415;
}

/* ---- an m-line ---- */

/* What a side is to kedge that does not pass: a shape that is no RTP has no such. */
static bool is_rtp(const struct kg_secure_facts *facts, enum kg_side side)
{
    return facts->kind[side] != KG_SECURE_PASS;
}

static bool is_sealed(const struct kg_secure_facts *facts)
{
    return (facts->kind[KG_SIDE_A] > KG_SECURE_PLAIN && facts->kind[KG_SIDE_B] > KG_SECURE_PLAIN) ||
           (facts->zrtp[KG_SIDE_A] && facts->zrtp[KG_SIDE_B]);
}

static enum kg_secure_why why_of(const struct kg_secure_facts *facts, const struct kg_secure_line *line)
{
    int secured = 0;
    if (line->use[KG_SIDE_A] == KG_SECURE_PASS)
        return !line->sealed                               ? KG_SECURED_NOT
               : facts->kind[KG_SIDE_A] == KG_SECURE_PLAIN ? KG_SECURED_ZRTP
                                                           : KG_SECURED_END_TO_END;
    for (int side = 0; side < 2; side++)
        secured += line->use[side] > KG_SECURE_PLAIN;
    return secured == 2 ? KG_SECURED_DIFFERENTLY : secured == 1 ? KG_SECURED_HALF : KG_SECURED_NOT;
}

static void pass(struct kg_secure_line *line, bool sealed)
{
    line->use[KG_SIDE_A] = line->use[KG_SIDE_B] = KG_SECURE_PASS;
    line->sealed = sealed;
}

struct kg_secure_line kg_secure_offer(const struct kg_secure_facts *facts, enum kg_side from,
                                      enum kg_shape want, bool ours)
{
    enum kg_side to = kg_other_side(from);
    struct kg_secure_line line = {.why = KG_SECURED_UNDECIDED};
    if (!facts->enabled[from] || !is_rtp(facts, from))
        return line;
    /* A session that stands goes on as it is: what was translated is, what passed passes. But nobody leads
     * the other side into the clear where the operator wants keys. */
    bool known = facts->known && !(facts->demanded && facts->use[to] == KG_SECURE_PASS &&
                                   facts->kind[to] > KG_SECURE_PLAIN && facts->kind[from] == KG_SECURE_PLAIN);
    if (known)
        line.text[to] = facts->use[to] == KG_SECURE_PASS ? KG_SHAPE_AS_IT_CAME : facts->told[to];
    else
        line.text[to] = want == facts->said[from] && !ours ? KG_SHAPE_AS_IT_CAME : want;
    if (line.text[to] == KG_SHAPE_AS_IT_CAME) {
        pass(&line, facts->kind[from] > KG_SECURE_PLAIN || facts->zrtp[from]);
        return line;
    }
    line.use[from] = facts->kind[from];
    line.use[to] = known ? facts->use[to] : KG_SECURE_PLAIN;
    line.text[from] = facts->said[from];
    return line;
}

struct kg_secure_line kg_secure_answer(const struct kg_secure_facts *facts, enum kg_side from)
{
    enum kg_side offerer = kg_other_side(from);
    struct kg_secure_line line = {.why = KG_SECURED_UNDECIDED};
    line.text[from] = facts->told[from];
    if (!facts->enabled[from] || !facts->enabled[offerer] || !is_rtp(facts, offerer))
        return line;
    bool same = facts->kind[from] == KG_SECURE_PLAIN && facts->kind[offerer] == KG_SECURE_PLAIN &&
                facts->feedback[from] == facts->feedback[offerer];
    if (facts->told[from] == KG_SHAPE_AS_IT_CAME) {
        pass(&line, is_sealed(facts));
    } else {
        line.text[offerer] = facts->said[offerer];
        line.use[from] = facts->kind[from];
        line.use[offerer] = facts->kind[offerer];
        if (same) /* nothing to be done about it */
            pass(&line, false);
    }
    line.why = why_of(facts, &line);
    return line;
}

struct kg_secure_line kg_secure_renewal(const struct kg_secure_facts *facts, enum kg_side from)
{
    enum kg_side other = kg_other_side(from);
    struct kg_secure_line line = {.why = KG_SECURED_UNDECIDED};
    if (!facts->enabled[from] || !facts->enabled[other] || !is_rtp(facts, from))
        return line;
    line.text[from] = facts->told[from];
    line.text[other] = facts->told[other];
    if (facts->told[from] == KG_SHAPE_AS_IT_CAME) {
        pass(&line, is_sealed(facts));
    } else {
        line.use[from] = facts->kind[from];
        line.use[other] = facts->use[other] == KG_SECURE_PASS ? (uint8_t)KG_SECURE_PLAIN : facts->use[other];
    }
    line.why = why_of(facts, &line);
    return line;
}
