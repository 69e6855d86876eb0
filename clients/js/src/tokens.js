/** The token of a client: a text, or a function that gets one. */

// The share of a token's life that is left when the next one is asked for, and the most of it [s].
const RENEWED_AT = 0.25;
const MOST_LEFT = 60;

/** Return the claims of a JWT, unchecked; an empty object for what is none. */
export function readClaims(token) {
  try {
    const part = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(part), (one) => one.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims === "object" && claims !== null ? claims : {};
  } catch {
    return {};
  }
}

/** Return the time after which a new token must be renewed [s]; null: it does not say. */
export function renewalIn(token, now = Date.now() / 1000) {
  const { exp } = readClaims(token);
  if (typeof exp !== "number") return null;
  const life = exp - now;
  return Math.max(0, life - Math.min(life * RENEWED_AT, MOST_LEFT));
}

function checked(token) {
  if (token === undefined || token === null || token === "") return "";
  // A line end, as a token from a file may have, would look like a lost connection.
  if (typeof token !== "string" || !/^[!-~]+$/.test(token)) {
    throw new TypeError("the token is no text, or has spaces or line ends");
  }
  return token;
}

export class Tokens {
  #source;
  #token = null;
  #renewAt = Infinity;
  #asking = null;

  /** `source` is a token, a function that returns one or its promise, or nothing: then a cookie is used. */
  constructor(source) {
    this.#source = typeof source === "function" ? source : checked(source);
  }

  /** Whether another token can be had. */
  get isRenewable() {
    return typeof this.#source === "function";
  }

  /** Return the token to send now, "" for none. `isFresh`: not one that was got before. */
  async get({ isFresh = false } = {}) {
    if (!this.isRenewable) return this.#source;
    if (this.#token !== null && !isFresh && performance.now() < this.#renewAt) return this.#token;
    this.#asking ??= this.#ask().finally(() => (this.#asking = null));
    return this.#asking;
  }

  async #ask() {
    const token = checked(await this.#source());
    const seconds = renewalIn(token);
    this.#renewAt = seconds === null ? Infinity : performance.now() + seconds * 1000;
    this.#token = token;
    return token;
  }
}
