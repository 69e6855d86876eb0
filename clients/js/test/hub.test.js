/** Readers of a hub beside a server that is cut, asked anew, and joined and left at random. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Asked } from "../src/asked.js";
import { Hub } from "../src/hub.js";
import { Position } from "../src/position.js";

/** The same numbers for the same seed (mulberry32). */
function randomOf(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A server with one log, and a connection that brings what it sends only when it is told to. */
class Server {
  log = [];
  wire = [];
  asked = new Asked();
  isOpen = true;

  constructor(hub, topic) {
    Object.assign(this, { hub, topic });
  }

  publish() {
    this.log.push(this.log.length + 1);
    if (this.isFollowed) this.#send({ type: "message", data: this.log.length, id: `e-${this.log.length}` });
  }

  follow(topic, cursor) {
    assert.equal(topic, this.topic);
    const ref = this.asked.ask(topic, cursor);
    if (!this.isOpen) return;
    this.isFollowed = true;
    const last = this.log.length;
    const after = cursor ? Number(cursor.slice(2)) : last;
    const data = cursor ? { recovered: true } : { recovered: false, snapshot: last || null };
    this.#send({ type: "subscribed", ref, data, id: cursor || `e-${last}` });
    for (const one of this.log.slice(after)) this.#send({ type: "message", data: one, id: `e-${one}` });
  }

  unfollow(topic) {
    this.asked.forget(topic);
    this.isFollowed = false;
  }

  cut() {
    this.wire = [];
    this.isFollowed = this.isOpen = false;
  }

  comeBack() {
    if (this.isOpen) return;
    this.isOpen = true;
    for (const [topic, cursor] of this.hub.places()) this.follow(topic, cursor);
  }

  /** Bring one message. */
  bring() {
    const message = this.wire.shift();
    const accepted = message && this.asked.accept(message);
    if (accepted) this.hub.receive(accepted);
  }

  #send(message) {
    this.wire.push({ topic: this.topic, ...message });
  }
}

class Reader {
  seen = [];
  begin = null;
  error = null;

  constructor(cursor = "") {
    this.position = new Position(cursor);
    if (cursor) this.begin = Number(cursor.slice(2));
  }

  take({ type, data }) {
    if (type === "message") this.seen.push(data);
    if (type === "subscribed" && this.begin === null) this.begin = data.snapshot ?? 0;
  }

  fail(error) {
    this.error = error;
  }
}

/** Everything after where it began, once and in order. */
function check(reader, last) {
  const expected = Array.from({ length: last - reader.begin }, (_, at) => reader.begin + at + 1);
  assert.deepEqual(reader.seen, expected);
}

function settle(server) {
  server.comeBack();
  for (let left = 100_000; server.wire.length; left -= 1) {
    assert.ok(left, "the hub asks without end");
    server.bring();
  }
}

function live(seed) {
  const random = randomOf(seed);
  const hub = new Hub();
  const server = new Server(hub, "room");
  hub.attach(server);
  const readers = new Set();
  const join = (reader) => {
    readers.add(reader);
    hub.join("room", reader);
  };
  const leave = () => {
    const [first] = readers;
    if (!first || random() < 0.5) return;
    readers.delete(first);
    hub.leave("room", first);
  };
  const steps = {
    publish: () => server.publish(),
    bring: () => server.bring(),
    join: () => readers.size < 6 && join(new Reader()),
    joinBehind: () => server.log.length && join(new Reader(`e-${Math.floor(random() * (server.log.length + 1))}`)),
    leave,
    cut: () => server.cut(),
    comeBack: () => server.comeBack(),
  };
  const often = ["publish", "publish", "bring", "bring", "bring", ...Object.keys(steps)];
  for (let step = 0; step < 400; step += 1) steps[often[Math.floor(random() * often.length)]]();
  settle(server);
  for (const reader of readers) check(reader, server.log.length);
}

test("each reader gets each message once, whatever happens", () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    try {
      live(seed);
    } catch (error) {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    }
  }
});

test("a reader that comes later begins without the server", () => {
  const hub = new Hub();
  const server = new Server(hub, "room");
  hub.attach(server);
  hub.join("room", new Reader());
  settle(server);
  server.publish();
  settle(server);
  const late = new Reader();
  hub.join("room", late);
  assert.equal(late.begin, 1);
  assert.equal(server.wire.length, 0);
});

test("a resync begins anew for all readers", () => {
  const hub = new Hub();
  hub.attach({ follow() {}, unfollow() {} });
  const reader = new Reader();
  hub.join("room", reader);
  hub.receive({ type: "subscribed", topic: "room", data: { recovered: false, snapshot: null }, id: "e-5", asked: "" });
  hub.receive({ type: "message", topic: "room", data: 6, id: "e-6" });
  hub.receive({ type: "message", topic: "room", data: 6, id: "e-6" });
  hub.receive({ type: "resync", topic: "room", data: { reason: "epoch" }, id: "f-0" });
  hub.receive({ type: "message", topic: "room", data: 1, id: "f-1" });
  assert.deepEqual(reader.seen, [6, 1]);
  assert.equal(hub.placeOf("room"), "f-1");
});

test("a topic that is refused is told to its readers alone", () => {
  const hub = new Hub();
  hub.attach({ follow() {}, unfollow() {} });
  const [one, other] = [new Reader(), new Reader()];
  hub.join("a", one);
  hub.join("b", other);
  hub.receive({ type: "error", topic: "a", data: { code: "not_found", message: "no" } });
  hub.receive({ type: "error", topic: "b", data: { code: "degraded", message: "later" } });
  assert.equal(one.error.status, 404);
  assert.equal(other.error, null);
});
