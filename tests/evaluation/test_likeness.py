"""Rows that are alike come into one group, however many there are, and others stay alone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score, silhouette_score

from expertbank.evaluation import likeness
from expertbank.evaluation.likeness import ALONE, LEAST, Known, alike, silhouette

WIDTH = 48


def rows_of(sizes: list[int], seed: int = 0, spread: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Rows about random directions, in random order, and which direction each is about."""
    generator = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    generator.shuffle(truth)
    centres = generator.normal(size=(len(sizes), WIDTH))
    noise = generator.normal(size=(len(truth), WIDTH))
    return (centres[truth] + spread * noise).astype(np.float16), truth


def ones(rows: np.ndarray) -> np.ndarray:
    return np.ones(len(rows), dtype=np.int64)


def test_rows_about_one_direction_are_one_group_and_the_largest_comes_first() -> None:
    rows, truth = rows_of([40, 90, 20, 60])
    found = alike(rows, ones(rows))
    assert found.count == 4
    assert found.sampled == len(rows)
    assert adjusted_mutual_info_score(truth, found.group) == pytest.approx(1)
    assert np.bincount(found.group).tolist() == [90, 60, 40, 20]
    for group in range(4):
        own = rows[found.group == group].astype(np.float64)
        own /= np.linalg.norm(own, axis=1, keepdims=True)
        assert found.nearness[found.group == group] == pytest.approx(
            (own @ own.T).mean(1), abs=2e-3
        )


def test_rows_like_no_other_are_alone() -> None:
    rows, _ = rows_of([40, 40])
    strange = np.random.default_rng(7).normal(size=(6, WIDTH)).astype(np.float16)
    found = alike(np.concatenate([rows, strange]), ones(np.zeros(86)))
    assert found.count == 2
    assert (found.group[-6:] == ALONE).all()
    assert (found.nearness[-6:] == 0).all()
    assert (found.group[:80] != ALONE).all()


def test_rows_beyond_the_sample_go_to_the_nearest_group() -> None:
    rows, truth = rows_of([300, 200, 100])
    strange = np.random.default_rng(7).normal(size=(5, WIDTH)).astype(np.float16)
    found = alike(np.concatenate([rows, strange]), ones(np.zeros(605)), sample=120)
    assert found.sampled == 120
    assert found.count == 3
    assert (found.group[-5:] == ALONE).all()
    grouped = found.group[:600] != ALONE
    assert grouped.mean() > 0.95
    assert adjusted_mutual_info_score(truth[grouped], found.group[:600][grouped]) > 0.99


def test_a_text_that_came_often_is_a_group_and_one_that_came_seldom_is_not() -> None:
    rows, truth = rows_of([30, 20, 1, 1])
    often = np.where(truth == 2, LEAST, np.where(truth == 3, LEAST - 1, 1))
    found = alike(rows, often)
    assert found.count == 3
    assert found.group.tolist() == [(0, 1, 2, ALONE)[topic] for topic in truth]
    alone = alike(rows[:1], np.array([LEAST]))
    assert (alone.count, alone.group.tolist()) == (1, [0])
    assert alike(rows[:1], np.array([1])).group.tolist() == [ALONE]


def test_no_rows_are_no_groups() -> None:
    found = alike(np.zeros((0, WIDTH), np.float16), np.zeros(0, np.int64))
    assert (found.count, found.sampled, found.group.tolist()) == (0, 0, [])


def test_rows_that_are_all_the_same_vector_or_none_are_one_group() -> None:
    for value in (0.0, 1.0):
        found = alike(np.full((20, WIDTH), value, np.float16), np.ones(20, dtype=np.int64))
        assert (found.group == 0).all()


def test_a_hundred_thousand_rows_are_grouped_in_bounded_memory() -> None:
    import tracemalloc

    rows, truth = rows_of([30_000, 30_000, 20_000, 20_000])
    tracemalloc.start()
    found = alike(rows, ones(rows))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.sampled == likeness.SAMPLE
    assert found.count == 4
    assert adjusted_mutual_info_score(truth, found.group) > 0.99
    # Distances of all pairs would be 40 GB; those of the sample are three times 36 MB.
    assert peak < 400e6


def test_the_silhouette_is_that_of_the_field() -> None:
    rows, truth = rows_of([9, 5, 1, 12])
    units = rows.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    distances = (1 - units @ units.T).clip(0)
    np.fill_diagonal(distances, 0)
    for numbers in (truth, np.random.default_rng(0).integers(0, 3, len(rows))):
        expected = silhouette_score(distances, numbers, metric="precomputed")
        assert silhouette(distances, numbers) == pytest.approx(expected)


def test_known_rows_tell_how_wide_a_group_may_be() -> None:
    # Two themes of two topics each: one group a theme, or one a topic, is both right.
    generator = np.random.default_rng(0)
    themes = np.repeat(generator.normal(size=(2, WIDTH)), 2, axis=0)
    topics = themes + 0.7 * generator.normal(size=(4, WIDTH))
    truth = np.repeat(np.arange(4), 50)
    rows = topics[truth] + 0.3 * generator.normal(size=(200, WIDTH))
    for spread, expected in ((0.3, truth), (0.9, truth // 2)):
        centres = generator.normal(size=(3, WIDTH))
        tasks = np.repeat(np.arange(3), 20)
        known = Known(centres[tasks] + spread * generator.normal(size=(60, WIDTH)), tasks)
        found = alike(rows, ones(rows), known)
        assert found.by_known
        assert adjusted_mutual_info_score(expected, found.group) == pytest.approx(1), spread
        few = alike(rows, ones(rows), Known(known.vectors[::15], tasks[::15]))
        assert not few.by_known
        assert few.group.tolist() == alike(rows, ones(rows)).group.tolist()
