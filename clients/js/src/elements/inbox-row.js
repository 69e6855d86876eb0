/** One notification as it is drawn. Its texts go in as text. */

import { showText, t } from "../messages.js";
import { make } from "./base.js";
import { isKept, verbsOf, webAddress } from "./inbox-store.js";
import { ago, momentInWords } from "./words.js";

const WEB = ["http:", "https:"];
// By http anybody on the way would see and change what the page loads.
const SECURE = ["https:"];
const ICONS = { info: "i", success: "✓", warning: "!", error: "✕" };
const SEVERITIES = { info: t("info"), success: t("success"), warning: t("warning"), error: t("error") };

/**
 * Draw one anew.
 * @param {HTMLLIElement} line
 * @param {object} one the notification
 * @param {{menu: boolean, parts: ?{items: object[]}}} open whether its menu is open, and what its
 *        digest stands for while that is shown
 */
export function drawNotification(line, one, { menu, parts }) {
  line.dataset.status = one.status;
  line.dataset.severity = one.severity;
  line.setAttribute("part", `item ${one.status} ${one.severity}`);
  line.replaceChildren(
    severityIcon(one.severity),
    make("div", {
      className: "body",
      children: [
        headingOf(one),
        contentOf(one),
        ...pictureOf("image", one.image),
        ...actionsOf(one),
        ...digestOf(one, parts),
        ...(isKept(one) && menu ? [menuOf(one)] : []),
      ],
    }),
    ...(isKept(one) ? [menuButton(one, menu)] : []),
  );
}

/** Return a moment that says how long ago it was; `renewTimes` keeps it so. */
export function timeElement(moment, words = ago) {
  const at = Date.parse(moment);
  const made = make("time", { datetime: moment, title: momentInWords(at), text: words(at) });
  made.renew = () => showText(made, words(at));
  return made;
}

/** Say anew how long ago the moments in here were. */
export function renewTimes(root) {
  for (const one of root.querySelectorAll("time")) one.renew?.();
}

function severityIcon(severity) {
  return make("span", { className: "severity", role: "img", "aria-label": SEVERITIES[severity] ?? severity, text: ICONS[severity] ?? "i" });
}

function headingOf(one) {
  const isUnread = one.status === "unread";
  return make("p", {
    className: "heading",
    children: [
      ...(isUnread ? [make("span", { className: "dot", role: "img", "aria-label": t("Unread") })] : []),
      ...(one.pinned ? [make("span", { className: "pin", role: "img", "aria-label": t("Pinned"), text: "📌" })] : []),
      ...pictureOf("icon", one.icon),
      titleOf(one),
      " ",
      timeElement(one.created_at),
      ...(one.snoozed_until ? [" ", t("until"), " ", timeElement(one.snoozed_until, momentInWords)] : []),
    ],
  });
}

function titleOf({ title: text, link, count = 1 }) {
  const told = count > 1 ? `${text} (${count})` : text;
  const href = webAddress(link, WEB);
  return href ? make("a", { className: "name", href, text: told }) : make("b", { className: "name", text: told });
}

function contentOf(one) {
  return make("p", { className: "content", text: one.content ?? "" });
}

function pictureOf(className, address) {
  const src = webAddress(address, SECURE);
  if (!src) return [];
  // Elsewhere nobody needs to know which page shows it.
  const made = make("img", { className, alt: "", loading: "lazy", referrerpolicy: "no-referrer", on: { error: () => made.remove() } });
  made.src = src;
  return [made];
}

function actionsOf({ actions = [], answered, title }) {
  if (!actions.length) return [];
  const made = actions.map((one) => actionOf(one, answered, title)).filter(Boolean);
  return [make("p", { className: "offers", children: made })];
}

function actionOf({ id, label, link, answer }, answered, title) {
  if (answer === undefined || answer === null) {
    const href = webAddress(link, WEB);
    return href && make("a", { part: "action", className: "button", href, text: label });
  }
  const isChosen = answered?.action === id;
  const made = actButton(`answer:${id}`, isChosen ? `✓ ${label}` : label, isChosen ? t("Answered: {label}", { label }) : t("{label}: {title}", { label, title }));
  made.disabled = Boolean(answered);
  return made;
}

function digestOf({ count = 1, title }, parts) {
  if (count < 2) return [];
  const label = parts ? t("Hide them") : t("Show all {n}", { n: count });
  const made = actButton("parts", label, t("{label}: {title}", { label, title }));
  made.setAttribute("aria-expanded", String(Boolean(parts)));
  return [made, ...(parts ? [make("ul", { className: "parts plain", children: parts.items.map(partOf) })] : [])];
}

function partOf(one) {
  const heading = make("p", { className: "heading", children: [titleOf(one), " ", timeElement(one.created_at)] });
  return make("li", { children: [heading, contentOf(one)] });
}

function menuButton(one, isOpen) {
  const made = actButton("menu", "⋯", t("Menu: {title}", { title: one.title }));
  made.classList.add("menu-button");
  made.setAttribute("aria-expanded", String(isOpen));
  return made;
}

function menuOf(one) {
  const verbs = verbsOf(one).map(([act, label]) => actButton(act, label));
  return make("div", { className: "menu", role: "group", "aria-label": one.title, children: verbs });
}

/** Return a button that says by `act` what it is for; the list hears it. */
function actButton(act, label, name) {
  const made = make("button", { part: "button", type: "button", className: "quiet", text: label, "data-act": act });
  if (name) showText(made, name, "aria-label");
  return made;
}
