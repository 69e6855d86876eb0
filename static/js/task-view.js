/** One task or batch: its bars, steps, time left and result. */

import "../rt-elements.js";
import { ServerClock } from "../rt-client.js";
import { $ } from "./dom.js";
import { nameOf } from "./task-list.js";

const ENDED = ["completed", "partial", "failed", "cancelled", "dead"];
// What may be run again; a batch may not.
export const FAILED = ["failed", "dead"];

export class TaskView {
  #kind = "task";
  #clock = new ServerClock();

  /** Begin to show a task, or a batch, which is watched over its event stream alone. */
  open(kind, name, curl) {
    this.#kind = kind;
    $("task-empty").hidden = true;
    $("task").hidden = false;
    $("outcome").hidden = true;
    $("task-name").textContent = name;
    $("curl-line").textContent = curl;
    $("task-message").textContent = "";
    const transport = kind === "task" ? "Over WebSocket" : "Over Server-Sent Events";
    $("task-progress-label").textContent = transport;
    $("task-progress").setAttribute("label", transport);
    $("sse").hidden = kind === "batch";
    $("sse-progress").value = 0;
    $("task-progress").snapshot = null;
    this.#showStatus("");
    this.showLink("");
    this.showStreamLink("");
  }

  close() {
    $("task-progress").snapshot = null;
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

  /** Take the time of a message of the server. */
  hear(timestamp) {
    this.#clock.hear(timestamp);
  }

  showProgress(snapshot) {
    const { status, position } = snapshot;
    this.#showStatus(status);
    this.#show(snapshot);
    $("task-message").textContent = position ? `number ${position} in the line` : (snapshot.message ?? this.#counts(snapshot));
    if (nameOf(snapshot)) $("task-name").textContent = nameOf(snapshot);
    if (this.#kind === "batch") $("task-name").textContent = `Batch of ${snapshot.total}`;
  }

  showStreamed(snapshot) {
    $("sse-progress").value = snapshot.progress;
  }

  showFinished(finished) {
    const { final_status: status } = finished;
    const last = $("task-progress").snapshot;
    if (last) this.#show({ ...last, status });
    this.#showStatus(status);
    $("outcome").hidden = false;
    $("result").textContent = finished.error ?? JSON.stringify(finished.result ?? finished, null, 2);
  }

  #show(snapshot) {
    $("task-progress").skew = this.#clock.skew;
    $("task-progress").snapshot = snapshot;
  }

  #showStatus(state) {
    if ($("task-status").textContent !== state) $("task-status").textContent = state;
    $("task-status").dataset.state = state;
    $("cancel").hidden = !state || ENDED.includes(state);
    $("retry").hidden = this.#kind !== "task" || !FAILED.includes(state);
  }

  #showLinkState(line, text) {
    line.textContent = ["connected", "finished"].includes(text) ? "" : text;
  }

  #counts(batch) {
    return batch.total ? `${batch.completed} of ${batch.total} completed, ${batch.processing} running` : "";
  }
}
