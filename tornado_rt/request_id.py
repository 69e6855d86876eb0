"""The id of a request, by which its log lines are found: the client's own, or one made here."""

import re
import secrets

from tornado.httputil import HTTPHeaders

HEADER = "X-Request-Id"
# No space, quote or control character: it goes into a header and into log lines as it is.
WELL_FORMED = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,128}")
MADE_BYTES = 8


def request_id_of(headers: HTTPHeaders) -> str:
    """Return the id that came with a request, if it is well-formed; else make one."""
    given = headers.get(HEADER, "")
    return given if WELL_FORMED.fullmatch(given) else secrets.token_hex(MADE_BYTES)
