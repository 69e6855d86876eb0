/** `<rt-task task-id>` and `<rt-batch batch-id>`: how far something has come. */

import { joined, showText, t } from "../messages.js";
import { RealtimeElement, ToldError, make, setAttribute } from "./base.js";
import { BatchGrid } from "./batch-grid.js";
import { DETAILS_SHEET } from "./details-styles.js";
import { Drawing } from "./drawing.js";
import { statusInWords } from "./status.js";
import { TaskDetails } from "./task-details.js";

const ENDED = new Set(["completed", "failed", "cancelled", "dead", "partial"]);
const AGAIN = new Set(["failed", "cancelled", "dead"]);
const CANCEL = { label: t("Cancel"), act: "cancel" };
const RUN_AGAIN = { label: t("Run again"), act: "retry" };
// These submit a task anew.
const RUN_COPY = { label: t("Run a copy"), act: "copy" };
const RUN_FAILED = { label: t("Run again what failed"), act: "copy" };

/** The base of both: a title, a status, a line of words, a button, and the drawing of the snapshot. */
class ProgressElement extends RealtimeElement {
  static sheets = [DETAILS_SHEET];

  #parts;
  #drawing;
  #watched = null;
  #verb = null;

  build() {
    this.#drawing = new Drawing(this, (snapshot) => this.words(snapshot));
    const isFull = this.hasAttribute("full");
    const title = make(isFull ? "h2" : "p", { part: "title", className: "title", id: "title" });
    const status = make("span", { part: "status", className: "status", text: t("loading") });
    const detail = make("span", { part: "detail", className: "detail" });
    const button = make("button", { part: "button", type: "button", on: { click: () => this.#act() } });
    button.hidden = true;
    this.#parts = { title, status, detail, button };
    const { bar, line, steps } = this.#drawing.nodes;
    const { above, below } = this.buildMore(steps);
    if (isFull) {
      const head = make("header", { part: "header", children: [title, status, button] });
      return [head, ...above, ...bar, ...line, make("div", { className: "row", children: [detail] }), ...below];
    }
    const row = make("div", { className: "row", children: [detail, button] });
    return [make("header", { part: "header", children: [title, status] }), ...above, ...bar, ...line, row, ...below];
  }

  /** Return the nodes above the bar and below the line; `steps` are those of the drawing. */
  buildMore(steps) {
    return { above: [], below: steps };
  }

  /**
   * Return what is watched.
   * @returns {any}
   */
  watched(_client) {
    throw new TypeError("each element watches something");
  }

  follow(client, signal) {
    this.#reset();
    const watched = (this.#watched = this.watched(client));
    watched.addEventListener("progress", ({ detail }) => this.#show(detail.snapshot), { signal });
    watched.addEventListener("finished", ({ detail }) => this.#finish(detail), { signal });
    watched.addEventListener("error", ({ detail }) => client.state !== "closed" && this.#fail(detail), { signal });
    this.begin(client, watched, signal);
    return () => {
      this.#drawing.stop();
      watched.close();
    };
  }

  /** Begin to show the rest; it ends with `signal`. */
  begin(_client, _watched, _signal) {}

  /** Take a snapshot for the rest. */
  showMore(_snapshot) {}

  /** Take the end for the rest; return whether it tells the error. */
  finishMore(_event) {
    return false;
  }

  /** Texts of the server are asked for again, in the other language. */
  async languageChanged() {
    const watched = this.#watched;
    try {
      const snapshot = await watched?.read();
      if (snapshot && watched === this.#watched && this.#drawing.shown.snapshot) this.#show(snapshot);
    } catch {
      // The next message is in the other language.
    }
  }

  /** Let nothing go on by the clock while nothing comes. */
  stateChanged(state) {
    if (state === "online" || state === "idle") this.#drawing.resume();
    else this.#drawing.stop();
  }

  #fail(error) {
    const { title, status } = this.#parts;
    showText(title, title.textContent || this.watchedId);
    showText(status, error.status === 404 ? t("not found") : t("error"));
    this.showFailure(error);
  }

  #reset() {
    const { title, status, detail, button } = this.#parts;
    this.#drawing.reset();
    showText(title, this.title || this.getAttribute("label") || "");
    showText(status, t("loading"));
    setAttribute(status, "data-status", null);
    showText(detail, "");
    button.hidden = true;
    this.removeAttribute("state");
  }

  #show(snapshot) {
    const { title, detail } = this.#parts;
    showText(title, this.getAttribute("label") || snapshot.label || this.titleOf(snapshot));
    showText(detail, this.words(snapshot));
    this.#setStatus(snapshot.status);
    this.#drawing.show(snapshot, this.client.skew);
    this.showMore(snapshot);
    this.#tell("rt-progress", snapshot);
  }

  #finish(event) {
    const { status, error, result } = event;
    this.#setStatus(status);
    const { snapshot } = this.#drawing.shown;
    if (snapshot) this.#drawing.show({ ...snapshot, status }, this.client.skew);
    if (this.finishMore(event)) showText(this.#parts.detail, "");
    else if (error) showText(this.#parts.detail, error);
    this.#drawing.say(t("{name}: {status}", { name: this.#parts.title.textContent, status: statusInWords(status) }));
    this.#tell("rt-finished", { status, error, result });
  }

  #setStatus(status) {
    const { status: shown, button } = this.#parts;
    showText(shown, statusInWords(status));
    setAttribute(shown, "data-status", status);
    const verb = (this.#verb = this.verbFor(status));
    const hadFocus = this.shadowRoot.activeElement === button;
    button.hidden = !verb || this.hasAttribute("readonly");
    showText(button, verb?.label ?? "");
    button.disabled = false;
    if (hadFocus && button.hidden) this.#keepFocus();
  }

  /** Keep the focus here when its button goes. */
  #keepFocus() {
    this.#parts.title.tabIndex = -1;
    this.#parts.title.focus();
  }

  verbFor(status) {
    if (!ENDED.has(status)) return CANCEL;
    return AGAIN.has(status) ? RUN_AGAIN : null;
  }

  titleOf({ kind }) {
    return kind ?? "";
  }

  async #act() {
    const { button } = this.#parts;
    button.disabled = true;
    try {
      const { act } = this.#verb;
      if (act === "copy") this.#tell("rt-submitted", await this.copy());
      else await this.#watched[act]();
      this.showError(null);
    } catch (error) {
      this.showError(error);
    } finally {
      button.disabled = false;
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}

/**
 * Shows a task. `label` is its title in place of its own, `readonly` takes the button away. With `full` it has tabs with
 * the result, drawn by the view of its kind, the messages, the parameters, the attempts and the reasons; and one that
 * completed can be run as a copy, of which `rt-submitted` tells.
 */
export class TaskElement extends ProgressElement {
  static observedAttributes = ["task-id", "src", "token", "label"];

  #details = null;

  get watchedId() {
    return this.getAttribute("task-id") ?? "";
  }

  languageChanged() {
    this.#details?.languageChanged();
    return super.languageChanged();
  }

  buildMore(steps) {
    if (!this.hasAttribute("full")) return super.buildMore(steps);
    this.#details = new TaskDetails(this, steps);
    return this.#details.nodes;
  }

  watched(client) {
    return client.task(this.watchedId);
  }

  begin(client, task, signal) {
    this.#details?.begin(client, task, signal);
  }

  showMore(snapshot) {
    this.#details?.show(snapshot);
  }

  finishMore(event) {
    this.#details?.finish(event);
    return this.#details !== null;
  }

  words(snapshot) {
    const { status, position, message, current_step_name: step, done, total, unit } = snapshot;
    if (status === "queued" && position) return t("number {position} in the line", { position });
    const counted = total ? joined([t("{done} of {total}", { done, total }), unit], " ") : "";
    return joined([message || step, counted]);
  }

  verbFor(status) {
    return super.verbFor(status) ?? (this.#details ? RUN_COPY : null);
  }

  /** Submit it anew as another task; return that. */
  async copy() {
    const { kind, params, label } = this.#details.submission ?? (await this.client.task(this.watchedId).read());
    const task = await this.client.submit(kind, params, label ? { label } : {});
    return { task };
  }
}

/**
 * Shows a batch, by how many of its tasks have ended. With `full` it has a grid of them; each leads to the address that
 * `task-link` tells, in which {id} is the task's; and those that failed can be run again as another batch, of which
 * `rt-submitted` tells.
 */
export class BatchElement extends ProgressElement {
  static observedAttributes = ["batch-id", "src", "token", "label"];

  #grid = null;

  get watchedId() {
    return this.getAttribute("batch-id") ?? "";
  }

  buildMore(steps) {
    if (!this.hasAttribute("full")) return super.buildMore(steps);
    this.#grid = new BatchGrid(({ task_id: id }) => (this.getAttribute("task-link") ?? "").replaceAll("{id}", id));
    return { above: [], below: [...steps, this.#grid.node, this.#grid.more] };
  }

  watched(client) {
    return client.batch(this.watchedId);
  }

  begin(_, batch, signal) {
    this.#grid?.begin(batch, signal);
  }

  showMore() {
    this.#grid?.loadSoon();
  }

  finishMore() {
    this.#grid?.loadSoon();
    return false;
  }

  titleOf({ total, kind }) {
    return this.#grid ? t("Batch of {total}", { total }) : (kind ?? "");
  }

  words({ total, completed, failed, dead, cancelled }) {
    const bad = (failed ?? 0) + (dead ?? 0);
    return joined([
      t("{completed} of {total} completed", { completed, total }),
      bad && t("{bad} failed", { bad }), cancelled && t("{cancelled} cancelled", { cancelled }),
    ]);
  }

  verbFor(status) {
    if (status !== "partial" && !AGAIN.has(status)) return super.verbFor(status);
    if (status === "cancelled") return null;
    return this.#grid ? RUN_FAILED : RUN_AGAIN;
  }

  /** Submit those that failed as another batch, which can be watched as a whole: this one has its end. */
  async copy() {
    const failed = [];
    for await (const task of this.client.batch(this.watchedId).tasks()) {
      if (task.status === "failed" || task.status === "dead") failed.push(task);
    }
    if (!failed.length) throw new ToldError(t("those that failed were run again already"));
    return { batch: await this.client.submitBatch(failed[0].kind, failed.map(({ params }) => params).reverse()) };
  }
}
