"""Routing metrics against a dense table of shares, and without one where experts are many."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from expertbank.evaluation.routing import Routed, routing_metrics


def evidence(choice: np.ndarray) -> Routed:
    return Routed(choice.astype(np.int32), np.full(len(choice), 0.5, dtype=np.float32))


def test_they_are_what_a_table_of_all_shares_gives() -> None:
    rng = np.random.default_rng(0)
    names = [f"task{place}" for place in (3, 1, 4, 0, 5, 2)]
    home = dict(zip(names, (0, 1, 2, 3, 3, 4), strict=True))  # the fourth and fifth are a group
    choices, table = {}, np.zeros((6, 5))
    for place, name in enumerate(names):
        odds = np.full(5, 0.1)
        odds[home[name]] += 0.2
        odds[(home[name] + 1) % 5] += 0.3
        choices[name] = evidence(rng.choice(5, size=50 + 10 * place, p=odds / odds.sum()))
        table[place] = np.bincount(choices[name].choice, minlength=5) / len(choices[name].choice)
    found = routing_metrics(home, choices)
    columns = [home[name] for name in names]
    own = table[range(6), columns]
    assert found["per_task"] == dict(zip(names, own.tolist(), strict=True))
    assert found["accuracy"] == pytest.approx(own.mean())
    mutual = (table[:, columns] + table[:, columns].T) / 2
    expected = [
        ([names[i], names[j]], mutual[i, j])
        for i, j in sorted(np.ndindex(6, 6), key=lambda pair: [names[place] for place in pair])
        if names[i] < names[j] and columns[i] != columns[j] and mutual[i, j] > 0.1
    ]
    assert [(one["tasks"], one["rate"]) for one in found["confusions"]] == expected
    assert len(expected) > 2


def test_tasks_that_were_not_measured_are_left_out_and_still_named_where_rows_went_to_them() -> (
    None
):
    home = {"here": 0, "gone": 1, "far": 2}
    found = routing_metrics(home, {"here": evidence(np.array([0, 0, 0, 1]))})
    assert (found["accuracy"], found["per_task"]) == (0.75, {"here": 0.75})
    assert found["confusions"] == [{"tasks": ["gone", "here"], "rate": 0.25}]


def test_memory_grows_with_the_experts_and_not_with_their_square() -> None:
    count = 3000
    names = [f"task{place:04d}" for place in range(count)]
    home = {name: place for place, name in enumerate(names)}
    choices = {
        name: evidence((place + np.array([0, 0, 0, 1])) % count) for name, place in home.items()
    }
    tracemalloc.start()
    found = routing_metrics(home, choices)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found["accuracy"] == 0.75
    assert len(found["confusions"]) == count
    assert found["confusions"][0] == {"tasks": ["task0000", "task0001"], "rate": 0.125}
    assert peak < 8 * count**2 / 5, "a table of all pairs would take 72 MB"
