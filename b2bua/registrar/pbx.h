/* The PBXes kedge registers phones with: where they are and whether they answer. */
#ifndef KG_PBX_H
#define KG_PBX_H

#include <stdbool.h>
#include <stdint.h>

#include "b2bua/sip/flow.h"

struct kg_registrar;
struct kg_pbxes;

#define KG_PBX_NONE UINT32_MAX

struct kg_pbxes *kg_pbxes_new(struct kg_registrar *registrar);
void kg_pbxes_free(struct kg_pbxes *pbxes);
/* Probes each of them when its time has come. */
void kg_pbxes_tick(struct kg_pbxes *pbxes, int64_t now_ms);
/* An answer without a transaction; true if it was to a probe. */
bool kg_pbxes_answer(struct kg_pbxes *pbxes, const char *call_id, uint32_t cseq);

/* The preferred one if it answers, else the first in the order of the configuration that does and that is not
 * in the bit set `tried`; KG_PBX_NONE. */
uint32_t kg_pbxes_pick(const struct kg_pbxes *pbxes, uint32_t preferred, uint32_t tried);
bool kg_pbxes_is_up(const struct kg_pbxes *pbxes, uint32_t index);
/* Grows whenever the PBX may have been restarted: what it knew before is in doubt. */
uint32_t kg_pbxes_epoch(const struct kg_pbxes *pbxes, uint32_t index);
/* A request of ours was not answered by it. */
void kg_pbxes_failed(struct kg_pbxes *pbxes, uint32_t index);
/* The way to it, NULL if there is none. */
const struct kg_flow *kg_pbxes_flow(struct kg_pbxes *pbxes, uint32_t index);
const char *kg_pbxes_name(const struct kg_pbxes *pbxes, uint32_t index); /* "udp 192.0.2.10:5060" */

#endif
