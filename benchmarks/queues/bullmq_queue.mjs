// No-op jobs through BullMQ: node bullmq_queue.mjs REDIS_URL JOBS CONCURRENCY
import { createRequire } from "node:module";

const [, , url, jobsText, concurrencyText, folder] = process.argv;
const { Queue, Worker } = createRequire(`${folder}/`)("bullmq");
const { hostname, port } = new URL(url);
const connection = { host: hostname, port: Number(port) };
const jobs = Number(jobsText);
const concurrency = Number(concurrencyText);

const queue = new Queue("bench", { connection });
await queue.waitUntilReady();
const began = performance.now();
await Promise.all(Array.from({ length: concurrency }, async (_, lane) => {
  for (let number = lane; number < jobs; number += concurrency) await queue.add("no_op", {});
}));
const enqueued = performance.now();
let handled = 0;
const worker = new Worker("bench", async () => {}, { connection, concurrency });
await new Promise((resolve) => worker.on("completed", () => ++handled === jobs && resolve()));
const processed = performance.now();
await worker.close();
await queue.close();
console.log(JSON.stringify({
  enqueue: (jobs / (enqueued - began)) * 1000,
  process: (jobs / (processed - enqueued)) * 1000,
}));
