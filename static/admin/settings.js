/** The settings that every process follows at once. */

import { t } from "../rt-elements.js";
import { tell } from "./asking.js";
import { h } from "./dom.js";
import { errorsOf, field, valuesOf } from "./forms.js";
import { card, instead } from "./table.js";
import { View } from "./view.js";

const LABELS = {
  sse_poll_timeout_seconds: t("Event streams: poll timeout"),
  sse_heartbeat_interval_seconds: t("Event streams: heartbeat interval"),
  sse_task_max_idle_seconds: t("Event streams: task max idle"),
  sse_batch_poll_interval_seconds: t("Event streams: batch poll interval"),
  sse_batch_max_idle_seconds: t("Event streams: batch max idle"),
  ws_heartbeat_interval_seconds: t("WebSockets: heartbeat interval"),
  ws_max_connections_per_user: t("WebSockets: max connections per user"),
};

export class SettingsView extends View {
  static title = t("Settings");
  seconds = 15;
  #values = null;
  #typed = {};
  #errors = {};
  /** @type {any} */
  #problem = "";

  async load(isCurrent) {
    const values = await this.request("GET", "/api/settings");
    if (isCurrent()) this.#values = values;
  }

  input({ name, value }) {
    this.#typed[name] = value;
  }

  draw() {
    return [h("h1", {}, t("Settings")), card(t("Paces and bounds of open connections"), this.#form(), { note: t("Every process follows a change at once. 0 is none.") })];
  }

  #form() {
    if (!this.#values) return instead({ data: null, error: this.error, loading: t("Loading the settings …") });
    return h("form", { id: "settings" },
      h("div", { class: "fields" }, Object.entries(this.#values).map(([name, value]) => field({
        name, ...labelOf(name), value: this.#typed[name] ?? String(value), error: this.#errors[name], attributes: { inputmode: "decimal", required: true },
      }))),
      h("p", { class: "error", role: "alert" }, this.#problem),
      h("div", { class: "actions" }, h("button", { type: "submit", class: "primary", disabled: this.isActing }, t("Save"))));
  }

  async submit(form) {
    const changes = Object.fromEntries(Object.entries(valuesOf(form))
      .filter(([name, value]) => value !== String(this.#values[name]))
      // A text that is no number is for the server to refuse.
      .map(([name, value]) => [name, Number.isNaN(Number(value)) ? value : Number(value)]));
    this.#errors = {};
    this.#problem = "";
    if (!Object.keys(changes).length) return tell(t("Nothing was changed."));
    const before = Object.fromEntries(Object.keys(changes).map((name) => [name, this.#values[name]]));
    await this.act(() => this.#save(changes, before));
  }

  async #save(changes, before) {
    try {
      this.#values = await this.request("PUT", "/api/settings", changes);
    } catch (error) {
      if (error.status !== 422) throw error;
      [this.#errors, this.#problem] = errorsOf(error, Object.keys(this.#values));
      return;
    }
    this.#typed = {};
    tell(t("The settings were saved."), { undo: () => this.act(() => this.request("PUT", "/api/settings", before)) });
  }
}

/** Return the label and the unit of a setting. */
function labelOf(name) {
  return { label: LABELS[name] ?? name, hint: name.endsWith("_seconds") ? t("{name}, in seconds", { name }) : name };
}
