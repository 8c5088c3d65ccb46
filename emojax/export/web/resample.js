// Resampling to 16 kHz by a windowed sinc, in pieces: what microphone and files go through alike.

export const SAMPLE_RATE = 16000;

// The band that soxr's quality HQ keeps, which emojax reads files with: whole up to 91.3 % of the lower Nyquist frequency,
// nothing (-120 dB) from 100 % on. Kaiser (1974): window and length from attenuation and width of the transition.
const PASS = 0.913;
const ATTENUATION = 120;
const BETA = 0.1102 * (ATTENUATION - 8.7);

export class Resampler {
  constructor(rate) {
    const divisor = greatestDivisor(Math.round(rate), SAMPLE_RATE);
    this.up = SAMPLE_RATE / divisor;
    this.down = Math.round(rate) / divisor;
    const nyquist = 0.5 * Math.min(1, SAMPLE_RATE / rate); // cycles per input sample
    this.cutoff = (nyquist * (1 + PASS)) / 2;
    this.half = Math.ceil((ATTENUATION - 7.95) / (2.285 * 2 * Math.PI * nyquist * (1 - PASS)) / 2);
    this.kernels = new Map(); // by phase, as they are needed
    this.waiting = new Float32Array(this.half); // zeros before the start
    this.first = -this.half; // index of waiting[0] among the input samples
    this.next = 0; // index of the next output sample
    this.received = 0;
  }

  // Adds samples; returns those of the output that they complete. `last` completes the rest.
  push(samples, last = false) {
    if (this.up === this.down) return samples;
    this.received += samples.length;
    const input = new Float32Array(this.waiting.length + samples.length + (last ? this.half : 0));
    input.set(this.waiting);
    input.set(samples, this.waiting.length);
    const end = last ? Math.round((this.received * this.up) / this.down) : Infinity;
    const output = [];
    for (; this.next < end; this.next++) {
      const position = this.next * this.down;
      const start = Math.floor(position / this.up) - this.half + 1 - this.first;
      if (start + 2 * this.half > input.length) break;
      output.push(dot(this.kernel(position % this.up), input, start));
    }
    const keep = Math.floor((this.next * this.down) / this.up) - this.half + 1 - this.first;
    this.waiting = input.slice(Math.min(keep, input.length));
    this.first += Math.min(keep, input.length);
    return Float32Array.from(output);
  }

  // Weights of the input samples around a position that is `phase` / up after a sample.
  kernel(phase) {
    let kernel = this.kernels.get(phase);
    if (!kernel) {
      kernel = Float64Array.from({ length: 2 * this.half }, (_, i) => this.weight(i - this.half + 1 - phase / this.up));
      const sum = kernel.reduce((total, value) => total + value, 0);
      kernel.forEach((value, i) => (kernel[i] = value / sum));
      this.kernels.set(phase, kernel);
    }
    return kernel;
  }

  weight(distance) {
    const angle = 2 * Math.PI * this.cutoff * distance;
    const share = distance / this.half;
    if (Math.abs(share) >= 1) return 0;
    const window = bessel(BETA * Math.sqrt(1 - share * share)) / bessel(BETA);
    return window * 2 * this.cutoff * (angle === 0 ? 1 : Math.sin(angle) / angle);
  }
}

function dot(kernel, input, start) {
  let sum = 0;
  for (let i = 0; i < kernel.length; i++) sum += kernel[i] * input[start + i];
  return sum;
}

// Modified Bessel function of the first kind, order 0.
function bessel(x) {
  let [term, sum] = [1, 1];
  for (let k = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function greatestDivisor(a, b) {
  return b === 0 ? a : greatestDivisor(b, a % b);
}
