// A worker for Node 18 and later that has only the address of a server and a token with the scope rt:work:
//
//     RT_URL=http://127.0.0.1:8888 RT_TOKEN=... node examples/worker.mjs
//
// Its tasks count to `to`, a number each `pause` seconds; four run at once. docs/workers.md has what it says.
import { setTimeout as sleep } from "node:timers/promises";

const { RT_URL = "http://127.0.0.1:8888", RT_TOKEN } = process.env;
const properties = { to: { type: "integer", default: 10 }, pause: { type: "number", default: 0.1 } };
const kinds = [{ kind: "count", title: "Count", label: "to {to}", params_schema: { type: "object", properties } }];
const worker = { worker_id: `count-${process.pid}-${Date.now()}`, kinds };
const running = new Map(); // By the token: the attempt, what stops it, and its end.
const quit = new AbortController();

async function post(verb, body) {
  const headers = { Authorization: `Bearer ${RT_TOKEN}`, "Content-Type": "application/json" };
  for (;;) {
    const signal = verb === "claim" ? quit.signal : null; // At a stop nothing more is claimed.
    const options = { method: "POST", body: JSON.stringify(body), headers, signal };
    const answer = await fetch(`${RT_URL}/api/worker/${verb}`, options).catch(() => null);
    if (signal?.aborted) return { tasks: [], events: [] };
    if (answer?.ok) return answer.json();
    if (answer && answer.status < 500 && answer.status !== 429) throw new Error(await answer.text());
    await sleep(500 + 1000 * Math.random()); // The server, or its Redis, is away: say the same again.
  }
}

async function run({ params, state }, attempt, signal) {
  let end = { outcome: "completed", result: { counted: params.to } };
  try {
    for (let done = (state.done ?? 0) + 1; done <= params.to; done++) {
      await sleep(params.pause * 1000, null, { signal });
      const item = { ...attempt, done, total: params.to, unit: "numbers", state: { done } };
      if ((await post("report", { items: [item] })).items[0].state !== "yours") break;
    }
  } catch (error) {
    end = signal.aborted ? { outcome: "released" } : { outcome: "error", error: String(error) };
  }
  await post("ack", { items: [{ ...attempt, ...end }] }); // One that is not ours any more changes nothing.
  running.delete(attempt.token);
}

async function take() {
  while (!quit.signal.aborted) {
    for (const task of (await post("claim", { ...worker, count: 1, wait: 20, lease: 30 })).tasks) {
      const attempt = { task_id: task.task_id, token: task.token }, stop = new AbortController();
      const end = run(task, attempt, stop.signal);
      running.set(task.token, { attempt, stop, end });
      await end;
    }
  }
}

const named = () => [...running.values()].map(({ attempt }) => attempt);
setInterval(() => running.size && post("extend", { items: named(), lease: 30 }), 10_000);
for (const name of ["SIGTERM", "SIGINT"]) process.on(name, () => quit.abort());
for (let lane = 0; lane < 4; lane++) take();
while (!quit.signal.aborted) {
  const body = { ...worker, count: 0, wait: 1, running: named() }; // What has happened to running tasks?
  const { events } = running.size ? await post("claim", body) : await sleep(200, { events: [] });
  for (const { token } of events) running.get(token)?.stop.abort();
}
running.forEach(({ stop }) => stop.abort());
await Promise.all([...running.values()].map(({ end }) => end));
process.exit(0);
