/* DNS answers as bytes in and records out (RFC 1035 4.1; A, AAAA, SRV RFC 2782, NAPTR RFC 3403). Pure. */
#ifndef KG_ROUTE_DNS_H
#define KG_ROUTE_DNS_H

#include <stddef.h>
#include <stdint.h>

#include "conf/addr.h"
#include "conf/config.h"

enum kg_dns_type { KG_DNS_A = 1, KG_DNS_AAAA = 28, KG_DNS_SRV = 33, KG_DNS_NAPTR = 35 };

/* More records of one name than this are not looked at. */
#define KG_DNS_RECORDS_MAX 16
/* "SIPS+D2T" */
#define KG_DNS_SERVICE_MAX 16

struct kg_dns_srv {
    uint16_t priority, weight, port;
    char target[KG_DOMAIN_MAX]; /* "": the service is decidedly not there */
};
struct kg_dns_naptr {
    uint16_t order, preference;
    char flags[4], service[KG_DNS_SERVICE_MAX];
    char replacement[KG_DOMAIN_MAX];
};

/* What a name has of one type. */
struct kg_dns_answer {
    enum kg_dns_type type;
    size_t count;   /* 0: there is none */
    uint32_t ttl_s; /* the least of all its records; of "there is none" as RFC 2308 has it */
    union {
        struct kg_addr addr[KG_DNS_RECORDS_MAX]; /* without port */
        struct kg_dns_srv srv[KG_DNS_RECORDS_MAX];
        struct kg_dns_naptr naptr[KG_DNS_RECORDS_MAX];
    };
};

/* A response. 0, also for "no such name" and "no such records" (count 0); EAGAIN: the server could not tell;
 * EPROTO: it is not a response that can be understood. */
int kg_dns_parse(const uint8_t *message, size_t len, enum kg_dns_type type, struct kg_dns_answer *out);

#endif
