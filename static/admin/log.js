/** The log of operators: each change, over HTTP or by a command, the newest first. */

import { t } from "../rt-elements.js";
import { hashOf } from "./address.js";
import { button, h } from "./dom.js";
import { valuesOf } from "./forms.js";
import { queryText } from "./query.js";
import { card, instead, more, table, when } from "./table.js";
import { Listing, View } from "./view.js";

const TYPING_MS = 250;
const REFUSED = 400;

export class LogView extends View {
  static title = t("Log");
  #typing = null;
  #open = new Set();
  #list = new Listing((before) => this.request("GET", `/api/admin/log${queryText({ user: this.query.user, before })}`));

  forget() {
    this.#list.forget();
  }

  load(isCurrent) {
    return this.#list.load(isCurrent);
  }

  get ownActs() {
    return {
      data: ({ value }) => {
        if (!this.#open.delete(value)) this.#open.add(value);
        this.app.draw();
      },
      clear: () => this.app.go("log"),
      more: () => {
        this.#list.more();
        this.reload();
      },
    };
  }

  input({ form }) {
    clearTimeout(this.#typing);
    this.#typing = setTimeout(() => this.submit(form), TYPING_MS);
  }

  submit(form) {
    clearTimeout(this.#typing);
    this.app.go("log", valuesOf(form), "", { isSame: true });
  }

  close() {
    clearTimeout(this.#typing);
  }

  draw() {
    const { items, next } = this.#list;
    const { user = "" } = this.query;
    const active = document.activeElement;
    return [
      h("h1", {}, t("Log")),
      h("form", { id: "filters", role: "search", class: "search" },
        h("div", { class: "filter" }, h("label", { for: "filter-user" }, t("Who")),
          h("input", { id: "filter-user", name: "user", value: active?.id === "filter-user" ? active.value : user, autocomplete: "off", spellcheck: "false" })),
        user && button("clear", t("Clear"), { class: "quiet" })),
      card(t("Who did what"), this.#table(items), { note: items?.length ? t("The newest first.") : null }),
      more(next, this.isBusy),
    ];
  }

  #table(items) {
    if (!items?.length) return instead({ data: items, error: this.error, loading: t("Loading the log …"), empty: t("Nobody has changed anything yet.") });
    return table(items, { label: t("Log"), key: (one) => one.id, generation: this.query.user ?? "", columns: this.#columns() });
  }

  #columns() {
    return [
      { title: t("When"), cell: (one) => when(one.at, this.now) },
      { title: t("Who"), cell: (one) => h("a", { href: hashOf("log", { user: one.user_id }) }, one.user_id) },
      { title: t("Did"), isWide: true, cell: (one) => h("code", {}, one.action) },
      { title: t("From"), cell: (one) => (one.via === "command" ? t("a command") : h("span", { class: "mono" }, one.address ?? "–")) },
      { title: t("Outcome"), cell: (one) => outcome(one) },
      { title: t("Details"), isWide: true, cell: (one) => this.#details(one) },
    ];
  }

  #details({ id, action, data, result }) {
    const isOpen = this.#open.has(id);
    const asked = briefly(data);
    return [
      button("data", isOpen ? t("Hide") : asked || t("Show"), { value: id, class: "small quiet mono cut", translate: isOpen || !asked ? null : "no", "aria-expanded": String(isOpen), "aria-label": t("Details of {action}", { action }) }),
      isOpen && h("pre", { tabindex: "0" }, t("asked: {data}\nanswer: {result}", { data: JSON.stringify(data, null, 2), result: JSON.stringify(result, null, 2) })),
    ];
  }
}

function outcome({ via, status }) {
  const isGood = via === "command" ? status === 0 : status < REFUSED;
  return h("span", { class: isGood ? "good" : "bad" }, isGood ? t("done") : t("refused ({status})", { status: String(status) }));
}

function briefly(data) {
  if (data === null || data === undefined) return "";
  const text = typeof data === "string" ? data : JSON.stringify(data);
  return text === "{}" ? "" : text;
}
