/* Copies of every SIP message to a HEP server (conf/hep.h), where one is configured. Signalling thread only.
 */
#ifndef KG_SIP_CAPTURE_H
#define KG_SIP_CAPTURE_H

#include <sofia-sip/nta.h>

#include "conf/config.h"

/* Begins, ends, or goes on with another server. */
void kg_capture_configure(nta_agent_t *agent, const struct kg_config *config);
/* Whether there is a server: else there is no use in writing a report. */
bool kg_capture_is_on(void);
/* An RTCP report as JSON, which belongs to the call with that Call-ID. */
void kg_capture_rtcp(const struct kg_addr *source, const struct kg_addr *destination, const char *call_id,
                     const char *json);
/* Overwrites the keys in SDP (a=crypto ... inline:KEY) of a message that goes to a capture server. */
void kg_capture_hide_keys(char *text, size_t len);

#endif
