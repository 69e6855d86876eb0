"""nginx as deploy/nginx.conf has it in front of two servers, but without TLS."""

import asyncio
import contextlib
import http.client
from pathlib import Path

from tests.faults.clients import ME
from tests.faults.fleet import Fleet, Form
from tests.faults.gateway import Gateway
from tests.faults.system import Child, Server, System
from tests.ports import free_port
from tests.proxying import command_of, write_configuration
from tests.waiting import until

TITLES = 5


class Proxy(Child):
    """nginx with the documented configuration; it stands where clients expect a server."""

    def __init__(self, folder: Path, servers: list[Server]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        one, other = (server.port for server in servers)
        configuration = write_configuration(folder, self.port, free_port(), (one, other))
        super().__init__("nginx", command_of(configuration), folder, {})


def test_documented_configuration_passes_everything_on(js_package: Path) -> None:
    """Requests, sockets and streams; clients survive that their server stops."""

    async def scenario() -> None:
        options = {"RT_TRUST_PROXY_HEADERS": "true"}
        async with System(workers=0, **options) as system, Fleet(system, js_package):
            folder = system.folder / "proxy"
            folder.mkdir()
            proxy = Proxy(folder, system.servers)
            proxy.start()
            try:
                await until(lambda: is_up(system, proxy), what=proxy.log.read_text())
                statuses = await asyncio.to_thread(refused, proxy, 20)
                assert statuses == [401] * 20
                await use(system, proxy)
            finally:
                await proxy.stop()

    asyncio.run(scenario())


def refused(proxy: Proxy, count: int) -> list[int]:
    """Send bodies that are answered before they were read, on one connection."""
    statuses = []
    session = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
    for _ in range(count):
        session.request("POST", "/api/tasks", b"x" * 900_000)
        with session.getresponse() as response:
            response.read()
            statuses.append(response.status)
    session.close()
    return statuses


async def is_up(system: System, proxy: Proxy) -> bool:
    answer = await system.ask(proxy, "GET", "/readyz", "u")  # type: ignore[arg-type]
    return answer.status == 200


async def use(system: System, proxy: Proxy) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for form in (Form.NODE, Form.NODE_STREAM, Form.ASYNC, Form.SYNC) * 2:
            gateway = Gateway(lambda: [proxy], proxy)  # type: ignore[arg-type,list-item]
            await stack.enter_async_context(gateway)
            following = system.fleet.following(form, "u", ME, server=proxy, gateway=gateway)  # type: ignore[arg-type]
            clients.append(await stack.enter_async_context(following))
        await until(lambda: all(one.up for one in clients), what="all are connected")
        spread = [(await system.stats(one))["total_connections"] for one in system.servers]
        # The proxy counts requests that are under way too.
        assert sum(spread) == 8
        assert min(spread) >= 2, spread
        titles = [f"n{number}" for number in range(TITLES)]
        for title in titles:
            await notify(system, proxy, title)
        await until(lambda: all(one.has(t) for one in clients for t in titles), what="they come")
        assert not any(client.reconnects for client in clients)
        assert await system.servers[0].stop() == 0
        await notify(system, proxy, "late")
        await until(lambda: all(one.has("late") for one in clients), what="they are on the other")
        # Those that were on the server that stopped, however nginx had spread them.
        assert sum(bool(one.reconnects) for one in clients) == spread[0]
        counts = [dict(one.journal.notifications) for one in clients]
        assert counts == [dict.fromkeys([*titles, "late"], 1)] * len(clients)


async def notify(system: System, proxy: Proxy, title: str) -> None:
    body = {"user_id": "u", "type": "alert", "title": title}
    answer = await system.ask(proxy, "POST", "/api/notifications", "u", body)  # type: ignore[arg-type]
    assert answer.status == 201, answer
