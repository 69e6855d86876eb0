/** The webhooks of all users and of the application, with what their receivers last answered. */

import { hashOf } from "./address.js";
import { button, h } from "./dom.js";
import { count, length } from "./format.js";
import { card, instead, more, state, table, when } from "./table.js";
import { Listing, View } from "./view.js";
import { queryText } from "./query.js";

const OK = 200;
const REDIRECT = 300;

export class WebhooksView extends View {
  static title = "Webhooks";
  #list = new Listing((after) => this.request("GET", `/api/admin/webhooks${queryText({ after })}`));
  #open = new Set();

  load(isCurrent) {
    return this.#list.load(isCurrent);
  }

  get ownActs() {
    return {
      answers: ({ value }) => {
        if (!this.#open.delete(value)) this.#open.add(value);
        this.app.draw();
      },
      more: () => {
        this.#list.more();
        this.reload();
      },
    };
  }

  draw() {
    const { items, next } = this.#list;
    const off = items?.filter((one) => one.state !== "enabled").length;
    return [
      h("h1", {}, "Webhooks"),
      card("Webhooks of all users", this.#table(items), { note: off ? `${count(off, "webhook")} disabled` : null }),
      more(next, this.isBusy),
    ];
  }

  #table(items) {
    if (!items?.length) return instead({ data: items, error: this.error, what: "the webhooks", empty: "Nobody has a webhook." });
    return table(items, { label: "Webhooks", key: (one) => one.id, columns: this.#columns() });
  }

  #columns() {
    return [
      { title: "Receiver", isWide: true, cell: (one) => [h("span", { class: "mono" }, one.url), one.description ? h("span", { class: "hint" }, one.description) : null] },
      { title: "Of", cell: (one) => (one.user_id ? h("a", { href: hashOf("tasks", { user: one.user_id }) }, one.user_id) : "the application") },
      { title: "Events", cell: (one) => one.events.map((event) => h("span", { class: "tag" }, event)) },
      { title: "State", cell: (one) => [state(one.state), one.reason ? h("span", { class: "hint" }, one.reason) : null] },
      { title: "Last success", cell: (one) => when(one.success_at, this.now) },
      { title: "Last answers", isWide: true, cell: (one) => this.#answers(one) },
    ];
  }

  #answers({ id, url, answers = [] }) {
    if (!answers.length) return "none yet";
    const isOpen = this.#open.has(id);
    return [
      button("answers", isOpen ? "Hide them" : toldBy(answers[0]), { value: id, class: "small quiet", "aria-expanded": String(isOpen), "aria-label": `Last answers of ${url}` }),
      isOpen && h("ol", { class: "answers" }, answers.map((one, index) => h("li", { "data-key": `${one.at} ${index}` },
        when(one.at, this.now), " ", h("span", { class: isGood(one) ? "good" : "bad" }, toldBy(one))))),
    ];
  }
}

const isGood = ({ status }) => status >= OK && status < REDIRECT;

function toldBy({ status, error, seconds }) {
  return [status ? String(status) : "", error ?? "", seconds === undefined || seconds === null ? "" : `in ${length(seconds)}`].filter(Boolean).join(" · ") || "answered";
}
