/** The workers: what they take, how much of it runs, whether they are heard of; and a drain of one. */

import { joined, relativeTo, t, tn } from "../rt-elements.js";
import { hashOf } from "./address.js";
import { ask, tell } from "./asking.js";
import { button, h } from "./dom.js";
import { length, number, ofMost } from "./format.js";
import { card, instead, table } from "./table.js";
import { View } from "./view.js";

// One that is alive tells of itself more often.
const SILENT_SECONDS = 30;

export class WorkersView extends View {
  static title = t("Workers");
  #items = null;

  async load(isCurrent) {
    const { items } = await this.request("GET", "/api/admin/workers");
    if (isCurrent()) this.#items = items;
  }

  get ownActs() {
    return { drain: ({ value }) => this.#drain(value), "take-up": ({ value }) => this.#takeUp(value) };
  }

  draw() {
    const slots = this.#items?.reduce((sum, one) => sum + (one.slots ?? 0), 0);
    return [
      h("h1", {}, t("Workers")),
      card(t("Workers"), this.#table(), { note: this.#items?.length ? countOf(this.#items.length, slots) : null }),
    ];
  }

  #table() {
    if (!this.#items?.length) {
      return instead({ data: this.#items, error: this.error, loading: t("Loading the workers …"), empty: t("No worker is heard of: nothing that waits will start.") });
    }
    return table(this.#items, { label: t("Workers"), key: (one) => one.worker_id, columns: this.#columns() });
  }

  #columns() {
    return [
      { title: t("Worker"), isWide: true, cell: (one) => [h("a", { class: "mono", href: hashOf("running", { worker: one.worker_id }) }, one.worker_id), h("span", { class: "hint" }, whereOf(one))] },
      { title: t("Kinds"), isWide: true, cell: (one) => (one.kinds ?? []).map((kind) => h("a", { class: "tag", href: hashOf("kind", {}, kind) }, kind)) },
      { title: t("Running"), isNumber: true, cell: (one) => load(one) },
      { title: t("Version"), cell: (one) => [one.version ?? "–", one.language ? h("span", { class: "hint" }, one.language) : null] },
      { title: t("Age"), isNumber: true, cell: (one) => length(one.seconds) },
      { title: t("Heard of"), isNumber: true, cell: (one) => heard(one.seen_seconds) },
      { title: t("State"), cell: (one) => this.#switch(one) },
    ];
  }

  #switch({ worker_id: id, draining }) {
    return draining
      ? [h("span", { class: "tag warn" }, t("draining")), " ", button("take-up", t("Resume"), { value: id, class: "small primary", "aria-label": t("Resume {kind}", { kind: id }) })]
      : button("drain", t("Drain"), { value: id, class: "small quiet", "aria-label": t("Drain {id}", { id }) });
  }

  async #drain(id) {
    const worker = this.#items.find((one) => one.worker_id === id);
    const isSure = await ask({
      title: t("Drain 1 worker?"), confirm: t("Drain it"),
      body: h("p", {}, tn(worker?.running ?? 0, "{id} takes no more tasks; the {n} task that it runs ends as usual.", "{id} takes no more tasks; the {n} tasks that it runs end as usual.", { id })),
    });
    if (!isSure) return;
    await this.act(async () => {
      const { running } = await this.#post(id, "drain");
      const still = tn(running, "{n} task still runs", "{n} tasks still run");
      tell(t("{id} is draining; {still}.", { id, still }), { undo: () => this.#takeUp(id) });
    });
  }

  #takeUp(id) {
    return this.act(async () => {
      await this.#post(id, "resume");
      tell(t("{id} takes tasks again.", { id }));
    });
  }

  #post(id, verb) {
    return this.request("POST", `/api/admin/workers/${encodeURIComponent(id)}/${verb}`);
  }
}

function countOf(workers, slots) {
  return joined([tn(workers, "{n} worker", "{n} workers"), tn(slots, "{n} slot", "{n} slots")], t(", "));
}

function whereOf({ address, host, pid, remote }) {
  const place = [host, address].filter(Boolean).join(" · ");
  return joined([place, pid && t("process {pid}", { pid: String(pid) }), remote && t("elsewhere")]);
}

function load({ running = 0, slots }) {
  if (!slots) return number(running);
  return [h("progress", { max: slots, value: Math.min(running, slots), "aria-label": t("Slots in use") }), h("span", { class: "hint" }, ofMost(running, slots))];
}

function heard(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  return h("span", { class: seconds > SILENT_SECONDS ? "bad" : null }, relativeTo(-seconds * 1000, 0));
}
