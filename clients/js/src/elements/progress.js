/** `<rt-task task-id>` and `<rt-batch batch-id>`: how far something has come. */

import { RealtimeElement, make, setAttribute, setText } from "./base.js";
import { Drawing } from "./drawing.js";

const ENDED = new Set(["completed", "failed", "cancelled", "dead", "partial"]);
const AGAIN = new Set(["failed", "cancelled", "dead"]);

/** The base of both: a title, a status, a line of words, a button, and the drawing of the snapshot. */
class ProgressElement extends RealtimeElement {
  #parts;
  #drawing;
  #watched = null;
  #status = null;

  build() {
    this.#drawing = new Drawing(this, (snapshot) => this.words(snapshot));
    const title = make("p", { part: "title", className: "title", id: "title" });
    const status = make("span", { part: "status", className: "status", text: "loading" });
    const detail = make("span", { part: "detail", className: "detail" });
    const button = make("button", { part: "button", type: "button", on: { click: () => this.#act() } });
    button.hidden = true;
    this.#parts = { title, status, detail, button };
    const row = make("div", { className: "row", children: [detail, button] });
    const { bar, line, steps } = this.#drawing.nodes;
    return [make("header", { part: "header", children: [title, status] }), ...bar, ...line, row, ...steps];
  }

  /** Return what is watched. */
  watched() {
    throw new TypeError("each element watches something");
  }

  follow(client, signal) {
    this.#reset();
    const watched = (this.#watched = this.watched(client));
    watched.addEventListener("progress", ({ detail }) => this.#show(detail.snapshot), { signal });
    watched.addEventListener("finished", ({ detail }) => this.#finish(detail), { signal });
    watched.addEventListener("error", ({ detail }) => client.state !== "closed" && this.#fail(detail), { signal });
    return () => {
      this.#drawing.stop();
      watched.close();
    };
  }

  #fail(error) {
    const { title, status } = this.#parts;
    setText(title, title.textContent || this.watchedId);
    setText(status, error.status === 404 ? "not found" : "error");
    this.showFailure(error);
  }

  #reset() {
    const { title, status, detail, button } = this.#parts;
    this.#drawing.reset();
    setText(title, this.title || this.getAttribute("label") || "");
    setText(status, "loading");
    setText(detail, "");
    button.hidden = true;
    this.removeAttribute("state");
  }

  #show(snapshot) {
    const { title, detail } = this.#parts;
    setText(title, this.getAttribute("label") || snapshot.label || snapshot.kind || "");
    setText(detail, this.words(snapshot));
    this.#setStatus(snapshot.status);
    this.#drawing.show(snapshot, this.client.skew);
    this.#tell("rt-progress", snapshot);
  }

  #finish({ status, error, result }) {
    this.#setStatus(status);
    const { snapshot } = this.#drawing.shown;
    if (snapshot) this.#drawing.show({ ...snapshot, status }, this.client.skew);
    if (error) setText(this.#parts.detail, error);
    this.#drawing.say(`${this.#parts.title.textContent}: ${status}`);
    this.#tell("rt-finished", { status, error, result });
  }

  #setStatus(status) {
    const { status: shown, button } = this.#parts;
    this.#status = status;
    setText(shown, status);
    setAttribute(shown, "data-status", status);
    const verb = this.verbFor(status);
    button.hidden = !verb || this.hasAttribute("readonly");
    setText(button, verb ?? "");
    button.disabled = false;
  }

  verbFor(status) {
    if (!ENDED.has(status)) return "Cancel";
    return AGAIN.has(status) ? "Run again" : null;
  }

  async #act() {
    const { button } = this.#parts;
    button.disabled = true;
    try {
      await (ENDED.has(this.#status) ? this.#watched.retry() : this.#watched.cancel());
      this.showError(null);
    } catch (error) {
      button.disabled = false;
      this.showError(error);
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}

/** Shows a task. `label` is its title in place of its own, `readonly` takes the button away. */
export class TaskElement extends ProgressElement {
  static observedAttributes = ["task-id", "src", "token", "label"];

  get watchedId() {
    return this.getAttribute("task-id") ?? "";
  }

  watched(client) {
    return client.task(this.watchedId);
  }

  words(snapshot) {
    const { status, position, message, current_step_name: step, done, total, unit } = snapshot;
    if (status === "queued" && position) return `number ${position} in the line`;
    const counted = total ? `${done} of ${total}${unit ? ` ${unit}` : ""}` : "";
    return [message || step, counted].filter(Boolean).join(" · ");
  }
}

/** Shows a batch, by how many of its tasks have ended. */
export class BatchElement extends ProgressElement {
  static observedAttributes = ["batch-id", "src", "token", "label"];

  get watchedId() {
    return this.getAttribute("batch-id") ?? "";
  }

  watched(client) {
    return client.batch(this.watchedId);
  }

  words({ total, completed, failed, dead, cancelled }) {
    const bad = (failed ?? 0) + (dead ?? 0);
    const told = [`${completed} of ${total} completed`, bad && `${bad} failed`, cancelled && `${cancelled} cancelled`];
    return told.filter(Boolean).join(" · ");
  }

  verbFor(status) {
    return status === "partial" ? "Run again" : super.verbFor(status);
  }
}
