"""Sums are exact: any order, any split, any removal gives the bits of one dense reference."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from expertbank.config import sha256_text
from expertbank.errors import IntegrityError
from expertbank.records import ROW_SHAPES, RowShape
from expertbank.routing.columns import Entry
from expertbank.routing.config import RouterConfig
from expertbank.routing.fit import by_digest, fit_sums
from expertbank.routing.grid import LARGEST, STEP, Grid, on_grid
from expertbank.routing.projection import sign_projection
from expertbank.routing.router import Router
from expertbank.routing.statistics import Statistics, sits_out, square
from expertbank.routing.sums import UNIT, Sums, exponent, summed
from expertbank.routing.sums_file import read_sums, write_sums
from expertbank.testing.routers import TaskFeatures, fit_router

WIDTH, SPEC = 5, "f" * 64


def features(seed: int, rows: int, width: int = WIDTH) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(width, generator=generator)
    return (centre + torch.randn(rows, width, generator=generator)).half()


def statistics_of(seed: int, rows: int, shapes: tuple[RowShape, ...] = ("single",)) -> Statistics:
    own = tuple(shapes[place % len(shapes)] for place in range(rows))
    return Statistics.of(features(seed, rows), own, SPEC)


tasks = st.lists(
    st.tuples(
        st.integers(1, 90),
        st.sets(st.sampled_from(ROW_SHAPES), min_size=1).map(
            lambda s: tuple(sorted(s, key=ROW_SHAPES.index))
        ),
        st.sampled_from([None, None, "g", "h"]),
    ),
    min_size=1,
    max_size=7,
)


class Bank:
    """Statistics and columns of made-up tasks."""

    def __init__(self, found: list[tuple[int, tuple[RowShape, ...], str | None]]) -> None:
        self.kept = {f"t{i}": statistics_of(i, n, own) for i, (n, own, _) in enumerate(found)}
        self.entries = [
            Entry(f"t{i}", sha256_text(f"t{i}"), f"t{i}", "classification", group)
            for i, (_, _, group) in enumerate(found)
        ]
        self.read: list[str] = []

    def columns(self, entries: list[Entry]) -> list[list[str]]:
        return by_digest(entries, {name: name for name in self.kept})

    def get(self, name: str) -> Statistics:
        self.read.append(name)
        return self.kept[name]

    def sums(self, entries: list[Entry], before: Sums | None = None) -> Sums:
        return summed(self.columns(entries), self.get, before)


def dense(bank: Bank, entries: list[Entry]) -> dict[tuple[str, ...], np.ndarray]:
    """By set of shapes the weighted sum of outer products, row by row, in Python's integers."""
    found: dict[tuple[str, ...], np.ndarray] = {}
    for column in bank.columns(entries):
        rows, shapes, count = [], set(), 0
        for name in column:
            place = int(name[1:])
            n = bank.kept[name].n_train
            whole = np.clip(np.rint(features(place, n).double().numpy() * 32), -127, 127)
            rows += [row for row, out in zip(whole, sits_out(n).tolist(), strict=True) if not out]
            shapes |= set(bank.kept[name].reads)
        count = len(rows)
        power = 0
        while 2 * count * count >= 4 ** (power + 1):  # the nearest power of two, by squares
            power += 1
        key = tuple(s for s in ROW_SHAPES if s in shapes)
        sum_ = found.setdefault(key, np.zeros((WIDTH, WIDTH), dtype=object))
        for row in rows:
            exact = [int(number) for number in row]
            sum_ += np.outer(exact, exact).astype(object) * 2 ** (UNIT - power)
    return found


def assert_dense(sums: Sums, bank: Bank, entries: list[Entry]) -> None:
    expected = dense(bank, entries)
    assert set(sums.grams) == set(expected)
    for shapes, gram in sums.grams.items():
        assert square(gram, WIDTH).tolist() == expected[shapes].tolist()


@settings(max_examples=60, deadline=None)
@given(tasks, st.randoms(use_true_random=False))
def test_any_order_any_split_and_any_removal_give_one_dense_reference(
    found: list[tuple[int, tuple[RowShape, ...], str | None]], chance: random.Random
) -> None:
    bank = Bank(found)
    order = chance.sample(bank.entries, len(bank.entries))
    before: Sums | None = None
    for size in sorted({chance.randint(1, len(order)) for _ in range(3)} | {len(order)}):
        before = bank.sums(order[:size], before)
        assert_dense(before, bank, order[:size])
    assert before is not None
    rest = chance.sample(order, chance.randint(1, len(order)))
    without = bank.sums(rest, before)
    never = bank.sums(rest)
    assert_dense(without, bank, rest)
    assert without.placed == never.placed
    config = RouterConfig()
    names = {one.id: one.id for one in rest}
    routers = [
        fit_sums(entries, names, sums, config, SPEC, lambda _: pytest.fail("no row is needed"))
        for entries, sums in ((rest, without), (rest[::-1], never))
    ]
    assert routers[0].to_bytes() == routers[1].to_bytes()


@settings(max_examples=25, deadline=None)
@given(tasks)
def test_sums_that_were_written_and_read_go_on_as_they_were(
    found: list[tuple[int, tuple[RowShape, ...], str | None]],
) -> None:
    bank = Bank(found)
    sums = bank.sums(bank.entries)
    again = read_sums(write_sums(sums, SPEC), SPEC)
    assert again.placed == sums.placed
    bank.read.clear()
    more = bank.sums(bank.entries, again)
    assert bank.read == [], "nothing is new, so nothing is read"
    assert write_sums(more, SPEC) == write_sums(sums, SPEC)
    grown = bank.sums(bank.entries, bank.sums(bank.entries[::2]))
    assert write_sums(grown, SPEC) == write_sums(sums, SPEC), "in whatever order tasks came"


def test_one_task_more_is_all_that_is_read() -> None:
    bank = Bank([(40 + n, ("single",), None) for n in range(6)])
    before = bank.sums(bank.entries[:5])
    bank.read.clear()
    bank.sums(bank.entries, before)
    assert bank.read == ["t5"]
    bank.read.clear()
    bank.sums(bank.entries[1:5], before)
    assert bank.read == ["t0"], "and one task less"


def test_written_sums_that_are_damaged_or_of_another_spec_are_refused() -> None:
    bank = Bank([(20, ("single",), None)])
    data = write_sums(bank.sums(bank.entries), SPEC)
    with pytest.raises(IntegrityError, match="damaged"):
        read_sums(data[:-1], SPEC)
    with pytest.raises(IntegrityError, match="damaged"):
        read_sums(data[:100] + bytes([data[100] ^ 1]) + data[101:], SPEC)
    with pytest.raises(IntegrityError, match="another format or feature spec"):
        read_sums(data, "e" * 64)


@given(st.integers(1, 2**24))
def test_a_column_weighs_within_the_root_of_two_of_equal(count: int) -> None:
    assert 0.5 <= (count / 2 ** exponent(count)) ** 2 <= 2


def test_moments_of_sums_are_those_of_the_rows_up_to_the_weights() -> None:
    bank = Bank([(80, ("single",), None), (90, ("single",), None), (33, ("single",), None)])
    columns = bank.columns(bank.entries)
    found = bank.sums(bank.entries).moments(columns)
    rows = []
    for (name,) in columns:
        n = bank.kept[name].n_train
        rows.append((on_grid(features(int(name[1:]), n)).double() * STEP)[~sits_out(n)])
    weights = [2.0 ** -exponent(len(own)) * len(own) for own in rows]
    within = sum(w * torch.cov(own.T, correction=0) for w, own in zip(weights, rows, strict=True))
    torch.testing.assert_close(found.within, within / sum(weights))
    torch.testing.assert_close(found.means, torch.stack([own.mean(0) for own in rows]))
    apart = found.means - found.means.mean(0)
    torch.testing.assert_close(found.covariance, found.within + apart.T @ apart / 3)


@given(st.integers(1, 6000))
def test_one_row_in_sixteen_sits_out_more_of_small_tasks_and_none_of_fewer_than_ten(
    rows: int,
) -> None:
    places = sits_out(rows).nonzero().flatten()
    out = len(places)
    if rows < 10:
        assert out == 0
    elif rows < 320:
        assert out == min(20, rows // 5)
    else:
        assert out == min(128, rows // 16)
    assert places.diff().unique().numel() <= 2, "they stand evenly among the others"


@given(st.lists(st.floats(-20, 20, width=16), min_size=1, max_size=30))
def test_the_grid_is_the_nearest_step_and_what_is_on_it_stays(numbers: list[float]) -> None:
    plain = torch.tensor([numbers]).half()
    grid = Grid.suiting(len(numbers))
    values = grid.values(plain)
    assert bool(((values - plain.float()).abs() <= STEP / 2).logical_or(plain.abs() > 3.9).all())
    assert float(values.abs().max()) <= LARGEST * STEP
    assert torch.equal(grid.values(values), values)
    assert torch.equal(values.half().float(), values)


def test_wide_features_are_projected_on_the_grid_the_same_whatever_rows_are_beside() -> None:
    rows = features(3, 40, 3000)
    grid = Grid.suiting(3000)
    assert (grid.width, grid.projection) == (2304, "grid")
    whole = grid.steps(rows)
    assert torch.equal(whole, torch.cat([grid.steps(row[None]) for row in rows]))
    expected = (on_grid(rows).double() * STEP) @ sign_projection(3000, 2304, "grid")
    expected = expected.clamp(-LARGEST * STEP, LARGEST * STEP)
    assert float((whole.double() * STEP - expected).abs().max()) <= STEP / 2 + 1e-9


def test_a_router_of_wide_features_reads_them_as_it_was_fitted() -> None:
    tasks = [
        TaskFeatures(
            f"t{i}@1",
            sha256_text(f"t{i}"),
            f"t{i}",
            "classification",
            None,
            features(i, 60, 2500),
            ("single",) * 60,
        )
        for i in range(2)
    ]
    router = fit_router(tasks, RouterConfig(), SPEC)
    assert (router.dimension, router.gate.dimension) == (2500, 2304)
    again = Router.from_bytes(router.to_bytes(), "test")
    assert again.grid == router.grid
    for place, task in enumerate(tasks):
        chosen = again.route(features(place, 60, 2500)).index
        assert (chosen == again.column_of(task.task)).float().mean() > 0.9


def test_statistics_of_other_numbers_cannot_be_added() -> None:
    kept = {"a": statistics_of(0, 20), "b": Statistics.of(features(1, 20, 6), ("pair",) * 20, SPEC)}
    with pytest.raises(IntegrityError, match="are of 6 of 6 features, others of 5 of 5"):
        summed([["a"], ["b"]], kept.__getitem__)


FIT = """
import hashlib, torch
from expertbank.config import sha256_text
from expertbank.routing.config import RouterConfig
from expertbank.testing.routers import TaskFeatures, fit_router
def task(i):
    g = torch.Generator().manual_seed(i)
    rows = (torch.randn(700, generator=g) + torch.randn(300, 700, generator=g)).half()
    digest = sha256_text(str(i))
    return TaskFeatures(f"t{i}", digest, f"t{i}", "classification", None, rows, ("single",) * 300)
tasks = [task(i) for i in range(4)]
for kind in ("lda", "ridge"):
    for rows in (True, False):
        data = fit_router(tasks, RouterConfig(kind), "f" * 64, rows=rows).to_bytes()
        print(torch.get_num_threads(), hashlib.sha256(data).hexdigest())
"""


def test_one_thread_and_two_give_the_same_bytes() -> None:
    found = []
    for threads in ("1", "2"):
        ended = subprocess.run(
            [sys.executable, "-c", FIT],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": threads},
            check=True,
        )
        lines = [line.split() for line in ended.stdout.splitlines()]
        assert {line[0] for line in lines} == {threads}, "as many as before, afterwards"
        found.append([line[1] for line in lines])
    assert found[0] == found[1]
    assert len(set(found[0])) == 4


def test_equal_statistics_of_two_tasks_count_twice() -> None:
    one = statistics_of(0, 30)
    sums = summed([["same"], ["same"]], lambda _: one)
    assert sums.placed == Counter({next(iter(sums.placed)): 2})
    alone = summed([["same"]], lambda _: one)
    assert torch.equal(sums.grams["single",], 2 * alone.grams["single",])
    back = summed([["same"]], lambda _: one, sums)
    assert torch.equal(back.grams["single",], alone.grams["single",])
