/** A question of a task to its user, with the answers that it takes: the notification of `run.ask`. */

import { errorInWords, make } from "./base.js";

/** Return whether a notification is an open question of a task. */
function isQuestionOf(taskId, { metadata, actions = [], answered, archived_at: archived }) {
  return metadata?.task_id === taskId && metadata.question && actions.length > 0 && !answered && !archived;
}

export class TaskQuestion {
  node = make("div", { part: "question", className: "callout question" });
  #client = null;
  #taskId = "";
  #shownId = null;

  constructor() {
    this.node.hidden = true;
  }

  /** Look for the question that is open, and for those that come. */
  begin(client, taskId, signal) {
    this.#client = client;
    this.#taskId = taskId;
    this.end();
    this.#read(signal).catch(() => {
      // Without the inbox there is no question to show; the element itself tells of the connection.
    });
  }

  end() {
    this.#shownId = null;
    this.node.hidden = true;
  }

  async #read(signal) {
    for await (const { type, isFirst, notification, items = [], deleted = [] } of this.#client.inbox.events({ signal })) {
      if (isFirst || type === "resync") this.#take((await this.#client.inbox.list({ state: "pinned", limit: 50 })).items);
      this.#take(notification ? [notification] : items);
      if (deleted.includes(this.#shownId)) this.end();
    }
  }

  #take(items) {
    for (const one of items) {
      if (isQuestionOf(this.#taskId, one)) this.#show(one);
      else if (one.id === this.#shownId) this.end();
    }
  }

  #show({ id, title, content, actions }) {
    this.#shownId = id;
    const buttons = actions.map(({ id: action, label }) =>
      make("button", { part: "button", className: "main", type: "button", text: label, on: { click: () => this.#answer(id, action) } }));
    const told = content ? [make("p", { className: "content", text: content })] : [];
    this.node.replaceChildren(make("p", { children: [make("b", { text: title })] }), ...told, make("div", { className: "row", children: buttons }));
    this.node.hidden = false;
  }

  async #answer(id, action) {
    for (const button of this.node.querySelectorAll("button")) button.disabled = true;
    try {
      await this.#client.inbox.answer(id, action);
      this.end();
    } catch (error) {
      for (const button of this.node.querySelectorAll("button")) button.disabled = false;
      this.node.append(make("p", { className: "error", role: "alert", text: errorInWords(error) }));
    }
  }
}
