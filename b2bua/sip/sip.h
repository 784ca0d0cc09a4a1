/* The SIP stack: Sofia's nta inside its limits (README.md, "The shim"), our edge for streams, dispatch of
 * requests. Everything here runs on the signalling thread (su_root); the edge has a libevent thread of its
 * own. */
#ifndef KG_SIP_SIP_H
#define KG_SIP_SIP_H

#include <sofia-sip/nta.h>
#include <sofia-sip/sip.h>
#include <sofia-sip/su_wait.h>

#include "b2bua/sip/flow.h"
#include "b2bua/sip/uri.h"

struct kg_guard;
struct kg_sip;
struct event_base;

/* The Server and User-Agent header of everything kedge sends: no version for strangers. */
#define KG_SIP_SERVER "kedge"
#define KG_TAG_LEN    16 /* hex digits of our tags: 64 random bits, not to be guessed */

/* Out-of-dialog requests, after sanity checks (mandatory headers, CSeq method, Max-Forwards, loop by our own
 * Via branch, size; failures were answered). The handler owns the irq: it answers it and destroys it. */
struct kg_sip_handlers {
    /* First, and without a transaction: may answer the message itself (nta_msg_treply, which consumes it) and
     * return true. False: msg is untouched and goes on. NULL: nobody does. */
    bool (*answer)(void *ctx, msg_t *msg, const sip_t *sip, const struct kg_flow *flow);
    void (*on_register)(void *ctx, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow);
    /* It may have our tag already (nta_incoming_gettag). */
    void (*on_invite)(void *ctx, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow);
    /* The other methods that methods.c serves or passes outside of a dialog: SUBSCRIBE, MESSAGE ... */
    void (*on_request)(void *ctx, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow);
    /* Whether an OPTIONS goes on to on_request; else sip/ answers it for kedge. NULL: none does. */
    bool (*pass_options)(void *ctx, const sip_t *sip, const struct kg_flow *flow);
    /* In-dialog methods whose dialog is unknown, and methods nobody handles, never arrive: sip/ answers 481,
     * 501, 405. OPTIONS to us is answered by sip/. */
    /* False: there may be dialogs that are not taken over yet from a process that died. Over UDP a request of
     * an unknown one is dropped then, and finds its dialog when it comes again. NULL: all are known. */
    bool (*knows_dialogs)(void *ctx);
    void (*on_flow_lost)(void *ctx, tport_t *tport); /* a stream closed */
    /* Whether a stream may be opened to this address, and with TLS, whose name its certificate must have (if
     * *verify). The name is copied at once. NULL: to nobody. */
    bool (*on_connect)(void *ctx, enum kg_transport transport, const struct kg_addr *remote,
                       const char **name, bool *verify);
    void *ctx;
    struct kg_guard *guard; /* outlives the stack; NULL: nobody is limited */
};

/* Binds every listener (0.0.0.0 and :: are expanded into one socket per local address, so that answers leave
 * from where requests arrived). Returns NULL and writes a sentence to error: which listener, why, what to do.
 */
struct kg_sip *kg_sip_new(su_root_t *root, const struct kg_config *config,
                          const struct kg_sip_handlers *handlers, char *error, size_t size);
void kg_sip_free(struct kg_sip *sip);
nta_agent_t *kg_sip_agent(struct kg_sip *sip);
/* What the stack holds at the moment. Transactions live on for 32 s after their end (RFC 3261 timers H, J,
 * D). */
struct kg_sip_gauges {
    size_t dialogs, transactions_in, transactions_out;
};
struct kg_sip_gauges kg_sip_gauges(const struct kg_sip *sip);
/* The edge thread's loop; control/ serves its HTTP API on it. */
struct event_base *kg_sip_edge_base(struct kg_sip *sip);
/* A server at this address is to be reached by TCP or TLS: makes a transport of that kind where no listener
 * has one. 0 or an errno. */
int kg_sip_provide(struct kg_sip *sip, enum kg_transport transport, const struct kg_addr *remote);
/* New limits, certificate files read again (existing connections stay). Returns 0, or EINVAL and a sentence.
 */
int kg_sip_reload(struct kg_sip *sip, const struct kg_config *config, char *error, size_t size);
/* Option tags that a request may require of kedge, beside trickle-ice. */
#define KG_SIP_OPTIONS "100rel, timer, replaces, norefersub, tdialog, join"
/* The same of REGISTER: RFC 3327, RFC 5626, RFC 5627. */
#define KG_SIP_REGISTER_OPTIONS "path, outbound, gruu"
/* What of a request's Require kedge does not know (RFC 3261 8.2.2.3); NULL: nothing. trickle-ice is known
 * where kedge speaks ICE. */
sip_unsupported_t *kg_sip_unsupported(su_home_t *home, const sip_t *sip, bool ice);
/* A request inside of a dialog came from the peer of this flow: it got our tag, so it is where it says it is
 * (b2bua/guard/guard.h). */
void kg_sip_proved(const struct kg_flow *flow);
/* strays: nta's default transaction, in its callback: a 2xx to an INVITE that nobody asked. It is ACKed if it
 * is of a call that goes on: a signalling process that died had asked. */
void kg_sip_ack_stray(nta_agent_t *agent, nta_outgoing_t *strays);
/* Its body has a Content-Encoding other than identity. */
bool kg_sip_is_encoded(const sip_t *sip);
/* True for one of our own addresses or the configured domain. */
bool kg_sip_is_us(const struct kg_sip *sip, const url_t *url);
/* A phone that knows kedge by an address means by it the server that its request goes to; a name stays, it is
 * that server's domain. Changes url, which then has no parameters and lives as long as text does. */
struct kg_sip_host {
    char host[KG_ADDR_STR + 2], port[8];
};
void kg_sip_mean_server(const struct kg_sip *sip, url_t *url, const struct kg_addr *server,
                        struct kg_sip_host *text);

#endif
