// Timeline: overview of the recording, and lanes of the visible range, drawn on a canvas each.

const HEIGHTS = { axis: 22, wave: 56, attribute: 58, segments: 22 };
const NAME_HEIGHT = 13; // of a lane of segments, where names are above the segments
const NARROW = matchMedia('(max-width: 40rem)');
const MAX_SPEAKER_LANES = 12;
const SHORTEST_VIEW = 0.5;
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

class Timeline {
  constructor(annotation) {
    this.annotation = annotation;
    this.plot = byId('plot');
    this.overview = byId('overview');
    this.peaks = annotation.waveform && peakPyramid(annotation.waveform.peaks);
    this.loudest = this.peaks ? Math.max(peakBetween(this.peaks, 0, Infinity), 1) : 1;
    this.span = Math.min(annotation.duration, 120);
    this.start = 0;
    this.time = 0;
    this.width = this.overviewWidth = 0; // in CSS pixels, from the last drawing
    this.shown = new Uint8Array(annotation.segments.count).fill(1);
    this.kind = annotation.categories.length ? 'emotion' : annotation.attributes.includes('valence') ? 'valence' : annotation.attributes[0];
    this.wholeScale = true;
    this.arrange();
    this.stale = { palette: true, overview: true, pending: false };
    byId('plot').setAttribute('aria-valuemax', Math.round(annotation.duration));
    new ResizeObserver(() => this.redraw({ overview: true })).observe(this.plot);
    NARROW.addEventListener('change', () => {
      this.arrange();
      this.redraw();
    });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.redraw({ palette: true }));
  }

  arrange() {
    this.lanes = this.makeLanes();
    this.makeLabels();
  }

  makeLanes() {
    const { annotation } = this;
    const { speakers } = annotation.segments;
    const lanes = [{ kind: 'axis', label: '' }];
    if (this.peaks) lanes.push({ kind: 'wave', label: 'waveform' });
    lanes.push(...annotation.attributes.map((name) => ({ kind: 'attribute', label: name, name })));
    const accepts = (test, label) => lanes.push({ kind: 'segments', label, test });
    const own = speakers.length > MAX_SPEAKER_LANES ? MAX_SPEAKER_LANES - 1 : speakers.length;
    for (let s = 0; s < own; s++) accepts((speaker) => speaker === s, speakers[s]);
    if (speakers.length > own) accepts((speaker) => speaker >= own, 'other speakers');
    if (annotation.segments.speaker.includes(-1)) {
      accepts((speaker) => speaker < 0, speakers.length ? 'no speaker' : 'segments');
    }
    let top = 0;
    for (const lane of lanes) {
      lane.top = top;
      lane.inset = lane.kind === 'segments' && NARROW.matches ? NAME_HEIGHT : 0;
      lane.height = HEIGHTS[lane.kind] + lane.inset;
      top += lane.height;
    }
    this.height = top;
    return lanes;
  }

  makeLabels() {
    const boxes = this.lanes.map((lane) => {
      const box = element('div', { className: `lane ${lane.kind}` }, element('span', { text: lane.label, className: 'name', title: lane.label }));
      if (lane.kind === 'attribute') {
        lane.value = element('span', { className: 'value' });
        lane.ticks = ['top', 'bottom'].map((side) => element('span', { className: `tick ${side}` }));
        box.dataset.attribute = lane.name;
        box.append(lane.value, ...lane.ticks);
      }
      box.style.height = `${lane.height}px`;
      return box;
    });
    byId('labels').replaceChildren(...boxes);
    this.plot.style.height = `${this.height}px`;
  }

  // Lowest and highest value of an attribute's axis: the scale, or the range of its values.
  limits(name) {
    const { annotation } = this;
    if (this.wholeScale) return annotation.model.scale;
    const values = annotation.track?.values[name] ?? annotation.segments.values[name];
    let [low, high] = [Infinity, -Infinity];
    for (const value of values) {
      if (value === null || Number.isNaN(value)) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    const margin = Math.max(0.08 * (high - low), 0.05);
    return low <= high ? [low - margin, high + margin] : annotation.model.scale;
  }

  setView(start, span) {
    const { duration } = this.annotation;
    this.span = Math.min(Math.max(span, Math.min(SHORTEST_VIEW, duration)), duration);
    this.start = Math.min(Math.max(start, 0), duration - this.span);
    this.redraw();
  }

  zoom(factor, at = this.inView(this.time) ? this.time : this.start + this.span / 2) {
    const span = Math.min(Math.max(this.span * factor, SHORTEST_VIEW), this.annotation.duration);
    this.setView(at - ((at - this.start) * span) / this.span, span);
  }

  inView(time) {
    return time >= this.start && time <= this.start + this.span;
  }

  // Moves the cursor; `reveal` moves the view so that the cursor is in it.
  setTime(time, reveal) {
    this.time = time;
    if (reveal && this.span < this.annotation.duration) {
      const share = (time - this.start) / this.span;
      if (share < 0 || share > 0.95) this.setView(time - 0.08 * this.span, this.span);
    }
    this.placeCursors();
  }

  setShown(mask) {
    this.shown = mask;
    this.redraw({ overview: true });
  }

  redraw(stale = {}) {
    Object.assign(this.stale, stale, stale.palette ? { overview: true } : {});
    if (this.stale.pending) return;
    this.stale.pending = true;
    requestAnimationFrame(() => {
      this.stale.pending = false;
      this.draw();
    });
  }

  draw() {
    if (this.stale.palette) this.palette = readPalette(this.annotation);
    if (this.stale.palette || this.stale.overview) {
      const limits = this.kind === 'emotion' || !this.kind ? [0, 1] : this.limits(this.kind);
      this.colours = segmentColours(this.annotation, this.palette, this.kind, limits);
      this.fills = this.colours.map((colour, i) => css(colour, this.shown[i] ? 1 : 0.18));
      this.shades = this.colours.map((colour) => css(colour, 0.2));
      this.drawOverview();
    }
    Object.assign(this.stale, { palette: false, overview: false });
    const { context, width } = prepare(this.plot, this.height);
    this.width = width;
    const scene = { context, width, x: (time) => ((time - this.start) / this.span) * width };
    for (const lane of this.lanes) {
      if (lane.kind === 'axis') this.drawAxis(scene, lane);
      if (lane.kind === 'wave') this.drawWave(scene, lane);
      if (lane.kind === 'attribute') this.drawAttribute(scene, lane);
      if (lane.kind === 'segments') this.drawSegments(scene, lane);
    }
    this.placeCursors();
  }

  drawAxis({ context, width, x }, lane) {
    const step = STEPS.find((step) => (step / this.span) * width >= 70) ?? 7200;
    context.font = '11px system-ui, sans-serif';
    context.textBaseline = 'middle';
    for (let k = Math.ceil(this.start / step); k * step <= this.start + this.span; k++) {
      const left = Math.round(x(k * step));
      context.fillStyle = css(this.palette.line, 0.55);
      context.fillRect(left, lane.top + 4, 1, this.height);
      context.fillStyle = css(this.palette.soft);
      const text = formatTime(k * step, step < 1 ? 1 : 0);
      if (left + 6 + context.measureText(text).width < width) context.fillText(text, left + 5, lane.top + lane.height / 2);
    }
  }

  drawWave({ context, width, x }, lane) {
    const middle = lane.top + lane.height / 2;
    const [first, last] = segmentsWithin(this.annotation.segments, this.start, this.start + this.span);
    for (let i = first; i < last; i++) {
      if (!this.shown[i]) continue;
      const [left, right] = [x(this.annotation.segments.start[i]), x(this.annotation.segments.end[i])];
      context.fillStyle = this.shades[i];
      context.fillRect(left, lane.top + 1, Math.max(right - left, 1), lane.height - 2);
    }
    context.fillStyle = css(this.palette.line);
    context.fillRect(0, middle, width, 1);
    context.fillStyle = css(this.palette.wave);
    const perColumn = this.span / width / this.annotation.waveform.hop;
    const begin = this.start / this.annotation.waveform.hop;
    drawPeaks(context, width, middle, lane.height / 2 - 4, (column) => {
      const from = begin + column * perColumn;
      return peakBetween(this.peaks, from, from + perColumn) / this.loudest;
    });
  }

  drawAttribute({ context, width, x }, lane) {
    const { annotation } = this;
    const [low, high] = this.limits(lane.name);
    const [top, height] = [lane.top + 6, lane.height - 12];
    const y = (value) => top + height * (1 - (Math.min(Math.max(value, low), high) - low) / (high - low));
    context.fillStyle = css(this.palette.line);
    context.fillRect(0, lane.top, width, 1);
    const centre = (annotation.model.scale[0] + annotation.model.scale[1]) / 2;
    if (centre > low && centre < high) {
      for (let left = 0; left < width; left += 8) context.fillRect(left, Math.round(y(centre)), 4, 1);
    }
    lane.ticks[0].textContent = high.toFixed(1).replace(/\.0$/, '');
    lane.ticks[1].textContent = low.toFixed(1).replace(/\.0$/, '');
    const column = Math.max(this.span / width, 1e-6) * 1.5;
    const to = this.start + this.span;
    const points = annotation.track?.values[lane.name]
      ? trackPoints(annotation.track, lane.name, this.start, to, column)
      : segmentPoints(annotation.segments, lane.name, this.start, to);
    const colour = this.palette.attributes[lane.name];
    for (const run of runs(points)) drawRun(context, run, x, y, colour);
  }

  drawSegments({ context, x }, lane) {
    const { segments, categories } = this.annotation;
    const [first, last] = segmentsWithin(segments, this.start, this.start + this.span);
    context.fillStyle = css(this.palette.line);
    context.fillRect(0, lane.top, this.width, 1);
    context.font = '11px system-ui, sans-serif';
    context.textBaseline = 'middle';
    for (let i = first; i < last; i++) {
      if (!lane.test(segments.speaker[i])) continue;
      const left = Math.max(x(segments.start[i]), -4);
      const width = Math.max(Math.min(x(segments.end[i]), this.width + 4) - left - 1, 1);
      context.fillStyle = this.fills[i];
      const [top, height] = [lane.top + lane.inset + 3, lane.height - lane.inset - 6];
      if (width < 5) {
        context.fillRect(left, top, width, height);
        continue;
      }
      context.beginPath();
      context.roundRect(left, top, width, height, 3);
      context.fill();
      const text = this.kind === 'emotion' ? categories[segments.emotion[i]] : segments.values[this.kind]?.[i]?.toFixed(1);
      if (text && this.shown[i] && width > 30 && context.measureText(text).width + 7 < width) {
        context.fillStyle = inkOn(this.colours[i]);
        context.fillText(text, left + 4, lane.top + (lane.height + lane.inset) / 2 + 0.5);
      }
    }
  }

  drawOverview() {
    const { duration, segments, waveform } = this.annotation;
    const { context, width, height } = prepare(this.overview, 44);
    this.overviewWidth = width;
    for (let i = 0; i < segments.count; i++) {
      context.fillStyle = this.fills[i];
      const left = (segments.start[i] / duration) * width;
      context.fillRect(left, height - 10, Math.max(((segments.end[i] - segments.start[i]) / duration) * width, 0.7), 10);
    }
    if (this.peaks) {
      context.fillStyle = css(this.palette.wave);
      const perColumn = duration / width / waveform.hop;
      const level = (column) => peakBetween(this.peaks, column * perColumn, (column + 1) * perColumn) / this.loudest;
      drawPeaks(context, width, (height - 11) / 2, (height - 15) / 2, level);
    }
  }

  placeCursors() {
    const { duration } = this.annotation;
    const place = (cursor, share, width) => {
      cursor.style.transform = `translateX(${share * width}px)`;
      cursor.hidden = share < 0 || share > 1;
    };
    place(this.plot.querySelector('.cursor'), (this.time - this.start) / this.span, this.width);
    place(this.overview.querySelector('.cursor'), this.time / duration, this.overviewWidth);
    const frame = byId('window');
    frame.style.left = `${(100 * this.start) / duration}%`;
    frame.style.width = `${(100 * this.span) / duration}%`;
    for (const lane of this.lanes) {
      if (!lane.value) continue;
      const found = valueAt(this.annotation, lane.name, this.time);
      lane.value.textContent = found ? formatValue(found) : '–';
    }
  }
}

// Sets the canvas of a box to its size in device pixels, and clears it.
function prepare(box, height) {
  const canvas = box.querySelector('canvas');
  const ratio = devicePixelRatio || 1;
  const width = Math.max(box.clientWidth, 1);
  const [columns, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== columns || canvas.height !== rows) {
    canvas.width = columns;
    canvas.height = rows;
  }
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

function drawPeaks(context, width, middle, reach, level) {
  context.beginPath();
  for (let column = 0; column < width; column++) {
    const size = Math.max(level(column) * reach, 0.5);
    context.rect(column, middle - size, 1, 2 * size);
  }
  context.fill();
}

// Parts of a list of points between its gaps.
function runs(points) {
  const found = [[]];
  for (const point of points) {
    if (point === null) found.push([]);
    else found.at(-1).push(point);
  }
  return found.filter((run) => run.length);
}

function drawRun(context, run, x, y, colour) {
  context.beginPath();
  for (const { time, high } of run) context.lineTo(x(time), y(high));
  for (const { time, low } of run.toReversed()) context.lineTo(x(time), y(low));
  context.fillStyle = css(colour, 0.25);
  context.fill();
  context.beginPath();
  for (const { time, value } of run) context.lineTo(x(time), y(value));
  if (run.length === 1) context.lineTo(x(run[0].time) + 1.5, y(run[0].value));
  context.strokeStyle = css(colour);
  context.lineWidth = 1.75;
  context.lineJoin = 'round';
  context.stroke();
}
