/* The part of the control protocol that is about keys: what secures a line, fingerprints. Strict on the way
 * in: what is not understood must not become a line in the clear. */
#include <stdlib.h>
#include <string.h>

#include "media/wire.h"

void kg_wire_free(void *data, size_t len)
{
    if (data)
        explicit_bzero(data, len);
    free(data);
}

static bool put_bytes(struct kg_arena *arena, ProtobufCBinaryData *out, const uint8_t *bytes, size_t len)
{
    out->data = kg_arena_take(arena, len ? len : 1);
    if (out->data == NULL)
        return false;
    memcpy(out->data, bytes, len);
    out->len = len;
    return true;
}

Kg__Fingerprint *kg_wire_from_fingerprint(struct kg_arena *arena, const struct kg_fingerprint *fingerprint)
{
    Kg__Fingerprint *out = kg_arena_take(arena, sizeof *out);
    if (out == NULL)
        return NULL;
    kg__fingerprint__init(out);
    out->hash = fingerprint->hash;
    return put_bytes(arena, &out->bytes, fingerprint->bytes, fingerprint->len) ? out : NULL;
}

bool kg_wire_to_fingerprint(const Kg__Fingerprint *wire, struct kg_fingerprint *out)
{
    static const uint8_t len[] = {
        [KG_FINGERPRINT_SHA256] = 32, [KG_FINGERPRINT_SHA384] = 48, [KG_FINGERPRINT_SHA512] = 64};
    *out = (struct kg_fingerprint){0};
    if (wire == NULL || wire->hash < KG_FINGERPRINT_SHA256 || wire->hash > KG_FINGERPRINT_SHA512 ||
        wire->bytes.len != len[wire->hash])
        return false;
    out->hash = (uint8_t)wire->hash;
    out->len = (uint8_t)wire->bytes.len;
    memcpy(out->bytes, wire->bytes.data, wire->bytes.len);
    return true;
}

static Kg__SrtpKeys *from_keys(struct kg_arena *arena, const struct kg_srtp_keys *keys)
{
    size_t len = kg_srtp_suite_key_len((enum kg_srtp_suite)keys->suite);
    Kg__SrtpKeys *out = kg_arena_take(arena, sizeof *out);
    Kg__SrtpKey **list = kg_arena_take(arena, KG_SRTP_KEYS_MAX * sizeof *list);
    if (out == NULL || list == NULL)
        return NULL;
    kg__srtp_keys__init(out);
    out->suite = keys->suite;
    out->key = list;
    for (; out->n_key < keys->count && out->n_key < KG_SRTP_KEYS_MAX; out->n_key++) {
        const struct kg_srtp_key *from = &keys->key[out->n_key];
        Kg__SrtpKey *key = list[out->n_key] = kg_arena_take(arena, sizeof *key);
        if (key == NULL)
            return NULL;
        kg__srtp_key__init(key);
        if (!put_bytes(arena, &key->mki, from->mki, from->mki_len) ||
            !put_bytes(arena, &key->bytes, from->bytes, len))
            return NULL;
    }
    return out;
}

static bool to_keys(const Kg__SrtpKeys *wire, struct kg_srtp_keys *out)
{
    if (wire == NULL)
        return true;
    if (wire->suite <= KG_SRTP_NONE || wire->suite >= KG_SRTP_SUITES || wire->n_key == 0 ||
        wire->n_key > KG_SRTP_KEYS_MAX)
        return false;
    out->suite = (uint8_t)wire->suite;
    size_t len = kg_srtp_suite_key_len((enum kg_srtp_suite)out->suite);
    for (; out->count < wire->n_key; out->count++) {
        const Kg__SrtpKey *from = wire->key[out->count];
        struct kg_srtp_key *key = &out->key[out->count];
        if (from->bytes.len != len || from->mki.len > KG_SRTP_MKI_MAX)
            return false;
        key->mki_len = (uint8_t)from->mki.len;
        if (from->mki.len > 0)
            memcpy(key->mki, from->mki.data, from->mki.len);
        memcpy(key->bytes, from->bytes.data, len);
    }
    return true;
}

Kg__Secure *kg_wire_from_secure(struct kg_arena *arena, const struct kg_media_secure *secure)
{
    Kg__Secure *out = kg_arena_take(arena, sizeof *out);
    if (out == NULL)
        return NULL;
    kg__secure__init(out);
    out->use = secure->use;
    out->sealed = secure->sealed;
    out->feedback = secure->feedback;
    out->setup = secure->setup;
    out->association = secure->association;
    if ((secure->send.suite != KG_SRTP_NONE && !(out->send = from_keys(arena, &secure->send))) ||
        (secure->receive.suite != KG_SRTP_NONE && !(out->receive = from_keys(arena, &secure->receive))) ||
        (secure->ours.hash != KG_FINGERPRINT_NONE &&
         !(out->ours = kg_wire_from_fingerprint(arena, &secure->ours))))
        return NULL;
    out->fingerprint = kg_arena_take(arena, KG_FINGERPRINTS_MAX * sizeof(Kg__Fingerprint *));
    if (out->fingerprint == NULL)
        return NULL;
    for (; out->n_fingerprint < secure->fingerprint_count && out->n_fingerprint < KG_FINGERPRINTS_MAX;
         out->n_fingerprint++) {
        Kg__Fingerprint *one = kg_wire_from_fingerprint(arena, &secure->fingerprint[out->n_fingerprint]);
        if (one == NULL)
            return NULL;
        out->fingerprint[out->n_fingerprint] = one;
    }
    return out;
}

const struct kg_media_secure *kg_wire_to_secure(struct kg_arena *arena, const Kg__Secure *secure)
{
    struct kg_media_secure *out = kg_arena_take(arena, sizeof *out);
    if (out == NULL || secure->use > KG_SECURE_DTLS || secure->setup > KG_SETUP_HOLDCONN ||
        secure->n_fingerprint > KG_FINGERPRINTS_MAX || !to_keys(secure->send, &out->send) ||
        !to_keys(secure->receive, &out->receive) ||
        (secure->ours && !kg_wire_to_fingerprint(secure->ours, &out->ours)))
        return NULL;
    for (size_t i = 0; i < secure->n_fingerprint; i++)
        if (!kg_wire_to_fingerprint(secure->fingerprint[i], &out->fingerprint[i]))
            return NULL;
    out->use = (uint8_t)secure->use;
    out->sealed = secure->sealed;
    out->feedback = secure->feedback;
    out->setup = (uint8_t)secure->setup;
    out->fingerprint_count = (uint8_t)secure->n_fingerprint;
    out->association = secure->association;
    return out;
}
