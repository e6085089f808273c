// Worker: decodes WAV, resamples, checks, disturbs and draws up recordings. Keeps nothing.

import { serve } from "./serve.js";
import { isWav, readWav } from "./wav.js";
import { resample } from "./resample.js";
import { disturb } from "./disturb.js";
import { picture } from "./mel.js";
import { Problem } from "./problem.js";

const STRETCHES = 600; // of the waveform's outline

/** Refuse what no model should hear, as oskdft/speech/quality.py does. */
function refuse(seconds, limits) {
  if (!(seconds > 0)) throw new Problem("notAudio");
  if (seconds < limits.SHORTEST_S) throw new Problem("short", { seconds, least: limits.SHORTEST_S });
  if (seconds > limits.UPLOAD_LIMIT_S) throw new Problem("long", { minutes: seconds / 60, most: limits.UPLOAD_LIMIT_S / 60, used: limits.USED_S });
}

const peak = (wave) => wave.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

/** Reasons why the calibration may not hold: keys of the texts with values. */
function doubts(wave, rate, limits) {
  const found = [];
  const seconds = wave.length / limits.SAMPLE_RATE;
  if (rate !== limits.SAMPLE_RATE) found.push({ key: "doubtRate", values: { rate } });
  if (seconds < limits.SURE_S) found.push({ key: "doubtShort", values: { seconds } });
  if (peak(wave) < limits.SILENCE) found.push({ key: "doubtSilent", values: {} });
  const full = wave.reduce((count, x) => count + (Math.abs(x) > limits.FULL_SCALE), 0);
  if (full / wave.length > limits.CLIPPED_SHARE) found.push({ key: "doubtClipped", values: {} });
  return found;
}

/** A decoded recording at 16 kHz: {samples, rate, notes}. */
function prepare({ samples, rate, channels, seconds, limits }) {
  refuse(seconds, limits);
  if (!samples.every(Number.isFinite)) throw new Problem("notAudio");
  const wave = resample(samples, rate, limits.SAMPLE_RATE);
  if (wave.length < limits.SHORTEST_S * limits.SAMPLE_RATE) throw new Problem("short", { seconds: wave.length / limits.SAMPLE_RATE, least: limits.SHORTEST_S });
  if (peak(wave) < limits.SILENCE) throw new Problem("silent");
  const notes = [];
  if (channels > 1) notes.push({ key: "noteChannels", values: { channels } });
  if (rate !== limits.SAMPLE_RATE) notes.push({ key: "noteRate", values: { rate } });
  if (seconds > limits.USED_S) notes.push({ key: "noteUsed", values: { used: limits.USED_S, seconds } });
  return { samples: wave, rate, notes };
}

/** Lowest and highest sample of each stretch. */
function outline(wave) {
  const count = Math.min(STRETCHES, wave.length >> 4);
  const low = new Float32Array(count), high = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const part = wave.subarray(Math.floor((i * wave.length) / count), Math.floor(((i + 1) * wave.length) / count));
    low[i] = part.reduce((a, b) => Math.min(a, b), Infinity);
    high[i] = part.reduce((a, b) => Math.max(a, b), -Infinity);
  }
  return { low, high };
}

serve({
  /** A WAV file's content -> a recording; null where it is not WAV. */
  wav({ bytes, limits }) {
    if (!bytes.byteLength) throw new Problem("empty");
    if (!isWav(bytes)) return null;
    return prepare({ ...readWav(bytes, limits.USED_S), limits });
  },
  prepare,
  /** A recording with effects: its samples, doubts and picture. */
  hear({ samples, rate, effects, limits }) {
    const changed = effects.speed !== 1 || effects.echo || effects.noise !== null;
    const wave = changed ? disturb(samples, effects, limits.ECHO_DB) : samples;
    return { samples: wave, doubts: doubts(wave, rate, limits), ...outline(wave), mel: picture(wave) };
  },
});
