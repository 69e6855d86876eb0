"""Where the log of a worker goes that is a program of its own."""

import logging

import structlog


def log_to_stderr(level: int) -> None:
    """Write what the attempts and the client log as lines of text."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
    # It would tell each request.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
