/** The base of all views: what is loaded, how often, and what stands in its place meanwhile. */

import { tellError, wordsOf } from "./asking.js";

/**
 * A view. `draw()` returns its nodes whenever something changed; `load()` reads what it shows, once at a time,
 * and again every `seconds` while the page is seen. When two loads are for different addresses, only the later one counts.
 */
export class View {
  /** @type {any} */
  static title = "";
  /** The view whose place in the navigation this one shares. */
  static within = "";
  seconds = 5;
  /** Why the last load failed, in words; null: it did not. */
  error = null;
  isBusy = false;
  #turn = 0;

  /** @param {import("./app.js").App} app */
  constructor(app, { id, query }) {
    this.app = app;
    this.id = id;
    this.query = query;
  }

  get title() {
    return /** @type {typeof View} */ (this.constructor).title;
  }

  get now() {
    return this.app.now;
  }

  /** The actions of the buttons, by the name in their `data-act`. */
  get acts() {
    return { reload: () => this.reload(), ...this.ownActs };
  }

  get ownActs() {
    return {};
  }

  /** Take another address of the same view. */
  route({ id, query }) {
    this.id = id;
    this.query = query;
    this.forget();
    this.reload();
  }

  /** Forget what was loaded for another address. */
  forget() {}

  /**
   * Load the data of the view; `isCurrent` says whether its address is still the same.
   * @returns {any}
   */
  load(_isCurrent) {}

  /** Load again, also when a load is under way. */
  async reload() {
    const turn = ++this.#turn;
    const isCurrent = () => turn === this.#turn;
    this.isBusy = true;
    try {
      await this.load(isCurrent);
      if (isCurrent()) this.error = null;
    } catch (error) {
      if (isCurrent()) this.fail(error);
    }
    if (!isCurrent()) return;
    this.isBusy = false;
    this.app.draw();
  }

  /** Load again unless that is under way. */
  async refresh() {
    if (!this.isBusy) await this.reload();
  }

  fail(error) {
    this.error = wordsOf(error);
    this.app.failed(error);
  }

  /** Ask the server. */
  request(method, path, body, options) {
    return this.app.client.request(method, path, body, options);
  }

  /** Do something once at a time, then load again; say what went wrong. */
  async act(action) {
    if (this.isActing) return;
    this.isActing = true;
    this.app.draw();
    try {
      await action();
    } catch (error) {
      this.app.failed(error);
      tellError(error);
    }
    this.isActing = false;
    await this.reload();
  }

  /** Take a form that was sent. */
  submit() {}

  /** Take what was chosen or typed. */
  input() {}

  close() {}
}

/** A list with pages: `next` continues it. The pages that were opened are read again together. */
export class Listing {
  items = null;
  next = null;
  #pages = 1;

  /** @param {(place: string|null) => Promise<{items: object[], next: string|null}>} read */
  constructor(read) {
    this.read = read;
  }

  forget() {
    this.items = null;
    this.next = null;
    this.#pages = 1;
  }

  more() {
    this.#pages += 1;
  }

  async load(isCurrent, most = Infinity) {
    const items = [];
    let next = null;
    for (let page = 0; page < this.#pages && items.length < most; page += 1) {
      const found = await this.read(next);
      if (!isCurrent()) return;
      items.push(...found.items);
      next = found.next ?? null;
      if (!next) break;
    }
    this.items = items;
    this.next = next;
  }
}
