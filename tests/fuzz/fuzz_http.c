/* b2bua/sip/http and handshake: a request that is taken was whole, ends with an empty line and has a host;
 * with one byte less it is not whole; every span lies in it; what is refused has a status; and only one with
 * an origin that is allowed, a key and the subprotocol becomes a WebSocket. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/sip/handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_span(struct kg_span span, const char *data, size_t used)
{
    if (span.at && (span.at < data || span.len > used || span.at + span.len > data + used))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct kg_web_config web = {.origin = {{"https://a.example"}}, .origin_count = 1};
    struct kg_http_request request, shorter;
    const char *text = (const char *)data, *why = NULL;
    size_t used = 0, less;
    int status = 0;
    enum kg_http_parsed parsed = kg_http_parse(text, size, &request, &used, &status);
    if (parsed == KG_HTTP_BAD && (status < 400 || strcmp(kg_http_phrase(status), "Error") == 0))
        abort();
    if (parsed != KG_HTTP_REQUEST)
        return 0;
    if (used > size || used > KG_HTTP_HEAD_MAX || memcmp(text + used - 4, "\r\n\r\n", 4) != 0 ||
        !request.host.len || !request.path.len ||
        kg_http_parse(text, used - 1, &shorter, &less, &status) != KG_HTTP_MORE)
        abort();
    check_span(request.path, text, used);
    check_span(request.host, text, used);
    check_span(request.origin, text, used);
    check_span(request.key, text, used);
    status = kg_handshake_judge(&request, size % 2, &web, "a.example", &why);
    if (status == 101) {
        char accept[KG_HANDSHAKE_ACCEPT];
        if (!request.offers_sip || !request.origin.at || kg_handshake_accept(request.key, accept) != 0 ||
            strlen(accept) != KG_HANDSHAKE_ACCEPT - 1)
            abort();
    } else if (!why || strcmp(kg_http_phrase(status), "Error") == 0) {
        abort();
    }
    return 0;
}
