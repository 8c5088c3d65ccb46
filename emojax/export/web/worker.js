// The thread that computes: samples of any rate in, values over time out.

import { Resampler, SAMPLE_RATE } from './resample.js';
import { StreamModel } from './stream_model.js';

const RECORDED = 60 * SAMPLE_RATE; // most samples that are kept for tests
const MAX_MAGNITUDE = 1000; // of samples, as in emojax

let model;
let run;

const calls = {
  async load({ description }) {
    const [runtime, bytes] = await Promise.all([fetched('onnxruntime/runtime.wasm'), fetched('stream.onnx')]);
    model = await StreamModel.load(description, runtime, bytes);
    await model.advance(new Float32Array(SAMPLE_RATE)); // the first call is slower
  },

  // `window`: length of the window (s), 0 for none; `step`: longest time between updates (s); `whole`: only complete
  // steps are computed before the end, for the same times in every file; `record`: the first samples are kept, for tests.
  start({ id, rate, window, step, whole, record }) {
    model.reset(window * SAMPLE_RATE);
    const [resampler, rest] = [new Resampler(rate), new Float32Array(0)];
    run = { id, step: step * SAMPLE_RATE, whole, resampler, rest, busy: 0, record: record ? [] : null };
  },

  async push({ samples }) {
    check(samples);
    const start = performance.now();
    await compute(run.resampler.push(samples), run.whole);
    run.busy += performance.now() - start;
    return { busy: run.busy / 1000, seconds: model.total / SAMPLE_RATE };
  },

  async finish() {
    const start = performance.now();
    await compute(run.resampler.push(new Float32Array(0), true), false);
    run.busy += performance.now() - start;
    return { busy: run.busy / 1000, seconds: model.total / SAMPLE_RATE, samples: run.record && joined(run.record) };
  },
};

async function compute(samples, whole) {
  const input = joined([run.rest, samples]);
  let at = 0;
  while (input.length - at >= (whole ? run.step : 1)) {
    const step = input.slice(at, at + run.step);
    at += step.length;
    const point = await model.advance(step);
    if (model.total <= RECORDED) run.record?.push(step);
    if (!point) continue;
    const peak = step.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    postMessage({ point: { ...point, id: run.id, time: model.total, peak } });
  }
  run.rest = input.slice(at);
}

function check(samples) {
  for (const sample of samples) {
    if (!(Math.abs(sample) <= MAX_MAGNITUDE)) throw new Error('has samples that are not finite, or far above full scale');
  }
}

async function fetched(path) {
  const response = await fetch(new URL(path, import.meta.url));
  if (!response.ok) throw new Error(`${path}: cannot be loaded (${response.status})`);
  return response.arrayBuffer();
}

function joined(parts) {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

// Calls are answered one after the other.
let queue = Promise.resolve();
self.onmessage = ({ data }) => {
  queue = queue.then(async () => {
    try {
      postMessage({ call: data.call, result: await calls[data.name](data) });
    } catch (error) {
      postMessage({ call: data.call, error: error.message });
    }
  });
};
