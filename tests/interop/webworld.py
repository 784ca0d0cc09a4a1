"""What the tests with browsers share: kedge that serves the test pages over wss, and Chromium with its phones behind a NAT."""
import os

from .browser import PAGES, Browser, WebPhone, certificate

PORT = 8443
DOMAIN = "kedge.test"


class WebWorld:
    """stage, lab: the fixtures. names: accounts, each with the password "pw-NAME". stun: kedge answers STUN where browsers ask."""

    def __init__(self, stage, lab, names, config=None, root=PAGES, stun=False):
        assert os.path.exists(os.path.join(PAGES, "done")), "the pages are not built: make web-tests"
        self.stage, self.lab = stage, lab
        self.server = lab.public_host("kedge")
        self.base = f"https://{self.server.addr}:{PORT}"
        key, cert, self.pin = certificate(stage.folder / "tls", self.server.addr)
        addr = self.server.addr
        sip = {"listen": [f"udp:{addr}:5060", f"tcp:{addr}:5060", f"wss:{addr}:{PORT}", *([f"udp:{addr}:3478"] if stun else [])],
               "domain": DOMAIN}
        self.stun = f"stun:{addr}:3478"
        rows = {"sip": sip, "tls": {"certificate": cert, "key": key}, "web": {"root": str(root)}}
        for section, values in (config or {}).items():
            rows[section] = {**rows.get(section, {}), **values} if isinstance(values, dict) else values
        self.kedge = stage.kedge(self.server, config=rows, accounts={name: "pw-" + name for name in names})

    def browser(self, name, nat="port-restricted", hz=900, host=None, **kw):
        host = host or (self.lab.natted_host(name, nat=nat) if nat else self.lab.public_host(name))
        return self.stage.add(Browser(self.stage.folder / name, host, hz, pins=[self.pin], **kw).start())

    def phone(self, browser, kind, user, domain=DOMAIN, **kw):
        """A page of this kind, registered."""
        phone = WebPhone(browser, kind, self.base, user, "pw-" + user, domain, server=self.base.replace("http", "ws") + "/ws", **kw)
        return self.stage.add(phone).registered()
