/* What the other side reads of keys: its peer's, untouched, or ours; and the transport of each m-line. */
#include <string.h>

#include "b2bua/sdp/rewrite.h"

static bool is_key(const struct kg_sdp_line *line)
{
    return line->type == 'a' && line->attribute >= KG_SDP_CRYPTO && line->attribute <= KG_SDP_KEY_OTHER;
}

bool kg_sdp_keys_are_shared(const struct kg_sdp *sdp, const struct kg_sdp_local *local)
{
    for (size_t i = 0; i < sdp->media_count; i++)
        if (local[i].keys == KG_SDP_KEYS_OURS)
            return false;
    return true;
}

/* Numbers of keys may look like addresses, and are opaque. */
void kg_sdp_keys_put(struct kg_sdp_out *out, const struct kg_sdp_line *line)
{
    if (line->attribute == KG_SDP_KEY_OTHER)
        kg_sdp_put_harmless(out, line);
    else
        kg_sdp_put_line(out, line);
}

void kg_sdp_keys_put_line(struct kg_sdp_out *out, const struct kg_sdp_part *part,
                          const struct kg_sdp_line *line)
{
    if (part->local->keys == KG_SDP_KEYS_KEEP)
        kg_sdp_keys_put(out, line);
}

static bool says(const struct kg_sdp_part *part, enum kg_sdp_attribute attribute)
{
    for (size_t i = part->media->first; i < part->media->end; i++) {
        const struct kg_sdp_line *line = &part->sdp->line[i];
        if (line->type == 'a' && line->attribute == attribute)
            return true;
    }
    return false;
}

/* What the session part says no more, since it does not hold for every m-line of the result. */
static void put_inherited(struct kg_sdp_out *out, const struct kg_sdp_part *part)
{
    for (size_t i = 0; i < part->sdp->session_end; i++) {
        const struct kg_sdp_line *line = &part->sdp->line[i];
        if (is_key(line) && line->attribute != KG_SDP_CRYPTO &&
            !says(part, (enum kg_sdp_attribute)line->attribute))
            kg_sdp_keys_put(out, line);
    }
}

void kg_sdp_keys_put_end(struct kg_sdp_out *out, const struct kg_sdp_part *part, bool shared)
{
    const struct kg_sdp_our_keys *ours = part->transport->ours;
    if (part->local->keys == KG_SDP_KEYS_KEEP) {
        if (!shared)
            put_inherited(out, part);
        return;
    }
    /* A line that shares its transport repeats the certificate, as browsers do. RFC 9143 7.1.3 has the first
     * one say it, but of an answer with a line without one Firefox dies. */
    if (!ours || !part->on || !part->media->rtp)
        return;
    for (uint8_t i = 0; i < ours->crypto_count && !part->shares; i++)
        if (!(part->crypto_left_out >> i & 1))
            kg_sdp_put_crypto(out, &ours->crypto[i]);
    if (ours->fingerprint.hash == KG_FINGERPRINT_NONE)
        return;
    kg_sdp_put_fingerprint(out, &ours->fingerprint);
    kg_sdp_put_setup(out, (enum kg_dtls_setup)ours->setup);
    if (ours->tls_id) {
        KG_SDP_PUT(out, "a=tls-id:");
        kg_sdp_put_text(out, ours->tls_id);
        KG_SDP_PUT(out, "\r\n");
    }
}

/* RFC 3264 6: an answer has the transport of the offer. */
struct kg_sdp_text kg_sdp_proto(const struct kg_sdp_part *part)
{
    const struct kg_sdp_reader *reader = part->reader;
    const struct kg_sdp_our_keys *ours = part->local->ours;
    bool changes = part->local->keys == KG_SDP_KEYS_OURS || reader->kind != KG_SDP_LIKE_WRITER;
    if (changes && reader->answers && reader->said && part->number < reader->said->media_count)
        return reader->said->media[part->number].proto;
    if (part->local->keys == KG_SDP_KEYS_KEEP || !part->media->rtp ||
        (ours && ours->profile == KG_SDP_NOT_RTP))
        return part->media->proto;
    const char *name = kg_sdp_profile_name(ours ? (enum kg_sdp_profile)ours->profile : KG_SDP_AVP);
    return (struct kg_sdp_text){name, (uint16_t)strlen(name)};
}

/* Lines that are dropped first when the text has to be shorter: the weaker tag of a suite that is there with
 * the stronger one, then what few phones have. AES_CM_128_HMAC_SHA1_80 is the one that all have (RFC
 * 4568 6.2). */
static const uint8_t dispensable[] = {
    KG_SRTP_AES_CM_256_SHA1_32, KG_SRTP_AES_CM_128_SHA1_32, KG_SRTP_AES_CM_256_SHA1_80,
    KG_SRTP_AEAD_AES_128_GCM,   KG_SRTP_AEAD_AES_256_GCM,
};

static size_t prune_line(const struct kg_sdp_our_keys *ours, uint8_t suite, uint32_t *left_out, size_t *saved)
{
    size_t n = 0;
    for (uint8_t i = 0; i < ours->crypto_count; i++) {
        uint32_t all = (1u << ours->crypto_count) - 1;
        struct kg_sdp_out text = {0};
        if (ours->crypto[i].keys.suite != suite || *left_out >> i & 1 || (*left_out | 1u << i) == all)
            continue;
        kg_sdp_put_crypto(&text, &ours->crypto[i]);
        *saved += text.len;
        kg_sdp_out_clear(&text);
        *left_out |= 1u << i;
        n++;
    }
    return n;
}

/* Its keys are written. */
static bool is_written(const struct kg_sdp *sdp, const struct kg_sdp_local *local,
                       const struct kg_sdp_reader *reader, size_t i)
{
    struct kg_sdp_part part = {
        .sdp = sdp, .media = &sdp->media[i], .local = &local[i], .reader = reader, .number = i};
    bool shares = reader->kind == KG_SDP_WEB && local[i].bundle && local[i].bundle != i + 1;
    return local[i].keys == KG_SDP_KEYS_OURS && local[i].ours && sdp->media[i].rtp && !shares &&
           kg_sdp_web_is_on(&part);
}

size_t kg_sdp_keys_prune(const struct kg_sdp *sdp, const struct kg_sdp_local *local,
                         const struct kg_sdp_reader *reader, size_t excess,
                         uint32_t left_out[static KG_SDP_MEDIA_MAX])
{
    size_t saved = 0, n = 0;
    for (size_t d = 0; d < sizeof(dispensable) && saved < excess; d++)
        for (size_t i = sdp->media_count; i-- > 0 && saved < excess;)
            if (is_written(sdp, local, reader, i) && local[i].ours->crypto_count <= KG_SDP_CRYPTO_MAX)
                n += prune_line(local[i].ours, dispensable[d], &left_out[i], &saved);
    return n;
}
