/* Inside control/ only: one request to the API on its way from the edge thread to the signalling thread and
 * back. */
#ifndef KG_CONTROL_EXCHANGE_H
#define KG_CONTROL_EXCHANGE_H

#include <jansson.h>
#include <stdbool.h>

#include "b2bua/control/control.h"

#define KG_CONTROL_NAME_MAX 128

struct kg_control;
struct kg_exchange;

/* What the signalling thread sees of a request. */
struct kg_api_request {
    struct kg_server *server;
    kg_control_reload *reload;
    void *reload_ctx;
    char name[KG_CONTROL_NAME_MAX]; /* last part of the path where the route takes one: a call's id, an
                                       account */
    bool recent;                    /* ?recent=1 */
    json_t *body;                   /* object, or NULL */
};

/* Carries a request out on the signalling thread; answers by kg_exchange_answer once, now or later. */
typedef void kg_api_fn(struct kg_exchange *exchange, const struct kg_api_request *request);

/* Finds the handler. Returns 0, ENOENT (no such path) or EPERM (not with this method). name: see above. */
int kg_api_find(const char *method, const char *path, kg_api_fn **fn, char name[static KG_CONTROL_NAME_MAX]);

/* A route that ends in "/" takes a name behind it, without "/"; another is the whole path. path is unescaped.
 */
bool kg_api_fits(const char *route, const char *path, char name[static KG_CONTROL_NAME_MAX]);

/* Signalling thread. Takes the reference of json (NULL: an answer without content). The exchange is gone
 * after it. */
void kg_exchange_answer(struct kg_exchange *exchange, int status, json_t *json);
/* {"error": "sentence"} */
void kg_exchange_refuse(struct kg_exchange *exchange, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
