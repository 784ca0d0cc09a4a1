#include "b2bua/route/numbers.h"

#include <stdio.h>
#include <string.h>

void kg_number_plain(const char *number, char out[static KG_NUMBER_SIZE])
{
    static const char digits[] = "0123456789+*#", separators[] = "-.() ";
    bool phone = number[strspn(number, "0123456789+*#-.() ")] == '\0' && strpbrk(number, digits);
    size_t n = 0;
    for (; *number; number++) {
        if (phone && strchr(separators, *number))
            continue;
        if (n + 1 == KG_NUMBER_SIZE) {
            n = 0;
            break;
        }
        out[n++] = *number;
    }
    out[n] = '\0';
}

/* Bytes of the pattern that must be there; *open: anything may follow. */
static size_t fixed_part(const char *pattern, bool *open)
{
    size_t len = strlen(pattern);
    *open = len > 0 && pattern[len - 1] == '*';
    return len - *open;
}

bool kg_number_fits(const char *pattern, const char *number)
{
    bool open;
    size_t len = fixed_part(pattern, &open);
    return strncmp(pattern, number, len) == 0 && (open || number[len] == '\0');
}

static bool is_for(const struct kg_number_config *rule, enum kg_number_way way, const char *side)
{
    const char *prefix = way == KG_NUMBER_FROM ? "from-" : "to-";
    size_t len = strlen(prefix);
    return strncmp(rule->where, prefix, len) == 0 && strcmp(rule->where + len, side) == 0;
}

bool kg_number_rewrite(const struct kg_config *config, enum kg_number_way way, const char *side,
                       enum kg_number_of of, const char *number, char out[static KG_NUMBER_SIZE])
{
    char plain[KG_NUMBER_SIZE];
    if (config->number_count == 0)
        return false;
    kg_number_plain(number, plain);
    for (size_t i = 0; plain[0] && i < config->number_count; i++) {
        const struct kg_number_config *rule = &config->number[i];
        bool rest, open;
        if (rule->of != of || !is_for(rule, way, side) || !kg_number_fits(rule->match, plain))
            continue;
        size_t kept = fixed_part(rule->becomes, &rest), skipped = fixed_part(rule->match, &open);
        int len =
            snprintf(out, KG_NUMBER_SIZE, "%.*s%s", (int)kept, rule->becomes, rest ? plain + skipped : "");
        return len > 0 && len < KG_NUMBER_SIZE && strcmp(out, number) != 0;
    }
    return false;
}
