/** The HTTP side: JSON in and out, problem documents as errors. */

export class ProblemError extends Error {
  constructor(problem) {
    super([problem.detail ?? problem.title, ...(problem.errors ?? [])].join("; "));
    this.status = problem.status;
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

  post(path, body = {}) {
    return this.#send("POST", path, body);
  }

  delete(path) {
    return this.#send("DELETE", path);
  }

  async #send(method, path, body) {
    const headers = { Accept: "application/json" };
    if (this.token()) headers.Authorization = `Bearer ${this.token()}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    const value = text ? JSON.parse(text) : null;
    if (!answer.ok) throw new ProblemError(value ?? { status: answer.status, title: answer.statusText });
    return value;
  }
}
