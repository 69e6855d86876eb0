/** The user's tasks, the newest first; those of a batch are one line. */

import { STATUS_ICONS, ago, joined, progressOf, showText, statusInWords, t } from "../rt-elements.js";
import { $, element } from "./dom.js";

const SHOWN = 10;
const RENEW_MS = 15_000;
const FAILED = new Set(["failed", "dead"]);
const ENDED = new Set(["completed", "failed", "dead", "cancelled"]);

export class TaskList {
  #tasks = null;
  #count = SHOWN;
  #onFailed;
  #lines = new Map();
  #current = "";

  /** `onFailed` is told whether any of them has failed. */
  constructor(onFailed) {
    this.#onFailed = onFailed;
    $("tasks-more").addEventListener("click", () => {
      this.#count += SHOWN;
      this.#draw();
    });
    setInterval(() => document.visibilityState === "visible" && this.#draw(), RENEW_MS);
  }

  /** Follow the tasks of a client. */
  follow(client) {
    this.clear();
    this.#tasks = client.tasks;
    client.tasks.addEventListener("update", () => this.#tasks === client.tasks && this.#draw());
  }

  clear() {
    this.#tasks = null;
    this.#count = SHOWN;
    this.#lines.clear();
    $("tasks").replaceChildren();
    $("tasks-empty").hidden = false;
    showText($("tasks-empty"), t("Loading …"));
    $("tasks-more").hidden = true;
    this.#onFailed(false);
  }

  /** Mark the line of what is being watched, as its query names it. */
  mark(query) {
    this.#current = query;
    for (const [one, { link }] of this.#lines) link.ariaCurrent = String(one === query);
  }

  #draw() {
    if (!this.#tasks?.isLoaded) return;
    const { items } = this.#tasks;
    const lines = linesOf(items);
    const shown = lines.slice(0, this.#count);
    $("tasks-empty").hidden = lines.length > 0;
    showText($("tasks-empty"), t("You have no tasks yet."));
    $("tasks-more").hidden = lines.length <= this.#count;
    this.#onFailed(items.some((one) => FAILED.has(one.status)));
    const kept = new Set(shown.map(({ query }) => query));
    for (const [query, { item }] of this.#lines) {
      if (kept.has(query)) continue;
      item.remove();
      this.#lines.delete(query);
    }
    shown.forEach((line, at) => this.#drawLine(line, at));
  }

  #drawLine({ query, name, status, state, at }, index) {
    const known = this.#lines.get(query) ?? this.#makeLine(query);
    known.link.dataset.status = status;
    known.icon.textContent = STATUS_ICONS[status] ?? "·";
    showText(known.name, name);
    showText(known.state, state);
    showText(known.time, ago(Date.parse(at)));
    known.time.dateTime = at;
    const there = $("tasks").children[index];
    if (there !== known.item) $("tasks").insertBefore(known.item, there ?? null);
  }

  #makeLine(query) {
    const [icon, name, state] = ["icon", "name", "state"].map((className) => element("span", { className }));
    icon.ariaHidden = "true";
    const time = element("time");
    const link = element("a", { href: query }, icon, name, time, state);
    link.ariaCurrent = String(query === this.#current);
    const made = { item: element("li", {}, link), link, icon, name, state, time };
    this.#lines.set(query, made);
    return made;
  }
}

/** Return what is shown of each task or batch: its query, name, status, state in words and time. */
function linesOf(tasks) {
  const batches = new Map();
  for (const task of tasks) {
    if (task.batch_id) batches.set(task.batch_id, [...(batches.get(task.batch_id) ?? []), task]);
  }
  const lines = [];
  for (const task of tasks) {
    if (!task.batch_id) lines.push(lineOfTask(task));
    else if (batches.get(task.batch_id)[0] === task) lines.push(lineOfBatch(task.batch_id, batches.get(task.batch_id)));
  }
  return lines;
}

function lineOfTask({ task_id: id, label, kind, status, progress, error, position, created_at: at }) {
  const told = statusInWords(status);
  const words = { processing: progressOf(progress ?? 0), queued: position ? t("number {position} in the line", { position }) : told };
  const state = error && FAILED.has(status) ? t("{status}: {error}", { status: told, error }) : (words[status] ?? told);
  return { query: `?task=${id}`, name: label || kind, status, state, at };
}

function lineOfBatch(id, tasks) {
  const count = (...states) => tasks.filter(({ status }) => states.includes(status)).length;
  const [completed, failed] = [count("completed"), count("failed", "dead")];
  const isOver = tasks.every(({ status }) => ENDED.has(status));
  const status = !isOver ? "processing" : completed === tasks.length ? "completed" : completed ? "partial" : failed ? "failed" : "cancelled";
  const told = [t("{completed} of {total} completed", { completed, total: tasks.length }), failed && t("{bad} failed", { bad: failed })];
  const names = joined(tasks.map(({ label, kind }) => label || kind).reverse(), t(", "));
  return {
    query: `?batch=${id}`, name: t("Batch: {names}", { names }), status, state: joined(told, t(", ")), at: tasks.at(-1).created_at,
  };
}
