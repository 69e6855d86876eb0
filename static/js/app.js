/** The page: who is there, what he follows, and what he does. */

import { Api } from "./api.js";
import { $, element } from "./dom.js";
import { showFrame } from "./frames-view.js";
import { NotificationView } from "./notification-view.js";
import { RealtimeSocket } from "./socket.js";
import { EventStream } from "./stream.js";
import { TaskView } from "./task-view.js";

const SESSION = "tornado_rt.session";

let session = JSON.parse(sessionStorage.getItem(SESSION) ?? "null");
const token = () => session?.token ?? "";
const api = new Api(token);
const task = new TaskView();
const notifications = new NotificationView(api, showError);

let news = null;
let followed = null;

function showError(error) {
  $("submit-error").textContent = error.message;
}

async function offerUsers() {
  const { enabled, users } = await api.get("/api/auth/demo");
  $("user").replaceChildren(...users.map((name) => element("option", { value: name, textContent: name })));
  $("user").hidden = document.querySelector("label[for=user]").hidden = !enabled;
  $("token").hidden = document.querySelector("label[for=token]").hidden = enabled;
  if (session) $("user").value = session.user_id;
}

async function logIn() {
  session = $("user").hidden
    ? { token: $("token").value.trim(), user_id: "" }
    : await api.post("/api/auth/demo", { user_id: $("user").value });
  sessionStorage.setItem(SESSION, JSON.stringify(session));
  unfollow();
  history.replaceState(null, "", "/");
  await enter();
}

async function enter() {
  news?.close();
  notifications.clear();
  news = new RealtimeSocket("/api/ws/notifications", token, {
    message: onNews,
    state: (text) => ($("link-state").textContent = session.user_id ? `${session.user_id}: ${text}` : text),
    raw: (text) => showFrame("WS", text),
  });
  await Promise.all([notifications.reload(), listTasks()]);
  $("submit-task").disabled = $("submit-batch").disabled = false;
}

function onNews(type, data) {
  if (type === "connected") notifications.showUnread(data.unread_count);
  if (type === "notification") {
    notifications.add(data);
    listTasks().catch(showError);
  }
  if (type === "unread_count") notifications.showUnread(data.unread);
  if (type === "read") notifications.markRead(data);
  if (type === "resync") notifications.reload().catch(showError);
}

async function listTasks() {
  const { items } = await api.get("/api/tasks");
  $("tasks").replaceChildren(...items.slice(0, 10).map((one) => {
    const button = element("button", { type: "button", textContent: `${one.symbol}: ${one.status}` });
    button.addEventListener("click", () => follow("task", one.task_id, one.symbol));
    return element("li", {}, button);
  }));
}

function unfollow() {
  followed?.socket?.close();
  followed?.stream.close();
  followed = null;
}

/** Watch a task over both transports, a batch over its event stream. */
function follow(kind, id, name) {
  unfollow();
  const path = kind === "task" ? `/api/tasks/${id}` : `/api/batches/${id}`;
  history.replaceState(null, "", `/?${kind}=${id}`);
  task.open(name, curlLine(path));
  const main = { message: onTask, state: () => {}, raw: (text) => showFrame("WS", text) };
  const stream = new EventStream(path, api, {
    message: (type, data) => onStreamed(kind, type, data),
    raw: (text) => showFrame("SSE", text),
  });
  const socket = kind === "task" ? new RealtimeSocket(`/api/ws/tasks/${id}`, token, main) : null;
  followed = { path, stream, socket };
}

function curlLine(path) {
  return `curl -N -H "Authorization: Bearer ${token()}" ${location.origin}${path}`;
}

function onTask(type, data) {
  if (type === "connected") task.showProgress(data.snapshot);
  if (type === "progress") task.showProgress(data);
  if (type === "finished") task.showFinished(data);
  if (type === "error") showError(data);
}

function onStreamed(kind, type, data) {
  if (type === "connected") task.showStreamed(data.snapshot);
  if (type === "progress") task.showStreamed(data);
  if (kind === "batch") onTask(type, data);
}

function parameters() {
  const chosen = [...document.querySelectorAll("[name=analyst]:checked")].map((box) => box.value);
  return { analysts: chosen, research_depth: Number($("depth").value) };
}

function symbols() {
  return $("symbol").value.split(",").map((text) => text.trim()).filter(Boolean);
}

async function submitTask() {
  const [symbol] = symbols();
  const made = await api.post("/api/tasks", { symbol, params: parameters() });
  follow("task", made.task_id, symbol);
  await listTasks();
}

async function submitBatch() {
  const made = await api.post("/api/batches", { symbols: symbols(), params: parameters() });
  follow("batch", made.batch_id, `Batch of ${made.submitted}`);
  await listTasks();
}

/** Run an action of the user; show what went wrong. */
function act(action) {
  return (event) => {
    event.preventDefault();
    $("submit-error").textContent = "";
    action().catch(showError);
  };
}

async function copyCurl() {
  await navigator.clipboard.writeText($("curl-line").textContent);
  $("copied").textContent = "copied";
  setTimeout(() => ($("copied").textContent = ""), 2000);
}

$("login-form").addEventListener("submit", act(logIn));
$("task-form").addEventListener("submit", act(submitTask));
$("submit-batch").addEventListener("click", act(submitBatch));
$("cancel").addEventListener("click", act(() => api.delete(followed.path)));
$("copy-curl").addEventListener("click", act(copyCurl));

async function begin() {
  await offerUsers();
  if (!session) return;
  await enter();
  const asked = new URLSearchParams(location.search);
  for (const kind of ["task", "batch"]) {
    if (asked.has(kind)) follow(kind, asked.get(kind), kind);
  }
}

begin().catch((error) => {
  // A session that the server no longer knows is over.
  if (error.status === 401) sessionStorage.removeItem(SESSION);
  showError(error);
});
