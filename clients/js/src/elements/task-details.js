/** The full view of a task: when it ran, and tabs with its steps, result, output, parameters, attempts and reasons. */

import { make, messageOfError, setText } from "./base.js";
import { TaskQuestion } from "./task-question.js";
import { drawResult, drawValue } from "./result-views.js";
import { Tabs } from "./tabs.js";
import { agoInWords, clockOf, lengthOf, momentInWords } from "./words.js";

const VIEWS = {
  steps: { title: "Steps" },
  result: { title: "Result" },
  output: { title: "Output" },
  params: { title: "Parameters" },
  attempts: { title: "Attempts" },
  why: { title: "Why?" },
};
const MOST_LINES = 500;
const OUTCOMES = { running: "running", completed: "completed", failed: "failed" };

export class TaskDetails {
  #host;
  #task = null;
  #client = null;
  #signal = null;
  #known = null;
  #read = null;
  #lastLine = "";
  #hasChosen = false;
  #tabs;
  #question = new TaskQuestion();
  #facts = make("p", { part: "facts", className: "facts-line" });
  #failure = make("p", { part: "failure", className: "callout" });
  #row = make("div", { className: "tab-row", role: "tablist", "aria-label": "Parts of the task" });
  #panel = make("div", { id: "view", className: "view", role: "tabpanel", tabindex: 0 });
  #views = {};

  /** `host` is the element, `steps` the nodes of the first tab. */
  constructor(host, steps) {
    this.#host = host;
    for (const name of Object.keys(VIEWS)) this.#views[name] = make("div", { part: `view-${name}` });
    this.#views.steps.append(...steps);
    this.#views.output.append(make("ol", { className: "output", "aria-label": "Messages of the task, the newest last" }));
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
    this.#known = this.#read = null;
    this.#lastLine = "";
    this.#hasChosen = false;
    setText(this.#facts, "");
    setText(this.#failure, "");
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
    const state = `${snapshot.status} ${snapshot.attempt}`;
    if (state === this.#read) return;
    this.#read = state;
    this.#reload();
  }

  /** Take the end. */
  finish({ status, result, error }) {
    setText(this.#failure, status === "completed" ? "" : (error ?? ""));
    this.#question.end();
    this.#read = null;
    this.#reload();
    if (status !== "completed" || result === null) return;
    this.#tabs.hide("result", false);
    this.#drawResult(result);
    if (!this.#hasChosen) this.#tabs.choose("result");
  }

  /** What the task was submitted with; null while it is not known. */
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
      if (this.#tabs.chosen === "why") await this.#loadReasons();
    } catch (error) {
      if (!signal.aborted && error.status !== 404) this.#host.showError(error);
    }
  }

  #drawKnown(known) {
    setText(this.#facts, whenOf(known).join(" · "));
    this.#facts.title = known.ended_at ? momentInWords(Date.parse(known.ended_at)) : "";
    this.#views.params.replaceChildren(paramsOf(known));
    this.#views.attempts.replaceChildren(attemptsOf(known));
    if (known.status === "completed" && known.result !== null) this.#drawResult(known.result);
  }

  #drawResult(result) {
    const { kind } = this.#known ?? {};
    // The kind says by which view; it comes with the rest.
    if (!kind) return;
    this.#views.result.replaceChildren(drawResult(kind, result, this.#known));
  }

  /** Keep each message once, as it came. */
  #note({ message, updated_at: at }) {
    const list = this.#views.output.firstElementChild;
    if (!message || message === this.#lastLine) return;
    this.#lastLine = message;
    const moment = Date.parse(at);
    const time = make("time", { datetime: at, text: new Date(moment).toLocaleTimeString() });
    const wasAtEnd = this.#panel.scrollTop + this.#panel.clientHeight >= this.#panel.scrollHeight - 4;
    list.append(make("li", { children: [time, make("span", { text: message })] }));
    while (list.children.length > MOST_LINES) list.firstElementChild.remove();
    if (wasAtEnd) this.#panel.scrollTop = this.#panel.scrollHeight;
  }

  #chosen() {
    this.#show();
    if (this.#tabs.chosen === "why") this.#loadReasons();
  }

  #show() {
    for (const [name, view] of Object.entries(this.#views)) view.hidden = name !== this.#tabs.chosen;
  }

  async #loadReasons() {
    const signal = this.#signal;
    const view = this.#views.why;
    if (!view.firstChild) view.replaceChildren(make("p", { className: "muted", text: "Loading …" }));
    try {
      const reasons = await this.#client.request("GET", `/api/tasks/${this.#task.id}/why`, undefined, { signal });
      if (!signal.aborted) view.replaceChildren(...reasonsOf(reasons));
    } catch (error) {
      if (signal.aborted) return;
      // A server of an earlier version cannot say.
      if (error.status === 404) this.#tabs.hide("why");
      else view.replaceChildren(make("p", { className: "error", text: messageOfError(error) }));
    }
  }
}

function whenOf({ created_at: made, started_at: started, ended_at: ended, attempt, max_attempts: most, kind }) {
  const at = (moment) => clockOf(Date.parse(moment));
  const facts = [kind];
  if (started) facts.push(`started ${at(started)}`);
  else facts.push(`submitted ${at(made)}`);
  if (ended) facts.push(`ended ${at(ended)}`, ...(started ? [`took ${lengthOf((Date.parse(ended) - Date.parse(started)) / 1000)}`] : []));
  if (attempt > 1) facts.push(`attempt ${attempt} of ${most || "any number"}`);
  return facts;
}

function paramsOf({ params, tags, priority, key, task_id: id }) {
  const more = { ...(tags?.length ? { tags } : {}), ...(key ? { key } : {}), ...(priority !== "normal" ? { priority } : {}), task_id: id };
  return make("div", { children: [drawValue(params ?? {}), make("h3", { text: "Task" }), drawValue(more)] });
}

function attemptsOf({ attempts = [], max_attempts: most }) {
  if (!attempts.length) return make("p", { className: "muted", text: "It has not been started yet." });
  const drawn = attempts.map(({ attempt, started_at: started, ended_at: ended, outcome, error }) => {
    const took = ended ? `, took ${lengthOf((Date.parse(ended) - Date.parse(started)) / 1000)}` : "";
    const head = make("p", { children: [
      make("b", { text: `Attempt ${attempt}` }), " ",
      make("span", { className: "status", "data-status": outcome, text: OUTCOMES[outcome] ?? outcome }), " ",
      make("span", { className: "muted", text: `${momentInWords(Date.parse(started))}${took}` }),
    ] });
    return make("li", { children: [head, ...(error ? [make("p", { className: "error", text: error })] : [])] });
  });
  const bound = most ? [make("p", { className: "muted", text: `At most ${most} attempts.` })] : [];
  return make("div", { children: [make("ol", { className: "attempts plain", children: drawn }), ...bound] });
}

function reasonsOf({ cause, chain = [] }) {
  const drawn = chain.map(({ at, text }) => {
    const moment = at === null || at === undefined ? null : Date.parse(at);
    const time = moment === null ? [] : [make("time", { datetime: at, title: momentInWords(moment), text: agoInWords(moment) })];
    return make("li", { children: [make("span", { text }), ...time] });
  });
  const head = cause ? [make("p", { className: "cause", text: cause.text })] : [];
  return [...head, make("ol", { className: "chain", children: drawn })];
}

