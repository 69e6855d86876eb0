/** Follows a task with `@microsoft/fetch-event-source`: it comes back and resumes by itself. */

import { say } from "./say.mjs";

const [url, token, taskId] = process.argv.slice(2);
// It is made for browsers, and asks for this name alone.
globalThis.window = globalThis;
const { fetchEventSource } = await import("@microsoft/fetch-event-source");
await fetchEventSource(`${url}/api/tasks/${taskId}`, {
  headers: { Authorization: `Bearer ${token}` },
  openWhenHidden: true,
  onmessage: ({ event, data }) => say(event, JSON.parse(data)),
});
// A stream that has ended well is over.
say("closed", {});
