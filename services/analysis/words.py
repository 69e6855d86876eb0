"""How people and receivers of callbacks are told of an analysis."""

from services.analysis.kind import NAME

ANALYSIS = NAME
# A submission to try a server with.
EXAMPLE_BODY = '{"symbol": "AAPL"}'
# The first version gave the label this name, and receivers still look for it.
LABEL_FIELD = "symbol"


def notification_title(label: str, status: str) -> str:
    """Return the title of the notification of an end; `label` is empty for a batch."""
    return f"{label or 'Batch'}: analysis {status}"


def label_fields(label: str) -> dict[str, str]:
    """Return the fields of notifications and callbacks that only an analysis has."""
    return {LABEL_FIELD: label}
