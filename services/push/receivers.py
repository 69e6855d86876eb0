"""The one door to what checks an address that somebody else named."""

from services.webhooks.addresses import CheckedResolver as CheckedResolver
from services.webhooks.addresses import NotPublic as NotPublic
from services.webhooks.addresses import check_address as check_address
from services.webhooks.addresses import is_public as is_public
