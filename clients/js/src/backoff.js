/** The wait before the next attempt. */

// 2 to the power of more would only overflow.
const MOST_DOUBLINGS = 32;

/**
 * Waits with full jitter: at random between 0 and a bound that doubles up to `most` [s].
 *
 * So clients that were cut off together do not come back together.
 */
export class Backoff {
  constructor({ first = 1, most = 30, random = Math.random } = {}) {
    this.first = first;
    this.most = most;
    this.random = random;
  }

  /**
   * Return the wait after this many failures in a row [s].
   *
   * `first` takes the place of ours: the server's `retry:`. `retryAfter` is the least wait.
   */
  seconds(failures, { first = this.first, retryAfter = null } = {}) {
    if (retryAfter !== null) return retryAfter + this.random() * this.first;
    const doublings = Math.min(Math.max(failures - 1, 0), MOST_DOUBLINGS);
    return Math.min(this.most, first * 2 ** doublings) * this.random();
  }
}
