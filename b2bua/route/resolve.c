#include "b2bua/route/resolve.h"

#include <ares.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uthash.h>

#include "conf/clock.h"
#include "conf/log.h"

/* One try with one server, and tries. A query that nobody answers fails after about 4.5 s for one server. */
#define QUERY_MS    1500
#define QUERY_TRIES 2
/* A failed query is repeated after this, and each time after twice as long. */
#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 10000
/* Sockets of c-ares: UDP and TCP to a few servers. */
#define SOCKETS_MAX 16
/* RFC 1035 3.2.4 */
#define CLASS_IN 1
/* Servers beyond this are not asked. */
#define SERVERS_MAX 8
#define CONF_FILE   "/etc/resolv.conf"

struct key {
    int type;
    char name[KG_DOMAIN_MAX]; /* lower case, filled up with zeros */
};

struct entry {
    struct key key;
    struct kg_resolver *resolver;
    struct kg_dns_answer answer;
    bool known;        /* answer holds */
    bool asking;       /* a query is under way; c-ares has our pointer */
    bool dropped;      /* freed when that query ends */
    int64_t renew_ms;  /* the next query not before this */
    int64_t wanted_ms; /* last asked for */
    uint32_t retry_ms; /* after the last failure; 0: it did not fail */
    UT_hash_handle hh;
};

struct watched {
    int fd, index; /* su_root's */
};

struct kg_resolver {
    su_root_t *root;
    ares_channel channel;
    bool open; /* channel is */
    struct kg_addr server[SERVERS_MAX];
    size_t server_count;
    struct timespec conf_read; /* CONF_FILE as the channel knows it */
    struct entry *entries;
    struct watched watched[SOCKETS_MAX];
    su_timer_t *timer, *teller;
    bool told; /* teller runs */
    void (*news)(void *ctx);
    void *ctx;
    const char *trouble;
    unsigned depth; /* inside of c-ares: the channel must not be replaced */
};

/* ---- c-ares on the su_root ---- */

static void set_timer(struct kg_resolver *r);

static void after_ares(struct kg_resolver *r)
{
    if (r->depth == 0)
        set_timer(r);
}

static int on_socket(su_root_magic_t *magic, su_wait_t *wait, su_wakeup_arg_t *arg)
{
    struct kg_resolver *r = (struct kg_resolver *)arg;
    int events = su_wait_events(wait, wait->fd), fd = wait->fd;

    (void)magic;
    r->depth++;
    ares_process_fd(r->channel, events & (SU_WAIT_IN | SU_WAIT_ERR | SU_WAIT_HUP) ? fd : ARES_SOCKET_BAD,
                    events & SU_WAIT_OUT ? fd : ARES_SOCKET_BAD);
    r->depth--;
    after_ares(r);
    return 0;
}

static void on_timer(su_root_magic_t *magic, su_timer_t *timer, su_timer_arg_t *arg)
{
    struct kg_resolver *r = (struct kg_resolver *)arg;

    (void)magic;
    (void)timer;
    r->depth++;
    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    r->depth--;
    after_ares(r);
}

static void set_timer(struct kg_resolver *r)
{
    struct timeval left, *next = r->open ? ares_timeout(r->channel, NULL, &left) : NULL;
    su_duration_t ms;

    if (next == NULL) {
        su_timer_reset(r->timer);
        return;
    }
    ms = (su_duration_t)(next->tv_sec * 1000 + next->tv_usec / 1000 + 1);
    su_timer_set_interval(r->timer, on_timer, (su_timer_arg_t *)r, ms);
}

/* c-ares opens, closes or uses a socket in another way. */
static void on_socket_state(void *ctx, ares_socket_t fd, int readable, int writable)
{
    struct kg_resolver *r = ctx;
    struct watched *at = NULL;
    su_wait_t wait[1] = {SU_WAIT_INIT};
    int events = (readable ? SU_WAIT_IN : 0) | (writable ? SU_WAIT_OUT : 0);

    for (size_t i = 0; i < SOCKETS_MAX; i++)
        if (r->watched[i].index > 0 && r->watched[i].fd == fd)
            at = &r->watched[i];
    if (at != NULL) {
        su_root_deregister(r->root, at->index);
        at->index = 0;
    }
    for (size_t i = 0; at == NULL && i < SOCKETS_MAX; i++)
        if (r->watched[i].index <= 0)
            at = &r->watched[i];
    if (events == 0 || at == NULL || su_wait_create(wait, fd, events) != 0)
        return; /* not watched: the query ends by its time */
    at->fd = fd;
    at->index = su_root_register(r->root, wait, on_socket, (su_wakeup_arg_t *)r, 0);
}

static void set_servers(struct kg_resolver *r)
{
    struct ares_addr_port_node node[SERVERS_MAX];

    memset(node, 0, sizeof node);
    for (size_t i = 0; i < r->server_count; i++) {
        const struct kg_addr *addr = &r->server[i];
        node[i].next = i + 1 < r->server_count ? &node[i + 1] : NULL;
        node[i].family = kg_addr_family(addr);
        node[i].udp_port = node[i].tcp_port = kg_addr_port(addr);
        if (node[i].family == AF_INET)
            node[i].addr.addr4 = addr->in4.sin_addr;
        else
            memcpy(&node[i].addr.addr6, &addr->in6.sin6_addr, sizeof node[i].addr.addr6);
    }
    if (r->server_count > 0 && ares_set_servers_ports(r->channel, node) != ARES_SUCCESS)
        kg_warn("dns", "the DNS servers in dns.servers could not be set");
}

static struct timespec conf_file_time(void)
{
    struct stat status;

    return stat(CONF_FILE, &status) == 0 ? status.st_mtim : (struct timespec){0};
}

static int open_channel(struct kg_resolver *r)
{
    struct ares_options options = {.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
                                   .timeout = QUERY_MS,
                                   .tries = QUERY_TRIES,
                                   .sock_state_cb = on_socket_state,
                                   .sock_state_cb_data = r};

    r->conf_read = conf_file_time();
    r->open = ares_init_options(&r->channel, &options,
                                ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
                                    ARES_OPT_SOCK_STATE_CB) == ARES_SUCCESS;
    if (!r->open)
        return ENOMEM;
    set_servers(r);
    return 0;
}

static void close_channel(struct kg_resolver *r)
{
    if (!r->open)
        return;
    r->open = false;
    r->depth++;
    ares_destroy(r->channel); /* ends every query with ARES_EDESTRUCTION */
    r->depth--;
}

/* c-ares 1.18 reads resolv.conf once. */
static void follow_conf_file(struct kg_resolver *r)
{
    struct timespec now;

    if (r->server_count > 0 || r->depth > 0)
        return;
    now = conf_file_time();
    if (r->open && now.tv_sec == r->conf_read.tv_sec && now.tv_nsec == r->conf_read.tv_nsec)
        return;
    close_channel(r);
    open_channel(r);
}

/* ---- news ---- */

static void on_tell(su_root_magic_t *magic, su_timer_t *timer, su_timer_arg_t *arg)
{
    struct kg_resolver *r = (struct kg_resolver *)arg;

    (void)magic;
    (void)timer;
    r->told = false;
    r->news(r->ctx);
}

static void tell(struct kg_resolver *r)
{
    if (!r->told)
        su_timer_set_interval(r->teller, on_tell, (su_timer_arg_t *)r, 1);
    r->told = true;
}

/* ---- answers ---- */

static void forget(struct kg_resolver *r, struct entry *e)
{
    HASH_DEL(r->entries, e);
    e->dropped = true;
    if (!e->asking)
        free(e);
}

static uint32_t believed_s(const struct kg_dns_answer *answer)
{
    uint32_t most = answer->count > 0 ? KG_DNS_TTL_MAX_S : KG_DNS_NEGATIVE_MAX_S;

    return answer->ttl_s < KG_DNS_TTL_MIN_S ? KG_DNS_TTL_MIN_S : answer->ttl_s > most ? most : answer->ttl_s;
}

/* Whatever failed before need not wait any longer. */
static void recover(struct kg_resolver *r)
{
    struct entry *e, *next;

    kg_info("dns", "DNS answers again");
    r->trouble = NULL;
    HASH_ITER(hh, r->entries, e, next)
    {
        if (e->retry_ms != 0)
            e->renew_ms = 0;
    }
}

static void take_answer(struct entry *e, const struct kg_dns_answer *answer, int64_t now_ms)
{
    struct kg_resolver *r = e->resolver;

    if (r->trouble != NULL)
        recover(r);
    e->answer = *answer;
    e->known = true;
    e->retry_ms = 0;
    e->renew_ms = now_ms + (int64_t)believed_s(answer) * 1000;
    tell(r);
}

static void take_failure(struct entry *e, const char *why, int64_t now_ms)
{
    struct kg_resolver *r = e->resolver;

    if (r->trouble == NULL)
        kg_warn(
            "dns", "asking for %s failed: %s. %s", e->key.name, why,
            e->known
                ? "Its last answer is used until DNS answers again"
                : "Nothing is known of it; calls and registrations that need it get 503 until DNS answers");
    r->trouble = why;
    e->retry_ms = e->retry_ms == 0 ? RETRY_MIN_MS : e->retry_ms * 2;
    if (e->retry_ms > RETRY_MAX_MS)
        e->retry_ms = RETRY_MAX_MS;
    e->renew_ms = now_ms + e->retry_ms;
    tell(r);
}

static void on_answer(void *ctx, int status, int timeouts, unsigned char *message, int len)
{
    struct entry *e = ctx;
    struct kg_dns_answer answer;
    int64_t now_ms = kg_mono_ms();
    int error;

    (void)timeouts;
    e->asking = false;
    if (e->dropped) {
        free(e);
        return;
    }
    if (status == ARES_EDESTRUCTION || status == ARES_ECANCELLED) {
        e->renew_ms = now_ms; /* the next one to want it asks anew */
        return;
    }
    /* c-ares hands over what came, also with "no such name". */
    error = message != NULL && len > 0
                ? kg_dns_parse(message, (size_t)len, (enum kg_dns_type)e->key.type, &answer)
                : EAGAIN;
    if (error == 0)
        take_answer(e, &answer, now_ms);
    else
        take_failure(e,
                     error == EPROTO                                  ? "its answer cannot be understood"
                     : status == ARES_ETIMEOUT                        ? "no DNS server answers"
                     : status == ARES_ECONNREFUSED || message == NULL ? "no DNS server can be reached"
                                                                      : "the DNS server could not tell",
                     now_ms);
}

/* Names of the machine's own. True: it was there. */
static bool in_hosts_file(const struct kg_resolver *r, const struct entry *e, struct kg_dns_answer *out)
{
    struct hostent *host = NULL;
    int family = e->key.type == KG_DNS_A ? AF_INET : AF_INET6;

    if ((e->key.type != KG_DNS_A && e->key.type != KG_DNS_AAAA) ||
        ares_gethostbyname_file(r->channel, e->key.name, family, &host) != ARES_SUCCESS)
        return false;
    memset(out, 0, sizeof *out);
    out->type = (enum kg_dns_type)e->key.type;
    out->ttl_s = KG_DNS_NEGATIVE_MAX_S;
    for (char **at = host->h_addr_list;
         host->h_addrtype == family && *at != NULL && out->count < KG_DNS_RECORDS_MAX; at++) {
        struct kg_addr *addr = &out->addr[out->count++];
        addr->sa.sa_family = (sa_family_t)family;
        if (family == AF_INET)
            memcpy(&addr->in4.sin_addr, *at, sizeof addr->in4.sin_addr);
        else
            memcpy(&addr->in6.sin6_addr, *at, sizeof addr->in6.sin6_addr);
    }
    ares_free_hostent(host);
    return out->count > 0;
}

static void start(struct entry *e, int64_t now_ms)
{
    struct kg_resolver *r = e->resolver;
    struct kg_dns_answer own;

    follow_conf_file(r);
    if (!r->open && open_channel(r) != 0) {
        take_failure(e, "not enough memory", now_ms);
        return;
    }
    if (in_hosts_file(r, e, &own)) {
        take_answer(e, &own, now_ms);
        return;
    }
    e->asking = true;
    r->depth++;
    ares_query(r->channel, e->key.name, CLASS_IN, e->key.type, on_answer, e);
    r->depth--;
    after_ares(r);
}

/* ---- the cache ---- */

/* NULL: everything that is known is wanted now. */
static struct entry *new_entry(struct kg_resolver *r, const struct key *key, int64_t now_ms)
{
    struct entry *e, *next, *oldest = NULL;

    if (HASH_COUNT(r->entries) >= KG_RESOLVER_NAMES_MAX) {
        HASH_ITER(hh, r->entries, e, next)
        {
            if (oldest == NULL || e->wanted_ms < oldest->wanted_ms)
                oldest = e;
        }
        if (oldest->wanted_ms >= now_ms)
            return NULL; /* somebody may be reading it */
        forget(r, oldest);
    }
    e = calloc(1, sizeof *e);
    if (e == NULL)
        return NULL;
    e->key = *key;
    e->resolver = r;
    HASH_ADD(hh, r->entries, key, sizeof e->key, e);
    return e;
}

const struct kg_dns_answer *kg_resolver_ask(struct kg_resolver *r, enum kg_dns_type type, const char *name,
                                            int64_t now_ms)
{
    struct key key;
    struct entry *e = NULL;
    size_t len = strlen(name);

    memset(&key, 0, sizeof key);
    key.type = (int)type;
    if (len >= sizeof key.name)
        return NULL;
    for (size_t i = 0; i < len; i++)
        key.name[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 0x20 : name[i]);
    HASH_FIND(hh, r->entries, &key, sizeof key, e);
    if (e == NULL && (e = new_entry(r, &key, now_ms)) == NULL)
        return NULL;
    e->wanted_ms = now_ms;
    if (!e->asking && now_ms >= e->renew_ms)
        start(e, now_ms);
    return e->known ? &e->answer : NULL;
}

const char *kg_resolver_trouble(const struct kg_resolver *r)
{
    return r->trouble;
}

/* ---- the object ---- */

static void keep_servers(struct kg_resolver *r, const struct kg_addr *servers, size_t count)
{
    r->server_count = count < SERVERS_MAX ? count : SERVERS_MAX;
    memcpy(r->server, servers, r->server_count * sizeof *servers);
}

void kg_resolver_set_servers(struct kg_resolver *r, const struct kg_addr *servers, size_t count)
{
    struct entry *e, *next;

    if (count == r->server_count && memcmp(servers, r->server, count * sizeof *servers) == 0)
        return;
    close_channel(r);
    keep_servers(r, servers, count);
    HASH_ITER(hh, r->entries, e, next)
    {
        e->renew_ms = 0;
        e->retry_ms = 0;
    }
    open_channel(r);
    tell(r);
}

struct kg_resolver *kg_resolver_new(su_root_t *root, const struct kg_addr *servers, size_t count,
                                    void (*news)(void *ctx), void *ctx)
{
    struct kg_resolver *r = calloc(1, sizeof *r);

    if (r == NULL)
        return NULL;
    r->root = root;
    r->news = news;
    r->ctx = ctx;
    keep_servers(r, servers, count);
    r->timer = su_timer_create(su_root_task(root), QUERY_MS);
    r->teller = su_timer_create(su_root_task(root), 1);
    if (r->timer == NULL || r->teller == NULL || ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS ||
        open_channel(r) != 0) {
        kg_resolver_free(r);
        return NULL;
    }
    return r;
}

void kg_resolver_free(struct kg_resolver *r)
{
    struct entry *e, *next;

    if (r == NULL)
        return;
    close_channel(r);
    HASH_ITER(hh, r->entries, e, next)
    {
        forget(r, e);
    }
    su_timer_destroy(r->timer);
    su_timer_destroy(r->teller);
    free(r);
}
