#include "b2bua/nat/assess.h"

#include <stdio.h>
#include <string.h>

enum match {
    NOTHING_SAID, /* absent, a name, or 0.0.0.0: not comparable */
    SAME,
    OTHER_PORT,
    OTHER_HOST,
};

/* What the phone wrote in one place. */
struct claim {
    const char *where;
    enum match match;
    struct kg_addr said;
};

/* Over UDP a phone sends from the port it listens on (RFC 3581 4), so another source port means that
 * something translated it; over a stream the source port is ephemeral and says nothing. */
static enum match compare(const struct kg_nat_seen *seen, const struct kg_addr *said)
{
    if (!kg_addr_is_set(said) || kg_addr_is_any(said))
        return NOTHING_SAID;
    if (!kg_addr_same_host(said, &seen->source))
        return OTHER_HOST;
    if (seen->transport == KG_UDP && kg_addr_port(said) != kg_addr_port(&seen->source))
        return OTHER_PORT;
    return SAME;
}

static struct claim claim(const struct kg_nat_seen *seen, const char *where, const char *host, uint16_t port)
{
    struct claim claim = {.where = where};
    if (port == 0) /* RFC 3261 18.2.2, 19.1.2 */
        port = seen->transport == KG_TLS ? 5061 : 5060;
    if (host && *host)
        kg_addr_parse_host(host, port, &claim.said); /* a name leaves it none */
    claim.match = compare(seen, &claim.said);
    return claim;
}

/* proven: another claim equals the source, so the neighbour itself is not translated. What differs is then
 * another host of the same side (a PBX in front of its phones, a media gateway), unless it cannot be reached
 * from here. */
static void weigh(const struct kg_nat_seen *seen, const struct claim *claim, bool proven,
                  struct kg_nat_verdict *out)
{
    char said[KG_ADDR_STR], source[KG_ADDR_STR];
    if (claim->match < OTHER_PORT || out->reason_count == KG_NAT_REASONS_MAX)
        return;
    char *words = out->reason[out->reason_count++];
    bool unreachable =
        claim->match == OTHER_HOST && kg_addr_is_private(&claim->said) && !kg_addr_is_private(&seen->source);
    bool counts = !proven || unreachable;
    const char *note = counts ? "" : " (not taken for a NAT)";
    out->behind_nat |= counts;
    if (claim->match == OTHER_PORT)
        snprintf(words, sizeof(out->reason[0]), "%s says port %u, packets come from port %u%s", claim->where,
                 kg_addr_port(&claim->said), kg_addr_port(&seen->source), note);
    else
        snprintf(words, sizeof(out->reason[0]), "%s says %s, packets come from %s%s", claim->where,
                 kg_addr_format_host(&claim->said, said), kg_addr_format_host(&seen->source, source), note);
}

void kg_nat_assess(const struct kg_nat_seen *seen, struct kg_nat_verdict *out)
{
    memset(out, 0, sizeof(*out));
    if (!kg_addr_is_set(&seen->source))
        return;
    struct claim contact = claim(seen, "Contact", seen->contact_host, seen->contact_port);
    struct claim via = claim(seen, "Via", seen->via_host, seen->via_port);
    struct claim sdp = {.where = "SDP", .said = seen->sdp};
    kg_addr_set_port(&sdp.said, kg_addr_port(&seen->source));
    sdp.match = compare(seen, &sdp.said);
    bool proven = contact.match == SAME || via.match == SAME;
    weigh(seen, &contact, proven, out);
    weigh(seen, &via, proven, out);
    weigh(seen, &sdp, proven, out);
}
