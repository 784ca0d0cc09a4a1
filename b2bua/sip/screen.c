#include "b2bua/sip/screen.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include <sofia-sip/msg_addr.h>
#include <sofia-sip/msg_header.h>
#include <sofia-sip/su.h>

#include "b2bua/server.h"
#include "b2bua/sip/streams.h"
#include "conf/clock.h"
#include "conf/log.h"

/* Found before libsofia's, by libsofia too (README.md, "The shim"). */
#define INTERPOSED __attribute__((visibility("default")))

/* Of an answer's text: enough for all headers up to CSeq, which the library writes behind Via, From, To and
 * Call-ID. */
#define HEAD_MAX 4096
/* Bytes of a nonce; longer ones prove nothing. */
#define NONCE_MAX 513

/* The library's functions that send and receive know no context; there is one stack a process. */
static struct kg_guard *guard;

/* ---- bans, for people and for the edge ---- */

static void say(const struct kg_guard_ban *ban)
{
    char source[KG_ADDR_STR], until[32];
    time_t end = (time_t)((kg_wall_ms() + ban->until_ms - ban->since_ms) / 1000);
    struct tm utc;
    gmtime_r(&end, &utc);
    strftime(until, sizeof until, "%Y-%m-%d %H:%M:%S UTC", &utc);
    kg_addr_format_host(&ban->source, source);
    kg_warn("guard",
            "%s%s%s%s is banned until %s: %s%s. kedgectl unban %s lifts it; guard.trusted exempts an address "
            "for good",
            ban->user[0] ? "user " : "", ban->user, ban->user[0] ? " at " : "", source, until,
            kg_guard_why(ban->why), ban->times > 1 ? ", again" : "", source);
}

static void on_ban(void *ctx, const struct kg_guard_ban *ban, bool lifted)
{
    struct kg_sip *stack = ctx;
    if (!lifted)
        say(ban);
    /* A source that may be forged loses no connections: those are not. */
    if (stack->streams && !ban->user[0] && ban->proven)
        kg_streams_ban(stack->streams, &ban->source, lifted ? 0 : ban->until_ms);
}

/* ---- the object ---- */

void kg_screen_start(struct kg_sip *stack)
{
    guard = stack->handlers.guard;
    if (!guard)
        return;
    kg_guard_watch(guard, on_ban, stack);
}

void kg_screen_stop(void)
{
    if (guard)
        kg_guard_watch(guard, NULL, NULL);
    guard = NULL;
}

void kg_screen_configure(const struct kg_config *config)
{
    if (guard)
        kg_guard_configure(guard, config);
}

void kg_screen_count(void)
{
    if (!guard)
        return;
    const struct kg_guard_counts *counts = kg_guard_counts(guard);
    kg_counters.guard_banned = counts->banned;
    kg_counters.guard_strangers = counts->strangers;
    kg_counters.guard_busy = counts->busy;
    kg_counters.guard_withheld = counts->withheld;
    kg_counters.guard_scanners = counts->scanners;
    kg_counters.guard_bans = counts->bans;
}

/* ---- what comes ---- */

bool kg_screen_datagram(const struct sockaddr *from, const void *data, size_t piece, size_t len)
{
    if (!guard)
        return true;
    struct kg_addr source = kg_addr_from_sockaddr(from);
    if (!kg_addr_is_set(&source))
        return true;
    /* The first bytes tell what it is; a first piece shorter than those is nothing. */
    return kg_guard_receive(guard, &source, data, piece < 8 ? piece : len, kg_mono_ms());
}

/* Credentials carry the nonce of a challenge. */
static void note_echo(const struct kg_addr *source, const sip_authorization_t *credentials)
{
    for (; credentials; credentials = credentials->au_next) {
        const char *nonce = msg_params_find(credentials->au_params, "nonce=");
        char plain[NONCE_MAX];
        size_t len = nonce ? strlen(nonce) : 0;
        if (len < 2 || len - 2 >= sizeof plain || nonce[0] != '"')
            continue;
        memcpy(plain, nonce + 1, len - 2);
        plain[len - 2] = '\0';
        kg_guard_echoed(guard, source, plain, kg_mono_ms());
    }
}

enum kg_guard_verdict kg_screen_request(struct kg_sip *stack, msg_t *msg, const sip_t *sip)
{
    if (!guard)
        return KG_GUARD_PASS;
    struct kg_addr source = kg_addr_from_sockaddr(&msg_addr(msg)->su_sa);
    tport_t *tport = tport_delivered_by(nta_agent_tports(stack->agent), msg);
    note_echo(&source, sip->sip_authorization);
    note_echo(&source, sip->sip_proxy_authorization);
    const char *agent = sip->sip_user_agent ? sip->sip_user_agent->g_string : NULL;
    return kg_guard_request(guard, &source, tport && !tport_is_dgram(tport), agent, sip->sip_from->a_display,
                            kg_mono_ms());
}

bool kg_screen_is_malformed(const msg_t *msg, const sip_t *sip)
{
    return !sip || (!sip->sip_request && !sip->sip_status) || msg_has_error(msg);
}

void kg_screen_fault(msg_t *msg, const char *user, enum kg_guard_fault fault)
{
    if (!guard)
        return;
    struct kg_addr source = kg_addr_from_sockaddr(&msg_addr(msg)->su_sa);
    if (kg_addr_is_set(&source))
        kg_guard_fault(guard, &source, user, fault, kg_mono_ms());
}

void kg_sip_proved(const struct kg_flow *flow)
{
    if (guard && flow->transport == KG_UDP && kg_addr_is_set(&flow->remote))
        kg_guard_proved(guard, &flow->remote, kg_mono_ms());
}

/* ---- what goes ---- */

static bool may_send(const su_iovec_t *iov, size_t count, const struct sockaddr *to)
{
    if (count == 0 || iov[0].siv_len < 8 || memcmp(iov[0].siv_base, "SIP/2.0 ", 8) != 0)
        return true;
    struct kg_addr target = kg_addr_from_sockaddr(to);
    char head[HEAD_MAX];
    size_t used = 0, len = 0;
    if (!kg_addr_is_set(&target) || kg_guard_is_open(guard, &target, kg_mono_ms()))
        return true;
    for (size_t i = 0; i < count; i++) {
        size_t piece = iov[i].siv_len < sizeof head - used ? iov[i].siv_len : sizeof head - used;
        memcpy(head + used, iov[i].siv_base, piece);
        used += piece;
        len += iov[i].siv_len;
    }
    return kg_guard_send(guard, &target, head, used, len, kg_mono_ms());
}

/* The library's one function that sends. What is held back counts as sent: a datagram may get lost. */
INTERPOSED issize_t su_vsend(su_socket_t socket, su_iovec_t const iov[], isize_t iov_len, int flags,
                             su_sockaddr_t const *su, socklen_t sulen)
{
    if (su && guard && !may_send(iov, (size_t)iov_len, &su->su_sa)) {
        size_t len = 0;
        for (isize_t i = 0; i < iov_len; i++)
            len += iov[i].siv_len;
        return (issize_t)len;
    }
    struct msghdr message = {.msg_name = (void *)su,
                             .msg_namelen = su ? sulen : 0,
                             .msg_iov = (struct iovec *)iov,
                             .msg_iovlen = (size_t)iov_len};
    return sendmsg(socket, &message, flags);
}
