"""Requests that schemathesis makes of `docs/openapi.yaml` are answered as it says.

It sends what the document allows, and what it does not, to a running server. The long form is
`make fuzz-openapi`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import jwt
import pytest

from tests.conftest import ROOT, SECRET, ServerProcess, start_server, stop_server

EXAMPLES = int(os.environ.get("RT_FUZZ_OPENAPI_EXAMPLES", "1"))
# Longer than it takes on a machine that is busy with other tests.
SECONDS = 3600 if EXAMPLES > 1 else 600
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_headers_conformance", "response_schema_conformance", "negative_data_rejection"),
    *("unsupported_method", "allow_header_conformance"),
)
# Those of the short form: to make requests takes most of the time.
TAGS = ("batches", "schedules", "topics")
# They go on until somebody leaves.
STREAMS = ("/api/stream", "/api/notifications/stream")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server without a bound on how often one address asks."""
    unbounded = {
        "RT_JWT_SECRET": SECRET,
        "RT_REQUESTS_PER_SECOND": "0",
        "RT_DRAIN_SECONDS": "0",
        "RT_QUEUE_MAX_WAITING_PER_USER": "0",
        "RT_REMOTE_WAIT_SECONDS": "0.1",
        "RT_DEMO_LOGIN": "true",
    }
    server = start_server(tmp_path_factory.mktemp("fuzz") / "data", **unbounded)
    yield server
    assert stop_server(server) == 0


def test_requests_of_the_document_are_answered_as_it_says(server: ServerProcess) -> None:
    claims = {"sub": "root", "exp": time.time() + 86400, "scope": "rt:admin"}
    command = [sys.executable, "-m", "schemathesis.cli"]
    command += ["--config-file", str(ROOT / "tests/schemathesis.toml")]
    command += ["run", str(ROOT / "docs/openapi.json")]
    command += ["--url", server.url, "--phases", "fuzzing", "--max-examples", str(EXAMPLES)]
    command += ["--header", f"Authorization: Bearer {jwt.encode(claims, SECRET, 'HS256')}"]
    command += ["--checks", ",".join(CHECKS), "--warnings", "off", "--no-color"]
    command += ["--suppress-health-check", "all", "--request-timeout", "60"]
    for path in STREAMS:
        command += ["--exclude-path", path]
    if EXAMPLES == 1:
        command += ["--seed", "1", *(word for tag in TAGS for word in ("--include-tag", tag))]
    done = subprocess.run(
        command,
        cwd=server.data_dir,
        env=os.environ | {"TESTS_FOLDER": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "Traceback" not in server.log.read_text()
