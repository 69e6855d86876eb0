/** Custom elements over the JavaScript client of tornado_rt. Their source, in parts, is clients/js/src/elements. */

import { Client } from "./rt-client.js";

/**
 * The look of the elements. Each colour and size is a custom property, which a page may set. They are light or
 * dark as the `color-scheme` of the page is.
 */

const SHEET = `
:host {
  --_text: var(--rt-text, light-dark(#1c2024, #e8eaed));
  --_muted: var(--rt-muted, light-dark(#5b6370, #a4abb6));
  --_surface: var(--rt-surface, light-dark(#ffffff, #1b1e23));
  --_line: var(--rt-line, light-dark(#d9dde3, #3a404a));
  --_track: var(--rt-track, light-dark(#e6e9ee, #2b3038));
  --_accent: var(--rt-accent, light-dark(#1a5fd0, #7db0ff));
  --_on-accent: var(--rt-on-accent, light-dark(#ffffff, #10141a));
  --_good: var(--rt-good, light-dark(#1a7a3c, #67d391));
  --_bad: var(--rt-bad, light-dark(#b3261e, #ff9b93));
  --_warn: var(--rt-warn, light-dark(#8a5a00, #ffcc66));
  --_radius: var(--rt-radius, 8px);
  --_gap: var(--rt-gap, 12px);
  display: block;
  color: var(--_text);
  background: var(--_surface);
  border: 1px solid var(--_line);
  border-radius: var(--_radius);
  padding: var(--_gap);
  font: var(--rt-font, 15px/1.45 system-ui, sans-serif);
  overflow-wrap: anywhere;
}
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; }
p, ul { margin: 0; padding: 0; }
ul { list-style: none; }
header { display: flex; flex-wrap: wrap; gap: 4px var(--_gap); align-items: baseline; }
.title { font-weight: 600; flex: 1 1 8em; margin: 0; font-size: inherit; }
.status, .detail, .empty, time { color: var(--_muted); font-size: 0.87em; }
.status[data-status="completed"] { color: var(--_good); }
.status[data-status="failed"], .status[data-status="dead"], .error { color: var(--_bad); }
.status[data-status="partial"], .notice { color: var(--_warn); }
.notice, .error { font-size: 0.87em; margin-top: 6px; }
.bar { height: 8px; margin: 8px 0 6px; border-radius: 4px; background: var(--_track); overflow: hidden; }
.fill { height: 100%; width: 0; border-radius: inherit; background: var(--_accent); transition: width 0.25s ease-out; }
.bar[data-status="completed"] .fill { background: var(--_good); }
.bar[data-status="failed"] .fill, .bar[data-status="dead"] .fill { background: var(--_bad); }
.bar.unknown .fill { width: 35%; animation: slide 1.4s ease-in-out infinite; }
@keyframes slide { from { translate: -100% 0; } to { translate: 300% 0; } }
.row { display: flex; flex-wrap: wrap; gap: 4px var(--_gap); align-items: center; }
.row > .detail { flex: 1 1 8em; }
button, .actions a {
  font: inherit; font-size: 0.87em; color: var(--_accent); background: none; cursor: pointer;
  border: 1px solid var(--_line); border-radius: calc(var(--_radius) - 2px); padding: 4px 10px; min-height: 32px;
}
.actions a { text-decoration: none; display: inline-flex; align-items: center; }
.more { margin-top: 8px; }
:host([state="error"]) .bar { display: none; }
button:hover, .actions a:hover { border-color: var(--_accent); }
button:disabled { color: var(--_muted); cursor: default; border-color: var(--_line); }
button:focus-visible, a:focus-visible, li:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; }
.badge {
  min-width: 1.6em; padding: 0 6px; border-radius: 1em; text-align: center; font-size: 0.8em; font-weight: 600;
  background: var(--_accent); color: var(--_on-accent);
}
.items { margin-top: 8px; max-height: var(--rt-inbox-height, 28rem); overflow-y: auto; }
li { padding: 10px 8px 10px 14px; border-top: 1px solid var(--_line); position: relative; }
li[data-status="unread"]::before {
  content: ""; position: absolute; left: 0; top: 1.05em; width: 7px; height: 7px; border-radius: 50%; background: var(--_accent);
}
li[data-status="unread"] .name { font-weight: 600; }
li .name { color: inherit; }
li .actions { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 6px; }
.content { white-space: pre-line; color: var(--_muted); font-size: 0.93em; }
.name { flex: 1 1 14em; }
.sr { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@media (prefers-reduced-motion: reduce) {
  .fill { transition: none; }
  .bar.unknown .fill { animation: none; width: 100%; opacity: 0.4; }
}
@media (forced-colors: active) {
  .bar { border: 1px solid CanvasText; }
  .fill { background: Highlight; forced-color-adjust: none; }
}
`;

let sheet = null;

/** Return the style sheet, made once. One that a script has made is allowed by any policy of contents. */
function styleSheet() {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(SHEET);
  }
  return sheet;
}

/** What all elements share: which client they use, and how they are drawn. */


/**
 * Make an element. `part` names it for ::part of a page's style sheets, `text` is set as text: nothing that
 * comes from the server is ever read as HTML.
 */
function make(tag, { part, text, children = [], on = {}, ...attributes } = {}) {
  const element = document.createElement(tag);
  if (part) element.setAttribute("part", part);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name === "className" ? "class" : name, value);
  for (const [type, listener] of Object.entries(on)) element.addEventListener(type, listener);
  element.append(...children);
  return element;
}

/** Set a text if it is another one, so that a reader of screens is not told the same again. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set or remove an attribute. */
function setAttribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

// The clients of `src` and `token`, and how many elements use each.
const clients = new Map();

function sharedClient(src, token) {
  const key = JSON.stringify([src, token]);
  const entry = clients.get(key) ?? { client: new Client(src || undefined, { token: token || undefined }), users: 0 };
  clients.set(key, entry);
  entry.users += 1;
  const release = () => {
    entry.users -= 1;
    if (entry.users) return;
    clients.delete(key);
    entry.client.close();
  };
  return { client: entry.client, release };
}

const OFFLINE = "Offline. This comes back by itself.";

/**
 * An element that shows a topic. Its client is the property `client`, else that of the attributes `src` and
 * `token` (all elements with the same ones share it), else `Client.default` as soon as there is one.
 */
class RealtimeElement extends HTMLElement {
  #client = null;
  #given = null;
  #release = null;
  #ending = null;
  #used = 0;
  #notice = make("p", { part: "notice", className: "notice", role: "status" });

  get client() {
    return this.#client ?? this.#given;
  }

  set client(client) {
    this.#given = client;
    if (this.isConnected) this.restart();
  }

  /** Return the nodes of the shadow root. */
  build() {
    return [];
  }

  /** Follow what is shown; listeners end with `signal`. Return what ends the rest. */
  follow() {
    return () => {};
  }

  connectedCallback() {
    if (!this.shadowRoot) this.#draw();
    // A property that was set before the element was defined hides the accessor.
    if (Object.hasOwn(this, "client")) {
      const { client } = this;
      delete this.client;
      this.#given = client;
    }
    this.restart();
  }

  disconnectedCallback() {
    this.#stop();
  }

  attributeChangedCallback(_, before, after) {
    if (before !== after && this.isConnected) this.restart();
  }

  /** Follow anew: another client, or another topic. */
  restart() {
    this.#stop();
    const used = this.#used;
    if (this.#given) this.#use(this.#given);
    else if (this.hasAttribute("src") || this.hasAttribute("token")) this.#useOwn();
    else Client.whenDefault().then((client) => used === this.#used && this.#use(client));
  }

  /** Show why a verb failed; null: no more. */
  showError(error) {
    this.#say(error ? messageOfError(error) : "", "error");
  }

  /** Show why nothing can be shown. */
  showFailure(error) {
    this.setAttribute("state", "error");
    this.showError(error);
  }

  #draw() {
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [styleSheet()];
    this.#notice.hidden = true;
    root.append(...this.build(), this.#notice);
  }

  #useOwn() {
    try {
      const { client, release } = sharedClient(this.getAttribute("src"), this.getAttribute("token"));
      this.#release = release;
      this.#use(client);
    } catch (error) {
      this.showFailure(error);
    }
  }

  #use(client) {
    this.#client = client;
    const ending = new AbortController();
    client.addEventListener("state", () => this.#showState(), { signal: ending.signal });
    try {
      const end = this.follow(client, ending.signal);
      this.#ending = () => {
        ending.abort();
        end();
      };
      this.#showState();
    } catch (error) {
      ending.abort();
      this.showFailure(error);
    }
  }

  #stop() {
    this.#used += 1;
    this.#ending?.();
    this.#release?.();
    this.#ending = this.#release = this.#client = null;
    this.#say("", "notice");
  }

  #showState() {
    const { state, reason } = this.#client.status;
    if (this.getAttribute("state") === "error" && state !== "online") return;
    this.setAttribute("state", state);
    if (state === "offline") this.#say(OFFLINE, "notice");
    else if (state === "closed") this.#say(`Not connected: ${reason}`, "error");
    else if (state === "online") this.#say("", "notice");
  }

  #say(text, className) {
    this.#notice.className = className;
    this.#notice.hidden = !text;
    setText(this.#notice, text);
  }
}

function messageOfError(error) {
  return error.detail || error.title || error.message || String(error);
}

/** `<rt-task task-id>` and `<rt-batch batch-id>`: how far something has come. */


const ENDED = new Set(["completed", "failed", "cancelled", "dead", "partial"]);
const AGAIN = new Set(["failed", "cancelled", "dead"]);

/** Return a time that is left in words. */
function leftOf(seconds) {
  if (typeof seconds !== "number") return "";
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s left`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min left` : `${(seconds / 3600).toFixed(1)} h left`;
}

/** The base of both: a title, a status, a bar, a line of words and a button. */
class ProgressElement extends RealtimeElement {
  #parts;
  #watched = null;
  #status = null;

  build() {
    const fill = make("div", { part: "fill", className: "fill" });
    const bar = make("div", {
      part: "bar", className: "bar unknown", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, children: [fill],
    });
    const title = make("p", { part: "title", className: "title", id: "title" });
    const status = make("span", { part: "status", className: "status", text: "loading" });
    const detail = make("span", { part: "detail", className: "detail" });
    const said = make("span", { className: "sr", "aria-live": "polite" });
    const button = make("button", { part: "button", type: "button", on: { click: () => this.#act() } });
    button.hidden = true;
    bar.setAttribute("aria-labelledby", "title");
    this.#parts = { fill, bar, title, status, detail, said, button };
    const row = make("div", { className: "row", children: [detail, button] });
    return [make("header", { part: "header", children: [title, status] }), bar, row, said];
  }

  /** Return what is watched. */
  watched() {
    throw new TypeError("each element watches something");
  }

  follow(client, signal) {
    this.#reset();
    const watched = (this.#watched = this.watched(client));
    watched.addEventListener("progress", ({ detail }) => this.#show(detail.snapshot), { signal });
    watched.addEventListener("finished", ({ detail }) => this.#finish(detail), { signal });
    watched.addEventListener("error", ({ detail }) => client.state !== "closed" && this.#fail(detail), { signal });
    return () => watched.close();
  }

  #fail(error) {
    const { title, status } = this.#parts;
    setText(title, title.textContent || this.watchedId);
    setText(status, error.status === 404 ? "not found" : "error");
    this.showFailure(error);
  }

  #reset() {
    const { bar, fill, title, status, detail, button } = this.#parts;
    bar.className = "bar unknown";
    setAttribute(bar, "aria-valuenow", null);
    fill.style.width = "";
    setText(title, this.title || this.getAttribute("label") || "");
    setText(status, "loading");
    setText(detail, "");
    button.hidden = true;
    this.removeAttribute("state");
  }

  #show(snapshot) {
    const { title, bar, fill, detail } = this.#parts;
    const percent = Math.round(snapshot.progress ?? 0);
    const name = this.getAttribute("label") || snapshot.label || snapshot.kind || "";
    setText(title, name);
    bar.classList.toggle("unknown", snapshot.status === "processing" && percent === 0);
    fill.style.width = `${percent}%`;
    setAttribute(bar, "aria-valuenow", percent);
    const words = this.words(snapshot, ENDED.has(snapshot.status));
    setText(detail, words);
    setAttribute(bar, "aria-valuetext", [`${percent} %`, words].filter(Boolean).join(", "));
    this.#setStatus(snapshot.status);
    this.#tell("rt-progress", snapshot);
  }

  #finish({ status, error, result }) {
    this.#setStatus(status);
    if (error) setText(this.#parts.detail, error);
    const { title, said } = this.#parts;
    setText(said, `${title.textContent}: ${status}`);
    this.#tell("rt-finished", { status, error, result });
  }

  #setStatus(status) {
    const { status: shown, bar, button } = this.#parts;
    this.#status = status;
    setText(shown, status);
    for (const part of [shown, bar]) setAttribute(part, "data-status", status);
    const verb = this.verbFor(status);
    button.hidden = !verb || this.hasAttribute("readonly");
    setText(button, verb ?? "");
    button.disabled = false;
  }

  verbFor(status) {
    if (!ENDED.has(status)) return "Cancel";
    return AGAIN.has(status) ? "Run again" : null;
  }

  async #act() {
    const { button } = this.#parts;
    button.disabled = true;
    try {
      await (ENDED.has(this.#status) ? this.#watched.retry() : this.#watched.cancel());
      this.showError(null);
    } catch (error) {
      button.disabled = false;
      this.showError(error);
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}

/** Shows a task. `label` is its title in place of its own, `readonly` takes the button away. */
class TaskElement extends ProgressElement {
  static observedAttributes = ["task-id", "src", "token", "label"];

  get watchedId() {
    return this.getAttribute("task-id") ?? "";
  }

  watched(client) {
    return client.task(this.watchedId);
  }

  words(snapshot, hasEnded) {
    const { status, position, message, current_step_name: step, done, total, unit } = snapshot;
    if (status === "queued" && position) return `number ${position} in the line`;
    const counted = total ? `${done} of ${total}${unit ? ` ${unit}` : ""}` : "";
    const left = hasEnded ? "" : leftOf(snapshot.remaining_time);
    return [message || step, counted, left].filter(Boolean).join(" · ");
  }
}

/** Shows a batch, by how many of its tasks have ended. */
class BatchElement extends ProgressElement {
  static observedAttributes = ["batch-id", "src", "token", "label"];

  get watchedId() {
    return this.getAttribute("batch-id") ?? "";
  }

  watched(client) {
    return client.batch(this.watchedId);
  }

  words({ total, completed, failed, dead, cancelled }) {
    const bad = (failed ?? 0) + (dead ?? 0);
    const told = [`${completed} of ${total} completed`, bad && `${bad} failed`, cancelled && `${cancelled} cancelled`];
    return told.filter(Boolean).join(" · ");
  }

  verbFor(status) {
    return status === "partial" ? "Run again" : super.verbFor(status);
  }
}

/** `<rt-inbox>`: one's notifications. */


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
class InboxElement extends RealtimeElement {
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

for (const [name, element] of [["rt-task", TaskElement], ["rt-batch", BatchElement], ["rt-inbox", InboxElement]]) {
  // A page may load the module twice, by two addresses.
  if (!customElements.get(name)) customElements.define(name, element);
}

export { BatchElement, InboxElement, TaskElement };
