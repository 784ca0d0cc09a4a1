"""The contract that others script against: kedge -t, kedgectl's commands, and the names in its JSON."""
import json
import os
import subprocess
import time

import pytest

from interop.agent import talk
from interop.kedge import BUILD, ROOT, Kedge
from interop.hosts import until

CALL = {"id", "state", "from", "to", "started", "path", "reason", "legs"}
LEG = {"user", "call_id", "transport", "remote", "nat", "media"}
MEDIUM = {"kind", "local", "remote", "proof", "codec", "packets_in", "packets_out", "bytes_in", "bytes_out", "lost",
          "jitter_ms", "mos"}


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server = lab.public_host("kedge")
    kedge = long_stage.kedge(server, accounts={"alice": "a-word", "bob": "b-word"})
    agents = [long_stage.agent(lab.public_host(u), u, u[0] + "-word", (server.addr, 5060)) for u in ("alice", "bob")]
    for a in agents:
        assert a.register().status == 200
    return kedge, agents


@pytest.fixture
def call(world, stage):
    kedge, agents = world
    a, b = talk(*agents, *[stage.rtp(x.host, hz=hz) for x, hz in zip(agents, (400, 700))])
    assert a.rtp.got(ms=1000, timeout=15) and b.rtp.got(ms=1000, timeout=15)
    yield kedge, a, b
    if kedge.calls():
        a.bye()
        b.agent.reply(b.agent.expect("BYE"), 200)
    kedge.no_calls()


def calm(medium):
    """This machine sends and receives as evenly as a line does."""
    return medium["packets_in"] > 20 and medium["jitter_ms"] < 50 and medium["mos"] > 3.5


def test_calls_json(call):
    kedge, a, b = call

    def calm_call():
        [found] = kedge.calls()
        return found if all(calm(m) for leg in found["legs"] for m in leg["media"]) else None
    c = until(calm_call, 30, 0.2) or kedge.calls()[0]
    assert CALL <= set(c), CALL - set(c)
    assert c["path"] == "anchored" and isinstance(c["reason"], str) and c["reason"]
    assert isinstance(c["id"], str) and c["id"]
    assert "alice" in c["from"] and "bob" in c["to"]
    assert len(c["legs"]) == 2
    for leg, end in zip(c["legs"], (a, b)):
        assert LEG <= set(leg), LEG - set(leg)
        assert leg["user"] == end.agent.user and leg["transport"] == "udp"
        assert leg["remote"] == f"{end.agent.ip}:{end.agent.port}"
        [m] = leg["media"]
        assert MEDIUM <= set(m), MEDIUM - set(m)
        assert m["kind"] == "audio" and m["codec"] == "PCMU"
        assert m["remote"] == f"{end.rtp.ip}:{end.rtp.port}"
        assert m["local"].rpartition(":")[0] == kedge.host.addr
        assert m["proof"] in ("sdp", "same-address", "first-packets")
        assert m["packets_in"] > 20 and m["packets_out"] > 20
        assert m["bytes_in"] == m["packets_in"] * 172 and m["bytes_out"] == m["packets_out"] * 172
        assert m["lost"] == 0 and m["jitter_ms"] < 50 and 3.5 < m["mos"] <= 4.6, m
    assert c["legs"][0]["call_id"] != c["legs"][1]["call_id"], "a true B2BUA has a Call-ID of its own on each leg"


def test_calls_table_recent_and_explain(call):
    kedge, a, b = call
    [c] = kedge.calls()
    table = kedge.ctl("calls")
    assert c["id"][:8] in table and "alice" in table and "bob" in table
    text = kedge.ctl("explain", c["id"])
    assert "anchored" in text or "relay" in text, text
    assert len(text.split()) > 10, text
    assert kedge.try_ctl("explain", "no-such-call").returncode != 0
    assert a.bye().status == 200
    b.agent.reply(b.agent.expect("BYE"), 200)
    kedge.no_calls()
    assert any(r["id"] == c["id"] for r in kedge.json("calls", "--recent"))
    assert kedge.ctl("explain", c["id"]).strip(), "an ended call can still be explained"


def test_hangup(call):
    kedge, a, b = call
    [c] = kedge.calls()
    kedge.ctl("hangup", c["id"])
    for end in (a, b):
        end.agent.reply(end.agent.expect("BYE"), 200)
    kedge.no_calls()
    assert kedge.try_ctl("hangup", c["id"]).returncode != 0


def test_registrations(world):
    kedge, agents = world
    shown = {r["user"]: r for r in kedge.registrations()}
    assert set(shown) == {"alice", "bob"}
    for a in agents:
        r = shown[a.user]
        assert {"user", "contact", "transport", "remote", "nat", "expires_in"} <= set(r), r
        assert r["remote"] == f"{a.ip}:{a.port}" and r["transport"] == "udp" and not r["nat"]
        assert 0 < r["expires_in"] <= 3600
    table = kedge.ctl("registrations")
    assert "alice" in table and agents[0].ip in table


def test_stats_and_version(world):
    kedge, _ = world
    stats = kedge.stats()
    here = os.path.join(ROOT, "b2bua/counters.inc")
    with open(here, encoding="utf-8") as f:
        names = [line[2:line.index(",")] for line in f if line.startswith("C(")]
    assert names and set(names) <= set(stats), set(names) - set(stats)
    assert stats["registers_ok"] >= 2
    assert "registers_ok" in kedge.ctl("stats") or "REGISTER" in kedge.ctl("stats")
    assert "kedge" in kedge.ctl("version").lower()


def test_accounts(world):
    kedge, _ = world
    made = kedge.ctl("account", "add", "carol", "--generate")
    password = made.split()[-1]
    assert len(password) >= 12, made
    assert "carol" in kedge.ctl("account", "list")
    again = kedge.try_ctl("account", "add", "carol", "--generate")
    assert again.returncode != 0 and "carol" in again.stdout + again.stderr
    kedge.ctl("account", "add", "dave", "--password-stdin", text="d-word\n")
    for name in ("carol", "dave"):
        kedge.ctl("account", "remove", name)
    assert kedge.try_ctl("account", "remove", "carol").returncode != 0
    bad = kedge.try_ctl("account", "add", "no spaces", "--generate")
    assert bad.returncode != 0 and bad.stderr.strip()


def test_generated_password_registers_a_phone(lab, stage, world):
    kedge, _ = world
    password = kedge.ctl("account", "add", "erin", "--generate").split()[-1]
    erin = stage.agent(lab.public_host("erin"), "erin", password, (kedge.host.addr, 5060))
    assert erin.register().status == 200
    kedge.ctl("account", "remove", "erin")
    assert until(lambda: all(r["user"] != "erin" for r in kedge.registrations()), 20), "the contact must go with the account"
    assert erin.register().status in (401, 403)


def test_passwords_are_in_no_log_and_not_readable_in_the_store(world):
    kedge, _ = world
    for word in ("a-word", "b-word"):
        assert word not in kedge.log()
        for name in os.listdir(kedge.folder):
            if name.startswith("kedge.db"):
                with open(os.path.join(kedge.folder, name), "rb") as f:
                    assert word.encode() not in f.read(), name


def test_control_socket_and_store_are_private(world):
    kedge, _ = world
    for path in (kedge.control, kedge.rows["store"]):
        assert os.stat(path).st_mode & 0o007 == 0, oct(os.stat(path).st_mode)


def test_kedgectl_says_so_when_there_is_no_kedge(tmp_path):
    done = subprocess.run([os.path.join(BUILD, "kedgectl"), "-s", str(tmp_path / "none.sock"), "version"], text=True,
                          capture_output=True, check=False, timeout=10)
    assert done.returncode != 0 and str(tmp_path / "none.sock") in done.stderr, done
    done = subprocess.run([os.path.join(BUILD, "kedgectl"), "dance"], text=True, capture_output=True, check=False, timeout=10)
    assert done.returncode != 0 and done.stderr.strip()


@pytest.mark.parametrize("text,line,word", (
    ("sip:\n  listen: [ \"smoke:0.0.0.0:5060\" ]\n", 2, "listen"),
    ("sip:\n  listen: [ \"udp:0.0.0.0:99999\" ]\n", 2, "listen"),
    ("sip:\n  listne: [ \"udp:0.0.0.0:5060\" ]\n", 2, "listne"),
    ("store: /tmp/x.db\nmedia:\n  ports: 40000-30000\n", 3, "ports"),
    ("media:\n  policy: sometimes\n", 2, "policy"),
    ("media: [ 1, 2 ]\n", 1, "media"),
    ("pbx: [ \"udp:pbx_1.example.org:5060\" ]\n", 1, "pbx"),
    ("sip:\n  domain: a b\n", 2, "domain"),
    ("store: one\nstore: two\n", 2, "store"),
    ("sip:\n\tlisten: x\n", 2, ""),
    ("sip: { listen: [ \"udp:0.0.0.0:5060\"\n", 1, ""),
), ids=("transport", "port", "unknown-name", "range", "word", "type", "host-name", "domain", "twice", "tab", "not-yaml"))
def test_check_of_a_configuration_names_file_and_line(tmp_path, text, line, word):
    kedge = Kedge(tmp_path)
    with open(kedge.config_file, "w", encoding="utf-8") as f:
        f.write(text)
    done = kedge.run("-t")
    assert done.returncode == 1, done
    lines = [t for t in done.stdout.splitlines() if t.startswith(f"{kedge.config_file}:")]
    assert lines, done.stdout
    numbers = [int(t.split(":")[1]) for t in lines]
    assert any(abs(n - line) <= (0 if word else 1) for n in numbers), done.stdout
    assert all(len(t.split(":", 2)[2].split()) >= 3 for t in lines), f"a sentence is wanted: {done.stdout}"
    assert word in done.stdout


def test_check_finds_every_error_not_only_the_first(tmp_path):
    kedge = Kedge(tmp_path)
    with open(kedge.config_file, "w", encoding="utf-8") as f:
        f.write("sip:\n  listen: [ \"smoke:1.2.3.4:1\" ]\nmedia:\n  policy: maybe\n  ports: x\n")
    out = kedge.run("-t").stdout
    for line in (2, 4, 5):
        assert f"{kedge.config_file}:{line}:" in out, out


def test_check_of_a_good_and_of_a_missing_file(tmp_path):
    kedge = Kedge(tmp_path)
    assert kedge.run("-t").returncode == 0
    os.unlink(kedge.config_file)
    done = kedge.run("-t")
    assert done.returncode == 1 and kedge.config_file in done.stdout


@pytest.mark.parametrize("rows, words", (
    ({"media": {"address": "192.0.2.77"}}, ("media.address", "192.0.2.77", "no address of this machine")),
    ({"sip": {"listen": ["udp:127.0.0.1:5060", "tcp:192.0.2.78:5060"]}}, ("sip.listen", "192.0.2.78")),
    ({"tls": {"certificate": "/nowhere/cert.pem", "key": "/nowhere/key.pem"}}, ("/nowhere/cert.pem", "tls.certificate")),
    ({"tls": {"ca": "/etc/hostname"}}, ("/etc/hostname", "tls.ca")),
    ({"store": "/etc/hostname/kedge.db"}, ("store: /etc/hostname/kedge.db", "that is no folder")),
    ({"store": "/usr/lib"}, ("store: /usr/lib", "it is a folder")),
    ({"control": "unix:/etc/hostname/x/control.sock"}, ("control: /etc/hostname/x/control.sock", "Not a directory")),
    ({"cdr": {"file": "/nowhere/cdr.jsonl"}}, ("cdr.file: /nowhere/cdr.jsonl", "no such folder")),
    ({"cdr": {"file": "/var"}}, ("cdr.file: /var", "it is a folder")),
), ids=("media-address", "listen", "certificate", "ca", "store-in-a-file", "store-is-a-folder",
        "control-in-a-file", "cdr-without-folder", "cdr-is-a-folder"))
def test_check_of_what_this_machine_does_not_have(tmp_path, rows, words):
    """Read well, but kedge could not start with it, or carry a call."""
    done = Kedge(tmp_path, config=rows).run("-t")
    assert done.returncode == 1 and all(word in done.stdout for word in words), done.stdout
    assert not any(name.endswith(".pem") for name in os.listdir(tmp_path)), "a check makes no files"


def test_check_of_folders_that_kedge_makes(tmp_path):
    rows = {"store": str(tmp_path / "a" / "b" / "kedge.db"), "control": f"unix:{tmp_path}/c/d/control.sock"}
    kedge = Kedge(tmp_path)
    kedge.rows.update(rows)
    kedge.write_config()
    assert kedge.run("-t").returncode == 0
    assert not (tmp_path / "a").exists() and not (tmp_path / "c").exists(), "a check makes no folders"


def test_the_example_configuration_is_good():
    done = subprocess.run([os.path.join(BUILD, "kedge"), "-t", "-c", os.path.join(ROOT, "conf/kedge.yaml")], text=True,
                          capture_output=True, check=False, timeout=10)
    assert done.returncode == 0, done


def test_json_is_one_document_and_errors_go_to_stderr(world):
    kedge, _ = world
    for what in ("calls", "registrations", "stats"):
        done = kedge.try_ctl(what, "--json")
        assert done.returncode == 0 and not done.stderr
        json.loads(done.stdout)
    done = kedge.try_ctl("explain", "nothing")
    assert done.returncode != 0 and not done.stdout and done.stderr.strip()


def test_account_of_an_earlier_domain_is_made_anew(lab, tmp_path):
    """Its stored hash holds the old domain, so it cannot register; adding it again is all that it takes."""
    kedge = Kedge(tmp_path, lab.public_host("kedge-renamed"), accounts={"alice": "a-word"})
    kedge.start()
    kedge.stop()
    kedge.rows["sip"]["domain"] = "other.test"
    kedge.write_config()
    kedge.accounts = {}
    kedge.start()
    try:
        assert "alice was made for the domain kedge.test" in kedge.log()
        assert "alice" not in kedge.ctl("account", "list")
        kedge.add_account("alice", "a-word")
        assert "alice" in kedge.ctl("account", "list")
    finally:
        kedge.stop()


def test_a_name_that_is_not_utf8_is_refused_in_words(world):
    kedge, _ = world
    done = kedge.try_ctl("hangup", "call-\udcff")
    assert done.returncode == 1 and "no current call has the id call-\\xff" in done.stderr, done
