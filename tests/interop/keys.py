"""SDP of phones that secure their media, in each of the shapes that kedge tells apart: "plain", "opportunistic", "sdes", "dtls",
"web"; and what a description that came says of keys."""
import base64
import hashlib
import os
import re

from .agent import sdp

PROFILE = {"plain": "RTP/AVP", "opportunistic": "RTP/AVP", "sdes": "RTP/SAVP", "dtls": "UDP/TLS/RTP/SAVP",
           "web": "UDP/TLS/RTP/SAVPF"}
FINGERPRINT = "sha-256 " + ":".join(f"{b:02X}" for b in hashlib.sha256(b"a phone").digest())


def key(size=30):
    return base64.b64encode(os.urandom(size)).decode()


def crypto(tag=1, suite="AES_CM_128_HMAC_SHA1_80", inline=None, session=""):
    return f"a=crypto:{tag} {suite} inline:{inline or key(28 if '128_GCM' in suite else 30)}{session}\r\n"


def dtls(setup="actpass", fingerprint=FINGERPRINT, tls_id=None):
    return f"a=fingerprint:{fingerprint}\r\na=setup:{setup}\r\n" + (f"a=tls-id:{tls_id}\r\n" if tls_id else "")


def ice(host, port, ufrag="webu"):
    return (f"a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789012345678901\r\n"
            f"a=candidate:1 1 UDP 2130706431 {host} {port} typ host\r\n")


def body(rtp, shape, setup="actpass", extra=None, **kw):
    """extra: instead of the keys that the shape has."""
    if extra is None:
        extra = {"plain": "", "opportunistic": crypto(), "sdes": crypto(), "dtls": dtls(setup),
                 "web": dtls(setup) + ice(rtp.ip, rtp.port) + "a=rtcp-mux\r\na=mid:0\r\n"}[shape]
    text = sdp(rtp.ip, rtp.port, extra=extra, **kw)
    if shape == "web":
        text = text.replace("t=0 0\r\n", "t=0 0\r\na=group:BUNDLE 0\r\n")
    return text.replace("RTP/AVP", PROFILE[shape])


def profile(text):
    return re.search(r"^m=audio \d+ (\S+)", text, re.M).group(1)


def cryptos(text):
    """[(tag, suite, inline key)]"""
    return re.findall(r"^a=crypto:(\d+) (\S+) inline:([^|\s]+)", text, re.M)


def attribute(text, name):
    found = re.search(rf"^a={name}:?(.*?)\r?$", text, re.M)
    return found.group(1) if found else None


def shape(text):
    """Which of the shapes a description has."""
    proto = profile(text)
    if "TLS" in proto:
        return "web" if attribute(text, "ice-ufrag") and proto.endswith("SAVPF") else "dtls"
    if "SAVP" in proto:
        return "sdes"
    return "opportunistic" if cryptos(text) or attribute(text, "fingerprint") else "plain"
