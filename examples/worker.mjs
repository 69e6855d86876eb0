// A worker for Node 18 and later that has only the address of a server and a token with the scope rt:work:
//
//     RT_URL=http://127.0.0.1:8888 RT_TOKEN=... node examples/worker.mjs
//
// Its tasks count to `to`, a number each `pause` seconds; four run at once. docs/workers.md has what it says.
import { setTimeout as sleep } from "node:timers/promises";

const { RT_URL = "http://127.0.0.1:8888", RT_TOKEN } = process.env;
const properties = { to: { type: "integer", default: 10 }, pause: { type: "number", default: 0.1 } };
const kinds = [{ kind: "count", title: "Count", label: "to {to}", params_schema: { type: "object", properties } }];
const stopping = new AbortController();
for (const name of ["SIGTERM", "SIGINT"]) process.on(name, () => stopping.abort());

async function post(verb, body, signal) {
  const init = { method: "POST", body: JSON.stringify(body), headers: { Authorization: `Bearer ${RT_TOKEN}` }, signal };
  while (!signal?.aborted) {
    const answer = await fetch(`${RT_URL}/api/worker/${verb}`, init).catch(() => null);
    if (answer?.ok) return answer.json();
    if (answer && answer.status < 500 && answer.status !== 429) throw new Error(await answer.text());
    await sleep(signal?.aborted ? 0 : 500 + 1000 * Math.random()); // The server is away: say the same again.
  }
  return { tasks: [] };
}

async function count({ params, state }, report, signal) {
  for (let done = (state.done ?? 0) + 1; done <= params.to; done++) {
    await sleep(params.pause * 1000, null, { signal });
    await report({ done, total: params.to, unit: "numbers", state: { done } }); // Another attempt gets the state.
  }
  return { outcome: "completed", result: { counted: params.to } };
}

async function run(task) {
  const attempt = { task_id: task.task_id, token: task.token }, ending = new AbortController();
  const say = async (verb, item) => {
    const { items: [{ state }] } = await post(verb, { items: [{ ...attempt, ...item }], lease: 30 });
    if (state !== "yours" || stopping.signal.aborted) ending.abort(); // It was cancelled, is another's, or we stop.
  };
  const extending = setInterval(say, 5000, "extend");
  const failed = (error) => (ending.signal.aborted ? { outcome: "released" } : { outcome: "error", error: `${error}` });
  const end = await count(task, (item) => say("report", item), ending.signal).catch(failed);
  clearInterval(extending);
  await post("ack", { items: [{ ...attempt, ...end }] });
}

await Promise.all([1, 2, 3, 4].map(async (slot) => {
  const worker = { worker_id: `count-${process.pid}-${Date.now()}-${slot}`, kinds, lease: 30, wait: 20 };
  while (!stopping.signal.aborted)
    for (const task of (await post("claim", worker, stopping.signal)).tasks) await run(task);
}));
