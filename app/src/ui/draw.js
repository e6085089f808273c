// Pictures of a recording: waveform and mel levels on canvases, and a score on its scale.

import { h, s } from "./dom.js";
import { num, t } from "../texts/index.js";

const RAMP = [[13, 8, 43], [74, 18, 110], [154, 40, 106], [219, 79, 72], [249, 155, 53], [249, 248, 178]]; // dark to bright
const SCALE = [-0.25, 1]; // ends of the scale of scores
const HEIGHT = 60;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function ramp(x) {
  const place = Math.min(Math.max(x, 0), 1) * (RAMP.length - 1), i = Math.min(Math.floor(place), RAMP.length - 2);
  return RAMP[i].map((c, k) => c + (RAMP[i + 1][k] - c) * (place - i));
}

/** Two canvases, and a function that draws what was heard. */
export function recordingPicture() {
  const wave = h("canvas", { class: "wave", role: "img", "aria-label": t("loading"), width: 600, height: 2 * HEIGHT });
  const mel = h("canvas", { class: "mel", role: "img", "aria-label": t("loading"), width: 200, height: 64 });
  return { elements: [wave, mel], draw: (heard, name) => {
    const seconds = num(heard.samples.length / 16000, 1, true);
    wave.setAttribute("aria-label", t("waveOf", { name, seconds }));
    mel.setAttribute("aria-label", t("melOf", { name, seconds }));
    drawWave(wave, heard);
    drawMel(mel, heard.mel);
  } };
}

function drawWave(canvas, { low, high }) {
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = colour("--line");
  pen.fillRect(0, HEIGHT - 0.5, canvas.width, 1);
  pen.fillStyle = colour("--accent");
  const width = canvas.width / low.length;
  const peak = Math.max(...high, ...low.map((x) => -x), 1e-3); // a quiet recording fills the picture too
  low.forEach((bottom, i) => pen.fillRect(i * width, HEIGHT * (1 - high[i] / peak), Math.max(width, 1), Math.max((HEIGHT * (high[i] - bottom)) / peak, 1)));
}

function drawMel(canvas, { levels, frames, bands }) {
  canvas.width = frames;
  const pen = canvas.getContext("2d"), image = pen.createImageData(frames, bands);
  const highest = levels.reduce((a, b) => Math.max(a, b), -Infinity);
  for (let frame = 0; frame < frames; frame++) {
    for (let band = 0; band < bands; band++) {
      const at = 4 * ((bands - 1 - band) * frames + frame);
      const [r, g, b] = ramp(1 + (levels[frame * bands + band] - highest) / 80);
      image.data.set([r, g, b, 255], at);
    }
  }
  pen.putImageData(image, 0, 0);
}

/** The score and the threshold on one line. */
export function scoreScale(score, threshold) {
  const x = (value) => 20 + (560 * (Math.min(Math.max(value, SCALE[0]), SCALE[1]) - SCALE[0])) / (SCALE[1] - SCALE[0]);
  const same = score >= threshold;
  const ticks = [0, 0.25, 0.5, 0.75, 1];
  return s("svg", { viewBox: "0 0 600 84", class: "scale", role: "img", "aria-label": t("scaleOf", { score: num(score, 3, true), threshold: num(threshold, 3, true) }) },
    s("rect", { x: 20, y: 26, width: x(threshold) - 20, height: 22, class: "different-area" }),
    s("rect", { x: x(threshold), y: 26, width: 580 - x(threshold), height: 22, class: "same-area" }),
    s("text", { x: 20, y: 18, class: "end" }, `◀ ${t("different")}`),
    s("text", { x: 580, y: 18, "text-anchor": "end", class: "end" }, `${t("same")} ▶`),
    ticks.map((tick) => [s("line", { x1: x(tick), x2: x(tick), y1: 48, y2: 54, class: "tickmark" }), s("text", { x: x(tick), y: 70, "text-anchor": "middle", class: "ticktext" }, num(tick, 2))]),
    s("line", { x1: x(threshold), x2: x(threshold), y1: 20, y2: 54, class: "threshold" }),
    s("path", { d: `M${x(score)} 26 l10 11 l-10 11 l-10 -11 z`, class: same ? "mark-same" : "mark-different" }));
}
