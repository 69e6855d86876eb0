/** The types of tornado-rt-client/elements. To import the module defines the elements. */

import type { Batch, BatchSnapshot, Client, Task, TaskSnapshot } from "./rt-client.js";

declare class RealtimeElement extends HTMLElement {
  /** The client to use; else that of `src` and `token`, else `Client.default`. */
  client: Client | null;
}

export class TaskElement extends RealtimeElement {}
export class BatchElement extends RealtimeElement {}
export class InboxElement extends RealtimeElement {
  /** Open or close the panel of the bell. */
  open(isOpen?: boolean): void;
}
export class SubmitElement extends RealtimeElement {}

/** Draw the results of a kind; null: by the plain view. `task` is what `GET /api/tasks/{id}` tells. */
export function setResultView(kind: string, view: (result: any, task: any) => Node | null): void;
/** The view of the kind `analysis`. */
export function drawAnalysis(result: any): Node | null;
/** What to tell a person of an error. */
export function messageOfError(error: unknown): string;
/** How long ago a moment [ms] was: "now", "5 min ago"; its date after a week. */
export function agoInWords(moment: number, now?: number): string;
/** A sign for each state of tasks and batches. */
export const STATUS_ICONS: Record<string, string>;

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
    "rt-submit": SubmitElement;
  }
  interface HTMLElementEventMap {
    "rt-submitted": CustomEvent<{ task?: Task; batch?: Batch }>;
    "rt-counts": CustomEvent<{ unread: number; unseen: number }>;
  }
}
