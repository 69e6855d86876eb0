/** `<rt-submit>`: a form that submits a task of any kind, made from the schema of the kind's parameters. */

import { joined, showText, t } from "../messages.js";
import { RealtimeElement, errorInWords, make } from "./base.js";
import { SUBMIT_SHEET } from "./form-styles.js";
import { FieldFault, fieldOf, listField } from "./fields.js";
import { nameInWords } from "./result-views.js";

// The parameter that the label of a task is made of: a batch has one task for each of its values.
const LABEL = /^\{(\w+)\}$/;
const DESCRIBED = /^(?:params\.|items\[\d+\]\.params\.|items\[\d+\]\.)?/;

/**
 * Submits tasks. `kind` names the one that is chosen first; `only` hides the others. It dispatches `rt-submitted` with
 * `{task}` or `{batch}`.
 */
export class SubmitElement extends RealtimeElement {
  static observedAttributes = ["src", "token", "kind"];
  static sheets = [SUBMIT_SHEET];

  #kinds = [];
  #field = null;
  #several = null;
  #isBusy = false;
  #parts;

  build() {
    const choice = make("select", { id: "kind", on: { change: () => this.#choose() } });
    const kind = make("div", { className: "field", children: [make("label", { for: "kind", text: t("Kind of work") }), choice] });
    const note = make("p", { className: "hint", text: t("Loading …") });
    const body = make("div", { className: "fields" });
    const many = make("input", { type: "checkbox", id: "several", on: { change: () => this.#showSeveral() } });
    const several = make("label", { className: "check", children: [many, make("span", { text: t("Several at once, as a batch") })] });
    const error = make("p", { id: "submit-error", className: "error", role: "alert" });
    const button = make("button", { id: "submit-task", part: "submit", className: "main", type: "submit", text: t("Submit") });
    button.disabled = true;
    several.hidden = kind.hidden = true;
    const form = make("form", {
      id: "task-form", novalidate: "", children: [kind, note, body, several, error, button],
      on: { submit: (event) => this.#submit(event) },
    });
    this.#parts = { choice, kind, note, body, many, several, error, button };
    return [form];
  }

  follow(client, signal) {
    this.#load(client, signal);
    return () => {};
  }

  async #load(client, signal) {
    const { note, button } = this.#parts;
    try {
      const kinds = await client.kinds();
      if (signal.aborted) return;
      this.#kinds = [...kinds].sort((one, other) => Number(other.workers > 0) - Number(one.workers > 0));
      this.#showKinds();
    } catch (error) {
      if (signal.aborted) return;
      button.disabled = true;
      showText(note, errorInWords(error));
      note.hidden = false;
    }
  }

  #showKinds() {
    const { choice, kind, note, button } = this.#parts;
    const before = choice.value || this.getAttribute("kind") || "";
    choice.replaceChildren(...this.#kinds.map((one) => make("option", { value: one.kind, text: one.title || one.kind })));
    if (this.#kinds.some((one) => one.kind === before)) choice.value = before;
    kind.hidden = this.#kinds.length < 2 || this.hasAttribute("only");
    button.disabled = !this.#kinds.length;
    note.hidden = this.#kinds.length > 0;
    showText(note, t("No kind of work is known here yet."));
    if (this.#kinds.length) this.#choose();
  }

  get #kind() {
    return this.#kinds.find((one) => one.kind === this.#parts.choice.value);
  }

  #choose() {
    const { body, several, many, note } = this.#parts;
    const { params_schema: schema, workers, paused } = this.#kind;
    this.#field = fieldOf("", schema, { root: schema, isRequired: true });
    body.replaceChildren(this.#field.node);
    several.hidden = !this.#severalName;
    many.checked = false;
    note.hidden = workers > 0 && !paused;
    showText(note, paused ? t("This kind is paused: tasks wait until it goes on.") : t("No worker has this kind just now: tasks wait for one."));
    this.#showSeveral();
    this.#showErrors([]);
  }

  /** The parameter of which a batch has several, "" for none. */
  get #severalName() {
    const { label, params_schema: schema } = this.#kind;
    const name = LABEL.exec(label ?? "")?.[1];
    return name && schema.properties?.[name]?.type === "string" ? name : "";
  }

  #showSeveral() {
    const { many, button } = this.#parts;
    const single = this.#severalName && this.#field.fields.get(this.#severalName);
    this.#several?.node.remove();
    this.#several = null;
    if (single) single.node.hidden = many.checked;
    if (single && many.checked) {
      this.#several = listField(this.#severalName, single.label, single.input.value);
      single.node.before(this.#several.node);
    }
    showText(button, many.checked ? t("Submit batch") : t("Submit"));
  }

  async #submit(event) {
    event.preventDefault();
    if (this.#isBusy || !this.#kind) return;
    const { button } = this.#parts;
    this.#isBusy = button.disabled = true;
    this.#showErrors([]);
    try {
      const detail = this.#several ? { batch: await this.#submitBatch() } : { task: await this.#submitTask() };
      this.dispatchEvent(new CustomEvent("rt-submitted", { detail, bubbles: true, composed: true }));
    } catch (error) {
      this.#showFailed(error);
    } finally {
      this.#isBusy = button.disabled = false;
    }
  }

  #submitTask() {
    return this.client.submit(this.#kind.kind, this.#field.read() ?? {});
  }

  #submitBatch() {
    const name = this.#severalName;
    const { [name]: _, ...common } = this.#field.read() ?? {};
    const values = this.#several.read();
    if (!values.length) throw new FieldFault(name, t("{name} is required", { name: this.#several.label }));
    return this.client.submitBatch(this.#kind.kind, values.map((value) => ({ [name]: value })), { params: common });
  }

  #showFailed(error) {
    const faults = error instanceof FieldFault ? [error] : error.status === 422 ? error.errors : [];
    if (faults?.length) this.#showErrors(faults);
    else showText(this.#parts.error, errorInWords(error));
  }

  /** Show each fault at its field; those of no field stand above the button. */
  #showErrors(faults) {
    this.#field?.clearError();
    this.#several?.clearError();
    const rest = [];
    for (const fault of faults) {
      const isOwn = fault instanceof FieldFault;
      const told = isOwn ? fault.path : fault.replace(DESCRIBED, "");
      const field = this.#fieldFor(told);
      if (field) field.showError(isOwn ? fault.text : field.inWords(told));
      else rest.push(isOwn ? fault.text : nameInWords(told));
    }
    showText(this.#parts.error, joined(rest, t("; ")));
    this.shadowRoot.querySelector("[aria-invalid=true]")?.focus();
  }

  #fieldFor(fault) {
    if (this.#several && fault.startsWith(this.#severalName)) return this.#several;
    return this.#field.find(fault);
  }
}
