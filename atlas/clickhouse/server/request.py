"""What a client asks for: ClickHouse's URL parameters, headers and form fields."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlsplit

from atlas.clickhouse.server.encoding import choose_encoding
from atlas.clickhouse.server.engine import ExternalTable
from atlas.clickhouse.server.failure import Code, QueryFailure

__all__ = ["Request", "read_request", "refuse_browser", "with_form"]

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_SESSION_SECONDS = 3600.0

# Parameters of the interface, not settings of the engine. The user may be anyone: the server
# listens on the loopback only, and whoever is on the machine as its owner may use it.
_RESERVED = {
    "buffer_size",
    "client_protocol_version",
    "close_session",
    "compress",
    "database",
    "decompress",
    "default_format",
    "password",
    "query",
    "query_id",
    "quota_key",
    "session_check",
    "session_id",
    "session_timeout",
    "stacktrace",
    "user",
    "wait_end_of_query",
    # Settings that speak of the HTTP exchange itself; the engine behind it has none.
    "cancel_http_readonly_queries_on_client_close",
    "enable_http_compression",
    "http_headers_progress_interval_ms",
    "http_zlib_compression_level",
    "send_progress_in_http_headers",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One statement's circumstances; the statement itself may continue in the body."""

    query_id: str
    statement: bytes
    settings: Mapping[str, str]
    parameters: Mapping[str, str]
    read_only: bool
    database: str = ""
    default_format: str = "TabSeparated"
    encoding: str | None = None
    wait_for_end: bool = False
    session_id: str = ""
    session_seconds: float = 60.0
    session_must_exist: bool = False
    close_session: bool = False
    external_tables: tuple[ExternalTable, ...] = ()

    @property
    def time_zone(self) -> str:
        """In which the client is to read times that carry no zone."""
        return self.settings.get("session_timezone") or "UTC"


def read_request(method: str, query_string: bytes, headers: Mapping[str, str]) -> Request:
    """Read what precedes the body.

    Raises
    ------
    QueryFailure
        If a parameter does not fit, or asks for what the server does not do.
    """
    # A statement with binary literals need not be UTF-8.
    text = query_string.decode(errors="surrogateescape")
    given = dict(parse_qsl(text, keep_blank_values=True, errors="surrogateescape"))
    statement = given.pop("query", "").encode(errors="surrogateescape")
    if any("\udc80" <= letter <= "\udcff" for letter in "".join(given.values())):
        raise QueryFailure.of(Code.BAD_REQUEST_PARAMETER, "A parameter is not in UTF-8.")
    if _is_on(given.get("compress", "")) or _is_on(given.get("decompress", "")):
        raise QueryFailure.of(
            Code.NOT_IMPLEMENTED,
            "ClickHouse's own block compression (compress=1, decompress=1) is not offered: use "
            "enable_http_compression=1 with Accept-Encoding, and Content-Encoding.",
        )
    compressed = _is_on(given.get("enable_http_compression", ""))
    return Request(
        query_id=given.get("query_id") or str(uuid.uuid4()),
        statement=statement,
        settings=_settings(given),
        parameters=_parameters(given),
        read_only=method == "GET",
        database=given.get("database") or headers.get("x-clickhouse-database", ""),
        default_format=_word(
            given.get("default_format") or headers.get("x-clickhouse-format") or "TabSeparated"
        ),
        encoding=choose_encoding(headers.get("accept-encoding", "")) if compressed else None,
        wait_for_end=_is_on(given.get("wait_end_of_query", "")),
        session_id=given.get("session_id", ""),
        session_seconds=_session_seconds(given.get("session_timeout", "60")),
        session_must_exist=_is_on(given.get("session_check", "")),
        close_session=_is_on(given.get("close_session", "")),
    )


def with_form(request: Request, content_type: str, body: bytes) -> Request:
    """Add what a multipart form carries: the statement, its parameters, external tables."""
    fields = dict(_form_fields(content_type, body))
    values = {name: value for name, (value, is_file) in fields.items() if not is_file}
    files = {name: value for name, (value, is_file) in fields.items() if is_file}
    described = {f"{name}_{what}" for name in files for what in ("format", "structure", "types")}
    texts = {name: value.decode(errors="replace") for name, value in values.items()}
    return replace(
        request,
        statement=request.statement + values.get("query", b""),
        parameters={**request.parameters, **_parameters(texts)},
        settings={k: v for k, v in request.settings.items() if k not in described},
        external_tables=tuple(
            _external_table(name, rows, {**request.settings, **texts})
            for name, rows in files.items()
        ),
    )


def refuse_browser(headers: Mapping[str, str], host: str) -> None:
    """Refuse a page in somebody's browser: any web site could otherwise reach the loopback.

    Raises
    ------
    QueryFailure
        If the request was sent by a page, or to a name that is not this machine's.
    """
    site = headers.get("sec-fetch-site", "none")
    name = urlsplit(f"//{headers.get('host', host)}").hostname
    if "origin" in headers or site not in ("none", "same-origin"):
        raise QueryFailure.of(Code.ACCESS_DENIED, "Web pages may not query this server.")
    if name not in (host, "localhost", "127.0.0.1", "::1"):
        raise QueryFailure.of(
            Code.ACCESS_DENIED, f"Expected a request to {host}, found one to {name}."
        )


def _settings(given: Mapping[str, str]) -> dict[str, str]:
    return {
        _word(name): value
        for name, value in given.items()
        if name not in _RESERVED and not name.startswith("param_")
    }


def _word(name: str) -> str:
    """Check what becomes part of a statement: the name of a setting or of a format."""
    if not _WORD.fullmatch(name):
        raise QueryFailure.of(
            Code.BAD_REQUEST_PARAMETER, f"Expected the name of a setting or format, found {name!r}."
        )
    return name


def _parameters(given: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix("param_"): value
        for name, value in given.items()
        if name.startswith("param_")
    }


def _session_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MAX_SESSION_SECONDS:
        raise QueryFailure.of(
            Code.INVALID_SESSION_TIMEOUT,
            f"Expected a session_timeout of 0 to {_MAX_SESSION_SECONDS:g} s, found {text!r}.",
        )
    return seconds


def _is_on(value: str) -> bool:
    return value.lower() not in ("", "0", "false")


def _external_table(name: str, rows: bytes, given: Mapping[str, str]) -> ExternalTable:
    structure = given.get(f"{name}_structure", "")
    if not structure:
        types = given.get(f"{name}_types", "")
        structure = ", ".join(f"_{n} {kind}" for n, kind in enumerate(_split_types(types), start=1))
    if not structure:
        raise QueryFailure.of(
            Code.BAD_REQUEST_PARAMETER,
            f"Expected {name}_structure or {name}_types beside the external table {name!r}.",
        )
    return ExternalTable(name, structure, given.get(f"{name}_format") or "TabSeparated", rows)


def _split_types(types: str) -> list[str]:
    """Split at the commas that are outside of brackets."""
    parts, depth = [""], 0
    for letter in types:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _form_fields(content_type: str, body: bytes) -> Iterable[tuple[str, tuple[bytes, bool]]]:
    """Yield (name, (value, whether it is a file)) of a multipart/form-data body."""
    found = re.search(r'boundary="?([^";,]+)', content_type)
    if found is None:
        raise QueryFailure.of(Code.BAD_REQUEST_PARAMETER, "A multipart form without a boundary.")
    boundary = b"--" + found.group(1).encode()
    parts = (b"\r\n" + body).split(b"\r\n" + boundary)
    for part in parts[1:]:
        if part.startswith(b"--"):
            return
        head, separator, value = part.partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]*)"', head)
        if not separator or name is None:
            raise QueryFailure.of(Code.BAD_REQUEST_PARAMETER, "A part of the form has no name.")
        yield name.group(1).decode(errors="replace"), (value, b"filename=" in head)
