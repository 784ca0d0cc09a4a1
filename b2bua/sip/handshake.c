#include "b2bua/sip/handshake.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>

/* Base64 of 16 bytes (RFC 6455 4.1) */
#define KEY_LEN 24

int kg_handshake_accept(struct kg_span key, char out[static KG_HANDSHAKE_ACCEPT])
{
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 1.3 */
    char text[KEY_LEN + sizeof magic];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    if (key.len != KEY_LEN)
        return ENOMEM;
    memcpy(text, key.at, KEY_LEN);
    memcpy(text + KEY_LEN, magic, sizeof magic);
    if (!EVP_Digest(text, KEY_LEN + sizeof magic - 1, digest, &len, EVP_sha1(), NULL) || len != 20)
        return ENOMEM;
    EVP_EncodeBlock((unsigned char *)out, digest, (int)len);
    return 0;
}

static bool is_key(struct kg_span key)
{
    unsigned char bytes[KEY_LEN];
    if (!key.at || key.len != KEY_LEN || key.at[KEY_LEN - 1] != '=' || key.at[KEY_LEN - 2] != '=' ||
        memchr(key.at, '=', KEY_LEN - 2))
        return false;
    return EVP_DecodeBlock(bytes, (const unsigned char *)key.at, KEY_LEN) == 18;
}

/* "example.org:8443" and "[2001:db8::1]" without what names the port. */
static struct kg_span host_of(struct kg_span authority)
{
    const char *bracket =
        authority.len && authority.at[0] == '[' ? memchr(authority.at, ']', authority.len) : NULL;
    const char *from = bracket ? bracket : authority.at;
    const char *colon = memchr(from, ':', authority.len - (size_t)(from - authority.at));
    return (struct kg_span){authority.at, colon ? (size_t)(colon - authority.at) : authority.len};
}

/* The page came from the host that it now asks, and was not read by others on the way if this is not. The
 * port may be another: the page may stand on a web server beside kedge. */
static bool is_same_host(const struct kg_http_request *request, bool secure)
{
    const char *scheme = secure ? "https://" : "http://";
    size_t n = strlen(scheme);
    if (request->origin.len <= n || strncasecmp(request->origin.at, scheme, n) != 0)
        return false;
    struct kg_span origin = host_of((struct kg_span){request->origin.at + n, request->origin.len - n});
    struct kg_span host = host_of(request->host);
    return origin.len > 0 && origin.len == host.len && strncasecmp(origin.at, host.at, host.len) == 0;
}

/* Whom a browser that says this host has reached. By DNS rebinding a page makes a name of its own point to us
 * and then is of the same host as we: so without TLS, where no certificate has proven the name, it has to be
 * one that strangers cannot have: an address, which no DNS was asked for, or a name of ours. */
static bool is_ours(struct kg_span authority, const char *domain)
{
    struct kg_span host = host_of(authority);
    char name[254]; /* RFC 1035 2.3.4 */
    unsigned char address[16];
    if (host.len == 0 || host.len >= sizeof name)
        return false;
    memcpy(name, host.at, host.len);
    name[host.len] = '\0';
    if (name[0] == '[') {
        name[host.len - 1] = '\0'; /* host_of saw the bracket there, or there is none */
        return inet_pton(AF_INET6, name + 1, address) == 1;
    }
    size_t of = strlen(domain);
    bool below = of > 0 && host.len > of && name[host.len - of - 1] == '.';
    return inet_pton(AF_INET, name, address) == 1 || strcasecmp(name, "localhost") == 0 ||
           strcasecmp(name, domain) == 0 || (below && strcasecmp(name + host.len - of, domain) == 0);
}

static bool is_listed(struct kg_span origin, const struct kg_web_config *web)
{
    for (size_t i = 0; i < web->origin_count; i++)
        if (kg_span_is_like(origin, web->origin[i].text))
            return true;
    return false;
}

static bool is_endpoint(struct kg_span path)
{
    return kg_span_is(path, "/") || kg_span_is(path, "/ws");
}

int kg_handshake_judge(const struct kg_http_request *request, bool secure, const struct kg_web_config *web,
                       const char *domain, const char **why)
{
    *why = "a WebSocket for another path than / and /ws";
    if (!is_endpoint(request->path))
        return 404;
    *why = "a WebSocket of another version than 13";
    if (!kg_span_is(request->version, "13")) /* RFC 6455 4.4 */
        return 426;
    *why = "a WebSocket without a key";
    if (!is_key(request->key))
        return 400;
    *why = "a WebSocket without Origin (web.origin_missing)";
    if (!request->origin.at && !web->origin_missing)
        return 403;
    *why = "a WebSocket from a page of another origin (web.origins)";
    if (request->origin.at && !is_same_host(request, secure) && !is_listed(request->origin, web))
        return 403;
    *why = "a WebSocket without TLS, to a host name that kedge does not know as its own, from a page of the "
           "same "
           "name, as with DNS rebinding. If the page is yours, list it in web.origins, or use wss";
    if (request->origin.at && !secure && !is_ours(request->host, domain) && !is_listed(request->origin, web))
        return 403;
    *why = "a WebSocket for something else than SIP: the subprotocol sip is not offered";
    if (!request->offers_sip) /* RFC 7118 4.1 */
        return 400;
    return 101;
}
