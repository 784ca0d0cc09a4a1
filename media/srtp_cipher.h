/* OpenSSL behind the ciphers and authenticators of libsrtp2: Debian's build has NSS there, seven times
 * slower. */
#ifndef KG_MEDIA_SRTP_CIPHER_H
#define KG_MEDIA_SRTP_CIPHER_H

/* After srtp_init(), once per process: AES-CM and AES-GCM with 128 and 256 bits, HMAC-SHA1. libsrtp2 tries
 * each with known answers before it takes it. NULL, or the name of the one that it refused. */
const char *kg_srtp_cipher_install(void);

#endif
