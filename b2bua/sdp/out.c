/* A text that grows. */
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/sdp/rewrite.h"

#define STEP 512

void kg_sdp_put(struct kg_sdp_out *out, const char *s, size_t len)
{
    if (out->failed)
        return;
    if (len > out->size - out->len) {
        size_t size = 2 * out->size + len + STEP;
        char *bigger = realloc(out->s, size);
        if (!bigger) {
            out->failed = true;
            return;
        }
        out->s = bigger;
        out->size = size;
    }
    memcpy(out->s + out->len, s, len);
    out->len += len;
}

void kg_sdp_out_clear(struct kg_sdp_out *out)
{
    if (out->s)
        OPENSSL_cleanse(out->s, out->size);
    free(out->s);
    *out = (struct kg_sdp_out){0};
}

void kg_sdp_put_text(struct kg_sdp_out *out, const char *s)
{
    kg_sdp_put(out, s, strlen(s));
}

void kg_sdp_put_number(struct kg_sdp_out *out, unsigned value)
{
    char text[12];
    char *s = text + sizeof(text);
    do
        *--s = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    kg_sdp_put(out, s, (size_t)(text + sizeof(text) - s));
}

void kg_sdp_put_line(struct kg_sdp_out *out, const struct kg_sdp_line *line)
{
    char head[2] = {line->type, '='};
    kg_sdp_put(out, head, 2);
    kg_sdp_put(out, line->value, line->len);
    KG_SDP_PUT(out, "\r\n");
}

void kg_sdp_put_harmless(struct kg_sdp_out *out, const struct kg_sdp_line *line)
{
    if (!kg_sdp_holds_address(line->value, line->len))
        kg_sdp_put_line(out, line);
}
