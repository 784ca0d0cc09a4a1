#include "b2bua/sip/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/clock.h"
#include "conf/log.h"

/* Phones that trust it do so by hand: ten years. */
#define SELF_SIGNED_DAYS 3650
/* X.509's limit for a common name. */
#define COMMON_NAME_MAX 64
#define NAMES_MAX       4096
#define ENCRYPTED       "it is encrypted, and nobody is there to type the pass phrase (openssl pkey takes it off)"

/* What a person meets when the files are wrong, and OpenSSL's words do not tell. */
static const char *in_words(unsigned long code)
{
    enum { ANY = 0 };
    static const struct {
        int library, reason;
        const char *words;
    } known[] = {
        {ERR_LIB_PEM, PEM_R_NO_START_LINE, "it holds nothing of that kind in PEM"},
        {ERR_LIB_PEM, PEM_R_BAD_END_LINE, "it is cut off"},
        {ANY, ERR_R_INTERRUPTED_OR_CANCELLED, ENCRYPTED}, /* no_pass_phrase() */
        {ERR_LIB_OSSL_DECODER, ERR_R_UNSUPPORTED, "it holds no private key in PEM"},
        {ERR_LIB_X509, X509_R_KEY_VALUES_MISMATCH, "it belongs to another certificate"},
        {ERR_LIB_X509, X509_R_KEY_TYPE_MISMATCH, "it belongs to another certificate"},
        {ERR_LIB_SSL, SSL_R_NO_CERTIFICATE_ASSIGNED, "it belongs to another certificate"},
        {ERR_LIB_SSL, SSL_R_EE_KEY_TOO_SMALL, "its key is too short to be safe"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if ((ERR_GET_LIB(code) == known[i].library || known[i].library == ANY) &&
            ERR_GET_REASON(code) == known[i].reason)
            return known[i].words;
    return NULL;
}

static void openssl_reason(char *out, size_t size)
{
    unsigned long code = ERR_peek_error(); /* the first says most; what follows is its callers' */
    const char *words = in_words(code);
    const char *reason = !code                    ? NULL
                         : words                  ? words
                         : ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code))
                                                  : ERR_reason_error_string(code);
    snprintf(out, size, "%s", reason ? reason : "unknown reason");
    ERR_clear_error();
}

/* Nobody is there to be asked for a pass phrase: OpenSSL would wait for the terminal. */
static int no_pass_phrase(char *out, int size, int writing, void *arg)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

/* "FILE" in the directory of the store. */
static void beside_store(const struct kg_config *config, const char *name, char out[static KG_PATH_MAX])
{
    const char *slash = strrchr(config->store, '/');
    int dir = slash ? (int)(slash - config->store) : 1;
    snprintf(out, KG_PATH_MAX, "%.*s/%s", dir, slash ? config->store : ".", name);
}

static void add_name(char *names, const char *kind, const char *value)
{
    size_t used = strlen(names);
    if (used + strlen(kind) + strlen(value) + 2 < NAMES_MAX)
        snprintf(names + used, NAMES_MAX - used, "%s%s%s", used ? "," : "", kind, value);
}

/* "DNS:example.org,IP:192.0.2.1,...": what a phone may have been told to connect to. */
static void subject_names(const struct kg_config *config, char names[static NAMES_MAX])
{
    struct ifaddrs *all = NULL;
    char text[KG_ADDR_STR];
    struct kg_addr domain;
    names[0] = '\0';
    if (config->sip.domain[0])
        add_name(names, kg_addr_parse_host(config->sip.domain, 0, &domain) == 0 ? "IP:" : "DNS:",
                 config->sip.domain);
    if (kg_addr_is_set(&config->sip.advertise))
        add_name(names, "IP:", kg_addr_format_host(&config->sip.advertise, text));
    if (getifaddrs(&all) != 0)
        return;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        struct kg_addr addr = i->ifa_addr ? kg_addr_from_sockaddr(i->ifa_addr) : (struct kg_addr){0};
        if (!kg_addr_is_set(&addr) || (kg_addr_family(&addr) == AF_INET6 && addr.in6.sin6_scope_id))
            continue;
        add_name(names, "IP:", kg_addr_format_host(&addr, text));
    }
    freeifaddrs(all);
}

static X509 *self_sign(const struct kg_config *config, EVP_PKEY *key)
{
    char names[NAMES_MAX], common[COMMON_NAME_MAX + 1];
    uint64_t serial;
    X509 *cert = X509_new();
    X509_EXTENSION *extension = NULL;
    subject_names(config, names);
    snprintf(common, sizeof common, "%.*s", COMMON_NAME_MAX,
             config->sip.domain[0] ? config->sip.domain : "kedge");
    kg_random(&serial, sizeof serial);
    bool made = cert && X509_set_version(cert, X509_VERSION_3) &&
                ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1) &&
                X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
                X509_time_adj_ex(X509_getm_notAfter(cert), SELF_SIGNED_DAYS, 0, NULL) &&
                X509_set_pubkey(cert, key) &&
                X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8,
                                           (const unsigned char *)common, -1, -1, 0) &&
                X509_set_issuer_name(cert, X509_get_subject_name(cert));
    if (made && names[0]) {
        extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
        made = extension && X509_add_ext(cert, extension, -1);
        X509_EXTENSION_free(extension);
    }
    if (made && X509_sign(cert, key, EVP_sha256()))
        return cert;
    X509_free(cert);
    return NULL;
}

/* A new file that only we can read; never an existing one. */
static FILE *create_private(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!file && fd >= 0)
        close(fd);
    return file;
}

static int write_pair(const char *cert_path, const char *key_path, X509 *cert, EVP_PKEY *key)
{
    unlink(key_path); /* one without the other is of no use */
    FILE *key_file = create_private(key_path);
    int failed = key_file ? 0 : errno;
    if (key_file) {
        bool written = PEM_write_PrivateKey(key_file, key, NULL, NULL, 0, NULL, NULL);
        if (fclose(key_file) != 0 || !written)
            failed = EIO;
    }
    FILE *cert_file = failed ? NULL : create_private(cert_path);
    if (!failed && !cert_file)
        failed = errno;
    if (cert_file) {
        bool written = PEM_write_X509(cert_file, cert);
        if (fclose(cert_file) != 0 || !written)
            failed = EIO;
    }
    return failed;
}

static int make_pair(const struct kg_config *config, const char *cert_path, const char *key_path, char *error,
                     size_t size)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = key ? self_sign(config, key) : NULL;
    int failed = cert ? write_pair(cert_path, key_path, cert, key) : ENOMEM;
    if (failed)
        snprintf(error, size,
                 "A self-signed TLS certificate could not be written to %s: %s. Make the directory writable, "
                 "or set "
                 "tls.certificate and tls.key, or remove the tls and wss listeners from sip.listen.",
                 cert_path, strerror(failed));
    else
        kg_info("tls", "made a self-signed certificate, %s; phones must be told to accept it", cert_path);
    X509_free(cert);
    EVP_PKEY_free(key);
    return failed;
}

static SSL_CTX *new_context(const SSL_METHOD *method)
{
    SSL_CTX *context = SSL_CTX_new(method);
    if (!context)
        return NULL;
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION); /* RFC 8996 */
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS); /* an idle phone costs 34 KB less */
    return context;
}

/* RFC 7301: browsers ask for HTTP, and get no other version than the one that WebSockets begin with. Phones
 * mostly ask for nothing; what else somebody asks for is nothing to argue about. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned int in_len, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1\x05sip/2";
    unsigned char *chosen = NULL;
    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, out_len, ours, sizeof ours - 1, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

SSL_CTX *kg_tls_server(const struct kg_config *config, char *error, size_t size)
{
    char cert_path[KG_PATH_MAX], key_path[KG_PATH_MAX], reason[160];
    snprintf(cert_path, sizeof cert_path, "%s", config->tls.certificate);
    snprintf(key_path, sizeof key_path, "%s", config->tls.key);
    if (!cert_path[0]) {
        beside_store(config, "kedge-cert.pem", cert_path);
        beside_store(config, "kedge-key.pem", key_path);
        if (access(cert_path, F_OK) != 0 && make_pair(config, cert_path, key_path, error, size) != 0)
            return NULL;
    }
    SSL_CTX *context = new_context(TLS_server_method());
    if (!context) {
        openssl_reason(reason, sizeof reason);
        snprintf(error, size, "OpenSSL cannot start: %s.", reason);
        return NULL;
    }
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    SSL_CTX_set_default_passwd_cb(context, no_pass_phrase);
    const char *file = cert_path;
    bool loaded = SSL_CTX_use_certificate_chain_file(context, cert_path) == 1;
    if (loaded) {
        file = key_path;
        loaded = SSL_CTX_use_PrivateKey_file(context, key_path, SSL_FILETYPE_PEM) == 1 &&
                 SSL_CTX_check_private_key(context) == 1;
    }
    if (loaded)
        return context;
    openssl_reason(reason, sizeof reason);
    snprintf(error, size, "%s cannot be used as the TLS %s: %s. Correct tls.certificate and tls.key.", file,
             file == key_path ? "key of that certificate" : "certificate", reason);
    SSL_CTX_free(context);
    return NULL;
}

SSL_CTX *kg_tls_client(const struct kg_config *config, char *error, size_t size)
{
    const char *file = config->tls.ca;
    char reason[160];
    SSL_CTX *context = new_context(TLS_client_method());
    if (context && (file[0] ? SSL_CTX_load_verify_locations(context, file, NULL)
                            : SSL_CTX_set_default_verify_paths(context)) == 1)
        return context;
    openssl_reason(reason, sizeof reason);
    if (context && file[0])
        snprintf(error, size, "%s cannot be used as tls.ca: %s. It must hold certificates in PEM.", file,
                 reason);
    else
        snprintf(error, size, "OpenSSL cannot start: %s.", reason);
    SSL_CTX_free(context);
    return NULL;
}

/* RFC 5922 7.3, with the name that was configured and not one that DNS gave; but a "*." at the beginning is
 * taken, as every provider has it. */
int kg_tls_expect(SSL *ssl, const char *name, bool verify)
{
    struct kg_addr addr;
    bool numeric = kg_addr_parse_host(name, 0, &addr) == 0;
    SSL_set_verify(ssl, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (name[0] && !numeric && SSL_set_tlsext_host_name(ssl, name) != 1)
        return ENOMEM;
    if (!verify)
        return 0;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    int set = numeric ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) : SSL_set1_host(ssl, name);
    return set == 1 ? 0 : EINVAL;
}
