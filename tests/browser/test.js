// What the tests drive: window.start(options) makes the phone, window.phone is it, window.told what it went through.
import { Ear } from './ear.js';

// The tone shall arrive as it was.
const RAW = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

export function test(Kind) {
  window.told = [];
  window.start = (options) => {
    const phone = new Kind({ audio: RAW, ...options });
    window.phone = phone;
    phone.addEventListener('change', () => {
      told.push([Math.round(performance.now()), phone.registration.state, phone.call?.state ?? '', phone.call?.why ?? '']);
      const stream = phone.call?.stream;
      if (stream && stream !== window.ear?.element.srcObject && stream.getAudioTracks().length) {
        window.ear?.close();
        window.ear = new Ear(stream);
      }
    });
    phone.start();
  };
  // Of the other side's video, so far decoded.
  window.framesSeen = async () => {
    const report = await window.phone.connection.getStats();
    return Math.max(0, ...[...report.values()].filter((s) => s.type === 'inbound-rtp' && s.kind === 'video').map((s) => s.framesDecoded ?? 0));
  };
  window.state = () => {
    const { call, registration } = window.phone;
    return {
      registration: registration.state, registrationWhy: registration.why, call: call?.state ?? '', why: call?.why ?? '',
      held: call?.held ?? false, heldByOther: call?.heldByOther ?? false, remote: call?.remote.user ?? '', dtmf: (call?.dtmf ?? []).join(''),
    };
  };
}
