/* OpenSSL contexts for the edge. */
#ifndef KG_SIP_TLS_H
#define KG_SIP_TLS_H

#include <openssl/ssl.h>

#include "conf/config.h"

/* The configured pair, or a self-signed one beside the store, made at the first start. NULL and a sentence.
 */
SSL_CTX *kg_tls_server(const struct kg_config *config, char *error, size_t size);
/* Toward servers: trusts tls.ca, or what the system trusts. NULL and a sentence. */
SSL_CTX *kg_tls_client(const struct kg_config *config, char *error, size_t size);
/* The other end of a connection of that context must have a certificate for `name`, a host name or an
 * address. Without verify it may have any. 0, EINVAL or ENOMEM. */
int kg_tls_expect(SSL *ssl, const char *name, bool verify);

#endif
