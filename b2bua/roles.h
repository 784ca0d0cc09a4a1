/* The two child roles of the kedge binary; each runs until it is told to end and returns an exit status. */
#ifndef KG_ROLES_H
#define KG_ROLES_H

/* link_fd: the line to the supervisor; config_fd: the memfd with the configuration (link.h). */
int kg_signalling_main(int link_fd, int config_fd);
/* listen_fd: the bound UNIX seqpacket socket of the control protocol. */
int kg_media_main(int link_fd, int config_fd, int listen_fd);

#define KG_MEDIA_SOCKET_NAME "media.sock" /* beside the control socket */
/* Writes DIR(control)/name to out. */
void kg_beside_control(const char *control, const char *name, char *out, unsigned long size);

#endif
