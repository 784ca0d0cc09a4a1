"""Draws a call: a ladder of its SIP messages, what went through each network, and what each NAT let pass. Pure: text from
captured packets and from the counters of the boxes."""
import re
from collections import namedtuple

WIDTH = 36   # of an arrow of the ladder
COLUMN = 22  # of a medium in the map
REFUSALS = ("filtered", "no-mapping", "udp-blocked", "no-hairpin", "fragment", "full")

Side = namedtuple("Side", "name kind host box")  # kind: the word that make demo was given


def sip_line(payload):
    """"INVITE", "200 OK (INVITE)"; None for what is no SIP message."""
    first = payload.split(b"\r\n", 1)[0]
    m = re.match(rb"SIP/2\.0 (\d{3} [^\r\n]*)$", first) or re.match(rb"([A-Z]{3,10}) sips?:\S+ SIP/2\.0$", first)
    if not m:
        return None
    text = m.group(1).decode("ascii", "replace")
    cseq = re.search(rb"(?im)^CSeq: *\d+ +([A-Z]+)", payload)
    if text[0].isdigit() and cseq:
        return f"{text[:WIDTH - 9 - len(cseq.group(1))]} ({cseq.group(1).decode()})"
    return text


def is_rtp(payload):
    """RTP or RTCP, RFC 3550 5.1: version 2."""
    return len(payload) >= 8 and payload[0] >> 6 == 2


def kind_of(packet):
    """"SIP", "RTP", "RTCP" (RFC 5761 4), or None for keepalives and the like."""
    if is_rtp(packet.payload):
        return "RTCP" if 192 <= packet.payload[1] <= 223 else "RTP"
    return "SIP" if sip_line(packet.payload) else None


def _arrow(label, right):
    line = f" {label} ".center(WIDTH - 1, "-")[:WIDTH - 1]
    return line + ">" if right else "<" + line


def ladder(packets, middle, left, right):
    """packets: captured at the middle; middle, left, right: addresses as seen there. Of a medium only the first packet
    each way is drawn."""
    rows, seen = [], set()
    for p in packets:
        outward = p.src == middle
        own, peer, peer_port = (p.sport, p.dst, p.dport) if outward else (p.dport, p.src, p.sport)
        kind = kind_of(p)
        if kind is None or peer not in (left, right):
            continue
        label = sip_line(p.payload)
        if kind != "SIP":
            if (own, peer, peer_port, outward) in seen:
                continue
            seen.add((own, peer, peer_port, outward))
            label = f"{kind} to :{p.dport} ..."
        body = [" " * WIDTH, " " * WIDTH]
        body[peer == right] = _arrow(label, outward == (peer == right))
        rows.append(f"  |{body[0]}|{body[1]}|{p.at - packets[0].at:8.3f} s")
    return "\n".join(rows)


def media(side, packets, middle):
    """{"RTP": (inside, external, at the middle, sent, received)} of the busiest flow of each kind: ports as ":5060", the
    counts those of the phone's NAT, or of the wire before the middle where the NAT is Linux."""
    counts = {}
    for p in packets:
        if side.host.external in (p.src, p.dst) and kind_of(p):
            out = p.dst == middle
            key = (kind_of(p), p.sport if out else p.dport, p.dport if out else p.sport)
            counts.setdefault(key, [0, 0])[0 if out else 1] += 1
    flows = side.box.flows("udp", middle) if side.box else []
    best = {}
    for (kind, external, own), (sent, received) in counts.items():
        inside = "" if side.kind != "public" else f":{external}"
        for f in flows:
            if (f["external"], f["remote"]) == (f"{side.host.external}:{external}", f"{middle}:{own}"):
                inside, sent, received = ":" + f["inside"].rpartition(":")[2], f["up"], f["down"]
        if kind not in best or sent + received > sum(best[kind][3:]):
            best[kind] = (inside, f":{external}", f":{own}", sent, received)
    return best


def network_map(packets, middle, left, right):
    """Stations from top to bottom, one column a medium, packets each way between them."""
    kinds = ("SIP", "RTP", "RTCP")
    sides = [(s, media(s, packets, middle)) for s in (left, right)]

    def row(station, address, ports):
        return f"  {station:26}{address:17}" + "".join(f"{p:^{COLUMN}}" for p in ports)

    def station(pick, found):
        return [found[k][pick] if k in found else "" for k in kinds]

    def wire(found, down):
        """The phone is above (down) or below the middle."""
        text = []
        for k in kinds:
            sent, received = found[k][3:] if k in found else ("", "")
            text.append((f"{sent} v   ^ {received}" if down else f"{received} v   ^ {sent}") if k in found else "")
        return row("   |", "", text)

    def half(side, found):
        out = [row(side.name, side.host.addr, station(0, found)), wire(found, side is left)]
        if side.kind != "public":
            out += [row(f"{side.kind} NAT", side.host.external, station(1, found)), row("   |", "", ["|" if k in found
                    else "" for k in kinds])]
        return out + [row("kedge", middle, station(2, found))]

    rows = [row("", "", kinds), *half(*sides[0]), *reversed(half(*sides[1]))]
    return "\n".join(r.rstrip() for r in rows)


def direct(packets, own, middle):
    """{"RTP": (port of the phone, peer, its port, sent, received)} of the busiest flow of each kind that went past the middle,
    from what was captured at a phone with the address `own`."""
    counts = {}
    for p in packets:
        if kind_of(p) in ("RTP", "RTCP") and middle not in (p.src, p.dst):
            out = p.src == own
            key = (kind_of(p), *((p.sport, p.dst, p.dport) if out else (p.dport, p.src, p.sport)))
            counts.setdefault(key, [0, 0])[0 if out else 1] += 1
    best = {}
    for (kind, port, peer, peer_port), (sent, received) in counts.items():
        if kind not in best or sent + received > sum(best[kind][3:]):
            best[kind] = (port, peer, peer_port, sent, received)
    return best


def direct_map(left, right, captures, middle):
    """The way of the media that went past the middle, like network_map(); "" if none did. captures: at the two phones."""
    a, b = (direct(packets, side.host.addr, middle) for side, packets in zip((left, right), captures))
    kinds = [k for k in ("RTP", "RTCP") if k in a and k in b]

    def row(station, address, ports):
        return f"  {station:26}{address:17}" + "".join(f"{p:^{COLUMN}}" for p in ports)

    def half(side, own, other, down):
        """The phone above (down) or below its NAT, whose outer port is what the other phone sees."""
        counts = [f"{own[k][3]} v   ^ {own[k][4]}" if down else f"{own[k][4]} v   ^ {own[k][3]}" for k in kinds]
        rows = [row(side.name, side.host.addr, [f":{own[k][0]}" for k in kinds]), row("   |", "", counts)]
        if side.kind != "public":
            rows.append(row(f"{side.kind} NAT", side.host.external, [f":{other[k][2]}" for k in kinds]))
        return rows

    if not kinds:
        return ""
    rows = [row("", "", kinds), *half(left, a, b, True), row("   |", "", ["|" for _ in kinds]), *reversed(half(right, b, a, False))]
    return "\n".join(r.rstrip() for r in rows)


def crossing(side):
    """What one NAT translated, for how many packets each way, and what it refused."""
    if not side.box:
        where = "" if side.kind == "public" else f" behind Linux as {side.host.external} ({side.kind})"
        return f"{side.name}: {side.host.addr}{where or ', no NAT'}"
    stats = side.box.stats()
    out = [f"{side.name}: {side.host.addr} behind a {side.kind} NAT, {side.host.external}",
           f"  {'':5}{'phone':>21}    {'NAT':>21}    {'other side':>21} {'sent':>7} {'received':>9}"]
    for f in stats["flows"]:
        out.append(f"  {f['proto']:5}{f['inside']:>21} -> {f['external']:>21} -> {f['remote']:>21} {f['up']:>7} "
                   f"{f['down']:>9}" + (f"  {f['filtered']} refused" if f["filtered"] else ""))
    refused = [f"{stats['verdicts'][k]} {k}" for k in REFUSALS if stats["verdicts"][k]]
    return "\n".join(out + (["  refused by the NAT: " + ", ".join(refused)] if refused else []))
