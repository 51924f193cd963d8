import pytest
from candle_files import csv_text, write_json, write_text

from atlas.errors import InvalidInput, UnreadableFile
from atlas.ingest import discover


def test_a_folder_gives_its_candle_files_by_name_and_lists_the_rest(tmp_path):
    write_json(tmp_path, "ETH_USDT-1m.json.gz")
    write_text(tmp_path, "BTC_USDT-1m.csv", csv_text())
    for other in ("README.md", "LICENSE", ".hidden.json"):
        write_text(tmp_path, other, "not candles")
    (tmp_path / "deeper").mkdir()
    write_json(tmp_path / "deeper", "ADA_USDT-1m.json")
    found = discover(tmp_path)
    assert [path.name for path in found.candles] == ["BTC_USDT-1m.csv", "ETH_USDT-1m.json.gz"]
    assert [path.name for path in found.passed_over] == [
        ".hidden.json",
        "LICENSE",
        "README.md",
        "deeper",
    ]


def test_a_misnamed_file_in_a_known_format_is_not_passed_over(tmp_path):
    misnamed = write_text(tmp_path, "prices.csv", csv_text())
    assert discover(tmp_path).candles == (misnamed,)


def test_a_file_is_found_by_itself(tmp_path):
    path = write_json(tmp_path, "BTC_USDT-1m.json")
    assert discover(path).candles == (path,)


def test_a_folder_without_candles_says_what_it_found(tmp_path):
    write_text(tmp_path, "README.md", "")
    with pytest.raises(InvalidInput, match=r"BTC_USDT-1m\.json\.gz.*found README\.md"):
        discover(tmp_path)


def test_an_empty_folder_is_told_as_such(tmp_path):
    with pytest.raises(InvalidInput, match="found nothing"):
        discover(tmp_path)


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"nothing at .*gone"):
        discover(tmp_path / "gone")


def test_a_file_of_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(UnreadableFile, match="formats"):
        discover(write_text(tmp_path, "README.md", ""))
