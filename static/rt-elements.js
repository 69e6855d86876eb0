// @ts-nocheck

/** Custom elements over the JavaScript client of tornado_rt. Their source, in parts, is clients/js/src/elements. */

import { Client, ConnectionLost, ageOf, startsIn, timeLeft } from "./rt-client.js";

/**
 * Texts for people, in the language of their reader.
 *
 * As in gettext, the id of a message is its English text, with `{name}` where a value goes. `t` and `tn` return a
 * `Message`, which becomes words where it is shown. A node that shows one (`showText`) shows it again when another
 * language is chosen; nothing else of it changes.
 */

const ENGLISH = "en";
const CHOICE = "tornado_rt.language";
const PLACES = /\{(\w+)\}/g;
const ELEMENT = 1;

// For each language besides English: its sources, the later before the earlier, and those still to
// be loaded.
const catalogues = new Map();
// The meaning of each tag of a language that was asked for; forgotten with each new catalogue.
const meanings = new Map();
// The roots that are shown in their own language, with the language that they are shown in.
const roots = new Map();
// The messages of nodes, by the attribute that each is in; "" is the text.
const shownIn = new WeakMap();

/** A text that is put into words where it is shown. Where a string is asked for it is in the language of the page. */
class Message {
  #say;

  /** `say(language)` returns the words. */
  constructor(say) {
    this.#say = say;
  }

  in(language) {
    return this.#say(language);
  }

  toString() {
    return this.in(languageOf());
  }
}

/**
 * Return the message of an English text. Numbers are written as the language does; a value may be a message.
 * @param {string} id
 * @param {Record<string, any>} [values]
 * @returns {any}
 */
function t(id, values = {}) {
  return new Message((language) => filled(pluralOf(entryOf(id, language) ?? id, values.n, language), values, language));
}

/**
 * Return the message that counts `n`: by its English singular and plural, in both of which `{n}` is the number.
 * @param {number} n
 * @param {string} one
 * @param {string} many
 * @param {Record<string, any>} [values]
 * @returns {any}
 */
function tn(n, one, many, values = {}) {
  return new Message((language) => {
    const entry = entryOf(one, language) ?? { one, other: many };
    return filled(pluralOf(entry, n, language), { ...values, n }, language);
  });
}

/**
 * Return the texts behind one another; what is empty is left out.
 * @returns {any}
 */
function joined(texts, separator = " · ") {
  const told = texts.filter(Boolean);
  return new Message((language) => told.map((one) => wordsIn(one, language)).filter(Boolean).join(wordsIn(separator, language)));
}

/** Return a text, a number or a message in a language. */
function wordsIn(text, language = languageOf()) {
  if (text instanceof Message) return text.in(language);
  if (typeof text === "number") return formatOf(Intl.NumberFormat, language).format(text);
  return text === null || text === undefined ? "" : String(text);
}

const formats = new Map();

/** Return a format of Intl; making one takes long, so that it is kept. */
function formatOf(Format, language, options = {}) {
  const key = `${Format.name} ${language} ${JSON.stringify(options)}`;
  if (!formats.has(key)) formats.set(key, new Format(language, options));
  return formats.get(key);
}

function filled(text, values, language) {
  return text.replace(PLACES, (place, name) => (name in values ? wordsIn(values[name], language) : place));
}

function pluralOf(entry, n, language) {
  if (typeof entry === "string") return entry;
  return entry[formatOf(Intl.PluralRules, language).select(n ?? 0)] ?? entry.other;
}

function entryOf(id, language) {
  for (const source of catalogues.get(catalogueOf(language))?.sources ?? []) {
    if (source[id] !== undefined) return source[id];
  }
  return undefined;
}

/**
 * Add messages of a language, by their English texts: words, or for a text that counts its words by their plural
 * category, `{one, other}`. Or a function that loads them, called when that language is first shown: it resolves to
 * them, or to a module whose default they are. Later ones go before earlier ones.
 */
function addMessages(language, messages) {
  const catalogue = catalogues.get(language) ?? { sources: [], loaders: [] };
  if (typeof messages === "function") catalogue.loaders.push(messages);
  else catalogue.sources.unshift(messages);
  catalogues.set(language, catalogue);
  meanings.clear();
  refresh();
}

/** Return the languages that there are, English first. */
function languages() {
  return [ENGLISH, ...catalogues.keys()];
}

function load(language) {
  const catalogue = catalogues.get(catalogueOf(language));
  if (catalogue?.loaders.length) {
    const loaders = catalogue.loaders.splice(0);
    const loading = Promise.all(loaders.map((one) => one())).then(
      (found) => {
        catalogue.sources.unshift(...found.map((one) => one.default ?? one).reverse());
        refresh(true);
      },
      // It is asked for again when it is next shown; meanwhile it is in English.
      () => catalogue.loaders.push(...loaders),
    );
    catalogue.loading = Promise.all([catalogue.loading, loading]);
  }
  return catalogue?.loading;
}

/** Return a tag with its likely script: "zh" and "zh-SG" are zh-Hans, "zh-TW" is zh-Hant. "" for what is no tag. */
function likely(tag) {
  try {
    const { language, script } = new Intl.Locale(tag).maximize();
    return `${language}-${script}`;
  } catch {
    return "";
  }
}

/** Return which of the languages that there are a tag means; null for none. */
function catalogueOf(tag) {
  if (!meanings.has(tag)) {
    const known = languages();
    meanings.set(tag, known.find((one) => one === tag) ?? known.find((one) => likely(one) === likely(tag)) ?? null);
  }
  return meanings.get(tag);
}

/** Return the tag of the reader's own way of writing of this language: "en" of a reader in Britain is "en-GB". */
function regional(tag) {
  const preferred = globalThis.navigator?.languages ?? [];
  const own = preferred.find((one) => one.startsWith(`${tag}-`) && catalogueOf(one) === catalogueOf(tag));
  if (own || tag.includes("-")) return own ?? tag;
  const { hourCycle } = new Intl.DateTimeFormat(undefined, { hour: "2-digit" }).resolvedOptions();
  return new Intl.Locale(tag, { hourCycle }).toString();
}

/** Return the first of these languages that there is; undefined without one. */
function firstKnown(tags) {
  const found = tags.find((one) => one && catalogueOf(one));
  return found && regional(found);
}

/** Return the language that the reader has chosen in this browser, "" for none. */
function chosenLanguage() {
  try {
    return globalThis.localStorage?.getItem(CHOICE) ?? "";
  } catch {
    // A page without an origin has no storage.
    return "";
  }
}

/** Return the language of a reader who is told of none: the one that they chose, else the first of their browser. */
function readersLanguage() {
  return firstKnown([chosenLanguage(), ...(globalThis.navigator?.languages ?? [])]) ?? regional(ENGLISH);
}

/** Return the language that a node is shown in: that of the nearest `lang` around it, else the reader's. */
function languageOf(node = globalThis.document?.documentElement) {
  for (let at = node; at; at = at.getRootNode().host) {
    const element = at.nodeType === ELEMENT ? at : at.parentElement;
    const found = firstKnown([element?.closest("[lang]")?.lang]);
    if (found) return found;
  }
  // A node may not be in the page yet.
  return node && !node.isConnected ? languageOf() : readersLanguage();
}

/** Keep a choice of the reader, and show the page in it. */
function setLanguage(tag) {
  globalThis.localStorage?.setItem(CHOICE, tag);
  document.documentElement.lang = firstKnown([tag]) ?? regional(ENGLISH);
}

/** Have the page follow its reader: `<html lang>` is what they chose here or in another tab. Resolve once it is loaded. */
async function followReader() {
  const follow = () => (document.documentElement.lang = readersLanguage());
  addEventListener("storage", ({ key }) => key === CHOICE && follow());
  follow();
  followLanguage(document);
  await load(languageOf());
}

/** Show a text in a node, or in an attribute of it; a message is shown again in another language. */
function showText(node, text, attribute = "") {
  const shown = shownIn.get(node);
  if (text instanceof Message) shownIn.set(node, (shown ?? new Map()).set(attribute, text));
  else shown?.delete(attribute);
  write(node, attribute, wordsIn(text, languageOf(node)));
}

// One that is the same already is left alone, so that a reader of screens is not told it again.
function write(node, attribute, words) {
  if (attribute) {
    if (node.getAttribute(attribute) !== words) node.setAttribute(attribute, words);
  } else if (node.textContent !== words) node.textContent = words;
}

/** Show the messages of a node and of all in it in a language. */
function translate(node, language) {
  const walker = document.createTreeWalker(node, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  for (let at = node; at; at = walker.nextNode()) {
    for (const [attribute, text] of shownIn.get(at) ?? []) write(at, attribute, text.in(language));
  }
}

let watching = null;

/**
 * Show what is in a document or a shadow root in its language from now on, also in the one that is chosen later. An
 * `rt-language` event of the root tells of each other one.
 */
function followLanguage(root) {
  const language = languageOf(root.host);
  watching ??= new MutationObserver(noteChanges);
  // A `lang` anywhere around it counts.
  for (let at = root; at; at = at.host?.getRootNode()) watching.observe(at, { subtree: true, childList: true, attributeFilter: ["lang"] });
  roots.set(root, language);
  load(language);
  translate(root, language);
}

function unfollowLanguage(root) {
  roots.delete(root);
}

function noteChanges(records) {
  if (records.some(({ type }) => type === "attributes")) refresh();
  for (const { addedNodes, target } of records) {
    const language = roots.get(target.getRootNode());
    // A node that was made outside of the page was written in the language of the page.
    if (language && language !== languageOf()) for (const node of addedNodes) translate(node, language);
  }
}

/** Show each root in its language; `isAnew`: also where that has not changed. */
function refresh(isAnew = false) {
  for (const [root, before] of roots) {
    const language = languageOf(root.host);
    if (!isAnew && language === before) continue;
    roots.set(root, language);
    load(language);
    translate(root, language);
    root.dispatchEvent(new CustomEvent("rt-language", { detail: language }));
  }
}

/**
 * Make messages of what is marked in constant markup: `data-t` is on an element whose text is one, and has the names
 * of the attributes that are ones: `<input data-t="placeholder">`. With names of attributes and a text it has `text`, too.
 */
function readMarks(root) {
  for (const node of root.querySelectorAll("[data-t]")) {
    const names = node.dataset.t.split(" ").filter(Boolean);
    for (const name of names.length ? names : ["text"]) {
      const attribute = name === "text" ? "" : name;
      const id = attribute ? node.getAttribute(attribute) : node.textContent.replace(/\s+/g, " ").trim();
      showText(node, t(id), attribute);
    }
  }
}

addMessages("zh-CN", () => import("./locales/zh-CN.js"));

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
ul, .plain { list-style: none; margin: 0; padding: 0; }
header { display: flex; flex-wrap: wrap; gap: 4px var(--_gap); align-items: baseline; }
.title { font-weight: 600; flex: 1 1 8em; margin: 0; font-size: inherit; }
.status, .detail, .empty, time { color: var(--_muted); font-size: 0.87em; }
.status[data-status="completed"] { color: var(--_good); }
.status[data-status="failed"], .status[data-status="dead"], .error { color: var(--_bad); }
.status[data-status="partial"], .notice { color: var(--_warn); }
.notice, .error { font-size: 0.87em; margin-top: 6px; }
.bar { position: relative; height: 10px; margin: 8px 0 6px; border-radius: 5px; background: var(--_track); overflow: hidden; }
.fill { position: relative; height: 100%; width: 0; border-radius: inherit; background: var(--_accent); transition: width 0.25s ease-out; }
/* Where the end is expected: from the left edge of the band on, most probably at the mark. */
.band { position: absolute; inset: 0 0 0 auto; background: color-mix(in srgb, var(--_accent) 30%, transparent); }
.likely { position: absolute; inset-block: 0; width: 2px; margin-left: -1px; background: color-mix(in srgb, var(--_accent) 75%, transparent); }
.bar[data-status="completed"] .fill { background: var(--_good); }
.bar[data-status="partial"] .fill { background: var(--_warn); }
.bar[data-status="failed"] .fill, .bar[data-status="dead"] .fill { background: var(--_bad); }
.bar.unknown .fill { width: 35% !important; animation: slide 1.4s ease-in-out infinite; }
@keyframes slide { from { translate: -100% 0; } to { translate: 300% 0; } }
.row { display: flex; flex-wrap: wrap; gap: 4px var(--_gap); align-items: center; }
.row > .detail { flex: 1 1 8em; }
.times { display: flex; flex-wrap: wrap; gap: 0 var(--_gap); justify-content: space-between; font-variant-numeric: tabular-nums; }
.percent, .time, .reason, .steps { font-size: 0.87em; }
.percent, .step-time { color: var(--_muted); }
.reason { color: var(--_warn); margin-top: 2px; }
.reason:empty, .times:not(:has(:not(:empty))) { display: none; }
.steps { list-style: none; margin: 8px 0 0; padding: 0; max-height: var(--rt-steps-height, 24rem); overflow-y: auto; }
.steps li {
  display: grid; grid-template-columns: 1.2em minmax(0, 1fr) auto; gap: 0 6px; padding: 3px 0; border: 0; color: var(--_muted);
}
.steps li::before { content: "·"; text-align: center; }
.steps li[data-state="completed"]::before { content: "✓"; color: var(--_good); }
.steps li[data-state="failed"]::before { content: "✗"; color: var(--_bad); }
.steps li[data-state="skipped"]::before { content: "–"; }
.steps li[data-state="current"]::before { content: "▸"; color: var(--_accent); }
.steps li[data-state="current"], .steps li[data-state="completed"] { color: var(--_text); }
.steps li[data-state="current"] .step-name { font-weight: 600; }
.steps li[data-state="failed"] { color: var(--_bad); }
.step-time { font-variant-numeric: tabular-nums; white-space: nowrap; }
.line { display: none; grid-column: 2 / -1; position: relative; height: 8px; border-radius: 2px; background: var(--_track); }
.timed .line { display: block; }
.usual, .real {
  position: absolute; left: calc(var(--_from) / var(--_total) * 100%); min-width: 2px;
  width: min(calc(var(--_length) / var(--_total) * 100%), calc(100% - var(--_from) / var(--_total) * 100%));
}
.usual { inset-block: 0; border-radius: 2px; background: color-mix(in srgb, var(--_accent) 30%, transparent); }
.real { inset-block: 2px; border-radius: 2px; background: var(--_accent); }
[data-state="failed"] .real { background: var(--_bad); }
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
.sr { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@media (prefers-reduced-motion: reduce) {
  .fill { transition: none; }
  .bar.unknown .fill { animation: none; width: 100% !important; opacity: 0.4; }
}
@media (forced-colors: active) {
  .bar { border: 1px solid CanvasText; }
  .fill, .real { background: Highlight; forced-color-adjust: none; }
  .band, .usual { background: none; border: 1px dashed CanvasText; }
  .likely { background: CanvasText; forced-color-adjust: none; }
}
`;

const made = new Map();

/** Return the style sheet of a text, made once. One that a script has made is allowed by any policy of contents. */
function sheetOf(text) {
  if (!made.has(text)) {
    made.set(text, new CSSStyleSheet());
    made.get(text).replaceSync(text);
  }
  return made.get(text);
}

/** Return the style sheet that all elements have. */
function styleSheet() {
  return sheetOf(SHEET);
}

/** The common part of all elements: their client, and the way they are drawn. */


/**
 * Make an element. `part` names it for ::part of a page's style sheets, `text` is set as text: nothing that
 * comes from the server is ever read as HTML.
 * @param {string} tag
 * @param {Record<string, any>} [options]
 * @returns {any}
 */
function make(tag, { part, text, children = [], on = {}, ...attributes } = {}) {
  const element = document.createElement(tag);
  if (part) element.setAttribute("part", part);
  if (text !== undefined) showText(element, text);
  for (const [name, value] of Object.entries(attributes)) showText(element, value, name === "className" ? "class" : name);
  for (const [type, listener] of Object.entries(on)) element.addEventListener(type, listener);
  element.append(...children.map(nodeOf));
  return element;
}

/** Return what is appended for a child: a message is a text node of its own. */
function nodeOf(child) {
  if (!(child instanceof Message)) return child;
  const node = document.createTextNode("");
  showText(node, child);
  return node;
}

/** Set or remove an attribute. */
function setAttribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else showText(element, value, name);
}

// The clients of `src` and `token`, and how many elements use each.
const clients = new Map();

function sharedClient(src, token, locale) {
  const key = JSON.stringify([src, token, locale]);
  const entry = clients.get(key) ?? { client: new Client(src || undefined, { token: token || undefined, locale }), users: 0 };
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

const OFFLINE = t("Offline. This comes back by itself.");

/**
 * An element that shows a topic. Its client is the property `client`, else that of the attributes `src` and
 * `token` (all elements with the same ones share it), else `Client.default` as soon as there is one.
 */
class RealtimeElement extends HTMLElement {
  /** The texts of style sheets that an element has besides those of all. */
  static sheets = [];

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

  /** Begin with the shadow root, once all that `build` returned is in it. */
  built() {}

  /** Learn where the connection stands now. */
  stateChanged(_state) {}

  /** Learn that another language was chosen: all messages are shown in it; what the server told is not. */
  languageChanged() {}

  /** Follow what is shown; listeners end with `signal`. Return what ends the rest. */
  follow(_client, _signal) {
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
    followLanguage(this.shadowRoot);
    this.restart();
  }

  disconnectedCallback() {
    unfollowLanguage(this.shadowRoot);
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
    this.#say(error ? errorInWords(error) : "", "error");
  }

  /** Show why nothing can be shown. */
  showFailure(error) {
    this.setAttribute("state", "error");
    this.showError(error);
  }

  #draw() {
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [styleSheet(), ...(/** @type {any} */ (this.constructor)).sheets.map(sheetOf)];
    this.#notice.hidden = true;
    root.append(...this.build(), this.#notice);
    root.addEventListener("rt-language", () => this.#changeLanguage());
    this.built();
  }

  #changeLanguage() {
    // A client of its own asks in its language.
    if (this.#release) this.#client.locale = catalogueOf(languageOf(this));
    this.languageChanged();
  }

  #useOwn() {
    try {
      const { client, release } = sharedClient(this.getAttribute("src"), this.getAttribute("token"), catalogueOf(languageOf(this)));
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
    const { state, error } = this.#client.status;
    if (this.getAttribute("state") === "error" && state !== "online") return;
    this.setAttribute("state", state);
    this.stateChanged(state);
    if (state === "offline") this.#say(OFFLINE, "notice");
    else if (state === "closed") this.#say(t("Not connected: {reason}", { reason: errorInWords(error) }), "error");
    else if (state === "online") this.#say("", "notice");
  }

  #say(text, className) {
    this.#notice.className = className;
    this.#notice.hidden = !text;
    showText(this.#notice, text);
  }
}

/** An error that a person is told of in the language of the page. */
class ToldError extends Error {
  /** @param {Message} text */
  constructor(text) {
    super(String(text));
    this.text = text;
  }
}

/** Return what to tell a person of an error. */
function errorInWords(error) {
  if (error instanceof ConnectionLost) return t("The server cannot be reached");
  const told = error.text || error.detail || error.title || error.reason || error.message || String(error);
  return joined([told, ...(error.errors ?? [])], t("; "));
}

/** Return the same as a string, in the language of the page or another one. */
function messageOfError(error, language = languageOf()) {
  return errorInWords(error).in(language);
}

/** The states of tasks and batches, as they are shown. */


const STATUS_ICONS = {
  queued: "○", delayed: "◷", processing: "◐", completed: "✓", partial: "!", failed: "✕", dead: "✕", cancelled: "–",
};

const STATUS_WORDS = {
  queued: t("queued"), delayed: t("delayed"), processing: t("processing"), completed: t("completed"), partial: t("partial"),
  failed: t("failed"), dead: t("dead"), cancelled: t("cancelled"), running: t("running"),
};

/** Return a state in words. */
function statusInWords(status) {
  return STATUS_WORDS[status] ?? status;
}

/** Numbers, times and lengths in words, in the language, the time zone and the way of writing of the reader. */


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
function numberOf(value, options) {
  return new Message((language) => formatOf(Intl.NumberFormat, language, options).format(value));
}

function unitOf(value, unit, options = {}) {
  return numberOf(value, { style: "unit", unit, unitDisplay: "narrow", ...options });
}

/**
 * Return a share of 1 as whole percents: "45%"; `digits` are those behind the point.
 * @returns {any}
 */
function percentOf(share, digits = 0) {
  return numberOf(share, { style: "percent", maximumFractionDigits: digits });
}

/**
 * Return how far something has come, from 0 to 100: only the end is "100%".
 * @returns {any}
 */
function progressOf(percent) {
  return percentOf(Math.floor(percent) / 100);
}

/**
 * Return a moment as the clock shows it; with the date if it is a day away or more.
 * @returns {any}
 */
function clockOf(moment, now = Date.now()) {
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
function roughly(seconds) {
  return unitOf(...rough(seconds));
}

/**
 * Return how long something took: "0.4s", "12s", "4m 5s", "1h 2m".
 * @returns {any}
 */
function lengthOf(seconds) {
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
function leftInWords({ seconds, high, finish, latest }, now) {
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
function startInWords({ seconds, high, finish }, now) {
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
function momentInWords(moment, options = FULL) {
  return dateOf(moment, options);
}

/**
 * Return how long ago a moment was, or in how long it is: "now", "5m ago"; its date after `days`.
 * @returns {any}
 */
function relativeTo(moment, now = Date.now(), days = 7) {
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
function ago(moment, now = Date.now()) {
  return relativeTo(now - moment < 5000 ? now : moment, now);
}

/**
 * Return the same as a string, in the language of the page or another one.
 * @returns {any}
 */
function agoInWords(moment, now = Date.now(), language = languageOf()) {
  return ago(moment, now).in(language);
}

/**
 * Return what was said as a sentence: with a capital in front and a full stop.
 * @returns {any}
 */
function sentence(text) {
  return new Message((language) => {
    const words = wordsIn(text, language);
    return words && t("{sentence}.", { sentence: words[0].toUpperCase() + words.slice(1) }).in(language);
  });
}

/** The tasks of a batch as a grid: which failed, why, and a way to each. */


// The most tasks that are shown; those that failed are among them first.
const MOST_SHOWN = 500;
// It is listed anew no more often than this while it runs [ms].
const LEAST_MS = 700;
const ORDER = ["failed", "dead", "processing", "queued", "delayed", "cancelled", "completed"];

class BatchGrid {
  node = make("ul", { part: "grid", className: "grid", "aria-label": t("Tasks of the batch") });
  more = make("p", { className: "muted" });
  #open;
  #cells = new Map();
  #batch = null;
  #signal = null;
  #timer = 0;
  #isLoading = false;
  #mustAgain = false;

  /** `open(task)` returns the address of a task's page, "" for none. */
  constructor(open) {
    this.#open = open;
    this.more.hidden = true;
  }

  begin(batch, signal) {
    [this.#batch, this.#signal] = [batch, signal];
    this.#cells.clear();
    this.node.replaceChildren();
    this.more.hidden = true;
    signal.addEventListener("abort", () => clearTimeout(this.#timer));
    this.loadSoon();
  }

  /** List them anew, soon: something has changed. */
  loadSoon() {
    this.#timer ||= setTimeout(() => this.#load(), this.#cells.size ? LEAST_MS : 0);
  }

  async #load() {
    this.#timer = 0;
    this.#mustAgain = this.#isLoading;
    if (this.#isLoading) return;
    this.#isLoading = true;
    const signal = this.#signal;
    const tasks = [];
    try {
      for await (const task of this.#batch.tasks()) {
        tasks.push(task);
        if (tasks.length > MOST_SHOWN * 2 || signal.aborted) break;
      }
      if (!signal.aborted) this.#draw(tasks);
    } catch {
      // The element tells of the connection; the next change asks again.
    } finally {
      this.#isLoading = false;
      if (this.#mustAgain && !signal.aborted) this.loadSoon();
    }
  }

  #draw(tasks) {
    const sorted = tasks
      .map((task, at) => ({ task, at }))
      .sort((one, other) => ORDER.indexOf(one.task.status) - ORDER.indexOf(other.task.status) || other.at - one.at)
      .map(({ task }) => task)
      .slice(0, MOST_SHOWN);
    // One that stands where it stood keeps the focus.
    sorted.map((task) => this.#cellOf(task)).forEach((item, at) => {
      if (this.node.children[at] !== item) this.node.insertBefore(item, this.node.children[at] ?? null);
    });
    while (this.node.children.length > sorted.length) this.node.lastElementChild.remove();
    this.more.hidden = tasks.length <= MOST_SHOWN;
    showText(this.more, t("The first {n} are shown, those that failed before the others.", { n: MOST_SHOWN }));
  }

  #cellOf(task) {
    const { task_id: id, label, status, error, progress } = task;
    const cell = this.#cells.get(id) ?? this.#makeCell(task);
    cell.item.dataset.status = status;
    showText(cell.icon, STATUS_ICONS[status] ?? "·");
    showText(cell.name, label || id);
    showText(cell.state, status === "processing" ? progressOf(progress) : statusInWords(status));
    showText(cell.why, error ?? "");
    return cell.item;
  }

  #makeCell(task) {
    const [icon, name, state, why] = ["icon", "name", "state", "why"].map((className) => make("span", { className }));
    icon.setAttribute("aria-hidden", "true");
    const href = this.#open(task);
    const link = make(href ? "a" : "div", { className: "cell", ...(href ? { href } : {}), children: [icon, name, state, why] });
    const item = make("li", { part: "task", children: [link] });
    const cell = { item, icon, name, state, why };
    this.#cells.set(task.task_id, cell);
    return cell;
  }
}

/** The look of the full views of tasks and batches. */

const DETAILS_SHEET = `
:host([full]) { padding: 20px; border-radius: 12px; }
:host([full]) h2.title { font-size: 1.35em; font-weight: 650; letter-spacing: -0.01em; flex: 1 1 auto; }
:host([full]) header { align-items: center; }
:host([full]) .bar { margin-top: 12px; }
:host([full]) .status, .attempts .status {
  border-radius: 1em; padding: 1px 10px; font-size: 0.8em; font-weight: 600; color: var(--_tone);
  background: color-mix(in srgb, var(--_tone) 13%, transparent);
}
.status { --_tone: var(--_muted); }
.status[data-status="processing"], .status[data-status="running"] { --_tone: var(--_accent); }
.status[data-status="completed"] { --_tone: var(--_good); }
.status[data-status="failed"], .status[data-status="dead"] { --_tone: var(--_bad); }
.status[data-status="partial"] { --_tone: var(--_warn); }
:host([full]) button { min-height: 36px; padding: 4px 14px; }
button.main { background: var(--_accent); color: var(--_on-accent); border-color: var(--_accent); }
@media (max-width: 30rem), (pointer: coarse) { :host([full]) button, .cell { min-height: 44px !important; } }
:host([full][state="offline"]) :is(.bar, .times, .steps) { opacity: 0.55; }
:host([state="error"]) :is(.tab-row, .view, .grid) { display: none; }
.facts-line { color: var(--_muted); font-size: 0.87em; margin-top: 2px; }
.facts-line:empty, .callout:empty { display: none; }
.callout {
  margin-top: 12px; padding: 10px 14px; border-radius: 8px; border: 1px solid color-mix(in srgb, var(--_bad) 35%, transparent);
  background: color-mix(in srgb, var(--_bad) 8%, transparent);
}
.question {
  border-color: color-mix(in srgb, var(--_accent) 40%, transparent); background: color-mix(in srgb, var(--_accent) 8%, transparent);
  display: grid; gap: 8px;
}
.tab-row { display: flex; overflow-x: auto; scrollbar-width: none; gap: 2px; margin-top: 16px; border-bottom: 1px solid var(--_line); }
.tab-row [role="tab"] {
  flex: none; border: 0; border-bottom: 2px solid transparent; border-radius: 0; padding: 6px 12px; color: var(--_muted); background: none;
}
.tab-row [role="tab"][aria-selected="true"] { color: var(--_text); border-bottom-color: var(--_accent); font-weight: 600; }
.view { padding-top: 12px; max-height: var(--rt-view-height, 36rem); overflow-y: auto; }
.view .steps { max-height: none; margin: 0; }
.view:focus-visible, pre:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; }
.muted { color: var(--_muted); }
h3 { font-size: 1em; margin: 16px 0 6px; }
.pairs { display: grid; grid-template-columns: minmax(7em, max-content) minmax(0, 1fr); gap: 4px 16px; margin: 0; }
.pairs dt { color: var(--_muted); }
dd { margin: 0; }
.values { display: grid; gap: 6px; }
.value { white-space: pre-line; }
pre {
  margin: 8px 0 0; padding: 10px; border-radius: 8px; background: color-mix(in srgb, var(--_track) 50%, transparent);
  font-size: 0.8em; overflow-x: auto; white-space: pre-wrap;
}
.json { margin-top: 14px; }
.json summary { color: var(--_muted); cursor: pointer; font-size: 0.87em; }
.output { list-style: none; margin: 0; padding: 0; font: 0.85em/1.6 ui-monospace, monospace; }
.output li { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 12px; }
.output time { color: var(--_muted); }
.attempts li { border-top: 1px solid var(--_line); padding: 8px 0; }
.attempts li:first-child { border: 0; }
.cause { font-weight: 600; margin-bottom: 10px; }
.chain { margin: 0; padding: 0; list-style: none; }
.chain li { display: flex; gap: 12px; justify-content: space-between; padding: 0 0 12px 18px; position: relative; border-left: 2px solid var(--_line); margin-left: 5px; }
.chain li::before { content: ""; position: absolute; left: -6px; top: 6px; width: 10px; height: 10px; border-radius: 50%; background: var(--_accent); }
.chain li:last-child { border-color: transparent; }
.chain time { color: var(--_muted); font-size: 0.85em; white-space: nowrap; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 13rem), 1fr)); gap: 8px; margin-top: 16px; }
.cell {
  display: grid; grid-template-columns: 22px minmax(0, 1fr) auto; gap: 2px 8px; align-items: baseline; height: 100%; color: inherit;
  text-decoration: none; border: 1px solid var(--_line); border-radius: 8px; padding: 8px 10px; --_tone: var(--_muted);
}
a.cell:hover { border-color: var(--_tone); }
.cell .icon { color: var(--_tone); font-weight: 700; text-align: center; }
.cell .name { font-weight: 600; }
.cell .state { color: var(--_tone); font-size: 0.85em; font-weight: 600; }
.cell .why { grid-column: 2 / -1; color: var(--_bad); font-size: 0.85em; }
.cell .why:empty { display: none; }
li[data-status="processing"] .cell { --_tone: var(--_accent); }
li[data-status="completed"] .cell { --_tone: var(--_good); }
li:is([data-status="failed"], [data-status="dead"]) .cell { --_tone: var(--_bad); border-color: color-mix(in srgb, var(--_bad) 45%, transparent); }
.analysis { display: grid; gap: 14px; }
.decision-line { display: flex; align-items: center; gap: 10px; margin-bottom: 6px; }
.decision { font-size: 1.05em; letter-spacing: 0.04em; border-radius: 8px; padding: 3px 14px; color: var(--_surface); background: var(--_muted); }
.decision[data-decision="buy"] { background: var(--_good); }
.decision[data-decision="sell"] { background: var(--_bad); }
figure { margin: 0; }
.chart { width: 100%; height: auto; display: block; }
.chart text { fill: var(--_muted); font: 11px system-ui, sans-serif; }
.chart .grid { stroke: var(--_line); stroke-width: 1; }
.chart path { fill: none; stroke-width: 1.6; stroke-linejoin: round; stroke-linecap: round; vector-effect: non-scaling-stroke; }
.chart .price { stroke: var(--_accent); stroke-width: 2; }
.chart .price-area { fill: color-mix(in srgb, var(--_accent) 12%, transparent); stroke: none; }
.chart .average-0 { stroke: var(--_warn); }
.chart .average-1 { stroke: var(--_bad); stroke-dasharray: 5 4; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 0.82em; color: var(--_muted); padding-left: 0; }
.legend li::before { content: ""; display: inline-block; width: 16px; border-top: 2px solid var(--_tone); vertical-align: middle; margin-right: 6px; }
.legend .price { --_tone: var(--_accent); }
.legend .average-0 { --_tone: var(--_warn); }
.legend .average-1 { --_tone: var(--_bad); }
.legend .average-1::before { border-top-style: dashed; }
.scores { display: grid; gap: 6px; }
.scores li { display: grid; grid-template-columns: minmax(6em, 9em) minmax(0, 1fr) 3.2em; gap: 10px; align-items: center; font-size: 0.93em; }
.score-track { position: relative; height: 10px; border-radius: 5px; background: linear-gradient(to right, transparent calc(50% - 1px), var(--_line) 0 calc(50% + 1px), transparent 0), var(--_track); overflow: hidden; }
.score-bar { position: absolute; inset-block: 0; background: var(--_good); }
.score-bar[data-sign="bad"] { background: var(--_bad); }
.score { text-align: right; font-variant-numeric: tabular-nums; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: 8px; margin: 0; }
.facts div { border: 1px solid var(--_line); border-radius: 8px; padding: 8px 10px; }
.facts dt { color: var(--_muted); font-size: 0.8em; }
.facts dd { font-weight: 600; }
`;

/**
 * The parts of a snapshot that are shown as the clock goes on, decided without a page.
 *
 * The finish goes no later, and the bar no further back, than was shown, unless a reason is shown too. Until the
 * next report the bar goes on as slowly as the high end of the band says: to the end of a step that tells nothing
 * on its way, and by a tenth of a task or step that does.
 */


// A later finish that is held: by less than this share of the time left, or these seconds.
const RISE_SHARE = 0.03;
const RISE_SECONDS = 1;
// Only the end is 100 %.
const MOST_PERCENT = 99.9;
// A tenth of what tells on its way how far it is [%].
const TENTH = 10;
const ALONE = t("it takes longer than was said");
const RUNNING = "processing";

function sum(numbers) {
  return numbers.reduce((total, one) => total + one, 0);
}

class Shown {
  #snapshot = null;
  #receivedAt = 0;
  #skew = 0;
  // The finish and the latest one [ms], as they are shown.
  #finish = null;
  #latest = null;
  #percent = 0;
  #reason = null;

  get snapshot() {
    return this.#snapshot;
  }

  get isRunning() {
    return this.#snapshot?.status === RUNNING;
  }

  /** Whether anything of it goes on by the clock. */
  get goesOn() {
    if (this.isRunning || this.#finish !== null) return true;
    return this.#snapshot !== null && this.starts(Date.now()) !== null;
  }

  /** Take a snapshot that has just come; `skew`: how far the server's clock is ahead [s]. */
  take(snapshot, now, skew = 0) {
    const before = this.#snapshot;
    const goesOn = before && ["task_id", "batch_id", "attempt"].every((name) => before[name] === snapshot[name]);
    if (goesOn) this.#percent = this.percent(now);
    else this.#forget();
    this.#snapshot = snapshot;
    this.#receivedAt = now;
    this.#skew = skew;
    this.#hold(timeLeft(snapshot, now, this.#known), before?.revised_at, now);
    this.#percent = this.percent(now);
  }

  /** Return how much is done [%]; it is never less than before. */
  percent(now) {
    const { status, progress = 0 } = this.#snapshot;
    if (status === "completed" || status === "partial") return 100;
    return Math.max(this.#percent, this.isRunning ? Math.min(this.#byClock(progress, now), MOST_PERCENT) : progress);
  }

  /** Return the time left as `timeLeft` has it; null is unknown. */
  left(now) {
    if (this.#finish === null) return null;
    const until = (moment) => Math.max(0, (moment - now) / 1000);
    const seconds = until(this.#finish);
    const latest = this.#latest === null ? null : Math.max(this.#latest, now);
    const { low } = timeLeft(this.#snapshot, now, this.#known);
    const bounds = { low: low === null ? null : Math.min(low, seconds), high: latest === null ? null : until(latest) };
    return { seconds, ...bounds, finish: new Date(now + seconds * 1000), latest: latest === null ? null : new Date(latest) };
  }

  /** Return when it starts, as `startsIn` has it; null is unknown, or it does not wait. */
  starts(now) {
    return startsIn(this.#snapshot, now, this.#known);
  }

  /** Return where on the bar [%] it may end, and where it does so probably: `{from, likely}`; null without a band. */
  band(now) {
    const left = this.isRunning ? this.left(now) : null;
    if (!left?.high || left.low === null) return null;
    const percent = this.percent(now);
    const place = (seconds) => percent + ((100 - percent) * seconds) / left.high;
    return { from: place(left.low), likely: place(left.seconds) };
  }

  /** Return what has gone otherwise than was told, in words. */
  reasons(now) {
    if (!this.isRunning) return [];
    const { slow_since: slow, stalled_since: stalled } = this.#snapshot;
    return [
      this.#reason && t("{time}: {reason}", { time: clockOf(this.#reason.at, now), reason: this.#reason.text }),
      slow && t("slow since {time}", { time: this.#clock(slow, now) }),
      stalled && t("no sign of life since {time}", { time: this.#clock(stalled, now) }),
    ].filter(Boolean);
  }

  /**
   * Return the steps as they are laid out in time [s from the start]: `{spans, total}`, for each `{from, length,
   * usual, runs}`, null where it is unknown. Those to come are laid behind those that run.
   */
  timeline(now) {
    const { steps = [] } = this.#snapshot;
    const elapsed = this.elapsed(now);
    const spans = steps.map((step) => this.#span(step, elapsed));
    const begun = spans.filter((span) => span.from !== null);
    let end = Math.max(0, ...begun.map((span) => span.from + Math.max(span.length ?? 0, span.runs ? (span.usual ?? 0) : 0)));
    const drawn = begun.map((span) => span.from + Math.max(span.length ?? 0, span.usual ?? 0));
    for (const span of spans) {
      if (span.from !== null || span.usual === null || !this.isRunning) continue;
      span.from = end;
      end += span.usual;
    }
    const finish = begun.length && this.isRunning ? elapsed + (this.left(now)?.seconds ?? 0) : 0;
    return { spans, total: Math.max(end, finish, ...drawn) };
  }

  /** Return the seconds since the attempt began. */
  elapsed(now) {
    const { elapsed_time: elapsed } = this.#snapshot;
    return (elapsed ?? 0) + (this.isRunning ? ageOf(this.#snapshot, now, this.#known) : 0);
  }

  get #known() {
    return { skew: this.#skew, receivedAt: this.#receivedAt };
  }

  /** Return a moment of the server's clock as the reader's shows it. */
  #clock(text, now) {
    return clockOf(Date.parse(text) - this.#skew * 1000, now);
  }

  #forget() {
    this.#finish = this.#latest = this.#reason = null;
    this.#percent = 0;
  }

  #hold(left, revisedBefore, now) {
    if (left === null) {
      this.#finish = this.#latest = null;
      return;
    }
    const { revised, revised_at: revisedAt } = this.#snapshot;
    const slack = Math.max(RISE_SECONDS, RISE_SHARE * left.seconds) * 1000;
    const rises = (shown, next) => shown !== null && next > Math.max(shown, now) + slack;
    const isSame = (shown, next) => shown !== null && next > shown && !rises(shown, next);
    if (revised && revisedAt !== revisedBefore) this.#reason = { text: revised, at: this.#momentOf(revisedAt, now) };
    else if (rises(this.#finish, left.finish)) this.#reason = { text: ALONE, at: now };
    else if (isSame(this.#finish, left.finish)) left = { ...left, finish: this.#finish };
    this.#finish = Number(left.finish);
    if (left.latest === null) this.#latest = null;
    else if (!isSame(this.#latest, left.latest)) this.#latest = Number(left.latest);
  }

  #momentOf(text, now) {
    const at = Date.parse(text ?? "");
    return Number.isFinite(at) ? at - this.#skew * 1000 : now;
  }

  /**
   * Return how far it is if it takes as long as the high end of the band, since it was last seen to move: since
   * this report, or the start of a step that tells nothing.
   */
  #byClock(progress, now) {
    const left = timeLeft(this.#snapshot, now, this.#known);
    if (!left?.high) return left?.high === 0 ? Math.min(100, this.#mostNow(progress)) : progress;
    const { steps = [], step_progress: inside } = this.#snapshot;
    const current = steps.find((step) => step.status === "current");
    const reported = this.#snapshot.elapsed_time ?? 0;
    const since = inside === undefined ? (current?.started_after ?? (progress > 0 ? reported : 0)) : reported;
    const passed = Math.max(0, this.elapsed(now) - since);
    return Math.min(progress + ((100 - progress) * passed) / (passed + left.high), this.#mostNow(progress));
  }

  /** Return the percent that the bar may reach before the next report. */
  #mostNow(progress) {
    const { steps = [], current_step: at, step_progress: inside } = this.#snapshot;
    if (!steps.length) return progress > 0 ? progress + TENTH : 100;
    const rest = steps.map(({ status, weight }, index) => {
      if (status !== "current") return 0;
      return weight * (index === at && inside !== undefined ? Math.min(TENTH, 100 - inside) : 100);
    });
    return progress + sum(rest);
  }

  #span(step, elapsed) {
    const { status, started_after: from = null, duration, usual_duration: usual = null } = step;
    const runs = status === "current" && from !== null;
    const length = duration ?? (runs ? Math.max(0, elapsed - from) : null);
    return { from, length, runs, usual: status === "skipped" ? null : usual };
  }
}

/** The steps, each with its time on one line of time: how long it took or takes, before how long it usually takes. */


function inWords({ status }, { length, usual }) {
  if (status === "skipped") return t("skipped");
  const usually = usual === null ? "" : t("usually {time}", { time: lengthOf(usual) });
  return joined([length === null ? "" : lengthOf(length), usually], t(", "));
}

function place(bar, from, length) {
  bar.hidden = from === null || length === null;
  if (bar.hidden) return;
  bar.style.setProperty("--_from", from);
  bar.style.setProperty("--_length", length);
}

class StepLines {
  #items = [];
  list = make("ol", { part: "steps", className: "steps", id: "steps" });

  clear() {
    this.#items = [];
    this.list.replaceChildren();
  }

  /** Draw the steps of a snapshot, as they are laid out in time. */
  draw(steps, { spans, total }) {
    while (this.#items.length > steps.length) this.#items.pop().item.remove();
    while (this.#items.length < steps.length) this.#add();
    this.list.hidden = !steps.length;
    this.list.classList.toggle("timed", total > 0);
    this.list.style.setProperty("--_total", Math.max(total, 0.001));
    steps.forEach((step, index) => this.#draw(this.#items[index], step, spans[index]));
  }

  #add() {
    const [name, took] = ["step-name", "step-time"].map((part) => make("span", { part, className: part }));
    const [usual, real] = ["usual", "real"].map((part) => make("span", { part, className: part }));
    const line = make("span", { className: "line", "aria-hidden": true, children: [usual, real] });
    const item = make("li", { part: "step", children: [name, took, line] });
    this.#items.push({ item, name, took, usual, real });
    this.list.append(item);
  }

  #draw({ item, name, took, usual, real }, step, span) {
    showText(name, [...(step.group ?? []), step.description ?? step.name].join(" / "));
    setAttribute(item, "data-state", step.status);
    setAttribute(item, "aria-current", step.status === "current" ? "step" : null);
    showText(took, inWords(step, span));
    place(usual, span.from, span.usual);
    place(real, span.from, span.length);
  }
}

/** One timer for all that goes on by the clock in a page; it rests while nothing of that is seen. */

const TICK_MS = 1000;

// The functions to call, by the element that each draws; and the elements that are in view.
const ticking = new Map();
const inView = new Set();
let timer = null;
let observer = null;

function tickAll() {
  for (const element of inView) ticking.get(element)();
}

function look() {
  const must = inView.size > 0 && document.visibilityState === "visible";
  if (must && timer === null) timer = setInterval(tickAll, TICK_MS);
  if (must || timer === null) return;
  clearInterval(timer);
  timer = null;
}

function watchView(entries) {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting || !ticking.has(target)) inView.delete(target);
    else if (!inView.has(target)) {
      inView.add(target);
      ticking.get(target)();
    }
  }
  look();
}

function observe() {
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") tickAll();
    look();
  });
  return new IntersectionObserver(watchView);
}

/** Call `tick` once a second while this element is in view, from now on until `stopTicking`. */
function startTicking(element, tick) {
  const isNew = !ticking.has(element);
  ticking.set(element, tick);
  if (isNew) (observer ??= observe()).observe(element);
}

/** Harmless when it does not tick. */
function stopTicking(element) {
  if (!ticking.delete(element)) return;
  observer.unobserve(element);
  inView.delete(element);
  look();
}

/** Draws a snapshot: the bar with its band, the time left, what has gone otherwise, and the steps in time. */


// Those who hear the page are told of changes no more often than this [ms].
const QUIET_MS = 10_000;
const WAITING = new Set(["queued", "delayed"]);

class Drawing {
  #host;
  #words;
  #shown = new Shown();
  #parts;
  #steps;
  #saidAt = -Infinity;
  #saidStatus = null;
  #saidReasons = "";

  /** `host`: the element whose view counts; `words(snapshot)`: what a hearer is told besides the percent. */
  constructor(host, words) {
    this.#host = host;
    this.#words = words;
    const [fill, band, likely] = ["fill", "band", "likely"].map((part) => make("div", { part, className: part }));
    const bar = make("div", {
      part: "bar", className: "bar unknown", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100,
      children: [band, fill, likely],
    });
    const [percent, time] = ["percent", "time"].map((part) => make("span", { part, className: part }));
    const line = make("p", { className: "times", children: [percent, time] });
    const reason = make("p", { part: "reason", className: "reason" });
    const said = make("span", { className: "sr", "aria-live": "polite" });
    this.#steps = new StepLines();
    this.#parts = { bar, fill, band, likely, percent, time, reason, said };
    // The bar, then what stands below it, then the steps.
    this.nodes = { bar: [bar], line: [line, reason], steps: [this.#steps.list, said] };
    bar.setAttribute("aria-labelledby", "title");
    // Its name until there is a title.
    showText(bar, t("Progress"), "aria-label");
  }

  get shown() {
    return this.#shown;
  }

  /** Tell those who hear the page at once. */
  say(text) {
    showText(this.#parts.said, text);
  }

  reset() {
    stopTicking(this.#host);
    this.#shown = new Shown();
    this.#saidStatus = null;
    this.#saidReasons = "";
    const { bar, fill, band, likely, percent, time, reason } = this.#parts;
    bar.className = "bar unknown";
    setAttribute(bar, "aria-valuenow", null);
    setAttribute(bar, "aria-valuetext", null);
    fill.style.width = "";
    band.hidden = likely.hidden = true;
    for (const part of [percent, time, reason]) showText(part, "");
    this.#steps.clear();
  }

  /** Show a snapshot that has just come; `skew`: how far the server's clock is ahead [s]. */
  show(snapshot, skew) {
    this.#shown.take(snapshot, Date.now(), skew);
    setAttribute(this.#parts.bar, "data-status", snapshot.status);
    this.#draw();
    this.resume();
  }

  /** Go on by the clock, if anything does; the host is in the page. */
  resume() {
    if (this.#shown.goesOn && this.#host.isConnected) startTicking(this.#host, () => this.#draw());
    else stopTicking(this.#host);
  }

  /** Go on no more; the host leaves the page. */
  stop() {
    stopTicking(this.#host);
  }

  #draw() {
    const shown = this.#shown;
    const now = Date.now();
    const { fill, band, likely, percent, time, reason, bar } = this.#parts;
    const done = shown.percent(now);
    bar.classList.toggle("unknown", shown.isRunning && done === 0 && shown.left(now) === null);
    fill.style.width = `${Number(done.toFixed(2))}%`;
    this.#drawBand(shown.band(now), band, likely);
    showText(percent, WAITING.has(shown.snapshot.status) && !done ? "" : progressOf(done));
    showText(time, this.#timeInWords(now));
    showText(reason, joined(shown.reasons(now).map(sentence), " "));
    this.#steps.draw(shown.snapshot.steps ?? [], shown.timeline(now));
    this.#tell(now, done);
  }

  #drawBand(found, band, likely) {
    band.hidden = likely.hidden = found === null;
    if (!found) return;
    band.style.left = `${Number(found.from.toFixed(2))}%`;
    likely.style.left = `${Number(found.likely.toFixed(2))}%`;
  }

  #timeInWords(now) {
    const [left, starts] = [this.#shown.left(now), this.#shown.starts(now)];
    if (left) return leftInWords(left, now);
    return starts ? startInWords(starts, now) : "";
  }

  /** Tell those who do not see it, at once of another status, else now and then. */
  #tell(now, done) {
    const { bar, reason, said } = this.#parts;
    const { snapshot } = this.#shown;
    if (snapshot.status === this.#saidStatus && Math.abs(now - this.#saidAt) < QUIET_MS) return;
    this.#saidStatus = snapshot.status;
    this.#saidAt = now;
    setAttribute(bar, "aria-valuenow", Math.floor(done));
    setAttribute(bar, "aria-valuetext", joined([progressOf(done), this.#words(snapshot), this.#timeInWords(now)], t(", ")));
    if (reason.textContent === this.#saidReasons) return;
    this.#saidReasons = reason.textContent;
    showText(said, reason.textContent);
  }
}

/** A question of a task to its user, with the answers that it takes: the notification of `run.ask`. */


/** Return whether a notification is an open question of a task. */
function isQuestionOf(taskId, { metadata, actions = [], answered, archived_at: archived }) {
  return metadata?.task_id === taskId && metadata.question && actions.length > 0 && !answered && !archived;
}

class TaskQuestion {
  node = make("div", { part: "question", className: "callout question" });
  #client = null;
  #taskId = "";
  #shownId = null;

  constructor() {
    this.node.hidden = true;
  }

  /** Look for the question that is open, and for those that come. */
  begin(client, taskId, signal) {
    this.#client = client;
    this.#taskId = taskId;
    this.end();
    this.#read(signal).catch(() => {
      // Without the inbox there is no question to show; the element itself tells of the connection.
    });
  }

  end() {
    this.#shownId = null;
    this.node.hidden = true;
  }

  async #read(signal) {
    for await (const { type, isFirst, notification, items = [], deleted = [] } of this.#client.inbox.events({ signal })) {
      if (isFirst || type === "resync") this.#take((await this.#client.inbox.list({ state: "pinned", limit: 50 })).items);
      this.#take(notification ? [notification] : items);
      if (deleted.includes(this.#shownId)) this.end();
    }
  }

  #take(items) {
    for (const one of items) {
      if (isQuestionOf(this.#taskId, one)) this.#show(one);
      else if (one.id === this.#shownId) this.end();
    }
  }

  #show({ id, title, content, actions }) {
    this.#shownId = id;
    const buttons = actions.map(({ id: action, label }) =>
      make("button", { part: "button", className: "main", type: "button", text: label, on: { click: () => this.#answer(id, action) } }));
    const told = content ? [make("p", { className: "content", text: content })] : [];
    this.node.replaceChildren(make("p", { children: [make("b", { text: title })] }), ...told, make("div", { className: "row", children: buttons }));
    this.node.hidden = false;
  }

  async #answer(id, action) {
    for (const button of this.node.querySelectorAll("button")) button.disabled = true;
    try {
      await this.#client.inbox.answer(id, action);
      this.end();
    } catch (error) {
      for (const button of this.node.querySelectorAll("button")) button.disabled = false;
      this.node.append(make("p", { className: "error", role: "alert", text: errorInWords(error) }));
    }
  }
}

/** A JSON Schema of parameters: its shape, and the names that it has for people. */

/** Return a schema without its `$ref`, and without `null` as one of two shapes. */
function plainSchema(schema, root, hops = 0) {
  if (schema.$ref?.startsWith("#/$defs/") && hops < 8) {
    const { $ref, ...more } = schema;
    return plainSchema({ ...root.$defs?.[$ref.slice("#/$defs/".length)], ...more }, root, hops + 1);
  }
  const shapes = schema.anyOf?.filter((one) => one.type !== "null");
  if (shapes?.length === 1) {
    const { anyOf, ...more } = schema;
    return plainSchema({ ...shapes[0], ...more }, root, hops + 1);
  }
  return schema;
}

/** Return the name of a choice for people; a schema that has none shows the value. */
function nameOf({ enum: values, const: only, enumNames }, at) {
  return enumNames?.[at] ?? String(values ? values[at] : only);
}

/** Return the name of a value for people, when its schema has one; else the value as it is. */
function namedValue({ enum: values = [], enumNames = [] }, value) {
  return enumNames[values.indexOf(value)] ?? value;
}

/** Views of results: the one of their kind, else plain names and values. */


const views = new Map();
// Deeper values are shown as JSON.
const MOST_DEPTH = 4;
const MOST_ITEMS_SHOWN = 100;
const ACRONYMS = /\b(api|html|http|id|json|llm|pdf|sql|url|utc)\b/g;

/**
 * Draw the results of a kind by `view(result, task)`, which returns a node, or null for the plain view. `task` is what
 * `GET /api/tasks/{id}` tells of it. A node from a view stands in the shadow root of `<rt-task full>`.
 */
function setResultView(kind, view) {
  views.set(kind, view);
}

/** Return the node of a result. */
function drawResult(kind, result, task) {
  return ownView(kind, result, task) ?? make("div", { className: "plain-result", children: [drawValue(result), jsonOf(result)] });
}

function ownView(kind, result, task) {
  try {
    return views.get(kind)?.(result, task) ?? null;
  } catch (error) {
    // The view is the author's, the result is the worker's: it is shown without the view.
    console.warn(`the view of the kind ${kind} failed`, error);
    return null;
  }
}

/** Return a value as a person reads it; a `schema` has names for its fields and choices, `root` what it refers to. */
function drawValue(value, depth = 0, schema = {}, root = schema) {
  if (value === null || value === undefined) return make("span", { className: "muted", text: t("none") });
  if (typeof value === "boolean") return make("span", { text: value ? t("yes") : t("no") });
  const own = plainSchema(schema, root);
  if (typeof value !== "object") return make("span", { className: "value", text: String(namedValue(own, value)) });
  if (depth >= MOST_DEPTH) return make("code", { text: JSON.stringify(value) });
  return Array.isArray(value) ? drawArray(value, depth, own.items ?? {}, root) : drawObject(value, depth, own, root);
}

function drawArray(items, depth, schema, root) {
  if (!items.length) return make("span", { className: "muted", text: t("empty") });
  const shown = items.slice(0, MOST_ITEMS_SHOWN);
  const more = items.length > shown.length ? t("and {n} more", { n: items.length - shown.length }) : "";
  if (shown.every((one) => typeof one !== "object" || one === null)) {
    const each = plainSchema(schema, root);
    return make("span", { className: "value", text: joined([...shown.map((one) => String(namedValue(each, one))), more], t(", ")) });
  }
  const drawn = shown.map((one) => make("li", { children: [drawValue(one, depth + 1, schema, root)] }));
  return make("ul", { className: "values", children: [...drawn, ...(more ? [make("li", { text: more })] : [])] });
}

function drawObject(value, depth, { properties = {} }, root) {
  const pairs = Object.entries(value).slice(0, MOST_ITEMS_SHOWN);
  if (!pairs.length) return make("span", { className: "muted", text: t("empty") });
  const drawn = pairs.flatMap(([name, one]) => [
    make("dt", { text: properties[name]?.title || nameInWords(name) }),
    make("dd", { children: [drawValue(one, depth + 1, properties[name], root)] }),
  ]);
  return make("dl", { className: "pairs", children: drawn });
}

function jsonOf(value) {
  const text = make("pre", { tabindex: 0, text: JSON.stringify(value, null, 2) });
  return make("details", { className: "json", children: [make("summary", { text: t("As JSON") }), text] });
}

/** Return the name of a field as people write it: "research_depth" is "Research depth". */
function nameInWords(name) {
  const words = name.replace(/[_-]+/g, " ").trim().replace(ACRONYMS, (one) => one.toUpperCase());
  return words ? words[0].toUpperCase() + words.slice(1) : name;
}

/** A row of tabs over one panel, by the keys of the ARIA pattern: arrows, Home and End. */


const TAB_STEPS = { ArrowRight: 1, ArrowLeft: -1 };

class Tabs {
  #row;
  #panel;
  #onChoose;

  /**
   * @param {HTMLElement} row
   * @param {HTMLElement} panel what the chosen tab shows
   * @param {Object<string, {title: import("../messages.js").Message}>} tabs by their names; the first is chosen
   * @param {() => void} onChoose
   */
  constructor(row, panel, tabs, onChoose) {
    this.#row = row;
    this.#panel = panel;
    this.#onChoose = onChoose;
    row.append(...Object.entries(tabs).map(([name, { title }]) => this.#make(name, title)));
    this.#mark(row.firstElementChild);
    row.addEventListener("keydown", (event) => this.#move(event));
  }

  get chosen() {
    return this.#row.querySelector("[aria-selected=true]").dataset.tab;
  }

  label(name, text) {
    showText(this.#row.querySelector(`[data-tab=${name}]`), text);
  }

  /** Take a tab away, or bring it back; the first takes the place of one that was chosen. */
  hide(name, isHidden = true) {
    const tab = this.#row.querySelector(`[data-tab=${name}]`);
    tab.hidden = isHidden;
    if (isHidden && tab.ariaSelected === "true") this.#choose(this.#row.firstElementChild);
  }

  /** Choose a tab by its name. */
  choose(name) {
    this.#choose(this.#row.querySelector(`[data-tab=${name}]`));
  }

  #make(name, title) {
    const tab = make("button", { part: "tab", type: "button", id: `tab-${name}`, role: "tab", text: title, "data-tab": name });
    tab.setAttribute("aria-controls", this.#panel.id);
    tab.addEventListener("click", () => this.#choose(tab));
    return tab;
  }

  #choose(tab) {
    if (tab.ariaSelected === "true") return;
    this.#mark(tab);
    this.#onChoose();
  }

  /** Mark the chosen one: only it is reached by Tab, the others by arrows. */
  #mark(chosen) {
    for (const tab of this.#row.children) {
      tab.ariaSelected = String(tab === chosen);
      tab.tabIndex = tab === chosen ? 0 : -1;
    }
    this.#panel.setAttribute("aria-labelledby", chosen.id);
  }

  #move(event) {
    const tabs = [...this.#row.children].filter((tab) => !tab.hidden);
    const index = tabs.indexOf(event.target) + (TAB_STEPS[event.key] ?? 0);
    const ends = { Home: tabs[0], End: tabs.at(-1) };
    const next = ends[event.key] ?? (TAB_STEPS[event.key] && tabs.at(index % tabs.length));
    if (!next) return;
    event.preventDefault();
    next.focus();
    this.#choose(next);
  }
}

/** The full view of a task: when it ran, and tabs with its steps, result, output, parameters, attempts and reasons. */


const VIEWS = {
  steps: { title: t("Steps") },
  result: { title: t("Result") },
  output: { title: t("Output") },
  params: { title: t("Parameters") },
  attempts: { title: t("Attempts") },
  why: { title: t("Why?") },
};
const MOST_LINES = 500;
const TO_THE_SECOND = { timeStyle: "medium" };

class TaskDetails {
  #host;
  #task = null;
  #client = null;
  #signal = null;
  #known = null;
  #read = null;
  #lastLine = "";
  #hasChosen = false;
  // Whether what was told before the view was opened is there, or on its way.
  #hasOutput = false;
  // The schema of its parameters, which names them; null before it is asked for.
  #schema = null;
  #tabs;
  #question = new TaskQuestion();
  #facts = make("p", { part: "facts", className: "facts-line" });
  #failure = make("p", { part: "failure", className: "callout" });
  #row = make("div", { className: "tab-row", role: "tablist", "aria-label": t("Parts of the task") });
  #panel = make("div", { id: "view", className: "view", role: "tabpanel", tabindex: 0 });
  #views = {};

  /** `host` is the element, `steps` the nodes of the first tab. */
  constructor(host, steps) {
    this.#host = host;
    for (const name of Object.keys(VIEWS)) this.#views[name] = make("div", { part: `view-${name}` });
    this.#views.steps.append(...steps);
    this.#views.output.append(make("ol", { className: "output", "aria-label": t("Messages of the task, the newest last") }));
    this.#panel.append(...Object.values(this.#views));
    this.#tabs = new Tabs(this.#row, this.#panel, VIEWS, () => this.#chosen());
    this.#row.addEventListener("click", () => (this.#hasChosen = true));
    this.#show();
  }

  /** The nodes that stand above the bar, and below it. */
  get nodes() {
    return { above: [this.#facts], below: [this.#question.node, this.#failure, this.#row, this.#panel] };
  }

  /** Begin with another task. */
  begin(client, task, signal) {
    [this.#client, this.#task, this.#signal] = [client, task, signal];
    this.#known = this.#read = this.#schema = null;
    this.#lastLine = "";
    this.#hasChosen = this.#hasOutput = false;
    showText(this.#facts, "");
    showText(this.#failure, "");
    this.#views.output.firstElementChild.replaceChildren();
    for (const name of ["result", "params", "attempts", "why"]) this.#views[name].replaceChildren();
    this.#tabs.hide("why", false);
    this.#tabs.hide("result");
    this.#tabs.choose("steps");
    this.#question.begin(client, task.id, signal);
  }

  /** Take a snapshot; what it does not tell is asked for when the task goes over to another state. */
  show(snapshot) {
    this.#note(snapshot);
    // Not before: there may be no such task.
    if (!this.#hasOutput) this.#loadOutput();
    const state = `${snapshot.status} ${snapshot.attempt}`;
    if (state === this.#read) return;
    this.#read = state;
    this.#reload();
  }

  /** Take the end. */
  finish({ status, result, error }) {
    showText(this.#failure, status === "completed" ? "" : (error ?? ""));
    this.#question.end();
    this.#read = null;
    this.#reload();
    if (status !== "completed" || result === null) return;
    this.#tabs.hide("result", false);
    this.#drawResult(result);
    if (!this.#hasChosen) this.#tabs.choose("result");
  }

  /** Ask anew for what the server tells in words. */
  languageChanged() {
    if (!this.#known) return;
    this.#schema = null;
    this.#reload();
    this.#loadOutput();
  }

  /** The parameters of the task; null while they are not known. */
  get submission() {
    return this.#known && { kind: this.#known.kind, params: this.#known.params, label: this.#known.label };
  }

  async #reload() {
    const signal = this.#signal;
    try {
      const known = await this.#task.read();
      if (signal.aborted) return;
      this.#known = known;
      this.#drawKnown(known);
      await this.#loadChosen();
    } catch (error) {
      if (!signal.aborted && error.status !== 404) this.#host.showError(error);
    }
  }

  #drawKnown(known) {
    showText(this.#facts, joined(whenOf(known)));
    showText(this.#facts, known.ended_at ? momentInWords(Date.parse(known.ended_at)) : "", "title");
    this.#drawParams();
    this.#views.attempts.replaceChildren(attemptsOf(known));
    if (known.status === "completed" && known.result !== null) this.#drawResult(known.result);
  }

  #drawParams() {
    this.#views.params.replaceChildren(paramsOf(this.#known, this.#schema ?? {}));
  }

  #drawResult(result) {
    const { kind } = this.#known ?? {};
    // The kind says by which view; it comes with the rest.
    if (!kind) return;
    this.#views.result.replaceChildren(drawResult(kind, result, this.#known));
  }

  /** Keep each message once, as it came. */
  #note({ message, updated_at: at }) {
    if (!message || message === this.#lastLine) return;
    this.#changeOutput((list) => list.append(lineOf({ message, updated_at: at })));
  }

  /** Put what was told before this view was opened in front of what it has heard. */
  async #loadOutput() {
    const signal = this.#signal;
    this.#hasOutput = true;
    try {
      const { items, older } = await this.#task.output();
      if (signal.aborted) return;
      const last = items.at(-1);
      this.#changeOutput((list) => {
        const heard = [...list.children].filter((line) => timeOf(line) > (last?.updated_at ?? ""));
        if (heard.length && textOf(heard[0]) === last?.message) heard.shift();
        const gone = make("li", { className: "muted", text: t("Earlier messages are not kept any more.") });
        list.replaceChildren(...(older ? [gone] : []), ...items.map(lineOf), ...heard);
      });
    } catch (error) {
      // Without it there is what is heard from now on; a server of an earlier version has none.
      if (!signal.aborted && error.status !== 404) this.#host.showError(error);
    }
  }

  /** Change the lines; who stands at their end stays there. */
  #changeOutput(change) {
    const list = this.#views.output.firstElementChild;
    const wasAtEnd = this.#panel.scrollTop + this.#panel.clientHeight >= this.#panel.scrollHeight - 4;
    change(list);
    while (list.children.length > MOST_LINES) list.firstElementChild.remove();
    this.#lastLine = textOf(list.lastElementChild);
    if (wasAtEnd) this.#panel.scrollTop = this.#panel.scrollHeight;
  }

  #chosen() {
    this.#show();
    this.#loadChosen();
  }

  async #loadChosen() {
    if (this.#tabs.chosen === "why") await this.#loadReasons();
    else if (this.#tabs.chosen === "params" && this.#known && !this.#schema) await this.#loadSchema();
  }

  #show() {
    for (const [name, view] of Object.entries(this.#views)) view.hidden = name !== this.#tabs.chosen;
  }

  async #loadSchema() {
    const signal = this.#signal;
    const { kind } = this.#known;
    try {
      const found = (await this.#client.kinds()).find((one) => one.kind === kind);
      if (signal.aborted) return;
      this.#schema = found?.params_schema ?? {};
      this.#drawParams();
    } catch (error) {
      if (!signal.aborted) this.#host.showError(error);
    }
  }

  async #loadReasons() {
    const signal = this.#signal;
    const view = this.#views.why;
    if (!view.firstChild) view.replaceChildren(make("p", { className: "muted", text: t("Loading …") }));
    try {
      const reasons = await this.#client.request("GET", `/api/tasks/${this.#task.id}/why`, undefined, { signal });
      if (!signal.aborted) view.replaceChildren(...reasonsOf(reasons));
    } catch (error) {
      if (signal.aborted) return;
      // A server of an earlier version cannot say.
      if (error.status === 404) this.#tabs.hide("why");
      else view.replaceChildren(make("p", { className: "error", text: errorInWords(error) }));
    }
  }
}

function lineOf({ message, updated_at: at }) {
  const time = make("time", { datetime: at, text: momentInWords(Date.parse(at), TO_THE_SECOND) });
  return make("li", { children: [time, make("span", { text: message })] });
}

const timeOf = (line) => line.querySelector("time")?.dateTime ?? "";
const textOf = (line) => line?.querySelector("span")?.textContent ?? "";

function whenOf({ created_at: made, started_at: started, ended_at: ended, attempt, max_attempts: most, kind }) {
  const at = (moment) => clockOf(Date.parse(moment));
  const facts = [kind];
  if (started) facts.push(t("started {time}", { time: at(started) }));
  else facts.push(t("submitted {time}", { time: at(made) }));
  if (ended) facts.push(t("ended {time}", { time: at(ended) }));
  if (started && ended) facts.push(t("took {time}", { time: lengthOf((Date.parse(ended) - Date.parse(started)) / 1000) }));
  if (attempt > 1) facts.push(most ? t("attempt {attempt} of {most}", { attempt, most }) : t("attempt {attempt}", { attempt }));
  return facts;
}

function paramsOf({ params, tags, priority, key, task_id: id }, schema) {
  const more = { ...(tags?.length ? { tags } : {}), ...(key ? { key } : {}), ...(priority !== "normal" ? { priority } : {}), task_id: id };
  return make("div", { children: [drawValue(params ?? {}, 0, schema), make("h3", { text: t("Task") }), drawValue(more)] });
}

function attemptsOf({ attempts = [], max_attempts: most }) {
  if (!attempts.length) return make("p", { className: "muted", text: t("It has not been started yet.") });
  const drawn = attempts.map(({ attempt, started_at: started, ended_at: ended, outcome, error }) => {
    const took = ended && t("took {time}", { time: lengthOf((Date.parse(ended) - Date.parse(started)) / 1000) });
    const head = make("p", { children: [
      make("b", { text: t("Attempt {attempt}", { attempt }) }), " ",
      make("span", { className: "status", "data-status": outcome, text: statusInWords(outcome) }), " ",
      make("span", { className: "muted", text: joined([momentInWords(Date.parse(started)), took], t(", ")) }),
    ] });
    return make("li", { children: [head, ...(error ? [make("p", { className: "error", text: error })] : [])] });
  });
  const bound = most ? [make("p", { className: "muted", text: tn(most, "At most {n} attempt.", "At most {n} attempts.") })] : [];
  return make("div", { children: [make("ol", { className: "attempts plain", children: drawn }), ...bound] });
}

function reasonsOf({ cause, chain = [] }) {
  const drawn = chain.map(({ at, text }) => {
    const moment = at === null || at === undefined ? null : Date.parse(at);
    const time = moment === null ? [] : [make("time", { datetime: at, title: momentInWords(moment), text: ago(moment) })];
    return make("li", { children: [make("span", { text }), ...time] });
  });
  const head = cause ? [make("p", { className: "cause", text: cause.text })] : [];
  return [...head, make("ol", { className: "chain", children: drawn })];
}

/** `<rt-task task-id>` and `<rt-batch batch-id>`: how far something has come. */


const ENDED = new Set(["completed", "failed", "cancelled", "dead", "partial"]);
const AGAIN = new Set(["failed", "cancelled", "dead"]);
const CANCEL = { label: t("Cancel"), act: "cancel" };
const RUN_AGAIN = { label: t("Run again"), act: "retry" };
// These submit a task anew.
const RUN_COPY = { label: t("Run a copy"), act: "copy" };
const RUN_FAILED = { label: t("Run again what failed"), act: "copy" };

/** The base of both: a title, a status, a line of words, a button, and the drawing of the snapshot. */
class ProgressElement extends RealtimeElement {
  static sheets = [DETAILS_SHEET];

  #parts;
  #drawing;
  #watched = null;
  #verb = null;

  build() {
    this.#drawing = new Drawing(this, (snapshot) => this.words(snapshot));
    const isFull = this.hasAttribute("full");
    const title = make(isFull ? "h2" : "p", { part: "title", className: "title", id: "title" });
    const status = make("span", { part: "status", className: "status", text: t("loading") });
    const detail = make("span", { part: "detail", className: "detail" });
    const button = make("button", { part: "button", type: "button", on: { click: () => this.#act() } });
    button.hidden = true;
    this.#parts = { title, status, detail, button };
    const { bar, line, steps } = this.#drawing.nodes;
    const { above, below } = this.buildMore(steps);
    if (isFull) {
      const head = make("header", { part: "header", children: [title, status, button] });
      return [head, ...above, ...bar, ...line, make("div", { className: "row", children: [detail] }), ...below];
    }
    const row = make("div", { className: "row", children: [detail, button] });
    return [make("header", { part: "header", children: [title, status] }), ...above, ...bar, ...line, row, ...below];
  }

  /** Return the nodes above the bar and below the line; `steps` are those of the drawing. */
  buildMore(steps) {
    return { above: [], below: steps };
  }

  /**
   * Return what is watched.
   * @returns {any}
   */
  watched(_client) {
    throw new TypeError("each element watches something");
  }

  follow(client, signal) {
    this.#reset();
    const watched = (this.#watched = this.watched(client));
    watched.addEventListener("progress", ({ detail }) => this.#show(detail.snapshot), { signal });
    watched.addEventListener("finished", ({ detail }) => this.#finish(detail), { signal });
    watched.addEventListener("error", ({ detail }) => client.state !== "closed" && this.#fail(detail), { signal });
    this.begin(client, watched, signal);
    return () => {
      this.#drawing.stop();
      watched.close();
    };
  }

  /** Begin to show the rest; it ends with `signal`. */
  begin(_client, _watched, _signal) {}

  /** Take a snapshot for the rest. */
  showMore(_snapshot) {}

  /** Take the end for the rest; return whether it tells the error. */
  finishMore(_event) {
    return false;
  }

  /** Texts of the server are asked for again, in the other language. */
  async languageChanged() {
    const watched = this.#watched;
    try {
      const snapshot = await watched?.read();
      if (snapshot && watched === this.#watched && this.#drawing.shown.snapshot) this.#show(snapshot);
    } catch {
      // The next message is in the other language.
    }
  }

  /** Let nothing go on by the clock while nothing comes. */
  stateChanged(state) {
    if (state === "online" || state === "idle") this.#drawing.resume();
    else this.#drawing.stop();
  }

  #fail(error) {
    const { title, status } = this.#parts;
    showText(title, title.textContent || this.watchedId);
    showText(status, error.status === 404 ? t("not found") : t("error"));
    this.showFailure(error);
  }

  #reset() {
    const { title, status, detail, button } = this.#parts;
    this.#drawing.reset();
    showText(title, this.title || this.getAttribute("label") || "");
    showText(status, t("loading"));
    setAttribute(status, "data-status", null);
    showText(detail, "");
    button.hidden = true;
    this.removeAttribute("state");
  }

  #show(snapshot) {
    const { title, detail } = this.#parts;
    showText(title, this.getAttribute("label") || snapshot.label || this.titleOf(snapshot));
    showText(detail, this.words(snapshot));
    this.#setStatus(snapshot.status);
    this.#drawing.show(snapshot, this.client.skew);
    this.showMore(snapshot);
    this.#tell("rt-progress", snapshot);
  }

  #finish(event) {
    const { status, error, result } = event;
    this.#setStatus(status);
    const { snapshot } = this.#drawing.shown;
    if (snapshot) this.#drawing.show({ ...snapshot, status }, this.client.skew);
    if (this.finishMore(event)) showText(this.#parts.detail, "");
    else if (error) showText(this.#parts.detail, error);
    this.#drawing.say(t("{name}: {status}", { name: this.#parts.title.textContent, status: statusInWords(status) }));
    this.#tell("rt-finished", { status, error, result });
  }

  #setStatus(status) {
    const { status: shown, button } = this.#parts;
    showText(shown, statusInWords(status));
    setAttribute(shown, "data-status", status);
    const verb = (this.#verb = this.verbFor(status));
    const hadFocus = this.shadowRoot.activeElement === button;
    button.hidden = !verb || this.hasAttribute("readonly");
    showText(button, verb?.label ?? "");
    button.disabled = false;
    if (hadFocus && button.hidden) this.#keepFocus();
  }

  /** Keep the focus here when its button goes. */
  #keepFocus() {
    this.#parts.title.tabIndex = -1;
    this.#parts.title.focus();
  }

  verbFor(status) {
    if (!ENDED.has(status)) return CANCEL;
    return AGAIN.has(status) ? RUN_AGAIN : null;
  }

  titleOf({ kind }) {
    return kind ?? "";
  }

  async #act() {
    const { button } = this.#parts;
    button.disabled = true;
    try {
      const { act } = this.#verb;
      if (act === "copy") this.#tell("rt-submitted", await this.copy());
      else await this.#watched[act]();
      this.showError(null);
    } catch (error) {
      this.showError(error);
    } finally {
      button.disabled = false;
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}

/**
 * Shows a task. `label` is its title in place of its own, `readonly` takes the button away. With `full` it has tabs with
 * the result, drawn by the view of its kind, the messages, the parameters, the attempts and the reasons; and one that
 * completed can be run as a copy, of which `rt-submitted` tells.
 */
class TaskElement extends ProgressElement {
  static observedAttributes = ["task-id", "src", "token", "label"];

  #details = null;

  get watchedId() {
    return this.getAttribute("task-id") ?? "";
  }

  languageChanged() {
    this.#details?.languageChanged();
    return super.languageChanged();
  }

  buildMore(steps) {
    if (!this.hasAttribute("full")) return super.buildMore(steps);
    this.#details = new TaskDetails(this, steps);
    return this.#details.nodes;
  }

  watched(client) {
    return client.task(this.watchedId);
  }

  begin(client, task, signal) {
    this.#details?.begin(client, task, signal);
  }

  showMore(snapshot) {
    this.#details?.show(snapshot);
  }

  finishMore(event) {
    this.#details?.finish(event);
    return this.#details !== null;
  }

  words(snapshot) {
    const { status, position, message, current_step_name: step, done, total, unit } = snapshot;
    if (status === "queued" && position) return t("number {position} in the line", { position });
    const counted = total ? joined([t("{done} of {total}", { done, total }), unit], " ") : "";
    return joined([message || step, counted]);
  }

  verbFor(status) {
    return super.verbFor(status) ?? (this.#details ? RUN_COPY : null);
  }

  /** Submit it anew as another task; return that. */
  async copy() {
    const { kind, params, label } = this.#details.submission ?? (await this.client.task(this.watchedId).read());
    const task = await this.client.submit(kind, params, label ? { label } : {});
    return { task };
  }
}

/**
 * Shows a batch, by how many of its tasks have ended. With `full` it has a grid of them; each leads to the address that
 * `task-link` tells, in which {id} is the task's; and those that failed can be run again as another batch, of which
 * `rt-submitted` tells.
 */
class BatchElement extends ProgressElement {
  static observedAttributes = ["batch-id", "src", "token", "label"];

  #grid = null;

  get watchedId() {
    return this.getAttribute("batch-id") ?? "";
  }

  buildMore(steps) {
    if (!this.hasAttribute("full")) return super.buildMore(steps);
    this.#grid = new BatchGrid(({ task_id: id }) => (this.getAttribute("task-link") ?? "").replaceAll("{id}", id));
    return { above: [], below: [...steps, this.#grid.node, this.#grid.more] };
  }

  watched(client) {
    return client.batch(this.watchedId);
  }

  begin(_, batch, signal) {
    this.#grid?.begin(batch, signal);
  }

  showMore() {
    this.#grid?.loadSoon();
  }

  finishMore() {
    this.#grid?.loadSoon();
    return false;
  }

  titleOf({ total, kind }) {
    return this.#grid ? t("Batch of {total}", { total }) : (kind ?? "");
  }

  words({ total, completed, failed, dead, cancelled }) {
    const bad = (failed ?? 0) + (dead ?? 0);
    return joined([
      t("{completed} of {total} completed", { completed, total }),
      bad && t("{bad} failed", { bad }), cancelled && t("{cancelled} cancelled", { cancelled }),
    ]);
  }

  verbFor(status) {
    if (status !== "partial" && !AGAIN.has(status)) return super.verbFor(status);
    if (status === "cancelled") return null;
    return this.#grid ? RUN_FAILED : RUN_AGAIN;
  }

  /** Submit those that failed as another batch, which can be watched as a whole: this one has its end. */
  async copy() {
    const failed = [];
    for await (const task of this.client.batch(this.watchedId).tasks()) {
      if (task.status === "failed" || task.status === "dead") failed.push(task);
    }
    if (!failed.length) throw new ToldError(t("those that failed were run again already"));
    return { batch: await this.client.submitBatch(failed[0].kind, failed.map(({ params }) => params).reverse()) };
  }
}

/** The markup of `<rt-inbox>`: constant, so that nothing of the server is read as HTML. Its texts are marked by `data-t`. */


const BELL = `
<button id="bell" part="bell" class="bell" type="button" aria-expanded="false" aria-controls="inbox" aria-haspopup="dialog" aria-label="Notifications" data-t="aria-label">
  <svg aria-hidden="true" viewBox="0 0 24 24" width="22" height="22"><path fill="none" stroke="currentColor" stroke-width="1.8"
    stroke-linecap="round" stroke-linejoin="round"
    d="M18 9a6 6 0 1 0-12 0c0 5-2 6.5-2 6.5h16S18 14 18 9M10 19.5a2.2 2.2 0 0 0 4 0"/></svg>
  <span id="unseen-badge" class="count" hidden>0</span>
</button>`;

const PANEL = `
<div class="inbox-head">
  <h2 id="inbox-title" part="title" tabindex="-1"></h2>
  <span id="unread-badge" part="badge" class="badge" hidden></span>
  <span id="inbox-count" class="sr" role="status"></span>
  <button id="inbox-close" part="button" class="quiet icon-button" type="button" aria-label="Close the notifications" data-t="aria-label">✕</button>
  <div class="verbs">
    <button id="read-all" part="button" class="quiet" type="button" disabled data-t>Mark all as read</button>
    <button id="archive-read" part="button" class="quiet" type="button" data-t>Archive read</button>
  </div>
</div>
<div id="inbox-tabs" role="tablist" aria-label="Which notifications" data-t="aria-label"></div>
<form id="inbox-search" role="search">
  <label for="inbox-words" class="sr" data-t>Words of the title</label>
  <input id="inbox-words" type="search" placeholder="Search titles" maxlength="200" autocomplete="off" data-t="placeholder">
</form>
<p id="inbox-error" class="error" role="alert"></p>
<div id="inbox-panel" role="tabpanel" tabindex="0" aria-busy="true">
  <ul id="notifications" part="items" class="plain" tabindex="-1" aria-label="Notifications, the newest first" data-t="aria-label"></ul>
  <p id="inbox-empty" part="empty" class="nothing" data-t>Loading …</p>
  <button id="more" part="button" type="button" hidden data-t>Older ones</button>
</div>
<div class="inbox-foot">
  <slot></slot>
  <details id="preferences">
    <summary data-t>Preferences</summary>
    <form id="preferences-form" hidden>
      <table>
        <thead><tr><th scope="col" data-t>Tell me of</th><th scope="col" data-t>live</th><th scope="col" data-t>by e-mail</th></tr></thead>
        <tbody id="types"></tbody>
      </table>
      <div class="pref">
        <label for="least-severity" data-t>Least severity</label>
        <select id="least-severity">
          <option value="info" data-t>info</option><option value="success" data-t>success</option>
          <option value="warning" data-t>warning</option><option value="error" data-t>error</option>
        </select>
      </div>
      <label class="check"><input id="quiet" type="checkbox"> <span data-t>Quiet hours</span></label>
      <fieldset id="quiet-hours" hidden>
        <legend class="sr" data-t>Quiet hours</legend>
        <label><span data-t>from</span> <input id="quiet-from" type="time" required></label>
        <label><span data-t>to</span> <input id="quiet-to" type="time" required></label>
        <label><span data-t>in</span> <input id="quiet-zone" required maxlength="64" autocomplete="off" spellcheck="false" aria-label="Time zone" data-t="aria-label"></label>
        <label class="check"><input id="quiet-errors" type="checkbox"> <span data-t>not for errors</span></label>
      </fieldset>
      <div class="pref">
        <label for="locale"><span data-t>Language</span> <span class="hint" data-t>a tag such as en or de-AT; empty: the server's</span></label>
        <input id="locale" maxlength="35" autocomplete="off" spellcheck="false">
      </div>
      <label id="address-line" class="check"><input id="address-on" type="checkbox"> <span data-t>Write to my e-mail address</span></label>
      <button part="button" type="submit" data-t>Save</button>
      <span id="preferences-told" role="status"></span>
    </form>
    <p id="preferences-error" class="error" role="alert"></p>
  </details>
</div>
<div id="inbox-toast" hidden>
  <span id="toast-text" role="status"></span>
  <button id="undo" part="button" class="quiet" type="button" hidden data-t>Undo</button>
  <button id="toast-close" part="button" class="quiet icon-button" type="button" aria-label="Close this message" data-t="aria-label">✕</button>
</div>`;

/** Return the nodes of a constant markup. */
function nodesOf(markup) {
  const template = document.createElement("template");
  template.innerHTML = markup;
  readMarks(template.content);
  return template.content;
}

/** The user's notifications as an element knows them: what came by lists and what came live, in one place. */


const isInInbox = (one) => !one.archived_at && !one.snoozed_until;

/** The tabs: what the server is asked for, and which notifications stand there. */
const INBOX_TABS = {
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
function isKept(one) {
  return Boolean(one.user_id);
}

/**
 * Every tab is in the order of `seq`, the highest first. An event replaces what is known of its
 * notifications; a list does so unless an event of its version or a later one came before it.
 */
class InboxStore {
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
const SNOOZES = {
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
function webAddress(text, protocols = ["http:", "https:"]) {
  if (typeof text !== "string") return "";
  const isPath = text.startsWith("/");
  if (!URL.canParse(text, isPath ? HERE : undefined)) return "";
  const { origin, protocol } = new URL(text, isPath ? HERE : undefined);
  return (isPath ? origin === HERE : protocols.includes(protocol)) ? text : "";
}

/** Return what a user may do with one now: a verb, with how long to snooze behind a colon, and its label. */
function verbsOf(one) {
  const snoozes = Object.entries(SNOOZES).map(([name, { label }]) => [`snooze:${name}`, label]);
  const pin = one.pinned ? ["unpin", t("Unpin")] : ["pin", t("Pin")];
  if (one.archived_at) return [["unarchive", t("Move to the inbox")], pin, ["delete", t("Delete")]];
  const first = one.snoozed_until
    ? ["unsnooze", t("Back to the inbox now")]
    : one.status === "unread" ? ["read", t("Mark as read")] : ["unread", t("Mark as unread")];
  return [first, ["archive", t("Archive")], ...snoozes, pin, ["delete", t("Delete")]];
}

/** One notification as it is drawn. Its texts go in as text. */


const WEB = ["http:", "https:"];
// By http anybody on the way would see and change what the page loads.
const SECURE = ["https:"];
const ICONS = { info: "i", success: "✓", warning: "!", error: "✕" };
const SEVERITIES = { info: t("info"), success: t("success"), warning: t("warning"), error: t("error") };

/**
 * Draw one anew.
 * @param {HTMLLIElement} line
 * @param {object} one the notification
 * @param {{menu: boolean, parts: ?{items: object[]}}} open whether its menu is open, and what its
 *        digest stands for while that is shown
 */
function drawNotification(line, one, { menu, parts }) {
  line.dataset.status = one.status;
  line.dataset.severity = one.severity;
  line.setAttribute("part", `item ${one.status} ${one.severity}`);
  line.replaceChildren(
    severityIcon(one.severity),
    make("div", {
      className: "body",
      children: [
        headingOf(one),
        contentOf(one),
        ...pictureOf("image", one.image),
        ...actionsOf(one),
        ...digestOf(one, parts),
        ...(isKept(one) && menu ? [menuOf(one)] : []),
      ],
    }),
    ...(isKept(one) ? [menuButton(one, menu)] : []),
  );
}

/** Return a moment that says how long ago it was; `renewTimes` keeps it so. */
function timeElement(moment, words = ago) {
  const at = Date.parse(moment);
  const made = make("time", { datetime: moment, title: momentInWords(at), text: words(at) });
  made.renew = () => showText(made, words(at));
  return made;
}

/** Say anew how long ago the moments in here were. */
function renewTimes(root) {
  for (const one of root.querySelectorAll("time")) one.renew?.();
}

function severityIcon(severity) {
  return make("span", { className: "severity", role: "img", "aria-label": SEVERITIES[severity] ?? severity, text: ICONS[severity] ?? "i" });
}

function headingOf(one) {
  const isUnread = one.status === "unread";
  return make("p", {
    className: "heading",
    children: [
      ...(isUnread ? [make("span", { className: "dot", role: "img", "aria-label": t("Unread") })] : []),
      ...(one.pinned ? [make("span", { className: "pin", role: "img", "aria-label": t("Pinned"), text: "📌" })] : []),
      ...pictureOf("icon", one.icon),
      titleOf(one),
      " ",
      timeElement(one.created_at),
      ...(one.snoozed_until ? [" ", t("until"), " ", timeElement(one.snoozed_until, momentInWords)] : []),
    ],
  });
}

function titleOf({ title: text, link, count = 1 }) {
  const told = count > 1 ? `${text} (${count})` : text;
  const href = webAddress(link, WEB);
  return href ? make("a", { className: "name", href, text: told }) : make("b", { className: "name", text: told });
}

function contentOf(one) {
  return make("p", { className: "content", text: one.content ?? "" });
}

function pictureOf(className, address) {
  const src = webAddress(address, SECURE);
  if (!src) return [];
  // Elsewhere nobody needs to know which page shows it.
  const made = make("img", { className, alt: "", loading: "lazy", referrerpolicy: "no-referrer", on: { error: () => made.remove() } });
  made.src = src;
  return [made];
}

function actionsOf({ actions = [], answered, title }) {
  if (!actions.length) return [];
  const made = actions.map((one) => actionOf(one, answered, title)).filter(Boolean);
  return [make("p", { className: "offers", children: made })];
}

function actionOf({ id, label, link, answer }, answered, title) {
  if (answer === undefined || answer === null) {
    const href = webAddress(link, WEB);
    return href && make("a", { part: "action", className: "button", href, text: label });
  }
  const isChosen = answered?.action === id;
  const made = actButton(`answer:${id}`, isChosen ? `✓ ${label}` : label, isChosen ? t("Answered: {label}", { label }) : t("{label}: {title}", { label, title }));
  made.disabled = Boolean(answered);
  return made;
}

function digestOf({ count = 1, title }, parts) {
  if (count < 2) return [];
  const label = parts ? t("Hide them") : t("Show all {n}", { n: count });
  const made = actButton("parts", label, t("{label}: {title}", { label, title }));
  made.setAttribute("aria-expanded", String(Boolean(parts)));
  return [made, ...(parts ? [make("ul", { className: "parts plain", children: parts.items.map(partOf) })] : [])];
}

function partOf(one) {
  const heading = make("p", { className: "heading", children: [titleOf(one), " ", timeElement(one.created_at)] });
  return make("li", { children: [heading, contentOf(one)] });
}

function menuButton(one, isOpen) {
  const made = actButton("menu", "⋯", t("Menu: {title}", { title: one.title }));
  made.classList.add("menu-button");
  made.setAttribute("aria-expanded", String(isOpen));
  return made;
}

function menuOf(one) {
  const verbs = verbsOf(one).map(([act, label]) => actButton(act, label));
  return make("div", { className: "menu", role: "group", "aria-label": one.title, children: verbs });
}

/** Return a button that says by `act` what it is for; the list hears it. */
function actButton(act, label, name) {
  const made = make("button", { part: "button", type: "button", className: "quiet", text: label, "data-act": act });
  if (name) showText(made, name, "aria-label");
  return made;
}

/** The list of notifications that is shown: it keeps lines, open menus and the focus where they are. */


const MIDDLE = 1;

class NotificationRows {
  #list;
  #items = [];
  #menu = null;
  #parts = new Map();

  /**
   * @param {HTMLElement} list
   * @param {(act: string, id: string) => void} choose gets what a button is for, `follow` of a link
   */
  constructor(list, choose) {
    this.#list = list;
    list.addEventListener("click", ({ target }) => {
      const chosen = target.closest("button[data-act], a");
      if (chosen) choose(chosen.dataset.act ?? "follow", idAround(chosen));
    });
    // The middle button opens a link in another tab.
    list.addEventListener("auxclick", ({ target, button }) => {
      const link = button === MIDDLE && target.closest("a");
      if (link) choose("follow", idAround(link));
    });
    list.addEventListener("keydown", (event) => this.#onKey(event, choose));
  }

  get isEmpty() {
    return this.#items.length === 0;
  }

  /** Show these, in this order. */
  show(items) {
    this.#items = items;
    this.#draw();
  }

  toggleMenu(id) {
    this.#menu = this.#menu === id ? null : id;
    this.#draw();
  }

  /** Close the menu that is open; the focus goes to its button. */
  closeMenu() {
    this.#menu = null;
    this.#draw();
  }

  /** Return those of a digest that are shown; null: they are not. */
  parts(id) {
    return this.#parts.get(id) ?? null;
  }

  showParts(id, parts) {
    if (parts) this.#parts.set(id, parts);
    else this.#parts.delete(id);
    this.#draw();
  }

  #draw() {
    const focus = this.#focus();
    const lines = new Map([...this.#list.children].map((line) => [line.dataset.id, line]));
    const shown = new Set(this.#items.map(({ id }) => id));
    // Before the others are put in their places: what does not move keeps the focus.
    for (const [id, line] of lines) if (!shown.has(id)) line.remove();
    this.#items.forEach((one, index) => this.#drawLine(lines.get(one.id), one, index));
    const lined = [...this.#list.children];
    if (lined.length && !lined.some((line) => line.tabIndex === 0)) this.#enterAt(lined[0]);
    if (focus) this.#focusAgain(focus);
  }

  /** Let Tab reach this line, and no other. */
  #enterAt(chosen) {
    for (const line of this.#list.children) line.tabIndex = line === chosen ? 0 : -1;
  }

  #drawLine(known, one, index) {
    const line = known ?? make("li");
    line.dataset.id = one.id;
    if (!known) line.tabIndex = -1;
    const drawn = { one, menu: this.#menu === one.id, parts: this.parts(one.id) };
    if (!line.drawn || Object.keys(drawn).some((name) => drawn[name] !== line.drawn[name])) {
      drawNotification(line, one, drawn);
      line.drawn = drawn;
    }
    const there = this.#list.children[index];
    if (there !== line) this.#list.insertBefore(line, there ?? null);
  }

  #focus() {
    const active = this.#list.getRootNode().activeElement;
    const line = active?.closest("li[data-id]");
    if (!line || !this.#list.contains(line)) return null;
    const index = [...this.#list.children].indexOf(line);
    return { active, id: line.dataset.id, index, act: active.dataset.act };
  }

  /** Give the focus back: to the same button, to the menu's, or to the line that took its place. */
  #focusAgain({ active, id, index, act }) {
    if (this.#list.getRootNode().activeElement === active && active.isConnected) return;
    const lines = [...this.#list.children];
    const line = lines.find((one) => one.dataset.id === id) ?? lines[Math.min(index, lines.length - 1)];
    const buttons = [...(line?.querySelectorAll("button[data-act]:not(:disabled)") ?? [])];
    const found = buttons.find((one) => one.dataset.act === act) ?? buttons.find((one) => one.dataset.act === "menu");
    (act === undefined && active.localName === "li" ? (line ?? this.#list) : (found ?? line?.querySelector("a") ?? this.#list)).focus();
  }

  /** Arrows, Home and End move over the lines, Enter follows one, `e` archives it; Escape closes a menu. */
  #onKey(event, choose) {
    if (event.key === "Escape") return this.#leaveMenu(event);
    const lines = [...this.#list.children];
    const at = lines.indexOf(event.target.closest("li[data-id]"));
    const targets = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: lines.length - 1 };
    if (event.target !== lines[at]) return undefined;
    if (event.key in targets) {
      event.preventDefault();
      const next = lines[Math.min(Math.max(targets[event.key], 0), lines.length - 1)];
      this.#enterAt(next);
      next.focus();
    } else if (event.key === "Enter") lines[at].querySelector("a, button")?.click();
    else if (event.key === "e") choose("archive", lines[at].dataset.id);
    return undefined;
  }

  #leaveMenu(event) {
    if (this.#menu === null) return;
    event.stopPropagation();
    event.preventDefault();
    this.closeMenu();
  }
}

function idAround(node) {
  return node.closest("li[data-id]").dataset.id;
}

/** The look of `<rt-inbox>`. */

const INBOX_SHEET = `
:host { --_touch: 36px; }
@media (max-width: 30rem), (pointer: coarse) { :host { --_touch: 44px; } }
:host([bell]) { border: 0; padding: 0; background: none; display: inline-block; }
:host(:not([bell])) #inbox-close { display: none; }
.bell {
  position: relative; display: inline-flex; align-items: center; justify-content: center; border-color: transparent;
  color: inherit; width: var(--_touch); height: var(--_touch); padding: 0;
}
.count {
  position: absolute; top: 0; right: -2px; min-width: 1.5em; padding: 0 5px; border-radius: 1em; font-size: 11px;
  line-height: 1.5; font-weight: 700; background: var(--_bad); color: var(--_surface);
}
dialog {
  position: absolute; inset: calc(100% + 6px) 8px auto auto; margin: 0; z-index: 5; width: min(28rem, calc(100vw - 16px));
  max-height: min(44rem, calc(100dvh - 5rem)); overflow-y: auto; overscroll-behavior: contain; padding: 0 14px 14px;
  color: inherit; background: var(--_surface); border: 1px solid var(--_line); border-radius: 12px;
  box-shadow: 0 12px 40px #0003, 0 2px 8px #0002;
  /* The line that has the focus stands neither under the head nor under the message. */
  scroll-padding: 7rem 0 4rem;
}
@media (max-width: 30rem) {
  dialog { position: fixed; inset: 0; width: auto; max-width: none; max-height: none; height: 100dvh; border: 0; border-radius: 0; }
}
.inbox-head { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 8px; }
dialog .inbox-head { position: sticky; z-index: 2; top: 0; margin: 0 -14px; padding: 10px 14px 6px; background: var(--_surface); }
h2 { margin: 0; font-size: 1.07em; font-weight: 650; }
h2:focus { outline: none; }
#inbox-close { margin-left: auto; }
.verbs { display: flex; flex-wrap: wrap; justify-content: space-between; margin: 0 -8px; flex: 1 0 100%; }
:host(:not([bell])) .verbs { flex: 1 1 auto; justify-content: end; }
.badge {
  min-width: 1.6em; padding: 0 6px; border-radius: 1em; text-align: center; font-size: 0.8em; font-weight: 600;
  background: var(--_accent); color: var(--_on-accent);
}
button, summary, a.button { min-height: var(--_touch); }
.quiet { border-color: transparent; padding: 0 8px; }
.icon-button, .menu-button { min-width: var(--_touch); padding: 0; }
#inbox-tabs { display: flex; overflow-x: auto; border-bottom: 1px solid var(--_line); margin: 0 -14px 10px; padding: 0 8px; scrollbar-width: none; }
[role="tab"] {
  flex: none; border: 0; border-bottom: 2px solid transparent; border-radius: 0; padding: 0 9px; color: var(--_muted);
}
[role="tab"][aria-selected="true"] { border-bottom-color: var(--_accent); color: var(--_text); font-weight: 600; }
input, select {
  font: inherit; color: inherit; background: var(--_surface); border: 1px solid var(--_line); border-radius: 8px;
  min-height: var(--_touch); padding: 0 10px;
}
#inbox-words { width: 100%; margin-bottom: 6px; }
.items, #notifications { max-height: var(--rt-inbox-height, none); overflow-y: auto; }
#notifications > li {
  display: grid; grid-template-columns: 26px minmax(0, 1fr) auto; gap: 0 10px; padding: 10px 4px; position: relative;
  border-top: 1px solid var(--_line); min-height: calc(var(--_touch) + 12px); border-radius: 4px;
}
#notifications > li:first-child { border-top: 0; }
#notifications > li[data-status="unread"] { background: color-mix(in srgb, var(--_accent) 6%, transparent); }
.heading { display: flex; flex-wrap: wrap; gap: 0 6px; align-items: baseline; }
.heading .name { flex: 0 1 auto; font-weight: 500; color: var(--_text); }
a.name { text-decoration-color: color-mix(in srgb, currentColor 35%, transparent); text-underline-offset: 3px; }
li[data-status="unread"] .heading > .name { font-weight: 650; }
.dot { width: 7px; height: 7px; border-radius: 50%; background: var(--_accent); align-self: center; }
.pin { font-size: 0.8em; }
time { color: var(--_muted); font-size: 0.8em; margin-left: auto; white-space: nowrap; }
.content { white-space: pre-line; color: var(--_muted); font-size: 0.9em; margin-top: 2px; }
.content:empty { display: none; }
.severity {
  width: 26px; height: 26px; border-radius: 50%; display: grid; place-items: center; font-size: 13px; font-weight: 700;
  background: color-mix(in srgb, var(--_tone) 14%, transparent); color: var(--_tone); --_tone: var(--_accent);
}
[data-severity="success"] .severity { --_tone: var(--_good); }
[data-severity="warning"] .severity { --_tone: var(--_warn); }
[data-severity="error"] .severity { --_tone: var(--_bad); }
.image { display: block; max-width: 100%; max-height: 12rem; border-radius: 6px; margin-top: 6px; }
.icon { width: 1.25em; height: 1.25em; object-fit: contain; align-self: center; }
.menu-button { align-self: start; margin: -6px -4px 0 0; font-weight: 700; color: var(--_muted); }
.menu, .offers { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 8px; }
.menu button, .offers :is(button, a) { border-color: var(--_line); }
a.button {
  display: inline-flex; align-items: center; padding: 0 10px; color: var(--_accent); font-size: 0.87em;
  border: 1px solid var(--_line); border-radius: 6px; text-decoration: none;
}
.parts { margin: 6px 0 0 8px; padding-left: 10px; border-left: 2px solid var(--_line); }
.parts li { padding: 4px 0; }
.nothing { color: var(--_muted); text-align: center; padding: 28px 0; }
.inbox-foot { border-top: 1px solid var(--_line); margin-top: 6px; padding-top: 6px; }
summary { align-content: center; color: var(--_muted); cursor: pointer; font-size: 0.87em; border-radius: 6px; }
table { width: 100%; border-collapse: collapse; margin-bottom: 10px; font-size: 0.93em; }
th { text-align: left; font-weight: 400; }
thead th { color: var(--_muted); font-size: 0.87em; }
th .hint { display: block; }
.hint { color: var(--_muted); font-size: 0.85em; }
td, th:not(:first-child) { text-align: center; min-width: var(--_touch); height: var(--_touch); }
.check { display: flex; align-items: center; gap: 8px; min-height: var(--_touch); }
input[type="checkbox"] { width: 18px; height: 18px; min-height: 0; accent-color: var(--_accent); }
fieldset { border: 1px solid var(--_line); border-radius: 8px; display: grid; gap: 6px; margin: 0 0 10px; min-width: 0; }
.pref { display: grid; gap: 4px; margin-bottom: 10px; }
#inbox-toast {
  position: sticky; bottom: 8px; z-index: 3; display: flex; align-items: center; gap: 8px; padding: 2px 6px 2px 14px; margin-top: 8px;
  background: var(--_text); color: var(--_surface); border-radius: 10px; font-size: 0.93em; box-shadow: 0 4px 16px #0004;
}
#inbox-toast button { color: inherit; text-decoration: underline; text-underline-offset: 3px; }
#inbox-toast .icon-button { text-decoration: none; }
#toast-text { flex: 1; }
`;

/** The form of a user's preferences, and its translation into the server's JSON and back. */

// The ways of a type that neither its user nor the list of types decided on.
const PUSHED = { push: true, email: false };

/** Return the types of the form: those that are listed, then those that the user named besides. */
function typesOf(listed, preferences) {
  const known = new Set(listed.map(({ type }) => type));
  const others = Object.keys(preferences.types).filter((type) => !known.has(type));
  return [...listed, ...others.map((type) => ({ type, title: type, description: null }))];
}

/** Return the ways in which a user is told of a type. */
function waysOf(preferences, { type, default: ways }) {
  return preferences.types[type] ?? preferences.default ?? ways ?? PUSHED;
}

/**
 * Return the preferences to keep: those of the form, and all that it does not show.
 * @param {object} before what was kept
 * @param {object[]} types those of the form
 * @param {{types: object, least_severity: string, quiet_hours: ?object, locale: string,
 *          address_on: boolean}} form
 */
function chosenPreferences(before, types, form) {
  const decided = types.filter((one) => one.type in before.types || differs(form.types[one.type], waysOf(before, one)));
  const kept = {
    ...before,
    types: { ...before.types, ...Object.fromEntries(decided.map(({ type }) => [type, form.types[type]])) },
    least_severity: form.least_severity,
    quiet_hours: form.quiet_hours && { ...before.quiet_hours, ...form.quiet_hours },
    locale: form.locale.trim() || null,
  };
  if (before.email) kept.email = { ...before.email, address_on: form.address_on };
  return kept;
}

function differs(ways, others) {
  return ways.push !== others.push || ways.email !== others.email;
}

/** The form of the preferences; it is asked for when it is opened, and hidden where the server has none. */


const TYPES = "/api/notifications/types";
const WAYS = { push: t("push"), email: t("email") };
const NIGHT = { from: "22:00", to: "07:00" };

class PreferencesForm {
  #$;
  #client = null;
  #onHide;
  #kept = null;
  #types = [];
  #isEdited = false;

  /** `find(id)` returns an element of the form; `onHide` is called before it is hidden with the focus in it. */
  constructor(find, onHide) {
    this.#$ = find;
    this.#onHide = onHide;
    this.#$("preferences").addEventListener("toggle", () => this.#isOpen && this.#do(() => this.#load()));
    this.#$("preferences-form").addEventListener("input", () => this.#edited());
    this.#$("preferences-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#do(() => this.#save());
    });
  }

  /** Begin with a client: its user's are asked for when they are wanted. */
  begin(client) {
    this.#client = client;
    this.#kept = null;
    this.#$("types").replaceChildren();
    this.#$("preferences").open = this.#$("preferences").hidden = false;
  }

  /** Learn what another device has kept; what is being edited here stays. */
  apply(preferences) {
    if (!this.#kept) return;
    if (this.#isEdited) this.#kept = preferences;
    else this.#show(preferences);
  }

  get #isOpen() {
    return this.#$("preferences").open;
  }

  async #do(action) {
    for (const id of ["preferences-error", "preferences-told"]) showText(this.#$(id), "");
    try {
      await action();
    } catch (error) {
      if (error.status === 404) this.#hide();
      else showText(this.#$("preferences-error"), errorInWords(error));
    }
  }

  #hide() {
    if (this.#$("preferences").contains(this.#$("preferences").getRootNode().activeElement)) this.#onHide();
    this.#$("preferences").hidden = true;
  }

  async #load() {
    if (this.#kept) return;
    this.#$("preferences-form").hidden = true;
    const preferences = await this.#client.inbox.preferences();
    this.#types = (await this.#client.request("GET", TYPES)).items;
    this.#show(preferences);
  }

  async #save() {
    this.#show(await this.#client.inbox.setPreferences(chosenPreferences(this.#kept, this.#shownTypes, this.#form())));
    showText(this.#$("preferences-told"), t("Saved"));
  }

  get #shownTypes() {
    return typesOf(this.#types, this.#kept);
  }

  #edited() {
    this.#isEdited = true;
    showText(this.#$("preferences-told"), "");
    this.#showQuiet();
  }

  #show(preferences) {
    this.#kept = preferences;
    this.#isEdited = false;
    const { least_severity: severity, quiet_hours: quiet, locale, email } = preferences;
    this.#showTypes();
    this.#$("least-severity").value = severity;
    this.#$("quiet").checked = Boolean(quiet);
    this.#$("quiet-from").value = quiet?.from ?? NIGHT.from;
    this.#$("quiet-to").value = quiet?.to ?? NIGHT.to;
    this.#$("quiet-zone").value = quiet?.timezone ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
    this.#$("quiet-errors").checked = Boolean(quiet?.except_errors);
    this.#$("locale").value = locale ?? "";
    this.#$("address-line").hidden = !email;
    this.#$("address-on").checked = Boolean(email?.address_on);
    this.#showQuiet();
    this.#$("preferences-form").hidden = false;
  }

  /** A row that is there keeps its boxes, and with them the focus. */
  #showTypes() {
    const rows = new Map([...this.#$("types").rows].map((row) => [row.dataset.type, row]));
    this.#$("types").append(...this.#shownTypes.filter(({ type }) => !rows.has(type)).map(typeRow));
    for (const one of this.#shownTypes) {
      const ways = waysOf(this.#kept, one);
      for (const box of this.#boxesOf(one.type)) box.checked = ways[box.name];
    }
  }

  #boxesOf(type) {
    return this.#$("types").querySelectorAll(`[data-type="${CSS.escape(type)}"] input`);
  }

  #showQuiet() {
    this.#$("quiet-hours").hidden = !this.#$("quiet").checked;
    for (const input of this.#$("quiet-hours").querySelectorAll("input")) input.disabled = !this.#$("quiet").checked;
  }

  #form() {
    const quiet = {
      from: this.#$("quiet-from").value,
      to: this.#$("quiet-to").value,
      timezone: this.#$("quiet-zone").value.trim(),
    };
    // A server that has no such exception is not told of it.
    if (this.#$("quiet-errors").checked || "except_errors" in (this.#kept.quiet_hours ?? {})) {
      quiet.except_errors = this.#$("quiet-errors").checked;
    }
    return {
      types: Object.fromEntries(this.#shownTypes.map(({ type }) => [type, waysIn(this.#boxesOf(type))])),
      least_severity: this.#$("least-severity").value,
      quiet_hours: this.#$("quiet").checked ? quiet : null,
      locale: this.#$("locale").value,
      address_on: this.#$("address-on").checked,
    };
  }
}

function typeRow({ type, title, description }) {
  const told = make("th", { scope: "row", text: title, children: description ? [make("span", { className: "hint", text: description })] : [] });
  const boxes = Object.entries(WAYS).map(([name, way]) =>
    make("td", { children: [make("input", { type: "checkbox", name, "aria-label": t("{title}: {way}", { title, way }) })] }));
  return make("tr", { "data-type": type, children: [told, ...boxes] });
}

function waysIn(boxes) {
  return Object.fromEntries([...boxes].map(({ name, checked }) => [name, checked]));
}

/** `<rt-inbox>`: one's notifications, as a panel or behind a bell. */


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
class InboxElement extends RealtimeElement {
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

/** `<rt-snapshot>`: draws what a page has got by a connection of its own. */


/**
 * Its property `snapshot` is that of a task or batch, null for none; `skew` is how far the server's clock is ahead
 * of that of this machine [s]. Its attribute `label` names the bar. Its content stands before the steps.
 */
class SnapshotElement extends HTMLElement {
  static observedAttributes = ["label"];

  #drawing = null;
  #title = make("span", { id: "title", className: "sr" });
  #snapshot = null;
  skew = 0;

  get snapshot() {
    return this.#snapshot;
  }

  set snapshot(snapshot) {
    this.#snapshot = snapshot;
    if (!this.#drawing) return;
    if (snapshot) this.#drawing.show(snapshot, this.skew);
    else this.#drawing.reset();
  }

  /** The share that is shown as done [%]. */
  get value() {
    return this.#snapshot && this.#drawing ? this.#drawing.shown.percent(Date.now()) : 0;
  }

  connectedCallback() {
    if (!this.#drawing) {
      this.#drawing = new Drawing(this, ({ current_step_name: step }) => step);
      const root = this.attachShadow({ mode: "open" });
      root.adoptedStyleSheets = [styleSheet()];
      const { bar, line, steps } = this.#drawing.nodes;
      root.append(this.#title, ...bar, ...line, make("slot"), ...steps);
      this.#drawing.reset();
    }
    // A property that was set before the element was defined hides the accessor.
    if (Object.hasOwn(this, "snapshot")) {
      const { snapshot } = this;
      delete this.snapshot;
      this.#snapshot = snapshot;
    }
    if (this.#snapshot) this.#drawing.show(this.#snapshot, this.skew);
    followLanguage(this.shadowRoot);
  }

  disconnectedCallback() {
    unfollowLanguage(this.shadowRoot);
    this.#drawing.stop();
  }

  attributeChangedCallback() {
    this.#title.textContent = this.getAttribute("label") ?? "";
  }
}

/** The look of `<rt-submit>`. */

const SUBMIT_SHEET = `
:host { --_touch: 38px; }
@media (max-width: 30rem), (pointer: coarse) { :host { --_touch: 44px; } }
form, .fields { display: grid; gap: 14px; min-width: 0; }
.field { display: grid; gap: 5px; min-width: 0; }
label, legend { font-weight: 550; font-size: 0.93em; }
.optional { font-weight: 400; color: var(--_muted); font-size: 0.9em; }
.hint { color: var(--_muted); font-size: 0.87em; font-weight: 400; }
input:not([type="checkbox"]), select, textarea {
  font: inherit; color: inherit; width: 100%; min-height: var(--_touch); padding: 6px 11px; border-radius: 8px;
  border: 1px solid var(--rt-field-line, light-dark(#8c959f, #6b7480)); background: var(--_surface);
}
textarea { resize: vertical; }
:is(input, select, textarea):focus-visible { outline: 2px solid var(--_accent); outline-offset: 1px; }
[aria-invalid="true"] { border-color: var(--_bad) !important; }
.field-error, .error { color: var(--_bad); font-size: 0.87em; }
.field-error:empty, .error:empty { display: none; }
fieldset { border: 1px solid var(--_line); border-radius: 8px; padding: 6px 12px 8px; margin: 0; min-width: 0; }
fieldset:focus { outline: none; }
.object { display: grid; gap: 12px; }
.choices { display: flex; flex-wrap: wrap; gap: 0 18px; }
.check { display: inline-flex; align-items: center; gap: 8px; min-height: var(--_touch); font-weight: 400; cursor: pointer; }
input[type="checkbox"] { width: 18px; height: 18px; margin: 0; accent-color: var(--_accent); }
button.main {
  min-height: 42px; font-size: 1em; font-weight: 600; background: var(--_accent); color: var(--_on-accent); border-color: var(--_accent);
}
@media (max-width: 30rem), (pointer: coarse) { button.main { min-height: 46px; } }
button.main:disabled { background: var(--_track); color: var(--_muted); border-color: var(--_line); }
`;

/** The fields of a form, made from a JSON Schema: each reads its value, and shows what is wrong with it. */


// Deeper objects are written as JSON.
const MOST_NESTED = 3;
const LONG_TEXT = 200;
const FORMATS = { date: "date", uri: "url", email: "email" };

/** A fault of the field at a path that is seen before anything is sent. */
class FieldFault extends ToldError {
  constructor(path, text) {
    super(text);
    this.path = path;
  }
}

/** The base: a label, an input, a hint and an error. A path is that of the fault in an answer, such as "size.width". */
class Field {
  constructor(path, name, schema, { isRequired = false, label = nameInWords(name) } = {}) {
    this.path = path;
    this.label = label;
    this.schema = schema;
    this.isRequired = isRequired;
    this.id = `param-${path.replaceAll(".", "-")}`;
    this.error = make("p", { id: `${this.id}-error`, className: "field-error", role: "alert" });
  }

  /** Build the field around its input. */
  frame(input) {
    this.input = input;
    input.id = this.id;
    input.setAttribute("aria-describedby", `${this.id}-error`);
    if (this.isRequired) input.setAttribute("aria-required", "true");
    const more = this.isRequired ? [] : [make("span", { className: "optional", text: t("optional") })];
    const label = make("label", { for: this.id, children: [this.label, " ", ...more] });
    const about = this.schema.description ? [make("p", { className: "hint", text: this.schema.description })] : [];
    this.node = make("div", { className: "field", children: [label, ...about, input, this.error] });
  }

  clearError() {
    showText(this.error, "");
    this.input?.removeAttribute("aria-invalid");
  }

  /** Return a fault of the server's, which begins with the path: the label takes its place. */
  inWords(fault) {
    const told = fault.startsWith(this.path) ? fault.slice(this.path.length).replace(/^\[(\d+)\]/, (_, at) => ` ${Number(at) + 1}`) : ` ${fault}`;
    return `${this.label}${told}`;
  }

  showError(text) {
    showText(this.error, text);
    this.input?.setAttribute("aria-invalid", "true");
  }

  /** Return the field that a fault is about; null: none here. */
  find(fault) {
    return fault === this.path || (fault.startsWith(this.path) && " .[".includes(fault[this.path.length])) ? this : null;
  }
}

class TextField extends Field {
  constructor(path, name, schema, options) {
    super(path, name, schema, options);
    const { default: value, maxLength, examples, format } = schema;
    const { isRequired } = this;
    const isLong = maxLength > LONG_TEXT || schema.contentMediaType !== undefined;
    const input = isLong
      ? make("textarea", { rows: 4 })
      : make("input", { type: FORMATS[format] ?? "text", autocomplete: "off", spellcheck: "false" });
    const [example = ""] = examples ?? [];
    // A field that may be left out only shows one.
    if (!isRequired) input.placeholder = String(example);
    input.value = typeof value === "string" ? value : isRequired ? String(example) : "";
    this.frame(input);
  }

  /** Return the text; undefined for an empty one that may be left out. */
  read() {
    return this.input.value === "" && !this.isRequired ? undefined : this.input.value;
  }
}

class NumberField extends Field {
  constructor(path, name, schema, options) {
    super(path, name, schema, options);
    const isWhole = schema.type === "integer";
    const bounds = { min: schema.minimum, max: schema.maximum };
    const known = Object.fromEntries(Object.entries(bounds).filter(([, bound]) => bound !== undefined));
    const input = make("input", { type: "number", step: isWhole ? 1 : "any", inputmode: isWhole ? "numeric" : "decimal", ...known });
    const proposed = schema.default ?? (this.isRequired ? schema.examples?.[0] : undefined);
    if (typeof proposed === "number") input.value = proposed;
    this.frame(input);
  }

  read() {
    if (this.input.validity.badInput) throw new FieldFault(this.path, t("{name} must be a number", { name: this.label }));
    return this.input.value === "" ? undefined : Number(this.input.value);
  }
}

class CheckField extends Field {
  constructor(path, name, schema, options) {
    super(path, name, schema, options);
    const input = make("input", { type: "checkbox" });
    input.checked = schema.default === true;
    this.frame(input);
    this.node.firstElementChild.remove();
    this.node.prepend(make("label", { className: "check", children: [input, make("span", { text: this.label })] }));
  }

  read() {
    return this.input.checked;
  }
}

class ChoiceField extends Field {
  constructor(path, name, schema, options) {
    super(path, name, schema, options);
    this.values = schema.enum ?? [schema.const];
    const none = this.isRequired && schema.default === undefined ? [] : [make("option", { value: "", text: t("as usual") })];
    const shown = this.values.map((_, at) => make("option", { value: at, text: nameOf(schema, at) }));
    const input = make("select", { children: [...(schema.default === undefined ? none : []), ...shown] });
    if (schema.default !== undefined) input.value = String(this.values.indexOf(schema.default));
    this.frame(input);
  }

  read() {
    return this.input.value === "" ? undefined : this.values[Number(this.input.value)];
  }
}

/** Several of a few: a box for each. Until one is touched the field is left out, if it may be. */
class ChoicesField extends Field {
  #isTouched;

  constructor(path, name, schema, options) {
    super(path, name, schema, options);
    const chosen = schema.default ?? [];
    this.#isTouched = this.isRequired || schema.default !== undefined;
    this.boxes = schema.items.enum.map((value, at) => {
      const box = make("input", { type: "checkbox", name: this.id, on: { change: () => (this.#isTouched = true) } });
      box.checked = chosen.includes(value);
      return { box, value, name: nameOf(schema.items, at) };
    });
    const labels = this.boxes.map(({ box, name }) => make("label", { className: "check", children: [box, make("span", { text: name })] }));
    const hint = this.#isTouched ? [] : [make("p", { className: "hint", text: t("None chosen: as usual.") })];
    this.input = make("fieldset", {
      id: this.id, tabindex: -1, "aria-describedby": `${this.id}-error`,
      children: [make("legend", { text: this.label }), ...hint, make("div", { className: "choices", children: labels })],
    });
    this.node = make("div", { className: "field", children: [this.input, this.error] });
  }

  read() {
    return this.#isTouched ? this.boxes.filter(({ box }) => box.checked).map(({ value }) => value) : undefined;
  }
}

/** Texts or numbers, one a line. */
class LinesField extends Field {
  constructor(path, name, schema, options) {
    super(path, name, schema, options);
    const input = make("textarea", { rows: 4, spellcheck: "false", placeholder: t("one a line") });
    if (Array.isArray(schema.default)) input.value = schema.default.join("\n");
    this.frame(input);
  }

  read() {
    const lines = this.input.value.split("\n").map((line) => line.trim()).filter(Boolean);
    if (!lines.length && !this.isRequired) return undefined;
    const { type } = this.schema.items ?? {};
    if (type !== "integer" && type !== "number") return lines;
    return lines.map((line, at) => {
      if (line === "" || !Number.isFinite(Number(line))) throw new FieldFault(this.path, t("{name} must be a number", { name: joined([this.label, at + 1], " ") }));
      return Number(line);
    });
  }
}

/** All else, as JSON. */
class JsonField extends Field {
  constructor(path, name, schema, options) {
    super(path, name, schema, options);
    const input = make("textarea", { rows: 4, spellcheck: "false", placeholder: "JSON" });
    if (schema.default !== undefined && schema.default !== null) input.value = JSON.stringify(schema.default, null, 2);
    this.frame(input);
  }

  read() {
    const text = this.input.value.trim();
    if (!text && !this.isRequired) return undefined;
    try {
      return JSON.parse(text);
    } catch {
      throw new FieldFault(this.path, t("{name} must be JSON", { name: this.label }));
    }
  }
}

/** An object with a field for each of its properties; the one on top has no frame. */
class ObjectField extends Field {
  constructor(path, name, schema, { root, depth = 0, ...options }) {
    super(path, name, schema, options);
    const required = new Set(schema.required ?? []);
    this.fields = new Map(Object.entries(schema.properties).map(([one, inner]) => {
      const at = path ? `${path}.${one}` : one;
      return [one, fieldOf(at, inner, { root, depth: depth + 1, isRequired: required.has(one), name: one })];
    }));
    const nodes = [...this.fields.values()].map(({ node }) => node);
    if (!nodes.length) nodes.push(make("p", { className: "hint", text: t("It takes no parameters.") }));
    this.node = path
      ? make("fieldset", { className: "object", children: [make("legend", { text: this.label }), ...nodes, this.error] })
      : make("div", { className: "fields", children: nodes });
  }

  read() {
    const pairs = [...this.fields].map(([name, field]) => [name, field.read()]).filter(([, value]) => value !== undefined);
    return pairs.length || this.isRequired ? Object.fromEntries(pairs) : undefined;
  }

  clearError() {
    super.clearError();
    for (const field of this.fields.values()) field.clearError();
  }

  find(fault) {
    for (const field of this.fields.values()) {
      const found = field.find(fault);
      if (found) return found;
    }
    return this.path ? super.find(fault) : null;
  }
}

function classOf(schema, root, depth) {
  const { type } = schema;
  if (schema.enum || schema.const !== undefined) return ChoiceField;
  if (type === "string") return TextField;
  if (type === "number" || type === "integer") return NumberField;
  if (type === "boolean") return CheckField;
  if (type === "array" && schema.items?.enum) return ChoicesField;
  if (type === "array" && ["string", "integer", "number"].includes(schema.items?.type)) return LinesField;
  if (type === "object" && schema.properties && depth < MOST_NESTED) return ObjectField;
  return JsonField;
}

/** Return the field of a schema; `root` has the `$defs` that it refers to. */
function fieldOf(path, schema, { root, depth = 0, isRequired = false, name = "" }) {
  const found = plainSchema(schema, root);
  const plain = found.items ? { ...found, items: plainSchema(found.items, root) } : found;
  const Made = classOf(plain, root, depth);
  // One that a class brings along is its own name, and no name of the field.
  const label = schema.title && name ? schema.title : nameInWords(name || "parameters");
  return new Made(path, name, plain, { root, depth, isRequired, label });
}

/** Return a field for several texts. */
function listField(name, label, value) {
  const field = new LinesField(name, name, { items: { type: "string" } }, { isRequired: true, label });
  field.input.value = value;
  return field;
}

/** `<rt-submit>`: a form that submits a task of any kind, made from the schema of the kind's parameters. */


// The parameter that the label of a task is made of: a batch has one task for each of its values.
const LABEL = /^\{(\w+)\}$/;
const DESCRIBED = /^(?:params\.|items\[\d+\]\.params\.|items\[\d+\]\.)?/;

/**
 * Submits tasks. `kind` names the one that is chosen first; `only` hides the others. It dispatches `rt-submitted` with
 * `{task}` or `{batch}`.
 */
class SubmitElement extends RealtimeElement {
  static observedAttributes = ["src", "token", "kind"];
  static sheets = [SUBMIT_SHEET];

  #kinds = [];
  #field = null;
  #several = null;
  #isBusy = false;
  #parts;

  build() {
    const choice = make("select", { id: "kind", on: { change: () => this.#choose() } });
    const kind = make("div", { className: "field", children: [make("label", { for: "kind", text: t("Kind of work") }), choice] });
    const note = make("p", { className: "hint", text: t("Loading …") });
    const body = make("div", { className: "fields" });
    const many = make("input", { type: "checkbox", id: "several", on: { change: () => this.#showSeveral() } });
    const several = make("label", { className: "check", children: [many, make("span", { text: t("Several at once, as a batch") })] });
    const error = make("p", { id: "submit-error", className: "error", role: "alert" });
    const button = make("button", { id: "submit-task", part: "submit", className: "main", type: "submit", text: t("Submit") });
    button.disabled = true;
    several.hidden = kind.hidden = true;
    const form = make("form", {
      id: "task-form", novalidate: "", children: [kind, note, body, several, error, button],
      on: { submit: (event) => this.#submit(event) },
    });
    this.#parts = { choice, kind, note, body, many, several, error, button };
    return [form];
  }

  follow(client, signal) {
    this.#load(client, signal);
    return () => {};
  }

  async #load(client, signal) {
    const { note, button } = this.#parts;
    try {
      const kinds = await client.kinds();
      if (signal.aborted) return;
      this.#kinds = [...kinds].sort((one, other) => Number(other.workers > 0) - Number(one.workers > 0));
      this.#showKinds();
    } catch (error) {
      if (signal.aborted) return;
      button.disabled = true;
      showText(note, errorInWords(error));
      note.hidden = false;
    }
  }

  #showKinds() {
    const { choice, kind, note, button } = this.#parts;
    const before = choice.value || this.getAttribute("kind") || "";
    choice.replaceChildren(...this.#kinds.map((one) => make("option", { value: one.kind, text: one.title || one.kind })));
    if (this.#kinds.some((one) => one.kind === before)) choice.value = before;
    kind.hidden = this.#kinds.length < 2 || this.hasAttribute("only");
    button.disabled = !this.#kinds.length;
    note.hidden = this.#kinds.length > 0;
    showText(note, t("No kind of work is known here yet."));
    if (this.#kinds.length) this.#choose();
  }

  get #kind() {
    return this.#kinds.find((one) => one.kind === this.#parts.choice.value);
  }

  #choose() {
    const { body, several, many, note } = this.#parts;
    const { params_schema: schema, workers, paused } = this.#kind;
    this.#field = fieldOf("", schema, { root: schema, isRequired: true });
    body.replaceChildren(this.#field.node);
    several.hidden = !this.#severalName;
    many.checked = false;
    note.hidden = workers > 0 && !paused;
    showText(note, paused ? t("This kind is paused: tasks wait until it goes on.") : t("No worker has this kind just now: tasks wait for one."));
    this.#showSeveral();
    this.#showErrors([]);
  }

  /** The parameter of which a batch has several, "" for none. */
  get #severalName() {
    const { label, params_schema: schema } = this.#kind;
    const name = LABEL.exec(label ?? "")?.[1];
    return name && schema.properties?.[name]?.type === "string" ? name : "";
  }

  #showSeveral() {
    const { many, button } = this.#parts;
    const single = this.#severalName && this.#field.fields.get(this.#severalName);
    this.#several?.node.remove();
    this.#several = null;
    if (single) single.node.hidden = many.checked;
    if (single && many.checked) {
      this.#several = listField(this.#severalName, single.label, single.input.value);
      single.node.before(this.#several.node);
    }
    showText(button, many.checked ? t("Submit batch") : t("Submit"));
  }

  async #submit(event) {
    event.preventDefault();
    if (this.#isBusy || !this.#kind) return;
    const { button } = this.#parts;
    this.#isBusy = button.disabled = true;
    this.#showErrors([]);
    try {
      const detail = this.#several ? { batch: await this.#submitBatch() } : { task: await this.#submitTask() };
      this.dispatchEvent(new CustomEvent("rt-submitted", { detail, bubbles: true, composed: true }));
    } catch (error) {
      this.#showFailed(error);
    } finally {
      this.#isBusy = button.disabled = false;
    }
  }

  #submitTask() {
    return this.client.submit(this.#kind.kind, this.#field.read() ?? {});
  }

  #submitBatch() {
    const name = this.#severalName;
    const { [name]: _, ...common } = this.#field.read() ?? {};
    const values = this.#several.read();
    if (!values.length) throw new FieldFault(name, t("{name} is required", { name: this.#several.label }));
    return this.client.submitBatch(this.#kind.kind, values.map((value) => ({ [name]: value })), { params: common });
  }

  #showFailed(error) {
    const faults = error instanceof FieldFault ? [error] : error.status === 422 ? error.errors : [];
    if (faults?.length) this.#showErrors(faults);
    else showText(this.#parts.error, errorInWords(error));
  }

  /** Show each fault at its field; those of no field stand above the button. */
  #showErrors(faults) {
    this.#field?.clearError();
    this.#several?.clearError();
    const rest = [];
    for (const fault of faults) {
      const isOwn = fault instanceof FieldFault;
      const told = isOwn ? fault.path : fault.replace(DESCRIBED, "");
      const field = this.#fieldFor(told);
      if (field) field.showError(isOwn ? fault.text : field.inWords(told));
      else rest.push(isOwn ? fault.text : nameInWords(told));
    }
    showText(this.#parts.error, joined(rest, t("; ")));
    this.shadowRoot.querySelector("[aria-invalid=true]")?.focus();
  }

  #fieldFor(fault) {
    if (this.#several && fault.startsWith(this.#severalName)) return this.#several;
    return this.#field.find(fault);
  }
}

/** The result of an analysis: the decision, the price with its averages, and the scores that speak for it. */


const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [640, 220];
const EDGE = { left: 44, right: 12, top: 10, bottom: 22 };
const AVERAGES = [3, 12];
const DECISIONS = { buy: t("BUY"), hold: t("HOLD"), sell: t("SELL") };
const SCORES = {
  market: t("Market"), fundamentals: t("Fundamentals"), news: t("News"), social: t("Social"), balance: t("Balance"),
};
const GRID_LINES = 4;

/** Return the node of a result; null if it is none of an analysis. */
function drawAnalysis(result) {
  if (typeof result?.decision !== "string") return null;
  const parts = [headOf(result)];
  if (result.prices?.length > 1) parts.push(chartOf(result));
  if (result.scores) parts.push(scoresOf(result));
  parts.push(factsOf(result));
  return make("div", { className: "analysis", part: "result-analysis", children: parts });
}

/** Return the analysis in a sentence of the reader's language; the handler's own where a number is missing. */
function sentenceOf({ symbol, decision, last_price: price, confidence, position_size: size, volatility, max_drawdown: fall, summary }) {
  if ([price, confidence, size, volatility, fall].some((one) => typeof one !== "number")) return summary;
  return t("{symbol}: {decision} at {price}, {confidence} confident, at most {size} of the capital; volatility {volatility} a year, deepest fall {fall}", {
    symbol, decision: DECISIONS[decision] ?? decision, price: dollars(price), confidence: percentOf(confidence),
    size: percentOf(size), volatility: percentOf(volatility), fall: percentOf(fall),
  });
}

function headOf(result) {
  const { decision, confidence } = result;
  const badge = make("strong", { className: "decision", text: DECISIONS[decision] ?? decision.toUpperCase(), "data-decision": decision });
  const sure = confidence === undefined ? [] : [make("span", { className: "muted", text: t("{share} confident", { share: percentOf(confidence) }) })];
  const head = make("p", { className: "decision-line", children: [badge, " ", ...sure] });
  const sentence = sentenceOf(result);
  return make("div", { children: [head, ...(sentence ? [make("p", { text: sentence })] : [])] });
}

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) showText(made, value, name);
  made.append(...children.map(nodeOf));
  return made;
}

function chartOf({ symbol, prices }) {
  const closes = prices.map(([, price]) => price);
  const lines = AVERAGES.map((months) => movingAverage(closes, months));
  const scale = scaleOf(closes);
  const first = prices[0], last = prices.at(-1);
  const told = t("{symbol}: from {low} in {since} to {high} in {until}", {
    symbol, low: dollars(first[1]), since: first[0].slice(0, 7), high: dollars(last[1]), until: last[0].slice(0, 7),
  });
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": told, class: "chart" },
    ...gridOf(scale), ...yearsOf(prices, scale),
    svg("path", { class: "price-area", d: areaOf(closes, scale) }),
    svg("path", { class: "price", d: pathOfLine(closes, scale) }),
    ...lines.map((line, index) => svg("path", { class: `average average-${index}`, d: pathOfLine(line, scale) })));
  const names = [t("Price [USD]"), ...AVERAGES.map((n) => t("Average of {n} months", { n }))];
  const keys = ["price", "average-0", "average-1"].map((name, index) =>
    make("li", { className: name, text: names[index] }));
  return make("figure", { children: [drawing, make("ul", { className: "legend", children: keys })] });
}

/** Return the mean of the last months at each month; null before there are enough. */
function movingAverage(values, months) {
  return values.map((_, at) => {
    if (at + 1 < months) return null;
    return values.slice(at + 1 - months, at + 1).reduce((sum, one) => sum + one, 0) / months;
  });
}

function scaleOf(values) {
  const most = niceAbove(Math.max(...values));
  const across = (WIDTH - EDGE.left - EDGE.right) / (values.length - 1);
  const down = (HEIGHT - EDGE.top - EDGE.bottom) / most;
  return { most, x: (at) => EDGE.left + at * across, y: (value) => HEIGHT - EDGE.bottom - value * down };
}

function niceAbove(value) {
  const size = 10 ** Math.floor(Math.log10(value || 1));
  return [1, 2, 2.5, 4, 5, 8, 10].map((one) => one * size).find((one) => one >= value);
}

function pathOfLine(values, { x, y }) {
  const points = values.flatMap((value, at) => (value === null ? [] : [`${x(at).toFixed(1)} ${y(value).toFixed(1)}`]));
  return points.length ? `M${points.join("L")}` : "";
}

function areaOf(values, scale) {
  const bottom = scale.y(0).toFixed(1);
  return `${pathOfLine(values, scale)}L${scale.x(values.length - 1).toFixed(1)} ${bottom}L${scale.x(0).toFixed(1)} ${bottom}Z`;
}

function gridOf({ most, y }) {
  return Array.from({ length: GRID_LINES + 1 }, (_, index) => (most / GRID_LINES) * index).flatMap((value) => [
    svg("line", { class: "grid", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(value), y2: y(value) }),
    svg("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, numberOf(value, { maximumSignificantDigits: 3 })),
  ]);
}

function yearsOf(prices, { x }) {
  const years = prices.map(([day]) => day.slice(0, 4));
  return years.flatMap((year, at) => {
    const isShown = year !== years[at - 1] && Number(year) % 2 === 0;
    return isShown ? [svg("text", { x: x(at), y: HEIGHT - 6, "text-anchor": at ? "middle" : "start" }, year)] : [];
  });
}

function scoresOf({ scores, balance }) {
  const rows = Object.entries({ ...scores, ...(balance === undefined ? {} : { balance }) });
  const drawn = rows.map(([name, score]) => {
    const bar = make("span", { className: "score-bar", "data-sign": score < 0 ? "bad" : "good" });
    bar.style.width = `${Math.min(Math.abs(score), 1) * 50}%`;
    bar.style.left = score < 0 ? `${50 - Math.min(-score, 1) * 50}%` : "50%";
    const track = make("span", { className: "score-track", "aria-hidden": true, children: [bar] });
    const told = numberOf(score, { minimumFractionDigits: 2, maximumFractionDigits: 2, signDisplay: "exceptZero" });
    return make("li", { children: [make("span", { text: SCORES[name] ?? nameInWords(name) }), track, make("span", { className: "score", text: told })] });
  });
  return make("ul", { className: "scores", "aria-label": t("Scores, from -1 against to +1 for buying"), children: drawn });
}

function factsOf({ last_price: price, volatility, max_drawdown: fall, position_size: size, market }) {
  const facts = [
    [t("Last price"), price === undefined ? null : dollars(price)],
    [t("Volatility"), volatility === undefined ? null : t("{share} a year", { share: percentOf(volatility) })],
    [t("Deepest fall"), fall === undefined ? null : percentOf(fall)],
    [t("At most"), size === undefined ? null : t("{share} of the capital", { share: percentOf(size) })],
    [t("RSI of {n} months", { n: 14 }), market?.rsi_14 ?? null],
  ];
  const drawn = facts.filter(([, told]) => told !== null).map(([name, told]) =>
    make("div", { children: [make("dt", { text: name }), make("dd", { text: told })] }));
  return make("dl", { className: "facts", children: drawn });
}

function dollars(price) {
  return t("{price} USD", { price });
}

setResultView("analysis", drawAnalysis);

const ELEMENTS = {
  "rt-task": TaskElement, "rt-batch": BatchElement, "rt-inbox": InboxElement, "rt-snapshot": SnapshotElement,
  "rt-submit": SubmitElement,
};
for (const [name, element] of Object.entries(ELEMENTS)) {
  // A page may load the module twice, by two addresses.
  if (!customElements.get(name)) customElements.define(name, element);
}

export { BatchElement, InboxElement, Message, STATUS_ICONS, SnapshotElement, SubmitElement, TaskElement, ToldError, addMessages, ago, agoInWords, catalogueOf, chosenLanguage, clockOf, drawAnalysis, errorInWords, followLanguage, followReader, joined, languageOf, languages, lengthOf, make, messageOfError, momentInWords, numberOf, percentOf, progressOf, readMarks, relativeTo, roughly, sentence, setLanguage, setResultView, showText, statusInWords, t, tn, wordsIn };
