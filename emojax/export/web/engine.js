// The thread that computes, as an object of the page.

import { UserError } from './errors.js';

export class Engine {
  constructor(description, onPoint) {
    // A script of this page rather than worker.js itself, so that the worker inherits the page's security policy.
    const code = `import ${JSON.stringify(new URL('worker.js', import.meta.url).href)};`;
    const url = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
    this.worker = new Worker(url, { type: 'module' });
    this.description = description;
    this.onPoint = onPoint;
    this.pending = new Map(); // by number of the call
    this.calls = 0;
    this.run = 0;
    this.worker.onmessage = ({ data }) => this.receive(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      const error = new UserError(`The computing thread failed (${event.message ?? 'its script cannot be loaded'})`);
      for (const { reject } of this.pending.values()) reject(error);
      this.pending.clear();
    };
  }

  load() {
    return this.call('load', { description: this.description });
  }

  // Starts a run; points of earlier runs are not passed on any more.
  start(options) {
    this.run += 1;
    return this.call('start', { ...options, id: this.run });
  }

  // Computes samples; the result has the time of computation and the duration of the audio (s) so far.
  push(samples) {
    return this.call('push', { samples });
  }

  finish() {
    return this.call('finish', {});
  }

  call(name, values) {
    this.calls += 1;
    const call = this.calls;
    return new Promise((resolve, reject) => {
      this.pending.set(call, { resolve, reject });
      this.worker.postMessage({ call, name, ...values });
    });
  }

  receive({ call, result, error, point }) {
    if (point) {
      if (point.id === this.run) this.onPoint(point);
      return;
    }
    const { resolve, reject } = this.pending.get(call);
    this.pending.delete(call);
    if (error === undefined) resolve(result);
    else reject(new UserError(error));
  }
}
