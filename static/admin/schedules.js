/** The schedules of all users: when each made its last task and makes the next, and the switch that stops one. */

import { t } from "../rt-elements.js";
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
  static title = t("Schedules");
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
      h("div", { class: "title-row" }, h("h1", {}, t("Schedules")),
        user && h("p", { class: "filters" }, h("span", { class: "tag" }, t("{name}: {value}", { name: t("User"), value: user })), button("all", t("Show all"), { class: "small quiet" }))),
      card(t("Schedules of all users"), this.#table(items)),
      more(next, this.isBusy),
    ];
  }

  #table(items) {
    if (!items?.length) return instead({ data: items, error: this.error, loading: t("Loading the schedules …"), empty: t("Nobody has a schedule.") });
    return table(items, { label: t("Schedules"), key: keyOf, generation: this.query.user ?? "", columns: this.#columns() });
  }

  #columns() {
    return [
      { title: t("Schedule"), isWide: true, cell: (one) => [h("b", {}, one.name), h("span", { class: "hint" }, one.source === FROM_CODE ? t("of the kind's code") : "")] },
      { title: t("User"), cell: (one) => (one.user_id ? h("a", { href: hashOf("schedules", { user: one.user_id }) }, one.user_id) : "–") },
      { title: t("Kind"), cell: (one) => h("a", { href: hashOf("kind", {}, one.kind) }, one.kind) },
      { title: t("When"), cell: (one) => [one.cron ? h("code", {}, one.cron) : t("every {time}", { time: length(one.every) }), h("span", { class: "hint" }, one.cron ? one.timezone : "")] },
      { title: t("Next"), cell: (one) => (one.enabled ? when(one.next_at, this.now) : h("span", { class: "tag warn" }, t("off"))) },
      { title: t("Last"), cell: (one) => (one.last_task_id ? h("a", { href: hashOf("task", {}, one.last_task_id) }, when(one.last_at, this.now)) : when(one.last_at, this.now)) },
      { title: t("Made"), isNumber: true, cell: (one) => number(one.fired) },
      { title: t("Skipped"), isNumber: true, cell: (one) => (one.skipped ? h("span", { class: "warn", title: one.skipped_because }, number(one.skipped)) : "0") },
      { title: "", isWide: true, cell: (one) => this.#buttons(one) },
    ];
  }

  #buttons(one) {
    const act = (name, label, className = "quiet") => button(name, label, { value: keyOf(one), class: `small ${className}`, "aria-label": t("{label}: {name} of {user}", { label, name: one.name, user: one.user_id }) });
    return h("span", { class: "row-actions" }, act("run", t("Run now")), one.enabled ? act("stop", t("Switch off")) : act("start", t("Switch on"), "primary"),
      one.source !== FROM_CODE && act("delete", t("Delete")));
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
      tell(t("{name} made a task.", { name: one.name }));
      this.app.go("task", {}, id);
    });
  }

  async #switch(one, enabled, isUndo = false) {
    await this.act(async () => {
      await this.request("PUT", this.#address(one), bodyOf(one, { enabled }));
      tell(enabled ? t("{name} is on.", { name: one.name }) : t("{name} is off.", { name: one.name }), { undo: isUndo ? null : () => this.#switch(one, !enabled, true) });
    });
  }

  async #delete(one) {
    const isSure = await ask({
      title: t("Delete 1 schedule?"), danger: true, confirm: t("Delete it"),
      body: h("p", {}, t("{name} of {user} makes no more tasks. The tasks that it made stay.", { name: one.name, user: one.user_id })),
    });
    if (!isSure) return;
    await this.act(async () => {
      await this.request("DELETE", this.#address(one));
      const again = () => this.act(() => this.request("PUT", this.#address(one), bodyOf(one)));
      tell(t("{name} was deleted.", { name: one.name }), { undo: again });
    });
  }
}

const keyOf = (one) => `${one.user_id} ${one.name}`;

function bodyOf(one, changes = {}) {
  const own = Object.entries(one).filter(([name, value]) => !SHOWN_ONLY.has(name) && value !== null && value !== "");
  return { ...Object.fromEntries(own), ...changes };
}
