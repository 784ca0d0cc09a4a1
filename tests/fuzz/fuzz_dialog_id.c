/* b2bua/call/dialogs.h: any Replaces is refused or parses; what is written of it parses to the same. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/call/dialogs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), out[4 * KG_DIALOG_TEXT + 64];
    struct kg_dialog_id id, again;
    expect(text != NULL, "memory");
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    if (kg_dialog_parse(text, &id) == 0) {
        expect(id.call_id[0] && id.to_tag[0] && id.from_tag[0], "an identifier with nothing in it");
        for (int like = 0; like < 2; like++) {
            size_t len = kg_dialog_format(&id, like ? text : NULL, out, sizeof out);
            if (len == 0)
                continue;
            expect(len < sizeof out && strlen(out) == len, "another length than it says");
            expect(!strpbrk(out, "\r\n"), "a line break in a header");
            expect(kg_dialog_parse(out, &again) == 0, "what was written does not parse");
            expect(strcmp(id.call_id, again.call_id) == 0 && strcmp(id.to_tag, again.to_tag) == 0 &&
                       strcmp(id.from_tag, again.from_tag) == 0,
                   "another dialog");
        }
    }
    free(text);
    return 0;
}
