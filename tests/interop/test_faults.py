"""Faults of the installation: each gives a clear error, and leaves established calls untouched."""
import itertools
import os
import re
import socket
import time

import pytest

from interop.agent import Dialog, talk
from interop.hosts import Stopwatch, socket_in, until


_numbers = itertools.count()


def make(lab, stage, name, config=None, start=True, accounts=("alice", "bob", "carol", "dave")):
    server = lab.public_host(f"kedge-{name}-{next(_numbers)}")
    return stage.kedge(server, config=config, accounts={a: "pw-" + a for a in accounts}, start=start)


def agent(lab, stage, kedge, user, password=None, **kw):
    return stage.agent(lab.public_host(f"{user}-{next(_numbers)}"), user, password or "pw-" + user,
                       (kedge.host.addr, 5060), **kw)


def registered_pair(lab, stage, kedge, names=("alice", "bob")):
    agents = [agent(lab, stage, kedge, name) for name in names]
    for a in agents:
        assert a.register().status == 200
    return agents


def call(lab, stage, kedge, names=("alice", "bob")):
    agents = registered_pair(lab, stage, kedge, names)
    return talk(*agents, *[stage.rtp(a.host, hz=hz) for a, hz in zip(agents, (400, 700))])


def untouched(kedge, a, b):
    """The call goes on: audio both ways now, and it ends by BYE."""
    mark = time.monotonic()
    assert a.rtp.got(mark, 300) and b.rtp.got(mark, 300), "the established call lost its audio"
    assert a.bye().status == 200
    b.agent.reply(b.agent.expect("BYE"), 200)
    kedge.no_calls()


@pytest.mark.parametrize("kind", ("udp", "tcp"))
def test_sip_port_in_use_is_named_and_kedge_ends(lab, stage, kind):
    kedge = make(lab, stage, "port-" + kind, start=False)
    with socket_in(kedge.host, socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as taken:
        taken.bind((kedge.host.addr, 5060))
        if kind == "tcp":
            taken.listen()
        done = kedge.run(timeout=20)
    assert done.returncode != 0
    assert re.search(rf"{kind}:{re.escape(kedge.host.addr)}:5060", done.stdout), done.stdout
    assert "in use" in done.stdout.lower() or "already" in done.stdout.lower(), done.stdout


def test_second_kedge_on_one_control_socket_is_refused_and_the_first_goes_on(lab, stage):
    kedge = make(lab, stage, "twice")
    a, b = call(lab, stage, kedge)
    done = kedge.run(timeout=20)
    assert done.returncode != 0 and done.stdout.strip(), "a second kedge must say why it does not start"
    kedge.alive()
    untouched(kedge, a, b)


@pytest.mark.parametrize("how", ("folder is a file", "file is a folder"))
def test_store_that_cannot_be_opened_is_named(lab, stage, how):
    kedge = make(lab, stage, "store", start=False)
    place = stage.folder / "place"
    if how == "folder is a file":
        place.write_text("not a folder")
        path = str(place / "kedge.db")
    else:
        place.mkdir()
        path = str(place)
    kedge.rows["store"] = path
    kedge.write_config()
    done = kedge.run(timeout=20)
    assert done.returncode != 0 and path in done.stdout, done.stdout


def test_store_that_is_no_database_is_named_and_left_alone(lab, stage):
    kedge = make(lab, stage, "garbage-store", start=False)
    path = kedge.rows["store"]
    with open(path, "wb") as f:
        f.write(b"this is somebody's diary, not a database " * 200)
    done = kedge.run(timeout=20)
    assert done.returncode != 0 and path in done.stdout, done.stdout
    with open(path, "rb") as f:
        assert f.read(40) == b"this is somebody's diary, not a database "[:40]


def test_store_that_becomes_unwritable_is_reported_and_calls_go_on(lab, stage):
    """Another process holds the database's write lock: as good as a full disk to kedge."""
    import sqlite3
    kedge = make(lab, stage, "locked")
    a, b = call(lab, stage, kedge)
    lock = sqlite3.connect(kedge.rows["store"], isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
        carol = agent(lab, stage, kedge, "carol")
        answer = carol.register(timeout=12)
        assert answer is not None and answer.status in (200, 500, 503), f"REGISTER while the store is locked: {answer}"
        kedge.alive()
        mark = time.monotonic()
        assert a.rtp.got(mark, 300) and b.rtp.got(mark, 300)
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    untouched(kedge, a, b)
    assert until(lambda: kedge.stats()["store_healthy"], 15, 0.2), kedge.stats()


def test_no_free_media_ports_means_503_and_established_calls_are_untouched(lab, stage):
    """Room for two calls: each takes an even port and the next one on either side."""
    kedge = make(lab, stage, "ports", {"media": {"ports": "30000-30007"}})
    a, b = call(lab, stage, kedge)
    c, d = call(lab, stage, kedge, ("carol", "dave"))
    more = agent(lab, stage, kedge, "carol")
    assert more.register().status == 200
    refused = Dialog(more, stage.rtp(more.host)).call("dave")
    assert refused is not None and refused.status == 503, f"without ports: {refused}"
    assert refused.get("retry-after"), "503 without Retry-After"
    assert kedge.stats()["calls_refused"] >= 1
    assert len(kedge.calls()) == 2
    [why] = [r for r in kedge.json("calls", "--recent") if r["state"] == "ended" or r["from"].find("carol") >= 0][:1]
    assert "port" in why["reason"], why
    mark = time.monotonic()
    assert all(x.rtp.got(mark, 300) for x in (a, b, c, d))
    assert c.bye().status == 200
    d.agent.reply(d.agent.expect("BYE"), 200)
    untouched(kedge, a, b)


def test_broken_configuration_on_reload_is_refused_with_file_and_line(lab, stage):
    kedge = make(lab, stage, "reload")
    a, b = call(lab, stage, kedge)
    with open(kedge.config_file, encoding="utf-8") as f:
        good = f.read()
    with open(kedge.config_file, "w", encoding="utf-8") as f:
        f.write(good + "media:\n  ports: apples\n" if "media:" not in good else good.replace('ports: "30000-39999"', "ports: apples"))
    line = next(i for i, text in enumerate(open(kedge.config_file, encoding="utf-8"), 1) if "apples" in text)
    done = kedge.try_ctl("reload")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert f"{kedge.config_file}:{line}" in said, said
    assert "ports" in said, said
    check = kedge.run("-t")
    assert check.returncode == 1 and f"{kedge.config_file}:{line}" in check.stdout
    kedge.alive()
    c = agent(lab, stage, kedge, "carol")
    assert c.register().status == 200, "the old configuration must still serve"
    untouched(kedge, a, b)


def test_what_is_wrong_is_said_also_of_a_value_that_is_cut_in_a_character(lab, stage):
    kedge = make(lab, stage, "reload")
    with open(kedge.config_file, "a", encoding="utf-8") as f:
        f.write("dns:\n  servers: [x" + "\u00e4" * 60 + "]\n")
    done = kedge.try_ctl("reload")
    assert done.returncode == 1 and "dns.servers" in done.stderr and "x\u00e4\u00e4" in done.stderr, done


def test_good_reload_changes_and_says_what_needs_a_restart(lab, stage):
    kedge = make(lab, stage, "reload2")
    a, b = call(lab, stage, kedge)
    rows = {**kedge.rows, "media": {**kedge.rows["media"], "ports": "40000-40099"}, "store": kedge.rows["store"] + "2"}
    kedge.write_config(rows)
    done = kedge.try_ctl("reload")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "store" in done.stdout + done.stderr, "it must say that the store needs a restart"
    old = {m["local"] for c in kedge.calls() for leg in c["legs"] for m in leg["media"]}
    assert old and all(30000 <= int(local.rpartition(":")[2]) <= 39999 for local in old)
    c, d = call(lab, stage, kedge, ("carol", "dave"))
    new = {m["local"] for x in kedge.calls() for leg in x["legs"] for m in leg["media"]} - old
    assert new and all(40000 <= int(local.rpartition(":")[2]) <= 40099 for local in new), new
    assert c.bye().status == 200
    d.agent.reply(d.agent.expect("BYE"), 200)
    untouched(kedge, a, b)


def test_sighup_reloads_as_well(lab, stage):
    import signal
    kedge = make(lab, stage, "sighup")
    kedge.write_config({**kedge.rows, "media": {**kedge.rows["media"], "ports": "40000-40099"}})
    kedge.process.send_signal(signal.SIGHUP)
    assert until(lambda: "reloaded" in kedge.log(), 10), kedge.log()[-500:]
    a, b = call(lab, stage, kedge)
    assert all(40000 <= int(m["local"].rpartition(":")[2]) <= 40099 for leg in kedge.calls()[0]["legs"] for m in leg["media"])
    untouched(kedge, a, b)


def test_wrong_password_and_unknown_user_look_alike(lab, stage):
    """RFC 3261 22: nobody learns which names exist."""
    kedge = make(lab, stage, "passwords")
    wrong = agent(lab, stage, kedge, "alice", "not her word")
    unknown = agent(lab, stage, kedge, "nobody-here", "whatever")
    answers = [wrong.register(), unknown.register()]
    assert {r.status for r in answers} <= {401, 403} and len({r.status for r in answers}) == 1, answers
    assert len({r.start for r in answers}) == 1
    assert kedge.registrations() == []
    assert kedge.stats()["auth_failures"] >= 2


def test_call_with_a_wrong_password_is_refused(lab, stage):
    kedge = make(lab, stage, "badcall")
    _, b = registered_pair(lab, stage, kedge)
    caller = agent(lab, stage, kedge, "carol", "wrong")
    answer = Dialog(caller, stage.rtp(caller.host)).call("bob")
    assert answer.status in (403, 407), answer
    assert b.quiet("INVITE", 0.5), "the phone rang"


def test_nobody_calls_in_anothers_name(lab, stage):
    kedge = make(lab, stage, "identity")
    a, b = registered_pair(lab, stage, kedge)
    answer = a.request("INVITE", "sip:bob@kedge.test", body=Dialog(a, stage.rtp(a.host)).body(), from_user="carol")
    assert answer.status == 403, answer
    assert b.quiet("INVITE", 0.5)


def test_calls_to_nobody_and_to_a_phone_that_is_off(lab, stage):
    kedge = make(lab, stage, "nobody")
    a, _ = registered_pair(lab, stage, kedge)
    assert Dialog(a, stage.rtp(a.host)).call("nobody-here").status == 404
    assert Dialog(a, stage.rtp(a.host)).call("dave").status == 480


def test_phone_that_does_not_answer_anything_fails_the_call_soon(lab, stage):
    kedge = make(lab, stage, "silent")
    a, b = registered_pair(lab, stage, kedge)
    b.close()
    watch = Stopwatch()
    answer = Dialog(a, stage.rtp(a.host)).call("bob", timeout=20)
    assert answer is not None and answer.status in (408, 480), answer
    assert watch.fair < 10
    kedge.no_calls(40)


def test_sigterm_ends_calls_with_bye_and_kedge_with_0(lab, stage):
    kedge = make(lab, stage, "term")
    a, b = call(lab, stage, kedge)
    import signal
    kedge.process.send_signal(signal.SIGTERM)
    for d in (a, b):
        d.agent.reply(d.agent.expect("BYE"), 200)
    assert kedge.process.wait(15) == 0, kedge.log()[-1000:]
    kedge.stop()
    assert not os.path.exists(kedge.control), "the control socket was left behind"
