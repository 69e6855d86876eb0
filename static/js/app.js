/** The page: who is signed in, what they watch, and how the connection fares. */

import { Client } from "../rt-client.js";
import { ToldError, addMessages, errorInWords, joined, progressOf, showText, t } from "../rt-elements.js";
import { $, element } from "./dom.js";
import { LanguageChoice, shownLanguage } from "./language.js";
import { PushSwitch } from "./push.js";
import { BASE, Session } from "./session.js";
import { TaskList } from "./task-list.js";
import { WIRED, Wire } from "./wire.js";

const ID = /^[A-Za-z0-9_-]{1,64}$/;
const PATHS = { task: "/api/tasks/", batch: "/api/batches/" };
const MOST_RERUN = 1000;
const NARROW = matchMedia("(max-width: 56rem)");
const UNAUTHORIZED = new Set([401, 4401]);
const NAME = "tornado_rt";
// For how long a request of this page is repeated before it is told as failed [s].
const PATIENCE_SECONDS = 2;
const STATES = { online: t("Live"), connecting: t("Connecting …"), offline: t("Offline"), closed: t("Not connected"), idle: "" };
const NO_LINK = { task: t("The link names no task"), batch: t("The link names no batch") };

let client = null;
let user = null;
let watched = null;
let unseen = 0;

const session = new Session(() => run(begin));
const wire = new Wire();
const list = new TaskList((hasFailed) => ($("retry-all").hidden = !hasFailed));
const push = new PushSwitch(() => client, showError);
const language = new LanguageChoice(/** @type {any} */ ($("language")), showTitle, showError);

function showError(error) {
  showText($("page-error"), error ? errorInWords(error) : "");
}

/** Run an action of the user; show what went wrong. */
async function run(action) {
  showError(null);
  try {
    await action();
  } catch (error) {
    showError(error);
  }
}

/** Show the page of the signed-in user, or the form to sign in. */
async function begin() {
  const { user: known, users } = await session.find();
  $("loading").hidden = true;
  if (known !== null && known === user) return;
  leave();
  if (known !== null) enter(known);
  else offer(users);
}

function offer(users) {
  $("user").replaceChildren(...users.map((name) => element("option", { value: name, textContent: name })));
  $("user-field").hidden = !users.length;
  $("token-field").hidden = users.length > 0;
  showText($("sign-in-hint"), users.length
    ? t("This server lets users of this machine in without a password.")
    : t("Paste a token of this server. It stays in a cookie that no script can read."));
  $("sign-in").hidden = false;
}

function enter(name) {
  user = name;
  client = new Client(BASE, { ...WIRED, patience: PATIENCE_SECONDS, locale: shownLanguage() });
  const own = client;
  client.addEventListener("state", ({ detail }) => own === client && showState(detail));
  for (const id of ["notices", "submit"]) $(id).client = client;
  list.follow(client);
  push.follow(user);
  language.follow(client).catch(showError);
  $("who").textContent = name.slice(0, 1).toUpperCase();
  $("who").title = name;
  showText($("sign-out"), t("Sign out {name}", { name }), "aria-label");
  setSignedIn(true);
  wire.showCommand(new URL("api/notifications/stream", client.url).href);
  followLink();
}

function leave() {
  client?.close();
  client = user = null;
  language.follow(null);
  for (const id of ["notices", "submit"]) $(id).client = null;
  $("notices").open(false);
  unseen = 0;
  list.clear();
  wire.clear();
  watch(null);
  setSignedIn(false);
  showState({ state: "idle" });
}

function setSignedIn(isIn) {
  for (const id of ["work", "notices", "who", "sign-out", "wire-toggle"]) $(id).hidden = !isIn;
  if (isIn) $("sign-in").hidden = true;
}

async function signIn() {
  if ($("user-field").hidden) await session.signIn($("token").value.trim());
  else await session.signInAs($("user").value);
  $("token").value = "";
  await begin();
}

async function signOut() {
  await session.signOut();
  // The link is not for the user after them.
  history.replaceState(null, "", location.pathname);
  await begin();
}

function showState({ state, error = null }) {
  if (state === "closed" && UNAUTHORIZED.has(error?.code ?? error?.status)) {
    run(async () => {
      await session.signOut();
      await begin();
      showError(new ToldError(t("You were signed out: sign in again.")));
    });
    return;
  }
  const isOffline = client !== null && (state === "offline" || !navigator.onLine);
  const shown = isOffline ? "offline" : state;
  $("link-state").dataset.state = shown;
  showText($("link-state"), STATES[shown]);
  showText($("link-state"), error ? errorInWords(error) : "", "title");
  $("offline").hidden = !isOffline;
}

/** Watch what the address names. */
function followLink() {
  const asked = new URLSearchParams(location.search);
  const sort = Object.keys(PATHS).find((one) => asked.get(one));
  showError(null);
  if (!sort) return watch(null);
  const id = asked.get(sort);
  // Anybody may have written the link, and the id becomes part of a command.
  if (ID.test(id)) return watch({ sort, id });
  watch(null);
  return showError(new ToldError(NO_LINK[sort]));
}

/** Show a task or a batch; null: none. */
function watch(next) {
  watched = next;
  $("view").querySelector("rt-task, rt-batch")?.remove();
  $("view-empty").hidden = next !== null;
  list.mark(next ? `?${next.sort}=${next.id}` : "");
  showTitle();
  if (!next) return;
  const made = element(`rt-${next.sort}`, { client });
  made.setAttribute("full", "");
  made.setAttribute("task-link", "?task={id}");
  made.setAttribute(`${next.sort}-id`, next.id);
  $("view").append(made);
  wire.showCommand(new URL(PATHS[next.sort].slice(1) + next.id, client.url).href);
}

/** Go to the address of a task or batch, as a link to it does. */
function go(query) {
  history.pushState(null, "", query);
  followLink();
  if (!NARROW.matches) return;
  $("new").open = false;
  $("view").scrollIntoView({ block: "start" });
}

function showTitle() {
  const { progress, name } = watched ?? {};
  const progressed = progress === undefined ? "" : joined([progressOf(progress), name], " ");
  document.title = (unseen ? `(${unseen}) ` : "") + joined([progressed, NAME]);
}

/** Follow links to what this page shows without loading it anew. */
function onClick(event) {
  const link = event.composedPath().find((one) => one.localName === "a" && one.href);
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const { origin, pathname, searchParams, search } = new URL(link.href);
  const isHere = origin === location.origin && pathname === location.pathname && client !== null;
  if (!isHere || (link.id !== "home" && !Object.keys(PATHS).some((one) => searchParams.get(one)))) return;
  event.preventDefault();
  $("notices").open(false);
  go(search || location.pathname);
}

function onSubmitted({ detail: { task, batch } }) {
  go(task ? `?task=${task.id}` : `?batch=${batch.id}`);
}

function onProgress({ detail: { progress, label, kind, status, total } }) {
  if (!watched) return;
  watched.name = label || (total === undefined ? kind : t("Batch of {total}", { total }));
  watched.progress = status === "processing" ? progress : undefined;
  showTitle();
}

$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  run(signIn);
});
$("sign-out").addEventListener("click", () => run(signOut));
$("retry-all").addEventListener("click", () => run(async () => {
  await client.tasks.retry({ user, limit: MOST_RERUN });
  // The watched task may have ended, and be among them.
  watch(watched);
}));
$("notices").addEventListener("rt-counts", ({ detail }) => {
  ({ unseen } = detail);
  showTitle();
});
document.addEventListener("click", onClick);
document.addEventListener("rt-submitted", /** @type {any} */ (onSubmitted));
document.addEventListener("rt-progress", /** @type {any} */ (onProgress));
document.addEventListener("rt-finished", () => {
  if (watched) watched.progress = undefined;
  showTitle();
});
addEventListener("popstate", () => client && followLink());
for (const type of ["online", "offline"]) addEventListener(type, () => client && showState(client.status));

// The texts of this page; the elements bring their own.
addMessages("zh-CN", () => import("./locales/zh-CN.js"));
await language.begin();
run(begin);
