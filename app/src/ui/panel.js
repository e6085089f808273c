// The panel of one recording: choose, upload, record, play; its pictures; its effects.

import { h, show } from "./dom.js";
import { choice, steps } from "./controls.js";
import { clipName, problemLine, sentence } from "./say.js";
import { num, t } from "../texts/index.js";
import { latest } from "../engine/client.js";
import { boxClip, fileClip, spokenClip } from "./side.js";
import { recordingPicture } from "./draw.js";
import { play, record, stop } from "./sound.js";

const NOISES = [null, 30, 25, 20, 15, 10, 5, 0, -5]; // signal-to-noise ratio [dB]
const ECHOES = [0, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.5]; // [s] until they are 60 dB down
const SPEEDS = [0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25];
const HIDDEN = "hidden"; // the name of a clip before the vote

/**
 * The panel of a side.
 *
 * which: its name. onclip: called for a new clip, with true where a person chose it. onheard: called when
 * there is something new to score. hidden: whether the name of the clip is a secret.
 */
export function panel(app, side, { which, onheard, onclip = () => {}, hidden = () => false }) {
  const status = h("p", { class: "status", role: "status" });
  const picture = recordingPicture();
  const label = () => (hidden() ? which : labelOf(app, side.clip));
  const list = choice({ label: which, hideLabel: true, options: [], onchange: (value) => pick(() => chosen(app, value)) });
  const tell = (problem) => show(status, problemLine(problem));

  const hear = latest(async () => {
    try {
      await side.hear();
      if (side.heard) picture.draw(side.heard, label());
      await onheard();
    } catch (problem) {
      tell(problem);
    }
  });

  /** Use the clip that `make` promises; a failure leaves the clip of before. */
  async function take(make, byPerson = false) {
    stop();
    show(status, t("loading"));
    try {
      side.clip = await make();
      side.heard = null;
      show(status, side.clip.notes.map(sentence).join(" "));
      onclip(byPerson);
      options();
      await hear();
    } catch (problem) {
      tell(problem);
      options();
    }
  }

  function options() {
    const box = app.data.clips.map((clip, index) => [`box-${index}`, clipName(clip)]);
    const own = app.own.map((clip, index) => [`own-${index}`, clip.label]);
    list.set([
      ...(hidden() || !side.clip ? [[HIDDEN, t(side.clip ? "hiddenName" : "choose")]] : []),
      ...(own.length ? [{ group: t("own"), options: own }] : []),
      { group: t("box"), options: box },
    ], valueOf(app, side.clip, hidden()));
  }

  /** A person's choice. */
  const pick = (make) => take(make, true);

  const playButton = h("button", { type: "button", onclick: async () => {
    if (playButton.textContent === t("stop")) return stop();
    if (!side.heard) return;
    playing(true);
    await play(side.heard.samples);
    playing(false);
  } });
  const playing = (on) => {
    playButton.textContent = t(on ? "stop" : "play");
    playButton.setAttribute("aria-label", t(on ? "stopThe" : "playThe", { which }));
  };
  playing(false);
  const upload = h("input", { type: "file", class: "visually-hidden", accept: "audio/*,.wav,.flac,.ogg,.opus,.mp3,.m4a,.webm", "aria-label": t("uploadThe", { which }), onchange: () => {
    const [file] = upload.files;
    if (file) pick(() => fileClip(app, file));
    upload.value = "";
  } });
  const recorder = recordButton(app, which, status, pick, tell);

  const slider = (key, values, say) => steps({
    label: t(key), values, value: side.effects[key], say,
    onchange: (value) => { side.effects[key] = value; hear(); },
  }).element;
  const sliders = h("div", { class: "effects" },
    slider("noise", NOISES, (db) => (db === null ? t("none") : `${num(db)} dB`)),
    slider("echo", ECHOES, (seconds) => (seconds ? `${num(seconds)} s` : t("none"))),
    slider("speed", SPEEDS, (factor) => `× ${num(factor)}`));

  options();
  if (side.heard) {
    picture.draw(side.heard, label());
    show(status, side.clip.notes.map(sentence).join(" "));
  }
  const element = h("section", { class: "card clip", "aria-label": which },
    h("div", { class: "heading" }, h("h2", {}, which), status),
    h("div", { class: "row" }, list.element, playButton, h("label", { class: "button" }, t("upload"), upload), recorder),
    picture.elements, sliders);
  return { element, options, box: (index) => take(() => boxClip(app, index)) };
}

/** The name of a clip: a file's, or that of a recording of the package. */
const labelOf = (app, clip) => clip.label ?? clipName(app.data.clips[clip.index]);

function valueOf(app, clip, hidden) {
  if (hidden || !clip) return HIDDEN;
  return clip.label === undefined ? `box-${clip.index}` : `own-${app.own.indexOf(clip)}`;
}

async function chosen(app, value) {
  const [kind, index] = value.split("-");
  return kind === "box" ? boxClip(app, Number(index)) : app.own[index];
}

/** The first press records, the second or the limit ends it; level and clock beside it. */
function recordButton(app, which, status, take, tell) {
  const longest = app.data.limits.RECORD_S;
  let running = null;
  const button = h("button", { type: "button", "aria-label": t("recordThe", { which }), onclick: () => (running ? finish() : start()) }, t("record"));
  const meter = h("meter", { min: 0, max: 1, low: 0.05, high: 0.95, optimum: 0.4, "aria-label": t("level") });
  async function start() {
    stop();
    button.disabled = true;
    try {
      running = await record((level) => { meter.value = level; });
    } catch (problem) {
      button.disabled = false;
      return tell(problem);
    }
    button.disabled = false;
    button.textContent = t("stop");
    button.focus();
    const began = performance.now(), clock = h("span", {});
    show(status, meter, " ", clock, " ", t("consent"));
    running.timer = setInterval(() => {
      const seconds = (performance.now() - began) / 1000;
      clock.textContent = t("clock", { seconds: num(seconds, 1, true), longest });
      if (seconds >= longest || !button.isConnected) finish();
    }, 100);
  }
  async function finish() {
    const { timer, finish: end } = running;
    clearInterval(timer);
    running = null;
    button.textContent = t("record");
    const spoken = await end();
    if (button.isConnected) take(() => spokenClip(app, t("recordingName"), spoken));
  }
  return button;
}
