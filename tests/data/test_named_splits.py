"""A split that a source names is the one that is read, or nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from expertbank.data import TaskSpec, load_task, read_rows
from expertbank.data.files import choose
from expertbank.data.spec import SourceSpec
from expertbank.errors import DataError, InputError


def _spec(ref: Path, **named: object) -> TaskSpec:
    source = {"name": "mine", "ref": str(ref), **named}
    return TaskSpec.from_dict({"name": "subject", "sources": [source]})


def _write(path: Path, word: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{word} {number},{number % 2}\n" for number in range(20))
    path.write_text(f"text,label\n{rows}")
    return path


@pytest.mark.parametrize("key", ["train_split", "validation_split"])
@pytest.mark.parametrize("inner", ["{}.csv", "{}/rows.csv"])
def test_a_named_split_that_is_not_there_is_refused_with_those_that_are(
    tmp_path: Path, key: str, inner: str
) -> None:
    for name in ("train", "validation"):
        _write(tmp_path / inner.format(name), name)
    with pytest.raises(InputError, match=f"no {key} 'trian', .*there are: train.*, validation"):
        load_task(_spec(tmp_path, **{key: "trian"}))


def test_a_split_on_the_hub_that_is_not_there_is_refused() -> None:
    source = SourceSpec("hub", "hf:org/name", validation_split="matched")
    with pytest.raises(InputError, match=r"no validation_split 'matched'.*there are: test, train"):
        choose(["train", "test"], source, "hf:org/name")


def test_one_file_has_no_split_that_could_be_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.csv", "row")
    with pytest.raises(InputError, match=r"no train_split 'train'.*no splits"):
        load_task(_spec(path, train_split="train"))


def test_folders_of_labels_are_no_splits_that_could_be_named(tmp_path: Path) -> None:
    for label in ("cars", "planes"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.txt").write_text(label)
    with pytest.raises(InputError, match=r"no train_split 'fit'.*there are: cars, planes"):
        load_task(_spec(tmp_path, train_split="fit"))


def test_what_is_validated_on_is_never_trained_on(tmp_path: Path) -> None:
    for name in ("fit", "held"):
        _write(tmp_path / f"{name}.csv", name)
    with pytest.raises(InputError, match=r"which of fit\.csv, held\.csv is for training"):
        load_task(_spec(tmp_path, validation_split="held.csv"))


@pytest.mark.parametrize("ending", ["", ".csv"])
def test_a_file_can_be_named_with_its_ending_or_without(tmp_path: Path, ending: str) -> None:
    for name in ("fit", "held", "train"):
        _write(tmp_path / f"{name}.csv", name)
    data = load_task(_spec(tmp_path, train_split=f"fit{ending}", validation_split=f"held{ending}"))
    assert {row.text.split()[0] for row in data.train} == {"fit"}
    assert {row.text.split()[0] for row in data.validation} == {"held"}


def test_a_named_folder_is_read_though_files_stand_beside_it(tmp_path: Path) -> None:
    _write(tmp_path / "old" / "rows.csv", "old")
    _write(tmp_path / "train.csv", "file")
    data = load_task(_spec(tmp_path, train_split="old"))
    assert all(row.text.startswith("old") for row in (*data.train, *data.validation))
    assert any("left out" in text and "train.csv" in text for text in data.warnings)


def measured(source: Path) -> tuple[set[str], list[str]]:
    """The first words of what is measured on, and the remarks."""
    remarks: list[str] = []
    rows = read_rows(_spec(source), remarks=remarks, to_measure=True)
    return {row.text.split()[0] for row in rows}, remarks


def test_what_is_measured_on_is_the_test_split_or_else_the_validation_split(tmp_path: Path) -> None:
    for name in ("train", "dev", "test", "notes"):
        _write(tmp_path / f"{name}.csv", name)
    rows, (left_out, told) = measured(tmp_path)
    assert rows == {"test"}
    assert left_out.endswith("left out, as neither training nor validation rows: notes.csv")
    assert "measured on its test rows alone" in told
    (tmp_path / "test.csv").unlink()
    assert measured(tmp_path)[0] == {"dev"}
    assert measured(tmp_path / "train.csv") == ({"train"}, [])
    assert len({row.text.split()[0] for row in read_rows(_spec(tmp_path))}) == 2


@pytest.mark.parametrize(
    "test",
    ["text,label\ntest 1,-1\ntest 2,-1\n", "text\ntest 1\ntest 2\n", "text,label\ntest 1,\n"],
    ids=["labels that are kept back", "no column", "empty labels"],
)
def test_a_test_split_without_labels_is_not_measured_on(tmp_path: Path, test: str) -> None:
    _write(tmp_path / "train.csv", "train")
    _write(tmp_path / "validation.csv", "validation")
    (tmp_path / "test.csv").write_text(test)
    rows, remarks = measured(tmp_path)
    assert rows == {"validation"}
    assert any("its test rows have no labels" in remark for remark in remarks)


def test_a_bad_row_of_a_test_split_is_told_and_hides_none_of_the_others(tmp_path: Path) -> None:
    _write(tmp_path / "train.csv", "train")
    _write(tmp_path / "validation.csv", "validation")
    (tmp_path / "test.csv").write_text("text,label\ntest 1,0\ntest 2,\n")
    with pytest.raises(DataError, match="no label"):
        measured(tmp_path)


def test_a_test_split_in_two_formats_disturbs_only_who_measures_on_it(tmp_path: Path) -> None:
    for name in ("train.csv", "validation.csv", "test.csv", "test.tsv"):
        _write(tmp_path / name, name)
    assert load_task(_spec(tmp_path)).train
    with pytest.raises(InputError, match="one split in two formats"):
        measured(tmp_path)


def test_rows_that_a_rule_holds_out_are_the_ones_to_measure_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = "".join(f"{'late' if n > 15 else 'early'} {n},{n % 2},{n > 15}\n" for n in range(20))
    path.write_text(f"text,label,held\nearly 99,,False\n{rows}")
    (tmp_path / "held.csv").write_text("held\nTrue\n")
    spec = _spec(path, held_out={"ref": str(tmp_path / "held.csv"), "column": "held"})
    remarks: list[str] = []
    found = read_rows(spec, remarks=remarks, to_measure=True)
    assert {row.text.split()[0] for row in found} == {"late"}
    assert any("measured on its validation rows alone" in remark for remark in remarks)
