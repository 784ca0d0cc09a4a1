#include "b2bua/sip/shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include <sofia-sip/bnf.h>
#include <sofia-sip/msg.h>
#include <sofia-sip/msg_mclass.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_parser.h>
#include <sofia-sip/su_addrinfo.h>
#include <sofia-sip/su_time.h>

#include "conf/clock.h"

/* The executable is linked with -rdynamic, so these definitions are found before libsofia's, by libsofia too.
 */
#define INTERPOSED __attribute__((visibility("default")))

/* libsofia's hook: called at the end of su_time(). */
extern void (*_su_time)(su_time_t *tv);

static msg_t *(*real_msg_create)(msg_mclass_t const *, int);
static int (*real_getaddrinfo)(char const *, char const *, su_addrinfo_t const *, su_addrinfo_t **);
/* NTP time of monotonic zero: the library's clock starts right and then never steps. Whole milliseconds: the
 * library cuts its waits down to them, and with a finer clock it would spin away the rest before each timer.
 */
static int64_t epoch_ms;

static atomic_bool saw_msg_create, saw_getaddrinfo, saw_time;

INTERPOSED msg_t *msg_create(msg_mclass_t const *mclass, int flags)
{
    atomic_store_explicit(&saw_msg_create, true, memory_order_relaxed);
    if (kg_shim_install() != 0)
        return NULL;
    msg_t *msg = real_msg_create(mclass, flags);
    if (msg)
        msg_maxsize(msg, KG_SIP_READ_MAX);
    return msg;
}

/* Names from the network never reach a resolver: numeric hosts only. */
INTERPOSED int su_getaddrinfo(char const *node, char const *service, su_addrinfo_t const *hints,
                              su_addrinfo_t **res)
{
    atomic_store_explicit(&saw_getaddrinfo, true, memory_order_relaxed);
    if (kg_shim_install() != 0)
        return EAI_FAIL;
    su_addrinfo_t numeric = {0};
    if (hints)
        numeric = *hints;
    numeric.ai_flags |= AI_NUMERICHOST;
    return real_getaddrinfo(node, service, &numeric, res);
}

static sip_method_t known(const char *text, size_t len)
{
    const char *name;
    for (int method = sip_method_invite; (name = sip_method_name(method, NULL)); method++)
        if (name[0] == text[0] && strncmp(name, text, len) == 0 && !name[len])
            return (sip_method_t)method;
    return sip_method_unknown;
}

/* The library's own drops every request whose method it does not know but which begins with the letter of one
 * that it knows (PAGE, SERVICE), and reads behind the end of such names. A method is a token (RFC 3261 25.1),
 * followed by white space or nothing. With nname an unknown one is terminated in place, as the callers
 * expect. */
INTERPOSED sip_method_t sip_method_d(char **ss, char const **nname)
{
    char *s = *ss;
    size_t len = span_token(s);
    if (len == 0 || (s[len] && !IS_LWS(s[len])))
        return sip_method_invalid;
    sip_method_t method = known(s, len);
    char *rest = s + len + span_lws(s + len);
    if (nname) {
        *nname = method == sip_method_unknown ? s : sip_method_name(method, NULL);
        if (method == sip_method_unknown && s[len])
            s[len] = '\0';
    }
    *ss = rest;
    return method;
}

static void monotonic_time(su_time_t *tv)
{
    if (!tv)
        return;
    atomic_store_explicit(&saw_time, true, memory_order_relaxed);
    int64_t now_ms = epoch_ms + kg_mono_us() / 1000;
    tv->tv_sec = (unsigned long)(now_ms / 1000);
    tv->tv_usec = (unsigned long)(now_ms % 1000) * 1000;
}

int kg_shim_install(void)
{
    if (real_msg_create)
        return 0;
    msg_t *(*create)(msg_mclass_t const *, int) = NULL;
    int (*getaddr)(char const *, char const *, su_addrinfo_t const *, su_addrinfo_t **) = NULL;
    /* POSIX's way around the missing conversion from object to function pointer. */
    *(void **)&create = dlsym(RTLD_NEXT, "msg_create");
    *(void **)&getaddr = dlsym(RTLD_NEXT, "su_getaddrinfo");
    if (!create || !getaddr)
        return ENOSYS;
    /* NTP counts seconds from 1900, UNIX from 1970. */
    epoch_ms = (int64_t)SU_TIME_EPOCH * 1000 + kg_wall_ms() - kg_mono_us() / 1000;
    real_getaddrinfo = getaddr;
    _su_time = monotonic_time;
    real_msg_create = create;
    return 0;
}

bool kg_shim_is_bound(void)
{
    return atomic_load(&saw_msg_create) && atomic_load(&saw_getaddrinfo) && atomic_load(&saw_time);
}
