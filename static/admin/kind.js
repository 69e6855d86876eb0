/** One kind, or all of them together (`*`): its numbers over time, and its limits. */

import { hashOf } from "./address.js";
import { ask, tell } from "./asking.js";
import { button, h } from "./dom.js";
import { errorsOf, field, valuesOf } from "./forms.js";
import { KindsList } from "./kinds.js";
import { SPANS, depthChart, spanPicker, speedChart } from "./over-time.js";
import { card, instead } from "./table.js";
import { View } from "./view.js";

const ALL = "*";
const RATE_HINT = "such as 10/m: starts in a second (s), minute (m), hour (h) or day (d); empty is no bound";
const FIELDS = {
  limit: ["Running in all", "0 is no bound"],
  user_limit: ["Running of one user", "0 is no bound"],
  key_limit: ["Running of one key", "0 is no bound"],
  global_limit: ["Running in all", "0 is no bound"],
  rate: ["Starts", RATE_HINT],
  key_rate: ["Starts of one key", RATE_HINT],
  order: ["Order of the line", "fifo: the oldest task first; fair: the users in turn"],
};
const ORDERS = [["fifo", "fifo"], ["fair", "fair"]];
const TEXTS = new Set(["rate", "key_rate", "order"]);

export class KindView extends View {
  static title = "Kind";
  static within = "kinds";
  #told = null;
  #typed = {};
  #errors = {};
  #problem = "";
  #list = new KindsList(this);

  get title() {
    return this.isAll ? "All kinds" : this.id;
  }

  get isAll() {
    return this.id === ALL;
  }

  get #address() {
    return this.isAll ? "/api/queue/limits" : `/api/kinds/${encodeURIComponent(this.id)}/limits`;
  }

  forget() {
    this.#told = null;
    this.#typed = {};
    this.#errors = {};
  }

  async load(isCurrent) {
    const [told] = await Promise.all([this.request("GET", this.#address), this.#list.load(isCurrent)]);
    if (isCurrent()) this.#told = told;
  }

  get ownActs() {
    return {
      ...this.#list.acts,
      span: ({ value }) => this.app.go("kind", { span: value }, this.id, { isSame: true }),
      drop: () => this.#drop(),
    };
  }

  route(place) {
    if (place.id !== this.id) return super.route(place);
    this.query = place.query;
    return this.app.draw();
  }

  input({ name, value }) {
    this.#typed[name] = value;
  }

  draw() {
    const span = SPANS[this.query.span] ? this.query.span : "15m";
    const kind = this.isAll ? "" : this.id;
    const found = this.#list.items?.find((one) => one.kind === kind);
    return [
      h("p", { class: "up" }, h("a", { href: "#kinds" }, "Kinds")),
      h("div", { class: "title-row" }, h("h1", {}, this.title), this.#told && this.#switch(kind)),
      found?.title && h("p", { class: "hint" }, found.title),
      !this.isAll && h("p", { class: "links" },
        h("a", { href: hashOf("tasks", { kind }) }, "All its tasks"), h("a", { href: hashOf("running", { kind }) }, "Running"),
        h("a", { href: hashOf("tasks", { kind, status: "dead" }) }, "Dead")),
      h("div", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, "Over time"), spanPicker(span)),
        h("div", { class: "charts" }, speedChart(this.app.live, kind, span), depthChart(this.app.live, kind, span))),
      card("Limits", this.#limits(), { note: "They hold in every process within a second." }),
    ];
  }

  #switch(kind) {
    return this.#told.paused
      ? button("resume", "Resume", { value: kind, class: "primary" })
      : button("pause", "Pause", { value: kind, class: "quiet" });
  }

  #limits() {
    if (!this.#told) return instead({ data: null, error: this.error, what: "the limits" });
    const { limits, changed } = this.#told;
    const isChanged = Object.keys(changed).length > 0;
    return h("form", { id: "limits" },
      h("div", { class: "fields" }, Object.keys(FIELDS).filter((name) => name in limits).map((name) => this.#field(name, limits[name], name in changed))),
      h("p", { class: "error", role: "alert" }, this.#problem),
      h("div", { class: "actions" },
        h("button", { type: "submit", class: "primary", disabled: this.isActing }, "Save"),
        isChanged && button("drop", "Back to those of the code", { class: "quiet" })));
  }

  #field(name, value, isChanged) {
    const [label, hint] = FIELDS[name];
    return field({
      name, label: isChanged ? `${label} (changed)` : label, hint,
      value: this.#typed[name] ?? String(value ?? ""), error: this.#errors[name],
      choices: name === "order" ? ORDERS : null,
      attributes: TEXTS.has(name) ? {} : { inputmode: "numeric" },
    });
  }

  async submit(form) {
    const values = valuesOf(form);
    const { limits } = this.#told;
    const changes = Object.fromEntries(Object.entries(values)
      .filter(([name, value]) => value !== String(limits[name] ?? ""))
      .map(([name, value]) => [name, TEXTS.has(name) || !/^-?\d+$/.test(value) ? value : Number(value)]));
    this.#errors = {};
    this.#problem = "";
    if (!Object.keys(changes).length) return tell("Nothing was changed.");
    await this.act(() => this.#save(changes));
  }

  async #save(changes) {
    const before = Object.fromEntries(Object.keys(changes).map((name) => [name, this.#told.limits[name]]));
    const wasChanged = Object.keys(this.#told.changed).length > 0;
    const address = this.#address;
    try {
      this.#told = await this.request("PUT", address, changes);
    } catch (error) {
      if (error.status !== 422) throw error;
      [this.#errors, this.#problem] = errorsOf(error, Object.keys(FIELDS));
      return;
    }
    this.#typed = {};
    const restore = () => (wasChanged ? this.request("PUT", address, before) : this.request("DELETE", address));
    tell(`The limits of ${this.isAll ? "all kinds" : this.id} were saved.`, { undo: () => this.act(restore) });
  }

  async #drop() {
    const isSure = await ask({
      title: "Drop the changes?",
      body: h("p", {}, `The limits become those of the code again: ${Object.keys(this.#told.changed).join(", ")}.`),
      confirm: "Drop them",
    });
    if (!isSure) return;
    const before = { ...this.#told.changed };
    const address = this.#address;
    await this.act(async () => {
      await this.request("DELETE", address);
      this.#typed = {};
      tell("The limits are those of the code again.", { undo: () => this.act(() => this.request("PUT", address, before)) });
    });
  }
}
