// A worker for Node 18 and later that has only the address of a server and a token with the scope rt:work:
//
//     RT_URL=http://127.0.0.1:8888 RT_TOKEN=... node examples/worker.mjs
//
// Its tasks count to `to`, a number each `pause` seconds; four run at once. docs/workers.md has what it says.
import { setTimeout as sleep } from "node:timers/promises";

const { RT_URL = "http://127.0.0.1:8888", RT_TOKEN } = process.env;
const properties = { to: { type: "integer", default: 10 }, pause: { type: "number", default: 0.1 } };
const kinds = [{ kind: "count", title: "Count", label: "to {to}", params_schema: { type: "object", properties } }];
const worker = { worker_id: `count-${process.pid}-${Date.now()}`, kinds, lease: 30 };
const running = new Map(); // By the token of an attempt: what is said of it, what stops it, and its end.
let claiming = new AbortController(), stopped = false;
for (const name of ["SIGTERM", "SIGINT"]) process.on(name, () => { stopped = true; claiming.abort(); });

async function post(verb, body, signal) {
  const headers = { Authorization: `Bearer ${RT_TOKEN}`, "Content-Type": "application/json" };
  while (!signal?.aborted) {
    const options = { method: "POST", body: JSON.stringify(body), headers, signal };
    const answer = await fetch(`${RT_URL}/api/worker/${verb}`, options).catch(() => null);
    if (answer?.ok) return answer.json();
    if (answer && answer.status < 500 && answer.status !== 429) throw new Error(await answer.text());
    if (!signal?.aborted) await sleep(500 + 1000 * Math.random()); // The server is away: say the same again.
  }
  return { tasks: [], events: [] };
}

async function run({ params, state }, attempt, signal) {
  let end = { outcome: "completed", result: { counted: params.to } };
  try {
    for (let done = (state.done ?? 0) + 1; done <= params.to; done++) {
      await sleep(params.pause * 1000, null, { signal });
      await post("report", { items: [{ ...attempt, done, total: params.to, unit: "numbers", state: { done } }] });
    }
  } catch (error) {
    end = signal.aborted ? { outcome: "released" } : { outcome: "error", error: String(error) };
  }
  await post("ack", { items: [{ ...attempt, ...end }] });
  running.delete(attempt.token);
  claiming.abort(); // There is room for another.
}

const named = () => [...running.values()].map(({ attempt }) => attempt);
setInterval(() => running.size && post("extend", { items: named(), lease: worker.lease }), 10_000);
while (!stopped) {
  claiming = new AbortController();
  const claim = { ...worker, count: 4 - running.size, wait: 20, running: named() };
  const { tasks, events } = await post("claim", claim, claiming.signal);
  for (const { token } of events) running.get(token)?.stop.abort(); // It was cancelled, or is another's.
  for (const task of tasks) {
    const attempt = { task_id: task.task_id, token: task.token }, stop = new AbortController();
    running.set(task.token, { attempt, stop, end: run(task, attempt, stop.signal) });
  }
}
running.forEach(({ stop }) => stop.abort());
await Promise.all([...running.values()].map(({ end }) => end));
process.exit(0);
