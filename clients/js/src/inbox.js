/** The notifications of a user. */

import { InboxList } from "./inbox-list.js";
import { NewestCounts } from "./position.js";
import { ME } from "./protocol.js";
import { pathOf, queryOf } from "./request.js";
import { Watchable } from "./watching.js";

const PATH = "/api/notifications";

/** Return the body that names notifications: ids, `{all: true}` or `{filter}`. Throw TypeError for none. */
function chosen(which) {
  const ids = typeof which === "string" ? [which] : which;
  // An empty list must not mean all.
  if (Array.isArray(ids) && ids.length && ids.every((one) => typeof one === "string" && one)) return { ids };
  if (!Array.isArray(ids) && (ids?.all === true || ids?.filter)) return ids;
  throw new TypeError("name ids, or give {all: true} or {filter}");
}

/**
 * One's notifications. Its events are `counts`, `notification` (one that is new, renewed or back),
 * `changed` (`items`, `deleted` ids, and `preferences` or null) and `resync`; an `update` says that `items` or `counts` changed.
 *
 * While somebody listens, `items` holds the newest of the inbox, and `more()` adds the next page.
 */
export class Inbox extends Watchable {
  #list = new InboxList();
  #newest = new NewestCounts();
  #asked = 0;
  counts = { unread: 0, unseen: 0, version: -1 };
  error = null;

  constructor(client) {
    super(client, ME);
  }

  get items() {
    return this.#list.items;
  }

  /** Whether the first page is there. */
  get isLoaded() {
    return this.#list.isLoaded;
  }

  /** Whether there is another page. */
  get hasMore() {
    return this.#list.next !== null;
  }

  /** Add the next page to `items`. */
  async more() {
    if (this.hasMore) await this.#load(this.#list.next);
  }

  /** Return a page `{items, next, unread, unseen, version}` of those that the filters find. */
  list(filters = {}) {
    return this.client.request("GET", PATH + queryOf(filters));
  }

  /** Iterate over all that the filters find, the newest first. */
  pages(filters = {}) {
    return this.client.pages(PATH, filters);
  }

  get(id) {
    return this.client.request("GET", pathOf(PATH, id));
  }

  /**
   * Return what a digest stands for.
   * @param {string} id
   * @param {{limit?: number}} [options]
   */
  async parts(id, { limit } = {}) {
    return (await this.client.request("GET", pathOf(PATH, id, "parts") + queryOf({ limit }))).items;
  }

  /**
   * Apply a verb to ids, to what a `{filter}` finds, or by `{all: true}` to all of the inbox.
   *
   * Return `{changed, undo, unread, unseen, version}`. A verb that is sent twice changes nothing twice.
   */
  async act(verb, which, more = {}) {
    return this.#done(await this.client.request("POST", pathOf(PATH, verb), { ...chosen(which), ...more }, { isHarmless: true }));
  }

  seen(which) {
    return this.act("seen", which);
  }

  read(which) {
    return this.act("read", which);
  }

  readAll() {
    return this.act("read", { all: true });
  }

  unread(which) {
    return this.act("unread", which);
  }

  archive(which) {
    return this.act("archive", which);
  }

  unarchive(which) {
    return this.act("unarchive", which);
  }

  /**
   * Send them away for some `seconds`, or `until` a time.
   * @param {any} which
   * @param {{seconds?: number, until?: any}} [time]
   */
  snooze(which, { seconds, until } = {}) {
    return this.act("snooze", which, until === undefined ? { seconds } : { until });
  }

  unsnooze(which) {
    return this.act("unsnooze", which);
  }

  pin(which) {
    return this.act("pin", which);
  }

  unpin(which) {
    return this.act("unpin", which);
  }

  delete(which) {
    return this.act("delete", which);
  }

  /** Take a verb back, by the `undo` of its answer. */
  async undo(undo) {
    return this.#done(await this.client.request("POST", `${PATH}/undo`, { undo }));
  }

  /** Answer an action of a notification; return it. Throw ApiError 409 if it was answered before. */
  answer(id, action) {
    return this.client.request("POST", pathOf(PATH, id, "actions", action));
  }

  preferences() {
    return this.client.request("GET", `${PATH}/preferences`);
  }

  setPreferences(preferences) {
    return this.client.request("PUT", `${PATH}/preferences`, preferences);
  }

  makeRead() {
    const newest = new NewestCounts();
    return (message) => readMessage(message, newest);
  }

  note(event) {
    if (event.type === "resync") this.#newest.forget();
    if (event.type === "resync" || (event.type === "counts" && event.isFirst)) this.#reload();
    if (event.type === "counts") this.#noteCounts(event);
    else if (event.type === "notification") this.#list.change({ items: [event.notification] });
    else if (event.type === "changed") this.#list.change(event);
    this.tellUpdate();
  }

  #noteCounts({ unread, unseen, version, isFirst }) {
    if (isFirst) this.#newest.forget();
    if (this.#newest.take({ version })) this.counts = { unread, unseen, version };
  }

  #done(answer) {
    if (answer && "unread" in answer) {
      this.#noteCounts(answer);
      this.tellUpdate();
    }
    return answer;
  }

  #reload() {
    this.#list.clear();
    this.#load();
  }

  async #load(before) {
    this.#asked += 1;
    const asked = this.#asked;
    this.#list.asking();
    try {
      const page = await this.list({ before });
      // Another list was asked for meanwhile.
      if (asked !== this.#asked) return;
      this.#list.add(page);
      this.error = null;
    } catch (error) {
      this.error = error;
      this.tellError(error);
    }
    this.tellUpdate();
  }
}

function readMessage({ type, topic, id, data }, newest) {
  if (type === "subscribed") return firstCounts(topic, data, newest);
  if (type === "unread_count") return newest.take(data) ? [{ type: "counts", topic, ...data, isFirst: false }] : [];
  if (type === "notification") return [{ type, topic, id, notification: data }];
  if (type === "changed") {
    const { items = [], deleted = [], preferences = null } = data;
    return [{ type, topic, id, items, deleted, preferences }];
  }
  if (type !== "resync") return [];
  newest.forget();
  return [{ type, topic, id, reason: data.reason }];
}

function firstCounts(topic, { recovered, unread_count: unread, unseen_count: unseen, version }, newest) {
  if (version === undefined) return [];
  if (!recovered) newest.forget();
  if (!newest.take({ version })) return [];
  return [{ type: "counts", topic, unread, unseen, version, isFirst: !recovered }];
}
