// A class against the machine: twenty kept trials, votes of many, and both on one DET plane.

import { h, keepFocus, s, show, unique } from "../ui/dom.js";
import { detPlane, mark } from "../ui/chart.js";
import { boxClip } from "../ui/side.js";
import { clipName, problemLine } from "../ui/say.js";
import { play } from "../ui/sound.js";
import { num, percent, t } from "../texts/index.js";
import { counts, detPoints } from "../engine/rates.js";

const LOWEST = 0.02; // end of the axes; ten trials of a kind tell no smaller rates

export function crowd(app) {
  const trials = app.data.class;
  const state = (app.state.crowd ??= {
    at: 0,
    votes: trials.map(() => ({ same: 0, different: 0 })),
    open: trials.map(() => false), // revealed
    people: [], // {misses, alarms} of single persons
  });
  const trial = h("section", { class: "card", "aria-label": t("trial") });
  const outcome = h("section", { class: "card", "aria-label": t("outcome") });
  const clips = new Map();
  const sound = async (index) => {
    if (!clips.has(index)) clips.set(index, await boxClip(app, index));
    return clips.get(index).samples;
  };

  function drawTrial() {
    const { at } = state, { a, b, same, score } = trials[at], votes = state.votes[at], open = state.open[at];
    const message = h("div", { role: "status" });
    const listen = (index, which) => h("button", { type: "button", class: "big", onclick: async () => {
      try {
        await play(sound(index));
      } catch (problem) {
        show(message, problemLine(problem));
      }
    } }, "▶ ", which);
    const voter = (kind) => h("div", { class: "voter" },
      h("button", { type: "button", class: "big", disabled: open, onclick: () => { votes[kind]++; redraw(); } }, t(kind)),
      h("output", { "aria-label": t("votesFor", { kind: t(kind) }) }, String(votes[kind])),
      h("button", { type: "button", disabled: open || !votes[kind], "aria-label": t("takeBack", { kind: t(kind) }), onclick: () => { votes[kind]--; redraw(); } }, "−"));
    const go = (to) => { state.at = (to + trials.length) % trials.length; redraw(); };
    const machine = score >= app.data.judges.float32.threshold;
    show(trial, h("h2", {}, t("trialOf", { at: at + 1, all: trials.length })),
      h("div", { class: "row" }, listen(a, t("first")), listen(b, t("second"))), message,
      h("p", {}, t("voteHint")),
      h("div", { class: "voters" }, voter("same"), voter("different")),
      h("div", { class: "row" },
        h("button", { type: "button", onclick: () => go(at - 1) }, t("before")),
        h("button", { type: "button", disabled: open || !(votes.same + votes.different), onclick: () => { state.open[at] = true; redraw(); drawOutcome(); app.say(trial.querySelector(".verdict").textContent); } }, t("reveal")),
        h("button", { type: "button", onclick: () => go(at + 1) }, t("after"))),
      open ? h("div", { class: "verdict" },
        h("p", { class: `decision ${same ? "same" : "different"}` }, t(same ? "truthSame" : "truthDifferent")),
        h("p", {}, `${clipName(app.data.clips[a])} · ${clipName(app.data.clips[b])}`),
        h("p", {}, t("crowdSaid", { share: percent(votes.same / (votes.same + votes.different), 0) })),
        h("p", {}, t("machineSaid", { answer: t(machine ? "same" : "different"), score: num(score, 3, true) }))) : null,
      h("div", { class: "jumps", role: "group", "aria-label": t("allTrials") }, trials.map((_, i) => h("button", {
        type: "button", "aria-pressed": String(i === at), "aria-label": `${t("trialOf", { at: i + 1, all: trials.length })}${state.open[i] ? `, ${t("revealed")}` : ""}`, onclick: () => go(i),
      }, `${i + 1}${state.open[i] ? " ✓" : ""}`))));
  }

  const redraw = () => keepFocus(trial, drawTrial);

  /** Rates of the revealed trials: the crowd's share of votes is its score. */
  function judged() {
    const rows = trials.map((trial, i) => [trial, state.votes[i]]).filter((_, i) => state.open[i]);
    return {
      labels: rows.map(([trial]) => trial.same),
      scores: rows.map(([trial]) => trial.score),
      shares: rows.map(([, votes]) => votes.same / (votes.same + votes.different)),
    };
  }

  function drawOutcome() {
    const { labels, shares, scores } = judged();
    const both = labels.includes(1) && labels.includes(0);
    const rates = (values, threshold) => {
      const found = counts(values, labels, threshold);
      return { ...found, miss: found.misses / (found.hits + found.misses), alarm: found.alarms / (found.alarms + found.rejections) };
    };
    const threshold = app.data.judges.float32.threshold;
    const lines = [], chart = detPlane({ label: t("crowdPlane"), lowest: LOWEST, width: 460, height: 330 });
    if (both) {
      for (const [name, values, at, kind] of [["crowd", shares, 0.5 + 1e-9, "circle"], ["machine", scores, threshold, "diamond"]]) {
        const points = detPoints(values, labels), here = rates(values, at);
        chart.marks.append(s("path", { d: chart.curve(points.alarm, points.miss), class: `curve ${name}` }));
        chart.top.append(mark(kind, chart.at(here.alarm, here.miss), { class: `point ${name}` }));
        lines.push(h("li", {}, t(`${name}Line`, { misses: here.misses, targets: here.hits + here.misses, alarms: here.alarms, others: here.alarms + here.rejections })));
      }
    }
    for (const person of state.people) chart.top.append(mark("triangle", chart.at(person.alarms / 10, person.misses / 10), { class: "point person" }, 6));
    const misses = number(t("personMisses")), alarms = number(t("personAlarms"));
    show(outcome, h("h2", {}, t("outcome")), chart.svg,
      h("p", { class: "legend" }, "● ", t("crowd"), "  ◆ ", t("machine"), "  ▲ ", t("persons")),
      both ? h("ul", {}, lines) : h("p", { class: "hint" }, t("crowdWaits")),
      h("form", { class: "row", onsubmit: (event) => {
        event.preventDefault();
        state.people.push({ misses: Number(misses.input.value), alarms: Number(alarms.input.value) });
        keepFocus(outcome, drawOutcome);
      } }, misses.element, alarms.element, h("button", { type: "submit" }, t("addPerson"))),
      h("p", { class: "hint" }, t("personHint")),
      h("button", { type: "button", onclick: () => { delete app.state.crowd; app.render(); } }, t("startAgain")));
  }

  function number(label) {
    const id = unique();
    const input = h("input", { id, type: "number", min: 0, max: 10, value: 0, required: true });
    return { input, element: h("label", { for: id }, label, " ", input) };
  }

  drawTrial();
  drawOutcome();
  return h("div", { class: "view" }, h("p", { class: "lead" }, t("crowdLead")), h("div", { class: "columns" }, trial, outcome));
}
