/* Is a phone behind a NAT? What its SIP says of itself compared with where its packets come from. Pure.
 *
 * Only numeric hosts are compared: a name in Via or Contact says nothing about a NAT and no verdict comes
 * from it. A phone on a LAN without NAT in between writes its own source address everywhere and gets
 * behind_nat false. */
#ifndef KG_NAT_ASSESS_H
#define KG_NAT_ASSESS_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/addr.h"
#include "conf/config.h"

/* What was seen in one request. Strings are borrowed for the call; NULL or "" where there is none. */
struct kg_nat_seen {
    struct kg_addr source;    /* the packet's */
    const char *via_host;     /* sent-by of the topmost Via as the phone wrote it, with or without brackets */
    uint16_t via_port;        /* 0: none written, the transport's default applies (RFC 3261 18.2.2) */
    const char *contact_host; /* of the first Contact URI */
    uint16_t contact_port;    /* 0: as above */
    struct kg_addr sdp;       /* kg_sdp_host(); none without SDP. Port ignored. */
    enum kg_transport transport;
};

#define KG_NAT_REASONS_MAX 4
struct kg_nat_verdict {
    bool behind_nat;
    unsigned reason_count;
    /* For people: "Contact says 192.168.1.5, packets come from 203.0.113.9". May hold a note without
     * behind_nat. */
    char reason[KG_NAT_REASONS_MAX][160];
};

/* Never fails; *out is wholly written. */
void kg_nat_assess(const struct kg_nat_seen *seen, struct kg_nat_verdict *out);

#endif
