/* CPU of one SRTP packet: kg_srtp with OpenSSL behind libsrtp2, and with the ciphers that libsrtp2 came with
 * (in a child process, where ours are not installed). And the memory of one context. One argument: bytes of
 * RTP payload (188: a packet of 200). */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <srtp2/srtp.h>

#include "media/srtp.h"
#include "tests/unit/srtp_packets.h"

enum { PACKETS = 200000, ROUNDS = 3, CONTEXTS = 1000 };

static double cpu(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static struct kg_srtp *context(const struct kg_srtp_keys *keys)
{
    struct kg_srtp *srtp = kg_srtp_new();
    if (!srtp || kg_srtp_set_send(srtp, keys, 0) || kg_srtp_set_receive(srtp, keys, 0)) {
        fprintf(stderr, "no SRTP context\n");
        exit(1);
    }
    return srtp;
}

/* Microseconds for a packet, the best of some rounds. Copying it in is subtracted. */
static void measure(enum kg_srtp_suite suite, size_t payload, double *protect, double *unprotect)
{
    struct kg_srtp_keys keys = keys_of(suite, 1);
    struct packet plain = rtp_shaped(1, 0, payload, 0, -1), packet = plain;
    *protect = *unprotect = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        struct kg_srtp *srtp = context(&keys);
        double both = 0, sent = 0;
        for (int pass = 0; pass < 2; pass++) {
            struct kg_srtp *side = pass ? context(&keys) : srtp;
            double start = cpu();
            for (unsigned i = 0; i < PACKETS; i++) {
                memcpy(packet.data, plain.data, plain.len);
                packet.len = plain.len;
                put16(packet.data + 2, i & 0xffff);
                if (kg_srtp_protect(side, packet.data, &packet.len, ROOM) != KG_SRTP_OK ||
                    (pass && kg_srtp_unprotect(side, packet.data, &packet.len, 0) != KG_SRTP_OK)) {
                    fprintf(stderr, "a packet was refused\n");
                    exit(1);
                }
            }
            *(pass ? &both : &sent) = (cpu() - start) * 1e6 / PACKETS;
            if (pass)
                kg_srtp_free(side);
        }
        kg_srtp_free(srtp);
        *protect = sent < *protect ? sent : *protect;
        *unprotect = both - sent < *unprotect ? both - sent : *unprotect;
    }
}

static double memory(enum kg_srtp_suite suite)
{
    static struct kg_srtp *srtp[CONTEXTS];
    struct kg_srtp_keys keys = keys_of(suite, 1);
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < CONTEXTS; i++) {
        struct packet packet = rtp(1, 1);
        srtp[i] = context(&keys);
        kg_srtp_protect(srtp[i], packet.data, &packet.len, ROOM);
        kg_srtp_unprotect(srtp[i], packet.data, &packet.len, 0);
    }
    double each = (double)(mallinfo2().uordblks - before) / CONTEXTS;
    for (int i = 0; i < CONTEXTS; i++)
        kg_srtp_free(srtp[i]);
    return each;
}

static double setup(enum kg_srtp_suite suite)
{
    struct kg_srtp_keys keys = keys_of(suite, 1);
    double start = cpu();
    for (int i = 0; i < CONTEXTS; i++)
        kg_srtp_free(context(&keys));
    return (cpu() - start) * 1e6 / CONTEXTS;
}

static void table(const char *ciphers, size_t payload)
{
    for (int suite = KG_SRTP_NONE + 1; suite < KG_SRTP_SUITES; suite++) {
        double protect, unprotect;
        measure((enum kg_srtp_suite)suite, payload, &protect, &unprotect);
        printf("| %s | %s | %.2f | %.2f | %.1f | %.1f |\n", kg_srtp_suite_name((enum kg_srtp_suite)suite),
               ciphers, protect, unprotect, memory((enum kg_srtp_suite)suite) / 1000,
               setup((enum kg_srtp_suite)suite));
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    size_t payload = argc > 1 ? strtoul(argv[1], NULL, 10) : 188;
    if (payload > ROOM - 12 - KG_SRTP_GROWTH)
        return 2;
    printf("| suite | ciphers | protect us | unprotect us | memory kB | made and freed us "
           "|\n|---|---|---|---|---|---|\n");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (srtp_init() != srtp_err_status_ok)
            _exit(1);
        table("stock", payload);
        _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status != 0 || kg_srtp_init() != 0)
        return 1;
    table("OpenSSL", payload);
    return 0;
}
