/** The tasks that run: by which worker, until when it may, which attempt, at which step. */

import { progressOf, t, tn } from "../rt-elements.js";
import { hashOf } from "./address.js";
import { ask, tell } from "./asking.js";
import { button, h } from "./dom.js";
import { age, length, ofMost } from "./format.js";
import { card, instead, more, table } from "./table.js";
import { Listing, View } from "./view.js";
import { queryText } from "./query.js";

const SOON_SECONDS = 30;
const FILTERS = { kind: t("Kind"), user: t("User"), worker: t("Worker") };

export class RunningView extends View {
  static title = t("Running");
  seconds = 2;
  #list = new Listing((after) => this.request("GET", `/api/admin/running${queryText({ ...this.#filters, after })}`));

  get #filters() {
    const { kind, user, worker } = this.query;
    return { kind, user, worker };
  }

  forget() {
    this.#list.forget();
  }

  load(isCurrent) {
    return this.#list.load(isCurrent);
  }

  get ownActs() {
    return {
      cancel: ({ value }) => this.#cancel(value),
      more: () => {
        this.#list.more();
        this.reload();
      },
      all: () => this.app.go("running"),
    };
  }

  draw() {
    const { items, next } = this.#list;
    const filters = Object.entries(this.#filters).filter(([, value]) => value);
    return [
      h("div", { class: "title-row" }, h("h1", {}, t("Running")),
        filters.length > 0 && h("p", { class: "filters" }, filters.map(([name, value]) => h("span", { class: "tag" }, t("{name}: {value}", { name: FILTERS[name], value }))), button("all", t("Show all"), { class: "small quiet" }))),
      card(t("Running tasks"), this.#table(items), { note: items?.length ? t("The one whose lease ends first stands first.") : null }),
      more(next, this.isBusy),
    ];
  }

  #table(items) {
    if (!items?.length) return instead({ data: items, error: this.error, loading: t("Loading the running tasks …"), empty: t("No task runs now.") });
    return table(items, { label: t("Running tasks"), key: (one) => one.task_id, generation: JSON.stringify(this.#filters), columns: this.#columns() });
  }

  #columns() {
    return [
      { title: t("Task"), isWide: true, cell: (one) => [h("a", { href: hashOf("task", {}, one.task_id) }, one.label || one.task_id), h("span", { class: "hint" }, one.kind)] },
      { title: t("User"), cell: (one) => h("a", { href: hashOf("tasks", { user: one.user_id }) }, one.user_id) },
      { title: t("Step"), isWide: true, cell: (one) => [one.step ?? "–", one.message ? h("span", { class: "hint" }, one.message) : null] },
      { title: t("Progress"), cell: (one) => bar(one) },
      { title: t("Runs for"), isNumber: true, cell: (one) => age(one.started_at, this.now) },
      { title: t("Attempt"), isNumber: true, cell: (one) => ofMost(one.attempt, one.max_attempts) },
      { title: t("Worker"), cell: (one) => h("a", { href: hashOf("running", { worker: one.worker_id }), class: "mono" }, one.worker_id) },
      { title: t("Lease"), isNumber: true, cell: (one) => this.#lease(one) },
      { title: "", cell: (one) => button("cancel", t("Cancel"), { value: one.task_id, class: "small quiet", "aria-label": t("Cancel {task}", { task: one.label || one.task_id }) }) },
    ];
  }

  #lease({ lease_until: until }) {
    if (!until) return "–";
    const left = (new Date(until).getTime() - this.now) / 1000;
    if (left < 0) return h("span", { class: "bad" }, t("over for {time}", { time: length(-left) }));
    return h("span", { class: left < SOON_SECONDS ? "warn" : null }, length(left));
  }

  async #cancel(id) {
    const task = this.#list.items.find((one) => one.task_id === id);
    const isSure = await ask({
      title: t("Cancel 1 running task?"), danger: true, confirm: t("Cancel it"),
      body: h("p", {}, t("{task} of {user} is stopped where it is; {attempts} made. This cannot be undone.", {
        task: task?.label || id, user: task?.user_id, attempts: tn(task?.attempt ?? 1, "{n} attempt", "{n} attempts"),
      })),
    });
    if (!isSure) return;
    await this.act(async () => {
      await this.request("DELETE", `/api/tasks/${encodeURIComponent(id)}`);
      tell(t("{task} was cancelled.", { task: task?.label || id }));
    });
  }
}

function bar({ progress, remaining_time: left }) {
  const text = progressOf(progress ?? 0);
  return [
    h("progress", { max: 100, value: Math.floor(progress ?? 0), "aria-label": t("Progress") }, text),
    h("span", { class: "hint" }, left ? t("{text}, about {time} left", { text, time: length(left) }) : text),
  ];
}
