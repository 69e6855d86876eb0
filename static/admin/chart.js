/** A chart of numbers over time, as SVG: lines over an area, a scale, and the values under the pointer. */

import { joined, t } from "../rt-elements.js";
import { h } from "./dom.js";
import { clock, exactly } from "./format.js";

// The width of the drawing on a narrow screen and on others: its letters keep their size.
const NARROW = matchMedia("(max-width: 40rem)");
const WIDTHS = [330, 560];
const HEIGHT = 160;
const EDGE = { top: 10, right: 8, bottom: 22, left: 46 };
const TALL = HEIGHT - EDGE.top - EDGE.bottom;
const STEPS = [1, 2, 5, 10];
const LABELS = 4;

/** Return the least round number that is not below a value. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return STEPS.find((step) => step * power >= value * (1 - 1e-9)) * power;
}

/** Return an SVG path through points; null is a gap. */
export function pathOf(points, { x, y }) {
  let isOn = false;
  return points.map(([at, value]) => {
    if (value === null || value === undefined) {
      isOn = false;
      return "";
    }
    const begin = isOn ? "L" : "M";
    isOn = true;
    return `${begin}${x(at).toFixed(1)},${y(value).toFixed(1)}`;
  }).join("");
}

/**
 * Return a chart. `series` are `{name, tone, points: [[milliseconds, value], ...]}`; `format` writes a value.
 * All series have the same moments.
 */
export function chart({ title, series, format }) {
  const moments = series[0].points.map(([at]) => at);
  const [from, to] = [moments[0], moments.at(-1)];
  const values = series.flatMap(({ points }) => points.map(([, value]) => value ?? 0));
  const top = roundUp(Math.max(...values, 0));
  const width = WIDTHS[NARROW.matches ? 0 : 1];
  const inner = width - EDGE.left - EDGE.right;
  const scale = {
    width, inner,
    x: (at) => EDGE.left + (to === from ? inner : ((at - from) / (to - from)) * inner),
    y: (value) => EDGE.top + TALL - (value / top) * TALL,
  };
  const latest = series.map(({ name, points }) => t("{name}: {value}", { name, value: format(points.at(-1)?.[1] ?? 0) }));
  return h("figure", { class: "chart", "data-name": title },
    h("figcaption", {}, h("span", { class: "chart-title" }, title), legend(series, format)),
    h("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": t("{title}. {latest}; highest {most}", { title, latest: joined(latest, t(", ")), most: format(Math.max(...values)) }) },
      grid(top, scale, format), hours(from, to, scale), series.map((one) => lines(one, scale, from)),
      columns(moments, series, scale, format)));
}

/** The values at each moment, which the pointer shows. */
function columns(moments, series, { x, inner }, format) {
  const width = inner / Math.max(1, moments.length - 1);
  return moments.map((at, index) => h("g", { class: "column" },
    h("title", {}, joined([exactly(at), ...series.map(({ name, points }) => t("{name}: {value}", { name, value: format(points[index][1] ?? 0) }))], "\n")),
    h("rect", { x: x(at) - width / 2, y: EDGE.top, width, height: TALL }),
    h("line", { x1: x(at), x2: x(at), y1: EDGE.top, y2: EDGE.top + TALL })));
}

function legend(series, format) {
  return h("span", { class: "legend" }, series.map(({ name, tone, points }) =>
    h("span", { "data-tone": tone }, h("i", { "aria-hidden": "true" }), name, " ", h("b", {}, format(points.at(-1)?.[1] ?? 0)))));
}

function grid(top, { y, width }, format) {
  return [0, top / 2, top].map((value) => [
    h("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }),
    h("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, format(value)),
  ]);
}

function hours(from, to, { x }) {
  return Array.from({ length: LABELS }, (_, index) => from + ((to - from) * index) / (LABELS - 1)).map((at, index) =>
    h("text", { x: x(at), y: HEIGHT - 6, "text-anchor": ["start", "middle", "middle", "end"][index] }, clock(at)));
}

function lines({ tone, points }, scale, from) {
  const line = pathOf(points, scale);
  const floor = EDGE.top + TALL;
  const area = `${line}L${scale.x(points.at(-1)[0]).toFixed(1)},${floor}L${scale.x(from).toFixed(1)},${floor}Z`;
  const isWhole = points.every(([, value]) => value !== null && value !== undefined);
  return [
    isWhole && h("path", { class: "area", "data-tone": tone, d: area }),
    h("path", { class: "line", "data-tone": tone, d: line }),
  ];
}
