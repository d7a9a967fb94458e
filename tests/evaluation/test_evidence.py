"""Evidence survives being stored, byte for byte, and nothing else is taken for it."""

from __future__ import annotations

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


def routed() -> RoutedEvidence:
    return RoutedEvidence(
        np.array([0, 2, 1, 2], dtype=np.int32), np.array([0.5, 1, 0.25, 0.9], dtype=np.float32)
    )


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
    again = RoutedEvidence.from_bytes(routed().to_bytes(), "test")
    assert again.to_bytes() == routed().to_bytes()
    np.testing.assert_array_equal(again.choice, routed().choice)
    np.testing.assert_array_equal(again.confidence, routed().confidence)


def test_evidence_that_also_tells_of_a_gate_without_the_mask_is_read_and_that_is_ignored() -> None:
    old = changed(routed().to_bytes(), lambda a: a.update(free_choice=a["choice"][::-1].copy()))
    assert RoutedEvidence.from_bytes(old, "test").to_bytes() == routed().to_bytes()


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
    "no choices": lambda a: a.pop("choice"),
    "no confidences": lambda a: a.pop("confidence"),
    "a confidence too few": lambda a: a.update(confidence=a["confidence"][1:].copy()),
    "choices in two dimensions": lambda a: a.update(choice=a["choice"].reshape(2, 2)),
}


@pytest.mark.parametrize("damage", ROUTED_DAMAGES)
def test_routed_evidence_that_does_not_fit_together_is_refused(damage: str) -> None:
    data = changed(routed().to_bytes(), ROUTED_DAMAGES[damage])
    with pytest.raises(IntegrityError, match="somewhere"):
        RoutedEvidence.from_bytes(data, "somewhere")


@pytest.mark.parametrize("data", [b"", b"text", b"\x80\x04pickle", b"\x00" * 100])
def test_what_is_no_safetensors_file_is_refused(data: bytes) -> None:
    for kind in (Predictions, RoutedEvidence):
        with pytest.raises(IntegrityError, match="somewhere"):
            kind.from_bytes(data, "somewhere")


def test_one_kind_is_not_taken_for_the_other() -> None:
    with pytest.raises(IntegrityError):
        Predictions.from_bytes(routed().to_bytes(), "test")
    with pytest.raises(IntegrityError):
        RoutedEvidence.from_bytes(oracle().to_bytes(), "test")
