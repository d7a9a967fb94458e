"""Labels that look alike are told apart and joined as the advice says; odd ones are sorted."""

from __future__ import annotations

from pathlib import Path

import pytest

from expertbank.data import TaskSpec, load_task
from expertbank.errors import DataError
from expertbank.kinds.labels import sorted_labels

COMPOSED, PARTED = "caf\u00e9", "cafe\u0301"


def _write(path: Path, labels: list[str], rows: int = 60) -> str:
    lines = "".join(f"text {n},{labels[n % len(labels)]}\n" for n in range(rows))
    path.write_text(f"text,label\n{lines}", encoding="utf-8")
    return str(path)


def test_the_advice_on_labels_that_look_the_same_works_as_it_is_given(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", ["Spam", "spam", "ham"])
    (remark,) = load_task(TaskSpec("mine"), path).warnings
    assert "join them with label_names" in remark
    joined = load_task(TaskSpec("mine", label_names=(("Spam", "spam"),)), path)
    assert (joined.labels, joined.warnings) == (("spam", "ham"), ())


def test_a_label_without_a_name_is_shown_as_it_is(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", ["1", "10", "9"])
    data = load_task(TaskSpec("mine", label_names=(("1", "one"),)), path)
    assert data.labels == ("one", "9", "10")


def test_labels_that_print_the_same_are_spelled_out(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", [COMPOSED, PARTED])
    (remark,) = load_task(TaskSpec("mine"), path).warnings
    assert r"'cafe\u0301' (30 rows), 'caf\xe9' (30 rows)" in remark
    with pytest.raises(DataError) as caught:
        load_task(TaskSpec("mine", labels=(COMPOSED, "tea")), path)
    assert r"unknown label 'cafe\u0301'" in str(caught.value)
    assert r"did you mean 'caf\xe9'?" in str(caught.value)


def test_labels_that_print_otherwise_are_not_spelled_out(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", [COMPOSED, COMPOSED.upper()])
    (remark,) = load_task(TaskSpec("mine"), path).warnings
    assert f"'{COMPOSED.upper()}' (30 rows), '{COMPOSED}' (30 rows)" in remark


def test_a_label_of_thousands_of_digits_has_its_place_in_the_order() -> None:
    long = "9" * 5_000
    assert sorted_labels([long, "x" + long, "x2", "-3", "10", "2"]) == [
        *("-3", "2", "10", long, "x2", "x" + long),
    ]


@pytest.mark.parametrize("slip", ["hma", "good"])
def test_labels_to_drop_that_no_row_has_are_remarked_on(tmp_path: Path, slip: str) -> None:
    path = _write(tmp_path / "a.csv", ["spam", "ham", "eggs"])
    spec = TaskSpec("mine", label_names=(("ham", "good"),), drop_labels=(slip,))
    (remark,) = load_task(spec, path).warnings
    assert f"drop_labels left out no row: none has '{slip}'" in remark
    for right in (("ham",), (None,)):
        spec = TaskSpec("mine", drop_labels=right)
        assert load_task(spec, path).warnings == ()
