// The values over time, in growing arrays, and as CSV.

import { SAMPLE_RATE } from './resample.js';

const FORMULA = /^'*(?:[\t\r]|\s*[=+\-@＝＋－＠])/; // what a spreadsheet would evaluate, as in the tables of emojax
const CSV_PART = 4096;

export class Track {
  // `columns`: names of the values, attributes first.
  constructor(columns) {
    this.columns = columns;
    this.count = 0;
    this.capacity = 0;
    this.grow(256);
  }

  grow(capacity) {
    const larger = (array, type, width) => {
      const created = new type(capacity * width);
      if (array) created.set(array);
      return created;
    };
    this.times = larger(this.times, Float64Array, 1); // end of the audio so far (s)
    this.since = larger(this.since, Float64Array, 1); // start of the audio that the values are for (s)
    this.peaks = larger(this.peaks, Float32Array, 1); // largest sample since the last point
    this.values = larger(this.values, Float32Array, this.columns.length);
    this.capacity = capacity;
  }

  // Adds a point; times are numbers of samples.
  add({ time, since, peak, values }) {
    if (this.count === this.capacity) this.grow(2 * this.capacity);
    this.times[this.count] = time / SAMPLE_RATE;
    this.since[this.count] = since / SAMPLE_RATE;
    this.peaks[this.count] = peak;
    this.values.set(values, this.count * this.columns.length);
    this.count += 1;
  }

  // Value of a column at a point.
  value(point, column) {
    return this.values[point * this.columns.length + column];
  }

  // First point at or after a time; `count` if there is none.
  firstFrom(time) {
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // Column of the largest of the columns from `first` on.
  largest(point, first) {
    let best = first;
    for (let column = first + 1; column < this.columns.length; column++) {
      if (this.value(point, column) > this.value(point, best)) best = column;
    }
    return best;
  }

  // Parts of a CSV file: time and start of the estimate in seconds, then the values.
  *csv() {
    yield `${['time', 'since', ...this.columns].map(cell).join(',')}\n`;
    for (let first = 0; first < this.count; first += CSV_PART) {
      const rows = [];
      for (let i = first; i < Math.min(first + CSV_PART, this.count); i++) {
        const values = this.columns.map((_, column) => this.value(i, column).toPrecision(7));
        rows.push(`${[this.times[i].toFixed(4), this.since[i].toFixed(4), ...values].join(',')}\n`);
      }
      yield rows.join('');
    }
  }
}

function cell(text) {
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
