"""Where statements are cut: formats, files, and the rows behind an INSERT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.clickhouse.server.failure import QueryFailure
from atlas.clickhouse.server.statement import (
    has_result,
    quoted,
    read_insert,
    refuse_outfile,
    replace_literals,
    verb,
    with_outfile,
)

if TYPE_CHECKING:
    from embedded_server import EmbeddedServer

INTO = " INTO OUTFILE 'f' TRUNCATE FORMAT "


@pytest.mark.parametrize(
    ("sql", "head", "format_name", "tail"),
    [
        ("SELECT 1", "SELECT 1", "TSV", ""),
        ("SELECT 1;", "SELECT 1", "TSV", ";"),
        ("SELECT 1 -- end", "SELECT 1", "TSV", " -- end"),
        ("SELECT 1\n FORMAT Native", "SELECT 1\n ", "Native", ""),
        ("SELECT 1 format JSON settings a=1;", "SELECT 1 ", "JSON", " settings a=1;"),
        ("SELECT 1 SETTINGS a=1 FORMAT CSV", "SELECT 1 SETTINGS a=1 ", "CSV", ""),
        ("SELECT ' FORMAT CSV'", "SELECT ' FORMAT CSV'", "TSV", ""),
        ("SELECT 'it''s', '\\' FORMAT CSV", None, "TSV", ""),
        ("SELECT `a` /* FORMAT CSV */", "SELECT `a`", "TSV", " /* FORMAT CSV */"),
        ("SELECT 1 /* a /* b */ FORMAT CSV */", "SELECT 1", "TSV", " /* a /* b */ FORMAT CSV */"),
        ("SELECT $x$ FORMAT CSV $x$", "SELECT $x$ FORMAT CSV $x$", "TSV", ""),
        ("SELECT format FROM t ORDER BY format ASC", None, "TSV", ""),
        ("SELECT x AS format FROM t LIMIT 1", None, "TSV", ""),
        ("SELECT format('{}', 1)", None, "TSV", ""),
        ("SELECT count(*) FROM (SELECT 1 FORMAT CSV)", None, "TSV", ""),
        ("SELECT * FORMAT CSV # note", "SELECT * ", "CSV", " # note"),
    ],
)
def test_result_is_sent_to_a_file_in_the_statements_own_format(
    sql: str, head: str | None, format_name: str, tail: str
) -> None:
    expected = (sql if head is None else head) + INTO + format_name + tail
    assert with_outfile(sql.encode(), "f", "TSV") == (expected.encode(), format_name)


@pytest.mark.parametrize(
    ("sql", "head", "format_name", "rows"),
    [
        ("INSERT INTO t FORMAT CSV\n1,2\n", "INSERT INTO t ", "CSV", "1,2\n"),
        ("insert into t (a, b) format TSV \r\n\n1", "insert into t (a, b) ", "TSV", "\n1"),
        ("INSERT INTO t VALUES (1)", "INSERT INTO t ", "Values", " (1)"),
        ("INSERT INTO db.values VALUES (1)", "INSERT INTO db.values ", "Values", " (1)"),
        ("INSERT INTO `format` FORMAT CSV 1", "INSERT INTO `format` ", "CSV", "1"),
        ("INSERT INTO TABLE FUNCTION null('a Int8') VALUES", None, "Values", ""),
        ("INSERT INTO t SETTINGS x = ' FORMAT ' FORMAT CSV\n", None, "CSV", ""),
        (
            "INSERT INTO t -- FORMAT TSV\n FORMAT CSV\n7",
            "INSERT INTO t -- FORMAT TSV\n ",
            "CSV",
            "7",
        ),
        ("INSERT INTO {t:Identifier} FORMAT CSV\n7", "INSERT INTO {t:Identifier} ", "CSV", "7"),
    ],
)
def test_rows_begin_behind_the_format(
    sql: str, head: str | None, format_name: str, rows: str
) -> None:
    insert = read_insert(sql.encode(), complete=True)
    assert insert is not None
    if head is not None:
        assert insert.head.decode() == head
    assert (insert.format, sql[insert.rows_start :]) == (format_name, rows)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t SELECT 1",
        "INSERT INTO t WITH 1 AS x SELECT x FORMAT CSV",
        "INSERT INTO t (a) SELECT format FROM u",
        "INSERT INTO t (SELECT 1)",
        "INSERT INTO t",
    ],
)
def test_insert_of_a_query_has_no_rows(sql: str) -> None:
    assert read_insert(sql.encode(), complete=True) is None


def test_input_function_is_made_to_read_a_file() -> None:
    sql = b"INSERT INTO t SELECT a FROM input ( 'a Int8' ) WHERE a FORMAT CSV\n1\n"
    insert = read_insert(sql, complete=True)
    assert insert is not None
    assert insert.reading("/f") == (
        b"INSERT INTO t SELECT a FROM file('/f', 'CSV',  'a Int8' ) WHERE a "
    )


@given(cut=st.integers(0, 90))
@settings(max_examples=90)
def test_less_of_an_insert_never_gives_another_answer(cut: int) -> None:
    sql = b"INSERT INTO t (a, `b'`) SETTINGS x = ' FORMAT no', y = 1 /* ' */ FORMAT RowBinary \r\n1"
    whole = read_insert(sql, complete=True)
    assert read_insert(sql[:cut], complete=False) in (None, whole)


@pytest.mark.parametrize(
    "sql", ["SELECT 1 INTO OUTFILE 'f'", "SELECT 1 into /* */ outfile 'f' FORMAT CSV"]
)
def test_files_of_the_server_cannot_be_written(sql: str) -> None:
    with pytest.raises(QueryFailure, match="INTO_OUTFILE_NOT_ALLOWED"):
        refuse_outfile(sql.encode())


def test_words_inside_literals_write_no_file() -> None:
    refuse_outfile(b"SELECT ' INTO OUTFILE ', `INTO` FROM (SELECT 1 AS `INTO`) -- INTO OUTFILE")


@pytest.mark.parametrize(
    ("sql", "word"),
    [("/* x */ -- y\n select 1", "SELECT"), ("(SELECT 1)", "("), ("", ""), ("-- nothing", "")],
)
def test_verb_is_the_first_word(sql: str, word: str) -> None:
    assert verb(sql.encode()) == word


def test_only_statements_that_can_write_files_have_results() -> None:
    assert has_result(b"EXPLAIN SELECT 1")
    assert not has_result(b"CREATE TABLE t (a Int8) ENGINE = Memory")


def test_literals_are_replaced_and_nothing_else() -> None:
    sql = b"KILL QUERY WHERE query_id = 'mine' OR user = 'mine''s' -- 'mine'"
    new = replace_literals(sql, {"mine": "it's"}.get)
    assert new == b"KILL QUERY WHERE query_id = 'it\\'s' OR user = 'mine''s' -- 'mine'"


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
@settings(max_examples=40, deadline=None)
def test_any_literal_passes_through_the_cutting(server: EmbeddedServer, text: str) -> None:
    answer = server.post(
        f"SELECT {quoted(text)} -- {quoted(text).splitlines()[0]}\n FORMAT RawBLOB"
    )
    assert answer.content == text.encode()
