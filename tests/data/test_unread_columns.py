"""Columns that nobody reads are named, and choices among them with the options that read them."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

import pytest

from expertbank.data import Columns, SourceSpec, TaskData, TaskSpec, load_task

WORDS = ("red", "green", "blue", "grey")


def read(path: Path, header: str, label: object, kind: str = "") -> TaskData:
    """A file of sixty rows whose columns are ``header`` and last of all the label."""
    names = header.split()
    with path.open("w", newline="") as file:
        write = csv.writer(file)
        write.writerow([*names, "label"])
        for n in range(60):
            cells = [f"{name} {n} {WORDS[n % 4]}" for name in names]
            write.writerow([*cells, label(n) if callable(label) else label])
    return load_task(TaskSpec("mine", kind), str(path))


def advice(data: TaskData) -> str:
    found = [one for one in data.warnings if "look like the choices" in one]
    return found[0] if found else ""


@pytest.mark.parametrize(
    ("header", "label", "options"),
    [
        (
            "question context answer0 answer1 answer2 answer3",
            lambda n: n % 4,
            "--pair-column context --choices-column answer0 --choices-column answer1 "
            "--choices-column answer2 --choices-column answer3",
        ),
        (
            "sentence answerA answerB answerC",
            lambda n: "ABC"[n % 3],
            "--choices-column answerA --choices-column answerB --choices-column answerC",
        ),
        (
            "text A B C D",
            lambda n: "ABCD"[n % 4],
            "--choices-column A --choices-column B --choices-column C --choices-column D",
        ),
        (
            "text ending_1 ending_0",
            lambda n: n % 2,
            "--choices-column ending_0 --choices-column ending_1",
        ),
    ],
)
def test_what_looks_like_choices_comes_with_the_options_that_read_it(
    header: str, label: object, options: str, tmp_path: Path
) -> None:
    data = read(tmp_path / "a.csv", header, label)
    assert advice(data).endswith(f"--kind multiple_choice {options}")
    assert not any("contradict" in one for one in data.warnings)
    words = shlex.split(options)
    given = list(zip(words[::2], words[1::2], strict=True))
    choices = tuple(name for option, name in given if option == "--choices-column")
    columns = Columns(text_pair=dict(given).get("--pair-column"), choices=choices)
    read_so = load_task(TaskSpec("mine", columns=columns), str(tmp_path / "a.csv"))
    assert read_so.spec.kind == "multiple_choice"
    assert read_so.unread == ()
    assert not advice(read_so)


def test_labels_that_count_from_1_are_to_be_listed_in_a_task_file(tmp_path: Path) -> None:
    said = advice(read(tmp_path / "a.csv", "sentence option1 option2", lambda n: n % 2 + 1))
    assert said.endswith("list them in a task file (--spec), as labels: ['1', '2']")


@pytest.mark.parametrize(
    ("header", "label", "kind"),
    [
        ("text score1 score2", lambda n: n % 2, ""),
        ("text option1 option2", lambda n: ("sport", "law")[n % 2], ""),
        ("text option1 option3", lambda n: n % 2, ""),
        ("text answer", lambda n: n % 2, ""),
        ("text answer0 answer1", lambda n: n / 7, "regression"),
        ("question answer1 answer2", lambda n: n % 5, ""),
    ],
)
def test_other_columns_are_named_and_nothing_is_made_of_them(
    header: str, label: object, kind: str, tmp_path: Path
) -> None:
    data = read(tmp_path / "a.csv", header, label, kind)
    assert data.unread == tuple(header.split()[1:])
    assert not advice(data)


def test_ids_and_the_like_are_not_worth_a_word(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "id idx text split", lambda n: n % 2).unread == ()
    folder = tmp_path / "texts"
    for label in WORDS:
        (folder / label).mkdir(parents=True)
        for n in range(8):
            (folder / label / f"{n}.txt").write_text(f"{label} {n}")
    assert load_task(TaskSpec("mine"), str(folder)).unread == ()


def test_whoever_names_sources_knows_what_is_in_them(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    assert read(file, "text note", lambda n: n % 2).unread == ("note",)
    own = SourceSpec("own", str(file))
    assert load_task(TaskSpec("mine", sources=(own,))).unread == ()
