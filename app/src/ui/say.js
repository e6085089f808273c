// Sentences about recordings and problems.

import { h } from "./dom.js";
import { num, t } from "../texts/index.js";

/** A text with numbers as people write them. */
export const sentence = ({ key, values }) => t(key, values);

/** A problem in one line, read out at once. */
export const problemLine = (problem) =>
  h("p", { class: "problem", role: "alert" }, "⚠ ", problem.key ? sentence(problem) : t("unexpected", { reason: String(problem.message ?? problem) }));

/** A size: 0.8 MB, 12 kB. */
export const size = (bytes) => (bytes >= 1e5 ? `${num(bytes / 1e6, 1, true)} MB` : `${num(bytes / 1e3, 0)} kB`);

/** The name of a recording of the package. */
export const clipName = ({ group, letter, number }) => t("clip", { group: t(`group.${group}`), letter, number: String(number) });
