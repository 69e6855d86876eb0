/** What a user does with notifications, over HTTP. What it changes comes to all devices by the socket. */

import { TABS } from "./inbox.js";

const ADDRESS = "/api/notifications";
const LIMIT = 20;

export class InboxCommands {
  #api;
  #inbox;
  #text = "";
  #loading = new Map();

  /**
   * @param {import("./api.js").Api} api
   * @param {import("./inbox.js").Inbox} inbox takes what is answered
   */
  constructor(api, inbox) {
    this.#api = api;
    this.#inbox = inbox;
  }

  search(text) {
    this.#text = text.trim();
    this.#inbox.search(text);
  }

  /** Load a tab's next page, its first when there is none yet; once at a time. */
  load(tab) {
    const asked = `${this.#inbox.generation} ${tab} ${this.#inbox.next(tab)}`;
    if (!this.#loading.has(asked)) {
      this.#loading.set(asked, this.#load(tab).finally(() => this.#loading.delete(asked)));
    }
    return this.#loading.get(asked);
  }

  /**
   * Apply a verb.
   * @param {string} verb
   * @param {object} what `{ids}`, `{all}` or `{filter}`, and of a snooze `until` or `seconds`
   * @param {RequestInit} [options]
   * @returns {Promise<{changed: number, undo: string|null}>}
   */
  async act(verb, what, options) {
    const done = await this.#api.post(`${ADDRESS}/${verb}`, what, options);
    this.#inbox.count(done);
    return done;
  }

  /** Take back what a verb did. */
  undo(undo) {
    return this.act("undo", { undo });
  }

  /** Answer an action, once on all devices. */
  answer(id, action) {
    return this.#api.post(`${ADDRESS}/${id}/actions/${encodeURIComponent(action)}`);
  }

  /** Return what a digest stands for, the newest first. */
  async parts(id) {
    return (await this.#api.get(`${ADDRESS}/${id}/parts`)).items;
  }

  async #load(tab) {
    const { generation } = this.#inbox;
    const page = await this.#api.get(`${ADDRESS}?${this.#query(tab)}`);
    if (generation === this.#inbox.generation) this.#inbox.take(tab, page);
  }

  #query(tab) {
    const query = new URLSearchParams({ limit: LIMIT, ...TABS[tab].query });
    const next = this.#inbox.next(tab);
    if (next !== null) query.set("before", next);
    if (this.#text) query.set("q", this.#text);
    return query;
  }
}
