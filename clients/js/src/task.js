/** Tasks and batches, by their ids. */

import { ProtocolError, TaskCancelled, TaskFailed } from "./errors.js";
import { pathOf } from "./request.js";
import { startsIn, timeLeft } from "./time-left.js";
import { Watchable, deadline } from "./watching.js";

const COMPLETED = "completed";
const CANCELLED = "cancelled";

/** Return the `finished` event that ends a topic. Throw TimeoutError, or the reason of a signal. */
async function endOf(watchable, options) {
  const { signal, clear } = deadline(options);
  try {
    for await (const event of watchable.events({ signal })) {
      if (event.type === "finished") return event;
    }
  } finally {
    clear();
  }
  throw new ProtocolError(`${watchable.topic} ended without finished`);
}

/** Return the events that tasks and batches have alike. */
function eventsOf({ type, topic, id, data }) {
  if (type === "resync") return [{ type, topic, id, reason: data.reason }];
  if (type !== "progress") return [];
  const { progress: percent, message = null, status } = data;
  return [{ type, topic, id, percent, message, status, snapshot: data }];
}

/** The base of both: knows the last snapshot that came. */
class Timed extends Watchable {
  #last = null;

  /**
   * Return how long it still takes at a moment, by the last snapshot that a loop or listener of this object was told:
   * `{seconds, low, high, finish, latest}`, as `timeLeft` has it; null is unknown.
   */
  timeLeft(now = Date.now()) {
    return this.#last && timeLeft(this.#last.snapshot, now, { ...this.#last, skew: this.client.skew });
  }

  /** Return the same of its start, while it waits. */
  startsIn(now = Date.now()) {
    return this.#last && startsIn(this.#last.snapshot, now, { ...this.#last, skew: this.client.skew });
  }

  readMessage({ type, data }) {
    if (type === "progress") this.#last = { snapshot: data, receivedAt: Date.now() };
    else if (type === "finished") this.#last = null;
    return [];
  }
}

/** A task. Its events are `progress`, the snapshot first, `finished`, and `resync` before another snapshot. */
export class Task extends Timed {
  #submission;

  constructor(client, id, submission = null) {
    super(client, `task:${id}`);
    this.id = id;
    this.#submission = submission;
  }

  /** The answer to its submission, null for a task that was named by its id. */
  get submission() {
    return this.#submission;
  }

  /** Wait for its end and return its result. Throw TaskFailed, TaskCancelled, TimeoutError after `timeout` [s]. */
  async result(options) {
    const { status, result, error } = await endOf(this, options);
    if (status === COMPLETED) return result;
    throw new (status === CANCELLED ? TaskCancelled : TaskFailed)(this.id, status, error);
  }

  /** Cancel it, unless it has ended; return how it is. */
  cancel() {
    return this.client.request("DELETE", pathOf("/api/tasks", this.id));
  }

  /** Run it again, after it failed, died or was cancelled; listeners follow it again. */
  async retry() {
    const answer = await this.client.request("POST", pathOf("/api/tasks", this.id, "retry"));
    this.resume();
    return answer;
  }

  /** Return all that is known of it. */
  read() {
    return this.client.request("GET", pathOf("/api/tasks", this.id));
  }

  /** Return what it has told so far, the oldest first: `{items, older}`. */
  output() {
    return this.client.request("GET", pathOf("/api/tasks", this.id, "output"));
  }

  /** Return why it is where it is, or why its user has not heard of its end: `{cause, heard, chain}`. */
  why() {
    return this.client.request("GET", pathOf("/api/tasks", this.id, "why"));
  }

  readMessage(message) {
    super.readMessage(message);
    const { type, topic, id, data } = message;
    if (type !== "finished") return eventsOf(message);
    const { final_status: status, result = null, error = null } = data;
    return [{ type, topic, id, status, result, error }];
  }
}

/** A batch of tasks. Its events are `progress`, `finished` and `resync`. */
export class Batch extends Timed {
  #submission;

  constructor(client, id, submission = null) {
    super(client, `batch:${id}`);
    this.id = id;
    this.#submission = submission;
  }

  get submission() {
    return this.#submission;
  }

  /** Wait for its end; return the `finished` event. Throw TimeoutError after `timeout` [s]. */
  result(options) {
    return endOf(this, options);
  }

  /** Cancel what has not ended; return how it is. */
  cancel() {
    return this.client.request("DELETE", pathOf("/api/batches", this.id));
  }

  /** Run again what has failed or died; return `{retried}`. */
  async retry() {
    let retried = 0;
    for await (const { task_id, status } of this.tasks()) {
      if (status !== "failed" && status !== "dead") continue;
      await this.client.task(task_id).retry();
      retried += 1;
    }
    if (retried) this.resume();
    return { retried };
  }

  /** Return its state. */
  read() {
    return this.client.request("GET", pathOf("/api/batches", this.id));
  }

  /** Iterate over its tasks. */
  tasks() {
    return this.client.pages(pathOf("/api/batches", this.id, "tasks"));
  }

  readMessage(message) {
    super.readMessage(message);
    const { type, topic, id, data } = message;
    if (type !== "finished") return eventsOf(message);
    return [{ type, topic, id, status: data.final_status, counts: data }];
  }
}
