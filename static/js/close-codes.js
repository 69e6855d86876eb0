/** Whether to come back after a WebSocket was closed, by the server's own table. */

import { RECONNECT, RECONNECT_RANGES } from "./protocol.js";

/**
 * @param {number} code the close code
 * @param {Object<string, boolean>} table `reconnect` of the last `connected`, if there was one
 */
export function comesBack(code, table = RECONNECT) {
  return table[code] ?? RECONNECT_RANGES[Math.floor(code / 100)] ?? true;
}
