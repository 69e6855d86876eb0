/** A notification to all users: to those who are connected now, or kept for everybody. */

import { t, tn } from "../rt-elements.js";
import { ask, tell } from "./asking.js";
import { h } from "./dom.js";
import { errorsOf, field, valuesOf } from "./forms.js";
import { card } from "./table.js";
import { View } from "./view.js";

const FIELDS = ["type", "title", "content", "link", "severity"];
const SEVERITIES = [["info", t("info")], ["success", t("success")], ["warning", t("warning")], ["error", t("error")]];

export class BroadcastView extends View {
  static title = t("Broadcast");
  seconds = 0;
  #typed = { type: "system", severity: "info", reach: "now" };
  #errors = {};
  /** @type {any} */
  #problem = "";

  load() {}

  input({ name, value }) {
    this.#typed[name] = value;
  }

  draw() {
    const one = (name, label, more = {}) => field({ name, label, value: this.#typed[name] ?? "", error: this.#errors[name], ...more });
    return [
      h("h1", {}, t("Broadcast")),
      card(t("Tell all users"), h("form", { id: "broadcast", class: "narrow" },
        one("title", t("Title"), { attributes: { maxlength: 200, required: true } }),
        one("content", t("Text"), { rows: 4 }),
        h("div", { class: "fields" },
          one("severity", t("Severity"), { choices: SEVERITIES }),
          one("type", t("Type"), { hint: t("users mute by it, such as system"), attributes: { required: true } })),
        one("link", t("Link"), { hint: t("a path of the application such as /news, or an https address") }),
        one("reach", t("Who gets it"), { choices: [["now", t("who is connected now; nothing is kept")], ["kept", t("everybody: it is kept in each inbox")]] }),
        h("p", { class: "error", role: "alert" }, this.#problem),
        h("div", { class: "actions" }, h("button", { type: "submit", class: "primary", disabled: this.isActing }, t("Send …"))))),
    ];
  }

  async submit(form) {
    const { reach, ...given } = valuesOf(form);
    const body = Object.fromEntries(Object.entries(given).filter(([, value]) => value));
    const { connections, users } = await this.request("GET", "/api/admin/overview").catch(() => ({}));
    const open = tn(connections ?? 0, "{n} connection", "{n} connections");
    const whom = reach === "kept" ? t("all users, and is kept in their inboxes") : tn(users ?? 0, "{n} user on {open}", "{n} users on {open}", { open });
    const isSure = await ask({
      title: t("Send it now?"), confirm: t("Send"),
      body: [h("p", {}, t("“{title}” goes to {whom}.", { title: body.title, whom })), h("p", { class: "hint" }, t("This cannot be undone."))],
    });
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
      tell(t("Sent to {whom}.", { whom }));
    });
  }
}
