/* SRTP and SRTCP of any content, in every suite, with MKIs and while keys change: nothing authenticates,
 * nothing is changed. And RTP of any content that is to be protected: what comes out is opened again, or was
 * refused. First byte: suite and what is done; the rest is the packet. */
#include <stdlib.h>
#include <string.h>

#include "media/srtp.h"

static struct kg_srtp_keys keys_of(enum kg_srtp_suite suite, uint8_t fill, uint8_t mki_len)
{
    struct kg_srtp_keys keys = {.suite = (uint8_t)suite, .count = mki_len ? 2 : 1};
    for (uint8_t i = 0; i < keys.count; i++) {
        keys.key[i].mki_len = mki_len;
        keys.key[i].mki[0] = i;
        memset(keys.key[i].bytes, fill + i, sizeof keys.key[i].bytes);
    }
    return keys;
}

static void protect(struct kg_srtp *srtp, struct kg_srtp *other, uint8_t *data, size_t size, bool rtcp)
{
    size_t len = size, room = size + KG_SRTP_GROWTH;
    enum kg_srtp_result result =
        rtcp ? kg_srtp_protect_rtcp(srtp, data, &len, room) : kg_srtp_protect(srtp, data, &len, room);
    if (result != KG_SRTP_OK)
        return;
    if (len > room)
        abort();
    result = rtcp ? kg_srtp_unprotect_rtcp(other, data, &len, 0) : kg_srtp_unprotect(other, data, &len, 0);
    if (result != KG_SRTP_OK || len != size)
        abort();
}

static void unprotect(struct kg_srtp *srtp, uint8_t *data, size_t size, bool rtcp)
{
    size_t len = size;
    uint8_t *copy = malloc(size + 1);
    if (!copy)
        abort();
    memcpy(copy, data, size);
    if ((rtcp ? kg_srtp_unprotect_rtcp(srtp, data, &len, 0) : kg_srtp_unprotect(srtp, data, &len, 0)) ==
            KG_SRTP_OK ||
        len != size || memcmp(copy, data, size) != 0)
        abort();
    free(copy);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return kg_srtp_init();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    enum kg_srtp_suite suite = (enum kg_srtp_suite)(1 + (data[0] & 7) % (KG_SRTP_SUITES - 1));
    bool rtcp = data[0] & 8, sending = data[0] & 16;
    /* What has an MKI and a short tag opens the reports of its first key alone; with it alone it is tried. */
    struct kg_srtp_keys keys = keys_of(suite, 1, data[0] & 32 ? 4 : 0),
                        before = keys_of(KG_SRTP_AES_CM_128_SHA1_80, 9, 0);
    struct kg_srtp *srtp = kg_srtp_new(), *other = kg_srtp_new();
    uint8_t *packet = malloc(size - 1 + KG_SRTP_GROWTH), *exact = malloc(size);
    if (!srtp || !other || !packet || !exact)
        abort();
    memcpy(packet, data + 1, size - 1);
    memcpy(exact, data + 1, size - 1);
    if (data[0] & 64 && kg_srtp_set_receive(other, &before, 0) != 0)
        abort();
    if (kg_srtp_set_send(srtp, &keys, 0) != 0 || kg_srtp_set_receive(other, &keys, 0) != 0)
        abort();
    if (sending)
        protect(srtp, other, packet, size - 1, rtcp);
    else
        unprotect(other, exact, size - 1, rtcp);
    kg_srtp_free(srtp);
    kg_srtp_free(other);
    free(packet);
    free(exact);
    return 0;
}
