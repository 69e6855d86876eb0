/**
 * The parts of a snapshot that are shown as the clock goes on, decided without a page.
 *
 * The finish goes no later, and the bar no further back, than was shown, unless a reason is shown too. Until the
 * next report the bar goes on as slowly as the high end of the band says: to the end of a step that tells nothing
 * on its way, and by a tenth of a task or step that does.
 */

import { ageOf, startsIn, timeLeft } from "../index.js";
import { t } from "../messages.js";
import { clockOf } from "./words.js";

// A later finish that is held: by less than this share of the time left, or these seconds.
const RISE_SHARE = 0.03;
const RISE_SECONDS = 1;
// Only the end is 100 %.
const MOST_PERCENT = 99.9;
// A tenth of what tells on its way how far it is [%].
const TENTH = 10;
const ALONE = t("it takes longer than was said");
const RUNNING = "processing";

function sum(numbers) {
  return numbers.reduce((total, one) => total + one, 0);
}

export class Shown {
  #snapshot = null;
  #receivedAt = 0;
  #skew = 0;
  // The finish and the latest one [ms], as they are shown.
  #finish = null;
  #latest = null;
  #percent = 0;
  #reason = null;

  get snapshot() {
    return this.#snapshot;
  }

  get isRunning() {
    return this.#snapshot?.status === RUNNING;
  }

  /** Whether anything of it goes on by the clock. */
  get goesOn() {
    if (this.isRunning || this.#finish !== null) return true;
    return this.#snapshot !== null && this.starts(Date.now()) !== null;
  }

  /** Take a snapshot that has just come; `skew`: how far the server's clock is ahead [s]. */
  take(snapshot, now, skew = 0) {
    const before = this.#snapshot;
    const goesOn = before && ["task_id", "batch_id", "attempt"].every((name) => before[name] === snapshot[name]);
    if (goesOn) this.#percent = this.percent(now);
    else this.#forget();
    this.#snapshot = snapshot;
    this.#receivedAt = now;
    this.#skew = skew;
    this.#hold(timeLeft(snapshot, now, this.#known), before?.revised_at, now);
    this.#percent = this.percent(now);
  }

  /** Return how much is done [%]; it is never less than before. */
  percent(now) {
    const { status, progress = 0 } = this.#snapshot;
    if (status === "completed" || status === "partial") return 100;
    return Math.max(this.#percent, this.isRunning ? Math.min(this.#byClock(progress, now), MOST_PERCENT) : progress);
  }

  /** Return the time left as `timeLeft` has it; null is unknown. */
  left(now) {
    if (this.#finish === null) return null;
    const until = (moment) => Math.max(0, (moment - now) / 1000);
    const seconds = until(this.#finish);
    const latest = this.#latest === null ? null : Math.max(this.#latest, now);
    const { low } = timeLeft(this.#snapshot, now, this.#known);
    const bounds = { low: low === null ? null : Math.min(low, seconds), high: latest === null ? null : until(latest) };
    return { seconds, ...bounds, finish: new Date(now + seconds * 1000), latest: latest === null ? null : new Date(latest) };
  }

  /** Return when it starts, as `startsIn` has it; null is unknown, or it does not wait. */
  starts(now) {
    return startsIn(this.#snapshot, now, this.#known);
  }

  /** Return where on the bar [%] it may end, and where it does so probably: `{from, likely}`; null without a band. */
  band(now) {
    const left = this.isRunning ? this.left(now) : null;
    if (!left?.high || left.low === null) return null;
    const percent = this.percent(now);
    const place = (seconds) => percent + ((100 - percent) * seconds) / left.high;
    return { from: place(left.low), likely: place(left.seconds) };
  }

  /** Return what has gone otherwise than was told, in words. */
  reasons(now) {
    if (!this.isRunning) return [];
    const { slow_since: slow, stalled_since: stalled } = this.#snapshot;
    return [
      this.#reason && t("{time}: {reason}", { time: clockOf(this.#reason.at, now), reason: this.#reason.text }),
      slow && t("slow since {time}", { time: this.#clock(slow, now) }),
      stalled && t("no sign of life since {time}", { time: this.#clock(stalled, now) }),
    ].filter(Boolean);
  }

  /**
   * Return the steps as they are laid out in time [s from the start]: `{spans, total}`, for each `{from, length,
   * usual, runs}`, null where it is unknown. Those to come are laid behind those that run.
   */
  timeline(now) {
    const { steps = [] } = this.#snapshot;
    const elapsed = this.elapsed(now);
    const spans = steps.map((step) => this.#span(step, elapsed));
    const begun = spans.filter((span) => span.from !== null);
    let end = Math.max(0, ...begun.map((span) => span.from + Math.max(span.length ?? 0, span.runs ? (span.usual ?? 0) : 0)));
    const drawn = begun.map((span) => span.from + Math.max(span.length ?? 0, span.usual ?? 0));
    for (const span of spans) {
      if (span.from !== null || span.usual === null || !this.isRunning) continue;
      span.from = end;
      end += span.usual;
    }
    const finish = begun.length && this.isRunning ? elapsed + (this.left(now)?.seconds ?? 0) : 0;
    return { spans, total: Math.max(end, finish, ...drawn) };
  }

  /** Return the seconds since the attempt began. */
  elapsed(now) {
    const { elapsed_time: elapsed } = this.#snapshot;
    return (elapsed ?? 0) + (this.isRunning ? ageOf(this.#snapshot, now, this.#known) : 0);
  }

  get #known() {
    return { skew: this.#skew, receivedAt: this.#receivedAt };
  }

  /** Return a moment of the server's clock as the reader's shows it. */
  #clock(text, now) {
    return clockOf(Date.parse(text) - this.#skew * 1000, now);
  }

  #forget() {
    this.#finish = this.#latest = this.#reason = null;
    this.#percent = 0;
  }

  #hold(left, revisedBefore, now) {
    if (left === null) {
      this.#finish = this.#latest = null;
      return;
    }
    const { revised, revised_at: revisedAt } = this.#snapshot;
    const slack = Math.max(RISE_SECONDS, RISE_SHARE * left.seconds) * 1000;
    const rises = (shown, next) => shown !== null && next > Math.max(shown, now) + slack;
    const isSame = (shown, next) => shown !== null && next > shown && !rises(shown, next);
    if (revised && revisedAt !== revisedBefore) this.#reason = { text: revised, at: this.#momentOf(revisedAt, now) };
    else if (rises(this.#finish, left.finish)) this.#reason = { text: ALONE, at: now };
    else if (isSame(this.#finish, left.finish)) left = { ...left, finish: this.#finish };
    this.#finish = Number(left.finish);
    if (left.latest === null) this.#latest = null;
    else if (!isSame(this.#latest, left.latest)) this.#latest = Number(left.latest);
  }

  #momentOf(text, now) {
    const at = Date.parse(text ?? "");
    return Number.isFinite(at) ? at - this.#skew * 1000 : now;
  }

  /**
   * Return how far it is if it takes as long as the high end of the band, since it was last seen to move: since
   * this report, or the start of a step that tells nothing.
   */
  #byClock(progress, now) {
    const left = timeLeft(this.#snapshot, now, this.#known);
    if (!left?.high) return left?.high === 0 ? Math.min(100, this.#mostNow(progress)) : progress;
    const { steps = [], step_progress: inside } = this.#snapshot;
    const current = steps.find((step) => step.status === "current");
    const reported = this.#snapshot.elapsed_time ?? 0;
    const since = inside === undefined ? (current?.started_after ?? (progress > 0 ? reported : 0)) : reported;
    const passed = Math.max(0, this.elapsed(now) - since);
    return Math.min(progress + ((100 - progress) * passed) / (passed + left.high), this.#mostNow(progress));
  }

  /** Return the percent that the bar may reach before the next report. */
  #mostNow(progress) {
    const { steps = [], current_step: at, step_progress: inside } = this.#snapshot;
    if (!steps.length) return progress > 0 ? progress + TENTH : 100;
    const rest = steps.map(({ status, weight }, index) => {
      if (status !== "current") return 0;
      return weight * (index === at && inside !== undefined ? Math.min(TENTH, 100 - inside) : 100);
    });
    return progress + sum(rest);
  }

  #span(step, elapsed) {
    const { status, started_after: from = null, duration, usual_duration: usual = null } = step;
    const runs = status === "current" && from !== null;
    const length = duration ?? (runs ? Math.max(0, elapsed - from) : null);
    return { from, length, runs, usual: status === "skipped" ? null : usual };
  }
}
