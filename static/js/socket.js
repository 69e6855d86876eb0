/** A WebSocket that comes back and resumes, as the close code says. */

import { BASE } from "./api.js";
import { Backoff } from "./backoff.js";
import { comesBack } from "./close-codes.js";
import { Seen } from "./seen.js";

const PROTOCOL = "rt.v1";
const FINISHED = 1000;
// The connection counts as dead after this many missed heartbeats in a row.
const MISSED = 2.5;

const WHY = {
  4401: "log in again",
  4403: "not allowed",
  4404: "no such task",
  4429: "too many connections",
};

export class RealtimeSocket {
  #path;
  #token;
  #on;
  #seen = new Seen();
  #backoff = new Backoff();
  #socket = null;
  #timer = 0;
  #watchdog = 0;
  #silence = 0;
  #reconnect = undefined;
  #online = () => this.#hurry();

  /**
   * @param {string} path the address on this server
   * @param {() => string} token returns the token, or ""
   * @param {{message: (type: string, data: object, id?: string) => void, raw: (text: string) => void,
   *          state: (text: string, code?: number) => void}} on what happens; `state` gets the
   *          close code when the socket will not come back
   */
  constructor(path, token, on) {
    this.#path = path;
    this.#token = token;
    this.#on = on;
    addEventListener("online", this.#online);
    this.#open();
  }

  close() {
    removeEventListener("online", this.#online);
    clearTimeout(this.#timer);
    this.#drop();
  }

  #open() {
    this.#timer = 0;
    const url = new URL(BASE + this.#path, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    if (this.#seen.last) url.searchParams.set("last_id", this.#seen.last);
    const socket = (this.#socket = new WebSocket(url, this.#protocols()));
    socket.onmessage = (event) => socket === this.#socket && this.#receive(event.data);
    socket.onclose = (event) => socket === this.#socket && this.#closed(event);
  }

  /** Without a token a cookie says who this is. */
  #protocols() {
    const token = this.#token();
    return token ? [PROTOCOL, `auth.${token}`] : [PROTOCOL];
  }

  #receive(text) {
    this.#on.raw(text);
    const { type, data, id } = JSON.parse(text);
    if (type === "connected") {
      this.#backoff.reset();
      this.#seen.begin(id);
      this.#silence = data.heartbeat_interval * 1000 * MISSED;
      this.#reconnect = data.reconnect;
      this.#on.state("connected");
    }
    this.#watch();
    if (type === "resync") this.#seen.forget(id);
    if (type === "connected" || type === "resync" || this.#seen.isNew(id)) {
      this.#on.message(type, data, id);
    }
  }

  #closed({ code, reason }) {
    this.#drop();
    this.#on.raw(`closed with ${code} ${reason}`);
    if (comesBack(code, this.#reconnect)) {
      this.#comeBack();
      return;
    }
    removeEventListener("online", this.#online);
    this.#on.state(code === FINISHED ? "finished" : `closed: ${WHY[code] ?? (reason || code)}`, code);
  }

  #comeBack() {
    this.#on.state("reconnecting …");
    this.#timer = setTimeout(() => this.#open(), this.#backoff.next());
  }

  #drop() {
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #watch() {
    clearTimeout(this.#watchdog);
    if (!this.#silence) return;
    this.#watchdog = setTimeout(() => {
      this.#on.raw("silent for too long");
      this.#drop();
      this.#comeBack();
    }, this.#silence);
  }

  /** The network is back: do not wait for the rest of the pause. */
  #hurry() {
    if (!this.#timer) return;
    clearTimeout(this.#timer);
    this.#open();
  }
}
