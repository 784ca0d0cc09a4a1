"""What registration knows beyond RFC 3261: Path (RFC 3327), Service-Route (RFC 3608), GRUU (RFC 5627) and outbound (RFC 5626), with
Kamailio as the PBX and with kedge alone."""
import re
import threading

import pytest

from interop.agent import Dialog, talk
from interop.hosts import until
from interop.pbx import Kamailio
from interop.phone import Phone

INSTANCE = "urn:uuid:00000000-0000-1000-8000-000a95a0e12"
WORDS = {name: "pw-" + name for name in ("alice", "bob", "carol", "dave")}


def in_front_of(lab, stage, name, define=(), **rows):
    host = lab.public_host("pbx-" + name)
    stage.add(Kamailio(stage.folder / ("pbx-" + name), WORDS, host, define=define)).start()
    return stage.kedge(lab.public_host("kedge-" + name), name="kedge-" + name,
                       config={"pbx": [f"udp:{host.addr}:5060"], **rows})


def phone(lab, stage, kedge, user, name, **kw):
    return stage.agent(lab.public_host(name), user, WORDS[user], (kedge.host.addr, 5060), kw.pop("domain", "pbx.test"), **kw)


def hang_up(a, b):
    assert a.bye().status == 200
    b.agent.reply(b.agent.expect("BYE"), 200)


def calls_go_both_ways(stage, a, b):
    for one, other in ((a, b), (b, a)):
        started = talk(one, other, stage.rtp(one.host), stage.rtp(other.host, hz=700))
        hang_up(*started)


@pytest.mark.parametrize("mode, define", (("yes", ("PATH",)), ("yes", ()), ("auto", ("PATH",)), ("no", ("PATH",))),
                         ids=("own-contact", "ignored", "auto", "no"))
def test_path_toward_the_pbx(lab, stage, mode, define):
    """Whatever the PBX does with a Path: both phones can be called, by the same Request-URI as always."""
    name = f"{mode}-{len(define)}"
    kedge = in_front_of(lab, stage, name, define, registration={"path": mode})
    a, b = (phone(lab, stage, kedge, user, f"{user}-{name}") for user in ("alice", "bob"))
    for agent in (a, b):
        answer = agent.register()
        assert answer.status == 200 and agent.at in answer.get("contact"), answer
        assert not answer.all("path") and not answer.all("service-route")
    calls_go_both_ways(stage, a, b)
    ignored = "ignores Path" in kedge.log()
    assert ignored == (mode == "yes" and not define)


def test_service_route_goes_with_the_phones_own_calls_only(lab, stage):
    """This PBX refuses what does not come by the route it gave to that user."""
    kedge = in_front_of(lab, stage, "service-route", ("SERVICE_ROUTE",))
    a, b, stranger = (phone(lab, stage, kedge, user, f"{user}-sr") for user in ("alice", "bob", "carol"))
    for agent in (a, b):
        answer = agent.register()
        assert answer.status == 200 and not answer.all("service-route"), answer
    calls_go_both_ways(stage, a, b)
    refused = Dialog(stranger).call("bob", body="")
    assert refused.status == 403, refused
    # as somebody else, over a flow that has a Service-Route of its own
    a.user, a.password = "carol", WORDS["carol"]
    refused = Dialog(a).call("bob", body="")
    assert refused.status == 403, refused


def gruu_of(answer, agent):
    [contact] = [c for c in ", ".join(answer.all("contact")).split(", ") if agent.at in c]
    return re.search(r'pub-gruu="([^"]+)"', contact).group(1)


def register_with_gruu(agent, last):
    contact = f'{agent.contact};+sip.instance="<{INSTANCE}{last}>"'
    answer = agent.register(contact=contact, headers=["Supported: gruu"])
    assert answer.status == 200, answer
    return gruu_of(answer, agent)


def rings_only(caller, uri, wanted, other):
    call, result = Dialog(caller), []
    thread = threading.Thread(target=lambda: result.append(call.call(uri, body="")))
    thread.start()
    invite = wanted.expect("INVITE")
    assert other.quiet("INVITE", 0.5)
    wanted.reply(invite, 486)
    wanted.expect("ACK")
    thread.join()
    assert result[0].status == 486, result


@pytest.mark.parametrize("alone", (True, False), ids=("alone", "kamailio"))
def test_gruu_reaches_the_one_phone_that_has_it(lab, stage, alone):
    domain = "kedge.test" if alone else "pbx.test"
    kedge = stage.kedge(lab.public_host("kedge-by-itself"), accounts=WORDS) if alone else in_front_of(lab, stage, "gruu")
    one, two, caller = (phone(lab, stage, kedge, user, f"{on}-{domain}", domain=domain)
                        for user, on in (("alice", "one"), ("alice", "two"), ("bob", "caller")))
    gruus = register_with_gruu(one, 1), register_with_gruu(two, 2)
    assert caller.register().status == 200
    assert gruus[0] != gruus[1] and all(f"@{domain}" in g and "gr=" in g for g in gruus), gruus
    assert register_with_gruu(one, 1) == gruus[0], "the same phone, the same GRUU"
    rings_only(caller, gruus[0], one, two)
    rings_only(caller, gruus[1], two, one)
    answer = Dialog(caller).call(gruus[0].replace(INSTANCE + "1", INSTANCE + "3"), body="")
    assert answer.status in (404, 480), answer


# RFC 5626

def flow(agent, number, user="alice"):
    return agent.register(contact=f'<sip:{user}@{agent.at};transport={agent.transport};ob>;reg-id={number};'
                                  f'+sip.instance="<{INSTANCE}9>"', headers=["Supported: path, outbound"])


def two_flows(lab, stage, kedge, name, domain, transport):
    one = phone(lab, stage, kedge, "alice", f"one-{name}", domain=domain, transport=transport)
    two = stage.agent(one.host, "alice", WORDS["alice"], (kedge.host.addr, 5060), domain, transport=transport)
    caller = phone(lab, stage, kedge, "bob", f"caller-{name}", domain=domain)
    assert caller.register().status == 200
    for number, agent in ((1, one), (2, two)):
        answer = flow(agent, number)
        assert answer.status == 200 and "outbound" in answer.get("require"), answer
        assert int(answer.get("flow-timer")) > 0
    return one, two, caller


def call_to(stage, caller, agents, user="alice"):
    """Starts a call; the agent that it reaches, its INVITE, the caller's dialog and how to wait for the answer."""
    call, result = Dialog(caller, stage.rtp(caller.host)), []
    before, found = [len(a.log) for a in agents], []
    thread = threading.Thread(target=lambda: result.append(call.call(user)))
    thread.start()

    def look():
        for a, n in zip(agents, before):  # one that came twice, since nobody answered in time, is one
            found.extend([(a, m) for m in a.log[n:] if m.method == "INVITE"][:1])
        return found

    assert until(look, 20, 0.02), "no flow got the INVITE"
    return found, call, thread, result


@pytest.mark.parametrize("alone", (True, False), ids=("alone", "kamailio"))
@pytest.mark.parametrize("transport", ("udp", "tcp"))
def test_two_flows_are_one_phone(lab, stage, alone, transport):
    """It rings over one of them; when that fails, over the other."""
    domain = "kedge.test" if alone else "pbx.test"
    name = f"{transport}-{domain}"
    kedge = stage.kedge(lab.public_host("kedge-" + name), accounts=WORDS) if alone else in_front_of(lab, stage, name)
    one, two, caller = two_flows(lab, stage, kedge, name, domain, transport)
    assert len([r for r in kedge.registrations() if r["user"] == "alice"]) == 2
    # 430 Flow Failed (RFC 5626 11.2) over the one: then over the other
    found, call, thread, result = call_to(stage, caller, (one, two))
    [(first, invite)] = found
    second = two if first is one else one
    assert second.quiet("INVITE", 0.5), "both flows rang"
    first.reply(first.expect("INVITE"), 430)
    first.expect("ACK")
    b = Dialog(second, stage.rtp(second.host))
    b.answer(second.expect("INVITE"))
    thread.join()
    assert result[0].status == 200, result
    hang_up(call, b)
    # busy is the phone's word, not the flow's
    found, call, thread, result = call_to(stage, caller, (one, two))
    [(first, _)] = found
    second = two if first is one else one
    first.reply(first.expect("INVITE"), 486)
    first.expect("ACK")
    thread.join()
    assert result[0].status == 486, result
    assert second.quiet("INVITE", 0.3)
    # a MESSAGE comes once, and over the other flow where the first one is none any more
    answers = []
    before = len(one.log), len(two.log)
    thread = threading.Thread(target=lambda: answers.append(caller.request(
        "MESSAGE", f"sip:alice@{domain}", ["Content-Type: text/plain"], "hello", timeout=12)))
    thread.start()

    def came(agent):
        return [m for m in agent.log[before[agent is two]:] if m.method == "MESSAGE"]

    assert until(lambda: came(one) or came(two), 20, 0.02)
    first, second = (one, two) if came(one) else (two, one)
    request = first.expect("MESSAGE")
    assert second.quiet("MESSAGE", 0.3), "it came over both"
    first.reply(request, 430)
    second.reply(second.expect("MESSAGE"), 200)
    thread.join()
    assert answers[0] is not None and answers[0].status == 200, answers
    if transport == "tcp":
        # a flow that is gone is no flow
        first.close()
        assert until(lambda: len([r for r in kedge.registrations() if r["user"] == "alice"]) == 1, 20)
    else:
        answer = first.register(expires=0, contact=f'<sip:alice@{first.at};transport=udp;ob>;reg-id='
                                f'{1 if first is one else 2};+sip.instance="<{INSTANCE}9>"',
                                headers=["Supported: path, outbound"])
        assert answer.status == 200, answer
    calls_go_both_ways(stage, caller, second)


def test_call_goes_on_over_the_other_flow(lab, stage):
    """The connection that a call was set up over is cut: kedge's requests in it take the phone's other one."""
    kedge = stage.kedge(lab.public_host("kedge-cut"), accounts=WORDS)
    one, two, caller = two_flows(lab, stage, kedge, "cut", "kedge.test", "tcp")
    found, call, thread, result = call_to(stage, caller, (one, two))
    [(first, _)] = found
    second = two if first is one else one
    b = Dialog(first, stage.rtp(first.host))
    b.answer(first.expect("INVITE"))
    thread.join()
    assert result[0].status == 200, result
    first.close()
    assert until(lambda: len([r for r in kedge.registrations() if r["user"] == "alice"]) == 1, 20)
    b.agent = second
    take = []
    thread = threading.Thread(target=lambda: take.append(call.bye()))
    thread.start()
    second.reply(second.expect("BYE"), 200)
    thread.join()
    assert take[0].status == 200
    kedge.no_calls()


def test_baresip_with_two_flows_behind_a_nat(lab, stage):
    """A phone that does RFC 5626 by itself, over UDP and TCP: it is two flows and rings once."""
    kedge = stage.kedge(lab.public_host("kedge-bs"), accounts=WORDS)
    server = f"{kedge.host.addr}:5060"
    bare = stage.add(Phone(stage.folder / "alice", "alice", server, 400, lab.natted_host("alice-bs", nat="symmetric"),
                           password=WORDS["alice"], domain="kedge.test",
                           account_extra=f';sipnat=outbound;outbound2="sip:{server};transport=tcp"')).start()
    caller = phone(lab, stage, kedge, "bob", "bob-bs", domain="kedge.test")
    assert caller.register().status == 200

    def flows():
        return sorted((r["transport"], r.get("reg_id", 0), r["nat"]) for r in kedge.registrations() if r["user"] == "alice")

    assert until(lambda: len(flows()) == 2, 15), (flows(), bare.log()[-2000:])
    assert {number for _, number, _ in flows()} == {1, 2} and {over for over, _, _ in flows()} == {"udp", "tcp"}, flows()
    assert all(nat for _, _, nat in flows()), flows()
    rtp = stage.rtp(caller.host)
    call = Dialog(caller, rtp)
    assert call.call("alice").status == 200
    assert rtp.got(ms=200)
    assert len(kedge.calls()) == 1
    assert call.bye().status == 200
    kedge.no_calls()


def test_edge_proxy_in_front_of_kedge(lab, stage):
    """Its Path is the way to the phone (RFC 3327), and the way of keepalives."""
    kedge = stage.kedge(lab.public_host("kedge-edge"), accounts=WORDS, config={"registration": {"keepalive_udp": 1}})
    caller = phone(lab, stage, kedge, "bob", "caller-edge", domain="kedge.test")
    edge = phone(lab, stage, kedge, "alice", "edge", domain="kedge.test")
    edge.answer_options = False
    assert caller.register().status == 200
    route = f"<sip:to-alice@{edge.at};lr>"
    answer = edge.register(contact="<sip:alice@192.168.1.7:5060>", headers=[f"Path: {route}", "Supported: path"])
    assert answer.status == 200 and answer.get("path") == route, answer
    options = edge.expect("OPTIONS")
    assert options.uri == "sip:alice@192.168.1.7:5060" and options.get("route") == route, options.headers
    edge.answer_options = True
    call, result = Dialog(caller, stage.rtp(caller.host)), []
    thread = threading.Thread(target=lambda: result.append(call.call("alice")))
    thread.start()
    invite = edge.expect("INVITE")
    assert invite.uri == "sip:alice@192.168.1.7:5060" and invite.get("route") == route, invite.headers
    b = Dialog(edge, stage.rtp(edge.host))
    b.answer(invite)
    thread.join()
    assert result[0].status == 200
    hang_up(call, b)
    message = []
    thread = threading.Thread(target=lambda: message.append(caller.request(
        "MESSAGE", "sip:alice@kedge.test", ["Content-Type: text/plain"], "hello")))
    thread.start()
    request = edge.expect("MESSAGE")
    assert request.get("route") == route, request.headers
    edge.reply(request, 200)
    thread.join()
    assert message[0].status == 200
