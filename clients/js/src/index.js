/** The JavaScript client of tornado_rt. Its source, in parts, is clients/js/src; docs/clients.md. */

export { Client } from "./client.js";
export { ServerClock } from "./server-clock.js";
export { ageOf, startsIn, timeLeft } from "./time-left.js";
export {
  ApiError,
  ConnectionClosed,
  ConnectionLost,
  ProtocolError,
  ReaderTooSlow,
  RealtimeError,
  TaskCancelled,
  TaskEnded,
  TaskFailed,
} from "./errors.js";
