/** `<rt-task task-id>` and `<rt-batch batch-id>`: how far something has come. */

import { RealtimeElement, make, setAttribute, setText } from "./base.js";

const ENDED = new Set(["completed", "failed", "cancelled", "dead", "partial"]);
const AGAIN = new Set(["failed", "cancelled", "dead"]);

/** Return a time that is left in words. */
function leftOf(seconds) {
  if (typeof seconds !== "number") return "";
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s left`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min left` : `${(seconds / 3600).toFixed(1)} h left`;
}

/** The base of both: a title, a status, a bar, a line of words and a button. */
class ProgressElement extends RealtimeElement {
  #parts;
  #watched = null;
  #status = null;

  build() {
    const fill = make("div", { part: "fill", className: "fill" });
    const bar = make("div", {
      part: "bar", className: "bar unknown", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, children: [fill],
    });
    const title = make("p", { part: "title", className: "title", id: "title" });
    const status = make("span", { part: "status", className: "status", text: "loading" });
    const detail = make("span", { part: "detail", className: "detail" });
    const said = make("span", { className: "sr", "aria-live": "polite" });
    const button = make("button", { part: "button", type: "button", on: { click: () => this.#act() } });
    button.hidden = true;
    bar.setAttribute("aria-labelledby", "title");
    this.#parts = { fill, bar, title, status, detail, said, button };
    const row = make("div", { className: "row", children: [detail, button] });
    return [make("header", { part: "header", children: [title, status] }), bar, row, said];
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
    return () => watched.close();
  }

  #fail(error) {
    const { title, status } = this.#parts;
    setText(title, title.textContent || this.watchedId);
    setText(status, error.status === 404 ? "not found" : "error");
    this.showFailure(error);
  }

  #reset() {
    const { bar, fill, title, status, detail, button } = this.#parts;
    bar.className = "bar unknown";
    setAttribute(bar, "aria-valuenow", null);
    fill.style.width = "";
    setText(title, this.title || this.getAttribute("label") || "");
    setText(status, "loading");
    setText(detail, "");
    button.hidden = true;
    this.removeAttribute("state");
  }

  #show(snapshot) {
    const { title, bar, fill, detail } = this.#parts;
    const percent = Math.round(snapshot.progress ?? 0);
    const name = this.getAttribute("label") || snapshot.label || snapshot.kind || "";
    setText(title, name);
    bar.classList.toggle("unknown", snapshot.status === "processing" && percent === 0);
    fill.style.width = `${percent}%`;
    setAttribute(bar, "aria-valuenow", percent);
    const words = this.words(snapshot, ENDED.has(snapshot.status));
    setText(detail, words);
    setAttribute(bar, "aria-valuetext", [`${percent} %`, words].filter(Boolean).join(", "));
    this.#setStatus(snapshot.status);
    this.#tell("rt-progress", snapshot);
  }

  #finish({ status, error, result }) {
    this.#setStatus(status);
    if (error) setText(this.#parts.detail, error);
    const { title, said } = this.#parts;
    setText(said, `${title.textContent}: ${status}`);
    this.#tell("rt-finished", { status, error, result });
  }

  #setStatus(status) {
    const { status: shown, bar, button } = this.#parts;
    this.#status = status;
    setText(shown, status);
    for (const part of [shown, bar]) setAttribute(part, "data-status", status);
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

  words(snapshot, hasEnded) {
    const { status, position, message, current_step_name: step, done, total, unit } = snapshot;
    if (status === "queued" && position) return `number ${position} in the line`;
    const counted = total ? `${done} of ${total}${unit ? ` ${unit}` : ""}` : "";
    const left = hasEnded ? "" : leftOf(snapshot.remaining_time);
    return [message || step, counted, left].filter(Boolean).join(" · ");
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
