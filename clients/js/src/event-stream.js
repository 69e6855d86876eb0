/** The format of an event stream (WHATWG HTML section 9.2), without any I/O. */

// An event of the server is far smaller: its messages are bounded.
const MOST_CHARACTERS = 64 * 1024 * 1024;

/** Makes blocks `{event, data, id}` of the pieces of a stream. */
export class EventStreamParser {
  #decoder = new TextDecoder();
  #rest = "";
  #event = "";
  #data = [];
  // The `retry:` of the server [s], null before it came.
  retrySeconds = null;
  lastId = "";

  /** Return the blocks that a piece completes. Throw RangeError for a line without an end. */
  feed(chunk) {
    this.#rest += this.#decoder.decode(chunk, { stream: true });
    if (this.#rest.length > MOST_CHARACTERS) throw new RangeError("a line of the event stream has no end");
    const blocks = [];
    // A CR at the end may be half of a CRLF.
    const end = this.#rest.endsWith("\r") ? this.#rest.length - 1 : this.#rest.length;
    const lines = this.#rest.slice(0, end).split(/\r\n|\n|\r/);
    this.#rest = lines.pop() + this.#rest.slice(end);
    for (const line of lines) {
      if (line !== "") this.#field(line);
      else if (this.#data.length) blocks.push(this.#block());
      else this.#event = "";
    }
    return blocks;
  }

  #field(line) {
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.#event = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.lastId = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retrySeconds = Number(value) / 1000;
  }

  #block() {
    const block = { event: this.#event || "message", data: this.#data.join("\n"), id: this.lastId };
    this.#event = "";
    this.#data = [];
    return block;
  }
}

/**
 * Return the message of a block of a stream of many topics. Throw SyntaxError for what is no JSON.
 *
 * Those of a topic are the whole message; those about the connection are its data alone. An `error`
 * has another name on a stream.
 */
export function messageOf({ event, data }) {
  const value = JSON.parse(data);
  const isWhole = typeof value === "object" && value !== null && "topic" in value;
  const message = isWhole ? value : { type: event, data: value };
  return message.type === "problem" ? { ...message, type: "error" } : message;
}
