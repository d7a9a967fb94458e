"""Every row is in one batch, once; the evaluation plan is fixed and the training plan seeded."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import random_rows

from expertbank.backbones.batches import plan_batches, shuffled_batches


@given(st.integers(1, 120), st.integers(1, 40), st.integers(0, 99))
def test_every_row_is_in_exactly_one_batch(count: int, size: int, seed: int) -> None:
    rows = random_rows(count, seed)
    plans = [
        plan_batches(rows, size),
        shuffled_batches(rows, size, torch.Generator().manual_seed(seed), window=2),
    ]
    for plan in plans:
        assert sorted(index for batch in plan for index in batch) == list(range(count))
        assert max(map(len, plan)) <= size


def test_the_evaluation_plan_goes_by_length_then_by_position() -> None:
    rows = random_rows(50, 1)
    order = [index for batch in plan_batches(rows, 8) for index in batch]
    assert order == sorted(range(50), key=lambda index: (rows[index].length, index))


def test_the_training_order_depends_on_the_seed_alone() -> None:
    rows = random_rows(200, 1)

    def plan(seed: int) -> list[tuple[int, ...]]:
        return shuffled_batches(rows, 8, torch.Generator().manual_seed(seed))

    assert plan(3) == plan(3)
    assert plan(3) != plan(4)


def test_training_batches_hold_rows_of_similar_length() -> None:
    rows = random_rows(400, 2, lengths=tuple(range(3, 30)))

    def padded(batches: list[tuple[int, ...]]) -> int:
        return sum(len(b) * max(rows[index].length for index in b) for b in batches)

    by_chance = [tuple(range(start, start + 16)) for start in range(0, 400, 16)]
    ours = shuffled_batches(rows, 16, torch.Generator().manual_seed(0))
    real = sum(row.length for row in rows)
    assert padded(ours) - real < 0.4 * (padded(by_chance) - real)
