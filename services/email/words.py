"""The words of mails and of the page that ends them, in the language of the recipient."""

from collections.abc import Awaitable, Callable

import attrs

from services.notifications.templates import Templates

# The names of their templates begin with it.
PREFIX = "email."


@attrs.frozen
class MailWords:
    """The words in a user's language; None: the server's."""

    _templates: Templates
    _locale: str | None = None

    def say(self, name: str, **variables: int) -> str:
        """Return the title of a template, on one line."""
        return self._templates.render(PREFIX + name, variables, [self._locale]).title

    @property
    def language(self) -> str:
        """The tag of the language that it comes in (RFC 5646)."""
        return self._templates.render(f"{PREFIX}stop", {}, [self._locale]).locale


# Gets the user.
WordsOf = Callable[[str], Awaitable[MailWords]]
