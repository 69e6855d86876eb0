/** Who is signed in: a cookie of this server, or of the application around it, which all tabs share. */

import { Client } from "../rt-client.js";

// Where the server's paths begin: it may serve under a prefix.
export const BASE = new URL("../..", import.meta.url);
// The page of the users writes it too: one sign-in serves both pages.
const TABS = `tornado_rt.session ${BASE.pathname}`;
const UNAUTHORIZED = 401;

export class Session {
  client = null;

  /** `changed` is called when another tab has signed in or out. */
  constructor(changed) {
    addEventListener("storage", ({ key }) => key === TABS && changed());
  }

  /** Return the user of the cookie, null without one. */
  async read() {
    const user = await this.#askUser();
    // The elements follow tasks by it.
    if (user) Client.default = this.client = new Client(BASE);
    return user;
  }

  /** Buy a cookie for a token. Throw ApiError. */
  async signIn(token) {
    await ask("POST", "/api/auth/session", { token });
    tellTabs();
  }

  async signOut() {
    await ask("DELETE", "/api/auth/session");
    this.end();
    tellTabs();
  }

  /** Follow nothing more. */
  end() {
    this.client?.close();
    this.client = null;
  }

  async #askUser() {
    try {
      return (await ask("GET", "/api/auth/demo")).user_id;
    } catch (error) {
      if (error.status !== UNAUTHORIZED) throw error;
      // The cookie has expired, or is of another server.
      await ask("DELETE", "/api/auth/session");
      return null;
    }
  }
}

/** Ask the server once, with this token or the cookie. */
async function ask(method, path, { token } = {}) {
  const client = new Client(BASE, { token, share: false, patience: 0 });
  try {
    return await client.request(method, path);
  } finally {
    client.close();
  }
}

function tellTabs() {
  localStorage.setItem(TABS, String(Date.now()));
}
