/** Requests of the API: what is sent, and how often it may be sent. */

import { Backoff } from "./backoff.js";
import { ApiError, ConnectionLost, ProtocolError, readRetryAfter } from "./errors.js";
import { TOO_MANY } from "./protocol.js";
import { now } from "./timer.js";

// The server answers within 10 s, or says that it does not.
const ANSWER_SECONDS = 30;
// Methods that do the same when they are repeated (RFC 9110 section 9.2.2).
const IDEMPOTENT = new Set(["GET", "PUT", "DELETE"]);

/** Return an `Idempotency-Key` that nobody else has. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (one) => one.toString(16).padStart(2, "0")).join("");
}

/** Return a path below a folder. Throw TypeError for a name that is none. */
export function pathOf(folder, ...names) {
  for (const name of names) {
    if (typeof name !== "string" || /^\.*$/.test(name)) throw new TypeError(`not a name: ${JSON.stringify(name)}`);
  }
  return [folder, ...names.map((name) => encodeURIComponent(name).replaceAll("%3A", ":"))].join("/");
}

/** Return the query of arguments: a list is repeated, what is null or undefined is left out. */
export function queryOf(args) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(args)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null) query.append(name, one instanceof Date ? one.toISOString() : String(one));
    }
  }
  const text = query.toString();
  return text ? `?${text}` : "";
}

/** The attempts of one request, and how long they may go on: `patience` [s] since `began`. */
export class Attempts {
  #failures = 0;

  constructor({ isRepeatable, patience = 30, backoff = new Backoff(), began }) {
    this.isRepeatable = isRepeatable;
    this.patience = patience;
    this.backoff = backoff;
    this.began = began;
  }

  /** Return how long to wait before the next attempt [s]. Throw `error` for the last one. */
  pause(error, at) {
    this.#failures += 1;
    const wait = this.backoff.seconds(this.#failures, { retryAfter: error.retryAfter ?? null });
    if (!this.#mayRepeat(error) || at + wait > this.began + this.patience) throw error;
    return wait;
  }

  #mayRepeat(error) {
    if (error instanceof ConnectionLost) return this.isRepeatable || !error.wasSent;
    // A limit is checked before anything is done; a fault may come amid the work.
    return error instanceof ApiError && error.isPassing && (this.isRepeatable || error.status === TOO_MANY);
  }
}

/** Sends requests, and sends them again where that does no harm. */
export class Requester {
  #options;

  constructor({ base, tokens, locale, fetch, patience, backoff }) {
    this.#options = { base, tokens, locale, fetch, patience, backoff };
  }

  /**
   * Return the JSON of the answer, null for none. `key` is its `Idempotency-Key`; `isHarmless` says of a
   * POST without one that a repetition changes nothing. Throw ApiError, ConnectionLost, ProtocolError.
   * @param {string} method
   * @param {string} path
   * @param {{body?: any, key?: string, isHarmless?: boolean, signal?: AbortSignal, keepalive?: boolean}} [options]
   */
  async send(method, path, { body, key, isHarmless = false, signal, keepalive } = {}) {
    const { locale, patience, backoff } = this.#options;
    const isRepeatable = IDEMPOTENT.has(method) || key !== undefined || isHarmless;
    const attempts = new Attempts({ isRepeatable, patience, backoff, began: now() });
    const init = { method, headers: headersOf(body, key, locale()), body: body === undefined ? undefined : JSON.stringify(body), keepalive };
    let isFresh = false;
    for (;;) {
      try {
        return await this.#attempt(path, init, signal, isFresh);
      } catch (error) {
        signal?.throwIfAborted();
        if (error.status === 401 && this.#options.tokens.isRenewable && !isFresh) {
          isFresh = true;
          continue;
        }
        await sleep(attempts.pause(error, now()), signal);
      }
    }
  }

  async #attempt(path, init, signal, isFresh) {
    const { base, tokens, fetch } = this.#options;
    const token = await tokens.get({ isFresh });
    const headers = token ? { ...init.headers, Authorization: `Bearer ${token}` } : init.headers;
    const late = AbortSignal.timeout(ANSWER_SECONDS * 1000);
    const ending = signal ? anyOf([signal, late]) : late;
    let answer, text;
    try {
      answer = await fetch(new URL(path.replace(/^\//, ""), base), { ...init, headers, signal: ending });
      text = await answer.text();
    } catch (error) {
      throw new ConnectionLost(String(error.message ?? error), { cause: error, wasSent: !isRefused(error) });
    }
    return valueOf(answer, text, `${init.method} ${path}`);
  }
}

function headersOf(body, key, locale) {
  const headers = { Accept: "application/json" };
  if (locale) headers["Accept-Language"] = locale;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key !== undefined) headers["Idempotency-Key"] = key;
  return headers;
}

/** Return whether a request has not left: Node says so, a browser does not. */
function isRefused(error) {
  return ["ECONNREFUSED", "ENOTFOUND", "EHOSTUNREACH", "UND_ERR_CONNECT_TIMEOUT"].includes(error.cause?.code);
}

function valueOf(answer, text, request) {
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    // A proxy in between answers its own errors in HTML.
    if (answer.ok) throw new ProtocolError(`${request} was not answered by JSON`);
  }
  if (answer.status >= 400) {
    const document = typeof value === "object" && value !== null ? value : { title: answer.statusText };
    throw new ApiError(answer.status, document, readRetryAfter(answer.headers.get("Retry-After")));
  }
  if (!answer.ok) throw new ProtocolError(`${request} was answered by ${answer.status}`);
  return value;
}

function anyOf(signals) {
  const ending = new AbortController();
  for (const signal of signals) {
    if (signal.aborted) ending.abort(signal.reason);
    signal.addEventListener("abort", () => ending.abort(signal.reason), { once: true, signal: ending.signal });
  }
  return ending.signal;
}

/** Wait for some seconds. Throw the reason of a signal. */
export function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, seconds * 1000);
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
  });
}
