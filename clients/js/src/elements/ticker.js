/** One timer for all that goes on by the clock in a page; it rests while nothing of that is seen. */

const TICK_MS = 1000;

// The functions to call, by the element that each draws; and the elements that are in view.
const ticking = new Map();
const inView = new Set();
let timer = null;
let observer = null;

function tickAll() {
  for (const element of inView) ticking.get(element)();
}

function look() {
  const must = inView.size > 0 && document.visibilityState === "visible";
  if (must && timer === null) timer = setInterval(tickAll, TICK_MS);
  if (must || timer === null) return;
  clearInterval(timer);
  timer = null;
}

function watchView(entries) {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting || !ticking.has(target)) inView.delete(target);
    else if (!inView.has(target)) {
      inView.add(target);
      ticking.get(target)();
    }
  }
  look();
}

function observe() {
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") tickAll();
    look();
  });
  return new IntersectionObserver(watchView);
}

/** Call `tick` once a second while this element is in view, from now on until `stopTicking`. */
export function startTicking(element, tick) {
  const isNew = !ticking.has(element);
  ticking.set(element, tick);
  if (isNew) (observer ??= observe()).observe(element);
}

/** Harmless when it does not tick. */
export function stopTicking(element) {
  if (!ticking.delete(element)) return;
  observer.unobserve(element);
  inView.delete(element);
  look();
}
