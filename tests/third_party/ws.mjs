/** Follows a task with `ws`, which does not come back by itself: four lines do. */

import { WebSocket } from "ws";
import { say } from "./say.mjs";

const [url, token, taskId] = process.argv.slice(2);
let last = "";

function follow() {
  const address = `${url.replace("http", "ws")}/api/ws/tasks/${taskId}?last_id=${last}`;
  const socket = new WebSocket(address, { headers: { Authorization: `Bearer ${token}` } });
  socket.on("message", (text) => {
    const { type, data, id } = JSON.parse(text);
    last = id ?? last;
    say(type, data);
  });
  socket.on("error", () => {});
  socket.on("close", (code) => (code === 1000 ? say("closed", {}) : setTimeout(follow, 100)));
}

follow();
