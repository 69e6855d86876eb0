/** One timer that can be set anew. */

// The longest wait of `setTimeout`; more would be none.
const MOST_MS = 2 ** 31 - 1;

export class Timer {
  #id = undefined;
  #callback;

  constructor(callback) {
    this.#callback = callback;
  }

  /** Whether it is set and has not gone off. */
  get isSet() {
    return this.#id !== undefined;
  }

  /** Go off after these seconds, and not at the time that was set before. */
  set(seconds) {
    this.clear();
    this.#id = setTimeout(() => {
      this.#id = undefined;
      this.#callback();
    }, Math.min(seconds * 1000, MOST_MS));
  }

  clear() {
    clearTimeout(this.#id);
    this.#id = undefined;
  }
}

/** Return the seconds of a clock that is never set back. */
export function now() {
  return performance.now() / 1000;
}
