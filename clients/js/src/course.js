/** The way back of a client, without any I/O: by which transport, when, or not at all. */

import { Backoff } from "./backoff.js";
import { ApiError, ConnectionClosed, errorOfCode } from "./errors.js";
import { RECONNECT, UNAUTHORIZED, comesBack } from "./protocol.js";

// A socket is taken for impossible after this many attempts in a row that did not open one.
const SOCKET_ATTEMPTS = 2;
// Codes that a browser makes up when there was no handshake, or nothing after it.
const NOT_OPENED = new Set([1002, 1005, 1006, 1015]);
// An event stream serves for this long before a socket is tried again [s]; longer each time.
const SOCKET_AGAIN = { first: 30, most: 600 };
// A connection is lost that brings nothing for two intervals of its heartbeat, and for half of another one or this
// much [s], whichever is less: two were missed.
const SILENT_HEARTBEATS = 2;
const MOST_LATE_SECONDS = 1;

export class Course {
  #failures = 0;
  #socketFailures = 0;
  #streamPeriods = 0;
  #mayRenew = true;
  #table = RECONNECT;
  #retry = undefined;

  /** `sockets` and `streams` say which transports there are, `renews` whether a token can be had anew. */
  constructor({ sockets, streams = true, renews, backoff = new Backoff(), socketAgain = {} }) {
    this.sockets = sockets;
    this.streams = streams;
    this.renews = renews;
    this.backoff = backoff;
    this.again = { ...SOCKET_AGAIN, ...socketAgain };
  }

  /** Return the transport of the next connection: "socket" or "stream". */
  next() {
    const isBlocked = this.streams && this.#socketFailures >= SOCKET_ATTEMPTS;
    return this.sockets && !isBlocked ? "socket" : "stream";
  }

  /**
   * Learn that `connected` came; return after how much silence [s] the connection is lost, 0: never.
   * @param {string} transport
   * @param {{heartbeat_interval?: number, reconnect?: any}} [told]
   */
  connected(transport, { heartbeat_interval: interval = 0, reconnect } = {}) {
    this.#failures = 0;
    this.#mayRenew = true;
    if (reconnect) this.#table = reconnect;
    if (transport === "socket") this.#socketFailures = this.#streamPeriods = 0;
    return interval * SILENT_HEARTBEATS + Math.min(interval / 2, MOST_LATE_SECONDS);
  }

  /** Learn the `retry:` of an event stream [s]. */
  retry(seconds) {
    this.#retry = seconds;
  }

  /** Return after how long on an event stream a socket is tried again [s]; null: never. */
  socketAgain() {
    if (!this.sockets) return null;
    const { first, most } = this.again;
    return Math.min(most, first * 2 ** this.#streamPeriods++) * (0.5 + 0.5 * this.backoff.random());
  }

  /**
   * Return what follows a lost connection: `{wait}` [s] before the next, with `renew` when that needs
   * another token, or `{error}` when there is no next.
   *
   * For a socket `code` and `reason` are those of its close, for a stream `status` and `retryAfter` those of
   * its refusal; `problem` is an `error` message about the connection.
   */
  lost({ transport, wasOpen = false, code, reason, status, document, retryAfter = null, problem }) {
    this.#failures += 1;
    if (transport === "socket" && !wasOpen && NOT_OPENED.has(code)) this.#socketFailures += 1;
    if (transport === "stream" && !wasOpen && status === undefined) {
      // The server is away: that the socket did not open says nothing.
      this.#socketFailures = Math.min(this.#socketFailures, SOCKET_ATTEMPTS - 1);
    }
    const isExpired = code === UNAUTHORIZED || status === 401 || problem?.code === "token_expired";
    if (isExpired) return this.#expired(reason || problem?.message || document?.detail);
    const error = this.#refusal({ code, reason: reason || problem?.message, status, document, problem });
    if (error) return { error };
    return { wait: this.backoff.seconds(this.#failures, { first: this.#retry, retryAfter }) };
  }

  #expired(reason) {
    if (!this.renews || !this.#mayRenew) return { error: new ConnectionClosed(UNAUTHORIZED, reason) };
    this.#mayRenew = false;
    return { renew: true, wait: this.#failures > 1 ? this.backoff.seconds(this.#failures) : 0 };
  }

  #refusal({ code, reason, status, document, problem }) {
    if (code !== undefined) return comesBack(code, this.#table) ? null : new ConnectionClosed(code, reason);
    if (status !== undefined) {
      const error = new ApiError(status, document);
      return error.isPassing || status >= 500 ? null : error;
    }
    return problem ? errorOfCode(problem) : null;
  }
}
