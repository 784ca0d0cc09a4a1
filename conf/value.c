/* The types of configuration values: text to field and back. Addresses are in value_addr.c. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "conf/schema.h"

static const char *const policies[] = {
    [KG_POLICY_AUTO] = "auto",
    [KG_POLICY_STEER] = "steer",
    [KG_POLICY_ANCHOR] = "anchor",
    [KG_POLICY_BYPASS] = "bypass",
    NULL,
};
static const char *const profiles[] = {"auto", "plain", "opportunistic", "sdes", "dtls", "webrtc", NULL};
static const char *const own_profiles[] = {"auto", "plain",  "opportunistic", "sdes",
                                           "dtls", "webrtc", "default",       NULL};
static const char *const own_policies[] = {
    [KG_POLICY_AUTO] = "auto",     [KG_POLICY_STEER] = "steer",     [KG_POLICY_ANCHOR] = "anchor",
    [KG_POLICY_BYPASS] = "bypass", [KG_POLICY_DEFAULT] = "default", NULL,
};
static const char *const caller_ids[] = {
    [KG_CALLER_ID_ACCOUNT] = "account", [KG_CALLER_ID_CALLER] = "caller", NULL};
static const char *const number_ofs[] = {[KG_NUMBER_CALLED] = "called", [KG_NUMBER_CALLER] = "caller", NULL};
static const char *const forks[] = {[KG_FORK_PARALLEL] = "parallel", [KG_FORK_SERIAL] = "serial", NULL};
static const char *const redirects[] = {
    [KG_REDIRECT_FOLLOW] = "follow", [KG_REDIRECT_PASS] = "pass", [KG_REDIRECT_REFUSE] = "refuse", NULL};
static const char *const reliables[] = {[KG_RELIABLE_AUTO] = "auto", [KG_RELIABLE_NEVER] = "never", NULL};
static const char *const digests[] = {
    [KG_DIGEST_OFFER_MD5] = "md5",
    [KG_DIGEST_OFFER_SHA256] = "sha-256",
    [KG_DIGEST_OFFER_BOTH] = "both",
    NULL,
};
static const char *const path_uses[] = {
    [KG_PATH_AUTO] = "auto", [KG_PATH_YES] = "yes", [KG_PATH_NO] = "no", NULL};
static const char *const log_levels[] = {"error", "warn", "info", "debug"};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Index of text in names, or `count`. */
static size_t find(const char *const *names, size_t count, const char *text)
{
    size_t i = 0;

    while (i < count && strcmp(names[i], text) != 0)
        i++;
    return i;
}

bool kg_conf_is_host_name(const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";

    return text[0] != '\0' && text[0] != '-' && text[0] != '.' && text[strspn(text, allowed)] == '\0';
}

bool kg_conf_is_full(const struct kg_conf_row *row, size_t count, char *why, size_t size)
{
    if (count < row->max)
        return false;
    snprintf(why, size, "has more than %u entries", row->max);
    return true;
}

int kg_conf_refuse(char *why, size_t size, const char *text, const char *must)
{
    snprintf(why, size, "%s, not \"%.60s\"", must, text);
    return EINVAL;
}

/* Texts. */

static int text_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    size_t len = strlen(text);

    if (len >= row->size) {
        snprintf(why, size, "is longer than %zu bytes", row->size - 1);
        return EINVAL;
    }
    memset(kg_conf_field(row, base), 0, row->size);
    memcpy(kg_conf_field(row, base), text, len);
    return 0;
}

static bool text_format(const struct kg_conf_row *row, const void *base, size_t index, char *out, size_t size)
{
    const char *text = kg_conf_value(row, base);

    snprintf(out, size, "%s", text);
    return index == 0 && text[0] != '\0';
}

/* It stands in realms and URIs: a host as in RFC 3261 25.1. */
static int domain_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    struct kg_addr addr;

    if (!kg_conf_is_host_name(text) && (text[0] != '[' || kg_addr_parse_host(text, 0, &addr) != 0))
        return kg_conf_refuse(why, size, text, "must be a domain such as example.org or an address");
    return text_set(row, base, text, why, size);
}

const struct kg_conf_type kg_conf_domain = {.name = "domain", .set = domain_set, .format = text_format};

/* Any text that can stand in a header: nothing below a blank. */
static int line_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    for (const char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            snprintf(why, size, "has a control character in it");
            return EINVAL;
        }
    }
    return text_set(row, base, text, why, size);
}

const struct kg_conf_type kg_conf_text = {.name = "text", .set = line_set, .format = text_format};

/* Lists of such texts: an array of size / max bytes each. */
static int texts_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    size_t *count = kg_conf_list_count(row, base), each = row->size / row->max;
    struct kg_conf_row item = {.offset = row->offset + *count * each, .size = each};
    const char *list = kg_conf_value(row, base);

    for (size_t i = 0; i < *count; i++)
        if (strcmp(list + i * each, text) == 0)
            return kg_conf_refuse(why, size, text, "must name each only once");
    if (kg_conf_is_full(row, *count, why, size))
        return EINVAL;
    if (line_set(&item, base, text, why, size) != 0)
        return EINVAL;
    ++*count;
    return 0;
}

static bool texts_format(const struct kg_conf_row *row, const void *base, size_t index, char *out,
                         size_t size)
{

    if (index >= kg_conf_items(row, base))
        return false;
    snprintf(out, size, "%s", (const char *)kg_conf_value(row, base) + index * (row->size / row->max));
    return true;
}

const struct kg_conf_type kg_conf_texts = {
    .name = "list of texts", .list = true, .set = texts_set, .format = texts_format};

/* What an element of a record is called in logs, kedgectl and other rows. */
static int name_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    if (text[0] == '\0' || text[strspn(text, allowed)] != '\0')
        return kg_conf_refuse(why, size, text,
                              "must be a name of letters, digits, dots, dashes and underscores");
    return text_set(row, base, text, why, size);
}

const struct kg_conf_type kg_conf_name = {.name = "name", .set = name_set, .format = text_format};

/* Passwords. What they are is never printed; that there is one is. */
static int secret_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    if (text[0] == '\0') {
        snprintf(why, size, "is empty");
        return EINVAL;
    }
    return line_set(row, base, text, why, size);
}

static bool secret_format(const struct kg_conf_row *row, const void *base, size_t index, char *out,
                          size_t size)
{
    const char *text = kg_conf_value(row, base);

    snprintf(out, size, "(secret)");
    return index == 0 && text[0] != '\0';
}

const struct kg_conf_type kg_conf_secret = {
    .name = "password", .secret = true, .set = secret_set, .format = secret_format};
/* The same field, filled from a file: conf/fill.c reads it and passes on what is in it. */
const struct kg_conf_type kg_conf_secret_file = {
    .name = "file with a password", .secret = true, .set = secret_set, .format = secret_format};

static int path_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    if (text[0] != '/' || text[strlen(text) - 1] == '/')
        return kg_conf_refuse(why, size, text, "must be the whole path of a file, beginning with /");
    return text_set(row, base, text, why, size);
}

const struct kg_conf_type kg_conf_path = {.name = "file", .set = path_set, .format = text_format};

static int socket_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    static const char scheme[] = "unix:";
    struct sockaddr_un un;

    if (strncmp(text, scheme, strlen(scheme)) != 0)
        return kg_conf_refuse(why, size, text,
                              "must be unix: and a path, as in unix:/run/kedge/control.sock");
    if (strlen(text + strlen(scheme)) >= sizeof un.sun_path) {
        snprintf(why, size, "is longer than the %zu bytes that a socket's path may have",
                 sizeof un.sun_path - 1);
        return EINVAL;
    }
    return path_set(row, base, text + strlen(scheme), why, size);
}

static bool socket_format(const struct kg_conf_row *row, const void *base, size_t index, char *out,
                          size_t size)
{
    const char *text = kg_conf_value(row, base);

    snprintf(out, size, "unix:%s", text);
    return index == 0;
}

const struct kg_conf_type kg_conf_socket = {.name = "unix:/path", .set = socket_set, .format = socket_format};

static int level_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    if (find(log_levels, COUNT(log_levels), text) == COUNT(log_levels))
        return kg_conf_refuse(why, size, text, "must be error, warn, info or debug");
    return text_set(row, base, text, why, size);
}

const struct kg_conf_type kg_conf_level = {
    .name = "error, warn, info or debug", .set = level_set, .format = text_format};

/* One of a few names, kept as an enum whose values count from 0. */
static int enum_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    const char *const *names = row->type->names;
    char must[120];
    unsigned value = 0;

    while (names[value] != NULL && strcmp(names[value], text) != 0)
        value++;
    snprintf(must, sizeof must, "must be %s", row->type->name);
    if (names[value] == NULL)
        return kg_conf_refuse(why, size, text, must);
    *(unsigned *)kg_conf_field(row, base) = value;
    return 0;
}

static bool enum_format(const struct kg_conf_row *row, const void *base, size_t index, char *out, size_t size)
{
    snprintf(out, size, "%s", row->type->names[*(const unsigned *)kg_conf_value(row, base)]);
    return index == 0;
}

#define ENUM(text, values)                                                                                   \
    {                                                                                                        \
        .name = (text), .names = (values), .set = enum_set, .format = enum_format                            \
    }
const struct kg_conf_type kg_conf_own_policy = ENUM("auto, steer, anchor, bypass or default", own_policies);
const struct kg_conf_type kg_conf_caller_id = ENUM("account or caller", caller_ids);
const struct kg_conf_type kg_conf_number_of = ENUM("called or caller", number_ofs);
const struct kg_conf_type kg_conf_policy = ENUM("auto, steer, anchor or bypass", policies);
const struct kg_conf_type kg_conf_profile =
    ENUM("auto, plain, opportunistic, sdes, dtls or webrtc", profiles);
const struct kg_conf_type kg_conf_own_profile =
    ENUM("auto, plain, opportunistic, sdes, dtls, webrtc or default", own_profiles);
const struct kg_conf_type kg_conf_fork = ENUM("parallel or serial", forks);
const struct kg_conf_type kg_conf_path_use = ENUM("auto, yes or no", path_uses);
const struct kg_conf_type kg_conf_redirect = ENUM("follow, pass or refuse", redirects);
const struct kg_conf_type kg_conf_reliable = ENUM("auto or never", reliables);
const struct kg_conf_type kg_conf_digest = ENUM("md5, sha-256 or both", digests);

static const char *const no_yes[] = {"no", "yes"};

static int yes_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    size_t value = find(no_yes, COUNT(no_yes), text);

    if (value == COUNT(no_yes) && strcmp(text, "true") == 0)
        value = 1;
    else if (value == COUNT(no_yes) && strcmp(text, "false") == 0)
        value = 0;
    if (value == COUNT(no_yes))
        return kg_conf_refuse(why, size, text, "must be yes or no");
    *(bool *)kg_conf_field(row, base) = value == 1;
    return 0;
}

static bool yes_format(const struct kg_conf_row *row, const void *base, size_t index, char *out, size_t size)
{
    snprintf(out, size, "%s", no_yes[*(const bool *)kg_conf_value(row, base)]);
    return index == 0;
}

const struct kg_conf_type kg_conf_yes = {.name = "yes or no", .set = yes_set, .format = yes_format};

/* Names of headers. */

static int headers_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    /* RFC 3261 25.1: token */
    static const char token[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%_+`'~";
    struct kg_header_name *list = kg_conf_field(row, base);
    size_t *count = kg_conf_list_count(row, base), len = strspn(text, token);

    if (len == 0 || (text[len] != '\0' && strcmp(text + len, "*") != 0))
        return kg_conf_refuse(why, size, text, "must be names of headers, or beginnings such as X-*");
    if (strlen(text) >= sizeof list->text)
        return kg_conf_refuse(why, size, text, "must be shorter names");
    if (kg_conf_is_full(row, *count, why, size))
        return EINVAL;
    snprintf(list[(*count)++].text, sizeof list->text, "%s", text);
    return 0;
}

static bool headers_format(const struct kg_conf_row *row, const void *base, size_t index, char *out,
                           size_t size)
{
    const struct kg_header_name *list = kg_conf_value(row, base);

    if (index >= kg_conf_items(row, base))
        return false;
    snprintf(out, size, "%s", list[index].text);
    return true;
}

const struct kg_conf_type kg_conf_headers = {
    .name = "list of headers", .list = true, .set = headers_set, .format = headers_format};

static int methods_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    if (strchr(text, '*'))
        return kg_conf_refuse(why, size, text, "must be names of methods");
    return headers_set(row, base, text, why, size);
}

const struct kg_conf_type kg_conf_methods = {
    .name = "list of methods", .list = true, .set = methods_set, .format = headers_format};

/* Numbers. */

/* Digits at *text, at most `most` of them; moves *text past them. Returns how many. */
static size_t digits(const char **text, size_t most, uint64_t *out)
{
    size_t len = 0;

    *out = 0;
    while (len < most && **text >= '0' && **text <= '9') {
        *out = *out * 10 + (uint64_t)(**text - '0');
        (*text)++;
        len++;
    }
    return len;
}

static int ports_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    uint16_t *range = kg_conf_field(row, base);
    uint64_t low, high;
    const char *at = text;
    size_t got_low = digits(&at, 5, &low);

    while (*at == ' ')
        at++;
    if (got_low == 0 || *at++ != '-')
        return kg_conf_refuse(why, size, text, "must be a range of ports such as 30000-39999");
    while (*at == ' ')
        at++;
    if (digits(&at, 5, &high) == 0 || *at != '\0')
        return kg_conf_refuse(why, size, text, "must be a range of ports such as 30000-39999");
    if (low < 1024 || high > UINT16_MAX || low > high)
        return kg_conf_refuse(why, size, text, "must lie between 1024 and 65535, the lower port first");
    /* RTP on an even port and RTCP on the next (RFC 3550 11); two sides a call. */
    if ((high + 1) / 2 - (low + 1) / 2 < 2)
        return kg_conf_refuse(
            why, size, text,
            "must hold at least two pairs of an even port and the next, enough for one call");
    range[0] = (uint16_t)low;
    range[1] = (uint16_t)high;
    return 0;
}

static bool ports_format(const struct kg_conf_row *row, const void *base, size_t index, char *out,
                         size_t size)
{
    const uint16_t *range = kg_conf_value(row, base);

    snprintf(out, size, "%u-%u", range[0], range[1]);
    return index == 0;
}

const struct kg_conf_type kg_conf_ports = {
    .name = "range of ports", .set = ports_set, .format = ports_format};

/* "60", "60 s" or "2.5 s" into milliseconds. */
static int seconds_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    const char *at = text;
    uint64_t whole, part = 0;
    size_t places = 0;
    bool good = digits(&at, 9, &whole) > 0;

    if (good && *at == '.') {
        at++;
        places = digits(&at, 3, &part);
        good = places > 0;
    }
    for (; places > 0 && places < 3; places++)
        part *= 10;
    while (*at == ' ')
        at++;
    if (*at == 's')
        at++;
    if (!good || *at != '\0')
        return kg_conf_refuse(why, size, text, "must be a time in seconds such as 60 or 60 s");
    whole = whole * 1000 + part;
    if (whole < (uint64_t)row->min * 1000 || whole > (uint64_t)row->max * 1000) {
        snprintf(why, size, "must lie between %u and %u seconds, not \"%.60s\"", row->min, row->max, text);
        return EINVAL;
    }
    *(uint32_t *)kg_conf_field(row, base) = (uint32_t)whole;
    return 0;
}

static bool seconds_format(const struct kg_conf_row *row, const void *base, size_t index, char *out,
                           size_t size)
{
    uint32_t ms = *(const uint32_t *)kg_conf_value(row, base);

    if (ms % 1000 != 0)
        snprintf(out, size, "%u.%03u s", ms / 1000, ms % 1000);
    else
        snprintf(out, size, "%u s", ms / 1000);
    return index == 0;
}

const struct kg_conf_type kg_conf_seconds = {.name = "seconds", .set = seconds_set, .format = seconds_format};

static int count_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    const char *at = text;
    uint64_t value;

    if (digits(&at, 9, &value) == 0 || *at != '\0')
        return kg_conf_refuse(why, size, text, "must be a whole number");
    if (value < row->min || value > row->max) {
        snprintf(why, size, "must lie between %u and %u, not %.60s", row->min, row->max, text);
        return EINVAL;
    }
    *(uint32_t *)kg_conf_field(row, base) = (uint32_t)value;
    return 0;
}

static bool count_format(const struct kg_conf_row *row, const void *base, size_t index, char *out,
                         size_t size)
{
    snprintf(out, size, "%u", *(const uint32_t *)kg_conf_value(row, base));
    return index == 0;
}

const struct kg_conf_type kg_conf_count = {.name = "number", .set = count_set, .format = count_format};
