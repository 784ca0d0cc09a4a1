/* The type of `web.origins`: where pages may come from. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/schema.h"

/* RFC 6454 6.2: scheme "://" host [ ":" port ], as a browser writes it, in small letters and without a
 * default port. */
static bool is_origin(const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";
    const char *host = strncmp(text, "https://", 8) == 0  ? text + 8
                       : strncmp(text, "http://", 7) == 0 ? text + 7
                                                          : "";
    size_t len = host[0] == '[' ? strcspn(host, "]") + 1 : strspn(host, allowed);

    if (host[0] == '[' && (strspn(host + 1, "0123456789abcdef:.") + 2 != len || host[len - 1] != ']'))
        return false;
    if (len == 0 || host[len] == '\0')
        return len > 0;
    size_t digits = strspn(host + len + 1, "0123456789");
    if (host[len] != ':' || digits == 0 || digits > 5 || host[len + 1 + digits] != '\0')
        return false;
    unsigned long port = strtoul(host + len + 1, NULL, 10);
    return port > 0 && port <= UINT16_MAX && port != (strncmp(text, "https", 5) == 0 ? 443 : 80);
}

static int origins_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    struct kg_origin *list = kg_conf_field(row, base);
    size_t *count = kg_conf_list_count(row, base);

    if (!is_origin(text) || strlen(text) >= sizeof list->text)
        return kg_conf_refuse(
            why, size, text,
            "must be origins as a browser writes them, in small letters, without a path and without port 443 "
            "(http: 80), such as https://www.example.org");
    if (kg_conf_is_full(row, *count, why, size))
        return EINVAL;
    snprintf(list[(*count)++].text, sizeof list->text, "%s", text);
    return 0;
}

static bool origins_format(const struct kg_conf_row *row, const void *base, size_t index, char *out,
                           size_t size)
{
    const struct kg_origin *list = kg_conf_value(row, base);

    if (index >= kg_conf_items(row, base))
        return false;
    snprintf(out, size, "%s", list[index].text);
    return true;
}

const struct kg_conf_type kg_conf_origins = {
    .name = "list of origins", .list = true, .set = origins_set, .format = origins_format};
