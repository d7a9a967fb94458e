"""Multiple choice: the shapes choices come in, and the position of the right one."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from expertbank.data import Columns, TaskSpec, load_task, read_rows
from expertbank.errors import DataError
from expertbank.records import Row


def _spec(labels: tuple[str, ...] = (), columns: tuple[str, ...] = ("choices",)) -> TaskSpec:
    return TaskSpec("mine", labels=labels).with_columns(Columns("q", choices=columns, label="key"))


def _csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize(
    ("cell", "key", "labels"),
    [
        ('["x", "y"]', "1", ()),
        ('["x", "y"]', "y", ()),
        ('["x", "y"]', "B", ()),
        (' ["x", "y"]', "2", ("1", "2")),
        ('{"label": ["A", "B"], "text": ["x", "y"]}', "B", ()),
        ('[{"label": "A", "text": "x"}, {"label": "B", "text": "y"}]', "B", ()),
        ('[{"text": "x"}, {"text": "y"}]', "1", ()),
        ('["x", "y"]', "1", ("0", "1")),
    ],
)
def test_choices_in_a_csv_cell_and_in_jsonl_give_one_row(
    tmp_path: Path, cell: str, key: str, labels: tuple[str, ...]
) -> None:
    expected = [Row("c", choices=("x", "y"), label="1")]
    path = _csv(tmp_path / "a.csv", [{"q": "c", "choices": cell, "key": key}])
    assert read_rows(_spec(labels), str(path)) == expected
    lines = tmp_path / "a.jsonl"
    lines.write_text(json.dumps({"q": "c", "choices": json.loads(cell), "key": key}))
    assert read_rows(_spec(labels), str(lines)) == expected


@pytest.mark.parametrize(
    ("cell", "key", "message"),
    [
        ("x or y", "0", "must hold a list of choices"),
        ('["x", ', "0", "no valid JSON list of choices"),
        ('"x"', "0", "must hold a list of choices"),
        ('["x"]', "0", "at least two choices"),
        ('["x", " "]', "0", "none of them empty"),
        ('["x", ["y"]]', "0", "holds list, expected one text"),
        ('{"label": ["A"], "text": ["x", "y"]}', "A", "1 choice labels for 2 choices"),
        ('{"A": "x", "B": "y"}', "A", r"object with the keys 'A', 'B'; .*\{\"label\": \["),
        ('{"text": "xy"}', "0", "must hold a list of choices"),
        ('["x", "y"]', "2", "label '2' names none of .*positions count from 0"),
        ('["x", "y"]', "C", "label 'C' names none of"),
        ('["x", "y"]', "z and more", "label 'z and more' names none of"),
        ('["1", "2"]', "1", "label '1' is the text of one .*labels: .'0', '1', ….*keys"),
        ('["B", "A"]', "A", "label 'A' is the text of one .*labels: .'A', 'B', ….*keys"),
    ],
)
def test_choices_that_are_none_are_refused_by_line(
    tmp_path: Path, cell: str, key: str, message: str
) -> None:
    rows = [
        {"q": "c", "choices": '["x", "y"]', "key": "0"},
        {"q": "d", "choices": cell, "key": key},
    ]
    path = _csv(tmp_path / "a.csv", rows)
    with pytest.raises(DataError, match=rf"a\.csv:3: .*{message}") as caught:
        read_rows(_spec(), str(path))
    assert caught.value.exit_code == 2


def test_choices_of_differing_number_are_refused_by_line(tmp_path: Path) -> None:
    rows = [{"q": f"c{n}", "choices": '["x", "y"]', "key": "0"} for n in range(4)]
    odd = {"q": "d", "choices": '["x", "y", "z"]', "key": "0"}
    path = _csv(tmp_path / "train.csv", [*rows, odd])
    with pytest.raises(DataError, match=r"train\.csv:6: 3 choices where .*train\.csv:2 has 2"):
        load_task(_spec(), str(path))
    _csv(path, rows)
    _csv(tmp_path / "validation.csv", [odd])
    with pytest.raises(DataError, match=r"validation\.csv:2: 3 choices where .*train\.csv:2"):
        load_task(_spec(), str(tmp_path))


def test_positions_that_seem_to_count_from_one_are_remarked_on(tmp_path: Path) -> None:
    rows = [
        {"q": f"c{n}", "one": "x", "two": "y", "three": "z", "key": str(n % 2 + 1)}
        for n in range(10)
    ]
    path = _csv(tmp_path / "a.csv", rows)
    columns = ("one", "two", "three")
    (remark,) = load_task(_spec((), columns), str(path)).warnings
    assert "positions count from 0" in remark
    assert load_task(_spec(("1", "2", "3"), columns), str(path)).warnings == ()


@pytest.mark.parametrize(
    ("choices", "key", "labels", "right"),
    [
        (["1", "2"], "1", ("0", "1"), "1"),
        ([{"label": "x", "text": "1"}, {"label": "y", "text": "2"}], "x", (), "0"),
        (["0", "1"], "1", (), "1"),
        (["3", "2", "1"], "3", (), "0"),
    ],
    ids=["places", "keys", "both the same", "no such place"],
)
def test_numbers_as_choices_are_read_in_the_one_way_that_is_said(
    tmp_path: Path, choices: list[object], key: str, labels: tuple[str, ...], right: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"q": "c", "choices": choices, "key": key}))
    (row,) = read_rows(_spec(labels), str(path))
    assert row.label == right
