/* HEP version 3: copies of what was sent and received, for a capture server such as Homer. The encoder is
 * pure; the sender is one socket, whose packets may be lost (nothing waits for a capture server). */
#ifndef KG_CONF_HEP_H
#define KG_CONF_HEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/addr.h"

/* Protocol types of chunk 0x000b. */
enum kg_hep_kind { KG_HEP_SIP = 1, KG_HEP_RTCP = 5 /* as JSON */ };

struct kg_hep_packet {
    enum kg_hep_kind kind;
    struct kg_addr source, destination; /* of one family */
    bool tcp;
    int64_t wall_us;         /* since 1970 */
    const char *correlation; /* Call-ID that a RTCP report belongs to; NULL: none */
    const char *payload;
    size_t len;
};

/* Bytes before the payload, at most, with the longest correlation that is sent. */
#define KG_HEP_CORRELATION_MAX 255
#define KG_HEP_HEAD_MAX        (160 + KG_HEP_CORRELATION_MAX)
/* A whole packet is one datagram (IPv4: 65,507 bytes). */
#define KG_HEP_MAX 65507

/* Writes the packet; a payload that does not fit is cut. Returns its length, 0 if size is below
 * KG_HEP_HEAD_MAX. agent: the number by which the capture server tells its sources apart. */
size_t kg_hep_encode(const struct kg_hep_packet *packet, uint32_t agent, uint8_t *out, size_t size);

/* A socket that sends to server and never blocks. Returns it, or -1 and errno. */
int kg_hep_open(const struct kg_addr *server);

#endif
