/** Names and tables of the wire (docs/protocol.md). */

export const SUBPROTOCOL = "rt.v1";
export const AUTH_PREFIX = "auth.";
export const ME = "me";
export const TASKS = "tasks";

// Whether a client comes back after a close code. `connected` has the server's own table.
export const RECONNECT = {
  1000: false, 1001: true, 1002: false, 1003: false, 1005: true, 1006: true, 1007: false, 1008: false,
  1009: false, 1010: false, 1011: true, 1012: true, 1013: true, 1014: true,
  4400: false, 4401: false, 4403: false, 4404: false, 4409: false, 4429: false, 4508: true, 4510: true,
};
// The same for a code that is not listed, by its hundreds; after any other a client comes back.
export const RECONNECT_RANGES = { 44: false, 45: true };
export const UNAUTHORIZED = 4401;

// Messages that a client may drop when it has seen their ids.
export const ONCE = new Set(["progress", "finished", "notification", "changed", "message"]);

// A limit, and statuses that the server or a proxy before it has only for a while.
export const PASSING = new Set([429, 502, 503, 504]);
export const TOO_MANY = 429;

// The `code` of an `error` about a topic, by the status that says the same. Other codes pass.
export const STATUS_OF_CODE = {
  bad_request: 400, bad_message: 400, bad_token: 401, forbidden: 403, not_found: 404, conflict: 409,
};

/** Return whether a client comes back after a close code. */
export function comesBack(code, table = RECONNECT) {
  return table[code] ?? RECONNECT_RANGES[Math.floor(code / 100)] ?? true;
}

/** Return whether a topic is a task or a batch, which has an end. */
export function hasEnd(topic) {
  return topic.startsWith("task:") || topic.startsWith("batch:");
}

/** Return the epoch and the offset of a cursor. */
function parts(cursor) {
  const cut = cursor.lastIndexOf("-");
  return [cursor.slice(0, cut), BigInt(cursor.slice(cut + 1))];
}

/** Return whether two cursors belong to one log. */
export function sameEpoch(one, other) {
  return one !== "" && other !== "" && parts(one)[0] === parts(other)[0];
}

/** Return whether a cursor stands at another of the same log, or before it. */
export function isUpTo(cursor, other) {
  return sameEpoch(cursor, other) && parts(cursor)[1] <= parts(other)[1];
}
