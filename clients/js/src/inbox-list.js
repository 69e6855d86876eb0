/** The part of an inbox that is shown, kept true by the events, without any I/O. */

/** Return whether a notification belongs into the inbox: it is neither archived nor snoozed. */
export function isInInbox({ archived_at, snoozed_until }) {
  return !archived_at && !snoozed_until;
}

export class InboxList {
  #items = new Map();
  // Events have told this since the list was asked for: it is newer than the answer, or the same.
  #touched = new Set();
  #next = null;
  isLoaded = false;

  /** The notifications, the newest first. */
  get items() {
    return [...this.#items.values()].sort((one, other) => other.seq - one.seq);
  }

  /** The place of the next page, null at the end. */
  get next() {
    return this.#next;
  }

  /** Forget all: the list is asked for anew. */
  clear() {
    this.#items.clear();
    this.#next = null;
    this.isLoaded = false;
    this.asking();
  }

  /** Note that a page is being asked for. */
  asking() {
    this.#touched.clear();
  }

  /** Take a page that was asked for. */
  add({ items, next }) {
    for (const item of items) {
      if (!this.#touched.has(item.id)) this.#items.set(item.id, item);
    }
    this.#next = next;
    this.isLoaded = true;
  }

  /** Take what has changed. */
  change({ items = [], deleted = [] }) {
    for (const item of items) {
      this.#touched.add(item.id);
      if (!isInInbox(item) || this.#isBelow(item)) this.#items.delete(item.id);
      else this.#items.set(item.id, item);
    }
    for (const id of deleted) {
      this.#touched.add(id);
      this.#items.delete(id);
    }
  }

  /** Return whether an item stands on a page that is still to be read. */
  #isBelow({ id, seq }) {
    if (!this.isLoaded || this.#next === null || this.#items.has(id)) return false;
    return seq < Math.min(...[...this.#items.values()].map((one) => one.seq));
  }
}
