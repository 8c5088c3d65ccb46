// Dropped files as samples: WAV in pieces, other formats decoded by the browser at once, within a limit.

import { UserError } from './errors.js';
import { openWav } from './wav.js';

export const MAX_SECONDS = 12 * 3600; // of WAV files and of the microphone: the track then takes about 50 MB
const MAX_DECODED_SECONDS = 15 * 60; // 350 MB of stereo at 48 kHz, before they are averaged
const MAX_DECODED_BYTES = 200e6;
const PIECE_FRAMES = 65536;
const METADATA_SECONDS = 10;

// Opens a file: { rate, seconds, pieces() } with pieces of mono samples, full scale 1.
export async function openFile(file) {
  if (file.size === 0) throw new UserError(`${file.name}: is empty`);
  const source = (await openWav(file)) ?? (await openDecoded(file));
  if (source.seconds > MAX_SECONDS) {
    throw new UserError(`${file.name}: must have at most ${MAX_SECONDS / 3600} hours, got ${hours(source.seconds)}`);
  }
  return source;
}

async function openDecoded(file) {
  const undecodable = new UserError(`${file.name}: is not audio that this browser decodes`);
  if (file.size > MAX_DECODED_BYTES) {
    throw new UserError(`${file.name}: only WAV files may have more than ${MAX_DECODED_BYTES / 1e6} MB; convert it to WAV`);
  }
  const seconds = await statedSeconds(file);
  if (seconds === null) throw undecodable;
  if (!(seconds <= MAX_DECODED_SECONDS)) {
    const found = Number.isFinite(seconds) ? `lasts ${hours(seconds)}` : 'states no duration';
    throw new UserError(`${file.name}: ${found}; only WAV files may have more than 15 minutes: convert it to WAV`);
  }
  let decoded;
  try {
    const bytes = await file.arrayBuffer();
    const rate = (await statedRate(file)) ?? 48000;
    decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
  } catch {
    throw undecodable;
  }
  if (decoded.length === 0) throw new UserError(`${file.name}: has no samples`);
  return { rate: decoded.sampleRate, seconds: decoded.duration, pieces: () => decodedPieces(decoded) };
}

function* decodedPieces(decoded) {
  const channels = Array.from({ length: decoded.numberOfChannels }, (_, i) => decoded.getChannelData(i));
  for (let first = 0; first < decoded.length; first += PIECE_FRAMES) {
    const parts = channels.map((channel) => channel.subarray(first, first + PIECE_FRAMES));
    yield parts[0].map((_, i) => parts.reduce((sum, part) => sum + part[i], 0) / parts.length);
  }
}

// Duration by the file's own headers, before it is decoded; null if the browser has no decoder, Infinity if it states none.
function statedSeconds(file) {
  const audio = document.createElement('audio');
  const url = URL.createObjectURL(file);
  let timer;
  return new Promise((resolve) => {
    timer = setTimeout(() => resolve(Infinity), METADATA_SECONDS * 1000);
    audio.addEventListener('error', () => resolve(null));
    audio.addEventListener('durationchange', () => {
      if (Number.isFinite(audio.duration)) resolve(audio.duration);
      else audio.currentTime = 1e9; // recordings of browsers: the end has to be found
    });
    audio.preload = 'metadata';
    audio.src = url;
  }).finally(() => {
    clearTimeout(timer);
    audio.removeAttribute('src');
    URL.revokeObjectURL(url);
  });
}

// Sample rate of FLAC, Vorbis and MP3, so that the browser does not resample what `Resampler` does. Opus has 48 kHz.
async function statedRate(file) {
  const bytes = (from, to) => file.slice(from, to).arrayBuffer().then((buffer) => new Uint8Array(buffer));
  const text = (array, from, to) => String.fromCharCode(...array.subarray(from, to));
  const head = await bytes(0, 64);
  if (text(head, 0, 4) === 'fLaC' && head.length >= 21) return usable((head[18] << 12) | (head[19] << 4) | (head[20] >> 4));
  if (text(head, 0, 4) === 'OggS' && text(head, 28, 35) === '\x01vorbis' && head.length >= 44) {
    return usable(new DataView(head.buffer).getUint32(40, true));
  }
  const id3 = text(head, 0, 3) === 'ID3' && head.length >= 10;
  const start = id3 ? 10 + ((head[6] << 21) | (head[7] << 14) | (head[8] << 7) | head[9]) : 0;
  const frame = await bytes(start, start + 4);
  if (frame.length === 4 && frame[0] === 0xff && (frame[1] & 0xe6) === 0xe2) {
    // MPEG 1, 2, 2.5, layer 3
    const version = { 3: 1, 2: 2, 0: 4 }[(frame[1] >> 3) & 3];
    const rate = [44100, 48000, 32000][(frame[2] >> 2) & 3];
    if (version && rate) return usable(rate / version);
  }
  return null;
}

// Rates that every browser has an audio context for.
function usable(rate) {
  return rate >= 8000 && rate <= 96000 ? rate : null;
}

function hours(seconds) {
  return seconds < 3600 ? `${(seconds / 60).toFixed(0)} minutes` : `${(seconds / 3600).toFixed(1)} hours`;
}
