// WAV files, read in pieces, so that a file of any length needs little memory.

import { UserError } from './errors.js';

const [PCM, FLOAT, EXTENSIBLE] = [1, 3, 0xfffe];
const PIECE_FRAMES = 65536;

// Decoders of one sample by format and bits: full scale becomes 1.
const READERS = {
  [`${PCM}/8`]: (view, at) => (view.getUint8(at) - 128) / 2 ** 7,
  [`${PCM}/16`]: (view, at) => view.getInt16(at, true) / 2 ** 15,
  [`${PCM}/24`]: (view, at) => (view.getUint16(at, true) + view.getInt8(at + 2) * 2 ** 16) / 2 ** 23,
  [`${PCM}/32`]: (view, at) => view.getInt32(at, true) / 2 ** 31,
  [`${FLOAT}/32`]: (view, at) => view.getFloat32(at, true),
  [`${FLOAT}/64`]: (view, at) => view.getFloat64(at, true),
};

// Opens a WAV file: its rate, duration and pieces. Returns null for other files, and for codes that browsers may decode.
export async function openWav(file) {
  const format = await readFormat(file);
  if (!format) return null;
  const frames = Math.floor(format.bytes / format.frameBytes);
  if (frames === 0) throw new UserError(`${file.name}: has no samples`);
  return { rate: format.rate, seconds: frames / format.rate, pieces: () => pieces(file, format, frames) };
}

async function* pieces(file, { rate, channels, frameBytes, start, read }, frames) {
  const sampleBytes = frameBytes / channels;
  for (let first = 0; first < frames; first += PIECE_FRAMES) {
    const count = Math.min(PIECE_FRAMES, frames - first);
    const from = start + first * frameBytes;
    const view = await viewOf(file, from, from + count * frameBytes);
    const mono = new Float32Array(Math.floor(view.byteLength / frameBytes));
    for (let i = 0; i < mono.length; i++) {
      let sum = 0;
      for (let channel = 0; channel < channels; channel++) sum += read(view, i * frameBytes + channel * sampleBytes);
      mono[i] = sum / channels;
    }
    yield mono;
  }
}

// Walks over the chunks up to the samples.
async function readFormat(file) {
  const head = await viewOf(file, 0, 12);
  if (head.byteLength < 12 || !['RIFF', 'RF64'].includes(tag(head, 0)) || tag(head, 8) !== 'WAVE') return null;
  let [format, long] = [null, null];
  for (let at = 12; at + 8 <= file.size; ) {
    const chunk = await viewOf(file, at, at + 48);
    const [name, size] = [tag(chunk, 0), chunk.getUint32(4, true)];
    if (name === 'ds64' && chunk.byteLength >= 24) long = Number(chunk.getBigUint64(16, true));
    if (name === 'fmt ' && chunk.byteLength >= 24) format = parseFormat(chunk, size);
    if (name === 'data') {
      if (!format) throw new UserError(`${file.name}: has samples without a format before them`);
      // The size is unknown (all ones) where a program wrote to a pipe; a truncated file has fewer bytes.
      const stated = size === 0xffffffff ? (long ?? Infinity) : size;
      return format.read ? { ...format, start: at + 8, bytes: Math.min(stated, file.size - at - 8) } : null;
    }
    at += 8 + size + (size % 2);
  }
  throw new UserError(`${file.name}: has no samples`);
}

function parseFormat(chunk, size) {
  const channels = chunk.getUint16(10, true);
  const rate = chunk.getUint32(12, true);
  const bits = chunk.getUint16(22, true);
  const stated = chunk.getUint16(8, true);
  const code = stated === EXTENSIBLE && size >= 40 && chunk.byteLength >= 34 ? chunk.getUint16(32, true) : stated;
  const usable = channels >= 1 && channels <= 16 && rate >= 1000 && rate <= 768000;
  return { rate, channels, frameBytes: (channels * bits) / 8, read: usable && READERS[`${code}/${bits}`] };
}

async function viewOf(file, from, to) {
  try {
    return new DataView(await file.slice(from, to).arrayBuffer());
  } catch {
    throw new UserError(`${file.name}: cannot be read (was it moved or changed?)`);
  }
}

function tag(view, at) {
  return String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(at + i)));
}
