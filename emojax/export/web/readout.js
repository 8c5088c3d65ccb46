// Values of now, speed, and the text alternative of the curves.

import { byId, categoryTokens, element, formatTime } from './shared.js';

const RATE_SECONDS = 2; // over which updates are counted
const SUMMARY_SECONDS = 5; // between announcements to screen readers

export class Readout {
  constructor(description) {
    this.description = description;
    this.attributes = description.attributes.map((name) => this.row('div', 'dt', 'dd', name, `--${name}`));
    const tokens = categoryTokens(description.categories);
    this.categories = description.categories.map((name, i) => this.row('li', 'span', 'span', name, tokens[i]));
    byId('attributes').replaceChildren(...this.attributes.map(({ row }) => row));
    byId('categories').replaceChildren(...this.categories.map(({ row }) => row));
    byId('attributes').hidden = !this.attributes.length;
    byId('categories').hidden = !this.categories.length;
    this.start();
  }

  row(tag, nameTag, valueTag, name, token) {
    const value = element(valueTag, { text: '–', className: 'value' });
    const row = element(tag, {}, element(nameTag, { text: name, className: 'name' }), value);
    row.style.setProperty('--colour', `var(${token}, var(--ink))`);
    return { row, value };
  }

  // Begins a run.
  start() {
    this.arrivals = [];
    this.updates = 0;
    this.began = null;
    this.spoken = -Infinity;
    this.speed = { busy: 0, seconds: 0 };
    for (const { row, value } of [...this.attributes, ...this.categories]) {
      value.textContent = '–';
      row.style.removeProperty('--share');
      row.classList.remove('most');
    }
    for (const id of ['rate', 'factor']) byId(id).textContent = '–';
    byId('clock').textContent = formatTime(0, 1);
    byId('plot').setAttribute('aria-label', 'No values yet');
    byId('summary').textContent = '';
  }

  // Counts an update of the values.
  count() {
    const now = performance.now() / 1000;
    this.began ??= now;
    this.updates += 1;
    this.arrivals.push(now);
    while (this.arrivals[0] < now - RATE_SECONDS) this.arrivals.shift();
  }

  // Updates a second: of the last two seconds, or of the whole run.
  rate(whole) {
    if (this.updates < 2) return null;
    const [first, last] = [whole ? this.began : this.arrivals[0], this.arrivals.at(-1)];
    const count = whole ? this.updates : this.arrivals.length;
    return last > first ? (count - 1) / (last - first) : null;
  }

  // Time of computation divided by the duration of the audio.
  factor() {
    return this.speed.seconds ? this.speed.busy / this.speed.seconds : null;
  }

  // Shows the last point; `finished` at the end of a run.
  show(track, finished) {
    const rate = this.rate(finished);
    const factor = this.factor();
    byId('clock').textContent = formatTime(track.count ? track.times[track.count - 1] : 0, 1);
    byId('rate').textContent = rate === null ? '–' : rate.toFixed(rate < 100 ? 1 : 0);
    byId('factor').textContent = factor === null ? '–' : `${factor.toPrecision(2)} (${(1 / factor).toPrecision(2)}× as fast)`;
    if (!track.count) return;
    const { scale, attributes, categories } = this.description;
    const last = track.count - 1;
    this.attributes.forEach(({ row, value }, i) => {
      const found = track.value(last, i);
      value.textContent = found.toFixed(2);
      row.style.setProperty('--share', Math.min(Math.max((found - scale[0]) / (scale[1] - scale[0]), 0), 1));
    });
    const most = categories.length ? track.largest(last, attributes.length) - attributes.length : -1;
    this.categories.forEach(({ row, value }, i) => {
      const found = track.value(last, attributes.length + i);
      value.textContent = `${Math.round(100 * found)} %`;
      row.style.setProperty('--share', found);
      row.classList.toggle('most', i === most);
    });
    const now = performance.now() / 1000;
    if (finished || now - this.spoken >= SUMMARY_SECONDS) {
      this.spoken = now;
      this.describe(track, last, most);
    }
  }

  describe(track, last, most) {
    const { attributes, categories, scale } = this.description;
    const parts = attributes.map((name, i) => `${name} ${track.value(last, i).toFixed(1)}`);
    if (parts.length) parts.push(`on the scale ${scale.join(' to ')}`);
    if (most >= 0) parts.push(`${categories[most]} ${Math.round(100 * track.value(last, attributes.length + most))} %`);
    const text = `At ${formatTime(track.times[last])}: ${parts.join(', ')}`;
    byId('summary').textContent = text;
    const ranges = attributes.map((name, column) => {
      let [low, high] = [Infinity, -Infinity];
      for (let i = 0; i <= last; i++) {
        low = Math.min(low, track.value(i, column));
        high = Math.max(high, track.value(i, column));
      }
      return `${name} between ${low.toFixed(1)} and ${high.toFixed(1)}`;
    });
    byId('plot').setAttribute('aria-label', `Curves. ${text}${ranges.length ? `; so far ${ranges.join(', ')}` : ''}`);
  }
}
