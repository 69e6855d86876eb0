/** All tasks: search by id, words, user, kind, state, tag and time, page by page; and verbs for many at once. */

import { statusInWords, t } from "../rt-elements.js";
import { hashOf } from "./address.js";
import { button, h } from "./dom.js";
import { valuesOf } from "./forms.js";
import { number, ofMost } from "./format.js";
import { Bulk } from "./bulk.js";
import { queryText } from "./query.js";
import { card, instead, more, state, table, when } from "./table.js";
import { Listing, View } from "./view.js";

export const STATES = ["queued", "delayed", "processing", "completed", "failed", "dead", "cancelled"];
const FILTERS = ["q", "user", "kind", "tag", "batch", "since", "until"];
const PAGE_SIZE = 50;
const TYPING_MS = 250;
const SHOWN_ERROR = 120;

export class TasksView extends View {
  static title = t("Tasks");
  #list = new Listing((before) => this.read({ before, limit: PAGE_SIZE }));
  #bulk = new Bulk(this);
  #typing = null;
  #kinds = [];

  /** The filter of the search; an empty field is left out. */
  get filter() {
    const { status } = this.query;
    const given = FILTERS.filter((name) => this.query[name]).map((name) => [name, this.query[name]]);
    return { ...Object.fromEntries(given), ...(STATES.includes(status) ? { status } : {}) };
  }

  get items() {
    return this.#list.items ?? [];
  }

  /** Read a page of what is searched for. */
  read(page) {
    return this.request("GET", `/api/admin/tasks${queryText({ ...this.filter, ...page })}`);
  }

  forget() {
    this.#list.forget();
    this.#bulk.clear();
  }

  async load(isCurrent) {
    await Promise.all([this.#list.load(isCurrent), this.#readKinds(isCurrent)]);
  }

  async #readKinds(isCurrent) {
    if (this.#kinds.length) return;
    const { items } = await this.request("GET", "/api/kinds");
    if (isCurrent()) this.#kinds = items.map((one) => one.kind);
  }

  get ownActs() {
    return {
      ...this.#bulk.acts,
      more: () => {
        this.#list.more();
        this.reload();
      },
      status: ({ value }) => this.#search({ status: value }),
      clear: () => this.app.go("tasks"),
    };
  }

  input(target) {
    if (!target.closest("#search")) return;
    clearTimeout(this.#typing);
    this.#typing = setTimeout(() => this.#search(valuesOf(target.form)), TYPING_MS);
  }

  submit(form) {
    clearTimeout(this.#typing);
    this.#search(valuesOf(form));
  }

  close() {
    clearTimeout(this.#typing);
  }

  #search(changes) {
    this.app.go("tasks", { ...this.filter, ...changes }, "", { isSame: true });
  }

  draw() {
    const { items, next } = this.#list;
    return [
      h("h1", {}, t("Tasks")), this.#form(), this.#tabs(), this.#bulk.draw(),
      card(t("Tasks that were found"), this.#table(items), { note: items?.length ? t("{n} shown, the newest first", { n: items.length }) : null }),
      more(next, this.isBusy),
    ];
  }

  #form() {
    const text = (name, label, attributes = {}) => h("div", { class: "filter" },
      h("label", { for: `search-${name}` }, label),
      h("input", { id: `search-${name}`, name, value: this.#shown(name), autocomplete: "off", spellcheck: "false", ...attributes }));
    const isNarrowed = Object.keys(this.filter).length > 0;
    return h("form", { id: "search", role: "search", class: "search" },
      h("div", { class: "filter grow" }, h("label", { for: "search-words" }, t("Id or words")),
        h("input", { id: "search-words", name: "q", type: "search", value: this.#shown("q"), placeholder: t("Press / to search ids, labels and errors"), autocomplete: "off", spellcheck: "false" })),
      h("div", { class: "filter" }, h("label", { for: "search-kind" }, t("Kind")),
        h("select", { id: "search-kind", name: "kind", "data-value": this.query.kind ?? "" },
          h("option", { value: "" }, t("any")), [...new Set([...this.#kinds, this.query.kind].filter(Boolean))].map((one) => h("option", { value: one }, one)))),
      text("user", t("User")), text("tag", t("Tag")),
      isNarrowed && button("clear", t("Clear"), { class: "quiet" }));
  }

  /** The values in the fields of the search: a user's typing stays. */
  #shown(name) {
    const id = name === "q" ? "search-words" : `search-${name}`;
    const active = document.activeElement;
    return active?.id === id ? active.value : this.query[name] ?? "";
  }

  #tabs() {
    const stats = this.app.live.latest?.stats ?? this.app.overview?.stats ?? {};
    const isAll = FILTERS.every((name) => !this.query[name]);
    const tab = (value, label, many) => h("button", { type: "button", "data-act": "status", value, "aria-pressed": String((this.filter.status ?? "") === value), "data-state": value || null },
      label, isAll && many !== undefined ? h("span", { class: "count" }, number(many)) : null);
    return h("div", { class: "picker states", role: "group", "aria-label": t("State") }, tab("", t("any state")), STATES.map((one) => tab(one, statusInWords(one), stats[one])));
  }

  #table(items) {
    if (!items?.length) {
      return instead({ data: items, error: this.error, loading: t("Loading tasks …"), empty: this.#list.next ? t("None on this page: go on to the older ones.") : t("No task is like this.") });
    }
    return table(items, {
      label: t("Tasks"), key: (one) => one.task_id, generation: JSON.stringify(this.filter), selection: this.#bulk.chosen, columns: this.#columns(),
    });
  }

  #columns() {
    return [
      { title: t("Task"), isWide: true, cell: (one) => [h("a", { href: hashOf("task", {}, one.task_id) }, one.label || one.task_id), error(one)] },
      { title: t("State"), cell: (one) => state(one.status) },
      { title: t("Kind"), cell: (one) => h("a", { href: hashOf("kind", {}, one.kind) }, one.kind) },
      { title: t("User"), cell: (one) => h("a", { href: hashOf("tasks", { user: one.user_id }) }, one.user_id) },
      { title: t("Tags"), cell: (one) => (one.tags?.length ? one.tags.map((tag) => h("a", { class: "tag", href: hashOf("tasks", { tag }) }, tag)) : "–") },
      { title: t("Attempt"), isNumber: true, cell: (one) => (one.attempt ? ofMost(one.attempt, one.max_attempts) : "–") },
      { title: t("Submitted"), cell: (one) => when(one.created_at, this.now) },
      { title: t("Ended"), cell: (one) => when(one.ended_at, this.now) },
    ];
  }
}

function error({ error: text }) {
  return text ? h("span", { class: "hint error", title: text }, text.length > SHOWN_ERROR ? `${text.slice(0, SHOWN_ERROR)}…` : text) : null;
}
