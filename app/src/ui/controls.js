// Labelled controls: a slider with its value, a list, a box, a button with two states.

import { h, unique } from "./dom.js";

/** A slider over `values` (numbers or null); `say` writes a value for people, also for screen readers. */
export function steps({ label, values, value, say, onchange }) {
  return range({ label, min: 0, max: values.length - 1, step: 1, value: values.indexOf(value), say: (i) => say(values[i]), onchange: (i) => onchange(values[i]) });
}

/** A slider between numbers. Its `set` moves it from outside without a call of `onchange`. */
export function range({ label, min, max, step, value, say, onchange }) {
  const id = unique();
  const output = h("output", { for: id }, say(value));
  const input = h("input", { id, type: "range", min, max, step, value, "aria-valuetext": say(value) });
  const write = () => {
    output.textContent = say(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.value = value;
  input.addEventListener("input", () => {
    write();
    onchange(Number(input.value));
  });
  const element = h("div", { class: "slider" }, h("label", { for: id }, label), output, input);
  return { element, input, set(x) { input.value = x; write(); } };
}

/** A list: options are [value, text] or {group, options}. Its `set` fills it anew. */
export function choice({ label, options, value, onchange, hideLabel = false }) {
  const id = unique();
  const select = h("select", { id, onchange: () => onchange(select.value) });
  const option = ([name, text]) => h("option", { value: name }, text);
  const set = (entries, chosen) => {
    select.replaceChildren(...entries.map((o) => (Array.isArray(o) ? option(o) : h("optgroup", { label: o.group }, o.options.map(option)))));
    select.value = chosen;
  };
  set(options, value);
  return { element: h("div", { class: "choice" }, h("label", { for: id, class: hideLabel ? "visually-hidden" : null }, label), select), select, set };
}

/** A box to tick. */
export function tick({ label, checked, onchange, disabled = false }) {
  const input = h("input", { type: "checkbox", checked, disabled, onchange: () => onchange(input.checked) });
  return { element: h("label", { class: "tick" }, input, " ", label), input };
}

/** Buttons of which one is pressed. */
export function toggles({ label, options, value, onchange }) {
  const buttons = options.map(([name, text]) =>
    h("button", { type: "button", "aria-pressed": String(name === value), onclick: () => {
      for (const [index, button] of buttons.entries()) button.setAttribute("aria-pressed", String(options[index][0] === name));
      onchange(name);
    } }, text));
  return h("div", { class: "toggles", role: "group", "aria-label": label }, buttons);
}
