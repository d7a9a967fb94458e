"""The unknown score against SciPy's Mahalanobis distance, and its threshold."""

from __future__ import annotations

import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from expertbank.config import sha256_text
from expertbank.errors import IntegrityError
from expertbank.records import RowShape
from expertbank.routing.columns import competing
from expertbank.routing.config import RouterConfig
from expertbank.routing.fit import TaskFeatures, fit_router
from expertbank.routing.fit_moments import TaskMoments, _Sums, fit_router_from_moments
from expertbank.routing.moments import BalancedMoments, Moments
from expertbank.routing.moments_file import MomentsFile
from expertbank.routing.projection import sign_projection
from expertbank.routing.unknown import SHRINKAGE, fit_unknown, threshold_of

GOLDEN = [[-1, -1, -1, 1], [1, 1, 1, 1], [-1, 1, -1, 1], [-1, -1, 1, 1], [-1, -1, -1, 1]]


def rows_of(seed: int, count: int, width: int, distance: float = 2.0) -> torch.Tensor:
    centre = torch.randn(width, generator=torch.Generator().manual_seed(1000 + seed)) * distance
    noise = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return (centre + noise).half()


def shrunk(covariance: np.ndarray) -> np.ndarray:
    level = np.trace(covariance) / len(covariance)
    return (1 - SHRINKAGE) * covariance + SHRINKAGE * level * np.eye(len(covariance))


@pytest.mark.parametrize("width", [7, 300])
def test_the_score_is_the_relative_mahalanobis_distance(width: int) -> None:
    parts = [rows_of(seed, 400 + 100 * seed, width) for seed in range(3)]
    moments = BalancedMoments()
    for part in parts:
        moments.add(Moments.of(part))
    model = fit_unknown(moments, width)
    small = min(width, 256)
    projection = sign_projection(width, small, "unknown").numpy()
    narrow = [part.double().numpy() @ projection for part in parts]
    means = [part.mean(0) for part in narrow]
    within = shrunk(np.mean([np.cov(part.T, bias=True) for part in narrow], axis=0))
    grams = np.mean([part.T @ part / len(part) for part in narrow], axis=0)
    centre = np.mean(means, axis=0)
    overall = shrunk(grams - np.outer(centre, centre))
    near, far = np.linalg.inv(within), np.linalg.inv(overall)
    tests = torch.cat([rows_of(seed, 4, width) for seed in (0, 1, 9)])
    found = model.score(tests)
    for row, score in zip(tests.double().numpy() @ projection, found.tolist(), strict=True):
        distances = [mahalanobis(row, mean, near) ** 2 for mean in means]
        expected = min(distances) - mahalanobis(row, centre, far) ** 2
        assert score == pytest.approx(expected, rel=1e-3, abs=2e-2)
    assert found[8:].min() > found[:8].max(), "rows of no column score highest"


def test_the_threshold_lets_95_of_100_pass_every_column_weighing_the_same() -> None:
    scores = torch.arange(100, dtype=torch.float64)
    assert threshold_of(scores, torch.zeros(100, dtype=torch.int64)) == 94
    many = torch.cat([torch.zeros(1000, dtype=torch.float64), scores])
    targets = torch.cat([torch.zeros(1000), torch.ones(100)]).long()
    assert threshold_of(many, targets) == 89


def test_known_rows_pass_and_rows_of_no_task_do_not_also_with_one_task() -> None:
    for count in (1, 4):
        tasks = [
            TaskFeatures(
                f"t{i}@1",
                sha256_text(f"t{i}"),
                f"t{i}",
                "classification",
                None,
                rows_of(i, 300, 30),
                ("single",) * 300,
            )
            for i in range(count)
        ]
        router = fit_router(tasks, RouterConfig(), "f" * 64)
        known = router.route(torch.cat([rows_of(i, 300, 30) for i in range(count)]), None)
        strange = router.route(rows_of(77, 300, 30))
        assert known.unknown.double().mean() < 0.1
        assert strange.unknown.double().mean() > 0.9


def test_the_projection_is_the_same_for_ever() -> None:
    signs = (sign_projection(5, 4, "stats") * 5**0.5).round().int().tolist()
    assert signs == GOLDEN
    gram = sign_projection(2304, 256, "unknown")
    assert torch.allclose(gram.square().sum(0), torch.ones(256, dtype=torch.float64))


def stats_of(place: int, width: int = 40) -> TaskMoments:
    file = MomentsFile.of(rows_of(place, 200, width), ("single",) * 200, "f" * 64)
    again = MomentsFile.from_bytes(file.to_bytes(), "test")
    assert again.to_bytes() == file.to_bytes()
    # Stored is one half: what two ways of adding up make of the other is not told apart.
    assert torch.equal(again.gram.triu(), file.gram.triu())
    assert torch.equal(again.gram, again.gram.T)
    return TaskMoments(
        f"t{place}@1",
        sha256_text(f"t{place}"),
        f"t{place}",
        "classification",
        None,
        lambda: again,
    )


def test_a_router_from_kept_moments_is_the_router_of_the_projected_rows_in_any_order() -> None:
    tasks = [stats_of(place) for place in range(4)]
    router = fit_router_from_moments(tasks, RouterConfig(), "f" * 64)
    other = fit_router_from_moments(tasks[::-1], RouterConfig(), "f" * 64)
    assert router.to_bytes() == other.to_bytes()
    projection = sign_projection(40, 40, "stats")
    joint = fit_router(
        [
            TaskFeatures(
                task.id,
                task.digest,
                task.task,
                "classification",
                None,
                rows_of(place, 200, 40).double() @ projection,
                ("single",) * 200,
            )
            for place, task in enumerate(tasks)
        ],
        RouterConfig(),
        "f" * 64,
    )
    tests = torch.cat([rows_of(place, 50, 40, 1.0) for place in range(4)])
    theirs = joint.scores(tests.double() @ projection)
    torch.testing.assert_close(router.scores(tests), theirs, rtol=1e-3, atol=1e-3)


def test_one_by_one_columns_add_up_to_the_blocks_that_one_sum_over_them_makes() -> None:
    shapes: list[tuple[RowShape, ...]] = [("single",), ("choices",), ("pair",), ("single", "pair")]
    for order in ([0, 1, 2, 0, 2], [2, 0, 1, 3, 0, 2], [3, 3], [1]):
        sums = _Sums()
        parts = [Moments.of(rows_of(seed, 20 + seed, 8)) for seed in range(len(order))]
        reads = [set(shapes[place]) for place in order]
        for own, part in zip(reads, parts, strict=True):
            sums.add(own, part)
        found = sums.blocks()
        assert [block.columns for block in found] == competing(reads)
        for block in found:
            plain = BalancedMoments()
            for column in block.columns:
                plain.add(parts[column])
            assert torch.equal(block.moments.gram, plain.gram), "to the bit"
            assert torch.equal(torch.stack(block.moments.means), torch.stack(plain.means))
            assert block.moments.counts == plain.counts


def test_one_tasks_moments_are_in_memory_at_a_time() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []
    order: list[str] = []

    def read(place: int) -> MomentsFile:
        assert sum(found() is not None for found in alive) <= 1, "the one before, at most"
        file = MomentsFile.of(rows_of(place, 40, 40), ("single",) * 40, "f" * 64)
        alive.append(weakref.ref(file.gram))
        order.append(sha256_text(f"t{place}"))
        return file

    tasks = [replace(stats_of(place), read=partial(read, place)) for place in range(6)]
    fit_router_from_moments(tasks, RouterConfig(), "f" * 64)
    assert order == sorted(order), "each once, in the order of the digests"
    assert len(order) == 6


def test_moments_of_features_of_another_width_are_refused() -> None:
    tasks = [stats_of(0, 40), stats_of(1, 41)]
    with pytest.raises(IntegrityError, match=r"\[40, 41\]"):
        fit_router_from_moments(tasks, RouterConfig(), "f" * 64)
