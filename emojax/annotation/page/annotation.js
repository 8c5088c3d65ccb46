// The annotation: columns of segments, the track of windows, the waveform. Times are in seconds.

// Lowest and highest value of an attribute, in words.
const ENDS = {
  activation: ['least active', 'most active'],
  valence: ['most negative', 'most positive'],
  dominance: ['least dominant', 'most dominant'],
};

function readAnnotation() {
  const data = JSON.parse(document.getElementById('data').textContent);
  const columns = data.segments;
  const segments = {
    ...columns,
    count: columns.start.length,
    start: toSeconds(columns.start),
    end: toSeconds(columns.end),
    latestEnd: null,
  };
  // Latest end of a segment and of all before it: the search for segments at a time stops there.
  segments.latestEnd = segments.end.slice();
  for (let i = 1; i < segments.count; i++) {
    segments.latestEnd[i] = Math.max(segments.latestEnd[i], segments.latestEnd[i - 1]);
  }
  const track = data.track && {
    ...data.track,
    times: toSeconds(data.track.times),
    window: data.track.window / 1000,
    hop: data.track.hop / 1000,
    values: toNumbers(data.track.values),
    spread: data.track.spread && toNumbers(data.track.spread),
  };
  const waveform = data.waveform && { hop: data.waveform.hop, peaks: toBytes(data.waveform.peaks) };
  const duration = Math.max(data.duration / 1000, 0.001);
  const hasText = columns.text.some((text) => text !== null);
  return { ...data, segments, track, waveform, duration, hasText };
}

function toSeconds(milliseconds) {
  return Float64Array.from(milliseconds, (time) => time / 1000);
}

// Arrays of numbers, NaN where there is none.
function toNumbers(columns) {
  return Object.fromEntries(
    Object.entries(columns).map(([name, values]) => [name, Float64Array.from(values, (value) => value ?? NaN)]),
  );
}

function toBytes(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// Index of the last element <= value of a sorted array; -1 if all are larger.
function lastAtOrBefore(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

// Segment at a time: of several, the one that began last; -1 between segments.
function segmentAt(segments, time) {
  for (let i = lastAtOrBefore(segments.start, time); i >= 0 && segments.latestEnd[i] > time; i--) {
    if (segments.end[i] > time) return i;
  }
  return -1;
}

// First and one after the last of the segments that overlap a range of time.
function segmentsWithin(segments, from, to) {
  return [lastAtOrBefore(segments.latestEnd, from) + 1, lastAtOrBefore(segments.start, to) + 1];
}

// Value and spread of an attribute at a time: of the nearest window, else of the segment; null without either.
function valueAt(annotation, name, time) {
  const { track, segments } = annotation;
  if (track && track.values[name]) {
    let i = lastAtOrBefore(track.times, time);
    if (i < 0 || (i + 1 < track.times.length && track.times[i + 1] - time < time - track.times[i])) i++;
    const value = track.values[name][i];
    if (Number.isNaN(value) || Math.abs(track.times[i] - time) > track.window / 2) return null;
    const spread = track.spread?.[name]?.[i] ?? NaN;
    return { value, spread: Number.isNaN(spread) ? null : spread };
  }
  const i = segmentAt(segments, time);
  const value = i < 0 ? null : segments.values[name][i];
  return value == null ? null : { value, spread: segments.spread?.[name][i] ?? null };
}

function formatValue({ value, spread }) {
  return spread === null ? value.toFixed(2) : `${value.toFixed(2)} ± ${spread.toFixed(2)}`;
}
