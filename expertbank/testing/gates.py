"""Every promise of ``GateKind`` and ``Gate``, to be run against a gate of one's own with pytest.

class TestMyGate(GateConformance):
    @pytest.fixture
    def kind(self):
        return MY_GATE
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from expertbank.errors import MALFORMED, IntegrityError
from expertbank.plugins import unlike
from expertbank.records import RowShape
from expertbank.routing.examples import Block, Examples
from expertbank.routing.gates import Gate, GateKind
from expertbank.routing.moments import BalancedMoments

WIDTH, ROWS, COLUMNS = 6, 40, 4


def clouds(seed: int) -> list[Tensor]:
    """Per column ``[ROWS, WIDTH]`` float16 about a centre of its own."""
    centres = 4 * torch.eye(WIDTH)[:COLUMNS]
    generator = torch.Generator().manual_seed(seed)
    return [(c + torch.randn(ROWS, WIDTH, generator=generator)).half() for c in centres]


class GateConformance:
    """A gate's promises as tests; give your subclass a name that begins with ``Test``.

    What must be given: the fixture ``kind``.
    """

    @pytest.fixture
    def kind(self) -> GateKind[Any]:
        """The kind of gate."""
        raise NotImplementedError("give the fixture `kind`")

    @pytest.fixture
    def examples(self) -> Examples:
        """Rows of four columns that all compete with each other."""
        rows = clouds(0)
        block = Block(list(range(COLUMNS)), BalancedMoments.of(rows))
        shapes: list[RowShape] = ["single"] * ROWS
        return Examples([block], rows, [shapes] * COLUMNS)

    @pytest.fixture
    def gate(self, kind: GateKind[Any], examples: Examples) -> Gate:
        return kind.fit(examples, kind.settings())

    def test_it_can_be_added_and_has_a_default_for_every_setting(self, kind: GateKind[Any]) -> None:
        assert unlike(kind, GateKind) is None
        assert kind.settings() == kind.settings()

    def test_it_knows_its_size(self, gate: Gate) -> None:
        assert (gate.dimension, gate.columns) == (WIDTH, COLUMNS)
        assert gate.parameter_count > 0

    def test_it_scores_every_column_of_every_row_and_finds_most(self, gate: Gate) -> None:
        rows = torch.cat(clouds(1))
        scores = gate.scores(rows)
        assert scores.dtype == torch.float64
        assert scores.shape == (len(rows), COLUMNS)
        assert bool(torch.isfinite(scores).all())
        found = scores.argmax(1) == torch.arange(COLUMNS).repeat_interleave(ROWS)
        assert found.double().mean() > 0.8

    def test_a_row_scores_alike_alone_and_in_company(self, gate: Gate) -> None:
        rows = torch.cat(clouds(2))
        together = gate.scores(rows)
        alone = torch.cat([gate.scores(row[None]) for row in rows])
        torch.testing.assert_close(alone, together, rtol=1e-9, atol=1e-9)

    def test_the_same_examples_give_the_same_gate(
        self, kind: GateKind[Any], examples: Examples, gate: Gate
    ) -> None:
        torch.manual_seed(17)
        again = kind.fit(examples, kind.settings())
        assert again.facts() == gate.facts()
        assert again.tensors().keys() == gate.tensors().keys()
        assert all(torch.equal(again.tensors()[n], t) for n, t in gate.tensors().items())

    @pytest.mark.parametrize("columns", [[2, 0], [1], [3, 2, 1, 0]])
    def test_fewer_columns_keep_their_scores(self, gate: Gate, columns: list[int]) -> None:
        rows = torch.cat(clouds(3))
        part = gate.only(columns)
        assert part.columns == len(columns)
        torch.testing.assert_close(part.scores(rows), gate.scores(rows)[:, columns])

    def test_what_it_stores_reads_back_as_the_same_gate(
        self, kind: GateKind[Any], gate: Gate
    ) -> None:
        assert not [name for name in gate.tensors() if name.startswith("unknown.")]
        tensors, rows = {n: t.clone() for n, t in gate.tensors().items()}, torch.cat(clouds(4))
        again = kind.read(tensors, json.loads(json.dumps(gate.facts())), "here")
        assert not tensors, "what is used is taken out"
        assert torch.equal(again.scores(rows), gate.scores(rows))

    def test_a_file_that_lacks_something_is_refused(self, kind: GateKind[Any], gate: Gate) -> None:
        refused = (IntegrityError, *MALFORMED)
        for missing in gate.tensors():
            rest = {n: t for n, t in gate.tensors().items() if n != missing}
            with pytest.raises(refused):
                kind.read(rest, gate.facts(), "here")
        for missing in gate.facts():
            with pytest.raises(refused):
                kind.read(gate.tensors(), {**gate.facts(), missing: None}, "here")

    def test_moments_alone_give_a_gate_of_the_same_promises(
        self, kind: GateKind[Any], examples: Examples, gate: Gate
    ) -> None:
        if kind.fit_moments is None:
            pytest.skip("this gate needs the rows")
        alone, rows = kind.fit_moments(examples.blocks, kind.settings()), torch.cat(clouds(5))
        assert (alone.dimension, alone.columns) == (WIDTH, COLUMNS)
        torch.testing.assert_close(alone.scores(rows), gate.scores(rows))
