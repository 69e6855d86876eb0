"""The head of a request, read in one pass.

Tornado reads each line of it by itself, three regular expressions a line. Here one expression finds
all fields. Tornado refuses a head that it does not match, in its own words: so both take and refuse
the same.
"""

import re

from tornado.httputil import HTTPHeaders, _normalize_header

# A field with the end of its line (RFC 9112 section 5). Spaces around a value are not part of it;
# those after it are taken off by the reader of this. Nothing here is tried twice.
FIELD = re.compile(
    r"^([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+([\t\x20-\x7e\x80-\xff]*+)\r?\n", re.MULTILINE
)


class RequestHeaders(HTTPHeaders):
    """Tornado's, which look a header up without an exception for one that is not there."""

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """Return a header, joined with commas when it has come more than once."""
        values = self._as_list.get(_normalize_header(name))
        if values is None:
            return default
        return values[0] if len(values) == 1 else ",".join(values)


def read_head(head: bytes) -> tuple[str, HTTPHeaders]:
    """Return the first line and the headers of a head, which ends with an empty line.

    Raise HTTPInputError.
    """
    text = head.decode("latin1").lstrip("\r\n")
    eol = text.find("\n")
    first = text[:eol].rstrip("\r")
    found = FIELD.findall(text, eol + 1)
    if len(found) + 1 != text.count("\n", eol + 1):
        return first, HTTPHeaders.parse(text[eol:])
    headers = RequestHeaders()
    values = headers._as_list
    for name, value in found:
        values.setdefault(_normalize_header(name), []).append(value.rstrip(" \t"))
    return first, headers
