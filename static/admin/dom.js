/** Makes nodes, and brings what stands in the page up to date in place. Text goes in as text, never as HTML. */

const SVG = "http://www.w3.org/2000/svg";
const SVG_NAMES = new Set(["svg", "path", "line", "text", "g", "rect", "circle", "title"]);

export const $ = (selector, within = document) => within.querySelector(selector);

/**
 * Make an element. An attribute that is `true` is empty; `false`, null and undefined are none. The value of a
 * select or a textarea is its `data-value`. Children are nodes, texts, lists, or nothing.
 */
export function h(name, attributes = {}, ...children) {
  const made = SVG_NAMES.has(name) ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
  if ("data-value" in attributes) made.value = attributes["data-value"];
  return made;
}

// A finger leaves no pointer behind.
const HOVERS = matchMedia("(hover: hover)");

/**
 * Make the children of an element equal to these, in place: what is there stays the same node, with its focus,
 * its selection and its state. Nodes with `data-key` are found by it, others by their position. Keyed nodes in a
 * `data-hold` stand still under the pointer: they are brought up to date, and none comes, goes or moves.
 */
export function show(parent, ...nodes) {
  const fragment = document.createDocumentFragment();
  fragment.append(...nodes.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
  updateChildren(parent, [...fragment.childNodes]);
}

function update(old, made) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== made.data) old.data = made.data;
    return;
  }
  // A component draws itself.
  if (old.hasAttribute("data-own")) return;
  updateAttributes(old, made);
  updateChildren(old, [...made.childNodes]);
  updateValue(old);
}

function updateAttributes(old, made) {
  for (const { name } of [...old.attributes]) if (!made.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of made.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  // The attribute is only how a box begins.
  if (old.type === "checkbox" && old.checked !== made.checked) old.checked = made.checked;
}

/** Have a field show the value that it is drawn with; one that is drawn without a value is the user's. */
function updateValue(field) {
  const value = field.dataset.value ?? (field.localName === "input" && field.type !== "checkbox" ? field.getAttribute("value") : null);
  if (value !== null && field.value !== value) field.value = value;
}

function updateChildren(parent, wanted) {
  const keyed = new Map([...parent.children].filter((one) => one.dataset.key).map((one) => [one.dataset.key, one]));
  const isSame = (old, made) => old.nodeType === made.nodeType && old.nodeName === made.nodeName;
  if (keyed.size && HOVERS.matches && parent.matches("[data-hold]:hover")) return hold(keyed, wanted);
  const loss = lossOfFocus(parent, wanted);
  let at = parent.firstChild;
  for (const made of wanted) {
    const key = made.dataset?.key;
    const known = key ? keyed.get(key) : at && !at.dataset?.key && isSame(at, made) ? at : null;
    if (!known || !isSame(known, made)) {
      parent.insertBefore(made, at);
      continue;
    }
    // A node that is moved loses the focus: the others go out of its way, and come back to their places.
    if (known !== at && known.contains(document.activeElement)) {
      while (at !== known) at = removed(at);
    }
    if (known === at) at = at.nextSibling;
    else parent.insertBefore(known, at);
    update(known, made);
  }
  while (at) at = removed(at);
  loss?.();
}

function hold(keyed, wanted) {
  const made = new Map(wanted.map((one) => [one.dataset?.key, one]));
  for (const [key, old] of keyed) {
    if (made.has(key)) update(old, made.get(key));
    old.toggleAttribute("data-gone", !made.has(key));
  }
}

function removed(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

/** Return what gives the focus to the neighbour of a keyed node that goes; null when none goes with the focus. */
function lossOfFocus(parent, wanted) {
  const active = document.activeElement;
  if (!active || active === parent || !parent.contains(active)) return null;
  const child = [...parent.children].find((one) => one.contains(active));
  if (!child?.dataset.key || wanted.some((one) => one.dataset?.key === child.dataset.key)) return null;
  const index = [...parent.children].indexOf(child);
  const act = active.dataset.act;
  return () => {
    const next = parent.children[Math.min(index, parent.children.length - 1)];
    const same = act && next?.querySelector(`[data-act="${act}"]`);
    const home = parent.closest("[tabindex]") ?? $("#view");
    (same || next?.querySelector("a, button, input") || home).focus();
  };
}

/** Have clicks on what has `data-act` do what `acts` has under that name. */
export function listen(root, acts, signal) {
  root.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-act]");
    const act = chosen && root.contains(chosen) && acts[chosen.dataset.act];
    if (act) act(chosen, event);
  }, { signal });
}

/** A button that does the act of this name. */
export function button(act, label, attributes = {}) {
  return h("button", { type: "button", "data-act": act, ...attributes }, label);
}
