"""SIPp on both sides of kedge: CANCEL, BYE and re-INVITE and their races, retransmissions, refusals, Max-Forwards."""
import threading
import time

import pytest

from interop.agent import Dialog, Message
from interop.hosts import Stopwatch, until
from interop.sipp import (Sipp, ack_refusal, ack_refused_reinvite, cancel, from_callee, from_caller, invite, label,
                          maybe, pause, recv, recv_invite, reply, reply_again, reply_invite_late, sdp)

ANSWERED = [recv("INVITE", rrs="true"), reply("180"), reply("200", sdp(), retrans="500"), recv("ACK", save=True)]
TRYING = [maybe("100"), maybe("180"), maybe("183")]
TALKS = [invite(), *TRYING, recv("200", rrs="true"), from_caller("ACK", 1)]


@pytest.fixture(scope="module")
def hosts(lab):
    return tuple(lab.public_host(n) for n in ("kedge", "caller", "pbx"))


@pytest.fixture
def world(hosts, stage):
    """A fresh kedge in front of a PBX whose part SIPp or an agent plays; caller and PBX have public addresses."""
    server, caller, pbx = hosts
    return stage.kedge(server, config={"pbx": [f"udp:{pbx.addr}:5060"]}), caller, pbx


@pytest.fixture
def play(world, tmp_path):
    kedge, caller_host, pbx = world
    sipp = Sipp(tmp_path)

    def run(caller, callee, **kw):
        sipp.run(caller_host, pbx, f"{kedge.host.addr}:5060", caller, callee, **kw)
        kedge.no_calls(12)
        kedge.alive()
    yield run
    sipp.stop()


def test_call_and_caller_hangs_up(play):
    play([*TALKS, pause(100), from_caller("BYE", 2), recv("200")], [*ANSWERED, recv("BYE"), reply_again("200")], calls=50,
         rate=50)


def test_callee_hangs_up(play):
    play([*TALKS, recv("BYE"), reply_again("200")], [*ANSWERED, pause(100), from_callee("BYE", 1), recv("200")])


def test_cancel_while_ringing(play):
    play([invite(), maybe("100"), recv("180"), pause(50), cancel(), recv("200"), recv("487"), ack_refusal()],
         [recv_invite(), reply("180"), recv("CANCEL"), reply("200", contact=False), reply_invite_late("487"), recv("ACK")])


def test_cancel_before_anything_was_heard_from_the_callee(play):
    """RFC 3261 9.1: the CANCEL waits for the first provisional response; the caller need not."""
    play([invite(), recv("100"), cancel(), recv("200"), recv("487"), ack_refusal()],
         [recv_invite(), pause(300), reply_invite_late("180"), recv("CANCEL"), reply("200", contact=False),
          reply_invite_late("487"), recv("ACK")])


def test_callee_answers_although_it_was_cancelled(play):
    """The 200 crosses the CANCEL: the caller has been told 487, the callee is ACKed and hung up."""
    play([invite(), maybe("100"), recv("180"), pause(50), cancel(), recv("200"), recv("487"), ack_refusal()],
         [recv_invite(), reply("180"), recv("CANCEL"), reply("200", contact=False), reply_invite_late("200", sdp()),
          recv("ACK"), recv("BYE"), reply_again("200")])


def test_hold_and_resume_by_the_caller(play):
    held = [recv("INVITE"), reply_again("200", sdp(direction="recvonly", version=1), retrans="500"), recv("ACK")]
    play([*TALKS, from_caller("INVITE", 2, sdp(direction="sendonly", version=1)), maybe("100"), recv("200", rrs="true"),
          from_caller("ACK", 2), pause(100), from_caller("INVITE", 3, sdp(version=2)), maybe("100"),
          recv("200", rrs="true"), from_caller("ACK", 3), from_caller("BYE", 4), recv("200")],
         [*ANSWERED, *held, recv("INVITE"), reply_again("200", sdp(version=2), retrans="500"), recv("ACK"), recv("BYE"),
          reply_again("200")])


def test_hold_in_the_old_notation_and_resume_by_the_callee(play):
    """c=0.0.0.0 (RFC 2543) instead of a=sendonly."""
    play([*TALKS, recv("INVITE"), reply_again("200", sdp(direction="recvonly", version=1), retrans="500"), recv("ACK"),
          recv("INVITE"), reply_again("200", sdp(version=2), retrans="500"), recv("ACK"), recv("BYE"), reply_again("200")],
         [*ANSWERED, pause(100), from_callee("INVITE", 1, sdp(host="0.0.0.0", version=1)), maybe("100"), recv("200"),
          from_callee("ACK", 1), pause(100), from_callee("INVITE", 2, sdp(version=2)), maybe("100"), recv("200"),
          from_callee("ACK", 2), from_callee("BYE", 3), recv("200")])


def test_codec_and_address_change_in_a_reinvite(play):
    play([*TALKS, from_caller("INVITE", 2, sdp(port=24000, codecs="8", version=1)), maybe("100"), recv("200", rrs="true"),
          from_caller("ACK", 2), from_caller("BYE", 3), recv("200")],
         [*ANSWERED, recv("INVITE"), reply_again("200", sdp(port=26000, codecs="8", version=1), retrans="500"), recv("ACK"),
          recv("BYE"), reply_again("200")])


def test_refused_reinvite_leaves_the_call_up(play):
    play([*TALKS, from_caller("INVITE", 2, sdp(codecs="9", version=1)), maybe("100"), recv("488"),
          ack_refused_reinvite(2), pause(100), from_caller("BYE", 3), recv("200")],
         [*ANSWERED, recv("INVITE"), reply_again("488"), recv("ACK"), recv("BYE"), reply_again("200")])


def test_bye_overtakes_a_reinvite(play):
    """The callee hangs up while the caller's re-INVITE is on its way to it."""
    play([*TALKS, from_caller("INVITE", 2, sdp(direction="sendonly", version=1)), maybe("100"), maybe("BYE", next=1),
          recv("487"), ack_refused_reinvite(2), recv("BYE"), reply_again("200", next=9),
          label(1), reply_again("200"), recv("487"), ack_refused_reinvite(2), label(9), pause(10)],
         [*ANSWERED, recv("INVITE"), pause(20), from_callee("BYE", 1), recv("200")], calls=5)


@pytest.mark.parametrize("status", ("404", "408", "480", "486", "500", "503", "603"))
def test_refusals_reach_the_caller(play, status):
    play([invite(), maybe("100"), maybe("180"), recv(status), ack_refusal()],
         [recv("INVITE"), reply("180"), reply(status), recv("ACK")], calls=3)


def test_early_media(play):
    play([invite(), maybe("100"), recv("183"), recv("200", rrs="true"), from_caller("ACK", 1), from_caller("BYE", 2), recv("200")],
         [recv("INVITE", rrs="true"), reply("183", sdp()), pause(300), reply("200", sdp(), retrans="500"), recv("ACK"),
          recv("BYE"), reply_again("200")])


def having(what, codecs, **attributes):
    """A response whose SDP has these codecs and no others."""
    check = f'<ereg regexp="RTP/AVP {codecs}[^0-9 ]" search_in="body" check_it="true" assign_to="via"/>'
    return recv(what, **attributes).replace("/>\n", f"><action>{check}</action></recv>\n", 1)


def test_descriptions_change_until_the_answer_and_at_it(play):
    """Several 18x that differ, and a 200 that differs from the last: what came last is what the caller has."""
    play([invite(), maybe("100"), having("183", "8"), having("180", "0 8"), having("183", "0"), having("200", "8", rrs="true"),
          from_caller("ACK", 1), pause(50), from_caller("BYE", 2), recv("200")],
         [recv("INVITE", rrs="true"), reply("183", sdp(codecs="8")), pause(400), reply("180", sdp(port=20002)), pause(400),
          reply("183", sdp(port=20004, codecs="0")), pause(400), reply("200", sdp(port=20006, codecs="8"), retrans="500"),
          recv("ACK"), recv("BYE"), reply_again("200")], calls=5)


def test_max_forwards_used_up(play):
    play([invite(max_forwards=0), recv("483"), ack_refusal()], None, calls=3)


# What needs to be seen message by message is done by agents

@pytest.fixture
def ends(world, stage):
    kedge, caller_host, pbx = world
    a = stage.agent(caller_host, "caller", "", (kedge.host.addr, 5060))
    b = stage.agent(pbx, "callee", "", (kedge.host.addr, 5060), port=5060)
    return kedge, a, b


def place(a, who="someone"):
    """Sends an INVITE and returns its text."""
    dialog = Dialog(a)
    text = a.build("INVITE", f"sip:{who}@{a.domain}", body="v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n"
                   "t=0 0\r\nm=audio 4000 RTP/AVP 0\r\n", call_id=dialog.call_id, from_tag=dialog.local_tag, cseq=1)
    return text


def test_retransmitted_invite_makes_one_call(ends):
    kedge, a, b = ends
    started = kedge.stats()["calls_started"]
    text = place(a)
    for _ in range(4):
        a.send(text)
        time.sleep(0.15)
    request = b.expect("INVITE")
    b.reply(request, 486)
    assert until(lambda: any(m.status == 486 for m in a.log), 20)
    a._ack_refusal(text, next(m for m in a.log if m.status == 486))
    b.expect("ACK")
    assert kedge.stats()["calls_started"] == started + 1
    assert len({m.get("call-id") for m in b.log if m.method == "INVITE"}) == 1
    assert Message(text).get("call-id") != request.get("call-id"), "the Call-ID of the other leg must be another"
    kedge.no_calls()


def test_lost_ack_the_200_is_sent_again_and_acked_again(world, ends, stage):
    kedge, a, b = ends
    da, db = Dialog(a, stage.rtp(a.host)), Dialog(b, stage.rtp(b.host))
    result = []
    thread = threading.Thread(target=lambda: result.append(da.call("someone", ack=False)))
    thread.start()
    db.answer(b.expect("INVITE"))
    thread.join()
    first = sum(m.status == 200 for m in a.log)
    assert until(lambda: sum(m.status == 200 for m in a.log) > first), "the 200 was not sent again without an ACK"
    da.ack()
    until(lambda: False, 1.2)  # the next one would be sent in 1 s
    calm = sum(m.status == 200 for m in a.log)
    assert not until(lambda: sum(m.status == 200 for m in a.log) > calm, 4.5), "the 200 was sent again after the ACK"
    assert da.bye().status == 200
    b.reply(b.expect("BYE"), 200)


@pytest.mark.parametrize("delay_ms", (0, 2, 5, 10, 20, 40))
def test_cancel_races_with_the_answer(ends, stage, delay_ms):
    """The callee answers delay_ms after it saw the INVITE, the caller cancels about then. Either the caller gets 487, and
    the callee is hung up; or 200, and the call is up. Never both, never neither, nothing left over."""
    kedge, a, b = ends
    da, db = Dialog(a, stage.rtp(a.host)), Dialog(b, stage.rtp(b.host))
    got = []
    thread = threading.Thread(target=lambda: got.append(da.call("someone")))
    thread.start()
    request = b.expect("INVITE")
    b.reply(request, 180)
    assert until(lambda: any(m.status == 180 and m.get("call-id") == da.call_id for m in a.log))
    invite_text = next(m for m in a.log if m.get("call-id") == da.call_id)
    cancel_text = "\r\n".join([f"CANCEL sip:someone@{a.domain} SIP/2.0", "Via: " + invite_text.get("via").split(";received")[0],
                               "Max-Forwards: 70", "From: " + invite_text.get("from"), f"To: <sip:someone@{a.domain}>",
                               "Call-ID: " + da.call_id, f"CSeq: {invite_text.cseq[0]} CANCEL", "Content-Length: 0", "", ""])
    answer = threading.Timer(delay_ms / 1000, lambda: b.reply(request, 200, db.body()))
    answer.start()
    time.sleep(0.01)
    a.send(cancel_text)
    thread.join(60)
    assert got and got[0] is not None, "neither 200 nor 487 reached the caller"
    assert got[0].status in (200, 487), got
    finals = {m.status for m in a.log if m.get("call-id") == da.call_id and m.cseq[1] == "INVITE" and m.status >= 200}
    assert len(finals) == 1, finals
    # the callee's side: it answered 200, so it is ACKed; then BYE, from kedge or because the caller hangs up
    b.expect("ACK")
    if got[0].status == 200:
        assert da.bye().status == 200
    b.reply(b.expect("BYE"), 200)
    kedge.no_calls()


@pytest.mark.parametrize("head_start_ms", (-3, -1, 0, 0, 0, 1, 3))
def test_bye_from_both_sides_at_once(ends, stage, head_start_ms):
    """Each BYE is answered (200, or 481 if the dialog is over already), nobody waits, nothing is left over."""
    kedge, a, b = ends
    da, db = Dialog(a, stage.rtp(a.host)), Dialog(b, stage.rtp(b.host))
    thread = threading.Thread(target=da.call, args=("someone",))
    thread.start()
    db.answer(b.expect("INVITE"))
    thread.join()
    time.sleep(0.1)
    answers = {}

    def hang_up(name, dialog, wait_ms):
        time.sleep(max(0, wait_ms) / 1000)
        answers[name] = dialog.bye()
    threads = [threading.Thread(target=hang_up, args=("a", da, -head_start_ms)),
               threading.Thread(target=hang_up, args=("b", db, head_start_ms))]

    def serve(agent):  # a BYE may come from kedge although one was sent
        try:
            agent.reply(agent.expect("BYE"), 200)
        except AssertionError:
            pass
    for agent in (a, b):
        threading.Thread(target=serve, args=(agent,), daemon=True).start()
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert all(r is not None and r.status in (200, 481) for r in answers.values()) and len(answers) == 2, answers
    kedge.no_calls()


def test_reinvites_from_both_sides_at_once(ends, stage):
    """Glare: at least one gets 491 (RFC 3261 14.1); the call stays up and a later re-INVITE works."""
    kedge, a, b = ends
    da, db = Dialog(a, stage.rtp(a.host)), Dialog(b, stage.rtp(b.host))
    result = []
    thread = threading.Thread(target=lambda: result.append(da.call("someone")))
    thread.start()
    db.answer(b.expect("INVITE"))
    thread.join()
    answers = {}

    def reinvite(name, dialog):
        answers[name] = dialog.reinvite()

    def serve(dialog):
        try:
            request = dialog.agent.expect("INVITE", 2)
            # busy with a re-INVITE of its own: 491
            dialog.agent.reply(request, 491)
        except AssertionError:
            pass
    threads = [threading.Thread(target=f, args=args) for f, args in
               ((reinvite, ("a", da)), (reinvite, ("b", db)), (serve, (da,)), (serve, (db,)))]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert {r.status for r in answers.values()} == {491}, answers
    for d in (da, db):  # ACKs of the 491 that were sent
        while not d.agent.requests.empty():
            d.agent.requests.get()
    time.sleep(0.3)
    done = []
    thread = threading.Thread(target=lambda: done.append(da.reinvite()))
    thread.start()
    request = b.expect("INVITE")
    b.reply(request, 200, db.body())
    thread.join()
    assert done[0].status == 200, done
    b.expect("ACK")
    assert da.bye().status == 200
    b.reply(b.expect("BYE"), 200)
    kedge.no_calls()


def test_hold_works_after_a_refused_offer_of_video(ends, stage):
    """RFC 3264 8, RFC 3261 14.1: a refused re-INVITE leaves the session as it was, so the next offer has one m-line less
    than the refused one, and must pass all the same."""
    kedge, a, b = ends
    da, db = Dialog(a, stage.rtp(a.host)), Dialog(b, stage.rtp(b.host))
    done = []
    thread = threading.Thread(target=lambda: done.append(da.call("someone")))
    thread.start()
    db.answer(b.expect("INVITE"))
    thread.join()
    video = da.body() + "m=video 40000 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n"
    thread = threading.Thread(target=lambda: done.append(da.reinvite(body=video)))
    thread.start()
    b.reply(b.expect("INVITE"), 488)
    thread.join()
    assert done[1].status == 488, done
    b.expect("ACK")
    thread = threading.Thread(target=lambda: done.append(da.reinvite(direction="sendonly")))
    thread.start()
    request = b.expect("INVITE")
    assert "a=sendonly" in request.body and "m=video" not in request.body, request.body
    b.reply(request, 200, db.body(direction="recvonly"))
    thread.join()
    assert done[2].status == 200, done
    b.expect("ACK")
    assert da.bye().status == 200
    b.reply(b.expect("BYE"), 200)
    kedge.no_calls()


BROKEN_URIS = ("sip:a:b@h:50/60x=y", "sips:x/[::1]:5061", "sip:a:,@h:50/0=x=y;lr?h=v&b=c", "sip:" + "u" * 600 + "@h")


@pytest.mark.parametrize("uri", BROKEN_URIS, ids=range(len(BROKEN_URIS)))
def test_uris_that_a_library_reads_but_cannot_write(ends, uri):
    """In the request line, To and Contact of what goes on to the PBX: 400, and nothing of it goes further."""
    kedge, a, b = ends
    for method in ("REGISTER", "INVITE"):
        for to, target, contact in (("sip:x@kedge.test", uri, a.contact), (uri, "sip:kedge.test", a.contact),
                                    ("sip:x@kedge.test", "sip:kedge.test", f"<{uri}>")):
            answer = a.request(method, target, ["Contact: " + contact], to=f"<{to}>")
            assert answer is not None and answer.status == 400, (method, target, to, contact, answer)
            assert b.quiet(method, 0.05)
    kedge.alive()
    assert kedge.deaths() == 0


def test_flood_of_invites_from_strangers_in_front_of_a_pbx(hosts, stage):
    """Only so many a second reach the PBX and cost ports; the rest is refused at once and never retransmitted. A call from the
    PBX to nobody's token, and a registered phone, are no strangers."""
    server, caller, pbx = hosts
    kedge = stage.kedge(server, config={"pbx": [f"udp:{pbx.addr}:5060"], "limits": {"unregistered_calls": 5},
                                         "guard": {"strangers": 1000}})
    a = stage.agent(caller, "caller", "", (server.addr, 5060))
    b = stage.agent(pbx, "callee", "", (server.addr, 5060), port=5060)
    texts = [place(a) for _ in range(100)]
    watch = Stopwatch()
    for text in texts:
        a.send(text)
    until(lambda: sum(m.status == 503 for m in a.log) + len({m.get("call-id") for m in b.log if m.method == "INVITE"}) >= 100)
    refused = [m.get("call-id") for m in a.log if m.status == 503]
    most = 10 + 5 * watch.real  # five at once, and five a second while kedge takes them all
    assert 100 - most <= len(refused) <= 95 and len(set(refused)) == len(refused), (len(refused), most)
    assert kedge.stats()["calls_started"] <= most
    time.sleep(1.2)
    assert len([m for m in a.log if m.status == 503]) == len(refused), "a refusal was retransmitted"
    thread = threading.Thread(target=a.register)
    thread.start()
    register = b.expect("REGISTER")
    b.reply(register, 200, headers=["Contact: " + register.get("contact")])
    thread.join()
    started = kedge.stats()["calls_started"]
    for text in [place(a) for _ in range(20)]:
        a.send(text)
    assert until(lambda: kedge.stats()["calls_started"] == started + 20)


def test_request_for_an_unknown_dialog_gets_481(ends):
    _, a, _ = ends
    answer = a.request("BYE", f"sip:x@{a.server[0]}", to="<sip:x@kedge.test>;tag=nobody", auth=False)
    assert answer.status == 481, answer


def test_unknown_method_gets_501_or_405(ends):
    _, a, _ = ends
    answer = a.request("JUGGLE", f"sip:x@{a.server[0]}", auth=False)
    assert answer.status in (405, 501), answer


def test_a_loop_is_refused(ends):
    """An INVITE that carries our own Via came back to us (RFC 3261 16.3 step 4): 482, or the hop count ends it."""
    kedge, a, b = ends
    text = place(a)
    a.send(text)
    request = b.expect("INVITE")
    b.reply(request, 100)
    # what the PBX got from us, sent back to us with another top Via, as a looping proxy does
    loop = b.build("INVITE", f"sip:someone@{b.domain}", [f"Via: {request.get('via')}"], call_id=request.get("call-id"),
                   from_tag=request.tag("from"), body=request.body)
    answer = b.transact(loop, 5)
    assert answer is not None and answer.status in (482, 404, 480), answer
    b.reply(request, 486)
    assert until(lambda: any(m.status == 486 for m in a.log), 20)
