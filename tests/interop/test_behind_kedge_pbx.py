"""Kamailio is the PBX: registrar and proxy with its own passwords; kedge stands between it and the phones."""
import threading
import time

import pytest

from interop.agent import Dialog, talk, token
from interop.hosts import until
from interop.pbx import Kamailio
from interop.phone import Phone

PAIRS = (("full-cone", "symmetric"), ("address-restricted", "port-restricted"), ("symmetric", "symmetric"),
         ("port-restricted", "full-cone"))


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server, pbx_host = lab.public_host("kedge"), lab.public_host("pbx")
    names = [f"{side}{i}" for i in range(len(PAIRS)) for side in "ab"] + ["agent", "other", "secret", "twice", "thrice"]
    passwords = {name: "pw-" + name for name in names}
    pbx = long_stage.add(Kamailio(long_stage.folder / "pbx", passwords, pbx_host)).start()
    kedge = long_stage.kedge(server, config={"pbx": [f"udp:{pbx_host.addr}:5060"]})
    return kedge, pbx, passwords


@pytest.mark.parametrize("pair", range(len(PAIRS)), ids=["-to-".join(p) for p in PAIRS])
def test_both_hear_each_other(lab, stage, world, pair):
    kedge, _, passwords = world
    phones = []
    for side, nat, hz in zip("ab", PAIRS[pair], (400, 700)):
        user = f"{side}{pair}"
        phones.append(stage.add(Phone(stage.folder / user, user, f"{kedge.host.addr}:5060", hz,
                                      lab.natted_host(user, nat=nat), password=passwords[user],
                                      domain="pbx.test")).start())
    for phone in phones:
        phone.registered()
    a, b = phones
    a.call(b.user)
    assert a.hears(b.hz), f"the caller does not hear {b.hz} Hz in {a.recording()}"
    assert b.hears(a.hz), f"the callee does not hear {a.hz} Hz in {b.recording()}"
    # a call through the PBX passes kedge twice: from the phone to the PBX, and from the PBX to the phone
    calls = kedge.calls()
    assert len(calls) == 2 and all(c["path"] == "anchored" for c in calls), calls
    mark = a.mark()
    b.hangup()
    a.wait("CALL_CLOSED", mark)
    kedge.no_calls()


def agent(stage, kedge, host, user="agent", password=None):
    return stage.agent(host, user, password or "pw-" + user, (kedge.host.addr, 5060), "pbx.test")


def hang_up(a, b):
    assert a.bye().status == 200
    b.agent.reply(b.agent.expect("BYE"), 200)


def test_a_challenge_is_no_call_that_failed(lab, stage, world):
    """The INVITE that the PBX answers by 407 is in no list and no counter of failures; what the PBX says after it is."""
    kedge, pbx, _ = world
    a = agent(stage, kedge, lab.public_host("asker"))
    assert a.register().status == 200
    at = f"udp {pbx.host.addr}:5060"
    assert [r["pbx"] for r in kedge.registrations() if r["remote"].startswith(a.ip + ":")] == [at]
    assert kedge.ctl("registrations").splitlines()[1].rstrip().endswith(at)
    before, known = kedge.stats(), {c["id"] for c in kedge.json("calls", "--recent")}
    assert Dialog(a, stage.rtp(a.host)).call("nobody-there").status == 404
    kedge.no_calls()
    after = kedge.stats()
    new = [c for c in kedge.json("calls", "--recent") if c["id"] not in known]
    assert after["calls_started"] - before["calls_started"] == 2
    assert after["calls_failed"] - before["calls_failed"] == 1
    assert [(c["status"], c["why"]) for c in new] == [(404, "the PBX answered 404")]
    assert "agent calls nobody-there, to the PBX" in kedge.log()
    assert a.register(expires=0).status == 200


def test_refresh_is_answered_locally_only_on_the_authenticated_flow(lab, stage, world):
    kedge, _, _ = world
    phone = agent(stage, kedge, lab.public_host("refresher"))
    ids = {"call_id": token(), "from_tag": token()}
    assert phone.register(expires=600, **ids).status == 200
    before = kedge.stats()["registers_local"]
    again = phone.register(expires=600, auth=False, **ids)
    assert again.status == 200, f"a refresh on the flow that was authenticated: {again}"
    assert kedge.stats()["registers_local"] == before + 1

    stranger = agent(stage, kedge, lab.public_host("stranger"))
    refused = stranger.register(expires=600, contact=phone.contact, auth=False, cseq=50, **ids)
    assert refused.status == 401, f"the same REGISTER from another place: {refused}"
    assert kedge.stats()["registers_local"] == before + 1


def test_wrong_password_is_refused_by_the_pbx(lab, stage, world):
    kedge, _, _ = world
    phone = agent(stage, kedge, lab.public_host("guesser"), password="wrong")
    before = {r["user"] for r in kedge.registrations()}
    answer = phone.register()
    assert answer.status in (401, 403), answer
    assert {r["user"] for r in kedge.registrations()} == before
    assert f"wrong password or unknown user, says the PBX: user agent, from udp {phone.ip}:" in kedge.log()


def test_unregister_reaches_the_pbx(lab, stage, world):
    kedge, _, _ = world
    callee = agent(stage, kedge, lab.public_host("leaver"), "other")
    caller = agent(stage, kedge, lab.public_host("seeker"))
    assert callee.register().status == 200 and caller.register().status == 200
    assert any(r["user"] == "other" for r in kedge.registrations())
    assert callee.register(expires=0).status == 200
    assert until(lambda: not any(r["user"] == "other" for r in kedge.registrations()), 20)
    answer = Dialog(caller, stage.rtp(caller.host)).call("other")
    assert answer.status == 404, f"the PBX must not know the phone any more: {answer}"


def test_after_a_restart_of_the_pbx_the_phone_registers_again(lab, stage, world):
    """Kamailio keeps registrations in memory here. The phone's next REGISTER must reach it and be challenged."""
    kedge, pbx, _ = world
    a = agent(stage, kedge, lab.public_host("survivor"))
    b = agent(stage, kedge, lab.public_host("witness"), "other")
    assert a.register().status == 200 and b.register().status == 200
    pbx.stop()
    gone = a.register(expires=0, timeout=10)
    assert gone is None or gone.status >= 400 or gone.status == 200
    pbx.start()
    assert a.register().status == 200 and b.register(expires=0).status in (200, 401, 403)
    assert b.register().status == 200
    hang_up(*talk(a, b, stage.rtp(a.host), stage.rtp(b.host, hz=700)))
    kedge.no_calls()


@pytest.mark.parametrize("mover", (0, 1))
def test_a_phone_that_registers_from_elsewhere_keeps_its_call(lab, stage, world, mover):
    """Another network in mid-call: the PBX has accepted its REGISTER, so BYE goes there, and audio from there is believed although the
    SDP still names the old address."""
    kedge, _, _ = world
    agents = [agent(stage, kedge, lab.public_host(f"mover-{mover}-{u}"), u) for u in ("agent", "other")]
    assert all(x.register().status == 200 for x in agents)
    ends = talk(*agents, stage.rtp(agents[0].host), stage.rtp(agents[1].host, hz=700))
    lost, stays = ends[mover], ends[1 - mover]
    old, at = lost.rtp, lost.rtp.to
    old.to = None
    contact = lost.agent.contact
    lost.agent = agent(stage, kedge, lab.public_host(f"moved-{mover}"), lost.agent.user)
    lost.rtp = stage.rtp(lost.agent.host)
    lost.rtp.to = at

    def heard():
        """Audio from the new place: by its SSRC, as what the old one has sent may still be on its way."""
        return any(int.from_bytes(data[8:12], "big") == lost.rtp.ssrc for _, _, data in list(stays.rtp.received))
    assert not until(heard, 1), "nobody has said yet that this is the phone"
    assert lost.agent.register(contact=contact).status == 200
    mark = time.monotonic()
    assert stays.rtp.got(mark, 400) and lost.rtp.got(mark, 400) and heard()
    hang_up(stays, lost)
    kedge.no_calls()


def test_pbx_that_forks_rings_both_phones(lab, stage, world):
    """Two contacts of one user: two INVITEs with one Call-ID, which are two calls. The phone that answers is connected, the
    other one is cancelled."""
    kedge, _, _ = world
    caller = agent(stage, kedge, lab.public_host("fork-caller"))
    first = agent(stage, kedge, lab.public_host("fork-1"), "twice")
    second = agent(stage, kedge, lab.natted_host("fork-2", nat="symmetric"), "twice")
    assert all(x.register().status == 200 for x in (caller, first, second))
    dialog, result = Dialog(caller, stage.rtp(caller.host)), []
    calling = threading.Thread(target=lambda: result.append(dialog.call("twice")))
    calling.start()
    rings = [x.expect("INVITE") for x in (first, second)]
    for x, ring in zip((first, second), rings):
        x.reply(ring, 180)
    answered = Dialog(second, stage.rtp(second.host, hz=700))
    answered.answer(rings[1])
    calling.join()
    assert result[0].status == 200, result
    first.reply(first.expect("CANCEL"), 200)
    first.reply(rings[0], 487)
    first.expect("ACK")
    assert answered.rtp.got(ms=300) and dialog.rtp.got(ms=300)
    assert dialog.bye().status == 200
    second.reply(second.expect("BYE"), 200)
    kedge.no_calls()


def three_phones(stage, kedge, lab, name):
    caller = agent(stage, kedge, lab.public_host(name + "-caller"))
    phones = [agent(stage, kedge, lab.public_host(f"{name}-{i}"), "thrice") for i in range(3)]
    for phone in (caller, *phones):
        assert phone.register().status == 200
    call, result = Dialog(caller, stage.rtp(caller.host)), []
    thread = threading.Thread(target=lambda: result.append(call.call("thrice")))
    thread.start()
    invites = [phone.expect("INVITE") for phone in phones]
    tones = [stage.rtp(phone.host, hz=400 + 200 * i) for i, phone in enumerate(phones)]
    dialogs = [Dialog(phone, rtp) for phone, rtp in zip(phones, tones)]
    return call, thread, result, phones, invites, dialogs


def hears(call, rtp):
    frame, since = rtp.packet()[12:], time.monotonic()
    return until(lambda: any(at > since and packet[12:] == frame for at, _, packet in list(call.rtp.received)), 20)


def test_pbx_that_forks_with_early_media_and_the_winner_is_heard(lab, stage, world):
    """Three phones, each with early media of its own; each 183 comes through kedge twice. The one that answers is heard."""
    kedge, _, _ = world
    call, thread, result, phones, invites, dialogs = three_phones(stage, kedge, lab, "early")
    for phone, invite, dialog in zip(phones, invites, dialogs):
        phone.reply(invite, 183, dialog.body())
        dialog.rtp.to = invite.media()
        first = until(lambda: next((m for m in call.agent.log if m.status == 183), None), 20)
        call.rtp.to = first.media()
        assert hears(call, dialog.rtp), "the newest description holds"
    dialogs[1].answer(invites[1])
    for i in (0, 2):
        cancel = phones[i].expect("CANCEL")
        assert cancel.get("reason").lower().startswith("sip"), cancel.headers  # the PBX says why, and its phones hear it
        phones[i].reply(cancel, 200)
        phones[i].reply(invites[i], 487)
    thread.join()
    assert result[0].status == 200
    assert hears(call, dialogs[1].rtp) and dialogs[1].rtp.got(time.monotonic(), 200)
    hang_up(call, dialogs[1])
    kedge.no_calls()


def test_two_phones_of_a_forking_pbx_answer_at_once(lab, stage, world):
    """The second 200 crosses the PBX's CANCEL: a proxy passes it on, and kedge ends it."""
    kedge, _, _ = world
    call, thread, result, phones, invites, dialogs = three_phones(stage, kedge, lab, "crossed")
    for phone, invite in zip(phones, invites):
        phone.reply(invite, 180)
    texts = [d.body() for d in dialogs]
    for i in (2, 0):
        phones[i].reply(invites[i], 200, texts[i])
    thread.join()
    assert result[0].status == 200
    ended = until(lambda: [p for p in (phones[0], phones[2]) if any(m.method == "BYE" for m in p.log)], 20)
    assert len(ended) == 1, [m.start for p in phones for m in p.log]
    loser = ended[0]
    loser.reply(loser.expect("BYE"), 200)
    phones[1].reply(phones[1].expect("CANCEL"), 200)
    phones[1].reply(invites[1], 487)
    winner = 2 if loser is phones[0] else 0
    dialogs[winner].invite = invites[winner]
    dialogs[winner].rtp.to = invites[winner].media()
    assert hears(call, dialogs[winner].rtp) and dialogs[winner].rtp.got(time.monotonic(), 200)
    hang_up(call, dialogs[winner])
    kedge.no_calls()


def test_topology_of_each_side_stays_hidden(lab, stage, world):
    """Nothing of the caller's network may be seen by the callee, and the other way round."""
    kedge, pbx, _ = world
    a = agent(stage, kedge, lab.natted_host("hidden-a", nat="symmetric"))
    b = agent(stage, kedge, lab.natted_host("hidden-b", nat="port-restricted"), "secret")
    assert a.register().status == 200 and b.register().status == 200
    talk(a, b, stage.rtp(a.host), stage.rtp(b.host, hz=700))
    for seen, hidden in ((b, a), (a, b)):
        for message in seen.log:
            text = "\r\n".join([message.start, *(f"{n}: {v}" for n, v in message.headers), message.body])
            for address in (hidden.host.addr, hidden.host.external, pbx.host.addr):
                assert address not in text, f"{seen.user} sees {address}:\n{text}"
