// Which way the media goes, in words, from the browser's statistics.

const byId = (report, id) => (id ? report.get(id) : undefined);

const KIND = { host: 'its own address', srflx: 'its address outside of the NAT', prflx: 'an address found by a check', relay: 'a relay' };

function candidate(c) {
  if (!c) return null;
  const address = c.address ?? c.ip ?? '';
  return {
    type: c.candidateType, kind: KIND[c.candidateType] ?? c.candidateType, address, port: c.port, protocol: c.protocol,
    text: `${address ? `${address.includes(':') ? `[${address}]` : address}:${c.port}` : 'hidden by the browser'} (${c.candidateType})`,
  };
}

// kedge puts its own address into c= of every description (RFC 4566 5.7), and gives phones that it brings together each other's
// candidates beside: a peer at another address is the other phone itself.
function addressesOfKedge(sdp) {
  return new Set([...(sdp ?? '').matchAll(/^c=IN IP[46] ([^\s/]+)/gm)].map((m) => m[1].toLowerCase()));
}

// Returns null before there is a connection, else
// { way: 'direct' | 'kedge' | 'turn' | '', words, local, remote, rtt, dtls, srtp, codec, sent, received, lost, heard }.
export async function pathOf(connection) {
  if (!connection) return null;
  const report = await connection.getStats();
  const found = { transport: null, pair: null, inbound: null, outbound: null };
  for (const entry of report.values()) {
    if (entry.type === 'transport') found.transport ??= entry;
    if (entry.type === 'inbound-rtp' && entry.kind === 'audio') found.inbound = entry;
    if (entry.type === 'outbound-rtp' && entry.kind === 'audio') found.outbound = entry;
  }
  found.pair = byId(report, found.transport?.selectedCandidatePairId) ??
    [...report.values()].find((e) => e.type === 'candidate-pair' && e.selected); // Firefox
  const local = candidate(byId(report, found.pair?.localCandidateId));
  const remote = candidate(byId(report, found.pair?.remoteCandidateId));
  const way = wayOf(local, remote, addressesOfKedge(connection.remoteDescription?.sdp));
  const codec = byId(report, found.inbound?.codecId ?? found.outbound?.codecId);
  const transport = found.transport;
  return {
    way, local, remote, words: wordsOf(way, connection.iceConnectionState), ice: connection.iceConnectionState,
    rtt: found.pair?.currentRoundTripTime === undefined ? null : Math.round(found.pair.currentRoundTripTime * 1000),
    dtls: transport?.dtlsState ?? 'new', tls: tlsVersion(transport?.tlsVersion), srtp: transport?.srtpCipher ?? '',
    fingerprint: byId(report, transport?.remoteCertificateId)?.fingerprint ?? '',
    ownFingerprint: byId(report, transport?.localCertificateId)?.fingerprint ?? '',
    codec: codec ? codec.mimeType.replace(/^audio\//, '') : '',
    sent: found.outbound?.packetsSent ?? 0, received: found.inbound?.packetsReceived ?? 0, lost: found.inbound?.packetsLost ?? 0,
    jitter: found.inbound?.jitter === undefined ? null : Math.round(found.inbound.jitter * 1000),
  };
}

function wayOf(local, remote, kedge) {
  if (!remote) return '';
  if (local?.type === 'relay') return 'turn';
  return remote.type === 'relay' || kedge.has(remote.address.toLowerCase()) ? 'kedge' : 'direct';
}

function wordsOf(way, ice) {
  if (ice === 'failed') return 'no path to the other side was found';
  return { direct: 'direct to the other phone', kedge: 'through kedge', turn: 'through a TURN server' }[way] ?? 'looking for a path';
}

const tlsVersion = (hex) => ({ FEFD: 'DTLS 1.2', FEFC: 'DTLS 1.3', FEFF: 'DTLS 1.0' }[hex?.toUpperCase()] ?? (hex ? `DTLS (${hex})` : ''));
