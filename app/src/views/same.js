// Same speaker? Two recordings: vote, then score, probability and decision of three judges.

import { h, keepFocus, show } from "../ui/dom.js";
import { range } from "../ui/controls.js";
import { panel } from "../ui/panel.js";
import { Side } from "../ui/side.js";
import { scoreScale } from "../ui/draw.js";
import { problemLine, sentence, size } from "../ui/say.js";
import { num, percent, t } from "../texts/index.js";
import { latest } from "../engine/client.js";
import { cosine, probability } from "../engine/score.js";

const JUDGES = ["int8", "float32", "mfcc"];
const THRESHOLD_STEP = 0.005;
const EVEN = 0.5; // prior

function start(app) {
  const thresholds = Object.fromEntries(JUDGES.map((name) => [name, app.data.judges[name].threshold]));
  return {
    sides: [new Side(app), new Side(app)],
    pair: -1, // place in the list of shuffled pairs
    secret: true, // the names are hidden until the vote
    vote: null, // "same" or "different"
    counted: false, // in the tally
    thresholds,
    prior: EVEN, // of the same speaker, before the recordings are heard
    judge: "int8",
    asked: { int8: true, float32: false, mfcc: true },
    answers: null,
    tally: { trials: 0, you: 0, machine: 0 },
  };
}

/** 1 same, 0 different, null where it is not known. */
function truth(app, { sides }) {
  const [a, b] = sides.map(({ clip }) => (clip?.label === undefined ? app.data.clips[clip?.index] : null));
  return a && b ? Number(a.group === b.group && a.letter === b.letter) : null;
}

export function same(app) {
  const state = (app.state.same ??= start(app));
  const result = h("section", { class: "card result", "aria-label": t("answers") });
  const voting = h("div", { class: "vote", role: "group", "aria-label": t("yourVote") });
  const hidden = () => state.secret && state.vote === null;

  const panels = state.sides.map((side, i) => panel(app, side, {
    which: t(i ? "second" : "first"),
    hidden,
    onclip: (byPerson) => {
      if (byPerson) state.secret = false;
      forgetVote();
    },
    onheard: () => {
      keepFocus(voting, vote);
      return judgeAll();
    },
  }));

  function forgetVote() {
    state.vote = null;
    state.counted = false;
    state.answers = null;
    keepFocus(voting, vote);
    draw();
  }

  async function nextPair() {
    state.pair = (state.pair + 1) % app.data.pairs.length;
    state.secret = true;
    forgetVote();
    const [a, b] = app.data.pairs[state.pair];
    await Promise.all([panels[0].box(a), panels[1].box(b)]);
  }

  function cast(choice) {
    state.vote = choice;
    keepFocus(voting, vote);
    panels.forEach((p) => p.options());
    judgeAll();
  }

  function vote() {
    const ready = state.sides.every((side) => side.heard);
    const button = (choice) => h("button", { type: "button", class: "big", disabled: !ready, "aria-pressed": String(state.vote === choice), onclick: () => cast(choice) }, t(choice));
    show(voting, h("span", { class: "question" }, t(state.vote ? "youVoted" : "voteFirst")), button("same"), button("different"),
      h("button", { type: "button", onclick: nextPair }, t("nextPair")));
  }

  const judgeAll = latest(async () => {
    if (state.vote === null || state.sides.some((side) => !side.heard)) return draw();
    const heard = state.sides.map((side) => side.heard);
    try {
      const answers = {};
      for (const name of JUDGES.filter((judge) => state.asked[judge])) {
        const [a, b] = await Promise.all(state.sides.map((side) => side.embed(name)));
        const reasons = await Promise.all(state.sides.map((side) => side.reasons(name)));
        answers[name] = { score: cosine(a.embedding, b.embedding), ms: (a.ms + b.ms) / 2, reasons };
      }
      if (state.sides.some((side, i) => side.heard !== heard[i])) return;
      state.answers = answers;
      count();
      keepFocus(result, draw);
    } catch (problem) {
      show(result, problemLine(problem));
    }
  });

  function count() {
    const same = truth(app, state);
    if (state.counted || same === null) return;
    state.counted = true;
    const { score } = state.answers.int8;
    state.tally.trials++;
    state.tally.you += Number((state.vote === "same") === Boolean(same));
    state.tally.machine += Number(score >= app.data.judges.int8.threshold === Boolean(same));
  }

  function draw() {
    if (state.vote === null || !state.answers?.[state.judge]) {
      show(result, h("p", { class: "hint" }, t(state.vote === null ? "waitsForVote" : "thinking")));
      return;
    }
    const { judge } = state;
    const scale = h("div", {}), verdict = h("div", { class: "verdict" }), table = h("div", { class: "scroll" });
    const slider = range({
      label: t("threshold"), min: -0.25, max: 1, step: THRESHOLD_STEP, value: state.thresholds[judge], say: (x) => num(x, 3, true),
      onchange: (x) => { state.thresholds[judge] = x; update(); },
    });
    const update = () => {
      const answer = state.answers[judge], threshold = state.thresholds[judge];
      show(scale, scoreScale(answer.score, threshold));
      show(verdict, verdictOf(app, state));
      app.say(verdict.textContent);
      show(table, judgeTable(app, state, (name) => (state.asked[name] ? use(name) : ask(name))));
    };
    const use = (name) => {
      state.judge = name;
      keepFocus(result, draw);
    };
    const ask = (name) => {
      state.asked[name] = true;
      state.judge = name;
      show(verdict, t("loadingModel", { size: size(app.data.judges[name].bytes) }));
      judgeAll();
    };
    const prior = range({
      label: t("priorSame"), min: 0.01, max: 0.99, step: 0.01, value: state.prior, say: (x) => percent(x, 0),
      onchange: (x) => { state.prior = x; update(); },
    });
    const reset = h("button", { type: "button", onclick: () => {
      state.thresholds[judge] = app.data.judges[judge].threshold;
      state.prior = EVEN;
      slider.set(state.thresholds[judge]);
      prior.set(EVEN);
      update();
    } }, t("reset"));
    show(result, h("div", { class: "halves" },
      h("div", {}, scale, h("div", { class: "row" }, slider.element, prior.element, reset)),
      h("div", {}, verdict)), table);
    update();
  }

  vote();
  draw();
  const element = h("div", { class: "view" },
    h("p", { class: "lead" }, t("sameLead")),
    h("div", { class: "columns" }, panels.map((p) => p.element)), voting, result);
  if (state.pair < 0) nextPair();
  return element;
}

function verdictOf(app, state) {
  const { judge } = state, answer = state.answers[judge], threshold = state.thresholds[judge];
  const decision = answer.score >= threshold ? "same" : "different";
  const reasons = answer.reasons.flatMap((list, i) => list.map((reason) => `${t(i ? "second" : "first")}: ${sentence(reason)}`));
  const known = truth(app, state);
  const { tally } = state;
  return [
    h("p", { class: `decision ${decision}` }, decision === "same" ? "● " : "◆ ", t(`machine.${decision}`)),
    h("p", {}, t("scoreAgainst", { score: num(answer.score, 3, true), sign: decision === "same" ? "≥" : "<", threshold: num(threshold, 3, true) })),
    reasons.length
      ? h("p", { class: "outside" }, h("strong", {}, t("outside")), " ", reasons.join(" "))
      : h("p", {}, t("probabilityOf", { probability: percent(probability(answer.score, app.data.judges[judge], state.prior)), prior: percent(state.prior, 0) })),
    known === null ? null : h("p", {}, t(known ? "truthSame" : "truthDifferent"), " ", t("tally", tally)),
  ];
}

function judgeTable(app, state, pick) {
  const cells = (name) => {
    const answer = state.answers[name], fitted = app.data.judges[name];
    const radio = h("input", { type: "radio", name: "judge", checked: state.judge === name, "aria-label": t(`judge.${name}`), onchange: () => pick(name) });
    const known = [t(`judge.${name}`), name === "mfcc" ? t("noModelSize") : size(fitted.bytes)];
    if (!answer) return [radio, ...known, "", "", "", t("askIt"), ""];
    const outside = answer.reasons.flat().length;
    return [radio, ...known, `${num(answer.ms, 0)} ms`, num(answer.score, 3, true), num(state.thresholds[name], 3, true),
      t(answer.score >= state.thresholds[name] ? "same" : "different"), outside ? t("outsideShort") : percent(probability(answer.score, fitted, state.prior))];
  };
  const head = ["", t("judge"), t("sizeOf"), t("timeOf"), t("score"), t("threshold"), t("answer"), t("probability")];
  return h("table", {},
    h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, JUDGES.map((name) => h("tr", { class: state.judge === name ? "chosen" : null }, cells(name).map((cell) => h("td", {}, cell))))));
}
