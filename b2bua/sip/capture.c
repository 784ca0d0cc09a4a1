#include "b2bua/sip/capture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <sofia-sip/msg_addr.h>
#include <sofia-sip/nta_tport.h>
#include <sofia-sip/tport.h>
#include <sofia-sip/tport_tag.h>

#include "conf/hep.h"
#include "conf/log.h"

#define INTERPOSED __attribute__((visibility("default")))

/* Pieces of one message; a longer one is cut. */
#define PIECES_MAX 80

static struct {
    int fd; /* -1: off */
    struct kg_addr server;
    uint32_t agent;
} capture = {.fd = -1};

bool kg_capture_is_on(void)
{
    return capture.fd >= 0;
}

static void send_packet(struct kg_hep_packet *packet)
{
    static uint8_t out[KG_HEP_MAX];
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    packet->wall_us = (int64_t)wall.tv_sec * 1000000 + wall.tv_nsec / 1000;
    send(capture.fd, out, kg_hep_encode(packet, capture.agent, out, sizeof out), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void kg_capture_rtcp(const struct kg_addr *source, const struct kg_addr *destination, const char *call_id,
                     const char *json)
{
    if (capture.fd < 0 || kg_addr_family(source) != kg_addr_family(destination))
        return;
    send_packet(&(struct kg_hep_packet){.kind = KG_HEP_RTCP,
                                        .source = *source,
                                        .destination = *destination,
                                        .correlation = call_id,
                                        .payload = json,
                                        .len = strlen(json)});
}

void kg_capture_hide_keys(char *text, size_t len)
{
    static const char inline_[] = "inline:"; /* in any case (RFC 5234 2.3) */
    size_t name = sizeof inline_ - 1;
    for (size_t at = 0; at + name <= len; at++) {
        if (text[at + name - 1] != ':' || strncasecmp(text + at, inline_, name) != 0)
            continue;
        for (at += name; at < len && !(text[at] && strchr("\r\n |", text[at])); at++)
            text[at] = 'x';
    }
}

/* "192.0.2.1" or "[2001:db8::1]" and a port, as a transport is named; none if it is neither. */
static struct kg_addr addr_of(const tp_name_t *name)
{
    struct kg_addr addr = {0};
    unsigned long port = name->tpn_port ? strtoul(name->tpn_port, NULL, 10) : 0;
    if (!name->tpn_host || port > 65535 || kg_addr_parse_host(name->tpn_host, (uint16_t)port, &addr))
        return (struct kg_addr){0};
    return addr;
}

static size_t text_of(msg_t *msg, char *out, size_t size)
{
    msg_iovec_t piece[PIECES_MAX];
    size_t count = msg_iovec(msg, piece, PIECES_MAX), used = 0;
    for (size_t i = 0; i < count && i < PIECES_MAX && used < size; i++) {
        size_t len = piece[i].mv_len < size - used ? piece[i].mv_len : size - used;
        memcpy(out + used, piece[i].mv_base, len);
        used += len;
    }
    return used;
}

void tport_log_msg(tport_t *tport, msg_t *msg, char const *what, char const *via, su_time_t now);

/* The library's, called by it for each message sent and received once it is told to log: what is "recv" came
 * from the other end. */
INTERPOSED void tport_log_msg(tport_t *tport, msg_t *msg, char const *what, char const *via, su_time_t now)
{
    (void)via;
    (void)now;
    static char text[KG_HEP_MAX];
    if (capture.fd < 0)
        return;
    bool stream = tport_is_secondary(tport), received = strcmp(what, "recv") == 0;
    struct kg_addr local = addr_of(tport_name(tport_parent(tport)));
    struct kg_addr remote =
        stream ? addr_of(tport_name(tport)) : kg_addr_from_sockaddr(&msg_addr(msg)->su_sa);
    size_t len = text_of(msg, text, sizeof text);
    if (len == 0 || !kg_addr_is_set(&local) || !kg_addr_is_set(&remote))
        return;
    kg_capture_hide_keys(text, len);
    send_packet(&(struct kg_hep_packet){.kind = KG_HEP_SIP,
                                        .source = received ? remote : local,
                                        .destination = received ? local : remote,
                                        .tcp = stream,
                                        .payload = text,
                                        .len = len});
}

void kg_capture_configure(nta_agent_t *agent, const struct kg_config *config)
{
    const struct kg_addr *server = &config->hep.server;
    char text[KG_ADDR_STR];
    capture.agent = config->hep.agent;
    if (!kg_addr_equal(server, &capture.server)) {
        if (capture.fd >= 0)
            close(capture.fd);
        capture.fd = kg_addr_is_set(server) ? kg_hep_open(server) : -1;
        capture.server = *server;
        if (capture.fd < 0 && kg_addr_is_set(server))
            kg_error("sip", "cannot send HEP to %s: %s", kg_addr_format(server, text), strerror(errno));
        else if (capture.fd >= 0)
            kg_info("sip", "every SIP message is copied to the HEP server %s", kg_addr_format(server, text));
    }
    tport_set_params(nta_agent_tports(agent), TPTAG_LOG(capture.fd >= 0), TAG_END()); /* the master's */
}
