/** A notification to all users: to those who are connected now, or kept for everybody. */

import { ask, tell } from "./asking.js";
import { h } from "./dom.js";
import { errorsOf, field, valuesOf } from "./forms.js";
import { count } from "./format.js";
import { card } from "./table.js";
import { View } from "./view.js";

const FIELDS = ["type", "title", "content", "link", "severity"];
const SEVERITIES = ["info", "success", "warning", "error"].map((one) => [one, one]);

export class BroadcastView extends View {
  static title = "Broadcast";
  seconds = 0;
  #typed = { type: "system", severity: "info", reach: "now" };
  #errors = {};
  #problem = "";

  load() {}

  input({ name, value }) {
    this.#typed[name] = value;
  }

  draw() {
    const one = (name, label, more = {}) => field({ name, label, value: this.#typed[name] ?? "", error: this.#errors[name], ...more });
    return [
      h("h1", {}, "Broadcast"),
      card("Tell all users", h("form", { id: "broadcast", class: "narrow" },
        one("title", "Title", { attributes: { maxlength: 200, required: true } }),
        one("content", "Text", { rows: 4 }),
        h("div", { class: "fields" },
          one("severity", "Severity", { choices: SEVERITIES }),
          one("type", "Type", { hint: "users mute by it, such as system", attributes: { required: true } })),
        one("link", "Link", { hint: "a path of the application such as /news, or an https address" }),
        one("reach", "Who gets it", { choices: [["now", "who is connected now; nothing is kept"], ["kept", "everybody: it is kept in each inbox"]] }),
        h("p", { class: "error", role: "alert" }, this.#problem),
        h("div", { class: "actions" }, h("button", { type: "submit", class: "primary", disabled: this.isActing }, "Send …")))),
    ];
  }

  async submit(form) {
    const { reach, ...given } = valuesOf(form);
    const body = Object.fromEntries(Object.entries(given).filter(([, value]) => value));
    const { connections, users } = await this.request("GET", "/api/admin/overview").catch(() => ({}));
    const whom = reach === "kept" ? "all users, and is kept in their inboxes" : `${count(users ?? 0, "user")} on ${count(connections ?? 0, "connection")}`;
    const isSure = await ask({ title: "Send it now?", confirm: "Send", body: [h("p", {}, `“${body.title}” goes to ${whom}.`), h("p", { class: "hint" }, "This cannot be undone.")] });
    if (!isSure) return;
    this.#errors = {};
    this.#problem = "";
    await this.act(async () => {
      try {
        await this.request("POST", "/api/broadcast", reach === "kept" ? { ...body, persist: true } : body);
      } catch (error) {
        if (error.status !== 422) throw error;
        [this.#errors, this.#problem] = errorsOf(error, FIELDS);
        return;
      }
      this.#typed = { type: body.type, severity: "info", reach };
      tell(`Sent to ${whom}.`);
    });
  }
}
