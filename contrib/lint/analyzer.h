/* Read by clang-tidy before every file, never by the compiler. The analyzer cannot follow the bookkeeping of
 * uthash and utlist and takes each deletion for a use after free; an opaque call in its place keeps its check
 * of malloc and free for the rest. */
#include <uthash.h>
#include <utlist.h>

void *kg_lint_opaque(void *head);

#undef HASH_DELETE_HH
#define HASH_DELETE_HH(hh, head, delptrhh) ((head) = kg_lint_opaque(head), (void)(delptrhh))
#undef DL_DELETE2
#define DL_DELETE2(head, del, prev, next) ((head) = kg_lint_opaque(head), (void)(del))
#undef LL_DELETE2
#define LL_DELETE2(head, del, next) ((head) = kg_lint_opaque(head), (void)(del))
