"""The two servers of the benchmark of the inbox, what fills them, and what is measured of both."""

USERS = 100


def user(number: int) -> str:
    """Return the id of a user: 0 is the one that is measured."""
    return f"user{number}"
