/** The raw frames, the newest first. */

import { $, element } from "./dom.js";

const KEPT = 100;

export function showFrame(source, text) {
  const list = $("frames");
  list.prepend(element("li", {}, element("b", { textContent: source }), ` ${text}`));
  while (list.children.length > KEPT) list.lastElementChild.remove();
}
