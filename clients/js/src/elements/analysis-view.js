/** The result of an analysis: the decision, the price with its averages, and the scores that speak for it. */

import { showText, t } from "../messages.js";
import { make, nodeOf } from "./base.js";
import { nameInWords, setResultView } from "./result-views.js";
import { numberOf, percentOf } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [640, 220];
const EDGE = { left: 44, right: 12, top: 10, bottom: 22 };
const AVERAGES = [3, 12];
const DECISIONS = { buy: t("BUY"), hold: t("HOLD"), sell: t("SELL") };
const SCORES = {
  market: t("Market"), fundamentals: t("Fundamentals"), news: t("News"), social: t("Social"), balance: t("Balance"),
};
const GRID_LINES = 4;

/** Return the node of a result; null if it is none of an analysis. */
export function drawAnalysis(result) {
  if (typeof result?.decision !== "string") return null;
  const parts = [headOf(result)];
  if (result.prices?.length > 1) parts.push(chartOf(result));
  if (result.scores) parts.push(scoresOf(result));
  parts.push(factsOf(result));
  return make("div", { className: "analysis", part: "result-analysis", children: parts });
}

/** Return the analysis in a sentence of the reader's language; the handler's own where a number is missing. */
function sentenceOf({ symbol, decision, last_price: price, confidence, position_size: size, volatility, max_drawdown: fall, summary }) {
  if ([price, confidence, size, volatility, fall].some((one) => typeof one !== "number")) return summary;
  return t("{symbol}: {decision} at {price}, {confidence} confident, at most {size} of the capital; volatility {volatility} a year, deepest fall {fall}", {
    symbol, decision: DECISIONS[decision] ?? decision, price: dollars(price), confidence: percentOf(confidence),
    size: percentOf(size), volatility: percentOf(volatility), fall: percentOf(fall),
  });
}

function headOf(result) {
  const { decision, confidence } = result;
  const badge = make("strong", { className: "decision", text: DECISIONS[decision] ?? decision.toUpperCase(), "data-decision": decision });
  const sure = confidence === undefined ? [] : [make("span", { className: "muted", text: t("{share} confident", { share: percentOf(confidence) }) })];
  const head = make("p", { className: "decision-line", children: [badge, " ", ...sure] });
  const sentence = sentenceOf(result);
  return make("div", { children: [head, ...(sentence ? [make("p", { text: sentence })] : [])] });
}

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) showText(made, value, name);
  made.append(...children.map(nodeOf));
  return made;
}

function chartOf({ symbol, prices }) {
  const closes = prices.map(([, price]) => price);
  const lines = AVERAGES.map((months) => movingAverage(closes, months));
  const scale = scaleOf(closes);
  const first = prices[0], last = prices.at(-1);
  const told = t("{symbol}: from {low} in {since} to {high} in {until}", {
    symbol, low: dollars(first[1]), since: first[0].slice(0, 7), high: dollars(last[1]), until: last[0].slice(0, 7),
  });
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": told, class: "chart" },
    ...gridOf(scale), ...yearsOf(prices, scale),
    svg("path", { class: "price-area", d: areaOf(closes, scale) }),
    svg("path", { class: "price", d: pathOfLine(closes, scale) }),
    ...lines.map((line, index) => svg("path", { class: `average average-${index}`, d: pathOfLine(line, scale) })));
  const names = [t("Price [USD]"), ...AVERAGES.map((n) => t("Average of {n} months", { n }))];
  const keys = ["price", "average-0", "average-1"].map((name, index) =>
    make("li", { className: name, text: names[index] }));
  return make("figure", { children: [drawing, make("ul", { className: "legend", children: keys })] });
}

/** Return the mean of the last months at each month; null before there are enough. */
function movingAverage(values, months) {
  return values.map((_, at) => {
    if (at + 1 < months) return null;
    return values.slice(at + 1 - months, at + 1).reduce((sum, one) => sum + one, 0) / months;
  });
}

function scaleOf(values) {
  const most = niceAbove(Math.max(...values));
  const across = (WIDTH - EDGE.left - EDGE.right) / (values.length - 1);
  const down = (HEIGHT - EDGE.top - EDGE.bottom) / most;
  return { most, x: (at) => EDGE.left + at * across, y: (value) => HEIGHT - EDGE.bottom - value * down };
}

function niceAbove(value) {
  const size = 10 ** Math.floor(Math.log10(value || 1));
  return [1, 2, 2.5, 4, 5, 8, 10].map((one) => one * size).find((one) => one >= value);
}

function pathOfLine(values, { x, y }) {
  const points = values.flatMap((value, at) => (value === null ? [] : [`${x(at).toFixed(1)} ${y(value).toFixed(1)}`]));
  return points.length ? `M${points.join("L")}` : "";
}

function areaOf(values, scale) {
  const bottom = scale.y(0).toFixed(1);
  return `${pathOfLine(values, scale)}L${scale.x(values.length - 1).toFixed(1)} ${bottom}L${scale.x(0).toFixed(1)} ${bottom}Z`;
}

function gridOf({ most, y }) {
  return Array.from({ length: GRID_LINES + 1 }, (_, index) => (most / GRID_LINES) * index).flatMap((value) => [
    svg("line", { class: "grid", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(value), y2: y(value) }),
    svg("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, numberOf(value, { maximumSignificantDigits: 3 })),
  ]);
}

function yearsOf(prices, { x }) {
  const years = prices.map(([day]) => day.slice(0, 4));
  return years.flatMap((year, at) => {
    const isShown = year !== years[at - 1] && Number(year) % 2 === 0;
    return isShown ? [svg("text", { x: x(at), y: HEIGHT - 6, "text-anchor": at ? "middle" : "start" }, year)] : [];
  });
}

function scoresOf({ scores, balance }) {
  const rows = Object.entries({ ...scores, ...(balance === undefined ? {} : { balance }) });
  const drawn = rows.map(([name, score]) => {
    const bar = make("span", { className: "score-bar", "data-sign": score < 0 ? "bad" : "good" });
    bar.style.width = `${Math.min(Math.abs(score), 1) * 50}%`;
    bar.style.left = score < 0 ? `${50 - Math.min(-score, 1) * 50}%` : "50%";
    const track = make("span", { className: "score-track", "aria-hidden": true, children: [bar] });
    const told = numberOf(score, { minimumFractionDigits: 2, maximumFractionDigits: 2, signDisplay: "exceptZero" });
    return make("li", { children: [make("span", { text: SCORES[name] ?? nameInWords(name) }), track, make("span", { className: "score", text: told })] });
  });
  return make("ul", { className: "scores", "aria-label": t("Scores, from -1 against to +1 for buying"), children: drawn });
}

function factsOf({ last_price: price, volatility, max_drawdown: fall, position_size: size, market }) {
  const facts = [
    [t("Last price"), price === undefined ? null : dollars(price)],
    [t("Volatility"), volatility === undefined ? null : t("{share} a year", { share: percentOf(volatility) })],
    [t("Deepest fall"), fall === undefined ? null : percentOf(fall)],
    [t("At most"), size === undefined ? null : t("{share} of the capital", { share: percentOf(size) })],
    [t("RSI of {n} months", { n: 14 }), market?.rsi_14 ?? null],
  ];
  const drawn = facts.filter(([, told]) => told !== null).map(([name, told]) =>
    make("div", { children: [make("dt", { text: name }), make("dd", { text: told })] }));
  return make("dl", { className: "facts", children: drawn });
}

function dollars(price) {
  return t("{price} USD", { price });
}

setResultView("analysis", drawAnalysis);
