"""The unknown score against SciPy's Mahalanobis distance, and its p-values against a count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis

from expertbank.config import sha256_text
from expertbank.errors import IntegrityError
from expertbank.routing.config import RouterConfig
from expertbank.routing.feature_file import Spans
from expertbank.routing.gaussians import SHRINKAGE
from expertbank.routing.known import ANY, FEWEST, KnownScores, bin_name, bin_of
from expertbank.routing.moments import BalancedMoments
from expertbank.routing.projection import sign_projection
from expertbank.routing.router import Router
from expertbank.routing.statistics import sits_out
from expertbank.routing.sureness import UNASKED, unasked
from expertbank.routing.unknown import (
    LEVEL,
    Asked,
    Judged,
    blocks_of,
    fit_unknown,
    placed,
)
from expertbank.testing.routers import TaskFeatures, fit_router

GOLDEN = [[-1, -1, -1, 1], [1, 1, 1, 1], [-1, 1, -1, 1], [-1, -1, 1, 1], [-1, -1, -1, 1]]


def rows_of(seed: int, count: int, width: int, distance: float = 2.0) -> torch.Tensor:
    centre = torch.randn(width, generator=torch.Generator().manual_seed(1000 + seed)) * distance
    noise = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return (centre + noise).half()


def shrunk(covariance: np.ndarray) -> np.ndarray:
    level = np.trace(covariance) / len(covariance)
    return (1 - SHRINKAGE) * covariance + SHRINKAGE * level * np.eye(len(covariance))


def asked(values: torch.Tensor, columns: int) -> Asked:
    """Rows of which the gate says nothing."""
    scores = torch.zeros(len(values), columns, dtype=torch.float64)
    sure = torch.full((len(values),), 0.5, dtype=torch.float64)
    return Asked(values, scores, sure, torch.zeros(len(values), dtype=torch.int64))


def judged(
    router: Router,
    rows: torch.Tensor,
    tokens: list[int] | None = None,
    sureness: torch.Tensor | None = None,
) -> Judged:
    """What is made of rows that are like one text."""
    choice = router.route(rows)
    found = router.judge(choice.strangeness, choice.index, tokens, sureness)
    assert found is not None
    return found


@pytest.mark.parametrize("sizes", [(7,), (4, 3), (60, 60)])
def test_every_block_is_judged_by_its_relative_mahalanobis_distance(sizes: tuple[int, ...]) -> None:
    width = sum(sizes)
    parts = [rows_of(seed, 400 + 100 * seed, width) for seed in range(3)]
    model = fit_unknown(BalancedMoments.of(parts), sizes)
    tests = torch.cat([rows_of(seed, 4, width) for seed in (0, 1, 9)])
    found = model.of(asked(tests, 3))
    start = 0
    for place, size in enumerate(sizes):
        block = slice(start, start + size)
        own = [part[:, block].double().numpy() for part in parts]
        means = [part.mean(0) for part in own]
        within = shrunk(np.mean([np.cov(part.T, bias=True) for part in own], axis=0))
        centre = np.mean(means, axis=0)
        grams = np.mean([part.T @ part / len(part) for part in own], axis=0)
        overall = shrunk(grams - np.outer(centre, centre))
        near, far = np.linalg.inv(within), np.linalg.inv(overall)
        for row, score in zip(tests[:, block].double().numpy(), found[:, place], strict=True):
            nearest = min(mahalanobis(row, mean, near) ** 2 for mean in means)
            expected = nearest - mahalanobis(row, centre, far) ** 2
            assert float(score) == pytest.approx(expected, rel=5e-3, abs=0.2)
        start += size


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 2), st.sampled_from([0, 5, 20, 40, 90])),
        min_size=1,
        max_size=300,
    ),
    st.integers(-3, 25),
    st.integers(0, 2),
    st.sampled_from([0, 8, 30, 100]),
)
def test_a_p_value_counts_the_known_rows_of_its_category_that_score_as_high(
    known: list[tuple[int, int, int]], score: int, column: int, length: int
) -> None:
    scores, columns, tokens = (torch.tensor(part) for part in zip(*known, strict=True))
    held = KnownScores.of(
        scores.double(), columns, tokens, torch.ones(len(known), dtype=torch.bool)
    )
    found, rare = held.rare(
        torch.tensor([float(score)]), torch.tensor([column]), torch.tensor([length]), LEVEL
    )
    own = int(bin_of(torch.tensor([length])))
    bins = bin_of(tokens).tolist()
    everyone = list(zip(scores.tolist(), columns.tolist(), bins, strict=True))
    for alike in (
        [s for s, c, b in everyone if c == column and own in (ANY, b)],
        [s for s, _, b in everyone if own in (ANY, b)],
        [s for s, c, _ in everyone if c == column],
        [s for s, _, _ in everyone],
    ):
        if len(alike) >= FEWEST:
            break
    as_high = sum(s >= score for s in alike)
    assert float(found) == pytest.approx((1 + as_high) / (1 + len(alike)))
    assert bool(rare) == (as_high == 0 or (1 + as_high) / (1 + len(alike)) <= LEVEL)


def test_known_rows_drawn_alike_are_called_unknown_as_often_as_stated_at_every_length() -> None:
    rng = np.random.default_rng(0)
    columns, tokens = (
        torch.tensor(rng.integers(0, 3, 40000)),
        torch.tensor(rng.integers(4, 90, 40000)),
    )
    # Short rows look stranger, those of one column too.
    scores = torch.tensor(rng.normal(size=40000)) + 30 / tokens + columns
    whole = torch.ones(20000, dtype=torch.bool)
    held = KnownScores.of(scores[:20000], columns[:20000], tokens[:20000], whole)
    found, rare = held.rare(scores[20000:], columns[20000:], tokens[20000:], LEVEL)
    assert bool((rare == (found <= LEVEL)).all())
    for number in range(7):
        for column in range(3):
            here = (bin_of(tokens[20000:]) == number) & (columns[20000:] == column)
            share, count = float(rare[here].double().mean()), int(here.sum())
            # As many known rows set the threshold, which errs by as much.
            assert share <= LEVEL + 3 * (2 * LEVEL * (1 - LEVEL) / count) ** 0.5


def test_bins_of_length_have_names_that_leave_no_gap() -> None:
    lengths = torch.tensor([0, 1, 8, 9, 12, 13, 16, 17, 24, 25, 32, 33, 48, 49, 1000])
    names = [bin_name(number) for number in bin_of(lengths).tolist()]
    assert names == [
        "any",
        *["1 to 8 tokens"] * 2,
        *["9 to 12 tokens"] * 2,
        *["13 to 16 tokens"] * 2,
        *["17 to 24 tokens"] * 2,
        *["25 to 32 tokens"] * 2,
        *["33 to 48 tokens"] * 2,
        *["over 48 tokens"] * 2,
    ]


def sure(rows: int, seed: int) -> torch.Tensor:
    """Steps of an expert that is sure of most of its own rows."""
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(200, 40, rows).clip(0).astype("int16"))


def task(seed: int, rows: int = 400, width: int = 30) -> TaskFeatures:
    """Whole rows of 30 to 90 tokens, and spans of them that wander off the shorter they are."""
    own = rows_of(seed, rows, width)
    lengths = torch.tensor([6, 18, 36] * 50, dtype=torch.int32)
    noise = torch.randn(150, width, generator=torch.Generator().manual_seed(500 + seed))
    short = (rows_of(seed, 150, width) + noise * (4 / lengths.sqrt().unsqueeze(1))).half()
    generator = torch.Generator().manual_seed(seed)
    return TaskFeatures(
        *(f"t{seed}@1", sha256_text(f"t{seed}"), f"t{seed}", "classification", None),
        own,
        ("single",) * rows,
        torch.randint(49, 91, (rows,), generator=generator, dtype=torch.int32),
        Spans(short, ("single",) * 150, lengths, torch.arange(150) % 2 > 0, sure(150, seed)),
        sure(int(sits_out(rows).sum()), seed),
        44,
    )


def test_what_an_expert_is_unsure_of_is_stranger_and_who_was_not_asked_changes_nothing() -> None:
    tasks = [task(seed) for seed in range(3)]
    router = fit_router(tasks, RouterConfig(), "f" * 64, blocks=3)
    rows = torch.cat([rows_of(seed, 100, 30) for seed in range(3)])
    choice = router.route(rows)
    unsure, as_known, silent = (
        judged(router, rows, sureness=steps)
        for steps in (torch.zeros(300).short(), sure(300, 9), unasked(300))
    )
    assert float(unsure.unknown.double().mean()) > 0.9
    assert float(as_known.unknown.double().mean()) < 0.1
    assert torch.equal(silent.score, choice.strangeness)
    steps = sure(300, 9)
    mean, deviation = zip(
        *((float(t.double().mean()), float(t.double().std(correction=0)))
          for t in (one.sureness for one in tasks)),
        strict=True,
    )  # fmt: skip
    for place, column in enumerate(choice.index.tolist()):
        doubt = (mean[column] - int(steps[place])) / deviation[column]
        expected = (float(choice.strangeness[place]) + doubt) / 2
        assert float(as_known.score[place]) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"sureness": torch.full((25,), UNASKED).short()},
        {"guess": 134},
        {"guess": None},
    ],
)
def test_an_expert_has_no_say_that_was_asked_of_too_few_rows_or_is_hardly_surer_than_a_guess(
    change: dict[str, Any],
) -> None:
    few = [replace(task(seed), **change) for seed in range(2)]
    router = fit_router(few, RouterConfig(), "f" * 64, blocks=3)
    rows = rows_of(0, 50, 30)
    assert torch.equal(
        judged(router, rows, sureness=torch.zeros(50).short()).score,
        router.route(rows).strangeness,
    )


@pytest.mark.parametrize("count", [1, 4])
def test_known_rows_pass_and_rows_of_no_task_do_not_also_with_one_task(count: int) -> None:
    router = fit_router([task(seed) for seed in range(count)], RouterConfig(), "f" * 64, blocks=3)
    known = judged(router, torch.cat([rows_of(seed, 300, 30) for seed in range(count)]))
    strange = judged(router, rows_of(77, 300, 30))
    assert known.unknown.double().mean() < 0.1
    assert strange.unknown.double().mean() > 0.9
    assert known.p_value is not None
    assert bool((known.unknown == (known.p_value <= LEVEL)).all())


def test_a_short_row_is_compared_with_short_ones() -> None:
    router = fit_router([task(seed) for seed in range(4)], RouterConfig(), "f" * 64, blocks=3)
    odd = rows_of(0, 60, 30) + 1.2 * torch.randn(60, 30, generator=torch.Generator().manual_seed(9))
    short, long = (judged(router, odd.half(), [n] * 60).p_value for n in (6, 60))
    assert short is not None
    assert long is not None
    assert bool((short >= long).all())
    assert float((short - long).median()) > 0.2


def test_the_tasks_that_came_close_fall_in_probability_and_the_chosen_one_is_first() -> None:
    router = fit_router([task(seed) for seed in range(7)], RouterConfig(), "f" * 64, blocks=3)
    found = router.route(torch.cat([rows_of(seed, 5, 30, 0.7) for seed in range(7)]))
    assert found.near.shape == (35, 5)
    assert found.near[:, 0].tolist() == found.index.tolist()
    assert found.near_probability[:, 0].tolist() == found.confidence.tolist()
    assert bool((found.near_probability.diff(dim=1) <= 0).all())


def test_a_router_file_gives_the_same_p_values_back_and_so_does_a_part_of_it() -> None:
    router = fit_router([task(seed) for seed in range(4)], RouterConfig(), "f" * 64, blocks=3)
    again = Router.from_bytes(router.to_bytes(), "router")
    rows, lengths = rows_of(2, 50, 30), [6, 18, 36, 60, 0] * 10
    before, after = (judged(one, rows, lengths) for one in (router, again))
    assert before.p_value.tolist() == after.p_value.tolist()
    part = Router.from_bytes(again.subset(["t1", "t2"]).to_bytes(), "part")
    assert {one.column for one in part.unknown.known.counts} <= {ANY, 0, 1}
    assert len(judged(part, rows, lengths).p_value) == 50


@pytest.mark.parametrize("field", ["within", "means", "overall", "centre", "place", "sure"])
def test_statistics_of_another_shape_are_refused(field: str) -> None:
    router = fit_router([task(seed) for seed in range(2)], RouterConfig(), "f" * 64, blocks=3)
    wrong = replace(router.unknown, **{field: getattr(router.unknown, field)[..., :-1]})
    data = replace(router, unknown=wrong).to_bytes()
    with pytest.raises(IntegrityError, match=r"do not fit|malformed"):
        Router.from_bytes(data, "router")


def test_counts_that_are_not_those_of_the_scores_are_refused() -> None:
    held = KnownScores.of(torch.arange(50.0), torch.zeros(50).long(), torch.zeros(50).long(),
                          torch.ones(50, dtype=torch.bool))  # fmt: skip
    assert KnownScores.read(held.scores, held.facts()).counts == held.counts
    for facts in ([], [[ANY, ANY, 49]], [[0, 0, 100]], [[ANY, ANY, 0], [0, 0, 100]]):
        with pytest.raises(ValueError, match="do not fit"):
            KnownScores.read(held.scores, facts)


def test_a_sign_that_is_the_same_everywhere_decides_nothing() -> None:
    parts = [rows_of(seed, 200, 6) for seed in range(2)]
    model = fit_unknown(BalancedMoments.of(parts), (6,))
    found = placed(model, asked(torch.cat(parts), 2))
    assert float(found.place[1, 1]) > 1e29, "the doubt was 0.5 everywhere"


@pytest.mark.parametrize(
    ("width", "blocks", "sizes"),
    [(12, 3, (4, 4, 4)), (12, 5, (12,)), (12, None, (12,)), (800, None, (267, 267, 266))],
)
def test_blocks_are_the_features_own_or_of_about_one_width(
    width: int, blocks: int | None, sizes: tuple[int, ...]
) -> None:
    assert blocks_of(width, blocks) == sizes


def test_the_projection_is_the_same_for_ever() -> None:
    signs = (sign_projection(5, 4, "stats") * 5**0.5).round().int().tolist()
    assert signs == GOLDEN
    gram = sign_projection(2304, 256, "unknown")
    assert torch.allclose(gram.square().sum(0), torch.ones(256, dtype=torch.float64))
