"""Statistics of a task's rows as a file: the same again, or refused where no rows have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from expertbank.config import sha256_text
from expertbank.errors import IntegrityError
from expertbank.files.tensors import read_safetensors, write_safetensors
from expertbank.records import RowShape
from expertbank.routing.columns import Entry
from expertbank.routing.config import RouterConfig
from expertbank.routing.fit import by_digest, fit_sums
from expertbank.routing.grid import STEP, Grid
from expertbank.routing.projection import sign_projection
from expertbank.routing.router import Router
from expertbank.routing.statistics import Statistics
from expertbank.routing.statistics_file import (
    is_statistics,
    read_statistics,
    require_positive,
    write_statistics,
)
from expertbank.routing.sums import summed
from expertbank.testing.routers import TaskFeatures, fit_router

WIDTH, ROWS, SPEC = 6, 50, "f" * 64
SHAPES: tuple[RowShape, ...] = ("single", "pair") * 25


def features(seed: int = 0, rows: int = ROWS, width: int = WIDTH) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(width, generator=generator)
    return (centre + torch.randn(rows, width, generator=generator)).half()


def made() -> Statistics:
    return Statistics.of(features(), SHAPES, SPEC)


def test_they_survive_being_written_and_read_with_and_without_rows() -> None:
    for statistics in (made(), made().without_rows()):
        data = write_statistics(statistics)
        assert is_statistics(data, "here")
        again = read_statistics(data, "here")
        assert write_statistics(again) == data
        assert torch.equal(again.total, statistics.total)
        assert torch.equal(again.upper.long(), statistics.upper)
        assert again.n_train == ROWS
        assert again.reads == ("single", "pair")
    assert len(made().rows) == 10, "every fifth row"
    assert made().count == ROWS - 10
    assert len(made().without_rows().rows) == 0


def test_sums_are_four_bytes_a_number_until_they_need_eight() -> None:
    tensors, _ = read_safetensors(write_statistics(made()), "here")
    assert tensors["gram"].dtype == torch.int32
    assert tensors["gram"].shape == (WIDTH * (WIDTH + 1) // 2,)
    many = 200_000
    full = torch.full((many, 2), 127 * STEP)
    data = write_statistics(Statistics.of(full, ("single",) * many, SPEC))
    tensors, _ = read_safetensors(data, "here")
    assert tensors["gram"].dtype == torch.int64
    kept = read_statistics(data, "here")
    assert kept.upper.tolist() == [127 * 127 * kept.count] * 3


DAMAGES: dict[str, tuple[Callable[[dict[str, Tensor], dict[str, Any]], Any], str]] = {
    "no sums": (lambda t, m: t.pop("total"), "not a statistics file"),
    "another format": (lambda t, m: m.update(format=3), "format 3 is not known"),
    "no format": (lambda t, m: m.pop("format"), "not a statistics file"),
    "sums that are no integers": (
        lambda t, m: t.update(gram=t["gram"].double()),
        "sums are whole numbers",
    ),
    "rows that are no integers": (lambda t, m: t.update(rows=t["rows"].half()), "whole numbers"),
    "a count below zero": (lambda t, m: m.update(shape_counts=[60, -10, 0]), "counts"),
    "a count that is no integer": (lambda t, m: m.update(count=44.0), "counts are whole numbers"),
    "a count that is a truth": (lambda t, m: m.update(count=True), "counts are whole numbers"),
    "no rows": (lambda t, m: m.update(count=0), "0 rows summed of 50"),
    "more rows summed than there were": (lambda t, m: m.update(count=51), "51 rows summed of 50"),
    "more rows than sums hold": (
        lambda t, m: m.update(shape_counts=[2**25, 0, 0], count=2**25),
        "rows summed of",
    ),
    "fewer rows than the sums need": (
        lambda t, m: (m.update(count=1), t.update(rows=t["rows"][:0], row_shapes=torch.zeros(0))),
        "not a statistics file|no rows",
    ),
    "counts of too few rows": (
        lambda t, m: (
            m.update(count=1, shape_counts=[1, 0, 0]),
            t.update({n: t[n][:0] for n in ("rows", "row_shapes", "row_tokens")}),
        ),
        "too large for 1 rows",
    ),
    "rows too many beside them": (lambda t, m: m.update(count=38), "10 rows beside them, 12 sat"),
    "rows of another shape": (lambda t, m: t["row_shapes"].fill_(2), "shapes that were not"),
    "an unknown shape": (lambda t, m: t["row_shapes"].fill_(9), "not a statistics file"),
    "rows of another width": (lambda t, m: t.update(rows=t["rows"][:, 1:]), "another width"),
    "sums of another width": (lambda t, m: t.update(total=t["total"][1:]), "another width than 6"),
    "half a square": (lambda t, m: t.update(gram=t["gram"][1:]), "another width than 6"),
    "another grid": (lambda t, m: m.update(grid={"dimension": 7, "projection": None}), "than 7"),
    "no grid": (lambda t, m: m.update(grid={"dimension": 6, "projection": "odd"}), "no grid"),
    "a grid without end": (
        lambda t, m: m.update(grid={"dimension": 2**40, "projection": "grid"}),
        "no grid",
    ),
    "a negative square": (lambda t, m: t["gram"][:1].fill_(-1), "sum of squares below zero"),
    "a square below the mean's": (
        lambda t, m: t["gram"][:1].fill_(0),
        "below the square of the sum divided by the count",
    ),
    "a sum beyond its rows": (lambda t, m: t["total"][:1].fill_(2**40), "too large for 40 rows"),
    "the least integer": (lambda t, m: t["total"][:1].fill_(-(2**63)), "too large for 40 rows"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_numbers_that_no_rows_can_have_are_refused_and_said(damage: str) -> None:
    change, said = DAMAGES[damage]
    tensors, metadata = read_safetensors(write_statistics(made()), "test")
    change(tensors, metadata)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with pytest.raises(IntegrityError, match=f"somewhere.*({said})"):
        read_statistics(write_safetensors(tensors, metadata), "somewhere")


def test_sums_of_products_that_are_not_positive_are_refused() -> None:
    require_positive(made(), "here")
    require_positive(Statistics.of(torch.ones(3, 4), ("single",) * 3, SPEC), "here")
    few = Statistics.of(features(1, 12, 40), ("single",) * 12, SPEC)
    require_positive(few, "fewer rows than numbers a row")
    tensors, metadata = read_safetensors(write_statistics(made()), "test")
    # Products as large as they can be, and of signs that no three columns have.
    diagonal = torch.tensor([0, 6, 11])
    tensors["total"].zero_()
    tensors["gram"].zero_()
    tensors["gram"][diagonal] = 40_000
    tensors["gram"][[1, 2, 7]] = torch.tensor([39_000, 39_000, -39_000], dtype=torch.int32)
    odd = read_statistics(write_safetensors(tensors, metadata), "here")
    with pytest.raises(IntegrityError, match=r"somewhere.*not positive"):
        require_positive(odd, "somewhere")


# -- moments of expertbank 0.1 ---------------------------------------------------------------


def moments_file(seed: int, dimension: int = 40, rows: int = 200) -> bytes:
    """What ``--keep stats`` kept: float64 moments of projected features, format 1."""
    width = min(dimension, 512)
    narrow = features(seed, rows, dimension).double() @ sign_projection(dimension, width, "stats")
    gram = narrow.T @ narrow
    first, second = torch.triu_indices(width, width)
    facts = {"format": 1, "feature_spec_digest": SPEC, "dimension": dimension}
    tensors = {"gram": gram[first, second], "total": narrow.sum(0)}
    return write_safetensors(tensors, {**facts, "shape_counts": [rows, 0, 0]})


def router_of(files: dict[str, Statistics]) -> Router:
    entries = [Entry(n, sha256_text(n), n, "classification", None) for n in files]
    names = {one.id: one.id for one in entries}
    sums = summed(by_digest(entries, names), files.__getitem__)
    return fit_sums(entries, names, sums, RouterConfig(), SPEC, lambda _: pytest.fail("no row"))


def test_moments_of_before_go_on_at_their_width_and_new_statistics_join_them() -> None:
    old = {f"t{i}": read_statistics(moments_file(i), "here") for i in range(3)}
    assert {one.grid for one in old.values()} == {Grid(40, "stats")}
    new = Statistics.of(features(3, 200, 40), ("single",) * 200, SPEC, Grid(40, "stats"))
    files = {**old, "t3": new.without_rows()}
    router = router_of(files)
    assert router.to_bytes() == router_of(dict(reversed(files.items()))).to_bytes()
    assert (router.dimension, router.grid) == (40, Grid(40, "stats"))
    joint = fit_router(
        [
            TaskFeatures(
                n,
                sha256_text(n),
                n,
                "classification",
                None,
                features(i, 200, 40),
                ("single",) * 200,
            )
            for i, n in enumerate(files)
        ],
        RouterConfig(),
        SPEC,
    )
    rows = torch.cat([features(i, 300, 40) for i in range(4)])
    same = router.route(rows).index == joint.route(rows).index
    assert same.double().mean() > 0.97


def test_moments_of_a_feature_that_never_varies_are_still_of_rows() -> None:
    facts = {"format": 1, "feature_spec_digest": SPEC, "dimension": 2, "shape_counts": [7, 0, 0]}
    total = torch.tensor([7 * 0.3, 7 * 0.1], dtype=torch.float64)
    gram = torch.tensor([7 * 0.09, 7 * 0.03, 7 * 0.01], dtype=torch.float64)
    data = write_safetensors({"gram": gram, "total": total}, facts)
    require_positive(read_statistics(data, "here"), "here")


@pytest.mark.parametrize(
    "change",
    [
        lambda t, m: t["gram"][:1].fill_(float("nan")),
        lambda t, m: t["total"][:1].fill_(float("inf")),
        lambda t, m: t["gram"][:1].fill_(1e300),
        lambda t, m: t.update(gram=t["gram"].float()),
        lambda t, m: t.update(gram=t["gram"][:-1]),
        lambda t, m: m.update(dimension=39),
        lambda t, m: m.update(dimension="40"),
        lambda t, m: m.update(shape_counts=[0, 0, 0]),
    ],
)
def test_moments_that_are_none_are_refused(change: Callable[..., Any]) -> None:
    tensors, metadata = read_safetensors(moments_file(0), "test")
    change(tensors, metadata)
    with pytest.raises(IntegrityError, match="somewhere"):
        read_statistics(write_safetensors(tensors, metadata), "somewhere")
