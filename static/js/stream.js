/** An event stream that comes back and resumes. A ticket works once, so each opening takes one. */

import { Backoff } from "./backoff.js";
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
   * @param {{message: (type: string, data: object) => void, raw: (text: string) => void}} on
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
    const url = new URL(this.#path, location.href);
    try {
      url.searchParams.set("ticket", (await this.#api.post("/api/auth/ticket")).ticket);
    } catch {
      this.#retry();
      return;
    }
    if (this.#closed) return;
    if (this.#seen.last) url.searchParams.set("last_id", this.#seen.last);
    const source = (this.#source = new EventSource(url));
    for (const type of TYPES) {
      source.addEventListener(type, (event) => this.#receive(type, event));
    }
    // An error of the connection has no data; an `error` event of the server has.
    source.onerror = (event) => (event.data ? this.#receive("error", event) : this.#retry());
  }

  #receive(type, event) {
    this.#on.raw(`event: ${type}\ndata: ${event.data}`);
    if (type === "connected") {
      this.#backoff.reset();
      this.#seen.begin(event.lastEventId);
    } else if (type !== "heartbeat" && type !== "error" && !this.#seen.isNew(event.lastEventId)) {
      return;
    }
    this.#on.message(type, JSON.parse(event.data));
    if (type === "finished") this.close();
  }

  #retry() {
    this.#source?.close();
    if (!this.#closed) this.#timer = setTimeout(() => this.#open(), this.#backoff.next());
  }
}
