/* Opening the UDP sockets of a leg. */
#ifndef KG_MEDIA_SOCKET_H
#define KG_MEDIA_SOCKET_H

#include <stdint.h>

#include "conf/addr.h"
#include "media/client.h"
#include "media/ports.h"

/* audio: short receive queues. Opens RTP and RTCP sockets at host on a pair from ports, or on exactly this
 * one if exactly is not 0. Non-blocking, traffic class reported with each packet. Ports that another program
 * holds are put aside. Returns KG_MEDIA_OK and fills fd and *port; KG_MEDIA_NO_PORTS (an exact port that is
 * busy, too), KG_MEDIA_NO_SOCKETS or KG_MEDIA_BAD_ADDRESS. */
enum kg_media_error kg_socket_open_pair(struct kg_ports *ports, const struct kg_addr *host, bool audio,
                                        uint16_t exactly, int64_t now_ms, int fd[2], uint16_t *port);
/* The same at another host on a pair that is ours already. 0 or an errno. */
int kg_socket_open_again(const struct kg_addr *host, bool audio, uint16_t port, int fd[2]);
void kg_socket_close_pair(int fd[2]);
/* The traffic class (TOS) of everything sent from now on. */
void kg_socket_set_tos(int fd, bool ipv6, uint8_t tos);

#endif
