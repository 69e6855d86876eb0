/** Shorthands for the document; text always goes in as text. */

export const $ = (id) => document.getElementById(id);

/**
 * @param {string} name
 * @param {Record<string, any>} [properties]
 * @param {...any} children
 * @returns {any}
 */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
