/** One kind, or all of them together (`*`): its numbers over time, and its limits. */

import { joined, t } from "../rt-elements.js";
import { hashOf } from "./address.js";
import { ask, tell } from "./asking.js";
import { button, h } from "./dom.js";
import { errorsOf, field, valuesOf } from "./forms.js";
import { KindsList } from "./kinds.js";
import { SPANS, depthChart, spanPicker, speedChart } from "./over-time.js";
import { card, instead } from "./table.js";
import { View } from "./view.js";

const ALL = "*";
const RATE_HINT = t("such as 10/m: starts in a second (s), minute (m), hour (h) or day (d); empty is no bound");
const NO_BOUND = t("0 is no bound");
const FIELDS = {
  limit: [t("Running in all"), NO_BOUND],
  user_limit: [t("Running of one user"), NO_BOUND],
  key_limit: [t("Running of one key"), NO_BOUND],
  global_limit: [t("Running in all"), NO_BOUND],
  rate: [t("Starts"), RATE_HINT],
  key_rate: [t("Starts of one key"), RATE_HINT],
  order: [t("Order of the line"), t("fifo: the oldest task first; fair: the users in turn")],
};
const ORDERS = [["fifo", "fifo"], ["fair", "fair"]];
const TEXTS = new Set(["rate", "key_rate", "order"]);

export class KindView extends View {
  static title = t("Kind");
  static within = "kinds";
  #told = null;
  #typed = {};
  #errors = {};
  /** @type {any} */
  #problem = "";
  #list = new KindsList(this);

  get title() {
    return this.isAll ? t("All kinds") : this.id;
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
      h("p", { class: "up" }, h("a", { href: "#kinds" }, t("Kinds"))),
      h("div", { class: "title-row" }, h("h1", {}, this.title), this.#told && this.#switch(kind)),
      found?.title && h("p", { class: "hint" }, found.title),
      !this.isAll && h("p", { class: "links" },
        h("a", { href: hashOf("tasks", { kind }) }, t("All its tasks")), h("a", { href: hashOf("running", { kind }) }, t("Running")),
        h("a", { href: hashOf("tasks", { kind, status: "dead" }) }, t("Dead"))),
      h("div", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, t("Over time")), spanPicker(span)),
        h("div", { class: "charts" }, speedChart(this.app.live, kind, span), depthChart(this.app.live, kind, span))),
      card(t("Limits"), this.#limits(), { note: t("They hold in every process within a second.") }),
    ];
  }

  #switch(kind) {
    return this.#told.paused
      ? button("resume", t("Resume"), { value: kind, class: "primary" })
      : button("pause", t("Pause"), { value: kind, class: "quiet" });
  }

  #limits() {
    if (!this.#told) return instead({ data: null, error: this.error, loading: t("Loading the limits …") });
    const { limits, changed } = this.#told;
    const isChanged = Object.keys(changed).length > 0;
    return h("form", { id: "limits" },
      h("div", { class: "fields" }, Object.keys(FIELDS).filter((name) => name in limits).map((name) => this.#field(name, limits[name], name in changed))),
      h("p", { class: "error", role: "alert" }, this.#problem),
      h("div", { class: "actions" },
        h("button", { type: "submit", class: "primary", disabled: this.isActing }, t("Save")),
        isChanged && button("drop", t("Back to those of the code"), { class: "quiet" })));
  }

  #field(name, value, isChanged) {
    const [label, hint] = FIELDS[name];
    return field({
      name, label: isChanged ? t("{label} (changed)", { label }) : label, hint,
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
    if (!Object.keys(changes).length) return tell(t("Nothing was changed."));
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
    tell(this.isAll ? t("The limits of all kinds were saved.") : t("The limits of {kind} were saved.", { kind: this.id }), { undo: () => this.act(restore) });
  }

  async #drop() {
    const isSure = await ask({
      title: t("Drop the changes?"),
      body: h("p", {}, t("The limits become those of the code again: {names}.", { names: joined(Object.keys(this.#told.changed).map((name) => FIELDS[name]?.[0] ?? name), t(", ")) })),
      confirm: t("Drop them"),
    });
    if (!isSure) return;
    const before = { ...this.#told.changed };
    const address = this.#address;
    await this.act(async () => {
      await this.request("DELETE", address);
      this.#typed = {};
      tell(t("The limits are those of the code again."), { undo: () => this.act(() => this.request("PUT", address, before)) });
    });
  }
}
