/** The page: who is signed in, what they follow, and what they do. */

import { Api, BASE } from "./api.js";
import { $, element } from "./dom.js";
import { showFrame } from "./frames-view.js";
import { InboxView } from "./inbox-view.js";
import { PushSwitch } from "./push.js";
import { RealtimeSocket } from "./socket.js";
import { EventStream } from "./stream.js";
import { TaskList, nameOf } from "./task-list.js";
import { FAILED, TaskView } from "./task-view.js";

// Of another prefix on this host is another server.
const SESSION = `tornado_rt.session${BASE}`;
const UNAUTHORIZED = 4401;
const ID = /^[A-Za-z0-9_-]{1,64}$/;
const MOST_RERUN = 1000;
const KINDS = { task: "/api/tasks/", batch: "/api/batches/" };

let session = JSON.parse(sessionStorage.getItem(SESSION) ?? "null");
const token = () => session?.token ?? "";
const api = new Api(token);
const task = new TaskView();
const taskList = new TaskList((one) => show("task", one.task_id, nameOf(one)));
const inbox = new InboxView(api);
const push = new PushSwitch(api, () => inbox.isLive, showError);

// The user as the server knows them, "" until it has said so.
let user = "";
let news = null;
let followed = null;

function showError(error) {
  $("submit-error").textContent = error.message;
}

async function offerUsers() {
  const { enabled, users, user_id: known } = await api.get("/api/auth/demo").catch((error) => {
    if (error.status === 404) return { enabled: false, users: [] };
    throw error;
  });
  // A cookie says who this is, of `POST /api/auth/session` or of the application around us.
  if (!session && known) session = { token: "", user_id: known };
  $("login-form").hidden = session?.token === "" && !enabled;
  $("user").replaceChildren(...users.map((name) => element("option", { value: name, textContent: name })));
  $("user").hidden = document.querySelector("label[for=user]").hidden = !enabled;
  $("token").hidden = document.querySelector("label[for=token]").hidden = enabled;
  if (session) $("user").value = session.user_id;
}

async function logIn() {
  const previous = session;
  session = $("user").hidden
    ? { token: $("token").value.trim(), user_id: "" }
    : await api.post("/api/auth/demo", { user_id: $("user").value });
  sessionStorage.setItem(SESSION, JSON.stringify(session));
  unfollow();
  // A user who comes by a link and logs in wants what it names; it is not for the user after them.
  if (previous) history.replaceState(null, "", `${BASE}/`);
  await enter();
  followAsked();
}

/** The server does not know this session any more. */
function endSession() {
  session = null;
  sessionStorage.removeItem(SESSION);
  unfollow();
  $("submit-task").disabled = $("submit-batch").disabled = true;
}

async function enter() {
  news?.close();
  user = "";
  inbox.clear();
  inbox.isLive = false;
  news = new RealtimeSocket("/api/ws/notifications", token, {
    message: onNews,
    state: showState,
    raw: (text) => showFrame("WS", text),
  });
  await Promise.all([inbox.enter(), listTasks()]);
  $("submit-task").disabled = $("submit-batch").disabled = false;
}

function showState(text, code) {
  $("link-state").textContent = session?.user_id ? `${session.user_id}: ${text}` : text;
  inbox.isLive = text === "connected";
  if (code === UNAUTHORIZED) endSession();
}

function onNews(type, data, id) {
  if (type === "connected") {
    user = data.user_id;
    push.follow(user);
  }
  inbox.apply(type, data, id);
  if (type === "notification") listTasks().catch(showError);
  if (type === "error") showError(data);
}

async function listTasks() {
  const { items } = await api.get("/api/tasks");
  taskList.show(items);
  taskList.mark(followed?.id);
  $("retry-all").hidden = !items.some((one) => FAILED.includes(one.status));
}

function unfollow() {
  followed?.socket?.close();
  followed?.stream.close();
  followed = null;
  task.close();
}

/** Watch a task over both transports, a batch over its event stream. */
function follow(kind, id, name) {
  unfollow();
  const path = KINDS[kind] + id;
  history.replaceState(null, "", `${BASE}/?${kind}=${id}`);
  task.open(kind, name, curlLine(path));
  taskList.mark(id);
  const stream = new EventStream(path, api, {
    message: (type, data) => onStreamed(kind, type, data),
    state: (text) => (kind === "task" ? task.showStreamLink(text) : task.showLink(text)),
    raw: (text) => showFrame("SSE", text),
  });
  const socket = kind === "task" ? new RealtimeSocket(`/api/ws/tasks/${id}`, token, {
    message: onTask,
    state: (text) => task.showLink(text),
    raw: (text) => showFrame("WS", text),
  }) : null;
  followed = { id, path, stream, socket };
}

/** Follow what the user just asked for, and bring it into view. */
function show(kind, id, name) {
  follow(kind, id, name);
  $("task-message").scrollIntoView({ block: "nearest" });
}

function followAsked() {
  const asked = new URLSearchParams(location.search);
  const kind = Object.keys(KINDS).find((one) => asked.get(one));
  if (!kind) return;
  // Anybody may have written the link, and the id becomes part of addresses and a command.
  if (!ID.test(asked.get(kind))) throw new Error(`The link names no ${kind}`);
  follow(kind, asked.get(kind), kind);
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function curlLine(path) {
  // Who signed in by a cookie has no token to show here.
  const header = token() ? quoted(`Authorization: Bearer ${token()}`) : '"Authorization: Bearer $TOKEN"';
  return `curl -N -H ${header} ${quoted(location.origin + BASE + path)}`;
}

function onTask(type, data) {
  task.hear(data.timestamp);
  // What a resumed connection missed follows in its order: the snapshot would run ahead of it.
  if (type === "connected" && !data.recovered) task.showProgress(data.snapshot);
  if (type === "progress") task.showProgress(data);
  if (type === "finished") {
    task.showFinished(data);
    listTasks().catch(showError);
  }
  if (type === "error") showError(data);
}

function onStreamed(kind, type, data) {
  if (type === "connected" && !data.recovered) task.showStreamed(data.snapshot);
  if (type === "progress") task.showStreamed(data);
  if (kind === "batch") onTask(type, data);
}

function parameters() {
  const chosen = [...document.querySelectorAll("[name=analyst]:checked")].map((box) => box.value);
  return {
    analysts: chosen,
    research_depth: Number($("depth").value),
    llm_provider: $("provider").value,
  };
}

function symbols() {
  return $("symbol").value.split(",").map((text) => text.trim()).filter(Boolean);
}

async function submitTask() {
  const [symbol, ...others] = symbols();
  if (others.length) throw new Error("A task has one symbol: submit several as a batch");
  const made = await api.post("/api/tasks", { symbol, params: parameters() });
  show("task", made.task_id, symbol);
  await listTasks();
}

async function submitBatch() {
  const made = await api.post("/api/batches", { symbols: symbols(), params: parameters() });
  show("batch", made.batch_id, `Batch of ${made.submitted}`);
  await listTasks();
}

/** Run an action of the user, once at a time; show what went wrong. */
function act(action) {
  let isRunning = false;
  return async (event) => {
    event.preventDefault();
    if (isRunning) return;
    isRunning = true;
    $("submit-error").textContent = "";
    try {
      await action();
    } catch (error) {
      showError(error);
    } finally {
      isRunning = false;
    }
  };
}

/** Run the task again that is watched, and watch it anew: its stream has ended. */
async function retryTask() {
  const { id, path } = followed;
  await api.post(`${path}/retry`);
  follow("task", id, $("task-name").textContent);
  await listTasks();
}

/** Run all of the user's tasks again that failed; the one that is watched may be among them. */
async function retryAll() {
  // An admin who names nobody means everybody.
  if (!user) throw new Error("The server has not said yet who is signed in");
  await api.post("/api/tasks/retry", { user, limit: MOST_RERUN });
  if (followed?.socket) follow("task", followed.id, $("task-name").textContent);
  await listTasks();
}

async function copyCurl() {
  try {
    await navigator.clipboard.writeText($("curl-line").textContent);
    $("copied").textContent = "copied";
  } catch {
    // Over plain HTTP from another machine there is no clipboard, and a user may refuse it.
    getSelection().selectAllChildren($("curl-line"));
    $("copied").textContent = "selected: copy it from here";
  }
  setTimeout(() => ($("copied").textContent = ""), 4000);
}

$("login-form").addEventListener("submit", act(logIn));
$("task-form").addEventListener("submit", act(submitTask));
$("submit-batch").addEventListener("click", act(submitBatch));
$("cancel").addEventListener("click", act(() => api.delete(followed.path)));
$("retry").addEventListener("click", act(retryTask));
$("retry-all").addEventListener("click", act(retryAll));
$("copy-curl").addEventListener("click", act(copyCurl));

async function begin() {
  await offerUsers();
  if (!session) return;
  await enter();
  followAsked();
}

begin().catch((error) => {
  if (error.status === 401) endSession();
  showError(error);
});
