/** The list of notifications that is shown: it keeps lines, open menus and the focus where they are. */

import { element } from "./dom.js";
import { drawItem } from "./inbox-item.js";

const MIDDLE = 1;

export class NotificationList {
  #list;
  #items = [];
  #menu = null;
  #parts = new Map();

  /**
   * @param {HTMLUListElement} list
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
    list.addEventListener("keydown", (event) => this.#leaveMenu(event));
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
    if (focus) this.#focusAgain(focus);
  }

  #drawLine(known, one, index) {
    const line = known ?? element("li");
    line.dataset.id = one.id;
    const drawn = { one, menu: this.#menu === one.id, parts: this.parts(one.id) };
    if (!line.drawn || Object.keys(drawn).some((name) => drawn[name] !== line.drawn[name])) {
      drawItem(line, one, drawn);
      line.drawn = drawn;
    }
    const there = this.#list.children[index];
    if (there !== line) this.#list.insertBefore(line, there ?? null);
  }

  #focus() {
    const active = document.activeElement;
    const line = active?.closest("li[data-id]");
    if (!line || !this.#list.contains(line)) return null;
    const index = [...this.#list.children].indexOf(line);
    return { active, id: line.dataset.id, index, act: active.dataset.act };
  }

  /** Give the focus back: to the same button, to the menu's, or to the line that took its place. */
  #focusAgain({ active, id, index, act }) {
    if (document.activeElement === active && active.isConnected) return;
    const lines = [...this.#list.children];
    const line = lines.find((one) => one.dataset.id === id) ?? lines[Math.min(index, lines.length - 1)];
    const buttons = [...(line?.querySelectorAll("button[data-act]:not(:disabled)") ?? [])];
    const found = buttons.find((one) => one.dataset.act === act) ?? buttons.find((one) => one.dataset.act === "menu");
    (found ?? line?.querySelector("a") ?? this.#list).focus();
  }

  #leaveMenu(event) {
    if (event.key !== "Escape" || this.#menu === null) return;
    event.stopPropagation();
    this.closeMenu();
  }
}

function idAround(node) {
  return node.closest("li[data-id]").dataset.id;
}
