/* libnice as an ICE peer, driven by the lines of peer_io.h.
 *
 * nice_peer [controlling=1] [components=2] [lite=1] [consent=1] [trickle=1] [stun=HOST] [stun_port=3478] */
#include <glib-unix.h>
#include <nice/agent.h>
#include <unistd.h>

#include "tests/interop/peer_io.h"

struct peer {
    GMainLoop *loop;
    NiceAgent *agent;
    guint stream;
    unsigned components;
};

static void tell_local(struct peer *p)
{
    gchar *ufrag = NULL, *pwd = NULL;
    nice_agent_get_local_credentials(p->agent, p->stream, &ufrag, &pwd);
    say("local %s %s", ufrag, pwd);
    g_free(ufrag);
    g_free(pwd);
    for (unsigned c = 1; c <= p->components; c++) {
        GSList *list = nice_agent_get_local_candidates(p->agent, p->stream, c);
        for (GSList *i = list; i; i = i->next) {
            NiceCandidate *candidate = i->data;
            if (candidate->transport != NICE_CANDIDATE_TRANSPORT_UDP)
                continue;
            gchar *line = nice_agent_generate_local_candidate_sdp(p->agent, candidate);
            say("candidate %s", line + strlen("a=candidate:"));
            g_free(line);
        }
        g_slist_free_full(list, (GDestroyNotify)nice_candidate_free);
    }
    say("end");
}

static void on_gathered(NiceAgent *agent, guint stream, gpointer data)
{
    (void)agent;
    (void)stream;
    tell_local(data);
}

static void on_state(NiceAgent *agent, guint stream, guint component, guint state, gpointer data)
{
    (void)agent;
    (void)stream;
    (void)data;
    say("state %u %s", component, nice_component_state_to_string(state));
}

static void on_selected(NiceAgent *agent, guint stream, guint component, NiceCandidate *local,
                        NiceCandidate *remote, gpointer data)
{
    (void)agent;
    (void)stream;
    (void)data;
    char host[2][NICE_ADDRESS_STRING_LEN];
    nice_address_to_string(&local->addr, host[0]);
    nice_address_to_string(&remote->addr, host[1]);
    say("selected %u %s:%u %s:%u", component, host[0], nice_address_get_port(&local->addr), host[1],
        nice_address_get_port(&remote->addr));
}

static void on_data(NiceAgent *agent, guint stream, guint component, guint len, gchar *data, gpointer ctx)
{
    (void)agent;
    (void)stream;
    (void)ctx;
    say("data %u %.*s", component, (int)len, data);
}

static void add_candidate(struct peer *p, const char *text)
{
    gchar *line = g_strdup_printf("a=candidate:%s", text);
    NiceCandidate *candidate = nice_agent_parse_remote_candidate_sdp(p->agent, p->stream, line);
    g_free(line);
    if (!candidate) {
        say("refused candidate");
        return;
    }
    GSList *list = g_slist_append(NULL, candidate);
    nice_agent_set_remote_candidates(p->agent, p->stream, candidate->component_id, list);
    g_slist_free_full(list, (GDestroyNotify)nice_candidate_free);
}

static void on_line(struct peer *p, char *line)
{
    char *what = word(&line);
    if (strcmp(what, "remote") == 0) {
        char *ufrag = word(&line), *pwd = word(&line);
        nice_agent_set_remote_credentials(p->agent, p->stream, ufrag, pwd);
    } else if (strcmp(what, "candidate") == 0) {
        add_candidate(p, line);
    } else if (strcmp(what, "end") == 0) {
        nice_agent_peer_candidate_gathering_done(p->agent, p->stream);
    } else if (strcmp(what, "restart") == 0) {
        nice_agent_restart(p->agent);
        tell_local(p);
    } else if (strcmp(what, "send") == 0) {
        unsigned component = (unsigned)strtoul(word(&line), NULL, 10);
        if (line && nice_agent_send(p->agent, p->stream, component, (guint)strlen(line), line) < 0)
            say("unsent %u", component);
    }
}

static gboolean on_input(gint fd, GIOCondition condition, gpointer data)
{
    (void)condition;
    static char buf[LINE_MAX_LEN];
    static size_t have;
    struct peer *p = data;
    ssize_t got = read(fd, buf + have, sizeof buf - 1 - have);
    if (got <= 0) {
        g_main_loop_quit(p->loop);
        return G_SOURCE_REMOVE;
    }
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
    return G_SOURCE_CONTINUE;
}

int main(int argc, char **argv)
{
    struct peer p = {.components = (unsigned)number(argc, argv, "components", 1)};
    NiceAgentOption options = NICE_AGENT_OPTION_REGULAR_NOMINATION;
    if (number(argc, argv, "trickle", 0))
        options |= NICE_AGENT_OPTION_ICE_TRICKLE;
    if (number(argc, argv, "lite", 0))
        options |= NICE_AGENT_OPTION_LITE_MODE;
    if (number(argc, argv, "consent", 1))
        options |= NICE_AGENT_OPTION_CONSENT_FRESHNESS;
    p.loop = g_main_loop_new(NULL, FALSE);
    p.agent = nice_agent_new_full(NULL, NICE_COMPATIBILITY_RFC5245, options);
    g_object_set(p.agent, "controlling-mode", number(argc, argv, "controlling", 0) != 0, "upnp", FALSE,
                 "ice-tcp", FALSE, "keepalive-conncheck", TRUE, NULL);
    const char *stun = option(argc, argv, "stun", NULL);
    if (stun)
        g_object_set(p.agent, "stun-server", stun, "stun-server-port",
                     (guint)number(argc, argv, "stun_port", 3478), NULL);
    g_signal_connect(p.agent, "candidate-gathering-done", G_CALLBACK(on_gathered), &p);
    g_signal_connect(p.agent, "component-state-changed", G_CALLBACK(on_state), &p);
    g_signal_connect(p.agent, "new-selected-pair-full", G_CALLBACK(on_selected), &p);
    p.stream = nice_agent_add_stream(p.agent, p.components);
    for (unsigned c = 1; c <= p.components; c++)
        nice_agent_attach_recv(p.agent, p.stream, c, g_main_loop_get_context(p.loop), on_data, &p);
    if (!p.stream || !nice_agent_gather_candidates(p.agent, p.stream)) {
        fprintf(stderr, "nice_peer: cannot gather candidates\n");
        return 1;
    }
    g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP, on_input, &p);
    g_main_loop_run(p.loop);
    g_object_unref(p.agent);
    g_main_loop_unref(p.loop);
    return 0;
}
