/* Where a SIP message in a byte stream ends (RFC 3261 18.3), strictly: what is doubtful is refused, so that
 * the parser behind it never has another opinion. Pure. */
#ifndef KG_SIP_FRAMING_H
#define KG_SIP_FRAMING_H

#include <stdbool.h>
#include <stddef.h>

enum kg_frame {
    KG_FRAME_MORE,    /* incomplete */
    KG_FRAME_MESSAGE, /* the first *used bytes are one whole message */
    KG_FRAME_BLANK,   /* the first *used bytes are a lone CRLF: drop them */
    KG_FRAME_PING,    /* the same, the second in a row: answer CRLF (RFC 5626 3.5.1) */
    KG_FRAME_BAD      /* *why says what is wrong; the stream cannot be used any more */
};

/* How far the message at the head of the buffer was read. All zero at the start of a stream. */
struct kg_framing {
    size_t line;    /* where the line being read begins */
    size_t scanned; /* no line end before this */
    size_t length;  /* of the whole message, known after its headers; else 0 */
    size_t body;    /* Content-Length */
    bool has_body_length, after_body_length;
    bool pinged; /* the previous thing was a lone CRLF */
};

/* data: everything received and not used yet, beginning at a message's first byte. */
enum kg_frame kg_framing_next(struct kg_framing *framing, const char *data, size_t len, size_t *used,
                              const char **why);

/* A message that came as one WebSocket message (RFC 7118 5): data is all of it, under the same rules, but
 * without Content-Length (*has_length) it is whole as well; that header then belongs at *headers_end. 0, or
 * EBADMSG and *why. */
int kg_framing_whole(const char *data, size_t len, bool *has_length, size_t *headers_end, const char **why);
/* The transport in the topmost Via, as "WSS", without its end: of a message that is framed well. NULL and 0:
 * there is none. */
const char *kg_framing_via_transport(const char *data, size_t len, size_t *transport_len);

#endif
