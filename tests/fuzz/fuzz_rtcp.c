/* RTCP compound packets of any content. */
#include <stdlib.h>

#include "media/rtcp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kg_rtcp rtcp;
    if (kg_rtcp_parse(data, size, &rtcp) == 0 && (size % 4 != 0 || rtcp.reports > KG_RTCP_REPORTS_MAX))
        abort();
    return 0;
}
