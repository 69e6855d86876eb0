/** Up to where one reader of a topic has come, so that no message comes twice. */

import { ONCE, isUpTo } from "./protocol.js";

// The most ids that are remembered. A server sends some hundreds of messages again at most.
const REMEMBERED = 2_000;

export class Position {
  // The ids whose order the last id does not tell: a log may go on under another epoch.
  #seen = new Set();

  constructor(lastId = "") {
    this.lastId = lastId;
  }

  /** Return whether the reader is to get a message, and remember that it did. */
  take({ type, id }) {
    if (type === "resync") this.#seen.clear();
    else if (ONCE.has(type) && id) {
      if (isUpTo(id, this.lastId) || this.#seen.has(id)) return false;
      this.#remember(id);
    }
    if (id) this.lastId = id;
    return true;
  }

  #remember(id) {
    this.#seen.add(id);
    if (this.#seen.size > REMEMBERED) this.#seen.delete(this.#seen.values().next().value);
  }
}

/** Keeps the counts of the highest version: they come in any order. */
export class NewestCounts {
  #version = -1;

  /** Return whether no newer counts are known, and remember these. */
  take({ version = 0 }) {
    if (version <= this.#version) return false;
    this.#version = version;
    return true;
  }

  /** Forget them: after a `resync` the log may count from a lower number. */
  forget() {
    this.#version = -1;
  }
}
