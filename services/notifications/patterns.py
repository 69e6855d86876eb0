"""Texts with places for variables: `Order {number} has left`.

A pattern is read once, and filled in one pass: what a value says is never looked at again. `{{` and
`}}` are braces. There is nothing else in a place but a name.
"""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import attrs

from services.notifications.fields import check_address
from tornado_rt.bounds import OutOfBounds
from tornado_rt.work import clean_line, clean_text
from tornado_rt.work.texts import phrase
from tornado_rt.work.values import cut

VARIABLE = r"[a-z][a-z0-9_]{0,63}"
PIECE = re.compile(rf"\{{\{{|\}}\}}|\{{({VARIABLE})\}}|[{{}}]")
BRACES = {"{{": "{", "}}": "}"}
# The beginning of a link before its first place: a path here, or a host with its path.
OF_LINK = re.compile(r"/(?![/\\])|https?://[^/?#\\]+[/?#]", re.IGNORECASE)
DOT_SEGMENTS = {".", ".."}
# Marks that turn the direction of all text behind them (UAX #9, explicit formatting characters).
TURNS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)))


@attrs.frozen
class Pattern:
    """A text with a place for a variable between each two of its `literals`."""

    literals: Sequence[str]
    names: Sequence[str]

    @classmethod
    def of(cls, text: str) -> "Pattern":
        """Read a text. Raise OutOfBounds for a brace that is no place."""
        literals, names, behind = [""], [], 0
        for piece in PIECE.finditer(text):
            literals[-1] += text[behind : piece.start()] + BRACES.get(piece[0], "")
            behind = piece.end()
            if piece[1]:
                names.append(piece[1])
                literals.append("")
            elif piece[0] not in BRACES:
                raise OutOfBounds(
                    phrase(
                        "has a {brace} that is no place such as {{name}}; "
                        "{brace}{brace} is a brace",
                        brace=piece[0],
                    )
                )
        literals[-1] += text[behind:]
        return cls(literals, names)

    @property
    def least_length(self) -> int:
        """Its length where each value has one character."""
        return sum(map(len, self.literals)) + len(self.names)

    def fill_line(self, values: Mapping[str, str], most: int) -> str:
        """Return one line of `most` characters; the longest values are shortened until it fits."""
        cleaned = {name: clean_line(values[name].translate(TURNS), most) for name in self.names}
        return self._fill_within(cleaned, most)

    def fill_text(self, values: Mapping[str, str], most: int) -> str:
        """Do as `fill_line` with values of several lines."""
        cleaned = {name: clean_text(values[name].translate(TURNS), most) for name in self.names}
        return self._fill_within(cleaned, most)

    def fill_link(self, name: str, values: Mapping[str, str]) -> str:
        """Return an address, in which each value is percent-encoded.

        Raise OutOfBounds for one that leads elsewhere, or is too long: a part of it would too.
        """
        encoded = {one: quote(values[one].encode(errors="replace"), "") for one in self.names}
        link = self._fill(encoded)
        check_address(name, link)
        path = re.split(r"[?#]", link, maxsplit=1)[0]
        if self.names and not DOT_SEGMENTS.isdisjoint(path.split("/")):
            raise OutOfBounds(phrase("{name} must not have . or .. between slashes", name=name))
        return link

    def check_link(self, name: str) -> None:
        """Raise OutOfBounds for a link in which a value could choose the host."""
        self.fill_link(name, dict.fromkeys(self.names, "x"))
        if self.names and not OF_LINK.match(self.literals[0]):
            raise OutOfBounds(
                phrase("{name} must begin with its path, or its host, before a variable", name=name)
            )

    def _fill_within(self, values: Mapping[str, str], most: int) -> str:
        lengths = [len(values[name]) for name in self.names]
        share = _share_of(lengths, most - sum(map(len, self.literals)))
        return self._fill({name: cut(text, share) for name, text in values.items()})

    def _fill(self, values: Mapping[str, str]) -> str:
        filled = [
            text + values[name] for text, name in zip(self.literals, self.names, strict=False)
        ]
        return "".join((*filled, self.literals[-1]))


def _share_of(lengths: Sequence[int], room: int) -> int:
    """Return how long each value may be so that all of them fit."""
    for n, length in enumerate(sorted(lengths)):
        share = room // (len(lengths) - n)
        if length > share:
            return share
        room -= length
    return max(lengths, default=0)
