"""Mail about notifications that stay unread."""

from services.email.addresses import Addresses, NoAddress, NoMail, check_address, is_address
from services.email.digests import Digests
from services.email.kind import EmailParams, Postman, email_kind, email_params
from services.email.links import UNSUBSCRIBE, BadLink, MailLinks
from services.email.server import MailServer
from services.email.words import MailWords, WordsOf

__all__ = [
    "UNSUBSCRIBE",
    "Addresses",
    "BadLink",
    "Digests",
    "EmailParams",
    "MailLinks",
    "MailServer",
    "MailWords",
    "NoAddress",
    "NoMail",
    "Postman",
    "WordsOf",
    "check_address",
    "email_kind",
    "email_params",
    "is_address",
]
