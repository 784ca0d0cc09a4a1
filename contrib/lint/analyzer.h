/* Read by clang-tidy before every file, never by the compiler. The analyzer cannot follow uthash's
 * bookkeeping and takes each HASH_DEL for a use after free; an opaque call in its place keeps the check of
 * malloc and free for the rest. */
#include <uthash.h>

void *kg_lint_opaque(void *head);

#undef HASH_DELETE_HH
#define HASH_DELETE_HH(hh, head, delptrhh) ((head) = kg_lint_opaque(head), (void)(delptrhh))
