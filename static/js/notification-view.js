/** The notifications and their badge. */

import { $, element } from "./dom.js";

export class NotificationView {
  #api;
  #next = null;

  constructor(api, onError) {
    this.#api = api;
    this.onError = onError;
    $("read-all").addEventListener("click", () =>
      this.#api.post("/api/notifications/read_all").catch(onError));
    $("more").addEventListener("click", () => this.#load(this.#next).catch(onError));
  }

  async reload() {
    $("notifications").replaceChildren();
    await this.#load(null);
  }

  clear() {
    $("notifications").replaceChildren();
    this.showUnread(0);
  }

  showUnread(count) {
    const badge = $("unread-badge");
    badge.textContent = String(count);
    badge.hidden = count === 0;
    badge.setAttribute("aria-label", `${count} unread`);
    $("read-all").disabled = count === 0;
    document.title = count ? `(${count}) tornado_rt` : "tornado_rt";
  }

  add(notification) {
    this.#item(notification.id)?.remove();
    $("notifications").prepend(this.#make(notification));
    $("announcement").textContent = `New notification: ${notification.title}`;
  }

  markRead({ ids, all }) {
    for (const item of $("notifications").children) {
      if (all || ids.includes(item.dataset.id)) this.#setRead(item);
    }
  }

  async #load(before) {
    const query = before ? `&before=${before}` : "";
    const { items, next, unread } = await this.#api.get(`/api/notifications?limit=20${query}`);
    for (const item of items) {
      if (!this.#item(item.id)) $("notifications").append(this.#make(item));
    }
    this.#next = next;
    $("more").hidden = next === null;
    this.showUnread(unread);
  }

  #item(id) {
    return $("notifications").querySelector(`[data-id="${CSS.escape(id)}"]`);
  }

  #make(notification) {
    const { id, title, content, link, created_at: created, status, user_id: owner } = notification;
    const heading = link ? element("a", { href: link, textContent: title }) : element("b", {}, title);
    const item = element("li", {},
      element("p", {}, heading, " ", element("time", { dateTime: created },
        new Date(created).toLocaleString())),
      element("p", { textContent: content ?? "" }));
    item.dataset.id = id;
    item.dataset.status = status;
    // A broadcast is everybody's, and kept nowhere.
    if (owner) item.append(...this.#buttons(item, notification));
    return item;
  }

  #buttons(item, { id, status, title }) {
    const read = element("button", { type: "button", className: "quiet read", textContent: "Mark read",
      ariaLabel: `Mark read: ${title}` });
    read.hidden = status === "read";
    read.addEventListener("click", () =>
      this.#api.post(`/api/notifications/${id}/read`).then(() => this.#setRead(item), this.onError));
    const remove = element("button", { type: "button", className: "quiet", textContent: "Delete",
      ariaLabel: `Delete: ${title}` });
    remove.addEventListener("click", () =>
      this.#api.delete(`/api/notifications/${id}`).then(() => item.remove(), this.onError));
    return [read, " ", remove];
  }

  #setRead(item) {
    item.dataset.status = "read";
    const button = item.querySelector(".read");
    if (button) button.hidden = true;
  }
}
