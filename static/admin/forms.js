/** Fields of forms, with their errors beside them. */

import { wordsOf } from "./asking.js";
import { h } from "./dom.js";

/**
 * Return a labelled field. `choices` make a select: `[[value, label], ...]`; `rows` a textarea.
 * @param {object} field `{name, label, value, type, hint, error, choices, rows, attributes}`
 */
export function field({ name, label, value = "", type = "text", hint = "", error = "", choices = null, rows = 0, attributes = {} }) {
  const id = `field-${name}`;
  const shared = { id, name, "aria-invalid": error ? "true" : null, "aria-describedby": `${id}-hint ${id}-error`, ...attributes };
  let control = h("input", { type, value, autocomplete: "off", ...shared });
  if (choices) {
    control = h("select", { ...shared, "data-value": value }, choices.map(([one, text]) => h("option", { value: one }, text)));
  } else if (rows) {
    control = h("textarea", { ...shared, rows, "data-value": value });
  }
  return h("div", { class: "field", "data-field": name },
    h("label", { for: id }, label), control,
    h("p", { id: `${id}-hint`, class: "hint" }, hint),
    h("p", { id: `${id}-error`, class: "error", role: "alert" }, error));
}

/**
 * Return which field each error of a request is about, and the rest: `[byField, rest]`. The server begins an
 * error with the name of its field.
 */
export function errorsOf(error, names) {
  const byField = {};
  const rest = [];
  for (const text of error.errors?.length ? error.errors : [String(wordsOf(error))]) {
    const name = names.find((one) => new RegExp(`\\b${one}\\b`).test(text.split(/ must | may |: /)[0]));
    if (name) byField[name] = text;
    else rest.push(text);
  }
  return [byField, rest.join("; ")];
}

/** Return the form's data as an object of texts. */
export const valuesOf = (form) => Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value).trim()]));
