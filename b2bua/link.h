/* The supervisor's line to each child: one UNIX seqpacket pair, one message a packet, first byte the kind,
 * the rest text. Also how the running configuration reaches the children: a memfd that holds struct kg_config
 * (same binary, same layout), written by the supervisor alone, so that a restarted child always starts from
 * the last good configuration. */
#ifndef KG_LINK_H
#define KG_LINK_H

#include "conf/config.h"

enum kg_link_kind {
    /* child to supervisor */
    KG_LINK_HEARTBEAT = 'H', /* about once a second while the child's loops make progress */
    KG_LINK_STARTED = 'S',   /* serving */
    KG_LINK_RELOAD = 'R',    /* an admin asked for a reload */
    /* supervisor to child */
    KG_LINK_CONFIG = 'C',        /* the memfd has new reloadable rows */
    KG_LINK_RELOAD_ANSWER = 'A', /* JSON text: {"ok", "errors": [{"line", "text"}], "restart": "rows"} */
};
#define KG_LINK_TEXT_MAX 16384

/* Exit statuses with which a child tells the supervisor that another try is useless. */
#define KG_EXIT_CANNOT_START 78 /* EX_CONFIG: it has said why */

/* Never blocks; a full socket drops the message (heartbeats come again, an admin asks again). Returns 0 or an
 * errno. */
int kg_link_send(int fd, enum kg_link_kind kind, const char *text);
/* Returns the kind and NUL-terminated text, 0 when there is nothing now, -1 when the other side is gone. */
int kg_link_receive(int fd, char text[static KG_LINK_TEXT_MAX]);

/* 0 or an errno. */
int kg_link_write_config(int fd, const struct kg_config *config);
int kg_link_read_config(int fd, struct kg_config *config);

#endif
