// WAV files: samples of the first seconds, all channels averaged, at the rate of the file.

import { Problem } from "./problem.js";

const PCM = 1, FLOAT = 3, EXTENSIBLE = 0xfffe;

const word = (view, at) => String.fromCharCode(...new Uint8Array(view.buffer, view.byteOffset + at, 4));

/** Whether the content begins like a WAV file. */
export function isWav(bytes) {
  const view = new DataView(bytes);
  return bytes.byteLength > 12 && word(view, 0) === "RIFF" && word(view, 8) === "WAVE";
}

/** Places of the format and of the samples; a length that a recorder left open reaches to the end. */
function chunks(view) {
  const found = {};
  for (let at = 12; at + 8 <= view.byteLength && !found.data; ) {
    const name = word(view, at), size = view.getUint32(at + 4, true);
    found[name.trim()] = { at: at + 8, size: Math.min(size, view.byteLength - at - 8) };
    at += 8 + size + (size % 2);
  }
  return found;
}

/** One sample in [-1, 1] at a byte, by kind and bits. */
function reader(view, format, bits) {
  if (format === FLOAT && bits === 32) return (at) => view.getFloat32(at, true);
  if (format === FLOAT && bits === 64) return (at) => view.getFloat64(at, true);
  if (format === PCM && bits === 8) return (at) => (view.getUint8(at) - 128) / 128;
  if (format === PCM && bits === 16) return (at) => view.getInt16(at, true) / 2 ** 15;
  if (format === PCM && bits === 24) return (at) => (view.getUint16(at, true) + view.getInt8(at + 2) * 65536) / 2 ** 23;
  if (format === PCM && bits === 32) return (at) => view.getInt32(at, true) / 2 ** 31;
  throw new Problem("notAudio");
}

/** {rate, channels, seconds, samples}: `seconds` of the whole file, `samples` of its first `used` seconds. */
export function readWav(bytes, used) {
  const view = new DataView(bytes);
  const { fmt, data } = chunks(view);
  if (!fmt || !data || fmt.size < 16) throw new Problem("notAudio");
  let format = view.getUint16(fmt.at, true);
  const channels = view.getUint16(fmt.at + 2, true), rate = view.getUint32(fmt.at + 4, true);
  const bits = view.getUint16(fmt.at + 14, true);
  if (format === EXTENSIBLE && fmt.size >= 26) format = view.getUint16(fmt.at + 24, true);
  if (!channels || rate < 1000 || rate > 400000 || !bits) throw new Problem("notAudio");
  const sample = reader(view, format, bits);
  const width = bits / 8, total = Math.floor(data.size / (width * channels));
  const samples = new Float32Array(Math.min(total, Math.round(used * rate)));
  for (let n = 0; n < samples.length; n++) {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += sample(data.at + (n * channels + c) * width);
    samples[n] = sum / channels;
  }
  return { rate, channels, seconds: total / rate, samples };
}
