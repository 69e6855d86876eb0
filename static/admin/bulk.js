/** Many tasks at once: which are chosen, and what is done with them. */

import { ask, tell } from "./asking.js";
import { button, h } from "./dom.js";
import { count, number } from "./format.js";

const MOST = 1000;
const PAGE_SIZE = 200;

// The states that each verb takes, and what it says before and after.
export const VERBS = {
  retry: { states: ["failed", "dead", "cancelled"], label: "Retry", done: "run again", note: "They get all their attempts again." },
  cancel: { states: ["queued", "delayed", "processing"], label: "Cancel", done: "cancelled", danger: true, note: "Those that wait can be put back for a few seconds; those that run are stopped." },
  discard: { states: ["failed", "dead"], label: "Discard", done: "discarded", danger: true, note: "They are deleted, after a few seconds in which this can be undone." },
};

/** Ask, and do a verb to tasks: `statuses` are their states by id. Return whether it was done. */
export async function doVerb(view, verb, statuses) {
  const { states, label, done, danger, note } = VERBS[verb];
  const ids = [...statuses].filter(([, status]) => states.includes(status)).map(([id]) => id);
  const byState = states.map((one) => [one, ids.filter((id) => statuses.get(id) === one).length]).filter(([, many]) => many);
  const isSure = await ask({
    title: `${label} ${count(ids.length, "task")}?`, danger, confirm: `${label} ${number(ids.length)}`,
    body: [h("p", {}, byState.map(([one, many]) => `${number(many)} ${one}`).join(", ")), h("p", { class: "hint" }, note)],
  });
  if (!isSure) return false;
  let isDone = false;
  await view.act(async () => {
    const { changed, skipped, undo, undo_seconds: seconds } = await view.request("POST", `/api/admin/tasks/${verb}`, { ids });
    isDone = true;
    const past = skipped ? `; ${number(skipped)} had moved on` : "";
    tell(`${count(changed, "task")} ${done}${past}.`, { undo: undo ? () => takeBack(view, undo) : null, seconds });
  });
  return isDone;
}

function takeBack(view, undo) {
  return view.act(async () => {
    const { undone } = await view.request("POST", "/api/admin/undo", { undo });
    tell(`${count(undone, "task")} put back.`);
  });
}

export class Bulk {
  /** The states of those that are chosen, by id. */
  chosen = new Map();
  #isGathering = false;
  // More match than may be chosen.
  #isCut = false;

  /** @param {object} view has the `items` that are shown, and `read(page)` */
  constructor(view) {
    this.view = view;
  }

  clear() {
    this.chosen.clear();
    this.#isCut = false;
  }

  get acts() {
    return {
      choose: ({ value, checked }) => this.#choose(value, checked),
      "choose-all": ({ checked }) => this.#chooseShown(checked),
      gather: () => this.#gather(),
      "choose-none": () => {
        this.clear();
        this.view.app.draw();
      },
      verb: ({ value }) => this.#do(value),
    };
  }

  /** The bar above the list; nothing while none is chosen. */
  draw() {
    for (const { task_id: id, status } of this.view.items) if (this.chosen.has(id)) this.chosen.set(id, status);
    if (!this.chosen.size) return null;
    const taken = (verb) => [...this.chosen.values()].filter((status) => VERBS[verb].states.includes(status)).length;
    return h("div", { class: "bulk", role: "group", "aria-label": "With those that are chosen", "data-name": "bulk" },
      h("p", { role: "status" }, `${number(this.chosen.size)} chosen`, this.#isCut ? ` (the newest ${number(MOST)})` : ""),
      Object.entries(VERBS).map(([verb, { label, danger }]) =>
        button("verb", `${label} ${number(taken(verb))}`, { value: verb, class: danger ? "danger" : "primary", disabled: !taken(verb) || this.view.isActing })),
      button("gather", this.#isGathering ? "Counting …" : "Choose all that match", { class: "quiet", disabled: this.#isGathering }),
      button("choose-none", "Choose none", { class: "quiet" }));
  }

  #choose(id, isChosen) {
    const one = this.view.items.find((item) => item.task_id === id);
    if (isChosen && one) this.chosen.set(id, one.status);
    else this.chosen.delete(id);
    this.view.app.draw();
  }

  #chooseShown(isChosen) {
    for (const { task_id: id, status } of this.view.items) {
      if (isChosen) this.chosen.set(id, status);
      else this.chosen.delete(id);
    }
    this.view.app.draw();
  }

  /** Choose all that the search finds, up to as many as one request takes: so they are counted, too. */
  async #gather() {
    const { filter } = this.view;
    this.#isGathering = true;
    const found = new Map();
    try {
      let before = null;
      do {
        const page = await this.view.read({ before, limit: PAGE_SIZE });
        for (const one of page.items) if (found.size < MOST) found.set(one.task_id, one.status);
        before = page.next ?? null;
      } while (before && found.size < MOST);
      if (JSON.stringify(filter) === JSON.stringify(this.view.filter)) {
        this.chosen = found;
        this.#isCut = Boolean(before);
      }
    } catch (error) {
      this.view.fail(error);
    }
    this.#isGathering = false;
    this.view.app.draw();
  }

  async #do(verb) {
    if (await doVerb(this.view, verb, this.chosen)) this.clear();
    this.view.app.draw();
  }
}
