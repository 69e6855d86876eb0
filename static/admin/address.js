/** The address of a view: `#tasks?state=dead&kind=x`, `#task/ID`. */

/** Return `{name, id, query}` of a hash. */
export function readHash(hash) {
  const [path, query] = hash.replace(/^#/, "").split("?");
  const [name, id = ""] = path.split("/");
  let known = "";
  try {
    known = decodeURIComponent(id);
  } catch {
    // Anybody may have written the link.
  }
  return { name: name || "overview", id: known, query: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

/** Return the hash of a view. Empty values are left out of the query. */
export function hashOf(name, query = {}, id = "") {
  const told = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(told).toString();
  return `#${name}${id ? `/${encodeURIComponent(id)}` : ""}${text ? `?${text}` : ""}`;
}
