/** Numbers, times and lengths in words, with their units. */

const NUMBER = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const FINE = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 2 });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const UNITS = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
const DAY_SECONDS = 86_400;
/** What stands where there is no value. */
export const NONE = "–";

export const number = (value) => (value === null || value === undefined ? NONE : NUMBER.format(value));

/** A number that must be short: 1.2K. */
export const short = (value) => (value >= 10_000 ? SHORT.format(value) : NUMBER.format(value));

/** "1 task", "3 tasks". */
export function count(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

/** How often [1/s]: "12/s", "4.5/min". */
export function rate(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "0/s";
  return value >= 0.1 ? `${value >= 100 ? NUMBER.format(value) : FINE.format(value)}/s` : `${FINE.format(value * 60)}/min`;
}

export function percent(share) {
  if (share === null || share === undefined) return NONE;
  return `${share > 0 && share < 0.01 ? FINE.format(share * 100) : NUMBER.format(share * 100)} %`;
}

/** A length [s]: "0.4 s", "12 s", "4 min 5 s", "2 h 3 min", "3 d 4 h". */
export function length(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds > 0 && seconds < 9.95) return `${seconds < 0.1 ? FINE.format(seconds) : seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const index = UNITS.findIndex(([size]) => whole >= size);
  if (index < 0) return "0 s";
  const [size, unit] = UNITS[index];
  const [small, name] = UNITS[index + 1] ?? [];
  const rest = small ? Math.floor((whole % size) / small) : 0;
  return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${name}` : ""}`;
}

/** A rough length [s]: "20 s", "4 min", "3 h". */
export function roughly(seconds) {
  const [size, unit] = UNITS.find(([one]) => seconds >= one) ?? [1, "s"];
  return `${Math.floor(seconds / size)} ${unit}`;
}

/** A moment by this reader's clock: "3 min ago", "in 20 s", "12 Mar 10:30". */
export function relative(moment, now) {
  const seconds = (now - new Date(moment).getTime()) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  if (Math.abs(seconds) >= 2 * DAY_SECONDS) return DAY.format(new Date(moment));
  return seconds > 0 ? `${roughly(seconds)} ago` : `in ${roughly(-seconds)}`;
}

export const exactly = (moment) => EXACT.format(new Date(moment));
export const clock = (moment) => CLOCK.format(new Date(moment));

/** How old something is that began at a moment: "4 min". */
export const age = (moment, now) => roughly(Math.max(0, (now - new Date(moment).getTime()) / 1000));
