/** Follows a task with `@microsoft/fetch-event-source`: it comes back and resumes by itself. */

import { say } from "./say.mjs";

const [url, token, taskId] = process.argv.slice(2);
// It is made for browsers, and asks for these two names.
globalThis.window = globalThis;
globalThis.document = new EventTarget();
const { fetchEventSource } = await import("@microsoft/fetch-event-source");
let hasEnded = false;
await fetchEventSource(`${url}/api/tasks/${taskId}`, {
  headers: { Authorization: `Bearer ${token}` },
  openWhenHidden: true,
  onmessage: ({ event, data }) => {
    hasEnded = event === "finished";
    say(event, JSON.parse(data));
  },
  // A stream that ends is over for it, unless this throws. To Node's `fetch` a cut is such an end.
  onclose: () => {
    if (!hasEnded) throw new Error("cut off");
  },
});
say("closed", {});
