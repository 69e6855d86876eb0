/** Custom elements over the JavaScript client of tornado_rt. Their source, in parts, is clients/js/src/elements. */

import { Client, ageOf, startsIn, timeLeft } from "./rt-client.js";

/**
 * The look of the elements. Each colour and size is a custom property, which a page may set. They are light or
 * dark as the `color-scheme` of the page is.
 */

const SHEET = `
:host {
  --_text: var(--rt-text, light-dark(#1c2024, #e8eaed));
  --_muted: var(--rt-muted, light-dark(#5b6370, #a4abb6));
  --_surface: var(--rt-surface, light-dark(#ffffff, #1b1e23));
  --_line: var(--rt-line, light-dark(#d9dde3, #3a404a));
  --_track: var(--rt-track, light-dark(#e6e9ee, #2b3038));
  --_accent: var(--rt-accent, light-dark(#1a5fd0, #7db0ff));
  --_on-accent: var(--rt-on-accent, light-dark(#ffffff, #10141a));
  --_good: var(--rt-good, light-dark(#1a7a3c, #67d391));
  --_bad: var(--rt-bad, light-dark(#b3261e, #ff9b93));
  --_warn: var(--rt-warn, light-dark(#8a5a00, #ffcc66));
  --_radius: var(--rt-radius, 8px);
  --_gap: var(--rt-gap, 12px);
  display: block;
  color: var(--_text);
  background: var(--_surface);
  border: 1px solid var(--_line);
  border-radius: var(--_radius);
  padding: var(--_gap);
  font: var(--rt-font, 15px/1.45 system-ui, sans-serif);
  overflow-wrap: anywhere;
}
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; }
p, ul { margin: 0; padding: 0; }
ul { list-style: none; }
header { display: flex; flex-wrap: wrap; gap: 4px var(--_gap); align-items: baseline; }
.title { font-weight: 600; flex: 1 1 8em; margin: 0; font-size: inherit; }
.status, .detail, .empty, time { color: var(--_muted); font-size: 0.87em; }
.status[data-status="completed"] { color: var(--_good); }
.status[data-status="failed"], .status[data-status="dead"], .error { color: var(--_bad); }
.status[data-status="partial"], .notice { color: var(--_warn); }
.notice, .error { font-size: 0.87em; margin-top: 6px; }
.bar { position: relative; height: 10px; margin: 8px 0 6px; border-radius: 5px; background: var(--_track); overflow: hidden; }
.fill { position: relative; height: 100%; width: 0; border-radius: inherit; background: var(--_accent); transition: width 0.25s ease-out; }
/* Where the end is expected: from the left edge of the band on, most probably at the mark. */
.band { position: absolute; inset: 0 0 0 auto; background: color-mix(in srgb, var(--_accent) 30%, transparent); }
.likely { position: absolute; inset-block: 0; width: 2px; margin-left: -1px; background: color-mix(in srgb, var(--_accent) 75%, transparent); }
.bar[data-status="completed"] .fill { background: var(--_good); }
.bar[data-status="failed"] .fill, .bar[data-status="dead"] .fill { background: var(--_bad); }
.bar.unknown .fill { width: 35% !important; animation: slide 1.4s ease-in-out infinite; }
@keyframes slide { from { translate: -100% 0; } to { translate: 300% 0; } }
.row { display: flex; flex-wrap: wrap; gap: 4px var(--_gap); align-items: center; }
.row > .detail { flex: 1 1 8em; }
.times { display: flex; flex-wrap: wrap; gap: 0 var(--_gap); justify-content: space-between; font-variant-numeric: tabular-nums; }
.percent, .time, .reason, .steps { font-size: 0.87em; }
.percent, .step-time { color: var(--_muted); }
.reason { color: var(--_warn); margin-top: 2px; }
.reason:empty, .times:not(:has(:not(:empty))) { display: none; }
.steps { list-style: none; margin: 8px 0 0; padding: 0; max-height: var(--rt-steps-height, 24rem); overflow-y: auto; }
.steps li {
  display: grid; grid-template-columns: 1.2em minmax(0, 1fr) auto; gap: 0 6px; padding: 3px 0; border: 0; color: var(--_muted);
}
.steps li::before { content: "·"; text-align: center; }
.steps li[data-state="completed"]::before { content: "✓"; color: var(--_good); }
.steps li[data-state="failed"]::before { content: "✗"; color: var(--_bad); }
.steps li[data-state="skipped"]::before { content: "–"; }
.steps li[data-state="current"]::before { content: "▸"; color: var(--_accent); }
.steps li[data-state="current"], .steps li[data-state="completed"] { color: var(--_text); }
.steps li[data-state="current"] .step-name { font-weight: 600; }
.steps li[data-state="failed"] { color: var(--_bad); }
.step-time { font-variant-numeric: tabular-nums; white-space: nowrap; }
.line { display: none; grid-column: 2 / -1; position: relative; height: 8px; border-radius: 2px; background: var(--_track); }
.timed .line { display: block; }
.usual, .real {
  position: absolute; left: calc(var(--_from) / var(--_total) * 100%); min-width: 2px;
  width: min(calc(var(--_length) / var(--_total) * 100%), calc(100% - var(--_from) / var(--_total) * 100%));
}
.usual { inset-block: 0; border-radius: 2px; background: color-mix(in srgb, var(--_accent) 30%, transparent); }
.real { inset-block: 2px; border-radius: 2px; background: var(--_accent); }
[data-state="failed"] .real { background: var(--_bad); }
button, .actions a {
  font: inherit; font-size: 0.87em; color: var(--_accent); background: none; cursor: pointer;
  border: 1px solid var(--_line); border-radius: calc(var(--_radius) - 2px); padding: 4px 10px; min-height: 32px;
}
.actions a { text-decoration: none; display: inline-flex; align-items: center; }
.more { margin-top: 8px; }
:host([state="error"]) .bar { display: none; }
button:hover, .actions a:hover { border-color: var(--_accent); }
button:disabled { color: var(--_muted); cursor: default; border-color: var(--_line); }
button:focus-visible, a:focus-visible, li:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; }
.badge {
  min-width: 1.6em; padding: 0 6px; border-radius: 1em; text-align: center; font-size: 0.8em; font-weight: 600;
  background: var(--_accent); color: var(--_on-accent);
}
.items { margin-top: 8px; max-height: var(--rt-inbox-height, 28rem); overflow-y: auto; }
li { padding: 10px 8px 10px 14px; border-top: 1px solid var(--_line); position: relative; }
li[data-status="unread"]::before {
  content: ""; position: absolute; left: 0; top: 1.05em; width: 7px; height: 7px; border-radius: 50%; background: var(--_accent);
}
li[data-status="unread"] .name { font-weight: 600; }
li .name { color: inherit; }
li .actions { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 6px; }
.content { white-space: pre-line; color: var(--_muted); font-size: 0.93em; }
.name { flex: 1 1 14em; }
.sr { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@media (prefers-reduced-motion: reduce) {
  .fill { transition: none; }
  .bar.unknown .fill { animation: none; width: 100% !important; opacity: 0.4; }
}
@media (forced-colors: active) {
  .bar { border: 1px solid CanvasText; }
  .fill, .real { background: Highlight; forced-color-adjust: none; }
  .band, .usual { background: none; border: 1px dashed CanvasText; }
  .likely { background: CanvasText; forced-color-adjust: none; }
}
`;

let sheet = null;

/** Return the style sheet, made once. One that a script has made is allowed by any policy of contents. */
function styleSheet() {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(SHEET);
  }
  return sheet;
}

/** What all elements share: which client they use, and how they are drawn. */


/**
 * Make an element. `part` names it for ::part of a page's style sheets, `text` is set as text: nothing that
 * comes from the server is ever read as HTML.
 */
function make(tag, { part, text, children = [], on = {}, ...attributes } = {}) {
  const element = document.createElement(tag);
  if (part) element.setAttribute("part", part);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name === "className" ? "class" : name, value);
  for (const [type, listener] of Object.entries(on)) element.addEventListener(type, listener);
  element.append(...children);
  return element;
}

/** Set a text if it is another one, so that a reader of screens is not told the same again. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set or remove an attribute. */
function setAttribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

// The clients of `src` and `token`, and how many elements use each.
const clients = new Map();

function sharedClient(src, token) {
  const key = JSON.stringify([src, token]);
  const entry = clients.get(key) ?? { client: new Client(src || undefined, { token: token || undefined }), users: 0 };
  clients.set(key, entry);
  entry.users += 1;
  const release = () => {
    entry.users -= 1;
    if (entry.users) return;
    clients.delete(key);
    entry.client.close();
  };
  return { client: entry.client, release };
}

const OFFLINE = "Offline. This comes back by itself.";

/**
 * An element that shows a topic. Its client is the property `client`, else that of the attributes `src` and
 * `token` (all elements with the same ones share it), else `Client.default` as soon as there is one.
 */
class RealtimeElement extends HTMLElement {
  #client = null;
  #given = null;
  #release = null;
  #ending = null;
  #used = 0;
  #notice = make("p", { part: "notice", className: "notice", role: "status" });

  get client() {
    return this.#client ?? this.#given;
  }

  set client(client) {
    this.#given = client;
    if (this.isConnected) this.restart();
  }

  /** Return the nodes of the shadow root. */
  build() {
    return [];
  }

  /** Follow what is shown; listeners end with `signal`. Return what ends the rest. */
  follow() {
    return () => {};
  }

  connectedCallback() {
    if (!this.shadowRoot) this.#draw();
    // A property that was set before the element was defined hides the accessor.
    if (Object.hasOwn(this, "client")) {
      const { client } = this;
      delete this.client;
      this.#given = client;
    }
    this.restart();
  }

  disconnectedCallback() {
    this.#stop();
  }

  attributeChangedCallback(_, before, after) {
    if (before !== after && this.isConnected) this.restart();
  }

  /** Follow anew: another client, or another topic. */
  restart() {
    this.#stop();
    const used = this.#used;
    if (this.#given) this.#use(this.#given);
    else if (this.hasAttribute("src") || this.hasAttribute("token")) this.#useOwn();
    else Client.whenDefault().then((client) => used === this.#used && this.#use(client));
  }

  /** Show why a verb failed; null: no more. */
  showError(error) {
    this.#say(error ? messageOfError(error) : "", "error");
  }

  /** Show why nothing can be shown. */
  showFailure(error) {
    this.setAttribute("state", "error");
    this.showError(error);
  }

  #draw() {
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [styleSheet()];
    this.#notice.hidden = true;
    root.append(...this.build(), this.#notice);
  }

  #useOwn() {
    try {
      const { client, release } = sharedClient(this.getAttribute("src"), this.getAttribute("token"));
      this.#release = release;
      this.#use(client);
    } catch (error) {
      this.showFailure(error);
    }
  }

  #use(client) {
    this.#client = client;
    const ending = new AbortController();
    client.addEventListener("state", () => this.#showState(), { signal: ending.signal });
    try {
      const end = this.follow(client, ending.signal);
      this.#ending = () => {
        ending.abort();
        end();
      };
      this.#showState();
    } catch (error) {
      ending.abort();
      this.showFailure(error);
    }
  }

  #stop() {
    this.#used += 1;
    this.#ending?.();
    this.#release?.();
    this.#ending = this.#release = this.#client = null;
    this.#say("", "notice");
  }

  #showState() {
    const { state, reason } = this.#client.status;
    if (this.getAttribute("state") === "error" && state !== "online") return;
    this.setAttribute("state", state);
    if (state === "offline") this.#say(OFFLINE, "notice");
    else if (state === "closed") this.#say(`Not connected: ${reason}`, "error");
    else if (state === "online") this.#say("", "notice");
  }

  #say(text, className) {
    this.#notice.className = className;
    this.#notice.hidden = !text;
    setText(this.#notice, text);
  }
}

function messageOfError(error) {
  return error.detail || error.title || error.message || String(error);
}

/** Times in words, in the time zone and the way of writing of the reader. */

const DAY_SECONDS = 86_400;
const TIME = { hour: "numeric", minute: "2-digit" };
const DATE = { day: "numeric", month: "short", ...TIME };

// Making one takes long.
const formats = new Map();

function format(options) {
  if (!formats.has(options)) formats.set(options, new Intl.DateTimeFormat(undefined, options));
  return formats.get(options);
}

/** Return a moment as the clock shows it; with the date if it is a day away or more. */
function clockOf(moment, now = Date.now()) {
  return format(Math.abs(moment - now) < DAY_SECONDS * 1000 ? TIME : DATE).format(moment);
}

/** Return a rough number of seconds: "20 s", "4 min", "3 h", "2 d". */
function roughly(seconds) {
  if (seconds < 59.5) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3570) return `${Math.round(seconds / 60)} min`;
  return seconds < 2 * DAY_SECONDS ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / DAY_SECONDS)} d`;
}

/** Return how long something took: "0.4 s", "12 s", "4 min", "4 min 5 s", "1 h 2 min". */
function lengthOf(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const [big, small, size] = whole < 3600 ? ["min", "s", 60] : ["h", "min", 3600];
  const rest = Math.floor((whole % size) / (size / 60));
  return `${Math.floor(whole / size)} ${big}${rest ? ` ${rest} ${small}` : ""}`;
}

/** Return a time that is left: "about 20 s left", "about 4 min left · about 14:32, at the latest 14:36". */
function leftInWords({ seconds, high, finish, latest }, now) {
  if (seconds < 1) return "any moment now";
  if (seconds < 59.5) {
    const most = high !== null && roughly(high) !== roughly(seconds) ? `, at most ${roughly(high)}` : "";
    return `about ${roughly(seconds)} left${most}`;
  }
  const [about, late] = [clockOf(finish, now), latest && clockOf(latest, now)];
  const bound = late && late !== about ? `, at the latest ${late}` : "";
  return `about ${roughly(seconds)} left · about ${about}${bound}`;
}

/** Return when something starts: "starts in about 2 min, at the latest 5 min". */
function startInWords({ seconds, high, finish }, now) {
  if (seconds < 1) return "starts any moment now";
  const bound = high !== null && roughly(high) !== roughly(seconds) ? `, at the latest ${roughly(high)}` : "";
  const moment = seconds < 3570 ? "" : ` (${clockOf(finish, now)})`;
  return `starts in about ${roughly(seconds)}${bound}${moment}`;
}

/**
 * What is shown of a snapshot as the clock goes on, decided without a page.
 *
 * The finish goes no later, and the bar no further back, than was shown, unless a reason is shown too. Until the
 * next report the bar goes on as slowly as the high end of the band says: to the end of a step that tells nothing
 * on its way, and by a tenth of a task or step that does.
 */


// A later finish that is held: by less than this share of the time left, or these seconds.
const RISE_SHARE = 0.03;
const RISE_SECONDS = 1;
// Only the end is 100 %.
const MOST_PERCENT = 99.9;
// A tenth of what tells on its way how far it is [%].
const TENTH = 10;
const ALONE = "it takes longer than was said";
const RUNNING = "processing";

function sum(numbers) {
  return numbers.reduce((total, one) => total + one, 0);
}

class Shown {
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
      this.#reason && `${clockOf(this.#reason.at, now)}: ${this.#reason.text}`,
      slow && `slow since ${this.#clock(slow, now)}`,
      stalled && `no sign of life since ${this.#clock(stalled, now)}`,
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

/** The steps, each with its time on one line of time: how long it took or takes, before how long it usually takes. */


function inWords({ status }, { length, usual }) {
  if (status === "skipped") return "skipped";
  const usually = usual === null ? "" : `usually ${lengthOf(usual)}`;
  return [length === null ? "" : lengthOf(length), usually].filter(Boolean).join(", ");
}

function place(bar, from, length) {
  bar.hidden = from === null || length === null;
  if (bar.hidden) return;
  bar.style.setProperty("--_from", from);
  bar.style.setProperty("--_length", length);
}

class StepLines {
  #items = [];
  list = make("ol", { part: "steps", className: "steps", id: "steps" });

  clear() {
    this.#items = [];
    this.list.replaceChildren();
  }

  /** Draw the steps of a snapshot, as they are laid out in time. */
  draw(steps, { spans, total }) {
    while (this.#items.length > steps.length) this.#items.pop().item.remove();
    while (this.#items.length < steps.length) this.#add();
    this.list.hidden = !steps.length;
    this.list.classList.toggle("timed", total > 0);
    this.list.style.setProperty("--_total", Math.max(total, 0.001));
    steps.forEach((step, index) => this.#draw(this.#items[index], step, spans[index]));
  }

  #add() {
    const [name, took] = ["step-name", "step-time"].map((part) => make("span", { part, className: part }));
    const [usual, real] = ["usual", "real"].map((part) => make("span", { part, className: part }));
    const line = make("span", { className: "line", "aria-hidden": true, children: [usual, real] });
    const item = make("li", { part: "step", children: [name, took, line] });
    this.#items.push({ item, name, took, usual, real });
    this.list.append(item);
  }

  #draw({ item, name, took, usual, real }, step, span) {
    setText(name, [...(step.group ?? []), step.description ?? step.name].join(" / "));
    setAttribute(item, "data-state", step.status);
    setAttribute(item, "aria-current", step.status === "current" ? "step" : null);
    setText(took, inWords(step, span));
    place(usual, span.from, span.usual);
    place(real, span.from, span.length);
  }
}

/** One timer for all that goes on by the clock in a page; it rests while nothing of that is seen. */

const TICK_MS = 1000;

// The functions to call, by the element that each draws; and the elements that are in view.
const ticking = new Map();
const inView = new Set();
let timer = null;
let observer = null;

function tickAll() {
  for (const element of inView) ticking.get(element)();
}

function look() {
  const must = inView.size > 0 && document.visibilityState === "visible";
  if (must && timer === null) timer = setInterval(tickAll, TICK_MS);
  if (must || timer === null) return;
  clearInterval(timer);
  timer = null;
}

function watchView(entries) {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting || !ticking.has(target)) inView.delete(target);
    else if (!inView.has(target)) {
      inView.add(target);
      ticking.get(target)();
    }
  }
  look();
}

function observe() {
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") tickAll();
    look();
  });
  return new IntersectionObserver(watchView);
}

/** Call `tick` once a second while this element is in view, from now on until `stopTicking`. */
function startTicking(element, tick) {
  const isNew = !ticking.has(element);
  ticking.set(element, tick);
  if (isNew) (observer ??= observe()).observe(element);
}

/** Harmless when it does not tick. */
function stopTicking(element) {
  if (!ticking.delete(element)) return;
  observer.unobserve(element);
  inView.delete(element);
  look();
}

/** Draws a snapshot: the bar with its band, the time left, what has gone otherwise, and the steps in time. */


// Those who hear the page are told of changes no more often than this [ms].
const QUIET_MS = 10_000;
const WAITING = new Set(["queued", "delayed"]);

function sentence(text) {
  return text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "";
}

class Drawing {
  #host;
  #words;
  #shown = new Shown();
  #parts;
  #steps;
  #saidAt = -Infinity;
  #saidStatus = null;
  #saidReasons = "";

  /** `host`: the element whose view counts; `words(snapshot)`: what a hearer is told besides the percent. */
  constructor(host, words) {
    this.#host = host;
    this.#words = words;
    const [fill, band, likely] = ["fill", "band", "likely"].map((part) => make("div", { part, className: part }));
    const bar = make("div", {
      part: "bar", className: "bar unknown", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100,
      children: [band, fill, likely],
    });
    const [percent, time] = ["percent", "time"].map((part) => make("span", { part, className: part }));
    const line = make("p", { className: "times", children: [percent, time] });
    const reason = make("p", { part: "reason", className: "reason" });
    const said = make("span", { className: "sr", "aria-live": "polite" });
    this.#steps = new StepLines();
    this.#parts = { bar, fill, band, likely, percent, time, reason, said };
    // The bar, then what stands below it, then the steps.
    this.nodes = { bar: [bar], line: [line, reason], steps: [this.#steps.list, said] };
    bar.setAttribute("aria-labelledby", "title");
  }

  get shown() {
    return this.#shown;
  }

  /** Tell those who hear the page at once. */
  say(text) {
    setText(this.#parts.said, text);
  }

  reset() {
    stopTicking(this.#host);
    this.#shown = new Shown();
    this.#saidStatus = null;
    this.#saidReasons = "";
    const { bar, fill, band, likely, percent, time, reason } = this.#parts;
    bar.className = "bar unknown";
    setAttribute(bar, "aria-valuenow", null);
    setAttribute(bar, "aria-valuetext", null);
    fill.style.width = "";
    band.hidden = likely.hidden = true;
    for (const part of [percent, time, reason]) setText(part, "");
    this.#steps.clear();
  }

  /** Show a snapshot that has just come; `skew`: how far the server's clock is ahead [s]. */
  show(snapshot, skew) {
    this.#shown.take(snapshot, Date.now(), skew);
    setAttribute(this.#parts.bar, "data-status", snapshot.status);
    this.#draw();
    this.resume();
  }

  /** Go on by the clock, if anything does; the host is in the page. */
  resume() {
    if (this.#shown.goesOn && this.#host.isConnected) startTicking(this.#host, () => this.#draw());
    else stopTicking(this.#host);
  }

  /** Go on no more; the host leaves the page. */
  stop() {
    stopTicking(this.#host);
  }

  #draw() {
    const shown = this.#shown;
    const now = Date.now();
    const { fill, band, likely, percent, time, reason, bar } = this.#parts;
    const done = shown.percent(now);
    bar.classList.toggle("unknown", shown.isRunning && done === 0 && shown.left(now) === null);
    fill.style.width = `${Number(done.toFixed(2))}%`;
    this.#drawBand(shown.band(now), band, likely);
    setText(percent, WAITING.has(shown.snapshot.status) && !done ? "" : `${Math.floor(done)} %`);
    setText(time, this.#timeInWords(now));
    setText(reason, shown.reasons(now).map(sentence).join(" "));
    this.#steps.draw(shown.snapshot.steps ?? [], shown.timeline(now));
    this.#tell(now, done);
  }

  #drawBand(found, band, likely) {
    band.hidden = likely.hidden = found === null;
    if (!found) return;
    band.style.left = `${Number(found.from.toFixed(2))}%`;
    likely.style.left = `${Number(found.likely.toFixed(2))}%`;
  }

  #timeInWords(now) {
    const [left, starts] = [this.#shown.left(now), this.#shown.starts(now)];
    if (left) return leftInWords(left, now);
    return starts ? startInWords(starts, now) : "";
  }

  /** Tell those who do not see it, at once of another status, else now and then. */
  #tell(now, done) {
    const { bar, time, reason, said } = this.#parts;
    const { snapshot } = this.#shown;
    if (snapshot.status === this.#saidStatus && Math.abs(now - this.#saidAt) < QUIET_MS) return;
    this.#saidStatus = snapshot.status;
    this.#saidAt = now;
    setAttribute(bar, "aria-valuenow", Math.floor(done));
    const words = [`${Math.floor(done)} %`, this.#words(snapshot), time.textContent];
    setAttribute(bar, "aria-valuetext", words.filter(Boolean).join(", "));
    if (reason.textContent === this.#saidReasons) return;
    this.#saidReasons = reason.textContent;
    setText(said, reason.textContent);
  }
}

/** `<rt-task task-id>` and `<rt-batch batch-id>`: how far something has come. */


const ENDED = new Set(["completed", "failed", "cancelled", "dead", "partial"]);
const AGAIN = new Set(["failed", "cancelled", "dead"]);

/** The base of both: a title, a status, a line of words, a button, and the drawing of the snapshot. */
class ProgressElement extends RealtimeElement {
  #parts;
  #drawing;
  #watched = null;
  #status = null;

  build() {
    this.#drawing = new Drawing(this, (snapshot) => this.words(snapshot));
    const title = make("p", { part: "title", className: "title", id: "title" });
    const status = make("span", { part: "status", className: "status", text: "loading" });
    const detail = make("span", { part: "detail", className: "detail" });
    const button = make("button", { part: "button", type: "button", on: { click: () => this.#act() } });
    button.hidden = true;
    this.#parts = { title, status, detail, button };
    const row = make("div", { className: "row", children: [detail, button] });
    const { bar, line, steps } = this.#drawing.nodes;
    return [make("header", { part: "header", children: [title, status] }), ...bar, ...line, row, ...steps];
  }

  /** Return what is watched. */
  watched() {
    throw new TypeError("each element watches something");
  }

  follow(client, signal) {
    this.#reset();
    const watched = (this.#watched = this.watched(client));
    watched.addEventListener("progress", ({ detail }) => this.#show(detail.snapshot), { signal });
    watched.addEventListener("finished", ({ detail }) => this.#finish(detail), { signal });
    watched.addEventListener("error", ({ detail }) => client.state !== "closed" && this.#fail(detail), { signal });
    return () => {
      this.#drawing.stop();
      watched.close();
    };
  }

  #fail(error) {
    const { title, status } = this.#parts;
    setText(title, title.textContent || this.watchedId);
    setText(status, error.status === 404 ? "not found" : "error");
    this.showFailure(error);
  }

  #reset() {
    const { title, status, detail, button } = this.#parts;
    this.#drawing.reset();
    setText(title, this.title || this.getAttribute("label") || "");
    setText(status, "loading");
    setText(detail, "");
    button.hidden = true;
    this.removeAttribute("state");
  }

  #show(snapshot) {
    const { title, detail } = this.#parts;
    setText(title, this.getAttribute("label") || snapshot.label || snapshot.kind || "");
    setText(detail, this.words(snapshot));
    this.#setStatus(snapshot.status);
    this.#drawing.show(snapshot, this.client.skew);
    this.#tell("rt-progress", snapshot);
  }

  #finish({ status, error, result }) {
    this.#setStatus(status);
    const { snapshot } = this.#drawing.shown;
    if (snapshot) this.#drawing.show({ ...snapshot, status }, this.client.skew);
    if (error) setText(this.#parts.detail, error);
    this.#drawing.say(`${this.#parts.title.textContent}: ${status}`);
    this.#tell("rt-finished", { status, error, result });
  }

  #setStatus(status) {
    const { status: shown, button } = this.#parts;
    this.#status = status;
    setText(shown, status);
    setAttribute(shown, "data-status", status);
    const verb = this.verbFor(status);
    button.hidden = !verb || this.hasAttribute("readonly");
    setText(button, verb ?? "");
    button.disabled = false;
  }

  verbFor(status) {
    if (!ENDED.has(status)) return "Cancel";
    return AGAIN.has(status) ? "Run again" : null;
  }

  async #act() {
    const { button } = this.#parts;
    button.disabled = true;
    try {
      await (ENDED.has(this.#status) ? this.#watched.retry() : this.#watched.cancel());
      this.showError(null);
    } catch (error) {
      button.disabled = false;
      this.showError(error);
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}

/** Shows a task. `label` is its title in place of its own, `readonly` takes the button away. */
class TaskElement extends ProgressElement {
  static observedAttributes = ["task-id", "src", "token", "label"];

  get watchedId() {
    return this.getAttribute("task-id") ?? "";
  }

  watched(client) {
    return client.task(this.watchedId);
  }

  words(snapshot) {
    const { status, position, message, current_step_name: step, done, total, unit } = snapshot;
    if (status === "queued" && position) return `number ${position} in the line`;
    const counted = total ? `${done} of ${total}${unit ? ` ${unit}` : ""}` : "";
    return [message || step, counted].filter(Boolean).join(" · ");
  }
}

/** Shows a batch, by how many of its tasks have ended. */
class BatchElement extends ProgressElement {
  static observedAttributes = ["batch-id", "src", "token", "label"];

  get watchedId() {
    return this.getAttribute("batch-id") ?? "";
  }

  watched(client) {
    return client.batch(this.watchedId);
  }

  words({ total, completed, failed, dead, cancelled }) {
    const bad = (failed ?? 0) + (dead ?? 0);
    const told = [`${completed} of ${total} completed`, bad && `${bad} failed`, cancelled && `${cancelled} cancelled`];
    return told.filter(Boolean).join(" · ");
  }

  verbFor(status) {
    return status === "partial" ? "Run again" : super.verbFor(status);
  }
}

/** `<rt-inbox>`: one's notifications. */


/** Return an address that may be followed: of http or https; null for any other. */
function linkOf(text) {
  try {
    const url = new URL(text, document.baseURI);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

/** Shows the inbox with its counts. `label` is its title. */
class InboxElement extends RealtimeElement {
  static observedAttributes = ["src", "token", "label"];
  #parts;
  #inbox = null;
  // The row of each notification, and what it was drawn from.
  #rows = new Map();

  build() {
    const title = make("h2", { part: "title", className: "title", id: "title" });
    const badge = make("span", { part: "badge", className: "badge" });
    const readAll = make("button", {
      part: "button", type: "button", text: "Mark all as read", on: { click: () => this.#do(() => this.#inbox.readAll()) },
    });
    const list = make("ul", { part: "items", className: "items", "aria-labelledby": "title", on: { keydown: (event) => this.#move(event) } });
    const empty = make("p", { part: "empty", className: "empty", text: "loading" });
    const more = make("button", { part: "button", className: "more", type: "button", text: "Older ones", on: { click: () => this.#do(() => this.#inbox.more()) } });
    const said = make("span", { className: "sr", "aria-live": "polite" });
    badge.hidden = more.hidden = true;
    readAll.disabled = true;
    this.#parts = { title, badge, readAll, list, empty, more, said };
    return [make("header", { part: "header", children: [title, badge, readAll] }), list, empty, more, said];
  }

  follow(client, signal) {
    const inbox = (this.#inbox = client.inbox);
    setText(this.#parts.title, this.getAttribute("label") || "Notifications");
    inbox.addEventListener("update", () => this.#draw(), { signal });
    inbox.addEventListener("notification", ({ detail }) => this.#announce(detail.notification), { signal });
    inbox.addEventListener("error", ({ detail }) => client.state !== "closed" && this.showFailure(detail), { signal });
    this.#draw();
    // The inbox is shared: other parts of the page may show it too.
    return () => {};
  }

  #announce(notification) {
    if (!notification.muted) setText(this.#parts.said, `New: ${notification.title}`);
    this.dispatchEvent(new CustomEvent("rt-notification", { detail: notification, bubbles: true, composed: true }));
  }

  #draw() {
    const { badge, readAll, list, empty, more } = this.#parts;
    const { counts, items, isLoaded, hasMore } = this.#inbox;
    badge.hidden = !counts.unread;
    setText(badge, String(counts.unread));
    setAttribute(badge, "aria-label", `${counts.unread} unread`);
    readAll.disabled = !counts.unread;
    more.hidden = !hasMore;
    empty.hidden = items.length > 0;
    setText(empty, isLoaded ? "Nothing new." : "loading");
    this.#drawRows(list, items);
  }

  #drawRows(list, items) {
    const focused = this.shadowRoot.activeElement;
    const rows = items.map((item) => this.#rowOf(item));
    const kept = new Set(items.map((item) => item.id));
    for (const id of this.#rows.keys()) if (!kept.has(id)) this.#rows.delete(id);
    const isSame = rows.length === list.children.length && rows.every((row, at) => row === list.children[at]);
    if (isSame) return;
    list.replaceChildren(...rows);
    if (rows.length && !list.querySelector('[tabindex="0"]')) rows[0].tabIndex = 0;
    if (focused?.isConnected) focused.focus();
  }

  #rowOf(item) {
    const known = this.#rows.get(item.id);
    const drawn = JSON.stringify(item);
    if (known?.drawn === drawn) return known.row;
    const row = this.#makeRow(item);
    row.tabIndex = known?.row.tabIndex ?? -1;
    const hadFocus = known && known.row.contains(this.shadowRoot.activeElement);
    known?.row.replaceWith(row);
    if (hadFocus) row.focus();
    this.#rows.set(item.id, { row, drawn });
    return row;
  }

  #makeRow(item) {
    const link = item.link && linkOf(item.link);
    const title = item.count > 1 ? `${item.title} (${item.count})` : item.title;
    const name = link ? make("a", { className: "name", href: link, text: title, on: { click: () => this.#read(item) } }) : make("span", { className: "name", text: title });
    const time = make("time", { datetime: item.created_at, text: new Date(item.created_at).toLocaleString() });
    const children = [make("div", { className: "row", children: [name, time] })];
    if (item.content) children.push(make("p", { className: "content", text: item.content }));
    children.push(make("div", { className: "actions", children: this.#buttonsOf(item) }));
    const row = make("li", { part: `item ${item.status} ${item.severity}`, "data-status": item.status, "data-severity": item.severity, children });
    row.dataset.id = item.id;
    return row;
  }

  #buttonsOf(item) {
    const verb = (text, action) => make("button", { part: "button", type: "button", text, "aria-label": `${text}: ${item.title}`, on: { click: () => this.#do(action) } });
    const answers = (item.answered ? [] : (item.actions ?? [])).map(({ id, label, link }) => {
      const href = link && linkOf(link);
      if (href) return make("a", { part: "action", href, text: label });
      return verb(label, () => this.#inbox.answer(item.id, id));
    });
    const read = item.status === "unread" ? verb("Mark as read", () => this.#inbox.read(item.id)) : verb("Mark as unread", () => this.#inbox.unread(item.id));
    return [...answers, read, verb("Archive", () => this.#inbox.archive(item.id))];
  }

  #read(item) {
    if (item.status === "unread") this.#do(() => this.#inbox.read(item.id));
  }

  async #do(action) {
    try {
      await action();
      this.showError(null);
    } catch (error) {
      this.showError(error);
    }
  }

  /** Move through the rows by the arrow keys; Enter opens, e archives. */
  #move(event) {
    const rows = [...this.#parts.list.children];
    const at = rows.indexOf(event.target.closest?.("li"));
    const steps = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 };
    if (event.key in steps) {
      const next = rows[Math.min(Math.max(steps[event.key], 0), rows.length - 1)];
      event.preventDefault();
      for (const row of rows) row.tabIndex = row === next ? 0 : -1;
      next?.focus();
    } else if (event.target === rows[at] && event.key === "Enter") rows[at].querySelector("a, button")?.click();
    else if (event.target === rows[at] && event.key === "e") this.#do(() => this.#inbox.archive(rows[at].dataset.id));
  }
}

/** `<rt-snapshot>`: draws what a page has got by a connection of its own. */


/**
 * Its property `snapshot` is that of a task or batch, null for none; `skew` is how far the server's clock is ahead
 * of that of this machine [s]. Its attribute `label` names the bar. Its content stands before the steps.
 */
class SnapshotElement extends HTMLElement {
  static observedAttributes = ["label"];

  #drawing = null;
  #title = make("span", { id: "title", className: "sr" });
  #snapshot = null;
  skew = 0;

  get snapshot() {
    return this.#snapshot;
  }

  set snapshot(snapshot) {
    this.#snapshot = snapshot;
    if (!this.#drawing) return;
    if (snapshot) this.#drawing.show(snapshot, this.skew);
    else this.#drawing.reset();
  }

  /** How much is shown as done [%]. */
  get value() {
    return this.#snapshot && this.#drawing ? this.#drawing.shown.percent(Date.now()) : 0;
  }

  connectedCallback() {
    if (!this.#drawing) {
      this.#drawing = new Drawing(this, ({ current_step_name: step }) => step);
      const root = this.attachShadow({ mode: "open" });
      root.adoptedStyleSheets = [styleSheet()];
      const { bar, line, steps } = this.#drawing.nodes;
      root.append(this.#title, ...bar, ...line, make("slot"), ...steps);
      this.#drawing.reset();
    }
    // A property that was set before the element was defined hides the accessor.
    if (Object.hasOwn(this, "snapshot")) {
      const { snapshot } = this;
      delete this.snapshot;
      this.#snapshot = snapshot;
    }
    if (this.#snapshot) this.#drawing.show(this.#snapshot, this.skew);
  }

  disconnectedCallback() {
    this.#drawing.stop();
  }

  attributeChangedCallback() {
    setText(this.#title, this.getAttribute("label") ?? "");
  }
}

const ELEMENTS = {
  "rt-task": TaskElement, "rt-batch": BatchElement, "rt-inbox": InboxElement, "rt-snapshot": SnapshotElement,
};
for (const [name, element] of Object.entries(ELEMENTS)) {
  // A page may load the module twice, by two addresses.
  if (!customElements.get(name)) customElements.define(name, element);
}

export { BatchElement, InboxElement, SnapshotElement, TaskElement };
