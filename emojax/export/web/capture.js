// Collects the samples of the microphone on the audio thread, and passes them on in blocks of 50 ms.

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.start();
  }

  start() {
    this.block = new Float32Array(Math.round(sampleRate / 20));
    this.used = 0;
  }

  process([[samples]]) {
    let rest = samples ?? new Float32Array(0); // no channel as long as the microphone is not connected
    while (rest.length) {
      const part = rest.subarray(0, this.block.length - this.used);
      this.block.set(part, this.used);
      this.used += part.length;
      rest = rest.subarray(part.length);
      if (this.used === this.block.length) {
        this.port.postMessage(this.block, [this.block.buffer]);
        this.start();
      }
    }
    return true;
  }
}

registerProcessor('capture', Capture);
