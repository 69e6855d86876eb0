/** The topics that were asked for, so that nothing of an earlier subscription is taken for a later one's. */

export class Asked {
  #topics = new Map();
  #last = 0;

  /** Note that a topic is asked for from a cursor; return the number of the request. */
  ask(topic, cursor) {
    this.#last += 1;
    this.#topics.set(topic, { ref: this.#last, cursor, isAnswered: false });
    return this.#last;
  }

  forget(topic) {
    this.#topics.delete(topic);
  }

  /** Return a message of a topic, with what was asked for; null for one of an earlier request. */
  accept(message) {
    const { type, topic, ref } = message;
    const request = this.#topics.get(topic);
    if (!request || (ref !== undefined && ref !== request.ref)) return null;
    if (type === "subscribed") {
      request.isAnswered = true;
      return { ...message, asked: request.cursor };
    }
    // It was left, and is followed again by now.
    if (type === "unsubscribed") return null;
    if (type === "error") {
      this.#topics.delete(topic);
      return message;
    }
    if (type === "finished") this.#topics.delete(topic);
    return request.isAnswered ? message : null;
  }
}
