// Mel spectra: the picture of a recording, and MFCC. The numbers are those of oskdft/speech/mel.py.

import { transform } from "./fft.js";

const RATE = 16000;
const WINDOW = 400; // samples, 25 ms
const FFT = 512;
const HOP = 320; // samples between frames of MFCC, 20 ms
const LOWEST = 20; // [Hz] lower edge of the picture
const MELS = 64; // bands of the picture
const RANGE_DB = 80; // levels further below the highest are raised to that limit
const BANDS = 40; // of MFCC
const COEFFICIENTS = 13;

const hann = Float64Array.from({ length: WINDOW }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / WINDOW));

/** Triangles on the HTK mel scale up to 8 kHz: per band its first bin and its weights. */
function bank(bands, size, lowest) {
  const mel = (hz) => 2595 * Math.log10(1 + hz / 700);
  const bottom = mel(lowest), top = mel(RATE / 2);
  const edges = Array.from({ length: bands + 2 }, (_, i) => 700 * (10 ** ((bottom + ((top - bottom) * i) / (bands + 1)) / 2595) - 1));
  return Array.from({ length: bands }, (_, band) => {
    const [left, centre, right] = edges.slice(band, band + 3);
    const weights = [];
    let first = -1;
    for (let bin = 0; bin <= size / 2; bin++) {
      const hz = (bin * RATE) / size;
      const weight = Math.min((hz - left) / (centre - left), (right - hz) / (right - centre));
      if (weight <= 0) continue;
      if (first < 0) first = bin;
      weights.push(weight);
    }
    return { first: Math.max(first, 0), weights };
  });
}

const dot = ({ first, weights }, power) => weights.reduce((sum, w, i) => sum + w * power[first + i], 0);

const pictureBank = bank(MELS, FFT, LOWEST);

/** Levels [frames][bands] in dB of about 200 frames at most, windows centred on their samples. */
export function picture(wave) {
  const hop = Math.max(160, Math.floor(wave.length / 200));
  const frames = 1 + Math.floor(wave.length / hop);
  const at = (n) => wave[n < 0 ? -n : n >= wave.length ? 2 * (wave.length - 1) - n : n]; // mirrored
  const re = new Float64Array(FFT), im = new Float64Array(FFT), power = new Float64Array(FFT / 2 + 1);
  const levels = new Float32Array(frames * MELS);
  let highest = -Infinity;
  for (let frame = 0; frame < frames; frame++) {
    re.fill(0);
    im.fill(0);
    const start = frame * hop - WINDOW / 2;
    for (let n = 0; n < WINDOW; n++) re[(FFT - WINDOW) / 2 + n] = hann[n] * at(start + n);
    transform(re, im);
    for (let k = 0; k < power.length; k++) power[k] = re[k] * re[k] + im[k] * im[k];
    for (let band = 0; band < MELS; band++) {
      const level = 10 * Math.log10(Math.max(dot(pictureBank[band], power), 1e-10));
      levels[frame * MELS + band] = level;
      highest = Math.max(highest, level);
    }
  }
  return { levels: levels.map((x) => Math.max(x, highest - RANGE_DB)), frames, bands: MELS };
}

const cepstralBank = bank(BANDS, WINDOW, 0);
const HALF = WINDOW / 2;
// rows of the transform of a window that is folded at its middle: [bin][sample 0 to 200]
const cosines = new Float64Array((HALF + 1) * (HALF + 1)), sines = new Float64Array((HALF + 1) * (HALF + 1));
for (let k = 0; k <= HALF; k++) {
  for (let n = 0; n <= HALF; n++) {
    cosines[k * (HALF + 1) + n] = Math.cos((2 * Math.PI * k * n) / WINDOW);
    sines[k * (HALF + 1) + n] = Math.sin((2 * Math.PI * k * n) / WINDOW);
  }
}

/** Power of a window's 201 bins; 400 samples are no power of two. */
function windowPower(wave, start, power) {
  const even = new Float64Array(HALF + 1), odd = new Float64Array(HALF + 1);
  const at = (n) => hann[n] * wave[start + n];
  even[0] = at(0);
  even[HALF] = at(HALF);
  for (let n = 1; n < HALF; n++) {
    even[n] = at(n) + at(WINDOW - n);
    odd[n] = at(n) - at(WINDOW - n);
  }
  for (let k = 0; k <= HALF; k++) {
    const row = k * (HALF + 1);
    let re = 0, im = 0;
    for (let n = 0; n <= HALF; n++) {
      re += even[n] * cosines[row + n];
      im += odd[n] * sines[row + n];
    }
    power[k] = re * re + im * im;
  }
}

/** Cepstral coefficients [frames][13], windows inside the wave. */
export function cepstra(wave) {
  const frames = 1 + Math.floor((wave.length - WINDOW) / HOP);
  const power = new Float64Array(HALF + 1);
  return Array.from({ length: frames }, (_, frame) => {
    windowPower(wave, frame * HOP, power);
    const logs = cepstralBank.map((triangle) => Math.log(dot(triangle, power) + 1e-6));
    return Array.from({ length: COEFFICIENTS }, (_, k) => {
      const sum = logs.reduce((total, x, n) => total + x * Math.cos((Math.PI / BANDS) * (n + 0.5) * k), 0);
      return sum * Math.sqrt(2 / BANDS) * (k ? 1 : Math.SQRT1_2);
    });
  });
}

/** Mean and deviation over time of the coefficients, each standardised with `mean` and `deviation` [26]. */
export function mfccEmbedding(wave, { mean, deviation }) {
  const rows = cepstra(wave);
  const pooled = new Float64Array(2 * COEFFICIENTS);
  for (let k = 0; k < COEFFICIENTS; k++) {
    const average = rows.reduce((sum, row) => sum + row[k], 0) / rows.length;
    const squares = rows.reduce((sum, row) => sum + (row[k] - average) ** 2, 0);
    pooled[k] = average;
    pooled[COEFFICIENTS + k] = Math.sqrt(squares / (rows.length - 1));
  }
  return Float32Array.from(pooled, (x, i) => (x - mean[i]) / (deviation[i] + 1e-8));
}
