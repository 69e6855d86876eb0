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
export function ageOf(snapshot, now, { skew = 0, receivedAt = now } = {}) {
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
export function timeLeft(snapshot, now = Date.now(), known = {}) {
  const { status, remaining_time: seconds, remaining_low: low, remaining_high: high } = snapshot;
  if (!isNumber(seconds) || isOver(status) || isWaiting(snapshot)) return null;
  const at = Number(now);
  return bandOf(seconds, low, high, ageOf(snapshot, at, known), at);
}

/**
 * Return the same of the start of a task that waits: `finish` is when it starts. A task with a time of its own,
 * `run_at`, starts then. Null: it is unknown, or the task does not wait.
 */
export function startsIn(snapshot, now = Date.now(), known = {}) {
  if (!isWaiting(snapshot)) return null;
  const at = Number(now);
  const { starts_in: seconds, starts_in_low: low, starts_in_high: high, run_at: planned } = snapshot;
  if (isNumber(seconds)) return bandOf(seconds, low, high, ageOf(snapshot, at, known), at);
  const moment = Date.parse(planned ?? "");
  if (!Number.isFinite(moment)) return null;
  return bandOf(Math.max(0, (moment - at) / 1000 - (known.skew ?? 0)), null, null, 0, at);
}
