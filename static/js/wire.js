/** The drawer with what goes over the wire, and the command that shows the same in a terminal. */

import { showText, t } from "../rt-elements.js";
import { $, element } from "./dom.js";

const KEPT = 100;
const EVENT_STREAM = "text/event-stream";

function show(source, text) {
  const list = $("frames");
  list.prepend(element("li", {}, element("b", { textContent: source }), ` ${text}`));
  while (list.children.length > KEPT) list.lastElementChild.remove();
}

/** A WebSocket whose messages are shown. */
class ShownSocket extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols);
    this.addEventListener("message", ({ data }) => show("←", data));
    this.addEventListener("close", ({ code, reason }) => show("✕", t("closed with {code} {reason}", { code: String(code), reason })));
  }

  send(text) {
    show("→", text);
    super.send(text);
  }
}

async function showStream(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) show("←", part.value.trim());
  } catch (error) {
    show("✕", error.message);
  }
}

/** Fetch; an event stream is shown as it comes. */
async function shownFetch(address, options) {
  const answer = await fetch(address, options);
  if (!answer.ok || !(answer.headers.get("Content-Type") ?? "").startsWith(EVENT_STREAM)) return answer;
  const [own, shown] = answer.body.tee();
  showStream(shown);
  const { status, statusText, headers } = answer;
  return new Response(own, { status, statusText, headers });
}

/** The options of a client whose messages are shown here. */
export const WIRED = { WebSocket: ShownSocket, fetch: shownFetch };

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

export class Wire {
  constructor() {
    $("wire-toggle").addEventListener("click", () => this.#open($("wire").hidden));
    $("wire-close").addEventListener("click", () => this.#open(false));
    $("wire").addEventListener("keydown", ({ key }) => key === "Escape" && this.#open(false));
    $("copy-curl").addEventListener("click", () => this.#copy());
  }

  /** Show the command for an address. */
  showCommand(url) {
    $("curl-line").textContent = `curl -N -H "Authorization: Bearer $TOKEN" ${quoted(url)}`;
  }

  /** Forget what was shown to the user before. */
  clear() {
    $("frames").replaceChildren();
    this.#open(false);
  }

  #open(isOpen) {
    const hadFocus = $("wire").contains(document.activeElement);
    $("wire").hidden = !isOpen;
    $("wire-toggle").ariaExpanded = String(isOpen);
    if (isOpen) $("wire-close").focus();
    else if (hadFocus) $("wire-toggle").focus();
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText($("curl-line").textContent);
      showText($("copied"), t("copied"));
    } catch {
      // Over plain HTTP from another machine there is no clipboard, and a user may refuse it.
      getSelection().selectAllChildren($("curl-line"));
      showText($("copied"), t("selected: copy it from here"));
    }
    setTimeout(() => showText($("copied"), ""), 4000);
  }
}
