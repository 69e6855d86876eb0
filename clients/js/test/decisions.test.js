/** When a client comes back, and by which transport; the format of streams; errors and tokens. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../src/backoff.js";
import { baseOf } from "../src/client.js";
import { Course } from "../src/course.js";
import { ApiError, ConnectionLost, readRetryAfter } from "../src/errors.js";
import { EventStreamParser, messageOf } from "../src/event-stream.js";
import { InboxList } from "../src/inbox-list.js";
import { Position } from "../src/position.js";
import { comesBack, isUpTo } from "../src/protocol.js";
import { Attempts, pathOf, queryOf } from "../src/request.js";
import { placesId } from "../src/stream.js";
import { readClaims, renewalIn, Tokens } from "../src/tokens.js";
import { withChange } from "../src/topic-log.js";

const most = new Backoff({ random: () => 1 });
const course = (more = {}) => new Course({ sockets: true, renews: true, backoff: most, ...more });
const gone = { transport: "socket", wasOpen: false, code: 1006 };

test("waits double up to a bound, each at random between nothing and the whole", () => {
  assert.deepEqual([1, 2, 3, 9, 1e9].map((failures) => most.seconds(failures)), [1, 2, 4, 30, 30]);
  assert.equal(new Backoff({ random: () => 0 }).seconds(5), 0);
  assert.equal(most.seconds(3, { first: 0.5 }), 2);
  assert.equal(most.seconds(3, { retryAfter: 7 }), 8);
});

test("the code of a close says whether to come back", () => {
  for (const code of [1001, 1005, 1006, 1011, 1012, 1013, 4508, 4510, 4599, 3000]) {
    assert.ok(course().lost({ ...gone, wasOpen: true, code }).wait >= 0, code);
  }
  for (const code of [1000, 1002, 1003, 1007, 1008, 1009, 4400, 4403, 4404, 4429, 4499]) {
    const { error } = course().lost({ ...gone, wasOpen: true, code, reason: "why" });
    assert.deepEqual([error.name, error.code, error.reason], ["ConnectionClosed", code, "why"]);
  }
});

test("the server's own table wins", () => {
  const told = course();
  told.connected("socket", { reconnect: { 4404: true, 1001: false } });
  assert.ok(told.lost({ ...gone, wasOpen: true, code: 4404 }).wait >= 0);
  assert.ok(told.lost({ ...gone, wasOpen: true, code: 1001 }).error);
  assert.equal(comesBack(4404), false);
});

test("a refused token is renewed once, if it can be", () => {
  const expired = { ...gone, code: 4401 };
  const renewing = course();
  assert.deepEqual(renewing.lost(expired), { renew: true, wait: 0 });
  assert.equal(renewing.lost(expired).error.code, 4401);
  renewing.connected("socket");
  assert.ok(renewing.lost(expired).renew);
  assert.equal(course({ renews: false }).lost(expired).error.code, 4401);
  assert.ok(course().lost({ transport: "stream", status: 401 }).renew);
  assert.ok(course().lost({ transport: "stream", problem: { code: "token_expired" } }).renew);
  // The socket did open: there is no reason to leave it.
  assert.equal(renewing.next(), "socket");
});

test("a stream takes over after two sockets that did not open", () => {
  const falling = course();
  falling.lost(gone);
  assert.equal(falling.next(), "socket");
  falling.lost(gone);
  assert.equal(falling.next(), "stream");
  // The server is away altogether: a socket may get through when it is back.
  falling.lost({ transport: "stream" });
  assert.equal(falling.next(), "socket");
  falling.lost(gone);
  falling.connected("stream");
  falling.lost({ transport: "stream", wasOpen: true });
  assert.equal(falling.next(), "stream");
  falling.connected("socket");
  assert.equal(falling.next(), "socket");
});

test("a socket that opened and was closed does not count", () => {
  const busy = course();
  for (let count = 0; count < 5; count += 1) busy.lost({ ...gone, code: 1013 });
  assert.equal(busy.next(), "socket");
  assert.equal(course({ sockets: false }).next(), "stream");
  const only = course({ streams: false });
  for (let count = 0; count < 5; count += 1) only.lost(gone);
  assert.equal(only.next(), "socket");
});

test("a socket is tried again less and less often", () => {
  const again = course();
  assert.deepEqual(Array.from({ length: 7 }, () => again.socketAgain()), [30, 60, 120, 240, 480, 600, 600]);
  assert.equal(course({ sockets: false }).socketAgain(), null);
});

test("a refusal of a stream passes or stays by its status", () => {
  for (const status of [429, 500, 502, 503, 504]) {
    assert.equal(course().lost({ transport: "stream", status, retryAfter: 4 }).wait, 5, status);
  }
  assert.equal(course().lost({ transport: "stream", status: 405 }).error.status, 405);
  for (const code of ["going_away", "idle", "degraded"]) {
    assert.ok(course().lost({ transport: "stream", wasOpen: true, problem: { code } }).wait >= 0);
  }
  assert.equal(course().lost({ transport: "stream", problem: { code: "forbidden" } }).error.status, 403);
});

test("two missed heartbeats are silence; without heartbeats there is none", () => {
  assert.equal(course().connected("socket", { heartbeat_interval: 30 }), 61);
  assert.equal(course().connected("socket", { heartbeat_interval: 0 }), 0);
});

test("blocks come whole, however the stream is cut into pieces", () => {
  const text = 'retry: 1500\nevent: connected\ndata: {"a":\ndata: "ü"}\nid: m~1\n\n: no\r\ndata: 2\r\rid\ndata\n\nevent: x\n\n';
  const bytes = new TextEncoder().encode(text);
  for (let size = 1; size <= bytes.length; size += 1) {
    const parser = new EventStreamParser();
    const blocks = [];
    for (let at = 0; at < bytes.length; at += size) blocks.push(...parser.feed(bytes.slice(at, at + size)));
    assert.deepEqual(blocks, [
      { event: "connected", data: '{"a":\n"ü"}', id: "m~1" },
      { event: "message", data: "2", id: "m~1" },
      { event: "message", data: "", id: "" },
    ]);
    assert.equal(parser.retrySeconds, 1.5);
  }
});

test("a message of a topic is whole, one of the connection is its data", () => {
  assert.deepEqual(messageOf({ event: "heartbeat", data: '{"a":1}' }), { type: "heartbeat", data: { a: 1 } });
  const refusal = { type: "problem", topic: "a", data: { code: "not_found" } };
  assert.deepEqual(messageOf({ event: "problem", data: JSON.stringify(refusal) }), { ...refusal, type: "error" });
  assert.equal(messageOf({ event: "problem", data: '{"code":"idle"}' }).type, "error");
});

test("a reader takes each message once", () => {
  const position = new Position("e-5");
  const take = (type, id) => position.take({ type, id });
  assert.deepEqual([take("message", "e-5"), take("message", "e-6"), take("message", "e-6")], [false, true, false]);
  assert.deepEqual([take("message", "f-1"), take("message", "e-6"), take("message", "f-1")], [true, false, false]);
  assert.equal(take("resync", "e-0"), true);
  assert.equal(take("message", "e-6"), true);
  assert.equal(isUpTo("e-9007199254740993", "e-9007199254740992"), false);
});

test("each topic of a stream begins at its cursor", () => {
  assert.equal(placesId(new Map([["a", "e-1"], ["b", ""], ["c", "f-2"]])), "c~e-1..f-2");
  assert.equal(placesId(new Map([["a", ""]])), "");
});

test("only what does no harm is sent again, within the patience", () => {
  const attempts = (isRepeatable) => new Attempts({ isRepeatable, backoff: most, began: 0, patience: 10 });
  assert.equal(attempts(true).pause(new ConnectionLost("lost"), 1), 1);
  assert.throws(() => attempts(false).pause(new ConnectionLost("lost"), 1));
  assert.equal(attempts(false).pause(new ConnectionLost("refused", { wasSent: false }), 1), 1);
  assert.equal(attempts(false).pause(new ApiError(429, {}, 3), 1), 4);
  assert.throws(() => attempts(false).pause(new ApiError(503), 1));
  assert.equal(attempts(true).pause(new ApiError(503), 1), 1);
  assert.throws(() => attempts(true).pause(new ApiError(404), 1));
  assert.throws(() => attempts(true).pause(new ApiError(503, {}, 99), 1));
});

test("Retry-After is seconds or a date", () => {
  assert.equal(readRetryAfter("3"), 3);
  assert.equal(readRetryAfter("Wed, 21 Oct 2015 07:28:00 GMT", Date.UTC(2015, 9, 21, 7, 27, 50)), 10);
  for (const text of [null, "", "soon"]) assert.equal(readRetryAfter(text), null);
});

test("an error says the problem and its faults", () => {
  const error = new ApiError(422, { title: "t", detail: "not valid", errors: ["a", "b"] }, 2);
  assert.equal(error.message, "422 not valid; a; b");
  assert.deepEqual([error.status, error.title, error.errors, error.retryAfter], [422, "t", ["a", "b"], 2]);
});

function tokenOf(claims) {
  return `h.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.s`;
}

test("a token is renewed before it expires", async () => {
  assert.equal(readClaims(tokenOf({ sub: "älice" })).sub, "älice");
  assert.deepEqual(readClaims("nonsense"), {});
  assert.equal(renewalIn(tokenOf({ exp: 1100 }), 1000), 75);
  assert.equal(renewalIn(tokenOf({ exp: 11_000 }), 1000), 9940);
  assert.equal(renewalIn(tokenOf({}), 1000), null);
  let count = 0;
  const tokens = new Tokens(async () => tokenOf({ exp: Date.now() / 1000 + 100, count: ++count }));
  const both = await Promise.all([tokens.get(), tokens.get()]);
  assert.equal(both[0], both[1]);
  await tokens.get();
  assert.equal(count, 1);
  await tokens.get({ isFresh: true });
  assert.equal(count, 2);
  assert.throws(() => new Tokens("from a file\n"), /line ends/);
  await assert.rejects(new Tokens(() => 5).get(), /no text/);
});

test("an address is a folder", () => {
  assert.equal(baseOf("https://a.example"), "https://a.example/");
  assert.equal(baseOf("https://a.example/rt?x#y"), "https://a.example/rt/");
  assert.equal(baseOf("/rt", "https://a.example/orders/7"), "https://a.example/rt/");
  assert.equal(baseOf(undefined, "https://a.example/rt/index.html?x"), "https://a.example/rt/");
  assert.throws(() => baseOf("ftp://a.example"), /http/);
  assert.throws(() => baseOf("/rt"));
});

test("names and filters are written into addresses", () => {
  assert.equal(pathOf("/api/tasks", "a/b"), "/api/tasks/a%2Fb");
  assert.equal(pathOf("/api/schedules", "kind:name"), "/api/schedules/kind:name");
  for (const name of ["", ".", "..", undefined]) assert.throws(() => pathOf("/api/tasks", name), /name/);
  assert.equal(queryOf({ status: ["a", "b"], total: true, before: null }), "?status=a&status=b&total=true");
  assert.equal(queryOf({}), "");
});

test("a change replaces the fields of a task, or adds one before the others", () => {
  const list = [{ task_id: "b", status: "queued", position: 3, params: 1 }, { task_id: "a", status: "queued" }];
  const items = [{ task_id: "b", status: "processing" }, { task_id: "c", status: "queued" }];
  assert.deepEqual(withChange(list, { items, deleted: ["a"] }), [
    { task_id: "c", status: "queued" },
    { task_id: "b", status: "processing", position: null, params: 1 },
  ]);
});

test("an inbox keeps what events have told while its list was asked for", () => {
  const list = new InboxList();
  const one = (id, seq, more = {}) => ({ id, seq, archived_at: null, snoozed_until: null, ...more });
  list.asking();
  list.change({ items: [one("new", 9), one("b", 2, { archived_at: "…" })], deleted: ["c"] });
  list.add({ items: [one("c", 5), one("b", 2), one("a", 4)], next: "4" });
  assert.deepEqual(list.items.map(({ id }) => id), ["new", "a"]);
  list.change({ items: [one("old", 1)] });
  assert.deepEqual(list.items.map(({ id }) => id), ["new", "a"]);
  list.change({ items: [one("a", 10)] });
  assert.deepEqual(list.items.map(({ id }) => id), ["a", "new"]);
});
