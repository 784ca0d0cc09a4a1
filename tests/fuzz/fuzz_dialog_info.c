/* b2bua/request/dialog_info.h: any body is left alone or comes out well-formed, and what was put in reads
 * back. */
#include <expat.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/request/dialog_info.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NEW_ID "n<e>w&\"'"

static bool translate(void *ctx, struct kg_dialog_info_id *id)
{
    (void)ctx;
    if (strcmp(id->call_id, NEW_ID) == 0)
        return false;
    snprintf(id->call_id, sizeof id->call_id, NEW_ID);
    snprintf(id->local_tag, sizeof id->local_tag, "l");
    return true;
}

static bool name_target(void *ctx, const char *uri, const char *name, char *out, size_t size)
{
    (void)ctx;
    snprintf(out, size, "sip:new?%.100s", name);
    return strncmp(uri, "sip:new", 7) != 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct kg_dialog_info_words words = {NULL, translate, name_target};
    size_t len = 0, again_len = 0;
    if (size > 3 && memcmp(data, "--b", 3) == 0) { /* a list */
        char *list = kg_dialog_info_rewrite_parts((const char *)data, size, "b", &words, &len);
        char *list_again = list ? kg_dialog_info_rewrite_parts(list, len, "b", &words, &again_len) : NULL;
        if (list_again) {
            fprintf(stderr, "not stable: %s\n", list);
            abort();
        }
        free(list);
        return 0;
    }
    char *out = kg_dialog_info_rewrite((const char *)data, size, &words, &len);
    if (!out)
        return 0;
    XML_Parser parser = XML_ParserCreate("UTF-8");
    bool good = XML_Parse(parser, out, (int)len, XML_TRUE) == XML_STATUS_OK;
    XML_ParserFree(parser);
    /* nothing is left to be changed */
    char *again = kg_dialog_info_rewrite(out, len, &words, &again_len);
    if (!good || again || out[len] != '\0') {
        fprintf(stderr, "%s: %s\n", good ? "not stable" : "not well-formed", out);
        abort();
    }
    free(out);
    return 0;
}
