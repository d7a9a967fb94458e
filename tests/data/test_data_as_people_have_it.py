"""Files as spreadsheets and people write them are read right, or refused in their words."""

from __future__ import annotations

import csv
import gzip
import json
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expertbank.data import (
    BadRowsError,
    Faults,
    LengthCounter,
    ReadAs,
    TaskSpec,
    check_task,
    find_rows,
    load_task,
    read_rows,
    rows_to_answer,
    task_spec,
)
from expertbank.data.formats import Record
from expertbank.data.formats.json_rows import read_array
from expertbank.data.splits import take_of_each
from expertbank.errors import DataError, InputError, SourceUnavailableError
from expertbank.records import Row
from expertbank.texts import is_blank

MINE = TaskSpec("mine")
ROWS = [(f"text number {n}", "ab"[n % 2]) for n in range(20)]


def cells(rows: list[tuple[str, ...]], separator: str = ",", header: str = "text,label") -> str:
    lines = [header.replace(",", separator), *(separator.join(row) for row in rows)]
    return "\n".join(lines) + "\n"


def read(path: Path, spec: TaskSpec = MINE) -> list[tuple[str, str | None]]:
    return [(row.text, row.label) for row in read_rows(spec, str(path))]


def test_every_format_packed_or_not_and_piped_gives_the_same_rows(tmp_path: Path) -> None:
    objects = [{"text": text, "label": label} for text, label in ROWS]
    plain = {
        "a.csv": cells(ROWS),
        "a.tsv": cells(ROWS, "\t"),
        "semi.csv": cells(ROWS, ";"),
        "pipe.csv": cells(ROWS, "|"),
        "tab.csv": cells(ROWS, "\t"),
        "declared.csv": "sep=;\r\n" + cells(ROWS, ";"),
        "a.jsonl": "".join(json.dumps(one) + "\n" for one in objects),
        "a.ndjson": "\n\n".join(map(json.dumps, objects)),
        "a.json": json.dumps(objects),
        "pretty.json": json.dumps(objects, indent=2),
        "lines.json": "".join(json.dumps(one) + "\n" for one in objects),
    }
    for name, content in plain.items():
        for data, suffix in ((content.encode(), ""), (gzip.compress(content.encode()), ".gz")):
            path = tmp_path / (name + suffix)
            path.write_bytes(data)
            assert read(path) == ROWS, path.name
            assert _through_a_pipe(tmp_path / "fifo", data) == ROWS, path.name
    misnamed = tmp_path / "packed-but-not-named-so.csv"
    misnamed.write_bytes(gzip.compress(plain["a.csv"].encode()))
    assert read(misnamed) == ROWS


def _through_a_pipe(path: Path, data: bytes) -> list[tuple[str, str | None]]:
    if not path.exists():
        os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    try:
        return read(path)
    finally:
        writer.join()


def test_what_came_through_a_pipe_is_known_to_be_gone(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(cells(ROWS).encode(),))
    writer.start()
    data = load_task(MINE, str(path))
    writer.join()
    with pytest.raises(SourceUnavailableError, match="which cannot be read again"):
        find_rows(data.spec, data.source, ["x"])


@pytest.mark.parametrize("name", ["data[1]", "a*", "b?", "{c}", "d%20", "e'f", "-g", "h i", "~j"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_path_is_a_path_and_no_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, suffix: str
) -> None:
    pandas = pytest.importorskip("pandas")
    write: dict[str, Callable[[Any, Path], Any]] = {
        ".csv": lambda frame, path: frame.to_csv(path, index=False),
        ".jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
        ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
    }
    right = pandas.DataFrame(ROWS, columns=["text", "label"])
    wrong = pandas.DataFrame([("wrong", "x"), ("rows", "y")], columns=["text", "label"])
    for other in ("data1", "abc", "bb", "c", "d ", "ef", "g", "hi"):
        write[suffix](wrong, tmp_path / (other + suffix))
    write[suffix](right, tmp_path / (name + suffix))
    assert read(tmp_path / (name + suffix)) == ROWS
    monkeypatch.chdir(tmp_path)
    found = read_rows(MINE, f"./{name}{suffix}")
    assert [row.text for row in found] == [text for text, _ in ROWS]


def test_the_exact_name_of_a_column_wins_over_one_in_other_case(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(cells([(text, label, "no") for text, label in ROWS], header="text,label,Text"))
    assert read(path) == ROWS
    path.write_text(cells([(text, label, "no") for text, label in ROWS], header="TEXT,label,Text"))
    with pytest.raises(DataError, match=r"'TEXT' and 'Text' could both be the text.*--text-column"):
        load_task(MINE, str(path))
    path.write_text(cells(ROWS, header="Text,label"))
    with pytest.raises(DataError, match=r"no column 'text'.*did you mean 'Text'"):
        load_task(task_spec("mine", text_column="text"), str(path))


def test_blanks_around_a_headers_names_are_none_of_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(cells(ROWS, header=" text , label "))
    assert [label for _, label in read(path)] == [label for _, label in ROWS]
    assert read(path, task_spec("mine", label_column=" label ")) == ROWS


def test_class_numbers_that_have_names_are_read_by_name(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"text": [text for text, _ in ROWS], "label": [n % 2 for n in range(20)]}
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    path = tmp_path / "a.parquet"
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    data = load_task(MINE, str(path))
    assert data.labels == ("neg", "pos")
    wanted = [row.digest for row in data.validation]
    assert set(find_rows(data.spec, data.source, wanted)) == set(wanted)
    # A task that knows the numbers as they stand goes on with them.
    before = TaskSpec("mine", labels=("0", "1"))
    assert load_task(before, str(path)).labels == ("0", "1")
    named = TaskSpec("mine", labels=("no", "yes"), label_names=(("0", "no"), ("1", "yes")))
    assert {row.label for row in read_rows(named, str(path))} == {"no", "yes"}


def test_lists_of_named_classes_are_read_by_name(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    classes = datasets.ClassLabel(names=["late", "rude", "lost"])
    features = datasets.Features({"text": datasets.Value("string"), "label": [classes]})
    rows = {"text": [f"t{n}" for n in range(6)], "label": [[n % 3, (n + 1) % 3] for n in range(6)]}
    path = tmp_path / "a.parquet"
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    found = read_rows(TaskSpec("mine", kind="multi_label"), str(path))
    assert found[0].label == '["late","rude"]'


@pytest.mark.parametrize("several", [False, True])
def test_a_class_that_the_task_does_not_know_is_refused_by_its_name(
    tmp_path: Path, several: bool
) -> None:
    datasets = pytest.importorskip("datasets")
    stars = datasets.ClassLabel(names=["1", "2", "3", "4"])
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": [stars] if several else stars}
    )
    rows = {"text": [f"t{n}" for n in range(4)], "label": [[n] if several else n for n in range(4)]}
    path = tmp_path / "a.parquet"
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    known = TaskSpec("mine", "multi_label" if several else "", labels=("1", "2", "3"))
    faults = Faults()
    found = [row.label for row in read_rows(known, str(path), faults=faults)]
    assert found == (['["1"]', '["2"]', '["3"]'] if several else ["1", "2", "3"])
    assert "a.parquet:4: unknown label '4'" in faults.first["unknown label"][0]


def test_classes_with_other_names_here_are_read_by_the_names_that_the_data_has(
    tmp_path: Path,
) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    path = tmp_path / "a.parquet"
    rows = {"text": ["a", "b"], "label": [0, 1]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    shown = TaskSpec("mine", labels=("bad", "good"), label_names=(("neg", "bad"), ("pos", "good")))
    assert [row.label for row in read_rows(shown, str(path))] == ["bad", "good"]


@pytest.mark.parametrize("label", ["0e99999999999999999999", "1e-99999999999999999999"])
def test_a_label_with_an_endless_exponent_is_one(tmp_path: Path, label: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(cells([(text, label if one == "a" else "0") for text, one in ROWS]))
    data = load_task(MINE, str(path))
    assert any("look or mean the same" in one for one in data.warnings)


@pytest.mark.parametrize(
    ("one", "other"),
    [("0", "0.0"), ("spam", "spam\u200b"), ("é", "e\u0301"), ("ab", "a\u00adb"), ("1", "\uff11"),
     ("a b", "a\u00a0b"), ("Yes", "yes"), ("1e3", "1000")],
)  # fmt: skip
def test_labels_that_look_or_mean_the_same_are_remarked_on(
    tmp_path: Path, one: str, other: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(
            json.dumps({"text": f"t{n}", "label": [one, other, "else"][n % 3]}) + "\n"
            for n in range(60)
        )
    )
    assert any("look or mean the same" in remark for remark in load_task(MINE, str(path)).warnings)


@pytest.mark.parametrize("codes", [("30192000", "30192001"), ("0.1", "0.2"), ("1e38", "1.1e38")])
def test_codes_that_differ_are_never_said_to_be_the_same(
    tmp_path: Path, codes: tuple[str, str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"t{n},{codes[n % 2]}\n" for n in range(60)))
    assert load_task(MINE, str(path)).warnings == ()


def test_the_numbers_zero_of_json_are_remarked_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [f'{{"text": "t{n}", "label": {["0", "0.0", "1"][n % 3]}}}' for n in range(60)]
    path.write_text("\n".join(lines))
    assert any("'0' (20 rows), '0.0' (20" in one for one in load_task(MINE, str(path)).warnings)


@pytest.mark.parametrize("blank", ["  ", "\t", "\u00a0", "\u200b", "\u200b \ufeff"])
@pytest.mark.parametrize("column", ["text", "label"])
def test_what_cannot_be_seen_is_no_label_and_no_text(
    tmp_path: Path, blank: str, column: str
) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"text": text, "label": label} for text, label in ROWS]
    rows[3][column] = blank
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"a\.jsonl:4: (no label|the text .* is empty)"):
        load_task(MINE, str(path))


def test_joined_files_do_not_make_a_class_of_their_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(cells(ROWS[:10]) + "\ufeff" + cells(ROWS[10:]), encoding="utf-8")
    data = load_task(MINE, str(path))
    assert data.labels == ("a", "b")
    assert any("1 row left out, repeating the header (line 12)" in one for one in data.warnings)
    path.write_text(cells(ROWS) + cells([(b, a) for a, b in ROWS], header="label,text"))
    with pytest.raises(DataError, match=r"a\.csv:22: the header again, in another order"):
        load_task(MINE, str(path))


def test_what_a_spreadsheet_adds_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = ["text,label,,", *(f"{text},{label},,note" for text, label in ROWS)]
    lines[4:4] = [",,,", " , ,,"]
    path.write_text("\r\n".join([*lines, *[",,,"] * 3, ""]))
    assert read(path) == ROWS
    warnings = load_task(MINE, str(path)).warnings
    assert any("5 rows left out, holding nothing (line 5, 6, 24, 25, 26)" in w for w in warnings)
    path.write_text("\n,,,\n\n" + "\n".join(lines))
    assert read(path) == ROWS, "blank rows above the header"
    # A row may end in blanks that the header does not have, and in nothing else.
    path.write_text(cells([*ROWS, ("x", "a", ""), ("y", "b", " ", "")]))
    assert len(read(path)) == 22
    path.write_text(cells([*ROWS, ("x", "y", "a")]))
    with pytest.raises(DataError, match=r"a\.csv:22: 3 cells where the header has 2"):
        load_task(MINE, str(path))


@pytest.mark.parametrize(
    ("encoding", "wish"),
    [("cp1252", "cp1252"), ("latin-1", "ISO-8859-1"), ("utf-16", None), ("utf-16", "utf-16"),
     ("utf-8-sig", None), ("shift_jis", "shift_jis"), ("utf-32", "utf-32")],
)  # fmt: skip
def test_an_encoding_is_recognised_by_its_mark_or_named(
    tmp_path: Path, encoding: str, wish: str | None
) -> None:
    word = "日本" if encoding == "shift_jis" else "naïve"
    rows = [(f"{word} {n}", "ab"[n % 2]) for n in range(20)]
    path = tmp_path / "a.csv"
    path.write_bytes(cells(rows, ";").encode(encoding))
    assert read(path, TaskSpec("mine", read_as=ReadAs(encoding=wish))) == rows


def test_bytes_of_another_encoding_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(cells([*ROWS, ("café", "a"), ("crème", "b")]).encode("cp1252"))
    with pytest.raises(DataError, match=r"a\.csv:22: not valid UTF-8.*--encoding cp1252.* 1 more"):
        load_task(MINE, str(path))
    with pytest.raises(DataError, match=r"a\.csv:22: not valid ascii.*another --encoding"):
        load_task(TaskSpec("mine", read_as=ReadAs(encoding="ascii")), str(path))


@pytest.mark.parametrize("separator", ["ab", "", '"', "\n", "x", "7"])
def test_a_separator_is_one_character_between_cells(separator: str) -> None:
    with pytest.raises(InputError, match="a separator is one character"):
        ReadAs(separator=separator)


def test_the_named_separator_decides(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(cells([("a; b; c", "x;y"), ("d;e", "z;")], "^"))
    with pytest.raises(DataError, match="no column with a known name"):
        load_task(MINE, str(path))
    spec = TaskSpec("mine", read_as=ReadAs(separator="^"))
    assert read(path, spec) == [("a; b; c", "x;y"), ("d;e", "z;")]
    assert TaskSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_commas_in_texts_do_not_hide_another_separator(tmp_path: Path, separator: str) -> None:
    rows = [(f"one, two, {n}, and so on", "ab"[n % 2]) for n in range(20)]
    path = tmp_path / "a.csv"
    path.write_text(cells(rows, separator))
    data = load_task(MINE, str(path))
    assert read(path) == rows
    assert data.files[0].separator == separator
    assert "separated by" in data.files[0].in_words()


def test_hidden_files_and_those_of_systems_are_no_texts(tmp_path: Path) -> None:
    for label in ("spam", "ham", ".hidden", "__MACOSX"):
        (tmp_path / label).mkdir()
        for n in range(5):
            (tmp_path / label / f"{n}.txt").write_text(f"{label} {n}")
    (tmp_path / "spam" / "._0.txt").write_bytes(b"\0\0Mac OS X")
    (tmp_path / "spam" / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "ham" / "notes.md").write_text("left out with a word")
    data = load_task(MINE, str(tmp_path))
    assert data.labels == ("ham", "spam")
    assert data.counts["read"] == 10
    assert any("ham/notes.md" in remark for remark in data.warnings)


def test_files_of_a_folder_that_take_no_part_are_named(tmp_path: Path) -> None:
    for name in ("train.csv", "validation.csv", "extra.csv"):
        (tmp_path / name).write_text(cells([(f"{name} {text}", label) for text, label in ROWS]))
    remarks = load_task(MINE, str(tmp_path)).warnings
    assert any(remark.endswith("validation rows: extra.csv") for remark in remarks)


@pytest.mark.parametrize("sign", [",", ";", "|"])
def test_several_labels_in_one_cell_point_to_multi_label(tmp_path: Path, sign: str) -> None:
    labels = ["billing", "urgent", f"billing{sign}urgent"]
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"t{n}", "label": labels[n % 3]}) + "\n" for n in range(60))
    )
    (remark,) = load_task(MINE, str(path)).warnings
    assert f"--kind multi_label --label-separator {sign!r}" in remark
    lists = [json.dumps({"text": f"t{n}", "label": ["a", "b"]}) for n in range(9)]
    path.write_text("\n".join(lists))
    with pytest.raises(DataError, match="--kind multi_label"):
        load_task(MINE, str(path))


@pytest.mark.parametrize("key", ["text", "label"])
def test_a_key_that_stands_twice_is_refused_where_it_is_read(tmp_path: Path, key: str) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": text, "label": label, "note": 1}) for text, label in ROWS]
    lines[4] = lines[4].replace('"note": 1', '"note": 1, "note": 2')
    path.write_text("\n".join(lines))
    assert read(path) == ROWS
    lines[6] = lines[6].replace('"note": 1', f'"{key}": "b"')
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"a\.jsonl:7: key '{key}' stands twice"):
        load_task(MINE, str(path))
    twice = tmp_path / "b.jsonl"
    twice.write_text('{"text": "a", "text": "b"}\n')
    (bad,) = rows_to_answer(str(twice))
    assert "stands twice" in str(bad)


def test_columns_that_nobody_reads_stop_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label,,\n" + "\n".join(map(",".join, ROWS)))
    assert read(path) == ROWS, "unnamed columns whose rows end early"
    for twice in ("n", "id"):
        header = f"text,label,{twice},{twice},"
        path.write_text(cells([(a, b, "x", "y", "") for a, b in ROWS], header=header))
        assert read(path) == ROWS
    path.write_text(cells([(a, b, "x", "y", "") for a, b in ROWS], header="text,label,n,n,"))
    with pytest.raises(DataError, match=r"columns are repeated: \['n'\]"):
        load_task(task_spec("mine", text_column="n"), str(path))
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table(
        {
            "text": [a for a, _ in ROWS],
            "label": [b for _, b in ROWS],
            "odd": pyarrow.array([None] * 20, pyarrow.month_day_nano_interval()),
            "text.x": ["no"] * 20,
        }
    )
    pytest.importorskip("pyarrow.parquet").write_table(table.drop(["odd"]), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ROWS


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04....", "an Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel workbook"),
        (b"BZh91AY", "packed with bzip2"),
        (b"ARROW1\0\0", "an Arrow file"),
        (gzip.compress(cells(ROWS).encode(), mtime=0)[:40], "damaged gzip"),
        (gzip.compress(b"x" * 5000, mtime=0)[:-4] + b"1234", "damaged gzip"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(
    tmp_path: Path, content: bytes, what: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=what):
        load_task(MINE, str(path))


def test_a_database_is_called_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with sqlite3.connect(path) as database:
        database.execute("create table t (text)")
    with pytest.raises(DataError, match="a SQLite database"):
        load_task(MINE, str(path))


def test_all_bad_rows_are_told_of_by_kind_with_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows: list[tuple[str, ...]] = [*ROWS, ("no label", ""), ("", "a"), ("a", "b", "c")]
    path.write_text(cells(rows + [("again", "")] * 300))
    with pytest.raises(BadRowsError) as caught:
        load_task(MINE, str(path))
    told = str(caught.value).splitlines()
    assert told[0].startswith(f"{path}:22: no label")
    assert told[0].endswith("(and 300 more such rows)")
    assert told[1].startswith(f"{path}:23: the text")
    assert told[2].startswith(f"{path}:24: 3 cells")
    faults = caught.value.faults
    assert faults.counts == Counter({"no label": 301, "empty text": 1, "cells": 1})
    assert [len(messages) for messages in faults.first.values()] == [100, 1, 1]
    found = check_task(MINE, str(path), _tokens(lambda text: [len(text)]))
    assert found.bad == faults
    assert found.data.counts["read"] == 20
    assert found.to_dict()["bad_rows"][0]["rows"] == 301


def _tokens(of: Callable[[str], list[int]]) -> LengthCounter:
    return LengthCounter("tokens", lambda texts: [of(text) for text, _ in texts])


def test_texts_that_become_the_same_tokens_are_remarked_on(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(cells([(chr(0x1F600 + n), "ab"[n % 2]) for n in range(20)]))
    found = check_task(MINE, str(path), _tokens(lambda _: [1, 0, 2]))
    (same,) = (one for one in found.warnings if "20 of 20 rows become the same tokens" in one)
    assert "drops or does not know what tells them apart, such as accents or emoji" in same
    other = check_task(MINE, str(path), _tokens(lambda text: [1, ord(text), 2]))
    assert not any("same tokens" in one for one in other.warnings)


def test_contradicting_texts_and_rows_left_out_are_remarked_on(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    contradicting = [(f"same {n}", label) for n in range(5) for label in "ab"]
    path.write_text(cells([*ROWS, *contradicting, ROWS[0], ROWS[1]]))
    remarks = load_task(MINE, str(path)).warnings
    assert any("10 rows contradict each other: 5 texts" in remark for remark in remarks)
    assert any("2 rows that repeat another one left out" in remark for remark in remarks)
    path.write_text(cells([*ROWS, *contradicting[:2]]))
    remarks = load_task(MINE, str(path)).warnings
    assert any("2 rows contradict each other: 1 text stands with" in remark for remark in remarks)
    values = cells([(text, str(n)) for n, (text, _) in enumerate(ROWS + ROWS)])
    path.write_text(values)
    assert load_task(TaskSpec("mine", kind="regression"), str(path)).warnings == ()


def test_a_limit_leaves_every_class_a_training_row(tmp_path: Path) -> None:
    rows = [(f"t{n}", "ab"[n % 2]) for n in range(640)] + [(f"rare {n}", "c") for n in range(3)]
    path = tmp_path / "a.csv"
    path.write_text(cells(rows))
    for seed in range(10):
        data = load_task(MINE, str(path), limit=20, seed=seed)
        assert {row.label for row in data.train} == {"a", "b", "c"}
        assert len(data.train) == 20
    spec = TaskSpec("mine", labels=("a", "b", "c", "never"))
    remarks = load_task(spec, str(path), limit=20).warnings
    assert any(one.startswith("labels without a training row: 'never'") for one in remarks)


def test_a_decimal_comma_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(cells([(f"t{n}", f"{n},5") for n in range(9)], ";"))
    with pytest.raises(DataError, match="write the decimal comma as a point"):
        load_task(TaskSpec("mine", kind="regression"), str(path))


def test_an_array_tells_the_line_of_a_bad_object(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n {"text": "a",\n  "label": "x"},\n {"text": "b"},\n 7\n]\n')
    with pytest.raises(BadRowsError) as caught:
        load_task(MINE, str(path))
    told = str(caught.value)
    assert f"{path}:4: no label" in told
    assert f"{path}:5: expected a JSON object" in told
    for broken in ('[{"text": "a"}', '[{"text": "a"},]', '[{"text": "a"}] x', "[", '[{"a": 1} 2]'):
        path.write_text(broken)
        with pytest.raises(DataError, match=r"a\.json:1: .*not valid JSON"):
            load_task(MINE, str(path))


def test_what_was_trained_on_can_be_answered(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("question;passage;answer\nwhy;because;yes\nhow;so;no\n")
    assert list(rows_to_answer(str(path))) == [Row("why", "because"), Row("how", "so")]
    spec = task_spec("mine", text_column="passage")
    assert list(rows_to_answer(str(path), spec.columns)) == [Row("because"), Row("so")]
    path.write_text("")
    assert list(rows_to_answer(str(path))) == []
    noted = Faults()
    assert read_rows(MINE, str(_bad(tmp_path)), faults=noted) == [Row("x", label="a")]
    assert noted.rows == 1


def _bad(folder: Path) -> Path:
    path = folder / "bad.csv"
    path.write_text("text,label\nx,a\ny,\n")
    return path


CELLS = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('\n\t;,|"'), min_size=1
).filter(lambda text: not is_blank(text))


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, st.sampled_from(["x", "y;", "z,", "w|"])), min_size=1),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    end=st.sampled_from(["\n", "\r\n"]),
    everything=st.booleans(),
)
def test_whatever_a_csv_writer_writes_is_read_back(
    rows: list[tuple[str, str]], separator: str, end: str, everything: bool
) -> None:
    rows = [row for row in rows if sorted(cell.strip() for cell in row) != ["label", "text"]]
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        with path.open("w", encoding="utf-8", newline="") as file:
            quoting = csv.QUOTE_ALL if everything else csv.QUOTE_MINIMAL
            writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)
            writer.writerow(["text", "label"])
            writer.writerows(rows)
        if rows:
            assert read(path, TaskSpec("mine", read_as=ReadAs(separator=separator))) == rows
            assert read(path) == rows, "recognised"


@settings(max_examples=150, deadline=None)
@given(
    objects=st.lists(
        st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.text(max_size=5)),
        min_size=1,
    ),
    indent=st.sampled_from([None, 0, 2]),
    plain=st.booleans(),
)
def test_an_array_is_what_the_json_library_reads(
    objects: list[dict[str, Any]], indent: int | None, plain: bool
) -> None:
    text = json.dumps(objects, indent=indent, ensure_ascii=plain)
    found = list(read_array(text, "a"))
    assert [record.values for record in found if isinstance(record, Record)] == json.loads(text)
    if plain and indent is not None:
        for record in found:
            assert isinstance(record, Record)
            line = int(record.origin.partition(":")[2])
            assert text.splitlines()[line - 1].lstrip().startswith("{")


def test_an_array_on_one_long_line_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    objects = [{"text": f"{n} " + "word " * 60_000, "label": "ab"[n % 2]} for n in range(40)]
    path.write_text(json.dumps(objects))
    assert path.stat().st_size > 11_000_000
    assert [text[:2] for text, _ in read(path)][:3] == ["0 ", "1 ", "2 "]


def test_an_array_that_breaks_off_is_never_taken_for_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"text": "a"}, {"text": "b"} {"text": "c"}]')
    with pytest.raises(DataError, match=r"a comma .* is missing; nothing after it was read"):
        list(rows_to_answer(str(path)))


def test_a_limit_below_the_classes_takes_no_longer_for_it() -> None:
    rows = [Row(f"t{n}", label=str(n % 3000)) for n in range(20_000)]
    looked: list[Row] = []

    def classes(row: Row) -> list[str]:
        looked.append(row)
        return [row.label or ""]

    for limit in (500, 2000, 4000):
        looked.clear()
        assert len(take_of_each(rows, limit, 0, classes)) == limit
        assert len(looked) < 3 * len(rows)
    assert len({row.label for row in take_of_each(rows, 4000, 0, classes)}) == 3000


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("width", ["16", "32"])
def test_one_bad_line_of_a_wide_encoding_is_one_bad_row(
    tmp_path: Path, width: str, order: str
) -> None:
    path = tmp_path / "a.csv"
    rows = [(f"中文 {text}", label) for text, label in ROWS]
    encoding = f"utf-{width}-{order}"
    data = ("\ufeff" + cells(rows)).encode(encoding)
    path.write_bytes(data)
    assert read(path) == rows
    lone = b"\x00\xd8" if order == "le" else b"\xd8\x00"
    bad = lone if width == "16" else (lone + b"\0\0" if order == "le" else b"\0\0" + lone)
    path.write_bytes(data + bad + ",a\n".encode(encoding) + "last,b\n".encode(encoding))
    with pytest.raises(DataError, match=rf"a\.csv:22: not valid {encoding}") as caught:
        load_task(MINE, str(path))
    assert isinstance(caught.value, BadRowsError)
    assert caught.value.faults.rows == 1


def test_what_beside_the_data_takes_no_part_is_named(tmp_path: Path) -> None:
    (tmp_path / "pos").mkdir()
    (tmp_path / "pos" / "1.txt").write_text("left out")
    for name in ("train.xlsx", "more.csv.zip", "README.md"):
        (tmp_path / name).write_text("no data")
    (tmp_path / "train.csv").write_text(cells(ROWS))
    remarks = load_task(MINE, str(tmp_path)).warnings
    assert any(one.endswith("rows: more.csv.zip, pos, train.xlsx") for one in remarks)


def test_a_class_of_no_class_is_no_label(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"text": [text for text, _ in ROWS], "label": [n % 2 for n in range(19)] + [-1]}
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    path = tmp_path / "a.parquet"
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    with pytest.raises(DataError, match=r"a\.parquet:20: no label"):
        load_task(MINE, str(path))
    dropping = TaskSpec("mine", drop_labels=(None,))
    assert load_task(dropping, str(path)).counts["dropped_unlabelled"] == 1


@pytest.mark.parametrize("closed", [6, 7, 8, 12])
def test_a_quote_that_swallows_rows_is_remarked_on(tmp_path: Path, closed: int) -> None:
    path = tmp_path / "a.tsv"
    lines = ["text\tlabel", *(f"{text}\t{label}" for text, label in ROWS)]
    lines[5], lines[closed] = '"an opening quote\ta', 'a closing one"\tb'
    path.write_text("\n".join(lines))
    assert any(
        "is a quote in it never closed?" in one for one in load_task(MINE, str(path)).warnings
    )


def test_commas_and_line_breaks_of_prose_are_no_swallowed_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    prose = [(f'"Dear all, {text}\nand, well,\nso long"', label) for text, label in ROWS]
    path.write_text(cells(prose))
    assert not any("never closed" in one for one in load_task(MINE, str(path)).warnings)


def test_a_quote_that_is_never_closed_is_no_row_to_skip(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\none,a\n"two,b\nthree,a\n')
    with pytest.raises(DataError, match=r"a\.csv:3: malformed row .*; nothing after it was read"):
        list(rows_to_answer(str(path), refuse=False))


def test_blanks_behind_separators_belong_to_no_cell(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text, label\n"one, two", a\nthree, b\n')
    assert read(path) == [("one, two", "a"), ("three", "b")]


def test_a_header_in_other_case_and_a_second_mark_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(cells(ROWS) + cells(ROWS, header="Text,Label"))
    assert len(read(path)) == 40
    lines = "".join(json.dumps({"text": t, "label": x}) + "\n" for t, x in ROWS)
    path = tmp_path / "b.jsonl"
    path.write_text(lines + "\ufeff" + lines, encoding="utf-8")
    assert len(read(path)) == 40


def test_a_pipe_is_told_by_its_first_line_that_is_not_blank(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    objects = "".join(json.dumps({"text": t, "label": x}) + "\n" for t, x in ROWS)
    for data in (
        b"\n\n" + cells(ROWS, ";").encode(),
        objects.encode("utf-16"),
        b"\n \n" + objects.encode(),
        ("\n" + json.dumps([{"text": t, "label": x} for t, x in ROWS])).encode("utf-16"),
    ):
        assert _through_a_pipe(fifo, data) == ROWS
    plain = tmp_path / "without-a-suffix"
    plain.write_text(cells(ROWS, ";"))
    assert read(plain) == ROWS
    plain.write_text("\n\n" + cells([*ROWS, ("x", "")]))
    with pytest.raises(DataError, match="suffix:24: no label"):
        load_task(MINE, str(plain))


@pytest.mark.parametrize("name", ["rot13", "hex", "base64", "zip", "bz2"])
def test_what_makes_no_text_of_bytes_is_no_encoding(name: str) -> None:
    with pytest.raises(InputError, match="no text encoding is called"):
        ReadAs(encoding=name)


def test_what_is_not_read_of_rows_to_answer_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "hypothesis": "b"}\n')
    assert list(rows_to_answer(str(path), remark=told.append)) == [Row("a")]
    assert "--pair-column hypothesis" in told[0]
    columns = task_spec("mine", pair_column="hypothesis").columns
    assert list(rows_to_answer(str(path), columns)) == [Row("a", "b")]
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,x\n,\ntext,label\nb,y\n")
    assert len(list(rows_to_answer(str(path), remark=told.append))) == 2
    assert "1 row left out, holding nothing (line 3)" in told[1]


def test_a_saved_dataset_is_told_how_to_be_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    one = datasets.Dataset.from_dict({"text": [t for t, _ in ROWS], "label": [b for _, b in ROWS]})
    one.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict(train=one, test=one).save_to_disk(str(tmp_path / "all"))
    for folder, what in (("one", ""), ("all", r'\["train"\]'), ("all/train", "")):
        with pytest.raises(InputError, match=rf'save_to_disk.* dataset{what}\.to_parquet\("train'):
            load_task(MINE, str(tmp_path / folder))
    (shard,) = (tmp_path / "one").glob("*.arrow")
    shard.rename(tmp_path / "shard.csv")
    with pytest.raises(DataError, match="this is an Arrow file; save it as Parquet"):
        load_task(MINE, str(tmp_path / "shard.csv"))


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.xlsx", "Excel workbook.*as CSV"), ("a.arrow", "Arrow.*Parquet"), ("a.xz", "xz; unpack"),
     ("a.feather", "Arrow.*Parquet"), ("a.csv.bz2", "bzip2; unpack"), ("a.zst", "zstd; unpack")],
)  # fmt: skip
def test_a_name_that_tells_of_another_format_says_what_to_do(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / name).write_text(cells(ROWS))
    with pytest.raises(InputError, match=rf"{name}: by its name this is .*{message}"):
        load_task(MINE, str(tmp_path / name))


def test_rows_one_folder_deeper_are_read_or_told_of(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("no data")
    (tmp_path / "dataset_infos.json").write_text("{}")
    (tmp_path / "data").mkdir()
    for part, rows in (("train", ROWS[:15]), ("validation", ROWS[15:])):
        (tmp_path / "data" / f"{part}-00000-of-00001.csv").write_text(cells(rows))
    data = load_task(MINE, str(tmp_path))
    assert (data.counts["train"], data.counts["validation"]) == (15, 5)
    assert not any("left out" in one for one in data.warnings)
    wanted = [row.digest for row in data.train]
    assert set(find_rows(data.spec, data.source, wanted)) == set(wanted)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "train.csv").write_text(cells(ROWS))
    with pytest.raises(InputError, match=r"deeper, in data, more; name one of .*such as .*/data$"):
        load_task(MINE, str(tmp_path))


@pytest.mark.parametrize("indent", [1, 4])
def test_rows_within_an_indented_object_are_one_fault(tmp_path: Path, indent: int) -> None:
    path = tmp_path / "a.json"
    rows = [{"text": text, "label": label} for text, label in ROWS]
    path.write_text(json.dumps({"data": rows}, indent=indent))
    with pytest.raises(DataError, match="the first object goes on over several lines") as refused:
        load_task(MINE, str(path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [("caf\u00e9", "cafe\u0301"), ("spam", "sp\u200bam"), ("spam", "sp\u00adam"),
     ("spam", "\ufeffspam"), ("spam", "\uff53\uff50\uff41\uff4d")],
)  # fmt: skip
def test_copies_that_look_the_same_never_stand_on_both_sides(
    tmp_path: Path, one: str, other: str
) -> None:
    path = tmp_path / "a.jsonl"
    texts = [f"{word} number {n}" for n in range(60) for word in (one, other)]
    path.write_text(
        "".join(
            json.dumps({"text": text, "label": "ab"[n // 2 % 2]}) + "\n"
            for n, text in enumerate(texts)
        )
    )
    data = load_task(MINE, str(path))
    parts = (data.train, data.validation)
    sides = [{row.text.rpartition(" ")[2] for row in part} for part in parts]
    assert not sides[0] & sides[1]
    assert sum(map(len, sides)) == 60


def test_a_label_of_validation_alone_is_a_fault_of_each_of_its_rows(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(cells(ROWS))
    (tmp_path / "validation.csv").write_text(cells([("x", "a"), ("y", "new"), ("z", "new")]))
    with pytest.raises(DataError, match=r"validation\.csv:3: .*'new'.*add training rows.*drop_la"):
        load_task(MINE, str(tmp_path))
    words_of = LengthCounter("words", lambda texts: [text.split() for text, _ in texts])
    found = check_task(MINE, str(tmp_path), words_of)
    assert found.bad.to_list()[0]["rows"] == 2
    (tmp_path / "validation.csv").write_text(cells([("y", "new")]))
    with pytest.raises(BadRowsError, match=r"without them: .*no validation rows with a label of"):
        check_task(MINE, str(tmp_path), words_of)


def test_an_underscore_makes_no_number(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(cells([(text, f"1_{n}") for n, (text, _) in enumerate(ROWS)]))
    with pytest.raises(DataError, match="label '1_0' is not a number"):
        load_task(TaskSpec("mine", "regression"), str(path))


def test_a_number_that_is_written_otherwise_than_the_known_label_is_offered_that(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(cells([("x", "2.0")]))
    with pytest.raises(DataError, match=r"unknown label '2\.0'; .*did you mean '2'\?"):
        read_rows(TaskSpec("mine", labels=("1", "2", "2.01")), str(path))


@pytest.mark.parametrize(("kind", "what"), [("generation", "answer"), ("regression", "value")])
def test_a_list_where_a_kind_has_one_answer_is_not_sent_to_several_labels(
    tmp_path: Path, kind: str, what: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "x", "label": ["1", "2"]}) + "\n")
    with pytest.raises(DataError, match=f"list of {what}s, expected one; keep one {what}") as said:
        read_rows(TaskSpec("mine", kind), str(path))
    assert "multi_label" not in str(said.value)
