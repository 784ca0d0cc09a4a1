/* Who may ask how much, and who may not ask at all. Pure: now (monotonic, ms) is handed in, nothing is sent.
 *
 * A source is an IPv4 address or an IPv6 /64. What kedge knows of it decides its room:
 * - trusted: the PBX, trunks, guard.trusted. Never limited, never banned.
 * - known: a phone is registered from there. guard.requests a second; never banned as a whole, since an
 * office shares one address: there a wrong password bans the one user from there.
 * - proven: it sent back something that only went to it (a nonce), or has a connection. guard.requests a
 * second.
 * - stranger: a datagram whose source anybody can have written. guard.strangers a second,
 * guard.strangers_total together, and answers of no more bytes than ANSWER_RATIO allows for what came (RFC
 * 9000 8.1 does the same).
 *
 * All memory is taken at the start. Places are found by a keyed hash. A full place gives up strangers first,
 * the one seen least recently; known sources never. */
#ifndef KG_GUARD_H
#define KG_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/config.h"

struct kg_guard;

#ifndef KG_GUARD_SOURCES       /* the fuzz harness makes do with less */
#define KG_GUARD_SOURCES 65536 /* 72 bytes each */
#define KG_GUARD_BANS    4096
#endif
#define KG_GUARD_USER_MAX 64 /* bytes of a user's name in a ban, with the NUL; longer ones are cut */

enum kg_guard_verdict {
    KG_GUARD_PASS,
    KG_GUARD_BUSY, /* answer 503 without a transaction */
    KG_GUARD_DROP, /* say nothing */
};

enum kg_guard_fault {
    KG_FAULT_PASSWORD, /* a wrong password or an unknown user: nobody can tell which */
    KG_FAULT_UNKNOWN,  /* a request for a user that does not exist */
    KG_FAULT_MALFORMED,
    KG_FAULT_SCANNER, /* it says itself what it is */
    KG_FAULTS,
};

struct kg_guard_ban {
    struct kg_addr source;        /* port 0; of IPv6 the /64 */
    char user[KG_GUARD_USER_MAX]; /* only this user from there; "": everything from there */
    enum kg_guard_fault why;
    bool proven;      /* the source is what it says; else one request a second passes, so that a phone whose
                         address somebody forged can show itself */
    unsigned times;   /* how often it was banned: the next one is longer */
    int64_t since_ms; /* monotonic, like now */
    int64_t until_ms;
};

struct kg_guard_counts {
    uint64_t banned;    /* datagrams and requests dropped because of a ban */
    uint64_t strangers; /* dropped: guard.strangers or guard.strangers_total */
    uint64_t busy;      /* beyond guard.requests: answered 503 or dropped */
    uint64_t withheld;  /* answers to strangers that were not sent: more bytes than came */
    uint64_t scanners;  /* requests of scanners dropped */
    uint64_t bans;      /* made */
};

/* key: random bytes. NULL: no memory. */
struct kg_guard *kg_guard_new(const uint8_t key[static 16], const struct kg_config *config);
void kg_guard_free(struct kg_guard *guard);
/* Takes what is configured now, also for sources that it knows. */
void kg_guard_configure(struct kg_guard *guard, const struct kg_config *config);
const struct kg_guard_counts *kg_guard_counts(const struct kg_guard *guard);

/* --- what comes and goes ----------------------------------------------------------------------------------
 */

/* A datagram, before anybody parses it. False: drop it. */
bool kg_guard_receive(struct kg_guard *guard, const struct kg_addr *from, const void *data, size_t len,
                      int64_t now_ms);
/* True: whatever is sent there may go; kg_guard_send need not be asked. */
bool kg_guard_is_open(const struct kg_guard *guard, const struct kg_addr *to, int64_t now_ms);
/* A SIP message by UDP, before it is sent; text: its beginning, as far as it is at hand. False: do not send
 * it. Only answers to strangers are ever held back; those that an INVITE gets once it is accepted (101 to
 * 299) are not. */
bool kg_guard_send(struct kg_guard *guard, const struct kg_addr *to, const char *text, size_t text_len,
                   size_t len, int64_t now_ms);
/* A request outside of dialogs, parsed. stream: it came over a connection. */
enum kg_guard_verdict kg_guard_request(struct kg_guard *guard, const struct kg_addr *from, bool stream,
                                       const char *user_agent, const char *display, int64_t now_ms);

/* --- what is learnt ---------------------------------------------------------------------------------------
 */

/* A PBX's or a trunk's address, as b2bua/route/ finds it; false takes it back. What trunks[].match and
 * guard.trusted name is trusted without this. */
void kg_guard_trust(struct kg_guard *guard, const struct kg_addr *addr, bool trusted, int64_t now_ms);
/* A phone is registered from there until then. */
void kg_guard_registered(struct kg_guard *guard, const struct kg_addr *addr, int64_t until_ms,
                         int64_t now_ms);
/* It sent this nonce: if it is the one of the last challenge that kg_guard_send saw go there, the source is
 * proven. */
void kg_guard_echoed(struct kg_guard *guard, const struct kg_addr *addr, const char *nonce, int64_t now_ms);
/* It is proven by something else that nobody can guess: a request inside of a dialog. */
void kg_guard_proved(struct kg_guard *guard, const struct kg_addr *addr, int64_t now_ms);
/* Right credentials: what went wrong before is forgotten, and a ban that rested on a forged source is lifted.
 */
void kg_guard_good(struct kg_guard *guard, const struct kg_addr *addr, const char *user, int64_t now_ms);
/* Something is wrong with what came from there. user: who it said it was, or "". May ban. */
void kg_guard_fault(struct kg_guard *guard, const struct kg_addr *addr, const char *user,
                    enum kg_guard_fault fault, int64_t now_ms);

/* --- bans -------------------------------------------------------------------------------------------------
 */

/* Whether the source as a whole is banned, for connections. */
bool kg_guard_is_banned(struct kg_guard *guard, const struct kg_addr *source, int64_t now_ms);
/* Whether this user is banned at this source. Its requests get no answer, whatever the password. */
bool kg_guard_is_blocked(struct kg_guard *guard, const struct kg_addr *source, const char *user,
                         int64_t now_ms);
/* The bans in force, in no order. Returns how many were written. */
size_t kg_guard_bans(const struct kg_guard *guard, int64_t now_ms, struct kg_guard_ban *out, size_t max);
/* Lifts every ban of the source and forgets what led to it. Returns how many there were. */
size_t kg_guard_unban(struct kg_guard *guard, const struct kg_addr *addr, int64_t now_ms);
/* One watcher: told of each ban that is made (lifted false) or lifted before its time. */
typedef void kg_guard_watcher(void *ctx, const struct kg_guard_ban *ban, bool lifted);
void kg_guard_watch(struct kg_guard *guard, kg_guard_watcher *watcher, void *ctx);
/* "5 wrong passwords in a row ..." */
const char *kg_guard_why(enum kg_guard_fault fault);

#endif
