// The page: what the person sees and presses. The telephone itself is phone.js.
import { Phone } from './phone.js';
import { pathOf } from './path.js';
import { ring } from './ring.js';
import { whyNoSocket } from './words.js';

const at = (id) => document.getElementById(id);
const host = location.hostname;
// What kedge says of itself beside the page: the domain of its accounts, and where its WebSocket is.
const kedge = await fetch('config.json', { cache: 'no-store' }).then((answer) => (answer.ok ? answer.json() : {})).catch(() => ({}));
const server = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${kedge.websocket ?? '/'}`;
const LOOK_MS = 1000; // between two looks at the statistics of a call
const PATH_MS = 5000; // a path that takes longer will hardly be found
// Where a listener of kedge's answers STUN. Browsers refuse to ask port 5060.
const STUN = [{ urls: `stun:${host}:3478` }];

let phone = null;
let looking = null;
let shownCall = null;

const REGISTRATION = {
  connecting: 'connecting', registered: 'registered', refused: 'refused', disconnected: 'no connection', off: 'not registered',
};

// One phone a tab: its name outlives a reload, and the registrar then knows that the old connection is gone (RFC 5626 4.1). A tab
// that was duplicated has the name of another one, which holds the lock of it.
const instance = (async () => {
  const known = sessionStorage.getItem('instance') ?? crypto.randomUUID();
  const free = await new Promise((resolve) => {
    navigator.locks.request(known, { ifAvailable: true }, (lock) => {
      resolve(Boolean(lock));
      return lock && new Promise(() => {}); // held as long as the page is there
    });
  });
  const name = free ? known : crypto.randomUUID();
  sessionStorage.setItem('instance', name);
  return name;
})().catch(() => undefined); // a page without https has no such thing, and no microphone either

// Whether it answers is found out once: waiting for a silent one would delay each call.
const useful = new Promise((resolve) => {
  const probe = new RTCPeerConnection({ iceServers: STUN });
  const done = (found) => {
    probe.close();
    resolve(found ? STUN : []);
  };
  probe.createDataChannel('probe');
  probe.addEventListener('icecandidate', ({ candidate }) => {
    if (!candidate) done(false);
    else if (candidate.type === 'srflx') done(true);
  });
  setTimeout(done, 1500, false);
  probe.setLocalDescription().catch(() => done(false));
});

async function register(user, password) {
  const iceServers = await useful;
  phone?.stop();
  phone = new Phone({ server, user, password, domain: kedge.domain ?? host, instance: await instance, iceServers });
  phone.addEventListener('change', show);
  phone.start();
  at('who').textContent = `${user} at ${host}`;
  show();
}

function leave() {
  sessionStorage.removeItem('account');
  phone?.hangUp();
  phone?.stop();
  phone = null;
  show();
}

// Showing

function trouble(text) {
  at('trouble').hidden = !text;
  at('trouble').textContent = text;
}

async function showTrouble() {
  const { state, why } = phone?.registration ?? {};
  if (state === 'disconnected') {
    const found = await whyNoSocket(server);
    if (phone?.registration.state === 'disconnected') trouble(`${found} Trying again.`);
  } else {
    trouble(why || (phone?.call?.state === 'ended' ? phone.call.why : ''));
  }
}

function show() {
  const { state } = phone?.registration ?? { state: 'off' };
  at('registration').dataset.state = state;
  at('registration').textContent = REGISTRATION[state];
  // A first registration that was refused goes back to the form; a later one keeps the call on the screen.
  const inside = Boolean(phone) && (state !== 'refused' || Boolean(phone.call));
  if (state === 'refused' && !phone.call) sessionStorage.removeItem('account');
  at('login').hidden = inside;
  at('phone').hidden = !inside;
  showTrouble();
  showCall(phone?.call);
}

function stateInWords(call) {
  switch (call.state) {
    case 'calling': return 'calling …';
    case 'ringing': return 'ringing …';
    case 'incoming': return 'is calling you';
    case 'ended': return 'ended';
    default: return [call.held && 'on hold', call.heldByOther && 'they hold the call', call.muted && 'muted'].filter(Boolean).join(', ') || 'connected';
  }
}

function timeOf(call) {
  if (!call.startedAt) return '';
  const seconds = Math.floor(((call.endedAt ?? Date.now()) - call.startedAt) / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

function showCall(call) {
  ring(call?.state);
  at('call').hidden = !call;
  document.title = call && call.state !== 'ended' ? `${call.remote.user} · kedge` : 'Phone · kedge';
  if (!call) return;
  const { state } = call;
  at('call').dataset.state = state;
  at('remote').textContent = call.remote.name ? `${call.remote.name} (${call.remote.user})` : call.remote.user || 'unknown';
  at('state').textContent = stateInWords(call);
  at('time').textContent = timeOf(call);
  at('answer').hidden = state !== 'incoming';
  at('path').hidden = !call.path && state !== 'active';
  for (const id of ['hold', 'mute', 'keys']) at(id).hidden = state !== 'active';
  if (state !== 'active') at('pad').hidden = true;
  at('hangup').hidden = state === 'ended';
  at('hangup').textContent = state === 'incoming' ? 'Decline' : 'Hang up';
  at('hold').setAttribute('aria-pressed', call.held);
  at('hold').textContent = call.held ? 'Resume' : 'Hold';
  at('hold').disabled = call.asking;
  at('mute').setAttribute('aria-pressed', call.muted);
  at('mute').textContent = call.muted ? 'Unmute' : 'Mute';
  at('dial').querySelector('button').disabled = state !== 'ended';
  if (at('sound').srcObject !== call.stream) at('sound').srcObject = call.stream;
  if (call !== shownCall) {
    shownCall = call;
    at('keys').setAttribute('aria-expanded', 'false');
    if (call.incoming) at('answer').focus();
  }
  if (state === 'ended') stopLooking();
  else looking ??= setInterval(look, LOOK_MS);
  look();
}

function stopLooking() {
  clearInterval(looking);
  looking = null;
  at('dial').querySelector('button').disabled = false;
}

async function look() {
  const call = phone?.call;
  if (!call) return stopLooking();
  at('time').textContent = timeOf(call);
  if (call.state === 'ended') return undefined; // what was last seen stays
  const path = await pathOf(call.session.connection);
  if (!path?.local) {
    const late = call.startedAt && Date.now() - call.startedAt > PATH_MS;
    at('way').textContent = late ? 'no path found; does this network block UDP?' : 'looking for a path';
    return undefined;
  }
  call.path = path;
  at('path').hidden = false;
  at('way').textContent = path.words;
  at('local').textContent = path.local?.text ?? '–';
  at('remote-candidate').textContent = path.remote ? `${path.remote.text}, ${path.remote.protocol.toUpperCase()}` : '–';
  at('rtt').textContent = path.rtt === null ? '–' : path.rtt ? `${path.rtt} ms` : 'under 1 ms';
  at('dtls').textContent = path.dtls === 'connected' ? `${path.tls}, ${path.srtp.replace(/^SRTP_/, '').replaceAll('_', ' ')}` : `DTLS ${path.dtls}`;
  at('codec').textContent = path.codec || '–';
  at('packets').textContent = `${path.sent} sent, ${path.received} received, ${path.lost} lost` + (path.jitter === null ? '' : `, jitter ${path.jitter} ms`);
  return undefined;
}

// Pressing

at('server').textContent = location.host;
at('login').addEventListener('submit', (event) => {
  event.preventDefault();
  const [user, password] = [at('user').value.trim(), at('password').value];
  sessionStorage.setItem('account', JSON.stringify([user, password])); // for a reload of this tab
  register(user, password);
  at('password').value = '';
});
at('dial').addEventListener('submit', (event) => {
  event.preventDefault();
  const number = at('number').value.trim().replace(/(?<=\d)[\s()./-]+(?=\d)/g, '');
  try {
    phone.dial(number);
  } catch {
    trouble(`“${number}” cannot be dialled.`);
  }
});
at('answer').addEventListener('click', () => phone.answer());
at('hangup').addEventListener('click', () => phone.hangUp());
at('hold').addEventListener('click', () => phone.hold(!phone.call.held));
at('mute').addEventListener('click', () => phone.mute(!phone.call.muted));
at('keys').addEventListener('click', () => {
  at('pad').hidden = !at('pad').hidden;
  at('keys').setAttribute('aria-expanded', !at('pad').hidden);
});
at('leave').addEventListener('click', leave);
for (const key of '123456789*0#') {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = key;
  button.addEventListener('click', () => phone.dtmf(key));
  at('pad').append(button);
}
document.addEventListener('keydown', (event) => {
  const typing = event.target instanceof HTMLInputElement;
  if (!typing && !at('pad').hidden && /^[0-9*#]$/.test(event.key)) phone.dtmf(event.key);
});
// The call would go on without anybody in it.
window.addEventListener('pagehide', () => phone?.hangUp());

if (!navigator.mediaDevices) {
  trouble('Browsers let only pages that came by https use the microphone: open this one by https.');
} else if (sessionStorage.getItem('account')) {
  register(...JSON.parse(sessionStorage.getItem('account')));
}
show();
