"""Keys stay where they belong: nothing that a person or a machine reads beside SDP has any."""
import base64
import os
import re

import pytest

from interop import keys
from interop.agent import Dialog
from interop.hosts import background, until
from interop.sipcall import dialogs, hang_up, listeners, registered

USERS = ("alice", "bob")
SUITES = {"AES_CM_128_HMAC_SHA1_80": 30, "AEAD_AES_256_GCM": 44}


def spellings(key):
    """As SDP has it, in hexadecimal in both cases, and what is left of it where a line was cut."""
    raw = base64.b64decode(key)
    return [key, key[:16], raw.hex(), raw.hex().upper(), raw.hex(":"), raw.hex()[:24]]


# Each names a key at a place where a reason is given why the line is no use; one that is comes last.
ODD = ["a=crypto:1 {key} inline:{key}", "a=crypto:{key} AES_CM_128_HMAC_SHA1_80 inline:{key}", "a=crypto:2 AES_CM_128_HMAC_SHA1_80 {key}",
       "a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:{key}x", "a=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:{key}|{key}",
       "a=crypto:5 AES_CM_128_HMAC_SHA1_80 inline:{key} {key}", "a=crypto:inline:{key}", "a=fingerprint:{key} {key}"]


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two")]


@pytest.mark.parametrize("level", ["info", "debug"])
def test_no_key_is_told(hosts, stage, level):
    records = os.path.join(str(stage.folder), "cdr.jsonl")
    kedge = stage.kedge(hosts[0], accounts={u: "pw-" + u for u in USERS}, config={
        "sip": {"listen": listeners(hosts[0])}, "cdr": {"file": records}, "log": {"level": level}})
    a, b = dialogs(stage, registered(stage, kedge, hosts[1:], USERS))
    secrets, told = [], ""
    for suite, size in SUITES.items():
        a, b = (Dialog(d.agent, d.rtp) for d in (a, b))
        odd = [keys.key(30) for _ in ODD]
        mine, wrong = keys.key(size), keys.key(size)
        offer = "".join(line.format(key=key) + "\r\n" for line, key in zip(ODD, odd)) + keys.crypto(9, suite, mine)
        placed = background(a.call, "bob", body=keys.body(a.rtp, "sdes", extra=offer))
        asked = b.agent.expect("INVITE")
        if keys.shape(asked.body) == "sdes":  # as it came; the second call begins with keys of kedge's
            b.agent.reply(asked, 488, body=keys.body(b.rtp, "sdes", extra=keys.crypto(1, suite, wrong)))
            b.agent.expect("ACK")
            asked = b.agent.expect("INVITE")
        tag, suite, _ = next((line for line in keys.cryptos(asked.body) if line[1] == suite), keys.cryptos(asked.body)[0])
        other = keys.key(SUITES[suite])
        b.answer(asked, body=keys.body(b.rtp, keys.shape(asked.body), extra=keys.crypto(tag, suite, other)))
        ok = placed()
        assert ok.status == 200
        ours = [key for text in (ok.body, asked.body) for _, _, key in keys.cryptos(text)]
        assert len(ours) >= 2, (ok.body, asked.body)
        secrets += [mine, wrong, other, *odd, *ours]
        [call] = kedge.calls()
        told += kedge.ctl("explain", call["id"]) + kedge.ctl("calls") + kedge.ctl("calls", "--json")
        hang_up(a, b, kedge)
    assert a.call("bob", body=keys.body(a.rtp, "sdes", extra="".join(ODD).format(key=secrets[0]) + "\r\n")).status == 488
    assert until(lambda: os.path.exists(records) and len(open(records, encoding="utf-8").readlines()) >= 2)
    with open(records, encoding="utf-8") as f:
        told += f.read()
    told += kedge.log() + kedge.ctl("calls", "--recent") + kedge.ctl("calls", "--recent", "--json") + kedge.ctl("stats")
    if level == "debug":
        assert "is not used" in told, "what is looked through says something of keys"
    assert not re.search(r"inline:", told), re.search(r".*inline:.*", told).group(0)
    for secret in secrets:
        for text in spellings(secret):
            assert text not in told, f"{text}: ...{told[max(told.index(text) - 200, 0):told.index(text) + 60]}"
    assert "pw-" not in told
