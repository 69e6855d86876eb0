"""The Lua scripts: one file each under `scripts/`, behind what they share under `scripts/lib/`.

What a script changed of records and counts is written by `flush`, once, after its body.
"""

from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

FOLDER = Path(__file__).parent / "scripts"
LIBRARY = ("base", "line", "batch", "task")
WHOLE = "%s\nlocal function body()\n%s\nend\nlocal reply = body()\nflush()\nreturn reply\n"


class Scripts:
    """Runs a script by its name, over the keys of one queue."""

    def __init__(self, redis: Redis, prefix: str, epoch_candidate: str, max_events: int) -> None:
        self._keys = [prefix]
        self._common: tuple[str, int] = (epoch_candidate, max_events)
        shared = "\n".join(_read(f"lib/{name}") for name in LIBRARY)
        self._scripts: dict[str, AsyncScript] = {
            path.stem: redis.register_script(WHOLE % (shared, _read(path.stem)))
            for path in FOLDER.glob("*.lua")
        }

    async def run(self, name: str, *arguments: bytes | str | float) -> Any:
        """Run one script and return its reply."""
        return await self._scripts[name](self._keys, [*self._common, *arguments])


def _read(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text()
