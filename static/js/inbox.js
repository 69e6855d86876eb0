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
// Between two that follow each other in a list; far below a millisecond, and above a float's step.
const STEP = 0.001;
const KEPT_GONE = 1000;
const KEPT_BROADCASTS = 20;

/** Whether the server keeps it: a broadcast is everybody's, and kept nowhere. */
export function isKept(one) {
  return Boolean(one.user_id);
}

/**
 * Invariant: a notification's stamp is at least when it took the top of the list, as far as that is
 * known, so that all tabs are in the order of the stamps.
 */
export class Inbox {
  counts = NO_COUNTS;
  /** Rises when what is known is dropped: an answer to an older question is of no use. */
  generation = 0;
  #known = new Map();
  #gone = new Map();
  #pages = new Map();
  #words = [];
  #top = 0;

  /** Forget all: it is another user's. */
  clear() {
    this.#known.clear();
    this.#gone.clear();
    this.counts = NO_COUNTS;
    this.#forgetPages();
  }

  /** Forget all but broadcasts, which no list brings again. */
  restart() {
    const broadcasts = [...this.#known].filter(([, { item }]) => !isKept(item));
    this.clear();
    this.#known = new Map(broadcasts);
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
    if (type === "connected") this.count({ ...data, unread: data.unread_count, unseen: data.unseen_count });
    if (type === "unread_count") this.count(data);
    if (type === "notification") this.#putOnTop(data, version);
    if (type === "changed") this.#change(data, version);
    if (type === "resync") this.restart();
  }

  /** Keep the counts of the highest version. */
  count({ unread, unseen, version }) {
    if (version >= this.counts.version) this.counts = { unread, unseen, version };
  }

  /** Take the next page of a tab. What a message has changed since that answer stays as it is. */
  take(tab, { items, next, ...counts }) {
    const above = this.isLoaded(tab) ? this.list(tab) : [];
    for (const item of items) this.#takeOne(item, counts.version);
    // The place in the list is of no use of those that have gone, or taken the top, since then.
    const below = items.filter(({ id }) => this.#known.get(id)?.made <= counts.version);
    const ids = [...this.#newerThan(counts.version), ...above, ...below].map(({ id }) => id);
    const order = [...new Set(ids)];
    this.#raise(order);
    this.#pages.set(tab, { next, floor: this.#floor(tab, order, next) });
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
    const { floor } = this.#pages.get(tab) ?? { floor: -Infinity };
    return [...this.#known.values()]
      .filter(({ item, stamp }) => stamp >= floor && TABS[tab].has(item) && this.#isSearched(item))
      .sort((a, b) => b.stamp - a.stamp || (b.item.id > a.item.id ? 1 : -1))
      .map(({ item }) => item);
  }

  get(id) {
    return this.#known.get(id)?.item;
  }

  #putOnTop(item, version) {
    this.#put(item, version, Math.max(time(item), this.#top + STEP), version);
    const broadcasts = [...this.#known.values()].filter((one) => !isKept(one.item));
    if (broadcasts.length > KEPT_BROADCASTS) this.#known.delete(broadcasts[0].item.id);
  }

  #change({ items = [], deleted = [] }, version) {
    for (const fields of items) {
      const known = this.#known.get(fields.id) ?? this.#gone.get(fields.id);
      // The state alone says too little of one that was never seen.
      if (!known?.item && !("title" in fields)) continue;
      this.#put({ ...known?.item, ...fields }, version, known?.stamp ?? time(fields), known?.made);
    }
    for (const id of deleted) this.#remove(id, version);
  }

  /** `made` is the version in which it took the top, if that was told. */
  #put(item, version, stamp, made = -1) {
    this.#gone.delete(item.id);
    this.#known.set(item.id, { item, version, stamp, made });
    this.#top = Math.max(this.#top, stamp);
  }

  /** An undo may put it back in its place. */
  #remove(id, version) {
    this.#gone.set(id, { ...this.#known.get(id), version });
    this.#known.delete(id);
    if (this.#gone.size > KEPT_GONE) this.#gone.delete(this.#gone.keys().next().value);
  }

  /** Take one of a list, unless a message was newer. */
  #takeOne(item, version) {
    const known = this.#known.get(item.id) ?? this.#gone.get(item.id);
    if (known?.version >= version) return;
    this.#put(item, known?.version ?? -1, known?.stamp ?? time(item), known?.made);
  }

  /** Return those that took the top after a list was made, the last one first. */
  #newerThan(version) {
    const newer = [...this.#known.values()].filter(({ made }) => made > version);
    return newer.sort((a, b) => b.made - a.made).map(({ item }) => item);
  }

  /** One that came back from a snooze stands above others that were made after it. */
  #raise(order) {
    let below = -Infinity;
    for (const id of order.toReversed()) {
      const one = this.#known.get(id);
      one.stamp = Math.max(one.stamp, below + STEP);
      below = one.stamp;
    }
    this.#top = Math.max(this.#top, below);
  }

  #floor(tab, order, next) {
    if (next === null) return -Infinity;
    // A page may have looked at many and found none: then all that is known below is unsure.
    return this.#known.get(order.at(-1))?.stamp ?? this.#pages.get(tab)?.floor ?? this.#top + STEP;
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
