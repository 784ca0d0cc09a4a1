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

#endif
