// What the page hears: the strongest frequency of the remote sound, twenty times a second.

const STEP_MS = 50;
const QUIET_DB = -60; // of full scale; a tone at a quarter of it is at -12

export class Ear {
  constructor(stream) {
    this.heard = []; // Hz, or 0 for silence, one a step
    this.element = new Audio(); // Chromium decodes a remote stream only while an element plays it
    this.element.srcObject = stream;
    this.element.muted = false;
    this.element.play().catch(() => {});
    this.context = new AudioContext();
    this.analyser = new AnalyserNode(this.context, { fftSize: 4096, smoothingTimeConstant: 0 });
    this.context.createMediaStreamSource(new MediaStream(stream.getAudioTracks())).connect(this.analyser);
    this.bins = new Float32Array(this.analyser.frequencyBinCount);
    this.timer = setInterval(() => this.step(), STEP_MS);
  }

  step() {
    this.analyser.getFloatFrequencyData(this.bins);
    let best = 0;
    for (let i = 1; i < this.bins.length; i++) if (this.bins[i] > this.bins[best]) best = i;
    const hz = (best * this.context.sampleRate) / this.analyser.fftSize;
    const heard = this.bins[best] > QUIET_DB ? Math.round(hz) : 0;
    if (heard && !this.first) this.first = performance.now();
    this.heard.push(heard);
  }

  // Milliseconds at which the tone was the strongest, since step number `since`.
  ms(hz, since = 0) {
    return this.heard.slice(since).filter((h) => Math.abs(h - hz) <= 20).length * STEP_MS;
  }

  close() {
    clearInterval(this.timer);
    this.context.close();
    this.element.srcObject = null;
  }
}
