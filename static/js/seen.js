/** Delivery is at least once: remembers the last message ids, to drop repeats, and the newest. */

const KEPT = 1000;

export class Seen {
  #ids = new Set();
  last = "";

  /** Note an id; return whether it is new. Messages without one always are. */
  isNew(id) {
    if (!id) return true;
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    if (this.#ids.size > KEPT) this.#ids.delete(this.#ids.values().next().value);
    this.last = id;
    return true;
  }

  /** Note where a connection begins: that is no message, and so nothing that could be repeated. */
  begin(id) {
    if (id) this.last = id;
  }

  /** Begin anew, after a resync: another log may use the same ids. */
  forget(id) {
    this.#ids.clear();
    this.begin(id);
  }
}
