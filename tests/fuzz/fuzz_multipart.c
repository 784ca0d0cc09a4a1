/* b2bua/sdp/multipart.h: the first line is the Content-Type, the rest the body. What is found lies inside;
 * with another description in its place the same is found again, and nothing else has changed. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/sdp/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char sdp[] = "v=0\r\no=- 1 1 IN IP4 192.0.2.5\r\ns=-\r\nt=0 0\r\n";

static void expect(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void check_replaced(const char *type, const char *body, size_t len, const struct kg_multipart *at)
{
    struct kg_multipart again;
    char error[160];
    size_t out_len;
    expect(at->sdp_at <= len && at->sdp_len <= len - at->sdp_at, "the description is not inside");
    expect(at->length_at + at->length_len <= at->sdp_at, "the Content-Length is not before it");
    char *out = kg_multipart_put(body, len, at, sdp, sizeof(sdp) - 1, &out_len);
    expect(out && out_len == len - at->sdp_len - at->length_len + sizeof(sdp) - 1, "another length");
    expect(kg_multipart_find(type, out, out_len, &again, error, sizeof(error)) == KG_MULTIPART_SDP,
           "not found again");
    expect(again.sdp_at == at->sdp_at - at->length_len && again.sdp_len == sizeof(sdp) - 1,
           "found elsewhere");
    expect(again.length_len == 0, "a Content-Length is left");
    size_t tail = len - at->sdp_at - at->sdp_len;
    expect(memcmp(out + out_len - tail, body + len - tail, tail) == 0, "what follows has changed");
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char type[KG_MULTIPART_HEADER_MAX + 100], error[160];
    struct kg_multipart at;
    const uint8_t *eol = size ? memchr(data, '\n', size) : NULL;
    size_t type_len = eol ? (size_t)(eol - data) : size;
    if (size > 60000 || type_len >= sizeof(type))
        return 0;
    memcpy(type, data, type_len);
    type[type_len] = '\0';
    size_t len = size - type_len - (eol != NULL);
    const char *body = (const char *)data + size - len;
    if (kg_multipart_find(type, body, len, &at, error, sizeof(error)) == KG_MULTIPART_SDP)
        check_replaced(type, body, len, &at);
    return 0;
}
