"""MESSAGE over trunks: to numbers behind them, and from them to accounts and to the PBX; with the proofs, numbers, names and caps
of calls."""

import pytest

from interop.agent import Dialog
from interop.hosts import background
from interop.itsp import Itsp
from interop.pbx import Kamailio
from interop.test_requests import TEXT, answered, is_clean
from interop.test_trunks import ACCOUNTS, NUMBERS, ROUTES, hangs, names, phones, registered, tries_of, trunk


@pytest.fixture(scope="module")
def world(lab, long_stage):
    """As in test_trunks; messages take a proof."""
    server = lab.public_host("mkedge")
    itsp = long_stage.add(Itsp(lab.public_host("mitsp"), {"kedge": "trunk-word"}, proofs=("MESSAGE", "INVITE")))
    carrier = long_stage.agent(lab.public_host("mcarrier"), "carrier", server=(server.addr, 5060), domain="carrier.test", port=5060)
    thief = long_stage.add(Itsp(lab.public_host("mthief"), {}, proofs=("MESSAGE",)))
    rows = {"trunks": [trunk(itsp),
                       {"name": "carrier", "server": "udp:" + carrier.at, "trusted": True, "from": "caller", "register": False,
                        "probe": 0, "domain": "carrier.test"},
                       {"name": "thief", "server": "udp:" + thief.at, "user": "me", "password": "other-word", "register": False,
                        "realm": "thief.test", "probe": 0}],
            "routes": ROUTES, "numbers": NUMBERS}
    kedge = long_stage.kedge(server, config=rows, accounts=ACCOUNTS)
    for provider in (itsp, thief):
        provider.server = (server.addr, 5060)
    a, b = phones(long_stage, lab, kedge, ["1001", "1002"], "m")
    registered(kedge)
    return kedge, itsp, carrier, thief, a, b


def text_to(agent, number, *headers):
    return background(agent.request, "MESSAGE", hangs(number), [*TEXT, *headers], "a word")


def test_to_a_number(world):
    _, itsp, _, _, a, _ = world
    take = text_to(a, "030123", "P-Asserted-Identity: <sip:boss@kedge.test>")
    got = answered(itsp, "MESSAGE", 202)
    assert take().status == 202
    assert got.uri == "sip:+4930123@itsp.test" and "<sip:+4930123@itsp.test>" in got.get("to") and got.body == "a word"
    assert got.get("from").partition(";")[0] == "<sip:kedge@itsp.test>" and not got.get("p-asserted-identity")
    assert not names("1001", str([v for n, v in got.headers if n not in ("cseq", "content-length")]))
    is_clean(got, a.ip)
    tries = tries_of(itsp, got)
    assert [bool(m.get("proxy-authorization")) for m in tries] == [False, True] and tries[1].cseq[0] == tries[0].cseq[0] + 1
    itsp.stale = 1
    take = text_to(a, "030123")
    answered(itsp, "MESSAGE", 404)
    assert take().status == 404, "what the provider says of the number is passed on"


def test_a_wrong_password_is_no_challenge_for_the_phone(world):
    kedge, itsp, _, thief, a, _ = world
    answer = a.request("MESSAGE", hangs("7123"), TEXT, "a word")
    assert answer.status == 503 and "itsp.test" not in str(answer.headers)
    assert len([m for m in thief.log if m.method == "MESSAGE"]) == 1 and "not the trunk's" in kedge.log()
    assert not [m for m in thief.log if m.get("proxy-authorization")]
    itsp.stale = 9
    assert a.request("MESSAGE", hangs("030123"), TEXT, "a word").status == 503
    itsp.stale = 0


def test_identity_and_privacy(world):
    _, itsp, carrier, _, a, b = world
    take = text_to(a, "8001", "P-Asserted-Identity: <sip:boss@kedge.test>")
    got = answered(carrier, "MESSAGE")
    assert take().status == 200 and got.uri == "sip:8001@carrier.test"
    assert got.all("p-asserted-identity") == ["<sip:+493010001@kedge.test>"]
    assert "<sip:+493010001@carrier.test>" in got.get("from")
    for callee, number in ((itsp, "030123"), (b, "1002")):
        take = text_to(a, number, "Privacy: user")
        got = answered(callee, "MESSAGE")
        assert take().status == 200 and got.get("from").startswith('"Anonymous" <sip:anonymous@anonymous.invalid>')
        assert not names("1001", str([v for n, v in got.headers if n not in ("cseq", "content-length")]))
    assert text_to(a, "1002", "Privacy: invisible;critical")().status == 500


def test_from_a_trunk(world, lab, stage):
    kedge, itsp, carrier, _, a, b = world
    at = f"{kedge.host.addr}:5060"
    def sent(by, uri, user, **kw):
        return background(by.request, "MESSAGE", uri, [*TEXT, "P-Asserted-Identity: <sip:+4940777@itsp.test>"], "from afar",
                          from_user=user, auth=False, **kw)
    take = sent(itsp, f"sip:+493010001@{at}", "+4940555")
    got = answered(a, "MESSAGE", 200)
    assert take().status == 200 and got.body == "from afar" and got.uri == a.contact.strip("<>")
    assert "<sip:040555@kedge.test>" in got.get("from") and "sip:1001@" in got.get("to") and not got.get("p-asserted-identity")
    is_clean(got, itsp.ip)
    take = sent(carrier, f"sip:1002@{at}", "+4940777")
    assert answered(b, "MESSAGE", 200).get("p-asserted-identity") and take().status == 200, "this one is believed"
    # by the secret in kedge's Contact, from wherever; To says to whom
    gateway = stage.agent(lab.public_host("mgateway"), "gw", server=(kedge.host.addr, 5060), domain="itsp.test")
    take = sent(gateway, itsp.bindings["kedge"], "+4940556", to="<sip:+493010002@itsp.test>")
    assert "<sip:040556@kedge.test>" in answered(b, "MESSAGE", 200).get("from") and take().status == 200
    # strangers, numbers that are nobody's, and those of other trunks
    assert sent(gateway, f"sip:1001@{at}", "+4940557")().status == 407
    assert sent(itsp, f"sip:+4977@{at}", "+4940555")().status == 404
    assert sent(itsp, f"sip:8123@{at}", "+4940555")().status == 404 and carrier.quiet("MESSAGE", 0.2)
    # a phone's challenge is nobody's to answer
    take = sent(itsp, f"sip:+493010001@{at}", "+4940555")
    answered(a, "MESSAGE", 407, headers=['Proxy-Authenticate: Digest realm="itsp.test", nonce="n1", qop="auth"'])
    assert take().status == 480 and a.quiet("MESSAGE", 0.2)
    # nothing else comes in
    for method in ("SUBSCRIBE", "NOTIFY", "REFER", "PUBLISH"):
        answer = itsp.request(method, f"sip:1001@{at}", ["Event: dialog", "Refer-To: <sip:0900@kedge.test>"], auth=False)
        assert answer.status in (403, 407) and a.quiet(method, 0.2), f"{method}: {answer}"


def test_caps(lab, stage):
    itsp = stage.add(Itsp(lab.public_host("mci"), {"kedge": "trunk-word"}))
    caps = [{"user": "1001", "calls": 1, "rate": 4, "deny": ["0900", "+8831"]}]
    numbers = [{"where": "to-itsp", "match": "011*", "becomes": "+*"}]
    kedge = stage.kedge(lab.public_host("mck"), accounts=ACCOUNTS,
                        config={"trunks": [trunk(itsp)], "routes": ROUTES[2:], "numbers": numbers, "caps": caps})
    itsp.server = (kedge.host.addr, 5060)
    registered(kedge)
    a, b = phones(stage, lab, kedge, ["1001", "1002"], "mc")
    for number in ("0900123", "0-90-0123", "%30900123", "0118831"):
        assert text_to(a, number)().status == 403, number
    for number in ("0900123;isub=" + "1" * 120, "1%000900123"):
        assert text_to(a, number)().status == 404, "what cannot be read is no number"
    assert not [m for m in itsp.log if m.method == "MESSAGE"]
    one, other = Dialog(a, stage.rtp(a.host)), Dialog(itsp, stage.rtp(itsp.host))
    placed = background(one.call, hangs("030123"))
    other.answer(itsp.expect("INVITE"))
    assert placed().status == 200
    # a message is no second call at once, but counts for the rate, as the call did and what could not be told from a good number
    got = []
    for _ in range(3):
        take = text_to(a, "030123")
        request = itsp.expect_unless("MESSAGE", take)
        got.append(bool(request))
        if request:
            itsp.reply(request, 200)
        final = take()
        assert final.status == (200 if request else 503)
    assert got == [True, True, False] and int(final.get("retry-after")) > 5
    take = text_to(a, "1002")
    assert answered(b, "MESSAGE") and take().status == 200, "within the house it costs nothing"
    bye = background(one.bye)
    itsp.reply(itsp.expect("BYE"), 200)
    assert bye().status == 200
    kedge.no_calls()


def test_another_server_and_another_trunk(lab, stage):
    dead = lab.public_host("mdead")
    itsp = stage.add(Itsp(lab.public_host("mfi"), {"kedge": "trunk-word"}, proofs=("MESSAGE",)))
    first = {"name": "first", "server": f"udp:{dead.addr}:5060", "register": False, "probe": 0, "domain": "first.test"}
    kedge = stage.kedge(lab.public_host("mfk"), accounts=ACCOUNTS,
                        config={"trunks": [first, trunk(itsp)], "routes": [{"from": "phone", "number": "0*", "to": ["first", "itsp"]}],
                                "numbers": NUMBERS[:2]})
    itsp.server = (kedge.host.addr, 5060)
    registered(kedge)
    a, = phones(stage, lab, kedge, ["1001"], "mf")
    take = background(a.request, "MESSAGE", hangs("030123"), TEXT, "a word", timeout=12)
    got = answered(itsp, "MESSAGE", 200, timeout=10)
    assert take().status == 200 and got.uri == "sip:+4930123@itsp.test" and got.get("proxy-authorization")


def test_between_pbx_and_trunk(lab, stage):
    """The PBX is Kamailio, which challenges whoever writes to its users; its password goes nowhere else."""
    host = lab.public_host("mqp")
    words = {"u1": "w-u1", "from-itsp": "pbx-word"}
    stage.add(Kamailio(stage.folder / "mqp", words, host, domain="pbx.test")).start()
    itsp = stage.add(Itsp(lab.public_host("mqi"), {"kedge": "trunk-word"}, proofs=("MESSAGE",)))
    rows = {"pbx": [f"udp:{host.addr}:5060"],
            "trunks": [trunk(itsp, pbx_user="from-itsp", pbx_password="pbx-word")],
            "routes": [{"from": "pbx", "number": "0*", "to": "itsp"}],
            "numbers": [{"where": "to-pbx", "match": "+49301", "becomes": "u1"}, {"where": "to-itsp", "match": "0*", "becomes": "+49*"}]}
    kedge = stage.kedge(lab.public_host("mqk"), config=rows)
    itsp.server = (kedge.host.addr, 5060)
    registered(kedge)
    phone = stage.agent(lab.public_host("mqu"), "u1", "w-u1", itsp.server, "pbx.test")
    assert phone.register().status == 200
    take = background(itsp.request, "MESSAGE", itsp.bindings["kedge"], TEXT, "from afar", from_user="+4940555",
                      to="<sip:+49301@itsp.test>", auth=False)
    got = answered(phone, "MESSAGE")
    assert take().status == 200 and "+4940555" in got.get("from") and got.body == "from afar"
    assert not [m for m in itsp.log + phone.log if "from-itsp" in str(m.headers)]
    # out of the PBX
    server = stage.agent(host, "u9", server=itsp.server, domain="pbx.test")
    take = background(server.request, "MESSAGE", f"sip:040123@{kedge.host.addr}", TEXT, "to the world", auth=False)
    got = answered(itsp, "MESSAGE")
    assert take().status == 200 and got.uri == "sip:+4940123@itsp.test" and got.get("proxy-authorization")
