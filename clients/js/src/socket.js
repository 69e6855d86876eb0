/** One WebSocket to `/api/ws`: opens, follows topics, and tells how it ended. */

import { AUTH_PREFIX, SUBPROTOCOL } from "./protocol.js";
import { Asked } from "./asked.js";

const OPENING_SECONDS = 10;
const ABNORMAL = 1006;
// After an error the close that tells more comes within this time [s].
const CLOSE_SECONDS = 0.1;

/**
 * `on` learns what happens: `connected(data)`, `message(message)`, and once `lost(how)`, as `Course.lost`
 * takes it. Nothing is told after `close()`.
 */
export class Socket {
  transport = "socket";
  #socket;
  #on;
  #isOpen = false;
  #isOver = false;
  #problem = null;
  #asked = new Asked();
  #timer;

  constructor({ base, token, locale = "", WebSocket, on, openingSeconds = OPENING_SECONDS }) {
    this.#on = on;
    const url = new URL("api/ws", base);
    // A browser lets no script set a header of a WebSocket.
    if (locale) url.searchParams.set("locale", locale);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.#socket = new WebSocket(url.href, token ? [SUBPROTOCOL, AUTH_PREFIX + token] : [SUBPROTOCOL]);
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onclose = ({ code, reason }) => this.#end({ code, reason });
    this.#socket.onerror = () => this.#fail();
    this.#timer = setTimeout(() => this.lose("it did not open in time"), openingSeconds * 1000);
  }

  /** Follow a topic from a cursor; "": begin with its snapshot. Again: begin anew. Before `connected`: nothing. */
  follow(topic, cursor) {
    if (!this.#isOpen) return;
    const ref = this.#asked.ask(topic, cursor);
    this.#send({ type: "subscribe", ref, data: cursor ? { topic, last_id: cursor } : { topic } });
  }

  unfollow(topic) {
    this.#asked.forget(topic);
    this.#send({ type: "unsubscribe", data: { topic } });
  }

  /** Go on with another token of the same user. */
  renew(token) {
    this.#send({ type: "auth", data: { token } });
  }

  /** Ask for a sign of life. */
  ping() {
    this.#send({ type: "ping" });
  }

  /** Give the connection up, as if it had been lost. */
  lose(reason) {
    this.#end({ code: ABNORMAL, reason });
    this.#socket.close();
  }

  close() {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#socket.close();
  }

  #send(message) {
    if (this.#isOpen && !this.#isOver) this.#socket.send(JSON.stringify(message));
  }

  #receive(text) {
    if (this.#isOver) return;
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return this.lose("a message that is no JSON");
    }
    const { type, topic, data } = message;
    if (type === "connected") {
      this.#isOpen = true;
      clearTimeout(this.#timer);
      this.#on.connected(data);
    } else if (topic === undefined || topic === null) {
      if (type === "error") this.#problem = data;
      this.#on.message(message);
    } else {
      const accepted = this.#asked.accept(message);
      if (accepted) this.#on.message(accepted);
    }
  }

  /** Take an error. A close follows it, but the WebSocket of Node 20 has none when nobody answers. */
  #fail() {
    clearTimeout(this.#timer);
    if (!this.#isOver) this.#timer = setTimeout(() => this.lose("the connection failed"), CLOSE_SECONDS * 1000);
  }

  #end(how) {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    const reason = this.#problem?.message ?? how.reason;
    this.#on.lost({ transport: this.transport, wasOpen: this.#isOpen, ...how, reason });
  }
}
