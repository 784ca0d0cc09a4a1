"""The NAT laboratory: an Internet in network namespaces, with public hosts, homes behind NATs of every kind, and office
networks. Nothing outside the namespaces made here is touched, and all of it is gone afterwards.

    with Lab() as lab:
        kedge = lab.public_host("kedge")
        phone = lab.natted_host("phone", nat="symmetric")
        sock = phone.udp(5060)          # a socket on that host, used from here
        phone.popen(["baresip", ...])   # a process on that host

See README.md for the map of addresses.
"""
import atexit
import itertools
import os
import shutil
import tempfile
import zlib

from . import netns
from .box import Box
from .netns import Host, ip, nft, stop

_labs = itertools.count(1)


class Home:
    """Hosts behind one NAT: hosts[i], box, external (IPv4 address)."""

    def __init__(self, name, hosts, box, external):
        self.name, self.hosts, self.box, self.external = name, hosts, box, external


class Carrier:
    """A carrier-grade NAT with its own access network (100.64.0.0/10), for homes to be put behind."""

    def __init__(self, name, ns, box, external):
        self.name, self.ns, self.box, self.external = name, ns, box, external


class Lab:
    """log=True: each box writes its packets to FOLDER/NAME.log. Processes, boxes and namespaces end with the context,
    also after exceptions; what a killed run left behind is removed by the next Lab."""

    def __init__(self, log=False):
        self.prefix = f"kl{os.getpid()}-{next(_labs)}-"
        self.log = log
        self.processes, self.sockets, self.boxes, self.namespaces = [], [], [], []
        self._gateways = {}
        self.captures = 0
        self._wires = itertools.count(1)
        self._public, self._external, self._access = itertools.count(10), itertools.count(10), itertools.count(10)
        self._homes, self._lans = itertools.count(1), itertools.count(1)
        self.internet = None
        self.folder = None

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix=f"natlab-{os.getpid()}-")
        atexit.register(self.close)
        try:
            for ns in netns.leftovers("/run/netns", r"kl(\d+)-\d+-"):
                netns.delete(ns)
            for folder in netns.leftovers(tempfile.gettempdir(), r"natlab-(\d+)-"):
                shutil.rmtree(os.path.join(tempfile.gettempdir(), folder), ignore_errors=True)
            self.internet = self._namespace("internet", router=True)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        atexit.unregister(self.close)
        for process in self.processes:  # all hear it before we wait for the first
            if process.poll() is None:
                process.terminate()
        for process in reversed(self.processes):
            stop(process)
        for sock in self.sockets:
            sock.close()
        for box in self.boxes:
            box.stop()
        for ns in reversed(self.namespaces):
            netns.delete(ns)
        self.processes, self.sockets, self.boxes, self.namespaces = [], [], [], []
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    # Parts

    def _namespace(self, name, router=False):
        ns = self.prefix + name
        self.namespaces.append(ns)
        if router:  # a router's gateway address differs from that of the Internet, which it uses itself
            self._gateways[ns] = f"169.254.1.{len(self._gateways) + 1}"
            netns.create_router(ns, self._gateways[ns])
        else:
            netns.create(ns)
        return ns

    def _wire(self, router, ns, ip4, ip6, device="eth0"):
        """A host on a router, by veth and device routes."""
        wire = f"v{next(self._wires)}"
        ip(router, f"link add {wire} type veth peer name {device} netns {ns}",
           f"addr add fe80::1/64 dev {wire} nodad", f"link set {wire} up")
        ip(ns, *(f"addr add {a}/32 dev {device}" for a in ip4),
           *(f"addr add {a}/128 dev {device} nodad" for a in ip6), f"link set {device} up",
           *([f"route add default via {self._gateways[router]} dev {device} onlink src {ip4[0]}"] if ip4 else []),
           *([f"route add ::/0 via fe80::1 dev {device} src {ip6[0]}"] if ip6 else []))
        ip(router, *(f"route add {a}/32 dev {wire}" for a in ip4), *(f"route add {a}/128 dev {wire}" for a in ip6))

    def _box(self, name, nat, external, outside, inside, flags):
        log = os.path.join(self.folder, name + ".log") if self.log else None
        flags.setdefault("seed", zlib.crc32(name.encode()))
        box = Box(name, nat, external, outside, inside, log, **flags)
        self.boxes.append(box)
        return box

    def _tun_host(self, name, home, index, ip4, ip6):
        ns = self._namespace(name)
        a4 = [f"{home}.{10 + index}"] if ip4 else []
        a6 = [f"{ip6}::{10 + index}"] if ip6 else []
        return Host(self, name, ns, a4, a6), f"{ns}/eth0/{','.join(a4 + a6)}"

    @staticmethod
    def _tun_up(host):
        ip(host.ns, "link set eth0 txqueuelen 2000 up", *(f"addr add {a}/32 dev eth0" for a in host.all4),
           *(f"addr add {a}/128 dev eth0 nodad" for a in host.all6),
           *([f"route add default dev eth0 src {host.ip4}"] if host.ip4 else []),
           *([f"route add ::/0 dev eth0 src {host.ip6}"] if host.ip6 else []))

    # Without NAT

    def public_host(self, name, ip4=True, ip6=False):
        """On the Internet. ip4, ip6: an address, a list of them, True for the next free one, False for none."""
        number = next(self._public)

        def addresses(wanted, free):
            return [free] if wanted is True else [] if not wanted else [wanted] if isinstance(wanted, str) else wanted
        host = Host(self, name, self._namespace(name), addresses(ip4, f"203.0.113.{number}"),
                    addresses(ip6, f"2001:db8:0:1::{number}"))
        self._wire(self.internet, host.ns, host.all4, host.all6)
        return host

    def lan(self, name, hosts=2):
        """A list of hosts with private addresses that reach each other and the public hosts without any NAT."""
        net = f"10.{next(self._lans)}.0"
        return [self.public_host(f"{name}{i + 1}", ip4=f"{net}.{10 + i}") for i in range(hosts)]

    # Behind our NAT emulator

    def natted_host(self, name, nat="port-restricted", carrier=None, **flags):
        """One host behind one NAT; host.box is the NAT. The flags are those of home()."""
        return self.home(name, nat, hosts=1, carrier=carrier, **flags).hosts[0]

    def home(self, name, nat="port-restricted", hosts=2, carrier=None, ip4=True, ip6=False, net=None, **flags):
        """Hosts behind one NAT. nat: "full-cone", "address-restricted", "port-restricted" or "symmetric".

        carrier: a Carrier or the name of a kind of NAT, for a carrier's NAT in front of this one.
        ip6=True: IPv6 as well, behind a stateful firewall (ipv6="open": without). ip4=False: IPv6 only.
        net: the first three numbers of the private network, "192.168.1".
        flags: any setting of natbox with _ for -: ports="sequential", hairpin=True, timeout=30, block_udp=True,
        delay=40, jitter=10, loss=1, reorder=1, duplicate=1, up_loss=5, seed=7, ..."""
        number = next(self._homes)
        if isinstance(carrier, str):
            carrier = self.carrier(name + "-carrier", carrier)
        if carrier and ip6:
            raise ValueError("homes behind a carrier's NAT have IPv4 only")
        external = f"100.64.0.{next(self._access)}" if carrier else f"198.51.100.{next(self._external)}"
        prefix6 = f"2001:db8:100:{number}" if ip6 else None
        outer = carrier.ns if carrier else self.internet
        device = f"t{next(self._wires)}"
        made = [self._tun_host(name if hosts == 1 else f"{name}{i + 1}", net or f"192.168.{number}", i, ip4, prefix6)
                for i in range(hosts)]
        flags.setdefault("ipv6", "firewall" if ip6 else "off")
        box = self._box(name, nat, external, f"{outer}/{device}", [port for _, port in made], flags)
        ip(outer, f"link set {device} txqueuelen 2000 up", f"route add {external}/32 dev {device}",
           *([f"route add {prefix6}::/64 dev {device}"] if ip6 else []))
        for host, _ in made:
            self._tun_up(host)
            host.box = box
            host.external = (carrier or box).external if ip4 else host.ip6
        return Home(name, [host for host, _ in made], box, made[0][0].external)

    def carrier(self, name, nat="symmetric", **flags):
        """A carrier's NAT; pass it to home() or natted_host()."""
        ns = self._namespace(name, router=True)
        external, device = f"198.51.100.{next(self._external)}", f"t{next(self._wires)}"
        flags.setdefault("ipv6", "off")
        box = self._box(name, nat, external, f"{self.internet}/{device}", [f"{ns}/nat"], flags)
        ip(self.internet, f"link set {device} txqueuelen 2000 up", f"route add {external}/32 dev {device}")
        ip(ns, "link set nat txqueuelen 2000 up", "route add default dev nat")
        return Carrier(name, ns, box, external)

    def change_nat(self, host, nat=None, **flags):
        """The home's router is replaced: new external address, no mapping survives. Returns the new address."""
        box = host.box
        external = f"198.51.100.{next(self._external)}"
        if box.outside_ns != self.internet:
            raise ValueError("behind a carrier's NAT the external address is the carrier's")
        from .box import settings
        box.set(address=external, **{k.replace("-", "_"): v for k, v in settings(nat or box.nat, flags).items()})
        box.flush()
        ip(self.internet, f"route del {box.external}/32 dev {box.outside_device}",
           f"route add {external}/32 dev {box.outside_device}")
        box.nat, box.external = nat or box.nat, external
        host.external = external
        return external

    # Behind Linux

    def linux_router(self, name, rules, hosts=1, net=None):
        """Hosts behind a Linux router with these nftables rules; its device to the Internet is called wan."""
        router = self._namespace(name + "-router", router=True)
        external = f"198.51.100.{next(self._external)}"
        self._wire(self.internet, router, [external], [], device="wan")
        nft(router, rules)
        net, made = net or f"192.168.{next(self._homes)}", []
        for i in range(hosts):
            host = Host(self, name if hosts == 1 else f"{name}{i + 1}", self._namespace(f"{name}-{i + 1}"),
                        [f"{net}.{10 + i}"], external=external)
            self._wire(router, host.ns, host.all4, [])
            host.router_ns = router
            made.append(host)
        return Home(name, made, None, external)

    def linux_masquerade_host(self, name, random=False, hosts=1):
        """Plain Linux masquerade: EIM with APDF as seen by one host; random=True: APDM. One host, or a Home."""
        home = self.linux_router(name, MASQUERADE % ("random" if random else ""), hosts)
        return home.hosts[0] if hosts == 1 else home

    def linux_sip_alg_host(self, name, port=5060, hosts=1):
        """Linux masquerade with the kernel's SIP ALG on UDP packets to this port. One host, or a Home."""
        home = self.linux_router(name, MASQUERADE % "" + SIP_ALG % port, hosts)
        return home.hosts[0] if hosts == 1 else home


MASQUERADE = """
table ip nat {
    chain postrouting { type nat hook postrouting priority srcnat; oifname "wan" masquerade %s; }
}
table inet filter {
    chain input {
        type filter hook input priority filter; policy accept;
        iifname "wan" ct state established,related accept
        iifname "wan" drop
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname != "wan" accept
    }
}
"""
SIP_ALG = """
table ip alg {
    ct helper sip { type "sip" protocol udp; }
    chain prerouting {
        type filter hook prerouting priority -150;
        iifname != "wan" udp dport %d ct helper set "sip"
    }
}
"""
