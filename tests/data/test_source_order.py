"""The next source is tried where one cannot be had; what the user names is had or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from expertbank.data import TaskSpec, load_task
from expertbank.errors import DataError, InputError, SourceUnavailableError

ROWS = "text,label,part\n" + "".join(f"t{n},{n % 2},p{n % 4}\n" for n in range(40))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return path


def _spec(*refs: object, **more: object) -> TaskSpec:
    sources = [{"name": f"s{n}", "ref": str(ref), **more} for n, ref in enumerate(refs)]
    return TaskSpec.from_dict({"name": "mine", "sources": sources})


def test_a_path_that_is_not_there_leaves_it_to_the_next_source(tmp_path: Path, rows: Path) -> None:
    assert load_task(_spec(tmp_path / "gone.csv", rows)).source == str(rows.resolve())


def test_a_path_that_the_user_names_is_refused_at_once(tmp_path: Path, rows: Path) -> None:
    with pytest.raises(InputError, match=r"^there is no file or folder \S*gone\.csv$"):
        load_task(_spec(rows), str(tmp_path / "gone.csv"))


def test_paths_of_which_none_is_there_are_bad_input_and_all_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"one\.csv; there is no .*two\.csv; mend the sources"):
        load_task(_spec(tmp_path / "one.csv", tmp_path / "two.csv"))


def test_a_path_among_sources_out_of_reach_is_told_with_them(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match=r"gone\.csv; s1: .*not_installed"):
        load_task(_spec(tmp_path / "gone.csv", "pkg:not_installed/rows.csv"))


def test_a_damaged_source_is_refused_and_no_other_takes_its_place(
    tmp_path: Path, rows: Path
) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    with pytest.raises(DataError, match="no rows"):
        load_task(_spec(empty, rows))


@pytest.mark.parametrize("there", ["second", "first"])
def test_a_held_out_column_that_is_in_one_file_alone_is_said_not_to_be_there(
    tmp_path: Path, rows: Path, there: str
) -> None:
    other = tmp_path / "held.csv"
    other.write_text("key\np1\n")
    column = "part" if there == "first" else "key"
    missing = "held.csv" if there == "first" else "rows.csv"
    spec = _spec(rows, held_out={"ref": str(other), "column": column})
    with pytest.raises(DataError, match=f"{missing}:1: no column '{column}' for the rule held_out"):
        load_task(spec)
