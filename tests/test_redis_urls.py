"""Every form of a Redis URL, on real servers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from tests.certificates import make_certificate
from tests.faults.system import open_client
from tests.forks import run
from tests.ports import free_port
from tests.redis_nodes import (
    SERVICE,
    SLOTS,
    Node,
    Nodes,
    free_bus_port,
    tls_in_front,
)
from tests.waiting import until
from tornado_rt.redis import BadRedisUrl, open_redis
from tornado_rt.stores import StoreAddresses

PASSWORD = "p@ss/word"
ENCODED = "p%40ss%2Fword"


@contextlib.asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    group = Nodes(nodes)
    try:
        for node in nodes:
            node.start()
        yield
    finally:
        await group.end()


async def answers(url: str) -> bool:
    """Return True once the server takes a write. Raise what it refuses one with.

    Where the cores are busy a handshake may take longer than is waited for.
    """
    return await until(lambda: takes_a_write(url))


async def takes_a_write(url: str) -> bool:
    with contextlib.suppress(RedisTimeout):
        async with open_redis(url) as redis:
            return bool(await redis.set("{rt}:k", "v"))
    return False


async def is_refused(url: str, reason: str) -> bool:
    """Say whether the server is refused for this; another reason is tried again."""
    try:
        await takes_a_write(url)
    except RedisConnectionError as error:
        return reason in str(error)
    return False


def alone(folder: Path) -> Node:
    """A cluster of one node that does not know its own address and asks for a password."""
    options = ("--cluster-enabled", "yes", "--requirepass", PASSWORD)
    return Node("alone", folder, free_bus_port(), *options)


@pytest.mark.gen_test
async def test_one_server_and_a_unix_socket(stores: StoreAddresses, tmp_path: Path) -> None:
    node = Node("one", tmp_path, free_port(), "--requirepass", PASSWORD)
    async with running(node):
        await node.listening()
        assert await answers(f"redis://:{ENCODED}@{node.address}/3")
        with pytest.raises(RedisError):
            await answers(f"redis://{node.address}/3")
    assert stores.redis_url.startswith("unix://")
    assert await answers(stores.redis_url)


@pytest.mark.gen_test
async def test_cluster_with_a_password(tmp_path: Path) -> None:
    node = alone(tmp_path)
    async with running(node):
        await node.listening()
        await take_all_slots(f"redis://:{ENCODED}@{node.address}")
        assert await answers(f"redis+cluster://:{ENCODED}@{node.address}")
        # The first of the addresses may be dead.
        nobody = f"127.0.0.1:{free_port()}"
        assert await answers(f"redis+cluster://:{ENCODED}@{nobody},{node.address}")
        with pytest.raises(RedisConnectionError, match="nobody knows the master"):
            await answers(f"redis+cluster://{node.address}")


async def take_all_slots(url: str) -> None:
    async with open_client(url) as client:
        await client.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS))

        async def is_whole() -> bool:
            return b"cluster_state:ok" in await client.execute_command("CLUSTER", "INFO")

        await until(is_whole, what="it is a whole cluster")


@pytest.mark.gen_test
async def test_sentinel_with_passwords_of_both(tmp_path: Path) -> None:
    master = Node("master", tmp_path, free_port(), "--requirepass", PASSWORD)
    file = tmp_path / "sentinel.conf"
    file.write_text(
        f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} 1\n"
        f'sentinel auth-pass {SERVICE} "{PASSWORD}"\nrequirepass other\n'
    )
    sentinel = Node("sentinel", tmp_path, free_port(), str(file), "--sentinel")
    async with running(master, sentinel):
        await master.listening()
        await sentinel.listening()
        url = f"redis+sentinel://:{ENCODED}@{sentinel.address}"
        assert await answers(f"{url}/{SERVICE}/2?sentinel_password=other")
        with pytest.raises(RedisConnectionError, match="nobody knows the master"):
            await answers(f"{url}/{SERVICE}/2")
        with pytest.raises(RedisConnectionError, match="knows none"):
            await answers(f"{url}/another/2?sentinel_password=other")
        with pytest.raises(AuthenticationError):
            await answers(f"redis+sentinel://{sentinel.address}/{SERVICE}?sentinel_password=other")


@pytest.mark.gen_test
async def test_tls_needs_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    node = Node("one", tmp_path, free_port())
    async with running(node), tls_in_front(node.port, certificate.server) as port:
        await node.ready()
        assert await answers(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate.path}")
        untrusted = f"rediss://127.0.0.1:{port}/0"
        await until(lambda: is_refused(untrusted, "certificate verify failed"))


@pytest.mark.gen_test
async def test_cluster_with_tls(tmp_path: Path) -> None:
    """Certificates hold for the node that is asked for the master, and for the master itself."""
    certificate = make_certificate(tmp_path)
    front = free_port()
    announced = ("--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", str(front))
    node = Node("one", tmp_path, free_bus_port(), "--cluster-enabled", "yes", *announced)
    async with running(node), tls_in_front(node.port, certificate.server, front):
        await node.ready()
        await take_all_slots(f"redis://{node.address}")
        options = f"?ssl_ca_certs={certificate.path}"
        assert await answers(f"rediss+cluster://127.0.0.1:{front}{options}")
        untrusted = f"rediss+cluster://127.0.0.1:{front}"
        await until(lambda: is_refused(untrusted, "certificate verify failed"))


BAD: list[tuple[str, str]] = [
    ("redis+sentinel://a:1,b:2", "service is missing"),
    ("redis+sentinel://a:1/service/x", "not a number"),
    ("redis+sentinel://a/service", "host and a port"),
    ("redis+cluster://a:1,b", "host and a port"),
    ("redis+cluster://a:1/3", "neither"),
    ("redis+cluster://a:1?surprise=1", "surprise"),
    ("redis://a:1?surprise=1", "surprise"),
    ("redis://a:x", "ort"),
    ("http://a:1", "scheme"),
]


@pytest.mark.parametrize(("url", "named"), BAD)
@pytest.mark.gen_test
async def test_bad_url_is_found_before_it_is_used(url: str, named: str) -> None:
    with pytest.raises(BadRedisUrl, match=named):
        async with open_redis(url):
            pass


@pytest.mark.parametrize("command", ["serve", "worker", "queue"])
def test_bad_url_is_one_line_and_exit_2(command: str, tmp_path: Path) -> None:
    arguments = [command, "check"] if command == "queue" else [command]
    failed = run(*arguments, RT_REDIS_URL="http://a:1", RT_DATA_DIR=str(tmp_path))
    assert (failed.returncode, len(failed.stderr.splitlines())) == (2, 1), failed.stderr
    assert "redis_url" in failed.stderr


@pytest.mark.gen_test
async def test_cancellation_is_never_swallowed(stores: StoreAddresses) -> None:
    """A cancellation in any step of a command ends a caller that asks again and again."""

    async def ask_on(redis: Redis) -> None:
        while True:
            await redis.ping()

    async with open_redis(stores.redis_url) as redis:
        for steps in range(30):
            asking = asyncio.create_task(ask_on(redis))
            for _ in range(steps):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking], timeout=1)
            assert asking.cancelled(), steps


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "url", ["redis://user:geheim/x@host:1/0", "redis://:geheim@host:port", "redis://[geheim@host"]
)
async def test_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadRedisUrl) as refused:
        async with open_redis(url):
            pass
    assert "geheim" not in str(refused.value)


@pytest.mark.gen_test
async def test_connection_that_opens_while_the_pool_closes_is_closed_too(
    stores: StoreAddresses,
) -> None:
    async with open_redis(stores.redis_url) as redis:
        asked = [asyncio.create_task(redis.ping()) for _ in range(3)]
        await asyncio.sleep(0)
    for one in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(one, RedisConnectionError), one
    pool: Any = redis.connection_pool
    assert not any(one.is_connected for one in pool._available_connections)
    assert not pool._in_use_connections
