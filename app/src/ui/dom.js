// Small helpers for elements. Text always becomes a text node, so a hostile file name stays text.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value === "boolean") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element: h("button", { class: "x", onclick }, "text", child). */
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** The same of SVG. */
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Replace the content of an element. */
export function show(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

/** Draw the content of an element anew; the focus stays at its place among the controls. */
export function keepFocus(element, redraw) {
  const controls = () => [...element.querySelectorAll("button, input, select")];
  const at = controls().indexOf(document.activeElement);
  redraw();
  if (at < 0) return;
  const now = controls();
  (now.slice(at).find((control) => !control.disabled) ?? now.findLast((control) => !control.disabled))?.focus();
}

let count = 0;

/** A name for `id`, used once. */
export const unique = () => `e${count++}`;
