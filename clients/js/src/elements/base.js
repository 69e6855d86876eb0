/** The common part of all elements: their client, and the way they are drawn. */

import { Client, ConnectionLost } from "../index.js";
import { Message, catalogueOf, followLanguage, joined, languageOf, showText, t, unfollowLanguage } from "../messages.js";
import { sheetOf, styleSheet } from "./styles.js";

/**
 * Make an element. `part` names it for ::part of a page's style sheets, `text` is set as text: nothing that
 * comes from the server is ever read as HTML.
 * @param {string} tag
 * @param {Record<string, any>} [options]
 * @returns {any}
 */
export function make(tag, { part, text, children = [], on = {}, ...attributes } = {}) {
  const element = document.createElement(tag);
  if (part) element.setAttribute("part", part);
  if (text !== undefined) showText(element, text);
  for (const [name, value] of Object.entries(attributes)) showText(element, value, name === "className" ? "class" : name);
  for (const [type, listener] of Object.entries(on)) element.addEventListener(type, listener);
  element.append(...children.map(nodeOf));
  return element;
}

/** Return what is appended for a child: a message is a text node of its own. */
export function nodeOf(child) {
  if (!(child instanceof Message)) return child;
  const node = document.createTextNode("");
  showText(node, child);
  return node;
}

/** Set or remove an attribute. */
export function setAttribute(element, name, value) {
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
export class RealtimeElement extends HTMLElement {
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
export class ToldError extends Error {
  /** @param {Message} text */
  constructor(text) {
    super(String(text));
    this.text = text;
  }
}

/** Return what to tell a person of an error. */
export function errorInWords(error) {
  if (error instanceof ConnectionLost) return t("The server cannot be reached");
  const told = error.text || error.detail || error.title || error.reason || error.message || String(error);
  return joined([told, ...(error.errors ?? [])], t("; "));
}

/** Return the same as a string, in the language of the page or another one. */
export function messageOfError(error, language = languageOf()) {
  return errorInWords(error).in(language);
}
