"""ClickHouse's lexical grammar: where a statement names its format, where an insert's rows begin.

The engine parses; this module only finds the places where the HTTP interface has to cut or splice.
Statements are bytes, because a bound binary parameter need not be UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from atlas.clickhouse.server.failure import Code, QueryFailure

__all__ = [
    "Insert",
    "has_result",
    "insert_target",
    "quoted",
    "quoted_name",
    "read_insert",
    "refuse_outfile",
    "replace_literals",
    "verb",
    "with_outfile",
]

# Statements whose grammar admits INTO OUTFILE, so that the engine writes their result itself.
_RESULT_VERBS = frozenset(
    ["(", "SELECT", "WITH", "FROM", "EXPLAIN", "SHOW", "DESCRIBE", "DESC", "EXISTS"]
)

# A FORMAT after one of these is a column that somebody named so, not the clause.
_OPERAND_FOLLOWS = re.compile(
    rb"ALL|AND|ANY|AS|ASOF|BETWEEN|BY|CASE|DISTINCT|ELSE|FROM|HAVING|I?LIKE|IN|INTERVAL|IS|JOIN|"
    rb"LIMIT|NOT|OFFSET|ON|OR|PREWHERE|QUALIFY|SELECT|THEN|USING|WHEN|WHERE",
    re.IGNORECASE,
)

_TOKEN = re.compile(
    rb"""
      (?P<space>   [\s\x00]+ )
    | (?P<line>    (?: -- | \#! | \#\  ) [^\n]* )
    | (?P<block>   /\* )
    | (?P<string>  ' (?: [^'\\]++ | \\. | '' )*+ (?:'|\Z) )
    | (?P<quoted>  " (?: [^"\\]++ | \\. | "" )*+ (?:"|\Z) | ` (?: [^`\\]++ | \\. | `` )*+ (?:`|\Z) )
    | (?P<curly>   \xe2\x80\x98 .*? (?:\xe2\x80\x99|\Z) | \xe2\x80\x9c .*? (?:\xe2\x80\x9d|\Z) )
    | (?P<heredoc> \$ (?P<tag> \w* ) \$ .*? (?: \$ (?P=tag) \$ | \Z ) )
    | (?P<word>    [A-Za-z_] [\w$]* )
    | (?P<number>  \d [\w.]* )
    | (?P<mark>    . )
    """,
    re.VERBOSE | re.DOTALL,
)

# What stands inside brackets and opens nothing: a list of a million literals is one match.
_INSIDE = re.compile(
    rb"""(?:
      [^'"`()\[\]{}/\-\#$\xe2]++
    | ' (?: [^'\\]++ | \\. | '' )*+ '
    | - (?!-) | / (?!\*) | \# (?![!\ ]) | \$ (?!\w*\$) | \xe2 (?!\x80[\x98\x9c])
    )++""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: bytes
    start: int
    depth: int
    """How many brackets are open around it."""

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text.decode().upper() in words

    def is_mark(self, mark: bytes) -> bool:
        return self.kind == "mark" and self.text == mark


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT that carries its rows behind it."""

    head: bytes
    """The statement without its FORMAT or VALUES."""
    format: str
    rows_start: int
    """Where the rows begin in the bytes that were read."""
    input_call: tuple[int, int] | None = None
    """Where `input(` stands in the head, if the statement reads the rows through that function."""

    def reading(self, path: str) -> bytes:
        """Return the statement with `input(` made to read a file of the same format."""
        start, end = self.input_call or (len(self.head), len(self.head))
        source = f"file({quoted(path)}, {quoted(self.format)}, ".encode()
        return self.head[:start] + source + self.head[end:]


def verb(sql: bytes) -> str:
    """Return the first word in capitals, `(` for a bracketed query, or nothing for no statement."""
    for token in _significant(sql):
        return token.text.decode(errors="replace").upper()
    return ""


def has_result(sql: bytes) -> bool:
    """Say whether the engine can be told to write this statement's result to a file."""
    return verb(sql) in _RESULT_VERBS


def refuse_outfile(sql: bytes) -> None:
    """Refuse a statement that names a file for its result, which over HTTP goes to the client.

    Raises
    ------
    QueryFailure
        INTO_OUTFILE_NOT_ALLOWED.
    """
    if any(
        a.depth == 0 and a.is_word("INTO") and b.is_word("OUTFILE")
        for a, b in _pairs(_significant(sql))
    ):
        raise QueryFailure.of(
            Code.INTO_OUTFILE_NOT_ALLOWED, "INTO OUTFILE is not allowed over HTTP."
        )


def with_outfile(sql: bytes, path: str, default_format: str) -> tuple[bytes, str]:
    """Return the statement made to write its result to `path`, and the format of that result."""
    tokens = list(_significant(sql))
    while tokens and tokens[-1].is_mark(b";"):
        tokens.pop()
    clause = _format_clause(tokens)
    start = clause[0].start if clause else tokens[-1].end
    name = clause[1].text.decode() if clause else default_format
    rest = sql[clause[1].end :] if clause else sql[start:]
    into = f" INTO OUTFILE {quoted(path)} TRUNCATE FORMAT {name}".encode()
    return sql[:start] + into + rest, name


def read_insert(sql: bytes, *, complete: bool) -> Insert | None:
    """Find the format of an INSERT and the first byte of its rows.

    Parameters
    ----------
    sql : bytes
        The statement, or as much of it and its rows as has arrived.
    complete : bool
        Whether nothing follows `sql`.

    Returns
    -------
    None if there are no rows behind the statement (INSERT … SELECT without `input`), or, unless
    `complete`, if more bytes are needed to tell.

    Raises
    ------
    QueryFailure
        If the rows are to come from a file of the server (FROM INFILE).
    """
    tokens = _after_insert_target(_significant(sql, inside=True))
    selects = False
    input_call: tuple[int, int] | None = None
    for token, following in _pairs(tokens):
        if token.is_word("INPUT") and following.is_mark(b"("):
            input_call = token.start, following.end
        if token.depth or token.kind != "word":
            continue
        selects = selects or token.is_word("SELECT", "WITH")
        if selects and input_call is None:
            continue
        if token.is_word("FROM") and following.is_word("INFILE"):
            raise QueryFailure.of(
                Code.UNKNOWN_TYPE_OF_QUERY, "FROM INFILE is not allowed over HTTP: send the rows."
            )
        if token.is_word("VALUES"):
            return Insert(sql[: token.start], "Values", token.end, input_call)
        if token.is_word("FORMAT") and following.kind == "word":
            start = _skip_blank(sql, following.end)
            # At the edge, the name may still be growing, or the end of the line be on its way.
            if not complete and start == len(sql) and not sql.endswith(b"\n"):
                return None
            return Insert(sql[: token.start], following.text.decode(), start, input_call)
    return None


def insert_target(sql: bytes) -> bytes | None:
    """Return the table of an INSERT as it is written there; None for a table function."""
    tokens = _significant(sql)
    for token in tokens:
        if token.is_word("FUNCTION"):
            return None
        if _names_a_table(token):
            start, end = token.start, token.end
            break
    else:
        return None
    for token in tokens:
        part = next(tokens, None) if token.is_mark(b".") else None
        if part is None:
            break
        end = part.end
    return sql[start:end]


def replace_literals(sql: bytes, replacement: Callable[[str], str | None]) -> bytes:
    """Exchange each string literal for which `replacement` knows another value."""
    pieces: list[bytes] = []
    done = 0
    for token in _significant(sql, inside=True):
        if token.kind == "string":
            new = replacement(token.text[1:-1].decode(errors="replace"))
            if new is not None:
                pieces += [sql[done : token.start], quoted(new).encode()]
                done = token.end
    return b"".join([*pieces, sql[done:]])


def quoted(text: str) -> str:
    """Write a string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quoted_name(text: str) -> str:
    """Write an identifier."""
    return "`" + text.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _significant(sql: bytes, *, inside: bool = False) -> Iterator[_Token]:
    """Yield the tokens that are neither blank nor comment; those in brackets only if `inside`."""
    position = depth = 0
    while position < len(sql):
        if depth > 0 and not inside and (skipped := _INSIDE.match(sql, position)):
            position = skipped.end()
            continue
        match = _TOKEN.match(sql, position)
        if match is None or match.lastgroup is None:  # every byte matches the last alternative
            return
        kind, text = match.lastgroup, match.group()
        if kind == "block":
            position = _block_comment_end(sql, position)
            continue
        position = match.end()
        if kind in ("space", "line"):
            continue
        if kind == "mark" and text in b")]}":
            depth -= 1
        if depth == 0 or inside:
            yield _Token(kind, text, match.start(), depth)
        if kind == "mark" and text in b"([{":
            depth += 1


def _block_comment_end(sql: bytes, start: int) -> int:
    nesting = 0
    for edge in re.compile(rb"/\*|\*/").finditer(sql, start):
        nesting += 1 if edge.group() == b"/*" else -1
        if nesting == 0:
            return edge.end()
    return len(sql)


def _after_insert_target(tokens: Iterator[_Token]) -> Iterator[_Token]:
    """Skip `INSERT INTO [TABLE] [FUNCTION] name`: a table may be named like a keyword."""
    target = next((token for token in tokens if _names_a_table(token)), None)
    if target is None:
        return
    for token in tokens:
        if not token.is_mark(b"."):
            yield token
            break
        next(tokens, None)
    yield from tokens


def _names_a_table(token: _Token) -> bool:
    if token.is_word("INSERT", "INTO", "TABLE", "FUNCTION"):
        return False
    return token.depth == 0


def _format_clause(tokens: list[_Token]) -> tuple[_Token, _Token] | None:
    """Return FORMAT and its name if the statement ends with them, save for SETTINGS."""
    for index in range(len(tokens) - 2, 0, -1):
        before, word, name = tokens[index - 1 : index + 2]
        if word.depth or not word.is_word("FORMAT") or name.kind != "word":
            continue
        if before.kind == "word" and _OPERAND_FOLLOWS.fullmatch(before.text):
            continue
        if before.kind == "mark" and before.text not in b")]}*":
            continue
        after = tokens[index + 2 : index + 3]
        if not after or after[0].is_word("SETTINGS"):
            return word, name
    return None


def _pairs(tokens: Iterator[_Token] | list[_Token]) -> Iterator[tuple[_Token, _Token]]:
    """Yield each token with its successor; the last one with an empty one."""
    previous: _Token | None = None
    for token in tokens:
        if previous is not None:
            yield previous, token
        previous = token
    if previous is not None:
        yield previous, _Token("mark", b"", previous.end, 0)


def _skip_blank(sql: bytes, start: int) -> int:
    """Skip what ClickHouse skips: blanks, then one end of line."""
    while start < len(sql) and sql[start : start + 1] in (b" ", b"\t", b"\f"):
        start += 1
    if sql[start : start + 1] == b"\r":
        start += 1
    if sql[start : start + 1] == b"\n":
        start += 1
    return start
