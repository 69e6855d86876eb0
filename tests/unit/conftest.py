"""These tests start no store and no process: they fail if they ask for one."""

import pytest

PROCESSES = {"browser", "client_server", "database", "redis", "server", "server_process", "stores"}


@pytest.fixture(autouse=True)
def _no_store(request: pytest.FixtureRequest) -> None:
    asked = PROCESSES & set(request.fixturenames)
    assert not asked, f"a unit test asks for {', '.join(sorted(asked))}: it belongs into tests/"
