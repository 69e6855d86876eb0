/** A topic of the application. */

import { Watchable } from "./watching.js";

/**
 * Its events are `message`, with `data` and `isSnapshot` (the last one from before we came), and `resync`:
 * some messages cannot be had any more.
 */
export class Topic extends Watchable {
  readMessage({ type, topic, id, data }) {
    if (type === "message") return [{ type, topic, id, data, isSnapshot: false }];
    if (type === "resync") return [{ type, topic, id, reason: data.reason }];
    if (type !== "subscribed" || data.recovered || (data.snapshot ?? null) === null) return [];
    return [{ type: "message", topic, id, data: data.snapshot, isSnapshot: true }];
  }
}
