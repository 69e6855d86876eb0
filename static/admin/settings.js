/** The settings that every process follows at once. */

import { tell } from "./asking.js";
import { h } from "./dom.js";
import { errorsOf, field, valuesOf } from "./forms.js";
import { card, instead } from "./table.js";
import { View } from "./view.js";

const WORDS = { sse: "Event streams", ws: "WebSockets" };

export class SettingsView extends View {
  static title = "Settings";
  seconds = 15;
  #values = null;
  #typed = {};
  #errors = {};
  #problem = "";

  async load(isCurrent) {
    const values = await this.request("GET", "/api/settings");
    if (isCurrent()) this.#values = values;
  }

  input({ name, value }) {
    this.#typed[name] = value;
  }

  draw() {
    return [h("h1", {}, "Settings"), card("Paces and bounds of open connections", this.#form(), { note: "Every process follows a change at once. 0 is none." })];
  }

  #form() {
    if (!this.#values) return instead({ data: null, error: this.error, what: "the settings" });
    return h("form", { id: "settings" },
      h("div", { class: "fields" }, Object.entries(this.#values).map(([name, value]) => field({
        name, ...labelOf(name), value: this.#typed[name] ?? String(value), error: this.#errors[name], attributes: { inputmode: "decimal", required: true },
      }))),
      h("p", { class: "error", role: "alert" }, this.#problem),
      h("div", { class: "actions" }, h("button", { type: "submit", class: "primary", disabled: this.isActing }, "Save")));
  }

  async submit(form) {
    const changes = Object.fromEntries(Object.entries(valuesOf(form))
      .filter(([name, value]) => value !== String(this.#values[name]))
      // A text that is no number is for the server to refuse.
      .map(([name, value]) => [name, Number.isNaN(Number(value)) ? value : Number(value)]));
    this.#errors = {};
    this.#problem = "";
    if (!Object.keys(changes).length) return tell("Nothing was changed.");
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
    tell("The settings were saved.", { undo: () => this.act(() => this.request("PUT", "/api/settings", before)) });
  }
}

/** Return the label and the unit of a setting, from its name. */
export function labelOf(name) {
  const [about, ...words] = name.split("_");
  const isTime = words.at(-1) === "seconds";
  const text = (isTime ? words.slice(0, -1) : words).join(" ");
  return { label: `${WORDS[about] ?? about}: ${text}`, hint: isTime ? `${name}, in seconds` : name };
}
