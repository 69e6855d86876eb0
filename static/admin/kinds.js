/** The kinds of work: depth, oldest wait, rates and failures, and the switch that stops one. */

import { hashOf } from "./address.js";
import { ask, tell } from "./asking.js";
import { button, h } from "./dom.js";
import { count, length, number, percent, rate } from "./format.js";
import { ofKind, rateNow } from "./live.js";
import { spark } from "./spark.js";
import { card, instead, table } from "./table.js";
import { View } from "./view.js";

const LIMITS = { limit: "in all", user_limit: "a user", key_limit: "a key" };

/** The table of the kinds, and its buttons. */
export class KindsList {
  items = null;
  isPausedAll = false;

  constructor(view) {
    this.view = view;
  }

  async load(isCurrent) {
    const { items, paused_all: isPausedAll } = await this.view.request("GET", "/api/kinds");
    if (isCurrent()) Object.assign(this, { items, isPausedAll });
  }

  get acts() {
    return {
      pause: ({ value }) => this.#pause(value),
      resume: ({ value }) => this.#resume(value),
    };
  }

  draw() {
    if (!this.items?.length) {
      return instead({ data: this.items, error: this.view.error, what: "the kinds", empty: "No process has told of a kind yet." });
    }
    return table(this.items, { label: "Kinds", key: (one) => one.kind, columns: this.#columns() });
  }

  #columns() {
    const { live } = this.view.app;
    const endings = (one, ...names) => rateNow(live.near, (point) => names.reduce((sum, name) => sum + ofKind(point, one.kind)[name], 0));
    return [
      { title: "Kind", isWide: true, cell: (one) => [h("a", { href: hashOf("kind", {}, one.kind) }, one.kind), one.title ? h("span", { class: "hint" }, one.title) : null] },
      { title: "Waiting", isNumber: true, cell: (one) => h("a", { href: hashOf("tasks", { kind: one.kind, status: "queued" }) }, number(one.queued)) },
      { title: "Oldest wait", isNumber: true, cell: (one) => length(one.oldest_seconds) },
      { title: "Running", isNumber: true, cell: (one) => h("a", { href: hashOf("running", { kind: one.kind }) }, number(one.running)) },
      { title: "Completed", isNumber: true, cell: (one) => rate(endings(one, "completed")) },
      { title: "Failing", isNumber: true, cell: (one) => failing(endings(one, "completed"), endings(one, "failed", "dead")) },
      { title: "15 min", cell: (one) => spark(live, one.kind) },
      { title: "Workers", isNumber: true, cell: (one) => h("span", { class: one.queued && !one.workers ? "bad" : null }, number(one.workers)) },
      { title: "Limits", cell: limitsOf },
      { title: "State", cell: (one) => this.#switch(one) },
    ];
  }

  #switch({ kind, paused }) {
    return paused
      ? button("resume", "Resume", { value: kind, class: "small primary", "aria-label": `Resume ${kind}` })
      : button("pause", "Pause", { value: kind, class: "small quiet", "aria-label": `Pause ${kind}` });
  }

  async #pause(kind) {
    const waits = kind ? this.items.find((one) => one.kind === kind)?.queued ?? 0 : this.items.reduce((sum, one) => sum + one.queued, 0);
    const isSure = await ask({
      title: kind ? `Pause ${kind}?` : "Pause all kinds?",
      body: h("p", {}, `No task of ${kind || "any kind"} starts until it is resumed: ${count(waits, "task")} wait${waits === 1 ? "s" : ""} now. What runs goes on.`),
      confirm: "Pause",
    });
    if (!isSure) return;
    await this.view.act(async () => {
      const { running } = await this.view.request("POST", "/api/queue/pause", kind ? { kind } : {});
      tell(`${kind || "All kinds"} paused; ${count(running, "task")} still run${running === 1 ? "s" : ""}.`, { undo: () => this.#resume(kind) });
    });
  }

  async #resume(kind) {
    await this.view.act(async () => {
      await this.view.request("POST", "/api/queue/resume", kind ? { kind } : {});
      tell(`${kind || "All kinds"} resumed.`);
    });
  }
}

function failing(good, bad) {
  if (good === null || bad === null || good + bad === 0) return "–";
  return h("span", { class: bad > 0 ? "bad" : null }, percent(bad / (good + bad)));
}

/** Return the limits of a kind that hold, in words. */
export function limitsOf({ limits, changed = {} }) {
  const told = Object.entries(LIMITS).filter(([name]) => limits[name]).map(([name, words]) => `${number(limits[name])} ${words}`);
  if (limits.rate) told.push(limits.rate);
  if (limits.key_rate) told.push(`${limits.key_rate} a key`);
  const words = told.join(", ") || "none";
  return Object.keys(changed).length ? [words, " ", h("span", { class: "tag" }, "changed")] : words;
}

export class KindsView extends View {
  static title = "Kinds";
  #list = new KindsList(this);

  load(isCurrent) {
    return this.#list.load(isCurrent);
  }

  get ownActs() {
    return this.#list.acts;
  }

  draw() {
    const all = this.#list.isPausedAll
      ? button("resume", "Resume all kinds", { value: "", class: "primary" })
      : button("pause", "Pause all kinds", { value: "", class: "quiet", disabled: !this.#list.items });
    return [
      h("div", { class: "title-row" }, h("h1", {}, "Kinds"), all),
      this.#list.isPausedAll && h("p", { class: "notice warning" }, "All kinds are paused: no task starts."),
      card("Kinds of work", this.#list.draw()),
      h("p", {}, h("a", { href: hashOf("kind", {}, "*") }, "Limits over all kinds")),
    ];
  }
}
