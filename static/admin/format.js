/** Numbers, times and lengths as this page shows them, by the words of the elements. */

import { clockOf, lengthOf, momentInWords, numberOf, percentOf, relativeTo, roughly, t } from "../rt-elements.js";

const SECONDS = { style: "unit", unit: "second", unitDisplay: "narrow" };
/** The text in place of a missing value. */
export const NONE = "–";

const isNone = (value) => value === null || value === undefined;

export const number = (value) => (isNone(value) ? NONE : numberOf(value, { maximumFractionDigits: 0 }));

/** A number that must be short: 1.2K. */
export const short = (value) => (value >= 10_000 ? numberOf(value, { notation: "compact", maximumFractionDigits: 1 }) : number(value));

/** A rate [1/s]: "12/s", "4.5/min". */
export function rate(value) {
  if (isNone(value)) return NONE;
  const fine = (one) => numberOf(one, { maximumSignificantDigits: 2 });
  if (value > 0 && value < 0.1) return t("{rate}/min", { rate: fine(value * 60) });
  return t("{rate}/s", { rate: value >= 100 ? number(value) : fine(value) });
}

/** A share of 1: "45%"; one that is small has two digits. */
export function percent(share) {
  if (isNone(share)) return NONE;
  return share > 0 && share < 0.01 ? numberOf(share, { style: "percent", maximumSignificantDigits: 2 }) : percentOf(share);
}

/** A length [s]: "0.4s", "12s", "4m 5s", "2h 3m", "3d 4h". */
export function length(seconds) {
  if (isNone(seconds)) return NONE;
  return seconds > 0 && seconds < 0.1 ? numberOf(seconds, { ...SECONDS, maximumSignificantDigits: 2 }) : lengthOf(seconds);
}

/** A number and its bound: "1 of 3". */
export const ofMost = (one, most) => (most ? t("{one} of {most}", { one, most }) : number(one));

const timeOf = (moment) => new Date(moment).getTime();

/** A moment by this reader's clock: "3m ago", "in 20s", "Mar 12, 10:30". */
export const relative = (moment, now) => relativeTo(timeOf(moment), now, 2);

export const exactly = (moment) => momentInWords(timeOf(moment));
export const clock = (moment) => clockOf(timeOf(moment), timeOf(moment));

/** The age of something that began at a moment: "4m". */
export const age = (moment, now) => roughly(Math.max(0, (now - timeOf(moment)) / 1000));
