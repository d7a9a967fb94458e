"""Long lines, many rows, labels that are nearly the same, numbers: bounded or remarked on."""

from __future__ import annotations

import re
import tracemalloc
from itertools import islice, permutations
from pathlib import Path
from typing import Any

import pytest

from expertbank.data import TaskSpec, as_rows, inputs, load_task, read_rows, rows_to_answer
from expertbank.errors import DataError
from expertbank.texts import LONGEST, number_text

MINE = TaskSpec("mine")


def _write(path: Path, rows: list[tuple[Any, ...]], header: str = "text,label") -> Path:
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "start", "line"),
    [
        ("a.csv", b"text,label\na,0\n", 3),
        ("a.csv", b'text,label\na,0\n"', 3),
        ("a.jsonl", b'{"text": "a", "label": "0"}\n{"text": "', 2),
    ],
)
def test_a_line_of_100_mb_is_refused_without_being_read(
    tmp_path: Path, name: str, start: bytes, line: int
) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(start)
        for _ in range(100):
            file.write(b"x" * 1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=rf"{name}:{line}: a line of more than 10,000,000"):
            load_task(MINE, str(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000


def test_a_quote_that_is_never_closed_ends_at_the_longest_cell(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.write(b'text,label\na,0\n"open,1\n')
        for _ in range(120):
            file.write((b"y" * 99_999) + b"\n")
    with pytest.raises(DataError, match=r"a\.csv:3: malformed row \(field larger"):
        load_task(MINE, str(path))


def test_a_text_longer_than_any_line_is_refused_from_any_source(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'{"text": "' + b"x" * LONGEST + b'"}')
    (found,) = rows_to_answer(str(path))
    assert re.search(r"f\.jsonl:1: a line of more than", str(found))
    (given,) = as_rows(["x" * (LONGEST + 1)])
    assert "row 0: column 'text' holds 10,000,001 characters" in str(given)


def test_memory_stays_in_proportion_to_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raw records, rows and their normalised texts never stand in memory all at once."""
    text = "some words that make a row as long as rows are in real life, or about so; " * 6
    rows = [(f"{n} {text}".replace(",", ""), n % 3) for n in range(6_000)]
    # Every row keeps where it is from: the folder's name must not be counted six thousand times.
    monkeypatch.chdir(tmp_path)
    path = _write(Path("a.csv"), rows)
    load_task(MINE, str(path), limit=10)
    del rows
    tracemalloc.start()
    try:
        load_task(MINE, str(path), limit=10)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Twice the texts alone would be more.
    assert peak < 2 * path.stat().st_size + 6_000 * 200


def test_labels_that_differ_only_in_case_or_space_are_listed(tmp_path: Path) -> None:
    labels = ["Spam", "spam", "ham", " ham", "ok"]
    path = _write(tmp_path / "a.csv", [(f"t{n}", labels[n % 5]) for n in range(50)])
    data = load_task(MINE, str(path))
    assert len(data.labels) == 5
    ham, spam = data.warnings
    assert "' ham' (10 rows), 'ham' (10 rows)" in ham
    assert "'Spam' (10 rows), 'spam' (10 rows)" in spam
    joined = {"Spam": "spam", "spam": "spam", "ham": "ham", " ham": "ham", "ok": "ok"}
    spec = TaskSpec("mine", label_names=tuple(joined.items()))
    assert load_task(spec, str(path)).warnings == ()
    assert load_task(spec, str(path)).labels == ("spam", "ham", "ok")


def test_repeated_ids_are_remarked_on_within_a_split(tmp_path: Path) -> None:
    rows = [(n % 9, f"t{n}", n % 2) for n in range(12)]
    _write(tmp_path / "train.csv", rows, "ID,text,label")
    _write(tmp_path / "validation.csv", [(1, "v", 0), (2, "w", 1)], "ID,text,label")
    (remark,) = load_task(MINE, str(tmp_path)).warnings
    assert remark.startswith("column 'ID' repeats ids: '0' (")
    assert "train.csv:11, first" in remark


def test_many_numbers_as_labels_are_remarked_on(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", [(f"t{n}", n % 30 / 10) for n in range(90)])
    remark, unmeasured = load_task(MINE, str(path)).warnings
    assert "kind: regression" in remark
    assert unmeasured.startswith("labels without a validation row: ")
    assert load_task(TaskSpec("mine", kind="regression"), str(path)).warnings == ()


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("3.799999952316284", "3.8"), ("3.8", "3.8"), ("5", "5"), ("5.0", "5"), ("-0.0", "0"),
        ("1e3", "1e+03"), ("1000", "1e+03"), ("0.1", "0.1"), ("16777217", "16777216"),
        ("0.30000001192092896", "0.3"),
    ],
)  # fmt: skip
def test_a_target_reads_the_same_in_single_and_double_precision(raw: str, text: str) -> None:
    assert number_text(raw, "f:1") == text
    assert number_text(text, "f:1") == text


@pytest.mark.parametrize("raw", ["high", "nan", "inf", "-1e400", ""])
def test_what_is_no_number_is_no_target(tmp_path: Path, raw: str) -> None:
    with pytest.raises(DataError, match=r"f:1: label .* is not a number"):
        number_text(raw, "f:1")
    if raw and raw != "nan":
        path = _write(tmp_path / "a.csv", [("t", 1), ("u", raw)])
        with pytest.raises(DataError, match=r"a\.csv:3"):
            read_rows(TaskSpec("mine", kind="regression"), str(path))


def test_only_a_few_keys_of_a_row_are_held_against_those_that_rows_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each that is like one takes as long as a short answer does, and a caller may send many."""
    looked_at: list[str] = []
    real = inputs.get_close_matches

    def watched(name: str, *rest: object, **more: object) -> list[str]:
        looked_at.append(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(inputs, "get_close_matches", watched)
    others = {"".join(letters): 1 for letters in islice(permutations("ttepxira_"), 5000)}
    assert inputs.row_of({"text": "a film", **others}, "row 0").text == "a film"
    assert len(looked_at) <= 20
    with pytest.raises(DataError, match="did you mean 'text_pair'"):
        inputs.row_of({"text": "a film", "textpair": "b"}, "row 0")
