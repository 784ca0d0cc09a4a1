#include "b2bua/guard/scanners.h"

#include <stddef.h>
#include <stdint.h>

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

#define COUNT (sizeof scanners / sizeof scanners[0])

/* The letters that names begin with, a bit each: most of a phone's name needs no closer look. */
static uint32_t first_letters(void)
{
    static uint32_t letters;
    if (letters == 0)
        for (size_t i = 0; i < COUNT; i++)
            letters |= 1u << (scanners[i][0] & 31);
    return letters;
}

bool kg_scanner_matches(const char *text)
{
    uint32_t letters = first_letters();
    for (; text && *text; text++) {
        char c = lower(*text);
        if (!(letters >> (c & 31) & 1))
            continue;
        for (size_t i = 0; i < COUNT; i++)
            if (c == scanners[i][0] && begins(text, scanners[i]))
                return true;
    }
    return false;
}
