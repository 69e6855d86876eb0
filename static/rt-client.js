// @ts-nocheck

/** The JavaScript client of tornado_rt. Its source, in parts, is clients/js/src; docs/clients.md. */

/** The wait before the next attempt. */

// 2 to the power of more would only overflow.
const MOST_DOUBLINGS = 32;

/**
 * Waits with full jitter: at random between 0 and a bound that doubles up to `most` [s].
 *
 * So clients that were cut off together do not come back together.
 */
class Backoff {
  constructor({ first = 1, most = 30, random = Math.random } = {}) {
    this.first = first;
    this.most = most;
    this.random = random;
  }

  /**
   * Return the wait after this many failures in a row [s].
   *
   * `first` takes the place of ours: the server's `retry:`. `retryAfter` is the least wait.
   */
  seconds(failures, { first = this.first, retryAfter = null } = {}) {
    if (retryAfter !== null) return retryAfter + this.random() * this.first;
    const doublings = Math.min(Math.max(failures - 1, 0), MOST_DOUBLINGS);
    return Math.min(this.most, first * 2 ** doublings) * this.random();
  }
}

/** Names and tables of the wire (docs/protocol.md). */

const SUBPROTOCOL = "rt.v1";
const AUTH_PREFIX = "auth.";
const ME = "me";
const TASKS = "tasks";

// Whether a client comes back after a close code. `connected` has the server's own table.
const RECONNECT = {
  1000: false, 1001: true, 1002: false, 1003: false, 1005: true, 1006: true, 1007: false, 1008: false,
  1009: false, 1010: false, 1011: true, 1012: true, 1013: true, 1014: true,
  4400: false, 4401: false, 4403: false, 4404: false, 4409: false, 4429: false, 4508: true, 4510: true,
};
// The same for a code that is not listed, by its hundreds; after any other a client comes back.
const RECONNECT_RANGES = { 44: false, 45: true };
const UNAUTHORIZED = 4401;

// Messages that a client may drop when it has seen their ids.
const ONCE = new Set(["progress", "finished", "notification", "changed", "message"]);

// A limit, and statuses that the server or a proxy before it has only for a while.
const PASSING = new Set([429, 502, 503, 504]);
const TOO_MANY = 429;

// The `code` of an `error` about a topic, by the status that says the same. Other codes pass.
const STATUS_OF_CODE = {
  bad_request: 400, bad_message: 400, bad_token: 401, forbidden: 403, not_found: 404, conflict: 409,
};

/** Return whether a client comes back after a close code. */
function comesBack(code, table = RECONNECT) {
  return table[code] ?? RECONNECT_RANGES[Math.floor(code / 100)] ?? true;
}

/** Return whether a topic is a task or a batch, which has an end. */
function hasEnd(topic) {
  return topic.startsWith("task:") || topic.startsWith("batch:");
}

/** Return the epoch and the offset of a cursor. */
function parts(cursor) {
  const cut = cursor.lastIndexOf("-");
  return [cursor.slice(0, cut), BigInt(cursor.slice(cut + 1))];
}

/** Return whether two cursors belong to one log. */
function sameEpoch(one, other) {
  return one !== "" && other !== "" && parts(one)[0] === parts(other)[0];
}

/** Return whether a cursor stands at another of the same log, or before it. */
function isUpTo(cursor, other) {
  return sameEpoch(cursor, other) && parts(cursor)[1] <= parts(other)[1];
}

/**
 * The errors of this module.
 *
 *     RealtimeError
 *       ApiError           the server refused a request or a topic
 *       ConnectionLost     the server could not be reached, or did not answer
 *       ConnectionClosed   the server closed the connection, and asks not to come back
 *       ProtocolError      the answer is not one of a tornado_rt server
 *       ReaderTooSlow      a reader did not take its events in time
 *       TaskEnded          a task ended without a result
 *         TaskFailed, TaskCancelled
 *
 * A time that is over is a DOMException of the name TimeoutError, a signal gives its own reason.
 */


class RealtimeError extends Error {
  get name() {
    return this.constructor.name;
  }
}

/** The server could not be reached, or did not answer. `wasSent`: it may have got the request. */
class ConnectionLost extends RealtimeError {
  /**
   * @param {string} message
   * @param {{wasSent?: boolean, cause?: any}} [about]
   */
  constructor(message, { wasSent = true, cause } = {}) {
    super(message, { cause });
    this.wasSent = wasSent;
  }
}

/** The connection is closed for good. `code` is the close code of a WebSocket (docs/protocol.md). */
class ConnectionClosed extends RealtimeError {
  constructor(code, reason = "") {
    super(`closed with ${code}${reason ? `: ${reason}` : ""}`);
    this.code = code;
    this.reason = reason;
  }
}

class ProtocolError extends RealtimeError {}

/** A reader left more events unread than are kept for it. */
class ReaderTooSlow extends RealtimeError {}

/** A task ended without a result. `status` is how, `error` the reason or null. */
class TaskEnded extends RealtimeError {
  constructor(taskId, status, error) {
    super(`task ${taskId} is ${status}${error ? `: ${error}` : ""}`);
    this.taskId = taskId;
    this.status = status;
    this.error = error ?? null;
  }
}

class TaskFailed extends TaskEnded {}

class TaskCancelled extends TaskEnded {}

/**
 * The server refused a request, or a topic.
 *
 * `status`, `title`, `detail` and `errors` are those of the problem document (RFC 9457), `document` is
 * all of it. `retryAfter` is in seconds, or null.
 */
class ApiError extends RealtimeError {
  constructor(status, document = {}, retryAfter = null) {
    const { title = "", detail = "", errors } = document;
    const faults = Array.isArray(errors) ? errors.map(String) : [];
    super([status, [detail || title, ...faults].filter(Boolean).join("; ")].join(" ").trimEnd());
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.errors = faults;
    this.document = document;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later. */
  get isPassing() {
    return PASSING.has(this.status);
  }
}

/** Return the error of a code on a connection; null for one that passes. */
function errorOfCode({ code = "", message = "" } = {}) {
  const status = STATUS_OF_CODE[code];
  return status ? new ApiError(status, { status, title: code, detail: message }) : null;
}

/** Read `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date. Return null for anything else. */
function readRetryAfter(text, now = Date.now()) {
  if (!text) return null;
  const seconds = /^\s*\d/.test(text) && Number.isFinite(Number(text)) ? Number(text) : (Date.parse(text) - now) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : null;
}

/** Return an error as plain data, which may go to another tab. */
function packError(error) {
  if (error instanceof ApiError) {
    return { kind: "api", status: error.status, document: error.document, retryAfter: error.retryAfter };
  }
  if (error instanceof ConnectionClosed) return { kind: "closed", code: error.code, reason: error.reason };
  return { kind: "other", message: String(error?.message ?? error) };
}

/** Return the error that was packed. */
function unpackError(packed) {
  if (packed.kind === "api") return new ApiError(packed.status, packed.document, packed.retryAfter);
  if (packed.kind === "closed") return new ConnectionClosed(packed.code, packed.reason);
  return new RealtimeError(packed.message);
}

/** The known state of one followed topic, so that another reader can begin without the server. */


// The most messages that are kept for a reader that comes with a cursor.
const KEPT = 200;
// The most tasks that a list keeps. The server sends the newest 50 of them, and each that is made.
const MOST_TASKS = 1_000;

/** Return a list of tasks after a change: an item takes the place of its task, or stands first. */
function withChange(list, { items = [], deleted = [] }) {
  const gone = new Set(deleted);
  const known = new Map(list.map((item) => [item.task_id, item]));
  const made = [];
  for (const item of items) {
    if (known.has(item.task_id)) known.set(item.task_id, mergeTask(known.get(item.task_id), item));
    else made.unshift(item);
  }
  return [...made, ...known.values()].filter((item) => !gone.has(item.task_id)).slice(0, MOST_TASKS);
}

// A change has these when they are known; one that is not there has no value any more.
const STARTS = ["position", "starts_in", "starts_in_low", "starts_in_high"];
const WHEN_KNOWN = [...STARTS, "run_at", "started_at", "ended_at", "error"];

function mergeTask(known, item) {
  const cleared = Object.fromEntries(WHEN_KNOWN.filter((name) => name in known).map((name) => [name, null]));
  return { ...known, ...cleared, ...item };
}

class TopicLog {
  // Whether the server has answered that the topic is followed.
  isOpen = false;
  lastId = "";
  #topic;
  // A message or list that stands for all before it; undefined while it is unknown.
  #state = undefined;
  #kept = [];
  // The messages after this cursor are kept.
  #keptAfter = "";

  constructor(topic) {
    this.#topic = topic;
  }

  /** Take a message of the server. */
  take(message) {
    const { type, data, id } = message;
    if (type === "subscribed") this.#open(message);
    else if (type === "resync") this.#begin(id);
    else if (ONCE.has(type) && id) {
      // It comes again for a reader that is behind.
      if (isUpTo(id, this.lastId)) return;
      this.#keep(message);
    }
    if (id && !isUpTo(id, this.lastId)) this.lastId = id;
    this.#note(type, data, message);
  }

  /** Return the messages for a reader that has come up to a cursor ("": nowhere); null: unknown. */
  catchUp(cursor) {
    if (!cursor) return this.#opening();
    if (!sameEpoch(cursor, this.lastId)) return null;
    const recovered = { type: "subscribed", topic: this.#topic, data: { recovered: true, ...this.#counts() }, id: cursor };
    if (isUpTo(this.lastId, cursor)) return [recovered];
    if (!isUpTo(this.#keptAfter, cursor)) return null;
    return [recovered, ...this.#kept.filter((one) => !isUpTo(one.id, cursor))];
  }

  #open({ data, id, asked }) {
    this.isOpen = true;
    // For a reader that is behind the others the server begins before what is kept: that stays right.
    if (id && (!asked || !sameEpoch(id, this.lastId))) this.#begin(id);
    if (!asked || this.#topic === ME) this.#state = this.#firstState(data);
  }

  #begin(id = "") {
    this.lastId = id;
    this.#keptAfter = id;
    this.#kept = [];
  }

  #firstState(data) {
    if (this.#topic === ME) return data;
    return hasEnd(this.#topic) ? undefined : (data.snapshot ?? null);
  }

  #keep(message) {
    this.#kept.push(message);
    if (this.#kept.length > KEPT) this.#keptAfter = this.#kept.shift().id;
  }

  #note(type, data, message) {
    if (type === "progress") this.#state = message;
    else if (type === "unread_count" && this.#topic === ME) {
      const { unread, unseen, version } = data;
      if (version >= this.#state.version) {
        this.#state = { unread_count: unread, unseen_count: unseen, version };
      }
    } else if (type === "resync" && this.#topic === ME) this.#state = { ...this.#state, version: -1 };
    else if (this.#topic === TASKS) this.#noteTasks(type, data);
    else if (type === "message") this.#state = data;
  }

  #noteTasks(type, data) {
    if (type === "list") this.#state = data;
    else if (type === "resync") this.#state = undefined;
    else if (type === "changed" && this.#state) {
      this.#state = { ...this.#state, items: withChange(this.#state.items, data) };
    }
  }

  #counts() {
    const { unread_count, unseen_count, version } = (this.#topic === ME && this.#state) || {};
    return version === undefined ? {} : { unread_count, unseen_count, version };
  }

  #opening() {
    const state = this.#state;
    if (state === undefined) return null;
    const first = { type: "subscribed", topic: this.#topic };
    // The snapshot has the last id, and is yet to come.
    if (hasEnd(this.#topic)) return [{ ...first, data: { recovered: false } }, state];
    const data = this.#topic === ME ? this.#counts() : { snapshot: state };
    return [{ ...first, data: { recovered: false, ...data }, id: this.lastId }];
  }
}

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

class Hub {
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

/** The part of an inbox that is shown, kept true by the events, without any I/O. */

/** Return whether a notification belongs into the inbox: it is neither archived nor snoozed. */
function isInInbox({ archived_at, snoozed_until }) {
  return !archived_at && !snoozed_until;
}

class InboxList {
  #items = new Map();
  // Events have told this since the list was asked for: it is newer than the answer, or the same.
  #touched = new Set();
  #next = null;
  isLoaded = false;

  /** The notifications, the newest first. */
  get items() {
    return [...this.#items.values()].sort((one, other) => other.seq - one.seq);
  }

  /** The place of the next page, null at the end. */
  get next() {
    return this.#next;
  }

  /** Forget all: the list is asked for anew. */
  clear() {
    this.#items.clear();
    this.#next = null;
    this.isLoaded = false;
    this.asking();
  }

  /** Note that a page is being asked for. */
  asking() {
    this.#touched.clear();
  }

  /** Take a page that was asked for. */
  add({ items, next }) {
    for (const item of items) {
      if (!this.#touched.has(item.id)) this.#items.set(item.id, item);
    }
    this.#next = next;
    this.isLoaded = true;
  }

  /** Take what has changed. */
  change({ items = [], deleted = [] }) {
    for (const item of items) {
      this.#touched.add(item.id);
      if (!isInInbox(item) || this.#isBelow(item)) this.#items.delete(item.id);
      else this.#items.set(item.id, item);
    }
    for (const id of deleted) {
      this.#touched.add(id);
      this.#items.delete(id);
    }
  }

  /** Return whether an item stands on a page that is still to be read. */
  #isBelow({ id, seq }) {
    if (!this.isLoaded || this.#next === null || this.#items.has(id)) return false;
    return seq < Math.min(...[...this.#items.values()].map((one) => one.seq));
  }
}

/** Up to where one reader of a topic has come, so that no message comes twice. */


// The most ids that are remembered. A server sends some hundreds of messages again at most.
const REMEMBERED = 2_000;

class Position {
  // The ids whose order the last id does not tell: a log may go on under another epoch.
  #seen = new Set();

  constructor(lastId = "") {
    this.lastId = lastId;
  }

  /** Return whether the reader is to get a message, and remember that it did. */
  take({ type, id }) {
    if (type === "resync") this.#seen.clear();
    else if (ONCE.has(type) && id) {
      if (isUpTo(id, this.lastId) || this.#seen.has(id)) return false;
      this.#remember(id);
    }
    if (id) this.lastId = id;
    return true;
  }

  #remember(id) {
    this.#seen.add(id);
    if (this.#seen.size > REMEMBERED) this.#seen.delete(this.#seen.values().next().value);
  }
}

/** Keeps the counts of the highest version: they come in any order. */
class NewestCounts {
  #version = -1;

  /** Return whether no newer counts are known, and remember these. */
  take({ version = 0 }) {
    if (version <= this.#version) return false;
    this.#version = version;
    return true;
  }

  /** Forget them: after a `resync` the log may count from a lower number. */
  forget() {
    this.#version = -1;
  }
}

/** One timer that can be set anew. */

// The longest wait of `setTimeout`; more would be none.
const MOST_MS = 2 ** 31 - 1;

class Timer {
  #id = undefined;
  #callback;

  constructor(callback) {
    this.#callback = callback;
  }

  /** Whether it is set and has not gone off. */
  get isSet() {
    return this.#id !== undefined;
  }

  /** Go off after these seconds, and not at the time that was set before. */
  set(seconds) {
    this.clear();
    this.#id = setTimeout(() => {
      this.#id = undefined;
      this.#callback();
    }, Math.min(seconds * 1000, MOST_MS));
  }

  clear() {
    clearTimeout(this.#id);
    this.#id = undefined;
  }
}

/** Return the seconds of a clock that is never set back. */
function now() {
  return performance.now() / 1000;
}

/** Requests of the API: what is sent, and how often it may be sent. */


// The server answers within 10 s, or says that it does not.
const ANSWER_SECONDS = 30;
// Methods that do the same when they are repeated (RFC 9110 section 9.2.2).
const IDEMPOTENT = new Set(["GET", "PUT", "DELETE"]);

/** Return an `Idempotency-Key` that nobody else has. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (one) => one.toString(16).padStart(2, "0")).join("");
}

/** Return a path below a folder. Throw TypeError for a name that is none. */
function pathOf(folder, ...names) {
  for (const name of names) {
    if (typeof name !== "string" || /^\.*$/.test(name)) throw new TypeError(`not a name: ${JSON.stringify(name)}`);
  }
  return [folder, ...names.map((name) => encodeURIComponent(name).replaceAll("%3A", ":"))].join("/");
}

/** Return the query of arguments: a list is repeated, what is null or undefined is left out. */
function queryOf(args) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(args)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null) query.append(name, one instanceof Date ? one.toISOString() : String(one));
    }
  }
  const text = query.toString();
  return text ? `?${text}` : "";
}

/** The attempts of one request, and how long they may go on: `patience` [s] since `began`. */
class Attempts {
  #failures = 0;

  constructor({ isRepeatable, patience = 30, backoff = new Backoff(), began }) {
    this.isRepeatable = isRepeatable;
    this.patience = patience;
    this.backoff = backoff;
    this.began = began;
  }

  /** Return how long to wait before the next attempt [s]. Throw `error` for the last one. */
  pause(error, at) {
    this.#failures += 1;
    const wait = this.backoff.seconds(this.#failures, { retryAfter: error.retryAfter ?? null });
    if (!this.#mayRepeat(error) || at + wait > this.began + this.patience) throw error;
    return wait;
  }

  #mayRepeat(error) {
    if (error instanceof ConnectionLost) return this.isRepeatable || !error.wasSent;
    // A limit is checked before anything is done; a fault may come amid the work.
    return error instanceof ApiError && error.isPassing && (this.isRepeatable || error.status === TOO_MANY);
  }
}

/** Sends requests, and sends them again where that does no harm. */
class Requester {
  #options;

  constructor({ base, tokens, locale, fetch, patience, backoff }) {
    this.#options = { base, tokens, locale, fetch, patience, backoff };
  }

  /**
   * Return the JSON of the answer, null for none. `key` is its `Idempotency-Key`; `isHarmless` says of a
   * POST without one that a repetition changes nothing. Throw ApiError, ConnectionLost, ProtocolError.
   * @param {string} method
   * @param {string} path
   * @param {{body?: any, key?: string, isHarmless?: boolean, signal?: AbortSignal, keepalive?: boolean}} [options]
   */
  async send(method, path, { body, key, isHarmless = false, signal, keepalive } = {}) {
    const { locale, patience, backoff } = this.#options;
    const isRepeatable = IDEMPOTENT.has(method) || key !== undefined || isHarmless;
    const attempts = new Attempts({ isRepeatable, patience, backoff, began: now() });
    const init = { method, headers: headersOf(body, key, locale()), body: body === undefined ? undefined : JSON.stringify(body), keepalive };
    let isFresh = false;
    for (;;) {
      try {
        return await this.#attempt(path, init, signal, isFresh);
      } catch (error) {
        signal?.throwIfAborted();
        if (error.status === 401 && this.#options.tokens.isRenewable && !isFresh) {
          isFresh = true;
          continue;
        }
        await sleep(attempts.pause(error, now()), signal);
      }
    }
  }

  async #attempt(path, init, signal, isFresh) {
    const { base, tokens, fetch } = this.#options;
    const token = await tokens.get({ isFresh });
    const headers = token ? { ...init.headers, Authorization: `Bearer ${token}` } : init.headers;
    const late = AbortSignal.timeout(ANSWER_SECONDS * 1000);
    const ending = signal ? anyOf([signal, late]) : late;
    let answer, text;
    try {
      answer = await fetch(new URL(path.replace(/^\//, ""), base), { ...init, headers, signal: ending });
      text = await answer.text();
    } catch (error) {
      throw new ConnectionLost(String(error.message ?? error), { cause: error, wasSent: !isRefused(error) });
    }
    return valueOf(answer, text, `${init.method} ${path}`);
  }
}

function headersOf(body, key, locale) {
  const headers = { Accept: "application/json" };
  if (locale) headers["Accept-Language"] = locale;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key !== undefined) headers["Idempotency-Key"] = key;
  return headers;
}

/** Return whether a request has not left: Node says so, a browser does not. */
function isRefused(error) {
  return ["ECONNREFUSED", "ENOTFOUND", "EHOSTUNREACH", "UND_ERR_CONNECT_TIMEOUT"].includes(error.cause?.code);
}

function valueOf(answer, text, request) {
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    // A proxy in between answers its own errors in HTML.
    if (answer.ok) throw new ProtocolError(`${request} was not answered by JSON`);
  }
  if (answer.status >= 400) {
    const document = typeof value === "object" && value !== null ? value : { title: answer.statusText };
    throw new ApiError(answer.status, document, readRetryAfter(answer.headers.get("Retry-After")));
  }
  if (!answer.ok) throw new ProtocolError(`${request} was answered by ${answer.status}`);
  return value;
}

function anyOf(signals) {
  const ending = new AbortController();
  for (const signal of signals) {
    if (signal.aborted) ending.abort(signal.reason);
    signal.addEventListener("abort", () => ending.abort(signal.reason), { once: true, signal: ending.signal });
  }
  return ending.signal;
}

/** Wait for some seconds. Throw the reason of a signal. */
function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, seconds * 1000);
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
  });
}

/** The handle that applications get of a topic: an async iterable of its events, and an event target. */


// The most events that wait for a busy reader; then it is told that it is too slow.
const MOST_WAITING = 10_000;

/**
 * A reader of a topic. `read(message)` returns the events of a message; `onEvent`, `onError` and `onEnd`
 * are told of them. It ends by itself after an event of the type `finished`, and after an error.
 */
class Reader {
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
class Watchable extends EventTarget {
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
function deadline({ timeout, signal } = {}) {
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

/** The notifications of a user. */


const PATH = "/api/notifications";

/** Return the body that names notifications: ids, `{all: true}` or `{filter}`. Throw TypeError for none. */
function chosen(which) {
  const ids = typeof which === "string" ? [which] : which;
  // An empty list must not mean all.
  if (Array.isArray(ids) && ids.length && ids.every((one) => typeof one === "string" && one)) return { ids };
  if (!Array.isArray(ids) && (ids?.all === true || ids?.filter)) return ids;
  throw new TypeError("name ids, or give {all: true} or {filter}");
}

/**
 * One's notifications. Its events are `counts`, `notification` (one that is new, renewed or back),
 * `changed` (`items`, `deleted` ids, and `preferences` or null) and `resync`; an `update` says that `items` or `counts` changed.
 *
 * While somebody listens, `items` holds the newest of the inbox, and `more()` adds the next page.
 */
class Inbox extends Watchable {
  #list = new InboxList();
  #newest = new NewestCounts();
  #asked = 0;
  counts = { unread: 0, unseen: 0, version: -1 };
  error = null;

  constructor(client) {
    super(client, ME);
  }

  get items() {
    return this.#list.items;
  }

  /** Whether the first page is there. */
  get isLoaded() {
    return this.#list.isLoaded;
  }

  /** Whether there is another page. */
  get hasMore() {
    return this.#list.next !== null;
  }

  /** Add the next page to `items`. */
  async more() {
    if (this.hasMore) await this.#load(this.#list.next);
  }

  /** Return a page `{items, next, unread, unseen, version}` of those that the filters find. */
  list(filters = {}) {
    return this.client.request("GET", PATH + queryOf(filters));
  }

  /** Iterate over all that the filters find, the newest first. */
  pages(filters = {}) {
    return this.client.pages(PATH, filters);
  }

  get(id) {
    return this.client.request("GET", pathOf(PATH, id));
  }

  /**
   * Return what a digest stands for.
   * @param {string} id
   * @param {{limit?: number}} [options]
   */
  async parts(id, { limit } = {}) {
    return (await this.client.request("GET", pathOf(PATH, id, "parts") + queryOf({ limit }))).items;
  }

  /**
   * Apply a verb to ids, to what a `{filter}` finds, or by `{all: true}` to all of the inbox.
   *
   * Return `{changed, undo, unread, unseen, version}`. A verb that is sent twice changes nothing twice.
   */
  async act(verb, which, more = {}) {
    return this.#done(await this.client.request("POST", pathOf(PATH, verb), { ...chosen(which), ...more }, { isHarmless: true }));
  }

  seen(which) {
    return this.act("seen", which);
  }

  read(which) {
    return this.act("read", which);
  }

  readAll() {
    return this.act("read", { all: true });
  }

  unread(which) {
    return this.act("unread", which);
  }

  archive(which) {
    return this.act("archive", which);
  }

  unarchive(which) {
    return this.act("unarchive", which);
  }

  /**
   * Send them away for some `seconds`, or `until` a time.
   * @param {any} which
   * @param {{seconds?: number, until?: any}} [time]
   */
  snooze(which, { seconds, until } = {}) {
    return this.act("snooze", which, until === undefined ? { seconds } : { until });
  }

  unsnooze(which) {
    return this.act("unsnooze", which);
  }

  pin(which) {
    return this.act("pin", which);
  }

  unpin(which) {
    return this.act("unpin", which);
  }

  delete(which) {
    return this.act("delete", which);
  }

  /** Take a verb back, by the `undo` of its answer. */
  async undo(undo) {
    return this.#done(await this.client.request("POST", `${PATH}/undo`, { undo }));
  }

  /** Answer an action of a notification; return it. Throw ApiError 409 if it was answered before. */
  answer(id, action) {
    return this.client.request("POST", pathOf(PATH, id, "actions", action));
  }

  preferences() {
    return this.client.request("GET", `${PATH}/preferences`);
  }

  setPreferences(preferences) {
    return this.client.request("PUT", `${PATH}/preferences`, preferences);
  }

  makeRead() {
    const newest = new NewestCounts();
    return (message) => readMessage(message, newest);
  }

  note(event) {
    if (event.type === "resync") this.#newest.forget();
    if (event.type === "resync" || (event.type === "counts" && event.isFirst)) this.#reload();
    if (event.type === "counts") this.#noteCounts(event);
    else if (event.type === "notification") this.#list.change({ items: [event.notification] });
    else if (event.type === "changed") this.#list.change(event);
    this.tellUpdate();
  }

  #noteCounts({ unread, unseen, version, isFirst }) {
    if (isFirst) this.#newest.forget();
    if (this.#newest.take({ version })) this.counts = { unread, unseen, version };
  }

  #done(answer) {
    if (answer && "unread" in answer) {
      this.#noteCounts(answer);
      this.tellUpdate();
    }
    return answer;
  }

  #reload() {
    this.#list.clear();
    this.#load();
  }

  async #load(before) {
    this.#asked += 1;
    const asked = this.#asked;
    this.#list.asking();
    try {
      const page = await this.list({ before });
      // Another list was asked for meanwhile.
      if (asked !== this.#asked) return;
      this.#list.add(page);
      this.error = null;
    } catch (error) {
      this.error = error;
      this.tellError(error);
    }
    this.tellUpdate();
  }
}

function readMessage({ type, topic, id, data }, newest) {
  if (type === "subscribed") return firstCounts(topic, data, newest);
  if (type === "unread_count") return newest.take(data) ? [{ type: "counts", topic, ...data, isFirst: false }] : [];
  if (type === "notification") return [{ type, topic, id, notification: data }];
  if (type === "changed") {
    const { items = [], deleted = [], preferences = null } = data;
    return [{ type, topic, id, items, deleted, preferences }];
  }
  if (type !== "resync") return [];
  newest.forget();
  return [{ type, topic, id, reason: data.reason }];
}

function firstCounts(topic, { recovered, unread_count: unread, unseen_count: unseen, version }, newest) {
  if (version === undefined) return [];
  if (!recovered) newest.forget();
  if (!newest.take({ version })) return [];
  return [{ type: "counts", topic, unread, unseen, version, isFirst: !recovered }];
}

/** The way back of a client, without any I/O: by which transport, when, or not at all. */


// A socket is taken for impossible after this many attempts in a row that did not open one.
const SOCKET_ATTEMPTS = 2;
// Codes that a browser makes up when there was no handshake, or nothing after it.
const NOT_OPENED = new Set([1002, 1005, 1006, 1015]);
// An event stream serves for this long before a socket is tried again [s]; longer each time.
const SOCKET_AGAIN = { first: 30, most: 600 };
// A connection is lost that brings nothing for two intervals of its heartbeat, and for half of another one or this
// much [s], whichever is less: two were missed.
const SILENT_HEARTBEATS = 2;
const MOST_LATE_SECONDS = 1;

class Course {
  #failures = 0;
  #socketFailures = 0;
  #streamPeriods = 0;
  #mayRenew = true;
  #table = RECONNECT;
  #retry = undefined;

  /** `sockets` and `streams` say which transports there are, `renews` whether a token can be had anew. */
  constructor({ sockets, streams = true, renews, backoff = new Backoff(), socketAgain = {} }) {
    this.sockets = sockets;
    this.streams = streams;
    this.renews = renews;
    this.backoff = backoff;
    this.again = { ...SOCKET_AGAIN, ...socketAgain };
  }

  /** Return the transport of the next connection: "socket" or "stream". */
  next() {
    const isBlocked = this.streams && this.#socketFailures >= SOCKET_ATTEMPTS;
    return this.sockets && !isBlocked ? "socket" : "stream";
  }

  /**
   * Learn that `connected` came; return after how much silence [s] the connection is lost, 0: never.
   * @param {string} transport
   * @param {{heartbeat_interval?: number, reconnect?: any}} [told]
   */
  connected(transport, { heartbeat_interval: interval = 0, reconnect } = {}) {
    this.#failures = 0;
    this.#mayRenew = true;
    if (reconnect) this.#table = reconnect;
    if (transport === "socket") this.#socketFailures = this.#streamPeriods = 0;
    return interval * SILENT_HEARTBEATS + Math.min(interval / 2, MOST_LATE_SECONDS);
  }

  /** Learn the `retry:` of an event stream [s]. */
  retry(seconds) {
    this.#retry = seconds;
  }

  /** Return after how long on an event stream a socket is tried again [s]; null: never. */
  socketAgain() {
    if (!this.sockets) return null;
    const { first, most } = this.again;
    return Math.min(most, first * 2 ** this.#streamPeriods++) * (0.5 + 0.5 * this.backoff.random());
  }

  /**
   * Return what follows a lost connection: `{wait}` [s] before the next, with `renew` when that needs
   * another token, or `{error}` when there is no next.
   *
   * For a socket `code` and `reason` are those of its close, for a stream `status` and `retryAfter` those of
   * its refusal; `problem` is an `error` message about the connection.
   */
  lost({ transport, wasOpen = false, code, reason, status, document, retryAfter = null, problem }) {
    this.#failures += 1;
    if (transport === "socket" && !wasOpen && NOT_OPENED.has(code)) this.#socketFailures += 1;
    if (transport === "stream" && !wasOpen && status === undefined) {
      // The server is away: that the socket did not open says nothing.
      this.#socketFailures = Math.min(this.#socketFailures, SOCKET_ATTEMPTS - 1);
    }
    const isExpired = code === UNAUTHORIZED || status === 401 || problem?.code === "token_expired";
    if (isExpired) return this.#expired(reason || problem?.message || document?.detail);
    const error = this.#refusal({ code, reason: reason || problem?.message, status, document, problem });
    if (error) return { error };
    return { wait: this.backoff.seconds(this.#failures, { first: this.#retry, retryAfter }) };
  }

  #expired(reason) {
    if (!this.renews || !this.#mayRenew) return { error: new ConnectionClosed(UNAUTHORIZED, reason) };
    this.#mayRenew = false;
    return { renew: true, wait: this.#failures > 1 ? this.backoff.seconds(this.#failures) : 0 };
  }

  #refusal({ code, reason, status, document, problem }) {
    if (code !== undefined) return comesBack(code, this.#table) ? null : new ConnectionClosed(code, reason);
    if (status !== undefined) {
      const error = new ApiError(status, document);
      return error.isPassing || status >= 500 ? null : error;
    }
    return problem ? errorOfCode(problem) : null;
  }
}

/** The topics that were asked for, so that nothing of an earlier subscription is taken for a later one's. */

class Asked {
  #topics = new Map();
  #last = 0;

  /** Note that a topic is asked for from a cursor; return the number of the request. */
  ask(topic, cursor) {
    this.#last += 1;
    this.#topics.set(topic, { ref: this.#last, cursor, isAnswered: false });
    return this.#last;
  }

  forget(topic) {
    this.#topics.delete(topic);
  }

  /** Return a message of a topic, with what was asked for; null for one of an earlier request. */
  accept(message) {
    const { type, topic, ref } = message;
    const request = this.#topics.get(topic);
    if (!request || (ref !== undefined && ref !== request.ref)) return null;
    if (type === "subscribed") {
      request.isAnswered = true;
      return { ...message, asked: request.cursor };
    }
    // It was left, and is followed again by now.
    if (type === "unsubscribed") return null;
    if (type === "error") {
      this.#topics.delete(topic);
      return message;
    }
    if (type === "finished") this.#topics.delete(topic);
    return request.isAnswered ? message : null;
  }
}

/** One WebSocket to `/api/ws`: opens, follows topics, and tells how it ended. */


const OPENING_SECONDS = 10;
const ABNORMAL = 1006;
// After an error the close that tells more comes within this time [s].
const CLOSE_SECONDS = 0.1;

/**
 * `on` learns what happens: `connected(data)`, `message(message)`, and once `lost(how)`, as `Course.lost`
 * takes it. Nothing is told after `close()`.
 */
class Socket {
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

/** The format of an event stream (WHATWG HTML section 9.2), without any I/O. */

// An event of the server is far smaller: its messages are bounded.
const MOST_CHARACTERS = 64 * 1024 * 1024;

/** Makes blocks `{event, data, id}` of the pieces of a stream. */
class EventStreamParser {
  #decoder = new TextDecoder();
  #rest = "";
  #event = "";
  #data = [];
  // The `retry:` of the server [s], null before it came.
  retrySeconds = null;
  lastId = "";

  /** Return the blocks that a piece completes. Throw RangeError for a line without an end. */
  feed(chunk) {
    this.#rest += this.#decoder.decode(chunk, { stream: true });
    if (this.#rest.length > MOST_CHARACTERS) throw new RangeError("a line of the event stream has no end");
    const blocks = [];
    // A CR at the end may be half of a CRLF.
    const end = this.#rest.endsWith("\r") ? this.#rest.length - 1 : this.#rest.length;
    const lines = this.#rest.slice(0, end).split(/\r\n|\n|\r/);
    this.#rest = lines.pop() + this.#rest.slice(end);
    for (const line of lines) {
      if (line !== "") this.#field(line);
      else if (this.#data.length) blocks.push(this.#block());
      else this.#event = "";
    }
    return blocks;
  }

  #field(line) {
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.#event = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.lastId = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retrySeconds = Number(value) / 1000;
  }

  #block() {
    const block = { event: this.#event || "message", data: this.#data.join("\n"), id: this.lastId };
    this.#event = "";
    this.#data = [];
    return block;
  }
}

/**
 * Return the message of a block of a stream of many topics. Throw SyntaxError for what is no JSON.
 *
 * Those of a topic are the whole message; those about the connection are its data alone. An `error`
 * has another name on a stream.
 */
function messageOf({ event, data }) {
  const value = JSON.parse(data);
  const isWhole = typeof value === "object" && value !== null && "topic" in value;
  const message = isWhole ? value : { type: event, data: value };
  return message.type === "problem" ? { ...message, type: "error" } : message;
}

/** One event stream of `/api/stream`, read by fetch: for where WebSockets do not get through. */


const STREAM_OPENING_SECONDS = 15;
// Topics that are asked for one after another are asked for at once [s].
const GATHER_SECONDS = 0.02;
// Statuses that are those of the first topic when none can be followed, or say that there are too many.
const OF_A_TOPIC = new Set([400, 403, 404]);

/** Return the id of an event after which each topic is at its cursor (docs/protocol.md). */
function placesId(places) {
  const cursors = [...places.values()];
  return cursors.some(Boolean) ? `c~${cursors.join(".")}` : "";
}

/**
 * A change of its topics opens it anew, each topic from the cursor that `places()` gives then.
 *
 * `on` learns what happens, as that of a `Socket`, and `refused(topic, status, document)`.
 */
class Stream {
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

/** The token of a client: a text, or a function that gets one. */

// The share of a token's life that is left when the next one is asked for, and the most of it [s].
const RENEWED_AT = 0.25;
const MOST_LEFT = 60;

/** Return the claims of a JWT, unchecked; an empty object for what is none. */
function readClaims(token) {
  try {
    const part = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(part), (one) => one.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims === "object" && claims !== null ? claims : {};
  } catch {
    return {};
  }
}

/** Return the time after which a new token must be renewed [s]; null: it does not say. */
function renewalIn(token, now = Date.now() / 1000) {
  const { exp } = readClaims(token);
  if (typeof exp !== "number") return null;
  const life = exp - now;
  return Math.max(0, life - Math.min(life * RENEWED_AT, MOST_LEFT));
}

function checked(token) {
  if (token === undefined || token === null || token === "") return "";
  // A line end, as a token from a file may have, would look like a lost connection.
  if (typeof token !== "string" || !/^[!-~]+$/.test(token)) {
    throw new TypeError("the token is no text, or has spaces or line ends");
  }
  return token;
}

class Tokens {
  #source;
  #token = null;
  #renewAt = Infinity;
  #asking = null;

  /** `source` is a token, a function that returns one or its promise, or nothing: then a cookie is used. */
  constructor(source) {
    this.#source = typeof source === "function" ? source : checked(source);
  }

  /** Whether another token can be had. */
  get isRenewable() {
    return typeof this.#source === "function";
  }

  /** Return the token to send now, "" for none. `isFresh`: not one that was got before. */
  async get({ isFresh = false } = {}) {
    if (!this.isRenewable) return this.#source;
    if (this.#token !== null && !isFresh && performance.now() < this.#renewAt) return this.#token;
    this.#asking ??= this.#ask().finally(() => (this.#asking = null));
    return this.#asking;
  }

  async #ask() {
    const token = checked(await this.#source());
    const seconds = renewalIn(token);
    this.#renewAt = seconds === null ? Infinity : performance.now() + seconds * 1000;
    this.#token = token;
    return token;
  }
}

/**
 * The connection to the server, over one WebSocket or event stream after another.
 *
 * It is the upstream of a hub. It opens when the first topic is followed, comes back when it is lost, as
 * `Course` decides, and rests when nobody follows anything.
 */


// An open connection waits this long for another topic [s].
const LINGER_SECONDS = 1;
// The server has this long to answer a ping, after the page was shown again [s].
const PROBE_SECONDS = 3;
// A token is renewed no more often than this [s].
const LEAST_RENEWAL_SECONDS = 1;
// A topic is asked for again after a store did not answer [s].
const TOPIC_AGAIN_SECONDS = 2;

class Link {
  #options;
  #hub;
  #clock;
  #tell;
  #course;
  #carrier = null;
  #isOnline = false;
  // Whether the token of the next connection is being got.
  #isOpening = false;
  // Counts what was begun, so that what comes too late is dropped.
  #attempt = 0;
  #isClosed = false;
  #isAsleep = false;
  #mustRenew = false;
  #silence = 0;
  #heardAt = 0;
  #userId = null;
  #comeBack = new Timer(() => this.#connect());
  #watchdog = new Timer(() => this.#checkSilence());
  #probing = new Timer(() => this.#lose("it did not answer"));
  #renewal = new Timer(() => this.#renew());
  #linger = new Timer(() => this.#rest());
  #socketAgain = new Timer(() => this.#trySocket());
  #trial = null;

  /** `tell(state)` is told `{state, transport, reason, error, userId, retryIn}`. */
  constructor({ base, tokens, locale, hub, WebSocket, streams, fetch, backoff, socketAgain, clock, tell }) {
    this.#options = { base, tokens, locale, WebSocket, fetch };
    this.#hub = hub;
    this.#clock = clock;
    this.#tell = tell;
    const sockets = Boolean(WebSocket);
    this.#course = new Course({ sockets, streams, renews: tokens.isRenewable, backoff, socketAgain });
  }

  /** Begin, if there is anything to follow. */
  open() {
    this.#isClosed = this.#isAsleep = false;
    if (!this.#carrier && !this.#hub.isEmpty) this.#connect();
  }

  /** Go on by another connection, which is opened in the language of now. */
  reopen() {
    if (this.#carrier || this.#isOpening) this.#connect();
  }

  follow(topic, cursor) {
    this.#linger.clear();
    if (this.#carrier) this.#carrier.follow(topic, cursor);
    else if (!this.#isOpening && !this.#comeBack.isSet) this.#connect();
  }

  unfollow(topic) {
    this.#carrier?.unfollow(topic);
    if (this.#hub.isEmpty) this.#linger.set(LINGER_SECONDS);
  }

  /** The network is back, or the page is seen: do not wait, and do not trust an old connection. */
  look() {
    if (this.#comeBack.isSet) this.#connect();
    else if (this.#isOnline && this.#carrier.transport === "socket") {
      this.#carrier.ping();
      this.#probing.set(PROBE_SECONDS);
    } else if (this.#isOnline) this.#checkSilence();
  }

  /** The network is away. */
  networkLost() {
    if (this.#carrier) this.#lose("the network is away");
  }

  /** Hold no connection until `open`. */
  sleep(reason) {
    const wasIdle = !this.#carrier && !this.#isOpening && !this.#comeBack.isSet;
    this.#drop();
    this.#isAsleep = true;
    if (!wasIdle) this.#report("offline", { reason });
  }

  close() {
    this.#drop();
    this.#isClosed = true;
  }

  async #connect() {
    if (this.#isClosed || this.#isAsleep) return;
    if (this.#hub.isEmpty) return this.#report("idle");
    this.#drop();
    this.#isOpening = true;
    const attempt = this.#attempt;
    this.#report("connecting");
    const isFresh = this.#mustRenew;
    try {
      const token = await this.#options.tokens.get({ isFresh });
      if (attempt !== this.#attempt) return undefined;
      this.#mustRenew = this.#isOpening = false;
      this.#carrier = this.#make(this.#course.next(), token);
    } catch (error) {
      if (attempt === this.#attempt) this.#lost({ reason: String(error?.message ?? error) });
    }
    return undefined;
  }

  #make(transport, token) {
    const { WebSocket, fetch } = this.#options;
    const [base, locale] = [this.#options.base, this.#options.locale()];
    const isCurrent = () => carrier === this.#carrier;
    const on = {
      alive: () => (this.#heardAt = now()),
      connected: (data, retry) => this.#connected(carrier, data, token, retry),
      message: (message) => isCurrent() && this.#message(message),
      refused: (topic, status, document) => isCurrent() && this.#hub.refuse(topic, new ApiError(status, document)),
      lost: (how) => (isCurrent() ? this.#lost(how) : this.#trialLost()),
    };
    // Nothing is told before it is made.
    const carrier =
      transport === "socket"
        ? new Socket({ base, token, locale, WebSocket, on })
        : new Stream({ base, token, locale, fetch, on, places: () => this.#hub.places() });
    return carrier;
  }

  #connected(carrier, data, token, retry) {
    if (carrier === this.#trial) this.#replaceBy(carrier);
    const { transport } = carrier;
    this.#clock.hear(data.timestamp);
    this.#silence = this.#course.connected(transport, data);
    if (retry) this.#course.retry(retry);
    this.#heardAt = now();
    if (this.#silence) this.#watchdog.set(this.#silence);
    if (this.#isOnline) return;
    if (this.#userId !== null && data.user_id !== this.#userId) {
      return this.#end(new RealtimeError(`the token is that of another user than ${this.#userId}`));
    }
    this.#userId = data.user_id;
    this.#isOnline = true;
    this.#begin(token);
    this.#report("online");
  }

  /** Follow all topics on a carrier that was just opened. */
  #begin(token) {
    const { transport } = this.#carrier;
    if (transport === "socket") {
      for (const [topic, cursor] of this.#hub.places()) this.#carrier.follow(topic, cursor);
    } else {
      const again = this.#course.socketAgain();
      if (again !== null) this.#socketAgain.set(again);
    }
    if (this.#options.tokens.isRenewable) this.#planRenewal(token);
    if (this.#hub.isEmpty) this.#linger.set(LINGER_SECONDS);
  }

  #message(message) {
    this.#heardAt = now();
    this.#probing.clear();
    if (!message.topic) {
      // A heartbeat has the time; what has none is passed over.
      this.#clock.hear(message.data?.timestamp);
      return;
    }
    if (message.type === "error" && !errorOfCode(message.data)) {
      const attempt = this.#attempt;
      setTimeout(() => attempt === this.#attempt && this.#askAgain(message.topic), TOPIC_AGAIN_SECONDS * 1000);
    } else this.#hub.receive(message);
    if (this.#hub.isEmpty && !this.#linger.isSet) this.#linger.set(LINGER_SECONDS);
  }

  #askAgain(topic) {
    const cursor = this.#hub.placeOf(topic);
    if (cursor !== undefined) this.#carrier.follow(topic, cursor);
  }

  #checkSilence() {
    const rest = this.#heardAt + this.#silence - now();
    if (!this.#silence || !this.#isOnline) return;
    if (rest > 0) this.#watchdog.set(rest);
    else this.#lose("nothing came for two heartbeats");
  }

  #lose(reason) {
    this.#carrier?.lose(reason);
  }

  #lost(how) {
    this.#drop();
    if (this.#hub.isEmpty) return this.#report("idle");
    const { error, renew, wait } = this.#course.lost(how);
    if (error) return this.#end(error);
    this.#mustRenew = Boolean(renew);
    this.#comeBack.set(wait);
    this.#report("offline", { reason: how.reason || (how.code ? `closed with ${how.code}` : "lost"), code: how.code, retryIn: wait });
    return undefined;
  }

  #end(error) {
    this.close();
    this.#report("closed", { reason: error.message, error });
    this.#hub.fail(error);
  }

  #rest() {
    if (!this.#hub.isEmpty) return;
    this.#drop();
    this.#report("idle");
  }

  #planRenewal(token) {
    const seconds = renewalIn(token);
    if (seconds !== null) this.#renewal.set(Math.max(LEAST_RENEWAL_SECONDS, seconds));
  }

  async #renew() {
    const attempt = this.#attempt;
    try {
      const token = await this.#options.tokens.get({ isFresh: true });
      if (attempt !== this.#attempt) return;
      this.#carrier.renew(token);
      this.#planRenewal(token);
    } catch {
      // The connection goes on until its token expires; then the next one asks again.
    }
  }

  /** Try whether sockets get through by now, while the event stream goes on. */
  async #trySocket() {
    const attempt = this.#attempt;
    try {
      const token = await this.#options.tokens.get();
      if (attempt === this.#attempt) this.#trial = this.#make("socket", token);
    } catch {
      if (attempt === this.#attempt) this.#trialLost();
    }
  }

  #trialLost() {
    this.#trial = null;
    this.#socketAgain.set(this.#course.socketAgain());
  }

  /** Go on by another carrier: each topic from where the one before has brought it. */
  #replaceBy(carrier) {
    this.#trial = null;
    this.#drop();
    this.#carrier = carrier;
  }

  #drop() {
    this.#attempt += 1;
    this.#isOnline = this.#isOpening = false;
    this.#carrier?.close();
    this.#trial?.close();
    this.#carrier = this.#trial = null;
    const timers = [this.#comeBack, this.#watchdog, this.#probing, this.#renewal, this.#linger, this.#socketAgain];
    for (const timer of timers) timer.clear();
  }

  #report(state, more = {}) {
    const transport = this.#carrier?.transport ?? null;
    this.#tell({ state, transport, userId: this.#userId, reason: null, error: null, retryIn: null, ...more });
  }
}

/** All tasks of a user, as a list that stays true; and the schedules, by their names. */


/**
 * One's tasks. Its events are `list` (the newest, in place of all before), `changed` (`items`, `deleted`) and
 * `resync`; an `update` says that `items` changed. While somebody listens, `items` holds the list.
 */
class TaskList extends Watchable {
  items = [];
  isLoaded = false;

  constructor(client) {
    super(client, TASKS);
  }

  /** Return a page `{items, next}` of those that the filters find. */
  list(filters = {}) {
    return this.client.request("GET", `/api/tasks${queryOf(filters)}`);
  }

  /** Iterate over all that the filters find, the newest first. */
  pages(filters = {}) {
    return this.client.pages("/api/tasks", filters);
  }

  /** Run again what has failed or died; return `{retried, next?}`. */
  retry(filters = {}) {
    return this.client.request("POST", "/api/tasks/retry", filters);
  }

  readMessage({ type, topic, id, data }) {
    const list = ({ items }) => [{ type: "list", topic, id, items }];
    if (type === "list") return list(data);
    if (type === "subscribed") return data.snapshot ? list(data.snapshot) : [];
    if (type === "changed") return [{ type, topic, id, items: data.items ?? [], deleted: data.deleted ?? [] }];
    return type === "resync" ? [{ type, topic, id, reason: data.reason }] : [];
  }

  note(event) {
    if (event.type === "resync") return;
    this.items = event.type === "list" ? event.items : withChange(this.items, event);
    this.isLoaded = true;
    this.tellUpdate();
  }
}

const SCHEDULES = "/api/schedules";

/** One's schedules. Iterate over them by `for await`; they come by name. */
class Schedules {
  #client;

  constructor(client) {
    this.#client = client;
  }

  [Symbol.asyncIterator]() {
    return this.pages();
  }

  list(filters = {}) {
    return this.#client.request("GET", SCHEDULES + queryOf(filters));
  }

  pages(filters = {}) {
    return this.#client.pages(SCHEDULES, filters, "after");
  }

  get(name) {
    return this.#client.request("GET", pathOf(SCHEDULES, name));
  }

  /** Make one, or replace it: `kind`, `params`, `cron` and `timezone`, or `every` [s], … */
  put(name, fields) {
    return this.#client.request("PUT", pathOf(SCHEDULES, name), fields);
  }

  /** Drop one; its tasks stay. */
  delete(name) {
    return this.#client.request("DELETE", pathOf(SCHEDULES, name));
  }

  /** Make a task of one now; return it. */
  async run(name, { idempotencyKey = newKey() } = {}) {
    const path = pathOf(SCHEDULES, name, "run");
    const answer = await this.#client.request("POST", path, undefined, { key: idempotencyKey });
    return this.#client.task(answer.task_id, answer);
  }
}

/** Events of the page and the network, where there are any. */

/**
 * Call `on.online`, `on.offline`, `on.shown`, `on.frozen` and `on.thawed` when the page or the network
 * changes. Return what ends that. In Node nothing is ever called.
 */
function watchPage(on) {
  const page = globalThis.document;
  if (!page || typeof addEventListener !== "function") return () => {};
  const ending = new AbortController();
  const listen = (target, type, listener) => target.addEventListener(type, listener, { signal: ending.signal });
  listen(globalThis, "online", () => on.online());
  listen(globalThis, "offline", () => on.offline());
  listen(page, "visibilitychange", () => page.visibilityState === "visible" && on.shown());
  // A page that may come back out of the cache holds no connection meanwhile.
  listen(globalThis, "pagehide", () => on.frozen());
  listen(globalThis, "pageshow", ({ persisted }) => persisted && on.thawed());
  listen(page, "freeze", () => on.frozen());
  listen(page, "resume", () => on.thawed());
  return () => ending.abort();
}

/** The clock of the server, as far as its messages tell it. */


// The messages that count; the fastest of them tells most.
const HEARD = 8;

/**
 * Each `timestamp` of the server comes later than it was made, never earlier: the greatest difference from our
 * steady clock is the truest one. So a clock of this machine that is set meanwhile does no harm.
 */
class ServerClock {
  #heard = [];

  /** Take the time of a message of this moment: ISO 8601, or milliseconds since 1970. A value that is no time is skipped. */
  hear(timestamp) {
    const at = typeof timestamp === "number" ? timestamp : Date.parse(timestamp);
    if (!Number.isFinite(at)) return;
    this.#heard.push(at / 1000 - now());
    if (this.#heard.length > HEARD) this.#heard.shift();
  }

  /** The lead of the server's clock over that of this machine [s]; 0 while nothing is known. */
  get skew() {
    if (!this.#heard.length) return 0;
    return Math.max(...this.#heard) + now() - Date.now() / 1000;
  }

  /** The time of the server [ms since 1970]; null while nothing is known. */
  get time() {
    return this.#heard.length ? Date.now() + this.skew * 1000 : null;
  }
}

/**
 * One connection for all tabs of one origin, server and user.
 *
 * The tab that holds a lock leads: it has the connection, and its hub serves the other tabs as readers over
 * a BroadcastChannel. When it closes or freezes the lock goes to another tab, and each tab goes on from its
 * own cursors. A leader that does not answer, such as one whose process hangs, has the lock taken away.
 *
 * Messages on the channel, each with `from`: `hello`, `follow`, `unfollow`, `bye`, `ping` and `look` of a tab;
 * `lead`, `pong`, `status`, `message` and `refused` of the leader.
 */


// A visible tab asks this often whether the leader is there, and waits this long for its answer
// [s].
const PING_SECONDS = 5;
const PONG_SECONDS = 2;

/** Return whether tabs can find one another here: in a page, over HTTPS or on this machine. */
function canShare() {
  return Boolean(globalThis.document && globalThis.navigator?.locks && globalThis.BroadcastChannel);
}

/** Return the name that tabs of the same server, user, rights and language share; null when the user is unknown. */
async function sharingName(base, tokens, locale) {
  const { sub, scope, topics } = readClaims(await tokens.get());
  return sub === undefined ? null : `tornado_rt ${base} ${JSON.stringify([sub, scope, topics, locale])}`;
}

/** A reader of the leader's hub that stands for a topic of another tab. */
class TabReader {
  constructor(tab, ref, cursor, on) {
    this.tab = tab;
    this.ref = ref;
    this.position = new Position(cursor);
    this.on = on;
  }

  take(message) {
    this.on.message(this, message);
  }

  fail(error) {
    this.on.refused(this, error);
  }
}

/** The leader's side: the readers of the other tabs, and the messages to post to them. */
class Tabs {
  #hub;
  #post;
  #tabs = new Map();
  #outbox = [];

  constructor(hub, post) {
    this.#hub = hub;
    this.#post = post;
  }

  has(tab) {
    return this.#tabs.has(tab);
  }

  add(tab) {
    this.#tabs.set(tab, new Map());
  }

  follow(tab, { topic, ref, cursor }) {
    this.unfollow(tab, topic);
    const readers = this.#tabs.get(tab);
    const reader = new TabReader(tab, ref, cursor, {
      message: (one, message) => this.#add(one, message),
      refused: (one, error) => {
        readers.delete(topic);
        this.#flush();
        this.#post({ do: "refused", to: [tab], topic, ref: one.ref, error: packError(error) });
      },
    });
    readers.set(topic, reader);
    this.#hub.join(topic, reader);
  }

  unfollow(tab, topic) {
    const reader = this.#tabs.get(tab)?.get(topic);
    if (!reader) return;
    this.#tabs.get(tab).delete(topic);
    this.#hub.leave(topic, reader);
  }

  drop(tab) {
    for (const topic of [...(this.#tabs.get(tab)?.keys() ?? [])]) this.unfollow(tab, topic);
    this.#tabs.delete(tab);
  }

  dropAll() {
    this.#flush();
    for (const tab of [...this.#tabs.keys()]) this.drop(tab);
  }

  /** Post a message that several tabs get once for all of them. */
  #add({ tab, ref }, message) {
    if (message.type === "finished") this.#tabs.get(tab)?.delete(message.topic);
    if (!this.#outbox.length) queueMicrotask(() => this.#flush());
    const last = this.#outbox.at(-1);
    if (message.type === "subscribed") this.#outbox.push({ to: [tab], message: { ...message, ref, asked: undefined } });
    else if (last?.message === message) last.to.push(tab);
    else this.#outbox.push({ to: [tab], message });
  }

  #flush() {
    for (const { to, message } of this.#outbox.splice(0)) this.#post({ do: "message", to, message });
  }
}

/** The upstream of a hub in a tab that does not lead; it makes the tab lead when its turn comes. */
class Sharing {
  #tab = newKey();
  #name;
  #hub;
  #link;
  #clock;
  #tell;
  #leader = null;
  #status = null;
  #channel = null;
  #asked = new Asked();
  #tabs;
  #stopping = null;
  // Ends the time as leader, and what was begun for it.
  #resigning = null;
  #attempt = 0;
  #ping = new Timer(() => this.#askLeader());
  #patience = new Timer(() => this.#enter(true));

  constructor({ name, hub, link, clock, tell }) {
    this.#name = name;
    this.#clock = clock;
    this.#hub = hub;
    this.#link = link;
    this.#tell = tell;
    this.#tabs = new Tabs(hub, (message) => this.#post(message));
  }

  get #leads() {
    return this.#leader === this.#tab;
  }

  /** Meet the other tabs; harmless when repeated. */
  async open() {
    if (this.#stopping) return;
    const stopping = (this.#stopping = new AbortController());
    this.#hub.attach(this);
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#take(data);
    // The leader sees by this lock that a tab is gone.
    await hold(`${this.#name} ${this.#tab}`, stopping.signal);
    if (stopping.signal.aborted) return;
    this.#enter(false);
    this.#post({ do: "hello" });
    this.#ping.set(PING_SECONDS);
    if (!this.#leader) this.#patience.set(PONG_SECONDS);
  }

  /** Leave the other tabs. */
  stop() {
    if (!this.#stopping) return;
    this.#attempt += 1;
    if (this.#leads) this.#resign();
    else this.#post({ do: "bye" });
    this.#leader = null;
    this.#ping.clear();
    this.#patience.clear();
    this.#stopping.abort();
    this.#stopping = null;
    this.#channel.close();
    this.#channel = null;
  }

  sleep(reason) {
    const { state } = this.#status ?? {};
    this.#link.sleep(reason);
    this.stop();
    if (state === "online" || state === "connecting") this.#tell({ ...this.#status, state: "offline", reason });
  }

  look() {
    if (this.#leads) this.#link.look();
    else {
      this.#post({ do: "look" });
      this.#askLeader();
    }
  }

  follow(topic, cursor) {
    const ref = this.#asked.ask(topic, cursor);
    if (this.#leader) this.#post({ do: "follow", topic, cursor, ref });
  }

  unfollow(topic) {
    this.#asked.forget(topic);
    this.#post({ do: "unfollow", topic });
  }

  /** Learn where the connection stands. */
  told(status) {
    this.#status = status;
    if (!this.#leads) return;
    // Another tab may have a token that is still good.
    const isOwn = status.error?.code === UNAUTHORIZED;
    if (!isOwn) this.#post({ do: "status", status: packStatus(status), time: this.#clock.time });
    if (status.state === "closed") this.stop();
  }

  #post(message) {
    this.#channel?.postMessage({ from: this.#tab, ...message });
  }

  #take(message) {
    const { from, to } = message;
    if (to && !to.includes(this.#tab)) return;
    if (message.do === "lead") this.#follow(message);
    else if (this.#leads) this.#serve(from, message);
    else if (from === this.#leader) this.#hear(message);
  }

  /** Serve another tab, as the leader. */
  #serve(from, message) {
    if (message.do === "bye") return this.#tabs.drop(from);
    if (message.do === "look") return this.#link.look();
    if (message.do === "ping") return this.#post({ do: "pong", to: [from], time: this.#clock.time });
    if (message.do === "hello") return this.#post({ do: "lead", to: [from], status: packStatus(this.#status), time: this.#clock.time });
    if (message.do === "unfollow") return this.#tabs.unfollow(from, message.topic);
    if (message.do !== "follow") return undefined;
    if (!this.#tabs.has(from)) {
      this.#tabs.add(from);
      hold(`${this.#name} ${from}`, this.#resigning.signal, () => this.#tabs.drop(from));
    }
    return this.#tabs.follow(from, message);
  }

  /** Hear the leader. */
  #hear(message) {
    this.#patience.clear();
    this.#clock.hear(message.time);
    if (message.do === "message") {
      const accepted = this.#asked.accept(message.message);
      if (accepted) this.#hub.receive(accepted);
    } else if (message.do === "refused") {
      const refusal = { type: "error", topic: message.topic, ref: message.ref };
      if (this.#asked.accept(refusal)) this.#hub.refuse(message.topic, unpackError(message.error));
    } else if (message.do === "status") this.#noteStatus(message.status);
  }

  /** Follow a leader that has said that it leads. */
  #follow({ from, to, status, time }) {
    this.#patience.clear();
    this.#clock.hear(time);
    if (this.#leads || (from === this.#leader && !to)) return;
    this.#leader = from;
    for (const [topic, cursor] of this.#hub.places()) this.follow(topic, cursor);
    if (status) this.#noteStatus(status);
  }

  #noteStatus(packed) {
    const status = unpackStatus(packed);
    this.#tell(status);
    if (status.state !== "closed") return;
    this.stop();
    this.#hub.fail(status.error);
  }

  #askLeader() {
    this.#ping.set(PING_SECONDS);
    if (this.#leads || document.visibilityState !== "visible") return;
    this.#post({ do: "ping" });
    if (!this.#patience.isSet) this.#patience.set(PONG_SECONDS);
  }

  /** Lead when the lock is free; `steals`: at once. */
  async #enter(steals) {
    const { signal } = this.#stopping;
    this.#attempt += 1;
    const attempt = this.#attempt;
    const isCurrent = () => attempt === this.#attempt && !signal.aborted;
    try {
      await navigator.locks.request(this.#name, steals ? { steal: true } : { signal }, () =>
        isCurrent() ? this.#lead() : undefined,
      );
    } catch {
      // The lock was taken away, or nobody waits for it any more.
    }
    if (!isCurrent()) return;
    this.#resign();
    this.#hub.attach(this);
    this.#post({ do: "hello" });
    this.#enter(false);
  }

  #lead() {
    this.#leader = this.#tab;
    this.#patience.clear();
    this.#resigning = new AbortController();
    const { signal } = this.#resigning;
    this.#hub.attach(this.#link);
    this.#post({ do: "lead", status: null });
    this.#link.open();
    return new Promise((resolve) => signal.addEventListener("abort", resolve));
  }

  #resign() {
    this.#tabs.dropAll();
    this.#link.close();
    this.#leader = null;
    this.#resigning?.abort();
    this.#resigning = null;
  }
}

/** Hold a lock until the signal; return when it is held. `granted` is called then. */
function hold(name, signal, granted = () => {}) {
  return new Promise((resolve) => {
    const held = () => {
      granted();
      resolve();
      return new Promise((release) => signal.addEventListener("abort", release));
    };
    navigator.locks.request(name, { signal }, held).catch(resolve);
  });
}

function packStatus(status) {
  return status && { ...status, error: status.error && packError(status.error) };
}

function unpackStatus(status) {
  return { ...status, error: status.error && unpackError(status.error) };
}

/** The time left of a task or batch, and the time until its start: those of a snapshot, run down by the clock. */

const OVER = new Set(["completed", "partial", "failed", "cancelled", "dead"]);
const WAITING = new Set(["queued", "delayed"]);

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** Return the seconds since an ISO time by the server's clock, never below 0; `other` if it is no time. */
function secondsSince(text, now, skew, other) {
  const at = Date.parse(text ?? "");
  return Number.isFinite(at) ? Math.max(0, (now - at) / 1000 + skew) : other;
}

function bandOf(seconds, low, high, passed, now) {
  const left = (value) => (isNumber(value) ? Math.max(0, value - passed) : null);
  const moment = (value) => (value === null ? null : new Date(now + value * 1000));
  const found = { seconds: left(seconds), low: left(low), high: left(high) };
  return { ...found, finish: moment(found.seconds), latest: moment(found.high) };
}

/** Return whether a snapshot is that of a task which waits. */
function isWaiting({ task_id: task, status }) {
  return task !== undefined && WAITING.has(status);
}

/** Return whether a status is the end. */
function isOver(status) {
  return OVER.has(status);
}

/**
 * Return the seconds since a snapshot was true. That of a running task says when it was made; that of a batch or
 * of a task that waits was made when it came, at `receivedAt` [ms].
 */
function ageOf(snapshot, now, { skew = 0, receivedAt = now } = {}) {
  const sinceReceived = Math.max(0, (now - receivedAt) / 1000);
  if (snapshot.task_id === undefined || isWaiting(snapshot)) return sinceReceived;
  return secondsSince(snapshot.updated_at, now, skew, sinceReceived);
}

/**
 * Return `{seconds, low, high, finish, latest}`: how long a task or batch still takes [s], with the bounds within
 * which it ends in four of five cases, and when that is, as a Date of this machine's clock. `low`, `high` and
 * `latest` may be null. Null: it is unknown, or it does not run.
 *
 * `now` is the time of this machine (a Date, or milliseconds), `skew` how far the server's clock is ahead of it [s],
 * `receivedAt` when the snapshot came.
 */
function timeLeft(snapshot, now = Date.now(), known = {}) {
  const { status, remaining_time: seconds, remaining_low: low, remaining_high: high } = snapshot;
  if (!isNumber(seconds) || isOver(status) || isWaiting(snapshot)) return null;
  const at = Number(now);
  return bandOf(seconds, low, high, ageOf(snapshot, at, known), at);
}

/**
 * Return the same of the start of a task that waits: `finish` is when it starts. A task with a time of its own,
 * `run_at`, starts then. Null: it is unknown, or the task does not wait.
 */
function startsIn(snapshot, now = Date.now(), known = {}) {
  if (!isWaiting(snapshot)) return null;
  const at = Number(now);
  const { starts_in: seconds, starts_in_low: low, starts_in_high: high, run_at: planned } = snapshot;
  if (isNumber(seconds)) return bandOf(seconds, low, high, ageOf(snapshot, at, known), at);
  const moment = Date.parse(planned ?? "");
  if (!Number.isFinite(moment)) return null;
  return bandOf(Math.max(0, (moment - at) / 1000 - (known.skew ?? 0)), null, null, 0, at);
}

/** Tasks and batches, by their ids. */


const COMPLETED = "completed";
const CANCELLED = "cancelled";

/** Return the `finished` event that ends a topic. Throw TimeoutError, or the reason of a signal. */
async function endOf(watchable, options) {
  const { signal, clear } = deadline(options);
  try {
    for await (const event of watchable.events({ signal })) {
      if (event.type === "finished") return event;
    }
  } finally {
    clear();
  }
  throw new ProtocolError(`${watchable.topic} ended without finished`);
}

/** Return the events that tasks and batches have alike. */
function eventsOf({ type, topic, id, data }) {
  if (type === "resync") return [{ type, topic, id, reason: data.reason }];
  if (type !== "progress") return [];
  const { progress: percent, message = null, status } = data;
  return [{ type, topic, id, percent, message, status, snapshot: data }];
}

/** The base of both: knows the last snapshot that came. */
class Timed extends Watchable {
  #last = null;

  /**
   * Return how long it still takes at a moment, by the last snapshot that a loop or listener of this object was told:
   * `{seconds, low, high, finish, latest}`, as `timeLeft` has it; null is unknown.
   */
  timeLeft(now = Date.now()) {
    return this.#last && timeLeft(this.#last.snapshot, now, { ...this.#last, skew: this.client.skew });
  }

  /** Return the same of its start, while it waits. */
  startsIn(now = Date.now()) {
    return this.#last && startsIn(this.#last.snapshot, now, { ...this.#last, skew: this.client.skew });
  }

  readMessage({ type, data }) {
    if (type === "progress") this.#last = { snapshot: data, receivedAt: Date.now() };
    else if (type === "finished") this.#last = null;
    return [];
  }
}

/** A task. Its events are `progress`, the snapshot first, `finished`, and `resync` before another snapshot. */
class Task extends Timed {
  #submission;

  constructor(client, id, submission = null) {
    super(client, `task:${id}`);
    this.id = id;
    this.#submission = submission;
  }

  /** The answer to its submission, null for a task that was named by its id. */
  get submission() {
    return this.#submission;
  }

  /** Wait for its end and return its result. Throw TaskFailed, TaskCancelled, TimeoutError after `timeout` [s]. */
  async result(options) {
    const { status, result, error } = await endOf(this, options);
    if (status === COMPLETED) return result;
    throw new (status === CANCELLED ? TaskCancelled : TaskFailed)(this.id, status, error);
  }

  /** Cancel it, unless it has ended; return how it is. */
  cancel() {
    return this.client.request("DELETE", pathOf("/api/tasks", this.id));
  }

  /** Run it again, after it failed, died or was cancelled; listeners follow it again. */
  async retry() {
    const answer = await this.client.request("POST", pathOf("/api/tasks", this.id, "retry"));
    this.resume();
    return answer;
  }

  /** Return all that is known of it. */
  read() {
    return this.client.request("GET", pathOf("/api/tasks", this.id));
  }

  /** Return what it has told so far, the oldest first: `{items, older}`. */
  output() {
    return this.client.request("GET", pathOf("/api/tasks", this.id, "output"));
  }

  /** Return why it is where it is, or why its user has not heard of its end: `{cause, heard, chain}`. */
  why() {
    return this.client.request("GET", pathOf("/api/tasks", this.id, "why"));
  }

  readMessage(message) {
    super.readMessage(message);
    const { type, topic, id, data } = message;
    if (type !== "finished") return eventsOf(message);
    const { final_status: status, result = null, error = null } = data;
    return [{ type, topic, id, status, result, error }];
  }
}

/** A batch of tasks. Its events are `progress`, `finished` and `resync`. */
class Batch extends Timed {
  #submission;

  constructor(client, id, submission = null) {
    super(client, `batch:${id}`);
    this.id = id;
    this.#submission = submission;
  }

  get submission() {
    return this.#submission;
  }

  /** Wait for its end; return the `finished` event. Throw TimeoutError after `timeout` [s]. */
  result(options) {
    return endOf(this, options);
  }

  /** Cancel what has not ended; return how it is. */
  cancel() {
    return this.client.request("DELETE", pathOf("/api/batches", this.id));
  }

  /** Run again what has failed or died; return `{retried}`. */
  async retry() {
    let retried = 0;
    for await (const { task_id, status } of this.tasks()) {
      if (status !== "failed" && status !== "dead") continue;
      await this.client.task(task_id).retry();
      retried += 1;
    }
    if (retried) this.resume();
    return { retried };
  }

  /** Return its state. */
  read() {
    return this.client.request("GET", pathOf("/api/batches", this.id));
  }

  /** Iterate over its tasks. */
  tasks() {
    return this.client.pages(pathOf("/api/batches", this.id, "tasks"));
  }

  readMessage(message) {
    super.readMessage(message);
    const { type, topic, id, data } = message;
    if (type !== "finished") return eventsOf(message);
    return [{ type, topic, id, status: data.final_status, counts: data }];
  }
}

/** A topic of the application. */


/**
 * Its events are `message`, with `data` and `isSnapshot` (the last one from before we came), and `resync`:
 * some messages cannot be had any more.
 */
class Topic extends Watchable {
  readMessage({ type, topic, id, data }) {
    if (type === "message") return [{ type, topic, id, data, isSnapshot: false }];
    if (type === "resync") return [{ type, topic, id, reason: data.reason }];
    if (type !== "subscribed" || data.recovered || (data.snapshot ?? null) === null) return [];
    return [{ type: "message", topic, id, data: data.snapshot, isSnapshot: true }];
  }
}

/** The client: one connection for all that a page or program follows, and the verbs of the server. */


/** Return the folder of the server, whose path ends with "/". Throw TypeError for a wrong address. */
function baseOf(url, page = globalThis.document?.baseURI) {
  const base = new URL(url ?? ".", page);
  if (base.protocol !== "http:" && base.protocol !== "https:") {
    throw new TypeError(`the address must begin with http:// or https://: ${url}`);
  }
  base.search = base.hash = "";
  // Where the page is: its folder. An address that was given is one.
  base.pathname = url ? `${base.pathname.replace(/\/+$/, "")}/` : base.pathname.replace(/[^/]*$/, "");
  return base.href;
}

const NORMAL = 1000;
// Wait after the function that gets the token has failed [s].
const TOKEN_AGAIN_SECONDS = 2;
const IDLE = { state: "idle", transport: null, userId: null, reason: null, error: null, retryIn: null };

/**
 * `url` is where the server is, with the prefix that it is mounted under; in a browser it may be relative,
 * or left out: then the server is where the page is. Options:
 *
 * - `token`: a token, or a function that returns one or its promise; without one a cookie is used.
 * - `transport`: "auto" (a socket; an event stream where sockets do not get through), "socket" or "stream".
 * - `share`: whether the tabs of one origin and user share a connection (true).
 * - `locale`: the language of what the server tells in words, such as "zh-CN"; else that of the browser, or the server's.
 * - `WebSocket`, `fetch`: in place of the global ones.
 * - `patience`: how long a request is repeated [s] (30).
 * - `backoff`: `{first, most}` [s]: the bounds of the waits between attempts (1, 30).
 * - `socketAgain`: `{first, most}` [s]: after how long on an event stream a socket is tried again (30, 600).
 *
 * A `state` event says where the connection stands: `idle` (nothing is followed), `connecting`, `online`,
 * `offline` (it comes back by itself) or `closed` (it does not). Its detail is that of `status`.
 */
class Client extends EventTarget {
  static #default = null;
  static #waiting = [];

  #base;
  #options;
  #locale;
  #tokens;
  #requester;
  #link;
  #sharing = null;
  // The link, or the sharing of it; null until it is known which.
  #upstream = null;
  // Those whose listeners were told of the end.
  #ended = new Set();
  #status = IDLE;
  #isClosed = false;
  #endPage;
  #inbox = null;
  #tasks = null;
  #schedules = null;

  /** The server's clock; for the classes of this module. */
  clock = new ServerClock();

  /** The hub of this client's topics; for the classes of this module. */
  hub = new Hub();

  constructor(url, options = {}) {
    super();
    const { token, transport = "auto", share = true, patience = 30, backoff = {} } = options;
    if (!["auto", "socket", "stream"].includes(transport)) throw new TypeError(`not a transport: ${transport}`);
    this.#base = baseOf(url);
    this.#locale = checkedLocale(options.locale);
    const sockets = options.WebSocket ?? globalThis.WebSocket;
    if (transport === "socket" && !sockets) throw new TypeError("there is no WebSocket here: give the option WebSocket");
    this.#options = {
      base: this.#base,
      tokens: (this.#tokens = new Tokens(token)),
      locale: () => this.#locale,
      fetch: options.fetch ?? globalThis.fetch.bind(globalThis),
      WebSocket: transport === "stream" ? null : sockets,
      streams: transport !== "socket",
      backoff: new Backoff(backoff),
      socketAgain: options.socketAgain,
      patience,
    };
    this.#requester = new Requester(this.#options);
    this.#link = new Link({ ...this.#options, hub: this.hub, clock: this.clock, tell: (status) => this.#tell(status) });
    this.#endPage = watchPage(this.#pageEvents());
    if (share && canShare()) this.#share();
    else this.#begin(this.#link);
  }

  /** The client that elements and other parts of a page use. */
  static get default() {
    return Client.#default;
  }

  static set default(client) {
    Client.#default = client;
    if (client) for (const resolve of Client.#waiting.splice(0)) resolve(client);
  }

  /** Return the default client, when there is one. */
  static whenDefault() {
    if (Client.#default) return Promise.resolve(Client.#default);
    return new Promise((resolve) => Client.#waiting.push(resolve));
  }

  get url() {
    return this.#base;
  }

  /** The language of what the server tells in words, "" for that of the browser. */
  get locale() {
    return this.#locale;
  }

  /** Ask in another language from now on; an open connection is opened anew. */
  set locale(tag) {
    const before = this.#locale;
    this.#locale = checkedLocale(tag);
    if (this.#locale === before || this.#isClosed || !this.#upstream) return;
    if (!this.#sharing) {
      this.#link.reopen();
      return;
    }
    // The tabs of another language share another connection.
    this.#sharing.stop();
    this.#upstream = this.#sharing = null;
    this.hub.attach(null);
    this.#share();
  }

  get state() {
    return this.#status.state;
  }

  /** `{state, transport, userId, reason, error, retryIn}`: where the connection stands, and why. */
  get status() {
    return this.#status;
  }

  /** The lead of the server's clock over that of this machine [s], as far as its messages tell; else 0. */
  get skew() {
    return this.clock.skew;
  }

  /** Return a task, to watch it, wait for it or cancel it. */
  task(id, submission) {
    return new Task(this, checkedId(id), submission);
  }

  batch(id, submission) {
    return new Batch(this, checkedId(id), submission);
  }

  /** Return a topic, to watch it: the application's own, such as `room:42`. */
  subscribe(topic) {
    return new Topic(this, checkedTopic(topic));
  }

  get inbox() {
    return (this.#inbox ??= new Inbox(this));
  }

  get tasks() {
    return (this.#tasks ??= new TaskList(this));
  }

  get schedules() {
    return (this.#schedules ??= new Schedules(this));
  }

  /**
   * Submit a task and return it. `options` are the other fields of the body: `label`, `priority`, `key`,
   * `unique`, `delay`, `tags`. The same `idempotencyKey` is the same task.
   */
  async submit(kind, params = {}, { idempotencyKey = newKey(), ...options } = {}) {
    const answer = await this.request("POST", "/api/tasks", { kind, params, ...options }, { key: idempotencyKey });
    return this.task(answer.task_id, answer);
  }

  /**
   * Say when a task would start and end if it were submitted now, as `submit` takes it; nothing is submitted.
   *
   * Times are seconds from now, `starts_in` and `remaining_time` (how long it runs) with their bounds, and ISO
   * 8601 in `starts_at` and `ends_at`; null is unknown.
   * @param {string} kind
   * @param {object} [params]
   * @param {Record<string, any>} [options]
   */
  estimate(kind, params = {}, { idempotencyKey, ...options } = {}) {
    return this.#dryRun("/api/tasks", { kind, params, ...options }, idempotencyKey);
  }

  /**
   * Say the same of a batch, as `submitBatch` takes it.
   * @param {string} kind
   * @param {object[]} items
   * @param {Record<string, any>} [options]
   */
  estimateBatch(kind, items, { idempotencyKey, ...options } = {}) {
    const body = { kind, items: items.map((params) => ({ params })), ...options };
    return this.#dryRun("/api/batches", body, idempotencyKey);
  }

  /** Submit a task of one kind for each item, its parameters, all or none; return the batch. */
  async submitBatch(kind, items, { idempotencyKey = newKey(), ...options } = {}) {
    const body = { kind, items: items.map((params) => ({ params })), ...options };
    const answer = await this.request("POST", "/api/batches", body, { key: idempotencyKey });
    return this.batch(answer.batch_id, answer);
  }

  /** Send a notification to a user; return it. */
  notify(userId, fields, { idempotencyKey = newKey() } = {}) {
    return this.request("POST", "/api/notifications", { user_id: userId, ...fields }, { key: idempotencyKey });
  }

  /**
   * Publish on a topic; return the id of the message.
   *
   * Throw ConnectionLost when nobody knows whether it was published: it is not sent twice.
   */
  async publish(topic, data = null) {
    return (await this.request("POST", "/api/publish", { topic: checkedTopic(topic), data })).id;
  }

  /** Return the kinds of work that can be submitted. */
  async kinds() {
    return (await this.request("GET", "/api/kinds")).items;
  }

  /**
   * Ask any endpoint; return the JSON of its answer. Throw ApiError, ConnectionLost, ProtocolError.
   *
   * A request is repeated for a while where that does no harm: with the option `key` (an
   * `Idempotency-Key`), `isHarmless`, or a method that is idempotent. `signal` ends it.
   * @param {string} method
   * @param {string} path
   * @param {any} [body]
   * @param {{key?: string, isHarmless?: boolean, signal?: AbortSignal, keepalive?: boolean}} [options]
   */
  request(method, path, body, options = {}) {
    return this.#requester.send(method.toUpperCase(), path, { body, ...options });
  }

  /** Iterate over the items of a list, over all pages. */
  async *pages(path, filters = {}, placeName = "before") {
    let place = filters[placeName];
    do {
      const page = await this.request("GET", path + queryOf({ ...filters, [placeName]: place }));
      yield* page.items;
      place = page.next;
    } while (place);
  }

  /** Come back after the state `closed`, with all that listeners followed; harmless in any other. */
  connect() {
    if (this.#isClosed) this.#endPage = watchPage(this.#pageEvents());
    this.#isClosed = false;
    this.hub.reopen();
    if (this.#status.state === "closed") this.#tell(IDLE);
    this.#upstream?.open();
    const ended = [...this.#ended];
    this.#ended.clear();
    for (const watchable of ended) watchable.resume();
  }

  /** Note that listeners were told of an error; for the classes of this module. */
  failed(watchable) {
    if (this.#status.state === "closed") this.#ended.add(watchable);
  }

  /** Close the connection, and end all loops and listeners. Requests still work. */
  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#endPage();
    this.#sharing?.stop();
    this.#link.close();
    const error = new ConnectionClosed(NORMAL, "the client was closed");
    this.#tell({ ...IDLE, state: "closed", reason: error.message, error });
    this.hub.fail(error);
  }

  #dryRun(path, body, key) {
    return this.request("POST", `${path}?dry_run=true`, body, { key, isHarmless: true });
  }

  async #share() {
    const locale = this.#locale;
    const name = await this.#sharingName();
    if (locale !== this.#locale) return this.#share();
    if (!name) return this.#begin(this.#link);
    this.#sharing = new Sharing({ name, hub: this.hub, clock: this.clock, link: this.#link, tell: (status) => this.#tell(status) });
    return this.#begin(this.#sharing);
  }

  #begin(upstream) {
    this.#upstream = upstream;
    this.hub.attach(upstream);
    if (!this.#isClosed) upstream.open();
  }

  async #sharingName() {
    for (;;) {
      try {
        return await sharingName(this.#base, this.#tokens, this.#locale);
      } catch (error) {
        const reason = String(error?.message ?? error);
        if (this.#isClosed) return null;
        this.#tell({ ...IDLE, state: "offline", reason, retryIn: TOKEN_AGAIN_SECONDS });
        await sleep(TOKEN_AGAIN_SECONDS);
      }
    }
  }

  #pageEvents() {
    return {
      online: () => this.#upstream?.look(),
      shown: () => this.#upstream?.look(),
      offline: () => this.#link.networkLost(),
      frozen: () => this.#upstream?.sleep("the page is not shown"),
      thawed: () => this.#upstream?.open(),
    };
  }

  #tell(status) {
    this.#status = status;
    this.#sharing?.told(status);
    this.dispatchEvent(new CustomEvent("state", { detail: status }));
  }
}

function checkedLocale(tag = "") {
  if (typeof tag !== "string" || !/^[\w-]{0,64}$/.test(tag)) throw new TypeError(`not the tag of a language: ${JSON.stringify(tag)}`);
  return tag;
}

function checkedId(id) {
  if (typeof id !== "string" || !/^[\w-]{1,64}$/.test(id)) throw new TypeError(`not an id: ${JSON.stringify(id)}`);
  return id;
}

function checkedTopic(topic) {
  if (typeof topic !== "string" || !topic || topic.includes(",")) {
    throw new TypeError("a topic is a text that is not empty and has no comma");
  }
  return topic;
}

export { ApiError, Client, ConnectionClosed, ConnectionLost, ProtocolError, ReaderTooSlow, RealtimeError, ServerClock, TaskCancelled, TaskEnded, TaskFailed, ageOf, startsIn, timeLeft };
