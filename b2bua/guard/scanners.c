#include "b2bua/guard/scanners.h"

#include <stddef.h>
#include <string.h>

/* Parts of names, in lower case. Only what no phone calls itself: a name here is refused whoever it is. */
static const char *const scanners[] = {
    "friendly-scanner", /* SIPVicious svmap, svwar, svcrack as they come */
    "friendly-request",
    "sipvicious",
    "sipcli",    /* toll fraud probes */
    "sundayddr", /* a worm of SIPVicious' descent */
    "vaxsipuseragent",
    "vaxipuseragent",
    "sip-scan",
    "sipscan",
    "iwar",
    "sivus",
    "smap 0.",
    "gulp/",
    "pplsip",
    "nm@nm", /* Nmap's sip-enum-users and sip-methods */
    "nmap",
    "masscan",
    "zgrab",
    "sipsak-scan",
    "mr.sip",
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool begins(const char *text, const char *name)
{
    while (*name && lower(*text) == *name) {
        text++;
        name++;
    }
    return *name == '\0';
}

bool kg_scanner_matches(const char *text)
{
    for (; text && *text; text++)
        for (size_t i = 0; i < sizeof scanners / sizeof scanners[0]; i++)
            if (lower(*text) == scanners[i][0] && begins(text, scanners[i]))
                return true;
    return false;
}
