/** The form of the preferences; it is asked for when it is opened, and hidden where the server has none. */

import { showText, t } from "../messages.js";
import { errorInWords, make } from "./base.js";
import { chosenPreferences, typesOf, waysOf } from "./preferences.js";

const TYPES = "/api/notifications/types";
const WAYS = { push: t("push"), email: t("email") };
const NIGHT = { from: "22:00", to: "07:00" };

export class PreferencesForm {
  #$;
  #client = null;
  #onHide;
  #kept = null;
  #types = [];
  #isEdited = false;

  /** `find(id)` returns an element of the form; `onHide` is called before it is hidden with the focus in it. */
  constructor(find, onHide) {
    this.#$ = find;
    this.#onHide = onHide;
    this.#$("preferences").addEventListener("toggle", () => this.#isOpen && this.#do(() => this.#load()));
    this.#$("preferences-form").addEventListener("input", () => this.#edited());
    this.#$("preferences-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#do(() => this.#save());
    });
  }

  /** Begin with a client: its user's are asked for when they are wanted. */
  begin(client) {
    this.#client = client;
    this.#kept = null;
    this.#$("types").replaceChildren();
    this.#$("preferences").open = this.#$("preferences").hidden = false;
  }

  /** Learn what another device has kept; what is being edited here stays. */
  apply(preferences) {
    if (!this.#kept) return;
    if (this.#isEdited) this.#kept = preferences;
    else this.#show(preferences);
  }

  get #isOpen() {
    return this.#$("preferences").open;
  }

  async #do(action) {
    for (const id of ["preferences-error", "preferences-told"]) showText(this.#$(id), "");
    try {
      await action();
    } catch (error) {
      if (error.status === 404) this.#hide();
      else showText(this.#$("preferences-error"), errorInWords(error));
    }
  }

  #hide() {
    if (this.#$("preferences").contains(this.#$("preferences").getRootNode().activeElement)) this.#onHide();
    this.#$("preferences").hidden = true;
  }

  async #load() {
    if (this.#kept) return;
    this.#$("preferences-form").hidden = true;
    const preferences = await this.#client.inbox.preferences();
    this.#types = (await this.#client.request("GET", TYPES)).items;
    this.#show(preferences);
  }

  async #save() {
    this.#show(await this.#client.inbox.setPreferences(chosenPreferences(this.#kept, this.#shownTypes, this.#form())));
    showText(this.#$("preferences-told"), t("Saved"));
  }

  get #shownTypes() {
    return typesOf(this.#types, this.#kept);
  }

  #edited() {
    this.#isEdited = true;
    showText(this.#$("preferences-told"), "");
    this.#showQuiet();
  }

  #show(preferences) {
    this.#kept = preferences;
    this.#isEdited = false;
    const { least_severity: severity, quiet_hours: quiet, locale, email } = preferences;
    this.#showTypes();
    this.#$("least-severity").value = severity;
    this.#$("quiet").checked = Boolean(quiet);
    this.#$("quiet-from").value = quiet?.from ?? NIGHT.from;
    this.#$("quiet-to").value = quiet?.to ?? NIGHT.to;
    this.#$("quiet-zone").value = quiet?.timezone ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
    this.#$("quiet-errors").checked = Boolean(quiet?.except_errors);
    this.#$("locale").value = locale ?? "";
    this.#$("address-line").hidden = !email;
    this.#$("address-on").checked = Boolean(email?.address_on);
    this.#showQuiet();
    this.#$("preferences-form").hidden = false;
  }

  /** A row that is there keeps its boxes, and with them the focus. */
  #showTypes() {
    const rows = new Map([...this.#$("types").rows].map((row) => [row.dataset.type, row]));
    this.#$("types").append(...this.#shownTypes.filter(({ type }) => !rows.has(type)).map(typeRow));
    for (const one of this.#shownTypes) {
      const ways = waysOf(this.#kept, one);
      for (const box of this.#boxesOf(one.type)) box.checked = ways[box.name];
    }
  }

  #boxesOf(type) {
    return this.#$("types").querySelectorAll(`[data-type="${CSS.escape(type)}"] input`);
  }

  #showQuiet() {
    this.#$("quiet-hours").hidden = !this.#$("quiet").checked;
    for (const input of this.#$("quiet-hours").querySelectorAll("input")) input.disabled = !this.#$("quiet").checked;
  }

  #form() {
    const quiet = {
      from: this.#$("quiet-from").value,
      to: this.#$("quiet-to").value,
      timezone: this.#$("quiet-zone").value.trim(),
    };
    // A server that has no such exception is not told of it.
    if (this.#$("quiet-errors").checked || "except_errors" in (this.#kept.quiet_hours ?? {})) {
      quiet.except_errors = this.#$("quiet-errors").checked;
    }
    return {
      types: Object.fromEntries(this.#shownTypes.map(({ type }) => [type, waysIn(this.#boxesOf(type))])),
      least_severity: this.#$("least-severity").value,
      quiet_hours: this.#$("quiet").checked ? quiet : null,
      locale: this.#$("locale").value,
      address_on: this.#$("address-on").checked,
    };
  }
}

function typeRow({ type, title, description }) {
  const told = make("th", { scope: "row", text: title, children: description ? [make("span", { className: "hint", text: description })] : [] });
  const boxes = Object.entries(WAYS).map(([name, way]) =>
    make("td", { children: [make("input", { type: "checkbox", name, "aria-label": t("{title}: {way}", { title, way }) })] }));
  return make("tr", { "data-type": type, children: [told, ...boxes] });
}

function waysIn(boxes) {
  return Object.fromEntries([...boxes].map(({ name, checked }) => [name, checked]));
}
