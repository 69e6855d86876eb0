/** The clock of the server, as far as its messages tell it. */

import { now } from "./timer.js";

// The messages that count; the fastest of them tells most.
const HEARD = 8;

/**
 * Each `timestamp` of the server comes later than it was made, never earlier: the greatest difference from our
 * steady clock is the truest one. So a clock of this machine that is set meanwhile does no harm.
 */
export class ServerClock {
  #heard = [];

  /** Take the time of a message of this moment: ISO 8601, or milliseconds since 1970. A value that is no time is skipped. */
  hear(timestamp) {
    const at = typeof timestamp === "number" ? timestamp : Date.parse(timestamp);
    if (!Number.isFinite(at)) return;
    this.#heard.push(at / 1000 - now());
    if (this.#heard.length > HEARD) this.#heard.shift();
  }

  /** The lead of the server's clock over that of this machine [s]; 0 while nothing is known. */
  get skew() {
    if (!this.#heard.length) return 0;
    return Math.max(...this.#heard) + now() - Date.now() / 1000;
  }

  /** The time of the server [ms since 1970]; null while nothing is known. */
  get time() {
    return this.#heard.length ? Date.now() + this.skew * 1000 : null;
  }
}
