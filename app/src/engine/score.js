// From embeddings to decisions: cosine, calibrated probability, distance to the calibrated speech.

/** Cosine of two embeddings. */
export function cosine(a, b) {
  let ab = 0, aa = 0, bb = 0;
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return ab / (Math.sqrt(aa * bb) || 1);
}

/** Probability that a score comes from one speaker, at even odds. */
export function probability(score, { llr_scale, llr_offset }, prior = 0.5) {
  return 1 / (1 + Math.exp(-(llr_scale * score + llr_offset + Math.log(prior / (1 - prior)))));
}

/** Mahalanobis distance over the root of E: about 1 for speech like that of the calibration. */
export function distance(embedding, { mean, whitening }) {
  const size = mean.length;
  const apart = Float64Array.from(embedding, (x, i) => x - mean[i]);
  let total = 0;
  for (let column = 0; column < size; column++) {
    let sum = 0;
    for (let row = 0; row < size; row++) sum += apart[row] * whitening[row * size + column];
    total += sum * sum;
  }
  return Math.sqrt(total / size);
}

/** Mean of unit embeddings: one voice from several recordings. */
export function average(embeddings) {
  const mean = new Float64Array(embeddings[0].length);
  for (const embedding of embeddings) {
    const length = Math.hypot(...embedding) || 1;
    embedding.forEach((x, i) => (mean[i] += x / length / embeddings.length));
  }
  return mean;
}
