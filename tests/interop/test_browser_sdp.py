"""A real Chromium takes every description that kedge writes for browsers: the golden pairs web-* of tests/golden, one by one and in a
row as in one call. No network: a description is taken or refused before any packet."""
import glob
import json
import os
import re

import pytest

from .browser import ROOT, Browser

GOLDEN = os.path.join(ROOT, "tests/golden")

# Each step of a connection: {offer: SDP} is answered; {local: what} makes an offer with these kinds of media more, or turns the last one:
# "inactive", "stop"; {answer: SDP} answers it.
# The payload types of this Chromium for H264 are written into an answer, which has those of another one.
RUN = """(async (policy, steps) => {
    const pc = new RTCPeerConnection({ bundlePolicy: policy }), said = [];
    const h264 = (sdp) => (sdp.match(/a=rtpmap:(\\d+) H264/) || [])[1];
    for (const step of steps) {
        if (step.offer) {
            await pc.setRemoteDescription({ type: "offer", sdp: step.offer });
            await pc.setLocalDescription(await pc.createAnswer());
        } else if (step.local) {
            for (const what of step.local) {
                const last = pc.getTransceivers().at(-1);
                if (what === "data")
                    pc.createDataChannel("x");
                else if (what === "stop")
                    last.stop();
                else if (what === "audio" || what === "video")
                    pc.addTransceiver(what);
                else
                    last.direction = what;
            }
            await pc.setLocalDescription(await pc.createOffer());
        } else {
            const type = h264(pc.localDescription.sdp);
            const sdp = type ? step.answer.replace(/(m=video .*SAVPF) \\d+/, `$1 ${type}`)
                .replace(/a=(rtpmap|fmtp):\\d+ (H264|profile)/g, `a=$1:${type} $2`) : step.answer;
            await pc.setRemoteDescription({ type: "answer", sdp });
        }
        said.push(pc.localDescription.sdp);
    }
    pc.close();
    return said;
})"""


def golden(name):
    with open(os.path.join(GOLDEN, name + ".out.sdp"), newline="", encoding="ascii") as f:
        return f.read()


def lines(sdp):
    """[(kind, whether it is enabled, mid)] and the BUNDLE group."""
    parts = re.split(r"(?m)^m=", sdp)
    media = [(part.split()[0], part.split()[1] != "0", re.search(r"a=mid:(\S+)", part).group(1)) for part in parts[1:]]
    return media, re.findall(r"a=group:BUNDLE(.*)", parts[0])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chromium")
    with open(folder / "page.html", "w", encoding="ascii") as f:
        f.write("<html></html>")
    browser = Browser(folder / "browser").start()
    yield browser.page(f"file://{folder}/page.html")
    browser.stop()


def run(page, steps, policy="balanced"):
    return page.eval(f"{RUN}({json.dumps(policy)}, {json.dumps(steps)})")


def written_for_browsers(answers):
    for path in sorted(glob.glob(os.path.join(GOLDEN, "*.args"))):
        with open(path, encoding="ascii") as f:
            args = dict(line.split(None, 1) for line in f.read().splitlines())
        if args.get("reader") == "web" and ("answers" in args) == answers:
            yield os.path.basename(path)[:-len(".args")]


def test_offers(page):
    names = list(written_for_browsers(False))
    assert len(names) >= 8
    for name in names:
        for policy in ("balanced", "max-bundle"):
            offered = lines(golden(name))
            (answered, group), = [lines(sdp) for sdp in run(page, [{"offer": golden(name)}], policy)]
            assert answered == offered[0], (name, policy)
            assert [mid.split() for mid in group] == [mid.split() for mid in offered[1]], (name, policy)


MADE = {"web-chromium-offer": ["audio"], "web-chromium-av-data": ["audio", "video", "data"], "web-firefox-av-data": ["audio", "video", "data"],
        "web-firefox-bundle-only": ["audio", "video"]}


def test_answers(page):
    names = list(written_for_browsers(True))
    assert len(names) >= 5
    for name in names:
        with open(os.path.join(GOLDEN, name + ".args"), encoding="ascii") as f:
            asked = re.search(r"answers (\S+)", f.read()).group(1)
        if asked not in MADE:  # a later one of a call
            continue
        # With max-bundle Chromium takes no answer that rejects the first line, which RFC 9143 7.3.1 allows.
        for policy in ("balanced",) if name == "web-answer-audio-rejected" else ("balanced", "max-bundle"):
            steps = [{"local": MADE[asked]}, {"answer": golden(name)}]
            said = run(page, steps, policy)
            # What it offers next keeps what was agreed.
            assert [mid for _, _, mid in lines(said[-1])[0]] == [mid for _, _, mid in lines(golden(name))[0]], name


def newer(sdp, version):
    return re.sub(r"(o=- \d+) \d+", rf"\1 {version}", sdp)


def test_one_call(page):
    """A phone calls, adds video, removes it, and uses the line again: one connection."""
    audio, video = golden("web-offer-of-plain"), golden("web-reoffer-adds-video")
    gone, again = golden("web-reoffer-removes-video"), golden("web-reoffer-reuses-rejected")
    said = run(page, [{"offer": audio}, {"offer": newer(video, 2)}, {"offer": newer(gone, 3)}, {"offer": newer(again, 4)}])
    assert [lines(sdp)[0] for sdp in said] == [
        [("audio", True, "0")],
        [("audio", True, "0"), ("video", True, "1")],
        [("audio", True, "0"), ("video", False, "1")],
        [("audio", True, "0"), ("video", True, "1a")]]


def test_one_call_of_the_browser(page):
    """It calls, adds video, holds it, removes it, uses the line again, and holds the call; the phone answers sendrecv to every hold."""
    answers = ("web-answer-of-plain", "web-answer-to-added-video", "web-answer-held-video", "web-answer-to-removed-video",
               "web-answer-to-reused-line")
    steps = []
    for version, (what, answer) in enumerate(zip((["audio"], ["video"], ["inactive"], ["stop"], ["video"]), answers), 1):
        steps += [{"local": what}, {"answer": newer(golden(answer), version)}]
    for policy in ("balanced", "max-bundle"):
        said = run(page, steps, policy)
        assert [lines(sdp)[0][1:] for sdp in said[::2]] == [
            [], [("video", True, "1")], [("video", True, "1")], [("video", False, "1")], [("video", True, "2")]]
        for answer in ("web-answer-held-sendrecv", "web-answer-held-no-direction"):
            run(page, [{"local": ["audio", "sendonly"]}, {"answer": golden(answer)}], policy)


def test_what_is_missing_is_refused(page):
    """So that the above says something."""
    answer = golden("web-answer-of-plain")
    with pytest.raises(AssertionError, match="order of m-lines"):
        run(page, [{"local": ["audio"]}, {"answer": answer.replace("a=mid:0", "a=mid:x").replace("BUNDLE 0", "BUNDLE x")}])
    with pytest.raises(AssertionError, match="receive direction"):
        run(page, [{"local": ["audio", "sendonly"]}, {"answer": answer}])
    with pytest.raises(AssertionError, match="rtcp-mux must be enabled"):
        run(page, [{"offer": golden("web-offer-of-plain").replace("a=rtcp-mux\r\n", "")}])
