/** `<rt-snapshot>`: draws what a page has got by a connection of its own. */

import { followLanguage, unfollowLanguage } from "../messages.js";
import { make } from "./base.js";
import { Drawing } from "./drawing.js";
import { styleSheet } from "./styles.js";

/**
 * Its property `snapshot` is that of a task or batch, null for none; `skew` is how far the server's clock is ahead
 * of that of this machine [s]. Its attribute `label` names the bar. Its content stands before the steps.
 */
export class SnapshotElement extends HTMLElement {
  static observedAttributes = ["label"];

  #drawing = null;
  #title = make("span", { id: "title", className: "sr" });
  #snapshot = null;
  skew = 0;

  get snapshot() {
    return this.#snapshot;
  }

  set snapshot(snapshot) {
    this.#snapshot = snapshot;
    if (!this.#drawing) return;
    if (snapshot) this.#drawing.show(snapshot, this.skew);
    else this.#drawing.reset();
  }

  /** The share that is shown as done [%]. */
  get value() {
    return this.#snapshot && this.#drawing ? this.#drawing.shown.percent(Date.now()) : 0;
  }

  connectedCallback() {
    if (!this.#drawing) {
      this.#drawing = new Drawing(this, ({ current_step_name: step }) => step);
      const root = this.attachShadow({ mode: "open" });
      root.adoptedStyleSheets = [styleSheet()];
      const { bar, line, steps } = this.#drawing.nodes;
      root.append(this.#title, ...bar, ...line, make("slot"), ...steps);
      this.#drawing.reset();
    }
    // A property that was set before the element was defined hides the accessor.
    if (Object.hasOwn(this, "snapshot")) {
      const { snapshot } = this;
      delete this.snapshot;
      this.#snapshot = snapshot;
    }
    if (this.#snapshot) this.#drawing.show(this.#snapshot, this.skew);
    followLanguage(this.shadowRoot);
  }

  disconnectedCallback() {
    unfollowLanguage(this.shadowRoot);
    this.#drawing.stop();
  }

  attributeChangedCallback() {
    this.#title.textContent = this.getAttribute("label") ?? "";
  }
}
