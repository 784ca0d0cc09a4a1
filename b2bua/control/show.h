/* Inside kedgectl only: answers of the API for people, on stdout. */
#ifndef KG_CONTROL_SHOW_H
#define KG_CONTROL_SHOW_H

#include <jansson.h>
#include <stdbool.h>

void kg_show_accounts(const json_t *answer);
void kg_show_registrations(const json_t *answer);
void kg_show_subscriptions(const json_t *answer);
void kg_show_trunks(const json_t *answer);
void kg_show_bans(const json_t *answer);
void kg_show_calls(const json_t *answer);
void kg_show_explanation(const json_t *answer);
void kg_show_peers(const json_t *answer);
void kg_show_stats(const json_t *answer);
/* False, and errors on stderr, when the new configuration was refused. */
bool kg_show_reload(const json_t *answer);

#endif
