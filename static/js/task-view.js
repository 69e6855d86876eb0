/** One task or batch: its bars, steps, time left and result. */

import { $, element } from "./dom.js";
import { nameOf } from "./task-list.js";

const ENDED = ["completed", "partial", "failed", "cancelled", "dead"];
// What may be run again; a batch may not.
export const FAILED = ["failed", "dead"];

function duration(seconds) {
  if (seconds < 90) return `about ${Math.max(1, Math.round(seconds))} s left`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} min left`;
  return `about ${Math.round(seconds / 3600)} h left`;
}

export class TaskView {
  #kind = "task";
  #remaining = null;
  #updated = 0;

  constructor() {
    // Between two updates the time left goes on by itself.
    setInterval(() => this.#showTimeLeft(), 1000);
  }

  /** Begin to show a task, or a batch, which is watched over its event stream alone. */
  open(kind, name, curl) {
    this.#kind = kind;
    $("task-empty").hidden = true;
    $("task").hidden = false;
    $("outcome").hidden = true;
    $("task-name").textContent = name;
    $("curl-line").textContent = curl;
    $("steps").replaceChildren();
    $("task-message").textContent = "";
    $("task-progress-label").textContent = kind === "task" ? "Over WebSocket" : "Over Server-Sent Events";
    $("sse").hidden = kind === "batch";
    $("task-progress").value = $("sse-progress").value = 0;
    $("task-percent").textContent = "";
    this.#remaining = null;
    this.#showTimeLeft();
    this.#showStatus("", "");
    this.showLink("");
    this.showStreamLink("");
  }

  close() {
    this.#remaining = null;
    $("task").hidden = true;
    $("task-empty").hidden = false;
  }

  /** Say how the connection fares; nothing while all is well. */
  showLink(text) {
    this.#showLinkState($("task-link"), text);
  }

  showStreamLink(text) {
    this.#showLinkState($("sse-link"), text);
  }

  showProgress(snapshot) {
    const { status, progress, position } = snapshot;
    this.#showStatus(position ? `${status}, position ${position}` : status, status);
    $("task-progress").value = progress;
    const percent = progress < 100 ? Math.min(Math.round(progress), 99) : 100;
    $("task-percent").textContent = `${percent} %`;
    $("task-message").textContent = snapshot.message ?? this.#counts(snapshot);
    this.#remaining = ENDED.includes(status) ? null : (snapshot.remaining_time ?? null);
    this.#updated = performance.now();
    this.#showTimeLeft();
    if (snapshot.steps) this.#showSteps(snapshot.steps);
    if (nameOf(snapshot)) $("task-name").textContent = nameOf(snapshot);
    if (snapshot.total) $("task-name").textContent = `Batch of ${snapshot.total}`;
  }

  showStreamed(snapshot) {
    $("sse-progress").value = snapshot.progress;
  }

  showFinished(finished) {
    this.#remaining = null;
    this.#showTimeLeft();
    this.#showStatus(finished.final_status, finished.final_status);
    $("outcome").hidden = false;
    $("result").textContent = finished.error ?? JSON.stringify(finished.result ?? finished, null, 2);
  }

  #showStatus(text, state) {
    if ($("task-status").textContent !== text) $("task-status").textContent = text;
    $("task-status").dataset.state = state;
    $("cancel").hidden = !state || ENDED.includes(state);
    $("retry").hidden = this.#kind !== "task" || !FAILED.includes(state);
  }

  #showLinkState(line, text) {
    line.textContent = ["connected", "finished"].includes(text) ? "" : text;
  }

  #showTimeLeft() {
    if (this.#remaining === null) {
      $("time-left").textContent = "";
      return;
    }
    const passed = (performance.now() - this.#updated) / 1000;
    $("time-left").textContent = duration(Math.max(0, this.#remaining - passed));
  }

  #showSteps(steps) {
    const list = $("steps");
    while (list.children.length > steps.length) list.lastElementChild.remove();
    steps.forEach((step, index) => {
      const item = list.children[index] ?? list.appendChild(element("li"));
      if (item.textContent !== step.description) item.textContent = step.description;
      item.dataset.state = step.status;
      item.setAttribute("aria-current", step.status === "current" ? "step" : "false");
    });
  }

  #counts(batch) {
    return batch.total ? `${batch.completed} of ${batch.total} completed, ${batch.processing} running` : "";
  }
}
