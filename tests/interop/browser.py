"""A headless Chromium on a host of the laboratory, driven over its DevTools pipe; its microphone plays a tone."""
import base64
import functools
import hashlib
import http.server
import json
import os
import subprocess
import threading

from . import tone
from .hosts import Host, inside, stop, until, until_told
from .kedge import PATIENCE_S

CHROMIUM = "/usr/lib/chromium/chromium"  # not Debian's wrapper, which adds what a person wants
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGES = os.path.join(ROOT, os.environ.get("BUILD", "build"), "tests/browser")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", "--disable-default-apps", "--disable-extensions", "--disable-dev-shm-usage",
         "--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
         "--disable-features=Translate,OptimizationHints,MediaRouter,CalculateNativeWinOcclusion", "--mute-audio",
         "--autoplay-policy=no-user-gesture-required", "--use-fake-device-for-media-stream", "--password-store=basic",
         "--force-color-profile=srgb", "--remote-debugging-pipe")


def certificate(folder, *names):
    """A key and a certificate that it signs itself, for these names and addresses; returns (key, certificate, pin). Who is given the
    pin accepts this certificate and no other."""
    os.makedirs(folder, exist_ok=True)
    key, cert = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
    subject = ",".join(("IP:" if name.replace(".", "").isdigit() or ":" in name else "DNS:") + name for name in names)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                    "-out", cert, "-days", "2", "-subj", "/CN=" + names[0], "-addext", "subjectAltName=" + subject], check=True,
                   capture_output=True)
    return key, cert, pin(cert)


def pin(cert):
    """What Chromium calls a certificate's SPKI: base64 of the SHA-256 of its public key."""
    public = subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-pubkey"], check=True, capture_output=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], input=public, check=True, capture_output=True).stdout
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


class Pages:
    """The test pages at http://localhost:PORT of a host, which browsers trust as if it were https: for servers that serve no pages."""

    def __init__(self, host, port=8000):
        assert os.path.exists(os.path.join(PAGES, "done")), "the pages are not built: make web-tests"

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                pass
        handler = functools.partial(Quiet, directory=PAGES)
        self.server = inside(host.ns, lambda: http.server.ThreadingHTTPServer(("127.0.0.1", port), handler))
        self.base = f"http://localhost:{port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Browser:
    """hz: what its microphone plays. pins: certificates it accepts (certificate(), above); all others as any browser."""

    def __init__(self, folder, host=None, hz=440, pins=(), options=(), allow=True):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.host = host or Host()
        self.hz = hz
        self.process = None
        self._replies, self._changed, self._serial = {}, threading.Condition(), 0
        self._pages = {}
        self._sound = tone.write(os.path.join(self.folder, "tone.wav"), hz, seconds=20)  # Chromium starts it again
        self.options = [*FLAGS, f"--user-data-dir={self.folder}/profile", f"--use-file-for-fake-audio-capture={self._sound}",
                        *(["--use-fake-ui-for-media-stream"] if allow else ["--deny-permission-prompts"]),
                        *(["--ignore-certificate-errors-spki-list=" + ",".join(pins)] if pins else []), *options]

    # Life

    def start(self):
        down_read, self._out = os.pipe()
        self._in, up_write = os.pipe()
        self._log = open(os.path.join(self.folder, "log"), "ab")
        # It reads commands from descriptor 3 and writes to 4.
        argv = ["bash", "-c", f'exec "$@" 3<&{down_read} 4>&{up_write}', "bash", CHROMIUM, *self.options, "about:blank"]
        self.process = self.host.popen(argv, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT,
                                       pass_fds=(down_read, up_write),
                                       env={**os.environ, "HOME": self.folder, "XDG_RUNTIME_DIR": self.folder})
        os.close(down_read)
        os.close(up_write)
        threading.Thread(target=self._read, daemon=True).start()
        self.command("Browser.getVersion")
        return self

    def stop(self):
        if not self.process:
            return
        if self.process.poll() is None:
            try:
                self.command("Browser.close", timeout=3)
                until(lambda: self.process.poll() is not None, 3)
            except (AssertionError, OSError):
                pass
        stop(self.process)
        self.process = None
        os.close(self._out)
        self._log.close()

    # DevTools: JSON with a NUL after it

    def _read(self):
        data = b""
        while True:
            try:
                got = os.read(self._in, 1 << 20)
            except OSError:
                got = b""
            if not got:
                os.close(self._in)
                with self._changed:
                    self._replies = None
                    self._changed.notify_all()
                return
            data += got
            *messages, data = data.split(b"\0")
            with self._changed:
                for message in map(json.loads, messages):
                    if "id" in message:
                        self._replies[message["id"]] = message
                    elif message.get("sessionId") in self._pages:
                        self._pages[message["sessionId"]].event(message["method"], message["params"])
                self._changed.notify_all()

    def command(self, method, params=None, session=None, timeout=PATIENCE_S):
        with self._changed:
            self._serial += 1
            serial = self._serial
        message = {"id": serial, "method": method, "params": params or {}, **({"sessionId": session} if session else {})}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        with self._changed:
            until_told(self._changed, lambda: self._replies is None or serial in self._replies, timeout)
            assert self._replies is not None, f"Chromium ended: {self.folder}/log"
            assert serial in self._replies, f"Chromium does not answer {method}: {self.folder}/log"
            reply = self._replies.pop(serial)
        assert "error" not in reply, f"{method}: {reply['error']}"
        return reply["result"]

    def page(self, url):
        return Page(self, url)


class Page:
    """One tab. console: what it wrote there and what went wrong in it, as lines."""

    def __init__(self, browser, url):
        self.browser, self.url = browser, url
        self.console = []
        self._loaded = []  # the documents whose load event came, by DevTools' name of each: about:blank is one, too
        self.target = browser.command("Target.createTarget", {"url": "about:blank"})["targetId"]
        self.session = browser.command("Target.attachToTarget", {"targetId": self.target, "flatten": True})["sessionId"]
        browser._pages[self.session] = self
        for domain in ("Page", "Runtime", "Log"):
            self.command(domain + ".enable")
        self.command("Page.setLifecycleEventsEnabled", {"enabled": True})
        self.go(url)

    def command(self, method, params=None, timeout=PATIENCE_S):
        return self.browser.command(method, params, self.session, timeout)

    def event(self, method, params):
        if method == "Page.lifecycleEvent":
            if params["name"] == "load":
                self._loaded.append(params["loaderId"])
        elif method == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(a.get("value", a.get("description", ""))) for a in params["args"]))
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.console.append("exception: " + details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded":
            self.console.append(f"{params['entry']['level']}: {params['entry']['text']} {params['entry'].get('url', '')}")

    def go(self, url):
        made = self.command("Page.navigate", {"url": url})
        assert not made.get("errorText"), f"{url}: {made['errorText']}"
        assert until(lambda: made["loaderId"] in self._loaded, PATIENCE_S), f"{url} does not load; {self.console}"

    def reload(self):
        before = len(self._loaded)
        self.command("Page.reload")
        assert until(lambda: len(self._loaded) > before, PATIENCE_S), f"{self.url} does not load again; {self.console}"

    def eval(self, script, timeout=PATIENCE_S):
        """The value of an expression; of a promise, what it resolves to."""
        done = self.command("Runtime.evaluate", {"expression": script, "returnByValue": True, "awaitPromise": True,
                                                 "userGesture": True}, timeout)
        if "exceptionDetails" in done:
            details = done["exceptionDetails"]
            raise AssertionError(details.get("exception", {}).get("description", details["text"]) + f"\nin: {script}\n" +
                                 "\n".join(self.console[-20:]))
        return done["result"].get("value")

    def until(self, script, timeout=30, step=0.1):
        """Waits until the expression is true; returns its value then, or what it is after the timeout."""
        return until(lambda: self.eval(script), timeout, step)

    def screenshot(self, path):
        with open(path, "wb") as f:
            f.write(base64.b64decode(self.command("Page.captureScreenshot")["data"]))

    def close(self):
        self.browser.command("Target.closeTarget", {"targetId": self.target})
        self.browser._pages.pop(self.session, None)


class WebPhone:
    """A telephone in a page of tests/browser (kind: "jssip", "sipjs"), with the verbs of phone.Phone."""

    def __init__(self, browser, kind, base, user, password, domain, server=None, ice_servers=(), **options):
        """base: where the pages are served, "https://host:port". server: the WebSocket, without it that of the base."""
        self.browser, self.user, self.hz, self.host = browser, user, browser.hz, browser.host
        self.options = {"server": server or base.replace("http", "ws", 1), "user": user, "password": password, "domain": domain,
                        "instance": "00000000-0000-4000-8000-" + hashlib.sha256(user.encode()).hexdigest()[:12],
                        "iceServers": [{"urls": url} for url in ice_servers], **options}
        self.page = browser.page(f"{base}/{kind}.html")
        self.begin()

    def begin(self):
        assert self.page.until("typeof start == 'function'"), self.page.console
        self.page.eval(f"start({json.dumps(self.options)})")
        return self

    def reload(self):
        self.page.reload()
        return self.begin()

    def stop(self):
        if self.browser.process and self.page:
            self.page.eval("phone.stop()")
            self.page.close()
            self.page = None

    def state(self):
        return self.page.eval("state()")

    def wait(self, field, value, timeout=30):
        """Until state()[field] is the value; returns the state."""
        seen = until(lambda: (lambda s: s if s[field] == value else None)(self.state()), timeout, 0.05)
        assert seen, f"{self.user}: {field} is not {value} after {timeout} s: {self.state()}\n{self.page.eval('told')}\n" + \
            "\n".join(self.page.console[-30:])
        return seen

    def registered(self, timeout=30):
        self.wait("registration", "registered", timeout)
        return self

    def dial(self, who, video=False):
        self.page.eval(f"phone.dial({json.dumps(who)}, {{ video: {json.dumps(video)} }})")

    def call(self, who, timeout=PATIENCE_S, **options):
        self.dial(who, **options)
        return self.active(timeout)

    def active(self, timeout=PATIENCE_S):
        def over():
            state = self.state()
            return state if state["call"] in ("active", "ended") else None
        state = until(over, timeout, 0.05) or self.state()
        assert state["call"] == "active", f"{self.user}: {state}\n{self.page.eval('told')}\n" + "\n".join(self.page.console[-30:])
        return self

    def ringing(self, timeout=30):
        return self.wait("call", "incoming", timeout)

    def answer(self, video=False):
        self.page.eval(f"phone.answer({{ video: {json.dumps(video)} }})")

    def hangup(self):
        self.page.eval("phone.hangUp()")
        self.ended()

    def ended(self, timeout=30):
        return self.wait("call", "ended", timeout)

    def hold(self):
        assert self.page.eval("phone.hold(true)"), f"{self.user}: no hold"

    def resume(self):
        assert self.page.eval("phone.hold(false)"), f"{self.user}: no resume"

    def reinvite(self):
        assert self.page.eval("phone.reinvite()"), f"{self.user}: no re-INVITE"

    def dtmf(self, tones, how="RFC2833"):
        self.page.eval(f"phone.dtmf({json.dumps(tones)}, {json.dumps(how)})")

    def path(self):
        return self.page.eval("phone.path()")

    def sdp(self, side):
        """The description of this side ("local", "remote")."""
        return self.page.eval(f"phone.connection.{side}Description.sdp")

    def position(self):
        return self.page.eval("window.ear ? ear.heard.length : 0")

    def hears(self, hz, ms=400, since=0, timeout=30):
        return bool(self.page.until(f"window.ear && ear.ms({hz}, {since}) >= {ms}", timeout))

    def quiet(self, timeout=20):
        """Whether nothing is heard for half a second."""
        return bool(self.page.until("ear.heard.slice(-10).every((hz) => !hz)", timeout))
