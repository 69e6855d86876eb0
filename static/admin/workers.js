/** The workers: what they take, how much of it runs, whether they are heard of; and a drain of one. */

import { hashOf } from "./address.js";
import { ask, tell } from "./asking.js";
import { button, h } from "./dom.js";
import { count, length, number } from "./format.js";
import { card, instead, table } from "./table.js";
import { View } from "./view.js";

// One that is alive tells of itself more often.
const SILENT_SECONDS = 30;

export class WorkersView extends View {
  static title = "Workers";
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
      h("h1", {}, "Workers"),
      card("Workers", this.#table(), { note: this.#items?.length ? `${count(this.#items.length, "worker")}, ${count(slots, "slot")}` : null }),
    ];
  }

  #table() {
    if (!this.#items?.length) {
      return instead({ data: this.#items, error: this.error, what: "the workers", empty: "No worker is heard of: nothing that waits will start." });
    }
    return table(this.#items, { label: "Workers", key: (one) => one.worker_id, columns: this.#columns() });
  }

  #columns() {
    return [
      { title: "Worker", isWide: true, cell: (one) => [h("a", { class: "mono", href: hashOf("running", { worker: one.worker_id }) }, one.worker_id), h("span", { class: "hint" }, whereOf(one))] },
      { title: "Kinds", isWide: true, cell: (one) => (one.kinds ?? []).map((kind) => h("a", { class: "tag", href: hashOf("kind", {}, kind) }, kind)) },
      { title: "Running", isNumber: true, cell: (one) => load(one) },
      { title: "Version", cell: (one) => [one.version ?? "–", one.language ? h("span", { class: "hint" }, one.language) : null] },
      { title: "Age", isNumber: true, cell: (one) => length(one.seconds) },
      { title: "Heard of", isNumber: true, cell: (one) => heard(one.seen_seconds) },
      { title: "State", cell: (one) => this.#switch(one) },
    ];
  }

  #switch({ worker_id: id, draining }) {
    return draining
      ? [h("span", { class: "tag warn" }, "draining"), " ", button("take-up", "Resume", { value: id, class: "small primary", "aria-label": `Resume ${id}` })]
      : button("drain", "Drain", { value: id, class: "small quiet", "aria-label": `Drain ${id}` });
  }

  async #drain(id) {
    const worker = this.#items.find((one) => one.worker_id === id);
    const isSure = await ask({
      title: "Drain 1 worker?", confirm: "Drain it",
      body: h("p", {}, `${id} takes no more tasks; the ${count(worker?.running ?? 0, "task")} that it runs end${worker?.running === 1 ? "s" : ""} as usual.`),
    });
    if (!isSure) return;
    await this.act(async () => {
      const { running } = await this.#post(id, "drain");
      tell(`${id} is draining; ${count(running, "task")} still run${running === 1 ? "s" : ""}.`, { undo: () => this.#takeUp(id) });
    });
  }

  #takeUp(id) {
    return this.act(async () => {
      await this.#post(id, "resume");
      tell(`${id} takes tasks again.`);
    });
  }

  #post(id, verb) {
    return this.request("POST", `/api/admin/workers/${encodeURIComponent(id)}/${verb}`);
  }
}

function whereOf({ address, host, pid, remote }) {
  const place = [host, address].filter(Boolean).join(" · ");
  return [place, pid ? `process ${pid}` : "", remote ? "elsewhere" : ""].filter(Boolean).join(" · ");
}

function load({ running = 0, slots }) {
  if (!slots) return number(running);
  return [h("progress", { max: slots, value: Math.min(running, slots), "aria-label": "Slots in use" }), h("span", { class: "hint" }, `${number(running)} of ${number(slots)}`)];
}

function heard(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  return h("span", { class: seconds > SILENT_SECONDS ? "bad" : null }, seconds < 1 ? "now" : `${length(seconds)} ago`);
}
