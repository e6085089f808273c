// Planes with axes, drawn as SVG.

import { s, unique } from "./dom.js";
import { num, t } from "../texts/index.js";
import { probit } from "../engine/rates.js";

const MARGIN = { left: 58, right: 14, top: 12, bottom: 46 };
const DET_TICKS = [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9];

/** A plane: {svg, x, y, path, layer}; axes have min, max, label and ticks [value, text]. */
export function plane({ width, height, x, y, label, className = "" }) {
  const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const X = (v) => MARGIN.left + (inner.width * (Math.min(Math.max(v, x.min), x.max) - x.min)) / (x.max - x.min);
  const Y = (v) => MARGIN.top + inner.height * (1 - (Math.min(Math.max(v, y.min), y.max) - y.min) / (y.max - y.min));
  const clip = unique();
  const marks = s("g", { "clip-path": `url(#${clip})` }), top = s("g");
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, class: `plane ${className}`, role: "img", "aria-label": label },
    s("clipPath", { id: clip }, s("rect", { x: MARGIN.left, y: MARGIN.top, width: inner.width, height: inner.height })),
    x.ticks.map(([v, text]) => [
      s("line", { x1: X(v), x2: X(v), y1: MARGIN.top, y2: MARGIN.top + inner.height, class: "grid" }),
      s("text", { x: X(v), y: height - 28, "text-anchor": "middle", class: "ticktext" }, text)]),
    y.ticks.map(([v, text]) => [
      s("line", { x1: MARGIN.left, x2: MARGIN.left + inner.width, y1: Y(v), y2: Y(v), class: "grid" }),
      s("text", { x: MARGIN.left - 6, y: Y(v) + 4, "text-anchor": "end", class: "ticktext" }, text)]),
    s("rect", { x: MARGIN.left, y: MARGIN.top, width: inner.width, height: inner.height, class: "frame" }),
    s("text", { x: MARGIN.left + inner.width / 2, y: height - 8, "text-anchor": "middle", class: "axis" }, x.label),
    s("text", { transform: `translate(15 ${MARGIN.top + inner.height / 2}) rotate(-90)`, "text-anchor": "middle", class: "axis" }, y.label),
    marks, top);
  const path = (points) => points.map(([a, b], i) => `${i ? "L" : "M"}${X(a).toFixed(1)} ${Y(b).toFixed(1)}`).join("");
  return { svg, X, Y, path, marks, top };
}

/** Misses against false alarms on probit axes. */
export function detPlane({ label, width = 460, height = 400, lowest = 0.002, highest = 0.95 }) {
  const ticks = DET_TICKS.filter((rate) => rate >= lowest && rate <= highest).map((rate) => [probit(rate), num(100 * rate, 1)]);
  const axis = (key) => ({ min: probit(lowest), max: probit(highest), ticks, label: t(key) });
  const made = plane({ width, height, x: axis("falseAlarmsAxis"), y: axis("missesAxis"), label, className: "det" });
  const place = (rate) => probit(Math.min(Math.max(rate, 1e-6), 1 - 1e-6));
  made.marks.append(s("path", { d: made.path([[probit(lowest), probit(lowest)], [probit(highest), probit(highest)]]), class: "diagonal" }));
  return {
    ...made,
    curve: (alarm, miss) => made.path(alarm.map((a, i) => [place(a), place(miss[i])])),
    at: (alarm, miss) => [made.X(place(alarm)), made.Y(place(miss))],
  };
}

/** A mark: "circle", "diamond", "square" or "triangle" around a point. */
export function mark(kind, [x, y], attributes, r = 7) {
  const shapes = {
    circle: `M${x - r} ${y} a${r} ${r} 0 1 0 ${2 * r} 0 a${r} ${r} 0 1 0 ${-2 * r} 0 z`,
    diamond: `M${x} ${y - 1.3 * r} L${x + 1.3 * r} ${y} L${x} ${y + 1.3 * r} L${x - 1.3 * r} ${y} z`,
    square: `M${x - r} ${y - r} h${2 * r} v${2 * r} h${-2 * r} z`,
    triangle: `M${x} ${y - 1.2 * r} L${x + 1.1 * r} ${y + 0.8 * r} L${x - 1.1 * r} ${y + 0.8 * r} z`,
  };
  return s("path", { d: shapes[kind], ...attributes });
}
