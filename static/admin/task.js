/** One task: how far it is, why it is there, its attempts, parameters and result, and what can be done with it. */

import { statusInWords, t } from "../rt-elements.js";
import { hashOf } from "./address.js";
import { VERBS, doVerb } from "./bulk.js";
import { button, h } from "./dom.js";
import { exactly, length, ofMost } from "./format.js";
import { card, facts, instead, state, table, when } from "./table.js";
import { View } from "./view.js";

const GONE = 404;
const PRIORITIES = { lowest: t("lowest"), low: t("low"), normal: t("normal"), high: t("high"), highest: t("highest") };
// Whether the server tells the causes; it is found out once.
let tellsWhy = true;

export class TaskView extends View {
  static title = t("Task");
  static within = "tasks";
  seconds = 2;
  #task = null;
  // The chain of causes; null where the server does not tell it.
  #why = null;

  get title() {
    return this.#task ? t("{name}: {status}", { name: this.#task.label || this.id, status: statusInWords(this.#task.status) }) : t("Task");
  }

  get #address() {
    return `/api/tasks/${encodeURIComponent(this.id)}`;
  }

  forget() {
    this.#task = this.#why = null;
  }

  async load(isCurrent) {
    const [task, why] = await Promise.all([this.request("GET", this.#address), this.#readWhy()]);
    if (!isCurrent()) return;
    this.#task = task;
    this.#why = why;
  }

  async #readWhy() {
    if (!tellsWhy) return null;
    try {
      return await this.request("GET", `${this.#address}/why`);
    } catch (error) {
      if (error.status !== GONE) throw error;
      // A task that is there has causes.
      tellsWhy = !this.#task;
      return null;
    }
  }

  fail(error) {
    super.fail(error);
    // It was discarded, or is kept no longer.
    if (error.status === GONE) this.#task = null;
  }

  get ownActs() {
    return { verb: ({ value }) => doVerb(this, value, new Map([[this.id, this.#task.status]])) };
  }

  draw() {
    const task = this.#task;
    const up = h("p", { class: "up" }, h("a", { href: "#tasks" }, t("Tasks")));
    if (!task) return [up, h("h1", {}, t("Task")), card(t("Task"), instead({ data: null, error: this.error, loading: t("Loading the task …") }))];
    return [
      up,
      h("div", { class: "title-row" }, h("h1", {}, task.label || task.task_id), state(task.status),
        Object.entries(VERBS).filter(([, verb]) => verb.states.includes(task.status)).map(([verb, { label, danger }]) =>
          button("verb", label, { value: verb, class: danger ? "danger" : "primary", disabled: this.isActing }))),
      this.#cause(),
      h("div", { class: "halves" },
        card(t("Progress"), this.#progress()),
        card(t("Facts"), this.#facts())),
      this.#chain(), this.#attempts(), this.#values(),
    ];
  }

  /** It follows the task by itself. */
  #progress() {
    const label = this.#task.label || this.id;
    return h("div", { "data-key": this.id }, h("rt-task", { "task-id": this.id, label, readonly: true, "data-own": true }));
  }

  #facts() {
    const task = this.#task;
    const link = (name, query, text, id) => (text ? h("a", { href: hashOf(name, query, id) }, text) : null);
    return facts([
      [t("Id"), h("code", {}, task.task_id)],
      [t("Kind"), link("kind", {}, task.kind, task.kind)],
      [t("User"), link("tasks", { user: task.user_id }, task.user_id)],
      [t("Batch"), link("tasks", { batch: task.batch_id }, task.batch_id)],
      [t("Schedule"), task.schedule],
      [t("Key"), task.key], [t("Priority"), PRIORITIES[task.priority] ?? task.priority],
      [t("Tags"), task.tags?.length ? task.tags.map((tag) => h("a", { class: "tag", href: hashOf("tasks", { tag }) }, tag)) : null],
      [t("Attempt"), ofMost(task.attempt, task.max_attempts)],
      [t("Submitted"), when(task.created_at, this.now)],
      [t("Starts"), task.run_at && when(task.run_at, this.now)],
      [t("Started"), task.started_at && when(task.started_at, this.now)],
      [t("Ended"), task.ended_at && when(task.ended_at, this.now)],
      [t("Ran for"), task.started_at && task.ended_at && length((Date.parse(task.ended_at) - Date.parse(task.started_at)) / 1000)],
    ]);
  }

  /** Why it is where it is, in one sentence. */
  #cause() {
    const { error, waiting_for: waiting } = this.#task;
    const text = this.#why?.cause?.text ?? waiting?.message ?? error;
    return text && h("p", { class: `notice ${error ? "error" : ""}`, "data-name": "cause" }, text);
  }

  #chain() {
    const chain = this.#why?.chain ?? [];
    return chain.length > 0 && card(t("Why"), h("ol", { class: "chain" }, chain.map(({ at, text }, index) =>
      h("li", { "data-key": String(index) }, at ? h("time", { datetime: at, title: exactly(at) }, exactly(at)) : null, h("span", {}, text)))));
  }

  #attempts() {
    const attempts = this.#task.attempts ?? [];
    return attempts.length > 0 && card(t("Attempts"), table(attempts, {
      label: t("Attempts"), key: (one) => String(one.attempt), columns: [
        { title: t("Attempt"), isNumber: true, cell: (one) => String(one.attempt) },
        { title: t("Outcome"), cell: (one) => state(one.outcome) },
        { title: t("Started"), cell: (one) => when(one.started_at, this.now) },
        { title: t("Took"), isNumber: true, cell: (one) => (one.started_at && one.ended_at ? length((Date.parse(one.ended_at) - Date.parse(one.started_at)) / 1000) : "–") },
        { title: t("Error"), isWide: true, cell: (one) => one.error ?? "–" },
      ],
    }));
  }

  #values() {
    const { params, result } = this.#task;
    return h("div", { class: "halves" },
      card(t("Parameters"), json(params)), result !== null && result !== undefined ? card(t("Result"), json(result)) : null);
  }
}

function json(value) {
  return h("pre", { tabindex: "0" }, JSON.stringify(value, null, 2));
}
