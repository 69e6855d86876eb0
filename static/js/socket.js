/** A WebSocket that comes back and resumes, as the close code says. */

import { Backoff } from "./backoff.js";
import { Seen } from "./seen.js";

const PROTOCOL = "rt.v1";

/** Codes after which there is no sense in coming back: done, too large, and our 44xx. */
function isFinal(code) {
  return code === 1000 || code === 1003 || code === 1009 || (code >= 4400 && code < 4500);
}

export class RealtimeSocket {
  #path;
  #token;
  #on;
  #seen = new Seen();
  #backoff = new Backoff();
  #socket = null;
  #timer = 0;

  /**
   * @param {string} path the address on this server
   * @param {() => string} token returns the token
   * @param {{message: (type: string, data: object) => void, state: (text: string) => void,
   *          raw: (text: string) => void}} on what happens
   */
  constructor(path, token, on) {
    this.#path = path;
    this.#token = token;
    this.#on = on;
    this.#open();
  }

  send(type, data = {}) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ type, data }));
  }

  close() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #open() {
    const url = new URL(this.#path, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    if (this.#seen.last) url.searchParams.set("last_id", this.#seen.last);
    const socket = (this.#socket = new WebSocket(url, [PROTOCOL, `auth.${this.#token()}`]));
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#closed(socket, event);
  }

  #receive(text) {
    this.#on.raw(text);
    const { type, data, id } = JSON.parse(text);
    if (type === "connected") {
      this.#backoff.reset();
      this.#seen.begin(id);
      this.#on.state("connected");
    } else if (!this.#seen.isNew(id)) {
      return;
    }
    this.#on.message(type, data);
  }

  #closed(socket, { code, reason }) {
    if (socket !== this.#socket) return;
    this.#on.raw(`closed with ${code} ${reason}`);
    if (isFinal(code)) {
      this.#on.state(code === 1000 ? "finished" : `closed: ${reason || code}`);
      return;
    }
    this.#on.state("reconnecting …");
    this.#timer = setTimeout(() => this.#open(), this.#backoff.next());
  }
}
