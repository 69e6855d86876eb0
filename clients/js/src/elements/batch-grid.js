/** The tasks of a batch as a grid: which failed, why, and a way to each. */

import { make } from "./base.js";
import { showText, t } from "../messages.js";
import { STATUS_ICONS, statusInWords } from "./status.js";
import { progressOf } from "./words.js";

// The most tasks that are shown; those that failed are among them first.
const MOST_SHOWN = 500;
// It is listed anew no more often than this while it runs [ms].
const LEAST_MS = 700;
const ORDER = ["failed", "dead", "processing", "queued", "delayed", "cancelled", "completed"];

export class BatchGrid {
  node = make("ul", { part: "grid", className: "grid", "aria-label": t("Tasks of the batch") });
  more = make("p", { className: "muted" });
  #open;
  #cells = new Map();
  #batch = null;
  #signal = null;
  #timer = 0;
  #isLoading = false;
  #mustAgain = false;

  /** `open(task)` returns the address of a task's page, "" for none. */
  constructor(open) {
    this.#open = open;
    this.more.hidden = true;
  }

  begin(batch, signal) {
    [this.#batch, this.#signal] = [batch, signal];
    this.#cells.clear();
    this.node.replaceChildren();
    this.more.hidden = true;
    signal.addEventListener("abort", () => clearTimeout(this.#timer));
    this.loadSoon();
  }

  /** List them anew, soon: something has changed. */
  loadSoon() {
    this.#timer ||= setTimeout(() => this.#load(), this.#cells.size ? LEAST_MS : 0);
  }

  async #load() {
    this.#timer = 0;
    this.#mustAgain = this.#isLoading;
    if (this.#isLoading) return;
    this.#isLoading = true;
    const signal = this.#signal;
    const tasks = [];
    try {
      for await (const task of this.#batch.tasks()) {
        tasks.push(task);
        if (tasks.length > MOST_SHOWN * 2 || signal.aborted) break;
      }
      if (!signal.aborted) this.#draw(tasks);
    } catch {
      // The element tells of the connection; the next change asks again.
    } finally {
      this.#isLoading = false;
      if (this.#mustAgain && !signal.aborted) this.loadSoon();
    }
  }

  #draw(tasks) {
    const sorted = tasks
      .map((task, at) => ({ task, at }))
      .sort((one, other) => ORDER.indexOf(one.task.status) - ORDER.indexOf(other.task.status) || other.at - one.at)
      .map(({ task }) => task)
      .slice(0, MOST_SHOWN);
    // One that stands where it stood keeps the focus.
    sorted.map((task) => this.#cellOf(task)).forEach((item, at) => {
      if (this.node.children[at] !== item) this.node.insertBefore(item, this.node.children[at] ?? null);
    });
    while (this.node.children.length > sorted.length) this.node.lastElementChild.remove();
    this.more.hidden = tasks.length <= MOST_SHOWN;
    showText(this.more, t("The first {n} are shown, those that failed before the others.", { n: MOST_SHOWN }));
  }

  #cellOf(task) {
    const { task_id: id, label, status, error, progress } = task;
    const cell = this.#cells.get(id) ?? this.#makeCell(task);
    cell.item.dataset.status = status;
    showText(cell.icon, STATUS_ICONS[status] ?? "·");
    showText(cell.name, label || id);
    showText(cell.state, status === "processing" ? progressOf(progress) : statusInWords(status));
    showText(cell.why, error ?? "");
    return cell.item;
  }

  #makeCell(task) {
    const [icon, name, state, why] = ["icon", "name", "state", "why"].map((className) => make("span", { className }));
    icon.setAttribute("aria-hidden", "true");
    const href = this.#open(task);
    const link = make(href ? "a" : "div", { className: "cell", ...(href ? { href } : {}), children: [icon, name, state, why] });
    const item = make("li", { part: "task", children: [link] });
    const cell = { item, icon, name, state, why };
    this.#cells.set(task.task_id, cell);
    return cell;
  }
}
