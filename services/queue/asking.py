"""The caller who asks for a change of a task."""

import attrs

# Origins of a change, as `why` tells them.
USER, ADMIN, OPERATOR = "user", "admin", "operator"
OF_BATCH = "_batch"


@attrs.frozen
class By:
    """A caller and their role: a user, an admin, or the operator of the machine, without a name."""

    how: str
    who: str = ""

    @classmethod
    def of(cls, user_id: str | None) -> "By":
        """Return a user; None is the operator."""
        return cls(OPERATOR) if user_id is None else cls(USER, user_id)

    @classmethod
    def asking(cls, user_id: str, owner: str | None) -> "By":
        """Return who asks as a user; as an admin when everybody's tasks (None) may be touched."""
        return cls(ADMIN if owner is None else USER, user_id)

    def with_batch(self) -> "By":
        """Return the same of one who asks for all tasks of a batch."""
        return By(self.how + OF_BATCH, self.who)

    @property
    def packed(self) -> str:
        """Both as the scripts keep them: neither has a line break."""
        return f"{self.how}\n{self.who}"
