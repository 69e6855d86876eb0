"""The id of a request, by which its log lines are found: the client's own, or one made here."""

import os
import random
import re

from tornado.httputil import HTTPHeaders

HEADER = "X-Request-Id"
# No space, quote or control character: it goes into a header and into log lines as it is.
WELL_FORMED = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,128}")
MADE_BITS = 64
# Ids are told apart, and are no secret. A handler may seed the generator that all share.
_made = random.Random()
os.register_at_fork(after_in_child=_made.seed)


def request_id_of(headers: HTTPHeaders) -> str:
    """Return the id that came with a request, if it is well-formed; else make one."""
    given = headers.get(HEADER, "")
    return given if WELL_FORMED.fullmatch(given) else f"{_made.getrandbits(MADE_BITS):016x}"
