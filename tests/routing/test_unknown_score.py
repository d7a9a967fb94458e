"""The unknown score against SciPy's Mahalanobis distance, and its threshold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from expertbank.config import sha256_text
from expertbank.routing.config import RouterConfig
from expertbank.routing.fit import TaskFeatures, fit_router
from expertbank.routing.moments import BalancedMoments
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
    model = fit_unknown(BalancedMoments.of(parts), width)
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
