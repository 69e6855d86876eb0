/** One notification as it is drawn. Its texts go in as text. */

import { element } from "./dom.js";
import { isKept, verbsOf, webAddress } from "./inbox.js";

const WEB = ["http:", "https:"];
// By http anybody on the way would see and change what the page loads.
const SECURE = ["https:"];

/**
 * Draw one anew.
 * @param {HTMLLIElement} line
 * @param {object} one the notification
 * @param {{menu: boolean, parts: ?{items: object[]}}} open whether its menu is open, and what its
 *        digest stands for while that is shown
 */
export function drawItem(line, one, { menu, parts }) {
  line.dataset.status = one.status;
  line.replaceChildren(
    heading(one),
    content(one),
    ...picture("image", one.image),
    ...actions(one),
    ...digest(one, parts),
    ...(isKept(one) ? controls(one, menu) : []),
  );
}

function heading(one) {
  const isUnread = one.status === "unread";
  return element("p", { className: "heading" },
    ...(isUnread ? [element("span", { className: "dot", role: "img", ariaLabel: "Unread" })] : []),
    ...(one.pinned ? [element("span", { className: "pin", role: "img", ariaLabel: "Pinned" }, "📌")] : []),
    ...picture("icon", one.icon),
    title(one), " ",
    ...(one.severity === "info" ? [] : [severity(one.severity), " "]),
    time(one.created_at),
    ...(one.snoozed_until ? [" until ", time(one.snoozed_until)] : []));
}

function title({ title: text, link, count = 1 }) {
  const told = count > 1 ? `${text} (${count})` : text;
  const href = webAddress(link, WEB);
  return href ? element("a", { href, textContent: told }) : element("b", {}, told);
}

function severity(name) {
  const made = element("span", { className: "severity", textContent: name });
  made.dataset.severity = name;
  return made;
}

function time(moment) {
  return element("time", { dateTime: moment }, new Date(moment).toLocaleString());
}

function content(one) {
  return element("p", { className: "content", textContent: one.content ?? "" });
}

function picture(className, address) {
  const src = webAddress(address, SECURE);
  if (!src) return [];
  // Elsewhere nobody needs to know which page shows it.
  const made = element("img", { className, alt: "", loading: "lazy", referrerPolicy: "no-referrer" });
  made.addEventListener("error", () => made.remove());
  made.src = src;
  return [made];
}

function actions({ actions: offered = [], answered }) {
  if (!offered.length) return [];
  const made = offered.map((one) => action(one, answered)).filter(Boolean);
  return [element("p", { className: "offers" }, ...made)];
}

function action({ id, label, link, answer }, answered) {
  if (answer === undefined || answer === null) {
    const href = webAddress(link, WEB);
    return href && element("a", { className: "button", href, textContent: label });
  }
  const isChosen = answered?.action === id;
  const made = button(`answer:${id}`, isChosen ? `✓ ${label}` : label);
  made.disabled = Boolean(answered);
  if (isChosen) made.ariaLabel = `Answered: ${label}`;
  return made;
}

function digest({ count = 1, title: text }, parts) {
  if (count < 2) return [];
  const made = button("parts", parts ? "Hide them" : `Show all ${count}`);
  made.ariaExpanded = String(Boolean(parts));
  made.ariaLabel = `${made.textContent}: ${text}`;
  return [made, ...(parts ? [element("ul", { className: "parts plain" }, ...parts.items.map(part))] : [])];
}

function part(one) {
  return element("li", {},
    element("p", { className: "heading" }, title(one), " ", time(one.created_at)), content(one));
}

function controls(one, isOpen) {
  const menu = button("menu", "⋯");
  menu.classList.add("menu-button");
  menu.ariaLabel = `Menu: ${one.title}`;
  menu.ariaExpanded = String(isOpen);
  const verbs = element("div", { className: "menu", role: "group", ariaLabel: one.title },
    ...(isOpen ? verbsOf(one).map(([act, label]) => button(act, label)) : []));
  verbs.hidden = !isOpen;
  return [menu, verbs];
}

/** A button that says by `act` what it is for; the list hears it. */
function button(act, label) {
  const made = element("button", { type: "button", className: "quiet", textContent: label });
  made.dataset.act = act;
  return made;
}
