/** Events of the page and the network, where there are any. */

/**
 * Call `on.online`, `on.offline`, `on.shown`, `on.frozen` and `on.thawed` when the page or the network
 * changes. Return what ends that. In Node nothing is ever called.
 */
export function watchPage(on) {
  const page = globalThis.document;
  if (!page || typeof addEventListener !== "function") return () => {};
  const ending = new AbortController();
  const listen = (target, type, listener) => target.addEventListener(type, listener, { signal: ending.signal });
  listen(globalThis, "online", () => on.online());
  listen(globalThis, "offline", () => on.offline());
  listen(page, "visibilitychange", () => page.visibilityState === "visible" && on.shown());
  // A page that may come back out of the cache holds no connection meanwhile.
  listen(globalThis, "pagehide", () => on.frozen());
  listen(globalThis, "pageshow", ({ persisted }) => persisted && on.thawed());
  listen(page, "freeze", () => on.frozen());
  listen(page, "resume", () => on.thawed());
  return () => ending.abort();
}
