/** How long to wait before coming back: longer each time, and spread, so that not all come at once. */

const FIRST_MS = 500;
const LONGEST_MS = 15000;

export class Backoff {
  #tries = 0;

  reset() {
    this.#tries = 0;
  }

  next() {
    const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** this.#tries++);
    return ceiling / 2 + (Math.random() * ceiling) / 2;
  }
}
