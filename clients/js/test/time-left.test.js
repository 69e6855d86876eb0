/** The time left as the clock goes on, the clock of the server, and how it is shown. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Shown } from "../src/elements/shown.js";
import { leftInWords, lengthOf, startInWords } from "../src/elements/words.js";
import { ServerClock } from "../src/server-clock.js";
import { ageOf, startsIn, timeLeft } from "../src/time-left.js";

const NOON = Date.parse("2026-11-30T12:00:00Z");
const at = (seconds) => NOON + seconds * 1000;
const iso = (seconds) => new Date(at(seconds)).toISOString();
const band = { remaining_time: 100, remaining_low: 50, remaining_high: 200 };
const running = { task_id: "t", status: "processing", attempt: 1, progress: 0, elapsed_time: 0, updated_at: iso(0), ...band };
const step = (name, weight, status, more = {}) => ({ name, description: name, weight, status, ...more });

function shownOf(snapshot, now = at(0), skew = 0) {
  const shown = new Shown();
  shown.take(snapshot, now, skew);
  return shown;
}

test("the time left runs down from when the snapshot was made, never below 0", () => {
  const left = timeLeft(running, at(60));
  assert.deepEqual(left, { seconds: 40, low: 0, high: 140, finish: new Date(at(100)), latest: new Date(at(200)) });
  assert.deepEqual(timeLeft(running, new Date(at(60))), left);
  const over = timeLeft(running, at(1000));
  assert.deepEqual([over.seconds, over.low, over.high], [0, 0, 0]);
  // The clocks differ a little: nothing is added.
  assert.equal(timeLeft(running, at(-5)).seconds, 100);
});

test("what is unknown is null, and so is the time left of what does not run", () => {
  for (const more of [{ remaining_time: null }, { remaining_time: undefined }, { remaining_time: "x" }, { status: "queued" }, { status: "completed" }]) {
    assert.equal(timeLeft({ ...running, ...more }, at(0)), null);
  }
  const bare = timeLeft({ ...running, remaining_low: null, remaining_high: null }, at(10));
  assert.deepEqual([bare.seconds, bare.low, bare.high, bare.latest], [90, null, null, null]);
});

test("a clock that differs from the server's changes the finish, not the time left", () => {
  const left = timeLeft(running, at(3600 + 60), { skew: -3600 });
  assert.equal(left.seconds, 40);
  assert.deepEqual(left.finish, new Date(at(3600 + 100)));
});

test("a batch, and a task that waits, count from when they came", () => {
  const batch = { batch_id: "b", status: "queued", updated_at: iso(-500), ...band };
  assert.equal(timeLeft(batch, at(10), { receivedAt: at(0) }).seconds, 90);
  assert.equal(timeLeft(batch, at(10)).seconds, 100);
  const waiting = { ...running, status: "queued", updated_at: iso(-500), starts_in: 20, starts_in_low: 10, starts_in_high: 60 };
  const start = startsIn(waiting, at(5), { receivedAt: at(0) });
  assert.deepEqual([start.seconds, start.low, start.high, start.finish], [15, 5, 55, new Date(at(20))]);
  assert.equal(startsIn({ ...waiting, starts_in: undefined }, at(0)), null);
  assert.equal(startsIn(running, at(0)), null);
  const delayed = { ...running, status: "delayed", run_at: iso(30) };
  assert.equal(startsIn(delayed, at(10), { skew: 5 }).seconds, 15);
  assert.equal(ageOf({ ...running, updated_at: "never" }, at(9), { receivedAt: at(2) }), 7);
});

test("the fastest message tells the server's clock, and what is no time is passed over", () => {
  const clock = new ServerClock();
  assert.deepEqual([clock.skew, clock.time], [0, null]);
  for (const wrong of [undefined, null, "", "soon", NaN, {}]) clock.hear(wrong);
  assert.equal(clock.time, null);
  // One was on its way for 4 s.
  clock.hear(Date.now() + 3_596_000);
  clock.hear(new Date(Date.now() + 3_600_000).toISOString());
  clock.hear(Date.now() + 3_598_000);
  assert.ok(Math.abs(clock.skew - 3600) < 0.2, clock.skew);
  assert.ok(Math.abs(clock.time - Date.now() - 3_600_000) < 200);
  // The server's clock was set back.
  for (let i = 0; i < 8; i += 1) clock.hear(Date.now());
  assert.ok(Math.abs(clock.skew) < 0.2);
});

test("the bar goes on as slowly as the high end says, to the end of the step at most", () => {
  const steps = [step("a", 0.2, "current", { started_after: 0 }), step("b", 0.8, "pending")];
  const shown = shownOf({ ...running, current_step: 0, steps });
  assert.equal(shown.percent(at(0)), 0);
  assert.equal(shown.percent(at(20)), 10);
  for (const late of [40, 150, 1e6]) assert.equal(shown.percent(at(late)), 20);
  // A report of a minute later is no reason to go back.
  shown.take({ ...running, current_step: 0, steps, elapsed_time: 60, updated_at: iso(60) }, at(60));
  assert.equal(shown.percent(at(60)), 20);
});

test("what tells on its way is carried by a tenth, and what tells nothing to the end of the band", () => {
  const told = shownOf({ ...running, progress: 40, elapsed_time: 50 });
  assert.equal(told.percent(at(20)), 46);
  assert.equal(told.percent(at(199)), 50);
  const steps = [step("a", 0.5, "completed"), step("b", 0.5, "current", { started_after: 50 })];
  const inside = shownOf({ ...running, progress: 60, step_progress: 20, current_step: 1, elapsed_time: 60, steps });
  assert.equal(inside.percent(at(190)), 65);
  const silent = shownOf(running);
  assert.equal(silent.percent(at(100)), 50);
  assert.equal(silent.percent(at(1e5)), 99.9);
  assert.equal(shownOf({ ...running, progress: 100 }).percent(at(0)), 99.9);
  const unknown = shownOf({ ...running, progress: 7, remaining_time: null, remaining_high: null });
  assert.equal(unknown.percent(at(1e5)), 7);
});

test("the bar never goes back but for another attempt, and is full at a good end alone", () => {
  const shown = shownOf({ ...running, progress: 40 });
  shown.take({ ...running, progress: 30, updated_at: iso(1) }, at(1));
  assert.ok(shown.percent(at(1)) >= 40);
  shown.take({ ...running, attempt: 2 }, at(2));
  assert.ok(shown.percent(at(2)) < 2);
  shown.take({ ...running, attempt: 2, status: "failed", progress: 30 }, at(3));
  assert.equal(shown.percent(at(1e5)), 30);
  shown.take({ ...running, attempt: 2, status: "completed", progress: 100 }, at(4));
  assert.equal(shown.percent(at(4)), 100);
});

test("the band lies where the task may end", () => {
  const shown = shownOf({ ...running, progress: 50, elapsed_time: 100 });
  assert.deepEqual(shown.band(at(0)), { from: 62.5, likely: 75 });
  assert.equal(shownOf({ ...running, remaining_low: null, remaining_high: null }).band(at(0)), null);
  assert.equal(shownOf({ ...running, status: "completed" }).band(at(0)), null);
});

test("a finish that is a little later is not told; one that is much later has a reason", () => {
  const shown = shownOf(running);
  const later = (seconds, more) => ({ ...running, remaining_time: 100 + seconds, remaining_high: 200 + seconds, ...more });
  shown.take(later(2.5), at(0));
  assert.deepEqual(shown.left(at(0)).finish, new Date(at(100)));
  assert.deepEqual(shown.left(at(0)).latest, new Date(at(200)));
  assert.deepEqual(shown.reasons(at(0)), []);
  const revised = { revised: "step b takes longer than usual", revised_at: iso(0) };
  shown.take(later(80, revised), at(0));
  assert.deepEqual(shown.left(at(0)).finish, new Date(at(180)));
  assert.match(String(shown.reasons(at(0))[0]), /^\d.*: step b takes longer than usual$/);
  shown.take(later(300, revised), at(0));
  assert.match(String(shown.reasons(at(0))[0]), /: it takes longer than was said$/);
  shown.take(later(-60, revised), at(0));
  assert.equal(shown.left(at(0)).seconds, 40);
});

test("a reload shows the same as before", () => {
  const steps = [step("a", 0.5, "current", { started_after: 0, usual_duration: 90 }), step("b", 0.5, "pending", { usual_duration: 10 })];
  const told = { revised: "step a takes longer than usual", revised_at: iso(20), slow_since: iso(10), stalled_since: iso(30) };
  const last = { ...running, ...told, elapsed_time: 30, updated_at: iso(30), current_step: 0, steps };
  const watched = shownOf({ ...running, current_step: 0, steps });
  watched.take({ ...last, updated_at: iso(30), remaining_time: 200, remaining_high: 300 }, at(30));
  const reloaded = shownOf({ ...last, remaining_time: 200, remaining_high: 300 }, at(50));
  assert.deepEqual(reloaded.reasons(at(50)).map(String), watched.reasons(at(50)).map(String));
  for (const name of ["left", "timeline", "band"]) assert.deepEqual(reloaded[name](at(50)), watched[name](at(50)), name);
  assert.equal(reloaded.percent(at(50)), watched.percent(at(50)));
  assert.equal(reloaded.reasons(at(50)).length, 3);
});

test("steps lie in time, real over usual, those to come behind those that run", () => {
  const steps = [
    step("a", 0.2, "completed", { started_after: 0, duration: 10, usual_duration: 8 }),
    step("s", 0.2, "skipped", { usual_duration: 5 }),
    step("b", 0.2, "current", { started_after: 10, usual_duration: 40 }),
    step("c", 0.2, "pending", { usual_duration: 20 }),
    step("d", 0.2, "pending"),
  ];
  const shown = shownOf({ ...running, elapsed_time: 15, steps, current_step: 2 });
  const { spans, total } = shown.timeline(at(5));
  assert.deepEqual(spans.map(({ from, length, usual }) => [from, length, usual]), [
    [0, 10, 8], [null, null, null], [10, 10, 40], [50, null, 20], [null, null, null],
  ]);
  // It reaches to the finish, 95 s from here.
  assert.equal(total, 115);
  // It grows by the clock, and pushes the others.
  const later = shown.timeline(at(55));
  assert.deepEqual([later.spans[2].length, later.spans[3].from, later.total], [60, 70, 115]);
  assert.equal(shownOf({ ...running, steps: undefined }).timeline(at(5)).total, 0);
});

test("words are rough, and never null", () => {
  const left = (seconds, high = null) => ({
    seconds, low: null, high, finish: new Date(at(seconds)), latest: high === null ? null : new Date(at(high)),
  });
  assert.equal(String(leftInWords(left(20, 20.3), NOON)), "about 20s left");
  assert.equal(String(leftInWords(left(20, 45), NOON)), "about 20s left, at most 45s");
  assert.equal(String(leftInWords(left(0.4, 9), NOON)), "any moment now");
  assert.match(String(leftInWords(left(240, 480), NOON)), /^about 4m left · about \S+.*, at the latest \S+/);
  assert.doesNotMatch(String(leftInWords(left(240), NOON)), /null|latest/);
  assert.match(String(leftInWords(left(90_000), NOON)), /^about 25h left · about .*(Dec|Dez|1\.12)/);
  assert.equal(String(startInWords(left(120, 300), NOON)), "starts in about 2m, at the latest 5m");
  assert.equal(String(startInWords(left(0, 300), NOON)), "starts any moment now");
  assert.match(String(startInWords(left(7200), NOON)), /^starts in about 2h \(\d/);
  assert.deepEqual([0, 0.42, 12.4, 60, 245, 3725].map((one) => String(lengthOf(one))), [
    "0.0s", "0.4s", "12s", "1m", "4m 5s", "1h 2m",
  ]);
});
