/** `<rt-inbox>`: one's notifications, as a panel or behind a bell. */

import { showText, t, tn } from "../messages.js";
import { RealtimeElement, errorInWords, make } from "./base.js";
import { BELL, PANEL, nodesOf } from "./inbox-markup.js";
import { NotificationRows } from "./inbox-rows.js";
import { renewTimes } from "./inbox-row.js";
import { INBOX_TABS, InboxStore, SNOOZES, isKept } from "./inbox-store.js";
import { INBOX_SHEET } from "./inbox-styles.js";
import { PreferencesForm } from "./preferences-form.js";
import { Tabs } from "./tabs.js";
import { startTicking, stopTicking } from "./ticker.js";

const NOTIFICATIONS = "/api/notifications";
const PAGE_SIZE = 20;
const SEARCH_MS = 200;
// As in the style: here the panel takes the whole screen, and nothing behind it is reached.
const NARROW = matchMedia("(max-width: 30rem)");
const DONE = {
  read: t("Marked as read"),
  unread: t("Marked as unread"),
  archive: t("Archived"),
  unarchive: t("Moved to the inbox"),
  snooze: t("Snoozed"),
  unsnooze: t("Back in the inbox"),
  pin: t("Pinned"),
  unpin: t("Unpinned"),
  delete: t("Deleted"),
};
const NOTHING = { inbox: t("You have read it all."), unread: t("Nothing is unread.") };

/**
 * Shows the inbox with its counts. `label` is its title; with `bell` it is a bell that opens the panel. Its content
 * stands in the foot of the panel. It dispatches `rt-notification`, and `rt-counts` with `{unread, unseen}`.
 */
export class InboxElement extends RealtimeElement {
  static observedAttributes = ["src", "token", "label"];
  static sheets = [INBOX_SHEET];

  #store = new InboxStore();
  #rows;
  #tabs;
  #preferences;
  #loading = new Map();
  #query = "";
  #drawing = 0;
  #searching = 0;
  #undo = null;
  // A notification is another object after each change.
  #toldSeen = new WeakSet();

  get #hasBell() {
    return this.hasAttribute("bell");
  }

  build() {
    const panel = make(this.#hasBell ? "dialog" : "section", { part: "panel", id: "inbox", "aria-labelledby": "inbox-title" });
    panel.append(nodesOf(PANEL));
    const said = make("p", { id: "announcement", className: "sr", role: "status" });
    return [...(this.#hasBell ? [nodesOf(BELL)] : []), panel, said];
  }

  built() {
    this.#rows = new NotificationRows(this.#$("notifications"), (act, id) => this.#do(() => this.#choose(act, id)));
    this.#tabs = new Tabs(this.#$("inbox-tabs"), this.#$("inbox-panel"), INBOX_TABS, () => this.#openTab());
    this.#preferences = new PreferencesForm((id) => this.#$(id), () => this.#$("inbox-title").focus());
    this.#listen();
  }

  follow(client, signal) {
    this.#begin(client);
    document.addEventListener("visibilitychange", () => this.#draw(), { signal });
    if (this.#hasBell) document.addEventListener("pointerdown", (event) => this.#leaveBy(event), { signal });
    // That the connection is closed is told by its state.
    const isTold = () => signal.aborted || client.state === "closed";
    const read = () => this.#read(client, signal).catch((error) => isTold() || this.showFailure(error));
    let isOver = false;
    const begin = () => {
      isOver = false;
      read().finally(() => (isOver = true));
    };
    client.addEventListener("state", ({ detail }) => isOver && detail.state !== "closed" && begin(), { signal });
    begin();
    startTicking(this, () => renewTimes(this.shadowRoot));
    return () => stopTicking(this);
  }

  /** Open or close the panel of the bell. */
  open(isOpen = true) {
    const panel = this.#$("inbox");
    if (!this.#hasBell || panel.open === isOpen) return;
    if (!isOpen) panel.close();
    else if (NARROW.matches) panel.showModal();
    else panel.show();
    this.#$("bell").ariaExpanded = String(isOpen);
    if (isOpen) this.#$("inbox-title").focus();
    this.#draw();
  }

  #$(id) {
    return this.shadowRoot.getElementById(id);
  }

  #begin(client) {
    showText(this.#$("inbox-title"), this.getAttribute("label") || t("Notifications"));
    this.#$("inbox-words").value = this.#query = "";
    this.#store.search("");
    this.#store.clear();
    this.#preferences.begin(client);
    this.#rows.show([]);
    this.#tell("");
    this.#draw();
  }

  /** Take what comes for as long as the client is followed. */
  async #read(client, signal) {
    for await (const event of client.inbox.events({ signal })) {
      if (event.type === "counts" && event.isFirst) this.#store.apply("connected", firstOf(event));
      else if (event.type === "counts") this.#store.count(event);
      else this.#store.apply(event.type, event.notification ?? event, event.id);
      if (event.type === "notification") this.#announce(event.notification);
      if (event.preferences) this.#preferences.apply(event.preferences);
      if (this.#store.restartIfBehind() || event.isFirst || event.type === "resync") this.#do(() => this.#load());
      this.#drawSoon();
    }
  }

  #announce(notification) {
    if (!notification.muted) showText(this.#$("announcement"), t("New notification: {title}", { title: notification.title }));
    this.dispatchEvent(new CustomEvent("rt-notification", { detail: notification, bubbles: true, composed: true }));
  }

  #listen() {
    const on = (id, type, listener) => this.#$(id)?.addEventListener(type, listener);
    on("bell", "click", () => this.open(!this.#$("inbox").open));
    on("inbox-close", "click", () => this.#leave());
    on("inbox", "keydown", (event) => event.key === "Escape" && this.#hasBell && (event.preventDefault(), this.#leave()));
    on("read-all", "click", () => this.#do(() => this.#act("read", { all: true })));
    on("archive-read", "click", () => this.#do(() => this.#act("archive", { filter: { state: "inbox", status: "read" } })));
    on("undo", "click", () => this.#do(() => this.#takeBack()));
    on("toast-close", "click", () => this.#tell(""));
    on("more", "click", () => this.#do(() => this.#load()));
    on("inbox-search", "submit", (event) => {
      event.preventDefault();
      this.#do(() => this.#search());
    });
    on("inbox-words", "input", () => {
      clearTimeout(this.#searching);
      this.#searching = setTimeout(() => this.#do(() => this.#search()), SEARCH_MS);
    });
  }

  #leave() {
    this.open(false);
    this.#$("bell").focus();
  }

  #leaveBy(event) {
    if (this.#$("inbox").open && !event.composedPath().includes(this)) this.open(false);
  }

  /** Do what the user asked for; show what went wrong. */
  async #do(action) {
    showText(this.#$("inbox-error"), "");
    try {
      await action();
    } catch (error) {
      showText(this.#$("inbox-error"), errorInWords(error));
    }
  }

  async #openTab() {
    this.#rows.show([]);
    this.#draw();
    if (!this.#store.isLoaded(this.#tabs.chosen)) await this.#do(() => this.#load());
  }

  async #search() {
    clearTimeout(this.#searching);
    this.#query = this.#$("inbox-words").value.trim();
    this.#store.search(this.#query);
    await this.#load();
  }

  /** Load the next page of the tab; where that has nothing to show, the one after it. */
  async #load() {
    const tab = this.#tabs.chosen;
    do await this.#loadPage(tab);
    while (this.#store.restartIfBehind() || this.#hasOnlyMore(tab));
    this.#draw();
  }

  #hasOnlyMore(tab) {
    return this.#store.next(tab) !== null && !this.#store.list(tab).length;
  }

  /** Load a tab's next page, its first when there is none yet; once at a time. */
  #loadPage(tab) {
    const asked = `${this.#store.generation} ${tab} ${this.#store.next(tab)}`;
    if (!this.#loading.has(asked)) {
      this.#loading.set(asked, this.#askPage(tab).finally(() => this.#loading.delete(asked)));
    }
    return this.#loading.get(asked);
  }

  async #askPage(tab) {
    const { generation } = this.#store;
    const before = this.#store.next(tab) ?? undefined;
    const page = await this.client.inbox.list({ limit: PAGE_SIZE, ...INBOX_TABS[tab].query, before, q: this.#query || undefined });
    if (generation === this.#store.generation) this.#store.take(tab, page);
  }

  async #choose(act, id) {
    const [name, detail] = act.split(":");
    if (name === "menu") return this.#rows.toggleMenu(id);
    if (name === "parts") return this.#rows.parts(id) ? this.#rows.showParts(id, null) : this.#showParts(id);
    if (name === "answer") return this.#answer(id, detail);
    if (name === "follow") return this.#follow(id);
    this.#rows.closeMenu();
    const until = name === "snooze" ? SNOOZES[detail].until(new Date()) : {};
    return this.#act(name, { ids: [id], ...until });
  }

  async #act(verb, what) {
    const { changed, undo } = await this.#ask(verb, what);
    const told = what.ids ? DONE[verb] : t("{done}: {changed}", { done: DONE[verb], changed });
    this.#tell(changed ? told : t("Nothing to change"), undo);
    await this.#changed();
  }

  async #takeBack() {
    const { changed } = await this.#ask("undo", { undo: this.#undo });
    this.#tell(changed ? t("Undone") : t("It was changed since, and stays as it is"));
    await this.#changed();
  }

  async #answer(id, action) {
    await this.client.inbox.answer(id, action);
    await this.#changed();
  }

  /** Note that a user has read what they follow. The page may be left before the server has answered. */
  async #follow(id) {
    if (!INBOX_TABS.unread.has(this.#store.get(id))) return;
    await this.#ask("read", { ids: [id] }, { keepalive: true });
    await this.#changed();
  }

  async #ask(verb, what, options) {
    const done = await this.client.request("POST", `${NOTIFICATIONS}/${verb}`, what, { isHarmless: true, ...options });
    this.#store.count(done);
    return done;
  }

  /** The connection brings what was changed; while it is away the list is asked for. */
  async #changed() {
    this.#draw();
    if (this.client.state === "online") return;
    this.#store.restart();
    await this.#load();
  }

  #tell(text, undo = null) {
    const hadFocus = this.#$("inbox-toast").contains(this.shadowRoot.activeElement);
    this.#undo = undo;
    showText(this.#$("toast-text"), text);
    this.#$("undo").hidden = !undo;
    this.#$("inbox-toast").hidden = !text;
    if (hadFocus) this.#$(text ? "toast-close" : "inbox-title").focus();
  }

  /** Draw once for all messages that have come. */
  #drawSoon() {
    if (!this.#drawing) this.#drawing = setTimeout(() => this.#draw());
  }

  #draw() {
    clearTimeout(this.#drawing);
    this.#drawing = 0;
    this.#drawCounts();
    const tab = this.#tabs.chosen;
    const isLoaded = this.#store.isLoaded(tab);
    this.#$("inbox-panel").ariaBusy = String(!isLoaded);
    // Until then the list stays as it was.
    if (!isLoaded) return;
    const items = this.#store.list(tab);
    this.#rows.show(items);
    showText(this.#$("inbox-empty"), this.#query ? t("No title has these words.") : (NOTHING[tab] ?? t("Nothing here.")));
    this.#$("inbox-empty").hidden = items.length > 0;
    this.#$("more").hidden = this.#store.next(tab) === null;
    this.#tellSeen(items);
    this.#renewParts(items);
  }

  #drawCounts() {
    const { unread, unseen } = this.#store.counts;
    if (this.#hasBell) {
      showText(this.#$("unseen-badge"), unseen);
      this.#$("unseen-badge").hidden = unseen === 0;
      const name = unseen ? tn(unread, "{unseen} new, {n} unread notification", "{unseen} new, {n} unread notifications", { unseen })
        : t("Notifications, {unread} unread", { unread });
      showText(this.#$("bell"), name, "aria-label");
    }
    showText(this.#$("unread-badge"), unread);
    this.#$("unread-badge").hidden = unread === 0;
    showText(this.#$("inbox-count"), t("{unread} unread", { unread }));
    this.#tabs.label("unread", unread ? t("Unread {unread}", { unread }) : t("Unread"));
    this.#$("read-all").disabled = unread === 0;
    this.dispatchEvent(new CustomEvent("rt-counts", { detail: { unread, unseen }, bubbles: true, composed: true }));
  }

  #tellSeen(items) {
    const isShown = !this.#hasBell || this.#$("inbox").open;
    if (!isShown || document.visibilityState !== "visible") return;
    const isNew = (one) => isKept(one) && INBOX_TABS.inbox.has(one) && !one.seen_at && !this.#toldSeen.has(one);
    const unseen = items.filter(isNew);
    if (!unseen.length) return;
    unseen.forEach((one) => this.#toldSeen.add(one));
    this.#do(() => this.#ask("seen", { ids: unseen.map(({ id }) => id) }));
  }

  async #showParts(id) {
    const { count } = this.#store.get(id);
    this.#rows.showParts(id, { count, items: await this.client.inbox.parts(id) });
  }

  /** An open digest that stands for more now shows them too. */
  #renewParts(items) {
    for (const { id, count } of items) {
      const parts = this.#rows.parts(id);
      if (!parts || parts.count === count) continue;
      // It is asked for once.
      parts.count = count;
      this.#do(() => this.#showParts(id));
    }
  }
}

/** Return the first counts of a connection as the message that brought them. */
function firstOf({ unread, unseen, version }) {
  return { recovered: false, unread_count: unread, unseen_count: unseen, version };
}
