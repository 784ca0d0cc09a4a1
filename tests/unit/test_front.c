/* In front of a PBX: which REGISTERs reach it, what they look like there, what comes back. The PBX is a UDP
 * socket. */
#include "registrar_world.h"

#include <sofia-sip/sip_header.h>

#include "b2bua/registrar/front.h"

struct scene {
    struct world *w;
    int pbx[2];
    char seen[8192]; /* the last REGISTER at a PBX */
};

static uint16_t pbx_port(int i)
{
    return (uint16_t)(12000 + getpid() % 5000 * 4 + 1 + i);
}

static void two_pbxes(struct kg_config *config)
{
    config->pbx_count = 2;
    for (int i = 0; i < 2; i++) {
        config->pbx[i] = (struct kg_server_at){.host = "127.0.0.1", .port = pbx_port(i), .transport = KG_UDP};
    }
    config->registration.phone_expires_lan_ms = 60000;
    config->registration.pbx_expires_ms = 600000;
}

static int open_pbx(int i)
{
    struct kg_addr here;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_int_equal(kg_addr_parse_host("127.0.0.1", pbx_port(i), &here), 0);
    assert_int_equal(bind(fd, &here.sa, kg_addr_len(&here)), 0);
    return fd;
}

static int setup(void **state)
{
    struct scene *s = calloc(1, sizeof *s);

    s->pbx[0] = open_pbx(0);
    s->pbx[1] = open_pbx(1);
    s->w = world_new(two_pbxes);
    *state = s;
    return 0;
}

static int teardown(void **state)
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

static void pbx_answer(int fd, const char *request, const struct sockaddr_storage *to, socklen_t len,
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

/* What has come to this PBX: a probe is answered, a REGISTER is answered unless status is NULL, and true. */
static bool pbx_look(struct scene *s, int i, const char *status, const char *extra)
{
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    ssize_t n =
        recvfrom(s->pbx[i], s->seen, sizeof s->seen - 1, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
    bool is_probe = n > 0 && strncmp(s->seen, "OPTIONS", 7) == 0;

    s->seen[n > 0 ? n : 0] = '\0';
    if (is_probe)
        pbx_answer(s->pbx[i], s->seen, &from, len, "200 OK", "");
    else if (n > 0 && status)
        pbx_answer(s->pbx[i], s->seen, &from, len, status, extra);
    return n > 0 && !is_probe;
}

/* Waits for a REGISTER at this PBX. */
static bool pbx_serve(struct scene *s, int i, int64_t ms, const char *status, const char *extra)
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

/* "<sip:TOKEN@..." -> TOKEN of the REGISTER last seen. */
static const char *token_seen(const struct scene *s)
{
    static char token[32];
    const char *found = strstr(s->seen, "Contact: <sip:");

    snprintf(token, sizeof token, "%.*s", found ? (int)strcspn(found + 14, "@>") : 0,
             found ? found + 14 : "");
    return token;
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
static void enroll(struct scene *s, struct phone *p)
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

static int refresh(struct phone *p, const char *extra)
{
    phone_send(p, phone_request(p, "REGISTER", p->user, 3600, extra));
    return status_of(phone_receive(p, QUIET_MS));
}

/* Who an INVITE from the PBX with this user part is for. */
static size_t find(const struct scene *s, const char *token, struct kg_target *out)
{
    url_t url = {.url_type = url_sip, .url_scheme = "sip", .url_user = token, .url_host = "127.0.0.1"};

    return kg_registrar_find(s->w->server.registrar, &url, NULL, out, 1);
}

/* --- the tests --------------------------------------------------------------------------------------------
 */

static void passes_digest_and_hides_the_phone(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");
    char first_call_id[512];
    struct kg_target target;

    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    snprintf(first_call_id, sizeof first_call_id, "%s", header(s->seen, "Call-ID:"));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 401);
    assert_non_null(strstr(a.in, CHALLENGE));
    a.algorithm = KG_DIGEST_MD5;
    enroll(s, &a);
    assert_string_equal(header(s->seen, "Call-ID:"), first_call_id); /* RFC 3261 10.2: one row */
    assert_memory_equal(s->seen, "REGISTER sip:example.org ", 25);
    assert_non_null(strstr(s->seen, "To: <sip:alice@example.org>"));
    assert_non_null(strstr(s->seen, "Authorization: Digest username=\"alice\""));
    assert_non_null(strstr(s->seen, ";expires=600"));
    assert_null(strstr(s->seen, a.call_id));
    assert_null(strstr(s->seen, "tag=t\r"));
    char port[16];
    snprintf(port, sizeof port, ":%u", a.port);
    assert_null(strstr(s->seen, port));
    /* The phone gets its own contact and a short time. */
    assert_non_null(strstr(a.in, a.contact));
    assert_in_range(strtol(strstr(a.in, "expires=") + 8, NULL, 10), 54, 60);
    /* And the PBX's calls find it. */
    assert_int_equal(find(s, token_seen(s), &target), 1);
    assert_string_equal(target.user, "alice");
    assert_int_equal(kg_addr_port(&target.flow.remote), a.port);
    kg_flow_clear(&target.flow);
    assert_int_equal(find(s, "0123456789abcdef01234567", &target), 0);
    close(a.fd);
}

static void refresh_on_the_flow_is_answered_here(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");

    enroll(s, &a);
    assert_int_equal(refresh(&a, ""), 200);
    assert_int_equal(refresh(&a, phone_authorization(&a, "Authorization", "REGISTER")), 200);
    assert_int_equal(kg_counters.registers_local, 2);
    assert_false(pbx_serve(s, 0, QUIET_MS, NULL, ""));
    close(a.fd);
}

/* Extension 100 of one company is not extension 100 of another: neither takes the other's contact over, sees
 * it, nor removes it. */
static void the_same_user_part_in_two_domains(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "100", "secret"), b = phone_new(s->w, "100", "secret");
    char token[32], text[4096];
    struct kg_target target;

    enroll(s, &a);
    snprintf(token, sizeof token, "%s", token_seen(s));
    snprintf(b.contact, sizeof b.contact, "%s", a.contact);
    snprintf(text, sizeof text, "%s", phone_request(&b, "REGISTER", "100", 3600, ""));
    for (char *found; (found = strstr(text, "example.org"));)
        memcpy(found, "example.net", 11);
    phone_send(&b, text);
    assert_true(pbx_serve(s, 0, PATIENCE_MS, NULL, ""));
    assert_non_null(strstr(s->seen, "To: <sip:100@example.net>"));
    assert_string_not_equal(token_seen(s), token);
    struct kg_addr kedge;
    assert_int_equal(kg_addr_parse_host("127.0.0.1", s->w->port, &kedge), 0);
    struct sockaddr_storage to = {0};
    memcpy(&to, &kedge.sa, kg_addr_len(&kedge));
    pbx_answer(s->pbx[0], s->seen, &to, kg_addr_len(&kedge), "200 OK", granted(s, 600));
    const char *answer = phone_receive(&b, PATIENCE_MS);
    assert_int_equal(status_of(answer), 200);
    assert_null(strstr(strstr(answer, "Contact:") + 1, "Contact:"));
    assert_null(strchr(header(answer, "Contact:"), ','));
    assert_int_equal(find(s, token, &target), 1);
    assert_string_equal(target.user, "100");
    assert_int_equal(kg_addr_port(&target.flow.remote), a.port);
    kg_flow_clear(&target.flow);
    close(a.fd);
    close(b.fd);
}

/* Nobody's call follows a REGISTER that the PBX has not believed. */
static void contact_that_moves_is_told_of_when_the_pbx_says_so(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret"), moved = phone_new(s->w, "alice", "secret");
    struct told told = {0};

    kg_registrar_watch(s->w->server.registrar, on_moved, &told);
    enroll(s, &a);
    memcpy(moved.contact, a.contact, sizeof a.contact);
    phone_send(&moved, phone_request(&moved, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "403 Forbidden", ""));
    assert_int_equal(status_of(phone_receive(&moved, PATIENCE_MS)), 403);
    assert_int_equal(told.times, 0);
    assert_int_equal(told.new, 1);
    enroll(s, &moved);
    assert_int_equal(told.times, 1);
    assert_string_equal(told.user, "alice");
    assert_int_equal(kg_addr_port(&told.before), a.port);
    assert_int_equal(kg_addr_port(&told.after), moved.port);
    close(a.fd);
    close(moved.fd);
}

/* A flood of REGISTERs takes no memory: beyond so many from where no phone is registered, 503 without a
 * transaction. Registered phones do not count. */
static void strangers_beyond_the_limit(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret"), b = phone_new(s->w, "bob", "secret");
    struct kg_front *front = s->w->server.registrar->front;

    enroll(s, &a);
    front->strangers = (struct kg_gate){.at_ms = kg_mono_ms() + PATIENCE_MS};
    assert_int_equal(refresh(&b, ""), 503);
    assert_non_null(strstr(b.in, "Retry-After: 1\r\n"));
    assert_false(pbx_serve(s, 0, QUIET_MS, NULL, ""));
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 0, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 401);
    front->strangers = (struct kg_gate){0};
    phone_send(&b, phone_request(&b, "REGISTER", "bob", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    close(a.fd);
    close(b.fd);
}

/* Who writes into a refresh another way to the phone, or another preference, needs the password. */
static void changed_path_goes_to_the_pbx(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");

    enroll(s, &a);
    assert_int_equal(refresh(&a, ""), 200);
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, "Path: <sip:thief@192.0.2.9;lr>\r\n"));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 401);
    snprintf(a.contact + strlen(a.contact), sizeof a.contact - strlen(a.contact), ";q=0.1");
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    assert_int_equal(kg_counters.registers_local, 1);
    close(a.fd);
}

/* OpenSIPS #3193, #2368: nothing but the authenticated flow is answered here. Each of these goes to the PBX.
 */
static void everybody_else_goes_to_the_pbx(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret"), thief = phone_new(s->w, "alice", "?"), changed;
    unsigned local;

    enroll(s, &a);
    local = (unsigned)kg_counters.registers_local;

    /* Another flow that copies all of a's REGISTER. */
    snprintf(thief.contact, sizeof thief.contact, "%s", a.contact);
    snprintf(thief.call_id, sizeof thief.call_id, "%s", a.call_id);
    thief.cseq = a.cseq + 10;
    phone_send(&thief, phone_request(&thief, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    assert_int_equal(status_of(phone_receive(&thief, PATIENCE_MS)), 401);

    /* The same flow: another contact, another Call-ID, another digest user, another address of record. */
    changed = a;
    snprintf(changed.contact, sizeof changed.contact, "<sip:alice@127.0.0.1:9>");
    phone_send(&changed, phone_request(&changed, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    phone_receive(&a, PATIENCE_MS);
    changed = a;
    snprintf(changed.call_id, sizeof changed.call_id, "another@phone");
    phone_send(&changed, phone_request(&changed, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    phone_receive(&a, PATIENCE_MS);
    changed = a;
    changed.cseq += 20;
    changed.user = "mallory";
    phone_send(&changed, phone_request(&changed, "REGISTER", "alice", 3600,
                                       phone_authorization(&changed, "Authorization", "REGISTER")));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    phone_receive(&a, PATIENCE_MS);
    changed = a;
    changed.cseq += 25;
    phone_send(&changed, phone_request(&changed, "REGISTER", "bob", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    phone_receive(&a, PATIENCE_MS);
    assert_int_equal(kg_counters.registers_local, local);

    /* And a itself is as it was. */
    a.cseq += 30;
    assert_int_equal(refresh(&a, ""), 200);
    close(a.fd);
    close(thief.fd);
}

/* The PBX's own time runs out: the refresh goes through. */
/* --- Path, Service-Route, GRUU, outbound ------------------------------------------------------------------
 */

#define INSTANCE "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\""

/* One REGISTER with this Supported, answered by the PBX with these headers of its own. */
static void register_with(struct scene *s, struct phone *p, const char *supported, const char *answer)
{
    char extra[2048];
    struct kg_addr kedge;
    struct sockaddr_storage to = {0};

    snprintf(extra, sizeof extra, "Supported: %s\r\n", supported);
    phone_send(p, phone_request(p, "REGISTER", p->user, 3600, extra));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, NULL, ""));
    assert_int_equal(kg_addr_parse_host("127.0.0.1", s->w->port, &kedge), 0);
    memcpy(&to, &kedge.sa, kg_addr_len(&kedge));
    snprintf(extra, sizeof extra, "%s%s", answer, strstr(answer, "Contact:") ? "" : granted(s, 600));
    pbx_answer(s->pbx[0], s->seen, &to, kg_addr_len(&kedge), "200 OK", extra);
}

static size_t find_by_route(const struct scene *s, const char *token, struct kg_target *out)
{
    url_t url = {.url_type = url_sip, .url_scheme = "sip", .url_user = "alice", .url_host = "10.1.2.3"};
    sip_route_t route[1];

    sip_route_init(route);
    *route->r_url =
        (url_t){.url_type = url_sip, .url_scheme = "sip", .url_user = token, .url_host = "127.0.0.1"};
    return kg_registrar_find(s->w->server.registrar, &url, route, out, 1);
}

static const char *path_seen(const struct scene *s)
{
    static char token[32];
    const char *found = strstr(s->seen, "Path: <sip:");

    snprintf(token, sizeof token, "%.*s", found ? (int)strcspn(found + 11, "@>") : 0,
             found ? found + 11 : "");
    return token;
}

/* registration.path yes: the phone's Contact and our Path reach the PBX; one that does not say that it took
 * the Path is asked again at once. */
static void rfc3327_own_contact_with_path(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");
    char answer[512];
    struct kg_target target;

    s->w->server.config.registration.path = KG_PATH_YES;
    snprintf(answer, sizeof answer, "Contact: %s;expires=600\r\nPath: <sip:x@127.0.0.1;lr>\r\n", a.contact);
    register_with(s, &a, "replaces", answer);
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 200);
    assert_non_null(strstr(header(s->seen, "Contact:"), a.contact));
    assert_non_null(strstr(header(s->seen, "Supported:"), "path"));
    assert_non_null(strstr(header(s->seen, "Path:"), ";lr>"));
    assert_null(strstr(a.in, "Path:")); /* the phone said nothing of it */
    assert_int_equal(find_by_route(s, path_seen(s), &target), 1);
    assert_int_equal(kg_addr_port(&target.flow.remote), a.port);
    kg_flow_clear(&target.flow);
    assert_int_equal(find_by_route(s, "0123456789abcdef01234567", &target), 0);
    close(a.fd);
}

static void rfc3327_5_3_pbx_without_path_is_asked_again(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");
    char answer[512], own[160];
    struct kg_target target;

    s->w->server.config.registration.path = KG_PATH_YES;
    snprintf(answer, sizeof answer, "Contact: %s;expires=600\r\n", a.contact);
    register_with(s, &a, "replaces", answer);
    assert_true(pbx_serve(s, 0, PATIENCE_MS, NULL, ""));
    snprintf(own, sizeof own, "%s;expires=0", a.contact);
    assert_non_null(strstr(s->seen, own));
    assert_null(strstr(s->seen, "Path:"));
    assert_string_equal(phone_receive(&a, QUIET_MS), "");
    struct kg_addr kedge;
    struct sockaddr_storage to = {0};
    assert_int_equal(kg_addr_parse_host("127.0.0.1", s->w->port, &kedge), 0);
    memcpy(&to, &kedge.sa, kg_addr_len(&kedge));
    pbx_answer(s->pbx[0], s->seen, &to, kg_addr_len(&kedge), "200 OK", granted(s, 600));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 200);
    assert_int_equal(find(s, token_seen(s), &target), 1);
    kg_flow_clear(&target.flow);
    /* From then on with a Contact of ours only. */
    struct phone b = phone_new(s->w, "bob", "secret");
    register_with(s, &b, "replaces", "");
    assert_int_equal(status_of(phone_receive(&b, PATIENCE_MS)), 200);
    assert_null(strstr(s->seen, "Path:"));
    snprintf(own, sizeof own, "%s;expires=0", b.contact);
    assert_non_null(strstr(s->seen, own));
    close(a.fd);
    close(b.fd);
}

static void pbx_that_refuses_path_is_asked_without(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");

    s->w->server.config.registration.path = KG_PATH_YES;
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "420 Bad Extension", "Unsupported: path\r\n"));
    assert_non_null(strstr(s->seen, "Path:"));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "420 Bad Extension", "Unsupported: path\r\n"));
    assert_null(strstr(s->seen, "Path:"));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 420); /* not a third time */
    close(a.fd);
}

static void path_where_the_pbx_says_so(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret"), b = phone_new(s->w, "bob", "secret");

    register_with(s, &a, "replaces", "Supported: path\r\n");
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 200);
    assert_null(strstr(s->seen, "Path:"));
    register_with(s, &b, "replaces", "");
    assert_int_equal(status_of(phone_receive(&b, PATIENCE_MS)), 200);
    assert_string_equal(path_seen(s), token_seen(s));
    close(a.fd);
    close(b.fd);
}

/* For that phone and that PBX alone; the phone is not told. */
static void rfc3608_service_route(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret"), b = phone_new(s->w, "bob", "secret");
    struct kg_target mine, other;
    struct kg_flow elsewhere;
    const struct kg_flow *pbx;

    register_with(s, &a, "path",
                  "Service-Route: <sip:orig@198.51.100.3;lr>\r\nService-Route: <sip:p2.example;lr>\r\n");
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 200);
    assert_null(strstr(a.in, "Service-Route"));
    assert_int_equal(find(s, token_seen(s), &mine), 1);
    register_with(s, &b, "path", "");
    assert_int_equal(status_of(phone_receive(&b, PATIENCE_MS)), 200);
    assert_int_equal(find(s, token_seen(s), &other), 1);
    pbx = kg_peers_flow(s->w->server.peers, kg_registrar_pbx_of(s->w->server.registrar, &mine.flow));
    assert_non_null(pbx);
    kg_flow_copy(&elsewhere, pbx);
    kg_addr_set_port(&elsewhere.remote, 4);
    struct kg_registrar *r = s->w->server.registrar;
    assert_string_equal(kg_registrar_service_route(r, &mine.flow, "alice", pbx),
                        "<sip:orig@198.51.100.3;lr>, <sip:p2.example;lr>");
    assert_string_equal(kg_registrar_service_route(r, &mine.flow, "bob", pbx), "");
    assert_string_equal(kg_registrar_service_route(r, &other.flow, "alice", pbx), "");
    assert_string_equal(kg_registrar_service_route(r, &other.flow, "bob", pbx), "");
    assert_string_equal(kg_registrar_service_route(r, &mine.flow, "alice", &elsewhere), "");
    kg_flow_clear(&mine.flow);
    kg_flow_clear(&other.flow);
    kg_flow_clear(&elsewhere);
    close(a.fd);
    close(b.fd);
}

/* What the PBX gives passes to the phone that asked, also when kedge answers by itself. */
static void rfc5627_gruu_of_the_pbx(void **state)
{
    static const char gruus[] = ";pub-gruu=\"sip:alice@example.org;gr=urn:uuid:1\""
                                ";temp-gruu=\"sip:t.7@example.org;gr\"";
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");
    char answer[1024];

    snprintf(a.contact, sizeof a.contact, "<sip:alice@127.0.0.1:%u>;" INSTANCE, a.port);
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, "Supported: gruu\r\n"));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, NULL, ""));
    assert_non_null(strstr(header(s->seen, "Contact:"), INSTANCE));
    assert_non_null(strstr(header(s->seen, "Supported:"), "gruu"));
    snprintf(answer, sizeof answer, "%.*s%s\r\n", (int)strcspn(granted(s, 600), "\r"), granted(s, 600),
             gruus);
    struct kg_addr kedge;
    struct sockaddr_storage to = {0};
    assert_int_equal(kg_addr_parse_host("127.0.0.1", s->w->port, &kedge), 0);
    memcpy(&to, &kedge.sa, kg_addr_len(&kedge));
    pbx_answer(s->pbx[0], s->seen, &to, kg_addr_len(&kedge), "200 OK", answer);
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 200);
    assert_non_null(strstr(header(a.in, "Contact:"), gruus));
    assert_non_null(strstr(header(a.in, "Contact:"), INSTANCE));
    assert_int_equal(refresh(&a, "Supported: gruu\r\n"), 200);
    assert_non_null(strstr(header(a.in, "Contact:"), gruus));
    assert_int_equal(refresh(&a, ""), 200);
    assert_null(strstr(a.in, "gruu="));
    assert_int_equal(kg_counters.registers_local, 2);
    close(a.fd);
}

/* Two flows of one phone are one contact to the PBX; it goes with the last of them. */
static void rfc5626_two_flows_are_one_contact(void **state)
{
    struct scene *s = *state;
    struct phone one = phone_new(s->w, "alice", "secret"), two = phone_new(s->w, "alice", "secret");
    struct kg_target target[3];
    char token[32];
    url_t url = {.url_type = url_sip, .url_scheme = "sip", .url_user = token, .url_host = "127.0.0.1"};

    snprintf(one.contact, sizeof one.contact, "<sip:alice@127.0.0.1:%u>;reg-id=1;" INSTANCE, one.port);
    snprintf(two.contact, sizeof two.contact, "<sip:alice@127.0.0.1:%u>;reg-id=2;" INSTANCE, two.port);
    register_with(s, &one, "outbound, path", "");
    assert_int_equal(status_of(phone_receive(&one, PATIENCE_MS)), 200);
    assert_non_null(strstr(one.in, "Require: outbound"));
    snprintf(token, sizeof token, "%s", token_seen(s));
    register_with(s, &two, "outbound, path", "");
    assert_int_equal(status_of(phone_receive(&two, PATIENCE_MS)), 200);
    assert_string_equal(token_seen(s), token);
    assert_null(strstr(header(s->seen, "Contact:"), "reg-id"));
    assert_int_equal(kg_registrar_find(s->w->server.registrar, &url, NULL, target, 3), 2);
    assert_int_equal(kg_addr_port(&target[0].flow.remote), two.port);
    assert_int_equal(target[0].device, target[1].device);
    kg_flow_clear(&target[0].flow);
    kg_flow_clear(&target[1].flow);
    for (int left = 1; left >= 0; left--) {
        struct phone *p = left ? &one : &two;

        phone_send(p, phone_request(p, "REGISTER", "alice", 0, "Supported: outbound, path\r\n"));
        assert_true(pbx_serve(s, 0, PATIENCE_MS, "200 OK", granted(s, left ? 600 : 0)));
        assert_int_equal(strstr(header(s->seen, "Contact:"), "expires=0") != NULL, !left);
        assert_int_equal(status_of(phone_receive(p, PATIENCE_MS)), 200);
        assert_int_equal(kg_registrar_find(s->w->server.registrar, &url, NULL, target, 3), left);
        if (left)
            kg_flow_clear(&target[0].flow);
    }
    close(one.fd);
    close(two.fd);
}

static void refresh_goes_through_when_the_pbx_expires(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");

    s->w->server.config.registration.phone_expires_lan_ms = 3600000; /* longer than the PBX grants */
    enroll(s, &a);
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "200 OK", "Expires: 600\r\n"));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 200);
    assert_int_equal(kg_counters.registers_local, 0);
    close(a.fd);
}

static void unregistering_reaches_the_pbx(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");
    char token[32];
    struct kg_target target;

    enroll(s, &a);
    snprintf(token, sizeof token, "%s", token_seen(s));
    phone_send(
        &a, phone_request(&a, "REGISTER", "alice", 0, phone_authorization(&a, "Authorization", "REGISTER")));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "200 OK", ""));
    assert_string_equal(token_seen(s), token);
    assert_non_null(strstr(s->seen, ";expires=0"));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 200);
    assert_null(strstr(a.in, "Contact:"));
    assert_int_equal(find(s, token, &target), 0);

    /* It comes back under the same name: to the PBX the same contact. */
    enroll(s, &a);
    assert_string_equal(token_seen(s), token);
    close(a.fd);
}

static void refusals_pass_as_they_are(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");

    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "403 Not You", ""));
    assert_memory_equal(phone_receive(&a, PATIENCE_MS), "SIP/2.0 403 Not You\r\n", 21);
    /* 423: the phone is told, and the next one asks for more. */
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "423 Interval Too Brief", "Min-Expires: 1800\r\n"));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 423);
    assert_non_null(strstr(a.in, "Min-Expires: 1800"));
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "302 Elsewhere", "Contact: <sip:10.0.0.1>\r\n"));
    assert_non_null(strstr(s->seen, ";expires=1800"));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 503);
    assert_null(strstr(a.in, "10.0.0.1"));
    close(a.fd);
}

static void silent_pbx_then_the_next(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");
    int64_t start = kg_mono_ms();

    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, NULL, ""));
    assert_true(pbx_serve(s, 1, 2 * PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    assert_in_range(kg_mono_ms() - start, 1900, 3900); /* another one is there: not the whole 4 s */
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 401);
    close(a.fd);
}

static void unavailable_pbx_then_the_next(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");

    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "503 Service Unavailable", ""));
    assert_true(pbx_serve(s, 1, PATIENCE_MS, "503 Service Unavailable", "Retry-After: 77\r\n"));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 503);
    assert_non_null(strstr(a.in, "Retry-After: 77"));
    close(a.fd);
}

/* No PBX answers its probes: refreshes are no longer vouched for, and phones are told when to come back. When
 * it answers again it may have lost everything: the next REGISTER goes through to it. */
static void pbx_restart_is_noticed(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");
    int64_t end = kg_mono_ms() + 4 * PATIENCE_MS;

    enroll(s, &a);
    assert_int_equal(refresh(&a, ""), 200);
    close(s->pbx[0]);
    close(s->pbx[1]);
    do
        phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    while (status_of(phone_receive(&a, 2 * PATIENCE_MS)) == 200 && kg_mono_ms() < end);
    assert_int_equal(status_of(a.in), 503);
    assert_non_null(strstr(a.in, "Retry-After:"));
    s->pbx[0] = open_pbx(0);
    s->pbx[1] = open_pbx(1);
    pbx_serve(s, 0, 2500, NULL, ""); /* its probe */
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    phone_receive(&a, PATIENCE_MS);
    close(a.fd);
}

/* A PBX that is gone for half a second has forgotten its registrations: the refresh after it is not vouched
 * for. */
static void short_pbx_restart_is_noticed(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");

    enroll(s, &a);
    close(s->pbx[0]);
    pbx_serve(s, 1, 600, NULL, "");
    s->pbx[0] = open_pbx(0);
    assert_false(pbx_serve(s, 0, 2500, NULL, ""));
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "200 OK", "Expires: 600\r\n"));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 200);
    /* And once is enough. */
    assert_int_equal(refresh(&a, ""), 200);
    assert_int_equal(kg_counters.registers_local, 1);
    close(a.fd);
}

/* A restart of kedge: the phone is reachable by its token at once, its refresh needs no PBX. */
static void restart_of_kedge(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");
    struct kg_target target;

    enroll(s, &a);
    world_stop(s->w);
    world_start(s->w);
    assert_int_equal(find(s, token_seen(s), &target), 1);
    kg_flow_clear(&target.flow);
    assert_int_equal(refresh(&a, ""), 200);
    assert_int_equal(kg_counters.registers_local, 1);
    close(a.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(passes_digest_and_hides_the_phone, setup, teardown),
        cmocka_unit_test_setup_teardown(refresh_on_the_flow_is_answered_here, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_user_part_in_two_domains, setup, teardown),
        cmocka_unit_test_setup_teardown(contact_that_moves_is_told_of_when_the_pbx_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(strangers_beyond_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(everybody_else_goes_to_the_pbx, setup, teardown),
        cmocka_unit_test_setup_teardown(changed_path_goes_to_the_pbx, setup, teardown),
        cmocka_unit_test_setup_teardown(refresh_goes_through_when_the_pbx_expires, setup, teardown),
        cmocka_unit_test_setup_teardown(rfc3327_own_contact_with_path, setup, teardown),
        cmocka_unit_test_setup_teardown(rfc3327_5_3_pbx_without_path_is_asked_again, setup, teardown),
        cmocka_unit_test_setup_teardown(pbx_that_refuses_path_is_asked_without, setup, teardown),
        cmocka_unit_test_setup_teardown(path_where_the_pbx_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(rfc3608_service_route, setup, teardown),
        cmocka_unit_test_setup_teardown(rfc5627_gruu_of_the_pbx, setup, teardown),
        cmocka_unit_test_setup_teardown(rfc5626_two_flows_are_one_contact, setup, teardown),
        cmocka_unit_test_setup_teardown(unregistering_reaches_the_pbx, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals_pass_as_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(silent_pbx_then_the_next, setup, teardown),
        cmocka_unit_test_setup_teardown(unavailable_pbx_then_the_next, setup, teardown),
        cmocka_unit_test_setup_teardown(pbx_restart_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(short_pbx_restart_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(restart_of_kedge, setup, teardown),
    };

    kg_log_init("test", KG_LOG_ERROR);
    su_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
