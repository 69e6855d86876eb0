/** The list of notifications that is shown: it keeps lines, open menus and the focus where they are. */

import { make } from "./base.js";
import { drawNotification } from "./inbox-row.js";

const MIDDLE = 1;

export class NotificationRows {
  #list;
  #items = [];
  #menu = null;
  #parts = new Map();

  /**
   * @param {HTMLElement} list
   * @param {(act: string, id: string) => void} choose gets what a button is for, `follow` of a link
   */
  constructor(list, choose) {
    this.#list = list;
    list.addEventListener("click", ({ target }) => {
      const chosen = target.closest("button[data-act], a");
      if (chosen) choose(chosen.dataset.act ?? "follow", idAround(chosen));
    });
    // The middle button opens a link in another tab.
    list.addEventListener("auxclick", ({ target, button }) => {
      const link = button === MIDDLE && target.closest("a");
      if (link) choose("follow", idAround(link));
    });
    list.addEventListener("keydown", (event) => this.#onKey(event, choose));
  }

  get isEmpty() {
    return this.#items.length === 0;
  }

  /** Show these, in this order. */
  show(items) {
    this.#items = items;
    this.#draw();
  }

  toggleMenu(id) {
    this.#menu = this.#menu === id ? null : id;
    this.#draw();
  }

  /** Close the menu that is open; the focus goes to its button. */
  closeMenu() {
    this.#menu = null;
    this.#draw();
  }

  /** Return those of a digest that are shown; null: they are not. */
  parts(id) {
    return this.#parts.get(id) ?? null;
  }

  showParts(id, parts) {
    if (parts) this.#parts.set(id, parts);
    else this.#parts.delete(id);
    this.#draw();
  }

  #draw() {
    const focus = this.#focus();
    const lines = new Map([...this.#list.children].map((line) => [line.dataset.id, line]));
    const shown = new Set(this.#items.map(({ id }) => id));
    // Before the others are put in their places: what does not move keeps the focus.
    for (const [id, line] of lines) if (!shown.has(id)) line.remove();
    this.#items.forEach((one, index) => this.#drawLine(lines.get(one.id), one, index));
    const lined = [...this.#list.children];
    if (lined.length && !lined.some((line) => line.tabIndex === 0)) this.#enterAt(lined[0]);
    if (focus) this.#focusAgain(focus);
  }

  /** Let Tab reach this line, and no other. */
  #enterAt(chosen) {
    for (const line of this.#list.children) line.tabIndex = line === chosen ? 0 : -1;
  }

  #drawLine(known, one, index) {
    const line = known ?? make("li");
    line.dataset.id = one.id;
    if (!known) line.tabIndex = -1;
    const drawn = { one, menu: this.#menu === one.id, parts: this.parts(one.id) };
    if (!line.drawn || Object.keys(drawn).some((name) => drawn[name] !== line.drawn[name])) {
      drawNotification(line, one, drawn);
      line.drawn = drawn;
    }
    const there = this.#list.children[index];
    if (there !== line) this.#list.insertBefore(line, there ?? null);
  }

  #focus() {
    const active = this.#list.getRootNode().activeElement;
    const line = active?.closest("li[data-id]");
    if (!line || !this.#list.contains(line)) return null;
    const index = [...this.#list.children].indexOf(line);
    return { active, id: line.dataset.id, index, act: active.dataset.act };
  }

  /** Give the focus back: to the same button, to the menu's, or to the line that took its place. */
  #focusAgain({ active, id, index, act }) {
    if (this.#list.getRootNode().activeElement === active && active.isConnected) return;
    const lines = [...this.#list.children];
    const line = lines.find((one) => one.dataset.id === id) ?? lines[Math.min(index, lines.length - 1)];
    const buttons = [...(line?.querySelectorAll("button[data-act]:not(:disabled)") ?? [])];
    const found = buttons.find((one) => one.dataset.act === act) ?? buttons.find((one) => one.dataset.act === "menu");
    (act === undefined && active.localName === "li" ? (line ?? this.#list) : (found ?? line?.querySelector("a") ?? this.#list)).focus();
  }

  /** Arrows, Home and End move over the lines, Enter follows one, `e` archives it; Escape closes a menu. */
  #onKey(event, choose) {
    if (event.key === "Escape") return this.#leaveMenu(event);
    const lines = [...this.#list.children];
    const at = lines.indexOf(event.target.closest("li[data-id]"));
    const targets = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: lines.length - 1 };
    if (event.target !== lines[at]) return undefined;
    if (event.key in targets) {
      event.preventDefault();
      const next = lines[Math.min(Math.max(targets[event.key], 0), lines.length - 1)];
      this.#enterAt(next);
      next.focus();
    } else if (event.key === "Enter") lines[at].querySelector("a, button")?.click();
    else if (event.key === "e") choose("archive", lines[at].dataset.id);
    return undefined;
  }

  #leaveMenu(event) {
    if (this.#menu === null) return;
    event.stopPropagation();
    event.preventDefault();
    this.closeMenu();
  }
}

function idAround(node) {
  return node.closest("li[data-id]").dataset.id;
}
