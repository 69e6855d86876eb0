/** An event stream that comes back and resumes. A ticket works once, so each opening takes one. */

import { BASE, ProblemError } from "./api.js";
import { Backoff } from "./backoff.js";
import { ERROR_EVENT } from "./protocol.js";
import { Seen } from "./seen.js";

const TYPES = ["connected", "progress", "finished", "notification", "heartbeat", "resync"];

export class EventStream {
  #path;
  #api;
  #on;
  #seen = new Seen();
  #backoff = new Backoff();
  #source = null;
  #timer = 0;
  #closed = false;

  /**
   * @param {string} path the address on this server
   * @param {import("./api.js").Api} api where tickets come from
   * @param {{message: (type: string, data: object) => void, raw: (text: string) => void,
   *          state: (text: string) => void}} on what happens
   */
  constructor(path, api, on) {
    this.#path = path;
    this.#api = api;
    this.#on = on;
    this.#open();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#source?.close();
  }

  async #open() {
    const url = new URL(BASE + this.#path, location.href);
    try {
      url.searchParams.set("ticket", (await this.#api.post("/api/auth/ticket")).ticket);
    } catch (error) {
      this.#failed(error);
      return;
    }
    if (this.#closed) return;
    if (this.#seen.last) url.searchParams.set("last_id", this.#seen.last);
    const source = (this.#source = new EventSource(url));
    for (const type of TYPES) {
      source.addEventListener(type, (event) => this.#receive(type, event));
    }
    // The server's own errors. Where they are called `error` they come as a lost connection does,
    // but with data.
    if (ERROR_EVENT !== "error") {
      source.addEventListener(ERROR_EVENT, (event) => this.#receive("error", event));
    }
    source.onerror = (event) => (event.data ? this.#receive("error", event) : this.#lost(source));
  }

  #receive(type, event) {
    const { data, lastEventId: id } = event;
    this.#on.raw(`event: ${event.type}\ndata: ${data}`);
    if (type === "connected") {
      this.#backoff.reset();
      this.#seen.begin(id);
      this.#on.state("connected");
    } else if (type === "resync") {
      this.#seen.forget(id);
      // The browser repeats the last id under the other events, which have none.
    } else if (type === "progress" || type === "finished" || type === "notification") {
      if (!this.#seen.isNew(id)) return;
    }
    this.#on.message(type, JSON.parse(data));
    if (type === "finished") this.close();
  }

  /** The connection broke, or the answer was no stream; an EventSource does not tell its status. */
  async #lost(source) {
    const refused = source.readyState === EventSource.CLOSED;
    source.close();
    if (refused) await this.#api.get(this.#path).then(() => this.#retry(), (e) => this.#failed(e));
    else this.#retry();
  }

  #failed(error) {
    if (this.#closed) return;
    if (error instanceof ProblemError && error.isFinal) {
      this.close();
      this.#on.state(`closed: ${error.message}`);
    } else {
      this.#retry();
    }
  }

  #retry() {
    if (this.#closed) return;
    this.#on.state("reconnecting …");
    this.#timer = setTimeout(() => this.#open(), this.#backoff.next());
  }
}
