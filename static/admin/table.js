/** Tables whose rows are brought up to date in place, lists of facts, and what stands there without any. */

import { statusInWords, t } from "../rt-elements.js";
import { button, h } from "./dom.js";
import { NONE, exactly, relative } from "./format.js";

/**
 * Return a table. `columns` are `{name, title, cell, isNumber, isWide}`; `cell(item)` returns nodes or texts.
 * On a narrow screen each row is a card, with the titles beside the cells.
 * @param {object} options
 * @param {string} options.label names the table
 * @param {(item: object) => string} options.key tells one item from another
 * @param {string} [options.generation] another one is another list: nothing of it is kept in place
 * @param {{has: (key: string) => boolean}} [options.selection] the keys that are chosen: each row has a box
 */
export function table(items, { label, columns, key, generation = "", selection = null }) {
  const isAll = selection && items.length > 0 && items.every((one) => selection.has(key(one)));
  const head = columns.map(({ title, isNumber }) => h("th", { scope: "col", class: isNumber && "number" }, title));
  const box = h("th", { scope: "col", class: "box" }, check("choose-all", t("Choose all that are shown"), isAll));
  return h("div", { class: "table", role: "region", "aria-label": label, tabindex: "0" },
    h("table", {},
      h("thead", {}, h("tr", {}, selection && box, head)),
      h("tbody", { "data-key": `rows ${generation}`, "data-hold": true },
        items.map((item) => row(item, { columns, key, selection })))));
}

function row(item, { columns, key, selection }) {
  const id = key(item);
  const isChosen = Boolean(selection?.has(id));
  return h("tr", { "data-key": id, "aria-selected": selection && String(isChosen) },
    selection && h("td", { class: "box" }, check("choose", t("Choose {id}", { id }), isChosen, id)),
    columns.map(({ title, cell, isNumber, isWide }) => {
      const content = h("div", {}, cell(item));
      const names = [isNumber && "number", isWide && "wide"].filter(Boolean).join(" ");
      return h("td", { "data-title": title, class: names || null, "data-empty": content.textContent === NONE }, content);
    }));
}

function check(act, label, checked, value) {
  return h("label", { class: "check" },
    h("input", { type: "checkbox", "data-act": act, "aria-label": label, checked, value }));
}

/** Return a moment, relative to now; the exact one is its title. */
export function when(moment, now) {
  return moment ? h("time", { datetime: moment, title: exactly(moment) }, relative(moment, now)) : NONE;
}

// Of webhooks; the others are those of tasks.
const WORDS = { enabled: t("enabled"), disabled: t("disabled") };

/** Return a state as a pill. */
export function state(name) {
  return name ? h("span", { class: "state", "data-state": name }, WORDS[name] ?? statusInWords(name)) : NONE;
}

/** Return names and values, as `[[name, nodes], ...]`; what is empty is left out. */
export function facts(pairs) {
  const told = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", { class: "facts" }, told.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** Return a card with a title. */
export function card(title, body, { note = null } = {}) {
  return h("section", { class: "card" },
    h("div", { class: "card-head" }, h("h2", {}, title), note && h("p", { class: "hint" }, note)), body);
}

/** Return what stands in place of rows: that they load, why they do not, or that there are none. */
export function instead({ data, error, empty = undefined, loading }) {
  if (error && !data) {
    return h("div", { class: "empty", role: "alert" },
      h("p", { class: "error" }, error), button("reload", t("Try again"), { class: "quiet" }));
  }
  if (!data) return h("div", { class: "empty", "aria-busy": "true" }, h("p", { class: "loading" }, loading));
  return h("div", { class: "empty" }, h("p", {}, empty));
}

/** Return the button of the next page; nothing without one. */
export function more(next, isBusy = false) {
  return next && h("p", { class: "more" }, button("more", isBusy ? t("Loading …") : t("Older ones"), { class: "quiet", disabled: isBusy }));
}
