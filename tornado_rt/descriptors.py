"""The limit of file descriptors of this process, and the share of them that clients may take."""

import resource

# For stores, files, Redis, callbacks, and what a library opens unasked.
MOST_KEPT = 256
# Left of the clients' share for plain requests when streams and sockets have the rest.
MOST_FOR_REQUESTS = 256


def raise_limit() -> int:
    """Raise the soft limit to the hard one; return the limit that holds, 0 for none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            # Some systems name a hard limit that they do not grant.
            return find_limit()
    return 0 if hard == resource.RLIM_INFINITY else hard


def find_limit() -> int:
    """Return the soft limit as it is, 0 for none."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else soft


def clients_share(limit: int) -> int:
    """Return the number from which on no descriptor is a client's; 0 for none.

    The lowest free number is given out first, so one above that says how many are taken.
    """
    return limit - min(MOST_KEPT, limit // 4) if limit else 0


def streams_share(limit: int) -> int:
    """Return how many of them streams and sockets may hold; 0 for any number."""
    share = clients_share(limit)
    return share - min(MOST_FOR_REQUESTS, limit // 4) if share else 0
