/* RTCP reports for a capture server, in the JSON that Homer reads (proto type 5). */
#include "b2bua/call/talk.h"

#include <stdlib.h>

#include "b2bua/sip/capture.h"
#include "conf/bytes.h"

/* RFC 3550 6.4.1, 6.4.2 */
enum { SR = 200, RR = 201, HEAD = 8, SENDER_INFO = 20, BLOCK = 24 };

static json_t *number(uint32_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *sender_json(const uint8_t *p)
{
    json_t *json = json_object();
    json_object_set_new(json, "ntp_timestamp_sec", number(kg_read32(p)));
    json_object_set_new(json, "ntp_timestamp_usec",
                        number((uint32_t)((uint64_t)kg_read32(p + 4) * 1000000 >> 32)));
    json_object_set_new(json, "rtp_timestamp", number(kg_read32(p + 8)));
    json_object_set_new(json, "packets", number(kg_read32(p + 12)));
    json_object_set_new(json, "octets", number(kg_read32(p + 16)));
    return json;
}

static json_t *block_json(const uint8_t *p)
{
    json_t *json = json_object();
    uint32_t lost = kg_read32(p + 4) & 0xffffff;
    json_object_set_new(json, "source_ssrc", number(kg_read32(p)));
    json_object_set_new(json, "fraction_lost", number(p[4]));
    json_object_set_new(json, "packets_lost",
                        json_integer(lost & 0x800000 ? (json_int_t)lost - 0x1000000 : (json_int_t)lost));
    json_object_set_new(json, "highest_seq_no", number(kg_read32(p + 8)));
    json_object_set_new(json, "ia_jitter", number(kg_read32(p + 12)));
    json_object_set_new(json, "lsr", number(kg_read32(p + 16)));
    json_object_set_new(json, "dlsr", number(kg_read32(p + 20)));
    return json;
}

/* NULL: not a report. The engine has checked the packet; its end may be cut. */
static json_t *report_json(const uint8_t *p, size_t len)
{
    if (len < HEAD || (p[1] != SR && p[1] != RR))
        return NULL;
    size_t at = HEAD;
    unsigned count = p[0] & 0x1f;
    json_t *json = json_object(), *blocks = json_array();
    json_object_set_new(json, "type", number(p[1]));
    json_object_set_new(json, "ssrc", number(kg_read32(p + 4)));
    json_object_set_new(json, "report_count", number(count));
    if (p[1] == SR && len >= at + SENDER_INFO) {
        json_object_set_new(json, "sender_information", sender_json(p + at));
        at += SENDER_INFO;
    }
    for (; count > 0 && len >= at + BLOCK; count--, at += BLOCK)
        json_array_append_new(blocks, block_json(p + at));
    json_object_set_new(json, "report_blocks", blocks);
    return json;
}

/* Under the Call-ID of the leg whose peer sent it: what that leg's SIP is found by. */
void kg_rtcp_capture(const struct kg_call *call, const struct kg_media_event *event)
{
    json_t *json = kg_capture_is_on() ? report_json(event->packet, event->packet_len) : NULL;
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    if (text)
        kg_capture_rtcp(&event->addr, &event->local, call->record->leg[event->side].call_id, text);
    free(text);
    json_decref(json);
}
