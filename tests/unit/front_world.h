/* kedge in front of a PBX, or two, each of which is a UDP socket that a test answers from. */
#ifndef KG_TESTS_FRONT_WORLD_H
#define KG_TESTS_FRONT_WORLD_H

#include "registrar_world.h"

#include <sofia-sip/sip_header.h>

#include "b2bua/registrar/front.h"

struct scene {
    struct world *w;
    int pbx[2];
    char seen[8192];        /* the last REGISTER at a PBX */
    char branches[64][128]; /* of the REGISTERs that came, the newest last */
    unsigned came;
};

static inline uint16_t pbx_port(int i)
{
    return (uint16_t)(12000 + getpid() % 5000 * 4 + 1 + i);
}

static inline void two_pbxes(struct kg_config *config)
{
    config->pbx_count = 2;
    for (int i = 0; i < 2; i++) {
        config->pbx[i] = (struct kg_server_at){.host = "127.0.0.1", .port = pbx_port(i), .transport = KG_UDP};
    }
    config->registration.phone_expires_lan_ms = 60000;
    config->registration.pbx_expires_ms = 600000;
}

static inline int open_pbx(int i)
{
    struct kg_addr here;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_int_equal(kg_addr_parse_host("127.0.0.1", pbx_port(i), &here), 0);
    assert_int_equal(bind(fd, &here.sa, kg_addr_len(&here)), 0);
    return fd;
}

static inline int setup(void **state)
{
    struct scene *s = calloc(1, sizeof *s);

    s->pbx[0] = open_pbx(0);
    s->pbx[1] = open_pbx(1);
    s->w = world_new(two_pbxes);
    *state = s;
    return 0;
}

static inline int teardown(void **state)
{
    struct scene *s = *state;

    close(s->pbx[0]);
    close(s->pbx[1]);
    world_free(s->w);
    free(s);
    return 0;
}

/* --- the PBX ----------------------------------------------------------------------------------------------
 */

static inline void pbx_answer(int fd, const char *request, const struct sockaddr_storage *to, socklen_t len,
                              const char *status, const char *extra)
{
    char copy[8192], text[8192];
    size_t n = (size_t)snprintf(text, sizeof text, "SIP/2.0 %s\r\n", status);

    snprintf(copy, sizeof copy, "%s", request);
    for (char *line = strtok(copy, "\r\n"); line; line = strtok(NULL, "\r\n"))
        if (!strncmp(line, "Via:", 4) || !strncmp(line, "From:", 5) || !strncmp(line, "To:", 3) ||
            !strncmp(line, "Call-ID:", 8) || !strncmp(line, "CSeq:", 5))
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%s\r\n", line,
                                  !strncmp(line, "To:", 3) ? ";tag=pbx" : "");
    n += (size_t)snprintf(text + n, sizeof text - n, "%sContent-Length: 0\r\n\r\n", extra);
    assert_int_equal(sendto(fd, text, n, 0, (const struct sockaddr *)to, len), (ssize_t)n);
}

/* A copy of a REGISTER: kedge sends it again after half a second, in which this machine may have stood still.
 */
static inline bool is_again(struct scene *s)
{
    char branch[128];
    const char *found = strstr(s->seen, "branch=");

    snprintf(branch, sizeof branch, "%.*s", found ? (int)strcspn(found, ";,\r") : 0, found ? found : "");
    for (unsigned i = 0; i < 64; i++)
        if (strcmp(s->branches[i], branch) == 0)
            return true;
    memcpy(s->branches[s->came++ % 64], branch, sizeof branch);
    return false;
}

/* What has come to this PBX: a probe is answered, a REGISTER is answered unless status is NULL, and true. */
static inline bool pbx_look(struct scene *s, int i, const char *status, const char *extra)
{
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    ssize_t n =
        recvfrom(s->pbx[i], s->seen, sizeof s->seen - 1, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
    bool is_probe = n > 0 && strncmp(s->seen, "OPTIONS", 7) == 0;

    s->seen[n > 0 ? n : 0] = '\0';
    if (is_probe)
        pbx_answer(s->pbx[i], s->seen, &from, len, "200 OK", "");
    else if (n <= 0 || is_again(s))
        return false;
    else if (status)
        pbx_answer(s->pbx[i], s->seen, &from, len, status, extra);
    return !is_probe;
}

/* Waits for a REGISTER at this PBX. */
static inline bool pbx_serve(struct scene *s, int i, int64_t ms, const char *status, const char *extra)
{
    int64_t end = kg_mono_ms() + ms;

    while (kg_mono_ms() < end) {
        pbx_look(s, !i, NULL, "");
        if (run_until_readable(s->w, s->pbx[i], 20) && pbx_look(s, i, status, extra))
            return true;
    }
    return false;
}

#define CHALLENGE                                                                                            \
    "WWW-Authenticate: Digest realm=\"pbx.example\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"\r\n"

static const char *header(const char *text, const char *name)
{
    static char values[4][512];
    static unsigned next;
    char *value = values[next++ % 4];
    const char *found = strstr(text, name);

    snprintf(value, 512, "%.*s", found ? (int)strcspn(found, "\r") : 0, found ? found : "");
    return value;
}

/* "Contact: <sip:TOKEN@..." -> TOKEN of the REGISTER last seen; `name` may be Path as well. */
static const char *token_seen_in(const struct scene *s, const char *name)
{
    static char token[2][32];
    static unsigned turn;
    char before[32], *out = token[turn++ % 2];
    int len = snprintf(before, sizeof before, "%s: <sip:", name);
    const char *found = strstr(s->seen, before);

    snprintf(out, sizeof token[0], "%.*s", found ? (int)strcspn(found + len, "@>") : 0,
             found ? found + len : "");
    return out;
}

static const char *token_seen(const struct scene *s)
{
    return token_seen_in(s, "Contact");
}

/* The PBX's 200, listing our contact with its time. */
static const char *granted(const struct scene *s, unsigned seconds)
{
    static char text[256];

    snprintf(text, sizeof text, "Contact: <sip:%s@127.0.0.1:%u>;expires=%u\r\n", token_seen(s), s->w->port,
             seconds);
    return text;
}

/* A challenge and a 200 of the PBX. */
static inline void enroll(struct scene *s, struct phone *p)
{
    p->algorithm = KG_DIGEST_MD5;
    phone_send(p, phone_request(p, "REGISTER", p->user, 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    assert_int_equal(status_of(phone_receive(p, PATIENCE_MS)), 401);
    phone_learn(p, p->in);
    phone_send(
        p, phone_request(p, "REGISTER", p->user, 3600, phone_authorization(p, "Authorization", "REGISTER")));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, NULL, ""));
    struct kg_addr kedge;
    assert_int_equal(kg_addr_parse_host("127.0.0.1", s->w->port, &kedge), 0);
    struct sockaddr_storage to = {0};
    memcpy(&to, &kedge.sa, kg_addr_len(&kedge));
    pbx_answer(s->pbx[0], s->seen, &to, kg_addr_len(&kedge), "200 OK", granted(s, 600));
    assert_int_equal(status_of(phone_receive(p, PATIENCE_MS)), 200);
}

static inline int refresh(struct phone *p, const char *extra)
{
    phone_send(p, phone_request(p, "REGISTER", p->user, 3600, extra));
    return status_of(phone_receive(p, PATIENCE_MS));
}

/* Who an INVITE from the PBX with this user part is for. */
static inline size_t find(const struct scene *s, const char *token, struct kg_target *out)
{
    url_t url = {.url_type = url_sip, .url_scheme = "sip", .url_user = token, .url_host = "127.0.0.1"};

    return kg_registrar_find(s->w->server.registrar, &url, NULL, out, 1);
}

#endif
