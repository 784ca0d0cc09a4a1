/* The control API's requests: a path on the first line, a body behind it. No path fits two kinds of routes, a
 * name is never longer than its field nor holds "/", and any body is JSON that can be written again, or none.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/control/exchange.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void check_path(const char *path)
{
    static const char *const routes[] = {"/v1/version",  "/v1/calls",     "/v1/calls/",
                                         "/v1/accounts", "/v1/accounts/", "/v1/bans/"};
    unsigned fits = 0;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        char name[KG_CONTROL_NAME_MAX];
        memset(name, 'x', sizeof name);
        if (!kg_api_fits(routes[i], path, name))
            continue;
        fits++;
        expect(memchr(name, '\0', sizeof name) && !strchr(name, '/'), "a name that is none");
        expect(strncmp(path, routes[i], strlen(routes[i])) == 0 &&
                   strcmp(path + strlen(routes[i]), name) == 0,
               "another name");
    }
    expect(fits <= 1, "two routes for one path");
}

static void check_body(const char *text, size_t len)
{
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    char *out = json ? json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_ENCODE_ANY) : NULL;
    const char *name = json_string_value(json_object_get(json, "name"));
    expect(!json || out, "JSON that cannot be written");
    expect(!name || strlen(name) <= len, "a name from nowhere");
    free(out);
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size == 0 ? NULL : memchr(data, '\n', size);
    size_t len = end ? (size_t)(end - data) : size;
    char *path = malloc(len + 1);
    expect(path != NULL, "memory");
    if (len)
        memcpy(path, data, len);
    path[len] = '\0';
    check_path(path);
    if (end)
        check_body((const char *)end + 1, size - len - 1);
    free(path);
    return 0;
}
