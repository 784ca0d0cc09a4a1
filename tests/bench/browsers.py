"""How long after its INVITE a browser and a desk phone hear each other: kedge against Kamailio with rtpengine, with the same browser, the
same page and the same phone behind the same NATs."""
import os
import re
import subprocess
import time

from interop.browser import Browser, Pages, WebPhone, certificate
from interop.ear import Ear
from interop.hosts import stop, until
from interop.kedge import Kedge
from interop.pbx import answers
from interop.phone import Phone
from natlab.lab import Lab

HERE = os.path.dirname(os.path.abspath(__file__))
DOMAIN, PORT = "kedge.test", 8443
ACCOUNTS = {"web": "word-web", "desk": "word-desk"}
WEB_HZ, DESK_HZ = 900, 500
WAIT_S = 10
BREATH_S = 0.3  # between two calls


class KedgeForBrowsers:
    path = "/ws"

    def __init__(self, folder, host, origin):
        key, cert, self.pin = certificate(folder, host.addr)
        sip = {"listen": [f"udp:{host.addr}:5060", f"wss:{host.addr}:{PORT}"], "domain": DOMAIN}
        self.kedge = Kedge(folder, host, {"sip": sip, "tls": {"certificate": cert, "key": key}, "web": {"origins": [origin]}}, ACCOUNTS)

    def start(self):
        self.kedge.start()
        return self

    def stop(self):
        self.kedge.stop()


class KamailioForBrowsers:
    """tests/bench/kamailio-browser.cfg"""
    path = "/"

    def __init__(self, folder, host, _origin):
        self.folder, self.host, self.processes = folder, host, []
        key, cert, self.pin = certificate(folder, host.addr)
        values = {"ADDRESS": host.addr, "DOMAIN": DOMAIN, "KEY": key, "CERTIFICATE": cert,
                  "PASSWORDS": "".join(f'    $sht(password=>{name}) = "{word}";\n' for name, word in ACCOUNTS.items())}
        with open(os.path.join(HERE, "kamailio-browser.cfg"), encoding="utf-8") as f:
            text = re.sub("@([A-Z]+)@", lambda m: values[m.group(1)], f.read())
        self.config = os.path.join(folder, "kamailio.cfg")
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(text)

    def _run(self, name, argv):
        with open(os.path.join(self.folder, name + ".log"), "ab") as log:
            self.processes.append(self.host.popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def start(self):
        self._run("rtpengine", ["/usr/bin/rtpengine", "--table=-1", "--foreground", "--log-stderr", "--log-level=3", "--listen-ng=127.0.0.1:2223",
                                f"--interface={self.host.addr}", "--port-min=30000", "--port-max=39999", "--config-file=none"])
        self._run("kamailio", ["/usr/sbin/kamailio", "-f", self.config, "-DD", "-E", "-m", "128", "-M", "16", "-w", self.folder, "-Y",
                               self.folder, "-P", os.path.join(self.folder, "pid")])
        assert answers(self.host, self.host.addr, 5060), f"Kamailio does not answer: {self.folder}"
        return self

    def stop(self):
        for process in reversed(self.processes):
            stop(process)


def one_call(web, desk):
    """(ms to the sound in the browser, ms to the first packet at the phone) since the INVITE; None: none came."""
    ear, mark = Ear(desk.host), desk.mark()
    try:
        since = time.monotonic()
        web.call(desk.user)
        until(lambda: web.page.eval("phone.call.unmutedAt") and ear.rtp(since), WAIT_S, 0.05)
        sent, heard = web.page.eval("[performance.timeOrigin + phone.call.sentAt, phone.call.unmutedAt - phone.call.sentAt]")
        arrived = ear.rtp(since)
        epoch = time.time() - time.monotonic()
        web.hangup()
        desk.wait("CALL_CLOSED", mark)
        return heard, (arrived[0].at + epoch) * 1000 - sent if arrived else None
    finally:
        ear.close()


def set_up(with_kedge, folder, count):
    """([ms] to the browser, [ms] to the phone, how many directions stayed silent)."""
    started = []
    with Lab() as lab:
        server, home = lab.public_host("server"), lab.natted_host("web", nat="port-restricted")
        try:
            pages = Pages(home)
            started.append(pages)
            system = (KedgeForBrowsers if with_kedge else KamailioForBrowsers)(os.path.join(folder, "system"), server, pages.base)
            started.append(system)
            system.start()
            desk = Phone(os.path.join(folder, "desk"), "desk", f"{server.addr}:5060", DESK_HZ, lab.natted_host("desk", nat="symmetric"),
                         password=ACCOUNTS["desk"], domain=DOMAIN)
            started.append(desk)
            desk.start().registered()
            browser = Browser(os.path.join(folder, "chromium"), home, WEB_HZ, pins=[system.pin])
            started.append(browser)
            browser.start()
            web = WebPhone(browser, "jssip", pages.base, "web", ACCOUNTS["web"], DOMAIN, server=f"wss://{server.addr}:{PORT}{system.path}")
            web.registered()
            one_call(web, desk)  # the first one starts Chromium's audio
            pairs = []
            for _ in range(count):
                time.sleep(BREATH_S)
                pairs.append(one_call(web, desk))
        finally:
            for part in reversed(started):
                part.stop()
    heard, arrived = ([ms for ms in side if ms is not None] for side in zip(*pairs))
    return heard, arrived, 2 * count - len(heard) - len(arrived)
