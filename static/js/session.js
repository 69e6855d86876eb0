/** The signed-in user: a cookie of this server, or of the application around it, which all pages and tabs share. */

import { Client } from "../rt-client.js";
import { shownLanguage } from "./language.js";

const UNAUTHORIZED = 401;
const NOT_THERE = 404;
// Where the server's paths begin: it may serve under a prefix.
export const BASE = new URL("../..", import.meta.url);
// Of another prefix on this host is another server.
const TABS = `tornado_rt.session ${BASE.pathname}`;

/**
 * Ask the server once, with this token or the cookie.
 * @param {string} method
 * @param {string} path
 * @param {{token?: string, body?: any}} [options]
 */
async function ask(method, path, { token, body } = {}) {
  const client = new Client(BASE, { token, share: false, patience: 0, locale: shownLanguage() });
  try {
    return await client.request(method, path, body);
  } finally {
    client.close();
  }
}

export class Session {
  /** `onChange` is called when another tab has signed in or out. */
  constructor(onChange) {
    addEventListener("storage", ({ key }) => key === TABS && onChange());
  }

  /** Return `{user, users}`: who is signed in, null for nobody; and who may sign in without a token. */
  async find() {
    try {
      return await this.#ask();
    } catch (error) {
      if (error.status !== UNAUTHORIZED) throw error;
      // The cookie has expired, or is of another server.
      await this.#drop();
      return this.#ask();
    }
  }

  /** Sign in by a name that needs no token. */
  async signInAs(name) {
    const { token } = await ask("POST", "/api/auth/demo", { body: { user_id: name } });
    await this.signIn(token);
  }

  /** Buy a cookie for a token. Throw ApiError. */
  async signIn(token) {
    await ask("POST", "/api/auth/session", { token });
    this.#tellTabs();
  }

  async signOut() {
    await this.#drop();
    this.#tellTabs();
  }

  async #ask() {
    const { users, user_id: user } = await ask("GET", "/api/auth/demo").catch((error) => {
      if (error.status !== NOT_THERE) throw error;
      return { users: [], user_id: null };
    });
    return { user, users };
  }

  #drop() {
    return ask("DELETE", "/api/auth/session");
  }

  #tellTabs() {
    localStorage.setItem(TABS, String(Date.now()));
  }
}
