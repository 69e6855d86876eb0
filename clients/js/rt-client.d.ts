/** The types of tornado-rt-client. Durations are seconds, times on the wire ISO 8601 in UTC. */

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
type Fields = Record<string, unknown>;

/** idle: nothing is followed; offline: it comes back by itself; closed: it does not. */
export type State = "idle" | "connecting" | "online" | "offline" | "closed";

export interface Status {
  state: State;
  transport: "socket" | "stream" | null;
  userId: string | null;
  reason: string | null;
  error: Error | null;
  /** How long until the next attempt. */
  retryIn: number | null;
}

export type Token = string | (() => string | Promise<string>);

export interface ClientOptions {
  token?: Token;
  transport?: "auto" | "socket" | "stream";
  /** The language of what the server tells in words, such as "zh-CN"; else that of the browser, or the server's. */
  locale?: string;
  share?: boolean;
  WebSocket?: unknown;
  fetch?: typeof fetch;
  patience?: number;
  backoff?: { first?: number; most?: number };
  socketAgain?: { first?: number; most?: number };
}

export interface TaskSnapshot extends Fields {
  task_id: string;
  kind: string;
  label: string;
  status: "queued" | "delayed" | "processing" | "completed" | "failed" | "cancelled" | "dead";
  attempt: number;
  progress: number;
  message?: string | null;
  /** Of a task that waits: its start, within the bounds in four of five cases. */
  starts_in?: number;
  starts_in_low?: number;
  starts_in_high?: number;
  current_step?: number;
  current_step_name?: string;
  steps?: Step[];
  /** How far the current step is [%]. */
  step_progress?: number;
  /** More steps will be found. */
  steps_open?: boolean;
  elapsed_time?: number;
  /** How long it still takes, from `updated_at` on, within the bounds in four of five cases; null is unknown. */
  remaining_time?: number | null;
  remaining_low?: number | null;
  remaining_high?: number | null;
  estimated_total_time?: number | null;
  updated_at?: string;
  /** Why the time left rose, and when. */
  revised?: string;
  revised_at?: string;
  slow_since?: string;
  stalled_since?: string;
}

export interface Step {
  name: string;
  description: string;
  weight: number;
  status: "pending" | "current" | "completed" | "skipped" | "failed";
  group?: string[];
  /** From the start of the attempt. */
  started_after?: number;
  duration?: number;
  usual_duration?: number;
}

/** A time that is left; `finish` and `latest` are by this machine's clock. Null is unknown. */
export interface TimeLeft {
  seconds: number;
  low: number | null;
  high: number | null;
  finish: Date;
  latest: Date | null;
}

export interface Known {
  /** How far the server's clock is ahead of that of this machine. */
  skew?: number;
  /** When the snapshot came [ms]. */
  receivedAt?: number;
}

/** How long a task or batch still takes; null: it is unknown, or it does not run. */
export function timeLeft(snapshot: Fields, now?: Date | number, known?: Known): TimeLeft | null;
/** The same of the start of a task that waits. */
export function startsIn(snapshot: Fields, now?: Date | number, known?: Known): TimeLeft | null;
/** The seconds since a snapshot was true. */
export function ageOf(snapshot: Fields, now: number, known?: Known): number;

/** The clock of the server, as far as the `timestamp`s of its messages tell it. */
export class ServerClock {
  hear(timestamp: unknown): void;
  readonly skew: number;
  /** In milliseconds since 1970; null while nothing is known. */
  readonly time: number | null;
}

export interface BatchSnapshot extends Fields {
  batch_id: string;
  kind: string;
  status: string;
  total: number;
  completed: number;
  failed: number;
  cancelled: number;
  dead: number;
  progress: number;
  /** The time left, within the bounds in four of five cases; null is unknown. */
  remaining_time: number | null;
  remaining_low: number | null;
  remaining_high: number | null;
}

/** When a task or batch would start and end if it were submitted now; null is unknown. */
export interface Estimate extends Fields {
  dry_run: true;
  kind: string;
  position: number | null;
  starts_in: number | null;
  starts_in_low: number | null;
  starts_in_high: number | null;
  remaining_time: number | null;
  remaining_low: number | null;
  remaining_high: number | null;
  starts_at: string | null;
  ends_at: string | null;
  ends_at_low: string | null;
  ends_at_high: string | null;
  waiting_for?: { code: string; message: string };
  /** What is there already and would be the answer. */
  task_id?: string;
  batch_id?: string;
}

export interface TaskItem extends Fields {
  task_id: string;
  kind: string;
  label: string;
  status: string;
}

export interface Notification extends Fields {
  id: string;
  seq: number;
  type: string;
  title: string;
  content: string | null;
  status: "unread" | "read";
  severity: "info" | "success" | "warning" | "error";
  created_at: string;
}

export interface Counts {
  unread: number;
  unseen: number;
  version: number;
}

export interface Page<T> {
  items: T[];
  next: string | null;
}

interface Event_ {
  topic: string;
  id?: string;
}

export interface Progress<S> extends Event_ {
  type: "progress";
  percent: number;
  message: string | null;
  status: string;
  snapshot: S;
}

export interface TaskFinished extends Event_ {
  type: "finished";
  status: "completed" | "failed" | "cancelled" | "dead";
  result: any;
  error: string | null;
}

export interface BatchFinished extends Event_ {
  type: "finished";
  status: "completed" | "partial" | "failed" | "cancelled";
  counts: Fields;
}

export interface Message<T = any> extends Event_ {
  type: "message";
  data: T;
  /** The last one from before we came. */
  isSnapshot: boolean;
}

/** Some events cannot be had any more: forget what came before. */
export interface Resync extends Event_ {
  type: "resync";
  reason: "trimmed" | "epoch" | "limit";
}

export interface CountsEvent extends Event_, Counts {
  type: "counts";
  isFirst: boolean;
}

export interface Arrived extends Event_ {
  type: "notification";
  notification: Notification;
}

export interface Changed<T> extends Event_ {
  type: "changed";
  items: T[];
  deleted: string[];
  /** Of an inbox: what the user is told of from now on, if that has changed. */
  preferences?: Fields | null;
}

export interface TasksListed extends Event_ {
  type: "list";
  items: TaskItem[];
}

export type TaskEvent = Progress<TaskSnapshot> | TaskFinished | Resync;
export type BatchEvent = Progress<BatchSnapshot> | BatchFinished | Resync;
export type TopicEvent<T = any> = Message<T> | Resync;
export type InboxEvent = CountsEvent | Arrived | Changed<Notification> | Resync;
export type TaskListEvent = TasksListed | Changed<TaskItem> | Resync;

type Extra<This> = { error: CustomEvent<Error>; update: CustomEvent<This> };
type Listened<E extends { type: string }, This> = { [T in E["type"]]: CustomEvent<Extract<E, { type: T }>> } & Extra<This>;

/** An async iterable of its events, and an event target; it is followed from the first listener to `close()`. */
export interface Watchable<E extends { type: string }> extends EventTarget, AsyncIterable<E> {
  readonly topic: string;
  events(options?: { signal?: AbortSignal }): AsyncIterableIterator<E>;
  open(): void;
  close(): void;
  addEventListener<T extends keyof Listened<E, this>>(
    type: T, listener: (event: Listened<E, this>[T]) => void, options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions,
  ): void;
}

export interface Waiting {
  timeout?: number;
  signal?: AbortSignal;
}

/** A code for programs, and a sentence for people. */
export interface Reason {
  code: string;
  text: string;
}

/** Why a task is where it is, and all that happened to it; `heard` is null until it has ended. */
export interface Why {
  task_id: string;
  status: string;
  cause: Reason;
  heard: Reason | null;
  chain: (Reason & { at: string } & Fields)[];
}

/** What a task has told so far, the oldest first; `older`: something before it is not kept any more. */
export interface Output {
  locale: string | null;
  items: { updated_at: string; attempt: number; status: string; current_step_name: string; message: string }[];
  older: boolean;
}

export interface Task extends Watchable<TaskEvent> {
  readonly id: string;
  readonly submission: Fields | null;
  result<T = any>(options?: Waiting): Promise<T>;
  timeLeft(now?: Date | number): TimeLeft | null;
  startsIn(now?: Date | number): TimeLeft | null;
  cancel(): Promise<TaskItem>;
  retry(): Promise<Fields>;
  read(): Promise<TaskItem>;
  output(): Promise<Output>;
  why(): Promise<Why>;
}

export interface Batch extends Watchable<BatchEvent> {
  readonly id: string;
  readonly submission: Fields | null;
  result(options?: Waiting): Promise<BatchFinished>;
  timeLeft(now?: Date | number): TimeLeft | null;
  cancel(): Promise<BatchSnapshot>;
  retry(): Promise<{ retried: number }>;
  read(): Promise<BatchSnapshot>;
  tasks(): AsyncGenerator<TaskItem>;
}

export interface Topic<T = any> extends Watchable<TopicEvent<T>> {}

export type Which = string | string[] | { all: true } | { filter: Fields };
export type Done = Counts & { changed: number; undo: string | null };

export interface Inbox extends Watchable<InboxEvent> {
  readonly items: Notification[];
  readonly counts: Counts;
  readonly isLoaded: boolean;
  readonly hasMore: boolean;
  readonly error: Error | null;
  more(): Promise<void>;
  list(filters?: Fields): Promise<Page<Notification> & Counts>;
  pages(filters?: Fields): AsyncGenerator<Notification>;
  get(id: string): Promise<Notification>;
  parts(id: string, options?: { limit?: number }): Promise<Notification[]>;
  act(verb: string, which: Which, more?: Fields): Promise<Done>;
  seen(which: Which): Promise<Done>;
  read(which: Which): Promise<Done>;
  readAll(): Promise<Done>;
  unread(which: Which): Promise<Done>;
  archive(which: Which): Promise<Done>;
  unarchive(which: Which): Promise<Done>;
  snooze(which: Which, when: { seconds?: number; until?: string | Date }): Promise<Done>;
  unsnooze(which: Which): Promise<Done>;
  pin(which: Which): Promise<Done>;
  unpin(which: Which): Promise<Done>;
  delete(which: Which): Promise<Done>;
  undo(undo: string): Promise<Done>;
  answer(id: string, action: string): Promise<Notification>;
  preferences(): Promise<Fields>;
  setPreferences(preferences: Fields): Promise<Fields>;
}

export interface TaskList extends Watchable<TaskListEvent> {
  readonly items: TaskItem[];
  readonly isLoaded: boolean;
  list(filters?: Fields): Promise<Page<TaskItem>>;
  pages(filters?: Fields): AsyncGenerator<TaskItem>;
  retry(filters?: Fields): Promise<{ retried: number; next?: string }>;
}

export interface Schedules extends AsyncIterable<Fields> {
  list(filters?: Fields): Promise<Page<Fields>>;
  pages(filters?: Fields): AsyncGenerator<Fields>;
  get(name: string): Promise<Fields>;
  put(name: string, fields: Fields): Promise<Fields>;
  delete(name: string): Promise<null>;
  run(name: string, options?: { idempotencyKey?: string }): Promise<Task>;
}

export interface SubmitOptions extends Fields {
  idempotencyKey?: string;
  label?: string;
  priority?: "highest" | "high" | "normal" | "low" | "lowest";
  key?: string;
  delay?: number;
  tags?: string[];
}

export interface RequestOptions {
  key?: string;
  isHarmless?: boolean;
  signal?: AbortSignal;
  keepalive?: boolean;
}

export class Client extends EventTarget {
  static default: Client | null;
  static whenDefault(): Promise<Client>;
  constructor(url?: string | URL, options?: ClientOptions);
  readonly url: string;
  readonly state: State;
  readonly status: Status;
  readonly skew: number;
  readonly inbox: Inbox;
  readonly tasks: TaskList;
  readonly schedules: Schedules;
  task(id: string): Task;
  batch(id: string): Batch;
  subscribe<T = any>(topic: string): Topic<T>;
  submit(kind: string, params?: object, options?: SubmitOptions): Promise<Task>;
  estimate(kind: string, params?: object, options?: SubmitOptions): Promise<Estimate>;
  estimateBatch(kind: string, items: object[], options?: SubmitOptions): Promise<Estimate>;
  submitBatch(kind: string, items: object[], options?: SubmitOptions): Promise<Batch>;
  notify(userId: string, fields: Fields, options?: { idempotencyKey?: string }): Promise<Notification>;
  publish(topic: string, data?: Json): Promise<string>;
  kinds(): Promise<Fields[]>;
  request(method: string, path: string, body?: unknown, options?: RequestOptions): Promise<any>;
  pages(path: string, filters?: Fields, placeName?: string): AsyncGenerator<any>;
  connect(): void;
  close(): void;
  addEventListener(
    type: "state", listener: (event: CustomEvent<Status>) => void, options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions,
  ): void;
}

export class RealtimeError extends Error {}

/** The server refused a request or a topic, by a problem document (RFC 9457). */
export class ApiError extends RealtimeError {
  readonly status: number;
  readonly title: string;
  readonly detail: string;
  readonly errors: string[];
  readonly document: Fields;
  readonly retryAfter: number | null;
  readonly isPassing: boolean;
}

export class ConnectionLost extends RealtimeError {
  readonly wasSent: boolean;
}

/** `code` is the close code of a WebSocket. */
export class ConnectionClosed extends RealtimeError {
  readonly code: number;
  readonly reason: string;
}

export class ProtocolError extends RealtimeError {}
export class ReaderTooSlow extends RealtimeError {}

export class TaskEnded extends RealtimeError {
  readonly taskId: string;
  readonly status: string;
  readonly error: string | null;
}

export class TaskFailed extends TaskEnded {}
export class TaskCancelled extends TaskEnded {}
