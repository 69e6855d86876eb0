"""Deliveries: what leaves the server, kept until it has arrived or a day has gone by."""

from services.deliveries.dropping import Dropping
from services.deliveries.lanes import Lanes
from services.deliveries.service import (
    Deliveries,
    DeliveryKind,
    DeliveryNotKept,
    DeliveryUnderWay,
    GaveUp,
    GivenUp,
    deliveries_name,
)
from services.deliveries.uncounted import Uncounted

__all__ = [
    "Deliveries",
    "DeliveryKind",
    "DeliveryNotKept",
    "DeliveryUnderWay",
    "Dropping",
    "GaveUp",
    "GivenUp",
    "Lanes",
    "Uncounted",
    "deliveries_name",
]
