/** Many tasks at once: which are chosen, and what is done with them. */

import { joined, sentence, statusInWords, t, tn } from "../rt-elements.js";
import { ask, tell } from "./asking.js";
import { button, h } from "./dom.js";
import { number } from "./format.js";

const MOST = 1000;
const PAGE_SIZE = 200;

// The states that each verb takes, and what it says before and after.
export const VERBS = {
  retry: { states: ["failed", "dead", "cancelled"], label: t("Retry"), done: (n) => tn(n, "{n} task run again", "{n} tasks run again"), asked: (n) => tn(n, "Retry {n} task?", "Retry {n} tasks?"), note: t("They get all their attempts again.") },
  cancel: { states: ["queued", "delayed", "processing"], label: t("Cancel"), done: (n) => tn(n, "{n} task cancelled", "{n} tasks cancelled"), asked: (n) => tn(n, "Cancel {n} task?", "Cancel {n} tasks?"), danger: true, note: t("Those that wait can be put back for a few seconds; those that run are stopped.") },
  discard: { states: ["failed", "dead"], label: t("Discard"), done: (n) => tn(n, "{n} task discarded", "{n} tasks discarded"), asked: (n) => tn(n, "Discard {n} task?", "Discard {n} tasks?"), danger: true, note: t("They are deleted, after a few seconds in which this can be undone.") },
};

/** Ask, and do a verb to tasks: `statuses` are their states by id. Return whether it was done. */
export async function doVerb(view, verb, statuses) {
  const { states, label, done, asked, danger, note } = VERBS[verb];
  const ids = [...statuses].filter(([, status]) => states.includes(status)).map(([id]) => id);
  const byState = states.map((one) => [one, ids.filter((id) => statuses.get(id) === one).length]).filter(([, many]) => many);
  const isSure = await ask({
    title: asked(ids.length), danger, confirm: joined([label, ids.length], " "),
    body: [
      h("p", {}, joined(byState.map(([one, many]) => t("{many} {state}", { many, state: statusInWords(one) })), t(", "))),
      h("p", { class: "hint" }, note),
    ],
  });
  if (!isSure) return false;
  let isDone = false;
  await view.act(async () => {
    const { changed, skipped, undo, undo_seconds: seconds } = await view.request("POST", `/api/admin/tasks/${verb}`, { ids });
    isDone = true;
    const past = skipped ? t("{skipped} had moved on", { skipped }) : "";
    tell(sentence(joined([done(changed), past], t("; "))), { undo: undo ? () => takeBack(view, undo) : null, seconds });
  });
  return isDone;
}

function takeBack(view, undo) {
  return view.act(async () => {
    const { undone } = await view.request("POST", "/api/admin/undo", { undo });
    tell(tn(undone, "{n} task put back.", "{n} tasks put back."));
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
    return h("div", { class: "bulk", role: "group", "aria-label": t("With those that are chosen"), "data-name": "bulk" },
      h("p", { role: "status" }, this.#isCut ? t("{n} chosen (the newest {most})", { n: this.chosen.size, most: MOST }) : t("{n} chosen", { n: this.chosen.size })),
      Object.entries(VERBS).map(([verb, { label, danger }]) =>
        button("verb", joined([label, number(taken(verb))], " "), { value: verb, class: danger ? "danger" : "primary", disabled: !taken(verb) || this.view.isActing })),
      button("gather", this.#isGathering ? t("Counting …") : t("Choose all that match"), { class: "quiet", disabled: this.#isGathering }),
      button("choose-none", t("Choose none"), { class: "quiet" }));
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
