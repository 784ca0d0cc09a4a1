/* The part of libsofia-sip-ua's transport interface that its exported functions need and its headers leave
 * out, declared from its binary layout. streams.c checks all of it at start-up and refuses to run on another
 * one. */
#ifndef KG_SIP_TPORT_ABI_H
#define KG_SIP_TPORT_ABI_H

#include <sofia-sip/su_addrinfo.h>
#include <sofia-sip/su_alloc.h>
#include <sofia-sip/su_wait.h>
#include <sofia-sip/tport.h>

/* sizeof the library's primary and secondary transport objects, 64-bit. */
#define KG_TPORT_PRIMARY_SIZE   592
#define KG_TPORT_SECONDARY_SIZE 488

/* A transport type: its name and its functions. Those we only copy have no signature here. */
struct kg_tport_type {
    char const *name;
    int public_kind; /* 0: local */
    size_t primary_size;
    int (*init_primary)(void *primary, tp_name_t *name, su_addrinfo_t *info, tagi_t const *tags,
                        char const **culprit);
    void (*deinit_primary)(void);
    void (*wakeup_primary)(void);
    tport_t *(*connect)(void *primary, su_addrinfo_t *info, tp_name_t const *name);
    size_t secondary_size;
    int (*init_secondary)(tport_t *tport, int socket, int accepted, char const **culprit);
    void (*deinit_secondary)(void);
    void (*shutdown)(void);
    void (*set_events)(void);
    void (*wakeup)(void);
    void (*recv)(void);
    void (*send)(void);
    void (*deliver)(tport_t *tport, msg_t *msg, su_time_t now);
    void (*prepare)(void);
    void (*keepalive)(void);
    void (*stun_response)(void);
    void (*next_timer)(void);
    void (*timer)(void);
};

/* The head of every transport object. A primary begins with one, followed by its `struct kg_tport_type const
 * *`. */
struct kg_tport_head {
    su_home_t home[1];
    unsigned accepted : 1;
    unsigned connection_oriented : 1;
    unsigned has_connection : 1;
    unsigned reusable : 1;
    unsigned closed : 1;
    unsigned recv_close : 2;
    unsigned send_close : 2;
    unsigned has_keepalive : 1;
    unsigned has_stun_server : 1;
    unsigned truncated : 1;
    unsigned is_connected : 1;
};

extern struct kg_tport_type const tport_tcp_vtable, tport_udp_vtable;

int tport_register_type(struct kg_tport_type const *type);
tport_t *tport_alloc_secondary(void *primary, int socket, int accepted, char const **culprit);
int tport_register_secondary(tport_t *self, su_wakeup_f wakeup, int events);
int tport_setname(tport_t *self, char const *protocol, su_addrinfo_t const *info, char const *canonical);
int tport_wakeup(su_root_magic_t *magic, su_wait_t *wait, tport_t *self);
int tport_set_secondary_timer(tport_t *self);
void tport_base_deliver(tport_t *self, msg_t *msg, su_time_t now);
void tport_close(tport_t *self);
void tport_zap_secondary(tport_t *self);

#endif
