"""The one door to what checks an address that somebody else named."""

from services.callbacks import CheckedResolver as CheckedResolver
from services.callbacks import NotPublic as NotPublic
from services.callbacks import is_public as is_public
from services.callbacks import validate_callback_url as validate_callback_url
