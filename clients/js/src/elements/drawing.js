/** Draws a snapshot: the bar with its band, the time left, what has gone otherwise, and the steps in time. */

import { joined, showText, t } from "../messages.js";
import { make, setAttribute } from "./base.js";
import { Shown } from "./shown.js";
import { StepLines } from "./step-lines.js";
import { startTicking, stopTicking } from "./ticker.js";
import { leftInWords, progressOf, sentence, startInWords } from "./words.js";

// Those who hear the page are told of changes no more often than this [ms].
const QUIET_MS = 10_000;
const WAITING = new Set(["queued", "delayed"]);

export class Drawing {
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
    // Its name until there is a title.
    showText(bar, t("Progress"), "aria-label");
  }

  get shown() {
    return this.#shown;
  }

  /** Tell those who hear the page at once. */
  say(text) {
    showText(this.#parts.said, text);
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
    for (const part of [percent, time, reason]) showText(part, "");
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
    showText(percent, WAITING.has(shown.snapshot.status) && !done ? "" : progressOf(done));
    showText(time, this.#timeInWords(now));
    showText(reason, joined(shown.reasons(now).map(sentence), " "));
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
    const { bar, reason, said } = this.#parts;
    const { snapshot } = this.#shown;
    if (snapshot.status === this.#saidStatus && Math.abs(now - this.#saidAt) < QUIET_MS) return;
    this.#saidStatus = snapshot.status;
    this.#saidAt = now;
    setAttribute(bar, "aria-valuenow", Math.floor(done));
    setAttribute(bar, "aria-valuetext", joined([progressOf(done), this.#words(snapshot), this.#timeInWords(now)], t(", ")));
    if (reason.textContent === this.#saidReasons) return;
    this.#saidReasons = reason.textContent;
    showText(said, reason.textContent);
  }
}
