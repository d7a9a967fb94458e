"""A folder with one file of rows for each label: the file's name is the label."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from expertbank.data import TaskSpec, load_task
from expertbank.errors import DataError, InputError


def _spec(folder: Path, **more: object) -> TaskSpec:
    source = {"name": "mine", "ref": str(folder), "label_from_file": True, **more}
    columns = {"text": "question", "label": "label"}
    return TaskSpec.from_dict({"name": "subject", "columns": columns, "sources": [source]})


def _write(path: Path, *texts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f'{{"question": "{text}"}}\n' for text in texts))


def test_every_row_has_the_name_of_its_file_as_label_and_splits_stay_apart(tmp_path: Path) -> None:
    for part in ("old", "new"):
        _write(tmp_path / part / "Law.jsonl", f"{part} tax", f"{part} vote")
        _write(tmp_path / part / "Sport.jsonl", f"{part} goal")
    data = load_task(_spec(tmp_path, train_split="old", validation_split="new"))
    assert {(row.text, row.label) for row in data.train} == {
        ("old tax", "Law"),
        ("old vote", "Law"),
        ("old goal", "Sport"),
    }
    assert {row.label for row in data.validation} == {"Law", "Sport"}
    assert all(row.text.startswith("new") for row in data.validation)


def test_without_splits_all_files_are_split_by_rows(tmp_path: Path) -> None:
    for name in ("Law", "Sport"):
        _write(tmp_path / f"{name}.jsonl", *(f"{name} {number}" for number in range(10)))
    data = load_task(_spec(tmp_path))
    assert len(data.train) + len(data.validation) == 20
    assert all(row.text.startswith(row.label) for row in (*data.train, *data.validation))


def test_a_label_keeps_its_dots_and_two_files_are_two_labels(tmp_path: Path) -> None:
    for name in ("node.js", "node.py"):
        _write(tmp_path / f"{name}.jsonl", *(f"{name} {number}" for number in range(10)))
    assert load_task(_spec(tmp_path)).labels == ("node.js", "node.py")


def test_what_packs_a_file_is_no_part_of_its_label(tmp_path: Path) -> None:
    for name in ("law", "sport"):
        text = "".join(f'{{"question": "{name} {number}"}}\n' for number in range(10))
        (tmp_path / f"{name}.v1.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    assert load_task(_spec(tmp_path)).labels == ("law.v1", "sport.v1")


def test_two_files_that_would_have_one_label_are_not_merged(tmp_path: Path) -> None:
    for name in ("Law.jsonl", "Law.JSONL", "Sport.jsonl"):
        _write(tmp_path / name, "tax")
    with pytest.raises(InputError, match=r"Law\.JSONL and Law\.jsonl would have one label"):
        load_task(_spec(tmp_path))


def test_a_bad_row_is_named_by_its_own_file(tmp_path: Path) -> None:
    _write(tmp_path / "Law.jsonl", "tax")
    _write(tmp_path / "Sport.jsonl", "goal", " ")
    with pytest.raises(DataError, match=r"Sport\.jsonl:2"):
        load_task(_spec(tmp_path))


def test_a_source_on_the_hub_has_no_files_to_take_labels_from() -> None:
    with pytest.raises(InputError, match="label_from_file is for folders"):
        _spec(Path("x"), ref="hf:org/name")


def test_specs_without_it_are_stored_as_they_were(tmp_path: Path) -> None:
    plain = TaskSpec.from_dict({"name": "mine", "sources": [{"name": "a", "ref": "x.csv"}]})
    assert "label_from_file" not in plain.to_dict()["sources"][0]
    spec = _spec(tmp_path)
    assert TaskSpec.from_dict(spec.to_dict()) == spec
