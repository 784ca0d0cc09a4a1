/* flood ADDRESS PORT PER_SECOND SECONDS one|many: SIP requests to start things, from one or from many forged
 * IPv4 sources of 198.18.0.0/15 (RFC 2544). INVITE, REGISTER, OPTIONS and SUBSCRIBE in turn, each with its
 * own Call-ID, branch and tag. Prints how many were sent. Raw sockets: only inside of a network namespace of
 * a test. */
#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define PACKET_MAX  1500
#define SECONDS_MAX 60
#define RATE_MAX    100000

static const char *const methods[] = {"INVITE", "REGISTER", "OPTIONS", "SUBSCRIBE"};
static const char sdp[] =
    "v=0\r\no=- 1 1 IN IP4 198.18.0.1\r\ns=-\r\nc=IN IP4 198.18.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static size_t write_request(char *out, size_t size, const char *host, uint32_t source, unsigned number)
{
    const char *method = methods[number % 4];
    struct in_addr from = {.s_addr = source};
    char ip[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &from, ip, sizeof ip);
    int is_invite = number % 4 == 0;
    int n = snprintf(
        out, size,
        "%s sip:%u@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s:5060;branch=z9hG4bK%08x%08x\r\nMax-Forwards: 70\r\n"
        "From: <sip:%u@%s>;tag=%08x\r\nTo: <sip:%u@%s>\r\nCall-ID: %08x%08x@%s\r\nCSeq: 1 %s\r\n"
        "Contact: <sip:%u@%s:5060>\r\nUser-Agent: Phone/1.0\r\nExpires: 300\r\n%s%sContent-Length: "
        "%zu\r\n\r\n%s",
        method, 1000 + number % 500, host, ip, (unsigned)rand(), number, 1000 + number % 500, host,
        (unsigned)rand(), 1000 + number % 500, host, (unsigned)rand(), number, ip, method,
        1000 + number % 500, ip, number % 4 == 3 ? "Event: presence\r\n" : "",
        is_invite ? "Content-Type: application/sdp\r\n" : "", is_invite ? sizeof sdp - 1 : 0,
        is_invite ? sdp : "");
    return n > 0 && (size_t)n < size ? (size_t)n : 0;
}

static size_t write_packet(char packet[static PACKET_MAX], const struct sockaddr_in *to, const char *host,
                           unsigned number, int many)
{
    struct iphdr *ip = (struct iphdr *)packet;
    struct udphdr *udp = (struct udphdr *)(packet + sizeof *ip);
    uint32_t source = htonl(0xc6120001u + (many ? (uint32_t)rand() % 131000 : 0));
    size_t len = write_request(packet + sizeof *ip + sizeof *udp, PACKET_MAX - sizeof *ip - sizeof *udp, host,
                               source, number);
    memset(packet, 0, sizeof *ip + sizeof *udp);
    ip->version = 4;
    ip->ihl = 5;
    ip->ttl = 64;
    ip->protocol = IPPROTO_UDP;
    ip->saddr = source;
    ip->daddr = to->sin_addr.s_addr;
    ip->tot_len = htons((uint16_t)(sizeof *ip + sizeof *udp + len));
    udp->source = htons(5060);
    udp->dest = to->sin_port;
    udp->len = htons((uint16_t)(sizeof *udp + len)); /* checksum 0: none */
    return sizeof *ip + sizeof *udp + len;
}

int main(int argc, char **argv)
{
    char packet[PACKET_MAX];
    struct sockaddr_in to = {.sin_family = AF_INET};
    if (argc != 6 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
        fprintf(stderr, "usage: flood ADDRESS PORT PER_SECOND SECONDS one|many\n");
        return 2;
    }
    to.sin_port = htons((uint16_t)strtoul(argv[2], NULL, 10));
    unsigned long rate = strtoul(argv[3], NULL, 10), seconds = strtoul(argv[4], NULL, 10);
    int many = strcmp(argv[5], "many") == 0, fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
    if (fd < 0 || rate < 1 || rate > RATE_MAX || seconds < 1 || seconds > SECONDS_MAX) {
        perror("flood");
        return 1;
    }
    int64_t start = now_us();
    unsigned long sent = 0, lost = 0, total = rate * seconds;
    for (unsigned long i = 0; i < total; i++) {
        int64_t wait = start + (int64_t)(i * 1000000 / rate) - now_us();
        if (wait > 500) {
            struct timespec pause = {.tv_nsec = wait * 1000};
            nanosleep(&pause, NULL);
        }
        size_t len = write_packet(packet, &to, argv[1], (unsigned)i, many);
        if (sendto(fd, packet, len, 0, (struct sockaddr *)&to, sizeof to) == (ssize_t)len)
            sent++;
        else
            lost++;
    }
    printf("%lu sent, %lu not, in %.1f s\n", sent, lost, (double)(now_us() - start) / 1e6);
    return 0;
}
