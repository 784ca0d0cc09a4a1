/* b2bua/call/dialogs.h: whatever names a dialog reads the same after it was written, and nothing of it can
 * end the header that it stands in. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/call/dialogs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kg_dialog_id id, again;
    char *text = strndup((const char *)data, size), out[2048];
    if (text && kg_dialog_parse(text, &id) == 0) {
        size_t len = kg_dialog_format(&id, NULL, out, sizeof out);
        if (len == 0 || len != strlen(out) || strpbrk(out, "\r\n\"") || kg_dialog_parse(out, &again) != 0 ||
            strcmp(id.call_id, again.call_id) != 0 || strcmp(id.to_tag, again.to_tag) != 0 ||
            strcmp(id.from_tag, again.from_tag) != 0)
            abort();
        len = kg_dialog_format(&id, text, out, sizeof out);
        if (len > 0 && (len != strlen(out) || kg_dialog_parse(out, &again) != 0))
            abort();
    }
    free(text);
    return 0;
}
