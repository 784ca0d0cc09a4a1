/* What becomes of URIs that strangers write: b2bua/registrar/bindings.h (keys of contacts),
 * b2bua/nat/assess.h, and the library's own reading and writing, on which kedge's check of addresses rests. A
 * key never overflows, is the same for the same URI in another case of its host, and a URI that is sound
 * stays so. */
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/url.h>

#include "b2bua/guard/scanners.h"
#include "b2bua/nat/assess.h"
#include "b2bua/registrar/bindings.h"
#include "b2bua/sip/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void check_key(const url_t *url)
{
    char key[512], upper[512], small[16], host[256];
    url_t other = *url;
    if (kg_contact_key(url, key, sizeof key) != 0)
        return;
    expect(memchr(key, 0, sizeof key), "a key without end");
    if (kg_contact_key(url, small, sizeof small) == 0)
        expect(strcmp(small, key) == 0, "a shorter key");
    if (!url->url_host || strlen(url->url_host) >= sizeof host)
        return;
    for (size_t i = 0; i <= strlen(url->url_host); i++)
        host[i] = (char)toupper((unsigned char)url->url_host[i]);
    other.url_host = host;
    expect(kg_contact_key(&other, upper, sizeof upper) == 0 && strcmp(key, upper) == 0,
           "the host's case counts");
}

static void assess(const url_t *url, const char *text)
{
    struct kg_nat_verdict verdict;
    struct kg_nat_seen seen = {
        .via_host = text, .via_port = 5060, .contact_host = url->url_host, .transport = KG_UDP};
    kg_addr_parse("203.0.113.9:5060", &seen.source);
    kg_nat_assess(&seen, &verdict);
    for (unsigned i = 0; i < verdict.reason_count; i++)
        expect(memchr(verdict.reason[i], 0, sizeof verdict.reason[i]), "a reason without end");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *copy, written[KG_SIP_URI_MAX + 1];
    url_t url, again;
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    copy = strdup(text);
    kg_scanner_matches(text);
    if (copy && url_d(&url, text) == 0) {
        check_key(&url);
        assess(&url, copy);
        if (kg_uri_is_sound(&url)) {
            url_e(written, sizeof written, &url);
            expect(url_d(&again, written) == 0, "a sound URI cannot be read");
            check_key(&again);
            expect(kg_uri_is_sound(&again), "a sound URI became unsound");
        }
    }
    free(copy);
    free(text);
    return 0;
}
