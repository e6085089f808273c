// DET explorer: kept systems or two Gaussians; threshold, costs, and what they mean for 1,000 callers.

import { h, s, show } from "../ui/dom.js";
import { choice, range, steps, tick, toggles } from "../ui/controls.js";
import { detPlane, mark, plane } from "../ui/chart.js";
import { problemLine } from "../ui/say.js";
import { num, percent, t } from "../texts/index.js";
import { counts, detectionCost, detPoints, eer, effectivePrior, leastCost, phi } from "../engine/rates.js";

const PRIORS = [0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.99];
const COSTS = [1, 2, 5, 10, 20, 50, 100, 1000];
const CALLERS = 1000;
const CURVE = 240; // points of a drawn curve
const BINS = 48;
const SHOWN = ["shipped", "os-kdft", "mfcc"]; // at first

export function det(app) {
  const state = (app.state.det ??= {
    mode: "kept", systems: null, shown: new Set(SHOWN), name: "shipped", threshold: null,
    prior: 0.05, miss: 1, alarm: 1, distance: 2.5, spread: 1,
  });
  const element = h("div", { class: "view" }, h("p", { role: "status" }, t("loading")));
  ready(app, state).then(() => draw(app, state, element), (error) => show(element, problemLine(error)));
  return element;
}

/** Read scores and labels once. */
async function ready(app, state) {
  if (state.systems) return;
  const [table, bytes] = await Promise.all([
    app.fetched("det.json").then((response) => response.json()),
    app.fetched("det.bin").then((response) => response.arrayBuffer()),
  ]);
  const labels = new Uint8Array(bytes, 0, table.trials);
  const whole = new Uint16Array(bytes.slice(table.trials));
  state.trials = table.trials;
  state.targets = table.targets;
  state.systems = table.systems.map((row, i) => {
    const scores = Float32Array.from(whole.subarray(i * table.trials, (i + 1) * table.trials), (x) => row.lowest + (x / 65535) * (row.highest - row.lowest));
    return { ...row, scores, labels, colour: i };
  });
}

/** Points, EER and histogram of a kept system, made at its first use. */
function analysed(system) {
  if (system.points) return system;
  system.points = detPoints(system.scores, system.labels);
  system.at = eer(system.points);
  const heights = [new Float64Array(BINS), new Float64Array(BINS)];
  const width = (system.highest - system.lowest) / BINS;
  system.scores.forEach((x, i) => heights[system.labels[i]][Math.min(Math.floor((x - system.lowest) / width), BINS - 1)]++);
  system.density = heights.map((height) => {
    const total = height.reduce((a, b) => a + b, 0) * width;
    return Array.from(height, (n, i) => [system.lowest + (i + 0.5) * width, n / total]);
  });
  system.rates = (threshold) => {
    const found = counts(system.scores, system.labels, threshold);
    return { miss: found.misses / (found.hits + found.misses), alarm: found.alarms / (found.alarms + found.rejections) };
  };
  return system;
}

/** A verifier whose scores are two Gaussians: different speakers around 0 with deviation 1. */
function gaussians({ distance, spread }) {
  const lowest = -4, highest = Math.max(4, distance + 4 * spread);
  const rates = (threshold) => ({ miss: phi((threshold - distance) / spread), alarm: 1 - phi(threshold) });
  const grid = Array.from({ length: CURVE }, (_, i) => lowest - 2 + ((highest - lowest + 4) * i) / (CURVE - 1));
  const all = grid.map(rates);
  const bell = (x, mean, deviation) => Math.exp(-(((x - mean) / deviation) ** 2) / 2) / deviation / Math.sqrt(2 * Math.PI);
  const threshold = distance / (1 + spread);
  return {
    name: "gaussians", lowest, highest, rates, colour: 0,
    points: { miss: all.map((p) => p.miss), alarm: all.map((p) => p.alarm), threshold: grid },
    at: { rate: phi(-threshold), threshold },
    density: [grid.map((x) => [x, bell(x, 0, 1)]), grid.map((x) => [x, bell(x, distance, spread)])],
  };
}

/** At most `CURVE` points of a curve, for drawing. */
function thinned({ miss, alarm }) {
  const step = Math.max(1, Math.floor(miss.length / 4000)); // fine first, then by distance on the plane
  const kept = [[], []];
  let last = null;
  for (let i = 0; i < miss.length; i += step) {
    const place = [Math.sqrt(alarm[i]), Math.sqrt(miss[i])];
    if (last && Math.abs(place[0] - last[0]) + Math.abs(place[1] - last[1]) < 2 / CURVE) continue;
    last = place;
    kept[0].push(alarm[i]);
    kept[1].push(miss[i]);
  }
  return kept;
}

function draw(app, state, element) {
  const isKept = state.mode === "kept";
  const present = () => (isKept ? analysed(state.systems.find(({ name }) => name === state.name)) : gaussians(state));
  let system = present();
  state.threshold ??= system.at.threshold;
  const again = () => draw(app, state, element);
  const curves = h("div", {}), histogram = h("div", {}), told = h("div", { class: "verdict" }), callers = h("div", {});

  const sliderBox = h("div", {});
  const thresholdSlider = () => {
    const made = range({
      label: t("threshold"), min: system.lowest, max: system.highest, step: (system.highest - system.lowest) / 400, value: state.threshold,
      say: (x) => num(x, 3, true), onchange: (x) => { state.threshold = x; move(); },
    });
    show(sliderBox, made.element, h("button", { type: "button", onclick: () => { state.threshold = system.at.threshold; made.set(state.threshold); move(); } }, t("jumpToEer")));
  };

  let chart, densityChart;
  function still() { // what the threshold does not move
    chart = detPlane({ label: t("detPlane") });
    const drawn = isKept ? state.systems.filter(({ name }) => state.shown.has(name) || name === state.name) : [system];
    if (system.band) {
      const { x, low, high } = system.band;
      const back = [...x.keys()].reverse();
      chart.marks.append(s("path", { d: `${chart.curve([...x, ...back.map((i) => x[i])], [...low, ...back.map((i) => high[i])])}z`, class: `band c${system.colour}` }));
    }
    for (const one of drawn) {
      const [alarm, miss] = (one.thin ??= thinned((isKept ? analysed(one) : one).points));
      chart.marks.append(s("path", { d: chart.curve(alarm, miss), class: `curve c${one.colour}${one.name === system.name ? " chosen" : ""}` }));
    }
    show(curves, chart.svg);
    const highest = Math.max(...system.density.flat().map(([, y]) => y));
    const span = system.highest - system.lowest;
    const unit = span > 3 ? 1 : 0.5;
    const ticks = [];
    for (let x = Math.ceil(system.lowest / unit) * unit; x <= system.highest; x += unit) ticks.push([x, num(x, 1)]);
    densityChart = plane({ width: 400, height: 190, label: t("histogram"), className: "density", x: { min: system.lowest, max: system.highest, ticks, label: t("score") }, y: { min: 0, max: 1.05 * highest, ticks: [], label: t("frequency") } });
    system.density.forEach((points, same) => densityChart.marks.append(s("path", { d: `${densityChart.path([[points[0][0], 0], ...points, [points.at(-1)[0], 0]])}z`, class: same ? "area same-area" : "area different-area" })));
    show(histogram, densityChart.svg, h("p", { class: "legend" }, h("span", { class: "swatch different-area" }), " ", t("different"), "  ", h("span", { class: "swatch same-area" }), " ", t("same")));
  }

  function move() { // everything that depends on threshold, prior and costs
    const { miss, alarm } = system.rates(state.threshold);
    const prior = effectivePrior(state.prior, state.miss, state.alarm);
    const best = leastCost(system.points, prior);
    const bestAt = [system.points.alarm[best.index], system.points.miss[best.index]];
    show(chart.top, mark("diamond", chart.at(...bestAt), { class: "point least" }), mark("circle", chart.at(alarm, miss), { class: "point here" }));
    const X = densityChart.X(state.threshold);
    show(densityChart.top, s("line", { x1: X, x2: X, y1: 12, y2: 144, class: "threshold" }));
    const genuine = Math.round(CALLERS * state.prior), impostors = CALLERS - genuine;
    show(told,
      h("p", {}, h("strong", {}, t("ratesHere", { misses: percent(miss, 2), alarms: percent(alarm, 2) }))),
      h("p", {}, t("eerOf", { rate: percent(system.at.rate, 2) }), system.interval ? t("intervalOf", { low: percent(system.interval[0], 2), high: percent(system.interval[1], 2) }) : "", "."),
      h("p", {}, t("costHere", { cost: num(detectionCost(miss, alarm, prior), 3, true), least: num(best.cost, 3, true), threshold: num(system.points.threshold[best.index], 3, true) })));
    app.say(told.textContent);
    const cell = (count, bad) => h("td", { class: bad ? "bad" : "good" }, num(count, 0));
    show(callers, h("table", {}, h("caption", {}, t("callers", { callers: CALLERS, genuine: num(genuine, 0), impostors: num(impostors, 0) })),
      h("thead", {}, h("tr", {}, h("td", {}), h("th", { scope: "col" }, t("letIn")), h("th", { scope: "col" }, t("turnedAway")))),
      h("tbody", {},
        h("tr", {}, h("th", { scope: "row" }, t("genuine")), cell(genuine * (1 - miss), false), cell(genuine * miss, true)),
        h("tr", {}, h("th", { scope: "row" }, t("impostors")), cell(impostors * alarm, true), cell(impostors * (1 - alarm), false)))));
  }

  const ticks = !isKept ? null : h("fieldset", { class: "systems" }, h("legend", {}, t("curves")), state.systems.map((one) => {
    const made = tick({ label: t(`system.${one.name}`), checked: state.shown.has(one.name) || one.name === state.name, disabled: one.name === state.name,
      onchange: (on) => { on ? state.shown.add(one.name) : state.shown.delete(one.name); still(); move(); } });
    made.element.prepend(s("svg", { viewBox: "0 0 24 8", class: "key" }, s("path", { d: "M0 4 H24", class: `curve c${one.colour}` })));
    return made.element;
  }));
  const shape = isKept ? null : [
    range({ label: t("distance"), min: 0, max: 6, step: 0.05, value: state.distance, say: (x) => num(x, 2, true), onchange: (x) => { state.distance = x; reshape(); } }).element,
    range({ label: t("spread"), min: 0.25, max: 3, step: 0.05, value: state.spread, say: (x) => num(x, 2, true), onchange: (x) => { state.spread = x; reshape(); } }).element,
  ];
  const reshape = () => {
    system = present();
    still();
    thresholdSlider();
    move();
  };
  thresholdSlider();
  still();
  move();
  const look = !isKept ? null : choice({ label: t("lookAt"), value: state.name, options: state.systems.map(({ name }) => [name, t(`system.${name}`)]),
    onchange: (name) => { state.name = name; state.threshold = null; again(); element.querySelector("select").focus(); } }).element;
  const slider = (key, label, values, say) => steps({ label, values, value: state[key], say, onchange: (x) => { state[key] = x; move(); } }).element;
  show(element,
    h("p", { class: "lead" }, t(isKept ? "detLead" : "gaussLead")),
    h("div", { class: "three" },
      h("section", { class: "card", "aria-label": t("controls") },
        toggles({ label: t("detMode"), value: state.mode, options: [["kept", t("keptSystems")], ["gauss", t("gaussians")]], onchange: (mode) => { state.mode = mode; state.threshold = null; again(); element.querySelector(".toggles [aria-pressed=true]").focus(); } }),
        look, shape, sliderBox,
        slider("prior", t("prior"), PRIORS, (x) => percent(x, 1)),
        slider("miss", t("missCost"), COSTS, (x) => num(x)),
        slider("alarm", t("alarmCost"), COSTS, (x) => num(x))),
      h("section", { class: "card", "aria-label": t("detPlane") }, curves, h("p", { class: "legend" }, ["● " + t("here"), "◇ " + t("least"), ...(system.band ? [t("bandIs")] : [])].join(" · ")), told),
      h("section", { class: "card", "aria-label": t("histogram") }, histogram, callers, ticks)),
    isKept ? h("p", { class: "hint" }, t("detTrials", { trials: state.trials, targets: state.targets })) : null);
}
