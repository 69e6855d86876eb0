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
export class Message {
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
export function t(id, values = {}) {
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
export function tn(n, one, many, values = {}) {
  return new Message((language) => {
    const entry = entryOf(one, language) ?? { one, other: many };
    return filled(pluralOf(entry, n, language), { ...values, n }, language);
  });
}

/**
 * Return the texts behind one another; what is empty is left out.
 * @returns {any}
 */
export function joined(texts, separator = " · ") {
  const told = texts.filter(Boolean);
  return new Message((language) => told.map((one) => wordsIn(one, language)).filter(Boolean).join(wordsIn(separator, language)));
}

/** Return a text, a number or a message in a language. */
export function wordsIn(text, language = languageOf()) {
  if (text instanceof Message) return text.in(language);
  if (typeof text === "number") return formatOf(Intl.NumberFormat, language).format(text);
  return text === null || text === undefined ? "" : String(text);
}

const formats = new Map();

/** Return a format of Intl; making one takes long, so that it is kept. */
export function formatOf(Format, language, options = {}) {
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
export function addMessages(language, messages) {
  const catalogue = catalogues.get(language) ?? { sources: [], loaders: [] };
  if (typeof messages === "function") catalogue.loaders.push(messages);
  else catalogue.sources.unshift(messages);
  catalogues.set(language, catalogue);
  meanings.clear();
  refresh();
}

/** Return the languages that there are, English first. */
export function languages() {
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
export function catalogueOf(tag) {
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
export function chosenLanguage() {
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
export function languageOf(node = globalThis.document?.documentElement) {
  for (let at = node; at; at = at.getRootNode().host) {
    const element = at.nodeType === ELEMENT ? at : at.parentElement;
    const found = firstKnown([element?.closest("[lang]")?.lang]);
    if (found) return found;
  }
  // A node may not be in the page yet.
  return node && !node.isConnected ? languageOf() : readersLanguage();
}

/** Keep a choice of the reader, and show the page in it. */
export function setLanguage(tag) {
  globalThis.localStorage?.setItem(CHOICE, tag);
  document.documentElement.lang = firstKnown([tag]) ?? regional(ENGLISH);
}

/** Have the page follow its reader: `<html lang>` is what they chose here or in another tab. Resolve once it is loaded. */
export async function followReader() {
  const follow = () => (document.documentElement.lang = readersLanguage());
  addEventListener("storage", ({ key }) => key === CHOICE && follow());
  follow();
  followLanguage(document);
  await load(languageOf());
}

/** Show a text in a node, or in an attribute of it; a message is shown again in another language. */
export function showText(node, text, attribute = "") {
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
export function followLanguage(root) {
  const language = languageOf(root.host);
  watching ??= new MutationObserver(noteChanges);
  // A `lang` anywhere around it counts.
  for (let at = root; at; at = at.host?.getRootNode()) watching.observe(at, { subtree: true, childList: true, attributeFilter: ["lang"] });
  roots.set(root, language);
  load(language);
  translate(root, language);
}

export function unfollowLanguage(root) {
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
export function readMarks(root) {
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
