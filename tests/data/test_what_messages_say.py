"""A refusal says what is there and what to do, and promises nothing that is not so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from expertbank.config import AdapterConfig
from expertbank.data import (
    Columns,
    TaskSpec,
    hold_out_for_selection,
    load_task,
    read_rows,
    task_spec,
)
from expertbank.data.formats import ReadAs
from expertbank.data.load import all_listed
from expertbank.errors import DataError, InputError

ROWS = "text,label\n" + "".join(f"t{n},{'good' if n % 2 else 'bad'}\n" for n in range(40))


def _write(path: Path, text: str = ROWS) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_rows_to_measure_on_are_not_sent_to_a_check_that_finds_nothing(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv")
    known = TaskSpec("mine", labels=("good", "other"))
    with pytest.raises(DataError) as measured:
        read_rows(known, path)
    assert "unknown label 'bad'" in str(measured.value)
    assert "tasks check" not in str(measured.value)
    with pytest.raises(DataError, match="tasks check, with a task file that has these labels, "):
        load_task(known, path)


def test_multiple_choice_without_choices_asks_for_their_columns(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"for the choices; .*name it with --choices-column"):
        load_task(TaskSpec("mine", "multiple_choice"), path)


def test_a_folder_of_a_label_that_begins_like_a_split_is_told_of(tmp_path: Path) -> None:
    for label in ("trains", "cars", "planes"):
        _write(tmp_path / label / "a.txt", label)
    with pytest.raises(InputError, match=r"trains: a split by its name.*call the folder _trains"):
        load_task(TaskSpec("mine"), str(tmp_path))


@pytest.mark.parametrize("name", ["nope", "undefined", "zlib"])
@pytest.mark.parametrize("field", ["encoding", "fallback"])
def test_an_encoding_that_is_none_is_refused_wherever_it_is_named(field: str, name: str) -> None:
    with pytest.raises(InputError, match=f"no text encoding is called '{name}'"):
        ReadAs(**{field: name})


def test_a_sources_encoding_that_is_none_is_bad_input(tmp_path: Path) -> None:
    source = {"name": "a", "ref": _write(tmp_path / "a.csv"), "encoding_fallback": "nope"}
    with pytest.raises(InputError, match="no text encoding is called 'nope'"):
        load_task(TaskSpec.from_dict({"name": "mine", "sources": [source]}))


def test_bytes_that_an_encoding_refuses_without_saying_where_are_bad_input(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv")
    spec = TaskSpec("mine", read_as=ReadAs(encoding="punycode"))
    with pytest.raises(DataError, match=r"a\.csv:1: not valid punycode"):
        load_task(spec, path)


def test_columns_are_told_by_the_names_that_the_file_has(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv")
    source = {"name": "a", "ref": path, "columns": {"label": "label"}}
    spec = TaskSpec.from_dict({"name": "mine", "columns": {"label": "answer"}, "sources": [source]})
    data = load_task(spec)
    assert (data.columns.text, data.columns.label) == ("text", "label")
    assert data.spec.columns.label == "answer", "what one source calls it is not the task's"


def test_flags_that_only_a_source_names_are_read(tmp_path: Path) -> None:
    rows = "".join(f"t{n},{n % 2},{n % 3 == 0:d}\n" for n in range(40))
    path = _write(tmp_path / "a.csv", f"text,late,rude\n{rows}")
    source = {"name": "a", "ref": path, "columns": {"flags": ["late", "rude"]}}
    data = load_task(TaskSpec.from_dict({"name": "mine", "sources": [source]}))
    assert data.labels == ("late", "rude")
    assert any(row.label == '["late","rude"]' for row in data.train)


def test_an_endless_number_in_a_setting_is_bad_input() -> None:
    with pytest.raises(InputError, match="tt_rank must be a whole number"):
        AdapterConfig(tt_rank="9" * 5_000)  # type: ignore[arg-type]


def test_a_file_that_seems_to_have_one_column_asks_for_its_separator(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", ROWS.replace(",", "^"))
    with pytest.raises(DataError, match=r"columns found: text\^label; .*with --separator"):
        load_task(TaskSpec("mine"), path)
    assert len(load_task(TaskSpec("mine", read_as=ReadAs(separator="^")), path).train) == 32


def test_values_that_were_taken_for_classes_are_sent_to_regression(tmp_path: Path) -> None:
    numbers = _write(tmp_path / "a.csv", "text,label\n" + "".join(f"t{n},{n}\n" for n in range(9)))
    with pytest.raises(
        DataError, match=r"a\.csv:1: 9 different rows with 9 labels .*--kind regression"
    ):
        load_task(TaskSpec("mine"), numbers)
    words = _write(tmp_path / "b.csv", "text,label\n" + "".join(f"t{n},l{n}\n" for n in range(9)))
    with pytest.raises(
        DataError, match="9 different rows with 9 labels cannot be split"
    ) as refused:
        load_task(TaskSpec("mine"), words)
    assert "regression" not in str(refused.value)


def test_a_limit_that_leaves_a_label_one_row_is_what_to_raise(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv")
    few = load_task(TaskSpec("mine"), path, limit=2).train
    with pytest.raises(
        DataError, match=r"^training rows: 2 different rows with 2 labels .*raise --limit"
    ):
        hold_out_for_selection(few, 0.1, 0, lambda row: (row.label,))


def test_a_value_too_large_for_single_precision_is_called_that(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", "text,label\na,1e300\nb,2\n")
    with pytest.raises(DataError, match=r"a\.csv:2: label '1e300' is too large .*divide all"):
        load_task(TaskSpec("mine", "regression"), path)


@pytest.mark.parametrize(
    ("columns", "role"),
    [
        (Columns("text", label="text"), "label"),
        (Columns("text", "text"), "pair"),
        (Columns("text", flags=("label", "label")), "label"),
        (Columns("text", label="label", choices=("label",)), "choices"),
    ],
)
def test_a_column_is_read_as_one_thing(tmp_path: Path, columns: Columns, role: str) -> None:
    path = _write(tmp_path / "a.csv")
    with pytest.raises(DataError, match=rf"a\.csv:1: .* again for the {role}; .*--{role}-column"):
        load_task(TaskSpec("mine", columns=columns), path)


def test_a_column_that_binds_rows_may_be_read_besides(tmp_path: Path) -> None:
    columns = Columns("text", label="label", group=("text",))
    assert len(load_task(TaskSpec("mine", columns=columns), _write(tmp_path / "a.csv")).train) == 32


def test_rows_that_are_all_copies_are_counted_once_and_called_different(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", "text,label\n" + "one,good\ntwo,bad\n" * 20)
    with pytest.raises(DataError, match=r"a\.csv:1: 2 different rows with 2 labels"):
        load_task(TaskSpec("mine"), path)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("1,000", "between thousands"),
        ("12,345.5", "between thousands"),
        ("1,5", "write the decimal"),
    ],
)
def test_a_comma_between_thousands_is_not_made_a_point(
    tmp_path: Path, value: str, advice: str
) -> None:
    path = _write(tmp_path / "a.csv", f'text,label\nsmall,1\nlarge,"{value}"\n')
    with pytest.raises(DataError, match=advice):
        load_task(TaskSpec("mine", kind="regression"), path)


@pytest.mark.parametrize("kind", ["classification", "multi_label"])
def test_lists_as_python_prints_them_are_named_as_such(tmp_path: Path, kind: str) -> None:
    lists = ("['a', 'b']", "['c']")
    rows = "".join(f'row {n},"{lists[n % 2]}"\n' for n in range(40))
    path = _write(tmp_path / "a.csv", f"text,label\n{rows}")
    if kind == "classification":
        (told,) = [one for one in load_task(TaskSpec("mine"), path).warnings if "lists" in one]
    else:
        with pytest.raises(DataError) as refused:
            load_task(TaskSpec("mine", kind=kind), path)
        told = str(refused.value)
    assert "Python prints lists with single quotes: write JSON" in told


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (task_spec("mine"), "check 'my data.csv' --task mine lists all of them"),
        (
            replace(task_spec("mine", text_column="the text", label_column="l"), kind="generation"),
            "'my data.csv' --task mine --kind generation --text-column 'the text' "
            "--label-column l lists all of them",
        ),
        (
            task_spec("mine", label_column=["a", "b"], separator=";"),
            "--task mine --label-column a --label-column b --separator ';' lists",
        ),
        (task_spec("mine", external="x"), "'my data.csv' --task mine --external x lists"),
        (TaskSpec("mine", drop_labels=("x",)), "check, with the same options, lists"),
        (TaskSpec("mine", labels=("x", "y")), "with a task file that has these labels, lists"),
    ],
)
def test_the_command_that_lists_all_bad_rows_can_be_typed_as_it_stands(
    spec: TaskSpec, told: str
) -> None:
    assert told in all_listed(spec, "my data.csv")


def test_a_catalog_task_is_checked_by_its_name_alone() -> None:
    assert all_listed(task_spec("boolq"), None) == (
        "expertbank tasks check --task boolq lists all of them"
    )
