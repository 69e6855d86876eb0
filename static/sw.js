/** The service worker: shows what is pushed while no page is seen, and takes it off again. */

// Also in push.js, which keeps the subscription there.
const KEPT = "tornado_rt.push";
const BASE = new URL(self.registration.scope).pathname;
const SUBSCRIPTION = `${BASE}push-subscription`;
const ICON = `${BASE}static/icon.svg`;
// A page that does not answer within this time does not show it [ms].
const ANSWER_MS = 1000;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("push", (event) => event.data && event.waitUntil(onPush(event.data.json())));
self.addEventListener("notificationclick", (event) => event.waitUntil(onClick(event.notification)));
self.addEventListener("pushsubscriptionchange", (event) => event.waitUntil(renew(event)));

async function onPush(message) {
  if (message.withdraw) return withdraw(message);
  if (await isTaken(message)) return undefined;
  const { id, link, version } = message;
  return self.registration.showNotification(message.title, {
    body: message.content ?? "",
    tag: message.tag,
    icon: message.icon ?? ICON,
    requireInteraction: message.severity === "error",
    data: { id, link, version },
  });
}

/**
 * Ask the pages that are seen whether they have it over their own connection. One that is just being
 * left, is signed out or has no connection counts as seen too, and shows nothing.
 */
async function isTaken(message) {
  const seen = (await pages()).filter((page) => page.visibilityState === "visible");
  return Promise.any(seen.map((page) => ask(page, message))).catch(() => false);
}

/** Resolves to true if the page answers so, and rejects otherwise. */
function ask(page, message) {
  return new Promise((resolve, reject) => {
    const { port1, port2 } = new MessageChannel();
    setTimeout(reject, ANSWER_MS);
    port1.onmessage = ({ data }) => (data === true ? resolve(true) : reject());
    page.postMessage({ type: "push", data: message }, [port2]);
  });
}

async function withdraw({ withdraw: ids, version }) {
  for (const shown of await self.registration.getNotifications()) {
    const { id, version: its } = shown.data ?? {};
    if (ids === "all" ? its <= version : ids.includes(id)) shown.close();
  }
  for (const page of await pages()) page.postMessage({ type: "withdraw", data: { ids, version } });
}

async function onClick(notification) {
  notification.close();
  const target = new URL(notification.data?.link ?? BASE, self.location.origin);
  // A link may be to a page of the application around us.
  const there = (await windows()).find((page) => page.url === target.href) ??
    (notification.data?.link ? undefined : (await pages())[0]);
  return there ? there.focus() : self.clients.openWindow(target.href);
}

/** Tell the server of the subscription that takes the place of an old one. */
async function renew(event) {
  const kept = await (await caches.open(KEPT)).match(SUBSCRIPTION);
  const { key, user, ...known } = kept ? await kept.json() : {};
  const old = event.oldSubscription ? plain(event.oldSubscription) : known;
  // The page subscribes anew when it is next opened.
  if (!old.endpoint) return;
  const made = event.newSubscription ?? await self.registration.pushManager.subscribe({
    userVisibleOnly: true,
    applicationServerKey: event.oldSubscription?.options.applicationServerKey ?? key,
  });
  const body = { endpoint: old.endpoint, auth: old.keys.auth, subscription: plain(made) };
  const answer = await fetch(`${BASE}api/push/renewals`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (answer.ok) await keep({ ...plain(made), key, user });
}

async function keep(subscription) {
  await (await caches.open(KEPT)).put(SUBSCRIPTION, new Response(JSON.stringify(subscription)));
}

function plain(subscription) {
  const { endpoint, expirationTime, keys: { p256dh, auth } } = subscription.toJSON();
  return { endpoint, expirationTime, keys: { p256dh, auth } };
}

/** Our own pages: others of the host know nothing of us. */
async function pages() {
  return (await windows()).filter((page) => page.url.startsWith(self.registration.scope));
}

function windows() {
  return self.clients.matchAll({ type: "window", includeUncontrolled: true });
}
