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

  /** Note where a connection begins; a snapshot under the same id is still new. */
  begin(id) {
    if (id) this.last = id;
  }
}
