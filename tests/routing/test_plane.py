"""The plane of the map against an independent dense reference."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from expertbank.routing.gates.lda import FLOOR
from expertbank.routing.grid import STEP
from expertbank.routing.plane import plane_of
from expertbank.routing.statistics import Statistics, sits_out

RIDGE = 0.01


def rows_of(tasks: int, width: int = 7, seed: int = 0) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(tasks):
        spread = rng.normal(size=(width, width)) / 4
        rows = rng.normal(size=(90, width)) @ spread + rng.normal(size=width)
        found.append(torch.tensor(rows / 4).clamp(-0.9, 0.9).float())
    return found


def statistics_of(rows: torch.Tensor) -> Statistics:
    return Statistics.of(rows, ["single"] * len(rows), "spec")


def reference(tasks: list[torch.Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, spreads, and the generalised eigenvalues, by SciPy."""
    kept = [np.round(rows[~sits_out(len(rows))].double().numpy() / STEP) for rows in tasks]
    means = np.stack([rows.mean(0) for rows in kept])
    own = [np.cov(rows.T, bias=True) for rows in kept]
    within = np.mean(own, 0)
    diagonal = np.diag(within)
    within = within + np.diag(RIDGE * (diagonal + FLOOR * diagonal.mean()))
    apart = means - means.mean(0)
    values, vectors = scipy.linalg.eigh(apart.T @ apart, within)
    best = vectors[:, ::-1][:, :2]
    return apart @ best, np.stack([best.T @ one @ best for one in own]), values[::-1]


@pytest.mark.parametrize("tasks", [3, 5, 12])
def test_places_and_spreads_are_those_of_the_generalised_eigenproblem(tasks: int) -> None:
    rows = rows_of(tasks)
    plane = plane_of([statistics_of(one) for one in rows], RIDGE)
    places, spreads, values = reference(rows)
    signs = np.sign((plane.places.numpy() * places).sum(0))
    assert plane.places.numpy() == pytest.approx(places * signs, abs=1e-6)
    assert plane.spreads.numpy() == pytest.approx(spreads * np.outer(signs, signs), abs=1e-6)
    assert plane.told == pytest.approx(values[:2].sum() / values.sum(), abs=1e-9)


def test_distances_are_mahalanobis_distances_in_all_directions() -> None:
    plane = plane_of([statistics_of(one) for one in rows_of(4)], RIDGE)
    within_plane = torch.cdist(plane.places, plane.places)
    assert bool((plane.distances >= within_plane - 1e-9).all())
    two = plane_of([statistics_of(one) for one in rows_of(2)], RIDGE)
    assert two.places[:, 1].tolist() == [0.0, 0.0]
    assert float(two.distances[0, 1]) == pytest.approx(float(two.places.diff(dim=0).norm()))
    assert two.told == pytest.approx(1.0)


def test_tasks_in_another_order_have_the_same_places() -> None:
    found = [statistics_of(one) for one in rows_of(5)]
    forth, back = plane_of(found, RIDGE), plane_of(found[::-1], RIDGE)
    assert torch.allclose(forth.places, back.places.flip(0), atol=1e-9)


@pytest.mark.parametrize("tasks", [2, 4])
def test_rows_are_seen_where_their_tasks_place_and_spread_say(tasks: int) -> None:
    rows = rows_of(tasks)
    plane = plane_of([statistics_of(one) for one in rows], RIDGE)
    for own, place, spread in zip(rows, plane.places, plane.spreads, strict=True):
        seen = plane.seen(plane.grid.steps(own[~sits_out(len(own))]))
        assert torch.allclose(seen.mean(0), place, atol=1e-6)
        width = min(2, tasks - 1)
        covariance = torch.cov(seen.T, correction=0)[:width, :width]
        assert torch.allclose(covariance, spread[:width, :width], atol=1e-6)
