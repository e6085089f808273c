// Speed, echoes and noise of a recording, as in oskdft/lessons/widgets/who.py; the same values give the same sound.

import { convolve } from "./fft.js";
import { resample } from "./resample.js";

const RATE = 16000;
const FIRST_ECHO_S = 0.002; // from the nearest wall

/** Numbers in [0, 1) from a whole number: mulberry32. */
function uniform(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Standard normal numbers [n], by Box and Muller. */
function normals(n, seed) {
  const draw = uniform(seed);
  const out = new Float64Array(n + 1);
  for (let i = 0; i < n; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - draw())), angle = 2 * Math.PI * draw();
    out[i] = radius * Math.cos(angle);
    out[i + 1] = radius * Math.sin(angle);
  }
  return out.subarray(0, n);
}

const power = (wave) => wave.reduce((sum, x) => sum + x * x, 0) / wave.length;

/** Response of a simulated room: the direct sound, then noise that is 60 dB down after `seconds`. */
function echoes(seconds, echoDb) {
  const response = normals(Math.round(seconds * RATE), 1);
  response.forEach((x, n) => {
    response[n] = n < FIRST_ECHO_S * RATE ? 0 : x * 10 ** ((-3 * n) / RATE / seconds);
  });
  const scale = 10 ** (echoDb / 20) / Math.sqrt(response.reduce((sum, x) => sum + x * x, 0));
  const out = response.map((x) => x * scale);
  out[0] = 1;
  return out;
}

/** The wave at another speed, in a room, with white noise; lowered where it would clip. */
export function disturb(wave, { speed, echo, noise }, echoDb) {
  let out = Float64Array.from(speed === 1 ? wave : resample(wave, Math.round(100 * speed), 100));
  if (echo) {
    const wet = convolve(out, echoes(echo, echoDb)).subarray(0, out.length);
    const gain = Math.sqrt(power(out) / (power(wet) || 1));
    out = wet.map((x) => x * gain);
  }
  if (noise !== null) {
    const hiss = normals(out.length, 2);
    const gain = Math.sqrt(power(out) / 10 ** (noise / 10) / power(hiss));
    out = out.map((x, n) => x + gain * hiss[n]);
  }
  const peak = out.reduce((most, x) => Math.max(most, Math.abs(x)), 1);
  return Float32Array.from(out, (x) => x / peak);
}
