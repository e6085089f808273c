// What is computed where, what is kept, how to delete it.

import { h, show } from "../ui/dom.js";
import { t } from "../texts/index.js";

const PARTS = ["where", "kept", "delete", "microphone", "person", "speech", "limits"];

export function privacy(app) {
  const message = h("p", { role: "status" });
  const forget = h("button", { type: "button", onclick: () => {
    app.own = [];
    app.state = {};
    show(message, t("forgotten"));
  } }, t("forgetEverything"));
  return h("div", { class: "view prose" },
    h("h2", {}, t("privacyTitle")),
    PARTS.map((part) => [h("h3", {}, t(`privacy.${part}`)), h("p", {}, t(`privacy.${part}.text`)), part === "delete" ? [forget, message] : null]),
    h("h3", {}, t("measured")),
    h("ul", { lang: "en" }, app.data.measured.map((line) => h("li", {}, line))));
}
