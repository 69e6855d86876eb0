/** The operator's page: who is signed in, which view is shown, and how it stays true. */

import { Client } from "../rt-client.js";
import { addMessages, joined, showText, t } from "../rt-elements.js";
import { LanguageChoice, shownLanguage } from "../js/language.js";
import { BASE, Session } from "../js/session.js";
import { readHash, hashOf } from "./address.js";
import { tellError, wordsOf } from "./asking.js";
import { $, h, listen, show } from "./dom.js";
import { clock, number } from "./format.js";
import { Live } from "./live.js";
import { gate } from "./gate.js";
import { VIEWS } from "./views.js";

const TICK_MS = 1000;
const TITLE = t("tornado_rt admin");
const LINK_WORDS = { online: t("live"), connecting: t("connecting …"), offline: t("offline"), closed: t("not connected"), idle: "" };

export class App {
  view = null;
  user = null;
  live = new Live(() => this.draw());
  /** "", or why no view is shown: "out", "forbidden", "error". */
  #gate = "loading";
  #problem = "";
  #reachedAt = Date.now();
  #loadedAt = 0;
  #session = new Session(() => this.begin());
  #language = new LanguageChoice($("#language"), () => this.refresh(), tellError);
  #isDrawing = false;

  constructor() {
    addEventListener("hashchange", () => this.route());
    addEventListener("online", () => this.refresh());
    addEventListener("offline", () => this.draw());
    document.addEventListener("visibilitychange", () => this.#tick());
    // A row that stood still under the pointer is updated when the pointer leaves.
    document.addEventListener("pointerout", ({ target, relatedTarget }) => {
      const held = target.closest?.("[data-hold]");
      if (held && !held.contains(relatedTarget)) requestAnimationFrame(() => this.draw());
    });
    document.addEventListener("keydown", (event) => this.#key(event));
    const root = $("#view");
    listen(root, new Proxy({}, { get: (_, name) => this.view?.acts[name] ?? this.#acts[name] }));
    root.addEventListener("submit", (event) => this.#submit(event));
    root.addEventListener("input", (event) => this.view?.input(event.target, event));
    root.addEventListener("change", (event) => this.view?.changed?.(event.target, event));
    $("#sign-out").addEventListener("click", () => this.#signOut());
    $("[data-skip]").addEventListener("click", (event) => {
      // The hash names the view.
      event.preventDefault();
      root.focus();
    });
    setInterval(() => this.#tick(), TICK_MS);
  }

  client = null;

  /** Begin in the language of the operator. */
  async start() {
    await this.#language.begin();
    await this.begin();
  }

  /** The server's clock, in milliseconds. */
  get now() {
    return Date.now() + (this.client?.skew ?? 0) * 1000;
  }

  get isOnline() {
    return navigator.onLine && this.client?.state !== "offline" && this.client?.state !== "closed";
  }

  /** Find out who is signed in, and show what they may see. */
  async begin() {
    this.live.stop();
    this.#endClient();
    this.view = null;
    try {
      this.user = (await this.#session.find()).user;
      this.#gate = this.user ? await this.#enter() : "out";
    } catch (error) {
      this.#gate = error.status === 401 ? "out" : "error";
      this.#problem = wordsOf(error);
    }
    this.route();
  }

  /** Follow nothing more. */
  #endClient() {
    this.#language.follow(null);
    this.client?.close();
    this.client = null;
  }

  async #enter() {
    // The elements follow tasks by it.
    Client.default = this.client = new Client(BASE, { locale: shownLanguage() });
    try {
      this.overview = await this.client.request("GET", "/api/admin/overview");
    } catch (error) {
      if (error.status !== 403) throw error;
      return "forbidden";
    }
    this.client.addEventListener("state", () => this.#linkChanged());
    this.live.start(this.client);
    this.#language.follow(this.client).catch(tellError);
    this.live.load().catch((error) => this.failed(error));
    return "";
  }

  /** Show the view that the address names. */
  route() {
    const place = readHash(location.hash);
    const made = VIEWS[place.name] ?? VIEWS.overview;
    if (this.#gate) {
      this.view = null;
    } else if (this.view?.constructor === made) {
      this.view.route(place);
    } else {
      this.view?.close();
      const isFirst = !this.view;
      this.view = new made(this, place);
      scrollTo(0, 0);
      // A reader of screens goes on at the view that was chosen.
      if (!isFirst) $("#view").focus({ preventScroll: true });
      this.view.reload();
    }
    this.draw();
  }

  /** Go to another address; `isSame`: it takes the place of this one in the history. */
  go(name, query, id, { isSame = false } = {}) {
    const hash = hashOf(name, query, id);
    if (hash === location.hash) return;
    if (!isSame) return void (location.hash = hash);
    history.replaceState(null, "", hash);
    this.route();
  }

  /** Draw with the next frame what has changed. */
  draw() {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      this.#isDrawing = false;
      this.#drawNow();
    });
  }

  /** Note an error of a request: a session that ended shows the sign-in. */
  failed(error) {
    if (error?.status === 401) this.#leave("out");
    else if (error?.status === 403 && this.#gate === "") this.begin();
  }

  refresh() {
    this.view?.refresh();
    this.draw();
  }

  #drawNow() {
    $("#nav").hidden = $("#sign-out").hidden = $("#who").hidden = Boolean(this.#gate);
    $("#sign-out").hidden = !this.user;
    $("#who").textContent = this.user ?? "";
    document.title = joined([this.view?.title ?? t("Sign in"), TITLE]);
    if (this.#gate) show($("#view"), gate(this.#gate, { user: this.user, problem: this.#problem }));
    else show($("#view"), this.view.draw());
    if (!this.#gate) this.#drawNav();
    this.#drawLink();
  }

  #drawNav() {
    const nav = $("#nav");
    const before = $("[aria-current]", nav)?.dataset.key;
    show(nav, this.#nav());
    const current = $("[aria-current]", nav);
    // On a narrow screen the sections stand in a row that scrolls.
    if (current && current.dataset.key !== before) current.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  #nav() {
    const counts = this.#counts();
    const current = readHash(location.hash).name;
    return Object.entries(VIEWS).filter(([, view]) => view.title && !view.within).map(([name, view]) => {
      const isCurrent = view === this.view?.constructor || VIEWS[current]?.within === name;
      const badge = counts[name];
      return h("a", { href: `#${name}`, "aria-current": isCurrent ? "page" : null, "data-key": name }, view.title,
        badge ? h("span", { class: "count" }, number(badge)) : null);
    });
  }

  #counts() {
    const stats = this.live.latest?.stats ?? this.overview?.stats ?? {};
    return { tasks: (stats.queued ?? 0) + (stats.delayed ?? 0), running: stats.processing };
  }

  #linkChanged() {
    if (this.client?.state === "online") this.refresh();
    this.draw();
  }

  #drawLink() {
    const state = this.client?.state ?? "idle";
    const isAway = !this.#gate && !this.isOnline;
    if (!isAway) this.#reachedAt = Date.now();
    const label = $("#link-state");
    const shown = isAway ? "offline" : this.#gate ? "idle" : state;
    label.dataset.state = shown;
    showText(label, LINK_WORDS[shown]);
    const banner = $("#offline");
    banner.hidden = !isAway;
    showText(banner, isAway ? t("The server cannot be reached. This is how things stood at {time}; it comes back by itself.", { time: clock(this.#reachedAt) }) : "");
  }

  #tick() {
    if (document.visibilityState !== "visible") return;
    const { view } = this;
    if (view && this.isOnline && view.seconds && Date.now() - this.#loadedAt >= view.seconds * 1000) {
      this.#loadedAt = Date.now();
      view.refresh();
    }
    this.draw();
  }

  async #submit(event) {
    event.preventDefault();
    if (this.view) return this.view.submit(event.target);
    try {
      await this.#session.signIn(String(new FormData(event.target).get("token")).trim());
      await this.begin();
    } catch (error) {
      this.#problem = error.status === 401 ? t("The server does not take this token: it is wrong, or it has expired.") : wordsOf(error);
      this.draw();
    }
  }

  async #signOut() {
    try {
      await this.#session.signOut();
      this.#leave("out");
    } catch (error) {
      tellError(error);
    }
  }

  #leave(gate) {
    this.live.stop();
    this.#endClient();
    this.view?.close();
    this.view = this.user = null;
    this.#gate = gate;
    this.#problem = "";
    this.draw();
  }

  get #acts() {
    return { begin: () => this.begin() };
  }

  #key(event) {
    const isTyping = event.target.closest?.("input, textarea, select, dialog");
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey || this.#gate) return;
    event.preventDefault();
    this.go("tasks");
    requestAnimationFrame(() => requestAnimationFrame(() => $("#search-words")?.focus()));
  }
}

// The texts of this page; the elements bring their own.
addMessages("zh-CN", () => import("./locales/zh-CN.js"));
new App().start();
