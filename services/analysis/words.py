"""Words about an analysis, for people and for receivers of callbacks."""

from services.analysis.plan import NAME

ANALYSIS = NAME
# A submission to try a server with.
EXAMPLE_BODY = '{"symbol": "AAPL"}'
# The first version gave the label this name, and receivers still look for it.
LABEL_FIELD = "symbol"


def label_fields(label: str) -> dict[str, str]:
    """Return the fields of notifications and callbacks that only an analysis has."""
    return {LABEL_FIELD: label}
