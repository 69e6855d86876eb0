"""An application with the server inside: under /rt, in its own loop, with its own sign-in.

Five lines of `main` mount it. Sign in, order an analysis, and watch it on the application's page;
the server's own page is at /rt/.

    python -m examples.embed
"""

import asyncio
import os
import secrets
import signal

from tornado.httputil import HTTPServerRequest
from tornado.web import Application, RequestHandler, authenticated, decode_signed_value

from tornado_rt.embedding import Identity, Server, load_settings

PORT = int(os.environ.get("PORT", "8000"))
SECRET = secrets.token_hex(32)
COOKIE = "user"
LOGIN = """<!doctype html>
<form method="post"><label>Name <input name="name" required></label><button>Sign in</button></form>
"""
HOME = """<!doctype html>
<title>Orders</title>
<p>You are <b>{{ user }}</b>. <a href="/rt/">The server's page</a></p>
<button id="order" disabled>Order an analysis</button>
<progress id="progress" max="100" value="0"></progress>
<p id="state"></p><ul id="news"></ul>
<script type="module">
const $ = (id) => document.getElementById(id);
$("order").onclick = async () => {
  const { task_id } = await (await fetch("/orders", { method: "POST" })).json();
  const source = new EventSource(`/rt/api/tasks/${task_id}`);
  source.addEventListener("progress", ({ data }) => {
    $("progress").value = JSON.parse(data).progress;
  });
  source.addEventListener("finished", ({ data }) => {
    $("state").textContent = JSON.parse(data).final_status;
    source.close();
  });
};
const socket = new WebSocket(`${location.origin.replace("http", "ws")}/rt/api/ws/notifications`);
socket.onmessage = ({ data }) => {
  const { type, data: news } = JSON.parse(data);
  // From here on no news is missed.
  if (type === "connected") $("order").disabled = false;
  if (type !== "notification") return;
  $("news").append(Object.assign(document.createElement("li"), { textContent: news.title }));
};
</script>
"""


class Home(RequestHandler):
    """A handler of the application, which knows its user by a signed cookie."""

    def get_current_user(self) -> str | None:
        user = self.get_signed_cookie(COOKIE)
        return user.decode() if user else None

    @authenticated
    def get(self) -> None:
        self.finish(HOME.replace("{{ user }}", self.current_user))


class Login(RequestHandler):
    """Signs anybody in, as an application of your own would not."""

    def get(self) -> None:
        self.finish(LOGIN)

    def post(self) -> None:
        self.set_signed_cookie(COOKIE, self.get_body_argument("name"), httponly=True)
        self.redirect("/")


class Orders(Home):
    """Calls the server that runs in this process."""

    def initialize(self, rt: Server) -> None:
        self.rt = rt

    @authenticated
    async def post(self) -> None:
        user = self.current_user
        task_id = await self.rt.submit(user, "analysis", {"symbol": "AAPL"}, notify=False)
        await self.rt.notify(user, type="system", title="Your order is under way")
        self.finish({"task_id": task_id})


def signed_in(request: HTTPServerRequest) -> Identity | None:
    """Say whom the application has signed in."""
    cookie = request.cookies.get(COOKIE)
    user = decode_signed_value(SECRET, COOKIE, cookie.value) if cookie else None
    return Identity(user.decode()) if user else None


async def main() -> None:
    """Run the application until SIGTERM or SIGINT."""
    application = Application(
        [("/", Home), ("/login", Login)],
        cookie_secret=SECRET,
        login_url="/login",
        cross_origin_protection=True,
    )
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)

    rt = Server(load_settings().changed(prefix="/rt"), authenticate=signed_in)
    application.add_handlers(".*", [rt.rule, ("/orders", Orders, {"rt": rt})])
    async with rt:
        application.listen(PORT, "127.0.0.1")
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main())
