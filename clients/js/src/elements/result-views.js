/** Views of results: the one of their kind, else plain names and values. */

import { joined, t } from "../messages.js";
import { make } from "./base.js";
import { namedValue, plainSchema } from "./schema.js";

const views = new Map();
// Deeper values are shown as JSON.
const MOST_DEPTH = 4;
const MOST_ITEMS_SHOWN = 100;
const ACRONYMS = /\b(api|html|http|id|json|llm|pdf|sql|url|utc)\b/g;

/**
 * Draw the results of a kind by `view(result, task)`, which returns a node, or null for the plain view. `task` is what
 * `GET /api/tasks/{id}` tells of it. A node from a view stands in the shadow root of `<rt-task full>`.
 */
export function setResultView(kind, view) {
  views.set(kind, view);
}

/** Return the node of a result. */
export function drawResult(kind, result, task) {
  return ownView(kind, result, task) ?? make("div", { className: "plain-result", children: [drawValue(result), jsonOf(result)] });
}

function ownView(kind, result, task) {
  try {
    return views.get(kind)?.(result, task) ?? null;
  } catch (error) {
    // The view is the author's, the result is the worker's: it is shown without the view.
    console.warn(`the view of the kind ${kind} failed`, error);
    return null;
  }
}

/** Return a value as a person reads it; a `schema` has names for its fields and choices, `root` what it refers to. */
export function drawValue(value, depth = 0, schema = {}, root = schema) {
  if (value === null || value === undefined) return make("span", { className: "muted", text: t("none") });
  if (typeof value === "boolean") return make("span", { text: value ? t("yes") : t("no") });
  const own = plainSchema(schema, root);
  if (typeof value !== "object") return make("span", { className: "value", text: String(namedValue(own, value)) });
  if (depth >= MOST_DEPTH) return make("code", { text: JSON.stringify(value) });
  return Array.isArray(value) ? drawArray(value, depth, own.items ?? {}, root) : drawObject(value, depth, own, root);
}

function drawArray(items, depth, schema, root) {
  if (!items.length) return make("span", { className: "muted", text: t("empty") });
  const shown = items.slice(0, MOST_ITEMS_SHOWN);
  const more = items.length > shown.length ? t("and {n} more", { n: items.length - shown.length }) : "";
  if (shown.every((one) => typeof one !== "object" || one === null)) {
    const each = plainSchema(schema, root);
    return make("span", { className: "value", text: joined([...shown.map((one) => String(namedValue(each, one))), more], t(", ")) });
  }
  const drawn = shown.map((one) => make("li", { children: [drawValue(one, depth + 1, schema, root)] }));
  return make("ul", { className: "values", children: [...drawn, ...(more ? [make("li", { text: more })] : [])] });
}

function drawObject(value, depth, { properties = {} }, root) {
  const pairs = Object.entries(value).slice(0, MOST_ITEMS_SHOWN);
  if (!pairs.length) return make("span", { className: "muted", text: t("empty") });
  const drawn = pairs.flatMap(([name, one]) => [
    make("dt", { text: properties[name]?.title || nameInWords(name) }),
    make("dd", { children: [drawValue(one, depth + 1, properties[name], root)] }),
  ]);
  return make("dl", { className: "pairs", children: drawn });
}

function jsonOf(value) {
  const text = make("pre", { tabindex: 0, text: JSON.stringify(value, null, 2) });
  return make("details", { className: "json", children: [make("summary", { text: t("As JSON") }), text] });
}

/** Return the name of a field as people write it: "research_depth" is "Research depth". */
export function nameInWords(name) {
  const words = name.replace(/[_-]+/g, " ").trim().replace(ACRONYMS, (one) => one.toUpperCase());
  return words ? words[0].toUpperCase() + words.slice(1) : name;
}
