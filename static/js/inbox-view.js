/** The inbox: its badge, its panel with the tabs, and what the user does there. */

import { $ } from "./dom.js";
import { Inbox, SNOOZES, TABS, isKept } from "./inbox.js";
import { InboxCommands } from "./inbox-commands.js";
import { NotificationList } from "./inbox-list.js";
import { PreferencesView } from "./preferences-view.js";
import { Tabs } from "./tabs.js";

const SEARCH_MS = 200;
// As in the style: here the panel takes the whole screen.
const NARROW = matchMedia("(max-width: 30rem)");
const DONE = {
  read: "Marked as read",
  unread: "Marked as unread",
  archive: "Archived",
  unarchive: "Moved to the inbox",
  snooze: "Snoozed",
  unsnooze: "Back in the inbox",
  pin: "Pinned",
  unpin: "Unpinned",
  delete: "Deleted",
};

export class InboxView {
  /** Whether the socket brings changes just now. */
  isLive = false;
  #inbox = new Inbox();
  #commands;
  #list;
  #tabs;
  #preferences;
  #drawing = 0;
  #searching = 0;
  #undo = null;
  // A notification is another object after each change.
  #toldSeen = new WeakSet();

  constructor(api) {
    this.#commands = new InboxCommands(api, this.#inbox);
    this.#list = new NotificationList($("notifications"), (act, id) => this.#do(() => this.#choose(act, id)));
    this.#tabs = new Tabs($("inbox-tabs"), $("inbox-panel"), TABS, () => this.#openTab());
    this.#preferences = new PreferencesView(api);
    this.#listen();
  }

  /** Begin with what the server has of the user who is signed in. */
  async enter() {
    this.clear();
    await this.#load();
  }

  clear() {
    $("inbox-words").value = "";
    this.#commands.search("");
    this.#inbox.clear();
    this.#preferences.clear();
    this.#list.show([]);
    this.#tell("");
    this.#draw();
  }

  /** Take a message of the server. */
  apply(type, data, id) {
    this.#inbox.apply(type, data, id);
    if (type === "notification") $("announcement").textContent = `New notification: ${data.title}`;
    if (type === "changed" && data.preferences) this.#preferences.apply(data.preferences);
    if (this.#inbox.restartIfBehind() || type === "resync") this.#do(() => this.#load());
    this.#drawSoon();
  }

  #listen() {
    $("bell").addEventListener("click", () => this.#open($("inbox").hidden));
    $("inbox-close").addEventListener("click", () => this.#open(false));
    $("inbox").addEventListener("keydown", ({ key }) => key === "Escape" && this.#open(false));
    $("read-all").addEventListener("click", () => this.#do(() => this.#act("read", { all: true })));
    $("archive-read").addEventListener("click", () =>
      this.#do(() => this.#act("archive", { filter: { state: "inbox", status: "read" } })));
    $("undo").addEventListener("click", () => this.#do(() => this.#takeBack()));
    $("toast-close").addEventListener("click", () => this.#closeToast());
    $("more").addEventListener("click", () => this.#do(() => this.#load()));
    $("inbox-search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#do(() => this.#search());
    });
    $("inbox-words").addEventListener("input", () => {
      clearTimeout(this.#searching);
      this.#searching = setTimeout(() => this.#do(() => this.#search()), SEARCH_MS);
    });
    document.addEventListener("visibilitychange", () => this.#draw());
    NARROW.addEventListener("change", () => this.#cover());
  }

  /** Do what the user asked for; show what went wrong. */
  async #do(action) {
    $("inbox-error").textContent = "";
    try {
      await action();
    } catch (error) {
      $("inbox-error").textContent = error.message;
    }
  }

  #open(isOpen) {
    $("inbox").hidden = !isOpen;
    $("bell").ariaExpanded = String(isOpen);
    this.#cover();
    $(isOpen ? "inbox-title" : "bell").focus();
    this.#draw();
  }

  /** What the panel covers is not reached by Tab. */
  #cover() {
    const isCovered = NARROW.matches && !$("inbox").hidden;
    for (const id of ["main", "login-form", "bell"]) $(id).inert = isCovered;
  }

  async #openTab() {
    this.#list.show([]);
    this.#draw();
    if (!this.#inbox.isLoaded(this.#tabs.chosen)) await this.#do(() => this.#load());
  }

  async #search() {
    clearTimeout(this.#searching);
    this.#commands.search($("inbox-words").value);
    await this.#load();
  }

  /** Load the next page of the tab; where that has nothing to show, the one after it. */
  async #load() {
    const tab = this.#tabs.chosen;
    do await this.#commands.load(tab);
    while (this.#inbox.restartIfBehind() || this.#hasOnlyMore(tab));
    this.#draw();
  }

  #hasOnlyMore(tab) {
    return this.#inbox.next(tab) !== null && !this.#inbox.list(tab).length;
  }

  async #choose(act, id) {
    const [name, detail] = act.split(":");
    if (name === "menu") return this.#list.toggleMenu(id);
    if (name === "parts") return this.#list.parts(id) ? this.#list.showParts(id, null) : this.#showParts(id);
    if (name === "answer") return this.#answer(id, detail);
    if (name === "follow") return this.#follow(id);
    this.#list.closeMenu();
    const until = name === "snooze" ? SNOOZES[detail].until(new Date()) : {};
    return this.#act(name, { ids: [id], ...until });
  }

  async #act(verb, what) {
    const { changed, undo } = await this.#commands.act(verb, what);
    const told = what.ids ? DONE[verb] : `${DONE[verb]}: ${changed}`;
    this.#tell(changed ? told : "Nothing to change", undo);
    await this.#changed();
  }

  async #takeBack() {
    const { changed } = await this.#commands.undo(this.#undo);
    this.#tell(changed ? "Undone" : "It was changed since, and stays as it is");
    await this.#changed();
  }

  async #answer(id, action) {
    await this.#commands.answer(id, action);
    await this.#changed();
  }

  /** Who follows a link has read what it is about. The page may be left before the server has answered. */
  async #follow(id) {
    if (!TABS.unread.has(this.#inbox.get(id))) return;
    await this.#commands.act("read", { ids: [id] }, { keepalive: true });
    await this.#changed();
  }

  /** The socket brings what was changed; while it is away the list is asked for. */
  async #changed() {
    this.#draw();
    if (this.isLive) return;
    this.#inbox.restart();
    await this.#load();
  }

  #tell(text, undo = null) {
    const hadFocus = $("inbox-toast").contains(document.activeElement);
    this.#undo = undo;
    $("toast-text").textContent = text;
    $("undo").hidden = !undo;
    $("inbox-toast").hidden = !text;
    if (hadFocus) $(text ? "toast-close" : "inbox-title").focus();
  }

  #closeToast() {
    this.#tell("");
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
    const isLoaded = this.#inbox.isLoaded(tab);
    $("inbox-panel").ariaBusy = String(!isLoaded);
    // Until then the list stays as it was.
    if (!isLoaded) return;
    const items = this.#inbox.list(tab);
    this.#list.show(items);
    $("inbox-empty").hidden = items.length > 0;
    $("more").hidden = this.#inbox.next(tab) === null;
    this.#tellSeen(items);
    this.#renewParts(items);
  }

  #drawCounts() {
    const { unread, unseen } = this.#inbox.counts;
    const badge = $("unseen-badge");
    badge.textContent = String(unseen);
    badge.hidden = unseen === 0;
    $("bell").ariaLabel = `Notifications, ${unseen} new, ${unread} unread`;
    setText($("inbox-count"), `${unread} unread`);
    this.#tabs.label("unread", unread ? `Unread ${unread}` : "Unread");
    $("read-all").disabled = unread === 0;
    document.title = unseen ? `(${unseen}) tornado_rt` : "tornado_rt";
  }

  #tellSeen(items) {
    if ($("inbox").hidden || document.visibilityState !== "visible") return;
    const isNew = (one) => isKept(one) && TABS.inbox.has(one) && !one.seen_at && !this.#toldSeen.has(one);
    const unseen = items.filter(isNew);
    if (!unseen.length) return;
    unseen.forEach((one) => this.#toldSeen.add(one));
    this.#do(() => this.#commands.act("seen", { ids: unseen.map(({ id }) => id) }));
  }

  async #showParts(id) {
    const { count } = this.#inbox.get(id);
    this.#list.showParts(id, { count, items: await this.#commands.parts(id) });
  }

  /** An open digest that stands for more now shows them too. */
  #renewParts(items) {
    for (const { id, count } of items) {
      const parts = this.#list.parts(id);
      if (!parts || parts.count === count) continue;
      // It is asked for once.
      parts.count = count;
      this.#do(() => this.#showParts(id));
    }
  }
}

/** What does not change is not read out again. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
