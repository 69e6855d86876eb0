"""The close codes of the protocol, as the JavaScript client takes them in a real browser."""

import collections

from playwright.sync_api import Browser
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from tests.conftest import LoopThread, ServerProcess
from tests.waiting import wait_until
from tornado_rt.protocol import comes_back

OVERRULED = 4000
SENT = [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014]
SENT += [3000, 3999, 4001, 4399, *range(4400, 4411), 4429, 4499, 4500, 4508, 4510, 4599, 4600]

FOLLOW_CODES = """async ([url, codes]) => {
    const { Client } = await import("/static/rt-client.js");
    window.ended = {};
    const backoff = { first: 0.05, most: 0.2 };
    const options = { token: "t", share: false, transport: "socket", backoff };
    for (const code of codes) {
        const client = new Client(`${url}/${code}`, options);
        client.addEventListener("state", ({ detail }) => {
            if (detail.state === "closed") window.ended[code] = detail.error.code;
        });
        client.tasks.addEventListener("update", () => {});
    }
}"""


class Closing(WebSocketHandler):
    """Closes with the code in its path; `4000` after `connected` with a table of its own."""

    def initialize(self, counts: collections.Counter[int]) -> None:
        self.counts = counts

    def check_origin(self, _: str) -> bool:
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return subprotocols[0]

    async def open(self, *path: str, **_: str) -> None:
        code = int(path[0])
        self.counts[code] += 1
        if code == OVERRULED:
            told = {"heartbeat_interval": 0, "reconnect": {str(code): False}, "user_id": "u"}
            await self.write_message({"type": "connected", "data": told})
        if code == 1006:
            assert self.ws_connection is not None
            self.ws_connection.stream.close()
        elif code == 1005:
            self.close()
        else:
            self.close(code, "why")


def test_client_comes_back_after_the_codes_of_the_protocol(
    browser: Browser, server_process: ServerProcess
) -> None:
    """Each code on the wire: after those that say so it comes again, after the others never."""
    counts: collections.Counter[int] = collections.Counter()
    thread = LoopThread()
    sockets = bind_sockets(0, "127.0.0.1")
    application = Application([(r"/(\d+)/api/ws", Closing, {"counts": counts})])

    async def listen() -> HTTPServer:
        server = HTTPServer(application)
        server.add_sockets(sockets)
        return server

    server = thread.run(listen())
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    page.goto(server_process.url)
    url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    page.evaluate(FOLLOW_CODES, [url, [*SENT, OVERRULED]])
    final = {code for code in SENT if not comes_back(code)} | {OVERRULED}
    back = set(SENT) - final
    wait_until(lambda: all(counts[code] >= 2 for code in back), what="all have come back")
    ended = page.evaluate("window.ended")
    assert ended == {str(code): code for code in final}
    assert {code: counts[code] for code in final} == dict.fromkeys(final, 1)
    context.close()
    thread.run(_stop(server))
    thread.close()


async def _stop(server: HTTPServer) -> None:
    server.stop()
    await server.close_all_connections()
