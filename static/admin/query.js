/** Queries of requests. */

/** Return the query of arguments, with its question mark; what is empty is left out, a list is repeated. */
export function queryText(values) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined && one !== null && one !== "") query.append(name, one);
  }
  const text = query.toString();
  return text ? `?${text}` : "";
}
