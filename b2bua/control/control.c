/* The control API's two halves: evhttp on the edge thread, the work on the signalling thread. A request
 * travels as a struct kg_exchange through one mailbox and back through the other; each half touches only its
 * own fields. */
#include "b2bua/control/control.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/thread.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#include "b2bua/control/exchange.h"
#include "b2bua/control/mailbox.h"
#include "b2bua/control/socket.h"
#include "conf/log.h"

#define BODY_MAX    65536 /* bytes of a request's body */
#define HEADERS_MAX 8192
#define OPEN_MAX    64 /* requests under way; more are answered 503 */
#define ANSWER_S    10 /* until signalling must have answered; else 504 */
#define SILENT_S    20 /* a connection that says nothing is closed; longer than ANSWER_S */
#define STOP_S      3  /* until the edge must have let go at the end */

struct kg_exchange {
    struct kg_control *control;
    /* edge thread */
    LIST_ENTRY(kg_exchange) entry;
    struct evhttp_request *http; /* NULL: answered already, or given up */
    struct event *deadline;
    /* whoever holds the exchange */
    kg_api_fn *fn;
    struct kg_api_request request;
    int status;
    char *text; /* JSON to send, or NULL */
};

struct kg_control {
    struct kg_server *server; /* signalling thread */
    kg_control_reload *reload;
    void *reload_ctx;
    char path[KG_PATH_MAX];
    int listen_fd;
    struct kg_mailbox *to_signalling, *to_edge;
    int su_index; /* of to_signalling in the su_root; 0: none */
    /* edge thread until it has stopped, then signalling thread */
    struct event_base *base;
    struct evhttp *http;
    struct event *mail;
    LIST_HEAD(, kg_exchange) open;
    unsigned open_count; /* exchanges that exist */
    /* both: how the edge tells that it stopped */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool edge_stopped; /* under lock */
    bool stopped;      /* signalling thread's copy */
};

/* ---- both threads ---- */

static void control_destroy(struct kg_control *control)
{
    if (control->mail != NULL)
        event_free(control->mail); /* waits until on_mail, which reads the mailbox, has returned */
    kg_mailbox_free(control->to_signalling);
    kg_mailbox_free(control->to_edge);
    pthread_mutex_destroy(&control->lock);
    pthread_cond_destroy(&control->changed);
    free(control);
}

/* Edge thread; after the stop, signalling thread. */
static void exchange_free(struct kg_exchange *exchange)
{
    LIST_REMOVE(exchange, entry);
    exchange->control->open_count--;
    if (exchange->deadline != NULL)
        event_free(exchange->deadline);
    json_decref(exchange->request.body);
    free(exchange->text);
    free(exchange);
}

/* ---- edge thread ---- */

static const char *reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 409:
        return "Conflict";
    case 422:
        return "Unprocessable Entity";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    default:
        return "Internal Server Error";
    }
}

/* libevent frees the request; where its client has gone, at once. */
static void send_text(struct evhttp_request *http, int status, const char *text)
{
    struct evbuffer *body = evbuffer_new();

    if (body != NULL && text != NULL)
        evbuffer_add_printf(body, "%s\n", text);
    evhttp_add_header(evhttp_request_get_output_headers(http), "Content-Type", "application/json");
    evhttp_send_reply(http, status, reason(status), body);
    if (body != NULL)
        evbuffer_free(body);
}

static void send_error(struct evhttp_request *http, int status, const char *sentence)
{
    json_t *json = json_pack("{s:s}", "error", sentence);
    char *text = json_dumps(json, JSON_COMPACT);

    send_text(http, status, text);
    free(text);
    json_decref(json);
}

/* The client gets its answer; the exchange stays where it is under way. */
static void give_up(struct kg_exchange *exchange, int status, const char *sentence)
{
    if (exchange->http != NULL)
        send_error(exchange->http, status, sentence);
    exchange->http = NULL;
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    give_up(arg, 504, "kedge is too busy to answer; try again, and see its log");
}

/* Posted by kg_exchange_answer. */
static void deliver(void *arg)
{
    struct kg_exchange *exchange = arg;

    if (exchange->http != NULL)
        send_text(exchange->http, exchange->status, exchange->text);
    exchange_free(exchange);
}

static void carry_out(void *arg);

static const char *method_name(struct evhttp_request *http)
{
    switch (evhttp_request_get_command(http)) {
    case EVHTTP_REQ_GET:
        return "GET";
    case EVHTTP_REQ_POST:
        return "POST";
    case EVHTTP_REQ_DELETE:
        return "DELETE";
    default:
        return "";
    }
}

/* The name behind a path comes percent-encoded. 0, or ENOENT: nothing has a name like that. */
static int decode_name(char name[static KG_CONTROL_NAME_MAX])
{
    size_t len = 0;
    char *plain = evhttp_uridecode(name, 0, &len);
    int error = plain != NULL && strlen(plain) == len ? 0 : ENOENT;

    if (error == 0)
        snprintf(name, KG_CONTROL_NAME_MAX, "%s", plain); /* never longer than it was */
    free(plain);
    return error;
}

/* Path and query into the request. Returns 0 or the errno of kg_api_find. */
static int find_route(struct evhttp_request *http, struct kg_exchange *exchange)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(http);
    const char *path = evhttp_uri_get_path(uri), *query = evhttp_uri_get_query(uri), *recent;
    struct evkeyvalq pairs = {0};
    int error =
        kg_api_find(method_name(http), path != NULL ? path : "", &exchange->fn, exchange->request.name);

    if (error == 0)
        error = decode_name(exchange->request.name);
    if (query != NULL && evhttp_parse_query_str(query, &pairs) == 0) {
        recent = evhttp_find_header(&pairs, "recent");
        exchange->request.recent = recent != NULL && strcmp(recent, "1") == 0;
    }
    evhttp_clear_headers(&pairs);
    return error;
}

/* Returns 0 or EINVAL. No body is fine: the handler says what it misses. */
static int read_body(struct evhttp_request *http, json_t **out)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(http);
    size_t len = evbuffer_get_length(in);
    const char *text = (const char *)evbuffer_pullup(in, -1);

    *out = NULL;
    if (len == 0)
        return 0;
    if (text != NULL)
        *out = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(*out))
        return 0;
    json_decref(*out);
    *out = NULL;
    return EINVAL;
}

/* Sends an error and returns false when the request is not one for the signalling thread. */
static bool understand(struct evhttp_request *http, struct kg_exchange *exchange)
{
    int error = find_route(http, exchange);

    if (error == 0 && read_body(http, &exchange->request.body) == 0)
        return true;
    if (error == 0)
        send_error(http, 400, "the body must be a JSON object");
    else if (error == EPERM)
        send_error(http, 405, "this path does not take that method");
    else
        send_error(http, 404, "there is no such path in the API; b2bua/control/README.md lists all");
    return false;
}

static void on_request(struct evhttp_request *http, void *arg)
{
    const struct timeval deadline = {.tv_sec = ANSWER_S};
    struct kg_control *control = arg;
    struct kg_exchange *exchange = control->open_count < OPEN_MAX ? calloc(1, sizeof *exchange) : NULL;

    if (exchange == NULL) {
        send_error(http, 503, "too many requests are under way; try again");
        return;
    }
    exchange->control = control;
    control->open_count++;
    LIST_INSERT_HEAD(&control->open, exchange, entry);
    if (!understand(http, exchange)) {
        exchange_free(exchange);
        return;
    }
    exchange->http = http;
    exchange->deadline = evtimer_new(control->base, on_deadline, exchange);
    if (exchange->deadline == NULL || evtimer_add(exchange->deadline, &deadline) != 0 ||
        kg_mailbox_post(control->to_signalling, carry_out, exchange) != 0) {
        give_up(exchange, 503, "kedge is too busy to answer; try again");
        exchange_free(exchange);
    }
}

static void on_mail(evutil_socket_t fd, short what, void *arg)
{
    struct kg_control *control = arg;

    (void)fd;
    (void)what;
    kg_mailbox_run(control->to_edge);
}

static void start_on_edge(void *arg)
{
    struct kg_control *control = arg;

    control->http = evhttp_new(control->base);
    if (control->http == NULL || evhttp_accept_socket(control->http, control->listen_fd) != 0) {
        kg_error("control", "cannot serve %s: out of memory; kedgectl will not work", control->path);
        return;
    }
    evhttp_set_allowed_methods(control->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_DELETE);
    evhttp_set_max_body_size(control->http, BODY_MAX);
    evhttp_set_max_headers_size(control->http, HEADERS_MAX);
    evhttp_set_timeout(control->http, SILENT_S);
    evhttp_set_gencb(control->http, on_request, control);
}

/* The last letter: from here on the signalling thread owns everything. */
static void stop_on_edge(void *arg)
{
    struct kg_control *control = arg;
    struct kg_exchange *exchange;

    LIST_FOREACH(exchange, &control->open, entry)
    {
        give_up(exchange, 503, "kedge is ending");
        event_free(exchange->deadline);
        exchange->deadline = NULL;
    }
    if (control->http != NULL)
        evhttp_free(control->http); /* closes the listening socket too */
    control->http = NULL;
    event_del_noblock(control->mail);
    pthread_mutex_lock(&control->lock);
    control->edge_stopped = true;
    pthread_cond_signal(&control->changed);
    pthread_mutex_unlock(&control->lock);
}

/* ---- signalling thread ---- */

static void release(struct kg_exchange *exchange)
{
    struct kg_control *control = exchange->control;

    exchange_free(exchange);
    if (control->open_count == 0)
        control_destroy(control);
}

static void carry_out(void *arg)
{
    struct kg_exchange *exchange = arg;
    struct kg_control *control = exchange->control;

    if (control->stopped) {
        exchange_free(exchange); /* kg_control_free is draining the mailbox */
        return;
    }
    exchange->request.server = control->server;
    exchange->request.reload = control->reload;
    exchange->request.reload_ctx = control->reload_ctx;
    exchange->fn(exchange, &exchange->request);
}

void kg_exchange_answer(struct kg_exchange *exchange, int status, json_t *json)
{
    struct kg_control *control = exchange->control;

    exchange->status = json != NULL ? status : 500;
    /* Here and not on the edge: values may be shared with what the signalling thread keeps. */
    exchange->text = json != NULL ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(json);
    if (control->stopped)
        release(exchange);
    else if (kg_mailbox_post(control->to_edge, deliver, exchange) != 0)
        kg_error("control", "an answer was lost: the edge does not take its mail"); /* cannot be: OPEN_MAX */
}

void kg_exchange_refuse(struct kg_exchange *exchange, int status, const char *format, ...)
{
    char sentence[400], safe[4 * sizeof sentence]; /* JSON is UTF-8; a name that was asked for need not be */
    va_list args;

    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    kg_log_escape(sentence, safe, sizeof safe);
    kg_exchange_answer(exchange, status, json_pack("{s:s}", "error", safe));
}

static int on_su_mail(su_root_magic_t *magic, su_wait_t *wait, su_wakeup_arg_t *arg)
{
    struct kg_control *control = (struct kg_control *)arg;

    (void)magic;
    (void)wait;
    kg_mailbox_run(control->to_signalling);
    return 0;
}

/* Both mailboxes into their loops. 0 or an errno. */
static int connect_loops(struct kg_control *control)
{
    su_wait_t wait;

    /* The edge runs already: its loop must take events from other threads. */
    if (control->base == NULL || evthread_make_base_notifiable(control->base) != 0)
        return ENOTSUP;
    if (su_wait_create(&wait, kg_mailbox_fd(control->to_signalling), SU_WAIT_IN) != 0)
        return ENOMEM;
    control->su_index =
        su_root_register(control->server->root, &wait, on_su_mail, (su_wakeup_arg_t *)control, 0);
    if (control->su_index <= 0) {
        su_wait_destroy(&wait);
        return ENOMEM;
    }
    control->mail =
        event_new(control->base, kg_mailbox_fd(control->to_edge), EV_READ | EV_PERSIST, on_mail, control);
    if (control->mail == NULL || event_add(control->mail, NULL) != 0)
        return ENOMEM;
    return kg_mailbox_post(control->to_edge, start_on_edge, control);
}

struct kg_control *kg_control_new(struct kg_server *server, struct event_base *base,
                                  kg_control_reload *reload, void *reload_ctx, char *error, size_t size)
{
    struct kg_control *control = calloc(1, sizeof *control);

    snprintf(error, size, "cannot serve the control socket: out of memory");
    if (control == NULL)
        return NULL;
    control->server = server;
    control->base = base;
    control->reload = reload;
    control->reload_ctx = reload_ctx;
    LIST_INIT(&control->open);
    pthread_mutex_init(&control->lock, NULL);
    pthread_cond_init(&control->changed, NULL);
    snprintf(control->path, sizeof control->path, "%s", server->config.control);
    control->to_signalling = kg_mailbox_new(OPEN_MAX);
    control->to_edge = kg_mailbox_new(OPEN_MAX + 2); /* and start, stop */
    if (control->to_signalling == NULL || control->to_edge == NULL ||
        kg_control_socket_open(control->path, &control->listen_fd, error, size) != 0) {
        control_destroy(control);
        return NULL;
    }
    if (connect_loops(control) != 0) {
        snprintf(error, size, "cannot serve the control socket: no event loop takes it");
        if (control->su_index > 0)
            su_root_deregister(server->root, control->su_index);
        unlink(control->path);
        close(control->listen_fd);
        control_destroy(control);
        return NULL;
    }
    return control;
}

static bool wait_for_edge(struct kg_control *control)
{
    struct timespec until;
    int error = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += STOP_S;
    pthread_mutex_lock(&control->lock);
    while (!control->edge_stopped && error == 0)
        error = pthread_cond_timedwait(&control->changed, &control->lock, &until);
    pthread_mutex_unlock(&control->lock);
    return error == 0;
}

void kg_control_free(struct kg_control *control)
{
    if (control == NULL)
        return;
    unlink(control->path);
    su_root_deregister(control->server->root, control->su_index);
    /* Without the edge's word its half may still be in use: then the memory stays, the process is ending
     * anyway. */
    if (kg_mailbox_post(control->to_edge, stop_on_edge, control) != 0 || !wait_for_edge(control))
        return;
    control->stopped = true;
    kg_mailbox_run(control->to_signalling);
    /* Requests whose answer is still under way (a query to the media engine) free it when they end. */
    if (control->open_count == 0)
        control_destroy(control);
}
