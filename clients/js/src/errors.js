/**
 * The errors of this module.
 *
 *     RealtimeError
 *       ApiError           the server refused a request or a topic
 *       ConnectionLost     the server could not be reached, or did not answer
 *       ConnectionClosed   the server closed the connection, and asks not to come back
 *       ProtocolError      the answer is not one of a tornado_rt server
 *       ReaderTooSlow      a reader did not take its events in time
 *       TaskEnded          a task ended without a result
 *         TaskFailed, TaskCancelled
 *
 * A time that is over is a DOMException of the name TimeoutError, a signal gives its own reason.
 */

import { PASSING, STATUS_OF_CODE } from "./protocol.js";

export class RealtimeError extends Error {
  get name() {
    return this.constructor.name;
  }
}

/** The server could not be reached, or did not answer. `wasSent`: it may have got the request. */
export class ConnectionLost extends RealtimeError {
  /**
   * @param {string} message
   * @param {{wasSent?: boolean, cause?: any}} [about]
   */
  constructor(message, { wasSent = true, cause } = {}) {
    super(message, { cause });
    this.wasSent = wasSent;
  }
}

/** The connection is closed for good. `code` is the close code of a WebSocket (docs/protocol.md). */
export class ConnectionClosed extends RealtimeError {
  constructor(code, reason = "") {
    super(`closed with ${code}${reason ? `: ${reason}` : ""}`);
    this.code = code;
    this.reason = reason;
  }
}

export class ProtocolError extends RealtimeError {}

/** A reader left more events unread than are kept for it. */
export class ReaderTooSlow extends RealtimeError {}

/** A task ended without a result. `status` is how, `error` the reason or null. */
export class TaskEnded extends RealtimeError {
  constructor(taskId, status, error) {
    super(`task ${taskId} is ${status}${error ? `: ${error}` : ""}`);
    this.taskId = taskId;
    this.status = status;
    this.error = error ?? null;
  }
}

export class TaskFailed extends TaskEnded {}

export class TaskCancelled extends TaskEnded {}

/**
 * The server refused a request, or a topic.
 *
 * `status`, `title`, `detail` and `errors` are those of the problem document (RFC 9457), `document` is
 * all of it. `retryAfter` is in seconds, or null.
 */
export class ApiError extends RealtimeError {
  constructor(status, document = {}, retryAfter = null) {
    const { title = "", detail = "", errors } = document;
    const faults = Array.isArray(errors) ? errors.map(String) : [];
    super([status, [detail || title, ...faults].filter(Boolean).join("; ")].join(" ").trimEnd());
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.errors = faults;
    this.document = document;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later. */
  get isPassing() {
    return PASSING.has(this.status);
  }
}

/** Return the error of a code on a connection; null for one that passes. */
export function errorOfCode({ code = "", message = "" } = {}) {
  const status = STATUS_OF_CODE[code];
  return status ? new ApiError(status, { status, title: code, detail: message }) : null;
}

/** Read `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date. Return null for anything else. */
export function readRetryAfter(text, now = Date.now()) {
  if (!text) return null;
  const seconds = /^\s*\d/.test(text) && Number.isFinite(Number(text)) ? Number(text) : (Date.parse(text) - now) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : null;
}

/** Return an error as plain data, which may go to another tab. */
export function packError(error) {
  if (error instanceof ApiError) {
    return { kind: "api", status: error.status, document: error.document, retryAfter: error.retryAfter };
  }
  if (error instanceof ConnectionClosed) return { kind: "closed", code: error.code, reason: error.reason };
  return { kind: "other", message: String(error?.message ?? error) };
}

/** Return the error that was packed. */
export function unpackError(packed) {
  if (packed.kind === "api") return new ApiError(packed.status, packed.document, packed.retryAfter);
  if (packed.kind === "closed") return new ConnectionClosed(packed.code, packed.reason);
  return new RealtimeError(packed.message);
}
