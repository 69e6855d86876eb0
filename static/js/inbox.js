/** The user's notifications as this page knows them: what came by lists and what came live, in one place. */

const isInInbox = (one) => !one.archived_at && !one.snoozed_until;

/** The tabs: what the server is asked for, and which notifications stand there. */
export const TABS = {
  inbox: { title: "Inbox", query: { state: "inbox" }, has: isInInbox },
  unread: {
    title: "Unread",
    query: { state: "inbox", status: "unread" },
    // A broadcast is kept nowhere, so nobody can mark it read.
    has: (one) => isInInbox(one) && one.status === "unread" && isKept(one),
  },
  pinned: { title: "Pinned", query: { state: "pinned" }, has: (one) => isInInbox(one) && one.pinned },
  snoozed: { title: "Snoozed", query: { state: "snoozed" }, has: (one) => !one.archived_at && !!one.snoozed_until },
  archived: { title: "Archived", query: { state: "archived" }, has: (one) => !!one.archived_at },
};

const NO_COUNTS = { unread: 0, unseen: 0, version: -1 };
// Between two stamps that follow each other; far below a millisecond, and above a float's step.
const STEP = 0.001;
const KEPT_GONE = 1000;
const KEPT_BROADCASTS = 20;

/** Whether the server keeps it: a broadcast is everybody's, and kept nowhere. */
export function isKept(one) {
  return Boolean(one.user_id);
}

/**
 * Each that is known has an entry: `item`; `version`, of the last message about it; `made`, of the one
 * that put it on top; `stamp`; whether it `isGone`: an undo may put it back in its place.
 * Invariant: all tabs are in the order of the stamps. A stamp is when the item was made, or later where
 * it is known to stand above others that were made later: it came back from a snooze.
 */
export class Inbox {
  counts = NO_COUNTS;
  /** Rises when what is known is dropped: an answer to an older question is of no use. */
  generation = 0;
  #known = new Map();
  #gone = new Set();
  #pages = new Map();
  #words = [];
  #top = 0;
  #begin = 0;

  /** Forget all: it is another user's. */
  clear() {
    this.counts = NO_COUNTS;
    this.#begin = this.#top = 0;
    this.#forget();
  }

  /** Forget what was listed, to list it anew; broadcasts stay, which no list brings again. */
  restart() {
    const broadcasts = this.#all().filter(({ item }) => !isKept(item));
    this.#forget();
    for (const { item } of broadcasts) this.#put(item, {});
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
    this.#words = words(text);
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
    if (type === "notification") this.#putOnTop(data, version);
    if (type === "changed") this.#change(data, version);
    if (type === "resync") this.#resync(version);
  }

  /** Keep the counts of the highest version. */
  count({ unread, unseen, version }) {
    if (version >= this.counts.version) this.counts = { unread, unseen, version };
  }

  /** Take the next page of a tab. What a message has changed since that answer stays as it is. */
  take(tab, { items, next, ...counts }) {
    const above = this.isLoaded(tab) ? this.list(tab) : [];
    for (const item of items) this.#takeOne(item, counts.version);
    // Of one that has taken the top since then the place in the list says nothing.
    const below = items.filter(({ id }) => this.#known.get(id).made <= counts.version);
    const ids = new Set([...above, ...below].map(({ id }) => id));
    const order = [...ids].map((id) => this.#known.get(id));
    this.#raise(order);
    this.#pages.set(tab, { next, floor: next === null ? 0 : this.#floor(order), version: counts.version });
    this.count(counts);
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
    return this.#entries(tab).map(({ item }) => item);
  }

  get(id) {
    return this.#known.get(id)?.item;
  }

  #all() {
    return [...this.#known.values()].filter(({ isGone }) => !isGone);
  }

  #entries(tab) {
    const floor = this.#pages.get(tab)?.floor ?? 0;
    return this.#all()
      .filter(({ item, stamp }) => stamp >= floor && TABS[tab].has(item) && this.#isSearched(item))
      .sort(compare);
  }

  #connect({ recovered, version, timestamp, unread_count: unread, unseen_count: unseen }) {
    if (!recovered) {
      this.#begin = version;
      // All that was there before was made before.
      this.#top = Math.max(this.#top, Date.parse(timestamp));
    }
    this.count({ unread, unseen, version });
  }

  /** Another epoch may count from below. */
  #resync(version) {
    this.counts = NO_COUNTS;
    this.#begin = version;
    this.restart();
  }

  #putOnTop(item, version) {
    this.#put(item, { version, made: version, stamp: this.#top + STEP });
    const broadcasts = this.#all().filter((one) => !isKept(one.item));
    if (broadcasts.length > KEPT_BROADCASTS) this.#known.delete(broadcasts[0].item.id);
  }

  #change({ items = [], deleted = [] }, version) {
    for (const fields of items) {
      const item = { ...this.#known.get(fields.id)?.item, ...fields };
      // The state alone says too little of one that was never seen.
      if ("title" in item) this.#put(item, { version });
    }
    for (const id of deleted) this.#remove(id, version);
  }

  /** Note an item, and what else is known of it now. */
  #put(item, news) {
    const known = this.#known.get(item.id) ?? { version: -1, made: -1, stamp: 0 };
    const entry = { ...known, ...news, item, isGone: false };
    entry.stamp = Math.max(entry.stamp, time(item));
    this.#known.set(item.id, entry);
    this.#gone.delete(item.id);
    this.#top = Math.max(this.#top, entry.stamp);
  }

  #remove(id, version) {
    this.#put(this.#known.get(id)?.item ?? { id }, { version });
    this.#known.get(id).isGone = true;
    this.#gone.add(id);
    if (this.#gone.size <= KEPT_GONE) return;
    const [oldest] = this.#gone;
    this.#gone.delete(oldest);
    this.#known.delete(oldest);
  }

  /** Take one of a list, unless a message was newer. */
  #takeOne(item, version) {
    const known = this.#known.get(item.id);
    if (!known || known.version < version) this.#put(item, {});
    // It may have gone before it was ever seen.
    else known.stamp = Math.max(known.stamp, time(item));
  }

  /** Give those of a list stamps in its order. */
  #raise(order) {
    let below = 0;
    for (const entry of order.toReversed()) {
      entry.stamp = Math.max(entry.stamp, below + STEP);
      below = entry.stamp;
    }
    this.#top = Math.max(this.#top, below);
  }

  /** Return down to where a list is known; where many were looked at and none was found, to the top. */
  #floor(order) {
    return order.at(-1)?.stamp ?? this.#top + STEP;
  }

  #forget() {
    this.#known.clear();
    this.#gone.clear();
    this.#forgetPages();
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

/** Order entries, those on top first; of the same time the later id first. */
function compare(a, b) {
  return b.stamp - a.stamp || (b.item.id > a.item.id ? 1 : -1);
}

function words(text) {
  return text.toLowerCase().split(/\s+/).filter(Boolean);
}

/** Return the version in a cursor; a broadcast has none. */
function versionOf(id) {
  return id ? Number(id.slice(id.lastIndexOf("-") + 1)) : -1;
}

function time({ created_at: created }) {
  return Date.parse(created) || 0;
}

/** The times of the menu until which one is put off: their label, and what the server is told. */
export const SNOOZES = {
  hour: { label: "Snooze 1 hour", until: () => ({ seconds: 3600 }) },
  tomorrow: { label: "Snooze until tomorrow", until: (now) => ({ until: morning(now, 1) }) },
  week: { label: "Snooze until next week", until: (now) => ({ until: morning(now, 8 - (now.getDay() || 7)) }) },
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
  const pin = one.pinned ? ["unpin", "Unpin"] : ["pin", "Pin"];
  if (one.archived_at) return [["unarchive", "Move to the inbox"], pin, ["delete", "Delete"]];
  const first = one.snoozed_until
    ? ["unsnooze", "Back to the inbox now"]
    : one.status === "unread" ? ["read", "Mark as read"] : ["unread", "Mark as unread"];
  return [first, ["archive", "Archive"], ...snoozes, pin, ["delete", "Delete"]];
}
