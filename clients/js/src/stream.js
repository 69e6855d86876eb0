/** One event stream of `/api/stream`, read by fetch: for where WebSockets do not get through. */

import { EventStreamParser, messageOf } from "./event-stream.js";
import { readRetryAfter } from "./errors.js";
import { Timer } from "./timer.js";

const STREAM_OPENING_SECONDS = 15;
// Topics that are asked for one after another are asked for at once [s].
const GATHER_SECONDS = 0.02;
// Statuses that are those of the first topic when none can be followed, or say that there are too many.
const OF_A_TOPIC = new Set([400, 403, 404]);

/** Return the id of an event after which each topic is at its cursor (docs/protocol.md). */
export function placesId(places) {
  const cursors = [...places.values()];
  return cursors.some(Boolean) ? `c~${cursors.join(".")}` : "";
}

/**
 * A change of its topics opens it anew, each topic from the cursor that `places()` gives then.
 *
 * `on` learns what happens, as that of a `Socket`, and `refused(topic, status, document)`.
 */
export class Stream {
  transport = "stream";
  #options;
  #on;
  #isOver = false;
  #isOpen = false;
  #abort = null;
  #reopening = new Timer(() => this.#open());

  constructor({ base, token, locale = "", fetch, places, on }) {
    this.#options = { base, token, locale, fetch, places };
    this.#on = on;
    this.#open();
  }

  follow() {
    this.#change();
  }

  unfollow() {
    this.#change();
  }

  renew(token) {
    // The stream ends with its token, and its topics go on in the next one.
    this.#options.token = token;
    this.#change();
  }

  ping() {}

  lose(reason) {
    this.#end({ reason });
  }

  close() {
    this.#isOver = true;
    this.#reopening.clear();
    this.#abort?.abort();
  }

  #change() {
    if (!this.#isOver) this.#reopening.set(GATHER_SECONDS);
  }

  async #open() {
    if (this.#isOver) return;
    this.#abort?.abort();
    const abort = (this.#abort = new AbortController());
    const places = this.#options.places();
    if (!places.size) return;
    const opening = setTimeout(() => abort.abort(), STREAM_OPENING_SECONDS * 1000);
    try {
      await this.#read(places, abort.signal, () => clearTimeout(opening));
    } catch (error) {
      if (this.#abort === abort) this.#end({ reason: String(error.message ?? error) });
    } finally {
      clearTimeout(opening);
    }
  }

  async #read(places, signal, begun) {
    const { base, token, locale, fetch } = this.#options;
    const url = new URL("api/stream", base);
    url.searchParams.set("topics", [...places.keys()].join(","));
    if (locale) url.searchParams.set("locale", locale);
    const headers = { Accept: "text/event-stream" };
    if (token) headers.Authorization = `Bearer ${token}`;
    const id = placesId(places);
    if (id) headers["Last-Event-ID"] = id;
    const answer = await fetch(url, { headers, signal, cache: "no-store" });
    if (signal.aborted) return;
    if (answer.status !== 200) return this.#refused(answer, places, signal);
    if (!answer.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      throw new Error("the answer is no event stream");
    }
    const problem = await this.#readEvents(answer.body, places, signal, begun);
    // With its last topic it ended rightly; another one has been asked for.
    if (!signal.aborted && (problem || !this.#reopening.isSet)) this.#end({ reason: "the stream ended", problem });
  }

  /** Hand in what comes; return the last `error` about the connection. */
  async #readEvents(body, places, signal, begun) {
    const parser = new EventStreamParser();
    const reader = body.getReader();
    let problem;
    for (let part = await reader.read(); !part.done && !signal.aborted; part = await reader.read()) {
      this.#on.alive();
      for (const block of parser.feed(part.value)) {
        const message = messageOf(block);
        if (message.type === "connected") {
          begun();
          this.#isOpen = true;
          this.#on.connected(message.data, parser.retrySeconds);
        } else {
          if (message.type === "error" && !message.topic) problem = message.data;
          this.#on.message(message.type === "subscribed" ? { ...message, asked: places.get(message.topic) } : message);
        }
        if (signal.aborted || this.#isOver) return undefined;
      }
    }
    return problem;
  }

  async #refused(answer, places, signal) {
    const { status } = answer;
    const document = await answer.json().catch(() => ({}));
    if (signal.aborted) return;
    if (OF_A_TOPIC.has(status)) {
      // Too many topics, or a wrong one: the newest goes. Else none can be followed.
      const topics = [...places.keys()];
      this.#on.refused(status === 400 ? topics.at(-1) : topics[0], status, document);
      this.#change();
      return;
    }
    const retryAfter = readRetryAfter(answer.headers.get("Retry-After"));
    this.#end(status < 400 ? { reason: `answered by ${status}` } : { status, document, retryAfter, reason: document.detail });
  }

  #end(how) {
    if (this.#isOver) return;
    this.close();
    this.#on.lost({ transport: this.transport, wasOpen: this.#isOpen, ...how });
  }
}
