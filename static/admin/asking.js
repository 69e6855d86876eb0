/** Questions before something is done, and messages after it, with an undo where there is one. */

import { errorInWords, t } from "../rt-elements.js";
import { $, button, h } from "./dom.js";

const SHOWN_MS = 8000;
const MOST_SHOWN = 3;

/**
 * Ask in a dialog. `body` are nodes; a form of them is answered by its fields. Resolve to the FormData of what
 * was confirmed; to null when it was not.
 */
export function ask({ title, body = [], confirm, danger = false }) {
  const dialog = $("#dialog");
  const form = h("form", { method: "dialog" },
    h("h2", { id: "dialog-title" }, title), body,
    h("div", { class: "actions" },
      h("button", { type: "submit", value: "yes", class: danger ? "danger" : "primary" }, confirm),
      h("button", { type: "submit", value: "", class: "quiet", formnovalidate: true }, t("Keep as it is"))));
  dialog.replaceChildren(form);
  dialog.returnValue = "";
  dialog.showModal();
  // Where something is lost, the focus is not on the button that does it.
  const first = form.querySelector("input, textarea, select") ?? form.querySelector(danger ? "button.quiet" : "button");
  first.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes" ? new FormData(form) : null);
      dialog.replaceChildren();
    }, { once: true });
  });
}

/** Say something. `undo` is called by its button; `seconds` is how long it can be. */
export function tell(text, { kind = "done", undo = null, seconds = SHOWN_MS / 1000 } = {}) {
  const box = $("#toasts");
  const toast = h("div", { class: "toast", "data-kind": kind }, h("p", {}, text));
  const close = () => toast.remove();
  if (undo) {
    toast.append(button("undo", t("Undo"), { class: "quiet" }));
    toast.querySelector("[data-act=undo]").addEventListener("click", () => {
      close();
      undo();
    });
  }
  toast.append(button("close", "✕", { class: "quiet icon", "aria-label": t("Close this message") }));
  toast.querySelector("[data-act=close]").addEventListener("click", close);
  box.append(toast);
  while (box.children.length > MOST_SHOWN) box.firstElementChild.remove();
  if (kind !== "error") leaveIn(toast, Math.max(seconds * 1000, SHOWN_MS));
}

/** Take a message away after a while, but not from under the pointer or the focus. */
function leaveIn(toast, milliseconds) {
  setTimeout(() => {
    if (toast.matches(":hover, :focus-within")) leaveIn(toast, 1000);
    else toast.remove();
  }, milliseconds);
}

/** Return an error in words. */
export const wordsOf = errorInWords;

export const tellError = (error) => tell(wordsOf(error), { kind: "error" });
