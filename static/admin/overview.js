/** The whole server at a glance: what waits and runs, how fast it goes, and what needs somebody. */

import { t, tn } from "../rt-elements.js";
import { hashOf } from "./address.js";
import { h } from "./dom.js";
import { length, number, short } from "./format.js";
import { ofKind, rateNow } from "./live.js";
import { KindsList, waiting } from "./kinds.js";
import { SPANS, depthChart, spanPicker, speedChart } from "./over-time.js";
import { card, instead } from "./table.js";
import { View } from "./view.js";

const MINUTE_SECONDS = 60;

export class OverviewView extends View {
  static title = t("Overview");
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
      h("h1", {}, t("Overview")),
      this.#attention(),
      this.#tiles(),
      h("div", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, t("Over time")), spanPicker(span)),
        h("div", { class: "charts" }, speedChart(this.app.live, "", span), depthChart(this.app.live, "", span))),
      card(t("Kinds"), this.#kinds.draw()),
    ];
  }

  #tiles() {
    const { live } = this.app;
    const stats = live.latest?.stats ?? this.#overview?.stats;
    if (!stats) return instead({ data: null, error: this.error, loading: t("Loading the numbers …") });
    const perMinute = (name) => {
      const now = rateNow(live.near, (point) => ofKind(point, "")[name]);
      return now === null ? "–" : number(now * MINUTE_SECONDS);
    };
    const oldest = this.#kinds.items?.reduce((most, one) => Math.max(most, one.oldest_seconds ?? 0), 0);
    return h("ul", { class: "tiles" },
      tile(t("Waiting"), short(stats.queued), hashOf("tasks", { status: "queued" }), stats.delayed ? t("{n} delayed", { n: stats.delayed }) : t("in line")),
      tile(t("Running"), short(stats.processing), hashOf("running"), tn(this.#overview?.workers ?? 0, "{n} worker", "{n} workers")),
      tile(t("Oldest wait"), oldest ? length(oldest) : "–", hashOf("tasks", { status: "queued" }), t("of all kinds")),
      tile(t("Completed"), perMinute("completed"), hashOf("tasks", { status: "completed" }), t("in a minute")),
      tile(t("Failed"), perMinute("failed"), hashOf("tasks", { status: "failed" }), t("{n} kept", { n: stats.failed }), stats.failed > 0),
      tile(t("Dead"), short(stats.dead), hashOf("tasks", { status: "dead" }), t("gave up"), stats.dead > 0),
      tile(t("Connections"), short(this.#overview?.connections ?? 0), hashOf("connections"), tn(this.#overview?.users ?? 0, "{n} user", "{n} users")));
  }

  /** The list of things that somebody should look at. */
  #attention() {
    const kinds = this.#kinds.items ?? [];
    const found = [
      this.#kinds.isPausedAll && ["all", t("All kinds are paused: no task starts."), "#kinds"],
      ...kinds.filter((one) => one.paused).map((one) => [`paused ${one.kind}`, pausedInWords(one), hashOf("kind", {}, one.kind)]),
      ...kinds.filter((one) => one.queued && !one.workers).map((one) => [`alone ${one.kind}`, t("No worker takes {kind}, and {waits}.", { kind: one.kind, waits: waiting(one.queued) }), hashOf("kind", {}, one.kind)]),
    ].filter(Boolean);
    return found.length > 0 && h("ul", { class: "attention", "aria-label": t("Needs somebody") },
      found.map(([key, text, href]) => h("li", { "data-key": key }, h("span", {}, text), " ", h("a", { href }, t("Look at it")))));
  }
}

function pausedInWords({ kind, queued }) {
  return queued ? t("{kind} is paused, and {waits}.", { kind, waits: waiting(queued) }) : t("{kind} is paused.", { kind });
}

function tile(name, value, href, note, isBad = false) {
  return h("li", { "data-key": name }, h("a", { href, "data-bad": isBad }, h("span", { class: "tile-name" }, name),
    h("span", { class: "tile-value" }, value), h("span", { class: "hint" }, note)));
}

