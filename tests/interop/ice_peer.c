/* kedge's own ICE agent on real UDP sockets, driven by the lines of peer_io.h.
 *
 * ice_peer address=HOST [controlling=1] [components=2] [lite=1] [consent_ms=5000] [consent_expiry_ms=30000]
 * [patience_ms=39500] [rto_ms=500] [stun=HOST:PORT] */
#include <errno.h>
#include <poll.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "ice/agent/agent.h"
#include "tests/interop/peer_io.h"

#define STREAM 0

struct peer {
    struct kg_ice_agent *agent;
    int components;
    int fd[KG_ICE_COMPONENTS_MAX];
    struct kg_addr base[KG_ICE_COMPONENTS_MAX];
    size_t told;    /* local candidates said so far */
    bool gathering; /* a STUN server was asked: "end" is not said yet */
    int64_t gathering_until_ms;
    char ufrag[KG_ICE_CREDENTIAL_MAX + 1], pwd[KG_ICE_CREDENTIAL_MAX + 1]; /* the peer's */
    struct kg_candidate remote[KG_ICE_CANDIDATES_MAX];
    struct kg_ice_description description;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void fill(void *ctx, void *out, size_t len)
{
    (void)ctx;
    if (getrandom(out, len, 0) != (ssize_t)len)
        abort();
}

/* len - 1 ice-chars. */
static void credential(char *out, size_t len)
{
    static const char chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char bytes[KG_ICE_OUR_PWD];
    fill(NULL, bytes, len);
    for (size_t i = 0; i + 1 < len; i++)
        out[i] = chars[bytes[i] % 64];
    out[len - 1] = '\0';
}

static void new_credentials(char ufrag[KG_ICE_OUR_UFRAG], char pwd[KG_ICE_OUR_PWD])
{
    credential(ufrag, KG_ICE_OUR_UFRAG);
    credential(pwd, KG_ICE_OUR_PWD);
    say("local %s %s", ufrag, pwd);
}

static void tell_candidates(struct peer *p)
{
    struct kg_candidate local[KG_ICE_CANDIDATES_MAX];
    size_t count = kg_ice_locals(p->agent, STREAM, local, KG_ICE_CANDIDATES_MAX);
    for (; p->told < count; p->told++) {
        char text[KG_CANDIDATE_STR];
        kg_candidate_format(&local[p->told], text);
        if (local[p->told].type != KG_CANDIDATE_PRFLX)
            say("candidate %s", text + strlen("candidate:"));
    }
}

static int open_sockets(struct peer *p, const char *host)
{
    for (int c = 0; c < p->components; c++) {
        struct kg_addr *a = &p->base[c];
        socklen_t len;
        if (kg_addr_parse_host(host, 0, a) != 0)
            return EINVAL;
        len = kg_addr_len(a);
        p->fd[c] = socket(kg_addr_family(a), SOCK_DGRAM | SOCK_NONBLOCK, 0);
        if (p->fd[c] < 0 || bind(p->fd[c], &a->sa, len) != 0 || getsockname(p->fd[c], &a->sa, &len) != 0)
            return errno;
        if (kg_ice_add_local(p->agent, STREAM, (uint8_t)(c + 1), KG_CANDIDATE_HOST, a, a, 65535,
                             &(struct kg_addr){0}))
            return ENOMEM;
    }
    return 0;
}

static void flush(struct peer *p)
{
    struct kg_ice_datagram out;
    while (kg_ice_poll(p->agent, now_ms(), &out))
        for (int c = 0; c < p->components; c++)
            if (kg_addr_equal(&p->base[c], &out.from))
                (void)!sendto(p->fd[c], out.data, out.len, 0, &out.to.sa, kg_addr_len(&out.to));
    struct kg_ice_event event;
    while (kg_ice_poll_event(p->agent, &event)) {
        if (event.type == KG_ICE_EV_STATE)
            say("state %s", kg_ice_state_name(event.state));
        else if (event.type == KG_ICE_EV_CONSENT_LOST)
            say("lost %u", event.component);
        else if (event.type == KG_ICE_EV_ROLE)
            say("role %s", kg_ice_is_controlling(p->agent) ? "controlling" : "controlled");
        struct kg_ice_pair pair;
        if (event.type == KG_ICE_EV_SELECTED &&
            kg_ice_selected(p->agent, event.stream, event.component, &pair)) {
            char local[KG_ADDR_STR], remote[KG_ADDR_STR];
            say("selected %u %s %s", event.component, kg_addr_format(&pair.local.addr, local),
                kg_addr_format(&pair.remote.addr, remote));
        }
    }
    tell_candidates(p);
}

static void media(struct peer *p, uint8_t component, const char *text)
{
    struct kg_ice_pair pair;
    if (!kg_ice_selected(p->agent, STREAM, component, &pair)) {
        say("unsent %u", component);
        return;
    }
    (void)!sendto(p->fd[component - 1], text, strlen(text), 0, &pair.remote.addr.sa,
                  kg_addr_len(&pair.remote.addr));
}

static void receive(struct peer *p, int index)
{
    uint8_t data[2048];
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    ssize_t got;
    while ((got = recvfrom(p->fd[index], data, sizeof data, 0, (struct sockaddr *)&from, &len)) >= 0) {
        struct kg_addr source = kg_addr_from_sockaddr((struct sockaddr *)&from);
        if (got > 0 && data[0] < 4)
            kg_ice_receive(p->agent, &p->base[index], &source, data, (size_t)got, now_ms());
        else if (kg_ice_is_valid_source(p->agent, STREAM, (uint8_t)(index + 1), &source))
            say("data %d %.*s", index + 1, (int)got, (char *)data);
        else
            say("stranger %d", index + 1);
        len = sizeof from;
    }
}

static void describe(struct peer *p)
{
    if (p->ufrag[0] && kg_ice_set_remote(p->agent, STREAM, &p->description, now_ms()) != 0)
        say("refused description");
}

static void on_remote(struct peer *p, char *line)
{
    snprintf(p->ufrag, sizeof p->ufrag, "%s", word(&line));
    snprintf(p->pwd, sizeof p->pwd, "%s", word(&line));
    p->description = (struct kg_ice_description){.ufrag = p->ufrag,
                                                 .pwd = p->pwd,
                                                 .trickle = true,
                                                 .lite = strcmp(word(&line), "lite") == 0,
                                                 .candidate = p->remote};
    describe(p);
}

static void on_line(struct peer *p, char *line)
{
    char *what = word(&line);
    if (strcmp(what, "remote") == 0) {
        on_remote(p, line);
    } else if (strcmp(what, "candidate") == 0 && p->description.candidate_count < KG_ICE_CANDIDATES_MAX) {
        struct kg_candidate *c = &p->remote[p->description.candidate_count];
        enum kg_candidate_verdict verdict = kg_candidate_parse(line, strlen(line), c);
        if (verdict == KG_CANDIDATE_OK) {
            p->description.candidate_count++;
            describe(p);
        } else {
            say("refused candidate: %s", kg_candidate_verdict_text(verdict));
        }
    } else if (strcmp(what, "end") == 0) {
        p->description.end_of_candidates = true;
        describe(p);
    } else if (strcmp(what, "restart") == 0) {
        char ufrag[KG_ICE_OUR_UFRAG], pwd[KG_ICE_OUR_PWD];
        new_credentials(ufrag, pwd);
        kg_ice_restart(p->agent, ufrag, pwd, now_ms());
        p->told = 0;
        tell_candidates(p);
        say("end");
    } else if (strcmp(what, "send") == 0) {
        unsigned long component = strtoul(word(&line), NULL, 10);
        if (line && component >= 1 && component <= (unsigned long)p->components)
            media(p, (uint8_t)component, line);
    }
}

/* Returns false at the end of the input. */
static bool input(struct peer *p)
{
    static char buf[LINE_MAX_LEN];
    static size_t have;
    ssize_t got = read(STDIN_FILENO, buf + have, sizeof buf - 1 - have);
    if (got <= 0)
        return false;
    have += (size_t)got;
    buf[have] = '\0';
    char *line = buf, *end;
    while ((end = strchr(line, '\n'))) {
        *end = '\0';
        on_line(p, line);
        line = end + 1;
    }
    have -= (size_t)(line - buf);
    memmove(buf, line, have);
    return true;
}

static void run(struct peer *p)
{
    for (;;) {
        flush(p);
        int64_t now = now_ms(), next = kg_ice_next_ms(p->agent);
        if (p->gathering && (p->told > (size_t)p->components || now >= p->gathering_until_ms)) {
            p->gathering = false;
            say("end");
        }
        if (p->gathering && next > now + 50)
            next = now + 50;
        int64_t wait = next == INT64_MAX ? 1000 : next > now ? next - now : 0;
        struct pollfd fds[1 + KG_ICE_COMPONENTS_MAX] = {{.fd = STDIN_FILENO, .events = POLLIN}};
        for (int c = 0; c < p->components; c++)
            fds[c + 1] = (struct pollfd){.fd = p->fd[c], .events = POLLIN};
        if (poll(fds, (nfds_t)p->components + 1, (int)wait) < 0 && errno != EINTR)
            return;
        if (fds[0].revents && !input(p))
            return;
        for (int c = 0; c < p->components; c++)
            if (fds[c + 1].revents)
                receive(p, c);
    }
}

int main(int argc, char **argv)
{
    struct peer p = {.components = number(argc, argv, "components", 1)};
    const char *host = option(argc, argv, "address", NULL), *stun = option(argc, argv, "stun", NULL);
    struct kg_ice_settings settings = {
        .lite = number(argc, argv, "lite", 0) != 0,
        .controlling = number(argc, argv, "controlling", 0) != 0,
        .consent_ms = (uint32_t)number(argc, argv, "consent_ms", 0),
        .consent_expiry_ms = (uint32_t)number(argc, argv, "consent_expiry_ms", 0),
        .patience_ms = (uint32_t)number(argc, argv, "patience_ms", 0),
        .rto_ms = (uint32_t)number(argc, argv, "rto_ms", 0),
        .random = fill,
    };
    if (!host || p.components < 1 || p.components > KG_ICE_COMPONENTS_MAX) {
        fprintf(stderr, "ice_peer: address=HOST is needed, components=1 or 2\n");
        return 1;
    }
    p.agent = kg_ice_agent_new(&settings);
    if (!p.agent || kg_ice_add_stream(p.agent, STREAM, p.components) != 0 || open_sockets(&p, host) != 0) {
        fprintf(stderr, "ice_peer: cannot listen on %s\n", host);
        return 1;
    }
    char ufrag[KG_ICE_OUR_UFRAG], pwd[KG_ICE_OUR_PWD];
    new_credentials(ufrag, pwd);
    kg_ice_set_local(p.agent, ufrag, pwd);
    struct kg_addr server;
    if (stun && kg_addr_parse(stun, &server) == 0 && kg_ice_add_stun_server(p.agent, &server) == 0) {
        p.gathering = true;
        p.gathering_until_ms = now_ms() + 3000;
    }
    kg_ice_start(p.agent, now_ms());
    tell_candidates(&p);
    if (!p.gathering)
        say("end");
    run(&p);
    kg_ice_agent_free(p.agent);
    for (int c = 0; c < p.components; c++)
        close(p.fd[c]);
    return 0;
}
