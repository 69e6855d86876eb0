"""Problems on a socket or a stream: an `error` message and a close code."""

from tornado_rt.locales import ENGLISH, Words
from tornado_rt.problems import Problem
from tornado_rt.protocol import CloseCode, ErrorCode, Message, MessageType
from tornado_rt.work.texts import joined

_CLOSE_CODES = {
    400: CloseCode.BAD_REQUEST,
    401: CloseCode.UNAUTHORIZED,
    403: CloseCode.FORBIDDEN,
    404: CloseCode.NOT_FOUND,
    429: CloseCode.TOO_MANY_CONNECTIONS,
}
_ERROR_CODES = {
    400: ErrorCode.BAD_REQUEST,
    401: ErrorCode.BAD_TOKEN,
    403: ErrorCode.FORBIDDEN,
    404: ErrorCode.NOT_FOUND,
    409: ErrorCode.CONFLICT,
    422: ErrorCode.BAD_MESSAGE,
    429: ErrorCode.TOO_MANY_CONNECTIONS,
    503: ErrorCode.DEGRADED,
}


def error_message(code: ErrorCode, text: str) -> Message:
    """Return an `error` message."""
    return Message.of(MessageType.ERROR, {"code": code, "message": text})


def error_of(problem: Problem, words: Words = ENGLISH) -> Message:
    """Return the `error` message of a problem, in a language."""
    code = _ERROR_CODES.get(problem.status_code, ErrorCode.INTERNAL)
    told = joined([problem.detail, *(problem.errors or [])])
    return error_message(code, words.say(told))


def close_code_of(problem: Problem) -> CloseCode:
    """Return the code that a WebSocket is closed with for a problem."""
    return _CLOSE_CODES.get(problem.status_code, CloseCode.OVERLOADED)
