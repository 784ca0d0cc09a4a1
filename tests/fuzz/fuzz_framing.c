/* b2bua/sip/framing: any split of any stream gives the same messages, and none over the limit. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/sip/framing.h"
#include "b2bua/sip/shim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads one thing from data[0..size), offered in growing windows of `step` bytes. */
static enum kg_frame read_one(struct kg_framing *framing, const uint8_t *data, size_t size, size_t step,
                              size_t *used)
{
    enum kg_frame frame = KG_FRAME_MORE;
    const char *why = NULL;
    *used = 0;
    for (size_t have = step; frame == KG_FRAME_MORE; have += step) {
        size_t window = have < size ? have : size;
        frame = kg_framing_next(framing, (const char *)data, window, used, &why);
        if (*used > window || *used > KG_SIP_MESSAGE_MAX || (frame == KG_FRAME_BAD && !why))
            abort();
        if (window == size)
            break;
    }
    return frame;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kg_framing slow = {0}, fast = {0};
    if (size < 2)
        return 0;
    size_t step = 1 + data[0] % 16;
    data++, size--;
    while (size > 0) {
        size_t used, used_fast;
        enum kg_frame a = read_one(&slow, data, size, step, &used);
        enum kg_frame b = read_one(&fast, data, size, size, &used_fast);
        if (a != b || used != used_fast)
            abort();
        if (a == KG_FRAME_MORE || a == KG_FRAME_BAD)
            break;
        if (used == 0)
            abort();
        data += used;
        size -= used;
    }
    return 0;
}
