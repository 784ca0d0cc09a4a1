/* application/dialog-info+xml (RFC 4235), the body that lights pick-up lamps: it names dialogs by Call-ID and
 * tags, and a phone that picks a call up names them again in Replaces. Pure: bytes in, bytes out. */
#ifndef KG_DIALOG_INFO_H
#define KG_DIALOG_INFO_H

#include <stdbool.h>
#include <stddef.h>

#define KG_DIALOG_INFO_TEXT 256 /* bytes of an identifier with NUL; longer ones are not ours and pass */
#define KG_DIALOG_INFO_URI  512

/* Attributes of one <dialog>; "": it has none. */
struct kg_dialog_info_id {
    char call_id[KG_DIALOG_INFO_TEXT], local_tag[KG_DIALOG_INFO_TEXT], remote_tag[KG_DIALOG_INFO_TEXT];
};

/* Who knows better how the reader has to call things. */
struct kg_dialog_info_words {
    void *ctx;
    /* True: *id was changed. */
    bool (*dialog)(void *ctx, struct kg_dialog_info_id *id);
    /* The URI in <target>; name: the <identity> beside it, "" if none. True: out is to stand there instead.
     */
    bool (*target)(void *ctx, const char *uri, const char *name, char *out, size_t size);
};

/* A new body, malloc'd and NUL-terminated; every byte that need not change is as it was. NULL: nothing is to
 * be changed; so for what is not dialog-info, not well-formed, not UTF-8, has a DOCTYPE (entities), or is
 * nested deeper than anybody needs. */
char *kg_dialog_info_rewrite(const char *body, size_t len, const struct kg_dialog_info_words *words,
                             size_t *out_len);

/* The same of a multipart body: of each part that is dialog-info. boundary: as in Content-Type, without
 * quotes. */
char *kg_dialog_info_rewrite_parts(const char *body, size_t len, const char *boundary,
                                   const struct kg_dialog_info_words *words, size_t *out_len);

/* One dialog of a document that kedge writes: every text as it is, unescaped. */
struct kg_dialog_info_entry {
    const char *id, *state; /* "early" */
    bool initiator;
    const char *local, *remote; /* URIs */
    bool named;
    struct kg_dialog_info_id dialog; /* if named */
};
/* Appends it to a document's inside of `used` bytes. Returns how many there are then; `used`: it does not
 * fit. */
size_t kg_dialog_info_append(char *out, size_t size, size_t used, const struct kg_dialog_info_entry *entry);
/* The document around what was appended, with the full state of entity (a URI); inside "": nobody is in a
 * call. Returns its length; 0: it does not fit. */
size_t kg_dialog_info_document(char *out, size_t size, const char *entity, unsigned version, const char *id,
                               const char *inside);

#endif
