#include "b2bua/sip/overload.h"

bool kg_overload_read(struct kg_overload *overload, struct kg_overload_queue *queue, int64_t waited_ms,
                      int64_t now_ms)
{
    bool was_on = overload->is_on, late = waited_ms > KG_OVERLOAD_LATE_MS;
    /* It came when all that was there before had been read: nothing had queued up. */
    bool was_idle = now_ms - waited_ms > queue->last_read_ms;
    if (late && (!queue->is_late || was_idle))
        queue->late_since_ms = now_ms;
    if (late)
        overload->late_until_ms = now_ms;
    overload->is_late = queue->is_late = late;
    queue->last_read_ms = now_ms;
    if (late && now_ms - queue->late_since_ms >= KG_OVERLOAD_AFTER_MS)
        overload->is_on = true;
    else if (now_ms - overload->late_until_ms >= KG_OVERLOAD_OVER_MS)
        overload->is_on = false;
    return overload->is_on != was_on;
}

bool kg_overload_refuses(struct kg_overload *overload, uint32_t transaction, int64_t now_ms)
{
    size_t slot = transaction % KG_OVERLOAD_REFUSED;
    bool again =
        overload->refused[slot].transaction == transaction && now_ms < overload->refused[slot].until_ms;
    bool late = overload->is_on && overload->is_late;
    if (late) {
        overload->refused[slot].transaction = transaction;
        overload->refused[slot].until_ms = now_ms + KG_OVERLOAD_OVER_MS;
    }
    return late || again;
}
