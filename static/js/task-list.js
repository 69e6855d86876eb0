/** The user's tasks, the newest first. */

import { $, element } from "./dom.js";

const SHOWN = 10;

/** What people see of a task; a server of an earlier version tells no label. */
export function nameOf(task) {
  return task.label ?? task.symbol;
}

export class TaskList {
  #onChoose;

  /** @param {(task: {task_id: string, label: string}) => void} onChoose */
  constructor(onChoose) {
    this.#onChoose = onChoose;
  }

  /** Show these; a task that is there already keeps its button, and with it the focus. */
  show(tasks) {
    const list = $("tasks");
    const known = new Map([...list.children].map((item) => [item.dataset.id, item]));
    const shown = tasks.slice(0, SHOWN);
    shown.forEach((task, index) => {
      const item = known.get(task.task_id) ?? this.#make(task);
      if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
      item.firstElementChild.textContent = `${nameOf(task)}: ${task.status}`;
    });
    while (list.children.length > shown.length) list.lastElementChild.remove();
  }

  /** Mark the task that is being watched. */
  mark(id) {
    for (const item of $("tasks").children) {
      item.firstElementChild.setAttribute("aria-current", String(item.dataset.id === id));
    }
  }

  #make(task) {
    const button = element("button", { type: "button" });
    button.addEventListener("click", () => this.#onChoose(task));
    const item = element("li", {}, button);
    item.dataset.id = task.task_id;
    return item;
  }
}
