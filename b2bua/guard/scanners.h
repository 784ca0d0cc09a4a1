/* Programs that look for SIP servers to break into, by the names they give themselves. Pure. */
#ifndef KG_GUARD_SCANNERS_H
#define KG_GUARD_SCANNERS_H

#include <stdbool.h>

/* text: a User-Agent, or the display name of a From; may be NULL. */
bool kg_scanner_matches(const char *text);

#endif
