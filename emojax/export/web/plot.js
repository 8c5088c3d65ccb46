// Curves of the attributes, the most probable category and the level of the input over time, on one canvas.

import { byId, css, element, formatTime, readPalette } from './shared.js';

const HEIGHTS = { level: 34, attribute: 74, category: 30, axis: 20 };
const STEPS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200];
const FONT = '11px system-ui, sans-serif';
const SHORTEST = 5; // seconds that are always shown

export class Plot {
  // `description`: data of the page. `track` is set from outside, as are `span` (s, 0: everything) and `duration` (s) of
  // the file, if it is known.
  constructor(description) {
    this.description = description;
    this.canvas = document.querySelector('#plot canvas');
    this.box = byId('plot');
    this.track = null;
    this.span = 30;
    this.duration = 0;
    this.pending = false;
    this.arrange();
    this.readColours();
    new ResizeObserver(() => this.redraw()).observe(this.box);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.readColours());
  }

  arrange() {
    const { attributes, categories } = this.description;
    this.lanes = [
      { kind: 'level', label: 'level' },
      ...attributes.map((label, column) => ({ kind: 'attribute', label, column })),
      ...(categories.length ? [{ kind: 'category', label: 'category' }] : []),
      { kind: 'axis', label: '' },
    ];
    let top = 0;
    const labels = this.lanes.map((lane) => {
      lane.top = top;
      lane.height = HEIGHTS[lane.kind];
      top += lane.height;
      const created = element('div', { className: `lane ${lane.kind}` }, element('span', { text: lane.label, className: 'name' }));
      created.style.height = `${lane.height}px`;
      if (lane.kind === 'attribute') {
        created.dataset.attribute = lane.label;
        const [low, high] = this.description.scale;
        created.append(element('span', { className: 'tick top', text: String(high) }));
        created.append(element('span', { className: 'tick bottom', text: String(low) }));
      }
      return created;
    });
    byId('labels').replaceChildren(...labels);
    this.box.style.height = `${top}px`;
  }

  readColours() {
    this.palette = readPalette(this.description);
    this.redraw();
  }

  // Draws before the next frame of the screen.
  redraw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.draw();
    });
  }

  // Visible range (s).
  range() {
    const { track } = this;
    const last = track?.count ? track.times[track.count - 1] : 0;
    const all = Math.max(last, this.duration, SHORTEST);
    if (!this.span) return [0, all];
    const end = Math.max(last, this.span);
    return [end - this.span, end];
  }

  draw() {
    const { canvas, box, track } = this;
    const [width, height] = [box.clientWidth, box.clientHeight];
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext('2d');
    context.scale(ratio, ratio);
    const [start, end] = this.range();
    const x = (time) => ((time - start) / (end - start)) * width;
    this.drawAxis(context, x, start, end, width);
    if (!track?.count) return;
    const points = shownPoints(Math.max(track.firstFrom(start) - 1, 0), track.count, width);
    for (const lane of this.lanes) {
      if (lane.kind === 'level') this.drawLevel(context, lane, x, points);
      if (lane.kind === 'attribute') this.drawCurve(context, lane, x, points, width);
      if (lane.kind === 'category') this.drawCategories(context, lane, x, points);
    }
  }

  drawAxis(context, x, start, end, width) {
    const { palette } = this;
    context.font = FONT;
    context.textBaseline = 'middle';
    const step = STEPS.find((each) => (each / (end - start)) * width >= 56) ?? STEPS.at(-1);
    const axis = this.lanes.at(-1);
    context.strokeStyle = css(palette.line);
    for (let time = Math.ceil(start / step) * step; time <= end; time += step) {
      context.beginPath();
      context.moveTo(x(time) + 0.5, 0);
      context.lineTo(x(time) + 0.5, axis.top);
      context.stroke();
      const text = formatTime(time);
      const half = context.measureText(text).width / 2;
      context.fillStyle = css(palette.soft);
      context.fillText(text, Math.min(Math.max(x(time) - half, 0), width - 2 * half), axis.top + axis.height / 2 + 1);
    }
    for (const lane of this.lanes) {
      context.beginPath();
      context.moveTo(0, lane.top + 0.5);
      context.lineTo(width, lane.top + 0.5);
      context.stroke();
    }
  }

  drawLevel(context, lane, x, points) {
    const { track } = this;
    context.fillStyle = css(this.palette.wave);
    let next = points[0];
    for (const point of points) {
      const before = next ? x(track.times[next - 1]) : x(0);
      let peak = 0;
      for (; next <= point; next++) peak = Math.max(peak, track.peaks[next]);
      const half = Math.max(Math.min(peak, 1) * (lane.height / 2 - 3), 0.5);
      context.fillRect(before, lane.top + lane.height / 2 - half, Math.max(x(track.times[point]) - before, 1), 2 * half);
    }
  }

  // A line on the whole scale, with a dot at its end.
  drawCurve(context, lane, x, points, width) {
    const { track, description } = this;
    const [low, high] = description.scale;
    const y = (value) => {
      const share = Math.min(Math.max((value - low) / (high - low), 0), 1);
      return lane.top + lane.height - 4 - share * (lane.height - 8);
    };
    context.save();
    context.beginPath();
    context.rect(0, lane.top, width, lane.height);
    context.clip();
    context.strokeStyle = css(this.palette.line);
    context.setLineDash([2, 3]);
    context.beginPath();
    context.moveTo(0, y((low + high) / 2));
    context.lineTo(width, y((low + high) / 2));
    context.stroke();
    context.setLineDash([]);
    context.strokeStyle = css(this.palette.attributes[lane.label] ?? this.palette.ink);
    context.lineWidth = 2;
    context.lineJoin = 'round';
    context.beginPath();
    for (const point of points) context.lineTo(x(track.times[point]), y(track.value(point, lane.column)));
    context.stroke();
    const last = points.at(-1);
    context.fillStyle = context.strokeStyle;
    context.beginPath();
    context.arc(x(track.times[last]), y(track.value(last, lane.column)), 3, 0, 2 * Math.PI);
    context.fill();
    context.restore();
  }

  // Colour and name of the most probable category; neighbours that are the same are one bar.
  drawCategories(context, lane, x, points) {
    const { track, description, palette } = this;
    const offset = description.attributes.length;
    context.font = FONT;
    for (let i = 0; i < points.length; ) {
      const column = track.largest(points[i], offset);
      let end = i + 1;
      while (end < points.length && track.largest(points[end], offset) === column) end++;
      const from = Math.max(i ? x(track.times[points[i - 1]]) : x(points[0] ? track.times[points[0] - 1] : 0), 0);
      const to = x(track.times[points[end - 1]]);
      context.fillStyle = css(palette.categories[column - offset]);
      context.fillRect(from, lane.top + lane.height - 9, Math.max(to - from, 1), 6);
      const name = description.categories[column - offset];
      context.fillStyle = css(palette.ink);
      if (context.measureText(name).width < to - from - 6) context.fillText(name, from + 2, lane.top + 11);
      i = end;
    }
  }
}

// Points to draw: at most two a pixel, the same ones as time goes on, and always the last.
function shownPoints(first, count, width) {
  const stride = Math.ceil((count - first) / Math.max(2 * width, 1));
  const points = [];
  for (let point = first - (first % stride); point < count - 1; point += stride) points.push(point);
  points.push(count - 1);
  return points;
}
