#include "conf/schema.h"

#include <stdio.h>
#include <string.h>

#define FIELD(member)                                                                                        \
    .offset = offsetof(struct kg_config, member), .size = sizeof(((struct kg_config *)0)->member)
#define LIST(member, counter, most)                                                                          \
    FIELD(member), .count_offset = offsetof(struct kg_config, counter), .max = (most)

/* kg_conf_ports fills two fields through one row. */
_Static_assert(offsetof(struct kg_config, media.port_max) == offsetof(struct kg_config, media.port_min) + 2,
               "the port range is one row");
#define PORTS .offset = offsetof(struct kg_config, media.port_min), .size = 2 * sizeof(uint16_t)

#define DAY 86400u /* s */

/* conf/fill.c knows how to fill one. */
static const struct kg_conf_type records = {.name = "list of records", .list = true};

const struct kg_conf_row kg_conf_rows[] = {
    {"sip.listen", &kg_conf_listen, "udp:0.0.0.0:5060 tcp:0.0.0.0:5060 tls:0.0.0.0:5061",
     LIST(sip.listen, sip.listen_count, KG_LISTEN_MAX), .min = 1,
     .doc = "Where phones and PBX reach kedge, as transport:address:port, with udp, tcp, tls, ws or wss "
            "(browsers, "
            "RFC 7118). `0.0.0.0` and `[::]` mean every address. All but udp may share an address and port: "
            "kedge "
            "tells them apart by what a connection begins with."},
    {"sip.advertise", &kg_conf_address, "auto", FIELD(sip.advertise),
     .doc = "The public address to name in SIP, where kedge stands behind a 1:1 NAT."},
    {"sip.domain", &kg_conf_domain, "kedge", FIELD(sip.domain),
     .doc = "Domain and realm of the embedded registrar. Changing it makes every password invalid."},
    {"sip.pass_headers", &kg_conf_headers, "",
     LIST(sip.pass_headers, sip.pass_headers_count, KG_PASS_HEADERS_MAX), .reloadable = true,
     .doc = "Headers that pass from each side to the others besides those that kedge knows: names, or "
            "beginnings such as "
            "`X-*`."},
    {"sip.pass_methods", &kg_conf_methods, "",
     LIST(sip.pass_methods, sip.pass_methods_count, KG_PASS_METHODS_MAX), .reloadable = true,
     .doc = "Methods unknown to kedge that pass with their bodies; all others are answered "
            "501."},
    {"sip.lamps", &kg_conf_yes, "yes", FIELD(sip.lamps), .reloadable = true,
     .doc = "Without a PBX: accounts may watch each other's calls (event package dialog, RFC 4235), who "
            "calls whom "
            "included, and pick them up."},
    {"tls.certificate", &kg_conf_path, "", FIELD(tls.certificate), .reloadable = true,
     .doc = "PEM file with the certificate chain. Without it a self-signed pair is made at first start."},
    {"tls.key", &kg_conf_path, "", FIELD(tls.key), .reloadable = true,
     .doc = "PEM file with its private key."},
    {"tls.ca", &kg_conf_path, "", FIELD(tls.ca), .reloadable = true,
     .doc = "PEM file with the certificates that the certificate of a PBX or trunk must go back to. Without "
            "it those that "
            "the system trusts."},
    {"media.address", &kg_conf_address, "auto", FIELD(media.address), .reloadable = true,
     .doc = "Local address of the relay ports. auto: the one that the call's signalling uses."},
    {"media.advertise", &kg_conf_address, "auto", FIELD(media.advertise), .reloadable = true,
     .doc = "The public address to name in SDP, where kedge stands behind a 1:1 NAT."},
    {"media.ports", &kg_conf_ports, "30000-39999", PORTS, .reloadable = true,
     .doc = "UDP ports of the relay. A call takes four: two for RTP, two for RTCP."},
    {"media.policy", &kg_conf_policy, "auto", FIELD(media.policy), .reloadable = true,
     .doc = "Which way media goes: through kedge (anchor), direct where both phones do ICE and their "
            "networks allow it (auto, and steer, which complains where they do not). bypass is not built yet "
            "and "
            "anchors."},
    {"media.profile", &kg_conf_profile, "auto", FIELD(media.profile), .reloadable = true,
     .doc =
         "How media is secured toward phones that are called. auto: a browser (over WS or WSS) gets "
         "WebRTC; other "
         "phones get what the caller offers, and where they refuse that the next of RTP, SDES and DTLS; "
         "kedge "
         "translates where the two sides differ; who was seen with keys within a day is not called in the "
         "clear by who has them. One word sets it for all: plain, opportunistic (RTP/AVP "
         "with keys, "
         "RFC 8643), sdes, dtls or webrtc; with the last three nobody is called in the clear, whatever they "
         "refuse. "
         "Browsers get WebRTC in any case."},
    {"media.pbx_profile", &kg_conf_profile, "auto", FIELD(media.pbx_profile), .reloadable = true,
     .doc = "The same toward the PBX."},
    {"media.ice", &kg_conf_yes, "yes", FIELD(media.ice), .reloadable = true,
     .doc = "Speak ICE (RFC 8445): two phones that both do are brought to a direct path where their networks "
            "allow one; a phone that does alone has kedge as its peer. no: ICE is taken out of every SDP; a "
            "phone that insists on it (baresip) then sends no media until it is switched off there too."},
    {"media.first_packets", &kg_conf_yes, "no", FIELD(media.first_packets), .reloadable = true,
     .doc = "yes: media may also be learnt from an address that nothing in signalling makes plausible, for "
            "networks "
            "whose media leaves through another public address than their SIP. Whoever sends first is "
            "believed."},
    {"media.workers", &kg_conf_count, "0", FIELD(media.workers), .max = 64,
     .doc = "Threads that relay packets. 0: one a processor core, 64 at the most."},
    {"media.latch_packets", &kg_conf_count, "4", FIELD(media.latch_packets), .min = 1, .max = 1000,
     .reloadable = true,
     .doc = "A phone's media source is learnt from this many packets and then locked (RFC 7362)..."},
    {"media.latch_window", &kg_conf_seconds, "3", FIELD(media.latch_window_ms), .min = 1, .max = 60,
     .reloadable = true, .doc = "... or after this time, whichever comes first."},
    {"media.silence_timeout", &kg_conf_seconds, "60", FIELD(media.silence_timeout_ms), .min = 1, .max = DAY,
     .reloadable = true, .doc = "An answered call without any packet from either side ends after this."},
    {"media.hold_timeout", &kg_conf_seconds, "1800", FIELD(media.hold_timeout_ms), .min = 1, .max = DAY,
     .reloadable = true, .doc = "The same while the call is on hold."},
    {"media.unanswered_timeout", &kg_conf_seconds, "180", FIELD(media.unanswered_timeout_ms), .min = 1,
     .max = DAY, .reloadable = true, .doc = "A call that nobody answers ends after this."},
    {"media.port_quarantine", &kg_conf_seconds, "10", FIELD(media.port_quarantine_ms), .min = 0, .max = 3600,
     .reloadable = true,
     .doc = "A port is not given to another call before this time has passed, while others are free."},
    {"media.certificate_lifetime", &kg_conf_seconds, "86400", FIELD(media.certificate_lifetime_ms), .min = 5,
     .max = 7 * DAY,
     .doc =
         "How long new calls are told the same DTLS certificate. Calls that have begun keep theirs, and can "
         "begin with it for three times as long."},
    {"ice.pacing", &kg_conf_count, "50", FIELD(ice.pacing_ms), .min = 5, .max = 1000, .reloadable = true,
     .doc = "Milliseconds between two connectivity checks of a call (Ta)."},
    {"ice.rto", &kg_conf_count, "500", FIELD(ice.rto_ms), .min = 50, .max = 5000, .reloadable = true,
     .doc = "Milliseconds until an unanswered check is sent again, at least."},
    {"ice.patience", &kg_conf_seconds, "39.5", FIELD(ice.patience_ms), .min = 1, .max = 300,
     .reloadable = true,
     .doc =
         "How long a side without a working candidate pair is waited for before ICE has failed (RFC 8863)."},
    {"ice.keepalive", &kg_conf_seconds, "15", FIELD(ice.keepalive_ms), .min = 1, .max = 300,
     .reloadable = true,
     .doc = "How often a media path that needs no consent is kept open when nothing else is sent."},
    {"ice.consent", &kg_conf_seconds, "5", FIELD(ice.consent_ms), .min = 1, .max = 60, .reloadable = true,
     .doc =
         "How often an ICE phone is asked whether it still wants the media (RFC 7675), give or take 20 %."},
    {"ice.consent_expiry", &kg_conf_seconds, "30", FIELD(ice.consent_expiry_ms), .min = 2, .max = 300,
     .reloadable = true,
     .doc = "An ICE phone that did not say yes for so long is sent no more media. Longer than ice.consent, "
            "several times: "
            "a phone that is not asked in time cannot say yes."},
    {"pbx", &kg_conf_servers, "", LIST(pbx, pbx_count, KG_PBX_MAX), .reloadable = true, .or_none = true,
     .doc = "The PBX behind kedge, as transport:host:port or sip:host; several share and stand in for each "
            "other by "
            ";priority= and ;weight=, and without these the next ones serve when the first does not. Without "
            "any the "
            "embedded registrar serves; that change needs a restart, and so do trunks, routes and numbers "
            "that change with it."},
    {"pbx_probe", &kg_conf_seconds, "0.5", FIELD(pbx_probe_ms), .min = 0, .max = 3600, .reloadable = true,
     .doc = "How often each PBX is asked by OPTIONS whether it is up. 0: never; then only calls and "
            "registrations tell."},
    {"dns.servers", &kg_conf_dns_servers, "", LIST(dns.server, dns.server_count, KG_DNS_SERVERS_MAX),
     .reloadable = true,
     .doc = "Who is asked for the addresses of servers given by name, as address or address:port. Without it "
            "those of "
            "/etc/resolv.conf."},
    {"trunks", &records, "", LIST(trunk, trunk_count, KG_TRUNKS_MAX), .record = &kg_conf_trunk,
     .reloadable = true, .with_pbx = true,
     .doc = "Providers of phone numbers that calls go to and come from."},
    {"routes", &records, "", LIST(route, route_count, KG_ROUTES_MAX), .record = &kg_conf_route,
     .reloadable = true, .with_pbx = true,
     .doc = "Where calls go that do not simply go to the PBX or to an account. The first entry that fits "
            "decides."},
    {"numbers", &records, "", LIST(number, number_count, KG_NUMBERS_MAX), .record = &kg_conf_number,
     .reloadable = true, .with_pbx = true,
     .doc = "How numbers are written on each side. Of the entries for one side and one direction the first "
            "that fits decides."},
    {"caps", &records, "", LIST(caps, caps_count, KG_CAPS_MAX), .record = &kg_conf_cap, .reloadable = true,
     .doc = "What users may call, against toll fraud."},
    {"registration.phone_expires_udp", &kg_conf_seconds, "120", FIELD(registration.phone_expires_udp_ms),
     .min = 5, .max = 7200, .reloadable = true,
     .doc = "How long a registration over UDP from behind a NAT lasts before the phone must refresh it."},
    {"registration.phone_expires_stream", &kg_conf_seconds, "600",
     FIELD(registration.phone_expires_stream_ms), .min = 5, .max = 7200, .reloadable = true,
     .doc = "The same over TCP, TLS and WebSocket."},
    {"registration.phone_expires_lan", &kg_conf_seconds, "600", FIELD(registration.phone_expires_lan_ms),
     .min = 5, .max = 7200, .reloadable = true, .doc = "The same for a phone with no NAT in between."},
    {"registration.pbx_expires", &kg_conf_seconds, "3600", FIELD(registration.pbx_expires_ms), .min = 10,
     .max = DAY, .reloadable = true, .doc = "What kedge asks of the PBX on behalf of the phones."},
    {"registration.keepalive_udp", &kg_conf_seconds, "25", FIELD(registration.keepalive_udp_ms), .min = 1,
     .max = 3600, .reloadable = true,
     .doc =
         "How often kedge keeps a phone's NAT open over UDP, to begin with; then it learns, phone by phone, "
         "how long a silence the NAT bears."},
    {"registration.keepalive_stream", &kg_conf_seconds, "90", FIELD(registration.keepalive_stream_ms),
     .min = 1, .max = 3600, .reloadable = true,
     .doc = "The same over TCP and TLS. Over WebSocket: web.ping."},
    {"registration.keepalive_min", &kg_conf_seconds, "15", FIELD(registration.keepalive_min_ms), .min = 1,
     .max = 3600, .reloadable = true, .doc = "The shortest keepalive interval that is learnt."},
    {"registration.keepalive_max", &kg_conf_seconds, "120", FIELD(registration.keepalive_max_ms), .min = 1,
     .max = 3600, .reloadable = true,
     .doc = "The longest. Where it is below keepalive_udp or keepalive_stream, nothing longer than those is "
            "tried."},
    {"registration.path", &kg_conf_path_use, "auto", FIELD(registration.path),
     .doc = "Path (RFC 3327) toward the PBX. no: phones register there with a Contact of kedge's. auto: the "
            "same, "
            "with a Path to kedge beside it where the PBX says that it knows Path. yes: the PBX gets each "
            "phone's "
            "own Contact, and kedge in the Path; where its answer shows that it ignores Path, as with no."},
    {"registration.contacts_per_user", &kg_conf_count, "10", FIELD(registration.contacts_per_user), .min = 1,
     .max = 100, .reloadable = true, .doc = "Phones that may be registered for one user at once."},
    {"registration.nonce_lifetime", &kg_conf_seconds, "600", FIELD(registration.nonce_lifetime_ms), .min = 10,
     .max = DAY, .reloadable = true,
     .doc = "How long a digest nonce of the embedded registrar is good (RFC 7616)."},
    {"registration.digest", &kg_conf_digest, "md5", FIELD(registration.digest), .reloadable = true,
     .doc =
         "What the embedded registrar's challenge offers: md5, which every phone takes; both, SHA-256 first "
         "(RFC 8760), at which many phones give up; or sha-256, which also refuses MD5 from then on."},
    {"calls.session_expires", &kg_conf_seconds, "1800", FIELD(calls.session_ms), .min = 0, .max = DAY,
     .reloadable = true,
     .doc =
         "Session timers (RFC 4028) on each leg alone: a side that refreshes its session no more is hung up "
         "on after this. 0: kedge offers none, and honours those of its peers."},
    {"calls.session_min", &kg_conf_seconds, "90", FIELD(calls.session_min_ms), .min = 90, .max = DAY,
     .reloadable = true, .doc = "A peer that asks for less gets 422."},
    {"calls.refer_from_trunk", &kg_conf_yes, "no", FIELD(calls.refer_from_trunk), .reloadable = true,
     .doc = "yes: who calls over a trunk may transfer the call (REFER); the call that comes of it is then "
            "one of "
            "the transferred phone's."},
    {"calls.fork", &kg_conf_fork, "parallel", FIELD(calls.fork), .reloadable = true,
     .doc =
         "A user with several phones: all of them ring at once (parallel), or one after the other, the one "
         "that registered last first (serial). Phones that registered with a lower q wait in either case "
         "until those with a higher one have failed."},
    {"calls.redirect", &kg_conf_redirect, "follow", FIELD(calls.redirect), .reloadable = true,
     .doc =
         "A phone or PBX that answers with a redirection (3xx). follow: without a PBX kedge calls the other "
         "account in the name of the one that diverts; a PBX hears of its phones' redirections and decides "
         "itself, and its own are followed as long as they lead to itself. pass: the caller gets the 3xx, "
         "Contact and all. refuse: the caller gets 480."},
    {"calls.reliable", &kg_conf_reliable, "auto", FIELD(calls.reliable), .reloadable = true,
     .doc = "Ringing and early media that must not get lost (PRACK, 100rel). auto: with each side that knows "
            "it, whatever the other one does; to a caller those responses that carry SDP. never: only to a "
            "caller that insists on it."},
    {"limits.calls", &kg_conf_count, "10000", FIELD(limits.calls), .min = 1, .max = 1000000,
     .reloadable = true, .doc = "Calls at once; more are answered 503."},
    {"limits.unregistered_calls", &kg_conf_count, "50", FIELD(limits.unregistered_calls), .min = 0,
     .max = 1000000, .reloadable = true,
     .doc =
         "In front of a PBX: INVITEs a second, all together, from where no phone is registered, and as many "
         "other requests; more are answered 503. The PBX challenges them only after they have cost ports and "
         "memory."},
    {"limits.request_body", &kg_conf_count, "32768", FIELD(limits.request_body), .min = 1300, .max = 60000,
     .reloadable = true,
     .doc =
         "Bytes of the body of a MESSAGE, NOTIFY, PUBLISH or another request outside of calls; longer ones "
         "are answered 413."},
    {"limits.subscriptions", &kg_conf_count, "20000", FIELD(limits.subscriptions), .min = 1, .max = 1000000,
     .reloadable = true, .doc = "Subscriptions (lamps, presence) at once; more are answered 503."},
    {"limits.subscriptions_per_user", &kg_conf_count, "200", FIELD(limits.subscriptions_per_user), .min = 1,
     .max = 100000, .reloadable = true,
     .doc = "Those that one user's phones may have, or one address where no phone is registered; more are "
            "answered 403."},
    {"limits.streams", &kg_conf_count, "10000", FIELD(limits.streams), .min = 1, .max = 1000000,
     .reloadable = true, .doc = "TCP, TLS and WebSocket connections at once."},
    {"limits.streams_per_source", &kg_conf_count, "200", FIELD(limits.streams_per_source), .min = 1,
     .max = 1000000, .reloadable = true,
     .doc = "The same from one address: an office behind one NAT needs one a phone."},
    {"limits.stream_idle", &kg_conf_seconds, "300", FIELD(limits.stream_idle_ms), .min = 1, .max = DAY,
     .reloadable = true, .doc = "A connection without any byte is closed after this."},
    {"limits.stream_message", &kg_conf_seconds, "10", FIELD(limits.stream_message_ms), .min = 1, .max = 3600,
     .reloadable = true, .doc = "A SIP message must be complete this long after its first byte."},
    {"limits.handshake", &kg_conf_seconds, "10", FIELD(limits.handshake_ms), .min = 1, .max = 3600,
     .reloadable = true, .doc = "A TLS handshake must be complete after this, and so must an HTTP request."},
    {"guard.requests", &kg_conf_count, "200", FIELD(guard.requests), .min = 1, .max = 100000,
     .reloadable = true,
     .doc =
         "Requests a second that start something, from one address (an IPv6 /64 counts as one) where phones "
         "are registered or that answered a challenge; five times as many at once. Enough for an office of "
         "200 "
         "phones behind one NAT. More are answered 503 or not at all."},
    {"guard.strangers", &kg_conf_count, "10", FIELD(guard.strangers), .min = 1, .max = 100000,
     .reloadable = true,
     .doc =
         "The same over UDP from an address that has proved nothing: it may be forged. More are dropped; a "
         "phone sends again."},
    {"guard.strangers_total", &kg_conf_count, "2000", FIELD(guard.strangers_total), .min = 1, .max = 1000000,
     .reloadable = true, .doc = "The same from all such addresses together."},
    {"guard.passwords", &kg_conf_count, "5", FIELD(guard.passwords), .min = 1, .max = 1000,
     .reloadable = true,
     .doc =
         "So many wrong passwords in a row within a minute ban: the address, or where phones are registered "
         "from it only that user there."},
    {"guard.ban", &kg_conf_seconds, "300", FIELD(guard.ban_ms), .min = 1, .max = 30 * DAY, .reloadable = true,
     .doc = "How long the first ban lasts. Each further one within a day lasts twice as long, up to a day. "
            "`kedgectl bans` shows them, `kedgectl unban ADDRESS` lifts them."},
    {"guard.scanners", &kg_conf_yes, "yes", FIELD(guard.scanners), .reloadable = true,
     .doc = "Drop and ban what calls itself friendly-scanner, sipvicious, sipcli and the like "
            "(b2bua/guard/scanners.c)."},
    {"guard.trusted", &kg_conf_nets, "127.0.0.0/8 ::1",
     LIST(guard.trusted, guard.trusted_count, KG_TRUSTED_MAX), .reloadable = true,
     .doc = "Networks that are never limited and never banned. PBXes and trunks need not be named."},
    {"cdr.file", &kg_conf_path, "", FIELD(cdr.file), .reloadable = true,
     .doc = "Where a record of each call is written when it has ended, one line of JSON a call. Without it "
            "no records are "
            "written."},
    {"cdr.rotate_size", &kg_conf_count, "100", FIELD(cdr.rotate_megabytes), .min = 1, .max = 100000,
     .reloadable = true,
     .doc = "Megabytes after which the file is renamed (with date and time in UTC behind its name) and a new "
            "one begun..."},
    {"cdr.rotate_every", &kg_conf_seconds, "86400", FIELD(cdr.rotate_every_ms), .min = 0, .max = 30 * DAY,
     .reloadable = true, .doc = "... or after this time, whichever comes first. 0: by size alone."},
    {"cdr.keep", &kg_conf_count, "30", FIELD(cdr.keep), .min = 0, .max = 10000, .reloadable = true,
     .doc = "How many renamed files stay; the oldest are removed. 0: all."},
    {"hep.server", &kg_conf_place, "off", FIELD(hep.server), .reloadable = true,
     .doc = "A capture server (Homer, or anything that takes HEP version 3 over UDP) that gets a copy of "
            "every SIP message, with "
            "the keys in SDP overwritten, and of every RTCP report. What it gets can be read on the way: "
            "keep it in a network "
            "of your own."},
    {"hep.agent", &kg_conf_count, "2001", FIELD(hep.agent), .max = 999999999, .reloadable = true,
     .doc = "The number by which the capture server tells this kedge from others."},
    {"web.origins", &kg_conf_origins, "", LIST(web.origin, web.origin_count, KG_ORIGINS_MAX),
     .reloadable = true,
     .doc =
         "Whose pages may speak SIP to kedge (ws, wss), as `https://www.example.org`, beside those from "
         "the host "
         "that kedge is reached by: https for wss, http for ws, from any port of it. On ws that host has to "
         "be an address, "
         "localhost, or sip.domain or a name below it, for other names could be anybody's. All others get "
         "403."},
    {"web.origin_missing", &kg_conf_yes, "no", FIELD(web.origin_missing), .reloadable = true,
     .doc = "yes: who names no origin may connect by WebSocket, too. Browsers always name one; other "
            "programs mostly "
            "do not."},
    {"web.root", &kg_conf_path, "", FIELD(web.root), .reloadable = true,
     .doc = "A folder of files that kedge serves to browsers on its ws and wss addresses, such as a "
            "softphone page: "
            "`index.html` for `/`, and `/config.json` with the SIP domain. It is read at the start and at "
            "each reload, "
            "with the folders in it; hidden files and links are left out."},
    {"web.ping", &kg_conf_seconds, "30", FIELD(web.ping_ms), .min = 1, .max = 600, .reloadable = true,
     .doc = "How often a WebSocket is asked for a sign of life; without any until the next time it is "
            "closed. Shorter "
            "than what a proxy in between allows for silence (often 60 s)."},
    {"store", &kg_conf_path, "/var/lib/kedge/kedge.db", FIELD(store),
     .doc = "SQLite file with accounts and registrations."},
    {"control", &kg_conf_socket, "unix:/run/kedge/control.sock", FIELD(control),
     .doc = "Where kedgectl reaches kedge: a UNIX socket that only root and kedge's own user can open."},
    {"log.level", &kg_conf_level, "info", FIELD(log_level), .reloadable = true,
     .doc = "How much kedge says."},
};
const size_t kg_conf_row_count = sizeof kg_conf_rows / sizeof kg_conf_rows[0];

/* Longest text of a whole row: a list of KG_LISTEN_MAX servers. */
#define ROW_TEXT (KG_LISTEN_MAX * KG_SERVER_AT_STR)

/* The row's whole value as one comparable text. */
static void row_text(const struct kg_conf_row *row, const void *base, char out[static ROW_TEXT])
{
    size_t used = 0;
    char item[KG_PATH_MAX + KG_SERVER_AT_STR];

    out[0] = '\0';
    for (size_t i = 0; row->type->format(row, base, i, item, sizeof item); i++) {
        int len = snprintf(out + used, ROW_TEXT - used, "%s%s", i > 0 ? " " : "", item);
        if (len < 0 || (size_t)len >= ROW_TEXT - used)
            return;
        used += (size_t)len;
    }
}

static void set_default(const struct kg_conf_row *row, void *base)
{
    char text[KG_PATH_MAX], why[200], *rest = text, *item;

    snprintf(text, sizeof text, "%s", row->preset);
    if (!row->type->list && text[0] != '\0')
        row->type->set(row, base, text, why, sizeof why);
    while (row->type->list && (item = strsep(&rest, " ")) != NULL)
        if (item[0] != '\0')
            row->type->set(row, base, item, why, sizeof why);
}

void kg_conf_defaults(const struct kg_conf_row *rows, size_t count, void *base, size_t size)
{
    memset(base, 0, size);
    for (size_t i = 0; i < count; i++)
        set_default(&rows[i], base);
}

void kg_config_defaults(struct kg_config *config)
{
    kg_conf_defaults(kg_conf_rows, kg_conf_row_count, config, sizeof *config);
}

static bool row_same(const struct kg_conf_row *row, const void *a, const void *b)
{
    static _Thread_local char text_a[ROW_TEXT], text_b[ROW_TEXT];

    if (row->type->secret) /* texts are filled up with zeros */
        return memcmp((const char *)a + row->offset, (const char *)b + row->offset, row->size) == 0;
    row_text(row, a, text_a);
    row_text(row, b, text_b);
    return strcmp(text_a, text_b) == 0;
}

/* Records differ if a row of theirs does. */
static bool records_same(const struct kg_conf_row *row, const char *a, const char *b)
{
    const struct kg_conf_record *record = row->record;
    size_t count = *(const size_t *)(const void *)(a + row->count_offset);

    if (count != *(const size_t *)(const void *)(b + row->count_offset))
        return false;
    for (size_t i = 0; i < count; i++) {
        size_t at = row->offset + i * record->element;
        for (size_t j = 0; j < record->count; j++)
            if (!row_same(&record->rows[j], a + at, b + at))
                return false;
    }
    return true;
}

/* Some and none are two ways of serving: a reload does not lead from one to the other. Nor does it bring the
 * one's routes to the other: they were checked against their own (kg_conf_check_lists), and without a PBX
 * calls of phones may go to a trunk, since then kedge knows who calls. */
static bool is_fixed(const struct kg_conf_row *row, const void *a, const void *b)
{
    const struct kg_config *config_a = a, *config_b = b;
    if (row->with_pbx && (config_a->pbx_count == 0) != (config_b->pbx_count == 0))
        return true;
    const size_t *count_a = (const size_t *)(const void *)((const char *)a + row->count_offset);
    const size_t *count_b = (const size_t *)(const void *)((const char *)b + row->count_offset);

    return !row->reloadable || (row->or_none && (*count_a == 0) != (*count_b == 0));
}

size_t kg_config_restart_rows(const struct kg_config *a, const struct kg_config *b, char *out, size_t size)
{
    size_t found = 0, used = 0;

    if (size > 0)
        out[0] = '\0';
    for (size_t i = 0; i < kg_conf_row_count; i++) {
        const struct kg_conf_row *row = &kg_conf_rows[i];
        if (!is_fixed(row, a, b) ||
            (row->record != NULL ? records_same(row, (const char *)a, (const char *)b) : row_same(row, a, b)))
            continue;
        if (used < size)
            used += (size_t)snprintf(out + used, size - used, "%s%s", found > 0 ? ", " : "", row->name);
        found++;
    }
    return found;
}

void kg_config_apply_reloadable(struct kg_config *to, const struct kg_config *from)
{
    for (size_t i = 0; i < kg_conf_row_count; i++) {
        const struct kg_conf_row *row = &kg_conf_rows[i];
        if (is_fixed(row, to, from))
            continue;
        memcpy((char *)to + row->offset, (const char *)from + row->offset, row->size);
        if (row->type->list)
            memcpy((char *)to + row->count_offset, (const char *)from + row->count_offset, sizeof(size_t));
    }
}

static void forget(const struct kg_conf_row *rows, size_t count, char *base)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i].type->secret)
            memset(base + rows[i].offset, 0, rows[i].size);
}

void kg_config_forget_secrets(struct kg_config *config)
{
    forget(kg_conf_rows, kg_conf_row_count, (char *)config);
    for (size_t i = 0; i < kg_conf_row_count; i++) {
        const struct kg_conf_row *row = &kg_conf_rows[i];
        for (size_t j = 0; row->record != NULL && j < row->max; j++)
            forget(row->record->rows, row->record->count,
                   (char *)config + row->offset + j * row->record->element);
    }
}

static void print_range(const struct kg_conf_row *row)
{
    if (row->type == &kg_conf_seconds || row->type == &kg_conf_count)
        printf("%s, %u to %u", row->type->name, row->min, row->max);
    else if (row->type->list)
        printf("%s, at most %u", row->type->name, row->max);
    else
        printf("%s", row->type->name);
}

/* One line of the reference; base holds the defaults. In a record: the list's name, and what its change
 * needs. */
static void print_row(const struct kg_conf_row *row, const void *base, const struct kg_conf_row *list)
{
    char text[ROW_TEXT] = "";

    printf("| `%s%s%s` | ", list != NULL ? list->name : "", list != NULL ? "[]." : "", row->name);
    print_range(row);
    if (row->record == NULL)
        row_text(row, base, text);
    if (text[0] != '\0')
        printf(" | `%s`", text);
    else
        printf(row->required ? " | needed" : " | none");
    printf(" | %s | %s |\n", (list != NULL ? list : row)->reloadable ? "reload" : "restart", row->doc);
}

void kg_config_print_reference(void)
{
    static struct kg_config config;

    kg_config_defaults(&config);
    printf("| name | value | default | a change needs | what it does |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < kg_conf_row_count; i++) {
        const struct kg_conf_row *row = &kg_conf_rows[i];
        void *element = kg_conf_field(row, &config); /* the first: nothing else is in it */

        print_row(row, &config, NULL);
        if (row->record == NULL)
            continue;
        kg_conf_defaults(row->record->rows, row->record->count, element, row->record->element);
        for (size_t j = 0; j < row->record->count; j++)
            print_row(&row->record->rows[j], element, row);
    }
}
