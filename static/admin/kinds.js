/** The kinds of work: depth, oldest wait, rates and failures, and the switch that stops one. */

import { joined, roughly, t, tn } from "../rt-elements.js";
import { hashOf } from "./address.js";
import { ask, tell } from "./asking.js";
import { button, h } from "./dom.js";
import { length, number, percent, rate } from "./format.js";
import { ofKind, rateNow } from "./live.js";
import { spark } from "./spark.js";
import { card, instead, table } from "./table.js";
import { View } from "./view.js";

const LIMITS = {
  limit: (n) => t("{n} in all", { n }), user_limit: (n) => t("{n} a user", { n }), key_limit: (n) => t("{n} a key", { n }),
};

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
      return instead({ data: this.items, error: this.view.error, loading: t("Loading the kinds …"), empty: t("No process has told of a kind yet.") });
    }
    return table(this.items, { label: t("Kinds"), key: (one) => one.kind, columns: this.#columns() });
  }

  #columns() {
    const { live } = this.view.app;
    const endings = (one, ...names) => rateNow(live.near, (point) => names.reduce((sum, name) => sum + ofKind(point, one.kind)[name], 0));
    return [
      { title: t("Kind"), isWide: true, cell: (one) => [h("a", { href: hashOf("kind", {}, one.kind) }, one.kind), one.title ? h("span", { class: "hint" }, one.title) : null] },
      { title: t("Waiting"), isNumber: true, cell: (one) => h("a", { href: hashOf("tasks", { kind: one.kind, status: "queued" }) }, number(one.queued)) },
      { title: t("Oldest wait"), isNumber: true, cell: (one) => length(one.oldest_seconds) },
      { title: t("Running"), isNumber: true, cell: (one) => h("a", { href: hashOf("running", { kind: one.kind }) }, number(one.running)) },
      { title: t("Completed"), isNumber: true, cell: (one) => rate(endings(one, "completed")) },
      { title: t("Failing"), isNumber: true, cell: (one) => failing(endings(one, "completed"), endings(one, "failed", "dead")) },
      { title: roughly(900), cell: (one) => spark(live, one.kind) },
      { title: t("Workers"), isNumber: true, cell: (one) => h("span", { class: one.queued && !one.workers ? "bad" : null }, number(one.workers)) },
      { title: t("Limits"), cell: limitsOf },
      { title: t("State"), cell: (one) => this.#switch(one) },
    ];
  }

  #switch({ kind, paused }) {
    return paused
      ? button("resume", t("Resume"), { value: kind, class: "small primary", "aria-label": t("Resume {kind}", { kind }) })
      : button("pause", t("Pause"), { value: kind, class: "small quiet", "aria-label": t("Pause {kind}", { kind }) });
  }

  async #pause(kind) {
    const waits = kind ? this.items.find((one) => one.kind === kind)?.queued ?? 0 : this.items.reduce((sum, one) => sum + one.queued, 0);
    const isSure = await ask({
      title: kind ? t("Pause {kind}?", { kind }) : t("Pause all kinds?"),
      body: h("p", {}, kind
        ? t("No task of {kind} starts until it is resumed: {waits} now. What runs goes on.", { kind, waits: waiting(waits) })
        : t("No task of any kind starts until it is resumed: {waits} now. What runs goes on.", { waits: waiting(waits) })),
      confirm: t("Pause"),
    });
    if (!isSure) return;
    await this.view.act(async () => {
      const { running } = await this.view.request("POST", "/api/queue/pause", kind ? { kind } : {});
      const still = tn(running, "{n} task still runs", "{n} tasks still run");
      tell(kind ? t("{kind} paused; {still}.", { kind, still }) : t("All kinds paused; {still}.", { still }), { undo: () => this.#resume(kind) });
    });
  }

  async #resume(kind) {
    await this.view.act(async () => {
      await this.view.request("POST", "/api/queue/resume", kind ? { kind } : {});
      tell(kind ? t("{kind} resumed.", { kind }) : t("All kinds resumed."));
    });
  }
}

/** The number of waiting tasks, in words. */
export const waiting = (n) => tn(n, "{n} task waits", "{n} tasks wait");

function failing(good, bad) {
  if (good === null || bad === null || good + bad === 0) return "–";
  return h("span", { class: bad > 0 ? "bad" : null }, percent(bad / (good + bad)));
}

/** Return the limits of a kind that hold, in words. */
export function limitsOf({ limits, changed = {} }) {
  const told = Object.entries(LIMITS).filter(([name]) => limits[name]).map(([name, words]) => words(limits[name]));
  if (limits.rate) told.push(limits.rate);
  if (limits.key_rate) told.push(t("{n} a key", { n: limits.key_rate }));
  const words = told.length ? joined(told, t(", ")) : t("none");
  return Object.keys(changed).length ? [words, " ", h("span", { class: "tag" }, t("changed"))] : words;
}

export class KindsView extends View {
  static title = t("Kinds");
  #list = new KindsList(this);

  load(isCurrent) {
    return this.#list.load(isCurrent);
  }

  get ownActs() {
    return this.#list.acts;
  }

  draw() {
    const all = this.#list.isPausedAll
      ? button("resume", t("Resume all kinds"), { value: "", class: "primary" })
      : button("pause", t("Pause all kinds"), { value: "", class: "quiet", disabled: !this.#list.items });
    return [
      h("div", { class: "title-row" }, h("h1", {}, t("Kinds")), all),
      this.#list.isPausedAll && h("p", { class: "notice warning" }, t("All kinds are paused: no task starts.")),
      card(t("Kinds of work"), this.#list.draw()),
      h("p", {}, h("a", { href: hashOf("kind", {}, "*") }, t("Limits over all kinds"))),
    ];
  }
}
