/** The handle that applications get of a topic: an async iterable of its events, and an event target. */

import { ReaderTooSlow } from "./errors.js";
import { Position } from "./position.js";

// The most events that wait for a busy reader; then it is told that it is too slow.
export const MOST_WAITING = 10_000;

/**
 * A reader of a topic. `read(message)` returns the events of a message; `onEvent`, `onError` and `onEnd`
 * are told of them. It ends by itself after an event of the type `finished`, and after an error.
 */
export class Reader {
  position = new Position();
  #hub;
  #topic;
  #read;
  #on;
  #isOver = false;

  constructor({ hub, topic, read, onEvent, onError, onEnd }) {
    this.#hub = hub;
    this.#topic = topic;
    this.#read = read;
    this.#on = { event: onEvent, error: onError, end: onEnd };
  }

  begin() {
    if (!this.#isOver) this.#hub.join(this.#topic, this);
  }

  take(message) {
    for (const event of this.#read(message)) {
      if (this.#isOver) return;
      this.#on.event(event);
      if (event.type === "finished") this.#end();
    }
  }

  fail(error) {
    if (this.#isOver) return;
    this.#on.error(error);
    this.#end();
  }

  close() {
    if (this.#isOver) return;
    this.#end();
  }

  #end() {
    this.#isOver = true;
    this.#hub.leave(this.#topic, this);
    this.#on.end();
  }
}

/** The events of one reader, by `for await`. Leaving the loop follows the topic no more. */
class Events {
  #waiting = [];
  #wake = null;
  #error = null;
  #isOver = false;
  #reader;
  #signal;
  #aborted = () => this.#reader.fail(this.#signal.reason);

  constructor(makeReader, signal) {
    this.#reader = makeReader({
      onEvent: (event) => this.#add(event),
      onError: (error) => (this.#error = error),
      onEnd: () => this.#over(),
    });
    this.#signal = signal;
    signal?.addEventListener("abort", this.#aborted);
    if (signal?.aborted) this.#aborted();
    else this.#reader.begin();
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async next() {
    while (!this.#waiting.length && !this.#isOver) {
      await new Promise((resolve) => (this.#wake = resolve));
    }
    if (this.#waiting.length) return { value: this.#waiting.shift(), done: false };
    const error = this.#error;
    this.#error = null;
    if (error) throw error;
    return { value: undefined, done: true };
  }

  async return(value) {
    this.#waiting = [];
    this.#error = null;
    this.#reader.close();
    return { value, done: true };
  }

  #add(event) {
    this.#waiting.push(event);
    if (this.#waiting.length > MOST_WAITING) {
      this.#reader.fail(new ReaderTooSlow(`more than ${MOST_WAITING} events wait for their reader`));
    }
    this.#wakeUp();
  }

  #over() {
    this.#isOver = true;
    this.#signal?.removeEventListener("abort", this.#aborted);
    this.#wakeUp();
  }

  #wakeUp() {
    this.#wake?.();
    this.#wake = null;
  }
}

/**
 * The base of tasks, batches, topics and lists.
 *
 * `for await (const event of it)` follows the topic for as long as the loop runs. `addEventListener` follows
 * it from the first listener on until `close()` or its end; each event is a CustomEvent of its type, with the
 * event as `detail`. An `error` has the error as `detail`.
 */
export class Watchable extends EventTarget {
  #client;
  #topic;
  #reader = null;
  // A listener that comes after the end does not begin anew: the others would be told twice.
  #hasEnded = false;

  constructor(client, topic) {
    super();
    this.#client = client;
    this.#topic = topic;
  }

  get client() {
    return this.#client;
  }

  get topic() {
    return this.#topic;
  }

  /** Return the events of a message. Each kind of topic has its own. */
  readMessage(_message) {
    return [];
  }

  [Symbol.asyncIterator]() {
    return this.events();
  }

  /**
   * Return an async iterator over the events, which `signal` ends by its reason.
   * @param {{signal?: AbortSignal}} [options]
   */
  events({ signal } = {}) {
    return new Events((on) => this.#makeReader(on), signal);
  }

  addEventListener(type, listener, options) {
    super.addEventListener(type, listener, options);
    if (!this.#hasEnded) this.open();
  }

  /** Follow the topic for listeners, again after its end; harmless when repeated. */
  open() {
    if (this.#reader) return;
    this.#hasEnded = false;
    const reader = this.#makeReader({
      onEvent: (event) => {
        this.note(event);
        this.#dispatch(event.type, event);
      },
      onError: (error) => {
        this.#client.failed(this);
        this.#dispatch("error", error);
      },
      onEnd: () => {
        this.#reader = null;
        this.#hasEnded = true;
      },
    });
    this.#reader = reader;
    // The caller may have more listeners to add.
    queueMicrotask(() => reader.begin());
  }

  /** Follow the topic again if it has ended for its listeners. */
  resume() {
    if (this.#hasEnded) this.open();
  }

  /** Follow the topic no more for listeners; loops go on. */
  close() {
    this.#reader?.close();
    this.#hasEnded = false;
  }

  #makeReader(on) {
    return new Reader({ hub: this.#client.hub, topic: this.#topic, read: this.makeRead(), ...on });
  }

  /** Return what reads the messages for one reader, with a memory of its own if it needs one. */
  makeRead() {
    return (message) => this.readMessage(message);
  }

  /** Take an event before the listeners do, and change what is held here. */
  note(_event) {}

  /** Tell the listeners that what is held here has changed. */
  tellUpdate() {
    this.#dispatch("update", this);
  }

  /** Tell the listeners of a request of our own that failed. */
  tellError(error) {
    this.#dispatch("error", error);
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * Return a signal that ends after these seconds, or with another one, and a function that clears its timer.
 * @param {{timeout?: number, signal?: AbortSignal}} [options]
 */
export function deadline({ timeout, signal } = {}) {
  if (timeout === undefined && !signal) return { signal: undefined, clear: () => {} };
  const ending = new AbortController();
  const abort = () => ending.abort(signal.reason);
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort);
  const late = () => ending.abort(new DOMException(`it did not end within ${timeout} s`, "TimeoutError"));
  const timer = timeout === undefined ? undefined : setTimeout(late, timeout * 1000);
  const clear = () => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  };
  return { signal: ending.signal, clear };
}

