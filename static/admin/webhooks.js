/** The webhooks of all users and of the application, with what their receivers last answered. */

import { joined, t, tn } from "../rt-elements.js";
import { hashOf } from "./address.js";
import { button, h } from "./dom.js";
import { length } from "./format.js";
import { card, instead, more, state, table, when } from "./table.js";
import { Listing, View } from "./view.js";
import { queryText } from "./query.js";

const OK = 200;
const REDIRECT = 300;

export class WebhooksView extends View {
  static title = t("Webhooks");
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
      h("h1", {}, t("Webhooks")),
      card(t("Webhooks of all users"), this.#table(items), { note: off ? tn(off, "{n} webhook disabled", "{n} webhooks disabled") : null }),
      more(next, this.isBusy),
    ];
  }

  #table(items) {
    if (!items?.length) return instead({ data: items, error: this.error, loading: t("Loading the webhooks …"), empty: t("Nobody has a webhook.") });
    return table(items, { label: t("Webhooks"), key: (one) => one.id, columns: this.#columns() });
  }

  #columns() {
    return [
      { title: t("Receiver"), isWide: true, cell: (one) => [h("span", { class: "mono" }, one.url), one.description ? h("span", { class: "hint" }, one.description) : null] },
      { title: t("Of"), cell: (one) => (one.user_id ? h("a", { href: hashOf("tasks", { user: one.user_id }) }, one.user_id) : t("the application")) },
      { title: t("Events"), cell: (one) => one.events.map((event) => h("span", { class: "tag" }, event)) },
      { title: t("State"), cell: (one) => [state(one.state), one.reason ? h("span", { class: "hint" }, one.reason) : null] },
      { title: t("Last success"), cell: (one) => when(one.success_at, this.now) },
      { title: t("Last answers"), isWide: true, cell: (one) => this.#answers(one) },
    ];
  }

  #answers({ id, url, answers = [] }) {
    if (!answers.length) return t("none yet");
    const isOpen = this.#open.has(id);
    return [
      button("answers", isOpen ? t("Hide them") : toldBy(answers[0]), { value: id, class: "small quiet", "aria-expanded": String(isOpen), "aria-label": t("Last answers of {url}", { url }) }),
      isOpen && h("ol", { class: "answers" }, answers.map((one, index) => h("li", { "data-key": `${one.at} ${index}` },
        when(one.at, this.now), " ", h("span", { class: isGood(one) ? "good" : "bad" }, toldBy(one))))),
    ];
  }
}

const isGood = ({ status }) => status >= OK && status < REDIRECT;

function toldBy({ status, error, seconds }) {
  const took = seconds === undefined || seconds === null ? "" : t("in {time}", { time: length(seconds) });
  return status || error || took ? joined([status && String(status), error, took]) : t("answered");
}
