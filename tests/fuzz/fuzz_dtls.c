/* Datagrams of any content, among the real ones of a handshake, at both ends: whatever arrives, an
 * association that has keys has the peer's, and nothing is sent without end. Input: a byte that says what
 * happens next, then its data. */
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "media/dtls.h"
#include "media/dtls_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int64_t clock_ms = 1000;
int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    now->tv_sec = clock_ms / 1000;
    now->tv_usec = clock_ms % 1000 * 1000;
    return 0;
}

static void require(int truth)
{
    if (!truth)
        abort();
}

/* The datagram that each end sent last. */
static struct {
    uint8_t data[KG_DTLS_DATAGRAM_MAX];
    size_t len;
} last[2];

static void collect(struct kg_dtls *end[2], int silent)
{
    uint8_t out[KG_DTLS_DATAGRAM_MAX];
    size_t len;

    for (int i = 0; i < 2; i++)
        for (int count = 0; kg_dtls_poll(end[i], clock_ms, out, &len); count++) {
            require(len > 0 && len <= 1200 && count < 100);
            memcpy(last[i].data, out, len);
            last[i].len = len;
            if (i != silent)
                kg_dtls_receive(end[!i], out, len, "source", 6, clock_ms);
        }
}

static void check_keys(struct kg_dtls *end[2])
{
    struct kg_srtp_keys send[2], receive[2];
    bool keys[2];

    for (int i = 0; i < 2; i++) {
        keys[i] = kg_dtls_keys(end[i], &send[i], &receive[i]);
        require(keys[i] == (kg_dtls_state(end[i]) == KG_DTLS_ESTABLISHED));
        require((kg_dtls_reason(end[i]) != NULL) == (kg_dtls_state(end[i]) == KG_DTLS_FAILED));
        require(kg_dtls_state(end[i]) == KG_DTLS_HANDSHAKE || kg_dtls_next_ms(end[i]) == INT64_MAX);
    }
    if (keys[0] && keys[1])
        require(kg_srtp_keys_equal(&send[0], &receive[1]) && kg_srtp_keys_equal(&send[1], &receive[0]));
}

static void play(struct kg_dtls *end[2], const uint8_t *data, size_t size)
{
    while (size > 0) {
        uint8_t what = *data++;
        int who = what & 1;
        size_t len;

        size--;
        switch (what >> 1 & 7) {
        case 0: /* the ends talk */
            collect(end, 2);
            break;
        case 1: /* what one of them says is lost */
            collect(end, who);
            break;
        case 2:
            clock_ms += (int64_t)what * 10;
            break;
        case 3: /* its last datagram with a byte changed arrives at the other */
            if (size >= 2 && last[who].len > 0) {
                uint8_t copy[KG_DTLS_DATAGRAM_MAX];
                len = last[who].len;
                memcpy(copy, last[who].data, len);
                copy[(data[0] * 7u + (what >> 4)) % len] ^= data[1];
                kg_dtls_receive(end[!who], copy, len, "source", 6, clock_ms);
                data += 2;
                size -= 2;
            }
            break;
        default: /* anything arrives */
            len = size > 0 ? data[0] : 0;
            len = len < size ? len : size;
            kg_dtls_receive(end[who], data, len, "source", 6, clock_ms);
            data += len;
            size -= len;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t secret[KG_DTLS_SECRET] = "secret";
    static struct kg_dtls_identity *identity[2];
    struct kg_dtls *end[2];

    for (int i = 0; i < 2; i++) {
        if (!identity[i])
            require((identity[i] = kg_dtls_identity_new()) != NULL);
        require(
            (end[i] = kg_dtls_new(&(struct kg_dtls_settings){
                 .identity = identity[i], .active = i == 0, .proven = size % 2 == 1, .secret = secret})) !=
            NULL);
    }
    for (int i = 0; i < 2; i++)
        kg_dtls_expect(end[i], kg_dtls_identity_fingerprint(identity[!i]), 1);
    last[0].len = last[1].len = 0;
    kg_dtls_start(end[0], clock_ms);
    play(end, data, size);
    collect(end, 2);
    check_keys(end);
    kg_dtls_free(end[0]);
    kg_dtls_free(end[1]);
    return 0;
}
