/** The state of the whole server over time: the topic `admin`, after the series of what came before. */

const STEPS = { near: 5, far: 60 };
const MOST = { near: 720, far: 1440 };
const COUNTERS = ["completed", "failed", "cancelled", "dead"];
const NOTHING = { queued: 0, running: 0, oldest_seconds: null, completed: 0, failed: 0, cancelled: 0, dead: 0 };

export class Live {
  near = [];
  far = [];
  #topic = null;
  #changed;

  /** `changed` is called with each point. */
  constructor(changed) {
    this.#changed = changed;
  }

  /** The newest point; null: none is known. */
  get latest() {
    return this.near.at(-1) ?? null;
  }

  start(client) {
    this.client = client;
    this.#topic = client.subscribe("admin");
    this.#topic.addEventListener("message", ({ detail }) => this.#take(detail.data));
    // Some points were missed.
    this.#topic.addEventListener("resync", () => this.load());
  }

  stop() {
    this.#topic?.close();
    this.#topic = null;
    this.near = [];
    this.far = [];
  }

  /** Read the past. */
  async load() {
    const read = (step) => this.client.request("GET", `/api/admin/series?step=${step}`);
    const [near, far] = await Promise.all([read(STEPS.near), read(STEPS.far)]);
    this.near = merged(near.points.map(timed), this.near).slice(-MOST.near);
    this.far = far.points.map(timed);
    this.#changed();
  }

  #take(point) {
    this.near = merged(this.near, [timed(point)]).slice(-MOST.near);
    const last = this.near.at(-1);
    const before = this.far.at(-1);
    if (!before || last.time - before.time >= STEPS.far * 1000) this.far = [...this.far, last].slice(-MOST.far);
    this.#changed();
  }
}

const timed = (point) => ({ ...point, time: new Date(point.at).getTime() });

/** Return both, each moment once, in the order of time. */
export function merged(one, other) {
  const byTime = new Map([...one, ...other].map((point) => [point.time, point]));
  return [...byTime.values()].sort((a, b) => a.time - b.time);
}

/** Return how a kind stood at a point; "" is all of them together. */
export function ofKind(point, kind) {
  if (kind) return { ...NOTHING, ...point.kinds?.[kind] };
  return Object.values(point.kinds ?? {}).reduce((sum, one) => added(sum, one), { ...NOTHING });
}

function added(sum, one) {
  const total = { ...sum };
  for (const name of ["queued", "running", ...COUNTERS]) total[name] += one[name] ?? 0;
  total.oldest_seconds = Math.max(sum.oldest_seconds ?? 0, one.oldest_seconds ?? 0);
  return total;
}

/** Return the newest points of a time [s] as `count` ones or fewer, evenly: the last of each part. */
export function thinned(points, seconds, count) {
  const last = points.at(-1);
  if (!last) return [];
  const since = last.time - seconds * 1000;
  const within = points.filter(({ time }) => time >= since);
  const step = Math.max(1, Math.ceil(within.length / count));
  return within.filter((_, index) => (within.length - 1 - index) % step === 0);
}

/** Return how often something was counted between points [1/s], as `[[milliseconds, rate], ...]`. */
export function rates(points, count) {
  return points.slice(1).map((point, index) => {
    const before = points[index];
    const seconds = (point.time - before.time) / 1000;
    const grown = count(point) - count(before);
    // A counter that was lost began anew.
    return [point.time, seconds > 0 ? Math.max(0, grown) / seconds : 0];
  });
}

/** Return the rate of a counter over the last minute [1/s]; null: it is not known. */
export function rateNow(points, count, seconds = 60) {
  const last = points.at(-1);
  const first = last && points.find(({ time }) => time >= last.time - seconds * 1000);
  if (!first || first === last) return null;
  return Math.max(0, count(last) - count(first)) / ((last.time - first.time) / 1000);
}
