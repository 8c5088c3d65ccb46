// Start of the page: the model, the input, and what is shown.

import { Engine } from './engine.js';
import { UserError } from './errors.js';
import { openMicrophone } from './microphone.js';
import { Plot } from './plot.js';
import { Readout } from './readout.js';
import { byId, element, formatTime } from './shared.js';
import { MAX_SECONDS, openFile } from './sources.js';
import { Track } from './track.js';

const LONG_SECONDS = 600; // of a file, above which values are computed every 0.5 s rather than every 0.1 s

const description = JSON.parse(byId('data').textContent);
const columns = [...description.attributes, ...description.categories];
const record = location.hash === '#record'; // tests read the samples and values of a run
const plot = new Plot(description);
const readout = new Readout(description);
const engine = new Engine(description, addPoint);
let track = new Track(columns);
let latest = 0; // number of the run that is wanted; others stop
let queue = Promise.resolve();
let source = null;
let shown = false;

function addPoint(point) {
  track.add(point);
  readout.count();
  if (shown) return;
  shown = true;
  requestAnimationFrame(() => {
    shown = false;
    readout.show(track, source === null);
    plot.redraw();
  });
}

// Runs the model on a source after the current one has stopped. `label`: name of the source in messages.
function begin(kind, label, open) {
  stop();
  const id = latest;
  queue = queue.then(() => (id === latest ? run(id, kind, label, open) : undefined));
}

function stop() {
  latest += 1;
  source?.stop?.();
}

async function run(id, kind, label, open) {
  notify(null);
  track = plot.track = new Track(columns);
  plot.duration = 0;
  byId('span').value = kind === 'file' ? '0' : '30';
  plot.span = Number(byId('span').value);
  readout.start();
  setRunning(kind);
  byId('state').textContent = `${label}: opening …`;
  let ending = 'done';
  try {
    source = await open();
    if (id !== latest) source.stop?.();
    plot.duration = Number.isFinite(source.seconds) ? source.seconds : 0;
    const window = Number(byId('window').value);
    const step = plot.duration > LONG_SECONDS ? 0.5 : 0.1;
    await engine.start({ rate: source.rate, window, step, whole: kind === 'file', record });
    byId('state').textContent = `${label}${plot.duration ? `, ${formatTime(plot.duration, 1)}` : ''}: running`;
    for await (const samples of source.pieces()) {
      if (kind === 'file' && id !== latest) break;
      readout.speed = await named(label, engine.push(samples));
      byId('progress').value = plot.duration ? readout.speed.seconds / plot.duration : 0;
      if (readout.speed.seconds > MAX_SECONDS) {
        notify(`${label}: stopped after ${MAX_SECONDS / 3600} hours`);
        stop();
      }
    }
    const result = await named(label, engine.finish());
    readout.speed = result;
    if (!track.count && id === latest) {
      const shortest = description.shortest / 16000;
      throw new UserError(`${label}: is shorter than ${shortest} s, the shortest input of the model`);
    }
    if (kind === 'file' && id !== latest) ending = 'stopped';
    if (record) {
      globalThis.recording = { track, samples: result.samples, rate: readout.rate(true), factor: readout.factor() };
    }
  } catch (error) {
    ending = 'failed';
    notify(error instanceof UserError ? error.message : `${label}: ${error.message}`);
  } finally {
    source?.stop?.();
    source = null;
    setRunning(null);
    byId('state').textContent = `${label}: ${ending}${track.count ? `, ${formatTime(track.times[track.count - 1], 1)}` : ''}`;
    byId('csv').disabled = !track.count;
    readout.show(track, true);
    plot.redraw();
  }
}

// The same promise, with errors that begin with a name.
function named(label, promise) {
  return promise.catch((error) => {
    throw new UserError(`${label}: ${error.message}`);
  });
}

function notify(text) {
  byId('notice').hidden = text === null;
  byId('notice').textContent = text ?? '';
}

// Buttons for 'microphone', 'file' or null.
function setRunning(kind) {
  const microphone = byId('microphone');
  microphone.textContent = kind === 'microphone' ? 'Stop microphone' : 'Start microphone';
  microphone.classList.toggle('running', kind === 'microphone');
  byId('stop').hidden = kind !== 'file';
  byId('progress').hidden = kind !== 'file';
  byId('progress').value = 0;
  byId('window').disabled = kind !== null;
  byId('csv').disabled = true;
}

function openFiles(files) {
  const [file] = files;
  if (!file) return;
  begin('file', file.name, () => openFile(file));
}

function connectInput() {
  byId('microphone').addEventListener('click', () => {
    if (byId('microphone').classList.contains('running')) stop();
    else begin('microphone', 'Microphone', openMicrophone);
  });
  byId('stop').addEventListener('click', stop);
  byId('file').addEventListener('change', () => {
    openFiles(byId('file').files);
    byId('file').value = ''; // the same file can be chosen again
  });
  const hasFile = (event) => event.dataTransfer?.types.includes('Files');
  addEventListener('dragover', (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    byId('drop').hidden = false;
  });
  addEventListener('dragleave', (event) => {
    if (event.relatedTarget === null) byId('drop').hidden = true;
  });
  addEventListener('drop', (event) => {
    byId('drop').hidden = true;
    if (!hasFile(event)) return;
    event.preventDefault();
    openFiles(event.dataTransfer.files);
  });
}

function connectTools() {
  byId('span').addEventListener('change', () => {
    plot.span = Number(byId('span').value);
    plot.redraw();
  });
  byId('csv').addEventListener('click', () => {
    const url = URL.createObjectURL(new Blob([...track.csv()], { type: 'text/csv' }));
    element('a', { href: url, download: 'emotions.csv' }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  });
  const themes = ['system', 'light', 'dark'];
  byId('theme').addEventListener('click', () => {
    const { dataset } = document.documentElement;
    dataset.theme = themes[(themes.indexOf(dataset.theme ?? 'system') + 1) % themes.length];
    byId('theme').textContent = `Theme: ${dataset.theme}`;
    plot.readColours();
  });
}

function describeModel() {
  const { name, attributes, categories, scale, corpus, speech, licence, citation, step, scores, runtime } = description;
  document.title = `${name} – speech emotion in the browser`;
  byId('title').textContent = name;
  const outputs = [...(attributes.length ? [`${attributes.join(', ')} on the scale ${scale.join(' to ')}`] : [])];
  if (categories.length) outputs.push(`${categories.length} categories`);
  byId('about').textContent = outputs.join(' · ');
  const texts = scores.map(({ split, values }) => `${split}: ${values.map(([score, value]) => `${score} ${value}`).join(', ')}`);
  const kind = { synthesised: ' (synthesised speech)', recorded: ' (recorded speech)' }[speech] ?? '';
  byId('card').textContent = `${name}, trained on ${corpus}${kind}, licence ${licence}; ${texts[0] ?? 'no scores'}.`;
  const rows = [['Corpus', corpus], ['Licence', licence], ['Citation', citation], ['Step', String(step)]];
  rows.push(...scores.map(({ corpus: tested, split }, i) => [`Scores`, `${tested} ${texts[i] ?? split}`]));
  rows.push(['Runtime', `onnxruntime-web ${runtime} (MIT), WebAssembly, one thread`]);
  byId('facts').replaceChildren(
    ...rows.map(([term, text]) => element('div', {}, element('dt', { text: term }), element('dd', { text }))),
  );
}

byId('unserved').hidden = true;
describeModel();
connectTools();
engine.load().then(
  () => {
    connectInput();
    for (const id of ['microphone', 'file', 'window']) byId(id).disabled = false;
    byId('state').textContent = 'Ready';
  },
  (error) => {
    byId('state').textContent = 'The model could not be loaded';
    notify(error.message);
  },
);
