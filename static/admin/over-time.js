/** The charts of a kind, or of all, over a time that can be chosen. */

import { roughly, t } from "../rt-elements.js";
import { chart } from "./chart.js";
import { h } from "./dom.js";
import { rate, short } from "./format.js";
import { ofKind, rates, thinned } from "./live.js";

const POINTS = 120;

export const SPANS = {
  "15m": { seconds: 900, series: "near" },
  "1h": { seconds: 3600, series: "near" },
  "24h": { seconds: 86_400, series: "far" },
};

export function spanPicker(chosen) {
  return h("div", { class: "picker", role: "group", "aria-label": t("How far back") }, Object.entries(SPANS).map(([value, { seconds }]) =>
    h("button", { type: "button", "data-act": "span", value, "aria-pressed": String(value === chosen) }, roughly(seconds))));
}

/** Numbers of tasks that ended in a second, well and badly. */
export function speedChart(live, kind, span) {
  const points = pointsOf(live, span);
  if (points.length < 3) return waiting(t("Tasks that ended"));
  const good = rates(points, (one) => ofKind(one, kind).completed);
  const bad = rates(points, (one) => ofKind(one, kind).failed + ofKind(one, kind).dead);
  return chart({ title: t("Tasks that ended"), format: rate, series: [{ name: t("completed"), tone: "good", points: good }, { name: t("failed"), tone: "bad", points: bad }] });
}

/** Numbers of tasks that waited and ran. */
export function depthChart(live, kind, span) {
  const points = pointsOf(live, span);
  if (points.length < 3) return waiting(t("Tasks at hand"));
  const of = (name) => points.map((one) => [one.time, ofKind(one, kind)[name]]);
  const series = [{ name: t("waiting"), tone: "warn", points: of("queued") }, { name: t("running"), tone: "accent", points: of("running") }];
  return chart({ title: t("Tasks at hand"), format: short, series });
}

function pointsOf(live, span) {
  const { seconds, series } = SPANS[span];
  return thinned(live[series], seconds, POINTS);
}

function waiting(title) {
  return h("figure", { class: "chart", "data-name": title },
    h("figcaption", {}, h("span", { class: "chart-title" }, title)),
    h("p", { class: "hint chart-empty" }, t("It begins as soon as three points are known: one comes every few seconds.")));
}
