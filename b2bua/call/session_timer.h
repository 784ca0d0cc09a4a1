/* When a session expires, and who keeps it from that (RFC 4028): one timer a leg, as its two ends agreed.
 * Pure: no SIP types, no clock. */
#ifndef KG_CALL_SESSION_TIMER_H
#define KG_CALL_SESSION_TIMER_H

#include <stdbool.h>
#include <stdint.h>

/* s; RFC 4028 4: no Min-SE may be smaller. */
#define KG_SESSION_LEAST_S 90
/* s; more is as good as no timer. */
#define KG_SESSION_MOST_S 86400

enum kg_refresher { KG_REFRESHER_UNSAID, KG_REFRESHER_UAC, KG_REFRESHER_UAS };

/* 422s in a row that are followed: one tells all, but several contacts of a callee may each want another
 * time. */
#define KG_SESSION_RAISES_MAX 5

/* What a message says: Session-Expires, Min-SE, and timer in Supported or Require. 0: nothing. */
struct kg_session_said {
    uint32_t expires_s, min_s;
    enum kg_refresher refresher;
    bool supported;
};
/* The configuration. */
struct kg_session_rules {
    uint32_t offer_s; /* asked of the peer; 0: nothing */
    uint32_t min_s;   /* at least KG_SESSION_LEAST_S */
};

struct kg_session_timer {
    uint32_t expires_s; /* agreed; 0: the session does not expire */
    uint32_t min_s;     /* the highest Min-SE that was asked of us in a 422 or a request; 0: none */
    bool ours;          /* we refresh; else the peer */
    uint8_t raised;     /* how often the peer asked for more by 422, since there was an agreement */
    int64_t since_ms;   /* of the last refresh */
    int64_t retry_ms;   /* no refresh of ours before */
};

/* As a UAS. Not 0: refuse the request with 422 and this Min-SE (RFC 4028 9). */
uint32_t kg_session_refusal(const struct kg_session_said *asked, const struct kg_session_rules *rules);
/* A request is answered 2xx. */
void kg_session_accept(struct kg_session_timer *timer, const struct kg_session_said *asked,
                       const struct kg_session_rules *rules, int64_t now_ms);
/* As a UAC: the 2xx to a request of ours. */
void kg_session_accepted(struct kg_session_timer *timer, const struct kg_session_said *answer,
                         const struct kg_session_rules *rules, int64_t now_ms);
/* A 422 came: true if the request can be sent again, with a higher value (RFC 4028 7.3). */
bool kg_session_raise(struct kg_session_timer *timer, const struct kg_session_said *answer,
                      const struct kg_session_rules *rules);

/* Session-Expires of a request or 2xx of ours; returns false (and "") if it has none. */
#define KG_SESSION_TEXT 40
bool kg_session_request_text(const struct kg_session_timer *timer, const struct kg_session_rules *rules,
                             char out[static KG_SESSION_TEXT]);
bool kg_session_response_text(const struct kg_session_timer *timer, char out[static KG_SESSION_TEXT]);

enum kg_session_step { KG_SESSION_WAIT, KG_SESSION_REFRESH, KG_SESSION_EXPIRED };
/* What is to be done now. REFRESH is said once, and again after a while if nothing came of it. */
enum kg_session_step kg_session_step(struct kg_session_timer *timer, int64_t now_ms);
/* When to ask again; INT64_MAX: never. */
int64_t kg_session_due_ms(const struct kg_session_timer *timer);
int64_t kg_session_end_ms(const struct kg_session_timer *timer); /* when BYE is sent */

#endif
