"""Rows to answer are read by the columns that training would read, wherever in a file they are."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from places import working_in

from expertbank.data import Columns, rows_to_answer
from expertbank.errors import DataError, InputError
from expertbank.records import Row

PAIR = {"question": "is it", "passage": "the sky"}
Write = Callable[[Path, list[object]], str]


def _lines(folder: Path, rows: list[object]) -> str:
    (folder / "rows.jsonl").write_text("".join(_text(row) + "\n" for row in rows))
    return "rows.jsonl"


def _array(folder: Path, rows: list[object]) -> str:
    (folder / "rows.json").write_text("[" + ",\n".join(map(_text, rows)) + "]")
    return "rows.json"


def _pipe(folder: Path, rows: list[object]) -> str:
    os.mkfifo(folder / "pipe")

    def write() -> None:
        (folder / "pipe").write_text("".join(_text(row) + "\n" for row in rows))

    threading.Thread(target=write, daemon=True).start()
    return "pipe"


def _text(row: object) -> str:
    return row if isinstance(row, str) else json.dumps(row)


def _answered(
    write: Write, folder: Path, rows: list[object], columns: Columns | None = None
) -> list[Row | str]:
    with working_in(folder):
        found = list(rows_to_answer(write(folder, rows), columns))
    return [str(row) if isinstance(row, InputError) else row for row in found]


@pytest.mark.parametrize("write", [_lines, _array, _pipe])
def test_a_key_that_only_later_rows_bring_is_read(write: Write, tmp_path: Path) -> None:
    rows = [{"question": "is it"}, PAIR, {"question": "again", "passage": None}]
    assert _answered(write, tmp_path, list(rows)) == [
        Row("is it"),
        Row("is it", "the sky"),
        Row("again"),
    ]


@pytest.mark.parametrize("write", [_lines, _array, _pipe])
def test_a_named_second_text_may_be_missing_in_a_row(write: Write, tmp_path: Path) -> None:
    columns = Columns(text="q", text_pair="p")
    rows = [{"q": "a", "passage": "c"}, {"q": "a", "p": "b"}, {"q": "d"}]
    found = _answered(write, tmp_path, list(rows), columns)
    assert found == [Row("a"), Row("a", "b"), Row("d")]


@pytest.mark.parametrize("write", [_lines, _array])
def test_a_named_column_that_no_row_has_is_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'pp' for the pair; columns found: q, p"):
        _answered(write, tmp_path, [{"q": "a", "p": "b"}], Columns(text="q", text_pair="pp"))


@pytest.mark.parametrize("columns", [None, Columns(text="question")])
@pytest.mark.parametrize("write", [_lines, _pipe])
def test_a_bad_first_row_spoils_no_other(
    write: Write, columns: Columns | None, tmp_path: Path
) -> None:
    found = _answered(write, tmp_path, ['{"question": ', {"question": "is it"}], columns)
    assert isinstance(found[0], str)
    assert "not valid JSON" in found[0]
    assert found[1] == Row("is it")


def test_a_key_beyond_the_rows_that_are_read_ahead_is_read_too(tmp_path: Path) -> None:
    rows = [*({"question": f"is it {n}"} for n in range(1500)), PAIR]
    found = _answered(_lines, tmp_path, list(rows))
    assert found[0] == Row("is it 0")
    assert found[-1] == Row("is it", "the sky")


TABLE = "text,context,label\na,b,c\n"


def _told(usual: Columns, columns: Columns | None = None) -> tuple[list[object], list[str]]:
    remarks: list[str] = []
    Path("rows.csv").write_text(TABLE)
    rows = list(rows_to_answer("rows.csv", columns, remark=remarks.append, usual=usual))
    return rows, remarks


def test_the_columns_of_the_task_that_answers_are_read_and_no_guess(tmp_path: Path) -> None:
    with working_in(tmp_path):
        assert _told(Columns(text="text", label="label")) == ([Row("a")], [])
        assert _told(Columns(text="context", text_pair="label")) == ([Row("b", "c")], [])
        named = _told(Columns(text="text"), Columns(text="context"))
        assert named == ([Row("b")], []), "what the user names wins"


def test_a_second_text_that_is_guessed_is_told(tmp_path: Path) -> None:
    with working_in(tmp_path):
        for usual in (Columns(), Columns(text="elsewhere")):
            rows, remarks = _told(usual)
            assert rows == [Row("a", "b")]
            (said,) = remarks
            assert "'text' and 'context'" in said
            assert "--text-column text reads no second text" in said


def test_single_texts_for_a_task_of_pairs_are_told(tmp_path: Path) -> None:
    pairs = Columns(text="premise", text_pair="hypothesis")
    with working_in(tmp_path):
        rows, (said,) = _told(pairs, Columns(text="text"))
        assert rows == [Row("a")]
        assert "read as single texts, and the task was trained on pairs" in said
        for text_pair, told in (("", 1), (', "text_pair": "b"', 0)):
            Path("rows.jsonl").write_text(f'{{"text": "a"{text_pair}}}\n' * 2)
            remarks: list[str] = []
            list(rows_to_answer("rows.jsonl", remark=remarks.append, usual=pairs))
            assert len(remarks) == told
