// Start of the page: makes the parts and connects them.

const annotation = readAnnotation();
const { segments } = annotation;
const timeline = new Timeline(annotation);
const player = new Player(annotation, showTime);
const seek = (time) => player.seek(time);
const transcript = new Transcript(annotation, seek);
const extremes = new Extremes(annotation, seek);
const controls = new FilterControls(annotation, applyFilter);
let shown = new Uint8Array(segments.count).fill(1);

function showTime(time, { moved }) {
  const follow = byId('follow').checked;
  timeline.setTime(time, moved || follow);
  transcript.setTime(time, { moved, follow });
  byId('clock').textContent = `${formatTime(time, 1)} / ${formatTime(annotation.duration)}`;
  const second = String(Math.floor(time));
  if (timeline.plot.getAttribute('aria-valuenow') !== second || moved) {
    timeline.plot.setAttribute('aria-valuenow', second);
    timeline.plot.setAttribute('aria-valuetext', `${formatTime(time)} of ${formatTime(annotation.duration)}`);
  }
}

function applyFilter(criteria) {
  shown = matchingSegments(annotation, criteria);
  timeline.setShown(shown);
  transcript.setShown(shown, criteria.text);
  extremes.setShown(shown);
  controls.drawHistograms(readPalette(annotation));
  const count = shown.reduce((sum, value) => sum + value, 0);
  const duration = shown.reduce((sum, value, i) => sum + value * (segments.end[i] - segments.start[i]), 0);
  const all = count === segments.count;
  const text = `${all ? '' : `${count.toLocaleString('en')} of `}${segments.count.toLocaleString('en')} segments, ${formatTime(duration)}`;
  byId('shown').textContent = text;
  document.body.classList.toggle('filtered', !all);
}

// Start of the next (step 1) or previous (-1) segment that meets the filter; null without one.
function segmentFrom(time, step) {
  for (let i = lastAtOrBefore(segments.start, time + 1e-6) + (step > 0 ? 1 : 0); i >= 0 && i < segments.count; i += step) {
    if (shown[i] && (step > 0 || segments.start[i] < time - 0.5)) return segments.start[i];
  }
  return null;
}

// For playing matching segments only: null within one, else the start of the next, Infinity after the last.
player.nextShown = (time) => {
  const [first, last] = segmentsWithin(segments, time, time);
  for (let i = first; i < last; i++) if (shown[i] && segments.end[i] > time) return null;
  return segmentFrom(time, 1) ?? Infinity;
};

function seekIfAny(time) {
  if (time !== null) seek(time);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId('theme').textContent = `Theme: ${theme}`;
  timeline.redraw({ palette: true });
  controls.drawHistograms(readPalette(annotation));
  showLegend();
}

function showLegend() {
  const items = [];
  const item = (token, text) => {
    const created = element('li', { text });
    created.style.setProperty('--colour', `var(${token})`);
    items.push(created);
  };
  if (timeline.kind === 'emotion') {
    const tokens = categoryTokens(annotation.categories);
    annotation.categories.forEach((name, i) => segments.emotion.includes(i) && item(tokens[i], name));
  } else if (timeline.kind) {
    const [low, high] = timeline.limits(timeline.kind);
    item('--low', `${timeline.kind} ${low.toFixed(1)}`);
    item('--middle', ((low + high) / 2).toFixed(1));
    item('--high', high.toFixed(1));
  }
  byId('legend').replaceChildren(...(segments.count ? items : []));
}

function setUpHeader() {
  const { model, speech, skipped } = annotation;
  const name = (annotation.file || 'recording').split('/').pop();
  document.title = `${name} – emojax annotation`;
  byId('title').textContent = name;
  const count = segments.speakers.length;
  const parts = [formatTime(annotation.duration), `${segments.count.toLocaleString('en')} segments`];
  if (count) parts.push(count === 1 ? '1 speaker' : `${count} speakers`);
  if (skipped) parts.push(`${skipped.toLocaleString('en')} skipped`);
  if (model.name) parts.push(`model ${model.name}${model.corpus ? `, trained on ${model.corpus}` : ''}`);
  byId('about').textContent = parts.join(' · ');
  const kind = speech === 'synthesised' ? 'synthesised speech' : speech === 'recorded' ? 'recorded speech' : '';
  const hasSpread = segments.spread || annotation.track?.spread;
  byId('footer').textContent =
    `Values are a model's estimates of how raters would perceive the speech, on a scale from ${model.scale.join(' to ')}` +
    `${kind ? `; trained on ${kind}` : ''}. ` +
    `${hasSpread ? 'Bands and ±: predicted spread; where' : 'Bands: where'} several windows share a pixel, the range of all.`;
}

function setUpColours() {
  const kinds = [...(annotation.categories.length ? ['emotion'] : []), ...annotation.attributes];
  byId('colour').append(...kinds.map((kind) => element('option', { value: kind, text: kind })));
  byId('colour').value = timeline.kind ?? '';
  byId('colour-label').hidden = kinds.length < 2 || !segments.count;
  byId('colour').addEventListener('change', () => {
    timeline.kind = byId('colour').value;
    timeline.redraw({ overview: true });
    showLegend();
  });
  byId('whole-scale-label').hidden = !annotation.attributes.length;
  byId('whole-scale').addEventListener('change', () => {
    timeline.wholeScale = byId('whole-scale').checked;
    timeline.redraw({ overview: true });
    showLegend();
  });
}

const zoomIn = () => timeline.zoom(0.5);
const zoomOut = () => timeline.zoom(2);
const zoomAll = () => timeline.setView(0, annotation.duration);
const toggle = (id) => byId(id).click();
const themes = ['system', 'light', 'dark'];

connectPlot(timeline, seek);
connectOverview(timeline, seek);
connectKeys([
  [[' ', 'k'], 'play or pause', () => player.toggle()],
  [['ArrowLeft'], '5 seconds back', () => seek(player.time - 5)],
  [['ArrowRight'], '5 seconds forward', () => seek(player.time + 5)],
  [['Shift+ArrowLeft'], '30 seconds back', () => seek(player.time - 30)],
  [['Shift+ArrowRight'], '30 seconds forward', () => seek(player.time + 30)],
  [['Home'], 'start', () => seek(0)],
  [['End'], 'end', () => seek(annotation.duration)],
  [['n'], 'next segment that meets the filter', () => seekIfAny(segmentFrom(player.time, 1))],
  [['p'], 'previous segment that meets the filter', () => seekIfAny(segmentFrom(player.time, -1))],
  [['e'], 'next extreme', () => extremes.step(1)],
  [['Shift+e'], 'previous extreme', () => extremes.step(-1)],
  [['.'], 'next word', () => seekIfAny(transcript.wordFrom(player.time, 1))],
  [[','], 'previous word', () => seekIfAny(transcript.wordFrom(player.time, -1))],
  [['+', '='], 'zoom in', zoomIn],
  [['-'], 'zoom out', zoomOut],
  [['0'], 'whole recording', zoomAll],
  [[']'], 'faster', () => player.changeRate(1)],
  [['['], 'slower', () => player.changeRate(-1)],
  [['m'], 'play matching segments only, or all', () => toggle('only-shown')],
  [['l'], 'follow the position, or not', () => toggle('follow')],
  [['/'], 'search the text', () => byId('text').focus()],
  [['?'], 'this list', () => byId('help').showModal()],
]);
byId('zoom-in').addEventListener('click', zoomIn);
byId('zoom-out').addEventListener('click', zoomOut);
byId('zoom-all').addEventListener('click', zoomAll);
byId('theme').addEventListener('click', () => {
  setTheme(themes[(themes.indexOf(document.documentElement.dataset.theme ?? 'system') + 1) % themes.length]);
});
byId('text').addEventListener('keydown', (event) => {
  if (event.key === 'Escape') timeline.plot.focus();
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => controls.drawHistograms(readPalette(annotation)));
new ResizeObserver(() => controls.drawHistograms(readPalette(annotation))).observe(byId('side'));

byId('side').hidden = !segments.count;
byId('overview-row').hidden = !segments.count && !annotation.waveform;
byId('filter').open = !NARROW.matches;
setUpHeader();
setUpColours();
showLegend();
applyFilter(emptyCriteria());
showTime(0, { moved: true });
