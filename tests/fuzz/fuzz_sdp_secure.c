/* b2bua/sdp/, keys and WebRTC: whatever the writer says of keys, a reader of each kind gets kedge's and
 * nothing of the writer's; what is written parses, and says what was asked for. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "b2bua/sdp/sdp.h"

#define LINES_MAX 1800 /* of an input; a rewrite adds some */

#define OUR_HOST "203.0.113.201"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds, const char *what, const char *text)
{
    if (!holds) {
        fprintf(stderr, "%s\n%s\n", what, text);
        abort();
    }
}

static bool has_line(const char *text, const char *begin)
{
    size_t len = strlen(begin);
    for (const char *line = text; *line; line = strchr(line, '\n') + 1)
        if (*line == *begin && strncasecmp(line, begin, len) == 0)
            return true;
    return false;
}

/* The names of a BUNDLE group are those of m-lines that are there. */
static void check_group(const char *text, const struct kg_media_side *side)
{
    const char *group = strstr(text, "\na=group:BUNDLE");
    if (!group)
        return;
    char copy[4096], *save = NULL;
    snprintf(copy, sizeof(copy), "%.*s", (int)strcspn(group + 1, "\r"), group + 1);
    char *mid = strtok_r(copy, " ", &save);
    while ((mid = strtok_r(NULL, " ", &save))) {
        bool found = strlen(mid) >= KG_MEDIA_MID_MAX; /* longer ones are not told apart */
        for (unsigned i = 0; i < side->stream_count; i++)
            found |= side->stream[i].enabled && strcmp(side->stream[i].mid, mid) == 0;
        expect(found, "a name in the group that no enabled line has", text);
    }
}

static void check_line(const struct kg_sdp *read, unsigned line, const struct kg_sdp_local *local,
                       const char *text)
{
    struct kg_sdp_secure secure;
    bool shares = local->bundle && local->bundle != line + 1;
    expect(kg_sdp_secure(read, line, &secure) == 0, "no keys read", text);
    expect(secure.crypto_count == (shares ? 0 : local->ours->crypto_count), "a=crypto lines", text);
    expect(secure.fingerprint_count == 1, "fingerprints", text); /* lines that share repeat it */
    expect(!secure.says_zrtp && !secure.says_mikey, "keys of the writer's", text);
    for (unsigned i = 0; i < secure.crypto_count; i++)
        expect(kg_srtp_keys_equal(&secure.crypto[i].keys, &local->ours->crypto[i].keys) &&
                   secure.crypto[i].tag == local->ours->crypto[i].tag,
               "other keys than ours", text);
}

static void check(const struct kg_sdp *sdp, const struct kg_media_side *side, struct kg_sdp_local *local,
                  const struct kg_sdp_reader *reader)
{
    struct kg_sdp_origin origin = {.id = 1, .version = 1};
    struct kg_media_side again = {0};
    struct kg_sdp_local planned[KG_MEDIA_STREAMS_MAX];
    char error[160] = "";
    size_t len, len2;
    memcpy(planned, local, sizeof(planned));
    kg_sdp_plan_bundle(sdp, reader, NULL, planned, side->stream_count);
    char *text = kg_sdp_rewrite_within(sdp, planned, side->stream_count, reader, &origin, 0, NULL, &len);
    expect(text && strlen(text) == len, "not written", "");
    struct kg_sdp *read = kg_sdp_parse(text, len, error, sizeof(error));
    expect(read != NULL, error, text);
    expect(kg_sdp_describe(read, &again) == 0 && again.stream_count == side->stream_count, "not described",
           text);
    for (unsigned i = 0; i < again.stream_count; i++) {
        expect(!again.stream[i].enabled || kg_addr_same_host(&again.stream[i].rtp, &planned[i].rtp),
               "not our host", text);
        if (again.stream[i].enabled && again.stream[i].codec_count > 0)
            check_line(read, i, &planned[i], text);
    }
    expect(kg_sdp_check_answer(sdp, read, error, sizeof(error)) == 0 ||
               strstr(error, "offered with port 0"), /* bundle-only */
           error, text);
    if (reader->kind == KG_SDP_WEB)
        check_group(text, &again);
    if (reader->kind == KG_SDP_LEGACY) {
        static const char *const gone[] = {"a=group:", "a=ssrc:", "a=msid:", "a=extmap:", "a=rid:"};
        for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
            expect(!has_line(text, gone[i]), gone[i], text);
        expect(reader->said || !has_line(text, "a=mid:"), "a=mid", text);
    }
    char *twice = kg_sdp_rewrite_within(sdp, planned, side->stream_count, reader, &origin, 0, NULL, &len2);
    expect(twice && len == len2 && memcmp(text, twice, len) == 0 && origin.version == 1, "another text",
           text);
    free(twice);
    for (size_t budget = len; budget > 100; budget /= 2) {
        struct kg_sdp_pruned pruned;
        origin = (struct kg_sdp_origin){.id = 1, .version = 1};
        twice =
            kg_sdp_rewrite_within(sdp, planned, side->stream_count, reader, &origin, budget, &pruned, &len2);
        expect(twice && pruned.too_big == (len2 > budget), "budget", text);
        free(twice);
    }
    free(text);
    kg_sdp_free(read);
}

/* Whatever is read has bounds and reasons. */
static void check_read(const struct kg_sdp *sdp, unsigned lines)
{
    struct kg_sdp_bad_key bad[16];
    struct kg_sdp_secure secure;
    for (unsigned i = 0; i < lines; i++) {
        expect(kg_sdp_secure(sdp, i, &secure) == 0, "not read", "");
        expect(secure.crypto_count <= KG_SDP_CRYPTO_MAX && secure.fingerprint_count <= KG_FINGERPRINTS_MAX,
               "bounds", "");
        for (unsigned c = 0; c < secure.crypto_count; c++) {
            const struct kg_srtp_keys *keys = &secure.crypto[c].keys;
            expect(keys->suite > KG_SRTP_NONE && keys->suite < KG_SRTP_SUITES && keys->count > 0 &&
                       keys->count <= KG_SRTP_KEYS_MAX && secure.crypto[c].tag <= KG_SDP_CRYPTO_TAG_MAX,
                   "a key out of bounds", "");
        }
        for (size_t b = kg_sdp_bad_keys(sdp, i, bad, 16); b-- > 0;)
            expect(bad[b].reason && strlen(bad[b].text) < sizeof(bad[b].text) &&
                       (strncmp(bad[b].text, "fingerprint:", 12) == 0 || !strstr(bad[b].text, "inline")),
                   "a key is shown", bad[b].text);
        kg_sdp_secure_clear(&secure);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kg_media_side side = {0};
    struct kg_sdp_local local[KG_MEDIA_STREAMS_MAX] = {0};
    struct kg_sdp_crypto crypto[2] = {{.tag = 7, .keys = {.suite = KG_SRTP_AES_CM_128_SHA1_80, .count = 1}},
                                      {.tag = 9, .keys = {.suite = KG_SRTP_AEAD_AES_256_GCM, .count = 1}}};
    struct kg_sdp_our_keys ours = {.crypto = crypto, .crypto_count = 2, .setup = KG_SETUP_ACTPASS};
    char error[200];
    size_t lines = 0;
    for (size_t i = 0; i < size; i++)
        lines += data[i] == '\n';
    struct kg_sdp *sdp = kg_sdp_parse((const char *)data, size, error, sizeof(error));
    if (!sdp)
        return 0;
    ours.fingerprint = (struct kg_fingerprint){.hash = KG_FINGERPRINT_SHA256, .len = 32};
    memset(crypto[0].keys.key[0].bytes, (int)size, sizeof(crypto[0].keys.key[0].bytes));
    ours.profile = (uint8_t)(KG_SDP_AVP + size % 4);
    if (lines < LINES_MAX && size < 55000 && kg_sdp_describe(sdp, &side) == 0) {
        kg_sdp_describe_bundle(sdp, &side);
        check_read(sdp, side.stream_count);
        kg_sdp_is_web(sdp);
        expect(kg_sdp_have_common_codec(sdp, "a", sdp, "b", error, sizeof(error)) ||
                   strstr(error, "none that"),
               error, "");
        expect(kg_sdp_same_but_keys(sdp, sdp, KG_SDP_LEGACY), "differs from itself", "");
        for (unsigned i = 0; i < side.stream_count; i++) {
            kg_addr_parse_host(OUR_HOST, (uint16_t)(40000 + 2 * i), &local[i].rtp);
            local[i].rtcp = local[i].rtp;
            local[i].rtcp_mux = true;
            local[i].keys = KG_SDP_KEYS_OURS;
            local[i].ours = &ours;
            local[i].ice = size & 4 ? KG_SDP_ICE_OURS : KG_SDP_ICE_NONE;
            local[i].ufrag = "kdge";
            local[i].pwd = "kdgekdgekdgekdgekdgekd";
        }
        for (int kind = KG_SDP_LIKE_WRITER; kind <= KG_SDP_WEB; kind++)
            for (int answers = 0; answers < 2; answers++)
                check(sdp, &side, local,
                      &(struct kg_sdp_reader){(enum kg_sdp_kind)kind, answers,
                                              answers || size & 8 ? sdp : NULL});
    }
    kg_sdp_free(sdp);
    return 0;
}
