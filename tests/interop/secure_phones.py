"""baresips that secure their media in different ways, and what tests of calls between phones with keys look at."""
from .hosts import until

ENCRYPTION = {"rtp": "", "sdes": ";mediaenc=srtp-mand", "dtls": ";mediaenc=dtls_srtp"}  # of an account
MODULES = "module srtp.so\nmodule dtls_srtp.so"
SAID = {"rtp": "none", "sdes": "sdes", "dtls": "dtls"}  # by kedge, of a leg whose keys are its own


def talk(a, b):
    """Two baresips hear each other from now on."""
    for here, there in ((a, b), (b, a)):
        since = here.position()
        assert here.hears(there.hz, since_ms=since), f"{here.user} does not hear {there.user}"


def of_legs(call):
    return [leg["secure"].partition(" ")[0] for leg in call["legs"]]


def secure(kedge):
    """What is said of both legs of the only call."""
    [call] = kedge.calls()
    return of_legs(call)


def flows(kedge, *phones):
    """Media flows both ways and the baresips among the phones can decrypt it. baresip records nothing more once it was on hold."""
    def counts(*names):
        return [[m[n] for n in names or ("packets_in", "packets_out")] for leg in kedge.calls()[0]["legs"] for m in leg["media"]]
    before, bad, said = counts(), counts("srtp_bad"), [len(p.log()) for p in phones]
    assert until(lambda: all(n >= o + 25 for now, old in zip(counts(), before) for n, o in zip(now, old)), 8), (before, counts())
    for phone, at in zip(phones, said):
        assert "decrypt" not in phone.log()[at:], phone.log()[at:][-2000:]
    assert counts("srtp_bad") == bad


def end(kedge, a, b):
    """b, a baresip too, hangs up."""
    mark = a.mark()
    b.hangup()
    a.wait("CALL_CLOSED", mark)
    kedge.no_calls()
