// Levels of detail: maxima of the waveform, and lines and bands of tracks, for one pixel column each.

// Maxima of 4, 16, 64, ... peaks, so that a column reads a few numbers at any zoom.
function peakPyramid(peaks) {
  const levels = [peaks];
  while (levels.at(-1).length > 256) {
    const finer = levels.at(-1);
    const coarser = new Uint8Array(Math.ceil(finer.length / 4));
    for (let i = 0; i < finer.length; i++) coarser[i >> 2] = Math.max(coarser[i >> 2], finer[i]);
    levels.push(coarser);
  }
  return levels;
}

// Largest of the peaks from index `from` up to `to` (fractions allowed); 0 outside of the recording.
function peakBetween(levels, from, to) {
  let level = 0;
  while (level + 1 < levels.length && to - from >= 8 * 4 ** level) level++;
  const peaks = levels[level];
  const size = 4 ** level;
  const first = Math.max(Math.floor(from / size), 0);
  const last = Math.min(Math.max(Math.ceil(to / size), first + 1), peaks.length);
  let largest = 0;
  for (let i = first; i < last; i++) largest = Math.max(largest, peaks[i]);
  return largest;
}

// Points of a track within a range of time: {time, value, low, high}, null at a gap. Where several windows share a
// column, `value` is their mean, and `low` and `high` are their limits, spread included.
function trackPoints(track, name, from, to, column) {
  const [times, values, spread] = [track.times, track.values[name], track.spread?.[name]];
  const first = Math.max(lastAtOrBefore(times, from), 0);
  const last = Math.min(lastAtOrBefore(times, to) + 2, times.length);
  const points = [];
  let previous = null;
  for (let i = first; i < last; ) {
    // Columns begin at multiples of their width, so that lines do not flicker when the view moves.
    const limit = Math.max((Math.floor(times[i] / column) + 1) * column, times[i] + 1e-9);
    let [sum, count, low, high, sumOfTimes] = [0, 0, Infinity, -Infinity, 0];
    for (; i < last && times[i] < limit; i++) {
      if (Number.isNaN(values[i])) continue;
      const reach = spread?.[i] || 0; // NaN: no spread
      sum += values[i];
      sumOfTimes += times[i];
      count++;
      low = Math.min(low, values[i] - reach);
      high = Math.max(high, values[i] + reach);
    }
    if (!count) {
      if (previous !== null) points.push(null);
      previous = null;
      continue;
    }
    const time = sumOfTimes / count;
    if (previous !== null && time - previous > Math.max(1.5 * track.hop, 2 * column)) points.push(null);
    points.push({ time, value: sum / count, low, high });
    previous = time;
  }
  return points;
}

// The values of segments as points: a step from start to end, then a gap.
function segmentPoints(segments, name, from, to) {
  const [first, last] = segmentsWithin(segments, from, to);
  const points = [];
  for (let i = first; i < last; i++) {
    const value = segments.values[name][i];
    if (value === null) continue;
    const spread = segments.spread?.[name][i] ?? 0;
    const ends = { value, low: value - spread, high: value + spread };
    points.push({ time: segments.start[i], ...ends }, { time: segments.end[i], ...ends }, null);
  }
  return points;
}
