"""Notes and questions of a run to its user."""

import re
from collections.abc import Mapping

import attrs

from tornado_rt.work.once import check_name
from tornado_rt.work.values import clean_line, clean_text, require

# Of the title and the content of a notification.
MAX_TITLE_LENGTH, MAX_CONTENT_LENGTH = 200, 2000
SEVERITIES = ("info", "success", "warning", "error")
# Most options of a question, and the longest label of one.
MOST_OPTIONS = 5
MAX_LABEL_LENGTH = 100
OPTION = re.compile(r"[a-z0-9_-]{1,32}")


@attrs.frozen(kw_only=True)
class Question:
    """A question to a user. `options`: their labels by their ids, in the order of the buttons."""

    name: str
    title: str
    content: str | None = None
    severity: str = "info"
    options: Mapping[str, str]


def as_note(title: object, content: object, severity: str) -> tuple[str, str | None, str]:
    """Return a notification within its bounds. Raise ValueError."""
    heading = clean_line(title, MAX_TITLE_LENGTH)
    require(heading != "", "a notification has a title")
    require(severity in SEVERITIES, f"severity is one of {', '.join(SEVERITIES)}")
    return heading, None if content is None else clean_text(content, MAX_CONTENT_LENGTH), severity


def as_question(
    name: str, title: object, content: object, severity: str, options: Mapping[str, object]
) -> Question:
    """Return a question within its bounds. Raise ValueError."""
    check_name(name)
    heading, text, severity = as_note(title, content, severity)
    require(isinstance(options, Mapping), "options are labels by ids")
    require(0 < len(options) <= MOST_OPTIONS, f"a question has 1 to {MOST_OPTIONS} options")
    labels = {}
    for option, label in options.items():
        good = isinstance(option, str) and OPTION.fullmatch(option) is not None
        require(good, "the id of an option has 1 to 32 of a-z, 0-9, _ and -")
        labels[option] = clean_line(label, MAX_LABEL_LENGTH)
        require(labels[option] != "", f"option {option} has a label")
    return Question(name=name, title=heading, content=text, severity=severity, options=labels)
