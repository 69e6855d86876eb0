/** Follows a task with `eventsource`: it comes back, resumes, and stops at 204, all by itself. */

import { say } from "./say.mjs";

const [version, url, token, taskId] = process.argv.slice(2);
const module = await import(`eventsource${version}`);
const headers = { Authorization: `Bearer ${token}` };
// Up to 2 it takes headers; from 3 on a `fetch` that adds them.
const source = version === "2"
  ? new module.default(`${url}/api/tasks/${taskId}`, { headers })
  : new module.EventSource(`${url}/api/tasks/${taskId}`, {
    fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...headers } }),
  });
for (const type of ["connected", "progress", "finished", "problem"]) {
  source.addEventListener(type, ({ data }) => say(type, JSON.parse(data)));
}
// Nothing holds the process any more.
process.on("exit", () => say("closed", {}));
