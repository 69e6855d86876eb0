/** Numbers, times and lengths in words, in the language, the time zone and the way of writing of the reader. */

import { Message, formatOf, languageOf, t, wordsIn } from "../messages.js";

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;
const FULL = { dateStyle: "medium", timeStyle: "medium" };
const DAY_OF_MONTH = { day: "numeric", month: "short" };
const UNITS = [[DAY, "day"], [HOUR, "hour"], [MINUTE, "minute"], [1, "second"]];

function dateOf(moment, options) {
  return new Message((language) => formatOf(Intl.DateTimeFormat, language, options).format(moment));
}

/** Return the time of a moment as the clock shows it, "9:05 PM" but "09:05"; `day` is what stands before it. */
function timeOfDay(moment, day = {}) {
  return new Message((language) => {
    const { hourCycle } = formatOf(Intl.DateTimeFormat, language, { hour: "numeric" }).resolvedOptions();
    const hour = hourCycle === "h23" || hourCycle === "h24" ? "2-digit" : "numeric";
    return formatOf(Intl.DateTimeFormat, language, { ...day, hour, minute: "2-digit" }).format(moment);
  });
}

/**
 * Return a number, by options of Intl.NumberFormat.
 * @returns {any}
 */
export function numberOf(value, options) {
  return new Message((language) => formatOf(Intl.NumberFormat, language, options).format(value));
}

function unitOf(value, unit, options = {}) {
  return numberOf(value, { style: "unit", unit, unitDisplay: "narrow", ...options });
}

/**
 * Return a share of 1 as whole percents: "45%"; `digits` are those behind the point.
 * @returns {any}
 */
export function percentOf(share, digits = 0) {
  return numberOf(share, { style: "percent", maximumFractionDigits: digits });
}

/**
 * Return how far something has come, from 0 to 100: only the end is "100%".
 * @returns {any}
 */
export function progressOf(percent) {
  return percentOf(Math.floor(percent) / 100);
}

/**
 * Return a moment as the clock shows it; with the date if it is a day away or more.
 * @returns {any}
 */
export function clockOf(moment, now = Date.now()) {
  return timeOfDay(moment, Math.abs(moment - now) < DAY * 1000 ? {} : DAY_OF_MONTH);
}

/** Return the unit in which a length [s] is told roughly, and how many of it. */
function rough(seconds) {
  if (seconds < 59.5) return [Math.max(1, Math.round(seconds)), "second"];
  if (seconds < 3570) return [Math.round(seconds / MINUTE), "minute"];
  return seconds < 2 * DAY ? [Math.round(seconds / HOUR), "hour"] : [Math.round(seconds / DAY), "day"];
}

/**
 * Return a rough number of seconds: "20s", "4m", "3h", "2d".
 * @returns {any}
 */
export function roughly(seconds) {
  return unitOf(...rough(seconds));
}

/**
 * Return how long something took: "0.4s", "12s", "4m 5s", "1h 2m".
 * @returns {any}
 */
export function lengthOf(seconds) {
  if (seconds < 9.95) {
    return unitOf(seconds, "second", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  }
  const whole = Math.round(seconds);
  const at = /** @type {[number, string][]} */ (UNITS).findIndex(([size]) => whole >= size);
  const [[size, unit], [small, smaller] = []] = /** @type {[number, string][]} */ (UNITS).slice(at, at + 2);
  const rest = small ? Math.floor((whole % size) / small) : 0;
  const parts = [unitOf(Math.floor(whole / size), unit), ...(rest ? [unitOf(rest, smaller)] : [])];
  return new Message((language) => formatOf(Intl.ListFormat, language, { type: "unit", style: "narrow" }).format(parts.map((one) => one.in(language))));
}

/**
 * Return a time that is left: "about 20s left", "about 4m left · about 14:32, at the latest 14:36".
 * @returns {any}
 */
export function leftInWords({ seconds, high, finish, latest }, now) {
  if (seconds < 1) return t("any moment now");
  const time = roughly(seconds);
  if (seconds < 59.5) {
    const most = high === null ? null : roughly(high);
    return new Message((language) => (most && most.in(language) !== time.in(language)
      ? t("about {time} left, at most {most}", { time, most })
      : t("about {time} left", { time })).in(language));
  }
  const [end, late] = [clockOf(finish, now), latest && clockOf(latest, now)];
  return new Message((language) => (late && late.in(language) !== end.in(language)
    ? t("about {time} left · about {end}, at the latest {late}", { time, end, late })
    : t("about {time} left · about {end}", { time, end })).in(language));
}

/**
 * Return when something starts: "starts in about 2m, at the latest 5m".
 * @returns {any}
 */
export function startInWords({ seconds, high, finish }, now) {
  if (seconds < 1) return t("starts any moment now");
  const [time, late] = [roughly(seconds), high === null ? null : roughly(high)];
  const start = new Message((language) => (late && late.in(language) !== time.in(language)
    ? t("starts in about {time}, at the latest {late}", { time, late })
    : t("starts in about {time}", { time })).in(language));
  return seconds < 3570 ? start : t("{start} ({clock})", { start, clock: clockOf(finish, now) });
}

/**
 * Return a moment in full, as a title has it.
 * @returns {any}
 * @param {any} moment
 * @param {any} [options]
 */
export function momentInWords(moment, options = FULL) {
  return dateOf(moment, options);
}

/**
 * Return how long ago a moment was, or in how long it is: "now", "5m ago"; its date after `days`.
 * @returns {any}
 */
export function relativeTo(moment, now = Date.now(), days = 7) {
  const seconds = (moment - now) / 1000;
  if (Math.abs(seconds) >= days * DAY) return timeOfDay(moment, DAY_OF_MONTH);
  const [many, unit] = Math.abs(seconds) < 1 ? [0, "second"] : rough(Math.abs(seconds));
  return new Message((language) => formatOf(Intl.RelativeTimeFormat, language, { numeric: many ? "always" : "auto", style: "narrow" })
    .format(seconds < 0 ? -many : many, unit));
}

/**
 * Return how long ago a moment was: "now" for the last seconds; its date after a week.
 * @returns {any}
 */
export function ago(moment, now = Date.now()) {
  return relativeTo(now - moment < 5000 ? now : moment, now);
}

/**
 * Return the same as a string, in the language of the page or another one.
 * @returns {any}
 */
export function agoInWords(moment, now = Date.now(), language = languageOf()) {
  return ago(moment, now).in(language);
}

/**
 * Return what was said as a sentence: with a capital in front and a full stop.
 * @returns {any}
 */
export function sentence(text) {
  return new Message((language) => {
    const words = wordsIn(text, language);
    return words && t("{sentence}.", { sentence: words[0].toUpperCase() + words.slice(1) }).in(language);
  });
}
