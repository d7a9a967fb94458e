"""Evidence survives being stored, byte for byte, and nothing else is taken for it."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from safetensors.numpy import load, save

from expertbank.config import sha256_text
from expertbank.errors import IntegrityError
from expertbank.evaluation.evidence import RoutedEvidence
from expertbank.evaluation.predictions import Predictions
from expertbank.kinds import KINDS

Arrays = dict[str, np.ndarray]


def oracle(rows: int = 5) -> Predictions:
    generator = np.random.default_rng(0)
    return Predictions(
        generator.normal(size=(rows, 3)).astype(np.float32),
        generator.integers(0, 3, rows).astype(np.int32),
        tuple(sha256_text(f"row {row}") for row in range(rows)),
    )


NAMES = ("sst2", "group:tickets", "boolq", "rte")


def test_equal_choices_of_rows_whose_task_is_in_another_group_are_another_file() -> None:
    places = np.array([0, 1, 0], dtype=np.int32)
    files = {
        home: RoutedEvidence.of(NAMES, places, home).to_bytes()
        for home in (None, "group:tickets", "group:desk")
    }
    assert len(set(files.values())) == 3
    for home, data in files.items():
        again = RoutedEvidence.from_bytes(data, "test", ())
        assert again.home == home
        assert again.to_bytes() == data


def routed(names: tuple[str, ...] = NAMES) -> RoutedEvidence:
    """Rows that went to sst2, boolq, tickets and boolq."""
    places = [names.index(name) for name in ("sst2", "boolq", "group:tickets", "boolq")]
    return RoutedEvidence.of(names, np.array(places, dtype=np.int32))


def before(choice: list[int], **more: np.ndarray) -> bytes:
    """The same as releases of before stored it: positions in the router's list, and confidences."""
    tensors = {
        "choice": np.array(choice, dtype=np.int32),
        "confidence": np.array([0.5, 1, 0.25, 0.9], dtype=np.float32),
    }
    about = json.dumps({"format": 1, "evidence": "routed"})
    return save({**tensors, **more}, metadata={"expertbank": about})


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_oracle_evidence_survives_being_stored(rows: int) -> None:
    evidence = oracle(rows)
    again = Predictions.from_bytes(evidence.to_bytes(), "test")
    assert again.to_bytes() == evidence.to_bytes()
    np.testing.assert_array_equal(again.logits, evidence.logits)
    np.testing.assert_array_equal(again.targets, evidence.targets)
    assert again.row_digests == evidence.row_digests
    assert (again.logits.dtype, again.targets.dtype) == (np.float32, np.int32)


def test_routed_evidence_survives_being_stored() -> None:
    again = RoutedEvidence.from_bytes(routed().to_bytes(), "test", ())
    assert again.to_bytes() == routed().to_bytes()
    assert again.chosen == ("boolq", "group:tickets", "sst2")
    assert again.index.tolist() == [2, 0, 1, 0]
    places = {name: place for place, name in enumerate(NAMES)}
    np.testing.assert_array_equal(again.positions(places), [0, 2, 1, 2])


def test_equal_choices_are_equal_bytes_whatever_else_could_have_been_chosen_and_in_what_order() -> (
    None
):
    assert routed(("boolq", "cola", "sst2", "group:tickets")).to_bytes() == routed().to_bytes()
    other = RoutedEvidence.of(NAMES, np.array([0, 2, 1, 1], dtype=np.int32))
    assert other.to_bytes() != routed().to_bytes()


def test_a_row_takes_as_few_bytes_as_the_number_of_chosen_columns_allows() -> None:
    names = tuple(f"task{place}" for place in range(1000))
    few = RoutedEvidence.of(names, np.array([999, 0], dtype=np.int32))
    assert few.index.dtype == np.uint8
    many = RoutedEvidence.of(names, np.arange(300, dtype=np.int32))
    assert many.index.dtype == np.uint16
    none = RoutedEvidence.of(names, np.array([], dtype=np.int32))
    assert RoutedEvidence.from_bytes(none.to_bytes(), "test", ()).to_bytes() == none.to_bytes()


def test_choices_of_a_column_that_the_list_lacks_are_not_placed() -> None:
    with pytest.raises(KeyError, match="group:tickets"):
        routed().positions({"sst2": 0, "boolq": 1})


def test_evidence_of_before_is_read_by_the_routers_list_and_what_else_it_tells_is_ignored() -> None:
    for old in (before([0, 2, 1, 2]), before([0, 2, 1, 2], free_choice=np.zeros(4, np.int32))):
        assert RoutedEvidence.from_bytes(old, "test", NAMES).to_bytes() == routed().to_bytes()


@pytest.mark.parametrize("place", [-1, 4])
def test_evidence_of_before_that_chose_no_member_is_refused(place: int) -> None:
    with pytest.raises(IntegrityError, match=r"somewhere: .*list of 4"):
        RoutedEvidence.from_bytes(before([0, place, 1, 2]), "somewhere", NAMES)


def test_a_view_of_a_larger_array_is_stored_as_its_own_values() -> None:
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    evidence = Predictions(
        whole[:, ::2], np.array([0, 1, 1], dtype=np.int32), oracle(3).row_digests
    )
    again = Predictions.from_bytes(evidence.to_bytes(), "test")
    np.testing.assert_array_equal(again.logits, [[0, 2], [4, 6], [8, 10]])


def test_answers_are_the_highest_logits_and_padding_never_wins() -> None:
    logits = np.array([[1, 2, -np.inf], [3, -1, -np.inf], [-5, -4, -np.inf]], dtype=np.float32)
    evidence = Predictions(logits, np.array([1, 1, 1], dtype=np.int32), oracle(3).row_digests)
    for kind in ("classification", "multiple_choice"):
        outcome = KINDS.get(kind).outcome(evidence)
        assert outcome.rows(np.ones(3, dtype=bool)).tolist() == [True, False, True]


def changed(data: bytes, change: Callable[[Arrays], object]) -> bytes:
    arrays = load(data)
    change(arrays)
    return save(arrays)


ORACLE_DAMAGES: dict[str, Callable[[Arrays], object]] = {
    "no logits": lambda a: a.pop("logits"),
    "no digests": lambda a: a.pop("row_digests"),
    "a target too few": lambda a: a.update(targets=a["targets"][1:].copy()),
    "one target for all": lambda a: a.update(targets=a["targets"][:1].copy()),
    "a digest too few": lambda a: a.update(row_digests=a["row_digests"][1:].copy()),
    "flat logits": lambda a: a.update(logits=a["logits"][:, 0].copy()),
    "a scalar target": lambda a: a.update(targets=np.array(1, dtype=np.int32)),
}


@pytest.mark.parametrize("damage", ORACLE_DAMAGES)
def test_oracle_evidence_that_does_not_fit_together_is_refused(damage: str) -> None:
    data = changed(oracle().to_bytes(), ORACLE_DAMAGES[damage])
    with pytest.raises(IntegrityError, match="somewhere"):
        Predictions.from_bytes(data, "somewhere")


ROUTED_DAMAGES: dict[str, Callable[[Arrays], object]] = {
    "no choices": lambda a: a.update(other=a.pop("choice")),
    "choices in two dimensions": lambda a: a.update(choice=a["choice"].reshape(2, 2)),
    "choices that are no whole numbers": lambda a: a.update(choice=a["choice"].astype(np.float32)),
}
ABOUTS = {
    "another format": {"format": 3, "chosen": ["boolq"]},
    "no names": {"format": 2},
    "names that are none": {"format": 2, "chosen": [1, 2, 3]},
    "a name too few": {"format": 2, "chosen": ["boolq", "sst2"]},
}


@pytest.mark.parametrize("damage", ROUTED_DAMAGES)
def test_routed_evidence_that_does_not_fit_together_is_refused(damage: str) -> None:
    data = changed(routed().to_bytes(), ROUTED_DAMAGES[damage])
    with pytest.raises(IntegrityError, match="somewhere"):
        RoutedEvidence.from_bytes(data, "somewhere", NAMES)


@pytest.mark.parametrize("about", ABOUTS)
def test_routed_evidence_that_says_something_odd_of_itself_is_refused(about: str) -> None:
    data = save({"choice": routed().index}, metadata={"expertbank": json.dumps(ABOUTS[about])})
    with pytest.raises(IntegrityError, match="somewhere"):
        RoutedEvidence.from_bytes(data, "somewhere", NAMES)


@pytest.mark.parametrize("data", [b"", b"text", b"\x80\x04pickle", b"\x00" * 100])
def test_what_is_no_safetensors_file_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="somewhere"):
        Predictions.from_bytes(data, "somewhere")
    with pytest.raises(IntegrityError, match="somewhere"):
        RoutedEvidence.from_bytes(data, "somewhere", NAMES)


def test_one_kind_is_not_taken_for_the_other() -> None:
    with pytest.raises(IntegrityError):
        Predictions.from_bytes(routed().to_bytes(), "test")
    with pytest.raises(IntegrityError):
        RoutedEvidence.from_bytes(oracle().to_bytes(), "test", NAMES)
