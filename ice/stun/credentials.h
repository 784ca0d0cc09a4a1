/* Short-term and long-term credentials (RFC 8489 9), both ends, for UDP. Pure: time and secrets come in. For
 * the TURN server and client to come: only tests call it yet (ICE's own use of short-term credentials is in
 * ice/agent).
 *
 * The server keeps nothing per client: a nonce says when and for whom it was made and is signed with the
 * server's secret, its security features included, so that nobody between can lower them (9.2.1). The client
 * is a small state for one server; it never repeats what was refused, and answers one realm only: a server
 * that asks for another one gets no second digest of the password. */
#ifndef KG_ICE_STUN_CREDENTIALS_H
#define KG_ICE_STUN_CREDENTIALS_H

#include "ice/stun/integrity.h"

#define KG_STUN_NONCE_MS 600000 /* a nonce is good for ten minutes; then 438 */
#define KG_STUN_SECRET   32

/* ---- short-term (9.1) ---- */

/* 0: right; otherwise what to answer to a request (an indication is dropped): 400, 401. */
int kg_stun_short_term_check(const struct kg_stun_message *message, const char *user, const char *password);
/* USERNAME and both integrity attributes, as long as nobody said which one the peer knows (9.1.2). */
void kg_stun_short_term_put(struct kg_stun_writer *w, const char *user, const char *password);

/* ---- long-term, server (9.2.4) ---- */

struct kg_stun_server {
    const char *realm; /* the caller's, lives as long */
    uint8_t secret[KG_STUN_SECRET];
    bool anonymity; /* ask for USERHASH in place of USERNAME */
};

/* As the request names its user: one of the two. */
struct kg_stun_user {
    const char *name; /* not NUL-terminated */
    size_t name_len;
    const uint8_t *hash; /* kg_stun_userhash of name and realm; NULL: name is given */
};
/* Writes the user's key of that algorithm (kg_stun_long_term_key); returns its length, 0: no such user. */
typedef size_t kg_stun_find_key(void *ctx, const struct kg_stun_user *user,
                                enum kg_stun_password_algorithm algorithm,
                                uint8_t key[static KG_STUN_KEY_MAX]);

struct kg_stun_authorization {
    int code; /* 0: right; else 400, 401 or 438 is the answer: kg_stun_server_refuse */
    struct kg_stun_user user;
    uint8_t key[KG_STUN_KEY_MAX]; /* of the user, if code is 0 or 438 */
    size_t key_len;
    bool sha256; /* the response carries MESSAGE-INTEGRITY-SHA256, else MESSAGE-INTEGRITY */
};
/* Unknown users and wrong passwords take the same time and get the same answer. */
void kg_stun_server_check(const struct kg_stun_server *server, const struct kg_stun_message *request,
                          const struct kg_addr *client, int64_t now_ms, kg_stun_find_key *find_key, void *ctx,
                          struct kg_stun_authorization *out);
/* ERROR-CODE and, for 401 and 438, the challenge. The caller has begun the error response. */
void kg_stun_server_refuse(const struct kg_stun_server *server, const struct kg_addr *client, int64_t now_ms,
                           int code, struct kg_stun_writer *w);
/* The integrity of a response to an authorized request. Only the fingerprint may follow. */
void kg_stun_server_seal(const struct kg_stun_authorization *authorization, struct kg_stun_writer *w);

/* ---- long-term, client (9.2.3, 9.2.5) ---- */

#define KG_STUN_TEXT_MAX       764 /* REALM, NONCE with NUL (14.9, 14.10) */
#define KG_STUN_ALGORITHMS_MAX 64
#define KG_STUN_STALE_MAX      2 /* 438s one after another before it is given up */

enum kg_stun_client_state { KG_STUN_UNCHALLENGED, KG_STUN_CHALLENGED, KG_STUN_KNOWN };

struct kg_stun_client {
    const char *user, *password; /* OpaqueString-prepared; the caller's, live as long */
    enum kg_stun_client_state state;
    char realm[KG_STUN_TEXT_MAX], nonce[KG_STUN_TEXT_MAX];
    uint8_t algorithms[KG_STUN_ALGORITHMS_MAX]; /* as the server listed them, sent back */
    size_t algorithms_len;                      /* 0: an older server, MD5 */
    enum kg_stun_password_algorithm algorithm;
    bool anonymity;
    uint8_t stale; /* 438s since the last genuine response */
    uint8_t key[KG_STUN_KEY_MAX];
    size_t key_len;
};

void kg_stun_client_start(struct kg_stun_client *client, const char *user, const char *password);
/* What the server asked for, with the integrity; nothing as long as it has not. Only the fingerprint may
 * follow. */
void kg_stun_client_put(const struct kg_stun_client *client, struct kg_stun_writer *w);

enum kg_stun_reply {
    KG_STUN_REPLY_GENUINE, /* the server's answer, success or error: act on it */
    KG_STUN_REPLY_RETRY,   /* put the request again, as a new transaction */
    KG_STUN_REPLY_REFUSED, /* the credentials are wrong, or no common algorithm, or somebody bids down */
    KG_STUN_REPLY_IGNORE,  /* as if it had not come: the transaction goes on */
};
/* A response to the client's transaction. */
enum kg_stun_reply kg_stun_client_take(struct kg_stun_client *client, const struct kg_stun_message *response);

#endif
