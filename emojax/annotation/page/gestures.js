// Pointer and wheel on the timeline: click to seek, drag to pan, pinch and wheel to zoom, values under the pointer.

const CLICK_DISTANCE = 4;

function connectPlot(timeline, seek) {
  const { plot } = timeline;
  const pointers = new Map();
  let origin = null;
  const timeOf = (clientX) => {
    const box = plot.getBoundingClientRect();
    return timeline.start + ((clientX - box.left) / box.width) * timeline.span;
  };

  plot.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    plot.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event.clientX);
    origin = { x: event.clientX, start: timeline.start, moved: pointers.size > 1 };
  });

  plot.addEventListener('pointermove', (event) => {
    showReadout(timeline, timeOf(event.clientX));
    if (!pointers.has(event.pointerId)) return;
    if (pointers.size === 2) {
      pinch(event);
    } else if (origin && Math.abs(event.clientX - origin.x) > CLICK_DISTANCE) {
      origin.moved = true;
      timeline.setView(origin.start - ((event.clientX - origin.x) / plot.clientWidth) * timeline.span, timeline.span);
    }
  });

  function pinch(event) {
    const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
    const before = Math.abs(pointers.get(event.pointerId) - other);
    pointers.set(event.pointerId, event.clientX);
    const after = Math.abs(event.clientX - other);
    if (before > 8 && after > 8) timeline.zoom(before / after, timeOf((event.clientX + other) / 2));
  }

  const release = (event) => {
    const clicked = event.type === 'pointerup' && origin && !origin.moved && pointers.has(event.pointerId);
    pointers.delete(event.pointerId);
    origin = null;
    if (clicked) seek(timeOf(event.clientX));
  };
  plot.addEventListener('pointerup', release);
  plot.addEventListener('pointercancel', release);
  plot.addEventListener('pointerleave', () => hideReadout());

  plot.addEventListener('wheel', (event) => {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    const sideways = event.shiftKey ? event.deltaX || event.deltaY : event.deltaX;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      timeline.setView(timeline.start + ((sideways * lines) / plot.clientWidth) * timeline.span, timeline.span);
    } else {
      timeline.zoom(Math.exp(event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0015)), timeOf(event.clientX));
    }
    showReadout(timeline, timeOf(event.clientX));
  }, { passive: false });
}

// The overview: a press moves the view to it, a click also seeks.
function connectOverview(timeline, seek) {
  const { overview } = timeline;
  const { duration } = timeline.annotation;
  let origin = null;
  const timeOf = (clientX) => {
    const box = overview.getBoundingClientRect();
    return Math.min(Math.max((clientX - box.left) / box.width, 0), 1) * duration;
  };
  const centre = (event) => timeline.setView(timeOf(event.clientX) - timeline.span / 2, timeline.span);
  overview.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    overview.setPointerCapture(event.pointerId);
    origin = event.clientX;
    centre(event);
  });
  overview.addEventListener('pointermove', (event) => {
    if (origin !== null) centre(event);
  });
  overview.addEventListener('pointerup', (event) => {
    if (origin !== null && Math.abs(event.clientX - origin) <= CLICK_DISTANCE) seek(timeOf(event.clientX));
    origin = null;
  });
  overview.addEventListener('pointercancel', () => (origin = null));
}

function showReadout(timeline, time) {
  const { annotation, plot } = timeline;
  const clipped = Math.min(Math.max(time, 0), annotation.duration);
  const x = ((clipped - timeline.start) / timeline.span) * plot.clientWidth;
  const i = segmentAt(annotation.segments, clipped);
  const rows = [element('b', { text: formatTime(clipped, 1) })];
  for (const name of annotation.attributes) {
    const found = valueAt(annotation, name, clipped);
    if (found) rows.push(element('span', { text: `${name} ${formatValue(found)}` }));
  }
  if (i >= 0) {
    const { emotion, speaker, speakers } = annotation.segments;
    const text = [speakers[speaker[i]], annotation.categories[emotion[i]]].filter(Boolean).join(', ');
    if (text) rows.push(element('span', { text }));
  }
  const readout = byId('readout');
  readout.replaceChildren(...rows);
  readout.hidden = false;
  const left = x + 14 + readout.offsetWidth > plot.clientWidth ? x - 14 - readout.offsetWidth : x + 14;
  readout.style.transform = `translateX(${Math.max(left, 0)}px)`;
  byId('pointer').style.transform = `translateX(${x}px)`;
  byId('pointer').hidden = false;
}

function hideReadout() {
  byId('readout').hidden = true;
  byId('pointer').hidden = true;
}
