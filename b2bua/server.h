/* The signalling process's parts, made in signalling.c and handed to whoever needs a neighbour. Signalling
 * thread only. */
#ifndef KG_SERVER_H
#define KG_SERVER_H

#include <sofia-sip/su_wait.h>

#include "conf/config.h"

struct kg_guard;
struct kg_sip;
struct kg_peers;
struct kg_registrar;
struct kg_calls;
struct kg_requests;
struct kg_cdr;
struct kg_caps;
struct kg_trunks;
struct kg_store;
struct kg_media_client;

struct kg_server {
    su_root_t *root;
    struct kg_config config; /* the running one; reload changes its reloadable rows in place */
    struct kg_guard *guard;
    struct kg_sip *sip;
    struct kg_store *store;
    struct kg_peers *peers; /* PBXes and trunks: route/peers.h */
    struct kg_registrar *registrar;
    struct kg_calls *calls;
    struct kg_requests *requests;
    struct kg_cdr *cdr;
    struct kg_media_client *media;
    struct kg_caps *caps; /* who may call what: route/caps.h */
    struct kg_trunks *trunks;
    int64_t started_ms; /* wall clock */
};

/* Every counter of the signalling process, declared once in b2bua/counters.inc as C(name, "what it counts").
 */
struct kg_counters {
#define C(name, doc) uint64_t name;
#include "b2bua/counters.inc"
#undef C
};
extern struct kg_counters kg_counters; /* signalling thread only */

#endif
