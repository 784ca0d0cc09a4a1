// SIP.js behind the same face as contrib/webphone/phone.js, for tests.
import { Inviter, Registerer, RegistererState, SessionState, UserAgent } from 'sip.js';
import { pathOf } from '../../contrib/webphone/path.js';
import { test } from './test.js';

class SipJsPhone extends EventTarget {
  constructor({ server, user, password, domain, instance, iceServers = [], audio = true }) {
    super();
    this.registration = { state: 'connecting', why: '' };
    this.call = null;
    this.audio = audio;
    this.domain = domain;
    this.agent = new UserAgent({
      uri: UserAgent.makeURI(`sip:${user}@${domain}`), authorizationUsername: user, authorizationPassword: password,
      instanceId: instance, instanceIdAlwaysAdded: true, logLevel: 'warn', transportOptions: { server },
      sessionDescriptionHandlerFactoryOptions: { iceGatheringTimeout: 1000, peerConnectionConfiguration: { iceServers } },
      delegate: {
        onInvite: (invitation) => this.#session(invitation, true),
        onConnect: () => this.registerer.register({
          requestDelegate: { onReject: ({ message }) => this.#registration('refused', `${message.statusCode} ${message.reasonPhrase}`) },
        }),
        onDisconnect: (error) => this.#registration('disconnected', error?.message ?? ''),
      },
    });
    this.registerer = new Registerer(this.agent, { regId: 1, instanceId: instance, expires: 600 });
    this.registerer.stateChange.addListener((state) => {
      if (state === RegistererState.Registered) this.#registration('registered');
      if (state === RegistererState.Unregistered && this.registration.state !== 'refused') this.#registration('off');
    });
  }

  start() {
    this.agent.start().catch((error) => this.#registration('disconnected', error.message));
  }

  stop() {
    return this.agent.stop();
  }

  dial(who, { video = false } = {}) {
    const target = UserAgent.makeURI(who.startsWith('sip:') ? who : `sip:${who}@${this.domain}`);
    const session = new Inviter(this.agent, target, this.#options(video));
    this.#session(session, false);
    this.call.sentAt = performance.now();
    session.invite({
      requestDelegate: {
        onProgress: () => this.#to('ringing'),
        onReject: ({ message }) => this.#to('ended', `${message.statusCode} ${message.reasonPhrase} ${message.getHeader('Warning') ?? ''}`),
      },
    }).catch((error) => this.#to('ended', error.message));
  }

  answer({ video = false } = {}) {
    this.call.session.accept(this.#options(video)).catch((error) => this.#to('ended', error.message));
  }

  hangUp() {
    const { session, state } = this.call;
    if (state === 'active') session.bye();
    else if (state === 'incoming') session.reject();
    else if (state !== 'ended') session.cancel();
  }

  // SIP.js holds by a direction in its own descriptions.
  hold(on) {
    return this.#reinvite(on).then((done) => {
      if (done) this.call.held = on;
      return done;
    });
  }

  reinvite() {
    return this.#reinvite(this.call.held);
  }

  dtmf(tones, how = 'RFC2833') {
    const { session } = this.call;
    if (how === 'RFC2833') return session.sessionDescriptionHandler.sendDtmf(tones, { duration: 160, interToneGap: 80 });
    const body = { contentDisposition: 'render', contentType: 'application/dtmf-relay', content: `Signal=${tones}\r\nDuration=160` };
    session.info({ requestOptions: { body } });
    return true;
  }

  get connection() {
    return this.call?.session.sessionDescriptionHandler?.peerConnection;
  }

  path() {
    return pathOf(this.connection);
  }

  #options(video) {
    return { sessionDescriptionHandlerOptions: { constraints: { audio: this.audio, video } } };
  }

  #reinvite(hold) {
    return new Promise((resolve) => {
      this.call.session.invite({
        sessionDescriptionHandlerOptions: { hold },
        requestDelegate: { onAccept: () => resolve(true), onReject: () => resolve(false) },
      }).catch(() => resolve(false));
    });
  }

  #registration(state, why = '') {
    this.registration = { state, why };
    this.dispatchEvent(new Event('change'));
  }

  #to(state, why = '') {
    if (this.call.state === 'ended') return;
    this.call.state = state;
    this.call.why = why;
    this.dispatchEvent(new Event('change'));
  }

  #session(session, incoming) {
    const call = {
      session, incoming, state: incoming ? 'incoming' : 'calling', why: '', stream: null, dtmf: [], held: false, heldByOther: false,
      remote: { user: session.remoteIdentity.uri.user },
    };
    this.call = call;
    session.delegate = {
      onSessionDescriptionHandler: (handler) => {
        handler.peerConnectionDelegate = {
          ontrack: ({ track }) => {
            call.stream = handler.remoteMediaStream;
            track.addEventListener('unmute', () => { if (track.kind === 'audio') call.unmutedAt ??= performance.now(); });
            setTimeout(() => this.dispatchEvent(new Event('change')));
          },
        };
      },
      onInfo: (info) => {
        call.dtmf.push(/Signal=\s*(\S)/.exec(info.request.body)?.[1] ?? '');
        info.accept();
      },
      onInvite: (request) => {
        call.heldByOther = /^a=(sendonly|inactive)/m.test(request.body);
      },
    };
    session.stateChange.addListener((state) => {
      if (state === SessionState.Established) this.#to('active');
      if (state === SessionState.Terminated) this.#to('ended');
    });
    this.dispatchEvent(new Event('change'));
  }
}

test(SipJsPhone);
