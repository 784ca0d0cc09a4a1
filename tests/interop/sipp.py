"""SIPp scenarios in a few lines each: a caller and a callee with kedge in between (kedge in front of a PBX; SIPp is the PBX).

A scenario is a list of steps; every message that the scenario does not name makes SIPp count the call as failed.
"""
import csv
import os
import re
import subprocess

from .hosts import stop, until

OFFER = """v=0
o=- 20518 {version} IN IP4 {host}
s=-
c=IN IP4 {host}
t=0 0
m=audio {port} RTP/AVP {codecs}
{maps}a={direction}
"""
MAPS = {"0": "a=rtpmap:0 PCMU/8000\n", "8": "a=rtpmap:8 PCMA/8000\n", "9": "a=rtpmap:9 G722/8000\n"}


def sdp(host="[local_ip]", port=20000, codecs="0 8", direction="sendrecv", version=0):
    maps = "".join(MAPS[c] for c in codecs.split())
    return OFFER.format(host=host, port=port, codecs=codecs, maps=maps, direction=direction, version=version)


def _step(name, attributes, inner=""):
    text = "".join(f' {k.rstrip("_")}="{v}"' for k, v in attributes.items())
    return f"  <{name}{text}>{inner}</{name}>\n" if inner else f"  <{name}{text}/>\n"


def send(text, kind="application/sdp", **attributes):
    head, _, body = text.partition("\n\n")
    kind = f"Content-Type: {kind}\n" if body else ""
    return _step("send", attributes, f"<![CDATA[\n{head}\n{kind}Content-Length: [len]\n\n{body}]]>")


def recv(what, save=False, **attributes):
    """A response code or a request's method. save: remember its From and To for requests of our own."""
    attributes = {("response" if what.isdigit() else "request"): what, **attributes}
    take = ('<action><ereg regexp=".*" search_in="hdr" header="From:" assign_to="caller"/>'
            '<ereg regexp=".*" search_in="hdr" header="To:" assign_to="callee"/></action>') if save else ""
    return _step("recv", attributes, take)


def maybe(what, **attributes):
    return recv(what, optional="true", **attributes)


def pause(ms):
    return _step("pause", {"milliseconds": ms})


def label(number):
    return _step("label", {"id": number})


# The caller's requests

def invite(body=sdp(), max_forwards=70, **attributes):
    attributes.setdefault("retrans", "500")
    return send("INVITE sip:service@[remote_ip]:[remote_port] SIP/2.0\n"
                "Via: SIP/2.0/UDP [local_ip]:[local_port];rport;branch=z9hG4bK-[pid]-[call_number]-i\n"
                f"Max-Forwards: {max_forwards}\n"
                "From: <sip:sipp@[local_ip]:[local_port]>;tag=a[pid]-[call_number]\nTo: <sip:service@[remote_ip]>\n"
                "Call-ID: [call_id]\nCSeq: 1 INVITE\nContact: <sip:sipp@[local_ip]:[local_port]>\n\n" + body, **attributes)


def _early(method):
    """CANCEL and ACK of a refusal belong to the INVITE's own transaction."""
    tag = "[peer_tag_param]" if method == "ACK" else ""
    return (f"{method} sip:service@[remote_ip]:[remote_port] SIP/2.0\n"
            "Via: SIP/2.0/UDP [local_ip]:[local_port];rport;branch=z9hG4bK-[pid]-[call_number]-i\nMax-Forwards: 70\n"
            f"From: <sip:sipp@[local_ip]:[local_port]>;tag=a[pid]-[call_number]\nTo: <sip:service@[remote_ip]>{tag}\n"
            f"Call-ID: [call_id]\nCSeq: 1 {method}\n\n")


def cancel():
    return send(_early("CANCEL"), retrans="500")


def ack_refusal():
    return send(_early("ACK"))


def ack_refused_reinvite(cseq):
    """Of the re-INVITE that from_caller("INVITE", cseq) sent: same transaction."""
    return from_caller("ACK", cseq).replace(f"-ACK{cseq}\n", f"-INVITE{cseq}\n")


def from_caller(method, cseq, body="", **attributes):
    if method not in ("ACK",):
        attributes.setdefault("retrans", "500")
    contact = "Contact: <sip:sipp@[local_ip]:[local_port]>\n" if method == "INVITE" else ""
    return send(f"{method} [next_url] SIP/2.0\n"
                f"Via: SIP/2.0/UDP [local_ip]:[local_port];rport;branch=z9hG4bK-[pid]-[call_number]-{method}{cseq}\n[routes]\n"
                "Max-Forwards: 70\nFrom: <sip:sipp@[local_ip]:[local_port]>;tag=a[pid]-[call_number]\n"
                f"To: <sip:service@[remote_ip]>[peer_tag_param]\nCall-ID: [call_id]\nCSeq: {cseq} {method}\n{contact}\n" + body,
                **attributes)


# The callee's messages

def reply(status, body="", contact=True, **attributes):
    tag = "" if status == "100" else ";tag=b[pid]-[call_number]"
    return send(f"SIP/2.0 {status} Answer\n[last_Via:]\n[last_Record-Route:]\n[last_From:]\n[last_To:]{tag}\n[last_Call-ID:]\n"
                "[last_CSeq:]\n" + ("Contact: <sip:callee@[local_ip]:[local_port]>\n" if contact else "") + "\n" + body,
                **attributes)


def reply_again(status, body="", **attributes):
    """To a request inside of the dialog, whose To has a tag already."""
    return send(f"SIP/2.0 {status} Answer\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n"
                "Contact: <sip:callee@[local_ip]:[local_port]>\n\n" + body, **attributes)


def reply_invite_late(status, body=""):
    """To the INVITE after a CANCEL came in between: the headers that recv(save=True) kept, the INVITE's Via and CSeq."""
    return send(f"SIP/2.0 {status} Answer\nVia: [$via]\nFrom:[$caller]\nTo:[$callee];tag=b[pid]-[call_number]\n[last_Call-ID:]\n"
                "CSeq: [$cseq]\nContact: <sip:callee@[local_ip]:[local_port]>\n\n" + body,
                **({"retrans": "500"} if status == "200" else {}))


def recv_invite():
    """The first INVITE, everything of it kept."""
    kept = "".join(f'<ereg regexp="[^ ].*" search_in="hdr" header="{header}:" assign_to="{name}"/>'
                   for header, name in (("From", "caller"), ("To", "callee"), ("Via", "via"), ("CSeq", "cseq")))
    return _step("recv", {"request": "INVITE", "rrs": "true"}, f"<action>{kept}</action>")


def from_callee(method, cseq, body="", **attributes):
    """After recv(save=True) of the ACK: its To is ours, its From the peer."""
    if method != "ACK":
        attributes.setdefault("retrans", "500")
    contact = "Contact: <sip:callee@[local_ip]:[local_port]>\n" if method == "INVITE" else ""
    return send(f"{method} [next_url] SIP/2.0\n"
                f"Via: SIP/2.0/UDP [local_ip]:[local_port];rport;branch=z9hG4bK-[pid]-[call_number]-s{method}{cseq}\n[routes]\n"
                f"Max-Forwards: 70\nFrom:[$callee]\nTo:[$caller]\nCall-ID: [call_id]\nCSeq: {cseq} {method}\n{contact}\n" + body,
                **attributes)


class Sipp:
    """strict: INFO, NOTIFY, OPTIONS and UPDATE that no step names are errors too, and not answered."""

    def __init__(self, folder, strict=False):
        self.folder, self.strict = str(folder), strict
        self.processes = []

    def _start(self, host, name, steps, port, *options):
        path = os.path.join(self.folder, name + ".xml")
        used = sorted({v for names in re.findall('assign_to="([^"]*)"', "".join(steps)) for v in names.split(",")})
        quiet = f'  <Reference variables="{",".join(used)}"/>\n' if used else ""
        with open(path, "w", encoding="ascii") as f:
            f.write('<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE scenario SYSTEM "sipp.dtd">\n'
                    f'<scenario name="{name}">\n' + "".join(steps) + quiet + "</scenario>\n")
        argv = ["/usr/bin/sipp", "-sf", path, "-i", host.addr, "-p", str(port), "-nostdin", "-trace_err", "-error_file",
                os.path.join(self.folder, name + ".err"), "-trace_msg", "-message_file",
                os.path.join(self.folder, name + ".msg"), *([] if self.strict else ["-aa"]), *options]
        with open(os.path.join(self.folder, name + ".log"), "wb") as log:
            process = host.popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        self.processes.append(process)
        return process

    def stop(self):
        for process in self.processes:
            stop(process)

    def run(self, caller_host, callee_host, server, caller, callee, calls=10, rate=10, timeout=60, callee_port=5060, options=(),
            caller_port=5070, callee_calls=None, callee_options=(), patience=20, recv_timeout=20, ready=None):
        """Both scenarios to their end; fails with SIPp's own words. options: SIPp's, for the caller. The callee is given no number
        of calls, since kedge's OPTIONS to its PBX would count as calls too; callee_calls: how many it must have seen well.
        ready: called when the callee listens."""
        wanted = callee_calls or calls
        far = callee and self.start_callee(callee_host, callee, callee_port, "-trace_stat", "-fd", "1", "-stf",
                                           os.path.join(self.folder, "callee.csv"), *callee_options)
        if far and ready:
            ready()
        near = self._start(caller_host, "caller", caller, caller_port, server, "-r", str(rate), "-recv_timeout",
                           str(recv_timeout * 1000), "-m", str(calls), "-timeout", f"{timeout}s", "-timeout_error", *options)
        status = near.wait(timeout + 20)
        good = until(lambda: self._count("SuccessfulCall(C)") >= wanted, patience, 0.2) if callee and not status else True
        failed = self._count("FailedCall(C)") if callee else 0
        if far:
            stop(far)
        assert status == 0 and good and not failed, \
            f"SIPp: caller ended with {status}, callee: {self._count('SuccessfulCall(C)')} good, {failed} failed\n" \
            f"{self.errors()}\nlogs in {self.folder}"

    @staticmethod
    def _listens(process, port):
        """Or the first INVITE would meet a port that is not open, and its sender ICMP. (The process is `ip netns exec` first.)"""
        try:
            bound = False
            for kind, state in (("udp", "07"), ("tcp", "0A")):
                with open(f"/proc/{process.pid}/net/{kind}", encoding="ascii") as f:
                    bound = bound or any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == state for line in f)
            return bound and os.readlink(f"/proc/{process.pid}/exe").endswith("/sipp")
        except FileNotFoundError:
            return False

    def start_callee(self, host, steps, port=5060, *options):
        """Returns its process, once it hears."""
        far = self._start(host, "callee", steps, port, *options)
        assert until(lambda: self._listens(far, port), 60, 0.02), f"the callee does not listen\n{self.errors()}"
        return far

    def _count(self, name):
        """The callee's counter."""
        try:
            with open(os.path.join(self.folder, "callee.csv"), encoding="latin-1") as f:
                return int(list(csv.DictReader(f, delimiter=";"))[-1][name])
        except (FileNotFoundError, IndexError, KeyError, TypeError, ValueError):
            return 0

    def errors(self):
        out = ""
        for name in ("caller", "callee"):
            for suffix in (".err", ".log"):
                path = os.path.join(self.folder, name + suffix)
                if os.path.exists(path):
                    with open(path, encoding="utf-8", errors="replace") as f:
                        text = "\n".join(line for line in f.read().split("\n") if "Automatic response" not in line)
                    out += f"--- {name}{suffix}\n{text[:1500]}\n" if suffix == ".err" else ""
        return out
