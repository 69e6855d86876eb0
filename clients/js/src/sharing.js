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

import { Asked } from "./asked.js";
import { packError, unpackError } from "./errors.js";
import { Position } from "./position.js";
import { UNAUTHORIZED } from "./protocol.js";
import { newKey } from "./request.js";
import { Timer } from "./timer.js";
import { readClaims } from "./tokens.js";

// A visible tab asks this often whether the leader is there, and waits this long for its answer
// [s].
const PING_SECONDS = 5;
const PONG_SECONDS = 2;

/** Return whether tabs can find one another here: in a page, over HTTPS or on this machine. */
export function canShare() {
  return Boolean(globalThis.document && globalThis.navigator?.locks && globalThis.BroadcastChannel);
}

/** Return the name that tabs of the same server, user, rights and language share; null when the user is unknown. */
export async function sharingName(base, tokens, locale) {
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
export class Sharing {
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
