"""The door to MongoDB: what it forces, and a replica set's URL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo import ReadPreference, WriteConcern
from pymongo.errors import PyMongoError
from tornado.ioloop import IOLoop

from tests.faults.system import MongoServer
from tornado_rt.mongo import BadMongodbUrl, open_database


class ReplicaSetOfOne(MongoServer):
    """The same server, which says that it is the primary of a replica set: there is no other."""

    name_of_set = "secantus"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._command = [part for part in self._command if part != "--standalone"]


@pytest.fixture
def server(io_loop: IOLoop, tmp_path: Path) -> Iterator[ReplicaSetOfOne]:
    server = ReplicaSetOfOne(tmp_path)
    server.start()
    io_loop.run_sync(server.ready)
    yield server
    io_loop.run_sync(server.kill)


@pytest.mark.gen_test
async def test_replica_set_is_found_by_its_name(server: ReplicaSetOfOne) -> None:
    """Also when one of the named members is not there."""
    url = f"mongodb://127.0.0.1:9,127.0.0.1:{server.port}/?replicaSet="
    async with open_database(url + server.name_of_set, "t") as database:
        await database.things.insert_one({"_id": 1})
        assert await database.things.find_one({}) == {"_id": 1}
    async with open_database(url + "another", "t") as database:
        with pytest.raises(PyMongoError, match="ReplicaSetNoPrimary"):
            await database.things.find_one({})


@pytest.mark.gen_test
async def test_url_cannot_weaken_what_is_acknowledged() -> None:
    """Nor have a resume read from a member that is behind."""
    url = "mongodb://127.0.0.1:9/?w=1&journal=false&readPreference=secondary"
    async with open_database(url, "t") as database:
        assert database.write_concern == WriteConcern("majority", j=True)
        assert database.read_preference == ReadPreference.PRIMARY


BAD_URLS = ["mongodb://u:geheim/x@host:1/", "mongo://u:geheim@host", "mongodb://u:geheim@host:port"]


@pytest.mark.gen_test
@pytest.mark.parametrize("url", BAD_URLS)
async def test_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadMongodbUrl, match="mongodb_url: ") as refused:
        async with open_database(url, "t"):
            pass
    assert "geheim" not in str(refused.value)


@pytest.mark.gen_test
async def test_url_is_refused_with_the_reason() -> None:
    with pytest.raises(BadMongodbUrl, match="Port contains non-digit characters"):
        async with open_database("mongodb://u:geheim@host:port", "t"):
            pass
