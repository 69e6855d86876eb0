"""Tells schemathesis what the document of this API leaves out; it imports this by its path."""

from typing import Any

import schemathesis


@schemathesis.hook
def filter_query(_: Any, query: Any) -> bool:
    """Send no empty argument as one that is refused: it counts as none, as forms send it."""
    return not query or "" not in query.values()
