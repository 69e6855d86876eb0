/** The full view of a task: when it ran, and tabs with its steps, result, output, parameters, attempts and reasons. */

import { joined, showText, t, tn } from "../messages.js";
import { errorInWords, make } from "./base.js";
import { TaskQuestion } from "./task-question.js";
import { drawResult, drawValue } from "./result-views.js";
import { statusInWords } from "./status.js";
import { Tabs } from "./tabs.js";
import { ago, clockOf, lengthOf, momentInWords } from "./words.js";

const VIEWS = {
  steps: { title: t("Steps") },
  result: { title: t("Result") },
  output: { title: t("Output") },
  params: { title: t("Parameters") },
  attempts: { title: t("Attempts") },
  why: { title: t("Why?") },
};
const MOST_LINES = 500;
const TO_THE_SECOND = { timeStyle: "medium" };

export class TaskDetails {
  #host;
  #task = null;
  #client = null;
  #signal = null;
  #known = null;
  #read = null;
  #lastLine = "";
  #hasChosen = false;
  // Whether what was told before the view was opened is there, or on its way.
  #hasOutput = false;
  // The schema of its parameters, which names them; null before it is asked for.
  #schema = null;
  #tabs;
  #question = new TaskQuestion();
  #facts = make("p", { part: "facts", className: "facts-line" });
  #failure = make("p", { part: "failure", className: "callout" });
  #row = make("div", { className: "tab-row", role: "tablist", "aria-label": t("Parts of the task") });
  #panel = make("div", { id: "view", className: "view", role: "tabpanel", tabindex: 0 });
  #views = {};

  /** `host` is the element, `steps` the nodes of the first tab. */
  constructor(host, steps) {
    this.#host = host;
    for (const name of Object.keys(VIEWS)) this.#views[name] = make("div", { part: `view-${name}` });
    this.#views.steps.append(...steps);
    this.#views.output.append(make("ol", { className: "output", "aria-label": t("Messages of the task, the newest last") }));
    this.#panel.append(...Object.values(this.#views));
    this.#tabs = new Tabs(this.#row, this.#panel, VIEWS, () => this.#chosen());
    this.#row.addEventListener("click", () => (this.#hasChosen = true));
    this.#show();
  }

  /** The nodes that stand above the bar, and below it. */
  get nodes() {
    return { above: [this.#facts], below: [this.#question.node, this.#failure, this.#row, this.#panel] };
  }

  /** Begin with another task. */
  begin(client, task, signal) {
    [this.#client, this.#task, this.#signal] = [client, task, signal];
    this.#known = this.#read = this.#schema = null;
    this.#lastLine = "";
    this.#hasChosen = this.#hasOutput = false;
    showText(this.#facts, "");
    showText(this.#failure, "");
    this.#views.output.firstElementChild.replaceChildren();
    for (const name of ["result", "params", "attempts", "why"]) this.#views[name].replaceChildren();
    this.#tabs.hide("why", false);
    this.#tabs.hide("result");
    this.#tabs.choose("steps");
    this.#question.begin(client, task.id, signal);
  }

  /** Take a snapshot; what it does not tell is asked for when the task goes over to another state. */
  show(snapshot) {
    this.#note(snapshot);
    // Not before: there may be no such task.
    if (!this.#hasOutput) this.#loadOutput();
    const state = `${snapshot.status} ${snapshot.attempt}`;
    if (state === this.#read) return;
    this.#read = state;
    this.#reload();
  }

  /** Take the end. */
  finish({ status, result, error }) {
    showText(this.#failure, status === "completed" ? "" : (error ?? ""));
    this.#question.end();
    this.#read = null;
    this.#reload();
    if (status !== "completed" || result === null) return;
    this.#tabs.hide("result", false);
    this.#drawResult(result);
    if (!this.#hasChosen) this.#tabs.choose("result");
  }

  /** Ask anew for what the server tells in words. */
  languageChanged() {
    if (!this.#known) return;
    this.#schema = null;
    this.#reload();
    this.#loadOutput();
  }

  /** The parameters of the task; null while they are not known. */
  get submission() {
    return this.#known && { kind: this.#known.kind, params: this.#known.params, label: this.#known.label };
  }

  async #reload() {
    const signal = this.#signal;
    try {
      const known = await this.#task.read();
      if (signal.aborted) return;
      this.#known = known;
      this.#drawKnown(known);
      await this.#loadChosen();
    } catch (error) {
      if (!signal.aborted && error.status !== 404) this.#host.showError(error);
    }
  }

  #drawKnown(known) {
    showText(this.#facts, joined(whenOf(known)));
    showText(this.#facts, known.ended_at ? momentInWords(Date.parse(known.ended_at)) : "", "title");
    this.#drawParams();
    this.#views.attempts.replaceChildren(attemptsOf(known));
    if (known.status === "completed" && known.result !== null) this.#drawResult(known.result);
  }

  #drawParams() {
    this.#views.params.replaceChildren(paramsOf(this.#known, this.#schema ?? {}));
  }

  #drawResult(result) {
    const { kind } = this.#known ?? {};
    // The kind says by which view; it comes with the rest.
    if (!kind) return;
    this.#views.result.replaceChildren(drawResult(kind, result, this.#known));
  }

  /** Keep each message once, as it came. */
  #note({ message, updated_at: at }) {
    if (!message || message === this.#lastLine) return;
    this.#changeOutput((list) => list.append(lineOf({ message, updated_at: at })));
  }

  /** Put what was told before this view was opened in front of what it has heard. */
  async #loadOutput() {
    const signal = this.#signal;
    this.#hasOutput = true;
    try {
      const { items, older } = await this.#task.output();
      if (signal.aborted) return;
      const last = items.at(-1);
      this.#changeOutput((list) => {
        const heard = [...list.children].filter((line) => timeOf(line) > (last?.updated_at ?? ""));
        if (heard.length && textOf(heard[0]) === last?.message) heard.shift();
        const gone = make("li", { className: "muted", text: t("Earlier messages are not kept any more.") });
        list.replaceChildren(...(older ? [gone] : []), ...items.map(lineOf), ...heard);
      });
    } catch (error) {
      // Without it there is what is heard from now on; a server of an earlier version has none.
      if (!signal.aborted && error.status !== 404) this.#host.showError(error);
    }
  }

  /** Change the lines; who stands at their end stays there. */
  #changeOutput(change) {
    const list = this.#views.output.firstElementChild;
    const wasAtEnd = this.#panel.scrollTop + this.#panel.clientHeight >= this.#panel.scrollHeight - 4;
    change(list);
    while (list.children.length > MOST_LINES) list.firstElementChild.remove();
    this.#lastLine = textOf(list.lastElementChild);
    if (wasAtEnd) this.#panel.scrollTop = this.#panel.scrollHeight;
  }

  #chosen() {
    this.#show();
    this.#loadChosen();
  }

  async #loadChosen() {
    if (this.#tabs.chosen === "why") await this.#loadReasons();
    else if (this.#tabs.chosen === "params" && this.#known && !this.#schema) await this.#loadSchema();
  }

  #show() {
    for (const [name, view] of Object.entries(this.#views)) view.hidden = name !== this.#tabs.chosen;
  }

  async #loadSchema() {
    const signal = this.#signal;
    const { kind } = this.#known;
    try {
      const found = (await this.#client.kinds()).find((one) => one.kind === kind);
      if (signal.aborted) return;
      this.#schema = found?.params_schema ?? {};
      this.#drawParams();
    } catch (error) {
      if (!signal.aborted) this.#host.showError(error);
    }
  }

  async #loadReasons() {
    const signal = this.#signal;
    const view = this.#views.why;
    if (!view.firstChild) view.replaceChildren(make("p", { className: "muted", text: t("Loading …") }));
    try {
      const reasons = await this.#client.request("GET", `/api/tasks/${this.#task.id}/why`, undefined, { signal });
      if (!signal.aborted) view.replaceChildren(...reasonsOf(reasons));
    } catch (error) {
      if (signal.aborted) return;
      // A server of an earlier version cannot say.
      if (error.status === 404) this.#tabs.hide("why");
      else view.replaceChildren(make("p", { className: "error", text: errorInWords(error) }));
    }
  }
}

function lineOf({ message, updated_at: at }) {
  const time = make("time", { datetime: at, text: momentInWords(Date.parse(at), TO_THE_SECOND) });
  return make("li", { children: [time, make("span", { text: message })] });
}

const timeOf = (line) => line.querySelector("time")?.dateTime ?? "";
const textOf = (line) => line?.querySelector("span")?.textContent ?? "";

function whenOf({ created_at: made, started_at: started, ended_at: ended, attempt, max_attempts: most, kind }) {
  const at = (moment) => clockOf(Date.parse(moment));
  const facts = [kind];
  if (started) facts.push(t("started {time}", { time: at(started) }));
  else facts.push(t("submitted {time}", { time: at(made) }));
  if (ended) facts.push(t("ended {time}", { time: at(ended) }));
  if (started && ended) facts.push(t("took {time}", { time: lengthOf((Date.parse(ended) - Date.parse(started)) / 1000) }));
  if (attempt > 1) facts.push(most ? t("attempt {attempt} of {most}", { attempt, most }) : t("attempt {attempt}", { attempt }));
  return facts;
}

function paramsOf({ params, tags, priority, key, task_id: id }, schema) {
  const more = { ...(tags?.length ? { tags } : {}), ...(key ? { key } : {}), ...(priority !== "normal" ? { priority } : {}), task_id: id };
  return make("div", { children: [drawValue(params ?? {}, 0, schema), make("h3", { text: t("Task") }), drawValue(more)] });
}

function attemptsOf({ attempts = [], max_attempts: most }) {
  if (!attempts.length) return make("p", { className: "muted", text: t("It has not been started yet.") });
  const drawn = attempts.map(({ attempt, started_at: started, ended_at: ended, outcome, error }) => {
    const took = ended && t("took {time}", { time: lengthOf((Date.parse(ended) - Date.parse(started)) / 1000) });
    const head = make("p", { children: [
      make("b", { text: t("Attempt {attempt}", { attempt }) }), " ",
      make("span", { className: "status", "data-status": outcome, text: statusInWords(outcome) }), " ",
      make("span", { className: "muted", text: joined([momentInWords(Date.parse(started)), took], t(", ")) }),
    ] });
    return make("li", { children: [head, ...(error ? [make("p", { className: "error", text: error })] : [])] });
  });
  const bound = most ? [make("p", { className: "muted", text: tn(most, "At most {n} attempt.", "At most {n} attempts.") })] : [];
  return make("div", { children: [make("ol", { className: "attempts plain", children: drawn }), ...bound] });
}

function reasonsOf({ cause, chain = [] }) {
  const drawn = chain.map(({ at, text }) => {
    const moment = at === null || at === undefined ? null : Date.parse(at);
    const time = moment === null ? [] : [make("time", { datetime: at, title: momentInWords(moment), text: ago(moment) })];
    return make("li", { children: [make("span", { text }), ...time] });
  });
  const head = cause ? [make("p", { className: "cause", text: cause.text })] : [];
  return [...head, make("ol", { className: "chain", children: drawn })];
}

