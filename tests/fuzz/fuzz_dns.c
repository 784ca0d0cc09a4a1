/* Any bytes as a DNS response of each type: an answer or an error, within bounds, never a crash; names are
 * such as can stand in a URI and be asked for. */
#include <stdlib.h>
#include <string.h>

#include "b2bua/route/locate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct kg_dns_answer answer;

static const struct kg_dns_answer *ask(void *ctx, enum kg_dns_type type, const char *name)
{
    (void)ctx;
    if (strlen(name) >= KG_DOMAIN_MAX)
        abort();
    return type == answer.type ? &answer : NULL;
}

static void check_name(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    if (name[strspn(name, allowed)] != '\0' || strlen(name) >= KG_DOMAIN_MAX)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum kg_dns_type types[] = {KG_DNS_A, KG_DNS_AAAA, KG_DNS_SRV, KG_DNS_NAPTR};
    static const struct kg_reach reach = {.transport = {true, true, true}, .v4 = true, .v6 = true};
    struct kg_server_at at = {.host = "example.org", .located = true};
    struct kg_place place[KG_PLACES_MAX];
    size_t count;

    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        if (kg_dns_parse(data, size, types[t], &answer) != 0)
            continue;
        if (answer.count > KG_DNS_RECORDS_MAX)
            abort();
        for (size_t i = 0; i < answer.count && types[t] == KG_DNS_SRV; i++)
            check_name(answer.srv[i].target);
        for (size_t i = 0; i < answer.count && types[t] == KG_DNS_NAPTR; i++)
            check_name(answer.naptr[i].replacement);
        at.port = types[t] == KG_DNS_A || types[t] == KG_DNS_AAAA ? 5060 : 0;
        at.located = types[t] == KG_DNS_NAPTR;
        kg_locate(&at, &reach, ask, NULL, place, &count);
        if (count > KG_PLACES_MAX)
            abort();
        for (size_t i = 0; i < count; i++)
            if (!kg_addr_is_usable(&place[i].at.addr))
                abort();
    }
    return 0;
}
