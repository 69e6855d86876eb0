/** The whole server at a glance: what waits and runs, how fast it goes, and what needs somebody. */

import { hashOf } from "./address.js";
import { h } from "./dom.js";
import { count, length, number, short } from "./format.js";
import { ofKind, rateNow } from "./live.js";
import { KindsList } from "./kinds.js";
import { SPANS, depthChart, spanPicker, speedChart } from "./over-time.js";
import { card, instead } from "./table.js";
import { View } from "./view.js";

const MINUTE_SECONDS = 60;

export class OverviewView extends View {
  static title = "Overview";
  #kinds = new KindsList(this);
  #overview = this.app.overview;

  async load(isCurrent) {
    const [overview] = await Promise.all([this.request("GET", "/api/admin/overview"), this.#kinds.load(isCurrent)]);
    if (isCurrent()) this.#overview = overview;
  }

  get ownActs() {
    return { ...this.#kinds.acts, span: ({ value }) => this.app.go("overview", { span: value }, "", { isSame: true }) };
  }

  draw() {
    const span = SPANS[this.query.span] ? this.query.span : Object.keys(SPANS)[0];
    return [
      h("h1", {}, "Overview"),
      this.#attention(),
      this.#tiles(),
      h("div", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, "Over time"), spanPicker(span)),
        h("div", { class: "charts" }, speedChart(this.app.live, "", span), depthChart(this.app.live, "", span))),
      card("Kinds", this.#kinds.draw()),
    ];
  }

  #tiles() {
    const { live } = this.app;
    const stats = live.latest?.stats ?? this.#overview?.stats;
    if (!stats) return instead({ data: null, error: this.error, what: "the numbers" });
    const perMinute = (name) => {
      const now = rateNow(live.near, (point) => ofKind(point, "")[name]);
      return now === null ? "–" : number(now * MINUTE_SECONDS);
    };
    const oldest = this.#kinds.items?.reduce((most, one) => Math.max(most, one.oldest_seconds ?? 0), 0);
    return h("ul", { class: "tiles" },
      tile("Waiting", short(stats.queued), hashOf("tasks", { status: "queued" }), stats.delayed ? `${number(stats.delayed)} delayed` : "in line"),
      tile("Running", short(stats.processing), hashOf("running"), count(this.#overview?.workers ?? 0, "worker")),
      tile("Oldest wait", oldest ? length(oldest) : "–", hashOf("tasks", { status: "queued" }), "of all kinds"),
      tile("Completed", perMinute("completed"), hashOf("tasks", { status: "completed" }), "in a minute"),
      tile("Failed", perMinute("failed"), hashOf("tasks", { status: "failed" }), `${number(stats.failed)} kept`, stats.failed > 0),
      tile("Dead", short(stats.dead), hashOf("tasks", { status: "dead" }), "gave up", stats.dead > 0),
      tile("Connections", short(this.#overview?.connections ?? 0), hashOf("connections"), count(this.#overview?.users ?? 0, "user")));
  }

  /** What somebody should look at. */
  #attention() {
    const kinds = this.#kinds.items ?? [];
    const found = [
      this.#kinds.isPausedAll && ["All kinds are paused: no task starts.", "#kinds"],
      ...kinds.filter((one) => one.paused).map((one) => [`${one.kind} is paused${one.queued ? `, and ${count(one.queued, "task")} wait${one.queued === 1 ? "s" : ""}` : ""}.`, hashOf("kind", {}, one.kind)]),
      ...kinds.filter((one) => one.queued && !one.workers).map((one) => [`No worker takes ${one.kind}, and ${count(one.queued, "task")} wait${one.queued === 1 ? "s" : ""}.`, hashOf("kind", {}, one.kind)]),
    ].filter(Boolean);
    return found.length > 0 && h("ul", { class: "attention", "aria-label": "Needs somebody" },
      found.map(([text, href]) => h("li", { "data-key": text }, h("span", {}, text), " ", h("a", { href }, "Look at it"))));
  }
}

function tile(name, value, href, note, isBad = false) {
  return h("li", { "data-key": name }, h("a", { href, "data-bad": isBad }, h("span", { class: "tile-name" }, name),
    h("span", { class: "tile-value" }, value), h("span", { class: "hint" }, note)));
}

