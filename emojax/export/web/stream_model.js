// The model on a stream: state between calls, and the outputs for everything since a start.

import * as ort from './onnxruntime/runtime.js';

export class StreamModel {
  // `description` is the data of the page; `runtime` and `model` are the bytes of the WebAssembly and of the ONNX file.
  static async load(description, runtime, model) {
    ort.env.wasm.numThreads = 1; // more need a cross-origin isolated page, and are slower for calls this short
    ort.env.wasm.wasmBinary = runtime;
    const session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ['wasm'] });
    return new StreamModel(session, description);
  }

  constructor(session, description) {
    this.session = session;
    this.shapes = Object.entries(description.state);
    this.outputs = ['attributes', 'categories'].filter((name) => description[name].length);
    this.fetches = [...this.outputs, ...this.shapes.map(([name]) => `next_${name}`)];
    this.reset(0);
  }

  // Starts a new stream. With `window` (samples, 0: none), estimates begin anew, so that they are over the last window / 2
  // to window samples: two streams in one batch, whose states are set to zero in turn.
  reset(window) {
    this.rows = window ? 2 : 1;
    this.since = new Array(this.rows).fill(0); // first sample of each stream
    this.total = 0;
    this.half = window / 2;
    this.restart = window ? this.half : Infinity;
    this.state = {};
    for (const [name, shape] of this.shapes) {
      const size = shape.reduce((product, each) => product * each, this.rows);
      this.state[name] = new ort.Tensor('float32', new Float32Array(size), [this.rows, ...shape]);
    }
  }

  // Adds at least one sample. Returns values (attributes, then categories) and the first sample they are for; null
  // before the first frames are complete.
  async advance(samples) {
    const batch = new Float32Array(this.rows * samples.length);
    for (let row = 0; row < this.rows; row++) batch.set(samples, row * samples.length);
    const inputs = { waveform: new ort.Tensor('float32', batch, [this.rows, samples.length]) };
    for (const [name] of this.shapes) inputs[`state_${name}`] = this.state[name];
    const found = await this.session.run(inputs, this.fetches);
    for (const [name] of this.shapes) this.state[name] = found[`next_${name}`];
    this.total += samples.length;
    const row = this.since.indexOf(Math.min(...this.since));
    const values = this.outputs.flatMap((name) => {
      const { data, dims } = found[name];
      return Array.from(data.subarray(row * dims[1], (row + 1) * dims[1]));
    });
    const point = { values, since: this.since[row] };
    const complete = this.state.frames.data[row] > 0;
    if (this.total >= this.restart) this.restartOldest();
    return complete ? point : null;
  }

  // The stream with the longest history begins anew with the samples that are waiting for their frame.
  restartOldest() {
    const row = this.since.lastIndexOf(Math.min(...this.since));
    for (const [name] of this.shapes) {
      if (name === 'waiting') continue;
      const { data } = this.state[name];
      data.fill(0, (row * data.length) / this.rows, ((row + 1) * data.length) / this.rows);
    }
    this.since[row] = this.total - this.state.waiting.dims[1];
    this.restart += this.half;
  }
}
