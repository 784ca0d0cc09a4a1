/* OpenSSL contexts for the edge. */
#ifndef KG_SIP_TLS_H
#define KG_SIP_TLS_H

#include <openssl/ssl.h>

#include "conf/config.h"

/* The configured pair, or a self-signed one beside the store, made at the first start. NULL and a sentence.
 */
SSL_CTX *kg_tls_server(const struct kg_config *config, char *error, size_t size);
/* Toward a PBX: encrypted, but the certificate is not verified (README.md). NULL when out of memory. */
SSL_CTX *kg_tls_client(void);

#endif
