"""An INVITE that a PBX forks: early dialogs, each with a To tag and a description of its own; only one of them answers."""
import threading
import time

import pytest

from interop.agent import Dialog, Message, sdp
from interop.hosts import until
from interop.test_trickle import PACKAGE, TRICKLES, body, fragment

MU, A = (0,), (8,)  # codecs tell whose description it is


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "caller", "pbx")]


class Fork:
    """A call whose INVITE the PBX has received. say() answers it in the name of one of several phones."""

    def __init__(self, stage, hosts, ice=None):
        self.kedge = stage.kedge(hosts[0], config={"pbx": [f"udp:{hosts[2].addr}:5060"]})
        self.caller = stage.agent(hosts[1], "caller", "", (self.kedge.host.addr, 5060))
        self.pbx = stage.agent(hosts[2], "callee", "", (self.kedge.host.addr, 5060), port=5060)
        self.call, self.phone = (Dialog(agent, stage.rtp(agent.host)) for agent in (self.caller, self.pbx))
        self.provisional, self.result = [], []
        how = {"headers": TRICKLES, "body": body(self.call, ice)} if ice else {}
        self.thread = threading.Thread(target=lambda: self.result.append(self.call.call("someone", provisional=self.provisional, **how)))
        self.thread.start()
        self.invite = self.pbx.expect("INVITE")

    def say(self, status, tag, codecs=None, headers=(), text=None):
        text = text or (self.phone.body(codecs=codecs) if codecs else "")
        count = len(self.ringing())
        sent = Message(self.pbx.reply(self.invite, status, text, headers, tag=tag))
        if status == 200:
            self.thread.join()
            self.phone.call_id, self.phone.target = sent.get("call-id"), self.invite.contact()
            self.phone.local, self.phone.remote = sent.get("to"), self.invite.get("from")
        else:
            assert status == 100 or until(lambda: len(self.ringing()) > count, 20)
        return sent

    def ringing(self):
        return [m for m in self.provisional if m.status > 100]

    def heard(self):
        return self.ringing()[-1]

    def end(self):
        """The caller hangs up, in the dialog of whoever answered."""
        done = []
        thread = threading.Thread(target=lambda: done.append(self.call.bye()))
        thread.start()
        bye = self.pbx.expect("BYE")
        self.pbx.reply(bye, 200)
        thread.join()
        assert done[0].status == 200
        self.kedge.no_calls()
        return bye


@pytest.fixture
def fork(hosts, stage):
    return lambda ice=None: Fork(stage, hosts, ice)


def has(message, codec):
    return f"RTP/AVP {codec[0]}\r\n" in message.body


def test_the_description_follows_the_phone_that_speaks(fork):
    call = fork()
    call.say(183, "one", MU)
    assert has(call.heard(), MU)
    call.say(183, "two", A)
    assert has(call.heard(), A)
    call.say(180, "three")
    assert not call.heard().body
    call.say(200, "two", A)
    assert call.result[0].status == 200 and has(call.result[0], A)
    assert call.end().tag("to") == "two"


def test_an_answer_without_sdp_has_that_of_its_own_early_dialog(fork):
    call = fork()
    call.say(183, "one", MU)
    call.say(183, "two", A)
    call.say(200, "one")
    assert call.result[0].status == 200 and has(call.result[0], MU)
    assert call.pbx.expect("ACK").tag("to") == "one"
    assert call.end().tag("to") == "one"


def test_an_answer_does_not_take_the_description_of_another_phone(fork):
    call = fork()
    call.say(183, "one", MU)
    call.say(200, "two")
    assert call.result[0].status == 502
    call.pbx.expect("ACK")
    call.pbx.reply(call.pbx.expect("BYE"), 200)
    call.kedge.no_calls()


@pytest.mark.parametrize("phone,status", ((2, 200), (1, 502)))
def test_the_newest_four_early_dialogs_are_remembered(fork, phone, status):
    """Others must repeat their description in the 200, as nearly all do."""
    call = fork()
    for i in range(6):
        call.say(183, f"phone{i}", MU if i % 2 else A)
    call.say(200, f"phone{phone}")
    assert call.result[0].status == status
    if status == 200:
        assert has(call.result[0], A)
        call.end()
    else:
        call.pbx.expect("ACK")
        call.pbx.reply(call.pbx.expect("BYE"), 200)
        call.kedge.no_calls()


def test_candidates_go_to_the_early_dialog_whose_description_is_taken(fork):
    call = fork(ice="aaaa")
    routes = [f"Record-Route: <sip:{call.pbx.at};lr;n=1>", "Record-Route: <sip:192.0.2.9;lr;n=2>", *TRICKLES]
    call.say(183, "one", headers=TRICKLES, text=body(call.phone, "bbbb"))
    call.say(183, "two", headers=routes, text=body(call.phone, "cccc"))
    call.say(180, "three", headers=TRICKLES)
    first = call.provisional[0]
    d = call.call
    d.local, d.remote, d.target, d.cseq = first.get("from"), first.get("to"), first.contact(), first.cseq[0]
    answer = []
    thread = threading.Thread(target=lambda: answer.append(d.request("INFO", PACKAGE, fragment(d, "aaaa"))))
    thread.start()
    info = call.pbx.expect("INFO")
    assert info.tag("to") == "two"
    assert [r.partition("n=")[2][0] for r in info.all("route")] == ["2", "1"], info.all("route")
    call.pbx.reply(info, 200)
    thread.join()
    assert answer[0].status == 200
    call.say(200, "one", text=body(call.phone, "bbbb"))
    assert call.result[0].status == 200
    assert call.end().tag("to") == "one"


# Who is heard. Each phone behind the PBX plays a tone of its own.


def media(stage, call, count=2):
    return [stage.rtp(call.pbx.host, hz=400 + 200 * i) for i in range(count)]


def body_of(rtp, codecs=(0,), version=1):
    return sdp(rtp.ip, rtp.port, codecs=codecs, version=version)


def frame(rtp):
    """20 ms of its tone."""
    return rtp.packet()[12:]


def hears(call, rtp, seconds=20):
    """The caller hears this phone now."""
    since, its = time.monotonic(), frame(rtp)
    return until(lambda: any(at > since and packet[12:] == its for at, _, packet in list(call.call.rtp.received)), seconds)


def play(call, *rtps):
    for rtp in rtps:
        rtp.to = call.invite.media()


def test_early_media_of_who_speaks_last_and_audio_of_the_winner(fork, stage):
    call = fork()
    one, two = media(stage, call)
    play(call, one, two)
    call.call.rtp.to = call.say(183, "one", text=body_of(one)) and call.heard().media()
    assert hears(call, one)
    call.say(183, "two", text=body_of(two))
    assert hears(call, two), "the newest description holds"
    call.say(180, "three")
    call.say(200, "one", text=body_of(one))
    assert call.result[0].status == 200
    assert hears(call, one) and one.got(time.monotonic(), 200)
    assert call.end().tag("to") == "one"


def test_the_answer_may_come_from_elsewhere_than_the_early_media(fork, stage):
    """Announcement by a media server, then the phone: 183 and 200 of one dialog differ."""
    call = fork()
    server, phone = media(stage, call)
    play(call, server, phone)
    call.call.rtp.to = call.say(183, "one", text=body_of(server)) and call.heard().media()
    assert hears(call, server)
    call.say(183, "one", text=body_of(phone, version=2))
    assert hears(call, phone)
    call.say(183, "one", text=body_of(server, version=3))
    assert hears(call, server)
    call.say(200, "one", text=body_of(phone, version=4))
    assert call.result[0].status == 200
    assert hears(call, phone) and phone.got(time.monotonic(), 200)
    call.end()


@pytest.mark.parametrize("order", (("one", "two", "three"), ("three", "one", "two")))
def test_the_first_answer_wins_and_every_other_is_ended(fork, stage, order):
    call = fork()
    rtp = dict(zip(order, media(stage, call, 3)))
    for tag in ("one", "two", "three"):
        call.say(183, tag, text=body_of(rtp[tag]))
    play(call, *rtp.values())
    winner, *others = order
    call.say(200, winner, text=body_of(rtp[winner]))
    for tag in others:
        call.pbx.reply(call.invite, 200, body_of(rtp[tag]), tag=tag)
    assert call.result[0].status == 200
    acks, byes = [], []
    while len(byes) < 2:
        byes.append(call.pbx.expect("BYE"))
        call.pbx.reply(byes[-1], 200)
    acks = [m for m in call.pbx.log if m.method == "ACK"]
    assert {a.tag("to") for a in acks} == set(order), "each 200 is acknowledged"
    assert {b.tag("to") for b in byes} == set(others)
    assert hears(call, rtp[winner]) and rtp[winner].got(time.monotonic(), 200)
    assert call.end().tag("to") == winner


def test_answers_after_the_call_was_given_up_are_ended(fork, stage):
    """The caller hangs up; two phones behind the PBX answer at that moment."""
    call = fork()
    one, two = media(stage, call)
    call.say(180, "one")
    ringing = call.heard()
    uri, via = "sip:someone@kedge.test", ringing.get("via").partition(";received")[0].replace("rport=", "x=")
    cancel = "\r\n".join([f"CANCEL {uri} SIP/2.0", "Via: " + via, "Max-Forwards: 70", "From: " + ringing.get("from"),
                          f"To: <{uri}>", "Call-ID: " + ringing.get("call-id"), f"CSeq: {ringing.cseq[0]} CANCEL",
                          "Content-Length: 0", "", ""])
    assert call.caller.transact(cancel).status == 200
    call.thread.join()
    assert call.result[0].status == 487
    call.pbx.reply(call.pbx.expect("CANCEL"), 200)
    for tag, rtp in (("one", one), ("two", two)):
        call.pbx.reply(call.invite, 200, body_of(rtp), tag=tag)
    byes = []
    for _ in range(2):  # each answered before the next is waited for, or the first one could come twice
        byes.append(call.pbx.expect("BYE"))
        call.pbx.reply(byes[-1], 200)
    assert {b.tag("to") for b in byes} == {"one", "two"}
    assert {m.tag("to") for m in call.pbx.log if m.method == "ACK"} == {"one", "two"}
    call.kedge.no_calls()
