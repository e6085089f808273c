// The words of the page: one file per language, with the same keys.

import en from "./en.js";
import de from "./de.js";

export const languages = { en, de };
const asked = new URLSearchParams(location.search).get("lang") ?? navigator.language.slice(0, 2);
let current = asked in languages ? asked : "en";

export const language = () => current;

export function setLanguage(name) {
  current = name;
  document.documentElement.lang = name;
}

/** A text with its {values}; numbers are written as the language does. */
export function t(key, values = {}) {
  const text = languages[current][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => (typeof values[name] === "number" ? num(values[name]) : values[name]));
}

/** A number: at most `digits` behind the point, or exactly `digits` with `fixed`. */
export const num = (x, digits = 2, fixed = false) =>
  x.toLocaleString(current, { maximumFractionDigits: digits, minimumFractionDigits: fixed ? digits : 0 });

export const percent = (x, digits = 1) => `${num(100 * x, digits, true)} %`;
