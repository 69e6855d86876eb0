/** All tasks of a user, as a list that stays true; and the schedules, by their names. */

import { TASKS } from "./protocol.js";
import { newKey, pathOf, queryOf } from "./request.js";
import { withChange } from "./topic-log.js";
import { Watchable } from "./watching.js";

/**
 * One's tasks. Its events are `list` (the newest, in place of all before), `changed` (`items`, `deleted`) and
 * `resync`; an `update` says that `items` changed. While somebody listens, `items` holds the list.
 */
export class TaskList extends Watchable {
  items = [];
  isLoaded = false;

  constructor(client) {
    super(client, TASKS);
  }

  /** Return a page `{items, next}` of those that the filters find. */
  list(filters = {}) {
    return this.client.request("GET", `/api/tasks${queryOf(filters)}`);
  }

  /** Iterate over all that the filters find, the newest first. */
  pages(filters = {}) {
    return this.client.pages("/api/tasks", filters);
  }

  /** Run again what has failed or died; return `{retried, next?}`. */
  retry(filters = {}) {
    return this.client.request("POST", "/api/tasks/retry", filters);
  }

  readMessage({ type, topic, id, data }) {
    const list = ({ items }) => [{ type: "list", topic, id, items }];
    if (type === "list") return list(data);
    if (type === "subscribed") return data.snapshot ? list(data.snapshot) : [];
    if (type === "changed") return [{ type, topic, id, items: data.items ?? [], deleted: data.deleted ?? [] }];
    return type === "resync" ? [{ type, topic, id, reason: data.reason }] : [];
  }

  note(event) {
    if (event.type === "resync") return;
    this.items = event.type === "list" ? event.items : withChange(this.items, event);
    this.isLoaded = true;
    this.tellUpdate();
  }
}

const SCHEDULES = "/api/schedules";

/** One's schedules. Iterate over them by `for await`; they come by name. */
export class Schedules {
  #client;

  constructor(client) {
    this.#client = client;
  }

  [Symbol.asyncIterator]() {
    return this.pages();
  }

  list(filters = {}) {
    return this.#client.request("GET", SCHEDULES + queryOf(filters));
  }

  pages(filters = {}) {
    return this.#client.pages(SCHEDULES, filters, "after");
  }

  get(name) {
    return this.#client.request("GET", pathOf(SCHEDULES, name));
  }

  /** Make one, or replace it: `kind`, `params`, `cron` and `timezone`, or `every` [s], … */
  put(name, fields) {
    return this.#client.request("PUT", pathOf(SCHEDULES, name), fields);
  }

  /** Drop one; its tasks stay. */
  delete(name) {
    return this.#client.request("DELETE", pathOf(SCHEDULES, name));
  }

  /** Make a task of one now; return it. */
  async run(name, { idempotencyKey = newKey() } = {}) {
    const path = pathOf(SCHEDULES, name, "run");
    const answer = await this.#client.request("POST", path, undefined, { key: idempotencyKey });
    return this.#client.task(answer.task_id, answer);
  }
}
