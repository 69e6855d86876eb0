/** Push to this browser: asked for by a click, kept up to date, and given up again. */

import { showText, t } from "../rt-elements.js";
import { $ } from "./dom.js";

// Also in sw.js, which renews what is kept there.
const KEPT = "tornado_rt.push";
// Where the server's paths begin: it may serve under a prefix.
const BASE = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");
const SUBSCRIPTION = `${BASE}/push-subscription`;
const WORDS = {
  on: t("Stop telling me on this device"),
  off: t("Tell me on this device when the page is closed"),
  denied: t("This browser does not allow notifications"),
};

export const isSupported = "serviceWorker" in navigator && "PushManager" in window;

export class PushSwitch {
  #client;
  #user = "";

  /**
   * @param {() => import("../rt-client.js").Client|null} client returns that of the user who is signed in
   * @param {(error: Error) => void} onError
   */
  constructor(client, onError) {
    this.#client = client;
    if (!isSupported) return;
    // The service worker shows what no page says that it has.
    navigator.serviceWorker.addEventListener("message", ({ data, ports }) => {
      if (data.type === "push") ports[0].postMessage(client()?.state === "online");
    });
    $("push").addEventListener("click", () => this.#turn().catch(onError).finally(() => this.#show()));
    this.onError = onError;
  }

  /** Have the browser told of this user only; called when it is known who is signed in. */
  follow(user) {
    if (!isSupported || user === this.#user) return;
    this.#user = user;
    this.#refresh().catch(this.onError).finally(() => this.#show());
  }

  async #refresh() {
    const registration = await navigator.serviceWorker.getRegistration(`${BASE}/`);
    const subscription = await registration?.pushManager.getSubscription();
    if (!subscription) return;
    const known = await kept();
    if (known.user !== this.#user) {
      // Another user has asked for it: what is theirs is not for this one to see.
      await subscription.unsubscribe();
      return;
    }
    const { key } = await this.#client().request("GET", "/api/push/key");
    if (known.key === key) await this.#tell(subscription, key);
    else await this.#subscribe(registration, key);
  }

  /** Only from here is permission asked: a browser hears it when a user clicks. */
  async #turn() {
    const registration = await register();
    const subscription = await registration.pushManager.getSubscription();
    if (subscription) return this.#give(subscription);
    if (await Notification.requestPermission() !== "granted") return undefined;
    const { key } = await this.#client().request("GET", "/api/push/key");
    return this.#subscribe(registration, key);
  }

  async #subscribe(registration, key) {
    // A browser takes no other key while it is subscribed with one.
    await (await registration.pushManager.getSubscription())?.unsubscribe();
    const made = await registration.pushManager.subscribe({
      userVisibleOnly: true,
      applicationServerKey: key,
    });
    await this.#tell(made, key);
  }

  async #tell(subscription, key) {
    const plain = plainOf(subscription);
    const { id } = await this.#client().request("POST", "/api/push/subscriptions", plain, { isHarmless: true });
    await keep({ ...plain, key, user: this.#user, id });
  }

  async #give(subscription) {
    const { id } = await kept();
    await subscription.unsubscribe();
    await (await caches.open(KEPT)).delete(SUBSCRIPTION);
    // Its push service says that it is gone, should this fail.
    if (id) await this.#client().request("DELETE", `/api/push/subscriptions/${id}`);
  }

  async #show() {
    const registration = await navigator.serviceWorker.getRegistration(`${BASE}/`);
    const subscription = await registration?.pushManager.getSubscription();
    const state = Notification.permission === "denied" ? "denied" : subscription ? "on" : "off";
    $("push").hidden = false;
    $("push").disabled = state === "denied";
    showText($("push"), WORDS[state]);
  }
}

async function register() {
  await navigator.serviceWorker.register(`${BASE}/sw.js`);
  return navigator.serviceWorker.ready;
}

async function kept() {
  const found = await (await caches.open(KEPT)).match(SUBSCRIPTION);
  return found ? found.json() : {};
}

async function keep(subscription) {
  await (await caches.open(KEPT)).put(SUBSCRIPTION, new Response(JSON.stringify(subscription)));
}

function plainOf(subscription) {
  const { endpoint, expirationTime, keys: { p256dh, auth } } = subscription.toJSON();
  return { endpoint, expirationTime, keys: { p256dh, auth } };
}
