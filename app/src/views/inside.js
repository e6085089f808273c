// What is inside: the states of both paths, layer by layer, and what the layers cost.

import { h, show } from "../ui/dom.js";
import { choice, range, tick } from "../ui/controls.js";
import { panel } from "../ui/panel.js";
import { Side } from "../ui/side.js";
import { problemLine } from "../ui/say.js";
import { num, percent, t } from "../texts/index.js";
import { judge, latest } from "../engine/client.js";

const SATURATED = 0.995; // share of the levels below the end of the colour scale

export function inside(app) {
  const state = (app.state.inside ??= { side: new Side(app), layer: null, adapters: true, states: null, family: "classroom-hubert", layers: 2 });
  const result = h("section", { class: "card result", "aria-label": t("states") });
  const recording = panel(app, state.side, { which: t("recordingOne"), onheard: () => compute() });

  const compute = latest(async () => {
    const { heard } = state.side;
    if (!heard) return;
    if (!state.states) show(result, h("p", { role: "status" }, t("thinking")));
    try {
      const answer = await judge.ask("states", { samples: heard.samples });
      if (heard !== state.side.heard) return;
      state.states = answer;
      state.layer ??= answer.dims[2] - 1;
      draw();
    } catch (problem) {
      show(result, problemLine(problem));
    }
  });

  function draw() {
    const { data, dims: [, , layers, frames, width] } = state.states;
    const block = frames * width;
    const path = (which, layer) => data.subarray((which * layers + layer) * block, (which * layers + layer + 1) * block);
    const names = ["distillation", "verification", "difference"];
    const canvases = names.map((name) => h("canvas", { class: "states", role: "img", width: frames, height: width, "aria-label": t(`path.${name}`) }));
    const told = h("p", {});
    const update = () => {
      const distilled = path(0, state.layer), verified = state.adapters ? path(1, state.layer) : distilled;
      const apart = verified.map((x, i) => x - distilled[i]);
      [distilled, verified, apart].forEach((values, i) => heat(canvases[i], values, frames, width, quantile(values)));
      const length = (values) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
      told.textContent = `${t(state.layer ? "stateOf" : "stateBefore", { layer: state.layer })} ${t("pathsApart", { apart: num(length(apart) / length(distilled), 3) })} ${state.adapters ? "" : t("adaptersOff")}`;
      app.say(told.textContent);
    };
    const slider = range({ label: t("layer"), min: 0, max: layers - 1, step: 1, value: state.layer, say: (x) => num(x), onchange: (x) => { state.layer = x; update(); } });
    const box = tick({ label: t("adapters"), checked: state.adapters, onchange: (on) => { state.adapters = on; update(); } });
    show(result, h("div", { class: "row" }, slider.element, box.element),
      h("div", { class: "heats" }, names.map((name, i) => h("figure", {}, h("figcaption", {}, t(`path.${name}`)), canvases[i]))), told, h("p", { class: "hint" }, t("statesHint")));
    update();
  }

  if (state.states) draw();
  if (!state.side.clip) recording.box(0);
  return h("div", { class: "view" }, h("p", { class: "lead" }, t("insideLead")),
    h("div", { class: "columns" }, recording.element, result), costMeter(app, state));
}

/** The absolute level that `SATURATED` of all do not exceed. */
function quantile(values) {
  const sorted = values.map(Math.abs).sort();
  return sorted[Math.floor(SATURATED * (sorted.length - 1))];
}

/** Blue below zero, white at zero, red above; time to the right. */
function heat(canvas, values, frames, width, limit) {
  const pen = canvas.getContext("2d"), image = pen.createImageData(frames, width);
  for (let frame = 0; frame < frames; frame++) {
    for (let k = 0; k < width; k++) {
      const x = Math.max(-1, Math.min(1, values[frame * width + k] / (limit || 1)));
      const fade = 255 * (1 - Math.abs(x)) ** 0.8;
      image.data.set(x < 0 ? [fade, fade, 255 + 10 * x, 255] : [255 - 20 * x, fade, fade, 255], 4 * ((width - 1 - k) * frames + frame));
    }
  }
  pen.putImageData(image, 0, 0);
}

/** Teacher against student: parameters and multiply-adds for 3 s, with as many layers as one likes. */
function costMeter(app, state) {
  const element = h("section", { class: "card", "aria-label": t("costs") });
  const draw = () => {
    const family = app.data.costs[state.family];
    const layers = family.parts.filter(({ part }) => part.startsWith("layer")).length;
    state.layers = Math.min(state.layers, layers);
    const table = h("div", { class: "halves" });
    const update = () => {
      const total = (key, kept) => family.parts.slice(0, family.parts.length - layers + kept).reduce((sum, part) => sum + part[key], 0);
      const student = (key) => total(key, state.layers) + state.layers * family.adapter[key];
      const rows = [["parameters", "parameters"], ["multiplyAdds", "multiply_adds"]].map(([text, key]) => [text, total(key, layers), student(key)]);
      show(table, rows.map(([key, teacher, kept]) => h("div", { class: "cost" },
        h("h3", {}, t(key)),
        [["teacher", teacher], ["student", kept]].map(([who, amount]) => {
          const bar = h("span", { class: `bar ${who}` });
          bar.style.width = `${(100 * amount) / Math.max(teacher, kept)}%`;
          return h("div", { class: "costline" }, h("span", { class: "name" }, t(who)), h("span", { class: "track" }, bar), h("span", { class: "number" }, big(amount)));
        }),
        h("p", {}, t("saved", { share: percent(1 - kept / teacher) })))));
    };
    const slider = range({ label: t("layersKept"), min: 1, max: layers, step: 1, value: state.layers, say: (x) => t("ofLayers", { kept: x, layers }), onchange: (x) => { state.layers = x; update(); } });
    const list = choice({ label: t("family"), value: state.family, options: Object.keys(app.data.costs).map((name) => [name, name]), onchange: (name) => {
      state.family = name;
      state.layers = app.data.costs[name].layers;
      draw();
      element.querySelector("select").focus();
    } });
    show(element, h("h2", {}, t("costs")), h("div", { class: "row" }, list.element, slider.element), table, h("p", { class: "hint" }, t("costsHint")));
    update();
  };
  draw();
  return element;
}

const big = (x) => (x >= 1e9 ? t("billions", { x: num(x / 1e9, 1, true) }) : t("millions", { x: num(x / 1e6, 1, true) }));
