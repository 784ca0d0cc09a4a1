/* The configuration: one struct, filled by the loader from the schema table in conf/schema.c. */
#ifndef KG_CONF_CONFIG_H
#define KG_CONF_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/addr.h"

enum kg_transport { KG_UDP, KG_TCP, KG_TLS, KG_WS, KG_WSS };
#define KG_TRANSPORTS 5
/* "udp", "tcp", "tls", "ws", "wss" */
const char *kg_transport_name(enum kg_transport transport);
/* SIP over WebSocket (RFC 7118) */
bool kg_transport_is_web(enum kg_transport transport);
/* TLS is below it. */
bool kg_transport_is_secure(enum kg_transport transport);

/* The last: as another setting says. */
enum kg_policy { KG_POLICY_AUTO, KG_POLICY_STEER, KG_POLICY_ANCHOR, KG_POLICY_BYPASS, KG_POLICY_DEFAULT };

/* How media is secured toward a peer: the first shape that its SDP has (b2bua/call/secure.h). The last: as
 * another setting says. */
enum kg_profile {
    KG_PROFILE_AUTO,
    KG_PROFILE_PLAIN,
    KG_PROFILE_OPPORTUNISTIC,
    KG_PROFILE_SDES,
    KG_PROFILE_DTLS,
    KG_PROFILE_WEBRTC,
    KG_PROFILE_DEFAULT
};

/* Which algorithms the embedded registrar offers in a challenge (RFC 8760). */
enum kg_path_use { KG_PATH_AUTO, KG_PATH_YES, KG_PATH_NO };
enum kg_digest_offer { KG_DIGEST_OFFER_MD5, KG_DIGEST_OFFER_SHA256, KG_DIGEST_OFFER_BOTH };

/* ---- records: lists of entries with fields of their own ---- */

#define KG_CAPS_MAX     64
#define KG_PREFIXES_MAX 16
#define KG_NUMBER_SIZE  64 /* a number or the beginning of one, and NUL */

/* The beginning of numbers, without separators; "": all. */
struct kg_prefix {
    char text[24];
};

/* What a user may do against toll fraud. */
struct kg_cap {
    char user[128]; /* "*": each user that no other entry names */
    uint32_t calls; /* at once; 0: no limit */
    uint32_t rate;  /* new ones a minute; 0: no limit */
    struct kg_prefix allow[KG_PREFIXES_MAX], deny[KG_PREFIXES_MAX]; /* the longest that fits decides */
    size_t allow_count, deny_count;
};

/* How the contacts of one user are called. */
enum kg_fork_mode { KG_FORK_PARALLEL, KG_FORK_SERIAL };
/* What becomes of a 3xx. */
enum kg_redirect_mode { KG_REDIRECT_FOLLOW, KG_REDIRECT_PASS, KG_REDIRECT_REFUSE };
enum kg_reliable_mode { KG_RELIABLE_AUTO, KG_RELIABLE_NEVER };

/* "udp:192.0.2.10:5060" */
struct kg_endpoint {
    enum kg_transport transport;
    struct kg_addr addr;
};

#define KG_DOMAIN_MAX 256

/* The name of a header, or "X-*": the beginning of names. */
struct kg_header_name {
    char text[48];
};

/* A server that kedge sends requests to: "udp:192.0.2.10:5060", "tls:pbx.example.org;priority=1",
 * "sip:example.org". */
struct kg_server_at {
    char host[KG_DOMAIN_MAX]; /* an address without brackets, or a name */
    uint16_t port;            /* 0: not given */
    enum kg_transport transport;
    bool located;    /* sip: and sips: (then transport is KG_TLS): transport and port by DNS, RFC 3263 4.1 */
    bool unverified; /* TLS: take any certificate */
    uint16_t priority, weight; /* as in SRV (RFC 2782): lowest first; equal ones share by weight */
};
#define KG_SERVER_AT_STR (KG_DOMAIN_MAX + 64)
/* As it could stand in the file. Returns out. */
char *kg_server_at_format(const struct kg_server_at *at, char out[static KG_SERVER_AT_STR]);
/* The same server, whatever its priority and the like. */
bool kg_server_at_same(const struct kg_server_at *a, const struct kg_server_at *b);

#define KG_NAME_MAX          32
#define KG_SECRET_MAX        128
#define KG_LISTEN_MAX        32
#define KG_TRUNKS_MAX        32
#define KG_TRUNK_SERVERS_MAX 4
#define KG_PBX_MAX           16
#define KG_DNS_SERVERS_MAX   8
#define KG_PATH_MAX          256
#define KG_TRUSTED_MAX       64
#define KG_PASS_HEADERS_MAX  32
#define KG_PASS_METHODS_MAX  16

#define KG_TRUNK_NETS_MAX 16
#define KG_ROUTES_MAX     128
#define KG_ROUTE_TO_MAX   4
#define KG_NUMBERS_MAX    128

/* Whose name From has toward a trunk. */
enum kg_caller_id { KG_CALLER_ID_ACCOUNT, KG_CALLER_ID_CALLER };

/* A provider of phone numbers (an ITSP) that calls go to and come from. */
struct kg_trunk_config {
    char name[KG_NAME_MAX];
    struct kg_server_at server[KG_TRUNK_SERVERS_MAX];
    size_t server_count;
    uint32_t probe_ms;  /* between two OPTIONS; 0: none */
    char user[64];      /* user part of From and of the address of record; "": none */
    char auth_user[64]; /* "": user */
    char password[KG_SECRET_MAX];
    char domain[KG_DOMAIN_MAX]; /* host part of From, To and request URI; "": the server's */
    char realm[128];            /* the only one that is proven to; "*": any; "": the first one that asks */
    bool registers;
    uint32_t expires_ms; /* asked for */
    bool line; /* an INVITE to the Contact that was registered is the trunk's, wherever it comes from */
    struct kg_net match[KG_TRUNK_NETS_MAX]; /* an INVITE from there is the trunk's */
    size_t match_count;
    bool trusted; /* in the trust domain (RFC 3324) */
    enum kg_caller_id from;
    uint32_t calls; /* at once, both directions; 0: no limit */
    enum kg_policy policy;
    enum kg_profile profile;
    char pbx_user[64]; /* what calls from it prove themselves to the PBX with; "": they cannot */
    char pbx_password[KG_SECRET_MAX];
    char ring[KG_NUMBER_SIZE]; /* embedded registrar: who is called where no route says; "": the number */
};

/* Where calls go. The first that fits decides. */
struct kg_route_config {
    char from[KG_NAME_MAX];                   /* "phone", "pbx", a trunk; "*": all */
    char number[KG_NUMBER_SIZE];              /* called: whole, or the beginning of it and "*" */
    char to[KG_ROUTE_TO_MAX][KG_NUMBER_SIZE]; /* "pbx", trunks, or one account; the next ones if one fails */
    size_t to_count;
    enum kg_policy policy;
    enum kg_profile profile;
};

/* How a number is written on one side. The first that fits decides. */
struct kg_number_config {
    char where[KG_NAME_MAX + 8]; /* "from-" or "to-", and "phone", "pbx" or a trunk */
    enum kg_number_of { KG_NUMBER_CALLED, KG_NUMBER_CALLER } of;
    char match[KG_NUMBER_SIZE];   /* whole, or the beginning of it and "*" */
    char becomes[KG_NUMBER_SIZE]; /* "*" at its end: the rest */
};

#define KG_ORIGINS_MAX 32
/* "https://www.example.org" */
struct kg_origin {
    char text[KG_DOMAIN_MAX + 16];
};

/* Browsers: SIP over WebSocket, and the pages for it. */
struct kg_web_config {
    struct kg_origin origin[KG_ORIGINS_MAX]; /* whose pages may connect, beside those of kedge's own host */
    size_t origin_count;
    bool origin_missing;    /* who does not name an origin may connect */
    char root[KG_PATH_MAX]; /* of the pages; empty: none are served */
    uint32_t ping_ms;
};

/* All times are in milliseconds inside kedge and in seconds in the file unless the row says otherwise. */
struct kg_config {
    struct {
        struct kg_endpoint listen[KG_LISTEN_MAX];
        size_t listen_count;
        struct kg_addr advertise; /* none: auto. Port ignored. */
        char domain[KG_DOMAIN_MAX];
        struct kg_header_name pass_headers[KG_PASS_HEADERS_MAX];
        size_t pass_headers_count;
        struct kg_header_name pass_methods[KG_PASS_METHODS_MAX];
        size_t pass_methods_count;
        bool lamps; /* accounts may watch each other's calls */
    } sip;
    struct {
        char certificate[KG_PATH_MAX]; /* empty: self-signed pair beside the store */
        char key[KG_PATH_MAX];
        char ca[KG_PATH_MAX]; /* empty: the system's */
    } tls;
    struct {
        struct kg_addr address;   /* none: auto, the address the call's signalling uses */
        struct kg_addr advertise; /* none: auto, the same as address */
        uint16_t port_min, port_max;
        enum kg_policy policy;
        enum kg_profile profile, pbx_profile; /* toward phones, toward the PBX */
        bool ice;                             /* speak ICE: steer, and be an agent where only one side does */
        bool first_packets;             /* a source that nothing in signalling makes plausible may latch */
        uint32_t workers;               /* threads; 0: one a core */
        uint32_t latch_packets;         /* window, in packets ... */
        uint32_t latch_window_ms;       /* ... or time, whichever ends first */
        uint32_t silence_timeout_ms;    /* a call in talk without any packet */
        uint32_t hold_timeout_ms;       /* the same on hold */
        uint32_t unanswered_timeout_ms; /* before the answer */
        uint32_t certificate_lifetime_ms;
        uint32_t port_quarantine_ms; /* a released port is not given out again before this */
    } media;
    struct {
        uint32_t pacing_ms;    /* Ta (RFC 8445 14.2) */
        uint32_t rto_ms;       /* least (RFC 8445 14.3) */
        uint32_t patience_ms;  /* RFC 8863 */
        uint32_t keepalive_ms; /* RFC 8445 11 */
        uint32_t consent_ms;   /* RFC 7675 5.1, +-20 % */
        uint32_t consent_expiry_ms;
    } ice;
    struct kg_server_at pbx[KG_PBX_MAX];
    size_t pbx_count;      /* 0: the embedded registrar serves */
    uint32_t pbx_probe_ms; /* between two OPTIONS; 0: none */
    struct {
        struct kg_addr server[KG_DNS_SERVERS_MAX]; /* with port; none: the system's */
        size_t server_count;
    } dns;
    struct kg_trunk_config trunk[KG_TRUNKS_MAX];
    size_t trunk_count;
    struct kg_route_config route[KG_ROUTES_MAX];
    size_t route_count;
    struct kg_number_config number[KG_NUMBERS_MAX];
    size_t number_count;
    struct {
        uint32_t phone_expires_udp_ms; /* granted to a NATed UDP phone */
        uint32_t phone_expires_stream_ms;
        uint32_t phone_expires_lan_ms; /* a phone without NAT in between */
        uint32_t pbx_expires_ms;       /* asked of the PBX */
        uint32_t keepalive_udp_ms;
        uint32_t keepalive_stream_ms;
        enum kg_path_use path;
        uint32_t keepalive_min_ms, keepalive_max_ms;
        uint32_t contacts_per_user;
        uint32_t nonce_lifetime_ms;
        enum kg_digest_offer digest;
    } registration;
    struct {
        bool refer_from_trunk; /* a REFER that comes over a trunk passes */
        enum kg_fork_mode fork;
        uint32_t session_ms;     /* RFC 4028: offered; 0: none */
        uint32_t session_min_ms; /* the least that is agreed to */
        enum kg_redirect_mode redirect;
        enum kg_reliable_mode reliable;
    } calls;
    struct {
        uint32_t calls;              /* at once */
        uint32_t unregistered_calls; /* a second, in front of a PBX */
        uint32_t request_body;       /* bytes, outside of calls */
        uint32_t subscriptions;      /* at once */
        uint32_t subscriptions_per_user;
        uint32_t streams; /* TCP, TLS and WebSocket connections at once */
        uint32_t streams_per_source;
        uint32_t stream_idle_ms;    /* a stream without any byte */
        uint32_t stream_message_ms; /* from the first byte of a message to its last */
        uint32_t handshake_ms;      /* TLS, or HTTP up to the WebSocket */
    } limits;
    struct {
        uint32_t requests;        /* a second, from one source that is proven or has phones */
        uint32_t strangers;       /* a second, from one source that has proved nothing */
        uint32_t strangers_total; /* a second, from all of them */
        uint32_t passwords;       /* wrong ones in a row that ban */
        uint32_t ban_ms;          /* the first time; doubled each further time */
        bool scanners;            /* drop what says that it is one */
        struct kg_net trusted[KG_TRUSTED_MAX];
        size_t trusted_count;
    } guard;
    struct {
        char file[KG_PATH_MAX]; /* empty: no records */
        uint32_t rotate_megabytes;
        uint32_t rotate_every_ms; /* 0: only by size */
        uint32_t keep;            /* files */
    } cdr;
    struct kg_cap caps[KG_CAPS_MAX];
    size_t caps_count;
    struct {
        struct kg_addr server; /* none: off */
        uint32_t agent;
    } hep;
    struct kg_web_config web;
    char store[KG_PATH_MAX];
    char control[KG_PATH_MAX]; /* path of the UNIX socket, without "unix:" */
    char log_level[16];        /* error, warn, info, debug */
};

/* One finding of the loader: a sentence for a person. line is 1-based, 0 for the whole file. */
struct kg_config_error {
    int line;
    char text[240];
};
#define KG_CONFIG_ERRORS_MAX 32
/* Larger files are refused. */
#define KG_CONFIG_FILE_MAX 65536
struct kg_config_errors {
    struct kg_config_error item[KG_CONFIG_ERRORS_MAX];
    size_t count;
};

/* The defaults of every row. */
void kg_config_defaults(struct kg_config *config);
/* Parses YAML text over the defaults. Returns 0 and fills *out, or EINVAL with at least one error and *out
 * untouched. Finds every error it can, not only the first. */
int kg_config_parse(const char *text, size_t len, struct kg_config *out, struct kg_config_errors *errors);
/* The same from a file. A file that cannot be read is one error at line 0. */
int kg_config_load(const char *path, struct kg_config *out, struct kg_config_errors *errors);
/* Names of rows that differ between two configurations and need a restart, as "sip.listen, store"; "" if
 * none. Returns their number. */
size_t kg_config_restart_rows(const struct kg_config *a, const struct kg_config *b, char *out, size_t size);
/* Copies the rows that can be changed at run time from `from` into `to`. */
void kg_config_apply_reloadable(struct kg_config *to, const struct kg_config *from);
/* Clears every password: for those who need the rest. */
void kg_config_forget_secrets(struct kg_config *config);
/* The generated reference for conf/README.md (Markdown table), to stdout; `kedge --config-reference`. */
void kg_config_print_reference(void);

#endif
