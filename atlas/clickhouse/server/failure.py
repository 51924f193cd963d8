"""ClickHouse's errors: their numbers, their wording, and the HTTP status each is sent with."""

from __future__ import annotations

import re
from enum import IntEnum

from atlas.errors import AtlasError

__all__ = ["Code", "QueryFailure"]


class Code(IntEnum):
    """The errors that the HTTP interface raises itself; the engine knows many more."""

    NOT_IMPLEMENTED = 48
    SYNTAX_ERROR = 62
    UNKNOWN_TYPE_OF_QUERY = 78
    UNKNOWN_COMPRESSION_METHOD = 89
    READONLY = 164
    TOO_MANY_SIMULTANEOUS_QUERIES = 202
    SOCKET_TIMEOUT = 209
    QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING = 216
    QUERY_IS_TOO_LARGE = 229
    ABORTED = 236
    CANNOT_DECOMPRESS = 271
    LIMIT_EXCEEDED = 290
    INTO_OUTFILE_NOT_ALLOWED = 358
    SESSION_NOT_FOUND = 372
    SESSION_IS_LOCKED = 373
    INVALID_SESSION_TIMEOUT = 374
    BAD_REQUEST_PARAMETER = 408
    ACCESS_DENIED = 497
    UNKNOWN_EXCEPTION = 1002


# The statuses are those of a ClickHouse server (its exceptionCodeToHTTPStatus), but for 202: it
# sends 500, which clients take for final; 503 lets them try again.
_STATUS = {
    400: "6 15 25 26 27 36 37 38 41 44 53 62 72 117 123 167 168 223 321 376 408 427 441 457 467 "
    "675 676",
    403: "192 193 497 512 516",
    404: "46 47 50 56 60 63 73 78 81 115 139 152 336 372 511",
    408: "159",
    413: "229",
    501: "48",
    503: "76 202 209 439",
}
_STATUS_OF_CODE = {
    code: status for status, codes in _STATUS.items() for code in map(int, codes.split())
}

_CODE = re.compile(r"Code: (\d+)\. ")
_REPEATED_HEAD = re.compile(r"^(Code: \d+\. DB::Exception: )\1+")
_REPEATED_TAIL = re.compile(r"( \([A-Z0-9_]+\))(?:(?: \(version [^)]*\))?\.\1)+$")


class QueryFailure(AtlasError):
    """A statement failed, in ClickHouse's own terms.

    Attributes
    ----------
    code : int
        ClickHouse's number for the kind of error.
    text : str
        `Code: 60. DB::Exception: … (UNKNOWN_TABLE)`.
    """

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(text)

    @classmethod
    def of(cls, code: Code, message: str) -> QueryFailure:
        """Word an error of the interface as ClickHouse would."""
        return cls(code, f"Code: {code:d}. DB::Exception: {message} ({code.name})")

    @classmethod
    def from_engine(cls, error: BaseException) -> QueryFailure:
        """Read the code out of what the engine says."""
        found = _CODE.search(str(error))
        if found is None:
            return cls.of(Code.UNKNOWN_EXCEPTION, str(error) or repr(error))
        text = _REPEATED_HEAD.sub(r"\1", str(error)[found.start() :].strip())
        return cls(int(found.group(1)), _REPEATED_TAIL.sub(r"\1", text))

    @property
    def status(self) -> int:
        """The HTTP status that a ClickHouse server sends for this error."""
        return _STATUS_OF_CODE.get(self.code, 500)
