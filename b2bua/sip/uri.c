#include "b2bua/sip/uri.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

bool kg_uri_is_sound(const url_t *url)
{
    char text[KG_SIP_URI_MAX + 1], read[KG_SIP_URI_MAX + 1], again[KG_SIP_URI_MAX + 1];
    url_t copy;
    isize_t len = url_e(text, sizeof text, url);
    if (len <= 0 || (size_t)len >= sizeof text)
        return false;
    memcpy(read, text, (size_t)len + 1);
    if (url_d(&copy, read) != 0)
        return false;
    return url_e(again, sizeof again, &copy) == len && memcmp(text, again, (size_t)len) == 0;
}

void kg_uri_user(const url_t *url, char *out, size_t size)
{
    const char *user = url->url_user ? url->url_user : "";
    if (url->url_type == url_tel && url->url_host)
        user = url->url_host;
    if (strlen(user) >= size || strstr(user, "%00"))
        user = "";
    url_unescape(out, user);
}

void kg_uri_escape_user(const char *user, char *out, size_t size)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;
    for (const unsigned char *c = (const unsigned char *)user; *c && n + 4 < size; c++) {
        if (isalnum(*c) || strchr("-_.!~*'()&=+$,", *c)) {
            out[n++] = (char)*c;
        } else {
            out[n++] = '%';
            out[n++] = hex[*c >> 4];
            out[n++] = hex[*c & 15];
        }
    }
    out[n] = '\0';
}

/* Found before libsofia's, by libsofia too (README.md, "The shim"): its own reads on behind the end of a text
 * whose last parameter has a longer name than the one that is looked for. As it documents: 0 without the
 * parameter, else the length of its value plus 1; value is written if that fits. */
__attribute__((visibility("default"))) isize_t url_param(char const *params, char const *tag, char value[],
                                                         isize_t vlen)
{
    size_t name = strlen(tag), n;
    if (name > 0 && tag[name - 1] == '=')
        name--;
    for (const char *p = params; p; p = p[n] ? p + n + 1 : NULL) {
        n = strcspn(p, ";");
        if (n < name || strncasecmp(p, tag, name) != 0 || (n > name && p[name] != '='))
            continue;
        size_t len = n > name ? n - name - 1 : 0;
        if (vlen > 0 && len < (size_t)vlen) {
            memcpy(value, p + n - len, len);
            value[len] = '\0';
        }
        return (isize_t)len + 1;
    }
    return 0;
}
