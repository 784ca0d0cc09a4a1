/* Connections of browsers in the edge: HTTP, and the WebSocket that comes of it. Edge thread only. */
#ifndef KG_SIP_BROWSER_H
#define KG_SIP_BROWSER_H

#include "b2bua/sip/connection.h"

/* Takes what waits in net's input. May free the connection. */
void kg_browser_read(struct kg_connection *connection);
/* Sends what signalling wrote: each message as one of the WebSocket. */
void kg_browser_send(struct kg_connection *connection);

#endif
