// Misses and false alarms of scored trials, as in oskdft/evaluation/metrics.py.

/** Operating points from accepting all to rejecting all: {miss, alarm, threshold}, trials of equal score move together. */
export function detPoints(scores, labels) {
  const order = Uint32Array.from(scores.keys()).sort((a, b) => scores[a] - scores[b]);
  let targets = 0;
  for (const label of labels) targets += label;
  const others = labels.length - targets;
  const miss = [0], alarm = [1], levels = [];
  let hits = 0;
  for (let i = 0; i < order.length; i++) {
    hits += labels[order[i]];
    if (i + 1 < order.length && scores[order[i + 1]] === scores[order[i]]) continue;
    levels.push(scores[order[i]]);
    miss.push(hits / targets);
    alarm.push(1 - (i + 1 - hits) / others);
  }
  const threshold = [levels[0]];
  for (let i = 1; i < levels.length; i++) threshold.push((levels[i - 1] + levels[i]) / 2);
  threshold.push(levels.at(-1) + 1e-9);
  return { miss, alarm, threshold };
}

/** Rate and threshold where misses and false alarms are equal. */
export function eer({ miss, alarm, threshold }) {
  let k = 0;
  while (k + 1 < miss.length && miss[k + 1] <= alarm[k + 1]) k++;
  if (k + 1 === miss.length) k--;
  const before = miss[k] - alarm[k], behind = miss[k + 1] - alarm[k + 1];
  const share = -before / (behind - before);
  return {
    rate: miss[k] + share * (miss[k + 1] - miss[k]),
    threshold: threshold[k] + share * (threshold[k + 1] - threshold[k]),
  };
}

/** Misses and false alarms at a threshold: counts of the four outcomes. */
export function counts(scores, labels, threshold) {
  const found = { hits: 0, misses: 0, alarms: 0, rejections: 0 };
  for (let i = 0; i < scores.length; i++) {
    if (labels[i]) scores[i] >= threshold ? found.hits++ : found.misses++;
    else scores[i] >= threshold ? found.alarms++ : found.rejections++;
  }
  return found;
}

/** The prior that gives the same decisions when both errors cost 1. */
export const effectivePrior = (prior, missCost, alarmCost) => (prior * missCost) / (prior * missCost + (1 - prior) * alarmCost);

/** Normalised cost of an operating point: 1 is a verifier that ignores the speech. */
export const detectionCost = (miss, alarm, prior) => (prior * miss + (1 - prior) * alarm) / Math.min(prior, 1 - prior);

/** Point of least cost: {cost, index}. */
export function leastCost({ miss, alarm }, prior) {
  let index = 0;
  const cost = (i) => detectionCost(miss[i], alarm[i], prior);
  for (let i = 1; i < miss.length; i++) if (cost(i) < cost(index)) index = i;
  return { cost: cost(index), index };
}

/** Standard normal distribution function: Numerical Recipes' erfc, relative error below 1.2e-7. */
export function phi(x) {
  const z = Math.abs(x) / Math.SQRT2, t = 1 / (1 + z / 2);
  const series = [0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368, -1.26551223];
  const erfc = t * Math.exp(-z * z + series.reduce((sum, c) => sum * t + c, 0));
  return x > 0 ? 1 - erfc / 2 : erfc / 2;
}

/** Inverse of `phi`: Acklam's rational functions, relative error below 1.2e-9. */
export function probit(p) {
  const a = [-39.69683028665376, 220.9460984245205, -275.9285104469687, 138.357751867269, -30.66479806614716, 2.506628277459239];
  const b = [-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572, 1];
  const c = [-0.007784894002430293, -0.3223964580411365, -2.400758277161838, -2.549732539343734, 4.374664141464968, 2.938163982698783];
  const d = [0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1];
  const value = (series, x) => series.reduce((sum, k) => sum * x + k, 0);
  if (p < 0.02425) {
    const q = Math.sqrt(-2 * Math.log(p));
    return value(c, q) / value(d, q);
  }
  if (p > 1 - 0.02425) return -probit(1 - p);
  const q = p - 0.5, r = q * q;
  return (value(a, r) * q) / value(b, r);
}
