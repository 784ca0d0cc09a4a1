/* Whether what comes waits too long in front of kedge. Pure.
 *
 * A process that gets too little of a processor reads from the far end of a full queue: it serves INVITEs
 * that their callers have repeated or given up, each answer to one of those is repeated for 32 s (RFC
 * 3261 13.3.1.4), and so it stays busy with the dead after the load is gone. Whoever refuses the
 * calls that have waited too long empties the queue at once, and has time for those that have not. */
#ifndef KG_SIP_OVERLOAD_H
#define KG_SIP_OVERLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include <sofia-sip/sip.h>

/* Four times T1 (RFC 3261 17.1.1.1): by then the sender has repeated it twice, and may soon turn to another
 * server. */
#define KG_OVERLOAD_LATE_MS 2000
/* So long all of a queue has to be late: a machine that stood still for a moment catches up by itself. */
#define KG_OVERLOAD_AFTER_MS 1000
/* So long nothing must have been late: what was begun in vain is repeated for 32 s (64 * T1). */
#define KG_OVERLOAD_OVER_MS 32000

/* How many refused transactions are remembered; one may displace another. */
#define KG_OVERLOAD_REFUSED 8192

/* A socket: others may have nothing waiting. Zeroed, it is one that nothing was read from. */
struct kg_overload_queue {
    bool is_late;          /* what was read last */
    int64_t late_since_ms; /* when the first of those that were all late was read; monotonic */
    int64_t last_read_ms;
};

struct kg_overload {
    bool is_on;
    bool is_late;          /* what was read last, from whichever */
    int64_t late_until_ms; /* when the last late one was read */
    struct {
        uint32_t transaction;
        int64_t until_ms;
    } refused[KG_OVERLOAD_REFUSED];
};

/* Something was read from this queue at now that had arrived waited_ms ago (negative: a clock was set). True:
 * is_on has changed. */
bool kg_overload_read(struct kg_overload *overload, struct kg_overload_queue *queue, int64_t waited_ms,
                      int64_t now_ms);
/* Whether what was read last, the request of this transaction (a hash), is refused: it is old, and so is too
 * much else, or an older copy of it was. (The copies that its sender made meanwhile stand behind it in the
 * queue: one of them would make a call that nobody waits for.) */
bool kg_overload_refuses(struct kg_overload *overload, uint32_t transaction, int64_t now_ms);

/* The same for the request that this process's SIP stack is working on (receive.c). */
bool kg_sip_is_late(const sip_t *sip);

#endif
