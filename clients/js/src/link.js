/**
 * The connection to the server, over one WebSocket or event stream after another.
 *
 * It is the upstream of a hub. It opens when the first topic is followed, comes back when it is lost, as
 * `Course` decides, and rests when nobody follows anything.
 */

import { Course } from "./course.js";
import { ApiError, RealtimeError, errorOfCode } from "./errors.js";
import { Socket } from "./socket.js";
import { Stream } from "./stream.js";
import { Timer, now } from "./timer.js";
import { renewalIn } from "./tokens.js";

// An open connection waits this long for another topic [s].
const LINGER_SECONDS = 1;
// The server has this long to answer a ping, after the page was shown again [s].
const PROBE_SECONDS = 3;
// A token is renewed no more often than this [s].
const LEAST_RENEWAL_SECONDS = 1;
// A topic is asked for again after a store did not answer [s].
const TOPIC_AGAIN_SECONDS = 2;

export class Link {
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
