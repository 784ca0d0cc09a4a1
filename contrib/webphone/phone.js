// One telephone on a WebSocket, without a page around it: registration, one call at a time, and what it costs to find out how the
// media goes. Everything that changes is announced by the event "change"; the state is in plain fields.
import JsSIP from 'jssip';
import { whyCallFailed, whyNotRegistered } from './words.js';

// Candidates trickle in for seconds where a network adapter leads nowhere. Once the browser knows its public address (that of the first
// line, whose transport the others will share: Firefox learns them in any order), or after this time, the offer goes out with what there is.
const GATHER_MS = 500;

export class Phone extends EventTarget {
  // server: "wss://host:port". domain: of the account, as kedge knows it or kedge's address. instance: names this phone to the
  // registrar (RFC 5626), the same again after a page reload, so that the new connection takes the place of the old one.
  constructor({ server, user, password, domain, instance, iceServers = [], audio = true, displayName = '' }) {
    super();
    this.registration = { state: 'connecting', why: '' }; // connecting, registered, refused, disconnected, off
    this.call = null;
    this.media = { audio };
    this.iceServers = iceServers;
    this.domain = domain;
    const socket = new JsSIP.WebSocketInterface(server);
    this.ua = new JsSIP.UA({
      sockets: [socket], uri: `sip:${user}@${domain}`, authorization_user: user, password, display_name: displayName,
      instance_id: instance, register_expires: 600, user_agent: 'kedge webphone',
      connection_recovery_min_interval: 1, connection_recovery_max_interval: 15,
    });
    this.ua.on('connecting', () => this.#registration('connecting'));
    this.ua.on('disconnected', (event) => this.#registration('disconnected', event.reason || ''));
    this.ua.on('registered', () => this.#registration('registered'));
    this.ua.on('unregistered', () => this.#registration(this.ua.isConnected() ? 'off' : 'disconnected'));
    this.ua.on('registrationFailed', (event) => this.#registration('refused', whyNotRegistered(event)));
    this.ua.on('newRTCSession', ({ originator, session }) => this.#session(originator, session));
  }

  start() {
    this.ua.start();
  }

  // Hangs up and leaves the registrar.
  stop() {
    this.ua.stop();
  }

  // who: a number, a name or a SIP URI. video: with the camera too.
  dial(who, { video = false } = {}) {
    const target = /^sips?:/i.test(who) ? who : `sip:${encodeURIComponent(who).replace(/%(2B|2A|23)/g, decodeURIComponent)}@${this.domain}`;
    this.ua.call(target, this.#options(video));
  }

  answer({ video = false } = {}) {
    this.call?.session.answer(this.#options(video));
  }

  // Ends the call, declines it or gives it up, whatever state it is in.
  hangUp() {
    const { session, state } = this.call ?? {};
    if (!session || session.isEnded()) return;
    session.terminate(state === 'incoming' ? { status_code: 486 } : {});
  }

  // Resolves to whether the other side was asked; while it is, it cannot be asked again (call.asking).
  hold(on) {
    const { session } = this.call;
    return this.#ask((done) => (on ? session.hold({}, done) : session.unhold({}, done)));
  }

  mute(on) {
    if (on) this.call.session.mute({ audio: true });
    else this.call.session.unmute({ audio: true });
  }

  // As telephone events in the media (RFC 4733), or in INFO.
  dtmf(tones, how = 'RFC2833') {
    this.call.session.sendDTMF(tones, { transportType: how, duration: 160, interToneGap: 80 });
  }

  // Offers the same again.
  reinvite() {
    const { session } = this.call;
    return this.#ask((done) => session.renegotiate({}, done));
  }

  #ask(begin) {
    const { call } = this;
    return new Promise((resolve) => {
      const asked = begin(() => {
        call.asking = false;
        this.#changed();
        resolve(true);
      });
      if (!asked) return resolve(false);
      call.asking = true;
      this.#changed();
      return undefined;
    });
  }

  #options(video) {
    return {
      mediaConstraints: { audio: this.media.audio, video },
      pcConfig: { iceServers: this.iceServers },
      rtcOfferConstraints: { offerToReceiveAudio: true, offerToReceiveVideo: video },
    };
  }

  #registration(state, why = '') {
    // A reconnection that fails again is no news over why the last one did.
    this.registration = { state, why };
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }

  #session(originator, session) {
    if (this.call && this.call.state !== 'ended') { // one call at a time
      if (originator === 'remote') session.terminate({ status_code: 486 });
      return;
    }
    const incoming = originator === 'remote';
    const identity = session.remote_identity;
    const call = {
      session, state: incoming ? 'incoming' : 'calling', incoming,
      remote: { user: identity.uri.user ?? '', name: identity.display_name ?? '', uri: identity.uri.toString() },
      held: false, heldByOther: false, muted: false, asking: false, why: '', startedAt: 0, stream: null, dtmf: [],
    };
    this.call = call;
    const to = (state, why = '') => {
      call.state = state;
      call.why = why;
      if (state === 'ended') call.endedAt = Date.now();
      this.#changed();
    };
    session.on('sending', () => { call.sentAt = performance.now(); });
    session.on('progress', () => { if (!incoming) to('ringing'); });
    session.on('accepted', () => { call.startedAt = Date.now(); });
    session.on('confirmed', () => to('active'));
    session.on('ended', (event) => to('ended', event.originator === 'local' ? '' : whyCallFailed(event)));
    session.on('failed', (event) => to('ended', whyCallFailed(event)));
    session.on('hold', ({ originator: by }) => { call[by === 'local' ? 'held' : 'heldByOther'] = true; this.#changed(); });
    session.on('unhold', ({ originator: by }) => { call[by === 'local' ? 'held' : 'heldByOther'] = false; this.#changed(); });
    session.on('muted', () => { call.muted = true; this.#changed(); });
    session.on('unmuted', () => { call.muted = false; this.#changed(); });
    session.on('newDTMF', ({ originator: by, dtmf }) => { if (by === 'remote') call.dtmf.push(dtmf.tone); });
    session.on('icecandidate', ({ candidate, ready }) => {
      if (candidate.type === 'srflx' && candidate.sdpMLineIndex === 0) ready();
      else call.patience ??= setTimeout(ready, GATHER_MS);
    });
    session.on('peerconnection', () => this.#listen(call));
    if (session.connection) this.#listen(call);
    this.#changed();
  }

  #listen(call) {
    const connection = call.session.connection;
    connection.addEventListener('track', (event) => {
      call.stream ??= event.streams[0] ?? new MediaStream();
      if (!call.stream.getTracks().includes(event.track)) call.stream.addTrack(event.track);
      event.track.addEventListener('unmute', () => { if (event.track.kind === 'audio') call.unmutedAt ??= performance.now(); });
      this.#changed();
    });
    for (const what of ['iceconnectionstatechange', 'connectionstatechange', 'icegatheringstatechange']) {
      connection.addEventListener(what, () => this.#changed());
    }
  }
}
