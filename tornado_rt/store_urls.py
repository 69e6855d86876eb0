"""Error messages about unreadable addresses, without the credentials in them."""

import re

CREDENTIALS = re.compile("[:/?#@,]")


def without_credentials(message: str, url: str) -> str:
    """Return the message about this address, or a general one where it repeats its credentials."""
    # A password that is not escaped ends the host's part early: look up to the last "@".
    found = CREDENTIALS.split(url.partition("://")[2].rpartition("@")[0])
    if any(part and re.search(rf"(?<!\w){re.escape(part)}(?!\w)", message) for part in found):
        return "it cannot be read; in a password all but letters and digits must be escaped"
    return message
