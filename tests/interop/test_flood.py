"""5,000 requests a second from where no phone is, while registered phones call each other: their calls go on as if nothing
happened, memory stays under its cap, and nobody is hit with more bytes than were sent in his name."""
import csv
import os
import re
import subprocess
import time

import pytest

from interop import sipp
from interop.hosts import Stopwatch, socket_in, stop, until
from interop.kedge import BUILD
from interop.pbx import Kamailio
from natlab.netns import ip

RATE, SECONDS = 5000, 15   # of the flood
CALLS, CALL_RATE = 1000, 80
# Of the signalling process (PSS): what 1,000 calls leave for 32 s (RFC 3261 timers; twice that through a PBX on both sides), 2,500 REGISTERs and
# 50 other requests a second of strangers on their way to the PBX, 20 KB each for as long.
MEMORY_CAP = 224 << 20
SOURCES = "198.18.0.0/15"

UAC_HEAD = ("From: <sip:alice@[domain]>;tag=a[pid]-[call_number]\nTo: <sip:bob@[domain]>{to}\nCall-ID: [call_id]\n"
            "CSeq: {cseq} {method}\nMax-Forwards: 70\nContact: <sip:alice@[local_ip]:[local_port]>\n")


def caller(domain):
    """INVITE, digest, talk for a moment, BYE. Nothing is sent again before 2 s: SIPp takes a 407 that comes twice for an answer to its next
    INVITE, and half a second is what any machine may stand still."""
    def request(method, cseq, uri="sip:bob@[domain]", to="", branch="", routes="", extra="", body="", **attributes):
        text = (f"{method} {uri} SIP/2.0\nVia: SIP/2.0/UDP [local_ip]:[local_port];rport;branch=z9hG4bK-[pid]-[call_number]-{branch}\n"
                + routes + UAC_HEAD.format(method=method, cseq=cseq, to=to) + extra + "\n" + body)
        return sipp.send(text.replace("[domain]", domain), **attributes)

    return [request("INVITE", 1, branch="1", body=sipp.sdp(), retrans="2000"), sipp.maybe("100"), sipp.recv("407", auth="true"),
            request("ACK", 1, branch="1", to="[peer_tag_param]"),
            request("INVITE", 2, branch="2", extra="[authentication]\n", body=sipp.sdp(), retrans="2000"), sipp.maybe("100"),
            sipp.maybe("180"), sipp.recv("200", rrs="true"),
            request("ACK", 2, "[next_url]", "[peer_tag_param]", "3", "[routes]\n"), sipp.pause(500),
            request("BYE", 3, "[next_url]", "[peer_tag_param]", "4", "[routes]\n", retrans="2000"), sipp.recv("200")]


CALLEE = [sipp.recv("INVITE", rrs="true"), sipp.reply("200", sipp.sdp(), retrans="2000"), sipp.recv("ACK"), sipp.recv("BYE"),
          sipp.reply_again("200")]


def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return int(re.search(r"^Pss:\s+(\d+) kB", f.read(), re.M).group(1)) << 10


def octets(host):
    """Received and sent by a host's interface."""
    text = subprocess.run(["ip", "netns", "exec", host.ns, "cat", "/proc/net/dev"], capture_output=True, text=True, check=True).stdout
    words = next(line for line in text.splitlines() if "eth0:" in line).partition(":")[2].split()
    return int(words[0]), int(words[8])


@pytest.fixture(scope="module")
def hosts(lab):
    made = [lab.public_host(n) for n in ("kedge", "alice", "bob", "evil", "pbx")]
    ip(lab.internet, f"route replace {SOURCES} via {made[3].addr}")
    return made


class World:
    """kedge, two registered phones that SIPp plays from then on, and somebody else."""

    def __init__(self, hosts, stage, mode):
        self.server, self.alice, self.bob, self.stranger, pbx = hosts
        accounts = {"alice": "pw-alice", "bob": "pw-bob"}
        self.domain = "kedge.test" if mode == "embedded" else "pbx.test"
        config = {"log": {"level": "warn"}}
        if mode == "pbx":
            stage.add(Kamailio(stage.folder / "pbx", accounts, pbx)).start()
            config["pbx"] = [f"udp:{pbx.addr}:5060"]
            accounts = {}
        self.kedge = stage.kedge(self.server, config=config, accounts=accounts)
        self.stage = stage
        for host, user, port in ((self.alice, "alice", 5070), (self.bob, "bob", 5060)):
            agent = stage.agent(host, user, "pw-" + user, (self.server.addr, 5060), port=port, domain=self.domain)
            assert agent.register(expires=600).status == 200
            stage.parts.remove(agent)
            agent.close()
        self.kedge.registered(2)

    def flood(self, how, rate=RATE, seconds=SECONDS):
        return self.stranger.popen([os.path.join(BUILD, "tests/flood"), self.server.addr, "5060", str(rate), str(seconds), how],
                                   stdout=subprocess.PIPE, text=True)

    def calls(self, name):
        """Good calls by SIPp; returns how many succeeded and failed, from the caller's side."""
        folder = self.stage.folder / name
        folder.mkdir()
        play = self.stage.add(sipp.Sipp(folder))
        far = play.start_callee(self.bob, CALLEE)
        csv_file = folder / "caller.csv"
        near = play._start(self.alice, "caller", caller(self.domain), 5070, f"{self.server.addr}:5060", "-au", "alice", "-ap", "pw-alice", "-auth_uri", f"bob@{self.domain}",
                           "-r", str(CALL_RATE), "-m", str(CALLS), "-l", "2000", "-timeout", "60s", "-trace_stat", "-fd", "1", "-stf",
                           str(csv_file))
        near.wait(80)
        stop(far)
        with open(csv_file, encoding="latin-1") as f:
            row = list(csv.DictReader(f, delimiter=";"))[-1]
        return int(row["SuccessfulCall(C)"]), int(row["FailedCall(C)"]), play.errors()


@pytest.mark.parametrize("mode", ("embedded", "pbx"))
@pytest.mark.parametrize("how", ("one", "many"))
def test_good_calls_and_memory_under_a_flood(hosts, stage, mode, how):
    world = World(hosts, stage, mode)
    kedge, signalling = world.kedge, world.kedge.role("signalling")
    before, (in_before, out_before) = pss(signalling), octets(world.stranger)
    flood, watch = world.flood(how), Stopwatch()
    good, failed, why = world.calls("calls")
    # INVITEs that were older than two seconds when kedge saw them got 503: those which it had not read when this machine stood still.
    late = CALL_RATE // 2 if watch.real - watch.fair > 1.5 else 0
    said, _ = flood.communicate(timeout=60)
    assert int(said.split()[0]) >= RATE * SECONDS * 0.99, said
    peak = pss(signalling)
    got, sent = (b - a for a, b in zip((in_before, out_before), octets(world.stranger)))
    stats = kedge.stats()
    print(f"{mode}, {how}: {good} calls good, {failed} failed; PSS {before >> 20} -> {peak >> 20} MB; {sent} octets of flood, {got} back; "
          f"{stats['guard_strangers']} dropped, {stats['guard_withheld']} answers withheld")
    assert good + failed >= CALLS and good >= 0.999 * CALLS - late, f"{good} of {CALLS} calls\n{why}"
    assert peak < MEMORY_CAP
    assert stats["guard_strangers"] > 0
    assert got <= 1.3 * sent
    assert kedge.role("signalling") == signalling, "signalling was restarted"
    kedge.no_calls(40)


def test_answers_to_one_source_are_few_and_small(hosts, stage):
    """A real socket, so that every answer is counted: at most ten a second after the first burst."""
    world = World(hosts, stage, "embedded")
    request = ("OPTIONS sip:{0} SIP/2.0\r\nVia: SIP/2.0/UDP {1}:5060;branch=z9hG4bK{2}\r\nMax-Forwards: 70\r\nFrom: <sip:a@{1}>;tag=1\r\n"
               "To: <sip:{0}>\r\nCall-ID: few{2}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")
    with socket_in(world.stranger) as s:
        s.setblocking(False)
        sent = got = count = seconds = 0
        start = None

        def step():
            nonlocal sent, got, count, start, seconds
            start = start or time.monotonic()
            for _ in range(40):
                text = request.format(world.server.addr, world.stranger.addr, os.urandom(6).hex()).encode()
                s.sendto(text, (world.server.addr, 5060))
                sent += len(text) + 28
            try:
                while True:
                    got += len(s.recv(65536)) + 28
                    count += 1
            except BlockingIOError:
                pass
            seconds = time.monotonic() - start
            return seconds > 4

        assert until(step, 10, 0.02)
    assert 20 <= count <= 20 + 10 * (seconds + 1), f"{count} answers in {seconds:.1f} s"
    assert got <= 1.3 * sent
