/** The fields of a form, made from a JSON Schema: each reads its value, and shows what is wrong with it. */

import { joined, showText, t } from "../messages.js";
import { ToldError, make } from "./base.js";
import { nameInWords } from "./result-views.js";
import { nameOf, plainSchema } from "./schema.js";

// Deeper objects are written as JSON.
const MOST_NESTED = 3;
const LONG_TEXT = 200;
const FORMATS = { date: "date", uri: "url", email: "email" };

/** A fault of the field at a path that is seen before anything is sent. */
export class FieldFault extends ToldError {
  constructor(path, text) {
    super(text);
    this.path = path;
  }
}

/** The base: a label, an input, a hint and an error. A path is that of the fault in an answer, such as "size.width". */
class Field {
  constructor(path, name, schema, { isRequired = false, label = nameInWords(name) } = {}) {
    this.path = path;
    this.label = label;
    this.schema = schema;
    this.isRequired = isRequired;
    this.id = `param-${path.replaceAll(".", "-")}`;
    this.error = make("p", { id: `${this.id}-error`, className: "field-error", role: "alert" });
  }

  /** Build the field around its input. */
  frame(input) {
    this.input = input;
    input.id = this.id;
    input.setAttribute("aria-describedby", `${this.id}-error`);
    if (this.isRequired) input.setAttribute("aria-required", "true");
    const more = this.isRequired ? [] : [make("span", { className: "optional", text: t("optional") })];
    const label = make("label", { for: this.id, children: [this.label, " ", ...more] });
    const about = this.schema.description ? [make("p", { className: "hint", text: this.schema.description })] : [];
    this.node = make("div", { className: "field", children: [label, ...about, input, this.error] });
  }

  clearError() {
    showText(this.error, "");
    this.input?.removeAttribute("aria-invalid");
  }

  /** Return a fault of the server's, which begins with the path: the label takes its place. */
  inWords(fault) {
    const told = fault.startsWith(this.path) ? fault.slice(this.path.length).replace(/^\[(\d+)\]/, (_, at) => ` ${Number(at) + 1}`) : ` ${fault}`;
    return `${this.label}${told}`;
  }

  showError(text) {
    showText(this.error, text);
    this.input?.setAttribute("aria-invalid", "true");
  }

  /** Return the field that a fault is about; null: none here. */
  find(fault) {
    return fault === this.path || (fault.startsWith(this.path) && " .[".includes(fault[this.path.length])) ? this : null;
  }
}

class TextField extends Field {
  constructor(path, name, schema, options) {
    super(path, name, schema, options);
    const { default: value, maxLength, examples, format } = schema;
    const { isRequired } = this;
    const isLong = maxLength > LONG_TEXT || schema.contentMediaType !== undefined;
    const input = isLong
      ? make("textarea", { rows: 4 })
      : make("input", { type: FORMATS[format] ?? "text", autocomplete: "off", spellcheck: "false" });
    const [example = ""] = examples ?? [];
    // A field that may be left out only shows one.
    if (!isRequired) input.placeholder = String(example);
    input.value = typeof value === "string" ? value : isRequired ? String(example) : "";
    this.frame(input);
  }

  /** Return the text; undefined for an empty one that may be left out. */
  read() {
    return this.input.value === "" && !this.isRequired ? undefined : this.input.value;
  }
}

class NumberField extends Field {
  constructor(path, name, schema, options) {
    super(path, name, schema, options);
    const isWhole = schema.type === "integer";
    const bounds = { min: schema.minimum, max: schema.maximum };
    const known = Object.fromEntries(Object.entries(bounds).filter(([, bound]) => bound !== undefined));
    const input = make("input", { type: "number", step: isWhole ? 1 : "any", inputmode: isWhole ? "numeric" : "decimal", ...known });
    const proposed = schema.default ?? (this.isRequired ? schema.examples?.[0] : undefined);
    if (typeof proposed === "number") input.value = proposed;
    this.frame(input);
  }

  read() {
    if (this.input.validity.badInput) throw new FieldFault(this.path, t("{name} must be a number", { name: this.label }));
    return this.input.value === "" ? undefined : Number(this.input.value);
  }
}

class CheckField extends Field {
  constructor(path, name, schema, options) {
    super(path, name, schema, options);
    const input = make("input", { type: "checkbox" });
    input.checked = schema.default === true;
    this.frame(input);
    this.node.firstElementChild.remove();
    this.node.prepend(make("label", { className: "check", children: [input, make("span", { text: this.label })] }));
  }

  read() {
    return this.input.checked;
  }
}

class ChoiceField extends Field {
  constructor(path, name, schema, options) {
    super(path, name, schema, options);
    this.values = schema.enum ?? [schema.const];
    const none = this.isRequired && schema.default === undefined ? [] : [make("option", { value: "", text: t("as usual") })];
    const shown = this.values.map((_, at) => make("option", { value: at, text: nameOf(schema, at) }));
    const input = make("select", { children: [...(schema.default === undefined ? none : []), ...shown] });
    if (schema.default !== undefined) input.value = String(this.values.indexOf(schema.default));
    this.frame(input);
  }

  read() {
    return this.input.value === "" ? undefined : this.values[Number(this.input.value)];
  }
}

/** Several of a few: a box for each. Until one is touched the field is left out, if it may be. */
class ChoicesField extends Field {
  #isTouched;

  constructor(path, name, schema, options) {
    super(path, name, schema, options);
    const chosen = schema.default ?? [];
    this.#isTouched = this.isRequired || schema.default !== undefined;
    this.boxes = schema.items.enum.map((value, at) => {
      const box = make("input", { type: "checkbox", name: this.id, on: { change: () => (this.#isTouched = true) } });
      box.checked = chosen.includes(value);
      return { box, value, name: nameOf(schema.items, at) };
    });
    const labels = this.boxes.map(({ box, name }) => make("label", { className: "check", children: [box, make("span", { text: name })] }));
    const hint = this.#isTouched ? [] : [make("p", { className: "hint", text: t("None chosen: as usual.") })];
    this.input = make("fieldset", {
      id: this.id, tabindex: -1, "aria-describedby": `${this.id}-error`,
      children: [make("legend", { text: this.label }), ...hint, make("div", { className: "choices", children: labels })],
    });
    this.node = make("div", { className: "field", children: [this.input, this.error] });
  }

  read() {
    return this.#isTouched ? this.boxes.filter(({ box }) => box.checked).map(({ value }) => value) : undefined;
  }
}

/** Texts or numbers, one a line. */
class LinesField extends Field {
  constructor(path, name, schema, options) {
    super(path, name, schema, options);
    const input = make("textarea", { rows: 4, spellcheck: "false", placeholder: t("one a line") });
    if (Array.isArray(schema.default)) input.value = schema.default.join("\n");
    this.frame(input);
  }

  read() {
    const lines = this.input.value.split("\n").map((line) => line.trim()).filter(Boolean);
    if (!lines.length && !this.isRequired) return undefined;
    const { type } = this.schema.items ?? {};
    if (type !== "integer" && type !== "number") return lines;
    return lines.map((line, at) => {
      if (line === "" || !Number.isFinite(Number(line))) throw new FieldFault(this.path, t("{name} must be a number", { name: joined([this.label, at + 1], " ") }));
      return Number(line);
    });
  }
}

/** All else, as JSON. */
class JsonField extends Field {
  constructor(path, name, schema, options) {
    super(path, name, schema, options);
    const input = make("textarea", { rows: 4, spellcheck: "false", placeholder: "JSON" });
    if (schema.default !== undefined && schema.default !== null) input.value = JSON.stringify(schema.default, null, 2);
    this.frame(input);
  }

  read() {
    const text = this.input.value.trim();
    if (!text && !this.isRequired) return undefined;
    try {
      return JSON.parse(text);
    } catch {
      throw new FieldFault(this.path, t("{name} must be JSON", { name: this.label }));
    }
  }
}

/** An object with a field for each of its properties; the one on top has no frame. */
class ObjectField extends Field {
  constructor(path, name, schema, { root, depth = 0, ...options }) {
    super(path, name, schema, options);
    const required = new Set(schema.required ?? []);
    this.fields = new Map(Object.entries(schema.properties).map(([one, inner]) => {
      const at = path ? `${path}.${one}` : one;
      return [one, fieldOf(at, inner, { root, depth: depth + 1, isRequired: required.has(one), name: one })];
    }));
    const nodes = [...this.fields.values()].map(({ node }) => node);
    if (!nodes.length) nodes.push(make("p", { className: "hint", text: t("It takes no parameters.") }));
    this.node = path
      ? make("fieldset", { className: "object", children: [make("legend", { text: this.label }), ...nodes, this.error] })
      : make("div", { className: "fields", children: nodes });
  }

  read() {
    const pairs = [...this.fields].map(([name, field]) => [name, field.read()]).filter(([, value]) => value !== undefined);
    return pairs.length || this.isRequired ? Object.fromEntries(pairs) : undefined;
  }

  clearError() {
    super.clearError();
    for (const field of this.fields.values()) field.clearError();
  }

  find(fault) {
    for (const field of this.fields.values()) {
      const found = field.find(fault);
      if (found) return found;
    }
    return this.path ? super.find(fault) : null;
  }
}

function classOf(schema, root, depth) {
  const { type } = schema;
  if (schema.enum || schema.const !== undefined) return ChoiceField;
  if (type === "string") return TextField;
  if (type === "number" || type === "integer") return NumberField;
  if (type === "boolean") return CheckField;
  if (type === "array" && schema.items?.enum) return ChoicesField;
  if (type === "array" && ["string", "integer", "number"].includes(schema.items?.type)) return LinesField;
  if (type === "object" && schema.properties && depth < MOST_NESTED) return ObjectField;
  return JsonField;
}

/** Return the field of a schema; `root` has the `$defs` that it refers to. */
export function fieldOf(path, schema, { root, depth = 0, isRequired = false, name = "" }) {
  const found = plainSchema(schema, root);
  const plain = found.items ? { ...found, items: plainSchema(found.items, root) } : found;
  const Made = classOf(plain, root, depth);
  // One that a class brings along is its own name, and no name of the field.
  const label = schema.title && name ? schema.title : nameInWords(name || "parameters");
  return new Made(path, name, plain, { root, depth, isRequired, label });
}

/** Return a field for several texts. */
export function listField(name, label, value) {
  const field = new LinesField(name, name, { items: { type: "string" } }, { isRequired: true, label });
  field.input.value = value;
  return field;
}
