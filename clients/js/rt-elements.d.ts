/** The types of tornado-rt-client/elements. To import the module defines the elements. */

import type { BatchSnapshot, Client, TaskSnapshot } from "./rt-client.js";

declare class RealtimeElement extends HTMLElement {
  /** The client to use; else that of `src` and `token`, else `Client.default`. */
  client: Client | null;
}

export class TaskElement extends RealtimeElement {}
export class BatchElement extends RealtimeElement {}
export class InboxElement extends RealtimeElement {}

export class SnapshotElement extends HTMLElement {
  snapshot: TaskSnapshot | BatchSnapshot | null;
  /** How far the server's clock is ahead of that of this machine [s]. */
  skew: number;
  readonly value: number;
}

declare global {
  interface HTMLElementTagNameMap {
    "rt-task": TaskElement;
    "rt-batch": BatchElement;
    "rt-inbox": InboxElement;
    "rt-snapshot": SnapshotElement;
  }
}
