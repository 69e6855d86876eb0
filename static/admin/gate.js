/** The page in place of a view: the sign-in, or the reason why there is none. */

import { t } from "../rt-elements.js";
import { button, h } from "./dom.js";

const COMMAND = "python run.py token --user NAME --scope rt:admin";

const SCOPE = "rt:admin";

const GATES = {
  loading: () => h("p", { class: "loading gate", "aria-busy": "true" }, t("Loading …")),
  out: ({ problem }) => h("section", { class: "card gate" },
    h("h1", {}, t("Sign in")),
    h("p", {}, t("This page is for the operators of this server: it takes a token with the scope {scope}.", { scope: SCOPE })),
    h("form", { id: "sign-in" },
      h("label", { for: "token" }, t("Token")),
      h("input", { id: "token", name: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true,
        "aria-invalid": problem ? "true" : null, "aria-describedby": "sign-in-problem" }),
      h("p", { id: "sign-in-problem", class: "error", role: "alert" }, problem),
      h("button", { type: "submit", class: "primary" }, t("Sign in"))),
    h("p", { class: "hint" }, t("On the server's machine this command makes one:")), h("pre", { tabindex: "0" }, COMMAND)),
  forbidden: ({ user }) => h("section", { class: "card gate" },
    h("h1", {}, t("Not for this user")),
    h("p", {}, t("You are signed in as {user}, whose token does not have the scope {scope}.", { user, scope: SCOPE })),
    h("p", {}, t("Sign out above, and sign in with another token."))),
  error: ({ problem }) => h("section", { class: "card gate" },
    h("h1", {}, t("The server does not answer")), h("p", { class: "error", role: "alert" }, problem), button("begin", t("Try again"), { class: "primary" })),
};

/** Return the nodes of a gate: "loading", "out", "forbidden" or "error". */
export function gate(name, told) {
  return GATES[name](told);
}
