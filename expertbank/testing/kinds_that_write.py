"""Every promise of a ``Kind`` whose answers the language model writes, to be run with pytest.

class TestMyKind(WritingKindConformance):
    @pytest.fixture
    def kind(self):
        return MyKind()

    @pytest.fixture
    def rows(self):
        return [Row("a prompt", label="its answer"), Row("another", label="another answer")]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from expertbank.config import sha256_text
from expertbank.kinds import TOLERANCE, Kind, LabelRules, Predictions
from expertbank.models.writing import FIGURES
from expertbank.records import Row
from expertbank.testing.kinds import EveryKind


class WritingKindConformance(EveryKind):
    """A kind's promises as tests; give your subclass a name that begins with ``Test``.

    What must be given: the fixtures ``kind`` and ``rows``, which have different answers.
    """

    @pytest.fixture
    def wanted(self, rows: Sequence[Row]) -> tuple[str, ...]:
        assert len({row.label for row in rows}) == len(rows) > 1, "give rows with different answers"
        return tuple(row.label or "" for row in rows)

    def test_it_has_no_head_and_no_labels(self, kind: Kind, rows: Sequence[Row]) -> None:
        assert kind.writes
        assert not kind.names_labels
        assert not kind.has_thresholds
        assert kind.labels(rows, rows, LabelRules(), "rows") == ()
        assert kind.outputs(()) == 0
        assert "choices" not in kind.shapes

    def test_a_rows_target_is_its_answer(self, kind: Kind, rows: Sequence[Row]) -> None:
        assert [kind.target(row, {}) for row in rows] == [row.label for row in rows]
        assert kind.target(replace(rows[0], label=None), {}) is None

    def test_equal_targets_are_stored_as_one_number(
        self, kind: Kind, wanted: tuple[str, ...]
    ) -> None:
        stored = kind.target_array([*wanted, *wanted]).tolist()
        assert stored[: len(wanted)] == stored[len(wanted) :]
        assert len(set(stored)) == len(wanted)

    def test_its_loss_falls_as_the_right_tokens_get_likelier(self, kind: Kind) -> None:
        objective = kind.objective((), ["a", "b"])
        tokens = torch.tensor([3, 0, 4, 1])
        scores = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
        losses = []
        for likelier in (0.0, 1.0, 8.0):
            raised = scores + likelier * torch.nn.functional.one_hot(tokens, 5)
            loss = objective.loss(raised, tokens)
            assert loss.shape == ()
            losses.append(float(loss.detach()))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        assert scores.grad is not None
        assert losses[0] > losses[1] > losses[2] >= 0

    def test_stored_texts_come_to_what_the_answers_come_to(
        self, kind: Kind, rows: Sequence[Row], wanted: tuple[str, ...]
    ) -> None:
        for said in (wanted, wanted[::-1], ("",) * len(wanted)):
            stored = kind.outcome(predictions(kind, said, wanted))
            answers = [kind.of_written(text, row) for text, row in zip(said, rows, strict=True)]
            given = kind.outcome_of([kind.truth(row) for row in rows], answers)
            assert (stored.n, stored.metric) == (given.n, given.metric) != (0, "")
            assert stored.correct() == given.correct()
            assert stored.quality() == pytest.approx(given.quality())
        assert kind.outcome(predictions(kind, wanted, wanted)).quality() == 1

    def test_an_answer_is_shown_and_is_what_was_written(
        self, kind: Kind, rows: Sequence[Row], wanted: tuple[str, ...]
    ) -> None:
        for text in (*wanted, ""):
            answer = kind.of_written(text, rows[0])
            assert answer.written == text
            assert answer.text

    def test_the_same_texts_are_the_same_and_near_are_those_that_rounding_swapped(
        self, kind: Kind, wanted: tuple[str, ...]
    ) -> None:
        one, two = predictions(kind, wanted, wanted), predictions(kind, wanted[::-1], wanted)
        assert kind.alike(one, one)[0].all()
        same, near = kind.alike(one, two)
        assert same.tolist() == [a == b for a, b in zip(wanted, wanted[::-1], strict=True)]
        assert not near.any()
        close = predictions(kind, wanted[::-1], wanted, lead=TOLERANCE / 2)
        assert kind.alike(one, close)[1].all()

    def test_its_figures_are_plain_and_one_of_them_heads_the_lists(
        self, kind: Kind, wanted: tuple[str, ...]
    ) -> None:
        figures = kind.metrics(predictions(kind, wanted[::-1], wanted))
        assert json.loads(json.dumps(figures)) == figures
        assert figures["n"] == len(wanted)
        assert {"accuracy", "majority", "p_beats_majority"} <= figures.keys()
        name, value = kind.headline(figures)
        assert name
        assert value in figures.values()
        assert isinstance(kind.beside(figures), str)

    def test_it_is_surer_the_likelier_its_first_token(self, kind: Kind) -> None:
        chances = np.array([0.1, 0.5, 0.9, 0.999])
        figures = np.zeros((4, len(FIGURES)))
        figures[:, 0], figures[:, 1] = np.log(chances), np.log(1 - chances)
        sure = kind.sureness(torch.from_numpy(figures)).tolist()
        assert sure == pytest.approx((-np.log(1 - chances)).tolist())


def predictions(
    kind: Kind, texts: Sequence[str], wanted: Sequence[str], lead: float = 1.0
) -> Predictions:
    """As an evaluation stores them, and read again."""
    figures = np.full((len(texts), len(FIGURES)), -0.5, dtype=np.float32)
    figures[:, FIGURES.index("lead")] = lead
    stored = Predictions(
        figures,
        kind.target_array(list(wanted)),
        tuple(sha256_text(str(place)) for place in range(len(texts))),
        texts=tuple(texts),
        wanted=tuple(wanted),
    )
    return Predictions.from_bytes(stored.to_bytes(), "predictions")
