// Embedding map: PCA or UMAP of test recordings; hover, play, and the true neighbours in the space.

import { h, s, show } from "../ui/dom.js";
import { choice, toggles } from "../ui/controls.js";
import { mark } from "../ui/chart.js";
import { problemLine } from "../ui/say.js";
import { Problem } from "../engine/problem.js";
import { play } from "../ui/sound.js";
import { num, t } from "../texts/index.js";

const NEAR = 5; // neighbours
const SIZE = 560, EDGE = 16;
const GROUP_LOOK = { f: ["circle", "k0"], m: ["square", "k1"], child: ["triangle", "k2"], adult: ["diamond", "k3"] };

export function map(app) {
  const state = (app.state.map ??= { table: null, space: null, drawing: "umap", colour: "speaker", chosen: 0 });
  const element = h("div", { class: "view" }, h("p", { role: "status" }, t("loading")));
  ready(app, state).then(() => draw(app, state, element), (error) => show(element, problemLine(error)));
  return element;
}

async function ready(app, state) {
  if (state.table) return;
  const [table, bytes] = await Promise.all([
    app.fetched("map.json").then((response) => response.json()),
    app.fetched("map.bin").then((response) => response.arrayBuffer()),
  ]);
  const whole = new Int16Array(bytes), size = whole.length / table.speaker.length;
  state.space = table.speaker.map((_, row) => Float32Array.from(whole.subarray(row * size, (row + 1) * size), (x) => x / 32767));
  const speakers = [...new Set(table.speaker)];
  table.number = table.speaker.map((name) => speakers.indexOf(name) + 1);
  table.take = table.speaker.map((name, row) => table.speaker.slice(0, row).filter((other) => other === name).length + 1);
  state.speakers = speakers.length;
  state.table = table;
}

/** The other rows, nearest first: [row, likeness]. */
function nearest(count, likeness) {
  return Array.from({ length: count }, (_, row) => [row, likeness(row)]).sort((a, b) => b[1] - a[1]).slice(0, NEAR);
}

function draw(app, state, element) {
  const { table, space } = state;
  const rows = table.speaker.map((_, row) => row);
  const name = (row) => t("mapName", { number: String(table.number[row]), take: String(table.take[row]), group: t(`group.${{ fchild: "girl", mchild: "boy", fadult: "woman", madult: "man" }[table.gender[row] + table.age[row]]}`) });
  const xy = table[state.drawing];
  const ends = [0, 1].map((k) => [Math.min(...xy.map((p) => p[k])), Math.max(...xy.map((p) => p[k]))]);
  const scale = Math.max(...ends.map(([low, high]) => high - low));
  const at = (row) => xy[row].map((x, k) => {
    const part = (x - (ends[k][0] + ends[k][1]) / 2) / scale + 0.5;
    return EDGE + (SIZE - 2 * EDGE) * (k ? 1 - part : part) - (k ? top : 0);
  });
  const height = 2 * EDGE + ((SIZE - 2 * EDGE) * (ends[1][1] - ends[1][0])) / scale;
  const top = (SIZE - height) / 2; // of a map that is wider than high
  const look = (row) => (state.colour === "speaker" ? ["circle", null] : GROUP_LOOK[table[state.colour][row]]);
  const hovered = h("p", { class: "status" }), told = h("div", {}), lines = s("g"), rings = s("g");
  const message = h("div", { role: "status" });
  const decoded = new Map();

  async function recording(row) {
    if (!decoded.has(row)) {
      const bytes = await (await app.fetched(`map/${row}.opus`)).arrayBuffer();
      decoded.set(row, await new OfflineAudioContext(1, 1, 48000).decodeAudioData(bytes).catch(() => { throw new Problem("noOpus"); }));
    }
    return decoded.get(row);
  }

  async function hear(row) {
    try {
      await play(recording(row));
    } catch (problem) {
      show(message, problemLine(problem));
    }
  }

  const points = rows.map((row) => {
    const [kind, style] = look(row);
    const point = mark(kind, at(row), { class: `dot ${style ?? ""}` }, 5.5);
    if (!style) point.style.fill = `hsl(${(360 * table.number[row] * 0.618) % 360} 65% ${45 + 12 * (table.number[row] % 2)}%)`;
    point.append(s("title", {}, name(row)));
    point.addEventListener("pointerenter", () => { hovered.textContent = name(row); });
    point.addEventListener("click", () => choose(row));
    return point;
  });

  const list = choice({ label: t("recordingOne"), value: state.chosen, options: rows.map((row) => [row, name(row)]), onchange: (row) => choose(Number(row)) });

  function choose(row) {
    state.chosen = row;
    list.select.value = row;
    drawMarks();
    hear(row);
  }

  function drawMarks() {
    const { chosen } = state;
    const cosines = (row) => (row === chosen ? -Infinity : space[chosen].reduce((sum, x, i) => sum + x * space[row][i], 0));
    const near = nearest(rows.length, cosines);
    const onMap = nearest(rows.length, (row) => (row === chosen ? -Infinity : -Math.hypot(xy[row][0] - xy[chosen][0], xy[row][1] - xy[chosen][1]))).map(([row]) => row);
    const both = near.filter(([row]) => onMap.includes(row)).length;
    const [x, y] = at(chosen);
    show(lines, near.map(([row]) => s("line", { x1: x, y1: y, x2: at(row)[0], y2: at(row)[1], class: "spoke" })));
    show(rings, near.map(([row]) => mark("circle", at(row), { class: "ring" }, 9)), mark("circle", [x, y], { class: "ring chosen" }, 11));
    show(told, h("p", {}, h("strong", {}, name(chosen)), " ", h("button", { type: "button", onclick: () => hear(chosen), "aria-label": t("playThe", { which: name(chosen) }) }, t("play"))),
      h("p", {}, t("nearestInSpace")),
      h("ol", { class: "near" }, near.map(([row, cosine]) => h("li", {},
        h("button", { type: "button", onclick: () => hear(row), "aria-label": t("playThe", { which: name(row) }) }, "▶"), " ",
        h("span", { class: table.number[row] === table.number[chosen] ? "agrees" : null }, name(row)), " ", h("small", {}, num(cosine, 3, true))))),
      h("p", {}, t("nearOnMap", { both, near: NEAR })));
  }

  drawMarks();
  const again = (selector) => { draw(app, state, element); element.querySelector(selector)?.focus(); };
  const legend = state.colour === "speaker" ? h("p", { class: "legend" }, t("speakersOnMap", { speakers: state.speakers }))
    : h("p", { class: "legend" }, [...new Set(table[state.colour])].map((value) => [s("svg", { viewBox: "0 0 16 16", class: "keydot" }, mark(GROUP_LOOK[value][0], [8, 8], { class: `dot ${GROUP_LOOK[value][1]}` }, 5.5)), " ", t(`label.${value}`), "  "]));
  show(element, h("p", { class: "lead" }, t("mapLead")),
    h("div", { class: "columns wide-left" },
      h("section", { class: "card", "aria-label": t("tab.map") },
        h("div", { class: "row" },
          toggles({ label: t("drawing"), value: state.drawing, options: [["umap", "UMAP"], ["pca", "PCA"]], onchange: (x) => { state.drawing = x; again(".toggles [aria-pressed=true]"); } }),
          toggles({ label: t("colourBy"), value: state.colour, options: ["speaker", "gender", "age"].map((kind) => [kind, t(`kind.${kind}`)]), onchange: (x) => { state.colour = x; again(".toggles + .toggles [aria-pressed=true]"); } })),
        s("svg", { viewBox: `0 0 ${SIZE} ${height}`, class: "map", role: "img", "aria-label": t("mapOf", { drawing: state.drawing.toUpperCase(), count: rows.length }) }, lines, points, rings),
        legend, hovered),
      h("section", { class: "card", "aria-label": t("neighbours") }, list.element, message, told, h("p", { class: "hint" }, t(`${state.drawing}Hint`)))));
}
