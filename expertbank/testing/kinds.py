"""Every promise of ``Kind``, to be run against a kind of one's own with pytest.

class TestMyKind(KindConformance):
    @pytest.fixture
    def kind(self):
        return MyKind()

    @pytest.fixture
    def rows(self):
        return [Row("a text", label="good"), Row("another", label="bad")]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from expertbank.config import sha256_text
from expertbank.kinds import Answer, Kind, LabelRules, Objective, Predictions
from expertbank.plugins import unlike
from expertbank.records import Row, Target

WIDTH = 8
"""Numbers that the head reads of a sequence."""


@dataclass(frozen=True)
class Case:
    """Rows of a kind, ready to train a head on random features.

    ``features`` are ``[sequences, WIDTH]``, ``row_of`` is ``[sequences]``.
    """

    kind: Kind
    rows: Sequence[Row]
    labels: tuple[str, ...]
    targets: tuple[Target, ...]
    objective: Objective
    features: Tensor
    row_of: Tensor

    @property
    def tensor(self) -> Tensor:
        """Targets as training gets them."""
        return torch.tensor(self.targets, dtype=torch.float32)

    def logits(self, weight: Tensor, bias: Tensor) -> Tensor:
        """``[rows, width]`` of a head."""
        return self.objective.logits(self.features @ weight.T + bias, self.row_of)

    def random_logits(self, seed: int) -> Tensor:
        """``[rows, width]`` of a random head."""
        generator = torch.Generator().manual_seed(seed)
        outputs = self.kind.outputs(self.labels)
        return self.logits(torch.randn(outputs, WIDTH, generator=generator), torch.zeros(outputs))

    def thresholds(self, logits: Tensor) -> Tensor | None:
        """Those of a kind that has them."""
        return self.objective.thresholds(logits, self.tensor) if self.kind.has_thresholds else None

    def answers(self, logits: Tensor, thresholds: Tensor | None) -> list[Answer]:
        """The rows' answers."""
        return [
            self.kind.answer(own, row, self.labels, thresholds)
            for own, row in zip(logits, self.rows, strict=True)
        ]

    def predictions(self, logits: Tensor, thresholds: Tensor | None) -> Predictions:
        """As an evaluation stores them, and read again."""
        stored = Predictions(
            logits.numpy(),
            self.kind.target_array(self.targets),
            tuple(sha256_text(str(place)) for place in range(len(self.rows))),
            thresholds=None if thresholds is None else thresholds.numpy(),
        )
        return Predictions.from_bytes(stored.to_bytes(), "predictions")


class EveryKind:
    """What kinds with a head and kinds that write have in common."""

    @pytest.fixture
    def kind(self) -> Kind:
        """The kind."""
        raise NotImplementedError("give the fixture `kind`")

    @pytest.fixture
    def rows(self) -> Sequence[Row]:
        """Labelled rows that an expert could be trained on; few will do."""
        raise NotImplementedError("give the fixture `rows`: rows with labels")

    def test_it_can_be_added_under_its_name(self, kind: Kind) -> None:
        assert unlike(kind, Kind) is None
        assert kind.complaint(kind.name) is None


class KindConformance(EveryKind):
    """A kind's promises as tests; give your subclass a name that begins with ``Test``.

    What must be given: the fixtures ``kind`` and ``rows``. For a kind that writes its answers see
    ``kinds_that_write``.
    """

    @pytest.fixture
    def case(self, kind: Kind, rows: Sequence[Row]) -> Case:
        rows = list(rows) * 6
        labels = kind.labels(rows, rows, LabelRules(), "rows")
        places = {label: place for place, label in enumerate(labels)}
        targets = tuple(t for t in (kind.target(row, places) for row in rows) if t is not None)
        assert len(targets) == len(rows), "every row has a label"
        counts = torch.tensor([max(1, len(row.choices)) for row in rows])
        features = torch.randn(int(counts.sum()), WIDTH, generator=torch.Generator().manual_seed(0))
        objective = kind.objective(labels, targets)
        row_of = torch.arange(len(rows)).repeat_interleave(counts)
        return Case(kind, rows, labels, targets, objective, features, row_of)

    def test_its_labels_are_those_of_its_rows(self, case: Case) -> None:
        seen = {label for row in case.rows for label in case.kind.counted(row)}
        assert len(set(case.labels)) == len(case.labels)
        if case.kind.names_labels:
            assert seen <= set(case.labels)
            listed = LabelRules(labels=case.labels[::-1])
            assert case.kind.labels(case.rows, (), listed, "rows") == case.labels[::-1]

    def test_a_row_without_a_label_has_no_target(self, case: Case) -> None:
        assert case.kind.target(replace(case.rows[0], label=None), {}) is None

    def test_its_head_starts_and_ends_with_an_output_for_each(self, case: Case) -> None:
        outputs = case.kind.outputs(case.labels)
        head = case.objective.start(case.features, case.row_of, case.tensor)
        weight, bias = head or (torch.zeros(outputs, WIDTH), torch.zeros(outputs))
        for _ in range(2):
            assert (weight.shape, bias.shape) == ((outputs, WIDTH), (outputs,))
            assert case.logits(weight, bias).shape[0] == len(case.rows)
            weight, bias = case.objective.finish(weight, bias)

    def test_training_lowers_the_loss_and_raises_the_score(self, case: Case) -> None:
        outputs = case.kind.outputs(case.labels)
        weight = torch.zeros(outputs, WIDTH, requires_grad=True)
        bias = torch.zeros(outputs, requires_grad=True)
        optimiser = torch.optim.Adam([weight, bias], lr=0.1)
        losses, scores = [], []
        for _ in range(60):
            loss = case.objective.loss(case.logits(weight, bias), case.tensor)
            assert loss.shape == ()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimiser.step()
            losses.append(float(loss.detach()))
            scores.append(case.objective.score(case.logits(weight, bias).detach(), case.tensor))
        assert np.isfinite([*losses, *scores]).all()
        assert losses[-1] < losses[0]
        assert max(scores) >= scores[0]

    def test_it_has_thresholds_if_it_says_so(self, case: Case) -> None:
        found = case.objective.thresholds(case.random_logits(1), case.tensor)
        assert (found is not None) == case.kind.has_thresholds
        assert found is None or found.shape == (case.kind.outputs(case.labels),)

    def test_stored_predictions_come_to_what_the_answers_come_to(self, case: Case) -> None:
        logits = case.random_logits(2)
        edge = case.thresholds(logits)
        stored = case.kind.outcome(case.predictions(logits, edge))
        given = case.kind.outcome_of(
            [row.label or "" for row in case.rows], case.answers(logits, edge)
        )
        assert (stored.n, stored.metric) == (given.n, given.metric) != (0, "")
        assert stored.correct() == given.correct()
        assert stored.quality() == pytest.approx(given.quality())
        chosen = np.arange(stored.n) > 0  # one row went elsewhere
        assert stored.correct(chosen) == given.correct(chosen)
        assert stored.quality(chosen) == pytest.approx(given.quality(chosen))

    def test_the_same_answers_are_the_same_and_others_are_not(self, case: Case) -> None:
        one, two = case.random_logits(3), case.random_logits(4)
        edge = case.thresholds(one)
        plain = None if edge is None else edge.numpy()
        same, _ = case.kind.same(one.numpy(), two.numpy(), plain)
        answers = zip(case.answers(one, edge), case.answers(two, edge), strict=True)
        assert same.tolist() == [_said(a) == _said(b) for a, b in answers]
        assert case.kind.same(one.numpy(), one.numpy(), plain)[0].all()

    def test_answers_that_only_rounding_swapped_are_near(self, case: Case) -> None:
        one = case.random_logits(5)
        edge = case.thresholds(one)
        plain = None if edge is None else edge.numpy()
        if edge is None:
            one = one / 1e5  # so near to each other, and to zero, that anything may swap them
        two = one + 1e-6 * torch.randn(one.shape, generator=torch.Generator().manual_seed(6))
        same, near = case.kind.same(one.numpy(), two.numpy(), plain)
        assert (same | near).all()

    def test_its_figures_are_plain_and_one_of_them_heads_the_lists(self, case: Case) -> None:
        logits = case.random_logits(7)
        figures = case.kind.metrics(case.predictions(logits, case.thresholds(logits)))
        assert json.loads(json.dumps(figures)) == figures
        assert figures["n"] == len(case.rows)
        assert {"accuracy", "majority"} <= figures.keys()
        assert figures["majority"] is None or 0 <= figures["p_beats_majority"] <= 1
        name, value = case.kind.headline(figures)
        assert name
        assert value is None or value in figures.values()
        assert isinstance(case.kind.beside(figures), str)

    def test_an_answer_does_not_read_what_lies_beyond_its_outputs(self, case: Case) -> None:
        logits = case.random_logits(8)
        edge = case.thresholds(logits)
        beyond = torch.cat([logits, torch.full((len(logits), 3), float("-inf"))], 1)
        assert case.answers(beyond, edge) == case.answers(logits, edge)

    def test_each_label_is_counted_for_its_rows(self, case: Case) -> None:
        logits = case.random_logits(9)
        labels = [row.label or "" for row in case.rows]
        found = case.kind.per_label(labels, case.answers(logits, case.thresholds(logits)))
        assert bool(found) == case.kind.names_labels
        assert set(found) <= set(case.labels)
        assert all(0 <= one["right"] <= one["n"] for one in found.values())


def _said(answer: Answer) -> tuple[object, ...]:
    return answer.label, answer.labels, answer.choice
