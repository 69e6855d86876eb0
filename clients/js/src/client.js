/** The client: one connection for all that a page or program follows, and the verbs of the server. */

import { Backoff } from "./backoff.js";
import { ConnectionClosed } from "./errors.js";
import { Hub } from "./hub.js";
import { Inbox } from "./inbox.js";
import { Link } from "./link.js";
import { Schedules, TaskList } from "./lists.js";
import { watchPage } from "./page.js";
import { Requester, newKey, queryOf, sleep } from "./request.js";
import { ServerClock } from "./server-clock.js";
import { Sharing, canShare, sharingName } from "./sharing.js";
import { Batch, Task } from "./task.js";
import { Tokens } from "./tokens.js";
import { Topic } from "./topic.js";

/** Return the folder of the server, whose path ends with "/". Throw TypeError for a wrong address. */
export function baseOf(url, page = globalThis.document?.baseURI) {
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
export class Client extends EventTarget {
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
