/* Paths of the control API. Pure. */
#include <string.h>

#include "b2bua/control/exchange.h"

bool kg_api_fits(const char *route, const char *path, char name[static KG_CONTROL_NAME_MAX])
{
    size_t len = strlen(route), rest;
    bool named = len > 0 && route[len - 1] == '/';

    if (strncmp(path, route, len) != 0)
        return false;
    rest = strlen(path + len);
    if (named ? rest == 0 || rest >= KG_CONTROL_NAME_MAX || strchr(path + len, '/') != NULL : rest != 0)
        return false;
    memcpy(name, path + len, rest + 1);
    return true;
}
