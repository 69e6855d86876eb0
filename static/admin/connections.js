/** The open connections of all processes, by user, address and age; and their close. */

import { t, tn } from "../rt-elements.js";
import { hashOf } from "./address.js";
import { ask, tell } from "./asking.js";
import { button, h } from "./dom.js";
import { valuesOf } from "./forms.js";
import { length } from "./format.js";
import { queryText } from "./query.js";
import { card, instead, more, table } from "./table.js";
import { Listing, View } from "./view.js";

const TYPING_MS = 250;
const MOST_TOPICS = 3;

export class ConnectionsView extends View {
  static title = t("Connections");
  #page = null;
  #typing = null;
  #list = new Listing(async (after) => {
    this.#page = await this.request("GET", `/api/admin/connections${queryText({ ...this.#filters, after })}`);
    return this.#page;
  });

  get #filters() {
    const { user, address, transport } = this.query;
    return { user, address, transport };
  }

  forget() {
    this.#list.forget();
  }

  load(isCurrent) {
    return this.#list.load(isCurrent);
  }

  get ownActs() {
    return {
      close: ({ value }) => this.#close({ id: value }),
      "close-user": () => this.#close({ user: this.query.user }),
      "close-address": () => this.#close({ address: this.query.address }),
      clear: () => this.app.go("connections"),
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
    this.app.go("connections", valuesOf(form), "", { isSame: true });
  }

  close() {
    clearTimeout(this.#typing);
  }

  draw() {
    const { items, next } = this.#list;
    const { total, processes } = this.#page ?? {};
    return [
      h("h1", {}, t("Connections")), this.#form(),
      card(t("Open connections"), this.#table(items), { note: items?.length ? noteOf(total ?? items.length, processes ?? 1) : null }),
      more(next, this.isBusy),
    ];
  }

  #form() {
    const { user, address, transport } = this.#filters;
    const text = (name, label, value) => h("div", { class: "filter" }, h("label", { for: `filter-${name}` }, label),
      h("input", { id: `filter-${name}`, name, value: this.#shown(name, value), autocomplete: "off", spellcheck: "false" }));
    return h("form", { id: "filters", role: "search", class: "search" },
      text("user", t("User"), user), text("address", t("Address"), address),
      h("div", { class: "filter" }, h("label", { for: "filter-transport" }, t("Over")),
        h("select", { id: "filter-transport", name: "transport", "data-value": transport ?? "" },
          [["", t("any")], ["websocket", "WebSocket"], ["sse", t("event stream")]].map(([value, label]) => h("option", { value }, label)))),
      user && button("close-user", t("Close all of {user}", { user }), { class: "danger" }),
      address && button("close-address", t("Close all from {address}", { address }), { class: "danger" }),
      (user || address || transport) && button("clear", t("Clear"), { class: "quiet" }));
  }

  #shown(name, value = "") {
    const active = document.activeElement;
    return active?.id === `filter-${name}` ? active.value : value;
  }

  #table(items) {
    if (!items?.length) return instead({ data: items, error: this.error, loading: t("Loading the connections …"), empty: t("No connection is like this.") });
    return table(items, { label: t("Connections"), key: (one) => one.id, generation: JSON.stringify(this.#filters), columns: this.#columns() });
  }

  #columns() {
    return [
      { title: t("User"), cell: (one) => h("a", { href: hashOf("connections", { user: one.user_id }) }, one.user_id) },
      { title: t("Address"), cell: (one) => h("a", { class: "mono", href: hashOf("connections", { address: one.address }) }, one.address) },
      { title: t("Over"), cell: (one) => (one.transport === "sse" ? t("event stream") : "WebSocket") },
      { title: t("Age"), isNumber: true, cell: (one) => length((this.now - new Date(one.since).getTime()) / 1000) },
      { title: t("Follows"), isWide: true, cell: ({ topics = [] }) => topicsOf(topics) },
      { title: t("Process"), cell: (one) => h("span", { class: "mono" }, one.process) },
      { title: "", cell: (one) => button("close", t("Close"), { value: one.id, class: "small quiet", "aria-label": t("Close the connection of {user} from {address}", { user: one.user_id, address: one.address }) }) },
    ];
  }

  /** Close what is asked for: one by its id, all of a user, or all from an address. */
  async #close(which) {
    const [name, value] = Object.entries(which)[0];
    const { total } = name === "id" ? { total: 1 } : await this.request("GET", `/api/admin/connections${queryText({ ...which, limit: 1 })}`);
    const isSure = await ask({
      title: tn(total, "Close {n} connection?", "Close {n} connections?"), danger: true, confirm: t("Close {total}", { total }),
      body: h("p", {}, name === "id"
        ? t("It is closed with the code 4403, on which clients do not come back by themselves.")
        : t("All of {value} are closed with the code 4403, on which clients do not come back by themselves.", { value })),
    });
    if (!isSure) return;
    await this.act(async () => {
      const { closed } = await this.request("POST", "/api/admin/connections/close", which);
      tell(tn(closed, "{n} connection closed.", "{n} connections closed."));
    });
  }
}

function noteOf(total, processes) {
  const where = tn(processes, "{n} process", "{n} processes");
  return tn(total, "{n} connection to {where}, the oldest first", "{n} connections to {where}, the oldest first", { where });
}

function topicsOf(topics) {
  if (!topics.length) return "–";
  const rest = topics.length - MOST_TOPICS;
  return [topics.slice(0, MOST_TOPICS).map((one) => h("span", { class: "tag" }, one)), rest > 0 ? h("span", { class: "hint", title: topics.join(", ") }, t("and {n} more", { n: rest })) : null];
}
