/** A row of tabs over one panel, by the keys of the ARIA pattern: arrows, Home and End. */

import { showText } from "../messages.js";
import { make } from "./base.js";

const TAB_STEPS = { ArrowRight: 1, ArrowLeft: -1 };

export class Tabs {
  #row;
  #panel;
  #onChoose;

  /**
   * @param {HTMLElement} row
   * @param {HTMLElement} panel what the chosen tab shows
   * @param {Object<string, {title: import("../messages.js").Message}>} tabs by their names; the first is chosen
   * @param {() => void} onChoose
   */
  constructor(row, panel, tabs, onChoose) {
    this.#row = row;
    this.#panel = panel;
    this.#onChoose = onChoose;
    row.append(...Object.entries(tabs).map(([name, { title }]) => this.#make(name, title)));
    this.#mark(row.firstElementChild);
    row.addEventListener("keydown", (event) => this.#move(event));
  }

  get chosen() {
    return this.#row.querySelector("[aria-selected=true]").dataset.tab;
  }

  label(name, text) {
    showText(this.#row.querySelector(`[data-tab=${name}]`), text);
  }

  /** Take a tab away, or bring it back; the first takes the place of one that was chosen. */
  hide(name, isHidden = true) {
    const tab = this.#row.querySelector(`[data-tab=${name}]`);
    tab.hidden = isHidden;
    if (isHidden && tab.ariaSelected === "true") this.#choose(this.#row.firstElementChild);
  }

  /** Choose a tab by its name. */
  choose(name) {
    this.#choose(this.#row.querySelector(`[data-tab=${name}]`));
  }

  #make(name, title) {
    const tab = make("button", { part: "tab", type: "button", id: `tab-${name}`, role: "tab", text: title, "data-tab": name });
    tab.setAttribute("aria-controls", this.#panel.id);
    tab.addEventListener("click", () => this.#choose(tab));
    return tab;
  }

  #choose(tab) {
    if (tab.ariaSelected === "true") return;
    this.#mark(tab);
    this.#onChoose();
  }

  /** Mark the chosen one: only it is reached by Tab, the others by arrows. */
  #mark(chosen) {
    for (const tab of this.#row.children) {
      tab.ariaSelected = String(tab === chosen);
      tab.tabIndex = tab === chosen ? 0 : -1;
    }
    this.#panel.setAttribute("aria-labelledby", chosen.id);
  }

  #move(event) {
    const tabs = [...this.#row.children].filter((tab) => !tab.hidden);
    const index = tabs.indexOf(event.target) + (TAB_STEPS[event.key] ?? 0);
    const ends = { Home: tabs[0], End: tabs.at(-1) };
    const next = ends[event.key] ?? (TAB_STEPS[event.key] && tabs.at(index % tabs.length));
    if (!next) return;
    event.preventDefault();
    next.focus();
    this.#choose(next);
  }
}
