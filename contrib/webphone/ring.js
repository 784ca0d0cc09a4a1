// What a telephone sounds like while it rings, and while it waits for the other one to: two cadences of one oscillator.

const HZ = 425;
const CADENCE = { incoming: [[0, 0.4], [0.6, 1.0]], ringing: [[0, 1]] }; // on, off, in seconds of each round
const ROUND_MS = 4000;

let context = null;
let timer = null;
let playing = '';

// state: of a call; every other one is silence. The browser lets a page sound only after somebody has used it.
export function ring(state) {
  const wanted = state in CADENCE ? state : '';
  if (wanted === playing) return;
  playing = wanted;
  clearInterval(timer);
  context?.close();
  context = null;
  if (!wanted) return;
  context = new AudioContext();
  const once = () => CADENCE[wanted].forEach(([on, off]) => beep(on, off));
  once();
  timer = setInterval(once, ROUND_MS);
}

function beep(on, off) {
  const tone = new OscillatorNode(context, { frequency: HZ });
  const volume = new GainNode(context, { gain: 0.1 });
  tone.connect(volume).connect(context.destination);
  tone.start(context.currentTime + on);
  tone.stop(context.currentTime + off);
}
