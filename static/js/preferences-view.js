/** The form of the preferences; it is asked for when it is opened, and hidden where the server has none. */

import { $, element } from "./dom.js";
import { chosen, typesOf, waysOf } from "./preferences.js";

const ADDRESS = "/api/notifications/preferences";
const TYPES = "/api/notifications/types";
const NIGHT = { from: "22:00", to: "07:00" };

export class PreferencesView {
  #api;
  #kept = null;
  #types = [];
  #isEdited = false;

  constructor(api) {
    this.#api = api;
    $("preferences").addEventListener("toggle", () => this.#isOpen && this.#do(() => this.#load()));
    $("preferences-form").addEventListener("input", () => this.#edited());
    $("preferences-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#do(() => this.#save());
    });
  }

  /** Another user's are asked for when they are wanted. */
  clear() {
    this.#kept = null;
    $("types").replaceChildren();
    $("preferences").open = $("preferences").hidden = false;
  }

  /** Learn what another device has kept; what is being edited here stays. */
  apply(preferences) {
    if (!this.#kept) return;
    if (this.#isEdited) this.#kept = preferences;
    else this.#show(preferences);
  }

  get #isOpen() {
    return $("preferences").open;
  }

  async #do(action) {
    $("preferences-error").textContent = $("preferences-told").textContent = "";
    try {
      await action();
    } catch (error) {
      if (error.status === 404) this.#hide();
      else $("preferences-error").textContent = error.message;
    }
  }

  #hide() {
    if ($("preferences").contains(document.activeElement)) $("inbox-title").focus();
    $("preferences").hidden = true;
  }

  async #load() {
    if (this.#kept) return;
    $("preferences-form").hidden = true;
    const preferences = await this.#api.get(ADDRESS);
    this.#types = (await this.#api.get(TYPES)).items;
    this.#show(preferences);
  }

  async #save() {
    this.#show(await this.#api.put(ADDRESS, chosen(this.#kept, this.#shownTypes, this.#form())));
    $("preferences-told").textContent = "Saved";
  }

  get #shownTypes() {
    return typesOf(this.#types, this.#kept);
  }

  #edited() {
    this.#isEdited = true;
    $("preferences-told").textContent = "";
    this.#showQuiet();
  }

  #show(preferences) {
    this.#kept = preferences;
    this.#isEdited = false;
    const { least_severity: severity, quiet_hours: quiet, locale, email } = preferences;
    this.#showTypes();
    $("least-severity").value = severity;
    $("quiet").checked = Boolean(quiet);
    $("quiet-from").value = quiet?.from ?? NIGHT.from;
    $("quiet-to").value = quiet?.to ?? NIGHT.to;
    $("quiet-zone").value = quiet?.timezone ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
    $("quiet-errors").checked = Boolean(quiet?.except_errors);
    $("locale").value = locale ?? "";
    $("address-line").hidden = !email;
    $("address-on").checked = Boolean(email?.address_on);
    this.#showQuiet();
    $("preferences-form").hidden = false;
  }

  /** A row that is there keeps its boxes, and with them the focus. */
  #showTypes() {
    const rows = new Map([...$("types").rows].map((row) => [row.dataset.type, row]));
    $("types").append(...this.#shownTypes.filter(({ type }) => !rows.has(type)).map(makeRow));
    for (const one of this.#shownTypes) {
      const ways = waysOf(this.#kept, one);
      for (const box of boxesOf(one.type)) box.checked = ways[box.name];
    }
  }

  #showQuiet() {
    $("quiet-hours").hidden = !$("quiet").checked;
    for (const input of $("quiet-hours").querySelectorAll("input")) input.disabled = !$("quiet").checked;
  }

  #form() {
    const quiet = {
      from: $("quiet-from").value,
      to: $("quiet-to").value,
      timezone: $("quiet-zone").value.trim(),
    };
    // A server that has no such exception is not told of it.
    if ($("quiet-errors").checked || "except_errors" in (this.#kept.quiet_hours ?? {})) {
      quiet.except_errors = $("quiet-errors").checked;
    }
    return {
      types: Object.fromEntries(this.#shownTypes.map(({ type }) => [type, waysIn(type)])),
      least_severity: $("least-severity").value,
      quiet_hours: $("quiet").checked ? quiet : null,
      locale: $("locale").value,
      address_on: $("address-on").checked,
    };
  }
}

function makeRow({ type, title, description }) {
  const told = element("th", { scope: "row", textContent: title },
    ...(description ? [element("span", { className: "hint", textContent: description })] : []));
  const boxes = ["push", "email"].map((name) =>
    element("td", {}, element("input", { type: "checkbox", name, ariaLabel: `${title}: ${name}` })));
  const row = element("tr", {}, told, ...boxes);
  row.dataset.type = type;
  return row;
}

function boxesOf(type) {
  return $("types").querySelectorAll(`[data-type="${CSS.escape(type)}"] input`);
}

function waysIn(type) {
  return Object.fromEntries([...boxesOf(type)].map(({ name, checked }) => [name, checked]));
}
