/** A small line of how much of a kind was at hand, without a scale. */

import { t } from "../rt-elements.js";
import { h } from "./dom.js";
import { pathOf } from "./chart.js";
import { ofKind, thinned } from "./live.js";

const [WIDTH, HEIGHT, SECONDS, POINTS] = [80, 20, 900, 40];

export function spark(live, kind) {
  const points = thinned(live.near, SECONDS, POINTS).map((point) => {
    const { queued, running } = ofKind(point, kind);
    return [point.time, queued + running];
  });
  if (points.length < 2) return "–";
  const top = Math.max(...points.map(([, value]) => value), 1);
  const [from, to] = [points[0][0], points.at(-1)[0]];
  const scale = { x: (at) => ((at - from) / (to - from)) * WIDTH, y: (value) => HEIGHT - 2 - (value / top) * (HEIGHT - 4) };
  return h("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": t("at most {top} waiting or running", { top }) },
    h("path", { class: "line", "data-tone": "accent", d: pathOf(points, scale) }));
}
