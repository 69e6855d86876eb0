"""The tables of the protocol: each code once, and the same for programs and for people."""

import re
from collections.abc import Callable

import orjson
import pytest
from redis.asyncio import Redis

from tests.conftest import ROOT
from tests.realtime import realtime
from tornado_rt.protocol import CLOSE_CODES, RECONNECT, CloseCode, Cursor, comes_back

Token = Callable[..., str]


def test_every_close_code_says_whether_to_come_back() -> None:
    ours = {str(code.value) for code in CloseCode}
    assert set(CLOSE_CODES) == ours
    assert ours <= set(RECONNECT)
    assert all(RECONNECT[code] == comes_back(int(code)) for code in RECONNECT)


def test_documented_table_is_the_one_of_the_code() -> None:
    section = (ROOT / "docs" / "protocol.md").read_text().partition("## Close codes")[2]
    rows = re.findall(r"^\| ([\d, ]+) \|.*\| (yes|no) \|$", section.partition("\n## ")[0], re.M)
    documented = {code: answer == "yes" for codes, answer in rows for code in codes.split(", ")}
    assert documented == RECONNECT


@pytest.mark.parametrize(
    ("code", "back"),
    [(4400, False), (4450, False), (4499, False), (4500, True), (4555, True), (4599, True)],
)
def test_other_codes_go_by_their_hundreds(code: int, back: bool) -> None:
    assert comes_back(code) is back


@pytest.mark.gen_test
async def test_connected_holds_the_table(redis: Redis, make_token: Token) -> None:
    """On both transports."""
    async with realtime(redis) as core:
        stream = await core.stream(make_token("alice"))
        socket = await core.socket(make_token("alice"))
        over_sse = orjson.loads((await stream.event())["data"])
        over_ws = orjson.loads(str(await socket.read_message()))["data"]
        for data in (over_sse, over_ws):
            assert (data["reconnect"], data["close_codes"]) == (RECONNECT, CLOSE_CODES)


@pytest.mark.parametrize("text", ["a-0", "a" * 64 + "-1", f"A9-{2**63 - 1}", "a-007"])
def test_cursor_is_read(text: str) -> None:
    epoch, _, offset = text.partition("-")
    assert Cursor.parse(text) == Cursor(epoch, int(offset))
