// Who is it? Enrol up to ten named voices, then ask whose voice a recording is.

import { h, keepFocus, show, unique } from "../ui/dom.js";
import { range } from "../ui/controls.js";
import { panel } from "../ui/panel.js";
import { boxClip, Side } from "../ui/side.js";
import { problemLine, sentence } from "../ui/say.js";
import { num, t } from "../texts/index.js";
import { latest } from "../engine/client.js";
import { average, cosine } from "../engine/score.js";

const MOST = 10; // voices
const JUDGE = "int8";
const LONGEST_NAME = 30;

export function who(app) {
  const state = (app.state.who ??= {
    side: new Side(app),
    voices: [], // {name, embeddings}
    threshold: app.data.judges[JUDGE].threshold,
    name: "",
    scores: null,
    reasons: [],
  });
  const { side } = state;
  const voices = h("section", { class: "card", "aria-label": t("voices") });
  const result = h("section", { class: "card result", "aria-label": t("answers") });
  const recording = panel(app, side, { which: t("recordingOne"), onheard: () => identify() });

  const identify = latest(async () => {
    if (!side.heard) return;
    const { heard } = side;
    try {
      const { embedding } = await side.embed(JUDGE);
      const reasons = await side.reasons(JUDGE);
      if (heard !== side.heard) return;
      state.scores = state.voices.map((voice) => ({ name: voice.name, score: cosine(embedding, average(voice.embeddings)) }));
      state.reasons = reasons;
      draw();
    } catch (problem) {
      show(result, problemLine(problem));
    }
  });

  /** Add the embedding of the recording at hand to a voice. */
  async function enrol(name, message) {
    const known = state.voices.find((voice) => voice.name === name);
    if (!name) return show(message, problemLine({ key: "nameMissing", values: {} }));
    if (!side.heard) return show(message, problemLine({ key: "recordingMissing", values: {} }));
    if (!known && state.voices.length >= MOST) return show(message, problemLine({ key: "voicesFull", values: { most: MOST } }));
    try {
      const { embedding } = await side.embed(JUDGE);
      if (known) known.embeddings.push(embedding);
      else state.voices.push({ name, embeddings: [embedding] });
      state.name = "";
      keepFocus(voices, list);
      await identify();
    } catch (problem) {
      show(message, problemLine(problem));
    }
  }

  /** The first recording of one speaker of each group, under invented names. */
  async function examples(message) {
    const rows = app.data.clips.map((clip, index) => ({ ...clip, index })).filter((clip) => clip.number === 1 && clip.letter !== "C");
    for (const { group, letter, index } of rows) {
      const name = `${t(`group.${group}`)} ${letter}`;
      if (state.voices.length >= MOST || state.voices.some((voice) => voice.name === name)) continue;
      const own = new Side(app);
      try {
        own.clip = await boxClip(app, index);
        await own.hear();
        state.voices.push({ name, embeddings: [(await own.embed(JUDGE)).embedding] });
      } catch (problem) {
        return show(message, problemLine(problem));
      }
    }
    keepFocus(voices, list);
    identify();
  }

  const forget = (kept) => {
    state.voices = kept;
    keepFocus(voices, list);
    side.heard ? identify() : draw();
  };

  function list() {
    const id = unique(), message = h("div", { role: "status" });
    const field = h("input", { id, type: "text", maxlength: LONGEST_NAME, autocomplete: "off", value: state.name, oninput: () => { state.name = field.value; } });
    const form = h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); enrol(field.value.trim(), message); } },
      h("label", { for: id }, t("nameOf")), field, h("button", { type: "submit" }, t("enrol")));
    show(voices, h("h2", {}, t("voices")), form, message,
      state.voices.length ? h("ul", { class: "voices" }, state.voices.map((voice) => h("li", {},
        h("span", {}, voice.name, " ", h("small", {}, t("recordings", { count: voice.embeddings.length }))),
        h("button", { type: "button", "aria-label": t("forgetThe", { name: voice.name }), onclick: () => forget(state.voices.filter((other) => other !== voice)) }, t("forget")))))
        : h("p", { class: "hint" }, t("noVoices")),
      h("div", { class: "row" },
        h("button", { type: "button", onclick: () => examples(message) }, t("examples")),
        h("button", { type: "button", disabled: !state.voices.length, onclick: () => forget([]) }, t("forgetAll"))),
      h("p", { class: "hint" }, t("voicesKept")));
  }

  function draw() {
    if (!state.voices.length || !side.heard || !state.scores) {
      show(result, h("p", { class: "hint" }, t("whoWaits")));
      return;
    }
    const verdict = h("div", { class: "verdict" }), bars = h("ol", { class: "bars" });
    const update = () => {
      const ranked = [...state.scores].sort((a, b) => b.score - a.score);
      const found = ranked[0]?.score >= state.threshold;
      show(verdict, h("p", { class: `decision ${found ? "same" : "different"}` }, found ? t("itIs", { name: ranked[0].name }) : t("nobody")),
        state.reasons.length ? h("p", { class: "outside" }, h("strong", {}, t("outside")), " ", state.reasons.map(sentence).join(" ")) : null);
      app.say(verdict.textContent);
      show(bars, ranked.map(({ name, score }) => {
        const bar = h("span", { class: score >= state.threshold ? "bar same" : "bar different" });
        bar.style.width = `${Math.max(0, Math.min(1, score)) * 100}%`;
        const mark = h("span", { class: "mark" });
        mark.style.left = `${Math.max(0, state.threshold) * 100}%`;
        return h("li", {}, h("span", { class: "name" }, name), h("span", { class: "track" }, bar, mark), h("span", { class: "number" }, num(score, 3, true)));
      }));
    };
    const slider = range({ label: t("threshold"), min: 0, max: 1, step: 0.005, value: state.threshold, say: (x) => num(x, 3, true), onchange: (x) => { state.threshold = x; update(); } });
    const reset = h("button", { type: "button", onclick: () => { state.threshold = app.data.judges[JUDGE].threshold; slider.set(state.threshold); update(); } }, t("reset"));
    show(result, h("div", { class: "halves" }, h("div", {}, verdict, h("div", { class: "row" }, slider.element, reset)), bars));
    update();
  }

  list();
  draw();
  if (!side.clip) recording.box(1);
  return h("div", { class: "view" }, h("p", { class: "lead" }, t("whoLead")), h("div", { class: "columns" }, recording.element, voices), result);
}
