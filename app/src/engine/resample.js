// Change of the sampling rate: band-limited sinc interpolation with a Hann window, as torchaudio computes it.

const ZEROS = 6; // zero crossings of the sinc on each side
const ROLLOFF = 0.99; // of the cutoff, as a share of the lower Nyquist frequency

const gcd = (a, b) => (b ? gcd(b, a % b) : a);

/** Samples [N] at `rate` -> [ceil(N * newRate / rate)] at `newRate`, Float32Array. */
export function resample(wave, rate, newRate) {
  if (rate === newRate) return wave;
  const shared = gcd(rate, newRate);
  const from = rate / shared, to = newRate / shared;
  const cutoff = Math.min(from, to) * ROLLOFF;
  const width = Math.ceil((ZEROS * from) / cutoff);
  const kernels = Array.from({ length: to }, (_, phase) => kernel(phase, from, to, cutoff, width));
  const out = new Float32Array(Math.ceil((wave.length * newRate) / rate));
  for (let n = 0; n < out.length; n++) {
    const { first, taps } = kernels[n % to];
    const start = Math.floor(n / to) * from - width + first;
    let sum = 0;
    const begin = Math.max(0, -start), end = Math.min(taps.length, wave.length - start);
    for (let k = begin; k < end; k++) sum += taps[k] * wave[start + k];
    out[n] = sum;
  }
  return out;
}

/** Taps of one output phase that are not zero, and the place of the first. */
function kernel(phase, from, to, cutoff, width) {
  const taps = [];
  let first = -1;
  for (let k = 0; k < 2 * width + from; k++) {
    const t = ((k - width) / from - phase / to) * cutoff;
    if (Math.abs(t) >= ZEROS) continue;
    if (first < 0) first = k;
    const window = Math.cos((t * Math.PI) / ZEROS / 2) ** 2;
    const angle = t * Math.PI;
    taps.push(Math.fround((angle === 0 ? 1 : Math.sin(angle) / angle) * window * (cutoff / from)));
  }
  return { first, taps: Float32Array.from(taps) };
}
