/** The HTTP side: JSON in and out, problem documents as errors. */

// Where the server's paths begin: it may serve under a prefix.
export const BASE = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");

export class ProblemError extends Error {
  constructor(problem) {
    super([problem.detail ?? problem.title, ...(problem.errors ?? [])].join("; "));
    this.status = problem.status;
  }

  /** Whether the same request would fail again: it is wrong, not merely too early. */
  get isFinal() {
    return this.status >= 400 && this.status < 500 && this.status !== 408 && this.status !== 429;
  }
}

export class Api {
  /** @param {() => string} token returns the token to send, or "". */
  constructor(token) {
    this.token = token;
  }

  get(path) {
    return this.#send("GET", path);
  }

  /** @param {RequestInit} [options] such as `keepalive`: go on when the page is left. */
  post(path, body = {}, options = {}) {
    return this.#send("POST", path, body, options);
  }

  put(path, body) {
    return this.#send("PUT", path, body);
  }

  delete(path) {
    return this.#send("DELETE", path);
  }

  async #send(method, path, body, options = {}) {
    const headers = { Accept: "application/json" };
    if (this.token()) headers.Authorization = `Bearer ${this.token()}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const answer = await fetch(BASE + path, { ...options, method, headers, body: body && JSON.stringify(body) })
      .catch(() => { throw new Error("The server cannot be reached"); });
    // A proxy in between answers its own errors in HTML.
    const isJson = (answer.headers.get("Content-Type") ?? "").includes("json");
    const value = isJson ? await answer.json() : null;
    if (!answer.ok) throw new ProblemError(value ?? { status: answer.status, title: answer.statusText });
    return value;
  }
}
