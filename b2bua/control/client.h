/* Inside kedgectl only: one HTTP request to kedge's control socket. */
#ifndef KG_CONTROL_CLIENT_H
#define KG_CONTROL_CLIENT_H

#include <jansson.h>

/* body may be NULL. Returns the HTTP status and its JSON (a new reference, or NULL if there was none), or -1
 * after saying on stderr what is wrong. */
int kg_client_ask(const char *socket_path, const char *method, const char *path, const json_t *body,
                  json_t **out);

#endif
