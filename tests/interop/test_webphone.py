"""The softphone page of contrib/webphone as a person uses it: Chromium behind a NAT, the page from kedge's own wss port, a desk phone."""
import os
import re
import signal
import threading

import pytest

from interop.hosts import until
from interop.phone import Phone
from interop.webworld import PAGES, WebWorld

HZ, DESK_HZ = 900, 500
ROOT = PAGES.replace("tests/browser", "webphone")


@pytest.fixture(scope="module")
def world(lab, long_stage):
    world = WebWorld(long_stage, lab, ("web", "desk", "odd"), root=ROOT, stun=True)
    world.desk = long_stage.add(Phone(long_stage.folder / "desk", "desk", f"{world.server.addr}:5060", DESK_HZ,
                                      lab.natted_host("desk", nat="symmetric"), password="pw-desk", domain="kedge.test"))
    world.desk.start().registered()
    return world


@pytest.fixture(scope="module")
def chromium(world):
    return world.browser("chromium", hz=HZ)


class Screen:
    """What is on the page and may be pressed."""

    def __init__(self, world, browser):
        self.page = browser.page(world.base + "/")
        self.kedge = world.kedge

    def text(self, part):
        return self.page.eval(f"document.getElementById('{part}').innerText")

    def shows(self, part, text, timeout=30):
        assert until(lambda: text in self.text(part), timeout, 0.1), f"{part}: {self.text(part)!r}; {self.page.console[-20:]}"

    def press(self, part):
        """As a person can: not what is hidden or disabled."""
        assert self.page.until(f"(b => b?.checkVisibility() && !b.disabled)(document.querySelector('{part}'))", 30), f"no {part} to press"
        self.page.eval(f"document.querySelector('{part}').click()")

    def write(self, **fields):
        for name, value in fields.items():
            self.page.eval(f"document.getElementById('{name}').value = '{value}'")

    def registered(self, timeout=30):
        assert self.page.until("document.getElementById('registration').dataset.state == 'registered'", timeout), self.text("trouble")

    def log_in(self, user="web", password="pw-web"):
        self.write(user=user, password=password)
        self.press("#login button")

    def dial(self, number):
        self.write(number=number)
        self.press("#dial button")


@pytest.fixture
def screen(world, chromium):
    made = Screen(world, chromium)
    yield made
    exceptions = [line for line in made.page.console if line.startswith("exception") or "Content Security" in line]
    made.page.eval("document.getElementById('leave').click()")
    made.page.close()
    assert not exceptions, exceptions
    world.kedge.no_calls()


def test_wrong_password_and_right_one(world, screen):
    screen.log_in(password="wrong")
    screen.shows("trouble", "Wrong user or password.")
    screen.log_in()
    screen.registered()
    assert screen.text("trouble") == ""
    assert [r["transport"] for r in world.kedge.registrations() if r["user"] == "web"] == ["wss"]


def test_call_to_a_desk_phone(world, screen):
    screen.log_in()
    screen.dial("desk")
    screen.shows("way", "through kedge")
    screen.press("#path summary")
    screen.shows("dtls", "DTLS 1.2, ")
    assert "203.0.113" in screen.text("remote-candidate") and "UDP" in screen.text("remote-candidate")
    assert world.desk.hears(HZ)
    screen.press("#keys")
    mark = world.desk.mark()
    screen.press("#pad button:nth-child(5)")
    assert world.desk.wait("CALL_DTMF_START", mark)["param"] == "5"
    screen.press("#hold")
    screen.shows("state", "on hold")
    screen.press("#hold")
    assert screen.page.until("(b => b.innerText == 'Hold' && !b.disabled)(document.getElementById('hold'))"), screen.text("state")
    closed = world.desk.mark()
    screen.press("#hangup")
    world.desk.wait("CALL_CLOSED", closed)
    screen.shows("state", "ended")
    assert re.fullmatch(r"\d+:[0-5]\d", screen.text("time"))


def test_call_from_a_desk_phone_and_reload(world, screen):
    """A reload hangs up, and the page registers again by itself, in the place of its old connection."""
    screen.log_in()
    screen.registered()
    mark = world.desk.dial("web")
    screen.shows("state", "is calling you")
    assert screen.text("remote") == "desk"
    screen.press("#answer")
    world.desk.wait("CALL_ESTABLISHED", mark)
    assert world.desk.hears(HZ)
    screen.page.reload()
    world.desk.wait("CALL_CLOSED", mark)
    screen.registered()
    assert sum(r["user"] == "web" for r in world.kedge.registrations()) == 1, world.kedge.registrations()


def test_media_killed(world, screen):
    """A new engine, new keys with the browser, and audio both ways."""
    screen.log_in()
    screen.dial("desk")
    screen.shows("way", "through kedge")
    assert world.desk.hears(HZ)
    os.kill(world.kedge.role("media"), signal.SIGKILL)
    assert until(lambda: "was offered new keys" in world.kedge.ctl("explain", world.kedge.calls()[0]["id"]), 30, 0.2)
    assert world.desk.hears(HZ, since_ms=world.desk.position(), timeout=30), "the desk phone hears nothing any more"
    screen.press("#hangup")
    world.kedge.no_calls()


def test_declined(world, screen):
    screen.log_in()
    screen.registered()
    mark = world.desk.dial("web")
    screen.shows("state", "is calling you")
    screen.press("#hangup")
    assert "486" in world.desk.wait("CALL_CLOSED", mark)["param"]


def test_nobody_there(screen):
    screen.log_in()
    screen.dial("nobody")
    screen.shows("trouble", "There is nobody of this name or number.")


def test_no_common_codec(world, screen, stage):
    """A phone that refuses whatever it is offered: the page says so, in words."""
    host = world.lab.public_host("odd")
    odd = stage.agent(host, user="odd", password="pw-odd", server=(world.server.addr, 5060))
    odd.register()
    over = threading.Event()

    def refuse():
        while not over.is_set():
            try:
                odd.reply(odd.expect("INVITE", 1), 488, headers=['Warning: 305 odd "Only smoke signals"'])
            except AssertionError:
                pass
    threading.Thread(target=refuse, daemon=True).start()
    screen.log_in()
    screen.dial("odd")
    screen.shows("trouble", "no codec in common")
    over.set()


def test_microphone_refused(world):
    screen = Screen(world, world.browser("deaf", hz=HZ, allow=False))
    screen.log_in()
    screen.dial("desk")
    screen.shows("trouble", "does not let this page use the microphone")
    screen.page.close()


def test_server_gone(world, screen):
    """The connection breaks: the page says so, and is registered again when kedge is back."""
    screen.log_in()
    screen.registered()
    world.kedge.stop()
    screen.shows("registration", "no connection")
    screen.shows("trouble", "The server is not reachable")
    world.kedge.spawn().ready()
    screen.registered(60)
    assert screen.text("trouble") == ""


def test_network_without_udp(world):
    """The call is there, and its sound is not: the page says what may be the matter."""
    screen = Screen(world, world.browser("indoors", hz=HZ, host=world.lab.natted_host("indoors", block_udp=True)))
    screen.log_in()
    screen.dial("desk")
    screen.shows("way", "does this network block UDP?")
    screen.press("#hangup")
    screen.page.close()
    world.kedge.no_calls()
