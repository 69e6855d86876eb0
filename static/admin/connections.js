/** The open connections of all processes, by user, address and age; and their close. */

import { hashOf } from "./address.js";
import { ask, tell } from "./asking.js";
import { button, h } from "./dom.js";
import { valuesOf } from "./forms.js";
import { count, length } from "./format.js";
import { queryText } from "./query.js";
import { card, instead, more, table } from "./table.js";
import { Listing, View } from "./view.js";

const TYPING_MS = 250;
const MOST_TOPICS = 3;

export class ConnectionsView extends View {
  static title = "Connections";
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
      h("h1", {}, "Connections"), this.#form(),
      card("Open connections", this.#table(items), { note: items?.length ? `${count(total ?? items.length, "connection")} to ${count(processes ?? 1, "process", "processes")}, the oldest first` : null }),
      more(next, this.isBusy),
    ];
  }

  #form() {
    const { user, address, transport } = this.#filters;
    const text = (name, label, value) => h("div", { class: "filter" }, h("label", { for: `filter-${name}` }, label),
      h("input", { id: `filter-${name}`, name, value: this.#shown(name, value), autocomplete: "off", spellcheck: "false" }));
    return h("form", { id: "filters", role: "search", class: "search" },
      text("user", "User", user), text("address", "Address", address),
      h("div", { class: "filter" }, h("label", { for: "filter-transport" }, "Over"),
        h("select", { id: "filter-transport", name: "transport", "data-value": transport ?? "" },
          [["", "any"], ["websocket", "WebSocket"], ["sse", "event stream"]].map(([value, label]) => h("option", { value }, label)))),
      user && button("close-user", `Close all of ${user}`, { class: "danger" }),
      address && button("close-address", `Close all from ${address}`, { class: "danger" }),
      (user || address || transport) && button("clear", "Clear", { class: "quiet" }));
  }

  #shown(name, value = "") {
    const active = document.activeElement;
    return active?.id === `filter-${name}` ? active.value : value;
  }

  #table(items) {
    if (!items?.length) return instead({ data: items, error: this.error, what: "the connections", empty: "No connection is like this." });
    return table(items, { label: "Connections", key: (one) => one.id, generation: JSON.stringify(this.#filters), columns: this.#columns() });
  }

  #columns() {
    return [
      { title: "User", cell: (one) => h("a", { href: hashOf("connections", { user: one.user_id }) }, one.user_id) },
      { title: "Address", cell: (one) => h("a", { class: "mono", href: hashOf("connections", { address: one.address }) }, one.address) },
      { title: "Over", cell: (one) => (one.transport === "sse" ? "event stream" : "WebSocket") },
      { title: "Age", isNumber: true, cell: (one) => length((this.now - new Date(one.since).getTime()) / 1000) },
      { title: "Follows", isWide: true, cell: ({ topics = [] }) => topicsOf(topics) },
      { title: "Process", cell: (one) => h("span", { class: "mono" }, one.process) },
      { title: "", cell: (one) => button("close", "Close", { value: one.id, class: "small quiet", "aria-label": `Close the connection of ${one.user_id} from ${one.address}` }) },
    ];
  }

  /** Close what is asked for: one by its id, all of a user, or all from an address. */
  async #close(which) {
    const [name, value] = Object.entries(which)[0];
    const { total } = name === "id" ? { total: 1 } : await this.request("GET", `/api/admin/connections${queryText({ ...which, limit: 1 })}`);
    const isSure = await ask({
      title: `Close ${count(total, "connection")}?`, danger: true, confirm: `Close ${total}`,
      body: h("p", {}, `${name === "id" ? "It is" : `All of ${value} are`} closed with the code 4403, on which clients do not come back by themselves.`),
    });
    if (!isSure) return;
    await this.act(async () => {
      const { closed } = await this.request("POST", "/api/admin/connections/close", which);
      tell(`${count(closed, "connection")} closed.`);
    });
  }
}

function topicsOf(topics) {
  if (!topics.length) return "–";
  const rest = topics.length - MOST_TOPICS;
  return [topics.slice(0, MOST_TOPICS).map((one) => h("span", { class: "tag" }, one)), rest > 0 ? h("span", { class: "hint", title: topics.join(", ") }, `and ${rest} more`) : null];
}
