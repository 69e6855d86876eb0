/** Follows a task with `reconnecting-websocket`: it comes back by itself, to an address that we make. */

import reconnecting from "reconnecting-websocket";
import { WebSocket } from "ws";
import { say } from "./say.mjs";

const [url, token, taskId] = process.argv.slice(2);
const ReconnectingWebSocket = reconnecting.default ?? reconnecting;
const address = `${url.replace("http", "ws")}/api/ws/tasks/${taskId}`;
let last = "";
const socket = new ReconnectingWebSocket(
  () => `${address}?last_id=${last}`,
  ["rt.v1", `auth.${token}`],
  { WebSocket },
);
socket.addEventListener("message", (event) => {
  const { type, data, id } = JSON.parse(event.data);
  last = id ?? last;
  say(type, data);
  // It would come back after any close, also that of a task that is over.
  if (type === "finished") socket.close();
});
process.on("exit", () => say("closed", {}));
