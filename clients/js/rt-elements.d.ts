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
/** What to tell a person of an error, in the language of the page or another one. */
export function messageOfError(error: unknown, language?: string): string;
/** How long ago a moment [ms] was: "now", "5m ago"; its date after a week. In the language of the page or another one. */
export function agoInWords(moment: number, now?: number, language?: string): string;

/** A text that is put into words where it is shown; as a string it is in the language of the page. */
export class Message {
  constructor(say: (language: string) => string);
  in(language: string): string;
  toString(): string;
}
/** Values of the places of a message; a number is written as the language does. */
type Values = Record<string, string | number | Message | null | undefined>;
type Text = string | number | Message | null | undefined;
/** The words of a text, or of one that counts by their plural category: `{one, other}`. */
type Words = string | Partial<Record<Intl.LDMLPluralRule, string>>;
type Messages = Record<string, Words>;

/** The message of an English text, with `{name}` where a value goes. */
export function t(id: string, values?: Values): Message;
/** The message that counts `n`, of its English singular and plural with `{n}`. */
export function tn(n: number, one: string, many: string, values?: Values): Message;
/** Texts behind one another; what is empty is left out. */
export function joined(texts: (Text | false)[], separator?: string | Message): Message;
/** A text in a language. */
export function wordsIn(text: Text, language?: string): string;
/**
 * Add messages of a language by their English texts, or what loads them when the language is first shown. Later ones go
 * before earlier ones.
 */
export function addMessages(language: string, messages: Messages | (() => Promise<Messages | { default: Messages }>)): void;
/** The languages that there are, English first. */
export function languages(): string[];
/** Which of these a tag means: "zh" is "zh-CN". Null for none. */
export function catalogueOf(tag: string): string | null;
/** The language that a node is shown in. */
export function languageOf(node?: Node): string;
/** The language that the reader chose in this browser, "" for none. */
export function chosenLanguage(): string;
/** Keep a choice of the reader, and show the page in it. */
export function setLanguage(tag: string): void;
/** Have `<html lang>` follow the reader; resolves once that language is loaded. */
export function followReader(): Promise<void>;
/** Show what is in a document or shadow root in its language, also in a later one. */
export function followLanguage(root: Document | ShadowRoot): void;
/** Show a text in a node, or in an attribute of it; a message is shown again in another language. */
export function showText(node: Node, text: Text, attribute?: string): void;
/** Make messages of what constant markup marks by `data-t`. */
export function readMarks(root: ParentNode): void;

/** An error with a message for a person. */
export class ToldError extends Error {
  constructor(text: Message);
  readonly text: Message;
}
export function errorInWords(error: unknown): Message;
/** Make an element; texts and attributes may be messages. */
export function make(tag: string, options?: Record<string, unknown>): HTMLElement;
export function statusInWords(status: string): Message | string;
/** Moments are in ms since 1970, lengths in seconds. */
export function ago(moment: number, now?: number): Message;
export function relativeTo(moment: number, now?: number, days?: number): Message;
export function clockOf(moment: number | Date, now?: number): Message;
export function momentInWords(moment: number | Date, options?: Intl.DateTimeFormatOptions): Message;
export function lengthOf(seconds: number): Message;
export function roughly(seconds: number): Message;
export function numberOf(value: number, options?: Intl.NumberFormatOptions): Message;
export function percentOf(share: number, digits?: number): Message;
export function progressOf(percent: number): Message;
export function sentence(text: Text): Message;
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
