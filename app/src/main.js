// The frame of the page: views as tabs, language, colours, and what all views share.

import { h, keepFocus, show } from "./ui/dom.js";
import { language, languages, setLanguage, t } from "./texts/index.js";
import { judge } from "./engine/client.js";
import { stop } from "./ui/sound.js";
import { problemLine } from "./ui/say.js";
import { same } from "./views/same.js";
import { who } from "./views/who.js";
import { crowd } from "./views/crowd.js";
import { det } from "./views/det.js";
import { map } from "./views/map.js";
import { inside } from "./views/inside.js";
import { privacy } from "./views/privacy.js";

const VIEWS = { same, who, crowd, det, map, inside, privacy };
const THEMES = ["auto", "light", "dark"];

const app = {
  data: null, // data.json
  domain: null, // {mean, whitening, limit}
  own: [], // recordings of this visit
  state: {}, // of the views
  view: location.hash.slice(1) in VIEWS ? location.hash.slice(1) : "same",
  theme: "auto",
  render: () => keepFocus(document.body, render),
  say: (text) => { live.textContent = text; },
};
const live = h("div", { class: "visually-hidden", role: "status" }); // read out by screen readers

/** A file of the page's own data. */
async function fetched(name) {
  const response = await fetch(`data/${name}`);
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return response;
}
app.fetched = fetched;

async function load() {
  const [data, tensors] = await Promise.all([
    fetched("data.json").then((response) => response.json()),
    fetched("domain.bin").then((response) => response.arrayBuffer()),
  ]);
  const all = new Float32Array(tensors), size = data.domain.size;
  app.data = data;
  app.domain = { mean: all.subarray(0, size), whitening: all.subarray(size), limit: data.domain.limit };
}

function tabs(panel) {
  const names = Object.keys(VIEWS);
  const buttons = names.map((name) => h("button", {
    id: `tab-${name}`, role: "tab", type: "button", "aria-controls": "panel",
    "aria-selected": String(name === app.view), tabindex: name === app.view ? "0" : "-1",
    onclick: () => open(name),
  }, t(`tab.${name}`)));
  const open = (name) => {
    app.view = name;
    history.replaceState(null, "", `#${name}`);
    buttons.forEach((button, i) => {
      button.setAttribute("aria-selected", String(names[i] === name));
      button.tabIndex = names[i] === name ? 0 : -1;
    });
    fill(panel);
  };
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = (names.indexOf(app.view) + step + names.length) % names.length;
    open(names[next]);
    buttons[next].focus();
    buttons[next].scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  return h("div", { class: "tabs", role: "tablist", "aria-label": t("views"), onkeydown: move }, buttons);
}

function fill(panel) {
  stop();
  panel.setAttribute("aria-labelledby", `tab-${app.view}`);
  show(panel, VIEWS[app.view](app));
}

/** Draw everything anew from the state, after a change of language or colours. */
function render() {
  document.title = t("title");
  document.documentElement.dataset.theme = app.theme;
  const panel = h("main", { id: "panel", role: "tabpanel", tabindex: "-1" });
  const nextLanguage = Object.keys(languages).find((name) => name !== language());
  const header = h("header", {},
    h("h1", {}, t("title")),
    h("div", { class: "settings" },
      h("button", { type: "button", lang: nextLanguage, onclick: () => { setLanguage(nextLanguage); app.render(); } }, languages[nextLanguage].language),
      h("button", { type: "button", onclick: () => {
        app.theme = THEMES[(THEMES.indexOf(app.theme) + 1) % THEMES.length];
        app.render();
      } }, t(`theme.${app.theme}`))));
  show(document.body, header, tabs(panel), panel, h("footer", {}, t("footer")), live);
  fill(panel);
}

setLanguage(language());
if (typeof WebAssembly === "object") judge.ask("warm", { model: "int8", samples: 16000 }).catch(() => {}); // told where it is needed
load().then(render, (error) => show(document.body, problemLine({ key: "noData", values: { reason: error.message } })));
addEventListener("hashchange", () => {
  const name = location.hash.slice(1);
  if (!app.data || !(name in VIEWS) || name === app.view) return;
  app.view = name;
  app.render();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => app.data && app.render());
