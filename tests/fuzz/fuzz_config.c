/* Any bytes as a configuration: an answer or errors with sentences, never a crash; what was accepted is in
 * range. */
#include <stdlib.h>
#include <string.h>

#include "conf/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct kg_config config;
    static struct kg_config_errors errors;
    int failed = kg_config_parse((const char *)data, size, &config, &errors);

    if ((failed != 0) != (errors.count > 0) || errors.count > KG_CONFIG_ERRORS_MAX)
        abort();
    for (size_t i = 0; i < errors.count; i++)
        if (errors.item[i].line < 0 || errors.item[i].text[0] == '\0')
            abort();
    if (!failed && (config.sip.listen_count < 1 || config.sip.listen_count > KG_LISTEN_MAX ||
                    config.pbx_count > KG_PBX_MAX || config.media.port_min >= config.media.port_max ||
                    config.store[0] != '/' || config.control[0] != '/' || config.limits.calls == 0))
        abort();
    for (size_t i = 0; !failed && i < config.trunk_count; i++)
        if (config.trunk_count > KG_TRUNKS_MAX || config.trunk[i].name[0] == '\0' ||
            config.trunk[i].server_count < 1 || config.trunk[i].server_count > KG_TRUNK_SERVERS_MAX)
            abort();
    return 0;
}
