/** Times in words, in the time zone and the way of writing of the reader. */

const DAY_SECONDS = 86_400;
// "9:05 PM", but "09:05".
const { hourCycle } = new Intl.DateTimeFormat(undefined, { hour: "numeric" }).resolvedOptions();
const TIME = { hour: hourCycle === "h23" || hourCycle === "h24" ? "2-digit" : "numeric", minute: "2-digit" };
const FULL = { dateStyle: "medium", timeStyle: "medium" };
const DATE = { day: "numeric", month: "short", ...TIME };

// Making one takes long.
const formats = new Map();

function format(options) {
  if (!formats.has(options)) formats.set(options, new Intl.DateTimeFormat(undefined, options));
  return formats.get(options);
}

/** Return a moment as the clock shows it; with the date if it is a day away or more. */
export function clockOf(moment, now = Date.now()) {
  return format(Math.abs(moment - now) < DAY_SECONDS * 1000 ? TIME : DATE).format(moment);
}

/** Return a rough number of seconds: "20 s", "4 min", "3 h", "2 d". */
export function roughly(seconds) {
  if (seconds < 59.5) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3570) return `${Math.round(seconds / 60)} min`;
  return seconds < 2 * DAY_SECONDS ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / DAY_SECONDS)} d`;
}

/** Return how long something took: "0.4 s", "12 s", "4 min", "4 min 5 s", "1 h 2 min". */
export function lengthOf(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const [big, small, size] = whole < 3600 ? ["min", "s", 60] : ["h", "min", 3600];
  const rest = Math.floor((whole % size) / (size / 60));
  return `${Math.floor(whole / size)} ${big}${rest ? ` ${rest} ${small}` : ""}`;
}

/** Return a time that is left: "about 20 s left", "about 4 min left · about 14:32, at the latest 14:36". */
export function leftInWords({ seconds, high, finish, latest }, now) {
  if (seconds < 1) return "any moment now";
  if (seconds < 59.5) {
    const most = high !== null && roughly(high) !== roughly(seconds) ? `, at most ${roughly(high)}` : "";
    return `about ${roughly(seconds)} left${most}`;
  }
  const [about, late] = [clockOf(finish, now), latest && clockOf(latest, now)];
  const bound = late && late !== about ? `, at the latest ${late}` : "";
  return `about ${roughly(seconds)} left · about ${about}${bound}`;
}

/** Return when something starts: "starts in about 2 min, at the latest 5 min". */
export function startInWords({ seconds, high, finish }, now) {
  if (seconds < 1) return "starts any moment now";
  const bound = high !== null && roughly(high) !== roughly(seconds) ? `, at the latest ${roughly(high)}` : "";
  const moment = seconds < 3570 ? "" : ` (${clockOf(finish, now)})`;
  return `starts in about ${roughly(seconds)}${bound}${moment}`;
}

/** Return a moment in full, as a title has it. */
export function momentInWords(moment) {
  return format(FULL).format(moment);
}

/** Return how long ago a moment was: "now", "5 min ago"; its date after a week. */
export function agoInWords(moment, now = Date.now()) {
  const seconds = (now - moment) / 1000;
  if (seconds < 5) return "now";
  return seconds < 7 * DAY_SECONDS ? `${roughly(seconds)} ago` : format(DATE).format(moment);
}
