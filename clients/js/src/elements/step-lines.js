/** The steps, each with its time on one line of time: how long it took or takes, before how long it usually takes. */

import { joined, showText, t } from "../messages.js";
import { make, setAttribute } from "./base.js";
import { lengthOf } from "./words.js";

function inWords({ status }, { length, usual }) {
  if (status === "skipped") return t("skipped");
  const usually = usual === null ? "" : t("usually {time}", { time: lengthOf(usual) });
  return joined([length === null ? "" : lengthOf(length), usually], t(", "));
}

function place(bar, from, length) {
  bar.hidden = from === null || length === null;
  if (bar.hidden) return;
  bar.style.setProperty("--_from", from);
  bar.style.setProperty("--_length", length);
}

export class StepLines {
  #items = [];
  list = make("ol", { part: "steps", className: "steps", id: "steps" });

  clear() {
    this.#items = [];
    this.list.replaceChildren();
  }

  /** Draw the steps of a snapshot, as they are laid out in time. */
  draw(steps, { spans, total }) {
    while (this.#items.length > steps.length) this.#items.pop().item.remove();
    while (this.#items.length < steps.length) this.#add();
    this.list.hidden = !steps.length;
    this.list.classList.toggle("timed", total > 0);
    this.list.style.setProperty("--_total", Math.max(total, 0.001));
    steps.forEach((step, index) => this.#draw(this.#items[index], step, spans[index]));
  }

  #add() {
    const [name, took] = ["step-name", "step-time"].map((part) => make("span", { part, className: part }));
    const [usual, real] = ["usual", "real"].map((part) => make("span", { part, className: part }));
    const line = make("span", { className: "line", "aria-hidden": true, children: [usual, real] });
    const item = make("li", { part: "step", children: [name, took, line] });
    this.#items.push({ item, name, took, usual, real });
    this.list.append(item);
  }

  #draw({ item, name, took, usual, real }, step, span) {
    showText(name, [...(step.group ?? []), step.description ?? step.name].join(" / "));
    setAttribute(item, "data-state", step.status);
    setAttribute(item, "aria-current", step.status === "current" ? "step" : null);
    showText(took, inWords(step, span));
    place(usual, span.from, span.usual);
    place(real, span.from, span.length);
  }
}
