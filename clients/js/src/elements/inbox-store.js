/** The user's notifications as an element knows them: what came by lists and what came live, in one place. */

import { t } from "../messages.js";

const isInInbox = (one) => !one.archived_at && !one.snoozed_until;

/** The tabs: what the server is asked for, and which notifications stand there. */
export const INBOX_TABS = {
  inbox: { title: t("Inbox"), query: { state: "inbox" }, has: isInInbox },
  unread: {
    title: t("Unread"),
    query: { state: "inbox", status: "unread" },
    // A broadcast is kept nowhere, so nobody can mark it read.
    has: (one) => isInInbox(one) && one.status === "unread" && isKept(one),
  },
  pinned: { title: t("Pinned"), query: { state: "pinned" }, has: (one) => isInInbox(one) && one.pinned },
  snoozed: { title: t("Snoozed"), query: { state: "snoozed" }, has: (one) => !one.archived_at && !!one.snoozed_until },
  archived: { title: t("Archived"), query: { state: "archived" }, has: (one) => !!one.archived_at },
};

const NO_COUNTS = { unread: 0, unseen: 0, version: -1 };
const KEPT_VERSIONS = 5000;
const KEPT_BROADCASTS = 20;

/** Whether the server keeps it: a broadcast is everybody's, and kept nowhere. */
export function isKept(one) {
  return Boolean(one.user_id);
}

/**
 * Every tab is in the order of `seq`, the highest first. An event replaces what is known of its
 * notifications; a list does so unless an event of its version or a later one came before it.
 */
export class InboxStore {
  counts = NO_COUNTS;
  /** Rises when what is known is dropped: an answer to an older question is of no use. */
  generation = 0;
  #known = new Map();
  /** The version of the last event about each id, also of those that are gone. */
  #versions = new Map();
  #pages = new Map();
  #words = [];
  #top = 0;
  #begin = 0;

  /** Forget all: it is another user's. */
  clear() {
    this.#known.clear();
    this.#top = 0;
    this.#begin = 0;
    this.counts = NO_COUNTS;
    this.restart();
  }

  /** Forget what was listed, to list it anew; broadcasts stay, which no list brings again. */
  restart() {
    this.#known = new Map(this.#broadcasts().map((one) => [one.id, one]));
    this.#versions.clear();
    this.#forgetPages();
  }

  /** Restart if a list is older than where the messages begin: something may be between them. */
  restartIfBehind() {
    const isBehind = [...this.#pages.values()].some(({ version }) => version < this.#begin);
    if (!isBehind) return false;
    this.#begin = 0;
    this.restart();
    return true;
  }

  /** Look for words that must all stand in the title, in any order and case. */
  search(text) {
    this.#words = wordsOf(text);
    this.#forgetPages();
  }

  /**
   * Take a message of the server.
   * @param {string} type
   * @param {object} data
   * @param {string} [id] its cursor, `epoch-version`
   */
  apply(type, data, id) {
    const version = versionOf(id);
    if (type === "connected") this.#connect(data);
    if (type === "unread_count") this.count(data);
    if (type === "notification") this.#put(isKept(data) ? data : this.#placed(data), version);
    if (type === "changed") this.#change(data, version);
    if (type === "resync") this.#resync(version);
  }

  /** Keep the counts of the highest version. */
  count({ unread, unseen, version }) {
    if (version >= this.counts.version) this.counts = { unread, unseen, version };
  }

  /** Take the next page of a tab. Changes by events since that answer stay. */
  take(tab, { items, next, ...counts }) {
    for (const item of items) {
      if (!(this.#versions.get(item.id) >= counts.version)) this.#keep(item);
    }
    for (const one of this.#broadcasts()) one.seq = Math.min(one.seq, this.#above());
    this.#pages.set(tab, { next, floor: this.#floor(tab, items, next), version: counts.version });
    this.count(/** @type {any} */ (counts));
  }

  isLoaded(tab) {
    return this.#pages.has(tab);
  }

  /** Return where the next page of a tab begins; null: there is none. */
  next(tab) {
    return this.#pages.get(tab)?.next ?? null;
  }

  /** Return what stands in a tab, the newest first, down to where it was loaded. */
  list(tab) {
    const floor = this.#pages.get(tab)?.floor ?? 0;
    // Broadcasts may have the same place: the later one stands above.
    return [...this.#known.values()].reverse()
      .filter((one) => one.seq >= floor && INBOX_TABS[tab].has(one) && this.#isSearched(one))
      .sort((a, b) => b.seq - a.seq);
  }

  get(id) {
    return this.#known.get(id);
  }

  #broadcasts() {
    return [...this.#known.values()].filter((one) => !isKept(one));
  }

  #connect({ recovered, version, unread_count: unread, unseen_count: unseen }) {
    if (!recovered) this.#begin = version;
    this.count({ unread, unseen, version });
  }

  /** Another epoch may count from below. */
  #resync(version) {
    this.counts = NO_COUNTS;
    this.#begin = version;
    this.restart();
  }

  #change({ items = [], deleted = [] }, version) {
    for (const item of items) this.#put(item, version);
    for (const id of deleted) {
      this.#known.delete(id);
      this.#note(id, version);
    }
  }

  #put(item, version) {
    this.#keep(item);
    this.#note(item.id, version);
  }

  #keep(item) {
    this.#known.set(item.id, item);
    if (isKept(item)) this.#top = Math.max(this.#top, item.seq);
  }

  /** Give a broadcast, which has no place, the one above what there is when it comes. */
  #placed(broadcast) {
    const others = this.#broadcasts();
    if (others.length === KEPT_BROADCASTS) this.#known.delete(others[0].id);
    return { ...broadcast, seq: this.#above() };
  }

  /** Return a place between the top and the next one; above all while the top is not known. */
  #above() {
    return this.#top ? this.#top + 0.5 : Infinity;
  }

  #note(id, version) {
    this.#versions.delete(id);
    this.#versions.set(id, version);
    if (this.#versions.size <= KEPT_VERSIONS) return;
    const [oldest] = this.#versions.keys();
    this.#versions.delete(oldest);
  }

  /** Return down to where a tab is known; where a page has found none, as far as before. */
  #floor(tab, items, next) {
    if (next === null) return 0;
    return items.at(-1)?.seq ?? this.#pages.get(tab)?.floor ?? this.#top;
  }

  #forgetPages() {
    this.generation += 1;
    this.#pages.clear();
  }

  #isSearched({ title }) {
    const folded = title.toLowerCase();
    return this.#words.every((word) => folded.includes(word));
  }
}

function wordsOf(text) {
  return text.toLowerCase().split(/\s+/).filter(Boolean);
}

/** Return the version in a cursor; a broadcast has none. */
function versionOf(id) {
  return id ? Number(id.slice(id.lastIndexOf("-") + 1)) : -1;
}

/** The times of the menu until which one is put off: their label, and what the server is told. */
export const SNOOZES = {
  hour: { label: t("Snooze 1 hour"), until: () => ({ seconds: 3600 }) },
  tomorrow: { label: t("Snooze until tomorrow"), until: (now) => ({ until: morning(now, 1) }) },
  week: { label: t("Snooze until next week"), until: (now) => ({ until: morning(now, 8 - (now.getDay() || 7)) }) },
};

/** Return nine o'clock by the user's own clock, some days from now. */
function morning(now, days) {
  return new Date(now.getFullYear(), now.getMonth(), now.getDate() + days, 9).toISOString();
}

// A path leads nowhere else than to where it stands; no name ends in this.
const HERE = "https://here.invalid";

/** Return an address that may be followed or shown: a path here, or one of these; "" for others. */
export function webAddress(text, protocols = ["http:", "https:"]) {
  if (typeof text !== "string") return "";
  const isPath = text.startsWith("/");
  if (!URL.canParse(text, isPath ? HERE : undefined)) return "";
  const { origin, protocol } = new URL(text, isPath ? HERE : undefined);
  return (isPath ? origin === HERE : protocols.includes(protocol)) ? text : "";
}

/** Return what a user may do with one now: a verb, with how long to snooze behind a colon, and its label. */
export function verbsOf(one) {
  const snoozes = Object.entries(SNOOZES).map(([name, { label }]) => [`snooze:${name}`, label]);
  const pin = one.pinned ? ["unpin", t("Unpin")] : ["pin", t("Pin")];
  if (one.archived_at) return [["unarchive", t("Move to the inbox")], pin, ["delete", t("Delete")]];
  const first = one.snoozed_until
    ? ["unsnooze", t("Back to the inbox now")]
    : one.status === "unread" ? ["read", t("Mark as read")] : ["unread", t("Mark as unread")];
  return [first, ["archive", t("Archive")], ...snoozes, pin, ["delete", t("Delete")]];
}
