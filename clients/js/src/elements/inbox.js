/** `<rt-inbox>`: one's notifications. */

import { RealtimeElement, make, setAttribute, setText } from "./base.js";

/** Return an address that may be followed: of http or https; null for any other. */
function linkOf(text) {
  try {
    const url = new URL(text, document.baseURI);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

/** Shows the inbox with its counts. `label` is its title. */
export class InboxElement extends RealtimeElement {
  static observedAttributes = ["src", "token", "label"];
  #parts;
  #inbox = null;
  // The row of each notification, and what it was drawn from.
  #rows = new Map();

  build() {
    const title = make("h2", { part: "title", className: "title", id: "title" });
    const badge = make("span", { part: "badge", className: "badge" });
    const readAll = make("button", {
      part: "button", type: "button", text: "Mark all as read", on: { click: () => this.#do(() => this.#inbox.readAll()) },
    });
    const list = make("ul", { part: "items", className: "items", "aria-labelledby": "title", on: { keydown: (event) => this.#move(event) } });
    const empty = make("p", { part: "empty", className: "empty", text: "loading" });
    const more = make("button", { part: "button", className: "more", type: "button", text: "Older ones", on: { click: () => this.#do(() => this.#inbox.more()) } });
    const said = make("span", { className: "sr", "aria-live": "polite" });
    badge.hidden = more.hidden = true;
    readAll.disabled = true;
    this.#parts = { title, badge, readAll, list, empty, more, said };
    return [make("header", { part: "header", children: [title, badge, readAll] }), list, empty, more, said];
  }

  follow(client, signal) {
    const inbox = (this.#inbox = client.inbox);
    setText(this.#parts.title, this.getAttribute("label") || "Notifications");
    inbox.addEventListener("update", () => this.#draw(), { signal });
    inbox.addEventListener("notification", ({ detail }) => this.#announce(detail.notification), { signal });
    inbox.addEventListener("error", ({ detail }) => client.state !== "closed" && this.showFailure(detail), { signal });
    this.#draw();
    // The inbox is shared: other parts of the page may show it too.
    return () => {};
  }

  #announce(notification) {
    if (!notification.muted) setText(this.#parts.said, `New: ${notification.title}`);
    this.dispatchEvent(new CustomEvent("rt-notification", { detail: notification, bubbles: true, composed: true }));
  }

  #draw() {
    const { badge, readAll, list, empty, more } = this.#parts;
    const { counts, items, isLoaded, hasMore } = this.#inbox;
    badge.hidden = !counts.unread;
    setText(badge, String(counts.unread));
    setAttribute(badge, "aria-label", `${counts.unread} unread`);
    readAll.disabled = !counts.unread;
    more.hidden = !hasMore;
    empty.hidden = items.length > 0;
    setText(empty, isLoaded ? "Nothing new." : "loading");
    this.#drawRows(list, items);
  }

  #drawRows(list, items) {
    const focused = this.shadowRoot.activeElement;
    const rows = items.map((item) => this.#rowOf(item));
    const kept = new Set(items.map((item) => item.id));
    for (const id of this.#rows.keys()) if (!kept.has(id)) this.#rows.delete(id);
    const isSame = rows.length === list.children.length && rows.every((row, at) => row === list.children[at]);
    if (isSame) return;
    list.replaceChildren(...rows);
    if (rows.length && !list.querySelector('[tabindex="0"]')) rows[0].tabIndex = 0;
    if (focused?.isConnected) focused.focus();
  }

  #rowOf(item) {
    const known = this.#rows.get(item.id);
    const drawn = JSON.stringify(item);
    if (known?.drawn === drawn) return known.row;
    const row = this.#makeRow(item);
    row.tabIndex = known?.row.tabIndex ?? -1;
    const hadFocus = known && known.row.contains(this.shadowRoot.activeElement);
    known?.row.replaceWith(row);
    if (hadFocus) row.focus();
    this.#rows.set(item.id, { row, drawn });
    return row;
  }

  #makeRow(item) {
    const link = item.link && linkOf(item.link);
    const title = item.count > 1 ? `${item.title} (${item.count})` : item.title;
    const name = link ? make("a", { className: "name", href: link, text: title, on: { click: () => this.#read(item) } }) : make("span", { className: "name", text: title });
    const time = make("time", { datetime: item.created_at, text: new Date(item.created_at).toLocaleString() });
    const children = [make("div", { className: "row", children: [name, time] })];
    if (item.content) children.push(make("p", { className: "content", text: item.content }));
    children.push(make("div", { className: "actions", children: this.#buttonsOf(item) }));
    const row = make("li", { part: `item ${item.status} ${item.severity}`, "data-status": item.status, "data-severity": item.severity, children });
    row.dataset.id = item.id;
    return row;
  }

  #buttonsOf(item) {
    const verb = (text, action) => make("button", { part: "button", type: "button", text, "aria-label": `${text}: ${item.title}`, on: { click: () => this.#do(action) } });
    const answers = (item.answered ? [] : (item.actions ?? [])).map(({ id, label, link }) => {
      const href = link && linkOf(link);
      if (href) return make("a", { part: "action", href, text: label });
      return verb(label, () => this.#inbox.answer(item.id, id));
    });
    const read = item.status === "unread" ? verb("Mark as read", () => this.#inbox.read(item.id)) : verb("Mark as unread", () => this.#inbox.unread(item.id));
    return [...answers, read, verb("Archive", () => this.#inbox.archive(item.id))];
  }

  #read(item) {
    if (item.status === "unread") this.#do(() => this.#inbox.read(item.id));
  }

  async #do(action) {
    try {
      await action();
      this.showError(null);
    } catch (error) {
      this.showError(error);
    }
  }

  /** Move through the rows by the arrow keys; Enter opens, e archives. */
  #move(event) {
    const rows = [...this.#parts.list.children];
    const at = rows.indexOf(event.target.closest?.("li"));
    const steps = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 };
    if (event.key in steps) {
      const next = rows[Math.min(Math.max(steps[event.key], 0), rows.length - 1)];
      event.preventDefault();
      for (const row of rows) row.tabIndex = row === next ? 0 : -1;
      next?.focus();
    } else if (event.target === rows[at] && event.key === "Enter") rows[at].querySelector("a, button")?.click();
    else if (event.target === rows[at] && event.key === "e") this.#do(() => this.#inbox.archive(rows[at].dataset.id));
  }
}
