// The microphone as blocks of mono samples at the rate of the audio device.

import { UserError } from './errors.js';

const REASONS = {
  NotAllowedError: 'the browser or the visitor refused access',
  NotFoundError: 'there is none',
  NotReadableError: 'another program uses it, or it failed',
};

const MAX_BEHIND_SECONDS = 30;
const MAX_START_SECONDS = 5;

// Starts recording: { rate, seconds, pieces(), stop() }; the pieces, of 50 ms or what came meanwhile, end after `stop`.
export async function openMicrophone() {
  if (!navigator.mediaDevices?.getUserMedia || !globalThis.AudioWorkletNode) {
    throw new UserError('Microphone: browsers allow it on https and on localhost only');
  }
  let stream;
  try {
    // Unprocessed, as recordings are: suppression of noise would change what the model was trained on.
    const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    stream = await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    throw new UserError(`Microphone: ${REASONS[error.name] ?? error.message}`);
  }
  const context = new AudioContext();
  const blocks = new Blocks(context.sampleRate);
  let stopped = false;
  const stop = () => {
    if (stopped) return; // `context.state` tells of the first call too late
    stopped = true;
    stream.getTracks().forEach((track) => track.stop());
    context.close();
    blocks.end();
  };
  try {
    await context.audioWorklet.addModule(new URL('capture.js', import.meta.url));
    const node = new AudioWorkletNode(context, 'capture', { channelCount: 1, channelCountMode: 'explicit' });
    node.port.onmessage = ({ data }) => blocks.add(data);
    stream.getAudioTracks()[0].addEventListener('ended', () => blocks.end('Microphone: was disconnected'));
    context.createMediaStreamSource(stream).connect(node);
    node.connect(context.destination); // its output is silence; unconnected nodes need not run
    await started(context);
  } catch (error) {
    stop();
    throw new UserError(`Microphone: ${error.message}`);
  }
  return { rate: context.sampleRate, seconds: Infinity, pieces: () => blocks.pieces(), stop };
}

// Waits until audio is processed, which in Firefox never happens where the computer has no output device.
async function started(context) {
  let timer;
  const late = new Promise((_, reject) => {
    const reason = `audio did not start within ${MAX_START_SECONDS} s; some browsers need an output device`;
    timer = setTimeout(() => reject(new Error(reason)), 1000 * MAX_START_SECONDS);
  });
  await Promise.race([context.resume(), late]);
  clearTimeout(timer);
}

// Blocks that arrived and were not read yet.
class Blocks {
  constructor(rate) {
    this.rate = rate;
    this.waiting = [];
    this.ended = false;
    this.wake = () => {};
  }

  add(block) {
    if (this.ended) return;
    this.waiting.push(block);
    if (this.waiting.length * block.length > MAX_BEHIND_SECONDS * this.rate) {
      this.end(`Microphone: this device computes too slowly, it was ${MAX_BEHIND_SECONDS} s behind`);
    }
    this.wake();
  }

  end(problem) {
    this.problem ??= this.ended ? undefined : problem;
    this.ended = true;
    this.wake();
  }

  async *pieces() {
    for (;;) {
      if (this.waiting.length) {
        const blocks = this.waiting.splice(0);
        const joined = new Float32Array(blocks.reduce((sum, block) => sum + block.length, 0));
        blocks.forEach((block, i) => joined.set(block, i * block.length));
        yield joined;
      } else if (this.ended) {
        if (this.problem) throw new UserError(this.problem);
        return;
      } else {
        await new Promise((resolve) => (this.wake = resolve));
      }
    }
  }
}
