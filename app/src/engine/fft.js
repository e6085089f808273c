// Fast Fourier transform of a power of two, in place.

const tables = new Map(); // size -> [cosines, sines]

function table(size) {
  if (!tables.has(size)) {
    const angles = Float64Array.from({ length: size / 2 }, (_, k) => (-2 * Math.PI * k) / size);
    tables.set(size, [angles.map(Math.cos), angles.map(Math.sin)]);
  }
  return tables.get(size);
}

/** Transform real and imaginary parts [size], both Float64Array. */
export function transform(re, im) {
  const size = re.length;
  const [cosines, sines] = table(size);
  for (let i = 1, j = 0; i < size; i++) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j], re[i]];
      [im[i], im[j]] = [im[j], im[i]];
    }
  }
  for (let half = 1; half < size; half *= 2) {
    const step = size / (2 * half);
    for (let start = 0; start < size; start += 2 * half) {
      for (let k = 0; k < half; k++) {
        const c = cosines[k * step], s = sines[k * step];
        const a = start + k, b = a + half;
        const x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
        re[b] = re[a] - x;
        im[b] = im[a] - y;
        re[a] += x;
        im[a] += y;
      }
    }
  }
}

/** Linear convolution of two real signals: [a + b - 1]. */
export function convolve(a, b) {
  const length = a.length + b.length - 1;
  let size = 1;
  while (size < length) size *= 2;
  const re = new Float64Array(size), im = new Float64Array(size);
  re.set(a); // two real signals as one complex signal
  im.set(b);
  transform(re, im);
  const outRe = new Float64Array(size), outIm = new Float64Array(size);
  for (let k = 0; k < size; k++) {
    const m = (size - k) % size;
    const aRe = (re[k] + re[m]) / 2, aIm = (im[k] - im[m]) / 2;
    const bRe = (im[k] + im[m]) / 2, bIm = (re[m] - re[k]) / 2;
    outRe[k] = aRe * bRe - aIm * bIm;
    outIm[k] = -(aRe * bIm + aIm * bRe); // the conjugate: a forward transform of it is the inverse
  }
  transform(outRe, outIm);
  return outRe.subarray(0, length).map((x) => x / size);
}
