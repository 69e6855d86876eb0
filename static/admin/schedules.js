/** The schedules of all users: when each made its last task and makes the next, and the switch that stops one. */

import { hashOf } from "./address.js";
import { ask, tell } from "./asking.js";
import { button, h } from "./dom.js";
import { length, number } from "./format.js";
import { queryText } from "./query.js";
import { card, instead, more, table, when } from "./table.js";
import { Listing, View } from "./view.js";

// All that a schedule is made of: what `PUT` takes.
const SHOWN_ONLY = new Set([
  ...["user_id", "source", "next_at", "last_at", "last_task_id", "fired", "skipped", "skipped_because", "name"],
  ...["usual_seconds", "usual_low", "usual_high", "next_ends_at"],
]);
const FROM_CODE = "code";

export class SchedulesView extends View {
  static title = "Schedules";
  #list = new Listing((after) => this.request("GET", `/api/schedules${queryText({ user: this.query.user || "*", after })}`));

  forget() {
    this.#list.forget();
  }

  load(isCurrent) {
    return this.#list.load(isCurrent);
  }

  get ownActs() {
    return {
      run: ({ value }) => this.#run(this.#find(value)),
      stop: ({ value }) => this.#switch(this.#find(value), false),
      start: ({ value }) => this.#switch(this.#find(value), true),
      delete: ({ value }) => this.#delete(this.#find(value)),
      all: () => this.app.go("schedules"),
      more: () => {
        this.#list.more();
        this.reload();
      },
    };
  }

  draw() {
    const { items, next } = this.#list;
    const { user } = this.query;
    return [
      h("div", { class: "title-row" }, h("h1", {}, "Schedules"),
        user && h("p", { class: "filters" }, h("span", { class: "tag" }, `user: ${user}`), button("all", "Show all", { class: "small quiet" }))),
      card("Schedules of all users", this.#table(items)),
      more(next, this.isBusy),
    ];
  }

  #table(items) {
    if (!items?.length) return instead({ data: items, error: this.error, what: "the schedules", empty: "Nobody has a schedule." });
    return table(items, { label: "Schedules", key: keyOf, generation: this.query.user ?? "", columns: this.#columns() });
  }

  #columns() {
    return [
      { title: "Schedule", isWide: true, cell: (one) => [h("b", {}, one.name), h("span", { class: "hint" }, one.source === FROM_CODE ? "of the kind's code" : "")] },
      { title: "User", cell: (one) => (one.user_id ? h("a", { href: hashOf("schedules", { user: one.user_id }) }, one.user_id) : "–") },
      { title: "Kind", cell: (one) => h("a", { href: hashOf("kind", {}, one.kind) }, one.kind) },
      { title: "When", cell: (one) => [one.cron ? h("code", {}, one.cron) : `every ${length(one.every)}`, h("span", { class: "hint" }, one.cron ? one.timezone : "")] },
      { title: "Next", cell: (one) => (one.enabled ? when(one.next_at, this.now) : h("span", { class: "tag warn" }, "off")) },
      { title: "Last", cell: (one) => (one.last_task_id ? h("a", { href: hashOf("task", {}, one.last_task_id) }, when(one.last_at, this.now)) : when(one.last_at, this.now)) },
      { title: "Made", isNumber: true, cell: (one) => number(one.fired) },
      { title: "Skipped", isNumber: true, cell: (one) => (one.skipped ? h("span", { class: "warn", title: one.skipped_because }, number(one.skipped)) : "0") },
      { title: "", isWide: true, cell: (one) => this.#buttons(one) },
    ];
  }

  #buttons(one) {
    const act = (name, label, className = "quiet") => button(name, label, { value: keyOf(one), class: `small ${className}`, "aria-label": `${label}: ${one.name} of ${one.user_id}` });
    return h("span", { class: "row-actions" }, act("run", "Run now"), one.enabled ? act("stop", "Switch off") : act("start", "Switch on", "primary"),
      one.source !== FROM_CODE && act("delete", "Delete"));
  }

  #find(key) {
    return this.#list.items.find((one) => keyOf(one) === key);
  }

  #address(one, verb = "") {
    return `/api/schedules/${encodeURIComponent(one.name).replaceAll("%3A", ":")}${verb}${queryText({ user: one.user_id })}`;
  }

  #run(one) {
    return this.act(async () => {
      const { task_id: id } = await this.request("POST", this.#address(one, "/run"));
      tell(`${one.name} made a task.`);
      this.app.go("task", {}, id);
    });
  }

  async #switch(one, enabled, isUndo = false) {
    await this.act(async () => {
      await this.request("PUT", this.#address(one), bodyOf(one, { enabled }));
      tell(`${one.name} is ${enabled ? "on" : "off"}.`, { undo: isUndo ? null : () => this.#switch(one, !enabled, true) });
    });
  }

  async #delete(one) {
    const isSure = await ask({
      title: "Delete 1 schedule?", danger: true, confirm: "Delete it",
      body: h("p", {}, `${one.name} of ${one.user_id} makes no more tasks. The tasks that it made stay.`),
    });
    if (!isSure) return;
    await this.act(async () => {
      await this.request("DELETE", this.#address(one));
      const again = () => this.act(() => this.request("PUT", this.#address(one), bodyOf(one)));
      tell(`${one.name} was deleted.`, { undo: again });
    });
  }
}

const keyOf = (one) => `${one.user_id} ${one.name}`;

function bodyOf(one, changes = {}) {
  const own = Object.entries(one).filter(([name, value]) => !SHOWN_ONLY.has(name) && value !== null && value !== "");
  return { ...Object.fromEntries(own), ...changes };
}
