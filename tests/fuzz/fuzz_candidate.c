/* a=candidate lines of any content: what is taken is usable, and written again it reads the same. */
#include <stdlib.h>
#include <string.h>

#include "ice/agent/candidate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth)
{
    if (!truth)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kg_candidate first, again;
    char text[KG_CANDIDATE_STR];
    const size_t name = strlen("candidate:");

    kg_ice_is_ufrag((const char *)data, size);
    kg_ice_is_pwd((const char *)data, size);
    if (kg_candidate_parse((const char *)data, size, &first) != KG_CANDIDATE_OK)
        return 0;
    require(kg_addr_is_usable(&first.addr) && first.priority > 0 && first.component >= 1 &&
            first.component <= 2);
    size_t len = kg_candidate_format(&first, text);
    require(len > name && len < sizeof text);
    require(kg_candidate_parse(text + name, len - name, &again) == KG_CANDIDATE_OK);
    require(again.type == first.type && again.component == first.component &&
            again.priority == first.priority && strcmp(again.foundation, first.foundation) == 0 &&
            kg_addr_equal(&again.addr, &first.addr));
    return 0;
}
