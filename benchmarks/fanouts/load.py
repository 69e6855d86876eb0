"""The load client: compiled C, one process on a core of its own."""

import json
import os
import shutil
import subprocess
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.programs import Failed

SOURCES = Path(__file__).resolve().parent
ENVIRONMENTS = SOURCES.parent.parent / ".venv-bench"
# Handshakes under way at once: fewer than the shortest backlog of the servers.
WINDOW = 64


class Transport(StrEnum):
    """The protocol of a client."""

    WEBSOCKET = "ws"
    SSE = "sse"


def compile_c(name: str) -> Path:
    """Compile a C program of this folder. Raise LookupError when it cannot be."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise LookupError("there is no C compiler (install gcc)")
    ENVIRONMENTS.mkdir(exist_ok=True)
    program = ENVIRONMENTS / f"fanout-{name}"
    command = [compiler, "-O2", "-o", str(program), str(SOURCES / f"{name}.c")]
    if subprocess.run(command, check=False).returncode:
        raise LookupError(f"{name}.c cannot be compiled")
    return program


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used [s]."""
    # The name of the program, in brackets, may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class LoadClient:
    """A context of this many open connections to one server; left, they are closed.

    `greeted`: a connection counts as open from its first message. `tokens`: a file with one JWT a
    line. Raise Failed when not all can be opened. `opening_seconds`: how long that took.
    """

    def __init__(
        self,
        transport: Transport,
        port: int,
        path: str,
        connections: int,
        *,
        core: int,
        greeted: bool = False,
        tokens: Path | None = None,
    ) -> None:
        arguments = [transport, port, path, connections, WINDOW, int(greeted), tokens or "-"]
        self._process = subprocess.Popen(
            [str(ENVIRONMENTS / "fanout-client"), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        try:
            self.opening_seconds = self._opened(connections)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the client; harmless when repeated."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def wait(self, messages: int, seconds: float) -> None:
        """Wait until this many messages have come since the last reset. Raise Failed after that."""
        counts = self._ask(f"wait {messages} {seconds}")
        if counts["lost"]:
            raise Failed(f"{counts['lost']} connections were lost: {counts['why']}")
        if counts["messages"] < messages:
            raise Failed(f"{counts['messages']} of {messages} messages came in {seconds:.0f} s")

    def reset(self) -> None:
        """Begin to count anew."""
        self._ask("reset")

    def stats(self) -> dict[str, Any]:
        """Return counts, and latencies in seconds, since the last reset."""
        return self._ask("stats")

    def cpu_seconds(self) -> float:
        """Return the processor time that the client has used [s]."""
        return cpu_seconds(self._process.pid)

    def _opened(self, connections: int) -> float:
        answer = self._answer()
        if answer["opened"] < connections:
            reason = answer["why"] or "handshakes did not end"
            raise Failed(f"{answer['opened']} of {connections} connections opened: {reason}")
        return float(answer["seconds"])

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed("the load client ended")
        answer: dict[str, Any] = json.loads(line)
        return answer
