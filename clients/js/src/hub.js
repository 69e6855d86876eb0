/**
 * Topics and their readers, without any I/O: whatever the connection does, each reader gets each
 * message of its topics once.
 *
 * A hub has one upstream: the connection to the server, or the tab that has it. An upstream has
 * `follow(topic, cursor)` and `unfollow(topic)`; it hands in what comes (`receive`), and asks for
 * `places` when it begins anew. To each `subscribed` it adds the cursor that was `asked` for, and hands in
 * nothing of a topic before the answer to the last `follow`.
 *
 * A reader has a `position`, `take(message)` and `fail(error)`. One that comes while its topic is
 * followed is served from what is known. The server is asked for the rest: from the cursor of
 * the reader that is furthest behind, and the others drop what they have. If a reader needs a first
 * snapshot that is not known, the topic begins once without a cursor; the readers that it had pause
 * meanwhile, and then go on from where they were.
 */

import { TopicLog } from "./topic-log.js";
import { errorOfCode } from "./errors.js";
import { hasEnd, isUpTo } from "./protocol.js";

class Followed {
  readers = new Set();
  waiting = new Set();
  paused = new Set();
  // Whether an answer to `follow` is still to come.
  isAsking = true;
  // Those of an inbox, while the readers have still to be told.
  counts = null;

  constructor(topic) {
    this.log = new TopicLog(topic);
  }

  get isEmpty() {
    return !this.readers.size && !this.waiting.size;
  }

  /** Return the cursor after which no reader of this log misses anything; "": there is none yet. */
  placeFrom(cursor) {
    let place = cursor;
    for (const { position } of this.readers) {
      if (position.lastId && (!place || isUpTo(position.lastId, place))) place = position.lastId;
    }
    return place;
  }

  get place() {
    const [first] = this.waiting;
    return this.placeFrom(this.log.lastId || (first?.position.lastId ?? ""));
  }
}

/** Return the message that tells the counts of a `subscribed`; null without any. */
function countsOf(topic, { unread_count: unread, unseen_count: unseen, version }) {
  return version === undefined ? null : { type: "unread_count", topic, data: { unread, unseen, version } };
}

export class Hub {
  #topics = new Map();
  #upstream = null;
  #closedBy = null;

  /** Follow topics by this upstream from now on; null: there is none. */
  attach(upstream) {
    this.#upstream = upstream;
  }

  get isEmpty() {
    return !this.#topics.size;
  }

  /** Return each topic with the cursor to follow it from, for an upstream that begins anew. */
  places() {
    return new Map([...this.#topics.keys()].map((topic) => [topic, this.placeOf(topic)]));
  }

  /** Return the cursor to follow a topic from; undefined for one that nobody reads. */
  placeOf(topic) {
    const followed = this.#topics.get(topic);
    if (!followed) return undefined;
    followed.isAsking = true;
    return followed.place;
  }

  /** Let a reader follow a topic from its position. */
  join(topic, reader) {
    if (this.#closedBy) return reader.fail(this.#closedBy);
    const known = this.#topics.get(topic);
    if (known) {
      known.waiting.add(reader);
      return known.isAsking ? undefined : this.#serve(topic, known);
    }
    const followed = new Followed(topic);
    followed.waiting.add(reader);
    this.#topics.set(topic, followed);
    return this.#upstream?.follow(topic, followed.place);
  }

  /** Let a reader go; harmless when repeated. */
  leave(topic, reader) {
    const followed = this.#topics.get(topic);
    if (!followed) return;
    for (const set of [followed.readers, followed.waiting, followed.paused]) set.delete(reader);
    if (!followed.isEmpty) return;
    this.#topics.delete(topic);
    this.#upstream?.unfollow(topic);
  }

  /** Take a message of a topic from the upstream. */
  receive(message) {
    const followed = this.#topics.get(message.topic);
    if (!followed) return;
    if (message.type === "error") this.refuse(message.topic, errorOfCode(message.data));
    else if (message.type === "subscribed") this.#subscribed(followed, message);
    else this.#deliver(followed, message);
  }

  /** Learn that a topic cannot be followed; null: only for now. */
  refuse(topic, error) {
    const followed = this.#topics.get(topic);
    if (!followed || !error) return;
    this.#topics.delete(topic);
    for (const reader of [...followed.readers, ...followed.waiting]) reader.fail(error);
  }

  /** Learn that nothing can be followed until `reopen`. */
  fail(error) {
    this.#closedBy = error;
    for (const topic of [...this.#topics.keys()]) this.refuse(topic, error);
  }

  reopen() {
    this.#closedBy = null;
  }

  #subscribed(followed, message) {
    const { topic, asked, data } = message;
    followed.isAsking = false;
    followed.log.take(message);
    if (asked) followed.paused.clear();
    // The counts of another log are told after the `resync`.
    followed.counts = countsOf(topic, data);
    if (data.recovered) this.#tellCounts(followed);
    this.#serve(topic, followed, asked);
  }

  #tellCounts(followed) {
    const { counts } = followed;
    followed.counts = null;
    if (counts) this.#tellAll(followed, counts);
  }

  #tellAll(followed, message) {
    for (const reader of [...followed.readers]) {
      if (!followed.paused.has(reader)) this.#hand(reader, message);
    }
  }

  #deliver(followed, message) {
    followed.log.take(message);
    // The upstream follows it no more.
    if (message.type === "finished") this.#topics.delete(message.topic);
    this.#tellAll(followed, message);
    if (message.type === "resync") this.#tellCounts(followed);
    if (message.type !== "finished") return;
    // They have not come so far.
    for (const reader of [...followed.waiting, ...followed.paused]) this.join(message.topic, reader);
  }

  #hand(reader, message) {
    if (reader.position.take(message)) reader.take(message);
  }

  /** Serve the readers that wait. `asked` is what the upstream has just begun from. */
  #serve(topic, followed, asked) {
    for (const reader of [...followed.waiting]) {
      const { lastId } = reader.position;
      const messages = followed.log.catchUp(lastId) ?? this.#whatComes(topic, lastId, asked);
      if (!messages) continue;
      followed.waiting.delete(reader);
      followed.readers.add(reader);
      for (const message of messages) this.#hand(reader, message);
    }
    if (followed.waiting.size) this.#ask(topic, followed);
    else if (followed.paused.size) this.#follow(topic, followed, followed.place);
  }

  /** Return the first message for a reader to whom the upstream brings all that it needs; else null. */
  #whatComes(topic, lastId, asked) {
    const comes = lastId ? asked && (asked === lastId || isUpTo(asked, lastId)) : asked === "" && hasEnd(topic);
    return comes ? [{ type: "subscribed", topic, data: { recovered: lastId !== "" } }] : null;
  }

  #ask(topic, followed) {
    const [first] = followed.waiting;
    const cursor = first.position.lastId;
    if (!cursor) for (const reader of followed.readers) followed.paused.add(reader);
    this.#follow(topic, followed, cursor && followed.placeFrom(cursor));
  }

  #follow(topic, followed, cursor) {
    followed.isAsking = true;
    this.#upstream?.follow(topic, cursor);
  }
}
