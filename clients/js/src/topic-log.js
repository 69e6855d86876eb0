/** The known state of one followed topic, so that another reader can begin without the server. */

import { ME, ONCE, TASKS, hasEnd, isUpTo, sameEpoch } from "./protocol.js";

// The most messages that are kept for a reader that comes with a cursor.
const KEPT = 200;
// The most tasks that a list keeps. The server sends the newest 50 of them, and each that is made.
const MOST_TASKS = 1_000;

/** Return a list of tasks after a change: an item takes the place of its task, or stands first. */
export function withChange(list, { items = [], deleted = [] }) {
  const gone = new Set(deleted);
  const known = new Map(list.map((item) => [item.task_id, item]));
  const made = [];
  for (const item of items) {
    if (known.has(item.task_id)) known.set(item.task_id, mergeTask(known.get(item.task_id), item));
    else made.unshift(item);
  }
  return [...made, ...known.values()].filter((item) => !gone.has(item.task_id)).slice(0, MOST_TASKS);
}

// A change has these when they are known; one that is not there has no value any more.
const STARTS = ["position", "starts_in", "starts_in_low", "starts_in_high"];
const WHEN_KNOWN = [...STARTS, "run_at", "started_at", "ended_at", "error"];

function mergeTask(known, item) {
  const cleared = Object.fromEntries(WHEN_KNOWN.filter((name) => name in known).map((name) => [name, null]));
  return { ...known, ...cleared, ...item };
}

export class TopicLog {
  // Whether the server has answered that the topic is followed.
  isOpen = false;
  lastId = "";
  #topic;
  // A message or list that stands for all before it; undefined while it is unknown.
  #state = undefined;
  #kept = [];
  // The messages after this cursor are kept.
  #keptAfter = "";

  constructor(topic) {
    this.#topic = topic;
  }

  /** Take a message of the server. */
  take(message) {
    const { type, data, id } = message;
    if (type === "subscribed") this.#open(message);
    else if (type === "resync") this.#begin(id);
    else if (ONCE.has(type) && id) {
      // It comes again for a reader that is behind.
      if (isUpTo(id, this.lastId)) return;
      this.#keep(message);
    }
    if (id && !isUpTo(id, this.lastId)) this.lastId = id;
    this.#note(type, data, message);
  }

  /** Return the messages for a reader that has come up to a cursor ("": nowhere); null: unknown. */
  catchUp(cursor) {
    if (!cursor) return this.#opening();
    if (!sameEpoch(cursor, this.lastId)) return null;
    const recovered = { type: "subscribed", topic: this.#topic, data: { recovered: true, ...this.#counts() }, id: cursor };
    if (isUpTo(this.lastId, cursor)) return [recovered];
    if (!isUpTo(this.#keptAfter, cursor)) return null;
    return [recovered, ...this.#kept.filter((one) => !isUpTo(one.id, cursor))];
  }

  #open({ data, id, asked }) {
    this.isOpen = true;
    // For a reader that is behind the others the server begins before what is kept: that stays right.
    if (id && (!asked || !sameEpoch(id, this.lastId))) this.#begin(id);
    if (!asked || this.#topic === ME) this.#state = this.#firstState(data);
  }

  #begin(id = "") {
    this.lastId = id;
    this.#keptAfter = id;
    this.#kept = [];
  }

  #firstState(data) {
    if (this.#topic === ME) return data;
    return hasEnd(this.#topic) ? undefined : (data.snapshot ?? null);
  }

  #keep(message) {
    this.#kept.push(message);
    if (this.#kept.length > KEPT) this.#keptAfter = this.#kept.shift().id;
  }

  #note(type, data, message) {
    if (type === "progress") this.#state = message;
    else if (type === "unread_count" && this.#topic === ME) {
      const { unread, unseen, version } = data;
      if (version >= this.#state.version) {
        this.#state = { unread_count: unread, unseen_count: unseen, version };
      }
    } else if (type === "resync" && this.#topic === ME) this.#state = { ...this.#state, version: -1 };
    else if (this.#topic === TASKS) this.#noteTasks(type, data);
    else if (type === "message") this.#state = data;
  }

  #noteTasks(type, data) {
    if (type === "list") this.#state = data;
    else if (type === "resync") this.#state = undefined;
    else if (type === "changed" && this.#state) {
      this.#state = { ...this.#state, items: withChange(this.#state.items, data) };
    }
  }

  #counts() {
    const { unread_count, unseen_count, version } = (this.#topic === ME && this.#state) || {};
    return version === undefined ? {} : { unread_count, unseen_count, version };
  }

  #opening() {
    const state = this.#state;
    if (state === undefined) return null;
    const first = { type: "subscribed", topic: this.#topic };
    // The snapshot has the last id, and is yet to come.
    if (hasEnd(this.#topic)) return [{ ...first, data: { recovered: false } }, state];
    const data = this.#topic === ME ? this.#counts() : { snapshot: state };
    return [{ ...first, data: { recovered: false, ...data }, id: this.lastId }];
  }
}
